-- Budgets that survive: whatever kills the daemon, and however often, the platform never counts more session
-- starts in a sliding window than the policy allows, and afterwards the connection comes back by itself.
-- The count is the peer's own, over its log of IDENTIFYs.
local sim = require "holdfast.sim"
local lists = require "lists"

local HOUR, DAY = 3600000, 86400000
local build = os.getenv "HOLDFAST_BUILD" or ""
local sanitized = build:match "asan" or build:match "ubsan" or os.getenv "HOLDFAST_WRAP"

-- Deterministic draws of a schedule, apart from those of the simulator.
local function drawing(seed)
  local state = seed * 7919 + 1
  return function (low, high)
    state = (state * 16807) % 2147483647
    return low + state % (high - low + 1)
  end
end

local function world(options)
  -- Thousands of lives: what is on disk has its own specs.
  local s = sim.new { seed = options.seed, memory = not options.disk }
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

-- What automatic attempts may use: a tenth of each window is kept for people.
local function assert_within(p)
  local times = identifies(p)
  assert.is_true(lists.most_in(times, HOUR) <= 20, lists.most_in(times, HOUR) .. " in an hour")
  assert.is_true(lists.most_in(times, DAY) <= 269, lists.most_in(times, DAY) .. " in a day")
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

-- Lives of 2 to 20 s. An IDENTIFY is never answered and its socket dies after 55 s: whoever lives long enough
-- to have a permit spends it.
local function killed(options)
  local s, p = world(options)
  local draw = drawing(options.seed)
  p:control("fault", { close_after_identify = 1000, close_delay = 55000 })
  for name, fault in pairs(options.faults or {}) do s:fault(name, fault) end
  local from, lives = s:now(), 0
  while s:now() - from < options.lasts do
    lives = lives + 1
    s:advance(draw(2000, 20000))
    if options.meddle then options.meddle(s, p, draw) end
    s:crash_and_restart { after = draw(50, 2000), power = options.power and draw(1, 4) == 1 or false }
  end
  assert.is_true(lives > options.lasts / 15000, lives .. " lives")
  return s, p
end

