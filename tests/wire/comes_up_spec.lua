-- The way that every day takes: up over TLS, events in order, beats answered, closed with the right code.
local world = require "wire_world"

describe("a connection over TLS", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, token = "MTIz.bot" })
    s:discord("bot", peer)
  end)
  after_each(world.teardown)

  it("comes up with one bootstrap call, one upgrade and one IDENTIFY", function ()
    s:up "bot"
    local stats = peer:stats()
    assert.are.equal(1, stats.http)
    assert.are.equal(1, stats.upgrades)
    assert.are.equal(1, stats.identifies)
    assert.are.equal(0, stats.refused_identifies)
    assert.are.equal("session00001", s:session "bot".id)
    assert.is_true(s:counts().handshakes >= 1)
  end)

  it("delivers numbered events in order, once each", function ()
    local bot = s:consumer { name = "a" }
    s:up "bot"
    peer:control("dispatch", { count = 500 })
    s:run_until(function () return #bot:numbers() >= 500 end)
    local numbers = bot:numbers()
    assert.are.equal(500, #numbers)
    for i, n in ipairs(numbers) do assert.are.equal(i, n) end
    assert.are.equal(0, #bot:gaps())
  end)

  it("beats as often as HELLO says, and each beat is answered", function ()
    s:up "bot"
    s:run_until(function () return s:view "bot".beats_answered >= 3 end, "4s")
    local v = s:view "bot"
    assert.is_true(v.beats_sent - v.beats_answered <= 1)
    assert.is_true(peer:stats().beats >= 3)
    assert.are.equal("up", v.state)
  end)

  it("closes 1000 on stop, and the session is over on both sides", function ()
    s:up "bot"
    s:stop "bot"
    s:run_until(function () return s:state "bot" == "stopped" end)
    s:run_until(function () return peer:closed(1000) == 1 end)
    assert.are.equal(0, peer:stats().sessions)
    assert.is_nil(s:session "bot".id)
  end)

  it("closes 4000 on restart, and resumes the session", function ()
    s:up "bot"
    s:restart "bot"
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(1, peer:closed(4000))
    assert.are.equal(1, peer:stats().resumed)
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("closes 4000 at shutdown, so that the next process can resume", function ()
    s:up "bot"
    s:run_until(function () return s:shutdown() end)
    s:run_until(function () return peer:stats().open == 0 end)
    assert.are.equal(1, peer:closed(4000))
    assert.are.equal(1, peer:stats().sessions)
  end)

  it("closes 1000 when it is removed, and its name is free again", function ()
    s:up "bot"
    s:remove "bot"
    s:run_until(function () return s:state "bot" == nil end)
    s:run_until(function () return peer:closed(1000) == 1 end)
    s:discord("bot", peer)
  end)
end)
