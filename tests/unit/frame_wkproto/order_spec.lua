-- Which packet may come when, and what becomes of the keys: a wrong order cannot be said.
local world = require "wkproto_world"
local wkproto = require "unit.frame_wkproto"

local bytes, hex, packets = world.bytes, world.hex, world.packets
local ACK = '{"packet":"recvack","message_id":"1906561204858142720","message_seq":42}'
local PING = '{"packet":"ping"}'

local function refused(text, ...)
  local out, why = ...
  assert.is_nil(out)
  assert.truthy(why:find(text, 1, true), why)
end

local function bad(text, client, hex_text)
  client:feed(bytes(hex_text))
  local kind, why = client:next()
  assert.equal("bad", kind)
  assert.truthy(why:find(text, 1, true), why)
end

describe("a client", function ()
  it("writes nothing but CONNECT before CONNACK, and that once", function ()
    local client = world.client()
    refused("nothing but connect may be sent before CONNACK", client:encode(PING))
    refused("nothing but connect may be sent before CONNACK", client:encode(ACK))
    assert(client:encode(world.connect_json(5)))
    refused("nothing may be sent before CONNACK", client:encode(PING))
    refused("nothing may be sent before CONNACK", client:encode(world.connect_json(5)))
    client:feed(bytes(packets.connack_v5_success.hex))
    world.next(client)
    assert.equal("70", hex((client:encode(PING))))
    refused("this link is connected already", client:encode(world.connect_json(5)))
  end)

  it("writes no CONNECT without a key pair", function ()
    refused("no key pair", world.client "":encode(world.connect_json(5)))
  end)

  it("reads nothing before CONNACK but CONNACK or DISCONNECT", function ()
    bad("before CONNECT was sent", world.client(), "80")
    for _, name in ipairs { "pong", "recv_v4_text", "sendack_v4", "suback", "event" } do
      local client = world.client()
      client:encode(world.connect_json(4))
      bad("a packet before CONNACK", client, packets[name].hex)
    end
    local client = world.client()
    client:encode(world.connect_json(4))
    client:feed(bytes(packets.disconnect_server_kick.hex))
    assert.equal("server kick", world.next(client).reason)
  end)

  it("takes no second CONNACK: it would bring other keys", function ()
    bad("a second CONNACK", world.connected(5), packets.connack_v5_success.hex)
  end)

  it("reads nothing that only clients send", function ()
    for _, name in ipairs { "connect_v5", "send_v5_text", "recvack_v4", "sub" } do
      bad("only clients send", world.connected(5), packets[name].hex)
    end
  end)

  it("writes nothing after a refusal or a kick, and still reads what was sent before the end", function ()
    local client = world.client()
    client:encode(world.connect_json(5))
    client:feed(bytes(packets.connack_authfail_short.hex))
    assert.equal(2, world.next(client).reason_code)
    refused("refused or ended this session", client:encode(PING))

    client = world.connected(5)
    client:feed(bytes(packets.disconnect_kick_other_device.hex .. packets.recv_v5_text.hex))
    assert.equal("disconnect", world.next(client).packet)
    refused("refused or ended this session", client:encode(ACK))
    assert.equal("recv", world.next(client).packet)
  end)

  it("forgets its private key at CONNACK, accepted or not", function ()
    assert.is_true(world.client():state().secret)
    assert.is_false(world.connected(5):state().secret)
    local client = world.client()
    client:encode(world.connect_json(5))
    client:feed(bytes(packets.connack_authfail_short.hex))
    world.next(client)
    assert.is_false(client:state().secret)
  end)

  it("obeys the server's version, below and above its own wish", function ()
    for _, case in ipairs { { 5, 4 }, { 4, 5 }, { 6, 6 }, { 5, 3 } } do
      local client = world.connected(case[1], packets["connack_v" .. case[2] .. "_success"].hex)
      assert.equal(case[2], client:state().version)
    end
    assert.equal(2, world.connected(2):state().version)
    local client = world.client()
    client:encode(world.connect_json(5))
    bad("version that nobody knows", client, (packets.connack_v5_success.hex:gsub("^215205", "215207")))
  end)

  it("takes no CONNACK whose key or salt is none", function ()
    for _, change in ipairs { { "6976", "2a76" }, { "002c69", "002b69" } } do
      local client = world.client()
      client:encode(world.connect_json(5))
      local text, n = packets.connack_v5_success.hex:gsub(change[1], change[2], 1)
      assert.equal(1, n)
      client:feed(bytes(text))
      assert.equal("bad", (client:next()))
    end
    -- A short salt: 15 bytes.
    local client = world.client()
    client:encode(world.connect_json(5))
    local text = packets.connack_v5_success.hex:gsub("^2152", "2151"):gsub("00105a", "000f")
    client:feed(bytes(text))
    assert.same({ "bad", "the salt has less than 16 bytes" }, { client:next() })
  end)

  it("uses version 5's layout where the setting says stream, version 4's where that is in force", function ()
    local client = world.connected(5)
    client:feed(bytes(packets.recv_v4_stream.hex)) -- misread: the server is of another version
    local packet = world.next(client)
    assert.equal("payload", packet.fault)
    assert.equal(1, client:state().faults)
  end)
end)

