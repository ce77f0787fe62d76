local engine = require "unit.engine"
local Host = require "engine_host"

local rows = {
  { close = 4004, pace = "stop", note = "token revoked", line = 11 },
  { close = { 4007, { 4900, 4913 } }, drop = "fresh", line = 12 },
  { close = 4010, drop = "renew", pace = "slow", line = 13 },
  { close = 4011, pace_span = { 30000, 120000 }, pace = "slow", line = 14 },
  { cause = "reconnect", delay = { 0, 1000 }, planned = true, line = 15 },
  { cause = "invalid", drop = "fresh", delay = { 1000, 5000 }, line = 16 },
  { http = 401, drop_fetch = "token", as = "unauthorized", line = 17 },
}
local function plan(more)
  local p = { classify = rows, session = { replay = "session" } }
  for k, v in pairs(more or {}) do p[k] = v end
  return p
end
local function closed(code) return { cause = { kind = "closed", close = code } } end
local function ended(name, wait) return { cause = { kind = "ended", name = name }, wait = wait } end
local function reconnected(host, bot)
  host:run(120000, function () return host:view(bot).state == "up" and host:view(bot).generation > 1 end)
end

describe("a link that broke the protocol", function ()
  it("is closed with the code that the standard has for it, and any other ending with the policy's", function ()
    for _, case in ipairs { { "protocol", 1002, 1002 }, { "too_big", 1009, 1009 }, { "inflate", 1007, 1007 }, { "protocol", 1000, 1000 },
      { "protocol", 4999, 4999 }, { "protocol", 999, 4000 }, { "protocol", 5000, 4000 }, { "backlog_full", 1009, 4000 } } do
      local host = Host.new { plan = plan() }
      local bot = host:up()
      host:event("limit crossed", bot, 1, { cause = { kind = case[1], close = case[2] } })
      assert.equal(case[3], host:last("close").code, case[1] .. " " .. case[2])
    end
  end)
end)

