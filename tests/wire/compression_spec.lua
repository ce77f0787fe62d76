-- Transport compression end to end: the peer deflates one stream over all messages of a socket.
local world = require "wire_world"

describe("a compressed connection", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0 })
  end)
  after_each(world.teardown)

  for _, mode in ipairs { "zlib-stream", "zstd-stream" } do
    it(("with %s delivers in order, also after a resume with a fresh stream"):format(mode), function ()
      local bot = s:consumer { name = "a" }
      s:discord("bot", peer, { compress = mode })
      s:up "bot"
      peer:control("dispatch", { count = 300 })
      s:run_until(function () return #bot:numbers() >= 300 end)
      peer:control "abort"
      s:run_until(function () return s:view "bot".ready == 2 end)
      peer:control("dispatch", { count = 300 })
      s:run_until(function () return #bot:numbers() >= 600 end)
      for i, n in ipairs(bot:numbers()) do assert.are.equal(i, n) end
      assert.are.equal(1, peer:stats().resumed)
    end)

    it(("with %s answers garbage with 4000, and resumes"):format(mode), function ()
      s:discord("bot", peer, { compress = mode })
      s:up "bot"
      peer:control("raw", { binary = true, text = "\255\254garbage that no codec made\0\0\255\255" })
      s:fails("bot", "compressed garbage, " .. mode, { stage = "ready", kind = "inflate", drop = "resume" })
      s:run_until(function () return s:view "bot".ready == 2 end)
      assert.are.equal(1, peer:closed(4000))
      assert.are.equal(1, peer:stats().resumed)
    end)
  end
end)
