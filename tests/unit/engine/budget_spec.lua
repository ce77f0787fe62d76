local Host = require "engine_host"

local function start_plan(windows, gap, more)
  local p = { session = { replay = "session" }, budgets = { start = { windows = windows, gap = gap or 0 } } }
  for k, v in pairs(more or {}) do p[k] = v end
  return p
end

-- A platform whose greeting needs a start frame unless the attempt resumes. `die`: the link is closed
-- right after the start frame.
local function identifies(die)
  return function (host, f)
    host:later(5, function ()
      if not host:alive(f) then return end
      local view = host:view(f.conn)
      if not view.session_present then
        host.sent = (host.sent or 0) + 1
        host:event("send requested", f.conn, f.generation, { send_id = host.sent, by = "greeting", starts = true })
      end
      if not host:alive(f) then return end
      if die then
        host:event("peer closed", f.conn, f.generation, { cause = { kind = "closed", close = 1000 } })
      else
        host:later(5, function () if host:alive(f) then host:event("greeted", f.conn, f.generation) end end)
      end
    end)
    return true
  end
end

local function starts(host)
  local times = {}
  for i, f in ipairs(host:effects "send") do times[i] = f.at end
  return times
end

local function most_in(times, window)
  local most, from = 0, 1
  for i = 1, #times do
    while times[i] - times[from] > window do from = from + 1 end
    most = math.max(most, i - from + 1)
  end
  return most
end

