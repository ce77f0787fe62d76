-- A simulated Discord and one connection to it, for tests/policy/discord*_spec.lua.
local sim = require "holdfast.sim"

local world = {}

world.TOKEN = "MTAwMDAwMDAwMDAwMDAwMDAw.GaBcDe.not-a-real-token"
world.RESUME_HOST = "gateway-us-east1-b.discord.gg"
world.INTERVAL = 41250

---options: seed, peer (of lua/peers/discord.lua), settings (of the connection), no_connection, sim
function world.new(options)
  options = options or {}
  local so = { seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  for k, v in pairs(options.sim or {}) do so[k] = v end
  local s = sim.new(so)
  local po = { token = world.TOKEN, resume_host = "wss://" .. world.RESUME_HOST }
  for k, v in pairs(options.peer or {}) do po[k] = v end
  local p = s:peer("discord", { host = "discord.test", names = { world.RESUME_HOST }, options = po })
  if not options.no_connection then world.connect(s, p, "a", options.settings) end
  return s, p
end

function world.connect(s, p, name, settings)
  local c = { policy = "discord", token = s:secret(world.TOKEN, "token"), intents = 513, api = p.url .. "/api/v10" }
  for k, v in pairs(settings or {}) do c[k] = v end
  return s:connection(name, c)
end

---Frames on the wire of one direction as { at, generation, frame }, of one op if given.
function world.frames(s, name, direction, op)
  local out = {}
  for _, m in ipairs(s:wire(name, direction)) do
    local frame = m.text and sim.decode(m.data)
    if type(frame) == "table" and (not op or frame.op == op) then
      out[#out + 1] = { at = m.at, generation = m.generation, frame = frame }
    end
  end
  return out
end

---Up and settled.
function world.settled(options)
  local s, p = world.new(options)
  s:up("a", "1m")
  s:advance "70s"
  assert(s:view("a").settled, "did not settle")
  return s, p
end

---How often each kind stands in the peer's log since `from`.
function world.counts(p, from)
  local out = { identify = 0, resume = 0 }
  for _, e in ipairs(p:control "log") do
    if e.at >= (from or 0) then out[e.kind] = out[e.kind] + 1 end
  end
  return out
end

function world.last(list) return list[#list] end

---Numbers of the made-up messages that a consumer got, in order.
function world.numbers(consumer)
  local out = {}
  for _, e in ipairs(consumer:events()) do
    if e.frame.t == "MESSAGE_CREATE" then out[#out + 1] = e.frame.d.number end
  end
  return out
end

---Raises when the numbers are not exactly 1..n.
function world.assert_whole(consumer)
  local numbers = world.numbers(consumer)
  for i, n in ipairs(numbers) do
    if n ~= i then error(("message %d came where %d was due (of %d)"):format(n, i, #numbers), 2) end
  end
  return #numbers
end

return world
