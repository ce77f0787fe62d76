local frame = require "unit.frame_json"
local reference = require "json_reference"

local function valid(list)
  for _, text in ipairs(list) do
    assert.is_true(reference.is_valid(text), "the reference refuses " .. text)
    assert.is_true(frame.check(text), "refused: " .. text)
  end
end

local function malformed(list)
  for _, text in ipairs(list) do
    assert.is_false(reference.is_valid(text), "the reference accepts " .. text)
    assert.is_false(frame.check(text), "accepted: " .. text)
  end
end

-- The same text at every place relative to a word of eight bytes.
local function shifted(text)
  local out = {}
  for n = 0, 17 do out[#out + 1] = '["' .. ("x"):rep(n) .. '","' .. text .. '"]' end
  for n = 0, 17 do out[#out + 1] = '["' .. ("x"):rep(n) .. text .. ("y"):rep(9) .. '"]' end
  return out
end

describe("JSON syntax", function()
  it("accepts any value as the root", function()
    valid { "0", "-1", '""', '"x"', "true", "false", "null", "{}", "[]", " 1 ", "\t[ ]\r\n", '{"a":1}' }
  end)

  it("refuses a text without exactly one root", function()
    malformed { "", " ", "\n", "1 2", "{}{}", "[] x", "null,", "{},{}", "\239\187\191{}", "{}\0", "\0", "1\0" }
  end)

  it("accepts numbers as RFC 8259 writes them", function()
    valid { "0", "-0", "10", "-10", "0.0", "1.5", "0.123456789", "1e1", "1E1", "1e+1", "1e-1", "0e0", "-0.0e-0", "1.0e10",
      "123456789012345678901234567890", "1e999999999999999999999", "[1,2]", '{"a":-1.5e3}' }
  end)

  it("refuses numbers that RFC 8259 does not know", function()
    malformed { "-", "+1", "01", "-01", "00", ".5", "1.", "-.5", "1.e1", "1e", "1e+", "1E-", "0x1", "1_0", "NaN", "Infinity",
      "-Infinity", "1,", "--1", "1-1", "1.2.3", "1e1.5", "1e1e1", "١", "[1 2]", "[-]", "[1.]", "1a", "- 1" }
  end)

  it("accepts every escape, and lone surrogates, which the grammar allows", function()
    valid { [["\"\\\/\b\f\n\r\t"]], [["\u0000"]], [["\uABCD\uabcd\u1234"]], [["\ud83d\ude00"]], [["\ud800"]], [["\udc00\ud800"]] }
  end)

  it("refuses bad escapes", function()
    malformed { [["\a"]], [["\x41"]], [["\0"]], [["\ "]], [["\u"]], [["\u1"]], [["\u12"]], [["\u123"]], [["\u123g"]], [["\u 123"]],
      [["\U0041"]], [["\]], [["\"]], [["\\\"]], [["\u004]], [["\u12"34"]], [["\u-123"]], [["\u@123"]], [["\u`123"]], '"\\\n"', '"\\\195\169"' }
  end)

  it("sees each byte that ends, escapes or breaks a string at every place", function()
    valid(shifted "\\\\")
    valid(shifted "\\\"")
    valid(shifted "é")
    valid(shifted "你")
    valid(shifted "😀")
    valid(shifted "\127")
    for byte = 0, 31 do malformed(shifted(string.char(byte))) end
    for byte = 128, 255 do malformed(shifted(string.char(byte))) end
    malformed(shifted "\\x")
    malformed(shifted '"')
  end)

  it("refuses broken UTF-8 and nothing else beyond ASCII", function()
    valid { '"\194\128"', '"\223\191"', '"\224\160\128"', '"\237\159\191"', '"\238\128\128"', '"\239\191\191"', '"\240\144\128\128"', '"\244\143\191\191"' }
    malformed { '"\192\128"', '"\193\191"', '"\224\159\191"', '"\237\160\128"', '"\237\191\191"', '"\240\143\191\191"', '"\244\144\128\128"',
      '"\245\128\128\128"', '"\248\136\128\128\128"', '"\255"', '"\254"', '"\128"', '"\191"', '"\194"', '"\194x"', '"\228\189"', '"\228\189x"', '"\228x\160"', '"\240\159\152"', '"\240\159\152x"',
      '"\240\159x\128"', '"\228\189\160\228"', '"\194\194\128"', '\194\160', '["a"\194\160]', '{"\128":1}', "\226\128\168 1" }
  end)

  it("agrees with the reference on every pair of bytes in a string, and on every lead with every second byte", function()
    for a = 0, 255, 5 do
      for b = 0, 255 do
        local text = '"' .. string.char(a, b) .. '"'
        assert.equal(reference.is_valid(text), frame.check(text), ("%02x %02x"):format(a, b))
      end
    end
    for lead = 0xc0, 0xff do
      for second = 0x7f, 0xc0 do
        for _, rest in ipairs { "", "\128", "\191", "\128\128", "\191\191", "\128\192" } do
          local text = '"' .. string.char(lead, second) .. rest .. '"'
          assert.equal(reference.is_valid(text), frame.check(text), ("%02x %02x +%d"):format(lead, second, #rest))
        end
      end
    end
  end)

  it("accepts white space wherever the grammar has it, and no other", function()
    valid { ' { "a" : 1 , "b" : [ 1 , 2 ] } ', '\n{\t"a"\r:\n1\n}\n', "[\n]", "{\r\n}", "[ [ ] , { } ]" }
    malformed { "[1,\0112]", "\f[]", "[\194\1601]", "{\11}", "[1,\0272]", "[1\0]", "t rue", "nul l", "1 .5", '{"a"\0:1}', "[\127]" }
  end)

  it("refuses broken structure", function()
    malformed { "[", "]", "{", "}", "[}", "{]", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1,,2]", "[1]]", "{1:2}", '{"a"}', '{"a":}', '{"a":1,}', '{,"a":1}',
      '{"a":1 "b":2}', '{"a" 1}', '{"a"::1}', '{"a":1', '{"a":1]', '[{]}', "{a:1}", "{'a':1}", '{"a":1}}', ":", ",", "[:]", '["a":1]', '{null:1}', "[1;2]", "/**/1", "[1]//",
      '{"a":1,"a"}', "[[]", "{{}}", '{"a",1}', "[1}", '{"a":[}' }
  end)

  it("refuses words that are not quite true, false or null", function()
    malformed { "tru", "truE", "True", "TRUE", "truee", "fals", "falsey", "nul", "nulll", "nil", "undefined", "[tru]", "[nul,1]", "t", "f", "n", "truefalse" }
  end)

  it("refuses every valid document cut short, at every byte", function()
    local document = '{"t":"MESSAGE_CREATE","s":42,"op":0,"d":{"id":"1\\u00e9\\"","n":[1.5e+3,-0,true,false,null,{}],"你":"😀 long enough"}}'
    assert.is_true(frame.check(document))
    for n = 0, #document - 1 do assert.is_false(frame.check(document:sub(1, n)), "cut at " .. n) end
  end)

  it("takes a depth of 512 and says so of more, mixed or not, without using the C stack", function()
    local rules = frame.rules { fields = {} }
    for _, pair in ipairs { { "[", "]" }, { '{"a":', "}" } } do
      local inner = pair[1] == "[" and "" or "1"
      assert.is_true(frame.check(pair[1]:rep(512) .. inner .. pair[2]:rep(512)))
      assert.equal("too deep", (frame.scan(rules, pair[1]:rep(513) .. inner .. pair[2]:rep(513))))
      assert.equal("too deep", (frame.scan(rules, pair[1]:rep(1000000))))
    end
    assert.is_true(frame.check(('[{"a":'):rep(256) .. "1" .. ("}]"):rep(256)))
    assert.is_false(frame.check(('[{"a":'):rep(256) .. "1" .. ("]}"):rep(256)))
  end)

  it("takes many empty containers in a row for what they are", function()
    assert.is_true(frame.check("[" .. ("[],{},"):rep(2000) .. "0]"))
  end)
end)

describe("white space in place", function()
  local rules = frame.rules { fields = { { "s", "s" }, { "o", "o" } } }

  it("becomes blanks outside strings, byte for byte, and leaves everything else alone", function()
    local text = '\r\n{\t"s" : "a\\tb\\n" ,\n"o":\t[1,\n\t2]}\n'
    local result, fields, after = frame.scan(rules, text)
    assert.equal("ok", result)
    assert.equal((text:gsub("[\r\n\t]", " ")), after)
    assert.equal("[1,  2]", fields.o.text)
    assert.equal("a\\tb\\n", fields.s.text)
  end)

  it("is not touched in a malformed text, whose objects and arrays are then not lifted", function()
    local text = '{\n"o":[1,\n2],\n"s":"x",}\n'
    local result, fields, after = frame.scan(rules, text)
    assert.equal("malformed", result)
    assert.equal(text, after)
    assert.is_nil(fields.o)
    assert.equal("x", fields.s.text)
  end)
end)

describe("random JSON", function()
  it("is valid, on one line afterwards, and changed in nothing but white space", function()
    local draw = reference.random(1)
    for _ = 1, 3000 do
      local text = reference.space(draw) .. reference.value(draw, 5) .. reference.space(draw)
      local result, _, after = frame.scan(frame.rules { fields = {} }, text)
      assert.equal("ok", result, text)
      assert.is_nil(after:find "[%z\1-\31]", text)
      assert.equal((text:gsub("[\r\n\t]", " ")), after)
    end
  end)

  it("is judged as the reference judges it after any one byte was changed, dropped or added", function()
    local draw = reference.random(2)
    local alphabet = '"\\{}[]:,0e.-+tfnu /\n\0\31\127\128\191\194\224\237\244\255'
    local seen = { [true] = 0, [false] = 0 }
    for _ = 1, 8000 do
      local text = reference.value(draw, 4)
      local at, what = draw(1, #text), draw(1, 3)
      local k = draw(1, #alphabet)
      local byte = what == 3 and string.char(draw(0, 255)) or alphabet:sub(k, k)
      local after = draw(1, 4) == 1 and at or at + 1
      text = text:sub(1, at - 1) .. (draw(1, 4) == 1 and "" or byte) .. text:sub(after)
      local expected = reference.is_valid(text)
      seen[expected] = seen[expected] + 1
      assert.equal(expected, frame.check(text), text)
    end
    assert.is_true(seen[true] > 500 and seen[false] > 500)
  end)
end)
