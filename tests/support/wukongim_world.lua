-- A simulated WuKongIM server with its REST server, and one connection to it, for the wukongim specs.
local sim = require "holdfast.sim"
local platform_world = require "platform_world"

local TOKEN = "bf_0f1e2d3c4b5a69788796a5b4c3d2e1f0"

local world = platform_world.of {
  policy = "wukongim", host = "im.test", settled = "40s",
  connection = function (s, p) return { bot_token = s:secret(TOKEN, "bot_token"), api = p.url } end,
  number = function (e) return e.frame.packet == "recv" and e.frame.payload.number or nil end,
}

world.TOKEN = TOKEN
world.UID = "bot_8796a5b4c3d2e1f0"

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

---Journal entries of one kind, oldest first: "alarm", "decision", ...
function world.journal(s, name, kind)
  local out = {}
  for _, e in ipairs(s:journal(name)) do
    if e.kind == kind then table.insert(out, 1, e) end
  end
  return out
end

return world
