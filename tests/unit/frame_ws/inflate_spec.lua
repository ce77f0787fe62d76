local ws = require "unit.frame_ws"

local MODES = { "zlib-stream", "zstd-stream" }

-- Text that does not compress away: a fixed pseudo-random walk over letters.
local function noise(len, seed)
  local out, x = {}, seed or 1
  for i = 1, len do
    x = (x * 1103515245 + 12345) % 2147483648
    out[i] = string.char(97 + math.floor(x / 65536) % 26)
  end
  return table.concat(out)
end

describe("names of modes", function()
  it("are the two that platforms use, and no others", function()
    assert.is_true(ws.is_mode "zlib-stream")
    assert.is_true(ws.is_mode "zstd-stream")
    for _, name in ipairs { "", "none", "zlib", "ZLIB-STREAM", "zstd-stream " } do
      assert.is_false(ws.is_mode(name))
    end
  end)
end)

for _, mode in ipairs(MODES) do
  describe(mode, function()
    it("returns what was compressed, message by message, over one context", function()
      local d, i = ws.deflate(mode), ws.inflate(mode)
      local first, second
      for n = 1, 50 do
        local text = ('{"op":0,"t":"MESSAGE_CREATE","s":%d,"d":{"content":"%s"}}'):format(n, noise(n * 7, n))
        local packed = d:message(text)
        local result, got = i:feed(packed)
        assert.equal("message", result)
        assert.equal(text, got)
        if n == 1 then first = #packed / #text elseif n == 2 then second = #packed / #text end
      end
      assert.is_true(second < first) -- the context is shared
    end)

    it("returns messages of every size around its own buffers", function()
      local d, i = ws.deflate(mode), ws.inflate(mode)
      for _, size in ipairs { 1, 2, 511, 512, 513, 16383, 16384, 16385, 65536, 300000 } do
        local text = noise(size, size)
        local result, got = i:feed(d:message(text))
        assert.equal("message", result)
        assert.is_true(text == got, "of " .. size)
      end
    end)

    it("takes an empty input for nothing", function()
      local d, i = ws.deflate(mode), ws.inflate(mode)
      assert.equal("more", (i:feed ""))
      assert.same({ "message", "text" }, { i:feed(d:message "text") })
      assert.equal("more", (i:feed ""))
      assert.same({ "message", "more text" }, { i:feed(d:message "more text") })
    end)

    it("passes a message of exactly the limit and refuses one byte more", function()
      for _, size in ipairs { 1, 100, 5000, 40000 } do
        local d, i = ws.deflate(mode), ws.inflate(mode, size)
        assert.same({ "message", ("a"):rep(size) }, { i:feed(d:message(("a"):rep(size))) })
        assert.same({ "message", noise(size) }, { i:feed(d:message(noise(size))) })
        assert.same({ "too big" }, { i:feed(d:message(("a"):rep(size + 1))) })
        assert.same({ "bad" }, { i:feed(d:message "small") })
      end
    end)

    it("stops a bomb at the limit without the memory for it", function()
      local d, i = ws.deflate(mode), ws.inflate(mode, 100000)
      local bomb = d:message(("\0"):rep(20 * 1024 * 1024))
      assert.is_true(#bomb < 30000)
      assert.equal("too big", (i:feed(bomb)))
      assert.equal(0, i:memory())
    end)

    it("holds no more output than the limit and one byte", function()
      local d, i = ws.deflate(mode), ws.inflate(mode, 100000)
      assert.equal("message", (i:feed(d:message(noise(100000)))))
      assert.is_true(i:memory() <= 100001)
    end)

    it("gives memory back after a big message, with the next one or at once", function()
      local d, i = ws.deflate(mode), ws.inflate(mode)
      i:feed(d:message(noise(500000)))
      assert.is_true(i:memory() >= 500000)
      assert.same({ "message", "small" }, { i:feed(d:message "small") })
      assert.is_true(i:memory() <= 16384)
      i:feed(d:message(noise(500000)))
      i:trim()
      assert.is_true(i:memory() <= 16384)
      assert.same({ "message", "still works" }, { i:feed(d:message "still works") })
    end)

    it("never goes on after a corrupt byte that it noticed", function()
      local noticed = 0
      local d = ws.deflate(mode)
      local first, second = d:message(noise(300)), d:message(noise(300, 7))
      for at = 1, #first do
        local i = ws.inflate(mode, 10000)
        local evil = first:sub(1, at - 1) .. string.char((first:byte(at) + 85) % 256) .. first:sub(at + 1)
        local result = i:feed(evil)
        assert.is_true(result == "message" or result == "more" or result == "bad" or result == "too big")
        if result == "bad" or result == "too big" then
          noticed = noticed + 1
          assert.same({ "bad" }, { i:feed(second) })
        end
      end
      assert.is_true(noticed > 20)
    end)

    it("refuses what is not compressed at all", function()
      for _, junk in ipairs { '{"op":10}', "\0\0\0\0\0\0\0\0", ("\xff"):rep(100), "HTTP/1.1 200 OK" } do
        assert.equal("bad", (ws.inflate(mode):feed(junk)))
      end
    end)

    it("has no form for an empty message", function()
      assert.is_nil(ws.deflate(mode):message "")
    end)

    it("is all or nothing when it writes", function()
      assert.is_nil(ws.deflate(mode):message(noise(5000), 100))
    end)
  end)
end

describe("zlib-stream", function()
  it("joins a message that came in three WebSocket messages, cut anywhere", function()
    local text = noise(400)
    local packed_first, packed = nil, nil
    do
      local d = ws.deflate "zlib-stream"
      packed_first, packed = d:message "hello", d:message(text)
    end
    for a = 1, #packed - 2 do
      local b = a + 1 + (a * 7) % (#packed - a - 1)
      local i = ws.inflate "zlib-stream"
      assert.same({ "message", "hello" }, { i:feed(packed_first) })
      assert.same({ "more" }, { i:feed(packed:sub(1, a)) })
      assert.same({ "more" }, { i:feed(packed:sub(a + 1, b)) })
      assert.same({ "message", text }, { i:feed(packed:sub(b + 1)) })
    end
  end)

  it("joins a message byte by byte", function()
    local d, i = ws.deflate "zlib-stream", ws.inflate "zlib-stream"
    local packed = d:message "one byte at a time"
    for at = 1, #packed - 1 do assert.equal("more", (i:feed(packed:sub(at, at)))) end
    assert.same({ "message", "one byte at a time" }, { i:feed(packed:sub(-1)) })
  end)

  it("does not take the marker inside a block for a message's end", function()
    -- A stored block whose data holds the marker, cut right behind it.
    local data = "before\0\0\xff\xffafter"
    local stored = "\x78\x01\0" .. string.char(#data, 0, 255 - #data, 255) .. data .. "\0\0\0\xff\xff"
    local cut = stored:find("\0\0\xff\xffafter", 1, true) + 3
    local i = ws.inflate "zlib-stream"
    assert.same({ "more" }, { i:feed(stored:sub(1, cut)) })
    assert.same({ "message", data }, { i:feed(stored:sub(cut + 1)) })
  end)

  it("counts the whole of a joined message against the limit", function()
    local d, i = ws.deflate "zlib-stream", ws.inflate("zlib-stream", 1000)
    local packed = d:message(noise(1500))
    local result
    for at = 1, #packed, 100 do
      result = i:feed(packed:sub(at, at + 99))
      if result ~= "more" then break end
    end
    assert.equal("too big", result)
  end)

  it("takes a repeated marker for nothing", function()
    local d, i = ws.deflate "zlib-stream", ws.inflate "zlib-stream"
    assert.same({ "message", "a" }, { i:feed(d:message "a" .. "\0\0\0\xff\xff") })
    assert.same({ "more" }, { i:feed "\0\0\0\xff\xff" })
    assert.same({ "message", "b" }, { i:feed(d:message "b") })
  end)

  it("writes one marker a message, whatever the length", function()
    local d = ws.deflate "zlib-stream"
    for size = 200, 500 do
      assert.is_nil(d:message(noise(size, size)):find("\0\0\xff\xff\0\0\0\xff\xff", 1, true))
    end
  end)

  it("refuses a stream that ends or wants a dictionary", function()
    assert.equal("bad", (ws.inflate("zlib-stream"):feed "\x78\x9c\x03\x00\x00\x00\x00\x01\0\0\xff\xff"))
    assert.equal("bad", (ws.inflate("zlib-stream"):feed "\x78\xbb\0\0\0\1\0\0\xff\xff"))
  end)
end)

describe("zstd-stream", function()
  it("refuses a window of more than 8 MiB", function()
    -- Magic, descriptor without single segment, window descriptor: exponent << 3.
    local function frame(exponent)
      return "\x28\xb5\x2f\xfd\x00" .. string.char(exponent * 8) .. "\x01\0\0"
    end
    assert.equal("bad", (ws.inflate("zstd-stream"):feed(frame(14)))) -- 16 MiB
    assert.equal("more", (ws.inflate("zstd-stream"):feed(frame(13)))) -- 8 MiB, empty
  end)
end)
