-- Helpers of the deliver specs: lines as tables, acks as text.
local json = require "dkjson"

local support = {}

function support.lines(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do
    local value, _, fault = json.decode(line, 1, json.null)
    assert(value ~= nil, fault)
    list[#list + 1] = value
  end
  return list
end

-- What a reader got since the last look, after a pump: a list of { kind = , ... } in short form.
function support.read(box, reader)
  box:pump()
  return support.lines((box:read(reader)))
end

-- "hello", "1", "2", "gap 2", "state up": one word or two a line.
function support.brief(lines)
  local out = {}
  for _, line in ipairs(lines) do
    local text
    if line.event then text = tostring(line.event.offset)
    elseif line.gap then text = "gap " .. line.gap.after .. " " .. line.gap.cause
    elseif line.state then text = "state " .. line.state.state
    else text = next(line) end
    out[#out + 1] = text
  end
  return table.concat(out, ", ")
end

function support.got(box, reader)
  return support.brief(support.read(box, reader))
end

function support.ack(connection, offset, epoch)
  return json.encode { ack = { connection = connection, epoch = epoch or 3, offset = offset } } .. "\n"
end

function support.fill(box, stream, count, options)
  local last
  for _ = 1, count do last = box:append(stream, '{"op":0}', options) end
  return last
end

return support
