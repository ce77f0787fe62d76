local Host = require "engine_host"
local engine = require "unit.engine"

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

end)

describe("a permit that an earlier process stored", function ()
  local WALL = 1700000000000
  local function restored(host, list)
    for _, p in ipairs(list) do
      p.account, p.budget, p.at = 7, "start", host:clock()
      assert.is_true(host.e:restore(p))
    end
  end
  local function left(host, bot) return host.e:budget(bot, "start", host:clock()).left end

  it("counts by its boot time in the same boot, whatever the wall clock says", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, now = 10000000 }
    restored(host, {
      { same_boot = true, boot = 10000000 - 3500000, wall = 5 },
      { same_boot = true, boot = 10000000 - 100, wall = WALL + 9e11 },
      { same_boot = true, boot = 10000000 - 3600100, wall = WALL + 10000000 },
    })
    assert.equal(1, left(host, host:add()))
  end)

  it("counts by wall time across a boot, and one from the future as if it were of now", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, now = 10000 }
    restored(host, {
      { boot = 9, wall = WALL + 10000 - 3500000 },
      { boot = 10000, wall = WALL + 10000 - 3600100 },
      { boot = 1e9, wall = WALL + 9e9 },
    })
    local bot = host:add()
    assert.equal(1, left(host, bot))
    host:run(200000)
    assert.equal(2, left(host, bot))
    host:run(3400010)
    assert.equal(3, left(host, bot))
  end)

  it("keeps its lane: only its own waits for the gap", function ()
    local host = Host.new { plan = start_plan({ { 30, 3600000 } }, 5000), now = 10000 }
    restored(host, { { same_boot = true, boot = 9000, lane = 3 } })
    local own, other = host:add { name = "a", identity = 1, lane = 3 }, host:add { name = "b", identity = 2, lane = 4 }
    assert.same({ 14000, "gap" }, { host.e:budget(own, "start", host:clock()).next, host.e:budget(own, "start", host:clock()).hold })
    assert.equal(10000, host.e:budget(other, "start", host:clock()).next)
  end)

  it("counts in any order of telling, with ten thousand that are older, and among a hundred thousand", function ()
    for _, n in ipairs { 300, 10000, 100000 } do
      local host = Host.new { plan = start_plan { { 4000, 3600000 } }, now = 1e9 }
      local e, at = host.e, host:clock()
      -- One every second, told by halves from both ends.
      for i = 1, n do
        local age = (i % 2 == 0 and i or n - i + (n % 2 == 0 and 0 or 1)) * 1000
        assert(e:restore { account = 7, budget = "start", same_boot = true, boot = 1e9 - age, at = at })
      end
      local bot = host:add()
      local view = e:budget(bot, "start", host:clock())
      assert.equal(math.min(n, 3600), view.used)
      assert.equal(4000 - math.min(n, 3600), view.left)
    end
  end)

  it("beyond what a smaller budget allows holds up all, until enough of them are old", function ()
    local host = Host.new { plan = start_plan { { 50, 3600000 } }, now = 1e8, on = { greet = identifies() } }
    local list = {}
    for i = 1, 40 do list[i] = { same_boot = true, boot = 1e8 - i * 60000 } end
    restored(host, list)
    local bot = host:add()
    assert.equal(10, left(host, bot))
    host:event("policy swapped", bot, 0, { plan = engine.plan(start_plan { { 5, 3600000 } }) })
    assert.equal(0, left(host, bot))
    host:start(bot)
    assert.equal("queued", host:view(bot).state)
    -- The fifth newest must leave: 5 minutes old.
    assert.equal(1e8 + 3600000 - 5 * 60000 + 1, host:view(bot).deadline)
    host:run(3600000)
    assert.equal("up", host:view(bot).state)
    assert.same({}, host.violations)
  end)

  it("was stored under the latest moment of its use, and given back under the same", function ()
    local host = Host.new { plan = start_plan({ { 3, 3600000 } }, 0, { limits = { greeting = 20000 } }), on = { dial = function (h, f)
      h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
      return true
    end } }
    local bot = host:add { lane = 5 }
    host:start(bot)
    host:run(100)
    local stored, back = host:effects("store")[1], host:effects("store")[2]
    assert.same({ "permit", "return" }, { stored.what, back.what })
    assert.same({ stored.wall, stored.boot_ms, 5 }, { back.wall, back.boot_ms, back.lane })
    assert.is_true(stored.boot_ms - stored.at >= 20000 + 30000)
    assert.equal(stored.boot_ms - stored.at, stored.wall - (WALL + stored.at))
    assert.is_true(#host:effects "store" % 2 == 0)
  end)

  it("is stored anew when it is used later than that", function ()
    local host = Host.new { plan = start_plan({ { 3, 3600000 } }, 0, { limits = { greeting = 5000 } }), on = { greet = function (h, f)
      for i = 1, 60 do h:later(i * 4000, function () if h:alive(f) then h:event("greeting progressed", f.conn, f.generation) end end) end
      h:later(200000, function ()
        h:event("send requested", f.conn, f.generation, { send_id = 1, by = "greeting", starts = true })
        h:event("greeted", f.conn, f.generation)
      end)
      return true
    end } }
    local bot = host:add()
    host:start(bot)
    host:run(250000)
    assert.equal("up", host:view(bot).state)
    local stores, send = host:effects "store", host:effects("send")[1]
    assert.same({ 2, "permit", true }, { #stores, stores[2].what, stores[2].no_answer })
    assert.same({ send.at, send.at }, { stores[2].boot_ms, stores[2].at })
  end)

  it("is given back also when the store failed: its answer may be what was lost", function ()
    local host = Host.new { plan = start_plan { { 3, 3600000 } }, on = { store = function (h, f)
      if not f.no_answer then h:later(5, function () h:event("store failed", f.conn, 0, { ticket = f.ticket }) end) end
      return true
    end } }
    host:start(host:add())
    host:run(60000)
    local given, taken = 0, {}
    for _, f in ipairs(host:effects "store") do
      if f.what == "permit" then taken[f.boot_ms] = true end
      if f.what == "return" and taken[f.boot_ms] then given = given + 1 end
    end
    assert.is_true(given >= 3)
    assert.equal(given * 2, #host:effects "store")
  end)

  it("is one of its own: no two of an account are stored under the same moment", function ()
    local host = Host.new { plan = start_plan { { 100, 3600000 } }, connections = 64, on = { greet = identifies() } }
    for i = 1, 30 do host:start(host:add { name = "bot" .. i, identity = i, lane = i % 3 }) end
    host:run(10000)
    local seen, n = {}, 0
    for _, f in ipairs(host:effects "store") do
      assert.is_nil(seen[f.boot_ms])
      seen[f.boot_ms] = true
      n = n + 1
    end
    assert.equal(30, n)
  end)
end)

describe("what the platform told", function ()
  local WALL = 1700000000000
  local function tell(host, bot, told)
    told.budget = "start"
    host:event("budget told", bot, 0, told)
  end
  local function told(host)
    local out = {}
    for _, f in ipairs(host:effects "store") do if f.what == "told" then out[#out + 1] = f end end
    return out
  end

  it("is stored, less what is claimed, before the permit, and again when a claim is given back", function ()
    local host = Host.new { plan = start_plan { { 100, 3600000 } }, on = { dial = function (h, f)
      h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
      return true
    end } }
    local bot = host:add()
    tell(host, bot, { left = 5, reset = 600000, lanes = 4 })
    host:start(bot)
    host:run(100)
    local seen = {}
    for _, f in ipairs(host:effects "store") do seen[#seen + 1] = f.what .. (f.left or "") end
    assert.same({ "told5", "told4", "permit", "return", "told5" }, { unpack(seen, 1, 5) })
    local first = told(host)[1]
    assert.same({ 4, 600000 + first.at, WALL + 600000 + first.at, true },
      { first.lanes, first.until_boot, first.until_wall, first.no_answer })
  end)

  it("is stored with its end also when none are left", function ()
    local host = Host.new { plan = start_plan { { 100, 3600000 } } }
    local bot = host:add()
    tell(host, bot, { left = 0, reset = 600000 })
    assert.same({ 0, 600000 + host.now }, { told(host)[1].left, told(host)[1].until_boot })
  end)

  it("is stored as over once, and not with every attempt after it", function ()
    local host = Host.new { plan = start_plan({ { 100, 3600000 } }, 0, { backoff = { jitter = "none", first = 300, most = 300 } }), on = { dial = function (h, f)
      h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
      return true
    end } }
    local bot = host:add()
    tell(host, bot, { left = 5, reset = 1000, lanes = 4 })
    host:run(2000)
    host:start(bot)
    host:run(20000)
    local lefts = {}
    for i, f in ipairs(told(host)) do lefts[i] = f.left end
    assert.is_true(#host:effects "dial" > 20)
    assert.same({ 5, -1 }, lefts)
  end)

  it("that comes while the permit is being stored sends the attempt back to the queue at once", function ()
    local host = Host.new { plan = start_plan { { 100, 3600000 } }, on = { store = function (_, f) return f.what == "permit" end } }
    local bot = host:add()
    host:start(bot)
    host:run(100)
    tell(host, bot, { left = 0, reset = 5000 })
    local permit
    for _, f in ipairs(host:effects "store") do if f.what == "permit" then permit = f end end
    host:event("stored", bot, 0, { ticket = permit.ticket })
    assert.same({ "queued", host.now + 5000, 0 }, { host:view(bot).state, host:view(bot).deadline, #host:effects "dial" })
  end)

  it("needs no write when a claim was used", function ()
    local host = Host.new { plan = start_plan { { 100, 3600000 } }, on = { greet = identifies() } }
    local bot = host:add()
    tell(host, bot, { left = 5, reset = 600000 })
    host:start(bot)
    host:run(1000)
    assert.same({ "up", 2, 4 }, { host:view(bot).state, #told(host), told(host)[2].left })
    assert.equal(4, host.e:budget(bot, "start", host:clock()).left)
  end)

  it("is believed after a restart, by boot time in the same boot and by wall time across one", function ()
    for _, same in ipairs { true, false } do
      local host = Host.new { plan = start_plan { { 100, 3600000 } }, now = 50000, on = { greet = identifies() } }
      assert.is_true(host.e:restore_told { account = 7, budget = "start", left = 1, lanes = 2, same_boot = same,
        until_boot = same and 350000 or 9e9, until_wall = same and 5 or WALL + 350000, at = host:clock() })
      local bot, other = host:add { name = "a", identity = 1 }, host:add { name = "b", identity = 2, lane = 1 }
      host:start(bot)
      host:start(other)
      host:run(60000)
      assert.same({ "up", "queued", 350000, "told" }, { host:view(bot).state, host:view(other).state,
        host:view(other).deadline, host:view(other).queue.hold })
      host:run(300000)
      assert.equal("up", host:view(other).state)
    end
  end)

  it("of an earlier boot holds no longer than that boot could mean, however wrong the wall clock is", function ()
    local host = Host.new { plan = start_plan { { 100, 3600000 } }, now = 50000 }
    host.e:restore_told { account = 7, budget = "start", left = 0, until_boot = 70000, until_wall = WALL + 9e12, at = host:clock() }
    local view = host.e:budget(host:add(), "start", host:clock())
    assert.same({ 0, 120000 }, { view.left, view.next })
  end)

  it("is over when its time is, but its lanes stay", function ()
    local host = Host.new { plan = start_plan({ { 100, 3600000 } }, 5000), now = 50000, on = { greet = identifies() } }
    host.e:restore_told { account = 7, budget = "start", left = 0, lanes = 1, same_boot = true, until_boot = 40000, at = host:clock() }
    for i = 1, 3 do host:start(host:add { name = "bot" .. i, identity = i, lane = i }) end
    host:run(4000)
    assert.equal(1, #starts(host))
    host:run(12000)
    assert.equal(3, #starts(host))
  end)
end)

describe("the share for people", function ()
  local function plan(count, more)
    local p = start_plan({ { count, 3600000 } }, 0, more)
    p.budgets.start.operators = 0.1
    return p
  end
  local function spent(host, n)
    for i = 1, n do
      host.e:restore { account = 7, budget = "start", same_boot = true, boot = host.now - i * 1000, at = host:clock() }
    end
  end

  it("is spent by an operator's start, once, before those who were queued", function ()
    local host = Host.new { plan = plan(20), now = 1e7, on = { greet = identifies() } }
    spent(host, 18)
    local first, second = host:add { name = "a", identity = 1 }, host:add { name = "b", identity = 2 }
    host:start(first)
    host:start(second)
    host:run(1000)
    assert.same({ "queued", "queued" }, { host:view(first).state, host:view(second).state })
    local view = host.e:budget(second, "start", host:clock())
    assert.same({ 0, 2, "window", 3600000, 18 }, { view.left, view.reserve_left, view.hold, view.window, view.window_count })
    host:event("start requested", second, 0, { spend_reserve = true })
    assert.is_true(host:view(second).spend_reserve)
    host:run(1000)
    assert.same({ "queued", "up", false }, { host:view(first).state, host:view(second).state, host:view(second).spend_reserve })
    assert.is_true(host:last("store").reserve)
    host:event("peer closed", second, host:view(second).generation, { cause = { kind = "closed", close = 1000 } })
    host:run(60000)
    assert.equal("queued", host:view(second).state)
    assert.equal(1, host.e:budget(second, "start", host:clock()).reserve_left)
    assert.same({}, host.violations)
  end)

  it("puts people in front, and whoever leaves the queue breaks it for nobody", function ()
    local host = Host.new { plan = plan(20), now = 1e7, on = { greet = identifies() } }
    spent(host, 20)
    local bots = {}
    for i = 1, 5 do bots[i] = host:add { name = "b" .. i, identity = i } end
    for i = 1, 3 do host:start(bots[i]) end
    host:event("start requested", bots[4], 0, { spend_reserve = true })
    host:event("start requested", bots[5], 0, { spend_reserve = true })
    host:event("stop requested", bots[1])
    host:event("stop requested", bots[4])
    host:run(3600000 + 20000)
    local order = {}
    for i, f in ipairs(host:effects "dial") do for k, h in ipairs(bots) do if h == f.conn then order[i] = k end end end
    assert.same({ 5, 2, 3 }, order)
    assert.same({}, host.violations)
  end)

  it("is not spent by a start without the wish, nor by an attempt that comes to nothing", function ()
    local dead = true
    local host = Host.new { plan = plan(20, { backoff = { most = 2000 } }), now = 1e7, on = { greet = identifies(), dial = function (h, f)
      if not dead then return false end
      h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "refused", stage = "connecting" } }) end)
      return true
    end } }
    spent(host, 18)
    local bot = host:add()
    host:start(bot)
    host:start(bot)
    host:run(10000)
    assert.same({ "queued", 0 }, { host:view(bot).state, #host:effects "dial" })
    host:event("start requested", bot, 0, { spend_reserve = true })
    host:run(10000)
    assert.is_true(#host:effects "dial" >= 3)
    assert.equal(2, host.e:budget(bot, "start", host:clock()).reserve_left)
    dead = false
    host:run(5000)
    assert.equal("up", host:view(bot).state)
    assert.equal(1, host.e:budget(bot, "start", host:clock()).reserve_left)
  end)

  it("does not reach over the whole budget, nor over the gap, nor over the platform's word", function ()
    local host = Host.new { plan = plan(20), now = 1e7, on = { greet = identifies() } }
    spent(host, 20)
    local bot = host:add()
    host:event("start requested", bot, 0, { spend_reserve = true })
    host:run(60000)
    assert.same({ "queued", 0 }, { host:view(bot).state, #host:effects "prepare" })
    assert.equal(1e7 - 20000 + 3600001, host:view(bot).deadline)

    host = Host.new { plan = plan(20), now = 1e7, on = { greet = identifies() } }
    host.e:restore_told { account = 7, budget = "start", left = 0, same_boot = true, until_boot = 1e7 + 90000, at = host:clock() }
    bot = host:add()
    host:event("start requested", bot, 0, { spend_reserve = true })
    host:run(80000)
    assert.same({ "queued", "told" }, { host:view(bot).state, host:view(bot).queue.hold })

    local gap = plan(20)
    gap.budgets.start.gap = 5000
    host = Host.new { plan = gap, now = 1e7, on = { greet = identifies() } }
    spent(host, 18)
    bot = host:add()
    host:event("start requested", bot, 0, { spend_reserve = true })
    host:run(3000)
    assert.same({ "queued", "gap" }, { host:view(bot).state, host:view(bot).queue.hold })
    host:run(2000)
    assert.equal("up", host:view(bot).state)
  end)

  it("is forgotten by a stop", function ()
    local host = Host.new { plan = plan(20), now = 1e7, on = { greet = identifies(), store = function () return true end } }
    spent(host, 18)
    local bot = host:add()
    host:event("start requested", bot, 0, { spend_reserve = true })
    host:run(1000)
    host:event("stop requested", bot)
    host:start(bot)
    host:run(1000)
    assert.same({ "queued", false }, { host:view(bot).state, host:view(bot).spend_reserve })
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

describe("two budgets of one account", function ()
  local HOUR = 3600000
  local function plan(more)
    local p = { session = { replay = "session" }, backoff = { jitter = "none" },
      budgets = { start = { windows = { { 1, HOUR } } }, dial = { windows = { { 1, 10000 } } } } }
    for k, v in pairs(more or {}) do p[k] = v end
    return p
  end

  it("have queues of their own: who waits for the one stands before nobody in the other", function ()
    local host = Host.new { plan = plan() }
    local first = host:add { name = "x", identity = 1, session = true }
    local resumes, starts_anew = host:add { name = "a", identity = 2, session = true }, host:add { name = "b", identity = 3 }
    host:start(first)
    host:run(100)
    host:start(resumes)
    host:start(starts_anew)
    assert.same({ "queued", "queued" }, { host:view(resumes).state, host:view(starts_anew).state })
    assert.is_true(host:view(starts_anew).deadline - host.now <= 20100, host:view(starts_anew).deadline - host.now)
    assert.equal("dial", host:view(starts_anew).queue.budget)
  end)

  it("have claims of their own: who prepares to resume takes no session start", function ()
    local host = Host.new { plan = plan(), on = { prepare = function () return true end } }
    local resumes, other = host:add { name = "a", identity = 2, session = true }, host:add { name = "b", identity = 3 }
    host:start(resumes)
    assert.same({ 1, host.now, 0 }, { host.e:budget(other, "start", host:clock()).left, host.e:budget(other, "start", host:clock()).next,
      host.e:budget(other, "dial", host:clock()).left })
  end)

  it("count as used what is claimed and not yet spent", function ()
    local host = Host.new { plan = start_plan { { 10, 3600000 } }, on = { prepare = function () return true end } }
    local bots = { host:add { name = "a", identity = 2 }, host:add { name = "b", identity = 3 }, host:add { name = "c", identity = 4 } }
    for n, bot in ipairs(bots) do
      host:start(bot)
      local view = host.e:budget(bot, "start", host:clock())
      assert.same({ n, 10 - n }, { view.used, view.left })
    end
  end)

  it("may have four windows each, and all of them hold", function ()
    local host = Host.new { plan = plan { budgets = { dial = { windows = { { 2, 1000 }, { 3, 10000 }, { 4, 100000 }, { 5, 1000000 } } },
      send = { windows = { { 2, 1000 }, { 3, 10000 }, { 4, 100000 }, { 5, 1000000 } } } } } }
    local bot = host:up()
    local view = host.e:budget(bot, "dial", host:clock())
    assert.same({ 1, 1 }, { view.left, view.used })
    for id = 1, 6 do host:event("send requested", bot, 0, { send_id = id }) end
    host:run(2000000)
    local times = {}
    for i, f in ipairs(host:effects "send") do times[i] = f.at end
    for window, most in pairs { [1000] = 2, [10000] = 3, [100000] = 4, [1000000] = 5 } do assert.is_true(most_in(times, window) <= most, window) end
    assert.equal(6, #times)
    view = host.e:budget(bot, "send", host:clock())
    assert.is_true(view.used >= 1)
  end)

  it("take a start permit for an attempt that lost its session while it prepared, if one is left", function ()
    local host = Host.new { plan = plan(), on = { prepare = function () return true end, greet = identifies() } }
    local bot = host:add { session = true }
    host:start(bot)
    host:event("session changed", bot, 0, { present = false })
    host:event("prepared", bot, 1)
    host:run(1000)
    local permits = {}
    for _, f in ipairs(host:effects "store") do permits[#permits + 1] = f.budget .. " " .. f.what end
    assert.same({ "up", { "start permit", "dial permit" }, 0 }, { host:view(bot).state, permits, host.e:budget(bot, "start", host:clock()).left })
    -- None is left for the next: it goes to the queue, and has dialled nothing.
    local other = host:add { name = "b", identity = 9, session = true }
    host:run(20000)
    host:start(other)
    host:event("session changed", other, 0, { present = false })
    host:event("prepared", other, 1)
    assert.same({ "queued", 1 }, { host:view(other).state, #host:effects "dial" })
  end)
end)

describe("a dial budget", function ()
  it("asks the store for no answer, so that a slow disk keeps no resume waiting", function ()
    local host = Host.new { plan = { budgets = { dial = { windows = { { 5, 60000 } } } } } }
    local bot = host:up()
    host:run(1000)
    assert.same({ "dial", "permit", true, 0 }, { host:last("store").budget, host:last("store").what, host:last("store").no_answer, host:view(bot).stale })
  end)

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
