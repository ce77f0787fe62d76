-- What the journal says of a decision, and what a decision does once and not twice.
local Host = require "engine_host"

local HOUR = 3600000
local function closed(code) return { cause = { kind = "closed", close = code } } end
local function ended(name, wait) return { cause = { kind = "ended", name = name }, wait = wait } end
-- Of a link that is closed with `code`, having failed so often before and settled or not.
local function decided(row, cause, more)
  more = more or {}
  local host = Host.new { plan = { session = { replay = "session" }, backoff = { jitter = "none", first = 1000, most = 64000, settle = 10000 },
    classify = { { close = 1012 }, row }, climb = more.climb, on_ended = more.on_ended }, on = more.on }
  local bot = host:up { session = true }
  for generation = 1, more.failed or 0 do
    host:event("peer closed", bot, generation, closed(1012))
    host:run(9000, function () return host:view(bot).state == "up" end)
  end
  host:run(more.settled and 10000 or 100)
  host:event("peer closed", bot, host:view(bot).generation, { cause = cause or { kind = "eof" } })
  host:run(50)
  return host:last("journal").decision, host, bot
end
local function numbers(d) return { d.wish_low, d.wish_high, d.backoff, d.delay, d.clamped } end

describe("a decision tells", function ()
  it("no wish where nothing was wished, and the backoff that was taken", function ()
    assert.same({ 0, 0, 1000, 1000, false }, numbers(decided { any = true }))
    assert.same({ 0, 0, 4000, 4000, false }, numbers(decided({ any = true }, nil, { failed = 2 })))
  end)

  it("the wish of the row, and that it was cut to what failures ask for", function ()
    assert.same({ 500, 500, 4000, 4000, true }, numbers(decided({ any = true, delay = { 500, 500 } }, nil, { failed = 2 })))
    assert.same({ 500, 500, 1000, 500, false }, numbers(decided({ any = true, delay = { 500, 500 } }, nil, { failed = 2, settled = true })))
    assert.same({ 9000, 9000, 4000, 9000, false }, numbers(decided({ any = true, delay = { 9000, 9000 } }, nil, { failed = 2 })))
    assert.same({ 10, 10, 1000, 250, true }, numbers(decided({ any = true, delay = { 10, 10 } }, nil, { settled = true })))
    local d = decided { any = true, delay = { 7000, 9000 } }
    assert.same({ 7000, 9000 }, { d.wish_low, d.wish_high })
  end)

  it("the peer's wish where the row heeds it, and the row's where there is none", function ()
    local row = { any = true, retry_after = true, otherwise = { 5000, 6000 } }
    local d = decided(row, { kind = "eof", retry_after = 20000 })
    assert.same({ 20000, 20000, false }, { d.wish_low, d.wish_high, d.clamped })
    d = decided(row)
    assert.same({ 5000, 6000, false }, { d.wish_low, d.wish_high, d.clamped })
    assert.same({ 0, 0, 1000, 1000, false }, numbers(decided({ any = true, retry_after = true })))
    for _, case in ipairs { { 500 }, { nil, { 500, 500 } } } do
      local heeds = { any = true, retry_after = true, otherwise = case[2] }
      d = decided(heeds, { kind = "eof", retry_after = case[1] }, { settled = true })
      assert.is_true(d.delay >= 500 and d.delay <= 525 and not d.clamped, d.delay)
      d = decided(heeds, { kind = "eof", retry_after = case[1] }, { failed = 2 })
      assert.same({ 4000, true }, { d.delay, d.clamped })
    end
    -- A row that heeds none hears none.
    assert.same({ 0, 0, 1000, 1000, false }, numbers(decided({ any = true }, { kind = "eof", retry_after = 20000 })))
  end)

  it("of what does not count the first step of the backoff, which any wish may go below", function ()
    assert.same({ 0, 0, 1000, 1000, false }, numbers(decided { any = true, counts = false }))
    local d = decided { any = true, counts = false, delay = { 300, 300 } }
    assert.same({ { 300, 300, 1000, 300, false }, 0 }, { numbers(d), d.attempt })
    assert.same({ 300, 300, 1000, 1000, true }, numbers(decided({ any = true, counts = false, delay = { 300, 300 } }, nil, { failed = 1 })))
  end)

  it("a wait of two days at most, whatever the row says", function ()
    for _, days in ipairs { 2, 3, 5, 30 } do
      local ms = days * 24 * HOUR
      local d = decided({ any = true, delay = { ms, ms } }, nil, { settled = true })
      assert.same({ ms, 48 * HOUR }, { d.wish_high, d.delay })
    end
  end)

  it("of a planned ending that is free neither backoff nor cut", function ()
    assert.same({ 100, 100, 0, 100, false }, numbers(decided({ any = true, planned = true, delay = { 100, 100 } }, nil, { settled = true })))
  end)

  it("nothing of the ending before it", function ()
    local host = Host.new { plan = { session = {}, backoff = { jitter = "none", settle = 10 },
      classify = { { close = 4001, drop = "fresh", delay = { 10, 10 }, line = 7, note = "x" }, { close = 4002, planned = true } } } }
    local bot = host:up()
    host:run(50)
    host:event("peer closed", bot, 1, closed(4001))
    assert.same({ 10, 10, 1000, 250, true }, numbers(host:last("journal").decision))
    host:run(1000)
    host:event("peer closed", bot, 2, closed(4002))
    local d = host:last("journal").decision
    assert.same({ { 0, 0, 0, 0, false }, "resume", 0, "" }, { numbers(d), d.drop, d.line, d.note })
  end)

  it("of an operator's stop nothing of the verdict before it", function ()
    local _, host, bot = decided({ any = true, drop = "fresh", delay = { 9000, 9000 }, line = 7, note = "x" }, nil, { failed = 1 })
    host:event("stop requested", bot)
    local d = host:last("journal").decision
    assert.same({ 0, 0, 0, false }, { d.wish_low, d.wish_high, d.backoff, d.clamped })
    assert.same({ "operator", "stop", "resume", 0, false, 2 }, { d.by, d.pace, d.drop, d.line, d.planned, d.attempt })
  end)
end)

