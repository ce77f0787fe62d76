local Host = require "engine_host"

local plan = {
  overlap = 1, backoff = { settle = 10000 }, limits = { drain = 30000 },
  classify = { { cause = "reconnect", planned = true, delay = { 0, 500 } }, { close = 4004, pace = "stop" } },
}
local function with(more)
  local p = {}
  for k, v in pairs(plan) do p[k] = v end
  for k, v in pairs(more) do p[k] = v end
  return p
end
local function settled(host, fields)
  local bot = host:up(fields)
  host.conns[bot].handover = true
  host:run(11000)
  return bot
end
local function announce(host, bot, generation)
  host:event("ending announced", bot, generation, { cause = { kind = "ended", name = "reconnect" } })
end
local function states(host, bot)
  local found = {}
  for i, l in ipairs(host:view(bot).links) do found[i] = l.generation .. " " .. l.state end
  return found
end

describe("a handover", function ()
  it("makes the new link ready first, then drains and closes the old one", function ()
    local host = Host.new { plan = plan }
    local bot = settled(host)
    announce(host, bot, 1)
    assert.same({ "up", { "1 ready" } }, { host:view(bot).state, states(host, bot) })
    host:run(1000)
    assert.same({ "up", { "2 ready", "1 draining" } }, { host:view(bot).state, states(host, bot) })
    assert.equal(0, #host:effects "close")
    assert.equal(0, #host:effects "gap")
    local from = host:effects("ready")[2].at
    host:run(40000, function () return #host:effects "close" > 0 end)
    assert.same({ 1, 4000, 30000 }, { host:last("close").generation, host:last("close").code, host:last("close").at - from })
    host:run(1000)
    assert.same({ "2 ready" }, states(host, bot))
    assert.same({ "preparing", "linking", "up" }, host.conns[bot].states)
    assert.equal(0, host:view(bot).failed)
    assert.same({}, host.violations)
  end)

  it("leaves a draining link to the peer for as long as its announcement may wait, and closes it then", function ()
    for _, case in ipairs { { 0, 0 }, { 5000, 5000 } } do
      local host = Host.new { plan = plan }
      local bot = settled(host)
      announce(host, bot, 1)
      host:run(1000)
      host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "reconnect" }, wait = case[1] })
      local from = host.now
      host:run(20000, function () return #host:effects "close" == 1 end)
      assert.equal(case[2], host:last("close").at - from)
      host:run(1000)
      assert.same({ "up", { "2 ready" } }, { host:view(bot).state, states(host, bot) })
      assert.same({}, host.violations)
    end
    local host = Host.new { plan = plan }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000)
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "reconnect" }, wait = 5000 })
    host:run(2000)
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1000 } })
    host:run(1000)
    assert.same({ "up", { "2 ready" }, 0 }, { host:view(bot).state, states(host, bot), host:view(bot).failed })
    assert.same({}, host.violations)
  end)

  it("lets a hook acknowledge on the old link while it drains, and nobody else send there", function ()
    local host = Host.new { plan = plan }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000)
    host:event("send requested", bot, 1, { send_id = 8, by = "hook" })
    assert.same({ 8, 1 }, { host:last("send").send_id, host:last("send").generation })
    host:event("send requested", bot, 1, { send_id = 9, by = "greeting" })
    assert.equal("link ended", host:last("refuse").why)
    host:event("send requested", bot, 0, { send_id = 10, by = "consumer" })
    assert.same({ 10, 2 }, { host:last("send").send_id, host:last("send").generation })
  end)

  -- The place in the queue once outlived the verdict: the successor began as soon as the budget allowed.
  it("whose successor waits for a budget keeps to the slow pace that the old link's close code asks for", function ()
    local host = Host.new { plan = with { budgets = { start = { windows = { { 1, 15000 } } } }, slow = { first = 60000, most = 60000 },
      classify = { { cause = "reconnect", planned = true, delay = { 0, 500 } }, { close = 4002, pace = "slow" } } } }
    local bot = host:add()
    host.on.greet = function (h, f)
      h:event("send requested", f.conn, f.generation, { send_id = 1, by = "greeting", starts = true })
      return false
    end
    host:start(bot)
    host:run(11000)
    announce(host, bot, 1)
    host:run(1000)
    assert.equal(1, #host.conns[bot].prepares) -- it is queued
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 4002 } })
    local from = host.now
    assert.equal("slow", host:last("journal").decision.pace)
    host:run(120000)
    assert.is_true(host.conns[bot].prepares[2] - from >= 30000, host.conns[bot].prepares[2] - from)
    assert.equal("up", host:view(bot).state)
    assert.same({}, host.violations)
  end)

  it("whose successor goes back to the queue keeps to it as well", function ()
    local host = Host.new { plan = with { session = { replay = "none" }, budgets = { start = { windows = { { 1, 15000 } } } }, slow = { first = 60000, most = 60000 },
      classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } }, { close = 4002, pace = "slow" } } } }
    local bot = host:add { session = true }
    host:start(bot)
    host:run(11000)
    host.on.prepare = function () return true end
    announce(host, bot, 1)
    host:run(1000)
    assert.equal(2, #host.conns[bot].prepares)
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 4002 } })
    local from = host.now
    -- Without a session it needs a start, and the platform says that there is none left.
    host:event("session changed", bot, 0, { present = false })
    host:event("budget told", bot, 0, { budget = "start", left = 0, reset = 5000 })
    host:event("prepared", bot, 2)
    host.on.prepare = nil
    host:run(120000)
    assert.is_true(host.conns[bot].prepares[3] - from >= 30000, host.conns[bot].prepares[3] - from)
    assert.equal("up", host:view(bot).state)
    assert.same({}, host.violations)
  end)

  it("does not happen where the policy allows no overlap: close, then dial", function ()
    local host = Host.new { plan = with { overlap = 0 } }
    local bot = settled(host)
    host.conns[bot].handover = false
    announce(host, bot, 1)
    assert.equal("closing", host:view(bot).state)
    host:run(1000)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).generation })
    assert.same({}, host.violations)
  end)

  it("happens once however often the platform asks", function ()
    local host = Host.new { plan = plan }
    local bot = settled(host)
    for _ = 1, 5 do announce(host, bot, 1) end
    host:run(1000)
    assert.equal(2, #host:effects "dial")
    assert.equal(1, #host:effects "journal")
  end)

  it("keeps the old link up while the new one fails, and tries again after the backoff", function ()
    local fail = 3
    local host = Host.new { plan = plan, on = { dial = function (h, f)
      if f.generation == 1 or fail == 0 then return false end
      fail = fail - 1
      h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
      return true
    end } }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(20000)
    assert.same({ "up", 5 }, { host:view(bot).state, host:view(bot).generation })
    assert.same({ "preparing", "linking", "up" }, host.conns[bot].states)
    assert.equal(5, host:view(bot).links[1].generation)
    assert.same({}, host.violations)
  end)

  it("becomes an ordinary attempt when the old link dies before the new one is ready", function ()
    local host = Host.new { plan = plan, on = { greet = function (_, f) return f.generation > 1 end } }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000)
    assert.same({ "2 greeting", "1 ready" }, states(host, bot))
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1001 } })
    assert.same({ "linking", { "2 greeting", "1 closing" } }, { host:view(bot).state, states(host, bot) })
    host:event("greeted", bot, 2)
    assert.equal("up", host:view(bot).state)
    host:run(100)
    assert.same({ "2 ready" }, states(host, bot))
    assert.same({}, host.violations)
  end)

  it("becomes an ordinary attempt when the old link dies while preparing", function ()
    local host = Host.new { plan = plan, latency = 200 }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000, function () return #host:effects "prepare" == 2 end)
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    assert.equal("preparing", host:view(bot).state)
    host:run(2000)
    assert.equal("up", host:view(bot).state)
    assert.same({}, host.violations)
  end)

  it("closes the old link before it dials when that one ended while its successor was prepared", function ()
    local host = Host.new { plan = plan, latency = 200, on = { close = function () return true end } }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000, function () return #host:effects "prepare" == 2 end)
    local dials = #host:effects "dial"
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "something_else" } })
    assert.equal(1, #host:effects "close")
    host:run(600)
    assert.same({ "preparing", { "1 closing" } }, { host:view(bot).state, states(host, bot) })
    assert.equal(dials, #host:effects "dial")
    host:closed(bot, 1)
    assert.equal(dials + 1, #host:effects "dial")
    host:run(2000)
    assert.same({ "up", { "2 ready" } }, { host:view(bot).state, states(host, bot) })
    assert.same({}, host.violations)
  end)

  it("waits for the old link's close when that died and the attempt fails too", function ()
    local host = Host.new { plan = plan, on = { abort = function () return true end, prepare = function (_, f) return f.generation == 2 end } }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000, function () return #host:effects "prepare" == 2 end)
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:event("attempt failed", bot, 2, { cause = { kind = "call" } })
    assert.same({ "closing", { "1 closing" } }, { host:view(bot).state, states(host, bot) })
    host:run(3000)
    assert.equal("closing", host:view(bot).state)
    host:closed(bot, 1)
    host:run(100)
    assert.equal("up", host:view(bot).state)
    assert.same({}, host.violations)
  end)

  it("closes the old link at once when the new one fails after taking over", function ()
    local host = Host.new { plan = plan }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000)
    host:event("peer closed", bot, 2, { cause = { kind = "eof" } })
    host:run(3000)
    assert.same({ "up", { "3 ready" } }, { host:view(bot).state, states(host, bot) })
    assert.same({}, host.violations)
  end)

  it("leaves a healthy old link alone when the successor meets a fatal cause, and stops after it", function ()
    local host = Host.new { plan = plan, on = { greet = function (h, f)
      if f.generation == 1 then return false end
      h:later(5, function () h:event("peer closed", f.conn, f.generation, { cause = { kind = "closed", close = 4004 } }) end)
      return true
    end } }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(60000)
    assert.same({ "up", 1 }, { host:view(bot).state, #host:effects "alarm" })
    assert.equal(2, #host:effects "dial")
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(60000)
    assert.same({ "stopped", true }, { host:view(bot).state, host:view(bot).fatal })
    assert.same({}, host.violations)
  end)

  it("leaves it alone as well when the successor's prepare meets one", function ()
    local host = Host.new { plan = with { classify = { { cause = "reconnect", planned = true }, { cause = "call", pace = "stop" } } },
      on = { prepare = function (_, f) return f.generation == 2 end } }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(1000)
    host:event("attempt failed", bot, 2, { cause = { kind = "call" } })
    host:run(60000)
    assert.same({ "up", false, 1 }, { host:view(bot).state, host:view(bot).fatal, #host:effects "dial" })
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(60000)
    assert.same({ "stopped", true }, { host:view(bot).state, host:view(bot).fatal })
  end)

  it("is not begun while the last one still drains: the link is closed and dialled anew", function ()
    local host = Host.new { plan = with { backoff = { settle = 1 }, limits = { drain = 600000 } } }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(2000)
    assert.same({ "2 ready", "1 draining" }, states(host, bot))
    announce(host, bot, 2)
    assert.same({ "closing", { "2 closing", "1 closing" } }, { host:view(bot).state, states(host, bot) })
    host:run(3000)
    assert.same({ "up", { "3 ready" } }, { host:view(bot).state, states(host, bot) })
    assert.same({}, host.violations)
  end)

  it("for which a stronger close code came is no planned return any more", function ()
    local host = Host.new { plan = with { classify = { { cause = "reconnect", planned = true, delay = { 0, 500 } },
      { close = 4002, pace = "slow", pace_span = { 10000, 10000 } } }, overlap = 0 } }
    local bot = settled(host)
    host.conns[bot].handover = false
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "reconnect" }, wait = 5000 })
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 4002 } })
    host:run(100)
    local d = host:last("journal").decision
    assert.same({ false, "slow", 4002, "slow" }, { d.planned, d.pace, d.cause.close, host:view(bot).decision.pace })
    host:event("held back", bot)
    assert.is_true(host:view(bot).held)
  end)

  it("is refused nothing by a start budget: it waits while the old link serves", function ()
    local p = with { session = { age = 1 }, budgets = { start = { windows = { { 1, 60000 } } } } }
    local host = Host.new { plan = p }
    local bot = settled(host)
    announce(host, bot, 1)
    host:run(20000)
    assert.same({ "up", 1 }, { host:view(bot).state, #host:effects "prepare" })
    host:run(60000)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).links[1].generation })
    assert.same({}, host.violations)
  end)
