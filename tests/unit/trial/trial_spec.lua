-- Is a new version worse? From counts of both sides, as a table: what a row does not say is none.
local trial = require "unit.trial"

local MINUTE = 60000
local WATCH = 10 * MINUTE

-- 4 tried and 36 others of 40, `minutes` after it began, and an hour of the four before it.
local function facts(o)
  local minutes = o.minutes or 3
  local function side(counts, connections, ms)
    local s = { connections = connections, ms = ms, readies = 0 }
    for k, v in pairs(counts or {}) do s[k] = v end
    return s
  end
  return {
    tried = side(o.tried, o.n or 4, (o.n or 4) * minutes * MINUTE),
    others = o.others ~= false and side(o.others, o.m or 36, (o.m or 36) * minutes * MINUTE) or nil,
    past = o.past ~= false and side(o.past, o.n or 4, (o.n or 4) * 60 * MINUTE) or nil,
    fair_ms = (minutes - (o.weather_minutes or 0)) * MINUTE, all_ms = minutes * MINUTE, watch_ms = WATCH,
    weather = o.weather, error = o.error,
  }
end

local function judge(o) return trial.judge(facts(o)) end

-- name, facts, outcome, what the reason says (a pattern)
local ROWS = {
  { "nothing happened yet", {}, "goes_on", "^$" },
  { "nothing happened in the whole window", { minutes = 10 }, "good",
    "^after 10m 0s: 4 connections, 0 hook errors, 0 reconnects; the others: 36 connections, 0 hook errors, 0 reconnects; none of them connected anew, so prepare and greet were not put to the test$" },
  { "both sides reconnect alike", { minutes = 10, tried = { endings = 4, endings_in = 3, readies = 4, ready_ms = 1100 }, others = { endings = 30, readies = 30, ready_ms = 1200 } },
    "good", "^after 10m 0s: 4 connections, 0 hook errors, 4 reconnects, ready after 1.1s; the others: 36 connections, 0 hook errors, 30 reconnects, ready after 1.2s$" },

  -- hook errors
  { "two hook errors are not enough to end it at once", { tried = { hook_errors = 2, hook_errors_in = 2 } }, "goes_on", "^$" },
  { "three are", { tried = { hook_errors = 3, hook_errors_in = 2 }, error = "x.lua:31: oh" }, "worse",
    "^3 hook errors in 2 of 4 connections; none in the other 36, none in their own past; the last: x.lua:31: oh$" },
  { "one is, at the end of the window", { minutes = 10, tried = { hook_errors = 1, hook_errors_in = 1 } }, "worse", "^1 hook error in 1 of 4 connections; none in the other 36" },
  { "as many as the old version makes are no news", { minutes = 10, tried = { hook_errors = 5, hook_errors_in = 3 }, others = { hook_errors = 40 } }, "good", "^after" },
  { "as many as these connections always had are no news either", { minutes = 10, tried = { hook_errors = 5, hook_errors_in = 3 }, past = { hook_errors = 30 } }, "good", "^after" },
  { "many more than the old version makes are worse", { tried = { hook_errors = 9, hook_errors_in = 4 }, others = { hook_errors = 5 } }, "worse",
    "^9 hook errors in 4 of 4 connections; 5 in the other 36, which predicts 0.6, none in their own past$" },
  { "the weather is no excuse for a hook", { weather = true, tried = { hook_errors = 3, hook_errors_in = 3 } }, "worse", "^3 hook errors" },

  -- reconnects
  { "two reconnects prove nothing", { tried = { endings = 2, endings_in = 2 } }, "goes_on", "^$" },
  { "three against none among nine times as many do", { tried = { endings = 3, endings_in = 3 } }, "worse",
    "^3 reconnects in 3 of 4 connections; none in the other 36, none in their own past$" },
  { "one of the others makes three a chance", { tried = { endings = 3, endings_in = 3 }, others = { endings = 1 } }, "goes_on", "^$" },
  { "an outage that meets all counts for neither", { tried = { endings = 40, endings_in = 4 }, others = { endings = 360 } }, "goes_on", "^$" },
  { "a connection that always flapped is not worse", { tried = { endings = 10, endings_in = 1 }, past = { endings = 60 * 4 } }, "goes_on", "^$" },
  { "one that flaps since then is", { tried = { endings = 10, endings_in = 1 }, past = { endings = 2 } }, "worse",
    "^10 reconnects in 1 of 4 connections; none in the other 36, their own past predicts 0.1$" },
  { "weather at this moment defers it", { weather = true, tried = { endings = 9, endings_in = 4 } }, "goes_on", "^$" },

  -- small and lopsided groups
  { "one against one: eight are a chance", { n = 1, m = 1, past = false, tried = { endings = 8, endings_in = 1 } }, "goes_on", "^$" },
  { "one against one: nine are not", { n = 1, m = 1, past = false, tried = { endings = 9, endings_in = 1 } }, "worse", "none in the other 1$" },
  { "the only connection is compared with its own past", { n = 1, others = false, tried = { endings = 3, endings_in = 1 }, past = { endings = 1 } }, "worse",
    "^3 reconnects in 1 of 1 connection; their own past predicts 0.1$" },
  { "and is not worse than a past that was as bad", { n = 1, others = false, tried = { endings = 3, endings_in = 1 }, past = { endings = 40 } }, "goes_on", "^$" },
  { "a past of an instant is none", { n = 1, others = false, past = { ms = 1000 }, tried = { endings = 9, endings_in = 1 } }, "goes_on", "^$" },
  { "with nothing to compare with ten are needed", { n = 1, others = false, past = false, tried = { endings = 10, endings_in = 1 } }, "worse", "; there is nothing to compare with$" },
  { "all tried, quiet", { others = false, minutes = 10 }, "good", "^after 10m 0s: 4 connections, 0 hook errors, 0 reconnects; none of them" },

  -- pace
  { "one stop ends it", { tried = { stops = 1 } }, "worse", "^1 of 4 connections stopped for good; none in the other 36, none in their own past$" },
  { "a stop that others have as well does not", { tried = { stops = 1 }, others = { stops = 3 } }, "goes_on", "^$" },
  { "one slow pace is a chance", { tried = { slows = 1 } }, "goes_on", "^$" },
  { "two are not", { tried = { slows = 2 } }, "worse", "^2 slow paces in 4 connections" },
  { "unless others are slow, too", { tried = { slows = 2 }, others = { slows = 1 } }, "goes_on", "^$" },

  -- time to ready
  { "twice as long and two seconds more is not yet slower", { tried = { readies = 3, ready_ms = 4000 }, others = { readies = 9, ready_ms = 1000 } }, "goes_on", "^$" },
  { "longer than that is", { tried = { readies = 3, ready_ms = 4001 }, others = { readies = 9, ready_ms = 1000 } }, "worse",
    "^ready after 4.0s %(median of 3%); the others after 1.0s %(of 9%)$" },
  { "two times say nothing", { tried = { readies = 2, ready_ms = 60000 }, others = { readies = 9, ready_ms = 1000 } }, "goes_on", "^$" },
  { "where the others did not connect anew the past is asked", { tried = { readies = 3, ready_ms = 9000 }, others = { readies = 2, ready_ms = 9000 }, past = { readies = 4, ready_ms = 900 } },
    "worse", "^ready after 9.0s %(median of 3%); before after 0.9s %(of 4%)$" },
  { "and where there is neither nothing is said", { tried = { readies = 3, ready_ms = 9000 } }, "goes_on", "^$" },
  { "a morning that is slow for all is not the version's", { tried = { readies = 5, ready_ms = 30000 }, others = { readies = 36, ready_ms = 28000 }, past = { readies = 4, ready_ms = 900 } }, "goes_on", "^$" },

  -- the end
  { "somebody lost is waited for", { minutes = 11, tried = { lost = 1 } }, "goes_on", "^1 of 4 connections that were well are not$" },
  { "and gives no verdict in the end", { minutes = 30, tried = { lost = 1 } }, "no_verdict", "^1 of 4 connections that were well are not$" },
  { "as many lost elsewhere are the platform's", { minutes = 10, tried = { lost = 1 }, others = { lost = 9 } }, "good", "^after" },
  { "weather's time is added to the window", { minutes = 12, weather_minutes = 4 }, "goes_on", "^too much of its time" },
  { "and the window ends once that was made up", { minutes = 14, weather_minutes = 4 }, "good", "^after 14m 0s" },
  { "weather at the end is waited for", { minutes = 11, weather_minutes = 1, weather = true }, "goes_on", "^both sides are failing together" },
  { "weather without end gives no verdict", { minutes = 30, weather_minutes = 25, weather = true }, "no_verdict", "^both sides are failing together" },
  { "a hook error in a window that was all weather still counts", { minutes = 30, weather_minutes = 25, weather = true, tried = { hook_errors = 1, hook_errors_in = 1 } }, "worse", "^1 hook error" },
}

