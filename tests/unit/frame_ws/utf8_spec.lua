local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"
local rfc6455 = require "rfc6455_cases"

local VALID, INVALID = rfc6455.UTF8_VALID, rfc6455.UTF8_INVALID

describe("UTF-8", function()
  it("that is well formed passes in text, whole, fragmented at every byte and cut anywhere", function()
    for _, text in ipairs(VALID) do
      assert.same({ "text:" .. text }, cases.items { { 1, text } })
      for at = 0, #text do
        assert.same({ "ping:", "text:" .. text }, (ws.decode("client", cases.stream("client", {
          { 1, text:sub(1, at), fin = false }, { 9, "" }, { 0, text:sub(at + 1) } }), nil,
          { step = 1 })))
      end
    end
  end)

  it("that is malformed ends a text message with 1007, whole and fragmented at every byte", function()
    for _, case in ipairs(INVALID) do
      local text, expected = case[1], { "error: text message is not UTF-8 (1007)" }
      assert.same(expected, cases.items { { 1, text } })
      for at = 0, #text do
        for _, options in ipairs { false, { step = 1 } } do
          assert.same(expected, (ws.decode("server", cases.stream("server", {
            { 1, text:sub(1, at), fin = false }, { 0, text:sub(at + 1) } }), nil, options)))
        end
      end
    end
  end)

  it("is wrong at the first impossible byte, however it is cut", function()
    for _, case in ipairs(INVALID) do
      local text, at = case[1], case[2]
      assert.equal(at or "open", ws.utf8(text, { step = 1 }))
      for cut = 1, #text - 1 do
        local failed_at = ws.utf8(text, { cut = cut })
        if not at then assert.equal("open", failed_at)
        else assert.equal(at <= cut and cut or #text, failed_at) end
      end
    end
  end)

  it("fails a text at the impossible byte, inside a frame that has only begun", function()
    for _, case in ipairs(INVALID) do
      if case[2] then
        local bytes = "\x81\x7e\x03\xe8" .. case[1] .. "aaaa" -- of 1000 bytes, the rest never comes
        local items, how = ws.decode("client", bytes, nil, { step = 1 })
        assert.same({ "error: text message is not UTF-8 (1007)" }, items)
        assert.equal(4 + case[2], how.given)
        assert.same(items, (ws.decode("client", bytes)))
      end
    end
  end)

  it("is fail-fast across fragments", function()
    local bytes = cases.frame { 1, "\xed", fin = false } .. cases.frame { 9, "p" } ..
      "\x00\x05\xa0"
    local items, how = ws.decode("client", bytes, nil, { step = 1 })
    assert.same({ "ping:p", "error: text message is not UTF-8 (1007)" }, items)
    assert.equal(#bytes, how.given)
  end)

  it("agrees with the table of well-formed sequences for every pair of first bytes", function()
    -- Unicode, table 3-7: what may follow a first byte.
    local function second_range(a)
      if a >= 0xc2 and a <= 0xdf then return 0x80, 0xbf, 0 end
      if a == 0xe0 then return 0xa0, 0xbf, 1 end
      if a == 0xed then return 0x80, 0x9f, 1 end
      if a >= 0xe1 and a <= 0xef then return 0x80, 0xbf, 1 end
      if a == 0xf0 then return 0x90, 0xbf, 2 end
      if a == 0xf4 then return 0x80, 0x8f, 2 end
      if a >= 0xf1 and a <= 0xf3 then return 0x80, 0xbf, 2 end
    end
    for a = 0x80, 0xff do
      for b = 0, 0xff do
        local low, high, more = second_range(a)
        local expected = low and b >= low and b <= high and "whole" or nil
        local text = string.char(a, b) .. ("\x80"):rep(more or 0)
        for _, padding in ipairs { "", "plain ASCII" } do
          local got = ws.utf8(text .. padding)
          if expected then assert.equal("whole", got)
          else assert.is_number(got) end
        end
      end
    end
  end)
end)
