local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"

local CLOSE = 8

local function code_bytes(code)
  return string.char(math.floor(code / 256), code % 256)
end

local VALID = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
  4000, 4004, 4999 }
local INVALID = { 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 }

describe("a close frame", function()
  it("without a payload has no code", function()
    assert.same({ "close 0:" }, cases.items { { CLOSE, "" } })
  end)

  for _, code in ipairs(VALID) do
    it(("with %d is yielded with code and reason"):format(code), function()
      assert.is_true(ws.close_code_is_valid(code))
      assert.same({ "close " .. code .. ":" }, cases.items { { CLOSE, code_bytes(code) } })
      assert.same({ "close " .. code .. ":tsch\xc3\xbcss" },
        cases.items { { CLOSE, code_bytes(code) .. "tsch\xc3\xbcss" } })
    end)
  end

  for _, code in ipairs(INVALID) do
    it(("with %d is an error"):format(code), function()
      assert.is_false(ws.close_code_is_valid(code))
      assert.same({ "error: close code that must not be sent (1002)" },
        cases.items { { CLOSE, code_bytes(code) } })
      assert.same({ "error: close code that must not be sent (1002)" },
        cases.items { { CLOSE, code_bytes(code) .. "reason" } })
    end)
  end

  it("of one byte is an error", function()
    assert.same({ "error: close frame of one byte (1002)" }, cases.items { { CLOSE, "\x03" } })
  end)

  it("carries a reason of up to 123 bytes", function()
    local reason = ("x"):rep(123)
    assert.same({ "close 1000:" .. reason }, cases.items { { CLOSE, "\x03\xe8" .. reason } })
    assert.same({ "error: control frame over 125 bytes (1002)" },
      cases.items { { CLOSE, "\x03\xe8" .. reason .. "x" } })
  end)

  it("with a reason that is not UTF-8 is an error", function()
    for _, reason in ipairs { "\xff", "ok\xed\xa0\x80", "cut\xe4\xbd" } do
      assert.same({ "error: close reason is not UTF-8 (1007)" },
        cases.items { { CLOSE, "\x03\xe8" .. reason } })
    end
  end)

  it("is the last thing yielded", function()
    assert.same({ "close 1000:" }, cases.items {
      { CLOSE, "\x03\xe8" }, { 9, "ping" }, { 1, "text" }, { CLOSE, "\x03\xe8" }, "\xff\xff\xff" })
  end)

  it("leaves no memory behind", function()
    local bytes = cases.frame { 1, ("x"):rep(3000), fin = false } .. cases.frame { CLOSE, "" }
    local items, how = ws.decode("client", bytes)
    assert.same({ "close 0:" }, items)
    assert.equal(0, how.carry)
  end)
end)

describe("a close frame of ours", function()
  it("without a code is empty, whatever the reason", function()
    assert.equal("\x88\0", ws.encode_close(0, "ignored"))
  end)

  it("carries code and reason, masked for a client", function()
    assert.equal("\x88\x05\x0f\xa4bye", ws.encode_close(4004, "bye"))
    assert.same({ "close 4004:bye" }, (ws.decode("server", ws.encode_close(4004, "bye", "mask"))))
    assert.equal("\x88\x02\x03\xe8", ws.encode_close(1000))
  end)

  it("cuts a reason to 123 bytes between two characters", function()
    assert.same({ "close 1000:" .. ("x"):rep(123) },
      (ws.decode("client", ws.encode_close(1000, ("x"):rep(200)))))
    for lead = 0, 3 do
      local reason = ("x"):rep(lead) .. ("\xf0\x9f\xa4\x96"):rep(40)
      local items = ws.decode("client", ws.encode_close(1000, reason))
      local got = items[1]:match "^close 1000:(.*)$"
      assert.is_true(#got > 119 and #got <= 123)
      assert.equal(reason:sub(1, #got), got)
    end
  end)

  it("drops from a reason what is not UTF-8, so that the peer sees the code", function()
    assert.same({ "close 4000:ok" }, (ws.decode("client", ws.encode_close(4000, "ok\xff rest"))))
    assert.same({ "close 4000:ok" }, (ws.decode("client", ws.encode_close(4000, "ok\xe4\xbd"))))
  end)
end)
