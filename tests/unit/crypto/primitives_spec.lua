-- X25519, AES-128-CBC and MD5 against published vectors: RFC 7748, NIST SP 800-38A, RFC 1321.
local crypto = require "unit.crypto"

local function bytes(hex)
  return (hex:gsub("%s", ""):gsub("%x%x", function (h) return string.char(tonumber(h, 16)) end))
end
local function hex(text) return (text:gsub(".", function (c) return ("%02x"):format(c:byte()) end)) end

describe("X25519", function ()
  it("computes the two vectors of RFC 7748, section 5.2", function ()
    assert.equal("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552", hex(crypto.x25519_shared(
      bytes "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
      bytes "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")))
    assert.equal("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957", hex(crypto.x25519_shared(
      bytes "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
      bytes "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493")))
  end)

  it("makes the public key of section 6.1", function ()
    assert.equal("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f", hex(crypto.x25519_public(
      bytes "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")))
  end)

  it("holds over the thousand iterations of section 5.2", function ()
    local k, u = "\9" .. ("\0"):rep(31), "\9" .. ("\0"):rep(31)
    for i = 1, 1000 do
      k, u = crypto.x25519_shared(k, u), k
      if i == 1 then
        assert.equal("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079", hex(k))
      end
    end
    assert.equal("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51", hex(k))
  end)

  it("gives both ends the same secret", function ()
    local a, b = ("a"):rep(32), ("b"):rep(32)
    assert.equal(crypto.x25519_shared(a, crypto.x25519_public(b)), crypto.x25519_shared(b, crypto.x25519_public(a)))
  end)

  it("refuses a key of small order, whose secret would be zero", function ()
    assert.is_nil(crypto.x25519_shared(("a"):rep(32), ("\0"):rep(32)))
    assert.is_nil(crypto.x25519_shared(("a"):rep(32), "\1" .. ("\0"):rep(31)))
  end)
end)

describe("AES-128-CBC", function ()
  local key = bytes "2b7e151628aed2a6abf7158809cf4f3c"
  local iv = bytes "000102030405060708090a0b0c0d0e0f"
  local plain = bytes [[6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
                        30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710]]
  local cipher = [[7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
                   73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7]]

  it("computes the vector of SP 800-38A, F.2.1, with one block of padding behind it", function ()
    local out = crypto.aes(key, iv, true, plain)
    assert.equal(cipher:gsub("%s", ""), hex(out:sub(1, 64)))
    assert.equal(80, #out)
    assert.equal(plain, crypto.aes(key, iv, false, out))
  end)

  it("starts each message anew, in both directions, at every length around a block", function ()
    for len = 0, 33 do
      local text = ("x"):rep(len)
      local first, second = crypto.aes(key, iv, true, text, text)
      assert.equal(first, second)
      assert.equal((math.floor(len / 16) + 1) * 16, #first)
      local a, b = crypto.aes(key, iv, false, first, second)
      assert.equal(text, a)
      assert.equal(text, b)
    end
  end)

  it("refuses what is no whole number of blocks, and padding that is none", function ()
    local good = crypto.aes(key, iv, true, "hello")
    assert.is_false((crypto.aes(key, iv, false, "")))
    assert.is_false((crypto.aes(key, iv, false, good:sub(1, 15))))
    assert.is_false((crypto.aes(key, iv, false, good .. "x")))
    -- The block before the last decides the last one's plain bytes: 0, 17, and a run that is broken.
    local two = crypto.aes(key, iv, true, ("y"):rep(31)) -- ends with one byte 01
    local function last(to) return two:sub(1, 15) .. string.char(bit.bxor(two:byte(16), 1, to)) .. two:sub(17) end
    assert.is_false((crypto.aes(key, iv, false, last(0))))
    assert.is_false((crypto.aes(key, iv, false, last(17))))
    assert.is_false((crypto.aes(key, iv, false, last(2))))
    assert.equal(31, #crypto.aes(key, iv, false, last(1)))
    local ok, after = crypto.aes(key, iv, false, last(0), good)
    assert.is_false(ok)
    assert.equal("hello", after)
  end)
end)

describe("MD5", function ()
  it("computes the vectors of RFC 1321, in any pieces, one after the other", function ()
    local a, b, c, d = crypto.md5({ "" }, { "abc" }, { "a", "", "bc" }, { "message", " ", "digest" })
    assert.equal("d41d8cd98f00b204e9800998ecf8427e", a)
    assert.equal("900150983cd24fb0d6963f7d28e17f72", b)
    assert.equal(b, c)
    assert.equal("f96b697d7cb7938d525a2f31aaf161d0", d)
  end)
end)