describe("a message that is not as signed or not decryptable", function ()
  local function broken(change)
    local client = world.connected(5)
    client:feed(change(bytes(packets.recv_v5_text.hex)))
    return world.next(client), client
  end

  it("is read all the same, so that it can be acknowledged, and counted", function ()
    local packet, client = broken(function (b) return (b:gsub("0a12fc09", "0b12fc09")) end)
    assert.equal("msg_key", packet.fault)
    assert.equal("1906561204858142720", packet.message_id)
    assert.same({ type = 1, content = "hello" }, packet.payload)
    assert.equal(1, client:state().faults)
  end)

  it("shows its wire bytes when it cannot be decrypted", function ()
    local packet, client = broken(function (b) return (b:gsub("KLibaUI=$", "KLibaUJ=")) end) -- no base64
    assert.equal("payload", packet.fault)
    assert.equal("M3EzV05VLzB6UEwrWXlXZjJIaXhnZDJBbHd4RG02aDdmN2Y5S0xpYmFVSj0=", packet.payload_base64)
    assert.is_nil(packet.payload)
    packet = broken(function (b) return (b:gsub("KLibaUI=$", "KLibaUA=")) end) -- bad padding
    assert.equal("payload", packet.fault)
    assert.equal(1, client:state().faults)
  end)

  it("is plain when the setting says so and it does not decrypt", function ()
    local client = world.connected(5)
    local plain = bytes(packets.recv_v4_plain.hex)
    client:feed(plain:sub(1, 2) .. "\16" .. plain:sub(4))
    local packet = world.next(client)
    assert.is_nil(packet.fault)
    assert.equal("hello", packet.payload.content)
  end)
end)

