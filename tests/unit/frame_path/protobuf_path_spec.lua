-- The frame path with protobuf: JSON for the rules, the bytes beside it, parts joined before anything sees them.
local frame = require "unit.frame_path"
local protobuf = require "unit.frame_protobuf"

local TEXT, BINARY, PING = 1, 2, 9

local function rules(more)
  local r = { codec = "protobuf", layout = { { 1, "id", "uint64" }, { 2, "head", "map" }, { 3, "body", "json" } },
    fields = { { "key", "head.key" }, { "seq", "head.seq" }, { "sum", "head.sum" }, { "n", "body.n" } },
    join = { "key", "seq", "sum", 3, 10000, 16, 65536 }, deliver_all = true, message_max = 65536 }
  for k, v in pairs(more or {}) do r[k] = v end
  return frame.rules(r)
end

local function message(id, head, body)
  local text = '{"id":' .. id .. ',"head":{' .. head .. "}}"
  local layout = { { 1, "id", "uint64" }, { 2, "head", "map" }, { 3, "body", "json" } }
  return assert(protobuf.from_json(layout, text)) .. (body and protobuf.field(3, body) or "")
end

local function part(seq, sum, body, key)
  return message(seq, ('"key":"%s","seq":"%s","sum":"%s"'):format(key or "k", seq, sum), body)
end

local function binary(payload) return frame.frame(BINARY, payload) end

-- All items of `bytes`, given in pieces of `piece` bytes, as a reader of a socket would.
local function read(path, bytes, piece)
  local items, rest, from = {}, "", 1
  while from <= #bytes or #rest > 0 do
    rest = rest .. bytes:sub(from, from + (piece or #bytes) - 1)
    from = from + (piece or #bytes)
    repeat
      local item, consumed = path:next(rest)
      rest = rest:sub(consumed + 1)
      if item.kind ~= "more" then items[#items + 1] = item end
    until item.kind == "more"
    assert.equal("", rest)
  end
  return items
end

describe("a binary message", function ()
  it("is JSON for the rules and has its bytes beside it, however the bytes are cut", function ()
    local one, two = message(7, '"a":"b"', '{"n":5}'), message(8, "")
    local bytes = binary(one) .. frame.frame(PING, "x") .. binary(two) .. frame.frame(TEXT, "text") .. binary "\8"
    for _, piece in ipairs { #bytes, 1, 2, 3, 5, 7, 20 } do
      local items = read(frame.path(rules()), bytes, piece)
      assert.equal(5, #items)
      assert.same({ '{"id":7,"head":{"a":"b"},"body":{"n":5}}', one, "5" }, { items[1].data, items[1].raw, items[1].fields.n.integer })
      assert.equal("ping", items[2].kind)
      assert.same({ '{"id":8,"head":{}}', two }, { items[3].data, items[3].raw })
      assert.is_true(items[4].malformed)
      assert.same({ true, "\8", "\8" }, { items[5].malformed, items[5].data, items[5].raw })
    end
  end)

  it("that is empty is no message of a layout with a required field, and harms nothing", function ()
    local path = frame.path(rules())
    local items = read(path, binary "" .. binary(message(1, "")))
    assert.same({ true, "", "message" }, { items[1].malformed, items[1].data, items[2].kind })
  end)

  it("over the message limit ends the link", function ()
    local items = read(frame.path(rules { message_max = 1024 }), binary(message(1, "", '"' .. ("x"):rep(2000) .. '"')))
    assert.same({ "error", "too big" }, { items[1].kind, items[1].error })
  end)

  it("whose JSON grows far beyond it travels as its bytes", function ()
    local body = '"' .. ("x"):rep(100) .. '"'
    local heads = {}
    for i = 1, 150 do heads[i] = protobuf.pair(2, "k" .. i, ("\1"):rep(60)) end
    local one = message(1, "", body) .. table.concat(heads)
    local items = read(frame.path(rules { message_max = 16384 }), binary(one))
    assert.same({ true, one }, { items[1].malformed, items[1].data })
  end)

  it("leaves little behind when it was big", function ()
    local path = frame.path(rules { message_max = 1048576 })
    read(path, binary(message(1, "", '"' .. ("x"):rep(500000) .. '"')))
    local items = read(path, binary(message(2, "")))
    assert.equal('{"id":2,"head":{}}', items[1].data)
  end)
end)

describe("parts", function ()
  it("are one message when the last has come, with that one's other fields, however the bytes are cut", function ()
    local bytes = binary(part(2, 3, "}")) .. binary(part(0, 3, '{"n":')) .. binary(message(9, "", "true")) .. binary(part(1, 3, "6"))
    for _, piece in ipairs { #bytes, 1, 4, 9 } do
      local items = read(frame.path(rules()), bytes, piece)
      assert.equal(2, #items)
      assert.equal('{"id":9,"head":{},"body":true}', items[1].data)
      assert.equal('{"id":1,"head":{"key":"k","seq":"1","sum":"3"},"body":{"n":6}}', items[2].data)
      assert.equal("6", items[2].fields.n.integer)
      assert.equal(part(1, 3, '{"n":6}'), items[2].raw)
    end
  end)

  it("that are one of one are whole at once, also without a key", function ()
    assert.equal(1, #read(frame.path(rules()), binary(message(1, '"seq":"0","sum":"1"', "{}"))))
  end)

  it("that make no sense are counted and gone", function ()
    local path = frame.path(rules())
    for _, head in ipairs { '"key":"k","seq":"2","sum":"2"', '"key":"k","seq":"0","sum":"0"', '"key":"k","seq":"x","sum":"2"',
      '"key":"k","seq":"0","sum":"17"', '"key":"k","sum":"2"', '"seq":"0","sum":"2"', '"key":"k","seq":"0","sum":"1e1"',
      '"key":"k","seq":"0","sum":"99999999999"' } do
      assert.equal(0, #read(path, binary(message(1, head, "{}"))))
    end
    assert.equal(8, path:refused())
  end)

  it("grow old by the caller's clock", function ()
    local path = frame.path(rules())
    path:now(1000)
    assert.equal(0, #read(path, binary(part(0, 2, "{"))))
    path:now(11000)
    assert.equal(0, #read(path, binary(part(1, 2, "}"))))
    path:now(20999)
    assert.equal(1, #read(path, binary(part(0, 2, "{"))))
  end)

  it("together over the bytes of the limit are refused, and the link goes on", function ()
    local path = frame.path(rules { join = { "key", "seq", "sum", 3, 10000, 16, 4096 } })
    assert.equal(0, #read(path, binary(part(0, 2, ("x"):rep(3000))) .. binary(part(1, 2, ("x"):rep(3000)))))
    assert.equal(1, path:refused())
    assert.equal(1, #read(path, binary(message(1, ""))))
  end)
end)
