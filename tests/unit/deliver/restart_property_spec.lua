-- Random lives of two connections and three consumers over many restarts, against a model of what each
-- consumer must have been told. `roomy`: nothing is ever dropped, so that no hole may be told either.
local deliver = require "unit.deliver"
local support = require "deliver_support"

local WALL = 1795341600000
local NAMES = { "a", "b" }
local BOTS = { "one", "two", "three" }

local Life = {}
Life.__index = Life

local function life(seed, roomy)
  local self = setmetatable({ seed = seed, roomy = roomy, state = seed * 2654435761 % 2147483648, epoch = 3,
    wall = WALL, disk = support.disk(), frames = {}, next_id = 1, bots = {}, gaps = 0, told = 0,
    expects_unknown = {} }, Life)
  for _, name in ipairs(BOTS) do
    self.bots[name] = { name = name, seen = { a = 0, b = 0 }, acked = {}, got = {} }
  end
  self:open()
  for _, name in ipairs(BOTS) do
    self:attach(name)
    self:detach(name)
  end
  self.disk:take(self.box)
  self.floor = roomy and #self.disk.ops or 0 -- registrations that no crash takes back
  return self
end

function Life:random(n)
  self.state = (self.state * 1103515245 + 12345) % 2147483648
  return math.floor(self.state / 65536) % n + 1
end

function Life:check(ok, text, ...)
  if not ok then error(("seed %d%s: "):format(self.seed, self.roomy and " roomy" or "") .. text:format(...), 2) end
end

function Life:open()
  self.box = deliver.new { epoch = self.epoch, keeps = true, wall = self.wall,
    consumer_bytes = self.roomy and 0 or 3000 }
  self.streams, self.readers, self.reader_count = {}, {}, 0
end

function Life:add(name)
  local limits = not self.roomy and { bytes = 2500, age = 60000 } or nil
  local s = assert(self.box:stream(name, limits))
  self.streams[name] = s
  -- A connection that was given up with all it held counts on from the highest: no hole.
  local last = self.box:view(s).last_offset
  if self.box:view(s).frames == 0 then
    for _, bot in pairs(self.bots) do
      if self.gone and self.gone[name] then bot.seen[name] = math.max(bot.seen[name], last) end
    end
  end
  if self.gone then self.gone[name] = nil end
end

function Life:append(name)
  local s = self.streams[name]
  if not s then return end
  local id = self.next_id
  self.next_id = id + 1
  self.wall = self.wall + self:random(200)
  local offset = self.box:append(s, ('{"id":%d,"pad":"%s"}'):format(id, ("x"):rep(self:random(300))),
    { wall = self.wall })
  local key = name .. " " .. self.epoch .. "." .. offset
  self:check(not self.frames[key], "%s names two frames", key)
  self.frames[key] = id
end

function Life:attach(name, room)
  if self.reader_count >= 60 then return end
  self.reader_count = self.reader_count + 1
  local bot = self.bots[name]
  self.readers[name] = assert(self.box:attach { consumer = name, room = room or 1e9, states = "false" })
  bot.at, bot.gap, bot.got, bot.last = {}, {}, {}, bot.last or {}
end

function Life:detach(name)
  self:read(name)
  if self.readers[name] and not self.box:detached(self.readers[name]) then self.box:detach(self.readers[name]) end
  self.readers[name] = nil
end

