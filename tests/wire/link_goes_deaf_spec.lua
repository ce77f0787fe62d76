-- A line or a peer that goes silent without an ending: only an unanswered probe proves it, and soon.
local world = require "wire_world"

describe("a link that goes deaf", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0 })
  end)
  after_each(world.teardown)

  local function up(options)
    s:discord("bot", peer, options)
    s:up "bot"
  end

  it("is given up when a beat stays unanswered, and resumed", function ()
    up()
    peer:fault { no_ack = true }
    local d, took = s:fails("bot", "beats unanswered", { stage = "ready", kind = "beat", by = "us" })
    -- The beat after the unanswered one is where it is judged: at most two intervals, and a little.
    assert.is_true(took <= 3600, "took " .. took)
    assert.are.equal("resume", d.drop)
    peer:heal()
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(1, peer:stats().resumed)
  end)

  it("half-open (both directions black) is noticed by the beat, and closed with 4000", function ()
    local relay = s:relay(peer)
    up()
    s:run_until(function () return s:view "bot".beats_answered >= 1 end)
    relay:live { black_hole = true }
    local _, took = s:fails("bot", "black hole while up", { stage = "ready", kind = "beat" })
    assert.is_true(took <= 4000, "took " .. took)
    local closes = s:notes("bot", "close")
    assert.are.equal(4000, closes[#closes].code)
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(1, peer:stats().resumed)
  end)

  it("half-open in one direction (ours is lost) is noticed likewise", function ()
    local relay = s:relay(peer)
    up()
    s:run_until(function () return s:view "bot".beats_answered >= 1 end)
    relay:live { drop_up = true }
    local _, took = s:fails("bot", "half-open: only down works", { stage = "ready", kind = "beat" })
    assert.is_true(took <= 4000, "took " .. took)
  end)

  it("half-open in the other direction is noticed likewise", function ()
    local relay = s:relay(peer)
    up()
    s:run_until(function () return s:view "bot".beats_answered >= 1 end)
    relay:live { drop_down = true }
    local _, took = s:fails("bot", "half-open: only up works", { stage = "ready", kind = "beat" })
    assert.is_true(took <= 4000, "took " .. took)
  end)

  it("is kept while answers are only late", function ()
    up()
    peer:fault { ack_delay = 300 }
    s:run_until(function () return s:view "bot".beats_answered >= 3 end)
    assert.are.equal(1, s:view "bot".ready)
    assert.are.equal(0, #s:notes("bot", "decision"))
  end)
end)
