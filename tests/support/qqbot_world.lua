-- A simulated QQ bot platform and one connection to it, for tests/policy/qqbot*_spec.lua.
local sim = require "holdfast.sim"

local world = {}

world.APP = "102000001"
world.SECRET = "not-a-real-secret-of-qq"
world.INTERVAL = 45000

---options: seed, peer (of lua/peers/qqbot.lua), names (more hosts that lead to it), settings (of the connection),
---no_connection, sim
function world.new(options)
  options = options or {}
  local so = { seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  for k, v in pairs(options.sim or {}) do so[k] = v end
  local s = sim.new(so)
  -- The end of a connection's life is for the specs that are about it.
  local po = { app_id = world.APP, client_secret = world.SECRET, lifetime = 0 }
  for k, v in pairs(options.peer or {}) do po[k] = v end
  local p = s:peer("qqbot", { host = "qq.test", names = options.names, options = po })
  if not options.no_connection then world.connect(s, p, "a", options.settings) end
  return s, p
end

function world.connect(s, p, name, settings)
  local c = { policy = "qqbot", app_id = world.APP, client_secret = s:secret(world.SECRET, "client_secret"), api = p.url,
              token_url = p.url .. "/app/getAppAccessToken" }
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

---Frames on the wire of one direction as { at, generation, frame }, of one op if given.
function world.frames(s, name, direction, op)
  local out = {}
  for _, m in ipairs(s:wire(name, direction)) do
    local frame = m.text and sim.decode(m.data)
    if type(frame) == "table" and (not op or frame.op == op) then
      out[#out + 1] = { at = m.at, generation = m.generation, frame = frame, data = m.data }
    end
  end
  return out
end

---Instants of what the peer noted: "token", "gateway", "identify", "resume"; since `from`.
function world.log(p, kind, from)
  local out = {}
  for _, e in ipairs(p:control "log") do
    if e.kind == kind and e.at >= (from or 0) then out[#out + 1] = e.at end
  end
  return out
end

---How often each of them was.
function world.counts(p, from)
  return { identify = #world.log(p, "identify", from), resume = #world.log(p, "resume", from) }
end

---The least time between two instants of a list.
function world.least_gap(list)
  local least = math.huge
  for i = 2, #list do least = math.min(least, list[i] - list[i - 1]) end
  return least
end

---The most instants of a sorted list in any window of `ms`.
function world.most_in_window(list, ms)
  local most, first = 0, 1
  for i = 1, #list do
    while list[i] - list[first] >= ms do first = first + 1 end
    most = math.max(most, i - first + 1)
  end
  return most
end

function world.last(list) return list[#list] end

---Waits for the next generation to be up.
function world.up_again(s, time, name)
  name = name or "a"
  local generation = s:view(name).generation
  s:run_until(function ()
    local v = s:view(name)
    return v.generation > generation and v.state == "up"
  end, time or "2m", name .. " is up again")
end

---Numbers of the made-up messages that a consumer got, in order.
function world.numbers(consumer)
  local out = {}
  for _, e in ipairs(consumer:events()) do
    if e.frame and e.frame.t == "GROUP_AT_MESSAGE_CREATE" then out[#out + 1] = e.frame.d.number end
  end
  return out
end

---Raises when the numbers are not exactly 1..n; returns n.
function world.assert_whole(consumer)
  local numbers = world.numbers(consumer)
  for i, n in ipairs(numbers) do
    if n ~= i then error(("message %d came where %d was due (of %d)"):format(n, i, #numbers), 2) end
  end
  return #numbers
end

return world
