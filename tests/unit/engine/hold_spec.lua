-- An attempt that is held back because its host answers nobody, and let go when it answers somebody.
local Host = require "engine_host"

local function waiting(more, seed)
  local plan = { backoff = { jitter = "none", first = 1000, most = 60000 } }
  for k, v in pairs(more or {}) do plan[k] = v end
  local host = Host.new { plan = plan, seed = seed }
  local bot = host:up()
  host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
  host:run(50)
  assert.equal("waiting", host:view(bot).state)
  return host, bot, host:view(bot).deadline
end

describe("holding back", function ()
  it("puts the attempt off into the later half of what its plan may wait, and not twice", function ()
    local low, high = math.huge, 0
    for seed = 1, 60 do
      local host, bot, first = waiting(nil, seed)
      host:event("held back", bot)
      local later = host:view(bot).deadline
      local most = first - 1000 + 60000 + 3000 + 250 -- the longest backoff, a twentieth of it for jitter, the floor
      assert.is_true(later >= first + (most - first) / 2 and later <= most, later - first)
      assert.is_true(host:view(bot).held)
      low, high = math.min(low, later - first), math.max(high, later - first)
      host:event("held back", bot)
      assert.equal(later, host:view(bot).deadline)
    end
    assert.is_true(low < 34500 and high > 60500, low .. " " .. high)
  end)

  it("keeps nobody longer than five minutes, even if a rule of the plan may wait for an hour", function ()
    local low, high = math.huge, 0
    for seed = 1, 60 do
      local host, bot, first = waiting({ classify = { { close = 4999, delay = { 0, 3600000 } } } }, seed)
      host:event("held back", bot)
      low, high = math.min(low, host:view(bot).deadline - first), math.max(high, host:view(bot).deadline - first)
    end
    assert.is_true(low >= 149000 and low < 170000 and high <= 299000 and high > 290000, low .. " " .. high)
  end)

  it("moves only who waits to dial", function ()
    local host, bot, first = waiting()
    host:event("stop requested", bot)
    host:event("held back", bot)
    host:run(10)
    assert.same({ "stopped", false }, { host:view(bot).state, host:view(bot).held })
    host = Host.new {}
    bot = host:up()
    local deadline = host:view(bot).deadline
    host:event("held back", bot)
    assert.same({ "up", false, deadline }, { host:view(bot).state, host:view(bot).held, host:view(bot).deadline })
    -- One that is due now is not held: its dial is already on its way.
    host, bot, first = waiting()
    host.now = first
    host:event("held back", bot)
    assert.is_false(host:view(bot).held)
  end)

  it("moves nobody who waits for a budget, and no planned return", function ()
    local host = Host.new { plan = { backoff = { jitter = "none" }, budgets = { dial = { windows = { { 1, 600000 } } } } } }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(5000)
    local deadline = host:view(bot).deadline
    assert.equal("queued", host:view(bot).state)
    host:event("held back", bot)
    assert.same({ deadline, false }, { host:view(bot).deadline, host:view(bot).held })

    host = Host.new { plan = { backoff = { settle = 1000 }, classify = { { cause = "reconnect", planned = true, delay = { 5000, 5000 } } } } }
    bot = host:up()
    host:run(2000)
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "reconnect" } })
    host:run(100)
    deadline = host:view(bot).deadline
    host:event("held back", bot)
    assert.same({ "waiting", deadline, false }, { host:view(bot).state, host:view(bot).deadline, host:view(bot).held })
  end)

  it("moves nobody whose successor is on its way, though the ending asked for a wait as well", function ()
    local host = Host.new { plan = { overlap = 1, backoff = { settle = 1000 },
      classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } }, { close = 4002, pace = "slow" } } } }
    local bot = host:up()
    host:run(2000)
    host.on.prepare = function () return true end
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "reconnect" } })
    host:run(100)
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 4002 } })
    assert.same({ "preparing", "slow" }, { host:view(bot).state, host:view(bot).decision.pace })
    host:event("held back", bot)
    assert.is_false(host:view(bot).held)
  end)

  it("lasts until the attempt, and the next wait may be held anew", function ()
    local host, bot = waiting()
    host:event("held back", bot)
    host:run(70000)
    assert.same({ "up", false }, { host:view(bot).state, host:view(bot).held })
    host:event("peer closed", bot, 2, { cause = { kind = "eof" } })
    host:run(50)
    host:event("held back", bot)
    assert.is_true(host:view(bot).held)
  end)
end)

describe("letting go", function ()
  it("dials within what was asked for, not before the time that was decided, and spread", function ()
    local low, high = math.huge, 0
    for seed = 1, 60 do
      local host, bot, first = waiting(nil, seed)
      host:event("held back", bot)
      local from = first + 500
      host.now = from
      host:event("let go", bot, 0, { within = 4000 })
      local at = host:view(bot).deadline
      assert.is_true(at >= from and at <= from + 4000)
      assert.is_false(host:view(bot).held)
      low, high = math.min(low, at - from), math.max(high, at - from)
    end
    assert.is_true(low < 400 and high > 3600)
    local host, bot, first = waiting()
    host:event("held back", bot)
    host:event("let go", bot, 0, { within = 0 })
    assert.equal(first, host:view(bot).deadline)
  end)

  it("makes nobody wait longer, and moves nobody who was not held", function ()
    for seed = 1, 20 do
      local host, bot, first = waiting(nil, seed)
      host:event("let go", bot, 0, { within = 1 })
      assert.equal(first, host:view(bot).deadline)
      host:event("held back", bot)
      local later = host:view(bot).deadline
      host:event("let go", bot, 0, { within = 1e9 })
      assert.is_true(host:view(bot).deadline <= later)
    end
  end)

  it("does nothing for who was stopped or went for a budget meanwhile", function ()
    local host, bot = waiting()
    host:event("held back", bot)
    host:event("stop requested", bot)
    host:event("let go", bot, 0, { within = 10 })
    host:run(1000)
    assert.same({ "stopped", 1 }, { host:view(bot).state, #host:effects "dial" })
  end)

  it("does nothing for who went for a budget by an operator's start", function ()
    local host = Host.new { plan = { backoff = { jitter = "none", first = 5000 }, budgets = { dial = { windows = { { 1, 600000 } } } } } }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(1000)
    host:event("held back", bot)
    assert.is_true(host:view(bot).held)
    host:start(bot)
    assert.equal("queued", host:view(bot).state)
    local deadline = host:view(bot).deadline
    host:event("let go", bot, 0, { within = 10 })
    assert.same({ "queued", deadline, false }, { host:view(bot).state, host:view(bot).deadline, host:view(bot).held })
    host:run(10000)
    assert.equal("queued", host:view(bot).state)
  end)

  it("is over with an operator's restart of what came up in between", function ()
    local host, bot = waiting()
    host:event("held back", bot)
    host:run(70000)
    host:event("restart requested", bot)
    assert.is_false(host:view(bot).held)
  end)

  it("is over with an operator's start, which dials at once", function ()
    local host, bot = waiting()
    host:event("held back", bot)
    host:start(bot)
    host:run(1000)
    assert.same({ "up", false }, { host:view(bot).state, host:view(bot).held })
  end)
end)
