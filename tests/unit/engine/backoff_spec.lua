local engine = require "unit.engine"
local Host = require "engine_host"

describe("backoff", function ()
  it("doubles its bound from first to most", function ()
    local plan, bounds = engine.plan {}, {}
    for i = 1, 9 do bounds[i] = (engine.backoff(plan, i)) end
    assert.same({ 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000 }, bounds)
    assert.equal(60000, (engine.backoff(plan, 4000000000)))
  end)

  it("climbs sixty-three steps at most, however small they are", function ()
    local plan = engine.plan { backoff = { factor = 1.01, first = 100000, most = 1e9 } }
    local function rung(steps) return math.floor(100000 * 1.01 ^ steps) end
    for n, steps in pairs { [1] = 0, [2] = 1, [63] = 62, [64] = 63, [65] = 63, [66] = 63, [1000] = 63 } do
      assert.is_true(math.abs(engine.backoff(plan, n) - rung(steps)) <= 1, n)
    end
  end)

  it("draws full jitter from nothing to the bound, equal jitter from its half", function ()
    local full, equal = engine.plan {}, engine.plan { backoff = { jitter = "equal" } }
    local low, high = math.huge, 0
    for i = 1, 500 do
      local _, ms = engine.backoff(full, 5, i)
      low, high = math.min(low, ms), math.max(high, ms)
      local _, half = engine.backoff(equal, 5, i)
      assert.is_true(half >= 8000 and half <= 16000)
    end
    assert.is_true(low < 800 and high > 15200 and high <= 16000)
  end)

  it("stays sane with nonsense numbers", function ()
    for _, factor in ipairs { 0, -1, 0 / 0, 1e308, math.huge } do
      local plan = engine.plan { backoff = { factor = factor, first = 0, most = 0 } }
      for _, n in ipairs { 0, 1, 2, 70 } do assert.equal(0, (engine.backoff(plan, n))) end
      local wild = engine.plan { backoff = { factor = factor } }
      for _, n in ipairs { 1, 2, 70 } do
        local bound = engine.backoff(wild, n)
        assert.is_true(bound >= 1000 and bound <= 60000)
      end
    end
  end)

  it("keeps the slow ladder inside a span of its own", function ()
    local plan = engine.plan {}
    for i = 1, 200 do
      assert.is_true(engine.slow(plan, 1, i) >= 30000 and engine.slow(plan, 1, i) <= 60000)
      local ms = engine.slow(plan, i, i, 30000, 600000)
      assert.is_true(ms >= 30000 and ms <= 600000)
    end
  end)
end)