end)

describe("retiring", function ()
  it("replaces a healthy link when its time has come, spread by jitter", function ()
    local ages = {}
    for seed = 1, 40 do
      local host = Host.new { seed = seed, plan = with { retire_after = 3600000, retire_jitter = 0.2, ping = 0, silence = 0 } }
      local bot = settled(host)
      host:run(5000000, function () return #host:effects "dial" == 2 end)
      ages[seed] = host:last("dial").at - host:effects("ready")[1].at
      assert.equal("retired", host:view(bot).decision.cause.kind)
      assert.same({}, host.violations)
    end
    table.sort(ages)
    assert.is_true(ages[1] >= 3600000 * 0.8 and ages[1] < 3600000 * 0.9)
    assert.is_true(ages[40] <= 3600000 * 1.2 + 1000 and ages[40] > 3600000 * 1.1)
  end)

  it("comes never before a tenth of its age, however wide the spread", function ()
    local first = math.huge
    for seed = 1, 60 do
      local host = Host.new { seed = seed, plan = with { retire_after = 3600000, retire_jitter = 1, ping = 0, silence = 0 } }
      local bot = settled(host)
      host:run(8000000, function () return #host:effects "dial" == 2 end)
      first = math.min(first, host:last("dial").at - host:effects("ready")[1].at)
    end
    assert.is_true(first >= 360000 and first < 361000, first)
  end)

  it("happens when the platform told that this link will end, and says nothing of the next one", function ()
    local host = Host.new { plan = plan }
    local bot = settled(host)
    host:event("retire set", bot, 1, { after = 100000 })
    local from = host.now
    host:run(99999)
    assert.equal(1, #host:effects "dial")
    assert.equal("retire", host:view(bot).next)
    host:run(1000)
    assert.same({ "up", 2, "retired" }, { host:view(bot).state, host:view(bot).generation, host:view(bot).decision.cause.kind })
    assert.is_true(host:last("dial").at - from <= 100100)
    assert.equal(0, host:view(bot).failed)
    host:run(500000)
    assert.equal(2, #host:effects "dial")
    assert.same({}, host.violations)
  end)

  it("happens at the earlier of the policy's own age and the one that was told, however often it is told", function ()
    for _, case in ipairs { { 50000, 200000, 200000 }, { 300000, 50000, 239000 } } do
      local host = Host.new { plan = with { retire_after = 250000 } }
      local bot = settled(host)
      host:event("retire set", bot, 1, { after = case[1] })
      host:run(1000)
      host:event("retire set", bot, 1, { after = case[2] })
      local from = host.now
      host:run(400000, function () return #host:effects "dial" == 2 end)
      local after = host:last("dial").at - from
      assert.is_true(after >= math.min(case[2], case[3]) - 2000 and after <= math.min(case[2], case[3]) + 2000, after)
    end
  end)

  it("before the link has settled counts as a failure, so that a platform that tells nonsense is paced", function ()
    local host = Host.new { plan = plan, on = {} }
    local bot = host:up()
    host.conns[bot].handover = true
    host:event("retire set", bot, 1, { after = 0 })
    host:run(100)
    assert.equal(1, host:view(bot).failed)
    host:run(60000)
    assert.equal(2, #host:effects "dial")
    assert.same({}, host.violations)
  end)

  it("closes first where no overlap is allowed", function ()
    local host = Host.new { plan = with { overlap = 0, retire_after = 100000 } }
    local bot = host:up()
    host:run(101000)
    assert.same({ "up", 2, 0 }, { host:view(bot).state, host:view(bot).generation, host:view(bot).failed })
    assert.same({}, host.violations)
  end)
end)
