-- Size: a message of exactly the limit passes, one byte more does not; what only unpacks to too much is refused
-- before it was unpacked, by the shipped policy as well.
local world = require "wire_world"

local MIB = 1024 * 1024
-- AddressSanitizer holds freed memory back for a while.
local HELD_BACK = (os.getenv "HOLDFAST_BUILD" or ""):find "asan" and 256 or 0

local function be(n, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

local function frame(first, payload)
  local n = #payload
  local length = n < 126 and string.char(n) or n < 65536 and "\126" .. be(n, 2) or "\127" .. be(n, 8)
  return string.char(first) .. length .. payload
end

describe("a message", function ()
  local s
  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  -- JSON of exactly so many bytes.
  local function json_of(bytes)
    local head, tail = '{"op":0,"n":"', '"}'
    return head .. ("x"):rep(bytes - #head - #tail) .. tail
  end

  local policy = world.PROBE:gsub('message = "1MiB"', 'message = "64MiB"')
  local function probe(steps)
    local raw = s:raw(steps)
    s:connection("probe", { policy = policy, url = raw.ws .. "/", tune = { alive = { ping = "60s", silence = "120s" } } })
    return raw
  end

  it("of exactly 64 MiB, the limit, is delivered whole", function ()
    local bot = s:consumer {}
    local text = json_of(64 * MIB)
    local raw = probe { { "upgrade" }, { "write", frame(0x81, text) .. frame(0x81, '{"op":0,"n":2}') }, { "quiet" } }
    s:run_until(function () return s:view "probe".delivered == 2 end, "60s")
    assert.are.equal("up", s:state "probe")
    assert.are.equal(0, s:view "probe".malformed)
    assert.are.equal(1, #raw.saw())
    local held = s:messages("probe", "in")[1].data
    assert.are.equal(#text, #held)
    assert.is_true(held == text)
    bot:collect()
  end)

  it("of 64 MiB in fragments is delivered whole as well", function ()
    local text, list = json_of(64 * MIB), {}
    for i = 0, 63 do
      local piece = text:sub(i * MIB + 1, (i + 1) * MIB)
      list[i + 1] = frame((i == 63 and 0x80 or 0) + (i == 0 and 1 or 0), piece)
    end
    probe { { "upgrade" }, { "write", table.concat(list) }, { "quiet" } }
    s:run_until(function () return s:view "probe".delivered == 1 end, "60s")
    assert.are.equal("up", s:state "probe")
  end)

  it("of one byte more is refused at its length, before its bytes", function ()
    probe { { "upgrade" }, { "write", "\129\127" .. be(64 * MIB + 1, 8) }, { "end" } }
    local before = world.wire.memory_mark()
    local d = s:fails("probe", "message of 64 MiB and a byte", { stage = "ready", kind = "too_big", by = "peer", close = 1009,
      reason = "a message over sizes.message" })
    assert.are.equal("a message was too big with 1009: a message over sizes.message (by the platform, while it was up)", d.why)
    if before then assert.is_true(world.wire.memory_peak() - before < 16) end
  end)

  it("of one byte more in fragments is refused at the fragment that is too much", function ()
    local piece = ("x"):rep(32 * MIB)
    probe { { "upgrade" }, { "write", frame(0x02, piece) .. frame(0x00, piece) .. "\128\1" .. "x" }, { "end" } }
    s:fails("probe", "fragments of 64 MiB and a byte", { stage = "ready", kind = "too_big", close = 1009 }, "60s")
  end)

  -- The peer answers the bootstrap call and leads to a raw server, which speaks compressed Discord.
  for _, mode in ipairs { "zlib-stream", "zstd-stream" } do
    local hello = '{"op":10,"d":{"heartbeat_interval":45000}}'

    local function bomb(messages, tune)
      local packed = world.wire.deflate(mode, messages)
      local bytes = {}
      for i, m in ipairs(packed) do bytes[i] = frame(0x82, m) end
      local peer = s:peer("discord", { token = "MTIz.bot" })
      local raw = s:raw { tls = true, { "tls" }, { "upgrade" }, { "write", table.concat(bytes) }, { "end" } }
      world.lead(peer, raw.ws)
      collectgarbage()
      local before = world.wire.memory_mark()
      if not before then pending "the system does not tell the peak of memory" end
      s:discord("bot", peer, { compress = mode, tune = tune })
      return raw, before, packed
    end

    it(("of 256 MiB in %s is refused at a limit of 1 MiB, and costs not much more"):format(mode), function ()
      local raw, before, packed = bomb({ hello, 256 * MIB }, { sizes = { message = "1MiB" } })
      assert.is_true(#packed[2] < MIB, "a bomb is small")
      s:fails("bot", "decompression bomb, " .. mode, { stage = "greeting", kind = "too_big", by = "peer", close = 1009,
        reason = "a message over sizes.message" })
      local grown = world.wire.memory_peak() - before
      assert.is_true(grown < 24 + HELD_BACK / 4, ("%.1f MiB more"):format(grown))
      -- Nothing that starts a session was sent after it; the close frame says why.
      s:run_until(function () return raw.saw()[1].notes:find "closed" or raw.saw()[1].notes:find "eof" end)
      s:run_until(function () return s:state "bot" ~= "linking" end)
    end)

    it(("of 65 MiB in %s is refused at the policy's own limit"):format(mode), function ()
      local _, before = bomb { hello, 65 * MIB }
      s:fails("bot", "decompression bomb at 64 MiB, " .. mode, { stage = "greeting", kind = "too_big", close = 1009 })
      local grown = world.wire.memory_peak() - before
      assert.is_true(grown < 64 * 3 + HELD_BACK, ("%.1f MiB more"):format(grown))
    end)

    it(("of 60 MiB in %s is within it, and read"):format(mode), function ()
      bomb({ hello, '{"op":11' .. (" "):rep(60 * MIB) .. "}" })
      s:run_until(function () return #s:messages("bot", "in") == 2 end, "20s")
      assert.are.equal(0, #s:notes("bot", "decision"))
    end)
  end

  it("of a zstd window over 8 MiB is refused before anything is allocated for it", function ()
    -- A frame header that asks for 1 GiB, and a block of one byte.
    local greedy = "\x28\xb5\x2f\xfd\x00\xa0" .. "\x0b\x00\x00" .. "x"
    local peer = s:peer("discord", { token = "MTIz.bot" })
    local raw = s:raw { tls = true, { "tls" }, { "upgrade" }, { "write", frame(0x82, greedy) }, { "end" } }
    world.lead(peer, raw.ws)
    local before = world.wire.memory_mark()
    s:discord("bot", peer, { compress = "zstd-stream" })
    s:fails("bot", "zstd window of 1 GiB", { stage = "greeting", kind = "inflate" })
    if before then assert.is_true(world.wire.memory_peak() - before < 32) end
  end)
end)
