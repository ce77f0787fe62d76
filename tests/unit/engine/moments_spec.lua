-- What an event means depends on the moment it comes in: too early, twice, while something else is under way.
local engine = require "unit.engine"
local Host = require "engine_host"

local HOUR = 3600000
local function deaf() return true end
local function closed(code) return { cause = { kind = "closed", close = code } } end
local function ended(name, wait) return { cause = { kind = "ended", name = name }, wait = wait } end

describe("before a link greets", function ()
  it("nobody beats there, whoever asks", function ()
    local host = Host.new { plan = { beat = { every = 30000, first = "at_once" } }, on = { dial = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(50)
    host:event("beat set", bot, 1, { interval = 5000 })
    host:event("beat asked", bot, 1)
    assert.same({ "linking", 0 }, { host:view(bot).state, #host:effects "beat" })
  end)

  it("stages go forward only, however late one is told", function ()
    local host = Host.new { on = { dial = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(50)
    host:event("stage reached", bot, 1, { stage = "securing" })
    host:event("stage reached", bot, 1, { stage = "connecting" })
    host:event("stage reached", bot, 1, { stage = "greeting" })
    host:event("stage reached", bot, 1, { stage = "securing" })
    assert.equal("securing", host:view(bot).links[1].state)
    assert.equal("secure limit", host:view(bot).next)
  end)

  it("the stage that the host tells of a failure counts, and the link's own where it tells none of its own", function ()
    for told, is in pairs { connecting = "connecting", securing = "securing", resolving = "resolving", upgrading = "upgrading",
      preparing = "resolving", greeting = "resolving", ready = "resolving" } do
      local host = Host.new { on = { dial = deaf } }
      local bot = host:add()
      host:start(bot)
      host:run(50)
      host:event("dial failed", bot, 1, { cause = { kind = "timeout", stage = told } })
      assert.equal(is, host:view(bot).cause.stage, told)
    end
  end)
end)

describe("progress of a greeting", function ()
  it("means nothing any more once the link is ready", function ()
    local host = Host.new { plan = { backoff = { settle = 10000 } } }
    local bot = host:up()
    local deadline = host:view(bot).deadline
    host:run(5000)
    host:event("greeting progressed", bot, 1)
    assert.same({ deadline, "up" }, { host:view(bot).deadline, host:view(bot).state })
  end)
end)

describe("a start", function ()
  it("after a stop begins as if nothing had happened: failures, slow paces and climbs", function ()
    local plan = { backoff = { jitter = "none" }, slow = { first = 10000, most = 600000 }, session = {},
      climb = { { on = { close = 1012 }, times = 3, to = "renew" } }, classify = { { close = 4010, pace = "slow" } } }
    local host = Host.new { plan = plan }
    local bot = host:up()
    for generation = 1, 2 do
      host:event("peer closed", bot, generation, closed(1012))
      host:run(5000)
    end
    for generation = 3, 4 do
      host:event("peer closed", bot, generation, closed(4010))
      host:run(100000, function () return host:view(bot).state == "up" end)
    end
    assert.equal(4, host:view(bot).failed)
    host:event("stop requested", bot)
    host:run(1000)
    host:start(bot)
    host:run(1000)
    assert.same({ "up", 0 }, { host:view(bot).state, host:view(bot).failed })
    host:event("peer closed", bot, 6, closed(4010))
    assert.is_true(host:last("journal").decision.delay <= 10000)
    host:run(20000)
    host:event("peer closed", bot, 7, closed(1012))
    assert.same({ "resume", 2 }, { host:last("journal").decision.drop, host:last("journal").decision.attempt })
  end)

  it("while a hook thinks about a fatal ending leaves it stopped: the tables' word holds", function ()
    local host = Host.new { plan = { on_ended = true, classify = { { close = 4004, pace = "stop" } } }, on = { ["ask ended"] = deaf } }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(4004))
    host:run(500)
    host:start(bot)
    host:run(5000)
    assert.same({ "stopped", true, 1 }, { host:view(bot).state, host:view(bot).fatal, #host:effects "dial" })
  end)

  it("with the share for people is no wish for later: a link that serves, or comes to, spends it not", function ()
    local plan = { session = {}, budgets = { start = { windows = { { 20, HOUR } }, operators = 0.1 } } }
    local host = Host.new { plan = plan }
    local bot = host:up { session = true }
    host:event("start requested", bot, 0, { spend_reserve = true })
    assert.is_false(host:view(bot).spend_reserve)
    host = Host.new { plan = plan, latency = 200 }
    bot = host:add { session = true }
    host:event("start requested", bot, 0, { spend_reserve = true })
    assert.is_true(host:view(bot).spend_reserve)
    host:run(2000)
    assert.same({ "up", false }, { host:view(bot).state, host:view(bot).spend_reserve })
  end)
end)

describe("a session that comes while its connection waits for a start", function ()
  it("lets it go: it resumes", function ()
    local host = Host.new { plan = { session = {}, backoff = { jitter = "none" }, budgets = { start = { windows = { { 1, HOUR } } } } }, now = 1e6 }
    host.e:restore { account = 7, budget = "start", same_boot = true, boot = host.now - 10, at = host:clock() }
    local bot = host:add()
    host:start(bot)
    host:run(1000)
    assert.equal("queued", host:view(bot).state)
    host:event("session changed", bot, 0, { present = true })
    host:run(1000)
    assert.same({ "up", 0 }, { host:view(bot).state, #host:effects "store" })
  end)
end)

describe("an announced ending", function ()
  it("leaves the peer a minute at most for its own close", function ()
    local host = Host.new {}
    local bot = host:up()
    host:event("ending announced", bot, 1, ended("bye", 9e9))
    local from = host.now
    host:run(100000, function () return #host:effects "close" == 1 end)
    assert.equal(60000, host:last("close").at - from)
  end)

  it("and the close code after it are one ending: where it was, how old, and whether it resumed stay as they were", function ()
    local host = Host.new { plan = { session = {}, classify = { { close = 4004, drop = "fresh" } } } }
    local bot = host:up { session = true }
    host:run(7000)
    host:event("ending announced", bot, 1, ended("bye", 5000))
    local age = host:view(bot).cause.age
    assert.is_true(age >= 7000)
    host:run(3000)
    host:event("peer closed", bot, 1, closed(4004))
    local cause = host:view(bot).cause
    assert.same({ 4004, "ready", age, true }, { cause.close, cause.stage, cause.age, cause.session })
  end)

  it("whose stream then breaks is over at once, without a close frame, and aborted once", function ()
    local host = Host.new { on = { abort = deaf } }
    local bot = host:up()
    host:event("ending announced", bot, 1, ended("bye", 30000))
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:event("peer closed", bot, 1, { cause = { kind = "reset" } })
    assert.same({ 1, 0, "bye" }, { #host:effects "abort", #host:effects "close", host:view(bot).cause.name })
  end)

  it("that is planned and slow is no handover: the peer asked for patience", function ()
    local host = Host.new { plan = { overlap = 1, backoff = { settle = 1000 }, classify = { { cause = "bye", planned = true, pace = "slow" } } } }
    local bot = host:up()
    host:run(2000)
    host:event("ending announced", bot, 1, ended "bye")
    assert.same({ "closing", "slow" }, { host:view(bot).state, host:view(bot).decision.pace })
  end)
end)

describe("a broken assertion", function ()
  it("ends what was under way: sends are refused, the permit goes back, the pace is slow and counts", function ()
    local host = Host.new { plan = { session = {}, slow = { first = 1, most = 1 }, budgets = { start = { windows = { { 5, HOUR } } } } }, on = { greet = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    host:event("send requested", bot, 0, { send_id = 5 })
    host:event("upgraded", bot, 1)
    assert.same({ "internal", "slow", 1 }, { host:view(bot).cause.kind, host:view(bot).decision.pace, host:view(bot).failed })
    assert.equal(250, host:view(bot).decision.delay)
    host:run(10)
    assert.same({ 5, "link ended" }, { host:last("refuse").send_id, host:last("refuse").why })
    assert.same({ 1, 1, 5 }, { #host:effects "abort", #host:effects "alarm", host.e:budget(bot, "start", host:clock()).left })
    assert.equal("return", host:last("store").what)
  end)
end)

describe("a row", function ()
  local function m(row, cause) return engine.matches(row, cause) end

  it("takes both ends of a range, and nothing beside it", function ()
    for close, is in pairs { [4899] = false, [4900] = true, [4913] = true, [4914] = false } do
      assert.equal(is, m({ close = { 4007, { 4900, 4913 } } }, { kind = "closed", close = close }))
    end
    for http, is in pairs { [499] = false, [500] = true, [599] = true, [600] = false } do
      assert.equal(is, m({ http = { { 500, 599 } } }, { kind = "upgrade_refused", http = http }))
    end
    assert.is_false(m({ code = { 7, 9 } }, { kind = "failed", code = 8 }))
    assert.is_true(m({ code = { 7, 9 } }, { kind = "failed", code = 9 }))
    assert.is_true(m({ code = 0 }, { kind = "failed", code = 0 }))
  end)

  it("about an age asks for less than it, of anything that was dialled", function ()
    for age, is in pairs { [4999] = true, [5000] = false, [5001] = false } do
      assert.equal(is, m({ under = 5000 }, { kind = "eof", stage = "ready", age = age }))
    end
    assert.is_true(m({ under = 5000 }, { kind = "resolve", stage = "resolving", age = 1 }))
    assert.is_false(m({ under = 5000 }, { kind = "call", stage = "preparing", age = 1 }))
    assert.is_false(m({ under = 5000 }, { kind = "call", stage = "none", age = 1 }))
  end)

  it("about a session asks for one, or for none, or for neither", function ()
    for _, has in ipairs { true, false } do
      assert.equal(has, m({ session = true }, { kind = "eof", session = has }))
      assert.equal(not has, m({ session = false }, { kind = "eof", session = has }))
      assert.is_true(m({ stage = "ready" }, { kind = "eof", session = has, stage = "ready" }))
    end
  end)

  it("with several keys takes what fits all of them alone", function ()
    local row = { close = 4000, http = 503, code = 5, stage = "ready", by = "peer", cause = "bye", reason = "over", session = true, under = 100 }
    local function cause() return { kind = "closed", name = "bye", close = 4000, http = 503, code = 5, stage = "ready", by = "peer", reason = "it is over",
      session = true, age = 50 } end
    assert.is_true(m(row, cause()))
    for key, other in pairs { close = 4001, http = 502, code = 6, stage = "greeting", by = "us", name = "by", reason = "it is ove", session = false, age = 100 } do
      local c = cause()
      c[key] = other
      assert.is_false(m(row, c), key)
    end
  end)

  it("about a header finds it in any line, whatever white space is around its value", function ()
    local function head(text) return m({ header = "x-limit", header_value = "global" }, { kind = "upgrade_refused", head = text }) end
    for _, text in ipairs { "x-limit:global", "X-LIMIT: global", "a: b\nx-limit:\t global \t\r\n", "broken\nx-limit: global", "x-limit: other\nx-limit: global",
      "x-limitx: no\r\nx-limit: global\r\n\r\n", "\nx-limit:global\n" } do
      assert.is_true(head(text), text)
    end
    for _, text in ipairs { "x-limi: global", "x-limits: global", "x-limit: globa", "x-limit: globals", "x-limit : global", " x-limit: global", "x-limit global",
      "x-limit:\nglobal", "y: x-limit: global", "x-limit: glo bal", "x-limit: Global" } do
      assert.is_false(head(text), text)
    end
    assert.is_true(m({ header = "x-limit", header_value = "" }, { kind = "upgrade_refused", head = "x-limit: \t\r\n" }))
    assert.is_true(m({ header = "x-limit" }, { kind = "upgrade_refused", head = "x-limit:" }))
    assert.is_false(m({ header = "x-limit" }, { kind = "upgrade_refused", head = "x-limit:a" }))
  end)
end)
