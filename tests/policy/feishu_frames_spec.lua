-- Feishu's frames: acknowledgements (S23, S24, S30, S33), parts (S25 to S28), pushes that come again (S29), hostile
-- ones (S31), and what consumers reply to cards.
local sim = require "holdfast.sim"
local world = require "feishu_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local function start(options)
  s, p = world.new(options)
  s:up("a", "10s")
  return s:consumer { name = "bot", connections = { "a" } }
end

local BIG = "81808080808080808001" -- 0x8000000000000001

local function varint(n)
  local out = ""
  repeat
    local low = n % 128
    n = (n - low) / 128
    out = out .. ("%02x"):format(n > 0 and low + 128 or low)
  until n == 0
  return out
end

local function hex(text) return (text:gsub(".", function (c) return ("%02x"):format(c:byte()) end)) end

-- What the acknowledgement of a frame has to be, from the frame alone: its bytes with one header more and another
-- payload. All in hex; `between` is what stands between the headers and the payload, `tail` behind it.
local function expected_ack(sent, payload, between, tail)
  between, tail = between or "", tail or ""
  local front = sent:sub(1, #sent - #between - #payload - #tail)
  assert.equal(sent, front .. between .. payload .. tail)
  return front .. "2a0b0a0662697a5f7274120130" .. between .. "420c" .. hex '{"code":200}' .. tail
end

local function field8(text) return "42" .. varint(#text) .. hex(text) end

describe("an event", function ()
  it("S23 is acknowledged within 50 ms, once it is on disk: all its headers in order, its numbers, biz_rt, code 200", function ()
    local c = start()
    p:control("push", { payload = '{"header":{"event_id":"e1"}}' })
    local pushed = s:now()
    s:run_until(function () return #p:control "acks" == 1 end, "1s")
    local ack = p:control("acks")[1]
    assert.is_nil(ack.fault)
    assert.is_true(s:now() - pushed <= 50 + 40, "after " .. s:now() - pushed)   -- and a round trip
    assert.equal('{"code":200}', ack.payload)
    assert.equal(expected_ack(ack.sent, field8 '{"header":{"event_id":"e1"}}'), ack.hex)
    assert.equal(1, #c:events())
    s:close()
  end)

  it("S23 with 64-bit numbers comes back with exactly these", function ()
    local c = start()
    p:control("push", { SeqID = BIG, LogID = "ffffffffffffffffff01", payload = "{}" })
    s:advance "1s"
    local ack = p:control("acks")[1]
    assert.is_nil(ack.fault)
    assert.equal("08" .. BIG .. "10ffffffffffffffffff01", ack.hex:sub(1, 44))
    local frame = c:events()[1].frame
    assert.equal("9223372036854775809", frame.SeqID)
    assert.equal("18446744073709551615", frame.LogID)
    s:close()
  end)

  it("S24 keeps its optional fields, and those that nobody knows", function ()
    local c = start()
    p:control("push", { payload = "{}", payload_encoding = "none", payload_type = "json", LogIDNew = "log-1",
      more = "5007" .. "a20601ff" })
    s:advance "1s"
    local ack = p:control("acks")[1]
    assert.is_nil(ack.fault)
    assert.equal(expected_ack(ack.sent, field8 "{}", "3204" .. hex "none" .. "3a04" .. hex "json", "4a05" .. hex "log-1" .. "5007" .. "a20601ff"), ack.hex)
    local frame = c:events()[1].frame -- and the consumer sees all that have a name
    assert.same({ "none", "json", "log-1", 1 }, { frame.payload_encoding, frame.payload_type, frame.LogIDNew, frame.method })
    p:control("push", { payload = "{}" })
    s:advance "1s"
    assert.is_nil(p:control("acks")[2].fault)   -- the peer also refuses fields that it did not send
    s:close()
  end)

  it("is acknowledged only when the disk has it", function ()
    start()
    s:fault("store_delay", { ms = "700ms", lasts = "5s" })
    p:control "push"
    s:advance "600ms"
    assert.equal(0, #p:control "acks")
    s:advance "1s"
    assert.equal(1, #p:control "acks")
    s:close()
  end)

  it("that the disk did not take is pushed again, and comes once", function ()
    local c = start()
    s:fault("store_fail", { lasts = "5s" })
    p:control "push"
    s:advance "10s"
    assert.equal(0, #p:control "acks")
    s:advance "10s"
    assert.equal(0, p:control("stats").unacked)
    assert.same({ 1 }, world.numbers(c))
    s:close()
  end)

  it("of a burst of 500 is acknowledged once and delivered in order", function ()
    local c = start()
    p:control("push", { count = 500 })
    s:advance "5s"
    local stats = p:control "stats"
    assert.equal(500, stats.acks)
    assert.equal(0, stats.acks_wrong + stats.acks_again + stats.acks_unknown + stats.acks_late)
    local numbers = world.numbers(c)
    assert.equal(500, #numbers)
    for i, n in ipairs(numbers) do assert.equal(i, n) end
    s:close()
  end)

  it("S30 whose link is gone before the acknowledgement is pushed again, acknowledged then, and comes once", function ()
    local c = start()
    s:fault("store_delay", { ms = "5s", times = 1 })
    p:control "push"
    s:advance "100ms"
    p:control "abort"
    s:advance "30s"
    assert.equal("up", s:state "a")
    local stats = p:control "stats"
    assert.equal(0, stats.unacked)
    assert.equal(0, stats.acks_wrong)
    assert.same({ 1 }, world.numbers(c))
    s:close()
  end)

  it("S29 that is pushed again after 15 s, 5 min, 1 h and 6 h, with a restart between, comes once and is acknowledged each time", function ()
    local c = start { sim = {} }
    p:control("push", { event_id = "same" })
    local pushed = s:now()
    for i, after in ipairs { 15000, 300000, 3600000, 21600000 } do
      s:advance(pushed + after - s:now())
      if i == 3 then
        s:crash "1s"
        s:up("a", "1m")
      end
      p:control "again"
      s:advance "2s"
    end
    local acks = p:control "acks"
    assert.equal(5, #acks)
    for _, ack in ipairs(acks) do assert.is_nil(ack.fault) end
    -- After the restart the consumer, which acknowledged nothing, gets the same position once more.
    for _, e in ipairs(c:events()) do assert.equal(1, e.offset) end
    assert.equal(4, s:json("a").frames.duplicate + 2)   -- counted by the process: two before, two after it
    s:close()
  end)

  it("of the old form, without an event_id, is delivered and acknowledged each time", function ()
    local c = start()
    p:control("push", { payload = '{"uuid":"u1","event":{"number":7}}' })
    p:control "again"
    s:advance "1s"
    assert.equal(2, #p:control "acks")
    assert.same({ 7, 7 }, world.numbers(c))
    s:close()
  end)

  it("with a payload that is no JSON is delivered as base64, and acknowledged", function ()
    local c = start()
    p:control("push", { payload = "not json \255" })
    s:advance "1s"
    local frame = c:events()[1].frame
    assert.equal("bm90IGpzb24g/w==", frame.payload_base64)
    assert.is_nil(frame.payload)
    assert.is_nil(p:control("acks")[1].fault)
    s:close()
  end)

  it("comes once though two links are up, whichever it is pushed to", function ()
    local c = start { peer = { events_every = 5000 } }
    s:advance "2h"
    assert.equal(p:control("stats").events, #c:events())
    s:close()
  end)
end)

describe("parts", function ()
  it("S25 of one event in another order are one event and one acknowledgement, of the frame that came last", function ()
    local c = start()
    p:control("push", { parts = 2, order = { 1, 0 } })
    s:advance "1s"
    assert.same({ 1 }, world.numbers(c))
    local acks = p:control "acks"
    assert.equal(1, #acks)
    assert.equal(0, acks[1].seq)
    assert.is_nil(acks[1].fault)
    assert.equal("0", c:events()[1].frame.headers.seq)
    s:close()
  end)

  it("are joined to what was cut, in any order, many of them", function ()
    local c = start()
    for parts = 2, 20 do
      local order = {}
      for i = 0, parts - 1 do order[#order + 1] = (i * 7 + 3) % parts end
      if parts % 7 ~= 0 then p:control("push", { parts = parts, order = order }) end
    end
    s:advance "2s"
    local stats = p:control "stats"
    assert.equal(stats.events, stats.acks)
    assert.equal(stats.events, #c:events())
    s:close()
  end)

  it("S26 that stay incomplete for 10 s are forgotten without an acknowledgement, and a whole push is one event", function ()
    local c = start()
    p:control("push", { parts = 2, order = { 0 } })
    s:advance "11s"
    assert.equal(0, #p:control "acks")
    p:control("again", { parts = 2 })
    s:advance "1s"
    assert.equal(1, #p:control "acks")
    assert.same({ 1 }, world.numbers(c))
    s:close()
  end)

  it("S26 whose second half comes after 10 s are no event", function ()
    local c = start()
    local headers = function (seq) return { { "type", "event" }, { "message_id", "m" }, { "sum", "2" }, { "seq", seq } } end
    p:control("frame", { service = 33554678, method = 1, headers = headers "0", payload = '{"a":' })
    s:advance "9s"
    p:control("frame", { service = 33554678, method = 1, headers = headers "1", payload = "1}" })
    s:advance "1s"
    assert.equal(1, #c:events())
    p:control("frame", { service = 33554678, method = 1, headers = headers "0", payload = '{"a":' })
    s:advance "10100ms"
    p:control("frame", { service = 33554678, method = 1, headers = headers "1", payload = "1}" })
    s:advance "1s"
    assert.equal(1, #c:events())
    s:close()
  end)

  it("S27 that make no sense are ignored and counted, and the link stays", function ()
    local c = start()
    local generation = s:view("a").generation
    for _, case in ipairs { { "2", "5" }, { "0", "0" }, { "1000000", "3" }, { "x", "0" }, { "2", "y" }, { "-1", "0" }, { "2", "-1" },
      { "", "" }, { "257", "0" }, { "1", "1" }, { "99999999999999999999", "0" }, { "2.0", "0" } } do
      p:control("frame", { service = 33554678, method = 1, payload = "{}",
        headers = { { "type", "event" }, { "message_id", "m" }, { "sum", case[1] }, { "seq", case[2] } } })
    end
    p:control("frame", { service = 33554678, method = 1, payload = "{}", headers = { { "type", "event" }, { "sum", "2" }, { "seq", "0" } } })
    s:advance "15s"
    assert.equal(13, s:view("a").parts_refused)
    assert.equal(0, #c:events())
    assert.equal(generation, s:view("a").generation)
    s:close()
  end)

  it("S28 of which one in the middle is empty are whole when all are there", function ()
    local c = start()
    local headers = function (seq) return { { "type", "event" }, { "message_id", "m" }, { "sum", "3" }, { "seq", seq } } end
    p:control("frame", { service = 33554678, method = 1, headers = headers "0", payload = '{"a":' })
    p:control("frame", { service = 33554678, method = 1, headers = headers "1" })
    p:control("frame", { service = 33554678, method = 1, headers = headers "2", payload = "1}" })
    s:advance "1s"
    assert.same({ a = 1 }, c:events()[1].frame.payload)
    s:close()
  end)

  it("do not outlive their link", function ()
    local c = start()
    local headers = function (seq) return { { "type", "event" }, { "message_id", "m" }, { "sum", "2" }, { "seq", seq } } end
    p:control("frame", { service = 33554678, method = 1, headers = headers "0", payload = '{"a":' })
    s:advance "100ms"
    p:control "abort"
    s:run_until(function () return s:view("a").generation == 2 and s:state "a" == "up" end, "10s")
    p:control("frame", { service = 33554678, method = 1, headers = headers "1", payload = "1}" })
    s:advance "1s"
    assert.equal(0, #c:events())
    s:close()
  end)
end)

describe("S31 a link", function ()
  for name, raw in pairs {
    ["a text message"] = { text = '{"type":"event"}' },
    ["random bytes"] = { hex = "deadbeef0102" },
    ["a frame without SeqID"] = { hex = "100118012000" },
    ["a frame without LogID"] = { hex = "080118012000" },
    ["a frame without a service"] = { hex = "080110012000" },
    ["a frame without a method"] = { hex = "080110011801" },
    ["no bytes at all"] = { hex = "" },
    ["half a frame"] = { hex = "0800100018f681801020002a0c0a04" },
  } do
    it("stays up after " .. name .. ", and hands it on as it is", function ()
      local c = start()
      p:control("raw", raw)
      p:control "push"
      s:advance "2s"
      assert.equal("up", s:state "a")
      assert.equal(1, #s:dials "a")
      assert.equal(1, p:control("stats").acks)
      local events = c:events()
      assert.equal(2, #events)
      assert.is_true(events[1].malformed)
      assert.equal(1, events[2].frame.payload.event.number)
      s:close()
    end)
  end

  for name, frame in pairs {
    ["an unknown method"] = { method = 7, headers = { { "type", "event2" } } },
    ["an unknown type"] = { method = 1, headers = { { "type", "news" } }, payload = "{}" },
    ["no headers at all"] = { method = 1, payload = "{}" },
    ["a pong that nobody asked for"] = { method = 0, headers = { { "type", "pong" } }, payload = "{" },
  } do
    it("stays up after a frame with " .. name .. ", which nobody gets", function ()
      local c = start()
      frame.service = 33554678
      p:control("frame", frame)
      s:advance "2s"
      assert.equal("up", s:state "a")
      assert.equal(0, #c:events())
      assert.equal(0, #p:control "acks")
      s:close()
    end)
  end

  it("S33 neither acknowledges nor delivers a frame of the type card, and counts it", function ()
    local c = start()
    local other = s:json("a").frames.other
    p:control("frame", { service = 33554678, method = 1, payload = "{}",
      headers = { { "type", "card" }, { "message_id", "m" }, { "sum", "1" }, { "seq", "0" } } })
    s:advance "2s"
    assert.equal(0, #c:events())
    assert.equal(0, #p:control "acks")
    assert.equal(other + 1, s:json("a").frames.other)
    s:close()
  end)
end)

describe("a card's callback", function ()
  local function card(options)
    options = options or {}
    s, p = world.new { settings = { owner = options.owner }, sim = { trace = true } }
    s:up("a", "10s")
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("push", { kind = "card.action.trigger" })
    s:advance "200ms"
    return c
  end

  it("is answered with what the owner replies, in base64, as the SDKs do", function ()
    local c = card { owner = "bot" }
    assert.equal(0, #p:control "acks")
    local event = c:events()[1]
    c:input(sim.encode { ack = { connection = "a", epoch = event.epoch, offset = event.offset,
      frame = { toast = { type = "info", content = "done" } } } } .. "\n")
    s:advance "200ms"
    local ack = p:control("acks")[1]
    assert.is_nil(ack.fault)
    local payload = sim.decode(ack.payload)
    assert.equal(200, payload.code)
    -- {"toast":{"content":"done","type":"info"}}
    assert.equal("eyJ0b2FzdCI6eyJjb250ZW50IjoiZG9uZSIsInR5cGUiOiJpbmZvIn19", payload.data)
    s:close()
  end)

  it("that the owner acknowledges without a reply is answered with code 200", function ()
    local c = card { owner = "bot" }
    c:ack "a"
    s:advance "200ms"
    assert.equal('{"code":200}', p:control("acks")[1].payload)
    assert.is_nil(p:control("acks")[1].fault)
    s:close()
  end)

  it("that the owner leaves for 3 s is pushed again, and delivered again", function ()
    local c = card { owner = "bot" }
    s:advance "16s"
    assert.equal(0, #p:control "acks")
    assert.equal(2, #c:events())
    c:ack "a"
    s:advance "1s"
    assert.equal(0, p:control("stats").unacked)
    s:close()
  end)

  it("is acknowledged at once where no consumer owns the connection", function ()
    card()
    assert.equal('{"code":200}', p:control("acks")[1].payload)
    s:close()
  end)

  it("does not make events wait for the owner", function ()
    card { owner = "bot" }
    p:control "push"
    s:advance "200ms"
    assert.equal(1, #p:control "acks")
    assert.equal(2, p:control("acks")[1].number)
    s:close()
  end)
end)
