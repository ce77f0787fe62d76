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
end)

describe("a hook's send", function ()
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