-- Takes what arrived, and judges it.
function Life:read(name)
  local reader, bot = self.readers[name], self.bots[name]
  if not reader then return end
  for _, line in ipairs(support.lines((self.box:read(reader)))) do
    if line.gap then
      local c = line.gap.connection
      self.gaps = self.gaps + (line.gap.cause ~= "session lost" and 1 or 0)
      self:check(not self.roomy or line.gap.cause == "session lost" or
        line.gap.cause == "unknown epoch" and self.expects_unknown[c], "%s is told a hole of %s: %s after %d.%d",
        name, c, line.gap.cause, line.gap.epoch, line.gap.after)
      self:check(line.gap.after <= math.max(bot.seen[c], bot.at[c] or 0) or bot.gap[c], "%s: a gap after %d, seen to %d", name,
        line.gap.after, bot.seen[c])
      if line.gap.cause ~= "session lost" then bot.gap[c] = true end
    elseif line.event then
      local e, c = line.event, line.event.connection
      local key = c .. " " .. e.epoch .. "." .. e.offset
      self.told = self.told + 1
      self:check(self.frames[key] == e.frame.id, "%s: %s is frame %d, was %s", name, key, e.frame.id,
        tostring(self.frames[key]))
      self:check(e.offset > (bot.at[c] or -1), "%s: %s comes after %d", name, key, bot.at[c] or -1)
      self:check(e.offset <= bot.seen[c] + 1 or bot.gap[c], "%s: a hole before %s that no gap names, seen to %d",
        name, key, bot.seen[c])
      bot.at[c], bot.gap[c] = e.offset, nil
      bot.seen[c] = math.max(bot.seen[c], e.offset)
      bot.got[#bot.got + 1] = { c, e.epoch, e.offset }
    end
  end
  if self.box:detached(reader) then self.readers[name] = nil end
end

function Life:pump()
  self.box:pump()
  for _, name in ipairs(BOTS) do self:read(name) end
  self:cursors()
end

-- A cursor never goes back.
function Life:cursors()
  for name, s in pairs(self.streams) do
    for _, bot in pairs(self.bots) do
      local epoch, offset = self.box:cursor(s, bot.name)
      if epoch then
        local before = bot.acked[name]
        self:check(not before or before[1] < epoch or (before[1] == epoch and before[2] <= offset) or before[2] <= offset,
          "%s: the cursor of %s went back from %d.%d to %d.%d", bot.name, name, before and before[1] or 0,
          before and before[2] or 0, epoch, offset)
        bot.acked[name] = { epoch, offset }
      else
        bot.acked[name] = nil
      end
    end
  end
end

-- Of a connection that is not configured too.
function Life:cursor(bot, connection)
  for _, place in ipairs(self.box:positions(bot)) do
    local epoch, offset, last = place:match("^" .. connection .. " (%d+)%.(%d+) of (%d+) ")
    if epoch then return tonumber(epoch), tonumber(offset), tonumber(last) end
  end
end

function Life:ack(name)
  local bot = self.bots[name]
  if #bot.got == 0 then return end
  local c, epoch, offset = unpack(bot.got[self:random(#bot.got)])
  local how = self:random(8)
  if how == 1 then offset = offset + 1000 end
  if how == 2 then epoch = epoch - 1 end
  if how == 3 then epoch = epoch + 1 end
  if how <= 3 then
    -- Nonsense: of the frames it covers at most those that it has got.
    local _, before, last = self:cursor(name, c)
    self.box:ack_lines(name, support.ack(c, offset, epoch))
    local now_epoch, after = self:cursor(name, c)
    if not after then return end
    self:check(after <= math.max(before, last) and now_epoch <= epoch or after == before,
      "%s: an ack of %d.%d moved %s from %d to %d.%d", name, epoch, offset, c, before, now_epoch, after)
    bot.seen[c] = math.max(bot.seen[c], after) -- it said so itself
  else
    self.box:ack_lines(name, support.ack(c, offset, epoch))
  end
end

function Life:restart(clean)
  for _, name in ipairs(BOTS) do self:detach(name) end
  if clean then self:pump() end
  self.disk:take(self.box)
  self.box:close()
  if not clean then
    self.disk:lose(math.min(self:random(25) - 1, #self.disk.ops - self.floor))
    self.epoch = self.epoch + self:random(3)
  end
  local streams, consumers = self.disk:rows()
  self:open()
  self.disk:restore(self.box, clean)
  self.gone = self.gone or {}
  for _, name in ipairs(NAMES) do
    local epochs = streams[name] and streams[name].epochs or {}
    local last = #epochs > 0 and epochs[#epochs].last or 0
    local known = {}
    for _, e in ipairs(epochs) do known[e.epoch] = e end
    for _, bot in pairs(self.bots) do
      local cursor = consumers[bot.name] and consumers[bot.name].cursors[name]
      if not clean then bot.seen[name] = math.min(bot.seen[name], last) end
      bot.acked[name] = nil
      if cursor and not known[cursor[1]] and cursor[1] ~= self.epoch then self.expects_unknown[name] = true end
    end
    if self:random(5) > 1 then self:add(name) end
    for _, bot in pairs(self.bots) do
      local cursor = consumers[bot.name] and consumers[bot.name].cursors[name]
      local e = cursor and known[cursor[1]]
      if e and self.streams[name] then
        local _, offset = self.box:cursor(self.streams[name], bot.name)
        self:check(offset == math.min(cursor[2], e.last), "%s: the cursor of %s was %d.%d, and is %d", bot.name, name,
          cursor[1], cursor[2], offset)
      end
    end
  end
end

function Life:step()
  local what, name, bot = self:random(100), NAMES[self:random(2)], BOTS[self:random(3)]
  if what <= 40 then self:append(name)
  elseif what <= 58 then self:pump()
  elseif what <= 66 then self:attach(bot, self:random(3) == 1 and 200 + self:random(4000) or nil)
  elseif what <= 70 then self:detach(bot)
  elseif what <= 84 then self:ack(bot)
  elseif what <= 87 then
    self.wall = self.wall + self:random(2000)
    self.box:expire(self.wall)
  elseif what <= 89 then
    if self.streams[name] then self.box:gap(self.streams[name], "session lost", false, self.wall) end
  elseif what <= 91 then
    if self.streams[name] then
      self.box:remove(self.streams[name])
      self.streams[name] = nil
      self.gone = self.gone or {}
      self.gone[name] = true
      for _, each in ipairs(BOTS) do self:read(each) end
    else
      self:add(name)
    end
  elseif what <= 93 then
    if not self.streams[name] then self:add(name) end
  elseif what == 94 and not self.roomy then
    self:detach(bot)
    self.box:forget(bot)
    self.bots[bot].acked = {}
  elseif what <= 97 then self:restart(true)
  else self:restart(false) end
  self.disk:take(self.box)
end

-- At last all attach and read to the end: nothing that is held is missing.
function Life:finish()
  for _, name in ipairs(NAMES) do
    if not self.streams[name] then self:add(name) end
  end
  self:restart(true)
  for _, name in ipairs(NAMES) do
    if not self.streams[name] then self:add(name) end
  end
  for _, name in ipairs(BOTS) do self:attach(name) end
  for _, name in ipairs(NAMES) do self:append(name) end
  self:pump()
  for _, name in ipairs(NAMES) do
    local last = self.box:view(self.streams[name]).last_offset
    for _, bot in pairs(self.bots) do
      self:check(bot.at[name] == last, "%s has %s of %s, the last is %d", bot.name, tostring(bot.at[name]), name, last)
    end
  end
  self.box:close()
end

describe("over restarts of every kind", function ()
  local function lives(from, to, roomy)
    local told, gaps = 0, 0
    for seed = from, to do
      local one = life(seed, roomy)
      for step = 1, 250 do
        local ok, fault = pcall(one.step, one)
        if not ok then error(("step %d, %s"):format(step, tostring(fault)), 0) end
      end
      one:finish()
      told, gaps = told + one.told, gaps + one.gaps
    end
    return told, gaps
  end

  it("each consumer gets every frame that was kept, in order, and is told of no hole where there is none", function ()
    local told = lives(1, 40, true)
    assert.is_true(told > 3000, "told: " .. told)
  end)

  it("each consumer gets every frame that was kept, in order, or a gap where frames were dropped", function ()
    local told, gaps = lives(1001, 1040, false)
    assert.is_true(told > 1500, "told: " .. told)
    assert.is_true(gaps > 100, "gaps: " .. gaps)
  end)
end)
