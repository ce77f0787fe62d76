-- What an account remembers, and for how long: entries, the platform's own figures, lanes.
local Host = require "engine_host"
local engine = require "unit.engine"

local WALL = 1700000000000
local HOUR = 3600000

local function plan(budgets) return { session = { replay = "session" }, budgets = budgets } end
local function left(host, bot, kind) return host.e:budget(bot, kind or "start", host:clock()).left end
local function many(host, first, last)
  for account = first, last do
    assert.is_true(host.e:restore { account = account, budget = "start", same_boot = true, boot = host.now - 1000, at = host:clock() })
  end
end

describe("an account that nobody has", function ()
  it("keeps what it used while that can count, however many other accounts come", function ()
    local host = Host.new { plan = plan { start = { windows = { { 3, 2 * HOUR } } } }, now = 1e7 }
    local bot = host:add { account = 7, name = "a", identity = 1 }
    host.e:restore { account = 7, budget = "start", same_boot = true, boot = host.now - 10, at = host:clock() }
    assert.equal(2, left(host, bot))
    host:event("remove requested", bot)
    host.now = host.now + HOUR
    many(host, 1000, 1200)
    bot = host:add { account = 7, name = "b", identity = 2 }
    assert.equal(2, left(host, bot))
  end)

  it("keeps it to the last millisecond, also where only a gap between two uses is asked for, or the longest window is not the last", function ()
    for _, budget in ipairs { { gap = HOUR }, { windows = { { 5, 1000 } }, gap = HOUR }, { windows = { { 1, HOUR }, { 1, 1000 } } },
                              { windows = { { 1, 1000 }, { 1, HOUR } } } } do
      local free_after = budget.gap or HOUR + 1
      for _, early in ipairs { 1, 0 } do
        local host = Host.new { plan = plan { call = budget }, now = 1e7 }
        local bot = host:add { account = 7, name = "a", identity = 1 }
        assert.is_true((host.e:call(bot, host:clock())))
        host:event("remove requested", bot)
        host.now = host.now + free_after - early
        host:event("start requested", host:add { account = 5, name = "c", identity = 3 })
        many(host, 1000, 1200) -- the table of them grows, and who can be forgotten is
        bot = host:add { account = 7, name = "b", identity = 2 }
        assert.same({ early == 0, early }, { host.e:call(bot, host:clock()) })
      end
    end
  end)

  it("keeps the platform's figures until their reset", function ()
    local host = Host.new { plan = plan { start = { windows = { { 3, HOUR } } } }, now = 1e7 }
    host.e:restore_told { account = 7, budget = "start", left = 1, same_boot = true, until_boot = host.now + HOUR, at = host:clock() }
    many(host, 1000, 1200)
    local bot = host:add { account = 7 }
    assert.equal(1, left(host, bot))
  end)

  it("is one of many, and each keeps its own", function ()
    local host = Host.new { plan = plan { start = { windows = { { 3, HOUR } } } }, now = 1e7 }
    for account = 1, 60 do
      for _ = 1, account % 3 do
        host.e:restore { account = account * 1000, budget = "start", same_boot = true, boot = host.now - 10, at = host:clock() }
      end
    end
    for account = 1, 60 do
      local bot = host:add { account = account * 1000, name = "b" .. account, identity = account }
      assert.equal(3 - account % 3, left(host, bot))
    end
  end)

  it("is forgotten when nothing of it can count any more, so that accounts do not pile up", function ()
    local host = Host.new { plan = plan { start = { windows = { { 3, HOUR } } }, call = { windows = { { 5, 1000 } } } }, now = 1e7 }
    for i = 1, 400 do
      local bot = host:add { account = i + 10, name = "b" .. i, identity = i }
      assert.equal(3, left(host, bot))
      for _ = 1, i % 4 do host.e:call(bot, host:clock()) end
      if i % 3 == 0 then host:event("budget told", bot, 0, { budget = "start", left = 2, reset = 500 }) end
      host:event("remove requested", bot)
      host.now = host.now + 2000
    end
    assert.is_true(host.e:accounts() < 200, host.e:accounts()) -- looked at when the table of them grows
  end)

  it("is kept while somebody has it, and while it cannot be known how long its entries count", function ()
    local host = Host.new { plan = plan { start = { windows = { { 3, HOUR } } } }, now = 1e7 }
    host:add { account = 1 }
    host.e:restore { account = 2, budget = "start", same_boot = true, boot = host.now - 1000, at = host:clock() }
    for i = 1, 100 do
      local bot = host:add { account = i + 10, name = "b" .. i, identity = i }
      host:event("remove requested", bot)
      host.now = host.now + 24 * HOUR
    end
    local long = engine.plan(plan { start = { windows = { { 3, 300 * 24 * HOUR } } } })
    assert.equal(2, left(host, (host:add { account = 2, name = "late", identity = 5000, plan = long })))
  end)
end)