describe("a verdict", function ()
  it("is the first row that matches, with its line", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up { session = true }
    host:event("peer closed", bot, 1, closed(4901))
    local d = host:last("journal").decision
    assert.same({ "fresh", "normal", "rule", 12 }, { d.drop, d.pace, d.by, d.line })
    assert.equal(1, #host:effects "drop session")
    assert.is_false(host:view(bot).session_present)
  end)

  it("is a plain resume where no row matches", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up { session = true }
    host:event("peer closed", bot, 1, closed(1006))
    local d = host:last("journal").decision
    assert.same({ "resume", "normal", "engine", 1 }, { d.drop, d.pace, d.by, d.attempt })
    assert.equal(0, #host:effects "drop session")
  end)

  it("stops loudly on a fatal cause and stays stopped for a day", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(4004))
    host:run(86400000)
    local view = host:view(bot)
    assert.same({ "stopped", true, true, 4004 }, { view.state, view.fatal, view.wanted, view.cause.close })
    assert.equal("token revoked", host:last("alarm").text)
    assert.equal(1, #host.conns[bot].prepares)
    host:start(bot)
    host:run(1000)
    assert.same({ "up", false }, { host:view(bot).state, host:view(bot).fatal })
  end)

  it("goes slow in minutes, on a ladder of its own", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(4010))
    local d = host:last("journal").decision
    assert.same({ "renew", "slow" }, { d.drop, d.pace })
    assert.is_true(d.delay >= 30000 and d.delay <= 60000)
    assert.equal("", host:last("drop fetched").name)
    reconnected(host, bot)
    host:event("peer closed", bot, 2, closed(4011))
    d = host:last("journal").decision
    assert.is_true(d.delay >= 30000 and d.delay <= 120000)
  end)

  it("marks one fetched value old and renames the cause", function ()
    local host = Host.new { plan = plan(), on = { dial = function (h, f)
      if f.generation > 1 then return end
      h:later(5, function ()
        h:event("dial failed", f.conn, f.generation, { cause = { kind = "upgrade_refused", http = 401, stage = "upgrading" } })
      end)
      return true
    end } }
    local bot = host:add()
    host:start(bot)
    host:run(20)
    assert.equal("token", host:last("drop fetched").name)
    assert.equal("unauthorized", host:view(bot).cause.name)
    assert.equal("upgrading", host:view(bot).cause.stage)
    assert.equal(1, #host:effects "abort")
  end)

  it("merges an announced ending with the close code that follows: one ending, the stronger holds", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up { session = true }
    host:run(70000)
    host:event("ending announced", bot, 1, ended("reconnect", 5000))
    assert.same({ "closing", "peer's close" }, { host:view(bot).state, host:view(bot).next })
    assert.equal(0, #host:effects "close")
    host:run(100)
    host:event("peer closed", bot, 1, closed(4004))
    assert.equal(4000, host:last("close").code)
    host:run(100)
    assert.same({ "stopped", true, 0 }, { host:view(bot).state, host:view(bot).fatal, host:view(bot).failed })
    assert.equal(2, #host:effects "journal")
    local d = host:last("journal").decision
    assert.same({ 4004, "stop", "rule", 11, "token revoked" }, { d.cause.close, d.pace, d.by, d.line, d.note })
  end)

  it("marks old what the close code's row names, though the announcement's holds", function ()
    local host = Host.new { plan = plan { classify = { { cause = "bye", drop = "fresh" }, { close = 4001, drop_fetch = "token" } } } }
    local bot = host:up { session = true }
    host:event("ending announced", bot, 1, ended("bye", 5000))
    assert.equal(0, #host:effects "drop fetched")
    host:event("peer closed", bot, 1, closed(4001))
    assert.same({ 1, "token", "fresh" }, { #host:effects "drop fetched", host:last("drop fetched").name, host:view(bot).decision.drop })
  end)

  it("is not weakened by a milder close code, and counts once", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up { session = true }
    host:event("ending announced", bot, 1, ended("invalid", 5000))
    host:event("peer closed", bot, 1, closed(1000))
    local view = host:view(bot)
    assert.same({ "invalid", 1, "fresh" }, { view.cause.name, view.failed, view.decision.drop })
    assert.equal(1, #host:effects "journal")
  end)

  it("takes our own close code echoed by the peer for no news", function ()
    local host = Host.new { plan = plan { classify = { { close = 4000, pace = "stop" } } } }
    local bot = host:up()
    host:event("ending announced", bot, 1, ended("reconnect"))
    assert.equal(4000, host:last("close").code)
    host:event("peer closed", bot, 1, closed(4000))
    host:run(3000)
    assert.equal("up", host:view(bot).state)
  end)

  it("without a delay of its own lets a planned return of a settled link begin at once", function ()
    local host = Host.new { plan = plan { classify = { { cause = "reconnect", planned = true } } } }
    local bot = host:up()
    host:run(70000)
    host:event("ending announced", bot, 1, ended "reconnect")
    assert.same({ 0, true }, { host:last("journal").decision.delay, host:last("journal").decision.planned })
  end)

  it("treats a planned ending as free only if the link had settled", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up()
    host:event("ending announced", bot, 1, ended "reconnect")
    assert.equal(1, host:view(bot).failed)
    host:run(70000)
    host:event("ending announced", bot, 2, ended "reconnect")
    assert.equal(0, host:view(bot).failed)
    assert.is_true(host:last("journal").decision.delay <= 1000)
  end)

  it("fills in what only the engine knows", function ()
    local host = Host.new { plan = plan(), on = { greet = function () return true end } }
    local bot = host:add { session = true }
    host:start(bot)
    host:run(1500)
    host:event("peer closed", bot, 1, { cause = { kind = "eof", stage = "ready", age = 7 } })
    local cause = host:view(bot).cause
    assert.same({ "greeting", true }, { cause.stage, cause.session })
    assert.is_true(cause.age > 1000 and cause.age < 1500)
  end)
end)

describe("on_ended", function ()
  it("chooses instead of the tables", function ()
    local host = Host.new { plan = plan { on_ended = true }, on = { ["ask ended"] = function (h, f)
      assert.equal(4004, f.cause.close)
      h:later(20, function ()
        h:event("verdict given", f.conn, f.generation, { drop = "fresh", delay = { 7000, 7000 }, note = "as told", line = 88 })
      end)
      return true
    end } }
    local bot = host:up { session = true }
    host:event("peer closed", bot, 1, closed(4004))
    host:run(100)
    local d = host:view(bot).decision
    assert.same({ "fresh", "normal", "hook", 7000, "as told", 88 }, { d.drop, d.pace, d.by, d.delay, d.note, d.line })
    assert.equal("waiting", host:view(bot).state)
  end)

  it("leaves it to the tables when it gives nothing, fails, or is silent for a second", function ()
    for _, answer in ipairs { "nothing", "failed", "silent" } do
      local host = Host.new { plan = plan { on_ended = true }, on = { ["ask ended"] = function (h, f)
        if answer == "nothing" then h:later(1, function () h:event("verdict given", f.conn, f.generation, { given = false }) end) end
        if answer == "failed" then h:later(1, function () h:event("verdict given", f.conn, f.generation, { failed = true, pace = "stop" }) end) end
        return true
      end } }
      local bot = host:up { session = true }
      host:event("peer closed", bot, 1, closed(4007))
      host:run(20)
      if answer == "silent" then
        assert.same({ "waiting", "verdict limit" }, { host:view(bot).state, host:view(bot).next })
        host:run(1000)
      end
      assert.equal("fresh", host:view(bot).decision.drop)
      host:run(5000)
      assert.equal("up", host:view(bot).state)
      assert.same({}, host.violations)
    end
  end)

  it("cannot answer for an ending that is over", function ()
    local host = Host.new { plan = plan { on_ended = true }, on = { ["ask ended"] = function () return true end } }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(1006))
    host:run(5000)
    host:event("verdict given", bot, 1, { pace = "stop" })
    assert.equal("up", host:view(bot).state)
    assert.equal(1, host:view(bot).stale)
  end)

  it("cannot ask for less than the floor", function ()
    local host = Host.new { plan = plan { on_ended = true }, on = { ["ask ended"] = function (h, f)
      h:later(1, function () h:event("verdict given", f.conn, f.generation, { delay = { 0, 0 } }) end)
      return true
    end } }
    local bot = host:up()
    for _ = 1, 50 do
      host:run(60, function () return host:view(bot).state == "up" end)
      if host:view(bot).state == "up" then host:event("peer closed", bot, host:view(bot).generation, closed(1006)) end
    end
    assert.same({}, host.violations)
  end)
end)

describe("on_ended that is silent or fails", function ()
  it("is named in the journal", function ()
    for answer, note in pairs { failed = "on_ended failed: the tables decided", silent = "on_ended did not answer in time: the tables decided" } do
      local host = Host.new { plan = plan { on_ended = true }, on = { ["ask ended"] = function (h, f)
        if answer == "failed" then h:later(1, function () h:event("verdict given", f.conn, f.generation, { failed = true }) end) end
        return true
      end } }
      local bot = host:up { session = true }
      host:event("peer closed", bot, 1, closed(1006))
      host:run(1100)
      assert.equal(note, host:last("journal").decision.note)
      assert.equal("engine", host:last("journal").decision.by)
    end
  end)

  it("is asked no longer than a second, whatever else wakes the engine", function ()
    local host = Host.new { plan = plan { on_ended = true }, on = { ["ask ended"] = function () return true end } }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(1006))
    local from = host.now
    for _ = 1, 30 do
      host:run(30)
      if host.now - from < 1000 then host:deadline(bot) end
    end
    assert.equal(0, #host:effects "journal")
    host:run(200)
    assert.equal(from + 1000, host:last("journal").at)
  end)

  it("is not waited for by an operator's start", function ()
    local host = Host.new { plan = plan { on_ended = true, backoff = { jitter = "none", first = 60000 } }, on = { ["ask ended"] = function () return true end } }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(1006))
    host:run(500)
    host:start(bot)
    host:run(500)
    assert.same({ "up", 1 }, { host:view(bot).state, #host:effects "journal" })
    assert.same({}, host.violations)
  end)
end)

describe("a climb", function ()
  local function dying(climb, more)
    local p = plan { climb = climb }
    for k, v in pairs(more or {}) do p[k] = v end
    local host = Host.new { plan = p, on = { greet = function (h, f)
      h:later(5, function () h:event("peer closed", f.conn, f.generation, { cause = { kind = "closed", close = 1005 } }) end)
      return true
    end } }
    local bot = host:add { session = true }
    host:start(bot)
    return host, bot
  end

  it("gives the third failed resume what it says", function ()
    local host = dying { { on = { session = true, stage = "greeting" }, times = 3, to = "fresh", line = 40 } }
    host:run(60000)
    local d = host:effects "journal"
    assert.same({ "resume", "resume", "fresh", "resume" },
      { d[1].decision.drop, d[2].decision.drop, d[3].decision.drop, d[4].decision.drop })
    assert.same({ "climb", 40 }, { d[3].decision.by, d[3].decision.line })
    assert.equal(1, #host:effects "drop session")
  end)

  it("counts an ending once, whether it was announced or told by the close code, and may fire by either", function ()
    local host = Host.new { plan = plan { climb = { { on = { close = 1013 }, times = 1, to = "fresh", line = 50 } } } }
    local bot = host:up { session = true }
    host:event("ending announced", bot, 1, ended("something", 5000))
    assert.equal("resume", host:last("journal").decision.drop)
    host:event("peer closed", bot, 1, closed(1013))
    local d = host:last("journal").decision
    assert.same({ "fresh", "climb", 50, 1 }, { d.drop, d.by, d.line, #host:effects "drop session" })
    host = Host.new { plan = plan { climb = { { on = { any = true }, times = 2, to = "fresh" } } } }
    bot = host:up { session = true }
    host:event("ending announced", bot, 1, ended("something", 5000))
    host:event("peer closed", bot, 1, closed(1013))
    assert.equal("resume", host:last("journal").decision.drop)
  end)

  it("in a row to a slow pace of its own begins at the short end of it", function ()
    for seed = 1, 10 do
      local host = Host.new { seed = seed, plan = plan { backoff = { first = 300 }, climb = { { on = { close = 1012 }, times = 2, pace = "slow", pace_span = { 4000, 600000 } } } } }
      local bot = host:up()
      for generation = 1, 2 do
        host:event("peer closed", bot, generation, closed(1012))
        local delay = host:last("journal").decision.delay
        if generation == 2 then assert.equal(4000, delay) end
        host:run(delay + 100)
      end
    end
  end)

  it("counts what is just as old as its window, and nothing older", function ()
    for _, case in ipairs { { 20000, "fresh" }, { 20001, "resume" } } do
      local host = Host.new { plan = plan { backoff = { settle = 1000, jitter = "none", first = 300 }, climb = { { on = { close = 1012 }, times = 2, within = 20000, to = "fresh" } } } }
      local bot = host:up { session = true }
      local from = host.now
      host:event("peer closed", bot, 1, closed(1012))
      host:run(case[1])
      assert.equal(case[1], host.now - from)
      host:event("peer closed", bot, 2, closed(1012))
      assert.equal(case[2], host:last("journal").decision.drop)
    end
  end)

  it("within a window counts as many as sixteen", function ()
    local host = Host.new { plan = plan { backoff = { settle = 1000, first = 300, most = 300 }, climb = { { on = { close = 1012 }, times = 16, within = 86400000, to = "fresh" } } } }
    local bot = host:up { session = true }
    for generation = 1, 18 do
      host:event("peer closed", bot, generation, closed(1012))
      assert.equal(generation >= 16 and "fresh" or "resume", host:last("journal").decision.drop, generation)
      host:run(5000)
    end
  end)

  it("starts counting again once it fired", function ()
    local host = dying { { on = { under = 5000 }, times = 3, to = "renew" } }
    host:run(200000)
    for i, f in ipairs(host:effects "journal") do
      assert.equal(i % 3 == 0 and "renew" or "resume", f.decision.drop)
    end
  end)

  it("to the slow pace that says why is an alarm, once until the link settled", function ()
    local slow = { on = { close = 1005 }, times = 3, within = 3600000, pace = "slow", pace_span = { 2000, 4000 },
                   note = "somebody else" }
    for _, row in ipairs { { any = true }, { any = true, pace = "slow" } } do
      local host = dying({ slow }, { classify = { row } })
      host:run(300000)
      assert.is_true(#host:effects "journal" > 5)
      assert.equal(1, #host:effects "alarm")
      assert.equal("somebody else", host:last("alarm").text)
    end
    slow.note = nil
    local host = dying { slow }
    host:run(60000)
    assert.equal(0, #host:effects "alarm")

    slow.note = "somebody else"
    host = Host.new { plan = plan { backoff = { settle = 1000 }, climb = { slow } } }
    local bot = host:up()
    for generation = 1, 4 do
      host:event("peer closed", bot, generation, closed(1005))
      host:run(9000)
    end
    assert.equal(2, #host:effects "alarm") -- it had settled before the fourth
  end)

  it("over a window climbs its own ladder by what the window holds, settled or not", function ()
    local host = Host.new { plan = plan { backoff = { settle = 1000 }, climb = {
      { on = { close = 1012 }, times = 2, within = 7200000, pace = "slow", pace_span = { 4000, 60000 } } } } }
    local bot = host:up()
    local least = { 0, 4000, 4000, 8000, 16000, 30000, 30000 } -- halves of 8, 16, 32 s, then of the longest
    for generation = 1, 7 do
      host:run(5000) -- settled, each time
      host:event("peer closed", bot, generation, closed(1012))
      local delay = host:last("journal").decision.delay
      assert.is_true(delay >= least[generation], generation .. ": " .. delay)
      host:run(62000)
    end
  end)

  it("forgets a row in a row when the link settled", function ()
    local host = Host.new { plan = plan { climb = { { on = { close = 1012 }, times = 2, to = "fresh" } } } }
    local bot = host:up()
    for generation = 1, 4 do
      host:run(70000)
      host:event("peer closed", bot, generation, closed(1012))
      assert.equal("resume", host:last("journal").decision.drop)
      host:run(3000)
    end
  end)

  it("keeps a window that slides on, through settling and firing", function ()
    local host = Host.new { plan = plan { backoff = { settle = 1000 }, climb = {
      { on = { close = 1012 }, times = 3, within = 60000, pace = "slow", pace_span = { 2000, 4000 } } } } }
    local bot = host:up()
    local paces = {}
    for generation = 1, 5 do
      host:event("peer closed", bot, generation, closed(1012))
      paces[generation] = host:last("journal").decision.pace
      host:run(9000)
    end
    assert.same({ "normal", "normal", "slow", "slow", "slow" }, paces)
    host:run(120000)
    host:event("peer closed", bot, 6, closed(1012))
    assert.equal("normal", host:last("journal").decision.pace)
  end)

  it("only raises", function ()
    local host = Host.new { plan = plan { climb = { { on = { any = true }, times = 1, to = "resume" } } } }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(4007))
    assert.same({ "fresh", "rule" }, { host:last("journal").decision.drop, host:last("journal").decision.by })
  end)
end)

describe("a gap", function ()
  it("is told when the session was lost, not when it was resumed", function ()
    local host = Host.new { plan = plan() }
    local bot = host:up { session = true }
    host:event("peer closed", bot, 1, closed(1006))
    host:run(5000)
    assert.equal(0, #host:effects "gap")
    host:event("peer closed", bot, 2, closed(4007))
    host:run(8000)
    assert.same({ "session lost", false }, { host:last("gap").cause, host:last("gap").certain })
    assert.equal("up", host:view(bot).state)
  end)

  it("is not told for the first session, which the greeting itself makes", function ()
    local host = Host.new { plan = plan(), on = { greet = function (h, f)
      h:event("session changed", f.conn, 0, { present = true })
      h:event("greeted", f.conn, f.generation)
      return true
    end } }
    host:up()
    assert.equal(0, #host:effects "gap")
  end)

  it("is told at every reconnect where nothing is replayed, and never at the first", function ()
    local host = Host.new()
    local bot = host:up()
    assert.equal(0, #host:effects "gap")
    host:event("peer closed", bot, 1, closed(1006))
    host:run(5000)
    assert.equal("not replayed", host:last("gap").cause)
  end)

  describe("of a platform that sends again what nobody acknowledged, for so long", function ()
    local refuse
    local function host_of()
      refuse = false
      return Host.new { plan = { session = { replay = "unacked", replay_for = 300000 }, backoff = { first = 1000, most = 1000 } },
        on = { dial = function (h, f)
          if not refuse then return false end
          h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
          return true
        end } }
    end

    it("is told after a longer break alone", function ()
      local host = host_of()
      local bot = host:up()
      for _, ms in ipairs { 1000, 200000, 290000 } do
        refuse = true
        host:event("peer closed", bot, host:view(bot).generation, closed(1006))
        host:run(ms)
        refuse = false
        host:run(5000)
        assert.equal("up", host:view(bot).state)
        assert.equal(0, #host:effects "gap")
      end
      refuse = true
      host:event("peer closed", bot, host:view(bot).generation, closed(1006))
      host:run(301000)
      refuse = false
      host:run(5000)
      assert.same({ "longer than the replay", false }, { host:last("gap").cause, host:last("gap").certain })
    end)

    it("is told after an operator's stop of that length, and after a sleep", function ()
      local host = host_of()
      local bot = host:up()
      host:event("stop requested", bot)
      host:run(301000)
      host:event("start requested", bot)
      host:run(5000)
      assert.equal(1, #host:effects "gap")
      host.boot_ahead = host.boot_ahead + 400000
      host:event("clock jumped", bot, 0, { suspended = 400000 })
      host:run(5000)
      assert.equal("up", host:view(bot).state)
      assert.equal(2, #host:effects "gap")
    end)
  end)
end)

describe("the tables of moves", function ()
  it("never leave a state for itself, and never skip a link's closing", function ()
    for _, s in ipairs { "stopped", "waiting", "queued", "preparing", "linking", "up", "closing" } do
      assert.is_false(engine.conn_legal(s, s))
    end
    for _, s in ipairs { "resolving", "connecting", "securing", "upgrading", "greeting", "ready", "draining" } do
      assert.is_true(engine.link_legal(s, "closing"))
      assert.is_false(engine.link_legal(s, "closed"))
    end
  end)
end)