describe("the verdict of a trial", function ()
  for _, row in ipairs(ROWS) do
    it("is right when " .. row[1], function ()
      local outcome, why = judge(row[2])
      assert.equal(row[3], outcome, why)
      assert.is_truthy(why:match(row[4]), ("%q does not match %q"):format(why, row[4]))
    end)
  end

  it("fits its room, whatever the numbers", function ()
    local many = 4294967295
    local all = { connections = many, ms = 2 ^ 60, hook_errors = many, hook_errors_in = many, endings = many, endings_in = many, readies = many, ready_ms = 2 ^ 40 }
    local outcome, why = trial.judge { tried = all, others = all, past = all, fair_ms = WATCH, all_ms = WATCH, watch_ms = WATCH, error = ("x"):rep(5000) }
    assert.equal("good", outcome)
    assert.is_true(#why < 400)
    local few = { connections = 1, ms = 1 }
    outcome, why = trial.judge { tried = all, others = few, past = { connections = 1, ms = MINUTE }, fair_ms = 0, all_ms = 0, watch_ms = WATCH, error = ("x"):rep(5000) }
    assert.equal("worse", outcome)
    assert.is_true(#why < 400)
  end)
end)

describe("the chance of so many", function ()
  it("is that of the binomial distribution", function ()
    local function near(wanted, got) assert.is_true(math.abs(wanted - got) < 1e-9, wanted .. " " .. got) end
    near(1, trial.chance(0, 0, 0.5))
    near(1, trial.chance(0, 10, 0.1))
    near(0.001, trial.chance(3, 3, 0.1))
    near(0.5 ^ 9, trial.chance(9, 9, 0.5))
    near(1 - 0.9 ^ 10, trial.chance(1, 10, 0.1))
    near(0.6230468750, trial.chance(5, 10, 0.5))
    near(1, trial.chance(5, 10, 1))
    near(0, trial.chance(5, 10, 0))
    local sum = trial.chance(10000, 100000, 0.1)
    assert.is_true(sum > 0.49 and sum < 0.51, sum)
    assert.is_true(trial.chance(12000, 100000, 0.1) < 1e-12)
  end)
end)

describe("how many are tried", function ()
  it("is the share, at least one, and at least one is left to compare with", function ()
    for _, row in ipairs { { 0, 0.1, 0 }, { 1, 0.1, 1 }, { 2, 0.1, 1 }, { 2, 0.9, 1 }, { 10, 0.1, 1 }, { 11, 0.1, 2 }, { 40, 0.1, 4 },
                           { 10000, 0.1, 1000 }, { 3, 0.99, 2 }, { 3, 1, 3 }, { 1, 1, 1 }, { 40, 1e-9, 1 } } do
      assert.equal(row[3], trial.count(row[1], row[2]), row[1] .. " * " .. row[2])
    end
  end)
end)
