-- I7 from end to end: whatever happens to network, process, disk and consumer, a consumer gets every message
-- of the platform at least once and in order, and where one is missing a gap stands at that very place.
-- HOLDFAST_SEED repeats one schedule, HOLDFAST_SEEDS=FIRST-LAST runs others.
local world = require "discord_world"
local sim = require "holdfast.sim"

local function draws(seed)
  local state = (seed * 2654435761 + 12345) % 4294967296
  return function (n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return math.floor(state / 4294967296 * n) + 1
  end
end

-- Positions in the consumer's own order of lines: numbers when first seen, and gaps.
local function read(c)
  local first, gaps, order, most = {}, {}, 0, 0
  for i, text in ipairs(c:lines()) do
    local line = sim.decode(text)
    if line.gap then gaps[#gaps + 1] = i end
    local number = line.event and line.event.frame.t == "MESSAGE_CREATE" and line.event.frame.d.number
    if number and not first[number] then
      if number < order then error(("message %d came after message %d"):format(number, order), 2) end
      first[number], order, most = i, number, math.max(most, number)
    end
  end
  return first, gaps, most
end

local function check(c, sent)
  local first, gaps, most = read(c)
  if most ~= sent then error(("the newest message is %d, the platform sent %d"):format(most, sent), 2) end
  local missing, before, n = 0, 0, 1
  while n <= sent do
    if first[n] then
      before, n = first[n], n + 1
    else
      local from = n
      while not first[n] do n = n + 1 end
      local named = false
      for _, at in ipairs(gaps) do named = named or (at > before and at < first[n]) end
      if not named then error(("messages %d to %d are missing, and no gap says so"):format(from, n - 1), 2) end
      missing = missing + n - from
    end
  end
  return missing
end

local function anything(s, p, c, draw)
  local what = draw(16)
  if what == 1 then s:fault("reset", { times = 1 })
  elseif what == 2 then s:fault("half_open", { times = 1 })
  elseif what == 3 then s:fault("truncate", { times = 1, bytes = draw(500) })
  elseif what == 4 then s:fault("refuse", { lasts = draw(400) * 1000 })
  elseif what == 5 then s:fault("store_delay", { ms = draw(3000), lasts = draw(60) * 1000 })
  elseif what == 6 then s:fault("store_fail", { lasts = draw(30) * 1000 })
  elseif what == 7 then s:crash_and_restart { after = draw(20) * 1000 }
  elseif what == 8 then s:crash_and_restart { after = draw(20) * 1000, power = true }
  elseif what == 9 then p:control "op7"
  elseif what == 10 then p:control("op9", { resumable = draw(2) == 1 })
  elseif what == 11 then p:control("kick", { code = ({ 1000, 4000, 4009, 4008 })[draw(4)] })
  elseif what == 12 then s:suspend(draw(300) * 1000)
  elseif what == 13 then s:stall(draw(60) * 1000)
  elseif what == 14 then
    c:detach()
    s:at(draw(60) * 1000, function () if s.core:is_up() then c:attach "cursor" end end)
  elseif what == 15 then
    c:pause()
    s:at(draw(60) * 1000, function () c:resume() end)
  else p:control("dispatch", { count = draw(300) }) end
end

local function schedule(seed)
  local draw = draws(seed)
  local s, p = world.new { seed = seed, peer = { events_every = 1500 } }
  local c = s:consumer { name = "bot", connections = { "a" } }
  local function ack()
    if draw(2) == 1 and s.core:is_up() and c:attached() and #c:events() > 0 then c:ack "a" end
    s:at(draw(20) * 1000, ack)
  end
  s:at("5s", ack)
  s:advance "30s"
  for _ = 1, 25 do
    anything(s, p, c, draw)
    s:advance(draw(90) * 1000)
  end
  s:heal()
  s:run_until(function () return s:state "a" == "up" end, "30h", "up after all is well")
  c:resume()
  if not c:attached() then assert(c:attach "cursor") end
  p:control("dispatch", { count = 3 })
  s:advance "5m"
  -- The newest messages are on their way still: the check is up to what had time to come.
  p:control("kick", { code = 4000 })
  local sent = p:control("sent").numbers["0/1"]
  s:advance "1m"
  local first = read(c)
  assert.truthy(first[sent], "message " .. sent .. " did not come")
  local missing = check(c, select(3, read(c)))
  s:abandon()
  return missing, sent
end

local function seeds()
  local one = tonumber(os.getenv "HOLDFAST_SEED")
  if one then return one, one end
  local first, last = (os.getenv "HOLDFAST_SEEDS" or ""):match "^(%d+)%-(%d+)$"
  return tonumber(first) or 1, tonumber(last) or 16
end

describe("under any schedule of faults a consumer", function ()
  local first, last = seeds()
  for seed = first, last do
    it(("gets every message in order, or a gap at its place (seed %d)"):format(seed), function ()
      local missing, sent = schedule(seed)
      assert.is_true(sent > 100 and missing < sent, missing .. " of " .. sent)
    end)
  end
end)