describe("a daemon that is killed every few seconds", function ()
  it("for thirty hours never goes over its budget, spends it all, and comes back within one refill", function ()
    local s, p = killed { seed = 1, lasts = sanitized and 6 * HOUR or 30 * HOUR }
    local times = assert_within(p)
    assert.equal(20, lists.most_in(times, HOUR))
    assert.is_true(lists.most_in(times, DAY) >= (sanitized and 100 or 255), lists.most_in(times, DAY) .. " in the busiest day")
    comes_back(s, p, "shard0")
    assert_within(p)
    s:close()
  end)

  it("while its store is slow and fails stays within it too", function ()
    for seed = 2, 3 do
      local s, p = killed { seed = seed, lasts = 4 * HOUR, faults = {
        store_delay = { ms = "3s", probability = 0.3 }, store_fail = { probability = 0.2 } } }
      assert.is_true(#assert_within(p) >= 25)
      comes_back(s, p, "shard0")
      s:close()
    end
  end)

  it("on a machine that loses power stays within it too", function ()
    local s, p = killed { seed = 5, lasts = 4 * HOUR, power = true }
    local n = #assert_within(p) assert.is_true(n >= 50, n .. " starts")
    comes_back(s, p, "shard0")
    s:close()
  end)

  it("over a real store, below it a disk that forgets what was not synced, stays within it too", function ()
    local s, p = killed { seed = 16, lasts = 65 * 60000, power = true, disk = true }
    local n = #assert_within(p)
    assert.is_true(n >= 20 and n <= 40, n .. " starts")
    comes_back(s, p, "shard0")
    s:close()
  end)

  it("on a machine that loses power and whose clock is set back stays within it too, and is not locked out", function ()
    local s, p = killed { seed = 8, lasts = 4 * HOUR, power = true, meddle = function (s, _, draw)
      if draw(1, 50) == 1 then s:wall_step(-draw(1, 20) * HOUR) end
    end }
    assert.is_true(#assert_within(p) >= 15)
    comes_back(s, p, "shard0")
    s:close()
  end)

  it("while its clock is set to and fro stays within it too", function ()
    local s, p = killed { seed = 9, lasts = 4 * HOUR, meddle = function (s, _, draw)
      if draw(1, 5) == 1 then s:wall_step((draw(0, 1) * 2 - 1) * draw(1, 40) * HOUR) end
    end }
    assert.is_true(#assert_within(p) >= 60)
    comes_back(s, p, "shard0")
    s:close()
  end)

  it("while its policy is reloaded and its token rotates stays within it too: the account survives", function ()
    local tokens = 0
    local s, p = killed { seed = 12, lasts = 4 * HOUR, meddle = function (s, p, draw)
      if draw(1, 3) == 1 then s:reload "shard0" end
      if draw(1, 40) == 1 then
        tokens = tokens + 1
        s:set("shard0", { token = s:secret("1.token" .. tokens), intents = 513, api = p.url .. "/api/v10" })
        s:reload "shard0"
      end
    end }
    assert.is_true(tokens >= 5)
    assert.is_true(#assert_within(p) >= 60)
    comes_back(s, p, "shard0")
    s:close()
  end)

  it("with two shards in one lane keeps the gap between them, and both come back", function ()
    local s, p = killed { seed = 13, lasts = 3 * HOUR, shards = 2, faults = { store_delay = { ms = "1s", probability = 0.3 } } }
    local times = assert_within(p)
    assert.is_true(lists.least_gap(times) >= 5000, lists.least_gap(times) .. " ms apart")
    assert.is_true(#identifies(p, "0/2") >= 10)
    assert.is_true(#identifies(p, "1/2") >= 10)
    assert.equal(0, p:control("stats").refused_identifies)
    comes_back(s, p, "shard0")
    comes_back(s, p, "shard1")
    s:close()
  end)

  it("with two shards in two lanes keeps the gap in each, and one does not wait for the other", function ()
    local s, p = killed { seed = 14, lasts = 3 * HOUR, shards = 2, peer = { max_concurrency = 2 } }
    assert_within(p)
    assert.equal(0, p:control("stats").refused_identifies)
    for shard = 0, 1 do
      local times = identifies(p, shard .. "/2")
      assert.is_true(#times >= 10)
      assert.is_true(lists.least_gap(times) >= 5000, lists.least_gap(times) .. " ms apart")
    end
    assert.is_true(lists.least_gap(identifies(p)) < 1000)
    comes_back(s, p, "shard0")
    comes_back(s, p, "shard1")
    s:close()
  end)
end)

describe("what the platform told", function ()
  it("survives a crash: none left until the reset, although nobody asks the platform again", function ()
    local s, p = world { seed = 1, peer = { limit = { total = 1000, remaining = 3, reset_after = DAY } } }
    p:control("fault", { close_after_identify = 1000 })
    s:advance "10m"
    assert.equal(3, #identifies(p))
    local told = s:disk("shard0").told
    assert.same({ 1, "start", 0, 1 }, { #told, told[1].budget, told[1].left, told[1].lanes })
    local asked = p:control("stats").http
    for i = 1, 20 do
      s:crash_and_restart { after = "5s", power = i % 3 == 0 }
      s:advance "30m"
      assert.equal("queued", s:state "shard0")
      assert.equal("told", s:budget("shard0", "start").hold)
    end
    assert.equal(asked, p:control("stats").http)
    assert.equal(3, #identifies(p))
    assert.equal(0, p:control("stats").token_resets)
    comes_back(s, p, "shard0")
    s:close()
  end)

  it("counts what was claimed since, at every instant of a crash", function ()
    for ms = 0, 400, 20 do
      local s, p = world { seed = 1, peer = { limit = { total = 1000, remaining = 2, reset_after = DAY } } }
      p:control("fault", { close_after_identify = 1000 })
      s:advance(ms)
      for _ = 1, 6 do
        s:crash_and_restart { after = "1s" }
        s:advance(ms + 7000)
      end
      s:advance "10m"
      assert.is_true(#identifies(p) <= 2, #identifies(p) .. " starts")
      assert.equal(0, p:control("stats").token_resets)
      s:close()
    end
  end)
end)

describe("a connection that is queued", function ()
  it("tells consumers and status which budget holds it up, what is left, and when the next permit comes", function ()
    local s, p = world { seed = 1 }
    local c = s:consumer { connections = { "shard0" } }
    p:control("fault", { close_after_identify = 1000 })
    s:advance "40m"
    assert.equal("queued", s:state "shard0")
    local queued
    for _, line in ipairs(c:states()) do if line.state == "queued" then queued = line end end
    assert.same({ "budget", "start", "window", 0 }, { queued.what, queued.budget, queued.held_by, queued.left })
    local next = s:json("shard0").next
    assert.same({ "budget", "start", "window", 0 }, { next.what, next.budget, next.held_by, next.left })
    assert.equal(queued.next, next.at)
    local budget = s:budget("shard0", "start")
    local _, _, wall = s:clock()
    assert.is_true(math.abs(sim.wall_time(next.at) - wall - (budget.next - s:now())) <= 1)
    s:abandon()
  end)
end)

describe("an operator who may not wait", function ()
  it("spends the share for people, one start for each wish, over crashes and reloads, and then is told when", function ()
    local s, p = killed { seed = 15, lasts = 90 * 60000 }
    p:control "heal"
    s:heal { check = false }
    local spent = #identifies(p)
    for i = 1, 2 do
      s:reach("shard0", "queued", "2m")
      s:advance "10s"
      assert.equal(3 - i, s:budget("shard0", "start").reserve_left)
      assert.truthy(s:start("shard0", { spend_reserve = true }))
      s:up("shard0", "10s")
      assert.equal(spent + i, #identifies(p))
      if i == 1 then s:reload "shard0" end
      -- A stop is final: the next start needs a session of its own.
      s:stop "shard0"
      s:reach("shard0", "stopped")
      s:start "shard0"
      s:crash_and_restart { after = "1s" }
    end
    s:advance "10s"
    assert.equal("queued", s:state "shard0")
    local started, why = s:start("shard0", { spend_reserve = true })
    assert.is_nil(started)
    assert.truthy(why:match "^nothing is left of the session starts of shard0, nor of the share for people: the next one comes at 2026%-", why)
    -- What was stored counts from the latest moment of its use, so an hour may hold a little less.
    assert.is_true(lists.most_in(identifies(p), HOUR) >= 20)
    local budget = s:budget("shard0", "start")
    s:up("shard0", budget.next - s:now() + 60000)
    assert.is_true(lists.most_in(identifies(p), HOUR) <= 22)
    s:close()
  end)
end)
