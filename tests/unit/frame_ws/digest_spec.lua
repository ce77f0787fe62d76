local ws = require "unit.frame_ws"

local function hex(s)
  return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

describe("SHA-1", function()
  it("matches the vectors of FIPS 180", function()
    assert.equal("da39a3ee5e6b4b0d3255bfef95601890afd80709", hex(ws.sha1 ""))
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", hex(ws.sha1 "abc"))
    assert.equal("84983e441c3bd26ebaae4aa1f95129e5e54670f1",
      hex(ws.sha1 "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))
  end)
end)

describe("base64", function()
  it("matches the vectors of RFC 4648, both ways", function()
    for bytes, text in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==",
      fooba = "Zm9vYmE=", foobar = "Zm9vYmFy", ["\xfb\xff\0"] = "+/8A" } do
      assert.equal(text, ws.base64(bytes))
      assert.equal(bytes, ws.unbase64(text))
    end
  end)

  it("returns every byte at every place", function()
    local all = ""
    for i = 0, 255 do all = all .. string.char(i) end
    for from = 1, 4 do
      assert.equal(all:sub(from), ws.unbase64(ws.base64(all:sub(from))))
    end
  end)

  it("refuses what is not exactly base64", function()
    for _, text in ipairs { "A", "AB", "ABC", "Zg=", "Zg", "Z===", "====", "Zg==Zg==", "Zm9v=", "Zm9vZm=v",
      "Zm 9v", "Zm9v\n", "Zm9v\0\0\0\0", "Zm9-", "Zm9_", "Zh==", "Zm9=", "\xff\xff\xff\xff" } do
      assert.is_nil(ws.unbase64(text), text)
    end
  end)

  it("refuses what does not fit", function()
    assert.is_nil(ws.unbase64("Zm9vYg==", 3))
    assert.equal("foob", ws.unbase64("Zm9vYg==", 4))
  end)
end)
