-- An attempt whose work is not begun, because that of many others is under way.
local Host = require "engine_host"

local plan = { limits = { prepare = 30000 }, backoff = { first = 1000, jitter = "none" } }

-- One whose attempts all wait until the spec gives them their turn.
local function waiting(more)
  local host = Host.new { plan = more or plan, on = { prepare = function (h, f)
    h:event("turn awaited", f.conn, f.generation)
    return true
  end } }
  local bot = host:add()
  host:start(bot)
  return host, bot
end
local function given(host, bot)
  host:event("turn given", bot, host:view(bot).generation)
  host:fx_prepare { conn = bot, generation = host:view(bot).generation }
end

describe("an attempt that waits for its turn", function ()
  it("runs into no limit meanwhile, and says what it waits for", function ()
    local host, bot = waiting()
    assert.same({ "preparing", "turn" }, { host:view(bot).state, host:view(bot).next })
    host:run(500000)
    assert.same({ "preparing", "turn", 0 }, { host:view(bot).state, host:view(bot).next, host:view(bot).failed })
    given(host, bot)
    assert.same({ "prepare limit", host.now + 30000 }, { host:view(bot).next, host:view(bot).deadline })
    host:run(1000)
    assert.equal("up", host:view(bot).state)
    assert.same({ "preparing", "linking", "up" }, host.conns[bot].states)
    assert.same({}, host.violations)
  end)

  it("leaves the floor between its turn and the next attempt", function ()
    local host, bot = waiting { backoff = { first = 0, most = 0, jitter = "none" }, classify = { { any = true, delay = { 0, 0 } } } }
    host:run(5000)
    host:event("turn given", bot, 1)
    local at = host.now
    host:event("attempt failed", bot, 1, { cause = { kind = "call" } })
    host:run(3000, function () return host:view(bot).generation == 2 end)
    assert.is_true(host.now - at >= 250, host.now - at .. " ms")
    assert.same({}, host.violations)
  end)

  it("takes no turn of another attempt, none twice, and none that it did not ask for", function ()
    local host, bot = waiting()
    local stale = host:view(bot).stale
    host:event("turn given", bot, 7)
    assert.equal("turn", host:view(bot).next)
    given(host, bot)
    host:event("turn given", bot, 1)
    assert.equal("prepare limit", host:view(bot).next)
    host:run(1000)
    assert.equal("up", host:view(bot).state)
    host:event("turn awaited", bot, 1)
    host:event("turn given", bot, 1)
    assert.equal("up", host:view(bot).state)
    assert.equal(stale + 4, host:view(bot).stale)
  end)

  it("ends with a stop, and its turn with it", function ()
    local host, bot = waiting()
    host:event("stop requested", bot)
    assert.same({ "stopped", 1 }, { host:view(bot).state, #host:effects "cancel" })
    host:event("turn given", bot, 1)
    assert.equal("stopped", host:view(bot).state)
    assert.same({}, host.violations)
  end)

  it("that is forgotten is told to people, and tried again", function ()
    local host, bot = waiting()
    host:run(600000)
    assert.equal(1, #host:effects "alarm")
    assert.same({ "waiting", 1, "timeout" }, { host:view(bot).state, host:view(bot).failed, host:view(bot).cause.kind })
    host:run(5000)
    assert.same({ "turn", 2 }, { host:view(bot).next, host:view(bot).generation })
    assert.same({}, host.violations)
  end)

  it("of a handover serves on meanwhile", function ()
    local host = Host.new { plan = { overlap = 1, backoff = { settle = 1000 },
                                     classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } } } } }
    local bot = host:up()
    host.conns[bot].handover = true
    host:run(2000)
    host.on.prepare = function (h, f) h:event("turn awaited", f.conn, f.generation) return true end
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "reconnect" } })
    host:run(60000)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).generation })
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1000 } })
    host:run(1000)
    assert.same({ "preparing", "turn" }, { host:view(bot).state, host:view(bot).next })
    given(host, bot)
    host:run(1000)
    assert.same({ "up", 2 }, { host:view(bot).state, host:view(bot).generation })
    assert.same({}, host.violations)
  end)
end)

it("the bound of I6 counts the turns of all others", function ()
  local host = Host.new { connections = 2000 }
  local bot = host:add { name = "a", identity = 1 }
  host:start(bot)
  local alone = host.e:bound(bot, host:clock())
  for i = 2, 1025 do assert(host:add { name = "b" .. i, identity = i }) end
  local among = host.e:bound(bot, host:clock())
  assert.is_true(among >= alone + 4000, ("%d alone, %d among 1025"):format(alone, among))
end)

it("a link that serves has its deadlines before those that want to dial, however long these are due", function ()
  local host = Host.new { plan = { beat = { every = 5000 } } }
  local serving = host:up()
  local order = {}
  for i = 1, 20 do
    local bot = host:add { name = "w" .. i, identity = 100 + i }
    host:start(bot)
    host:event("attempt failed", bot, 1, { cause = { kind = "call" } })
    assert.equal("waiting", host:view(bot).state)
  end
  host.now = host.now + 120000 -- the loop stood still: all are due, the others' first
  for _ = 1, 21 do
    local due = host.e:due(host.now)
    order[#order + 1] = due
    host:event("deadline passed", due, 0, { pulses = {} })
  end
  assert.equal(serving, order[1])
  local seen = {}
  for _, h in ipairs(order) do seen[h] = true end
  local n = 0
  for _ in pairs(seen) do n = n + 1 end
  assert.equal(21, n)
end)