describe("a start budget", function ()
  it("stores a permit before the dial, and spends it with the start frame", function ()
    local host = Host.new { plan = start_plan { { 10, 3600000 } }, on = { greet = identifies() } }
    local bot = host:up()
    local order = {}
    for _, f in ipairs(host.log) do
      if f.kind == "prepare" or f.kind == "store" or f.kind == "dial" or f.kind == "send" then table.insert(order, f.kind) end
    end
    assert.same({ "prepare", "store", "dial", "send" }, order)
    assert.is_true(host:effects("prepare")[1].needs_start)
    assert.is_true(host:view(bot).start_permit)
    assert.equal(9, host.e:budget(bot, "start", host:clock()).left)
  end)

  it("needs none for an attempt that resumes", function ()
    local host = Host.new { plan = start_plan { { 10, 3600000 } }, on = { greet = identifies() } }
    local bot = host:up { session = true }
    assert.equal(0, #host:effects "store")
    assert.is_false(host:effects("prepare")[1].needs_start)
    assert.equal(10, host.e:budget(bot, "start", host:clock()).left)
  end)

  it("needs one when the stored session is too old by the wall clock", function ()
    local host = Host.new { plan = start_plan({ { 10, 3600000 } }, 0, { session = { age = 60000 } }), on = { greet = identifies() } }
    host:up { session = true, session_saved = 1700000000000 - 60000 }
    assert.equal("permit", host:last("store").what)
  end)

  it("lets a session age from its last use, not from its start", function ()
    local host = Host.new { plan = start_plan({ { 10, 3600000 } }, 0, { session = { age = 60000 } }), on = { greet = identifies() } }
    local bot = host:up { session = true }
    host:run(600000)
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    host:run(5000)
    assert.same({ "up", 0 }, { host:view(bot).state, #host:effects "store" })
  end)

  it("holds in every sliding window while every link dies right after its start frame", function ()
    local host = Host.new { plan = start_plan { { 22, 3600000 }, { 298, 86400000 } }, on = { greet = identifies(true) } }
    local bot = host:add()
    host:start(bot)
    host:run(86400000 * 1.5)
    local times = starts(host)
    assert.equal(22, most_in(times, 3600000))
    assert.equal(298, most_in(times, 86400000))
    assert.is_true(#host:effects "dial" == #times)
    assert.same({}, host.violations)
  end)

  it("keeps a share for people", function ()
    local plan = start_plan { { 20, 3600000 } }
    plan.budgets.start.operators = 0.1
    local host = Host.new { plan = plan, on = { greet = identifies(true) } }
    host:start(host:add())
    host:run(3500000)
    assert.equal(18, #starts(host))
  end)

  it("gives the permit back when the start frame was never sent", function ()
    local host = Host.new { plan = start_plan { { 2, 3600000 } }, on = { dial = function (h, f)
      h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
      return true
    end } }
    local bot = host:add()
    host:start(bot)
    host:run(600000)
    assert.is_true(#host:effects "dial" > 5)
    local last = host:last "store"
    assert.same({ "return", true }, { last.what, last.no_answer })
    assert.equal(2, host.e:budget(bot, "start", host:clock()).left)
  end)

  it("waits in the queue with a deadline, prepares nothing, and goes on when the window allows", function ()
    local host = Host.new { plan = start_plan { { 1, 60000 } }, on = { greet = identifies() } }
    local bot = host:up()
    local first = starts(host)[1]
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1000 } })
    host:run(5000)
    local view = host:view(bot)
    assert.same({ "queued", "budget", first + 60001 }, { view.state, view.next, view.deadline })
    assert.equal(1, #host:effects "prepare")
    host:run(120000)
    assert.same({ "up", 2 }, { host:view(bot).state, #starts(host) })
    assert.is_true(starts(host)[2] - first > 60000)
    assert.same({}, host.violations)
  end)

  it("ends the attempt with a cause when the permit could not be stored, and does not lose it", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, on = { greet = identifies(), store = function (h, f)
      if h.healed then return false end
      h:later(5, function () h:event("store failed", f.conn, 0, { ticket = f.ticket }) end)
      return true
    end } }
    local bot = host:add()
    host:start(bot)
    host:run(30000)
    assert.same({ "waiting", "store", "preparing" }, { host:view(bot).state, host:view(bot).cause.kind, host:view(bot).cause.stage })
    assert.equal(0, #host:effects "dial")
    host.healed = true
    host:run(120000)
    assert.equal("up", host:view(bot).state)
    assert.equal(2, host.e:budget(bot, "start", host:clock()).left)
  end)

  it("does not wait for ever for the store", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, on = { store = function () return true end } }
    local bot = host:add()
    host:start(bot)
    host:run(20)
    assert.same({ "preparing", "store limit" }, { host:view(bot).state, host:view(bot).next })
    local ticket = host:last("store").ticket
    host:run(30000)
    assert.same({ "store", "return" }, { host:view(bot).cause.kind, host:effects("store")[2].what })
    local stale = host:view(bot).stale
    host:event("stored", bot, 0, { ticket = ticket })
    assert.equal(stale + 1, host:view(bot).stale)
    assert.equal(0, #host:effects "dial")
  end)

  it("refuses a start frame on a link that meant to resume, and dials again instead", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, on = { greet = function () return true end } }
    local bot = host:add { session = true }
    host:start(bot)
    host:run(100)
    host:event("send requested", bot, 1, { send_id = 5, by = "greeting", starts = true })
    assert.same({ "no permit", false }, { host:last("refuse").why, host:last("refuse").retry })
    assert.equal(0, #host:effects "send")
    assert.same({ "closing", "no_permit", "failed" }, { host:view(bot).state, host:view(bot).cause.name, host:view(bot).cause.kind })
    assert.equal(1, host:view(bot).failed)
  end)

  it("takes a permit for the next attempt when what is stored proves to be no session", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, on = { greet = function (h, f)
      h:event("send requested", f.conn, f.generation, { send_id = f.generation, by = "greeting", starts = true })
      if h:alive(f) then h:event("greeted", f.conn, f.generation) end
      return true
    end } }
    local bot = host:add { session = true }
    host:start(bot)
    host:run(10000)
    assert.same({ "up", 2, 1 }, { host:view(bot).state, host:view(bot).generation, #host:effects "send" })
    assert.is_false(host:effects("prepare")[1].needs_start)
    assert.is_true(host:effects("prepare")[2].needs_start)
    assert.equal(1, #host:effects "drop session")
  end)

  it("allows one start frame per permit", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, on = { greet = identifies() } }
    local bot = host:up()
    host:event("send requested", bot, 1, { send_id = 77, by = "hook", starts = true })
    assert.equal("no permit", host:last("refuse").why)
    assert.equal(1, #host:effects "send")
  end)

  it("takes the platform's word: none left until the reset, then exactly one", function ()
    local host = Host.new { plan = start_plan { { 100, 86400000 } }, on = { greet = identifies(), prepare = function (h, f)
      h:later(5, function ()
        if not h.told then h.told = h.now; h:event("budget told", f.conn, 0, { budget = "start", left = 0, reset = 14400000 }) end
        h:event("prepared", f.conn, f.generation)
      end)
      return true
    end } }
    local bot = host:add()
    host:start(bot)
    host:run(14400000)
    assert.same({ "queued", 1, 0 }, { host:view(bot).state, #host:effects "prepare", #host:effects "dial" })
    host:run(60000)
    assert.same({ "up", 1 }, { host:view(bot).state, #starts(host) })
    assert.is_true(starts(host)[1] - host.told >= 14400000)
    assert.same({}, host.violations)
  end)

  it("is not refilled by a step of the wall clock, in either direction", function ()
    local host = Host.new { plan = start_plan { { 1, 3600000 } }, on = { greet = identifies() } }
    local bot = host:up()
    host.wall_ahead = 86400000 * 30
    assert.equal(0, host.e:budget(bot, "start", host:clock()).left)
    host.wall_ahead = -86400000 * 30
    assert.equal(0, host.e:budget(bot, "start", host:clock()).left)
  end)

  it("counts time that the machine slept", function ()
    local host = Host.new { plan = start_plan { { 1, 3600000 } }, on = { greet = identifies() } }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "closed", close = 1000 } })
    host:run(5000)
    assert.equal("queued", host:view(bot).state)
    host.boot_ahead = 3700000
    host:event("clock jumped", bot, 0, { suspended = 3700000 })
    host:run(1000)
    assert.equal("up", host:view(bot).state)
  end)

  it("survives removal and a new connection of the same account", function ()
    local host = Host.new { plan = start_plan { { 1, 3600000 } }, on = { greet = identifies() } }
    local bot = host:up()
    host:event("remove requested", bot)
    host:run(1000)
    assert.is_nil(host:view(bot))
    local again = host:add()
    host:start(again)
    host:run(10000)
    assert.equal("queued", host:view(again).state)
  end)

  it("knows the permits that an earlier process stored", function ()
    local host = Host.new { plan = start_plan({ { 3, 3600000 } }, 5000), now = 10000 }
    local wall = 1700000010000
    for _, ago in ipairs { 3500000, 100000, 3800000 } do
      assert.is_true(host.e:restore { account = 7, budget = "start", wall = wall - ago, at = host:clock() })
    end
    assert.is_true(host.e:restore { account = 7, budget = "start", wall = wall + 9e9, at = host:clock() })
    local bot = host:add()
    local view = host.e:budget(bot, "start", host:clock())
    assert.same({ 0, 3 }, { view.left, view.used })
  end)
end)

describe("several connections of one account", function ()
  local function fleet(n, plan, options)
    options = options or {}
    local host = Host.new { plan = plan, connections = 256, on = options.on or { greet = identifies() } }
    for i = 1, n do
      host:start(host:add { name = "shard" .. i, identity = i, lane = i - 1 })
    end
    return host
  end

  it("share the windows, are served in turn, and never overshoot", function ()
    local host = fleet(30, start_plan { { 10, 60000 } })
    host:run(10000)
    assert.equal(10, #starts(host))
    host:run(60000)
    assert.equal(20, #starts(host))
    host:run(120000)
    assert.equal(30, #starts(host))
    assert.equal(10, most_in(starts(host), 60000))
    for i, f in ipairs(host:effects "dial") do
      if i > 1 then assert.is_true(f.conn % 2 ^ 32 > host:effects("dial")[i - 1].conn % 2 ^ 32) end
    end
    assert.is_true(#host:effects "prepare" == 30)
    assert.same({}, host.violations)
  end)

  it("keep the gap in each lane, and lanes do not wait for each other", function ()
    local host = fleet(32, start_plan({ { 1000, 86400000 } }, 5000), { on = { greet = identifies(), prepare = function (h, f)
      if not h.told then h.told = true; h:later(0, function () h:event("budget told", f.conn, 0, { budget = "start", lanes = 16 }) end) end
      h:later(1, function () h:event("prepared", f.conn, f.generation) end)
      return true
    end } })
    host:run(4000)
    assert.is_true(#starts(host) >= 16)
    host:run(60000)
    assert.equal(32, #starts(host))
    local by_lane, handles = {}, {}
    for h, c in pairs(host.conns) do handles[h] = tonumber(c.name:match "%d+") - 1 end
    for _, f in ipairs(host:effects "send") do
      local lane = handles[f.conn] % 16
      if by_lane[lane] then assert.is_true(f.at - by_lane[lane] >= 5000) end
      by_lane[lane] = f.at
    end
    assert.same({}, host.violations)
  end)

  it("in one lane start no two within the gap, however long a greeting takes", function ()
    local host = fleet(6, start_plan({ { 1000, 86400000 } }, 5000), { on = { greet = function (h, f)
      h:later(math.random(1, 9000), function ()
        if not h:alive(f) then return end
        h.sent = (h.sent or 0) + 1
        h:event("send requested", f.conn, f.generation, { send_id = h.sent, by = "greeting", starts = true })
        if h:alive(f) then h:event("greeted", f.conn, f.generation) end
      end)
      return true
    end } })
    host.e:step { kind = "budget told", conn = next(host.conns), budget = "start", lanes = 1, at = host:clock() }
    host:run(200000)
    local times = starts(host)
    assert.equal(6, #times)
    for i = 2, 6 do assert.is_true(times[i] - times[i - 1] >= 5000) end
    assert.same({}, host.violations)
  end)

  it("wake one after another when a reset passes, not all at once", function ()
    local host = fleet(20, start_plan({ { 5, 60000 } }, 0))
    host.e:step { kind = "budget told", conn = next(host.conns), budget = "start", left = 0, reset = 300000, at = host:clock() }
    host:run(299000)
    local before = #starts(host)
    host:run(62000)
    assert.is_true(#starts(host) - before <= 10)
    assert.is_true(most_in(starts(host), 60000) <= 5)
    host:run(600000)
    assert.equal(20, #starts(host))
  end)
end)

describe("a dial budget", function ()
  it("holds whether links start sessions or not", function ()
    local host = Host.new { plan = { budgets = { dial = { windows = { { 5, 60000 } } } }, backoff = { most = 1000 } },
      on = { dial = function (h, f)
        h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
        return true
      end } }
    local bot = host:add()
    host:start(bot)
    host:run(600000)
    local times = {}
    for i, f in ipairs(host:effects "dial") do times[i] = f.at end
    assert.equal(5, most_in(times, 60000))
    assert.is_true(#times >= 45)
    assert.equal("dial", host:last("store").budget)
    assert.same({}, host.violations)
    assert.is_true(host:view(bot).deadline > 0)
  end)
end)
