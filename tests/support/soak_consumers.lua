-- The soak's consumers: `holdfast tail` processes, whose every line is checked. Two are steady, one stops reading
-- until it is detached, one comes and goes (in order and killed), one has no name. A number that is missing must have been
-- told by a gap; one that comes again must come after an attachment.
local process = require "unit.process"
local world = require "daemon_world"
local faults = require "soak_faults"

local M = {}

local PAUSE_S, READ_S = 75, 45 -- of the slow one: longer than what is queued for it

local function now_s() return process.now_ms() / 1000 end

local function take_line(s, c, line)
  local name, epoch, offset = line:match '^{"event":{"connection":"([^"]+)","epoch":(%d+),"offset":(%d+)'
  if not name then
    name = line:match '^{"gap":.-"connection":"([^"]+)"'
    if not name then return end
    local at = c.streams[name]
    if at then at.gap = true end
    c.gaps = c.gaps + 1
    local cause = line:match '"cause":"([^"]*)"' or line:match '"cause":(%b{})' or "?"
    s.gap_causes[cause] = (s.gap_causes[cause] or 0) + 1
    return
  end
  local at = c.streams[name]
  if not at then
    at = { life = -1, epoch = 0, offset = 0, first = nil, most = nil }
    c.streams[name] = at
  end
  epoch, offset = tonumber(epoch), tonumber(offset)
  c.events = c.events + 1
  if at.life ~= c.life then
    at.life, at.again = c.life, true
  elseif epoch < at.epoch or (epoch == at.epoch and offset <= at.offset) then
    s:finding("%s: %s went back from %d.%d to %d.%d in one attachment", c.name, name, at.epoch, at.offset, epoch, offset)
  end
  at.epoch, at.offset = epoch, offset
  local n = tonumber(line:match '"number":(%d+)')
  if not n or name == s.extra then return end
  if not at.most then
    at.first, at.most, at.again = n, n, false
    return
  end
  if n > at.most then
    if n > at.most + 1 and c.named then
      local many = n - at.most - 1
      if not at.gap then
        s:finding("%s: %s lost %d to %d, and no gap told it", c.name, name, at.most + 1, n - 1)
      elseif many < faults.numbers_of_a_peer / 2 then
        c.told = c.told + many
      end
    end
    at.most, at.again, at.gap = n, false, false
  elseif at.again then
    c.again = c.again + 1
  else
    s:finding("%s: %s came twice in one attachment: %d after %d", c.name, name, n, at.most)
  end
end

function M.start(s, c)
  local words = { "tail", "--json" }
  if c.named then words[#words + 1], words[#words + 2] = "--consumer", c.name end
  if c.life == 0 and c.named then words[#words + 1], words[#words + 2] = "--from", "start" end
  c.life = c.life + 1
  c.rest = ""
  c.run = s.world:start(words)
  c.began = now_s()
end

local function take(s, c, ms)
  if not c.run then return false end
  local out = c.run.process:pump(ms)
  s.lines_of(c, "rest", out, function (line) take_line(s, c, line) end)
  return #out > 0
end

-- Reads what there is, and starts it again when it is wanted and gone.
function M.turn(s, c)
  if c.paused then return end
  take(s, c, 0)
  local run = c.run
  if run and (run:ended() ~= nil or run.signal ~= nil) then
    for _ = 1, 1000 do
      if not take(s, c, 0) then break end
    end
    c.ends = c.ends + 1
    s:drop(run)
    c.run, c.again_at = nil, now_s() + 0.5
  end
  if not c.run and c.wanted and s.daemon and now_s() >= (c.again_at or 0) then M.start(s, c) end
end

function M.make(s)
  for _, c in ipairs { { name = "steady-a", named = true }, { name = "steady-b", named = true }, { name = "slow", named = true },
                       { name = "guest", named = true }, { name = "nobody" } } do
    c.streams, c.life, c.events, c.gaps, c.told, c.again, c.ends, c.wanted = {}, 0, 0, 0, 0, 0, 0, true
    s.consumers[#s.consumers + 1] = c
    s.consumers[c.name] = c
    M.start(s, c)
  end
  local slow, guest = s.consumers.slow, s.consumers.guest
  local pause, read = s.short and 2 or PAUSE_S, s.short and 2 or READ_S
  local function sleepy()
    if s.ending then return end
    slow.paused = true
    s:later(pause, function () slow.paused = false end)
    s:later(pause + read, sleepy)
  end
  s:later(5, sleepy)
  local function comes_and_goes()
    if s.ending then return end
    guest.wanted = false
    if guest.run then guest.run:kill(s:random(2) == 1 and world.signals.term or world.signals.kill) end
    s:later(s.short and 2 or 10, function () guest.wanted = true end)
  end
  s:every(s.short and 4 or 25, comes_and_goes)
end

return M