describe("a ledger", function ()
  it("finds the moment when each place of its window is free again", function ()
    local host = Host.new { plan = plan { call = { windows = { { 4, 60000 } } } }, now = 1e6 }
    local bot = host:add()
    local used = {}
    for i = 1, 30 do
      local free, wait = host.e:call(bot, host:clock())
      local oldest = used[#used - 3]
      if oldest and host.now - oldest <= 60000 then
        assert.same({ false, oldest + 60001 - host.now }, { free, wait }, i)
        host.now = oldest + 60001
        assert.is_true((host.e:call(bot, host:clock())))
      else
        assert.is_true(free, i)
      end
      used[#used + 1] = host.now
      host.now = host.now + 7000 * (i % 5)
    end
  end)

  it("holds all windows at once, of which the longest wait counts", function ()
    local host = Host.new { plan = plan { call = { windows = { { 2, 1000 }, { 3, 60000 } } } }, now = 1e6 }
    local bot = host:add()
    local waits = {}
    for i = 1, 4 do
      local free, wait = host.e:call(bot, host:clock())
      waits[i] = free and 0 or wait
      if not free then host.now = host.now + wait; host.e:call(bot, host:clock()) end
    end
    assert.same({ 0, 0, 1001, 60001 - 1001 }, waits)
  end)

  it("that was restored in any order is as if it had been used in its own", function ()
    for _, order in ipairs { { 1, 2, 3, 4, 5 }, { 5, 3, 1, 4, 2 } } do
      for _, first in ipairs { "restored", "there" } do -- a connection of the account may be there already
        local host = Host.new { plan = plan { call = { windows = { { 5, 60000 } } } }, now = 1e6 }
        local bot = first == "there" and host:add()
        for _, i in ipairs(order) do
          host.e:restore { account = 7, budget = "call", same_boot = true, boot = host.now - i * 1000, at = host:clock() }
        end
        bot = bot or host:add()
        local free, wait = host.e:call(bot, host:clock())
        assert.same({ false, 60001 - 5000 }, { free, wait })
      end
    end
  end)

  it("keeps the newest of more than it can hold", function ()
    local host = Host.new { plan = plan { call = { windows = { { 4000, 2 * HOUR } } } }, now = 1e8 }
    for i = 1, 9000 do
      local ago = (i * 7919) % 9000 -- in no order
      assert.is_true(host.e:restore { account = 7, budget = "call", same_boot = true, boot = host.now - 1000 - ago, at = host:clock() })
    end
    local bot = host:add()
    local view = host.e:budget(bot, "call", host:clock())
    assert.same({ 0, 4096 }, { view.left, view.used })
    -- 4096 are held; 97 of the oldest must leave the window before one more fits.
    local _, wait = host.e:call(bot, host:clock())
    assert.equal(2 * HOUR + 1 - 1000 - (4096 - 97), wait)
  end)

  it("does not restore what belongs to one link alone", function ()
    local host = Host.new { plan = plan { send = { windows = { { 5, 60000 } } } }, now = 1e6 }
    assert.is_false(host.e:restore { account = 7, budget = "send", same_boot = true, boot = host.now, at = host:clock() })
    assert.is_false(host.e:restore_told { account = 7, budget = "send", left = 0, same_boot = true, until_boot = 2e6, at = host:clock() })
  end)

  it("takes what is older than any window for over, and one of the longest for used", function ()
    local year = 365 * 24 * HOUR
    local host = Host.new { plan = plan { call = { windows = { { 5, year } } } }, now = 2e11 }
    local function restore(ago) host.e:restore { account = 7, budget = "call", same_boot = true, boot = host.now - ago, at = host:clock() } end
    restore(year)
    restore(year + 1)
    restore(2 * year)
    local bot = host:add()
    assert.equal(1, host.e:budget(bot, "call", host:clock()).used)
  end)
end)

describe("calls", function ()
  it("are of the account: what one connection used, the other waits for, and a gap lies between two", function ()
    local host = Host.new { plan = plan { call = { windows = { { 100, HOUR } }, gap = 2000 } }, now = 1e6 }
    local a, b = host:add { name = "a", identity = 1 }, host:add { name = "b", identity = 2 }
    assert.same({ true, 0 }, { host.e:call(a, host:clock()) })
    assert.same({ false, 2000 }, { host.e:call(b, host:clock()) })
    host.now = host.now + 1999
    assert.same({ false, 1 }, { host.e:call(b, host:clock()) })
    host.now = host.now + 1
    assert.same({ true, 0 }, { host.e:call(b, host:clock()) })
  end)

  it("are free where no budget is, and for a connection that is gone", function ()
    local host = Host.new { plan = {}, now = 1e6 }
    local bot = host:add()
    for _ = 1, 100 do assert.same({ true, 0 }, { host.e:call(bot, host:clock()) }) end
    host:event("remove requested", bot)
    assert.same({ true, 0 }, { host.e:call(bot, host:clock()) })
  end)

  it("use up what the platform said is left, until its reset", function ()
    local host = Host.new { plan = plan { call = { windows = { { 100, HOUR } } } }, now = 1e6 }
    local bot = host:add()
    host:event("budget told", bot, 0, { budget = "call", left = 3, reset = 30000 })
    for want = 2, 0, -1 do
      assert.is_true((host.e:call(bot, host:clock())))
      assert.equal(want, left(host, bot, "call"))
    end
    assert.same({ false, 30000 }, { host.e:call(bot, host:clock()) })
    host.now = host.now + 29999
    assert.same({ false, 1 }, { host.e:call(bot, host:clock()) })
    host.now = host.now + 1
    assert.equal(97, left(host, bot, "call"))
    assert.is_true((host.e:call(bot, host:clock())))
  end)
end)

describe("figures that the platform tells", function ()
  local function told(fields)
    local host = Host.new { plan = plan { start = { windows = { { 100, HOUR } } }, send = { windows = { { 100, HOUR } } } }, now = 1e6 }
    local bot = host:add()
    fields.budget = fields.budget or "start"
    host:event("budget told", bot, 0, fields)
    return host, bot
  end

  it("without a reset hold for five seconds, and for no more than a month whatever it says", function ()
    local host, bot = told { left = 0 }
    assert.equal(host.now + 5000, host.e:budget(bot, "start", host:clock()).next)
    host, bot = told { left = 0, reset = 90 * 24 * HOUR }
    assert.equal(host.now + 31 * 24 * HOUR, host.e:budget(bot, "start", host:clock()).next)
    host, bot = told { left = 0, reset = 1 }
    assert.equal(host.now + 1, host.e:budget(bot, "start", host:clock()).next)
  end)

  it("bound what may be used, and never widen it", function ()
    local host, bot = told { left = 7, reset = 60000 }
    assert.equal(7, left(host, bot))
    host, bot = told { left = 1000, reset = 60000 }
    assert.equal(100, left(host, bot))
  end)

  it("that say nothing of what is left change nothing but lanes", function ()
    local host, bot = told { left = -1, reset = 60000, lanes = 4 }
    assert.equal(100, left(host, bot))
    host:event("budget told", bot, 0, { budget = "start", left = 5, reset = 60000 })
    host:event("budget told", bot, 0, { budget = "start", lanes = 8 })
    assert.equal(5, left(host, bot))
  end)

  it("about sends hold them for the reset, five seconds without one, a day at most, and only when none are left", function ()
    for _, case in ipairs { { 0, 30000, 30000 }, { 0, 0, 5000 }, { 0, 9e9, 24 * HOUR }, { 1, 30000, 0 } } do
      local host = Host.new { plan = {} }
      local bot = host:up()
      host:event("budget told", bot, 0, { budget = "send", left = case[1], reset = case[2] })
      local from = host.now
      host:event("send requested", bot, 0, { send_id = 1 })
      host:run(case[3] + 10, function () return #host:effects "send" == 1 end)
      assert.equal(case[3], host:last("send").at - from)
    end
  end)
end)

describe("the share for people", function ()
  it("is at least one of two or more, at most half, and nothing of one", function ()
    for _, case in ipairs { { 1, 0.5, 1 }, { 2, 0.01, 1 }, { 20, 0.1, 18 }, { 20, 0.9, 10 }, { 20, 0.5, 10 }, { 20, 0, 20 }, { 3, 0.5, 2 } } do
      local host = Host.new { plan = plan { start = { windows = { { case[1], HOUR } }, operators = case[2] } }, now = 1e6 }
      local bot = host:add()
      local view = host.e:budget(bot, "start", host:clock())
      assert.same({ case[3], case[1] }, { view.left, view.reserve_left }, case[1] .. " " .. case[2])
    end
  end)
end)

describe("an attempt that goes back to the queue", function ()
  it("keeps the right to the share for people that an operator gave it", function ()
    local p = plan { start = { windows = { { 20, HOUR } }, operators = 0.1 } }
    local host = Host.new { plan = p, now = 1e7, on = { prepare = function () return true end } }
    for i = 1, 18 do host.e:restore { account = 7, budget = "start", same_boot = true, boot = host.now - i * 1000, at = host:clock() } end
    local bot = host:add()
    host:event("start requested", bot, 0, { spend_reserve = true })
    assert.equal(1, #host:effects "prepare")
    host:event("budget told", bot, 0, { budget = "start", left = 0, reset = 20000 })
    host:event("prepared", bot, 1)
    assert.same({ "queued", host.now + 20000 }, { host:view(bot).state, host:view(bot).deadline })
    host:run(20100)
    assert.equal(2, #host:effects "prepare")
  end)
end)

describe("a permit", function ()
  it("is shown while an attempt holds it, and no longer", function ()
    local host = Host.new { plan = plan { start = { windows = { { 20, HOUR } } } }, on = { dial = function () return true end } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    assert.is_true(host:view(bot).start_permit)
    host:event("dial failed", bot, 1, { cause = { kind = "refused", stage = "connecting" } })
    assert.is_false(host:view(bot).start_permit)
  end)
end)

describe("a session", function ()
  it("whose beginning is not known is not too old for that", function ()
    local host = Host.new { plan = { session = { life = 60000 }, budgets = { start = { windows = { { 5, HOUR } } } } } }
    host:up { session = true }
    assert.is_false(host:effects("prepare")[1].needs_start)
    host = Host.new { plan = { session = { life = 60000 }, budgets = { start = { windows = { { 5, HOUR } } } } }, now = 100000 }
    local bot = host:add { session = true, session_begun = WALL + 100000 - 60001 }
    host:start(bot)
    assert.is_true(host:effects("prepare")[1].needs_start)
  end)

  it("that grows too old while its attempt prepares is dropped before the dial", function ()
    local host = Host.new { plan = { session = { age = 20000 } }, on = { prepare = function () return true end } }
    local bot = host:add { session = true, session_saved = WALL + 1000 }
    host:start(bot)
    host:run(15000)
    assert.is_true(host:view(bot).session_present)
    host:run(6000)
    host:event("prepared", bot, 1)
    assert.same({ false, 1 }, { host:view(bot).session_present, #host:effects "drop session" })
  end)
end)

describe("a pause after a failure", function ()
  local function pause(rows, cause, seed) return engine.pause(engine.plan { classify = rows }, cause, seed) end

  it("is what the row of the failure says", function ()
    local call = { kind = "failed", http = 500 }
    assert.equal(0, pause({}, call))
    assert.equal(7000, pause({ { http = 500, delay = { 7000, 7000 } } }, call))
    assert.is_nil(pause({ { http = 500, pace = "stop" } }, call))
    assert.equal(9000, pause({ { http = 500, retry_after = true, otherwise = { 9000, 9000 } } }, call))
    call.retry_after = 12345
    assert.equal(12345, pause({ { http = 500, retry_after = true, otherwise = { 9000, 9000 }, delay = { 1, 1 } } }, call))
    assert.equal(7000, pause({ { http = 500, delay = { 7000, 7000 } } }, call))
    call.retry_after = 1e12
    assert.equal(24 * HOUR, pause({ { http = 500, retry_after = true } }, call))
  end)

  it("is drawn from what the row leaves open", function ()
    local low, high = math.huge, 0
    for seed = 1, 200 do
      local ms = pause({ { any = true, delay = { 1000, 5000 } } }, { kind = "call" }, seed)
      low, high = math.min(low, ms), math.max(high, ms)
    end
    assert.is_true(low >= 1000 and low < 1200 and high <= 5000 and high > 4800)
  end)

  it("of a slow row is a slow one, or what the row says where that is longer", function ()
    for seed = 1, 20 do
      local ms = pause({ { any = true, pace = "slow" } }, { kind = "call" }, seed)
      assert.is_true(ms >= 30000 and ms <= 60000)
      assert.equal(90000, pause({ { any = true, pace = "slow", delay = { 90000, 90000 } } }, { kind = "call" }, seed))
      assert.is_true(pause({ { any = true, pace = "slow", delay = { 10, 10 } } }, { kind = "call" }, seed) >= 30000)
      ms = pause({ { any = true, pace = "slow", pace_span = { 8000, 9000 } } }, { kind = "call" }, seed)
      assert.is_true(ms >= 8000 and ms <= 9000)
    end
  end)
end)
