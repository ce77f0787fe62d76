-- A simulated WuKongIM server with its REST server, and one connection to it, for the wukongim specs.
local sim = require "holdfast.sim"

local world = {}

world.TOKEN = "bf_0f1e2d3c4b5a69788796a5b4c3d2e1f0"
world.UID = "bot_8796a5b4c3d2e1f0"

---options: seed, peer (of lua/peers/wukongim.lua), settings (of the connection), no_connection, sim
function world.new(options)
  options = options or {}
  local so = { seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  for k, v in pairs(options.sim or {}) do so[k] = v end
  local s = sim.new(so)
  local p = s:peer("wukongim", { host = "im.test", options = options.peer })
  if not options.no_connection then world.connect(s, p, "a", options.settings) end
  return s, p
end

function world.connect(s, p, name, settings, token)
  local c = { policy = "wukongim", bot_token = s:secret(token or world.TOKEN, "bot_token"), api = p.url }
  for k, v in pairs(settings or {}) do c[k] = v end
  return s:connection(name, c)
end

---Packets on the wire of one direction as { at, generation, packet }, of one kind if given.
function world.packets(s, name, direction, kind)
  local out = {}
  for _, m in ipairs(s:wire(name, direction)) do
    local packet = m.text and sim.decode(m.data)
    if type(packet) == "table" and (not kind or packet.packet == kind) then
      out[#out + 1] = { at = m.at, generation = m.generation, packet = packet }
    end
  end
  return out
end

---Up and settled.
function world.settled(options)
  local s, p = world.new(options)
  s:up("a", "1m")
  s:advance "40s"
  assert(s:view("a").settled, "did not settle")
  return s, p
end

---Entries of the peer's log of one kind since `from`.
function world.logged(p, kind, from)
  local out = {}
  for _, e in ipairs(p:control "log") do
    if e.kind == kind and e.at >= (from or 0) then out[#out + 1] = e end
  end
  return out
end

---Dials since `from`.
function world.dials(s, name, from)
  local out = {}
  for _, d in ipairs(s:dials(name)) do
    if d.at >= (from or 0) then out[#out + 1] = d.at end
  end
  return out
end

---HTTP calls to a path since `from`.
function world.calls(s, path, from)
  local out = {}
  for _, c in ipairs(s:http()) do
    if c.at >= (from or 0) and c.target:find(path, 1, true) then out[#out + 1] = c end
  end
  return out
end

---Most of these instants in any window of so many ms.
function world.most_in(instants, ms)
  table.sort(instants)
  local most, first = 0, 1
  for i = 1, #instants do
    while instants[i] - instants[first] >= ms do first = first + 1 end
    most = math.max(most, i - first + 1)
  end
  return most
end

---Journal entries of one kind, oldest first: "alarm", "decision", ...
function world.journal(s, name, kind)
  local out = {}
  for _, e in ipairs(s:journal(name)) do
    if e.kind == kind then table.insert(out, 1, e) end
  end
  return out
end

---Up again after it was up: on another link.
function world.back(s, name, time)
  local generation = s:view(name).generation
  s:run_until(function ()
    local v = s:view(name)
    return v.state == "up" and v.generation > generation
  end, time, name .. " is back")
end

---Numbers of the made-up messages that a consumer got, in order.
function world.numbers(consumer)
  local out = {}
  for _, e in ipairs(consumer:events()) do
    if e.frame.packet == "recv" and e.frame.payload.number then out[#out + 1] = e.frame.payload.number end
  end
  return out
end

return world
