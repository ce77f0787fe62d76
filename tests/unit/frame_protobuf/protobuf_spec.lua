-- Protobuf by a layout: golden bytes of a real platform's own codec, the wire format's corners, hostile input.
local protobuf = require "unit.frame_protobuf"

local LAYOUT = {
  { 1, "SeqID", "uint64", required = true }, { 2, "LogID", "uint64", required = true },
  { 3, "service", "int32", required = true }, { 4, "method", "int32", required = true },
  { 5, "headers", "map" }, { 6, "payload_encoding", "string" }, { 7, "payload_type", "string" },
  { 8, "payload", "json" }, { 9, "LogIDNew", "string" },
}

local function unhex(text)
  return (text:gsub("%s", ""):gsub("%x%x", function (h) return string.char(tonumber(h, 16)) end))
end

local function hex(bytes)
  return (bytes:gsub(".", function (c) return ("%02x"):format(c:byte()) end))
end

local PING = "0800100018f681801020002a0c0a0474797065120470696e67"
local PONG = "0800100018f681801020002a0c0a04747970651204706f6e6742547b225265636f6e6e656374436f756e74223a2d312c"
  .. "225265636f6e6e656374496e74657276616c223a3132302c225265636f6e6e6563744e6f6e6365223a33302c2250696e67496e746572"
  .. "76616c223a3132307d"
local EVENT = "08071009180520012a0d0a047479706512056576656e742a100a0a6d6573736167655f696412026d312a080a0373756d"
  .. "1201312a080a037365711201302a0e0a0874726163655f69641202743142027b7d"
local ACK = "08071009180520012a0d0a047479706512056576656e742a100a0a6d6573736167655f696412026d312a080a0373756d"
  .. "1201312a080a037365711201302a0e0a0874726163655f6964120274312a0b0a0662697a5f7274120133420c7b22636f6465223a3230307d"

local NONE = "0801100218032004" -- the four required fields and nothing else

local function to_json(bytes, layout) return (protobuf.to_json(layout or LAYOUT, bytes)) end
local function from_json(text, layout) return (protobuf.from_json(layout or LAYOUT, text)) end

describe("the golden bytes", function ()
  it("of a ping are read and written", function ()
    local text = '{"SeqID":0,"LogID":0,"service":33554678,"method":0,"headers":{"type":"ping"}}'
    assert.equal(text, to_json(unhex(PING)))
    assert.equal(PING, hex(from_json(text)))
  end)

  it("of a pong are read and written, with its payload as JSON", function ()
    local text = '{"SeqID":0,"LogID":0,"service":33554678,"method":0,"headers":{"type":"pong"},"payload":'
      .. '{"ReconnectCount":-1,"ReconnectInterval":120,"ReconnectNonce":30,"PingInterval":120}}'
    assert.equal(text, to_json(unhex(PONG)))
    assert.equal(PONG, hex(from_json(text)))
  end)

  it("of an event are read and written", function ()
    local text = '{"SeqID":7,"LogID":9,"service":5,"method":1,"headers":{"type":"event","message_id":"m1",'
      .. '"sum":"1","seq":"0","trace_id":"t1"},"payload":{}}'
    assert.equal(text, to_json(unhex(EVENT)))
    assert.equal(EVENT, hex(from_json(text)))
  end)

  it("of an acknowledgement are the event's echo with one header more and another payload", function ()
    local echo = protobuf.echo(unhex(EVENT), {
      { 8, "replace", protobuf.field(8, '{"code":200}') },
      { 5, "append", protobuf.pair(5, "biz_rt", "3") },
    })
    assert.equal(ACK, hex(echo))
  end)

  it("of a frame without SeqID are refused", function ()
    local text, result = protobuf.to_json(LAYOUT, unhex "18012000")
    assert.is_nil(text)
    assert.equal("malformed", result)
  end)
end)

