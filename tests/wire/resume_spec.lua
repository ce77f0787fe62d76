-- Resuming over real sockets: whatever the line does, each numbered event arrives, once, in order.
local world = require "wire_world"

describe("a session", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, token = "MTIz.bot" })
  end)
  after_each(world.teardown)

  local function whole(numbers, count)
    assert.are.equal(count, #numbers)
    for i, n in ipairs(numbers) do
      if i ~= n then error(("event %d came where %d was due"):format(n, i)) end
    end
  end

  it("is resumed with its last sequence after aborts, and nothing of 1000 events is lost or doubled", function ()
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer, { tune = { backoff = { most = "250ms" } } })
    s:up "bot"
    for round = 1, 10 do
      peer:control("dispatch", { count = 50 })
      -- In the middle of the burst: some are on the wire, some were never sent.
      s:turn(1)
      peer:control "abort"
      peer:control("dispatch", { count = 50 })
      s:run_until(function () return s:view "bot".ready == round + 1 end)
    end
    s:run_until(function () return #bot:numbers() >= 1000 end)
    whole(bot:numbers(), 1000)
    assert.are.equal(0, #bot:gaps())
    local stats = peer:stats()
    assert.are.equal(1, stats.identifies)
    assert.are.equal(10, stats.resumed)
  end)

  it("sends RESUME with the number of the last frame that it took", function ()
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer)
    s:up "bot"
    peer:control("dispatch", { count = 7 })
    s:run_until(function () return #bot:numbers() == 7 end)
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 2 end)
    local resume
    for _, m in ipairs(s:messages("bot", "out")) do
      if m.frame.op == 6 then resume = m.frame.d end
    end
    assert.are.equal(8, resume.seq) -- READY was 1
    assert.are.equal("session00001", resume.session_id)
  end)

  it("survives a line that is reset in the middle of frames, again and again", function ()
    local bot, relay = s:consumer { name = "a" }, s:relay()
    peer = s:peer("discord", { heartbeat_interval = 500, token = "MTIz.bot", resume_host = relay.ws })
    relay:to(peer)
    s:discord("bot", peer, { tune = { backoff = { most = "250ms" } } })
    s:up "bot"
    for round = 1, 5 do
      relay:live { reset_down = 700 * round }
      relay:set {}
      peer:control("dispatch", { count = 100 })
      s:run_until(function () return s:view "bot".ready == round + 1 end)
    end
    s:run_until(function () return #bot:numbers() >= 500 end)
    whole(bot:numbers(), 500)
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("is resumed at the general address when its own host is gone", function ()
    local gone = s:free_port()
    peer = s:peer("discord", { heartbeat_interval = 500, resume_host = ("wss://127.0.0.1:%d"):format(gone) })
    s:discord("bot", peer)
    s:up "bot"
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(1, peer:stats().resumed)
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("that the peer forgot is replaced, and the hole is told", function ()
    peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0 })
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer)
    s:up "bot"
    peer:control "expire"
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(1, peer:stats().resumes)
    assert.are.equal(0, peer:stats().resumed)
    assert.are.equal(2, peer:stats().identifies)
    s:run_until(function () return #bot:gaps() == 1 end)
    assert.are.equal("bot", bot:gaps()[1].connection)
  end)
end)
