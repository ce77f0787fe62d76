-- A name server that takes seconds: the lookup has its limit, and nothing else waits for it. The names
-- late-MS.holdfast.test are answered so late by the test host's own getaddrinfo (tests/support/runner.c), in the
-- thread that asks.
local world = require "wire_world"

describe("a name that resolves late", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0, names = "DNS:*.holdfast.test,IP:127.0.0.1" })
  end)
  after_each(world.teardown)

  local function late(ms) return ("late-%d.holdfast.test"):format(ms) end
  local function probe(name, host, options)
    options = options or {}
    options.url = ("wss://%s:%d/?v=10&encoding=json&n=%s"):format(host, peer.port, name)
    options.hello = true
    s:connection(name, options)
  end

  it("is dialled when the answer came in time", function ()
    probe("bot", late(300))
    s:run_until(function () return s:view "bot".link == "resolving" end)
    local from = s:now()
    s:up "bot"
    assert.is_true(s:now() - from >= 200)
    assert.are.equal(0, #s:notes("bot", "decision"))
  end)

  it("ends the attempt at the limit of resolving, not when the answer comes", function ()
    probe("bot", late(1500), { tune = { limits = { resolve = "400ms" } } })
    local d, took = s:fails("bot", "name server slow", { stage = "resolving", kind = "timeout" })
    assert.is_true(took >= 350 and took < 2500, "took " .. took)
    assert.are.equal("resolving took longer than its limit", d.why)
    -- The answer was kept when it came: the next attempt that asks after it has it at once.
    s:up("bot", "4s")
  end)

  it("keeps the loop turning: links, beats and events of others go on", function ()
    local bot = s:consumer { name = "a" }
    s:discord("other", peer)
    s:up "other"
    s:run_until(function () return s:view "other".beats_answered >= 1 end)
    local beats = s:view "other".beats_answered
    probe("bot", late(2500), { tune = { limits = { resolve = "5s" } } })
    s:run_until(function () return s:view "bot".link == "resolving" end)
    s.w:watch_loop()
    local sent, from = 0, s:now()
    while s:now() - from < 2000 do
      peer:control("dispatch", { count = 10 })
      sent = sent + 10
      s:run_for "50ms"
      assert.are.equal("resolving", s:view "bot".link)
    end
    local gap = s.w:longest_gap()
    assert.is_true(gap < 250, ("the loop stood still for %.0f ms"):format(gap))
    s:run_until(function () return #bot:numbers() >= sent end, "500ms")
    assert.is_true(s:view "other".beats_answered >= beats + 3)
    assert.are.equal(1, s:view "other".ready)
    s:up "bot"
  end)

  it("does not keep other names waiting", function ()
    for i = 1, 4 do probe("slow" .. i, late(2000 + i), { tune = { limits = { resolve = "5s" } } }) end
    s:run_until(function () return s:view "slow4".link == "resolving" end)
    probe("quick", late(1))
    s:up("quick", "1s")
    assert.are.equal("resolving", s:view "slow1".link)
    for i = 1, 4 do s:up("slow" .. i, "5s") end
  end)

  it("is asked for once by all who wait", function ()
    for i = 1, 8 do probe("bot" .. i, late(601)) end
    for i = 1, 8 do s:up("bot" .. i, "3s") end
    local counts = s:counts()
    assert.are.equal(1, counts.lookups)
    assert.are.equal(7, counts.lookups_shared)
  end)

  it("does not keep a stop waiting", function ()
    probe("bot", late(1200), { tune = { limits = { resolve = "5s" } } })
    s:run_until(function () return s:view "bot".link == "resolving" end)
    local from = s:now()
    s:stop "bot"
    s:run_until(function () return s:state "bot" == "stopped" and s:view "bot".links == 0 end)
    assert.is_true(s:now() - from < 500)
  end)
end)