describe("an integer", function ()
  it("of 64 bits is a number up to 2^53 and a decimal string above, and exact both ways", function ()
    for _, case in ipairs {
      { "ffffffffffffff0f", "9007199254740991" }, { "8080808080808010", "9007199254740992" },
      { "8180808080808010", '"9007199254740993"' }, { "81808080808080808001", '"9223372036854775809"' },
      { "ffffffffffffffffff01", '"18446744073709551615"' },
    } do
      local bytes = "08" .. case[1] .. "100018002000"
      local text = '{"SeqID":' .. case[2] .. ',"LogID":0,"service":0,"method":0,"headers":{}}'
      assert.equal(text, to_json(unhex(bytes)))
      assert.equal(bytes, hex(from_json(text)))
    end
  end)

  it("of 32 bits that is negative takes ten bytes", function ()
    local bytes = "0800100018ffffffffffffffffff012000"
    local text = '{"SeqID":0,"LogID":0,"service":-1,"method":0,"headers":{}}'
    assert.equal(text, to_json(unhex(bytes)))
    assert.equal(bytes, hex(from_json(text)))
  end)

  it("out of its field's bounds, or none at all, is refused", function ()
    for _, seq in ipairs { "-1", "1.5", "1e3", '"18446744073709551616"', '""', '"-"', '"1 "', "true", "{}", '"0x1"' } do
      local bytes, result, why = protobuf.from_json(LAYOUT,
        '{"SeqID":' .. seq .. ',"LogID":0,"service":0,"method":0}')
      assert.is_nil(bytes, seq)
      assert.equal("malformed", result)
      assert.equal("an integer within the field's bounds was expected", why)
    end
    assert.is_nil(from_json '{"SeqID":0,"LogID":0,"service":2147483648,"method":0}')
    assert.is_string(from_json '{"SeqID":"7","LogID":0,"service":-2147483648,"method":2147483647}')
  end)

  it("of every kind comes back as it was", function ()
    local layout = { { 1, "a", "int64" }, { 2, "b", "sint64" }, { 3, "c", "uint32" }, { 4, "d", "sint32" },
      { 5, "e", "bool" }, { 6, "f", "fixed64" }, { 7, "g", "sfixed64" }, { 8, "h", "fixed32" },
      { 9, "i", "sfixed32" }, { 10, "j", "double" }, { 11, "k", "float" }, { 200, "l", "string" } }
    local text = '{"a":-5,"b":"-9223372036854775808","c":4294967295,"d":-2147483648,"e":true,'
      .. '"f":"18446744073709551615","g":-1,"h":7,"i":-7,"j":0.1,"k":-1.5,"l":"z"}'
    local bytes = from_json(text, layout)
    assert.equal((text:gsub("0%.1", "0.10000000000000001")), to_json(bytes, layout))
    assert.equal("08fbffffffffffffffff01", hex(bytes):sub(1, 22))
    assert.equal("10ffffffffffffffffff01", hex(bytes):sub(23, 44)) -- zigzag
  end)

  it("that is no number of JSON is null", function ()
    local layout = { { 1, "x", "double" } }
    assert.equal('{"x":null}', to_json(unhex "09000000000000f07f", layout))
    assert.equal('{"x":null}', to_json(unhex "09000000000000f87f", layout))
  end)
end)

