-- How the codec works: in place, with little memory, failing at the first byte that can only be wrong. What
-- it accepts and refuses is the table of rfc6455_spec.lua.
local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"

local TEXT, BINARY, PING = 1, 2, 9

describe("a whole frame", function()
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

  it("matches the masked examples of RFC 6455, 5.7", function()
    assert.same({ "text:Hello" },
      (cases.decode("server", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")))
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
  it("includes an unmasked frame from a client", function()
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
  it("keeps the decoder busy until its end", function()
    local _, how = ws.decode("client", cases.frame { TEXT, "", fin = false })
    assert.is_false(how.idle)
    _, how = ws.decode("client", "\x81")
    assert.is_false(how.idle)
    _, how = ws.decode("client", cases.frame { TEXT, "x" })
    assert.is_true(how.idle)
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
