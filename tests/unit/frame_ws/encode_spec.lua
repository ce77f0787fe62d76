local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"

describe("an encoded frame", function()
  for _, size in ipairs { 0, 1, 125, 126, 127, 65535, 65536 } do
    it(("of %d bytes has the shortest length form, masked and unmasked"):format(size), function()
      local payload = ("0123456789"):rep(math.ceil(size / 10)):sub(1, size)
      assert.equal(cases.frame { 1, payload }, ws.encode(1, payload))
      assert.equal(cases.frame { 2, payload, mask = "m\0\xffk" }, ws.encode(2, payload, "m\0\xffk"))
    end)
  end

  it("is masked right at every length around the word size", function()
    for size = 0, 80 do
      local payload = ("abcdefghijklmnop"):rep(5):sub(1, size)
      assert.equal(cases.frame { 1, payload, mask = "\1\2\3\4" }, ws.encode(1, payload, "\1\2\3\4"))
    end
  end)

  it("can be a fragment", function()
    assert.equal("\x01\x02ab", ws.encode(1, "ab", nil, false))
    assert.equal("\x80\x02cd", ws.encode(0, "cd"))
  end)

  it("is refused whole over the buffer's limit", function()
    assert.is_nil(ws.encode(1, ("x"):rep(100), nil, true, 101))
    assert.equal(102, #ws.encode(1, ("x"):rep(100), nil, true, 102))
    assert.is_nil(ws.encode(1, ("x"):rep(100), "mask", true, 105))
  end)

  it("is refused when it would be an illegal control frame", function()
    assert.is_nil(ws.encode(9, ("x"):rep(126)))
    assert.is_nil(ws.encode(9, "x", nil, false))
    assert.equal(127, #ws.encode(10, ("x"):rep(125)))
  end)
end)
