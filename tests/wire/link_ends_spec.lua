-- How an open link can end, each with its exact cause, what the next attempt does with the session, and
-- that the connection is up again by itself.
local world = require "wire_world"

describe("an open link", function ()
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

  -- The link ended so; what happened next is said by `after`: "resumes", "identifies" or "stops".
  local function ends(fault, expected, after)
    local before = peer:stats()
    local d, took = s:fails("bot", fault, expected)
    if after == "stops" then
      s:run_until(function () return s:state "bot" == "stopped" end)
      assert.is_true(s:view "bot".fatal)
      return d, took
    end
    s:run_until(function () return s:view "bot".ready == 2 end)
    local now = peer:stats()
    if after == "resumes" then
      assert.are.equal(before.resumed + 1, now.resumed)
      assert.are.equal(before.identifies, now.identifies)
    else
      assert.are.equal(before.resumes, now.resumes)
      assert.are.equal(before.identifies + 1, now.identifies)
    end
    assert.are.equal(0, peer:stats().refused_identifies)
    return d, took
  end

  local codes = {
    { 1000, "resumes" }, { 1001, "resumes" }, { 1011, "resumes" }, { 4000, "resumes" }, { 4001, "resumes" },
    { 4008, "resumes" }, { 3999, "resumes" },
    { 4003, "identifies" }, { 4005, "identifies" }, { 4006, "identifies" }, { 4007, "identifies" },
    { 4009, "identifies" },
    { 4004, "stops" }, { 4010, "stops" }, { 4012, "stops" }, { 4014, "stops" },
  }
  for _, row in ipairs(codes) do
    local code, after = row[1], row[2]
    it(("closed by the peer with %d: the next one %s"):format(code, after), function ()
      up()
      peer:control("kick", { code = code, reason = "why " .. code })
      local d = ends("close " .. code, { stage = "ready", kind = "closed", by = "peer", close = code,
        reason = "why " .. code }, after)
      assert.are.equal(after == "identifies" and "fresh" or "resume", d.drop)
      assert.are.equal(after == "stops" and "stop" or "normal", d.pace)
    end)
  end

  it("closed without a code is 1005", function ()
    up()
    peer:control("kick", { code = 0 })
    ends("close without code", { stage = "ready", kind = "closed", close = 1005, drop = "resume" }, "resumes")
  end)

  it("whose stream ends without a close frame is EOF", function ()
    up()
    peer:control "abort"
    ends("EOF without close frame", { stage = "ready", kind = "eof", by = "peer", drop = "resume" }, "resumes")
  end)

  it("that is reset is named so", function ()
    local relay = s:relay(peer)
    up()
    -- READY's resume address is the peer itself: only the first link goes through the relay.
    relay:reset()
    ends("reset while up", { stage = "ready", kind = "reset", by = "network", code = 104 }, "resumes")
  end)

  it("whose line is cut by a FIN from the middle is EOF", function ()
    local relay = s:relay(peer)
    up()
    relay:fin()
    ends("FIN from the middle", { stage = "ready", kind = "eof" }, "resumes")
  end)

  it("truncated in the middle of a frame is EOF, and the frame comes again with the resume", function ()
    peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0, tls = false })
    local bot = s:consumer { name = "a" }
    local relay = s:relay(peer)
    up()
    relay:live { fin_down = 200 }
    peer:control("dispatch", { count = 10 })
    ends("truncated mid-frame", { stage = "ready", kind = "eof" }, "resumes")
    s:run_until(function () return #bot:numbers() >= 10 end)
    assert.are.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, bot:numbers())
  end)

  it("over a line of one byte at a time delivers all the same", function ()
    local bot = s:consumer { name = "a" }
    local relay = s:relay(peer)
    up()
    relay:live { trickle = true }
    peer:control("dispatch", { count = 20 })
    s:run_until(function () return #bot:numbers() >= 20 end)
    assert.are.equal("up", s:state "bot")
    assert.are.equal(1, s:view "bot".ready)
  end)

  it("told to reconnect (op 7) resumes at once, closing with 4000", function ()
    up()
    peer:control "op7"
    local d = ends("op 7", { stage = "ready", kind = "ended", name = "reconnect" }, "resumes")
    assert.is_true(d.delay <= 1000)
    assert.are.equal(1, peer:closed(4000))
  end)

  it("whose session is invalid (op 9 false) identifies after 1 to 5 s", function ()
    up()
    peer:control "op9"
    local d = ends("op 9 false", { kind = "ended", name = "session_invalid", drop = "fresh" }, "identifies")
    assert.is_true(d.delay >= 1000 and d.delay <= 5000, "delay " .. d.delay)
  end)

  it("whose session is paused (op 9 true) resumes after 1 to 5 s", function ()
    up()
    peer:control("op9", { resumable = true })
    local d = ends("op 9 true", { kind = "ended", name = "session_paused", drop = "resume" }, "resumes")
    assert.is_true(d.delay >= 1000 and d.delay <= 5000, "delay " .. d.delay)
  end)
end)