describe("a payload", function ()
  it("that is no JSON travels as base64, and back", function ()
    for _, bytes in ipairs { "not json", "", "{", "1,2", "]", "[1],[2", '"\255"', '"a\nb"', "{}x", "\0" } do
      local message = unhex(NONE) .. protobuf.field(8, bytes)
      local text = to_json(message)
      assert.is_truthy(text:find('"payload_base64":"', 1, true), text)
      assert.is_nil(text:find('"payload":', 1, true))
      assert.equal(message, from_json(text))
    end
  end)

  it("that is JSON stands there as it came, but for line ends", function ()
    local message = unhex(NONE) .. protobuf.field(8, '{"a":\n[1,\t"\\n"]}')
    assert.equal('{"SeqID":1,"LogID":2,"service":3,"method":4,"headers":{},"payload":{"a": [1, "\\n"]}}',
      to_json(message))
  end)

  it("that is as deep as JSON may be is base64: it would be a level deeper inside", function ()
    local deep, fits = ("["):rep(512) .. ("]"):rep(512), ("["):rep(511) .. ("]"):rep(511)
    assert.is_truthy(to_json(unhex(NONE) .. protobuf.field(8, deep)):find('"payload_base64"', 1, true))
    assert.is_truthy(to_json(unhex(NONE) .. protobuf.field(8, fits)):find('"payload":[[', 1, true))
  end)

  it("given twice, as JSON and as base64, is refused", function ()
    local _, _, why = protobuf.from_json(LAYOUT,
      '{"SeqID":0,"LogID":0,"service":0,"method":0,"payload":{},"payload_base64":"e30="}')
    assert.equal("a field is given twice", why)
  end)

  it("of JSON null is the word", function ()
    assert.equal("null", protobuf.bytes(from_json '{"SeqID":0,"LogID":0,"service":0,"method":0,"payload":null}', 8))
  end)
end)

describe("text", function ()
  it("is escaped, and what is no UTF-8 is shown as such", function ()
    local message = unhex(NONE) .. protobuf.pair(5, 'k"\n', "v\255") .. protobuf.field(6, "a\\b")
    assert.equal('{"SeqID":1,"LogID":2,"service":3,"method":4,"headers":{"k\\"\\n":"v\239\191\189"},'
      .. '"payload_encoding":"a\\\\b"}', to_json(message))
  end)

  it("with escapes is written decoded, in fields and in maps", function ()
    local bytes = from_json('{"SeqID":0,"LogID":0,"service":0,"method":0,"headers":{"\\u00e4\\"":"x\\ny"},'
      .. '"payload_type":"\\ud83d\\ude00"}')
    assert.equal("\240\159\152\128", protobuf.bytes(bytes, 7))
    assert.equal(protobuf.pair(5, '\195\164"', "x\ny"):sub(3), protobuf.bytes(bytes, 5))
  end)

  it("of another kind than the layout says is refused", function ()
    for _, members in ipairs { '"payload_type":1', '"headers":[]', '"headers":{"a":1}', '"payload_base64":"e3"',
      '"payload_base64":7', '"nothing":1', '"headers_base64":""', '"payload":{}, "payload":{}' } do
      local bytes, result, why = protobuf.from_json(LAYOUT, '{"SeqID":0,"LogID":0,"service":0,"method":0,' .. members .. "}")
      assert.is_nil(bytes, members)
      assert.equal("malformed", result)
      assert.is_string(why)
    end
  end)
end)

