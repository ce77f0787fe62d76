-- Budgets that survive: whatever kills the daemon, and however often, the platform never counts more session
-- starts in a sliding window than the policy allows, and afterwards the connection comes back by itself.
-- The count is the peer's own, over its log of IDENTIFYs.
local sim = require "holdfast.sim"

local HOUR, DAY = 3600000, 86400000

-- Deterministic draws of a schedule, apart from those of the simulator.
local function drawing(seed)
  local state = seed * 7919 + 1
  return function (low, high)
    state = (state * 16807) % 2147483647
    return low + state % (high - low + 1)
  end
end

local function world(options)
  local s = sim.new { seed = options.seed }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" }, options = options.peer })
  for shard = 0, (options.shards or 1) - 1 do
    s:connection("shard" .. shard, { policy = "discord", token = s:secret "1.one", intents = 513, shard_id = shard,
      shard_count = options.shards or 1, api = p.url .. "/api/v10", tune = options.tune })
  end
  return s, p
end

local function identifies(p, shard)
  local times = {}
  for _, entry in ipairs(p:control "log") do
    if entry.kind == "identify" and (not shard or entry.shard == shard) then times[#times + 1] = entry.at end
  end
  return times
end

local function most_in(times, window)
  local most, first = 0, 1
  for i = 1, #times do
    while times[i] - times[first] >= window do first = first + 1 end
    most = math.max(most, i - first + 1)
  end
  return most
end

local function least_gap(times)
  local least = math.huge
  for i = 2, #times do least = math.min(least, times[i] - times[i - 1]) end
  return least
end

-- What automatic attempts may use: a tenth of each window is kept for people.
local function assert_within(p)
  local times = identifies(p)
  assert.is_true(most_in(times, HOUR) <= 20, most_in(times, HOUR) .. " in an hour")
  assert.is_true(most_in(times, DAY) <= 269, most_in(times, DAY) .. " in a day")
  assert.equal(0, p:control("stats").token_resets)
  return times
end

-- Up again within what the budget says of the next permit.
local function comes_back(s, p, name)
  p:control "heal"
  s:heal { check = false }
  s:advance "1s"
  local budget = s:budget(name, "start")
  local wait = math.max(0, (budget.next or s:now()) - s:now())
  assert.is_true(wait <= DAY, wait .. " ms until the next permit")
  s:up(name, wait + 90000)
end

local function killed(options)
  local s, p = world(options)
  local draw = drawing(options.seed)
  -- No session outlives its socket, and no socket 55 s: each life that gets that far wants a start.
  p:control("fault", { scripted = nil, invalid_identify = false })
  if options.die then p:control("fault", { close_after_identify = 1000, close_delay = 55000 }) end
  local from, lives = s:now(), 0
  while s:now() - from < options.lasts do
    lives = lives + 1
    s:advance(draw(2000, 20000))
    if options.meddle then options.meddle(s, p, draw, lives) end
    s:crash_and_restart { after = draw(50, 2000), power = options.power and draw(1, 10) == 1 or false }
  end
  return s, p, lives
end

describe("a daemon that is killed every few seconds, for two days, with sockets that die every 55 s", function ()
  it("never goes over its budget, spends it all, and comes back within one refill", function ()
    local s, p, lives = killed { seed = 1, lasts = 2 * DAY, die = true }
    local times = assert_within(p)
    assert.is_true(lives > 12000, lives .. " lives")
    assert.is_true(#times >= 400, #times .. " starts")
    comes_back(s, p, "shard0")
    assert_within(p)
    s:close()
  end)
end)
