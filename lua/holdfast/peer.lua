-- What the scripts of peers share: faults on demand, and what the prover asks of them. Pure functions over a table that
-- the script owns; what a peer may call of its host stands at the top of runtime/peer/api.c.
local peer = {}

---Takes fault `name` once: nil when it is not there or used up, else its value. A number counts down to none, a table
---with `times` as often as that says, anything else stays. What measures (milliseconds, sizes) is read from `faults`
---itself, never taken.
function peer.take(faults, name)
  local f = faults[name]
  if not f then return nil end
  if type(f) == "number" then
    if f <= 0 then return nil end
    faults[name] = f - 1
  elseif type(f) == "table" and f.times then
    if f.times <= 0 then return nil end
    f.times = f.times - 1
  end
  return f
end

---Adds faults: the control `fault`, and the option `faults` at the start. nil adds none.
function peer.add(faults, more)
  for k, v in pairs(more or {}) do faults[k] = v end
end

---Takes all faults back: the control `heal`.
function peer.heal(faults)
  for k in pairs(faults) do faults[k] = nil end
end

---Answers a request as a fault { status =, body =, headers =, json = } says; 500 and an empty body by default.
function peer.answer(p, request, fault)
  p:respond(request, fault.status or 500,
    { json = fault.json, body = not fault.json and (fault.body or "") or nil, headers = fault.headers })
end

---Plays control verbs { at = ms, verb =, say =, ... } again and again, every `period` ms.
function peer.play(p, control, script, period)
  for _, entry in ipairs(script) do
    p:after(entry.at, function ()
      p:log(entry.say or entry.verb)
      control[entry.verb](p, entry)
    end)
  end
  p:after(period, function () peer.play(p, control, script, period) end)
end

---The faults that a peer offers the prover, and what adds one: add(stages, verb, say, with, more). Stages and words:
---lua/holdfast/prove/faults.lua.
function peer.moves()
  local list = {}
  return list, function (at, verb, say, with, more)
    local row = { at = at, verb = verb, say = say, with = with }
    for k, v in pairs(more or {}) do row[k] = v end
    list[#list + 1] = row
  end
end

---What tells two states of a peer apart, as one string: its own parts (moved) and its faults.
function peer.print(parts, faults)
  for name, value in pairs(faults) do
    local v = type(value) == "table" and value or { code = value }
    parts[#parts + 1] = table.concat({ name, tostring(v.code or v.error), tostring(v.status), tostring(v.times),
                                       tostring(v.body and #v.body) }, " ")
  end
  table.sort(parts)
  return table.concat(parts, ",")
end

return peer