describe("the wait before the next attempt", function ()
  local function failing(plan, cause, seed)
    local host = Host.new { plan = plan, seed = seed, on = {
      prepare = function (h, f)
        h:later(1, function () h:event("attempt failed", f.conn, f.generation, { cause = cause }) end)
        return true
      end } }
    local bot = host:add()
    host:start(bot)
    return host, bot
  end

  it("grows with each failure, and never falls below the floor", function ()
    local host, bot = failing({}, { kind = "call", stage = "preparing" })
    host:run(600000)
    local decisions = host:effects "journal"
    for i, f in ipairs(decisions) do
      local d = f.decision
      assert.equal(i, d.attempt)
      assert.is_true(d.delay >= 250 and d.delay <= math.max(250, math.min(60000, 1000 * 2 ^ (i - 1))))
    end
    assert.is_true(#decisions > 10 and #decisions < 60)
    assert.same({}, host.violations)
    assert.equal("waiting", host:view(bot).state == "preparing" and "waiting" or host:view(bot).state)
  end)

  it("is the same for the same seed, and another for another", function ()
    local function delays(seed)
      local host, found = failing({}, { kind = "call" }, seed), {}
      host:run(100000)
      for i, f in ipairs(host:effects "journal") do found[i] = f.decision.delay end
      return found
    end
    assert.same(delays(3), delays(3))
    assert.not_same(delays(3), delays(4))
  end)

  it("never comes before retry_after, and little after it", function ()
    local host = failing({ classify = { { http = 429, retry_after = true, otherwise = { 30000, 30000 }, counts = false } } },
      { kind = "failed", http = 429, retry_after = 64570 })
    host:run(200000)
    local d = host:effects("journal")[1].decision
    assert.is_true(d.delay >= 64570 and d.delay <= 64570 * 1.05)
    assert.equal(0, d.attempt)
    assert.is_true(host.conns[next(host.conns)].prepares[2] - host.conns[next(host.conns)].prepares[1] >= 64570)
  end)

  it("spreads those that retry_after sends away together over a twentieth of it", function ()
    local least, most = math.huge, 0
    for seed = 1, 60 do
      local host = failing({ classify = { { http = 429, retry_after = true, counts = false } } },
        { kind = "failed", http = 429, retry_after = 100000 }, seed)
      host:run(500000)
      for _, f in ipairs(host:effects "journal") do
        least, most = math.min(least, f.decision.delay), math.max(most, f.decision.delay)
      end
    end
    assert.is_true(least >= 100000 and least < 100100, least)
    assert.is_true(most <= 105000 and most > 104800, most)
  end)

  it("clamps a retry_after to a day, and a tiny one to the floor", function ()
    local rows = { classify = { { any = true, retry_after = true, counts = false } } }
    local host = failing(rows, { kind = "failed", retry_after = 1e15 })
    host:run(1000)
    assert.is_true(host:last("journal").decision.delay <= 86400000 * 1.05)
    host = failing(rows, { kind = "failed", retry_after = 0 })
    host:run(10000)
    assert.is_true(host:last("journal").decision.delay >= 250)
    assert.same({}, host.violations)
  end)

  it("uses otherwise where the peer gave no retry_after", function ()
    local host = failing({ classify = { { http = 429, retry_after = true, otherwise = { 60000, 60000 }, counts = false } } },
      { kind = "failed", http = 429 })
    host:run(1000)
    assert.equal(60000, host:last("journal").decision.delay)
  end)

  it("waits two days at most, whatever a rule asks for", function ()
    local days = 24 * 3600 * 1000
    local host = failing({ classify = { { any = true, delay = { 30 * days, 30 * days }, counts = false } } }, { kind = "call" })
    host:run(1000)
    assert.equal(2 * days, host:last("journal").decision.delay)
  end)

  it("cannot be talked into a tight loop by a rule that says zero", function ()
    local host = failing({ classify = { { any = true, delay = { 0, 0 }, counts = false } } }, { kind = "call" })
    host:run(60000)
    assert.is_true(#host:effects "prepare" <= 240)
    assert.same({}, host.violations)
    assert.is_true(host:last("journal").decision.clamped)
  end)

  it("takes a rule's delay from below by the backoff once there were failures", function ()
    local host = failing({ backoff = { jitter = "none" }, classify = { { any = true, delay = { 0, 0 } } } }, { kind = "call" })
    host:run(200000)
    local delays = {}
    for i, f in ipairs(host:effects "journal") do delays[i] = f.decision.delay end
    assert.same({ 1000, 2000, 4000, 8000 }, { delays[1], delays[2], delays[3], delays[4] })
  end)

  it("is skipped by an operator's start, but not the floor", function ()
    local host, bot = failing({ backoff = { jitter = "none", first = 60000 } }, { kind = "call" })
    host:run(100)
    assert.equal("waiting", host:view(bot).state)
    host:start(bot)
    assert.equal(host.conns[bot].prepares[1] + 250, host:view(bot).deadline)
    host:run(300)
    assert.equal(2, #host.conns[bot].prepares)
    assert.same({}, host.violations)
  end)

  it("starts again from the first step only after the link settled", function ()
    local host = Host.new { plan = { backoff = { jitter = "none", settle = 60000 } } }
    local bot = host:up()
    local function drop()
      host:event("peer closed", bot, host:view(bot).generation, { cause = { kind = "eof" } })
      local d = host:last("journal").decision
      host:run(d.delay + 100)
      assert.equal("up", host:view(bot).state)
      return d.delay
    end
    assert.same({ 1000, 2000, 4000 }, { drop(), drop(), drop() })
    host:run(60000)
    assert.equal(1, #host:effects "settled")
    assert.equal(0, host:view(bot).failed)
    assert.equal(1000, drop())
  end)
end)
