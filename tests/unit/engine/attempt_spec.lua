-- When an attempt may begin, what it needs at that moment, and where it has to wait although everything is ready.
local Host = require "engine_host"

local WALL, HOUR = 1700000000000, 3600000
local function deaf() return true end
local function closed(code) return { cause = { kind = "closed", close = code } } end
local function reconnect(host, bot) host:event("ending announced", bot, host:view(bot).generation, { cause = { kind = "ended", name = "reconnect" } }) end

local function overlapping(more)
  local plan = { overlap = 1, backoff = { jitter = "none", settle = 1000 }, classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } } } }
  for k, v in pairs(more or {}) do plan[k] = v end
  return plan
end

describe("an attempt", function ()
  it("that is under way is the only one, though the wait after the old link's ending is over meanwhile", function ()
    local host = Host.new { plan = overlapping { slow = { first = 2000, most = 2000 }, classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } }, { close = 4002, pace = "slow" } } } }
    local bot = host:up()
    host:run(2000)
    host.on.prepare = deaf
    reconnect(host, bot)
    host:run(100)
    host:event("peer closed", bot, 1, closed(4002))
    host:run(10000)
    assert.same({ "preparing", 2, "prepare limit" }, { host:view(bot).state, #host:effects "prepare", host:view(bot).next })
  end)

  it("that is prepared is dialled only when the old link, which died meanwhile, is closed: in whichever place that is", function ()
    local host = Host.new { plan = overlapping() }
    local bot = host:up()
    for generation = 1, 4 do
      host.conns[bot].handover = true
      host:run(2000)
      host.on.prepare, host.on.close = deaf, deaf
      reconnect(host, bot)
      host:run(100)
      host:event("peer closed", bot, generation, closed(1012))
      host:event("prepared", bot, generation + 1)
      host:run(500)
      assert.same({ "preparing", generation }, { host:view(bot).state, #host:effects "dial" })
      host.on.prepare, host.on.close = nil, nil
      host:closed(bot, generation)
      assert.equal(generation + 1, #host:effects "dial")
      host:run(100)
      assert.equal("up", host:view(bot).state)
      -- A handover in peace, so that the next link to die is in the other place every second time.
      if generation == 2 then host:run(40000) end
    end
    assert.same({}, host.violations)
  end)

  it("begins when the floor after the last one is over, and not a millisecond before", function ()
    for _, ms in ipairs { 249, 250 } do
      local host = Host.new { plan = { backoff = { jitter = "none", first = 60000 } }, on = { prepare = deaf } }
      local bot = host:add()
      host:start(bot)
      local from = host.now
      host:event("attempt failed", bot, 1, { cause = { kind = "call" } })
      host.now = from + ms
      host:start(bot)
      assert.same({ ms == 250 and 2 or 1, ms == 250 and "preparing" or "waiting" }, { #host:effects "prepare", host:view(bot).state })
    end
  end)

  it("in a queue keeps to that floor as well, and to its place", function ()
    local plan = { backoff = { jitter = "none", first = 250, floor = 5000, most = 5000 }, budgets = { dial = { windows = { { 1, 1000 } } } } }
    local host = Host.new { plan = plan, on = { prepare = deaf } }
    local other, bot = host:add { name = "other", identity = 2 }, host:add()
    host:start(bot)
    local from = host.now
    host:event("attempt failed", bot, 1, { cause = { kind = "call" } })
    host:start(other) -- has the only place until it dials
    host:run(4999)
    assert.equal(2, #host:effects "prepare")
    host:run(1)
    assert.equal("queued", host:view(bot).state)
    host:event("prepared", other, 1)
    host:run(2000)
    assert.same({ 3, "preparing" }, { #host:effects "prepare", host:view(bot).state })
    assert.is_true(host.now - from >= 5000)
  end)

  it("waits for its turn for ten minutes, to the millisecond; from then on its own limit runs", function ()
    local host = Host.new { on = { prepare = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(20000)
    host:event("turn awaited", bot, 1)
    assert.same({ host.now + 600000, "turn" }, { host:view(bot).deadline, host:view(bot).next })
    host:run(500000)
    host:event("turn given", bot, 1)
    assert.same({ host.now + 30000, "prepare limit" }, { host:view(bot).deadline, host:view(bot).next })
    host:run(29999)
    assert.equal("preparing", host:view(bot).state)
    host:run(1)
    assert.same({ "waiting", "timeout" }, { host:view(bot).state, host:view(bot).cause.kind })
  end)
end)

describe("a session", function ()
  local budgets = { start = { windows = { { 5, HOUR } } } }

  it("is too old from the first millisecond beyond its age or its life, and not at them", function ()
    for _, case in ipairs { { 0, false }, { 1, true } } do
      for _, limit in ipairs { "age", "life" } do
        local host = Host.new { plan = { session = { [limit] = 60000 }, budgets = budgets }, now = 100000 }
        local born = WALL + host.now - 60000 - case[1]
        local bot = host:add { session = true, session_saved = limit == "age" and born or WALL + host.now, session_begun = limit == "life" and born or nil }
        host:start(bot)
        assert.same({ case[2], case[2] and 1 or 0, not case[2] },
          { host:effects("prepare")[1].needs_start, #host:effects "drop session", host:view(bot).session_present }, limit)
      end
    end
  end)

  it("means nothing to a plan without sessions: nothing resumes, and nothing is dropped", function ()
    local host = Host.new { plan = {} }
    local bot = host:up { session = true }
    host:event("peer closed", bot, 1, closed(1012))
    assert.same({ false, 0 }, { host:view(bot).cause.session, #host:effects "drop session" })
  end)

  it("that was lost while the attempt prepared is no reason to count a failure of it as one to resume", function ()
    local host = Host.new { plan = { session = {} }, on = { prepare = deaf } }
    local bot = host:add { session = true }
    host:start(bot)
    host:event("attempt failed", bot, 1, { cause = { kind = "call" } })
    assert.is_true(host:view(bot).cause.session)
    host:run(60000, function () return host:view(bot).state == "preparing" end)
    host:event("session changed", bot, 0, { present = false })
    host:event("attempt failed", bot, 2, { cause = { kind = "call" } })
    assert.is_false(host:view(bot).cause.session)
  end)
end)

describe("a permit", function ()
  local plan = { session = {}, budgets = { start = { windows = { { 3, HOUR } } } }, backoff = { jitter = "none" },
    limits = { prepare = 1000, resolve = 200, connect = 30, secure = 4, upgrade = 50000, greeting = 600000 } }
  local WAY = 651234
  local function stored(host) -- the first is a permit to start
    for _, f in ipairs(host.log) do
      if f.kind == "store" and f.what == "permit" then return f end
    end
  end
  local function up_to_store(restored)
    local host = Host.new { plan = plan, now = 1e6, on = { store = deaf } }
    if restored then
      restored.account, restored.budget, restored.at = 7, "start", host:clock()
      host.e:restore(restored)
    end
    local bot = host:add()
    host:start(bot)
    host:run(100)
    return host, bot, stored(host)
  end

  it("is stored under the moment that is reached if every stage takes as long as it may", function ()
    local host, _, permit = up_to_store()
    assert.same({ permit.at + WAY, WALL + permit.at + WAY }, { permit.boot_ms, permit.wall })
    assert.is_not_nil(host)
  end)

  it("is stored under a moment of its own, later than any of this boot that an earlier process left", function ()
    for _, case in ipairs { { -1, WAY }, { 0, WAY + 1 }, { 5000, WAY + 5001 } } do
      local _, _, permit = up_to_store { same_boot = true, boot = 1e6 + 10 + WAY + case[1] }
      assert.equal(permit.at + case[2], permit.boot_ms, case[1])
    end
    local _, _, permit = up_to_store { same_boot = false, boot = 9e9, wall = WALL + 1e6 }
    assert.equal(permit.at + WAY, permit.boot_ms)
  end)

  it("of two attempts at one moment is stored under two", function ()
    local host = Host.new { plan = plan, now = 1e6, on = { store = deaf } }
    local a, b = host:add { name = "a", identity = 1 }, host:add { name = "b", identity = 2 }
    host:start(a)
    host:start(b)
    host:run(100)
    local moments = {}
    for _, f in ipairs(host:effects "store") do moments[#moments + 1] = f.boot_ms end
    assert.same({ moments[1], moments[1] + 1 }, moments)
  end)

  it("that is not stored in time fails the attempt at the limit, and is given back, for the disk may have it", function ()
    local host, bot, permit = up_to_store()
    host:run(permit.at + 999 - host.now)
    assert.same({ "preparing", "store limit" }, { host:view(bot).state, host:view(bot).next })
    host:run(1)
    assert.same({ "store", "preparing", "return", true }, { host:view(bot).cause.kind, host:view(bot).cause.stage, host:last("store").what, host:last("store").no_answer })
  end)

  it("whose answer is another's, or comes twice, lets nothing dial", function ()
    local host, bot, permit = up_to_store()
    local stale = host:view(bot).stale
    host:event("stored", bot, 0, { ticket = permit.ticket + 1 })
    host:event("store failed", bot, 0, { ticket = permit.ticket + 1 })
    assert.same({ "preparing", 0, stale + 2 }, { host:view(bot).state, #host:effects "dial", host:view(bot).stale })
    host:event("stored", bot, 0, { ticket = permit.ticket })
    host:event("stored", bot, 0, { ticket = permit.ticket })
    host:event("store failed", bot, 0, { ticket = permit.ticket })
    assert.same({ "linking", 1, stale + 4 }, { host:view(bot).state, #host:effects "dial", host:view(bot).stale })
  end)

  it("that is used later than it was stored for is stored again under the moment of its use, and only then", function ()
    for _, case in ipairs { { 0, 1 }, { 1, 2 } } do
      local host, bot, permit = up_to_store()
      host.on.greet = deaf
      host:event("stored", bot, 0, { ticket = permit.ticket })
      host:run(100)
      local late = permit.boot_ms - host:clock().boot + case[1]
      host.boot_ahead = host.boot_ahead + late -- the machine slept; nobody told
      host:event("send requested", bot, 1, { send_id = 1, by = "greeting", starts = true })
      local again = {}
      for _, f in ipairs(host:effects "store") do if f.what == "permit" then again[#again + 1] = f end end
      assert.equal(case[2], #again)
      if case[2] == 2 then
        assert.same({ host:clock().boot, host:clock().wall, true }, { again[2].boot_ms, again[2].wall, again[2].no_answer })
      end
    end
  end)
end)
