-- A simulated Mattermost and one connection to it, for tests/policy/mattermost_spec.lua.
local sim = require "holdfast.sim"

local world = {}

world.TOKEN = "bottoken0123456789abcdefgh"

---options: seed, peer (of lua/peers/mattermost.lua), settings (of the connection), no_connection, sim
function world.new(options)
  options = options or {}
  local so = { seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  for k, v in pairs(options.sim or {}) do so[k] = v end
  local s = sim.new(so)
  local po = { token = world.TOKEN }
  for k, v in pairs(options.peer or {}) do po[k] = v end
  local p = s:peer("mattermost", { host = "chat.test", options = po })
  if not options.no_connection then world.connect(s, "a", options.settings) end
  return s, p
end

function world.connect(s, name, settings)
  local c = { policy = "mattermost", token = s:secret(world.TOKEN, "token"), server = "https://chat.test" }
  for k, v in pairs(settings or {}) do c[k] = v end
  return s:connection(name, c)
end

---Up and settled.
function world.settled(options)
  local s, p = world.new(options)
  s:up("a", "1m")
  s:advance "70s"
  assert(s:view("a").settled, "did not settle")
  return s, p
end

---Numbers of the made-up posts that a consumer got, in order.
function world.numbers(consumer)
  local out = {}
  for _, e in ipairs(consumer:events()) do
    if e.take.event == "posted" then out[#out + 1] = e.frame.data.number end
  end
  return out
end

---Raises when the numbers are not exactly 1..n.
function world.assert_whole(consumer, n)
  local numbers = world.numbers(consumer)
  for i, number in ipairs(numbers) do
    if number ~= i then error(("post %d came where %d was due"):format(number, i), 2) end
  end
  if #numbers ~= n then error(("%d posts came, %d were made"):format(#numbers, n), 2) end
end

function world.count(p, kind, from)
  local n = 0
  for _, e in ipairs(p:control "log") do
    if e.kind == kind and e.at >= (from or 0) then n = n + 1 end
  end
  return n
end

return world
