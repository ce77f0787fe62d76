-- A table of our own of what public suites try on a client: sizes, reserved bits, opcodes,
-- fragmentation, control frames, limits. Each case runs in both roles and however it is cut.
local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"

local TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10

describe("a whole frame", function()
  for _, size in ipairs { 0, 1, 124, 125, 126, 127, 128, 254, 255, 65535, 65536, 70000 } do
    it(("of %d bytes is one message, as text and as binary"):format(size), function()
      local payload = ("*"):rep(size)
      assert.same({ "text:" .. payload, "binary:" .. payload },
        cases.items { { TEXT, payload }, { BINARY, payload } })
    end)
  end

  it("is handed out in place, and nothing is allocated for it", function()
    for _, role in ipairs { "client", "server" } do
      local bytes = cases.stream(role, { { TEXT, ("a"):rep(70000) }, { PING, "p" }, { BINARY, "b" } })
      local items, how = ws.decode(role, bytes)
      assert.equal(3, #items)
      assert.equal(0, how.copied)
      assert.equal(0, how.carry_most)
      assert.is_true(how.idle)
    end
  end)

  it("is handed out in place when only its header came earlier", function()
    local _, how = ws.decode("client", cases.frame { TEXT, ("a"):rep(300) }, nil, { cut = 4 })
    assert.equal(0, how.copied)
    assert.equal(0, how.carry_most)
  end)

  it("matches the examples of RFC 6455, 5.7", function()
    assert.same({ "text:Hello" }, (cases.decode("client", "\x81\x05\x48\x65\x6c\x6c\x6f")))
    assert.same({ "text:Hello" },
      (cases.decode("server", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")))
    assert.same({ "text:Hello" }, (cases.decode("client", "\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f")))
    assert.same({ "ping:Hello" }, (cases.decode("client", "\x89\x05\x48\x65\x6c\x6c\x6f")))
    assert.same({ "pong:Hello" },
      (cases.decode("server", "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")))
  end)

  it("survives every mask and every place of its bytes", function()
    local payload = ""
    for i = 0, 99 do payload = payload .. string.char(i * 37 % 256) end
    for _, mask in ipairs { "\0\0\0\0", "\xff\xff\xff\xff", "\1\0\0\0", "\0\2\0\0", "abcd" } do
      for size = 0, 100 do
        local bytes = cases.frame { BINARY, payload:sub(1, size), mask = mask }
        assert.same({ "binary:" .. payload:sub(1, size) }, (ws.decode("server", bytes)))
        assert.same({ "binary:" .. payload:sub(1, size) },
          (ws.decode("server", bytes, nil, { step = 3 })))
      end
    end
  end)
end)

describe("what the RFC forbids", function()
  local function refused(what, frames, error, max)
    it(what .. " is an error, and nothing follows it", function()
      local before = { { TEXT, "first" } }
      for _, f in ipairs(frames) do before[#before + 1] = f end
      before[#before + 1] = { TEXT, "never" }
      assert.same({ "text:first", "error: " .. error }, cases.items(before, max))
    end)
  end

  for rsv = 1, 7 do
    refused("reserved bits " .. rsv, { { TEXT, "x", rsv = rsv } }, "reserved bits set (1002)")
    refused("reserved bits " .. rsv .. " on a ping", { { PING, "x", rsv = rsv } },
      "reserved bits set (1002)")
    refused("reserved bits " .. rsv .. " on a continuation",
      { { TEXT, "x", fin = false }, { CONTINUATION, "y", rsv = rsv } }, "reserved bits set (1002)")
  end
  for _, op in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
    refused("opcode " .. op, { { op, "x" } }, "unknown opcode (1002)")
    refused("an empty frame of opcode " .. op, { { op, "" } }, "unknown opcode (1002)")
    refused("opcode " .. op .. " inside a message", { { TEXT, "x", fin = false }, { op, "y" } },
      "unknown opcode (1002)")
  end
  for name, op in pairs { ping = PING, pong = PONG, close = CLOSE } do
    refused("a fragmented " .. name, { { op, "", fin = false } }, "fragmented control frame (1002)")
    for _, size in ipairs { 126, 65536 } do
      refused(("a %s of %d bytes"):format(name, size), { { op, ("x"):rep(size) } },
        "control frame over 125 bytes (1002)")
    end
  end
  refused("a continuation without a start", { { CONTINUATION, "x" } },
    "continuation without a start (1002)")
  refused("an unfinished continuation without a start", { { CONTINUATION, "x", fin = false } },
    "continuation without a start (1002)")
  refused("a continuation with 16 bits of length for one byte",
    { { TEXT, "x", fin = false }, { CONTINUATION, "y", length_form = 16 } },
    "length not in its shortest form (1002)")
  refused("a text inside a fragmented message", { { TEXT, "x", fin = false }, { TEXT, "y" } },
    "new data frame inside a fragmented message (1002)")
  refused("a binary inside a fragmented message", { { TEXT, "x", fin = false }, { BINARY, "y" } },
    "new data frame inside a fragmented message (1002)")
  refused("16 bits of length for 125 bytes", { { TEXT, ("x"):rep(125), length_form = 16 } },
    "length not in its shortest form (1002)")
  refused("64 bits of length for 65535 bytes", { { TEXT, ("x"):rep(65535), length_form = 64 } },
    "length not in its shortest form (1002)")
  refused("64 bits of length for none", { { BINARY, "", length_form = 64 } },
    "length not in its shortest form (1002)")
  refused("a message over the limit", { { TEXT, ("x"):rep(101) } },
    "message over the limit (1009)", 100)
  refused("fragments over the limit together",
    { { TEXT, ("x"):rep(60), fin = false }, { CONTINUATION, ("x"):rep(41) } },
    "message over the limit (1009)", 100)

  it("includes a length with the top bit set", function()
    assert.same({ "error: length with the top bit set (1002)" },
      (cases.decode("client", "\x82\x7f\x80\0\0\0\0\0\0\1")))
  end)

  it("includes a second continuation after the message's end", function()
    assert.same({ "text:xy", "error: continuation without a start (1002)" }, cases.items {
      { TEXT, "x", fin = false }, { CONTINUATION, "y" }, { CONTINUATION, "z" } })
  end)

  it("includes masks by role", function()
    assert.same({ "error: masked frame from a server (1002)" },
      (cases.decode("client", cases.frame { TEXT, "x", mask = "abcd" })))
    assert.same({ "error: unmasked frame from a client (1002)" },
      (cases.decode("server", cases.frame { TEXT, "x" })))
  end)
end)

describe("an error", function()
  -- Bytes given when it was raised, in a byte-wise run.
  local function raised_after(bytes, max)
    local _, how = ws.decode("client", bytes .. ("."):rep(20), max, { step = 1 })
    return how.given
  end

  it("of the first header byte is raised at that byte", function()
    assert.equal(1, raised_after "\xc1")
    assert.equal(1, raised_after "\x83")
    assert.equal(1, raised_after "\x80")
    assert.equal(1, raised_after "\x09")
  end)

  it("of mask or control length is raised at the second byte", function()
    assert.equal(2, raised_after "\x81\x80")
    assert.equal(2, raised_after "\x89\x7e")
    assert.equal(2, raised_after "\x88\x01")
  end)

  it("of a limit is raised when the length is known, before any payload", function()
    assert.equal(2, raised_after("\x81\x65", 100))
    assert.equal(4, raised_after("\x81\x7e\x01\x00", 100))
    assert.equal(10, raised_after("\x81\x7f\0\0\0\0\0\1\0\0", 100))
    local _, how = ws.decode("server", "\x81\xfe\x01\x00" .. ("."):rep(20), 100, { step = 1 })
    assert.equal(4, how.given)
  end)

  it("gives back what the message had gathered", function()
    local bytes = cases.frame { TEXT, ("x"):rep(5000), fin = false } .. "\x83"
    local items, how = ws.decode("client", bytes)
    assert.same({ "error: unknown opcode (1002)" }, items)
    assert.equal(0, how.carry)
    assert.is_true(how.idle)
  end)
end)

describe("a fragmented message", function()
  it("is joined in any number of pieces, empty ones too", function()
    assert.same({ "text:onetwothree" }, cases.items {
      { TEXT, "one", fin = false }, { CONTINUATION, "two", fin = false }, { CONTINUATION, "three" } })
    assert.same({ "text:" }, cases.items {
      { TEXT, "", fin = false }, { CONTINUATION, "", fin = false }, { CONTINUATION, "" } })
    assert.same({ "binary:mid" }, cases.items {
      { BINARY, "", fin = false }, { CONTINUATION, "mid", fin = false }, { CONTINUATION, "" } })
  end)

  it("lets control frames through between its pieces, each at its place", function()
    assert.same({ "ping:1", "pong:2", "ping:", "text:ab", "ping:3" }, cases.items {
      { TEXT, "a", fin = false }, { PING, "1" }, { PONG, "2" }, { PING, "" },
      { CONTINUATION, "b" }, { PING, "3" } })
  end)

  it("of a thousand single bytes arrives whole", function()
    local frames, payload = { { BINARY, "0", fin = false } }, "0"
    for i = 1, 999 do
      frames[#frames + 1] = { CONTINUATION, tostring(i % 10), fin = i == 999 }
      payload = payload .. i % 10
    end
    assert.same({ "binary:" .. payload }, cases.items(frames))
  end)

  it("of exactly the limit passes", function()
    assert.same({ "text:" .. ("x"):rep(100) }, cases.items({
      { TEXT, ("x"):rep(60), fin = false }, { CONTINUATION, ("x"):rep(40) } }, 100))
  end)

  it("that was abandoned by a close yields only the close", function()
    assert.same({ "close 1001:bye" }, cases.items {
      { TEXT, "a", fin = false }, { CLOSE, "\x03\xe9bye" }, { CONTINUATION, "b" } })
  end)

  it("keeps the decoder busy until its end", function()
    local _, how = ws.decode("client", cases.frame { TEXT, "", fin = false })
    assert.is_false(how.idle)
    _, how = ws.decode("client", "\x81")
    assert.is_false(how.idle)
    _, how = ws.decode("client", cases.frame { TEXT, "x" })
    assert.is_true(how.idle)
  end)
end)

describe("control frames", function()
  it("of 0 to 125 bytes carry anything, and several in one read are all yielded", function()
    local all = ""
    for i = 0, 124 do all = all .. string.char((i * 2) % 256) end
    assert.same({ "ping:", "ping:" .. all, "pong:\0\xff", "ping:x", "ping:y" }, cases.items {
      { PING, "" }, { PING, all }, { PONG, "\0\xff" }, { PING, "x" }, { PING, "y" } })
  end)
end)

describe("memory", function()
  it("that a cut message needed is given back once the link is idle", function()
    for _, size in ipairs { 5000, 300000 } do
      local bytes = cases.frame { BINARY, ("x"):rep(size) }
      local items, how = ws.decode("client", bytes, nil, { cut = 2000 })
      assert.equal("binary:" .. ("x"):rep(size), items[1])
      assert.is_true(how.carry_most >= size)
      assert.is_true(how.carry <= 1024)
    end
  end)

  it("is not taken on the word of a length", function()
    local _, how = ws.decode("client", "\x82\x7f\0\0\0\0\3\0\0\0" .. "some bytes", 64 * 1024 * 1024)
    assert.is_true(how.carry_most <= 1024)
  end)

  it("holds no more than the limit", function()
    local bytes = cases.frame { BINARY, ("x"):rep(100000) }
    local _, how = ws.decode("client", bytes, 100000, { step = 999 })
    assert.is_true(how.carry_most <= 100000)
  end)
end)