describe("a message", function ()
  it("is written in the layout's order, whatever order the members have, with blanks anywhere", function ()
    assert.equal(NONE, hex(from_json ' { "method" : 4 , "service":3,\n"LogID":\t2, "SeqID" : "1" } '))
  end)

  it("counts the last of a field that came twice", function ()
    assert.equal('{"SeqID":9,"LogID":2,"service":3,"method":4,"headers":{}}', to_json(unhex(NONE .. "0809")))
  end)

  it("without a required field is refused both ways", function ()
    assert.is_nil(to_json(unhex "080110021803"))
    local _, _, why = protobuf.from_json(LAYOUT, '{"SeqID":0,"LogID":0,"service":0}')
    assert.equal("a required field is missing", why)
  end)

  it("that is no object is refused", function ()
    for _, text in ipairs { "", "{", "[]", "1", "null", '"x"', "{}}" } do
      assert.is_nil(from_json(text), text)
    end
  end)

  it("leaves fields out that the layout does not name, or that came in another wire type", function ()
    -- 10: varint, 11: bytes, 12: a group with a group in it, 13 and 14: fixed; then payload as a varint
    local unknown = unhex "5007 5a0178 630801 6b 6c 64 6d01020304 710102030405060708 4001"
    assert.equal('{"SeqID":1,"LogID":2,"service":3,"method":4,"headers":{}}', to_json(unhex(NONE) .. unknown))
    assert.equal(unhex(NONE) .. unknown, protobuf.echo(unhex(NONE) .. unknown, {}))
  end)

  it("is refused wherever it breaks off, and never read beyond its end", function ()
    local whole = unhex(EVENT)
    local ends = {}
    for n = 0, #whole do
      if to_json(whole:sub(1, n)) then ends[#ends + 1] = n end
    end
    -- only where a field ends, after the required ones
    assert.same({ 8, 23, 41, 51, 61, 77, #whole }, ends)
  end)

  it("with what no message has is refused", function ()
    for _, tail in ipairs { "00", "07", "0e", "0c", "6308", "6364016c", "80808080808080808001", "08ffffffffffffffffff02",
      "42ffffffffffffffffff01", "42ff", "2a020a05", "f8ffffffff0f01" } do
      local text, result = protobuf.to_json(LAYOUT, unhex(NONE .. tail))
      assert.is_nil(text, tail)
      assert.equal("malformed", result)
    end
  end)

  it("of a thousand open groups is refused", function ()
    assert.is_nil(to_json(unhex(NONE) .. ("\99"):rep(1000) .. ("\100"):rep(1000)))
    assert.is_string(to_json(unhex(NONE) .. ("\99"):rep(32) .. ("\100"):rep(32)))
  end)

  it("leaves nothing behind where there is too little room", function ()
    for room = 1, 150 do
      local text, result, _, left = protobuf.to_json(LAYOUT, unhex(EVENT), room)
      if not text then
        assert.equal("too big", result)
        assert.equal(0, left)
      end
      local json = to_json(unhex(EVENT))
      local bytes, outcome, _, rest = protobuf.from_json(LAYOUT, json, room)
      if not bytes then
        assert.equal("too big", outcome)
        assert.equal(0, rest)
      end
      local echo, said, _, over = protobuf.echo(unhex(EVENT), { { 8, "replace", protobuf.field(8, "xx") } }, room)
      if not echo then
        assert.equal("too big", said)
        assert.equal(0, over)
      end
    end
  end)
end)

describe("an echo", function ()
  local function field(n, text) return protobuf.field(n, text) end

  it("keeps every byte that is not changed, varints that are longer than they need be too", function ()
    local odd, unknown = unhex "088700100918052001", unhex "5007"
    assert.equal(odd .. unknown, protobuf.echo(odd .. unknown, {}))
    assert.equal(odd .. field(8, "n") .. unknown, protobuf.echo(odd .. unknown, { { 8, "replace", field(8, "n") } }))
  end)

  it("replaces the last of several and drops the others", function ()
    local message = field(8, "a") .. field(5, "h") .. field(8, "b") .. field(9, "z")
    assert.equal(field(5, "h") .. field(8, "new") .. field(9, "z"),
      protobuf.echo(message, { { 8, "replace", field(8, "new") } }))
  end)

  it("puts what was absent before the first higher field, or at the end", function ()
    local message = field(1, "a") .. field(9, "z")
    assert.equal(field(1, "a") .. field(5, "h") .. field(8, "p") .. field(9, "z"),
      protobuf.echo(message, { { 8, "replace", field(8, "p") }, { 5, "append", field(5, "h") } }))
    assert.equal(field(1, "a") .. field(5, "h") .. field(8, "p"),
      protobuf.echo(field(1, "a"), { { 8, "replace", field(8, "p") }, { 5, "append", field(5, "h") } }))
    assert.equal(field(5, "h") .. field(8, "p"),
      protobuf.echo("", { { 8, "replace", field(8, "p") }, { 5, "append", field(5, "h") } }))
  end)

  it("of no message is refused", function ()
    local echo, result = protobuf.echo("\8", {})
    assert.is_nil(echo)
    assert.equal("malformed", result)
  end)

  it("of a message that is 64 bits wide is exact", function ()
    local message = unhex "08818080808080808080011081808080808080808001180520012a0d0a047479706512056576656e74"
    assert.equal(message .. field(8, "x"), protobuf.echo(message, { { 8, "replace", field(8, "x") } }))
  end)
end)
