local frame = require "unit.frame_json"
local reference = require "json_reference"

local discord = frame.rules { fields = { { "op", "op" }, { "seq", "s" }, { "kind", "t" }, { "id", "d.id" } } }

local function lift(rules, text)
  local result, fields = frame.scan(rules, text)
  assert.equal("ok", result, text)
  return fields
end

local function number(text)
  local v = lift(frame.rules { fields = { { "n", "n" } } }, '{"n":' .. text .. "}").n
  assert.equal(text, v.text)
  return v.kind == "integer" and v.integer or v.kind
end

describe("fields", function()
  it("are found in any order of keys, among others and below deeper ones", function()
    local members = { '"op":0', '"s":42', '"t":"READY"', '"d":{"x":{"id":"wrong"},"id":"77","y":[{"id":"wrong"}]}', '"z":{"op":9,"d":{"id":1}}' }
    local function permute(list, k)
      if k > #list then
        local f = lift(discord, "{" .. table.concat(list, ",") .. "}")
        assert.equal("0", f.op.integer)
        assert.equal("42", f.seq.integer)
        assert.equal("READY", f.kind.decoded)
        assert.equal("77", f.id.decoded)
      end
      for i = k, #list do
        list[k], list[i] = list[i], list[k]
        permute(list, k + 1)
        list[k], list[i] = list[i], list[k]
      end
    end
    permute(members, 1)
  end)

  it("are absent where the way to them is no object", function()
    for _, d in ipairs { "1", "null", '"id"', "[]", '["id",1]', '[{"id":1}]', "{}", "true" } do
      assert.is_nil(lift(discord, '{"op":0,"d":' .. d .. "}").id, d)
    end
    for _, root in ipairs { "1", '"op"', "[]", '[{"op":1}]', "null", '["op",1]' } do
      assert.same({}, lift(discord, root))
    end
  end)

  it("carry every kind with its text", function()
    local rules = frame.rules { fields = { { "v", "v" } } }
    local function v(text) return lift(rules, '{ "v" : ' .. text .. " }").v end
    assert.same({ kind = "null", text = "null" }, v "null")
    assert.same({ kind = "bool", text = "true", boolean = true }, v "true")
    assert.same({ kind = "bool", text = "false", boolean = false }, v "false")
    assert.same({ kind = "integer", text = "-12", integer = "-12" }, v "-12")
    assert.same({ kind = "number", text = "1.5" }, v "1.5")
    assert.same({ kind = "string", text = "a\\n", decoded = "a\n" }, v '"a\\n"')
    assert.same({ kind = "string", text = "", decoded = "" }, v '""')
    assert.same({ kind = "other", text = '{"a":[1, {}]}' }, v '{"a":[1, {}]}')
    assert.same({ kind = "other", text = "[]" }, v "[]")
    assert.same({ kind = "other", text = "{}" }, v "{}")
  end)

  it("take the last of duplicate keys", function()
    assert.equal("3", lift(discord, '{"op":1,"op":2,"op":3}').op.integer)
    assert.equal("null", lift(discord, '{"s":1,"s":null}').seq.kind)
    assert.equal("2", lift(discord, '{"op":[1],"op":2}').op.integer)
    assert.equal("other", lift(discord, '{"op":2,"op":[1]}').op.kind)
  end)

  it("forget what lay below a parent that comes again", function()
    assert.is_nil(lift(discord, '{"d":{"id":1},"d":{}}').id)
    assert.is_nil(lift(discord, '{"d":{"id":1},"d":5}').id)
    assert.is_nil(lift(discord, '{"d":{"id":1},"d":[{"id":2}]}').id)
    assert.is_nil(lift(discord, '{"d":{"id":1},"\\u0064":null}').id)
    assert.equal("2", lift(discord, '{"d":{"id":1},"d":{"id":2}}').id.integer)
  end)

  it("compare keys with their escapes decoded", function()
    assert.equal("5", lift(discord, '{"\\u006f\\u0070":5}').op.integer)
    assert.equal("6", lift(discord, '{"o\\u0070":6}').op.integer)
    assert.is_nil(lift(discord, '{"o\\\\u0070":6,"op\\u0000":7,"\\u006f":8}').op)
    local odd = frame.rules { fields = { { "a", 'a"b' }, { "b", "é" }, { "c", "😀.x/y" } } }
    local f = lift(odd, '{"a\\"b":1,"\\u00e9":2,"\\ud83d\\ude00":{"x\\/y":3}}')
    assert.equal("1", f.a.integer)
    assert.equal("2", f.b.integer)
    assert.equal("3", f.c.integer)
  end)

  it("tell keys apart that share a beginning, and know the empty key", function()
    local rules = frame.rules { fields = { { "a", "ab" }, { "b", "abc" }, { "c", "a" } } }
    local f = lift(rules, '{"":0,"abcd":9,"a":1,"ab":2,"abc":3,"b":8}')
    assert.equal("1", f.c.integer)
    assert.equal("2", f.a.integer)
    assert.equal("3", f.b.integer)
  end)

  it("reach down four levels, and a parent and its child can both be wanted", function()
    local rules = frame.rules { fields = { { "a", "a" }, { "d", "a.b.c.d" }, { "x", "a.b.x" }, { "again", "a.b.c.d" } } }
    local f = lift(rules, '{"a":{"b":{"c":{"d":{"deep":[[]]}},"x":1}}}')
    assert.equal('{"b":{"c":{"d":{"deep":[[]]}},"x":1}}', f.a.text)
    assert.equal('{"deep":[[]]}', f.d.text)
    assert.equal('{"deep":[[]]}', f.again.text)
    assert.equal("1", f.x.integer)
  end)

  it("never come from a deeper object of the same shape", function()
    local rules = frame.rules { fields = { { "x", "a.b" } } }
    assert.is_nil(lift(rules, '{"z":{"a":{"b":1}},"a":{"a":{"b":2}},"b":3}').x)
    assert.equal("4", lift(rules, '{"a":{"a":{"b":2},"b":4,"c":{"b":5}}}').x.integer)
  end)

  it("found before a fault are kept", function()
    local result, f, _, fault = frame.scan(discord, '{"op":7,"s":9,"d":{"id":"x"},"t":"R')
    assert.equal("malformed", result)
    assert.equal("7", f.op.integer)
    assert.equal("x", f.id.decoded)
    assert.is_nil(f.kind)
    assert.equal(35, fault)
    assert.equal(9, select(4, frame.scan(discord, '{"op":7, }')))
    assert.equal(3, select(4, frame.scan(discord, '"ab\1"')))
  end)

  it("number at most sixteen, on paths of one to four parts", function()
    assert.is_true(frame.path_is_valid "a.b.c.d")
    assert.is_true(frame.path_is_valid(("x"):rep(63)))
    for _, path in ipairs { "", ".", ".a", "a.", "a..b", "a.b.c.d.e", ("x"):rep(64) } do
      assert.is_false(frame.path_is_valid(path), path)
    end
    assert.is_nil(frame.rules { fields = { { "bad", "a..b" } } })
    local many, text = {}, {}
    for i = 1, 16 do
      many[i] = { "f" .. i, ("k%d.l%d.m%d.n%d"):format(i, i, i, i) .. ("x"):rep(40) }
      text[i] = ('"k%d":{"l%d":{"m%d":{"n%d%s":%d}}}'):format(i, i, i, i, ("x"):rep(40), i)
    end
    local f = lift(frame.rules { fields = many }, "{" .. table.concat(text, ",") .. "}")
    for i = 1, 16 do assert.equal(tostring(i), f["f" .. i].integer) end
  end)
end)

