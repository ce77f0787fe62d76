-- What consumers send goes out on the real socket: checked, counted, answered once each.
local world = require "wire_world"

describe("what a consumer sends", function ()
  local s, peer, bot
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 5000, token = "MTIz.bot" })
    bot = s:consumer { name = "a" }
  end)
  after_each(world.teardown)

  local function send(id, frame)
    s.w:input(bot.number, ('{"send":{"id":"%s","connection":"bot","frame":%s}}\n'):format(id, frame))
  end
  local presence = '{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}'

  it("arrives at the peer, and is answered once", function ()
    s:discord("bot", peer)
    s:up "bot"
    send("x1", presence)
    s:run_until(function () return #bot:list "sent" == 1 end)
    assert.are.equal("x1", bot:list "sent"[1].id)
    s:run_until(function () return peer:stats().presences == 1 end)
  end)

  it("over the platform's size is refused here, and nothing is on the wire", function ()
    s:discord("bot", peer)
    s:up "bot"
    local received = peer:stats().received
    send("x1", ('{"op":3,"d":"%s"}'):format(("x"):rep(4096)))
    s:run_until(function () return #bot:list "refused" == 1 end)
    assert.are.not_equal(true, bot:list "refused"[1].retry)
    assert.are.equal(received, peer:stats().received)
    assert.are.equal("up", s:state "bot")
  end)

  it("of a kind that the policy does not accept is refused", function ()
    s:discord("bot", peer)
    s:up "bot"
    send("x1", '{"op":2,"d":{}}')
    s:run_until(function () return #bot:list "refused" == 1 end)
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("while the connection is not up is refused, and may be tried again", function ()
    peer:fault { http = { status = 503 } }
    s:discord("bot", peer)
    s:run_until(function () return s:state "bot" == "waiting" end)
    send("x1", presence)
    s:run_until(function () return #bot:list "refused" == 1 end)
    assert.is_true(bot:list "refused"[1].retry)
  end)

  it("while it greets waits, and goes out after READY", function ()
    peer:fault { ready_delay = 300 }
    s:discord("bot", peer, { tune = { limits = { greeting = "3s" } } })
    s:run_until(function () return s:view "bot".link == "greeting" end)
    send("x1", presence)
    s:up "bot"
    s:run_until(function () return peer:stats().presences == 1 end)
    assert.are.equal(0, peer:stats().early)
    s:run_until(function () return #bot:list "sent" == 1 end)
  end)

  it("200 at once stay within 120 a minute with beats kept free, and none is dropped without a word", function ()
    s:discord("bot", peer)
    s:up "bot"
    for i = 1, 200 do send("x" .. i, presence) end
    s:run_until(function () return peer:stats().presences >= 110 end)
    s:run_for("300ms")
    local stats = peer:stats()
    assert.are.equal(0, stats.over_rate)
    assert.is_true(stats.received <= 120)
    assert.are.equal("up", s:state "bot")
    assert.is_true(#bot:list "sent" + #bot:list "refused" <= 200)
    assert.are.equal(stats.presences, #bot:list "sent")
  end)

  it("does not delay the beat that the peer asks for", function ()
    s:discord("bot", peer)
    s:up "bot"
    local beats, from = peer:stats().beats, s:now()
    peer:control "ask_beat"
    s:run_until(function () return peer:stats().beats > beats end)
    assert.is_true(s:now() - from < 500)
  end)

  it("a second connection of the same identity is refused by name", function ()
    s:discord("bot", peer)
    local ok, why = pcall(s.discord, s, "twin", peer, { token = world.wire.secret("MTIz.bot", "token") })
    assert.is_false(ok)
    assert.is_truthy(why:find "bot")
  end)

  it("a reconnect resumes the TLS session as well", function ()
    s:discord("bot", peer)
    s:up "bot"
    local before = s:counts().resumed
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(before + 1, s:counts().resumed)
  end)
end)
