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

describe("what is known of a living link", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0 })
  end)
  after_each(world.teardown)

  it("is the round trip of beats, the kernel's view and the loop's lateness", function ()
    s:discord("bot", peer)
    s:up "bot"
    s:run_until(function () return s:view "bot".beats_answered >= 2 end)
    local v = s:view "bot"
    assert.are.equal("alive", v.life)
    assert.is_truthy(v.evidence:match "a beat was answered 0%.%ds ago", v.evidence)
    assert.are.equal("beat", v.round_trip_of)
    assert.is_true(v.round_trip < 500)
    assert.is_true(v.kernel_round_trip_us > 0 and v.kernel_round_trip_us < 1000000)
    assert.are.equal(0, v.kernel_repeats)
    assert.is_true(v.kernel_last_data_ms < 2000)
    assert.is_true(v.loop_worst_us >= 0)
  end)

  it("is the round trip of pings where they are the probe", function ()
    s:discord("bot", peer, { tune = { beat = { every = { "41s", "40s", "50s" } }, alive = { ping = "500ms", silence = "10s" } } })
    s:up "bot"
    s:run_until(function () return s:view "bot".round_trip_of == "ping" end)
    assert.is_true(s:view "bot".pong > 0)
    assert.is_true(s:view "bot".round_trip < 500)
  end)

  it("ends with the link: nothing is known of a socket that is gone", function ()
    s:discord("bot", peer)
    s:up "bot"
    assert.is_truthy(s:view "bot".kernel_round_trip_us)
    s:stop "bot"
    s:run_until(function () return s:view "bot".state == "stopped" and s:view "bot".links == 0 end)
    local v = s:view "bot"
    assert.is_nil(v.kernel_round_trip_us)
    assert.are.equal("dead", v.life)
  end)
end)
