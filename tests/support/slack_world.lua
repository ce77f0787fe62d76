-- A simulated Slack and one connection to it, for tests/policy/slack*_spec.lua.
local sim = require "holdfast.sim"

local world = {}

world.TOKEN = "xapp-1-A0TEST-1111111111111-0123456789abcdef-not-a-real-token"

---options: seed, peer (of lua/peers/slack.lua), settings (of the connection), no_connection, sim
function world.new(options)
  options = options or {}
  local so = { seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  for k, v in pairs(options.sim or {}) do so[k] = v end
  local s = sim.new(so)
  local po = { token = world.TOKEN, ping = 30000 }
  for k, v in pairs(options.peer or {}) do po[k] = v end
  local p = s:peer("slack", { host = "wss-primary.slack.com", names = { "slack.com" }, options = po })
  if not options.no_connection then world.connect(s, "a", options.settings) end
  return s, p
end

function world.connect(s, name, settings)
  local c = { policy = "slack", app_token = s:secret(world.TOKEN, "app_token") }
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

---Instants of what the peer's log holds of one kind, since `from`.
function world.instants(p, kind, from)
  local out = {}
  for _, e in ipairs(p:control "log") do
    if e.kind == kind and e.at >= (from or 0) then out[#out + 1] = e.at end
  end
  return out
end

function world.entries(p, kind, from)
  local out = {}
  for _, e in ipairs(p:control "log") do
    if e.kind == kind and e.at >= (from or 0) then out[#out + 1] = e end
  end
  return out
end

function world.opens(p, from) return world.instants(p, "open", from) end

---Frames on the wire of one direction as { at, generation, frame }, of one type if given.
function world.frames(s, name, direction, kind)
  local out = {}
  for _, m in ipairs(s:wire(name, direction)) do
    local frame = m.text and sim.decode(m.data)
    if type(frame) == "table" and (not kind or frame.type == kind) then
      out[#out + 1] = { at = m.at, generation = m.generation, frame = frame }
    end
  end
  return out
end

---Acknowledgements on the wire: { at, generation, frame }.
function world.acks(s, name)
  local out = {}
  for _, m in ipairs(world.frames(s, name or "a", "out")) do
    if m.frame.envelope_id then out[#out + 1] = m end
  end
  return out
end

function world.last(list) return list[#list] end

---Raises unless the delays between instants climb as the backoff's ladder does: from half of each rung to the
---whole, `slack` ms more for what the attempt itself took.
function world.assert_ladder(instants, first, most, slack)
  local rung = first
  for i = 2, #instants do
    local gap = instants[i] - instants[i - 1]
    if gap < rung / 2 or gap > rung + (slack or 1500) then
      error(("delay %d is %d ms, the rung is %d"):format(i - 1, gap, rung), 2)
    end
    rung = math.min(rung * 2, most)
  end
end

return world
