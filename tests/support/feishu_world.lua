-- A simulated Feishu and one connection to it, for tests/policy/feishu*_spec.lua.
local sim = require "holdfast.sim"

local world = {}

world.APP, world.SECRET = "cli_a1b2c3d4e5f60718", "marked-secret-of-the-app"
world.PING_HEX = "0800100018f681801020002a0c0a0474797065120470696e67"

---options: seed, peer (of lua/peers/feishu.lua), settings (of the connection), no_connection, sim
function world.new(options)
  options = options or {}
  local so = { seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  for k, v in pairs(options.sim or {}) do so[k] = v end
  local s = sim.new(so)
  local po = { app_id = world.APP, app_secret = world.SECRET }
  for k, v in pairs(options.peer or {}) do po[k] = v end
  local p = s:peer("feishu", { host = "open.feishu.test", names = { "front.feishu.cn" }, options = po })
  if not options.no_connection then world.connect(s, p, "a", options.settings) end
  return s, p
end

function world.connect(s, p, name, settings)
  local c = { policy = "feishu", app_id = world.APP, app_secret = s:secret(world.SECRET, "app-secret"), domain = p.url }
  for k, v in pairs(settings or {}) do c[k] = v end
  return s:connection(name, c)
end

---Up and settled.
function world.settled(options)
  local s, p = world.new(options)
  s:up("a", "1m")
  s:advance "125s"
  assert(s:view("a").settled, "did not settle")
  return s, p
end

---Instants of the endpoint's calls since `from`.
function world.posts(p, from)
  local out = {}
  for _, e in ipairs(p:control "posts") do
    if e.at >= (from or 0) then out[#out + 1] = e.at end
  end
  return out
end

function world.gaps(instants)
  local out = {}
  for i = 2, #instants do out[#out + 1] = instants[i] - instants[i - 1] end
  return out
end

function world.last(list) return list[#list] end

---Numbers of the events that a consumer got, in order.
function world.numbers(consumer)
  local out = {}
  for _, e in ipairs(consumer:events()) do
    local event = e.frame and e.frame.payload and e.frame.payload.event
    out[#out + 1] = type(event) == "table" and event.number or -1
  end
  return out
end

return world
