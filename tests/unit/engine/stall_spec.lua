local engine = require "unit.engine"
local Host = require "engine_host"

local beats = { beat = { every = 41250, least = 5000, most = 120000 }, ping = 0, silence = 0, session = {} }
local function with(base, more)
  local p = {}
  for k, v in pairs(base) do p[k] = v end
  for k, v in pairs(more) do p[k] = v end
  return p
end
local function deaf() return true end

describe("beats", function ()
  it("come first within one interval and then at an even pace", function ()
    local host = Host.new { plan = beats }
    local bot = host:up()
    local from = host.now
    host:run(41250 * 20)
    local times = {}
    for i, f in ipairs(host:effects "beat") do times[i] = f.at end
    assert.is_true(times[1] - from < 41250)
    for i = 2, #times do assert.is_true(math.abs(times[i] - times[i - 1] - 41250) <= 412) end
    assert.is_true(#times >= 20)
    assert.same({ #times, #times }, { host:view(bot).beats_sent, host:view(bot).beats_answered })
    assert.equal(10, host:view(bot).round_trip)
  end)

  it("spread the first one over the whole interval by seed", function ()
    local low, high = math.huge, 0
    for seed = 1, 200 do
      local host = Host.new { plan = beats, seed = seed }
      local bot = host:up()
      local wait = host:view(bot).deadline - host.now
      if host:view(bot).next == "beat" then low, high = math.min(low, wait), math.max(high, wait) end
    end
    assert.is_true(low < 0.05 * 41250 and high > 0.95 * 41250)
  end)

  it("keep their interval while the greeting lasts", function ()
    local host = Host.new { plan = with(beats, { beat = { first = "after", least = 1000 }, limits = { greeting = 60000 } }), on = { greet = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    host:event("beat set", bot, 1, { interval = 5000 })
    local from = host.now
    host:run(16000)
    local times = {}
    for i, f in ipairs(host:effects "beat") do times[i] = f.at - from end
    assert.equal(3, #times)
    for i, at in ipairs(times) do assert.is_true(at > i * 4900 and at <= i * 5000, at) end -- a little early: beats of many go out together
  end)

  it("may start while greeting, with what the policy sets, clamped", function ()
    local host = Host.new { plan = with(beats, { beat = { first = "at_once", least = 5000, most = 120000 } }), on = { greet = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    host:event("beat set", bot, 1, { interval = 1 })
    assert.equal(1, #host:effects "beat")
    assert.equal(5000, host:view(bot).beat_interval)
    host:event("beat set", bot, 1, { interval = 1e9 })
    assert.equal(120000, host:view(bot).beat_interval)
  end)

  it("unanswered until the next is due prove death: keep code, drained first", function ()
    local host = Host.new { plan = beats, on = { beat = deaf } }
    local bot = host:up()
    host:run(200000, function () return host:view(bot).state ~= "up" end)
    local beat, close = host:effects("beat")[1], host:last "close"
    assert.equal(1, #host:effects "beat")
    assert.is_true(close.at - beat.at >= 41250 and close.at - beat.at <= 41250 + 10)
    assert.equal(4000, close.code)
    assert.same({ "beat", "ready" }, { host:view(bot).cause.kind, host:view(bot).cause.stage })
    assert.equal(1, #host:effects "drain")
  end)

  it("answered just before the next is due, or by what waits in the kernel, do not", function ()
    local host = Host.new { plan = beats, on = { beat = function (h, f)
      h:later(41249, function () h:event("beat answered", f.conn, f.generation) end)
      return true
    end } }
    local bot = host:up()
    host:run(400000)
    assert.equal("up", host:view(bot).state)
    host = Host.new { plan = beats, on = { beat = deaf, drain = function (h, f)
      h:later(1, function () h:event("beat answered", f.conn, f.generation); h:event("drained", f.conn, f.generation) end)
      return true
    end } }
    bot = host:up()
    host:run(400000)
    assert.same({ "up", 1 }, { host:view(bot).state, host:view(bot).generation })
    assert.is_true(engine.mark_hits "the beat's answer was waiting in the kernel" > 0)
  end)

  it("are never judged before a whole interval after they were sent", function ()
    for seed = 1, 60 do
      local host = Host.new { plan = beats, seed = seed, on = { beat = deaf }, lag = seed * 100 }
      local bot = host:up()
      host:run(300000, function () return host:view(bot).state ~= "up" end)
      assert.is_true(host:last("close").at - host:effects("beat")[1].at >= 41250)
    end
  end)

  it("may be missed `dead` times before they prove anything", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 10000, dead = 3 } }), on = { beat = deaf } }
    local bot = host:up()
    host:run(200000, function () return host:view(bot).state ~= "up" end)
    assert.equal(3, #host:effects "beat")
  end)

  it("may be missed now and then: one that is answered takes back those before it", function ()
    local count = 0
    local host = Host.new { plan = with(beats, { beat = { every = 10000, dead = 2 } }), on = { beat = function ()
      count = count + 1
      return count % 2 == 1 -- nobody answers every other one
    end } }
    local bot = host:up()
    host:run(400000)
    assert.same({ "up", 1 }, { host:view(bot).state, host:view(bot).generation })
    assert.is_true(count > 30)
  end)

  it("with a time for their answer are judged then, not at the next, and drained first", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 120000, within = 30000 } }), on = { beat = deaf } }
    local bot = host:up()
    host:run(400000, function () return host:view(bot).state ~= "up" end)
    local beat, close = host:effects("beat")[1], host:last "close"
    assert.equal(1, #host:effects "beat")
    assert.is_true(close.at - beat.at >= 30000 and close.at - beat.at <= 30010, "after " .. close.at - beat.at)
    assert.equal(30000, host:last("drain").at - beat.at)
    assert.equal("beat", host:view(bot).cause.kind)
    assert.equal("a beat was not answered in time", host:view(bot).cause.reason)
    assert.equal(1, #host:effects "drain")
  end)

  it("with a time for their answer go on at their own pace when it comes just before, or waits in the kernel", function ()
    local late = function (h, f)
      h:later(29999, function () h:event("beat answered", f.conn, f.generation) end)
      return true
    end
    local host = Host.new { plan = with(beats, { beat = { every = 120000, within = 30000, first = "after" } }), on = { beat = late } }
    local bot = host:up()
    host:run(120000 * 5 + 1000)
    assert.same({ "up", 5 }, { host:view(bot).state, #host:effects "beat" })
    host = Host.new { plan = with(beats, { beat = { every = 120000, within = 30000, first = "after" } }), on = { beat = deaf,
      drain = function (h, f)
        h:later(1, function () h:event("beat answered", f.conn, f.generation); h:event("drained", f.conn, f.generation) end)
        return true
      end } }
    bot = host:up()
    host:run(120000 * 5 + 1000)
    assert.same({ "up", 5 }, { host:view(bot).state, #host:effects "beat" })
    for i = 2, 5 do
      local apart = host:effects("beat")[i].at - host:effects("beat")[i - 1].at
      assert.is_true(apart <= 120000 and apart > 120000 - 256)
    end
  end)

  it("of many links go out in the same instants: early by a small part of their interval, never late", function ()
    for _, every in ipairs { 255, 256, 512, 600, 10000, 20000, 32768, 41250, 65536, 66000, 120000 } do
      local host = Host.new { plan = with(beats, { beat = { every = every, least = 200, most = 120000 } }) }
      local grid = 1
      while grid * 256 <= every and grid < 256 do grid = grid * 2 end
      for i = 1, 4 do host:up { name = "bot" .. i, identity = 100 + i } end
      host:run(every * 5)
      local last = {}
      for _, f in ipairs(host:effects "beat") do
        assert.equal(0, f.at % grid)
        local before = last[f.conn]
        if before then assert.is_true(f.at - before <= every and f.at - before > every - grid) end
        last[f.conn] = f.at
      end
    end
  end)

  it("that were not sent yet follow a new interval from now on, and the same one again changes nothing", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 60000, first = "after" } }) }
    local bot = host:up()
    host:run(5000)
    local due = host:view(bot).deadline
    host:event("beat set", bot, 1, { interval = 60000 })
    assert.same({ due, "beat" }, { host:view(bot).deadline, host:view(bot).next })
    host:event("beat set", bot, 1, { interval = 10000 })
    local wait = host:view(bot).deadline - host.now
    assert.is_true(wait <= 10000 and wait > 10000 - 128, wait)
  end)

  it("that were not sent yet go out with the next word about them where a new policy wants the first at once", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 60000, first = "after" } }) }
    local bot = host:up()
    host:event("policy swapped", bot, 0, { plan = engine.plan(with(beats, { beat = { every = 60000, first = "at_once" } })) })
    assert.equal(0, #host:effects "beat")
    host:event("beat set", bot, 1, { interval = 30000 })
    assert.equal(1, #host:effects "beat")
  end)

  it("without any interval are a second apart", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 0, least = 0, first = "after" } }) }
    local bot = host:up()
    assert.equal(1000, host:view(bot).beat_interval)
    host:run(10000)
    assert.equal(10, #host:effects "beat")
  end)

  it("that are owed an answer are given the whole interval", function ()
    local host = Host.new { plan = beats, on = { beat = deaf } }
    local bot = host:up()
    host:run(50000, function () return #host:effects "beat" == 1 end)
    assert.equal(host:last("beat").at + 41250, host:view(bot).deadline)
  end)

  it("with a time for their answer are probed again at once while `dead` allows more", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 120000, within = 5000, dead = 3 } }), on = { beat = deaf } }
    local bot = host:up()
    host:run(400000, function () return host:view(bot).state ~= "up" end)
    local list = host:effects "beat"
    assert.equal(3, #list)
    assert.is_true(host:last("close").at - list[1].at <= 15100)
  end)

  it("asked for by the platform are sent at once, without a check or a new timer", function ()
    local host = Host.new { plan = beats, on = { beat = function (h, f) return not f.asked end } }
    local bot = host:up()
    host:run(50000, function () return #host:effects "beat" == 1 end)
    local due = host:view(bot).deadline
    for _ = 1, 5 do host:event("beat asked", bot, 1) end
    assert.equal(6, #host:effects "beat")
    assert.is_true(host:last("beat").asked)
    assert.equal(due, host:view(bot).deadline)
    assert.equal(1, host:view(bot).beats_sent)
    host:event("beat answered", bot, 1)
    host:event("beat answered", bot, 1)
    assert.equal(1, host:view(bot).beats_answered)
    assert.equal("up", host:view(bot).state)
  end)

  it("use up what the link may send, our own and those that the platform asks for", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 60000, first = "at_once" }, budgets = { send = { windows = { { 5, 60000 } } } } }) }
    local bot = host:up()
    assert.same({ 1, 4 }, { #host:effects "beat", host.e:budget(bot, "send", host:clock()).left })
    for _ = 1, 3 do host:event("beat asked", bot, 1) end
    assert.equal(1, host.e:budget(bot, "send", host:clock()).left)
  end)

  it("that fall due while input is drained go out together with the judgement", function ()
    local together = {}
    local host = Host.new { plan = with(beats, { beat = { every = 10000 } }), on = { beat = deaf, drain = function (h, f)
      h:later(1, function ()
        h:event("beat answered", f.conn, f.generation)
        for _, e in ipairs(h:event("drained", f.conn, f.generation)) do together[#together + 1] = e.kind end
      end)
      return true
    end } }
    host:up()
    host:run(25000)
    assert.equal("beat", together[1])
  end)

  it("are told with the moment of their last answer", function ()
    local host = Host.new { plan = beats }
    local bot = host:up()
    assert.equal(0, host:view(bot).beat_answered)
    host:run(50000, function () return #host:effects "beat" == 1 end)
    host:run(5000)
    assert.equal(host:last("beat").at + 10, host:view(bot).beat_answered)
  end)

  it("belong to their link: a new one starts clean", function ()
    local host = Host.new { plan = beats, on = { beat = function (_, f) return f.generation == 1 end } }
    local bot = host:up()
    host:run(50000, function () return #host:effects "beat" == 1 end)
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(200000)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).generation })
  end)

  it("are only sent where the platform does not answer them", function ()
    local host = Host.new { plan = with(beats, { beat = { every = 10000, answered = false } }), on = { beat = deaf } }
    local bot = host:up()
    host:run(100000)
    assert.equal("up", host:view(bot).state)
    assert.is_true(#host:effects "beat" >= 9)
  end)
end)

describe("silence", function ()
  local plan = { ping = 20000, silence = 45000 }

  it("is met with pings, and ends the link only when they stay unanswered", function ()
    local host = Host.new { plan = plan, on = { ping = deaf } }
    local bot = host:up()
    local from = host.now
    host:run(44999)
    assert.equal("up", host:view(bot).state)
    assert.equal(2, #host:effects "ping")
    host:run(10)
    assert.same({ "silence", "closing" }, { host:view(bot).cause.kind, host:view(bot).state })
    assert.is_true(host:last("close").at - from <= 45000 + 5)
  end)

  it("of business frames alone never does: a quiet day ends with zero endings", function ()
    local host = Host.new { plan = plan }
    local bot = host:up()
    host:run(86400000)
    assert.same({ "up", 1 }, { host:view(bot).state, host:view(bot).generation })
    assert.is_true(#host:effects "ping" >= 4000)
    assert.equal(0, #host:effects "journal")
  end)

  it("is judged when its time is full, to the millisecond", function ()
    for _, case in ipairs { { { ping = 20000, silence = 45000 }, 45000 }, { { ping = 0, silence = 45000, promised = true }, 45000 },
                            { { ping = 30000, silence = 20000 }, 50000 } } do
      local host = Host.new { plan = case[1], on = { ping = deaf } }
      local bot = host:up()
      local from = host.now
      host:run(100000, function () return #host:effects "drain" == 1 end)
      -- A ping may go out a little early, with others, and what it proves is due as much earlier.
      local took = host:last("drain").at - from
      assert.is_true(took > case[2] * 0.99 and took <= case[2], took)
    end
  end)

  it("is judged after pending input was drained", function ()
    local host = Host.new { plan = plan, on = { ping = deaf, drain = function (h, f)
      h:later(1, function () h:event("drained", f.conn, f.generation, { pulse = { last_byte = h.now } }) end)
      return true
    end } }
    local bot = host:up()
    host:run(3600000)
    assert.equal("up", host:view(bot).state)
    assert.is_true(#host:effects "drain" > 10)
  end)

  it("is judged by the pulse we have when the drain never ends", function ()
    local host = Host.new { plan = plan, on = { ping = deaf, drain = deaf } }
    local bot = host:up()
    host:run(45999)
    assert.equal("up", host:view(bot).state)
    host:run(10)
    assert.equal("silence", host:view(bot).cause.kind)
  end)

  it("is not judged before the drain is over or out of time, whatever else wakes the engine", function ()
    local host = Host.new { plan = { ping = 20000, silence = 45000, beat = { every = 45500, first = "after", answered = false } },
      on = { ping = deaf, drain = deaf } }
    local bot = host:up()
    host:run(60000, function () return #host:effects "drain" == 1 end)
    local from = host.now
    assert.same({ from + 1000, "drain limit" }, { host:view(bot).deadline, host:view(bot).next })
    for _ = 1, 3 do host:deadline(bot) end
    host.now = from + 999
    host:deadline(bot)
    assert.equal("up", host:view(bot).state)
    host.now = from + 1000
    host:deadline(bot)
    assert.equal("closing", host:view(bot).state)
    -- A beat was due as well: not on a link that has ended.
    assert.same({ 0, 1 }, { #host:effects "beat", #host:effects "close" })
  end)

  it("is judged also where the drain took no time at all, and so is a beat's", function ()
    for _, more in ipairs { {}, { ping = 0, silence = 0, beat = { every = 60000, within = 10000 } } } do
      local host = Host.new { plan = with(plan, more), on = { ping = deaf, beat = deaf, drain = function (h, f)
        h:later(0, function () h:event("drained", f.conn, f.generation) end)
        return true
      end } }
      local bot = host:up()
      host:run(120000, function () return #host:effects "drain" == 1 end)
      local from = host.now
      host:run(1)
      assert.same({ "closing", from }, { host:view(bot).state, host:last("close").at })
    end
  end)

  it("is measured from now, at the latest, whatever moment a byte is told of", function ()
    local host = Host.new { plan = plan, on = { ping = deaf } }
    local bot = host:up()
    local from = host.now
    host:event("deadline passed", bot, 0, { pulses = { [1] = { last_byte = host.now + 1e7 } } })
    host:run(100000, function () return host:view(bot).state ~= "up" end)
    assert.is_true(host.now - from >= 44900 and host.now - from <= 45010, host.now - from)
  end)

  it("is met with pings that go out on the instants of many", function ()
    local host = Host.new { plan = { ping = 30000, silence = 300000 }, on = { ping = deaf } }
    host:up()
    host:run(200000)
    assert.is_true(#host:effects "ping" >= 6)
    for _, f in ipairs(host:effects "ping") do assert.equal(0, f.at % 128) end
  end)

  it("just as long as the interval of pings leaves the first ping as long again", function ()
    local host = Host.new { plan = { ping = 20000, silence = 20000 }, on = { ping = deaf } }
    local bot = host:up()
    local from = host.now
    host:run(100000, function () return host:view(bot).state ~= "up" end)
    assert.is_true(host.now - from > 39800 and host.now - from <= 40010, host.now - from)
  end)

  it("is not blamed on the peer when our own loop was late", function ()
    local host = Host.new { plan = plan }
    local bot = host:up()
    host.lag = 60000
    host:run(3600000)
    assert.same({ "up", 1 }, { host:view(bot).state, host:view(bot).generation })
  end)

  it("proves nothing where we send no pings and nobody promised any", function ()
    local host = Host.new { plan = { ping = 0, silence = 45000 } }
    local bot = host:up()
    host:run(3600000)
    assert.same({ "up", 1 }, { host:view(bot).state, host:view(bot).generation })
  end)

  it("alone proves death where the platform promised keep-alives", function ()
    local host = Host.new { plan = { ping = 0, silence = 45000, promised = true } }
    local bot = host:up()
    for _ = 1, 10 do
      host:run(40000)
      host:hear(bot, 1)
    end
    assert.equal("up", host:view(bot).state)
    host:run(45005)
    assert.equal("silence", host:view(bot).cause.kind)
  end)

  it("ends in an abort at the close limit when the peer answers nothing at all", function ()
    local host = Host.new { plan = plan, on = { ping = deaf, close = deaf } }
    local bot = host:up()
    host:run(45005)
    local close = host:last "close"
    host:run(1000)
    assert.equal(1000, host:last("abort").at - close.at)
    host:run(2000)
    assert.is_true(host:view(bot).generation == 2)
    assert.same({}, host.violations)
  end)
end)

describe("a probe", function ()
  it("that is repeated puts no judgement off: the first unanswered ping counts", function ()
    local host = Host.new { plan = { ping = 20000, silence = 45000 }, on = { ping = deaf } }
    local bot = host:up()
    local from = host.now
    host:run(40000)
    host:event("clock jumped", bot, 0, { suspended = 0 })
    host:run(60000, function () return host:view(bot).state ~= "up" end)
    assert.is_true(host.now - from >= 45000 and host.now - from <= 45010, host.now - from)
  end)

  it("of a wall clock step counts as the first ping where none was on its way", function ()
    local host = Host.new { plan = { ping = 20000, silence = 45000 }, on = { ping = deaf } }
    local bot = host:up()
    local from = host.now
    host:run(5000)
    host:event("clock jumped", bot, 0, { suspended = 0 })
    assert.equal(1, #host:effects "ping")
    host:run(100000, function () return host:view(bot).state ~= "up" end)
    assert.is_true(host.now - from >= 45000 and host.now - from <= 45010, host.now - from)
  end)

  it("goes to no link that is not ready", function ()
    local host = Host.new { on = { greet = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    host:event("clock jumped", bot, 0, { suspended = 0 })
    assert.same({ 0, 0, "linking" }, { #host:effects "ping", #host:effects "drain", host:view(bot).state })
  end)
end)

describe("a machine that slept", function ()
  it("for as long as the silence or one beat, whichever is shorter, has dead links; an instant less, and they are probed", function ()
    for _, case in ipairs {
      { { ping = 20000, silence = 45000 }, 45000 }, { { ping = 20000, silence = 300000 }, 300000 }, { { ping = 0, silence = 0 }, 60000 },
      { { ping = 0, silence = 0, beat = { every = 30000, first = "after" } }, 30000 }, { { silence = 45000, beat = { every = 90000, first = "after" } }, 45000 },
    } do
      for _, short in ipairs { 1, 0 } do
        local host = Host.new { plan = case[1] }
        local bot = host:up()
        host:event("clock jumped", bot, 0, { suspended = case[2] - short })
        assert.equal(short, #host:effects "abort" == 0 and 1 or 0, case[2])
      end
    end
  end)

  it("looks anew at a budget that it waits for, because that goes by boot time", function ()
    local host = Host.new { plan = { backoff = { jitter = "none" }, budgets = { dial = { windows = { { 1, 3600000 } } } } } }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(10000)
    assert.equal("queued", host:view(bot).state)
    host.boot_ahead = 3600000
    host:event("clock jumped", bot, 0, { suspended = 3600000 })
    host:run(1000)
    assert.equal("up", host:view(bot).state)
  end)

  it("aborts its links at once and is back within a second", function ()
    local host = Host.new { plan = { session = {} } }
    local bot = host:up { session = true }
    host:run(100000)
    host.boot_ahead = 600000
    local from = host.now
    host:event("clock jumped", bot, 0, { suspended = 600000 })
    assert.equal("suspend", host:view(bot).cause.kind)
    host:run(1000)
    assert.equal("up", host:view(bot).state)
    assert.is_true(host:last("abort").at == from and host:last("ready").at <= from + 1000)
    assert.equal(0, host:view(bot).failed)
  end)

  it("only probes after a nap or a step of the wall clock", function ()
    local host = Host.new {}
    local bot = host:up()
    host:event("clock jumped", bot, 0, { suspended = 44999 })
    assert.equal("ping", host.log[#host.log].kind)
    host:event("clock jumped", bot, 0, { suspended = 0 })
    assert.equal("up", host:view(bot).state)
    host = Host.new { plan = { ping = 20000, silence = 45000 } }
    bot = host:up()
    host:run(15000)
    host:event("clock jumped", bot, 0, { suspended = 44999 })
    local probed = host:last("ping").at
    host:run(30000, function () return host:last("ping").at > probed end)
    assert.is_true(host:last("ping").at - probed > 19500, "the next ping is an interval after the probe")
    host = Host.new { plan = { ping = 0, silence = 0 } }
    bot = host:up()
    host:event("clock jumped", bot, 0, { suspended = 59999 })
    assert.equal("drain", host.log[#host.log].kind)
    host:run(10)
    assert.equal("up", host:view(bot).state)
  end)
end)
