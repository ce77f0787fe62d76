local engine = require "unit.engine"
local Host = require "engine_host"

local function eof(host, bot) host:event("peer closed", bot, host:view(bot).generation, { cause = { kind = "eof" } }) end

describe("a connection", function ()
  it("goes from stopped over preparing and linking to up", function ()
    local host = Host.new()
    local bot = host:up()
    assert.same({ "preparing", "linking", "up" }, host.conns[bot].states)
    assert.same({}, host.violations)
  end)

  it("waits with a cause and a deadline after an ending, and comes back", function ()
    local host = Host.new()
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1012 } })
    assert.equal("closing", host:view(bot).state)
    host:run(11)
    local view = host:view(bot)
    assert.same({ "waiting", "dial", 1012 }, { view.state, view.next, view.cause.close })
    assert.equal(view.deadline, host:last("state").next)
    host:run(5000)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).generation })
    assert.same({}, host.violations)
  end)

  it("owns its identity: a second one is refused and the owner named", function ()
    local host = Host.new()
    local bot = host:add { name = "a", identity = 5 }
    local none, why, owner = host:add { name = "b", identity = 5 }
    assert.same({ nil, "identity taken", bot }, { none, why, owner })
    host:event("remove requested", bot)
    assert.is_not_nil(host:add { name = "b", identity = 5 })
  end)

  it("is refused when the engine is full", function ()
    local host = Host.new { connections = 2 }
    host:add { name = "a", identity = 1 }
    host:add { name = "b", identity = 2 }
    local none, why = host:add { name = "c", identity = 3 }
    assert.same({ nil, "full" }, { none, why })
  end)
end)