describe("a number", function()
  it("is an integer however it is written, exactly", function()
    local same = { ["0"] = "0", ["-0"] = "0", ["0.0"] = "0", ["-0e5"] = "0", ["0e99999999999999999999"] = "0", ["1.0"] = "1", ["1e3"] = "1000", ["1E+3"] = "1000", ["1.5e1"] = "15",
      ["1000e-3"] = "1", ["0.001e3"] = "1", ["0.00125e5"] = "125", ["-2.50e1"] = "-25", ["10.10e2"] = "1010", ["9007199254740993"] = "9007199254740993",
      ["9223372036854775807"] = "9223372036854775807", ["-9223372036854775808"] = "-9223372036854775808", ["9223372036854775807.000"] = "9223372036854775807",
      ["922337203685477580.7e1"] = "9223372036854775807", ["-9.223372036854775808e18"] = "-9223372036854775808", ["1e18"] = "1000000000000000000", ["9e18"] = "9000000000000000000",
      ["100000000000000000000e-2"] = "1000000000000000000", ["0.0000000000000000000000000001e28"] = "1", ["1234567890123456789"] = "1234567890123456789" }
    for text, integer in pairs(same) do assert.equal(integer, number(text), text) end
    assert.equal("1", number("1" .. ("0"):rep(5000) .. "e-5000"))
    assert.equal("7", number("7." .. ("0"):rep(5000)))
  end)

  it("is kept as text when it is no integer of 64 bits", function()
    for _, text in ipairs { "1.5", "0.1", "1e-1", "15e-1", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "1e19", "9.3e18", "1e400", "1e99999999999999999999999",
      "1e-99999999999999999999999", "123456789012345678901234567890", "0.5", "-0.5", "9223372036854775807.1", "1000000000000000000.5", "10000000000000000000", "99999999999999999999" } do
      assert.equal("number", number(text), text)
    end
  end)
end)

