-- What an ending leaves behind: whose verdict counts, which links and permits go with it.
local Host = require "engine_host"
local engine = require "unit.engine"

local HOUR = 3600000
local function deaf() return true end
local function closed(code) return { cause = { kind = "closed", close = code } } end
local function reconnect(host, bot, generation) host:event("ending announced", bot, generation, { cause = { kind = "ended", name = "reconnect" } }) end
local function plan(more)
  local p = { overlap = 1, session = {}, backoff = { jitter = "none", settle = 1000 }, slow = { first = 60000, most = 60000 },
    classify = { { cause = "reconnect", planned = true, delay = { 0, 0 } }, { close = 4002, pace = "slow" }, { close = 4004, pace = "stop" }, { close = 4009, drop = "fresh" } } }
  for k, v in pairs(more or {}) do p[k] = v end
  return p
end
-- Its successor has failed once already; `under_way`: and is tried again.
local function failing(under_way, more)
  local host = Host.new { plan = plan(more) }
  local bot = host:up { session = true }
  host:run(2000)
  host.on.prepare = deaf
  reconnect(host, bot, 1)
  host:run(100)
  host:event("attempt failed", bot, 2, { cause = { kind = "call" } })
  if under_way then host:run(5000, function () return host:view(bot).generation == 3 end) end
  assert.same({ "up", under_way and 3 or 2 }, { host:view(bot).state, host:view(bot).generation })
  return host, bot
end

describe("a link that was to be replaced, and dies after its successor failed,", function ()
  -- Its close code was not heard: the ending judged last was the successor's.
  it("is judged: a fatal code stops, a slow one keeps away, a lost session is dropped", function ()
    for _, under_way in ipairs { false, true } do
      local host, bot = failing(under_way)
      host:event("peer closed", bot, 1, closed(4004))
      host:run(100000)
      assert.same({ "stopped", true, 4004 }, { host:view(bot).state, host:view(bot).fatal, host:view(bot).cause.close })

      host, bot = failing(under_way)
      host:event("peer closed", bot, 1, closed(4002))
      assert.same({ "slow", 4002 }, { host:last("journal").decision.pace, host:last("journal").decision.cause.close })

      host, bot = failing(under_way)
      host:event("peer closed", bot, 1, closed(4009))
      assert.same({ false, 1 }, { host:view(bot).session_present, #host:effects "drop session" })
      host.on.prepare = nil
      if under_way then host:event("prepared", bot, 3) end
      host:run(100000)
      assert.equal("up", host:view(bot).state)
      assert.same({}, host.violations)
    end
  end)

  it("lets go on what is under way where its ending asks for no more", function ()
    local host, bot = failing(true)
    host:event("peer closed", bot, 1, { cause = { kind = "eof" } })
    assert.same({ "preparing", "eof", 3 }, { host:view(bot).state, host:view(bot).cause.kind, #host:effects "prepare" })
    host.on.prepare = nil
    host:event("prepared", bot, 3)
    host:run(1000)
    assert.same({ "up", 3 }, { host:view(bot).state, #host:effects "prepare" })
    assert.same({}, host.violations)
  end)
end)
