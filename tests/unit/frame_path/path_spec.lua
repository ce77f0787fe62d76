local frame = require "unit.frame_path"

local CONTINUATION, TEXT, BINARY, PING, PONG = 0, 1, 2, 9, 10

local function rules(more)
  local r = { fields = { { "op", "op" }, { "seq", "s" }, { "kind", "t" }, { "id", "d.id" } }, deliver = { { op = { { 0, 0 } } } }, inspect = { { op = { { 7, 7 }, { 9, 10 } } } },
    beat_asked = { { op = { { 1, 1 } } } }, beat_answer = { { op = { { 11, 11 } } } }, ends = { { { op = { { 7, 7 } } } }, { { op = { { 9, 9 } } } }, { { op = { { 7, 9 } } } } } }
  for key, value in pairs(more or {}) do r[key] = value end
  return frame.rules(r)
end

-- All items of `bytes`, given in pieces of `piece` bytes, as a reader of a socket would.
local function read(path, bytes, piece)
  local items = {}
  for from = 1, #bytes, piece or #bytes do
    local rest = bytes:sub(from, from + (piece or #bytes) - 1)
    repeat
      local item, consumed = path:next(rest)
      rest = rest:sub(consumed + 1)
      if item.kind ~= "more" then items[#items + 1] = item end
    until item.kind == "more"
    assert.equal("", rest)
  end
  return items
end

local function text(payload) return frame.frame(TEXT, payload) end
local function binary(payload) return frame.frame(BINARY, payload) end

local function only(items)
  assert.equal(1, #items)
  return items[1]
end

local function message(payload, more)
  local item = only(read(frame.path(rules(more)), text(payload)))
  assert.equal("message", item.kind)
  return item
end

describe("the frame path", function()
  it("yields messages with their fields and what the rules say, however the bytes are cut", function()
    local bytes = text '{"op":10,"d":{"heartbeat_interval":41250},"s":null,"t":null}' .. text '{"t":"READY","s":1,"op":0,"d":{"id":"1234567890123456789"}}' .. frame.frame(PING, "are you there") ..
      frame.frame(TEXT, '{"op":', false) .. frame.frame(PONG, "x") .. frame.frame(CONTINUATION, "11}", true) .. text '{"op":1}' .. text '{"op":7}' .. frame.close_frame(4000, "bye")
    for _, piece in ipairs { #bytes, 1, 2, 3, 7, 50 } do
      local items = read(frame.path(rules()), bytes, piece)
      assert.equal(8, #items)
      local hello, ready, ping, pong, answer, asked, ending, close = unpack(items)
      assert.same({ "message", true, false, false }, { hello.kind, hello.inspect, hello.deliver, hello.malformed })
      assert.equal("10", hello.fields.op.integer)
      assert.equal("null", hello.fields.seq.kind)
      assert.is_nil(hello.fields.id)
      assert.same({ "message", false, true }, { ready.kind, ready.inspect, ready.deliver })
      assert.equal("READY", ready.fields.kind.decoded)
      assert.equal("1234567890123456789", ready.fields.id.decoded)
      assert.equal(-1, ready.ends)
      assert.same({ "ping", "are you there" }, { ping.kind, ping.data })
      assert.same({ "pong", "x" }, { pong.kind, pong.data })
      assert.same({ true, false, false, '{"op":11}' }, { answer.beat_answer, answer.beat_asked, answer.deliver, answer.data })
      assert.same({ true, false }, { asked.beat_asked, asked.beat_answer })
      assert.same({ 0, true }, { ending.ends, ending.inspect })
      assert.same({ "close", 4000, "bye" }, { close.kind, close.code, close.data })
    end
  end)

  it("takes the first row of `ends`", function()
    assert.equal(0, message('{"op":7}').ends)
    assert.equal(1, message('{"op":9}').ends)
    assert.equal(2, message('{"op":8}').ends)
    assert.equal(-1, message('{"op":6}').ends)
  end)

  it("consumes no byte beyond the item that it yields, so that a hook comes first", function()
    local first, second = text '{"op":10}', text '{"op":0}'
    local path = frame.path(rules())
    local item, consumed = path:next(first .. second .. first)
    assert.equal("10", item.fields.op.integer)
    assert.equal(#first, consumed)
    path:set_rules(rules { deliver_all = true, deliver = false })
    item, consumed = path:next(second .. first)
    assert.equal(#second, consumed)
    assert.is_true(item.deliver)
    item, consumed = path:next(first)
    assert.equal(#first, consumed)
    assert.is_true(item.deliver)
    assert.equal("more", path:next("").kind)
  end)

  it("makes a message fit one line and leaves it alone otherwise", function()
    local item = message '{\r\n\t"op": 0,\n"t":"a\\nb"\n}\n'
    assert.equal('{   "op": 0, "t":"a\\nb" } ', item.data)
    assert.is_false(item.malformed)
  end)

  it("delivers what is not JSON as it came, marked, and never to a hook", function()
    for _, bad in ipairs { "", "hello", '{"op":7', '{"op":7}x', '{"op":7,"t":"a\nb"}', '{\n"op":7,}', ("["):rep(600) .. ("]"):rep(600) } do
      local item = message(bad)
      assert.is_true(item.malformed)
      assert.is_true(item.deliver)
      assert.is_false(item.inspect)
      assert.equal(bad, item.data)
    end
  end)

  it("judges beats and endings of a broken message by what came before the fault", function()
    assert.is_true(message('{"op":11,"d":').beat_answer)
    assert.equal(1, message('{"op":9,"d":').ends)
    assert.equal(-1, message('{"d":false "op":9}').ends)
  end)

  it("takes a binary message for malformed JSON unless compression is on", function()
    local item = only(read(frame.path(rules()), binary '{"op":7}'))
    assert.same({ true, true, false, false, -1 }, { item.malformed, item.deliver, item.inspect, item.text, item.ends })
    assert.same({}, item.fields)
  end)

  it("hands bytes on without looking inside under the codec `bytes`", function()
    local path = frame.path(rules { codec = "bytes", deliver_all = true })
    local items = read(path, text "{\n" .. binary "\0\1\2" .. binary "")
    for i, data in ipairs { "{\n", "\0\1\2", "" } do
      assert.same({ "message", data, true, false, false }, { items[i].kind, items[i].data, items[i].deliver, items[i].malformed, items[i].inspect })
      assert.same({}, items[i].fields)
    end
    assert.same({ true, false }, { items[1].text, items[2].text })
  end)

  it("refuses protobuf without a layout", function()
    assert.is_nil(frame.path(rules { codec = "protobuf" }))
  end)

  it("is small while its link is quiet", function()
    local path = frame.path(rules())
    read(path, text('{"op":0,"d":"' .. ("x"):rep(200000) .. '"}'), 5000)
    assert.is_true(path:bytes() < 2048, path:bytes())
  end)
end)

for _, mode in ipairs { "zlib-stream", "zstd-stream" } do
  describe("the frame path under " .. mode, function()
    it("decompresses with one context over the whole link, however the bytes are cut", function()
      local deflate, bytes, sent = frame.deflate(mode), {}, {}
      for i = 1, 40 do
        sent[i] = ('{"t":"MESSAGE_CREATE","s":%d,"op":0,\n"d":{"id":"%d","content":"%s"}}'):format(i, i * 7, ("again and "):rep(i))
        bytes[i] = binary(deflate:message(sent[i]))
      end
      local all = table.concat(bytes)
      for _, piece in ipairs { #all, 1, 13 } do
        local items = read(frame.path(rules(), mode), all, piece)
        assert.equal(40, #items)
        for i, item in ipairs(items) do
          assert.equal(sent[i]:gsub("\n", " "), item.data)
          assert.same({ true, true, false, tostring(i), tostring(i * 7) }, { item.deliver, item.text, item.malformed, item.fields.seq.integer, item.fields.id.decoded })
        end
      end
    end)

    it("passes plain text messages through, and control frames between pieces", function()
      local deflate = frame.deflate(mode)
      local a, b = deflate:message '{"op":10}', deflate:message '{"op":0}'
      local items = read(frame.path(rules(), mode), text '{"op":11}' .. binary(a) .. frame.frame(PING, "") .. frame.frame(BINARY, b:sub(1, 3), false) .. frame.frame(PING, "p") .. frame.frame(CONTINUATION, b:sub(4)))
      assert.equal(5, #items)
      assert.is_true(items[1].beat_answer)
      assert.equal("10", items[2].fields.op.integer)
      assert.equal("ping", items[3].kind)
      assert.equal("p", items[4].data)
      assert.equal("0", items[5].fields.op.integer)
    end)

    it("ends the link at bytes that are not compressed, and yields nothing after that", function()
      local path = frame.path(rules(), mode)
      local items = read(path, binary "this is not compressed" .. text '{"op":7}')
      assert.same({ { kind = "error", error = "inflate", ws_error = "none", code = 1007 } }, items)
      assert.same({}, read(path, text '{"op":7}' .. frame.frame(PING, "")))
    end)

    it("ends the link when a message grows over the limit", function()
      local bomb = frame.deflate(mode):message('"' .. ("0"):rep(500000) .. '"')
      assert.is_true(#bomb < 2000)
      local items = read(frame.path(rules { message_max = 100000 }, mode), binary(bomb))
      assert.same({ { kind = "error", error = "too big", ws_error = "none", code = 1009 } }, items)
    end)

    it("gives back what a big message took as soon as the next bytes are asked for", function()
      local path = frame.path(rules(), mode)
      local item = path:next(binary(frame.deflate(mode):message('"' .. ("0"):rep(500000) .. '"')))
      assert.equal(500002, #item.data)
      assert.is_true(path:bytes() > 500000)
      assert.equal("more", path:next("").kind)
      assert.is_true(path:bytes() < 20000, path:bytes())
    end)

    it("marks what decompresses to something else than JSON", function()
      local item = only(read(frame.path(rules(), mode), binary(frame.deflate(mode):message '{"op":7}\0')))
      assert.same({ true, true, '{"op":7}\0' }, { item.malformed, item.deliver, item.data })
    end)
  end)
end

describe("zlib-stream", function()
  it("joins a message from several WebSocket messages", function()
    local whole = frame.deflate("zlib-stream"):message '{"op":10,"d":{"heartbeat_interval":41250}}'
    local path = frame.path(rules(), "zlib-stream")
    for i = 1, #whole - 1 do assert.same({}, read(path, binary(whole:sub(i, i)))) end
    local item = only(read(path, binary(whole:sub(#whole))))
    assert.equal("10", item.fields.op.integer)
    path = frame.path(rules(), "zlib-stream")
    local both = binary(whole:sub(1, 9)) .. binary(whole:sub(10))
    local got, consumed = path:next(both .. text "{}")
    assert.equal(#both, consumed)
    assert.equal("10", got.fields.op.integer)
  end)
end)

describe("an error of the frame path", function()
  local function fails(bytes, more)
    local path = frame.path(rules(more))
    local item = only(read(path, bytes .. text '{"op":7}'))
    assert.equal("error", item.kind)
    assert.same({}, read(path, text '{"op":7}'))
    return { item.error, item.ws_error, item.code }
  end

  it("says what was wrong and what to tell the peer", function()
    assert.same({ "protocol", "unknown opcode", 1002 }, fails(frame.frame(3, "")))
    assert.same({ "protocol", "masked frame from a server", 1002 }, fails "\129\128\0\0\0\0")
    assert.same({ "protocol", "continuation without a start", 1002 }, fails(frame.frame(CONTINUATION, "x")))
    assert.same({ "utf8", "text message is not UTF-8", 1007 }, fails(text '"\255"'))
    assert.same({ "utf8", "close reason is not UTF-8", 1007 }, fails "\136\3\3\232\255")
    assert.same({ "too big", "message over the limit", 1009 }, fails(text(("x"):rep(101)), { message_max = 100 }))
  end)

  it("does not come at the limit itself, and follows the rules of a reload", function()
    local path = frame.path(rules { message_max = 100 })
    assert.equal(100, #only(read(path, text(("x"):rep(100)), 30)).data)
    path:set_rules(rules { message_max = 5000 })
    assert.equal(5000, #only(read(path, text(("x"):rep(5000)), 30)).data)
    path:set_rules(rules { message_max = 50 })
    assert.equal("too big", only(read(path, text(("x"):rep(51)))).error)
  end)
end)

describe("an outbound frame", function()
  it("has its fields taken as an inbound one", function()
    local path = frame.path(rules())
    local result, fields = path:take '{"op":2,"d":{"id":5}}'
    assert.equal("ok", result)
    assert.same({ "2", "5" }, { fields.op.integer, fields.id.integer })
    assert.equal("malformed", (path:take '{"op":2'))
    assert.equal("too deep", (path:take(("["):rep(513))))
    assert.same({ "ok", {} }, { frame.path(rules { codec = "bytes" }):take '{"op":2}' })
  end)
end)