describe("payloads", function ()
  local function through(text)
    local client, server = world.pair(5)
    client:feed(assert(server:encode('{"packet":"recv","message_id":"1",' .. text .. "}")))
    return world.next(client), client
  end

  it("that are no JSON travel as base64", function ()
    for _, case in ipairs { "", "hello", "\0\1\255", '{"a":1', "1,2", '1,"a":2', "{}{}", '"\255"' } do
      local packet, client = through('"payload_base64":"' .. world.base64(case) .. '"')
      assert.equal(world.base64(case), packet.payload_base64, case)
      assert.is_nil(packet.payload)
      assert.equal(0, client:state().faults)
    end
  end)

  it("that are any JSON value stand there as they are", function ()
    for _, case in ipairs { "1", "null", '"text \\" with"', "[1,[2]]", '{"id":1906561204858142720}', " true " } do
      local client, server = world.pair(5)
      client:feed(assert(server:encode('{"packet":"recv","message_id":"1","payload":' .. case .. "}")))
      local _, _, text = world.next(client)
      assert.truthy(text:find('"payload":' .. case:gsub("^%s+", ""):gsub("%s+$", ""), 1, true), text)
    end
  end)

  it("that are as deep as JSON may be do not make the packet too deep", function ()
    local deep = ("["):rep(511) .. ("]"):rep(511)
    assert.is_nil(through('"payload_base64":"' .. world.base64(deep) .. '"').payload_base64)
    local deeper = ("["):rep(512) .. ("]"):rep(512)
    assert.is_truthy(through('"payload_base64":"' .. world.base64(deeper) .. '"').payload_base64)
  end)

  it("of any size are read; the ends agree on every length around blocks and pieces", function ()
    local client, server = world.pair(5)
    for _, n in ipairs { 1, 13, 14, 15, 16, 17, 560, 561, 575, 576, 767, 768, 769, 100000, 780000 } do
      client:feed(assert(server:encode('{"packet":"recv","message_id":"1","payload":"' .. ("x"):rep(n) .. '"}')))
      assert.equal(n, #world.next(client).payload)
    end
    assert.equal(0, client:state().faults)
    client:feed "\128"
    world.next(client)
    client:feed "\128"
    assert.is_true(client:state().bytes < 64 * 1024, "what a big message needed is given back")
  end)

  it("that are sent have the official encoder's limit", function ()
    local client = world.connected(5)
    local function send(n)
      return '{"packet":"send","channel_id":"a","channel_type":1,"payload":"' .. ("x"):rep(n) .. '"}'
    end
    assert(client:encode(send(24000)))
    refused("longer than 32767", client:encode(send(25000)))
    refused("longer than 32767", wkproto.check(send(25000)))
    refused("setting 16", client:encode('{"packet":"send","channel_id":"a","channel_type":1,"setting":16,"payload":1}'))
  end)
end)

describe("JSON that is to become a packet", function ()
  it("is refused with a sentence when it is none", function ()
    for text, why in pairs {
      ["{"] = "not valid JSON",
      ["[]"] = "`packet` must name a packet",
      ['{"packet":"recvak"}'] = "`packet` must name a packet",
      ['{"packet":7}'] = "`packet` must name a packet",
      ['{"packet":"recv"}'] = "recv is no packet that a client sends",
      ['{"packet":"disconnect"}'] = "disconnect is no packet that a client sends",
      ['{"packet":"ping","id":1}'] = "ping: `id`: no such member",
      ['{"packet":"recvack"}'] = "recvack: `message_id` is missing",
      ['{"packet":"recvack","message_id":1.5,"message_seq":1}'] = "`message_id`: an integer in its range expected",
      ['{"packet":"recvack","message_id":"9223372036854775808","message_seq":1}'] = "`message_id`: an integer",
      ['{"packet":"recvack","message_id":{},"message_seq":1}'] = "`message_id`: an integer",
      ['{"packet":"recvack","message_id":1,"message_seq":-1}'] = "`message_seq`: an integer",
      ['{"packet":"recvack","message_id":1,"message_seq":1,"flags":5}'] = "`flags`: an object of dup",
      ['{"packet":"recvack","message_id":1,"message_seq":1,"flags":{"dup":1}}'] = "`flags`: an object of dup",
      ['{"packet":"recvack","message_id":1,"message_seq":1,"flags":{"nope":true}}'] = "`flags`: an object of dup",
      ['{"packet":"connect","version":9,"uid":"a","token":"b","device_id":"c"}'] = "`version` must be 1 to 6",
      ['{"packet":"connect","version":5,"uid":7,"token":"b","device_id":"c"}'] = "`uid`: a string expected",
      ['{"packet":"connect","version":5,"uid":"a","token":"b"}'] = "`device_id` is missing",
      ['{"packet":"connect","version":5,"uid":"a","token":"b","device_id":"c","client_key":"mine"}'] = "no such member",
      ['{"packet":"send","channel_id":"a","channel_type":256,"payload":1}'] = "`channel_type`: an integer",
      ['{"packet":"send","channel_id":"a","channel_type":1,"payload_base64":"***"}'] = "`payload_base64`: base64",
      ['{"packet":"send","channel_id":"a","channel_type":1}'] = "send: `payload` is missing",
    } do
      refused(why, wkproto.check(text))
    end
    refused("32767 bytes", wkproto.check('{"packet":"sub","channel_id":"' .. ("x"):rep(32768) .. '"}'))
    refused("above 32 bits", world.connected(5):encode('{"packet":"recvack","message_id":"1","message_seq":4294967296}'))
  end)

  it("may have any order, spaces, escapes, and a member twice", function ()
    local client = world.connected(4)
    local out = assert(client:encode(' {\t"message_seq" : "42" ,"flags":{ }, "message_id":"1",'
      .. ' "message_id" : "1906561204858142720", "packet": "recvack" }'))
    assert.equal(packets.recvack_v4.hex, hex(out))
    out = assert(wkproto.check '{"packet":"sub","sub_no":"\\u00e4\\ud83d\\ude00\\n\\"","channel_id":"a"}')
    assert.equal("a012" .. "00" .. "0008" .. hex "ä😀\n\"" .. "000161" .. "00" .. "00" .. "0000", hex(out))
  end)

  it("is checked without a link as it would be with one", function ()
    assert.is_truthy(wkproto.check(world.connect_json(5)))
    assert.is_truthy(wkproto.check(ACK))
    assert.is_truthy(wkproto.check(PING))
  end)
end)

describe("unknown packets", function ()
  it("are skipped by their length and seen", function ()
    local client = world.connected(5)
    client:feed(bytes("d003010203" .. "80"))
    assert.same({ packet = "unknown", type = 13, bytes = 3 }, (world.next(client)))
    assert.equal("pong", world.next(client).packet)
  end)
end)

describe("texts from a server", function ()
  it("cannot break the JSON", function ()
    local client = world.connected(5)
    local function str(s) return string.char(0, #s) .. s end
    local nasty = '"}\n{"\\\1\255'
    client:feed("\144" .. string.char(1 + 2 + #nasty) .. "\12" .. str(nasty))
    local packet, _, text = world.next(client)
    assert.is_nil(text:find "[%c]")
    assert.equal('"}\n{"\\\1\239\191\189', packet.reason)
  end)
end)
