-- Bursts and slow consumers: a burst is delivered whole; a full backlog that holds stops reading upstream
-- and loses nothing; one that holds too long ends the link with its name.
local world = require "wire_world"

describe("a burst", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 5000, token = "MTIz.bot" })
  end)
  after_each(world.teardown)

  local function whole(numbers, count)
    assert.are.equal(count, #numbers)
    for i, n in ipairs(numbers) do
      if i ~= n then error(("event %d came where %d was due"):format(n, i)) end
    end
  end

  it("of 20,000 events is delivered whole and in order", function ()
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer, { tune = { beat = { every = { "60s", "30s", "120s" } } } }) -- a slow machine is no dead peer
    s:up "bot"
    peer:control("dispatch", { count = 20000 })
    local count = 0
    s:run_until(function ()
      bot:collect()
      count = bot.kinds.event and #bot.kinds.event or 0
      return count >= 20001
    end, "20s")
    local numbers = bot:numbers()
    whole(numbers, 20000)
    assert.are.equal(0, #bot:gaps())
    assert.are.equal(1, s:view "bot".ready)
  end)

  local hold = { most = "64KiB", full = "hold", hold_for = "2s" }

  it("to a consumer that stops reading holds the upstream, and loses nothing when it goes on", function ()
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer, { backlog = hold, tune = { beat = { every = { "5s", "3s", "10s" } } } })
    s:up "bot"
    bot:pause(true)
    peer:control("dispatch", { count = 2000 })
    s:run_for("500ms", function () return s:state "bot" == "up" end)
    local v = s:view "bot"
    assert.is_true(v.held_bytes <= 64 * 1024, "held " .. v.held_bytes)
    assert.is_true(v.held < 2000)
    bot:pause(false)
    s:run_until(function ()
      local events = bot:events()
      if #events > 0 then bot:ack(events[#events]) end
      return #events >= 2001
    end)
    whole(bot:numbers(), 2000)
    assert.are.equal(0, #bot:gaps())
    assert.are.equal(1, s:view "bot".ready)
    assert.are.equal(0, s:view "bot".dropped)
  end)

  it("held longer than hold_for ends the link, and is resumed without a loss", function ()
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer, { backlog = { most = "64KiB", full = "hold", hold_for = "300ms" } })
    s:up "bot"
    bot:pause(true)
    peer:control("dispatch", { count = 1000 })
    s:fails("bot", "backlog held too long", { stage = "ready", kind = "backlog_full", by = "us" })
    bot:pause(false)
    s:run_until(function ()
      local events = bot:events()
      if #events > 0 then bot:ack(events[#events]) end
      return #bot:numbers() >= 1000
    end)
    whole(bot:numbers(), 1000)
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("with drop_oldest tells what it dropped, and the rest is in order", function ()
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer, { backlog = { most = "64KiB", full = "drop_oldest" } })
    s:up "bot"
    bot:pause(true)
    peer:control("dispatch", { count = 2000 })
    s:run_until(function () return s:view "bot".appended >= 2001 end)
    bot:pause(false)
    s:run_until(function () local n = bot:numbers() return n[#n] == 2000 end)
    local numbers = bot:numbers()
    assert.is_true(#numbers < 2000)
    for i = 2, #numbers do assert.is_true(numbers[i] > numbers[i - 1]) end
    assert.is_true(#bot:gaps() >= 1)
    assert.are.equal("up", s:state "bot")
  end)
end)