describe("a planned ending that is free", function ()
  it("frees the next attempt from the floor, and none that an operator asks for after a stop", function ()
    for _, stopped in ipairs { true, false } do
      local host = Host.new { plan = { backoff = { settle = 10 }, classify = { { close = 1012, planned = true, delay = { 0, 0 } } } } }
      local bot = host:up()
      host:run(20)
      host:event("peer closed", bot, 1, closed(1012))
      if stopped then
        host:event("stop requested", bot)
        host:run(20)
        host:start(bot)
      end
      host:run(1000)
      local apart = host.conns[bot].prepares[2] - host.conns[bot].prepares[1]
      assert.equal(stopped, apart >= 250, apart)
      assert.equal("up", host:view(bot).state)
    end
  end)
end)

describe("a delay that a hook gives", function ()
  it("holds instead of the row's and the peer's", function ()
    for _, retry_after in ipairs { 20000, false } do
      local d = decided({ any = true, retry_after = true, otherwise = { 30000, 30000 } }, { kind = "eof", retry_after = retry_after or nil },
        { on_ended = true, on = { ["ask ended"] = function (h, f)
          h:later(1, function () h:event("verdict given", f.conn, f.generation, { delay = { 7000, 7000 } }) end)
          return true
        end } })
      assert.equal(7000, d.delay)
    end
  end)

  it("is not needed: the peer's wish holds where a hook gives none", function ()
    local d = decided({ any = true, retry_after = true }, { kind = "eof", retry_after = 20000 },
      { on_ended = true, on = { ["ask ended"] = function (h, f)
        h:later(1, function () h:event("verdict given", f.conn, f.generation, { drop = "fresh" }) end)
        return true
      end } })
    assert.same({ 20000, "fresh" }, { d.wish_low, d.drop })
  end)
end)

