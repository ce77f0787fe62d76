-- Discord's incident of 48 hours, with shortened limits: a gateway that accepts and then does not greet.
-- Each attempt ends at its limit, attempts climb, a dead session is let go, and no quota is burnt.
local world = require "wire_world"

describe("a gateway that accepts and does not greet", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0 })
  end)
  after_each(world.teardown)

  local tune = { limits = { greeting = "300ms" } }

  local function decisions(n, within)
    s:run_until(function () return #s:notes("bot", "decision") >= n end, within)
    local out = {}
    for i, note in ipairs(s:notes("bot", "decision")) do out[i] = note.decision end
    return out
  end

  it("ends each attempt at the greeting limit, with a longer wait each time, and never identifies", function ()
    peer:fault { silent_hello = true }
    s:discord("bot", peer, { tune = tune })
    local list = decisions(4)
    for i, d in ipairs(list) do
      assert.are.equal("greeting", d.cause.stage)
      assert.is_true(d.cause.kind == "timeout" or d.cause.name == "no_hello", d.cause.name)
      assert.is_true(d.cause.age >= 290 and d.cause.age < 900, "age " .. d.cause.age)
      assert.are.equal(i, d.attempt)
    end
    assert.are.same({ 250, 500, 1000, 1000 }, { list[1].delay, list[2].delay, list[3].delay, list[4].delay })
    assert.are.equal(0, peer:stats().identifies)
    assert.is_true(peer:stats().upgrades <= 5)
    -- It is up as soon as the gateway is well.
    peer:heal()
    s:up("bot", "4s")
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("lets a session go after three attempts that failed to resume it", function ()
    s:discord("bot", peer, { tune = tune })
    s:up "bot"
    assert.is_true(s:view "bot".session)
    peer:fault { silent_hello = true }
    peer:control "abort"
    local list = decisions(5)
    assert.are.equal("ready", list[1].cause.stage)
    for i = 2, 4 do
      assert.are.equal("greeting", list[i].cause.stage)
      assert.is_true(list[i].cause.session)
    end
    assert.are.equal("resume", list[3].drop)
    assert.are.equal("fresh", list[4].drop)
    assert.are.equal("climb", list[4].by)
    assert.is_false(list[5].cause.session)
    assert.are.equal(1, peer:stats().identifies)
    peer:heal()
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(2, peer:stats().identifies)
  end)

  it("that takes IDENTIFY and says nothing costs no more session starts than the budget", function ()
    peer:fault { no_ready = true }
    s:discord("bot", peer, { tune = { limits = { greeting = "300ms" },
      budgets = { start = { windows = { { 3, "1h" } }, gap = "250ms", operators = 0 } } } })
    s:run_until(function () return s:state "bot" == "queued" end)
    s:run_for("1500ms", function () return s:state "bot" == "queued" end)
    assert.are.equal(3, peer:stats().identifies)
    assert.are.equal(3, peer:stats().upgrades)
    local v = s:view "bot"
    assert.is_true(v.deadline > s:now() + 60000)
  end)

  it("that answers op 9 to every IDENTIFY costs no more either", function ()
    peer:fault { invalid_identify = true }
    s:discord("bot", peer, { tune = { budgets = { start = { windows = { { 1, "1h" } }, gap = "250ms", operators = 0 } } } })
    s:run_until(function () return s:state "bot" == "queued" end)
    assert.are.equal(1, peer:stats().identifies)
    for _, d in ipairs(decisions(1)) do
      assert.are.equal("session_invalid", d.cause.name)
      assert.is_true(d.delay >= 1000)
    end
  end)

  it("that answers op 7 in place of HELLO is left with backoff", function ()
    peer:fault { op7_for_hello = 3 }
    s:discord("bot", peer)
    local list = decisions(3)
    assert.are.equal("reconnect", list[1].cause.name)
    assert.are.equal("greeting", list[1].cause.stage)
    assert.are.equal(3, list[3].attempt)
    s:up "bot"
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("that takes RESUME and says nothing is counted as a failed resume", function ()
    s:discord("bot", peer, { tune = tune })
    s:up "bot"
    peer:fault { no_resumed = 1 }
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 2 end)
    local list = decisions(2)
    assert.are.equal("greeting", list[2].cause.stage)
    assert.are.equal(1, peer:stats().resumed)
    assert.are.equal(1, peer:stats().identifies)
  end)
end)
