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

-- A disk that plays the store's part: what a keeper said, and the rows that a restart finds. A trim takes
-- the gaps that come right after its frame along, as the store may.
local disk = {}
disk.__index = disk

function support.disk()
  return setmetatable({ ops = {} }, disk)
end

-- Takes down what the keeper was told since the last look; returns it in short form, without lines.
function disk:take(box)
  local brief = {}
  for line in box:kept():gmatch "([^\n]*)\n" do
    local op = {}
    local what = line:match "^%a+"
    local count = ({ frame = 6, gap = 6, trim = 4, consumer = 4, gone = 2, cursor = 6 })[what]
    local at = 1
    for i = 1, count - 1 do
      local tab = line:find("\t", at, true) or #line + 1
      op[i], at = line:sub(at, tab - 1), tab + 1
    end
    op[count] = line:sub(at)
    self.ops[#self.ops + 1] = op
    local shown = (what == "frame" or what == "gap") and 4 or what == "cursor" and 5 or what == "consumer" and 2 or count
    brief[#brief + 1] = (table.concat(op, " ", 1, shown):gsub("%s+$", ""))
  end
  return table.concat(brief, ", ")
end

-- Forgets the newest `count` calls: they were not safe yet.
function disk:lose(count)
  for _ = 1, math.min(count, #self.ops) do self.ops[#self.ops] = nil end
end

function disk:rows()
  local streams, consumers, order = {}, {}, {}
  local function stream(name)
    if not streams[name] then
      streams[name] = { epochs = {}, events = {} }
      order[#order + 1] = name
    end
    return streams[name]
  end
  for _, op in ipairs(self.ops) do
    local what, name = op[1], op[2]
    if what == "frame" or what == "gap" then
      local s, epoch, offset = stream(name), tonumber(op[3]), tonumber(op[4])
      local newest = s.epochs[#s.epochs]
      if not newest or newest.epoch ~= epoch then
        newest = { epoch = epoch, after = what == "gap" and offset or offset - 1, last = offset }
        s.epochs[#s.epochs + 1] = newest
      end
      newest.last = math.max(newest.last, offset)
      s.events[#s.events + 1] = { what, name, epoch, offset, tonumber(op[5]), op[6] .. "\n" }
    elseif what == "trim" then
      local kept, s = {}, stream(name)
      for _, event in ipairs(s.events) do
        if event[4] > tonumber(op[4]) then kept[#kept + 1] = event end
      end
      s.events = kept
    elseif what == "consumer" then
      local c = consumers[name] or { cursors = {} }
      consumers[name], c.wall, c.patterns = c, tonumber(op[3]), op[4]
    elseif what == "gone" then
      consumers[name] = nil
    elseif consumers[name] then
      consumers[name].cursors[op[3]] = { tonumber(op[4]), tonumber(op[5]), tonumber(op[6]) }
    end
  end
  return streams, consumers, order
end

local function sorted(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

function disk:restore(box, clean)
  local streams, consumers, order = self:rows()
  for _, name in ipairs(order) do
    for _, e in ipairs(streams[name].epochs) do box:restore("epoch", name, e.epoch, e.after, e.last) end
  end
  for _, name in ipairs(order) do
    for _, e in ipairs(streams[name].events) do box:restore(unpack(e)) end
  end
  for _, name in ipairs(sorted(consumers)) do
    box:restore("consumer", name, consumers[name].wall, consumers[name].patterns)
  end
  for _, name in ipairs(sorted(consumers)) do
    local cursors = consumers[name].cursors
    for _, connection in ipairs(sorted(cursors)) do
      box:restore("cursor", name, connection, unpack(cursors[connection]))
    end
  end
  box:restore("done", clean)
  return box
end

return support
