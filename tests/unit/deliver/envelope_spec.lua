local deliver = require "unit.deliver"
local support = require "deliver_support"

describe("an NDJSON line", function ()
  local box, stream, reader
  before_each(function ()
    box = deliver.new { epoch = 3 }
    stream = box:stream "support-bot"
    reader = box:attach {}
    box:read(reader)
  end)
  after_each(function () box:close() end)

  local function line_of(data, options)
    box:append(stream, data, options)
    box:pump()
    return (box:read(reader))
  end

  it("of hello says version, consumer and that the backlog is in memory", function ()
    local named = box:attach { consumer = "bot-a" }
    assert.equal('{"hello":{"version":1,"consumer":"bot-a","backlog":"memory"}}\n', (box:read(named)))
    local anonymous = box:attach {}
    assert.equal('{"hello":{"version":1,"consumer":null,"backlog":"memory"}}\n', (box:read(anonymous)))
  end)

  it("of an event has exactly the documented form, the frame verbatim", function ()
    local frame = '{ "op": 0,  "s": 12345678901234567890, "t":"MESSAGE_CREATE" }'
    assert.equal('{"event":{"connection":"support-bot","epoch":3,"offset":1,"at":"2026-11-22T10:00:00.123Z",'
      .. '"take":{"op":0,"kind":"MESSAGE_CREATE"},"frame":' .. frame .. '}}\n',
      line_of(frame, { take = { { "op", "op" }, { "kind", "t" }, { "gone", "x.y" } } }))
  end)

  it("keeps every kind of taken scalar as JSON, and leaves objects and lists to the frame", function ()
    local line = line_of('{"a":1.0,"b":1.5e3,"c":"q\\"\\u00e9","d":null,"e":true,"f":{"x":[1,\n2]}}',
      { take = { { "a", "a" }, { "b", "b" }, { "c", "c" }, { "d", "d" }, { "e", "e" }, { "f", "f" } } })
    assert.truthy(line:find('"take":{"a":1,"b":', 1, true))
    local event = support.lines(line)[1].event
    assert.equal('q"\195\169', event.take.c)
    assert.equal(1500, event.take.b)
    assert.is_true(event.take.e)
    assert.is_nil(event.take.f)
    assert.equal(require "dkjson".null, event.take.d)
  end)

  it("carries what is not JSON as base64, marked as malformed", function ()
    assert.equal('{"event":{"connection":"support-bot","epoch":3,"offset":1,"at":"2026-11-22T10:00:00.123Z",'
      .. '"frame_base64":"eyJvcCI6MCw=","malformed":true}}\n', line_of '{"op":0,')
  end)

  it("says each frame's own time, across seconds in any order", function ()
    local times = {}
    for _, wall in ipairs { 1795341600000, 1795341600999, 1795341601007, 1795341600050, 0, 86399999, 4102444799999 } do
      times[#times + 1] = tostring(support.lines(line_of("1", { wall = wall }))[1].event.at)
    end
    times[5] = times[5] == tostring(require "dkjson".null) and "null" or times[5]
    assert.same({ "2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00.999Z", "2026-11-22T10:00:01.007Z",
      "2026-11-22T10:00:00.050Z", "null", "1970-01-01T23:59:59.999Z", "2099-12-31T23:59:59.999Z" }, times)
  end)

  it("carries bytes as base64 without calling them malformed", function ()
    local line = line_of("\0\1\2\255", { bytes = true })
    assert.truthy(line:find('"frame_base64":"AAEC/w=="}}', 1, true))
    assert.falsy(line:find("malformed", 1, true))
  end)

  it("cannot be forged or broken by any byte of a malformed frame", function ()
    local seed = 7
    for _ = 1, 400 do
      local bytes = {}
      for i = 1, 40 do
        seed = (seed * 1103515245 + 12345) % 2147483648
        bytes[i] = string.char(math.floor(seed / 65536) % 256)
      end
      local frame = '{"op":"' .. table.concat(bytes) .. '","t":"a\nb'
      local lines = support.lines(line_of(frame, { take = { { "op", "op" }, { "t", "t" } } }))
      assert.equal(1, #lines)
      assert.is_true(lines[1].event.malformed)
    end
  end)

  it("escapes a connection's name", function ()
    local odd = box:stream 'a"b\\c\n'
    box:append(odd, "{}")
    box:pump()
    local lines = support.lines((box:read(reader)))
    assert.equal('a"b\\c\n', lines[1].event.connection)
  end)

  it("of a state says since, cause and next", function ()
    box:state(stream, "waiting", { since = 1795341600000, next = 1795341601400, attempt = 2, cause = true })
    box:pump()
    assert.equal('{"state":{"connection":"support-bot","state":"waiting","since":"2026-11-22T10:00:00.000Z",'
      .. '"attempt":2,"cause":{"stage":"ready","kind":"closed","name":"closed","by":"peer","close_code":4009,'
      .. '"age_ms":1500,"reason":"\\"bye\\"\\n"},"next":"2026-11-22T10:00:01.400Z","what":"dial"}}\n',
      (box:read(reader)))
    box:state(stream, "up", {})
    box:pump()
    assert.truthy(box:read(reader):find('"state":"up","since":"2026-11-22T10:00:00.000Z","attempt":0,"cause":null,"next":null}}', 1, true))
  end)

  it("of a gap says after which frame, between which times, and how certain", function ()
    box:append(stream, "{}", { wall = 1795341600123 })
    box:gap(stream, "session lost", false, 1795341600500)
    box:pump()
    local _, second = box:read(reader):match "([^\n]*\n)([^\n]*\n)"
    assert.equal('{"gap":{"connection":"support-bot","epoch":3,"after":1,"from":"2026-11-22T10:00:00.123Z",'
      .. '"to":"2026-11-22T10:00:00.500Z","cause":"session lost","certain":false}}\n', second)
  end)
end)
