-- What a fatal ending does to what else is under way, and what a second word about an ending does not do.
local Host = require "engine_host"

local function deaf() return true end
local function closed(code) return { cause = { kind = "closed", close = code } } end
local function with(more)
  local p = { overlap = 1, backoff = { settle = 10000 }, ping = 0, silence = 0, session = {},
    classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } }, { close = 4004, pace = "stop" } } }
  for k, v in pairs(more or {}) do p[k] = v end
  return p
end
local function announce(host, bot, generation)
  host:event("ending announced", bot, generation, { cause = { kind = "ended", name = "reconnect" } })
end

describe("a fatal ending of a link whose successor is on its way", function ()
  it("closes the successor too, whichever of the two came first, and nothing dials again", function ()
    for handovers = 0, 1 do
      local host = Host.new { plan = with { limits = { drain = 1000 }, budgets = { start = { windows = { { 9, 3600000 } } } } } }
      local bot = host:up()
      host.conns[bot].handover = true
      host:run(11000)
      for generation = 1, handovers do
        announce(host, bot, generation)
        host:run(15000)
      end
      local old = handovers + 1
      assert.equal(1, #host:view(bot).links)
      host.on.greet = deaf
      announce(host, bot, old)
      host:run(1000)
      assert.same({ 2, "up" }, { #host:view(bot).links, host:view(bot).state })
      local from = #host.log
      host:event("peer closed", bot, old, closed(4004))
      local closes, cancels, returned = {}, {}, false
      for _, f in ipairs(host:effects("close", from)) do closes[f.generation] = f.code end
      for _, f in ipairs(host:effects("cancel", from)) do cancels[f.generation] = true end
      for _, f in ipairs(host:effects("store", from)) do returned = returned or f.what == "return" end
      assert.same({ 4000, true, true }, { closes[old + 1], cancels[old + 1], returned })
      local dials = #host:effects "dial"
      host:run(100000)
      assert.same({ "stopped", true, dials, 0 }, { host:view(bot).state, host:view(bot).fatal, #host:effects "dial", #host:view(bot).links })
      assert.same({}, host.violations)
    end
  end)

  it("cancels a successor that is still prepared", function ()
    local host = Host.new { plan = with(), on = { prepare = function (_, f) return f.generation == 2 end } }
    local bot = host:up()
    host:run(11000)
    announce(host, bot, 1)
    host:run(10)
    assert.equal(2, #host:effects "prepare")
    host:event("peer closed", bot, 1, closed(4004))
    assert.equal(2, host:last("cancel").generation)
    host:event("prepared", bot, 2)
    host:run(100000)
    assert.same({ "stopped", 1 }, { host:view(bot).state, #host:effects "dial" })
    assert.same({}, host.violations)
  end)
end)

describe("a link that serves on because its successor met a fatal ending", function ()
  it("is not retired again, and wakes nobody for that", function ()
    local host = Host.new { plan = with { retire_after = 100000 }, on = { dial = function (h, f)
      if f.generation == 1 then return false end
      h:later(5, function () h:event("dial failed", f.conn, f.generation, { cause = { kind = "upgrade_refused", http = 401, close = 4004, stage = "upgrading" } }) end)
      return true
    end } }
    local bot = host:up()
    host.conns[bot].handover = true
    host:run(101000)
    assert.same({ "up", 2 }, { host:view(bot).state, #host:effects "dial" })
    assert.is_nil(host:view(bot).deadline)
    host:run(3600000)
    assert.same({ "up", 2, 1 }, { host:view(bot).state, #host:effects "dial", #host:effects "alarm" })
  end)
end)

describe("an ending that is told again", function ()
  it("is journalled once for each time that it grew stronger", function ()
    local host = Host.new { plan = with { classify = { { close = 4001, drop = "fresh" } } }, on = { close = deaf } }
    local bot = host:up { session = true }
    host:event("ending announced", bot, 1, { cause = { kind = "ended", name = "bye" }, wait = 5000 })
    for _ = 1, 3 do host:event("peer closed", bot, 1, closed(4001)) end
    assert.same({ 2, 1, 1 }, { #host:effects "journal", #host:effects "drop session", #host:effects "close" })
  end)

  it("by an operator's stop is one goodbye, whose limit goes on", function ()
    local host = Host.new { plan = with { limits = { close = 3000 } }, on = { close = deaf } }
    local bot = host:up()
    host:event("peer closed", bot, 1, closed(1001))
    local from = host.now
    host:run(2000)
    host:event("stop requested", bot)
    host:run(2000)
    assert.same({ 1, from + 3000, "stopped" }, { #host:effects "close", host:last("abort").at, host:view(bot).state })
  end)
end)
