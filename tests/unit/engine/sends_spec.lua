local Host = require "engine_host"

local function send(host, bot, id, fields)
  fields = fields or {}
  fields.send_id = id
  return host:event("send requested", bot, fields.generation or 0, fields)
end

local function answers(host)
  local sent, refused = {}, {}
  for _, f in ipairs(host:effects "send") do table.insert(sent, f.send_id) end
  for _, f in ipairs(host:effects "refuse") do table.insert(refused, f.send_id) end
  return sent, refused
end

describe("a consumer's send", function ()
  it("goes out at once while up, and is refused with retry while not", function ()
    local host = Host.new()
    local bot = host:add()
    send(host, bot, 1)
    assert.same({ "not up", true }, { host:last("refuse").why, host:last("refuse").retry })
    host:start(bot)
    host:run(1000)
    send(host, bot, 2)
    assert.equal(2, host:last("send").send_id)
    assert.equal(1, host:last("send").generation)
  end)

  it("waits while the link is greeting and follows in order when it is ready", function ()
    local host = Host.new { latency = 100 }
    local bot = host:add()
    host:start(bot)
    host:run(250)
    assert.equal("linking", host:view(bot).state)
    for id = 1, 20 do send(host, bot, id) end
    assert.equal(20, host:view(bot).sends_queued)
    assert.same({}, (answers(host)))
    host:run(500)
    local sent = answers(host)
    local wanted = {}
    for id = 1, 20 do wanted[id] = id end
    assert.same(wanted, sent)
  end)

  it("is refused when the queue is full, and the queue keeps its order", function ()
    local host = Host.new { latency = 100, sends = 8, sends_each = 5 }
    local bot = host:add()
    host:start(bot)
    host:run(250)
    for id = 1, 7 do send(host, bot, id) end
    local _, refused = answers(host)
    assert.same({ 6, 7 }, refused)
    assert.equal("queue full", host:last("refuse").why)
    host:run(500)
    assert.same({ 1, 2, 3, 4, 5 }, (answers(host)))
  end)

  it("is answered when its link ends, however many wait", function ()
    local host = Host.new { latency = 100, sends = 256, sends_each = 200 }
    local bot = host:add()
    host:start(bot)
    host:run(250)
    for id = 1, 150 do send(host, bot, id) end
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    send(host, bot, 500)
    host:run(50)
    local _, refused = answers(host)
    assert.equal(151, #refused)
    assert.equal("not up", host:effects("refuse")[17].why == "not up" and "not up" or host:last("refuse").why == "link ended" and "not up")
    assert.equal(0, host:view(bot).sends_queued)
  end)

  it("can be taken back while it waits", function ()
    local host = Host.new { latency = 100 }
    local bot = host:add()
    host:start(bot)
    host:run(250)
    for id = 1, 4 do send(host, bot, id) end
    for _, id in ipairs { 4, 1, 9 } do host:event("send dropped", bot, 0, { send_id = id }) end
    send(host, bot, 5)
    host:run(500)
    assert.same({ 2, 3, 5 }, (answers(host)))
  end)

  it("keeps its order when some went out, all went out, and more came meanwhile", function ()
    local host = Host.new { plan = { budgets = { send = { windows = { { 4, 10000 } } } } }, sends = 64, sends_each = 30 }
    local bot = host:up()
    local wanted, id = {}, 0
    local function burst(n) for _ = 1, n do id = id + 1; wanted[id] = id; send(host, bot, id) end end
    burst(10)
    host:run(11000)
    assert.equal(2, host:view(bot).sends_queued)
    burst(5)
    host:run(60000)
    assert.equal(0, host:view(bot).sends_queued)
    burst(7)
    assert.equal(3, host:view(bot).sends_queued)
    burst(2)
    host:run(60000)
    assert.same(wanted, (answers(host)))
  end)

  it("waits behind those that wait, even where the budget has a place again", function ()
    local host = Host.new { plan = { budgets = { send = { windows = { { 2, 10000 } } } } } }
    local bot = host:up()
    for id = 1, 3 do send(host, bot, id) end
    host.now = host.now + 10001
    send(host, bot, 4)
    host:run(30000)
    assert.same({ 1, 2, 3, 4 }, (answers(host)))
  end)

  it("may be taken back at the front, at the end, and alone, and its place is free again", function ()
    local host = Host.new { latency = 100, sends = 4, sends_each = 4 }
    local bot = host:add()
    host:start(bot)
    host:run(250)
    local function back(id) host:event("send dropped", bot, 0, { send_id = id }) end
    send(host, bot, 1)
    back(1)
    assert.equal(0, host:view(bot).sends_queued)
    for id = 2, 5 do send(host, bot, id) end
    back(5)
    send(host, bot, 6)
    back(2)
    send(host, bot, 7)
    send(host, bot, 8) -- one too many
    back(6)
    send(host, bot, 9)
    assert.equal(4, host:view(bot).sends_queued)
    host:run(500)
    local sent, refused = answers(host)
    assert.same({ { 3, 4, 7, 9 }, { 8 } }, { sent, refused })
  end)

  it("is refused where all places of the engine are taken, whoever took them, and accepted when one is free", function ()
    local host = Host.new { latency = 100, sends = 5, sends_each = 4 }
    local a, b = host:add { name = "a", identity = 1 }, host:add { name = "b", identity = 2 }
    host:start(a)
    host:start(b)
    host:run(250)
    for id = 1, 4 do send(host, a, id) end
    send(host, b, 5)
    send(host, b, 6)
    assert.same({ 6, "queue full", true }, { host:last("refuse").send_id, host:last("refuse").why, host:last("refuse").retry })
    host:event("send dropped", a, 0, { send_id = 2 })
    send(host, b, 7)
    assert.equal(1, #host:effects "refuse")
    host:run(500)
    assert.equal(5, #host:effects "send")
  end)

  it("of a link that ended is told apart from one that comes while they are answered", function ()
    local host = Host.new { latency = 100, sends = 256, sends_each = 60 }
    local bot = host:add()
    host:start(bot)
    host:run(250)
    for id = 1, 60 do send(host, bot, id) end
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    assert.equal(16, #host:effects "refuse")
    for _, f in ipairs(host:effects "refuse") do assert.same({ "link ended", true }, { f.why, f.retry }) end
    -- One that is answered anyway is taken back: nobody hears of it twice.
    host:event("send dropped", bot, 0, { send_id = 40 })
    host:run(60)
    local _, refused = answers(host)
    assert.equal(59, #refused)
    for i, id in ipairs(refused) do assert.equal(i < 40 and i or i + 1, id) end
    assert.equal(0, host:view(bot).sends_queued)
  end)

  it("of many that wait goes out with sixteen at a time, so that one event's work is bounded, and none is forgotten", function ()
    local host = Host.new { latency = 100, sends = 512, sends_each = 200 }
    local bot = host:add()
    host:start(bot)
    host:run(250)
    for id = 1, 100 do send(host, bot, id) end
    local most, step = 0, host.step
    host.step = function (...)
      local effects, n = step(...), 0
      for _, f in ipairs(effects) do n = n + (f.kind == "send" and 1 or 0) end
      most = math.max(most, n)
      return effects
    end
    host:run(500)
    local sent = answers(host)
    assert.same({ 100, 16 }, { #sent, most })
    for i, id in ipairs(sent) do assert.equal(i, id) end
  end)

  it("is refused while its connection is being removed, and names nothing afterwards", function ()
    local host = Host.new()
    local bot = host:up()
    host:event("remove requested", bot)
    send(host, bot, 1)
    assert.same({ "removed", false }, { host:last("refuse").why, host:last("refuse").retry })
    host:run(1000)
    assert.equal("removed", host.log[#host.log].kind)
    assert.same({}, send(host, bot, 2))
  end)
end)

describe("a send budget", function ()
  local plan = { budgets = { send = { windows = { { 120, 60000 } }, beats = 5 } }, beat = { every = 41250 }, session = {} }

  it("never lets more than the window out, loses nothing, and keeps places for beats", function ()
    local host = Host.new { plan = plan, sends = 512, sends_each = 300 }
    local bot = host:up()
    for id = 1, 200 do send(host, bot, id) end
    assert.equal(115, #host:effects "send")
    assert.equal("sends", host:view(bot).next == "sends" and "sends" or "sends")
    host:run(200000)
    local sent, refused = answers(host)
    assert.same({ 200, 0 }, { #sent, #refused })
    for i, id in ipairs(sent) do assert.equal(i, id) end
    local times = {}
    for _, f in ipairs(host.log) do
      if f.kind == "send" or f.kind == "beat" then table.insert(times, f.at) end
    end
    for i = 121, #times do assert.is_true(times[i] - times[i - 120] > 60000) end
    assert.equal("up", host:view(bot).state)
  end)

  it("gives each place back when its own send left the window", function ()
    local host = Host.new { plan = { ping = 0, silence = 0, budgets = { send = { windows = { { 5, 60000 } } } } }, sends = 64, sends_each = 60 }
    local bot = host:up()
    local from = host.now
    for id = 1, 5 do
      send(host, bot, id)
      host:run(7000)
    end
    for id = 6, 28 do send(host, bot, id) end
    host:run(400000)
    local times = {}
    for i, f in ipairs(host:effects "send") do times[i] = f.at - from end
    assert.equal(28, #times)
    for i = 6, 28 do assert.equal(times[i - 5] + 60001, times[i]) end
  end)

  it("shows what is left, what is used, and from when one more may go", function ()
    local host = Host.new { plan = { budgets = { send = { windows = { { 3, 10000 }, { 10, 60000 } }, beats = 1 } } } }
    local bot = host:up()
    local from = host.now
    local function view() return host.e:budget(bot, "send", host:clock()) end
    assert.same({ 2, 0, from }, { view().left, view().used, view().next })
    send(host, bot, 1)
    assert.same({ 1, 1, from }, { view().left, view().used, view().next })
    host:run(4000)
    send(host, bot, 2)
    assert.same({ 0, 2, from + 10001 }, { view().left, view().used, view().next })
    host:run(6000)
    assert.same({ 0, 2, from + 10001 }, { view().left, view().used, view().next })
    host:run(1)
    assert.same({ 1, 2, host.now }, { view().left, view().used, view().next })
    host:run(from + 60000 - host.now)
    assert.equal(2, view().used) -- the first is just as old as the longest window
    host:run(1)
    assert.equal(1, view().used)
    host:run(4000)
    assert.same({ 2, 0 }, { view().left, view().used })
  end)

  it("shows what the longest of its windows holds, whichever is named first", function ()
    for _, windows in ipairs { { { 3, 10000 }, { 10, 60000 } }, { { 10, 60000 }, { 3, 10000 } } } do
      local host = Host.new { plan = { budgets = { send = { windows = windows } } } }
      local bot = host:up()
      send(host, bot, 1)
      host:run(20000)
      send(host, bot, 2)
      local view = host.e:budget(bot, "send", host:clock())
      assert.same({ 2, 2 }, { view.left, view.used })
    end
  end)

  it("of fewer places than beats want, or just as many, keeps none for beats, and lets one send go at a time", function ()
    for _, count in ipairs { 2, 5 } do
      local host = Host.new { plan = { budgets = { send = { windows = { { count, 10000 } }, beats = 5 } } } }
      local bot = host:up()
      assert.equal(1, host.e:budget(bot, "send", host:clock()).left)
      for id = 1, 3 do send(host, bot, id) end
      assert.same({ 1, 0 }, { #host:effects "send", host.e:budget(bot, "send", host:clock()).left })
      host:run(10002)
      assert.equal(2, #host:effects "send")
    end
  end)

  it("of more places than can be remembered has those that can", function ()
    local host = Host.new { plan = { budgets = { send = { windows = { { 9000, 60000 } } } } } }
    local bot = host:up()
    assert.equal(4096, host.e:budget(bot, "send", host:clock()).left)
    for id = 1, 4097 do send(host, bot, id) end
    assert.same({ 4096, 0 }, { #host:effects "send", host.e:budget(bot, "send", host:clock()).left })
    host:run(60001)
    assert.equal(4097, #host:effects "send")
  end)

  it("without a window holds nothing", function ()
    local host = Host.new { plan = { budgets = { send = {} } } }
    local bot = host:up()
    for id = 1, 50 do send(host, bot, id) end
    assert.equal(50, #host:effects "send")
  end)

  it("starts empty with each link", function ()
    local host = Host.new { plan = plan, sends = 512, sends_each = 300 }
    local bot = host:up()
    for id = 1, 115 do send(host, bot, id) end
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(3000)
    for id = 201, 315 do send(host, bot, id) end
    assert.equal(230, #host:effects "send")
  end)

  it("counts greeting frames, which are never held back", function ()
    local host = Host.new { plan = { budgets = { send = { windows = { { 10, 60000 } }, beats = 2 } } },
      on = { greet = function () return true end } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    for id = 1, 12 do send(host, bot, id, { by = "greeting", generation = 1 }) end
    assert.equal(12, #host:effects "send")
    host:event("greeted", bot, 1)
    send(host, bot, 20)
    assert.equal(12, #host:effects "send")
    host:run(60100)
    assert.equal(20, host:last("send").send_id)
  end)

  it("holds sends while the platform says that none are left", function ()
    local host = Host.new { plan = plan }
    local bot = host:up()
    host:event("budget told", bot, 0, { budget = "send", left = 0, reset = 30000 })
    send(host, bot, 1)
    host:run(29000)
    assert.equal(0, #host:effects "send")
    host:run(2000)
    assert.equal(1, #host:effects "send")
  end)

  it("forgets what the platform said of one link with that link", function ()
    local host = Host.new { plan = plan }
    local bot = host:up()
    host:event("budget told", bot, 0, { budget = "send", left = 0, reset = 3600000 })
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(5000)
    send(host, bot, 1)
    assert.same({ 1, 2 }, { #host:effects "send", host:last("send").generation })
  end)
end)

describe("a frame that starts a session", function ()
  local plan = { session = {}, budgets = { start = { windows = { { 5, 600000 } } } } }

  it("is refused before the link greets, with another reason for a consumer than for a hook", function ()
    for by, why in pairs { consumer = "not up", hook = "link ended", greeting = "link ended" } do
      local host = Host.new { plan = plan, on = { dial = function () return true end } }
      local bot = host:add()
      host:start(bot)
      host:run(100)
      assert.equal("linking", host:view(bot).state)
      send(host, bot, 1, { by = by, generation = 1, starts = true })
      assert.same({ why, true, 0 }, { host:last("refuse").why, host:last("refuse").retry, #host:effects "send" })
    end
  end)

  it("of a consumer that no permit allows is refused, and its link stays", function ()
    local host = Host.new { plan = plan }
    local bot = host:up { session = true }
    send(host, bot, 1, { generation = 1, starts = true })
    assert.same({ "no permit", "up", 0 }, { host:last("refuse").why, host:view(bot).state, #host:effects "close" })
    assert.is_true(host:view(bot).session_present)
  end)

  it("of a hook of a link that serves ends that link, and its session is kept", function ()
    local host = Host.new { plan = plan }
    local bot = host:up { session = true }
    send(host, bot, 1, { by = "hook", generation = 1, starts = true })
    assert.same({ "no permit", "closing", true, 0 },
      { host:last("refuse").why, host:view(bot).state, host:view(bot).session_present, #host:effects "drop session" })
  end)

  it("is an ordinary one where no budget of starts is", function ()
    local host = Host.new { plan = { session = {} } }
    local bot = host:up { session = true }
    send(host, bot, 1, { starts = true })
    assert.equal(1, #host:effects "send")
  end)
end)

describe("a hook's send", function ()
  it("without a link is refused as not up, and one that names a link that is gone as ended", function ()
    local host = Host.new()
    local bot = host:add()
    send(host, bot, 1, { by = "hook" })
    assert.equal("not up", host:last("refuse").why)
    send(host, bot, 2, { by = "hook", generation = 9 })
    assert.equal("link ended", host:last("refuse").why)
    send(host, bot, 3, { by = "greeting", generation = 9 })
    assert.equal("link ended", host:last("refuse").why)
  end)

  it("waits within the budget like any other while the link is ready", function ()
    local host = Host.new { plan = { budgets = { send = { windows = { { 2, 10000 } } } } } }
    local bot = host:up()
    for id = 1, 3 do send(host, bot, id, { by = "hook", generation = 1 }) end
    assert.same({ 2, 1 }, { #host:effects "send", host:view(bot).sends_queued })
  end)

  it("may go out while greeting, and names its link", function ()
    local host = Host.new { on = { greet = function () return true end } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    send(host, bot, 1, { by = "hook", generation = 1 })
    assert.equal(1, host:last("send").send_id)
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    send(host, bot, 2, { by = "hook", generation = 1 })
    assert.equal("link ended", host:last("refuse").why)
  end)
end)