describe("every stage", function ()
  local limits = { prepare = 30000, resolve = 5000, connect = 10000, secure = 9000, upgrade = 8000, greeting = 20000 }
  local stages = { "resolving", "connecting", "securing", "upgrading" }
  local keys = { resolving = "resolve", connecting = "connect", securing = "secure", upgrading = "upgrade" }

  for i, stage in ipairs(stages) do
    it("has a limit: " .. stage, function ()
      local host = Host.new { plan = { limits = limits }, on = { dial = function (h, f)
        for k = 2, i do h:event("stage reached", f.conn, f.generation, { stage = stages[k] }) end
        return true
      end } }
      local bot = host:add()
      host:start(bot)
      host:run(10)
      assert.equal(keys[stage] .. " limit", host:view(bot).next)
      assert.equal(host:view(bot).deadline, host.now + limits[keys[stage]])
      host:run(limits[keys[stage]] + 5)
      assert.same({ "timeout", stage }, { host:view(bot).cause.kind, host:view(bot).cause.stage })
      assert.equal(1, #host:effects "abort")
      assert.equal(0, #host:effects "close")
      assert.equal("waiting", host:view(bot).state)
    end)
  end

  it("has a limit: preparing", function ()
    local host = Host.new { on = { prepare = function () return true end } }
    local bot = host:add()
    host:start(bot)
    host:run(30001)
    assert.same({ "waiting", "timeout", "preparing" }, { host:view(bot).state, host:view(bot).cause.kind, host:view(bot).cause.stage })
    assert.equal(1, host:last("cancel").generation)
  end)

  it("has a limit: greeting, re-armed by progress, closed with keep", function ()
    local host = Host.new { on = { greet = function () return true end } }
    local bot = host:add()
    host:start(bot)
    for _ = 1, 10 do
      host:run(15000)
      assert.equal("linking", host:view(bot).state)
      host:event("greeting progressed", bot, 1)
    end
    host:run(20001)
    assert.same({ "timeout", "greeting" }, { host:view(bot).cause.kind, host:view(bot).cause.stage })
    assert.equal(4000, host:last("close").code)
  end)

  it("has a limit: closing, then abort, then again with an alarm", function ()
    local host = Host.new { on = { close = function () return true end, abort = function () return true end } }
    local bot = host:up()
    host:event("ending announced", bot, 1, { cause = { kind = "wished", by = "policy" } })
    host:run(1000)
    assert.same({ 1, 0 }, { #host:effects "abort", #host:effects "alarm" })
    host:run(5000)
    assert.same({ 2, 1 }, { #host:effects "abort", #host:effects "alarm" })
    host:run(20000)
    assert.same({ "closing", 1, 1 }, { host:view(bot).state, #host:effects "alarm", #host:effects "dial" })
    host:closed(bot, 1)
    host:run(1000)
    assert.equal("up", host:view(bot).state)
    assert.same({}, host.violations)
  end)
end)

describe("the next dial", function ()
  it("starts at max(close end, backoff)", function ()
    for close_ms = 100, 2900, 700 do
      local host = Host.new { plan = { limits = { close = 3000 }, backoff = { jitter = "none", first = 1500 } },
        on = { close = function (h, f) h:later(close_ms, function () h:closed(f.conn, f.generation) end); return true end } }
      local bot = host:up()
      local from = host.now
      host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1001 } })
      host:run(10000)
      assert.equal(math.max(close_ms, 1500), host:effects("prepare")[2].at - from)
    end
  end)

  it("follows a link that was simply gone", function ()
    local host = Host.new()
    local bot = host:up()
    host:closed(bot, 1, { kind = "reset", by = "network" })
    assert.same({ "preparing", "linking", "up", "closing", "waiting" }, host.conns[bot].states)
    assert.same({ "reset", "ready" }, { host:view(bot).cause.kind, host:view(bot).cause.stage })
  end)
end)

describe("what comes too late", function ()
  it("is counted and dropped, whatever it is", function ()
    local host = Host.new()
    local bot = host:up()
    eof(host, bot)
    host:run(5000)
    local before = host:view(bot)
    assert.equal(2, before.generation)
    local kinds = { "prepared", "attempt failed", "stage reached", "dial failed", "upgraded", "greeting progressed", "greeted",
      "beat set", "beat asked", "beat answered", "ending announced", "limit crossed", "peer closed", "drained", "verdict given", "link closed" }
    for _, kind in ipairs(kinds) do
      for _, generation in ipairs { 1, 3, 4294967295 } do
        local effects = host:event(kind, bot, generation, { cause = { kind = "closed", close = 4004 }, stage = "connecting" })
        assert.same({}, effects)
      end
    end
    local after = host:view(bot)
    assert.same({ "up", 3 * #kinds }, { after.state, after.stale - before.stale })
  end)

  it("for a connection that is gone changes nothing", function ()
    local host = Host.new()
    local bot = host:up()
    host:event("remove requested", bot)
    host:run(1000)
    local other = host:add { name = "other", identity = 9 }
    assert.same({}, host:event("link closed", bot, 1))
    assert.same({}, host:event("start requested", bot))
    assert.equal("stopped", host:view(other).state)
  end)
end)

describe("an operator", function ()
  it("stops with the final code, drops the session, and nothing dials again", function ()
    local host = Host.new { plan = { session = {} } }
    local bot = host:up { session = true }
    host:event("stop requested", bot)
    assert.same({ 1000, 1 }, { host:last("close").code, #host:effects "drop session" })
    host:run(86400000)
    local view = host:view(bot)
    assert.same({ "stopped", false, false, "stopped", "operator" }, { view.state, view.wanted, view.fatal, view.cause.kind, view.decision.by })
    assert.is_nil(view.deadline)
    assert.same({ "stopped", "stopped by an operator" }, { host:last("journal").decision.cause.kind, host:last("journal").decision.note })
    assert.equal(1, #host:effects "dial")
    assert.is_nil(host.e:bound(bot, host:clock()))
  end)

  it("can stop in every state", function ()
    for _, stage in ipairs { "preparing", "linking", "up", "closing", "waiting", "queued" } do
      local host = Host.new { latency = 50, plan = { session = {}, budgets = { start = { windows = { { 1, 600000 } } } }, backoff = { jitter = "none" } } }
      local bot = host:add()
      host:start(bot)
      host:run(600000, function ()
        local state = host:view(bot).state
        if state == "up" and stage ~= "up" then eof(host, bot) end
        return host:view(bot).state == stage
      end)
      assert.equal(stage, host:view(bot).state)
      host:event("stop requested", bot)
      host:run(5000)
      assert.equal("stopped", host:view(bot).state)
      assert.same({}, host.conns[bot].open)
      assert.same({}, host.violations)
      host:start(bot)
      host:run(700000)
      assert.equal("up", host:view(bot).state)
    end
  end)

  it("restarts with the keep code and comes back", function ()
    local host = Host.new { plan = { session = {} } }
    local bot = host:up { session = true }
    host:event("restart requested", bot)
    assert.equal(4000, host:last("close").code)
    local d = host:last("journal").decision
    assert.same({ "normal", "operator", 250, 0, "restarted" }, { d.pace, d.by, d.delay, d.attempt, d.cause.kind })
    host:run(1000)
    assert.same({ "up", 2, 0 }, { host:view(bot).state, host:view(bot).generation, host:view(bot).failed })
    assert.is_true(host:view(bot).session_present)
    assert.same({}, host.violations)
  end)

  it("shuts down without dropping the session", function ()
    local host = Host.new { plan = { session = {} } }
    local bot = host:up { session = true }
    host:event("shutdown requested", bot)
    host:run(2000)
    assert.same({ 4000, 0, "stopped" }, { host:last("close").code, #host:effects "drop session", host:view(bot).state })
    assert.is_true(host:view(bot).session_present)
  end)

  it("removes: final code, sends answered, handle free once the link is closed", function ()
    local host = Host.new { latency = 300 }
    local bot = host:add()
    host:start(bot)
    host:run(700)
    host:event("send requested", bot, 0, { send_id = 4 })
    host:event("remove requested", bot)
    assert.is_not_nil(host:view(bot))
    host:run(2000)
    assert.equal("removed", host:last("refuse").why)
    assert.equal("removed", host.log[#host.log].kind)
    assert.is_nil(host:view(bot))
    assert.is_nil(host.e:deadline())
  end)

  it("starts a connection whose fatal ending is still closing, and it comes back as if new", function ()
    local host = Host.new { plan = { classify = { { close = 4004, pace = "stop" } }, backoff = { jitter = "none", first = 60000 } }, latency = 200 }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 4004 } })
    assert.same({ "closing", true }, { host:view(bot).state, host:view(bot).fatal })
    host:start(bot)
    assert.same({ true, false, 0 }, { host:view(bot).wanted, host:view(bot).fatal, host:view(bot).failed })
    host:run(1500)
    assert.same({ "up", 2, 2 }, { host:view(bot).state, host:view(bot).attempts, host:view(bot).readies })
    assert.same({}, host.violations)
  end)

  it("needs no patience with a link that closes: its start dials as soon as that is closed", function ()
    local host = Host.new { plan = { backoff = { jitter = "none", first = 60000 } }, latency = 200 }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1001 } })
    host:start(bot)
    host:run(1500)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).generation })
    assert.same({}, host.violations)
  end)

  it("stops what had stopped for a fatal cause, and then it is the operator's stop", function ()
    local host = Host.new { plan = { classify = { { close = 4004, pace = "stop" } } } }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 4004 } })
    host:run(1000)
    assert.same({ "stopped", true, true }, { host:view(bot).state, host:view(bot).fatal, host:view(bot).wanted })
    host:event("stop requested", bot)
    assert.same({ false, false, "stopped" }, { host:view(bot).fatal, host:view(bot).wanted, host:view(bot).cause.kind })
    host:event("stop requested", bot)
    assert.equal(2, #host:effects "journal")
  end)

  it("restarts what is stopped or waits, and leaves what is on its way alone", function ()
    local host = Host.new { plan = { backoff = { jitter = "none", first = 60000 } }, latency = 200 }
    local bot = host:add()
    host:event("restart requested", bot)
    assert.equal("preparing", host:view(bot).state)
    host:event("restart requested", bot)
    assert.same({ "preparing", 1 }, { host:view(bot).state, host:view(bot).attempts })
    host:run(2000)
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(1000)
    assert.equal("waiting", host:view(bot).state)
    host:event("restart requested", bot)
    host:run(2000)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).generation })
    host:event("peer closed", bot, 2, { cause = { kind = "eof" } })
    assert.equal("closing", host:view(bot).state)
    host:event("restart requested", bot)
    host:run(2000)
    assert.same({ "up", 3 }, { host:view(bot).state, host:view(bot).generation })
    assert.same({}, host.violations)
  end)

  it("cannot start or restart what is being removed", function ()
    for _, wish in ipairs { "start requested", "restart requested" } do
      local host = Host.new { latency = 200 }
      local bot = host:up()
      host:event("remove requested", bot)
      host:event(wish, bot)
      host:run(2000)
      assert.same({ nil, 1 }, { host:view(bot), #host:effects "dial" })
    end
  end)

  it("may start while the stop is still closing", function ()
    local host = Host.new()
    local bot = host:up()
    host:event("stop requested", bot)
    host:start(bot)
    host:run(2000)
    assert.equal("up", host:view(bot).state)
    assert.same({}, host.violations)
  end)
end)

describe("a broken assertion about one connection", function ()
  it("aborts its link with the cause internal, pace slow and an alarm; the others stay", function ()
    local host = Host.new()
    local bot, other = host:up { name = "a", identity = 1 }, host:up { name = "b", identity = 2 }
    host:event("greeted", bot, 1)
    assert.same({ "internal", "slow" }, { host:view(bot).cause.kind, host:view(bot).decision.pace })
    assert.equal(1, #host:effects "alarm")
    host:run(2000)
    assert.same({ "waiting", "up" }, { host:view(bot).state, host:view(other).state })
    host:run(60000)
    assert.equal("up", host:view(bot).state)
  end)
end)

describe("a new policy", function ()
  it("moves deadlines that its numbers change, and starts none again", function ()
    local host = Host.new { on = { greet = function () return true end } }
    local bot = host:add()
    host:start(bot)
    host:run(10)
    host:run(10)
    host:run(5000)
    local deadline = host:view(bot).deadline
    host:event("policy swapped", bot, 0, { plan = engine.plan { limits = { greeting = 12000 } } })
    assert.equal(deadline - 8000, host:view(bot).deadline)
    host:event("policy swapped", bot, 0, { plan = engine.plan { limits = { greeting = 1000 } } })
    host:run(1)
    assert.equal("timeout", host:view(bot).cause.kind)
  end)

  it("shortens a long wait to its own most", function ()
    local host = Host.new { plan = { backoff = { jitter = "none", first = 60000 } } }
    local bot = host:up()
    eof(host, bot)
    host:run(100)
    local since = host:view(bot).since
    host:event("policy swapped", bot, 0, { plan = engine.plan { backoff = { most = 5000 } } })
    assert.is_true(host:view(bot).deadline <= since + 5000)
    host:run(6000)
    assert.equal("up", host:view(bot).state)
  end)

  it("moves the next beat by the new interval from the last one", function ()
    local host = Host.new { plan = { ping = 0, silence = 0, beat = { every = 40000 }, backoff = { settle = 1 } } }
    local bot = host:up()
    host:run(50000, function () return #host:effects "beat" == 1 end)
    host:event("policy swapped", bot, 0, { plan = engine.plan { ping = 0, silence = 0, beat = { every = 10000 }, backoff = { settle = 1 } } })
    assert.equal(host:last("beat").at + 10000, host:view(bot).deadline)
    host:run(50)  -- answered: from now on it may go out together with others
    local early = host:last("beat").at + 10000 - host:view(bot).deadline
    assert.is_true(early >= 0 and early <= 10000 / 128)
  end)

  it("that beats where the old one did not begins to, at its own interval, and one that does not stops", function ()
    local quiet, beats = { ping = 0, silence = 0 }, { ping = 0, silence = 0, beat = { every = 40000, first = "after" } }
    local host = Host.new { plan = quiet }
    local bot = host:up()
    host:event("policy swapped", bot, 0, { plan = engine.plan(beats) })
    local from = host.now
    assert.equal(40000, host:view(bot).beat_interval)
    host:run(100000)
    local early = from + 40000 - host:effects("beat")[1].at
    assert.is_true(#host:effects "beat" == 2 and early >= 0 and early <= 40000 / 128, early)
    host:event("policy swapped", bot, 0, { plan = engine.plan(quiet) })
    host:run(200000)
    assert.same({ 2, 0, "up" }, { #host:effects "beat", host:view(bot).beat_interval, host:view(bot).state })
  end)

  it("stops the beats of a link that is about to take over as well, while it greets", function ()
    local beats = { ping = 0, silence = 0, overlap = 1, beat = { every = 5000, first = "after" }, limits = { greeting = 60000 },
      classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } } } }
    local quiet = { ping = 0, silence = 0, overlap = 1, limits = beats.limits, classify = beats.classify }
    for _, case in ipairs { { beats, 2 }, { quiet, 0 } } do
      local host = Host.new { plan = beats }
      local bot = host:up()
      host.conns[bot].handover = true
      host.on.greet = function () return true end -- the next one greets for a while
      host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "reconnect" }, wait = 50000 })
      host:run(1000, function () return #host:effects "greet" == 2 end)
      local found = {}
      for _, l in ipairs(host:view(bot).links) do found[l.generation] = l.state end
      assert.same({ "ready", "greeting" }, found)
      host:event("beat set", bot, 2, { interval = 5000 })
      local function sent()
        local n = 0
        for _, f in ipairs(host:effects "beat") do if f.generation == 2 then n = n + 1 end end
        return n
      end
      host:event("policy swapped", bot, 0, { plan = engine.plan(case[1]) })
      host:run(12000)
      assert.equal(case[2], sent())
    end
  end)

  it("with a wider budget lets go who waited for it", function ()
    local function plan(count) return { backoff = { jitter = "none" }, budgets = { dial = { windows = { { count, 3600000 } } } } } end
    local host = Host.new { plan = plan(1) }
    local bot = host:up()
    eof(host, bot)
    host:run(10000)
    assert.equal("queued", host:view(bot).state)
    host:event("policy swapped", bot, 0, { plan = engine.plan(plan(100)) })
    host:run(1000)
    assert.equal("up", host:view(bot).state)
  end)

  it("with other climbs counts from the beginning, and with as many goes on", function ()
    local function plan(climbs)
      local rows = {}
      for i = 1, climbs do rows[i] = { on = { close = 1012 }, times = 3, to = "fresh" } end
      return { backoff = { jitter = "none", first = 300 }, session = {}, climb = rows }
    end
    for _, case in ipairs { { 2, "resume" }, { 1, "fresh" } } do
      local host = Host.new { plan = plan(1) }
      local bot = host:up { session = true }
      for generation = 1, 3 do
        if generation == 3 then host:event("policy swapped", bot, 0, { plan = engine.plan(plan(case[1])) }) end
        host:event("peer closed", bot, generation, { cause = { kind = "closed", close = 1012 } })
        local drop = host:last("journal").decision.drop
        assert.equal(generation == 3 and case[2] or "resume", drop)
        host:run(3000)
      end
    end
  end)

  it("leaves a wait alone that is no backoff, or shorter than its own longest", function ()
    for _, case in ipairs { { { any = true, delay = { 200000, 200000 } }, 200000 }, { { any = true, pace = "slow", pace_span = { 90000, 90000 } }, 90000 } } do
      local host = Host.new { plan = { backoff = { jitter = "none" }, classify = { case[1] } } }
      local bot = host:up()
      eof(host, bot)
      local from = host.now
      host:run(100)
      host:event("policy swapped", bot, 0, { plan = engine.plan { backoff = { most = 5000 } } })
      assert.equal(from + case[2], host:view(bot).deadline)
    end
    local host = Host.new { plan = { backoff = { jitter = "none", first = 4000 } } }
    local bot = host:up()
    eof(host, bot)
    local from = host.now
    host:run(100)
    host:event("policy swapped", bot, 0, { plan = engine.plan { backoff = { jitter = "none", first = 1000, most = 5000 } } })
    assert.equal(from + 4000, host:view(bot).deadline)
    host:event("policy swapped", bot, 0, { plan = engine.plan { backoff = { jitter = "none", first = 1, most = 1 } } })
    assert.equal(from + 250, host:view(bot).deadline)
  end)

  it("keeps the link and the counters", function ()
    local host = Host.new { plan = { backoff = { jitter = "none" } } }
    local bot = host:up()
    eof(host, bot)
    host:run(3000)
    host:event("policy swapped", bot, 0, { plan = engine.plan { overlap = 1 } })
    assert.same({ "up", 1 }, { host:view(bot).state, host:view(bot).failed })
  end)
end)

describe("the engine's deadlines", function ()
  it("come earliest first, ties by place", function ()
    local host = Host.new { on = { prepare = function () return true end } }
    local bots = {}
    for i = 1, 20 do
      bots[i] = host:add { name = "b" .. i, identity = i }
      host.now = host.now + (i % 3)
      host:start(bots[i])
    end
    local last = 0
    for _ = 1, 20 do
      local at = host.e:deadline()
      assert.is_true(at >= last)
      last, host.now = at, at
      host:deadline(host.e:due(at))
    end
  end)

  it("come in their order, whatever order they were set in and whoever left in between", function ()
    for seed = 1, 12 do
      local host = Host.new { on = { prepare = function () return true end }, connections = 64 }
      local at, bots = {}, {}
      for i = 1, 40 do
        local limit = 1000 + (i * 7 * (2 * seed + 1)) % 41 * 100
        bots[i] = host:add { name = "b" .. i, identity = i, plan = engine.plan { limits = { prepare = limit } } }
        host:start(bots[i])
        at[bots[i]] = host.now + limit
      end
      for i = 1, 40, 5 do
        at[bots[i]] = nil
        host:event("remove requested", bots[i])
      end
      local before = 0
      for _ = 1, 32 do
        local deadline = host.e:deadline()
        assert.is_nil(host.e:due(deadline - 1))
        local h = host.e:due(deadline)
        assert.same({ at[h], true }, { deadline, deadline >= before })
        before, host.now, at[h] = deadline, deadline, nil
        host:event("remove requested", h)
      end
      assert.is_nil(host.e:deadline())
    end
  end)

  it("are asked for ahead in the order in which they come, sixteen at most and none that is not due", function ()
    for seed = 1, 4 do
      local host = Host.new { on = { prepare = function () return true end, store = function () return true end }, connections = 64 }
      local bots = {}
      for i = 1, 60 do
        bots[i] = host:add { name = "b" .. i, identity = i, plan = engine.plan { limits = { prepare = 1000 + (i * 7 * (2 * seed + 1)) % 23 * 100 } } }
        host:start(bots[i])
      end
      local at, seen = host.e:deadline() + 1500, {}
      while host.e:due(at) do
        local ahead = host.e:warm(at)
        assert.is_true(#ahead > 0 and #ahead <= 16)
        host.now = at
        for _, h in ipairs(ahead) do
          assert.equal(h, host.e:due(at))
          host:event("remove requested", h)
          seen[#seen + 1] = h
        end
      end
      assert.same({ true, {} }, { #seen > 16 and #seen < 60, host.e:warm(at) })
    end
  end)

  it("are never due for nothing: a quiet connection wakes for its pings alone", function ()
    local host = Host.new {}
    host:up()
    host:run(60000)
    local woken, deadline = 0, host.deadline
    host.deadline = function (...) woken = woken + 1; return deadline(...) end
    host:run(3600000)
    assert.is_true(woken <= 2 * 3600 / 20 + 2)
  end)
end)

describe("what is told of a state", function ()
  it("carries the cause of each but `up`, and when the next thing happens", function ()
    local host = Host.new { plan = { backoff = { jitter = "none" } } }
    local bot = host:up()
    assert.is_nil(host:last("state").cause)
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1012 } })
    host:run(50)
    local state = host:last "state"
    assert.same({ "waiting", 1012, host:view(bot).deadline }, { state.to, state.cause.close, state.next })
    assert.same({ 1012, "ready" }, { host:last("journal").decision.cause.close, host:last("journal").decision.cause.stage })
    host:run(2000)
    assert.same({ "up" }, { host:last("state").to, host:last("state").cause })
  end)

  it("of a prepare that failed has no age", function ()
    local host = Host.new { on = { prepare = function () return true end } }
    local bot = host:add()
    host:start(bot)
    host:run(700)
    host:event("attempt failed", bot, 1, { cause = { kind = "call", age = 5 } })
    assert.same({ 0, "preparing", "call" }, { host:view(bot).cause.age, host:view(bot).cause.stage, host:view(bot).cause.kind })
  end)
end)

describe("the recovery bound", function ()
  it("grows with those who wait before it, and shrinks again when they are gone", function ()
    local host = Host.new { plan = { backoff = { jitter = "none" }, budgets = { dial = { windows = { { 30, 3600000 } }, gap = 10000 } } } }
    local a, b = host:add { name = "a", identity = 1 }, host:add { name = "b", identity = 2 }
    host:start(a)
    local alone = host.e:bound(a, host:clock())
    host:start(b)
    assert.equal("queued", host:view(b).state)
    assert.equal(alone + 10000, host.e:bound(a, host:clock()))
    host:event("stop requested", b)
    assert.equal(alone, host.e:bound(a, host:clock()))
  end)

  it("is finite while wanted, and no shorter than what it waits for", function ()
    local host = Host.new { plan = { backoff = { jitter = "none", first = 60000 } } }
    local bot = host:up()
    assert.is_true(host.e:bound(bot, host:clock()) > 60000)
    eof(host, bot)
    host:run(100)
    assert.is_true(host.e:bound(bot, host:clock()) > host:view(bot).deadline - host.now)
  end)
end)
