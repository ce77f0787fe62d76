-- Those who share an account's budgets: what one does, or is told, moves the others at once.
local Host = require "engine_host"
local engine = require "unit.engine"

local WALL, HOUR = 1700000000000, 3600000
local function deaf() return true end

-- `n` connections that wait in this order, the first for the place that is free at `host.first`, the others each a second later.
local function queue(n)
  local host = Host.new { plan = { session = {}, backoff = { jitter = "none" }, budgets = { start = { windows = { { 200, HOUR } } } } }, now = 1e7, connections = 128 }
  for i = 1, 200 do host.e:restore { account = 7, budget = "start", same_boot = true, boot = host.now - i * 1000, at = host:clock() } end
  local bots = {}
  for i = 1, n do
    bots[i] = host:add { name = "b" .. i, identity = i }
    host:start(bots[i])
  end
  host.first = 1e7 - 200000 + HOUR + 1
  return host, bots
end
local function places(host, bots)
  local found = {}
  for i, bot in ipairs(bots) do found[i] = (host:view(bot).deadline - host.first) / 1000 end
  return found
end

describe("who waits", function ()
  it("moves up as soon as one before it leaves", function ()
    local host, bots = queue(4)
    assert.same({ 0, 1, 2, 3 }, places(host, bots))
    host:event("stop requested", table.remove(bots, 2))
    assert.same({ 0, 1, 2 }, places(host, bots))
    host:event("stop requested", table.remove(bots, 1))
    assert.same({ 0, 1 }, places(host, bots))
    host:event("stop requested", table.remove(bots, 2))
    assert.same({ 0 }, places(host, bots))
  end)

  it("stands back as soon as a person goes before it, and persons go in the order they came", function ()
    local host, bots = queue(2)
    for i = 3, 5 do
      bots[i] = host:add { name = "person" .. i, identity = i }
      host:event("start requested", bots[i], 0, { spend_reserve = true })
    end
    assert.same({ 3, 4, 0, 1, 2 }, places(host, bots))
    host:event("stop requested", bots[3])
    table.remove(bots, 3)
    assert.same({ 2, 3, 0, 1 }, places(host, bots))
  end)

  it("counts those before it against what the platform says is left", function ()
    local host, bots = queue(3)
    host:event("budget told", bots[1], 0, { budget = "start", left = 2, reset = 2 * HOUR })
    assert.same({ 0, 1, (host.now + 2 * HOUR - host.first) / 1000 }, places(host, bots))
  end)

  it("learns so at once as one of the first sixty-four, and else when its own time comes", function ()
    local host, bots = queue(70)
    host:event("stop requested", table.remove(bots, 1))
    local found = places(host, bots)
    assert.same({ 0, 63, 65 }, { found[1], found[64], found[65] })
  end)

  it("begins at once when the claim before it is given back unused", function ()
    local host = Host.new { plan = { backoff = { jitter = "none" }, budgets = { dial = { windows = { { 1, 10000 } } } } }, on = { prepare = deaf } }
    local first, second = host:add { name = "x", identity = 50 }, host:add { name = "y", identity = 51 }
    host:start(first)
    host:start(second)
    assert.same({ "preparing", "queued", host.now + 10001 }, { host:view(first).state, host:view(second).state, host:view(second).deadline })
    host:event("attempt failed", first, 1, { cause = { kind = "call" } })
    assert.equal(host.now, host:view(second).deadline)
  end)

  it("hears what the platform tells another: what is left, until when, and how many lanes there are", function ()
    local host = Host.new { plan = { session = {}, budgets = { start = { windows = { { 100, HOUR } }, gap = 60000 } } } }
    local first, second = host:add { name = "x", identity = 50 }, host:add { name = "y", identity = 51, lane = 2 }
    host:event("budget told", first, 0, { budget = "start", lanes = 1 })
    host:start(first)
    host:start(second)
    assert.same({ "queued", host.now + 60000, "gap" }, { host:view(second).state, host:view(second).deadline, host:view(second).queue.hold })
    host:event("budget told", first, 0, { budget = "start", lanes = 16 })
    assert.equal(host.now, host:view(second).deadline)
    host:event("budget told", first, 0, { budget = "start", left = 1, reset = 777000 }) -- the first has it
    assert.same({ host.now + 777000, "told" }, { host:view(second).deadline, host:view(second).queue.hold })
  end)

  it("holds no place any longer once its attempt has found a session to resume", function ()
    local host = Host.new { plan = { session = {}, budgets = { start = { windows = { { 5, HOUR } } } } }, on = { prepare = deaf, dial = deaf } }
    local bot = host:add()
    host:start(bot)
    assert.equal(4, host.e:budget(bot, "start", host:clock()).left)
    host:event("session changed", bot, 0, { present = true })
    host:event("prepared", bot, 1)
    assert.same({ "linking", 5, false, 0 }, { host:view(bot).state, host.e:budget(bot, "start", host:clock()).left, host:view(bot).start_permit, #host:effects "store" })
  end)
end)

describe("what an account uses", function ()
  it("is exactly what its windows hold, the last millisecond of each included", function ()
    local host = Host.new { plan = { budgets = { call = { windows = { { 3, 10000 }, { 4, 50000 } } } } }, now = 1e6 }
    local bot = host:add()
    for _ = 1, 3 do host.e:call(bot, host:clock()) end
    local from = host.now
    host.now = from + 10000
    assert.same({ false, 1 }, { host.e:call(bot, host:clock()) })
    assert.same({ 0, 3, 10000, 3 }, { host.e:budget(bot, "call", host:clock()).left, host.e:budget(bot, "call", host:clock()).used,
      host.e:budget(bot, "call", host:clock()).window, host.e:budget(bot, "call", host:clock()).window_count })
    host.now = from + 10001
    assert.same({ 1, 3 }, { host.e:budget(bot, "call", host:clock()).left, host.e:budget(bot, "call", host:clock()).used })
    assert.is_true((host.e:call(bot, host:clock())))
    assert.same({ false, 40000 }, { host.e:call(bot, host:clock()) })
  end)

  it("shows of several windows the uses of the longest, wherever that stands", function ()
    for _, windows in ipairs { { { 9, 1000 }, { 9, 50000 } }, { { 9, 50000 }, { 9, 1000 } } } do
      local host = Host.new { plan = { budgets = { call = { windows = windows } } }, now = 1e6 }
      local bot = host:add()
      for _ = 1, 3 do
        host.e:call(bot, host:clock())
        host.now = host.now + 2000
      end
      assert.equal(3, host.e:budget(bot, "call", host:clock()).used)
    end
  end)

  it("is not told of calls where no budget for them is, though another's plan has one", function ()
    local host = Host.new { plan = {}, now = 1e6 }
    local bot = host:add()
    local other = host:add { name = "other", identity = 2, plan = engine.plan { budgets = { call = { windows = { { 1, HOUR } }, gap = 5000 } } } }
    assert.is_true((host.e:call(other, host:clock())))
    host:event("budget told", other, 0, { budget = "call", left = 0, reset = 30000 })
    assert.same({ true, 0 }, { host.e:call(bot, host:clock()) })
    assert.same({ false, 1 }, { (host.e:call(other, host:clock())), host.e:budget(other, "call", host:clock()).used })
  end)
end)

describe("what the platform tells", function ()
  local function told(fields, ...)
    local host = Host.new { plan = { session = {}, budgets = { start = { windows = { { 100, HOUR } } } } }, now = 1e6 }
    local bot = host:add()
    for _, f in ipairs { fields, ... } do
      host:event("budget told", bot, 0, f)
      host.now = host.now + 1000
    end
    return host, host:effects "store"
  end

  it("is stored once, and again when its reset is another", function ()
    local host, stores = told({ budget = "start", left = 5, reset = 60000 }, { budget = "start", left = 5, reset = 60000 })
    assert.same({ 2, 5, 1e6 + 61000, WALL + 1e6 + 61000 }, { #stores, stores[2].left, stores[2].until_boot, stores[2].until_wall })
    assert.is_not_nil(host)
  end)

  it("of lanes alone is stored without a moment, once", function ()
    local _, stores = told({ budget = "start", lanes = 4 }, { budget = "start", lanes = 4 })
    assert.same({ 1, -1, 4, 0, 0, 0 }, { #stores, stores[1].left, stores[1].lanes, stores[1].until_boot, stores[1].until_wall, stores[1].ticket })
    _, stores = told({ budget = "start", lanes = 4 }, { budget = "start", lanes = 5 })
    assert.same({ 2, 5 }, { #stores, stores[2].lanes })
  end)

  it("is nothing when it names neither", function ()
    local _, stores = told({ budget = "start" })
    assert.equal(0, #stores)
  end)
end)

describe("a send budget that a new policy widens", function ()
  it("forgets no send that was made", function ()
    local function plan(...) return { ping = 0, silence = 0, budgets = { send = { windows = { ... } } } } end
    local host = Host.new { plan = plan({ 4, 1000 }) }
    local bot = host:up()
    for id = 1, 47 do
      host:event("send requested", bot, 0, { send_id = id })
      host:run(300)
    end
    local times = {}
    for i, f in ipairs(host:effects "send") do times[i] = f.at end
    assert.equal(47, #times)
    host:event("policy swapped", bot, 0, { plan = engine.plan(plan({ 4, 1000 }, { 12, 70000 }, { 200, 80000 })) })
    host:event("send requested", bot, 0, { send_id = 48 })
    host:run(100000, function () return #host:effects "send" == 48 end)
    assert.equal(times[47 - 11] + 70001, host:last("send").at)
  end)
end)
