-- Random schedules, driven and checked in C (tests/support/unit_engine_random.c): a platform that refuses,
-- hangs, dies, lies and recovers, operators and policies that interfere. I1, I2, I3 and I8 are checked from
-- the outside after every step; at the end the platform is healed and every connection must be up within the
-- bound that the engine computed (I6), and every send was answered exactly once. The same schedules with a
-- planted bug must break exactly what the plant is about.
--
-- HOLDFAST_ROUNDS=COUNT or FIRST-LAST runs others than the first 10,000; HOLDFAST_SEED=N repeats one.
local random = require "unit.engine_random"
local Host = require "engine_host"

local build = os.getenv "HOLDFAST_BUILD" or "build/test"
local sanitized = build:match "asan" or build:match "ubsan" or os.getenv "HOLDFAST_WRAP"

local marks = {
  "a beat was asked for", "a planned ending of a settled link is free", "a session start without a permit was refused",
  "figures told while preparing took the permit back", "handover begins", "on_ended took too long", "retry_after beats backoff",
  "the close code was stronger than the announced ending", "the floor holds whoever asks",
  "the old link died while its successor was on its way", "the successor died while the old link was draining",
}

local function range()
  local one = tonumber(os.getenv "HOLDFAST_SEED")
  if one then return one, one end
  local rounds = os.getenv "HOLDFAST_ROUNDS" or ""
  local first, last = rounds:match "^(%d+)%-(%d+)$"
  return tonumber(first) or 1, tonumber(last) or tonumber(rounds) or (sanitized and 1000 or 10000)
end

-- What a broken promise looks like, and how to see it again.
local function told(run)
  return ("seed %.0f: %s\n%s\nrepeat: HOLDFAST_SEED=%.0f HOLDFAST_BUILD=%s %s/runner tests/unit/engine/random_spec.lua")
    :format(run.seed, run.why, run.story, run.seed, build, build)
end

describe("random schedules", function ()
  local first, last = range()
  local part = math.max(1, math.ceil((last - first + 1) / 10))
  local moves, schedules = {}, 0

  for from = first, last, part do
    local to = math.min(last, from + part - 1)
    it(("break no invariant, heal within the bound, and answer every send once (seeds %.0f to %.0f)"):format(from, to), function ()
      local run = random.run { first = from, last = to }
      if run.why then error(told(run), 0) end
      -- Not because nothing happened: links came up, sessions began, consumers spoke.
      assert.equal(to - from + 1, run.schedules)
      if run.schedules >= 100 then
        assert.is_true(run.readies > run.schedules * 10)
        assert.is_true(run.starts > run.schedules * 10)
        assert.is_true(run.sends > run.schedules * 30)
        assert.is_true(run.kills > run.schedules)
      end
      for move in pairs(run.moves) do moves[move] = true end
      schedules = schedules + run.schedules
    end)
  end

  it("take every legal move and marked branch, where there are enough of them", function ()
    if schedules < 1000 then return pending "not with so few schedules" end
    local untaken = {}
    if schedules < 10000 then moves["preparing -> closing"] = true end -- rare; handover_spec takes it
    for _, move in ipairs(random.legal_moves()) do
      if not moves[move] then untaken[#untaken + 1] = move end
    end
    for _, mark in ipairs(marks) do
      if random.mark_hits(mark) == 0 then untaken[#untaken + 1] = mark end
    end
    assert.same({}, untaken)
  end)

  it("repeat effect by effect with the same seed", function ()
    local function hash(seed) return random.run { first = seed, last = seed }.hash end
    assert.equal(hash(7), hash(7))
    assert.not_equal(hash(7), hash(8))
  end)

  for _, plant in ipairs { "I1", "I2", "I3", "I6", "I8" } do
    it("catch the planted bug " .. plant, function ()
      local run = random.run { first = 1, last = 100, plant = plant }
      assert.truthy(run.why and run.why:find(plant .. ": ", 1, true), run.why)
    end)
  end

  for mishear, why in ipairs { "send 7 was never answered", "send 7 is answered twice" } do
    it("notice when a " .. why, function ()
      local run = random.run { first = 1, last = 20, mishear = mishear }
      assert.truthy(run.why and run.why:find(why, 1, true), run.why)
      assert.matches("repeat: HOLDFAST_SEED=%d+ ", told(run))
    end)
  end
end)

describe("the other planted bugs", function ()
  it("I4: a dead peer is never noticed", function ()
    local deaf = function () return true end
    local host = Host.new { plan = { beat = { every = 10000 } }, on = { beat = deaf, ping = deaf } }
    local bot = host:up()
    host.e:plant "I4"
    host:run(600000)
    assert.equal("up", host:view(bot).state)
  end)

  it("I5: a quiet link is ended although its bytes prove it alive", function ()
    local host = Host.new {}
    local bot = host:up()
    host.e:plant "I5"
    host:run(600000)
    assert.is_true(host:view(bot).generation > 1)
    assert.equal("silence", host:view(bot).cause.kind)
  end)

  it("I6: it gives up without a fatal cause", function ()
    local host = Host.new { on = { prepare = function (h, f)
      h:later(1, function () h:event("attempt failed", f.conn, f.generation, { cause = { kind = "call" } }) end)
      return true
    end } }
    host.e:plant "I6"
    local bot = host:add()
    host:start(bot)
    host:run(600000)
    assert.equal("stopped", host:view(bot).state)
  end)
end)