describe("a string field", function()
  it("is decoded: escapes, surrogate pairs, lone surrogates as U+FFFD", function()
    local function d(text) return frame.decode(text, 100) end
    assert.equal('"\\/\b\f\n\r\t', d [[\"\\\/\b\f\n\r\t]])
    assert.equal("A\0é你😀", d [[\u0041\u0000\u00e9\u4F60\ud83D\uDe00]])
    assert.equal("\194\128 \223\191 \224\160\128 \239\191\191", d [[\u0080 \u07ff \u0800 \uffff]])
    assert.equal("�x", d [[\ud800x]])
    assert.equal("�", d [[\udfff]])
    assert.equal("�A", d [[\ud83d\u0041]])
    assert.equal("�😀", d [[\ud83d\ud83d\ude00]])
    assert.equal("�\238\128\128", d [[\ud83d\ue000]])
    assert.equal("�\237\159\191", d [[\ud83d\ud7ff]])
    assert.equal("�\n", d [[\ud83d\n]])
    assert.equal("��", d [[\ude00\ud83d]])
    assert.equal("", d "")
    assert.equal("plain 你", d "plain 你")
  end)

  it("says when the room is too small and never writes beyond it", function()
    for _, text in ipairs { "abcdef", [[\u4f60\u4f60]], [[ab\ncd\ud83d\ude00]] } do
      local whole = frame.decode(text, 100)
      assert.equal(whole, frame.decode(text, #whole))
      for room = 0, #whole - 1 do assert.is_nil(frame.decode(text, room)) end
    end
  end)

  it("equals the text that it decodes to and no other", function()
    for _, text in ipairs { "abc", "", [[a\u0062c]], [[\ud83d\ude00]], [[\ud800]], [[\u0000x]], [[\\n]] } do
      local decoded = frame.decode(text, 100)
      assert.is_true(frame.equal(text, decoded))
      assert.is_false(frame.equal(text, decoded .. "x"))
      assert.is_false(frame.equal(text, "x" .. decoded))
      if #decoded > 0 then assert.is_false(frame.equal(text, decoded:sub(1, -2))) end
    end
  end)
end)

describe("random messages", function()
  it("yield the wanted fields through any white space, order and neighbours", function()
    local draw = reference.random(3)
    local function space() return reference.space(draw) end
    for _ = 1, 3000 do
      local op, seq, id = draw(0, 11), draw(0, 99999999), draw(0, 99999999)
      local kind = reference.string(draw)
      local function object(members)
        for _ = 1, draw(0, 3) do
          table.insert(members, { '"_' .. reference.string(draw):sub(2), reference.value(draw, 3) })
        end
        for i = #members, 2, -1 do
          local j = draw(1, i)
          members[i], members[j] = members[j], members[i]
        end
        local out = {}
        for i, m in ipairs(members) do out[i] = space() .. m[1] .. space() .. ":" .. space() .. m[2] .. space() end
        return "{" .. table.concat(out, ",") .. "}"
      end
      local d = object { { '"id"', '"' .. id .. '"' } }
      local text = space() .. object { { '"op"', tostring(op) }, { '"s"', tostring(seq) }, { '"t"', kind }, { '"d"', d } } .. space()
      local result, f, after = frame.scan(discord, text)
      assert.equal("ok", result, text)
      assert.equal(tostring(op), f.op.integer)
      assert.equal(tostring(seq), f.seq.integer)
      assert.equal(kind:sub(2, -2), f.kind.text)
      assert.equal(tostring(id), f.id.decoded)
      assert.is_nil(after:find "[%z\1-\31]")
    end
  end)
end)
