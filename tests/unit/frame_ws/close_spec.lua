local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"
local rfc6455 = require "rfc6455_cases"

local CLOSE = 8

describe("a close frame", function()
  it("may carry the codes of the table and no others", function()
    for _, code in ipairs(rfc6455.CLOSE_VALID) do assert.is_true(ws.close_code_is_valid(code)) end
    for _, code in ipairs(rfc6455.CLOSE_INVALID) do assert.is_false(ws.close_code_is_valid(code)) end
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
