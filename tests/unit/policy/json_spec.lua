local unit = require "unit.policy"

local function decode(text)
  local result, v = unit.run(("local h = require 'holdfast' local v, why, where = h.json.decode(%q) if v == nil then return { why, where } end if v == h.null then return 'null' end return v"):format(text):gsub("%z", "\\0"))
  assert.equal("ok", result, tostring(v))
  return v
end

local function again(text)
  local result, v = unit.run(("local j = require 'holdfast'.json return j.encode(j.decode(%q))"):format(text))
  assert.equal("ok", result, tostring(v))
  return v
end

describe("JSON", function ()
  local round = {
    "{}", "[]", "[[],{}]", '{"a":1}', '{"a":[1,2,3],"b":{"c":"d"}}', "[1,null,2]", "[null]", '"text"', "true", "false",
    '{"a":1.5,"b":-0.25}', "[0,-1,9007199254740992,-9007199254740992]", "123456789012345", '"\\"\\\\\\n"',
    '{"":0}', '{"ü":"é"}', "[[[[1]]]]", "1e+300", '["a/b"]', "0.1", '{"d":{"e":[]}}',
  }
  for _, text in ipairs(round) do
    it("comes back as it was: " .. text, function () assert.equal(text, again(text)) end)
  end

  it("sorts keys, and writes integers without exponent", function ()
    assert.equal('{"a":2,"b":1,"c":3}', unit.json "{ c = 3, a = 2, b = 1 }")
    assert.equal("[100000000000000000000,1e+21,0,1e-07]", unit.json "{ 1e20, 1e21, -0, 1e-7 }")
    assert.equal('{"-1":1,"1":2,"1.5":3,"x":4}', unit.json "{ [-1] = 1, [1] = 2, [1.5] = 3, x = 4 }")
  end)

  it("keeps ids beyond 2^53 as text", function ()
    assert.equal("9007199254740993", decode "9007199254740993")
    assert.equal("-9007199254740993", decode "-9007199254740993")
    assert.equal(9007199254740992, decode "9007199254740992")
    assert.equal("18446744073709551615", decode "18446744073709551615")
    assert.equal("1234567890123456789012345678901234567890", decode "1234567890123456789012345678901234567890")
    assert.equal('["9007199254740993"]', again "[9007199254740993]")
  end)

  it("leaves null out of objects and keeps its place in lists", function ()
    assert.equal('{"b":1}', again '{"a":null,"b":1}')
    assert.equal("[null,1,null]", again "[null,1,null]")
    assert.equal('{"a":null}', unit.json "{ a = holdfast.null }")
  end)

  it("writes an empty table as an object unless it is marked", function ()
    assert.equal('{"a":{},"b":[]}', unit.json "{ a = {}, b = holdfast.array {} }")
    assert.equal("[1]", unit.json "holdfast.array { 1 }")
    local _, why = unit.json "holdfast.array { a = 1 }"
    assert.equal("JSON: holdfast.array with other keys than 1..n", why)
  end)

  it("decodes escapes, pairs of surrogates, and lone ones", function ()
    assert.equal("\"\\/\b\f\n\r\t", decode [["\"\\\/\b\f\n\r\t"]])
    assert.equal("é€😀", decode [["\u00e9\u20AC\ud83d\ude00"]])
    assert.equal("\239\191\189", decode [["\ud83d"]])
    assert.equal("\239\191\189x", decode [["\ud83dx"]])
    assert.equal("\239\191\189A", decode [["\ud83d\u0041"]])
    assert.equal("\239\191\189", decode [["\ude00"]])
    assert.equal(1, #decode [["\u0000"]])
  end)

  local broken = {
    "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}", "{'a':1}", "nul", "tru",
    "nulll", "1 2", "[] []", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x10", "NaN", "Infinity", "1e999", "\"", "\"\\", "\"\\x\"", "\"\\u12\"",
    "\"\\u123g\"", "\"a\nb\"", "\"\1\"", "[1 2]", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "}", "]", ",", ":", "\239\187\191{}", "{} x", "/* */ 1",
    ("["):rep(100), ("["):rep(70) .. ("]"):rep(70), "\"" .. ("x"):rep(100), "--1", "1.5.5", "{1:2}", "[1,,2]",
  }
  for _, text in ipairs(broken) do
    it(("refuses %q"):format(text:sub(1, 20)), function ()
      local v = decode(text)
      assert.equal("table", type(v))
      assert.equal("malformed", v[1])
      assert.match("^JSON: .* at byte %d+$", v[2])
    end)
  end

  local impossible = {
    ["a function"] = "{ print }", ["not a number"] = "{ 0/0 }", ["infinity"] = "{ 1/0 }", ["a key true"] = "{ [true] = 1 }",
    ["a key table"] = "{ [{}] = 1 }", ["bytes"] = "{ '\\255' }", ["bytes as a key"] = "{ ['\\255'] = 1 }",
    ["a circle"] = "(function () local t = {} t.t = t return t end)()",
    ["great depth"] = "(function () local t = {} for _ = 1, 100 do t = { t } end return t end)()",
  }
  for name, text in pairs(impossible) do
    it("cannot hold " .. name, function ()
      local v, why = unit.json(text)
      assert.is_nil(v)
      assert.match("^JSON: ", why)
    end)
  end

  it("runs no metamethods while encoding", function ()
    assert.equal("{}", unit.json "setmetatable({}, { __index = { a = 1 }, __pairs = function () error('no') end })")
  end)

  it("takes any split of random texts without a crash, and agrees with itself", function ()
    local alphabet = { "{", "}", "[", "]", ",", ":", "\"a\"", "1", "-2.5", "null", "true", "\"\\u00e9\"", " " }
    local seed = 7
    local function draw(n) seed = (seed * 1103515245 + 12345) % 2147483648 return math.floor(seed / 65536) % n + 1 end
    local lines = { "local j = require 'holdfast'.json local n = 0 local v\n" }
    for _ = 1, 300 do
      local parts = {}
      for i = 1, draw(12) do parts[i] = alphabet[draw(#alphabet)] end
      lines[#lines + 1] = ("v = j.decode(%q) if v ~= nil then n = n + 1 local t = j.encode(v) assert(j.encode(j.decode(t)) == t) end\n"):format(table.concat(parts))
    end
    lines[#lines + 1] = "return n"
    local result, n = unit.run(table.concat(lines))
    assert.equal("ok", result, tostring(n))
    assert.is_true(n > 5)
  end)
end)

describe("bytes and crypto", function ()
  local function value(text)
    local result, v = unit.run("local h = require 'holdfast' local b, c = h.bytes, h.crypto " .. text)
    assert.equal("ok", result, tostring(v))
    return v
  end

  it("packs and unpacks integers", function ()
    assert.equal("01 0203 0302 00000004 ffffffffffffffff fe", value [[
      local hex = c.hex
      return table.concat({ hex(b.pack("u8", 1)), hex(b.pack("u16be", 0x203)), hex(b.pack("u16le", 0x203)), hex(b.pack("u32be", 4)),
        hex(b.pack("u64be", "18446744073709551615")), hex(b.pack("i8", -2)) }, " ")]])
    assert.equal("1 515 -2 18446744073709551615 -9223372036854775808 21", value [[
      local t = b.pack("u8 u16be i8 u64le i64be", 1, 515, -2, "18446744073709551615", "-9223372036854775808")
      local a, d, e, f, g, at = b.unpack("u8 u16be i8 u64le i64be", t)
      return table.concat({ a, d, e, f, g, at }, " ")]])
    assert.equal("short", value "return select(2, b.unpack('u32be', 'abc'))")
    assert.equal("short", value "return select(2, b.unpack('u8', 'a', 2))")
  end)

  for _, text in ipairs { "b.pack('u8', 256)", "b.pack('u8', -1)", "b.pack('u8', 1.5)", "b.pack('u8', 0/0)", "b.pack('u9', 1)", "b.pack('u16', 1)",
                          "b.pack('u8')", "b.pack('u64be', '-1')", "b.pack('u64be', '99999999999999999999')", "b.pack('i16be', 32768)",
                          "b.unpack('u8', 'a', 3)", "b.unpack('u8', 'a', 0)", "b.pack('u8x', 1)", "b.pack('u32be', 2^32)", "b.pack('u64be', 2^64)" } do
    it("refuses " .. text, function ()
      assert.equal("raised", (unit.run("local b = require 'holdfast'.bytes return " .. text)))
    end)
  end

  it("computes the published digests", function ()
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", value "return c.hex(c.sha1 'abc')")
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", value "return c.hex(c.sha256 'abc')")
    assert.equal("900150983cd24fb0d6963f7d28e17f72", value "return c.hex(c.md5 'abc')")
    -- RFC 4231, test case 2
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
                 value "return c.hex(c.hmac('sha256', 'Jefe', 'what do ya want for nothing?'))")
    assert.equal("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79", value "return c.hex(c.hmac('sha1', 'Jefe', 'what do ya want for nothing?'))")
    assert.equal("Zm9vYmE= fooba", value "return c.base64 'fooba' .. ' ' .. c.unbase64 'Zm9vYmE='")
    assert.equal("malformed", value "return select(2, c.unbase64 'Zm9vYmE')")
    assert.equal("\0\255", value "return c.unhex '00fF'")
    assert.equal("malformed", value "return select(2, c.unhex '0g')")
    assert.equal("malformed", value "return select(2, c.unhex '0')")
  end)
end)
