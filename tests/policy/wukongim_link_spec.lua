-- WuKongIM's scenarios S15 to S26: packets, acknowledgements, versions, and how long a link lives. S23 and S24 are
-- about an SDK behind holdfast as a proxy: there is no such mode.
local sim = require "holdfast.sim"
local world = require "wukongim_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local function registers(from) return world.logged(p, "register", from) end
local function stat(name) return p:control("stats")[name] end

describe("what is sent", function ()
  it("S15 begins with CONNECT alone: beats and consumers' frames wait for CONNACK", function ()
    s, p = world.new { peer = { faults = { stall = 1 } } }
    s:run_until(function () return #world.packets(s, "a", "out", "connect") == 1 end, "10s")
    local send = s:send("a", { packet = "send", channel_id = "u_alice", channel_type = 1, client_seq = 7,
                               client_msg_no = "x", payload = { type = 1, content = "pong" } })
    s:up("a", "1m")
    s:advance "1s"
    assert.equal(0, stat "not_alone")
    assert.equal(0, stat "early")
    assert.equal(0, stat "late_connect")
    -- A send of a greeting that failed is refused, and said to be worth repeating; none is lost in silence.
    assert.is_truthy(send:answer())
    local first = {}
    for _, m in ipairs(world.packets(s, "a", "out")) do first[m.generation] = first[m.generation] or m.packet.packet end
    assert.same({ "connect", "connect" }, first)
    s:close()
  end)

  it("by a consumer is encrypted, signed and answered", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    local send = s:send("a", { packet = "send", channel_id = "u_alice", channel_type = 1, client_seq = 7,
                               client_msg_no = "x", payload = { type = 1, content = "pong ä" } })
    s:advance "1s"
    assert.is_true(send:answer().sent)
    local got = stat "last_send"
    assert.equal("pong ä", got.payload.content)
    assert.is_nil(got.fault)
    local acks = {}
    for _, e in ipairs(c:events()) do
      if e.frame.packet == "sendack" then acks[#acks + 1] = e.frame end
    end
    assert.equal(1, #acks)
    assert.equal(7, acks[1].client_seq)
    assert.equal(1, acks[1].reason_code)
    s:close()
  end)

  it("by a consumer is refused with a sentence when it is no packet, or none of its business", function ()
    s, p = world.settled()
    for frame, why in pairs {
      ['{"packet":"send","channel_id":"a"}'] = "`channel_type` is missing",
      ['{"packet":"recvack","message_id":"1","message_seq":1}'] = "does not accept",
      ['{"packet":"connect","version":5,"uid":"x","token":"y","device_id":"z"}'] = "does not accept",
      ['{"packet":"ping"}'] = "does not accept",
    } do
      local send = s:send("a", frame)
      s:advance "1s"
      local answer = send:answer()
      assert.is_true(answer.refused, frame)
      assert.truthy(answer.why:find(why, 1, true), answer.why)
    end
    assert.equal("up", s:state "a")
    assert.equal(1, stat "connects")
    s:close()
  end)
end)

describe("messages", function ()
  it("S16 are taken whole when many share one WebSocket message, and when each byte has its own", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("message", { count = 50, joined = true })
    s:advance "1s"
    assert.equal(50, #world.numbers(c))
    assert.equal(50, stat "acks")
    assert.is_true(stat "ack_messages" <= 3, stat "ack_messages" .. " messages with acknowledgements")
    p:control("fault", { split = 1 })
    p:control("message", { count = 1 })
    s:advance "1s"
    local numbers = world.numbers(c)
    for i = 1, 51 do assert.equal(i, numbers[i]) end
    assert.equal(51, stat "acks")
    assert.equal(0, stat "unacked")
    s:close()
  end)

  it("is delivered although the answer to a send has its number: that is another packet", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:send("a", { packet = "send", channel_id = "u_bot", channel_type = 1, client_seq = 7, client_msg_no = "x", payload = { type = 1, content = "to myself" } })
    s:advance "1s"
    local ids = {}
    local function look() for _, e in ipairs(c:events()) do ids[e.frame.packet] = e.frame.message_id end end
    look()
    p:control("message", { id = ids.sendack })
    s:advance "1s"
    look()
    assert.is_truthy(ids.recv)
    assert.equal(ids.sendack, ids.recv)
    s:close()
  end)

  it("S17 whose acknowledgement is held for 70 s come again, are delivered once and acknowledged twice", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    -- The server looks every 30 s for what is older than 60 s: here 65 s after it was sent.
    s:advance(world.logged(p, "connect")[1].at + 55000 - s:now())
    s:fault("store_delay", { ms = 70000, lasts = "1s" })
    p:control("message", { count = 1 })
    s:advance "150s"
    assert.equal(1, stat "resent")
    assert.same({ 1 }, world.numbers(c))
    assert.equal(2, stat "acks")
    assert.equal(1, stat "acks_double")
    assert.equal(0, stat "acks_unknown")
    s:close()
  end)

  it("S18 that are safe come to the consumer once, when the process dies before the acknowledgement left", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:advance "1s"
    c:detach()
    local safe = s:disk("a").safe
    p:control("message", { count = 1 })
    s:run_until(function () return (s:disk("a").safe or 0) > (safe or 0) end, "10s")
    assert.equal(0, stat "acks")
    s:crash "1s"
    s:up("a", "1m")
    assert(c:attach "cursor")
    s:advance "5s"
    assert.same({ 1 }, world.numbers(c))
    s:close()
  end)

  it("are known again after a restart: what is sent a second time is delivered once", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("message", { count = 1 })
    s:advance "1s"
    c:ack "a"
    s:advance "1s"
    local again = world.packets(s, "a", "in", "recv")[1].packet
    assert.is_true(s:restart_process "1s")
    s:up("a", "1m")
    -- The same message_id from a server that lost our acknowledgement.
    p:control("repeat_message", { packet = again })
    s:advance "1s"
    assert.same({ 1 }, world.numbers(c))
    assert.equal(2, stat "acks")
    s:close()
  end)

  it("S21 of version 4 with stream fields are delivered and acknowledged under their own id", function ()
    s, p = world.settled { peer = { latest = 4 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("message", { count = 1, setting = 2, stream = true })
    s:advance "1s"
    local frame = c:events()[1].frame
    assert.equal("1906561204000000001", frame.message_id)
    assert.equal(frame.message_id, frame.stream_id)
    assert.equal(1, stat "acks")
    assert.equal(0, stat "acks_unknown")
    assert.equal(0, stat "unacked")
    s:close()
  end)

  it("S22 are plain where the server does not encrypt", function ()
    s, p = world.settled { peer = { plain = true } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("message", { count = 2 })
    s:advance "1s"
    assert.same({ 1, 2 }, world.numbers(c))
    assert.equal(2, stat "acks")
    s:close()
  end)

  for version = 3, 6 do
    it("go through at version " .. version, function ()
      s, p = world.settled { peer = { latest = version } }
      local c = s:consumer { name = "bot", connections = { "a" } }
      p:control("message", { count = 3, channel = "g_1", channel_type = 2 })
      s:advance "1s"
      assert.same({ 1, 2, 3 }, world.numbers(c))
      local last = c:events()[#c:events()]
      assert.same({ "recv", "g_1", 2, last.frame.from_uid }, { last.take.packet, last.take.channel, last.take.channel_type, last.take.from })
      assert.is_string(last.take.from)
      assert.equal(3, stat "acks")
      assert.equal(0, stat "faults")
      -- We ask for 5, whatever the server could do.
      assert.equal(5, world.logged(p, "connect")[1].version)
      s:close()
    end)
  end

  it("that are not to be kept are acknowledged with the two flags that the server reads", function ()
    s, p = world.settled()
    p:control("message", { count = 1, flags = { no_persist = true, sync_once = true, red_dot = true } })
    s:advance "1s"
    local ack = world.packets(s, "a", "out", "recvack")[1].packet
    assert.is_true(ack.flags.no_persist and ack.flags.sync_once)
    assert.equal(0, stat "acks_unknown")
    s:close()
  end)

  it("that cannot be decrypted are delivered as they are, acknowledged, and end nothing", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    -- A RECV of version 5 whose payload is no base64: setting, key "", from "", channel "", ... id 7, seq 1.
    local body = "00" .. "0000" .. "0000" .. "0000" .. "01" .. "00000000" .. "0000" .. "0000000000000007" .. "00000001"
      .. "00000000" .. "2121"
    p:control("raw", { hex = ("50%02x"):format(#body / 2) .. body })
    s:advance "1s"
    local frame = c:events()[1].frame
    assert.equal("payload", frame.fault)
    assert.equal("ISE=", frame.payload_base64)
    assert.equal("7", world.packets(s, "a", "out", "recvack")[1].packet.message_id)
    assert.equal(1, s:view("a").malformed)
    assert.equal("up", s:state "a")
    s:close()
  end)

  it("that are no packets end the link with a word about it", function ()
    s, p = world.settled()
    p:control("raw", { hex = "50ffffffff01" })
    world.back(s, "a", "1m")
    local cause = world.journal(s, "a", "decision")[1].decision.cause
    assert.equal("protocol", cause.name)
    assert.truthy(cause.reason:find("more than 4 bytes", 1, true), cause.reason)
    s:close()
  end)
end)

describe("a link", function ()
  for _, line in ipairs { "2.x", "main" } do
    it("S19 that never lasts longer than 4 s is a conflict, not a reason to register: " .. line, function ()
      -- The sheet asks for one refresh here and, for the rebuilt server, for a conflict: a register would kick the
      -- other side back, so it is a conflict on all of them.
      s, p = world.settled { peer = { line = line }, sim = { trace = true } }
      local from = s:now()
      p:control("fault", { close_after = 4000 })
      p:control "close"
      s:advance "10m"
      local dials = world.dials(s, "a", from)
      assert.is_true(#dials <= 20 and #dials >= 5, #dials .. " dials")
      assert.equal(0, #registers(from))
      local _, alarms = s:trace():gsub("effect alarm each session ends within seconds: perhaps another installation", "")
      assert.equal(1, alarms)
      local attempt = 0
      for _, d in ipairs(world.journal(s, "a", "decision")) do
        assert.is_true(d.decision.attempt > attempt, "the backoff was reset")
        attempt = d.decision.attempt
      end
      s:close()
    end)
  end

  it("S20 that held for 31 s sets the delays back to their base; one of 29 s does not", function ()
    for _, case in ipairs { { 31000, 1 }, { 29000, 6 } } do
      s, p = world.new { peer = { faults = { upgrade = { status = 503, times = 5 } } } }
      s:up("a", "5m")
      s:advance(case[1])
      local from = s:now()
      p:control "close"
      world.back(s, "a", "2m")
      local decisions = world.journal(s, "a", "decision")
      assert.equal(case[2], decisions[#decisions].decision.attempt)
      if case[2] == 1 then assert.is_true(world.dials(s, "a", from)[1] - from <= 3000 + 200) end
      s:abandon()
    end
    s, p = nil, nil
  end)

  it("S25 does not care what time the server says it is", function ()
    for _, diff in ipairs { -1500, 3600000, -4102444800000 } do
      s, p = world.settled { peer = { faults = { time_diff = diff } } }
      s:quiet("10m", "a")
      assert.equal(1, stat "connects")
      s:close()
    end
    s, p = nil, nil
  end)

  it("S26 and its policy may be read anew in the middle of a storm: no dial is lost, none is added", function ()
    s, p = world.new { peer = { faults = { kick_after = { ms = 2000 } } } }
    for i = 1, 14 do world.connect(s, p, "b" .. i, { bot_token = s:secret(("bf_%032d"):format(i), "bot_token") }) end
    s:at("3s", function () s:fault "reload" end)
    s:at("3500ms", function () s:fault "reload" end)
    s:advance "60s"
    for _, name in ipairs(s.names) do
      local n = #world.dials(s, name)
      assert.is_true(n >= 2 and n <= 8, name .. ": " .. n .. " dials")
      assert.equal(1, s:descriptors(name).most)
    end
    assert.equal(15, #registers())
    p:control "heal"
    for _, name in ipairs(s.names) do s:up(name, "11m") end
    s:close()
  end)

  it("lives for a day of quiet, and is beaten all the while", function ()
    s, p = world.settled { sim = { memory = true } }
    s:quiet("24h", "a")
    assert.equal(1, stat "connects")
    assert.equal(1, #registers())
    assert.is_true(stat "pings" > 3400 and stat "pings" < 3500, stat "pings" .. " pings")
    assert.is_true(stat "heartbeats" > 2800, stat "heartbeats" .. " heartbeats")
    assert.equal(0, stat "idle_closed")
    s:close()
  end)

  it("lives for a day of messages, and each is delivered and acknowledged once", function ()
    s, p = world.settled { sim = { memory = true }, peer = { events_every = 60000 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:quiet("24h", "a")
    local numbers, made = world.numbers(c), p:control("sent")[world.UID]
    assert.is_true(#numbers >= 1435 and made - #numbers <= 1)
    for i = 2, #numbers do assert.equal(numbers[i - 1] + 1, numbers[i]) end
    assert.equal(0, stat "resent")
    assert.equal(0, stat "acks_double")
    s:close()
  end)

  it("is made under one device id, over restarts too, and another installation has another", function ()
    s, p = world.settled()
    -- Links first: the draws of a new process are those of the old one here.
    p:control "close"
    world.back(s, "a", "1m")
    s:restart_process "1s"
    s:up("a", "1m")
    p:control "close"
    world.back(s, "a", "1m")
    s:crash "1s"
    s:up("a", "1m")
    local connects = world.logged(p, "connect")
    assert.equal(5, #connects)
    for i = 2, 5 do assert.equal(connects[1].device, connects[i].device) end
    assert.truthy(connects[1].device:find "^%x+$")
    assert.equal(32, #connects[1].device)
    local s2, p2 = world.settled { seed = 77 }
    assert.not_equal(connects[1].device, world.logged(p2, "connect")[1].device)
    s2:abandon()
    s:close()
  end)

  it("tells its consumers what may be missing after it: nothing is pushed later", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("message", { count = 1 })
    s:advance "1s"
    p:control "close"
    p:control("message", { count = 1 })
    world.back(s, "a", "1m")
    p:control("message", { count = 1 })
    s:advance "1s"
    assert.same({ 1, 3 }, world.numbers(c))
    assert.is_true(#c:gaps() >= 1)
    s:close()
  end)
end)

describe("a secret", function ()
  it("is in no log, journal, status, or error", function ()
    local marked = "bf_MARKED0SECRET0MARKED0SECRET0MARK"
    s, p = world.new { no_connection = true, sim = { trace = true }, peer = { faults = {
      http = { status = 500, times = 1, body = '{"msg":"token ' .. marked .. ' failed","status":500}' } } } }
    world.connect(s, p, "a", { bot_token = s:secret(marked, "bot_token") })
    s:up("a", "1m")
    p:control("kick", { reason = "bye " .. marked })
    world.back(s, "a", "2m")
    p:control "forget"
    world.back(s, "a", "2m")
    local shown = { s:trace(), sim.encode(s:view "a") }
    for _, e in ipairs(s:journal "a") do shown[#shown + 1] = sim.encode(e) end
    shown = table.concat(shown, "\n")
    assert.is_true(#shown > 1000)
    assert.is_nil(shown:find("MARKED0SECRET", 1, true))
    s:close()
  end)
end)
