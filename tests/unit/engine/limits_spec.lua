-- What is due when, to the millisecond: not an instant before, and not one after.
local engine = require "unit.engine"
local Host = require "engine_host"

local HOUR = 3600000
local function deaf() return true end
local QUIET = { ping = 0, silence = 0, session = {} }
local function quiet(more)
  local p = {}
  for k, v in pairs(QUIET) do p[k] = v end
  for k, v in pairs(more) do p[k] = v end
  return p
end

-- What is next, `ms` after now; it happens then.
local function comes(host, bot, ms, next, kind)
  local before, from = #host:effects(kind), host.now
  assert.same({ next, ms }, { host:view(bot).next, host:view(bot).deadline - from })
  if ms > 1 then
    host.now = from + ms - 1
    host:deadline(bot)
    assert.equal(before, #host:effects(kind), next .. " came early")
  end
  host.now = from + ms
  host:deadline(bot)
  assert.equal(before + 1, #host:effects(kind), next .. " did not come")
end

describe("to the millisecond comes", function ()
  it("the limit of each stage", function ()
    local limits = { prepare = 30000, resolve = 5000, connect = 10000, secure = 9000, upgrade = 8000, greeting = 20000 }
    for i, stage in ipairs { "prepare", "resolve", "connect", "secure", "upgrade" } do
      local host = Host.new { plan = { limits = limits }, on = { prepare = stage == "prepare" and deaf or nil, dial = deaf, cancel = deaf } }
      local bot = host:add()
      host:start(bot)
      host:run(50)
      for k = 3, i do host:event("stage reached", bot, 1, { stage = ({ "", "", "connecting", "securing", "upgrading" })[k] }) end
      local since = (i <= 2 and host.now - (i == 1 and 50 or 40)) or host.now
      comes(host, bot, since + limits[stage] - host.now, stage .. " limit", "journal")
    end
    local host = Host.new { plan = { limits = limits }, on = { greet = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(1000, function () return #host:effects "greet" == 1 end)
    comes(host, bot, 20000, "greeting limit", "close")
  end)

  it("the limit of what is stored before a start", function ()
    local host = Host.new { plan = { limits = { prepare = 7000 }, session = {}, budgets = { start = { windows = { { 5, HOUR } } } } }, on = { store = deaf } }
    local bot = host:add()
    host:start(bot)
    host:run(1000, function () return #host:effects "store" == 1 end)
    comes(host, bot, 7000, "store limit", "journal")
  end)

  it("the limit of a close, of an abort and of the next", function ()
    local host = Host.new { plan = quiet { limits = { close = 3000 } }, on = { close = deaf, abort = deaf } }
    local bot = host:up()
    host:event("ending announced", bot, 1, { cause = { kind = "wished", by = "policy" } })
    assert.equal(1, #host:effects "close")
    comes(host, bot, 3000, "close limit", "abort")
    assert.equal(0, #host:effects "alarm")
    comes(host, bot, 5000, "abort limit", "abort")
    comes(host, bot, 5000, "abort limit", "abort")
    assert.same({ 1, 1 }, { #host:effects "alarm", #host:effects "close" })
  end)

  it("our close where the peer's does not come", function ()
    local host = Host.new { plan = quiet {}, on = { close = deaf } }
    local bot = host:up()
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "bye" }, wait = 5000 })
    comes(host, bot, 5000, "peer's close", "close")
    assert.equal("bye", host:last("close").reason)
  end)

  it("settling, and the retirement of a link", function ()
    local host = Host.new { plan = quiet { overlap = 1, retire_after = 100000, backoff = { settle = 30000 } } }
    local bot = host:up()
    comes(host, bot, 30000, "settled", "settled")
    assert.is_true(host:view(bot).settled)
    host.conns[bot].handover = true
    comes(host, bot, 70000, "retire", "journal")
    assert.same({ "retired", "planned replacement" }, { host:last("journal").decision.cause.kind, host:last("journal").decision.cause.reason })
  end)

  it("the end of a link that drains", function ()
    local host = Host.new { plan = quiet { overlap = 1, limits = { drain = 20000 }, backoff = { settle = 1000 },
      classify = { { any = true, planned = true, delay = { 0, 0 } } } } }
    local bot = host:up()
    host.conns[bot].handover = true
    host:run(2000)
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "bye" } })
    host:run(1000, function () return #host:effects "ready" == 2 end)
    local from = host.now
    host:run(19999)
    assert.equal(0, #host:effects "close")
    host:run(1)
    assert.same({ from + 20000, 1, "replaced" }, { host:last("close").at, host:last("close").generation, host:last("close").reason })
    assert.equal(1, host:last("cancel").generation)
  end)
end)

describe("a retirement", function ()
  it("is spread evenly around its time, by the part that the plan says and no more", function ()
    for _, jitter in ipairs { 0.2, 0.5 } do
      local low, high, sum = math.huge, 0, 0
      for seed = 1, 200 do
        local host = Host.new { seed = seed, plan = quiet { overlap = 1, retire_after = 1000000, retire_jitter = jitter, backoff = { settle = 10 } } }
        local bot = host:up()
        host:run(50)
        assert.equal("retire", host:view(bot).next)
        local ms = host:view(bot).deadline - host:last("ready").at
        low, high, sum = math.min(low, ms), math.max(high, ms), sum + ms
      end
      assert.is_true(low >= (1 - jitter) * 1e6 and low < (1 - jitter * 0.9) * 1e6, low)
      assert.is_true(high <= (1 + jitter) * 1e6 and high > (1 + jitter * 0.9) * 1e6, high)
      assert.is_true(math.abs(sum / 200 - 1e6) < jitter * 2e5)
    end
  end)

  it("never comes before a tenth of its time", function ()
    local low = math.huge
    for seed = 1, 200 do
      local host = Host.new { seed = seed, plan = quiet { overlap = 1, retire_after = 1000000, retire_jitter = 1, backoff = { settle = 10 } } }
      local bot = host:up()
      host:run(50)
      low = math.min(low, host:view(bot).deadline - host:last("ready").at)
    end
    assert.equal(100000, low)
  end)
end)

describe("a machine that slept", function ()
  it("comes back within a second, its connections spread over it", function ()
    local low, high = math.huge, 0
    for seed = 1, 60 do
      local host = Host.new { seed = seed }
      local bot = host:up()
      host:event("clock jumped", bot, 0, { suspended = HOUR })
      local delay = host:last("journal").decision.delay
      low, high = math.min(low, delay), math.max(high, delay)
    end
    assert.is_true(low == 250 and high > 550 and high <= 600, low .. " to " .. high)
  end)
end)

describe("a wait that a row names for want of the peer's word", function ()
  it("means nothing in a row that does not heed the peer", function ()
    local row = { http = 500, otherwise = { 9000, 9000 } }
    assert.equal(0, engine.pause(engine.plan { classify = { row } }, { kind = "failed", http = 500 }))
    local host = Host.new { plan = { backoff = { jitter = "none" }, classify = { { any = true, otherwise = { 9000, 9000 } } } } }
    local bot = host:up()
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    assert.equal(1000, host:last("journal").decision.delay)
  end)
end)