describe("a close code that is stronger than its announcement", function ()
  local function told(first, second)
    local host = Host.new { plan = { session = { replay = "session" }, backoff = { jitter = "none" }, slow = { first = 40000, most = 40000 },
      classify = { first, second } } }
    local bot = host:up { session = true }
    host:event("ending announced", bot, 1, ended("bye", 5000))
    host:run(1000)
    host:event("peer closed", bot, 1, closed(4001))
    return host, bot
  end

  it("drops what the announcement did not, once each", function ()
    local host = told({ cause = "bye", drop = "fresh" }, { close = 4001, drop = "renew" })
    assert.same({ 1, 1, "renew" }, { #host:effects "drop session", #host:effects "drop fetched", host:last("journal").decision.drop })
    host = told({ cause = "bye", drop = "renew" }, { close = 4001, drop = "renew", pace = "slow" })
    assert.same({ 1, 1, "slow" }, { #host:effects "drop session", #host:effects "drop fetched", host:last("journal").decision.pace })
    host = told({ cause = "bye" }, { close = 4001, drop = "fresh" })
    assert.same({ 1, 0 }, { #host:effects "drop session", #host:effects "drop fetched" })
    host = told({ cause = "bye", drop_fetch = "token" }, { close = 4001, drop_fetch = "token" })
    assert.equal(1, #host:effects "drop fetched")
    for _, names in ipairs { { "token", "url" }, { "url", "token" }, { "a", "b" } } do
      host = told({ cause = "bye", drop_fetch = names[1] }, { close = 4001, drop_fetch = names[2] })
      assert.same({ 2, names[2] }, { #host:effects "drop fetched", host:last("drop fetched").name })
    end
  end)

  it("is of the connection where it drops something: no link is named", function ()
    local host = told({ cause = "bye", drop = "fresh", drop_fetch = "token" }, { close = 4001, drop = "renew", drop_fetch = "url" })
    for _, kind in ipairs { "drop session", "drop fetched" } do
      for _, f in ipairs(host:effects(kind)) do assert.equal(0, f.generation) end
    end
    assert.same({ 1, 3, 1 }, { #host:effects "drop session", #host:effects "drop fetched", host:last("journal").generation })
  end)

  it("is the cause where it comes while a hook still thinks about the announcement, and a milder one is not", function ()
    for code, cause in pairs { [4001] = "fresh", [4002] = "resume" } do
      local host = Host.new { plan = { session = {}, on_ended = true, classify = { { close = 4001, drop = "fresh" } } },
        on = { ["ask ended"] = function () return true end } }
      local bot = host:up { session = true }
      host:event("ending announced", bot, 1, ended("bye", 5000))
      host:event("peer closed", bot, 1, closed(code))
      host:run(1100)
      local d = host:last("journal").decision
      assert.same({ cause, code == 4001 and code or nil, 1 }, { d.drop, d.cause.close, #host:effects "journal" })
      assert.equal(code == 4001 and "closed" or "bye", host:view(bot).cause.name)
    end
  end)

  it("by its pace alone is slow from the first decision on, or as long as that was", function ()
    local host, bot = told({ cause = "bye", delay = { 0, 0 }, planned = true }, { close = 4001, pace = "slow" })
    local d = host:last("journal").decision
    assert.is_true(d.delay >= 20000 and d.delay <= 40000, d.delay)
    assert.is_false(d.planned)
    local from = host.now - 1000
    host:run(60000)
    assert.equal(from + d.delay, host.conns[bot].prepares[2])
    host = told({ cause = "bye", delay = { 90000, 90000 } }, { close = 4001, pace = "slow" })
    assert.equal(90000, host:last("journal").decision.delay)
  end)
end)

describe("a climb and its row", function ()
  local function climbed(row, climb) return decided(row, nil, { climb = { climb } }) end

  it("that say the same are the row's decision", function ()
    local d = climbed({ any = true, drop = "fresh", line = 3, note = "row" }, { on = { any = true }, times = 1, to = "fresh", line = 9, note = "climb" })
    assert.same({ "fresh", "rule", 3, "row" }, { d.drop, d.by, d.line, d.note })
  end)

  it("that are both slow have the climb's ladder", function ()
    local d = climbed({ any = true, pace = "slow" }, { on = { any = true }, times = 1, pace = "slow", pace_span = { 5000, 5000 } })
    assert.is_true(d.delay >= 2500 and d.delay <= 5000, d.delay)
    d = climbed({ any = true, pace = "slow", pace_span = { 5000, 5000 } }, { on = { any = true }, times = 1, pace = "slow" })
    assert.is_true(d.delay >= 2500 and d.delay <= 5000, d.delay)
  end)

  it("of a planned ending of a settled link counts nothing, and of any other it does", function ()
    for _, case in ipairs { { true, true, "resume" }, { true, false, "fresh" }, { false, true, "fresh" } } do
      local d = decided({ any = true, planned = case[1] }, nil, { settled = case[2], climb = { { on = { any = true }, times = 1, to = "fresh" } } })
      assert.equal(case[3], d.drop)
    end
  end)

  it("in a row is forgotten when the link settles, also where another's window goes on", function ()
    local host = Host.new { plan = { session = {}, backoff = { settle = 1000 }, climb = {
      { on = { close = 1012 }, times = 2, to = "renew", line = 1 }, { on = { close = 1012 }, times = 3, within = HOUR, to = "fresh", line = 2 } } } }
    local bot = host:up { session = true }
    local lines = {}
    for generation = 1, 4 do
      host:event("peer closed", bot, generation, closed(1012))
      lines[generation] = host:last("journal").decision.line
      host:run(70000) -- settled, each time
    end
    assert.same({ 0, 0, 2, 2 }, lines)
  end)
end)

describe("what a climb counts", function ()
  it("has its room again when the link settled: troubles that come and go forever are counted each time", function ()
    local host = Host.new { connections = 2, plan = { session = {}, backoff = { settle = 1000 }, climb = { { on = { close = 1012 }, times = 2, to = "fresh" } } } }
    local bots = { host:up { name = "a", identity = 1 }, host:up { name = "b", identity = 2 } }
    local generation = 1
    for _ = 1, 12 do
      for _, drop in ipairs { "resume", "fresh" } do
        for _, bot in ipairs(bots) do
          host:event("peer closed", bot, generation, closed(1012))
          assert.equal(drop, host:last("journal").decision.drop)
        end
        generation = generation + 1
        host:run(5000, function () return host:view(bots[1]).state == "up" and host:view(bots[2]).state == "up" end)
      end
      host:run(2000)
    end
  end)
end)

describe("an alarm of a stop", function ()
  it("says the row's note, or the peer's reason, or what the ending is called, however short", function ()
    for want, case in pairs { n = { "n", "r" }, r = { nil, "r" }, eof = {} } do
      local d, host = decided({ any = true, pace = "stop", note = case[1] }, { kind = "eof", reason = case[2] })
      assert.equal(want, host:last("alarm").text)
      assert.is_nil(d.delay)
    end
  end)

  it("or of a climb to the slow pace needs but one letter", function ()
    local _, host = decided({ any = true }, nil, { climb = { { on = { any = true }, times = 1, pace = "slow", note = "x" } } })
    assert.equal("x", host:last("alarm").text)
  end)
end)
