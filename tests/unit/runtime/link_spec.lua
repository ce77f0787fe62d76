-- One link, byte for byte: the order of what is written, one close frame whoever begins, and hosts that report
-- late.
local runtime = require "unit.runtime"
local world = require "runtime_world"

local frames = [[
  frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } }, accept = true,
             dedupe = { by = { "id" }, over = "10m", most = 100 }, ack = { when = "early", frame = '{"ack":"@id"}' } },
]]

describe("the upgrade", function ()
  it("is written once, wiped of the address afterwards, and the link is up at its answer", function ()
    local w = world.new ""
    assert.truthy(w:log():find("open 1 tls far.test:443", 1, true))
    for _, stage in ipairs { "resolving", "connecting", "securing" } do w:stage(1, stage) end
    w:opened(1)
    local request = w:written(1)
    assert.truthy(request:find("GET /ws?key=SECRET HTTP/1.1", 1, true))
    assert.equal("wss://far.test:443/ws?key=*", w:view("a").address)
    w:bytes(1, runtime.accept(request))
    assert.equal("up", w:view("a").state)
    assert.equal("wss://far.test:443/ws?key=*", w:view("a").address)
    w:destroy()
  end)

  it("may come in single bytes, with the first frame behind it", function ()
    local w = world.new(frames)
    w:stage(1, "resolving")
    w:opened(1)
    local answer = runtime.accept(w:written(1)) .. world.text '{"id":1}'
    for i = 1, #answer do assert.equal(1, w:bytes(1, answer:sub(i, i))) end
    assert.equal(1, w:view("a").delivered)
    assert.equal(#answer, w:view("a").bytes_in)
  end)

  it("that is refused keeps its status, and the link is let go", function ()
    local w = world.new ""
    w:opened(1)
    w:log()
    w:bytes(1, "HTTP/1.1 429 Too Many\r\nRetry-After: 30\r\nContent-Length: 2\r\n\r\nno")
    assert.equal(429, w:view("a").http)
    assert.truthy(w:log():find "abort 1")
    w:bytes(1, "more") -- a host may still report what it had
    w:ended(1)
    w:closed(1)
    assert.equal(0, w:counts().links)
  end)

  it("that cannot be written is the network's ending, not the address's", function ()
    local w = world.new ""
    w:set("write_fails", true)
    w:opened(1)
    assert.equal("io", w:view("a").cause)
  end)

  it("does not begin when the host is out of descriptors, and the next attempt comes", function ()
    local w = runtime.new()
    w:set("open_fails", true)
    w:add("a", world.policy "", "return { token = 'T' }")
    w:tick()
    assert.equal("waiting", w:view("a").state)
    assert.equal("io", w:view("a").cause)
    assert.equal(0, w:counts().links)
    w:set("open_fails", false)
    w:tick(120000)
    w:tick()
    assert.equal("linking", w:view("a").state)
  end)
end)

describe("the close", function ()
  it("of the peer is answered once, with its code, and then the stream ends", function ()
    local w = world.up ""
    w:bytes(1, runtime.close_frame(4321, "bye"))
    assert.same({ "close 4321" }, world.sent(w, 1))
    local log = w:log()
    assert.truthy(log:find "finish 1")
    assert.equal("closed", w:view("a").cause)
    w:bytes(1, world.text '{"id":1}')
    w:ended(1)
    w:closed(1)
    assert.same({}, world.sent(w, 1))
    assert.equal(0, w:counts().links)
  end)

  it("of ours is written once, and the peer's answer ends the stream", function ()
    local w = world.up "close_code = { keep = 4000, final = 4001 },"
    w:order("a", "stop")
    w:tick()
    assert.same({ "close 4001" }, world.sent(w, 1))
    assert.is_nil(w:log():find "finish")
    w:bytes(1, runtime.close_frame(4001))
    assert.truthy(w:log():find "finish 1")
    assert.same({}, world.sent(w, 1))
    w:ended(1)
    w:closed(1)
    assert.equal("stopped", w:view("a").state)
  end)

  it("of ours still takes what comes before the peer's, and answers no ping any more", function ()
    local w = world.up(frames)
    w:order("a", "restart")
    w:tick()
    world.sent(w, 1)
    w:bytes(1, world.text '{"id":1}' .. runtime.frame(9, "x") .. world.text '{"id":2}')
    assert.equal(2, w:view("a").delivered)
    assert.same({}, world.sent(w, 1))
  end)

  it("before the upgrade is no frame but the end of the descriptor", function ()
    local w = world.new ""
    w:opened(1)
    w:written(1)
    w:order("a", "stop")
    w:tick()
    assert.truthy(w:log():find "abort 1")
    assert.equal("", w:written(1))
  end)

  it("waits behind a message that the host has no room for", function ()
    local w = world.up [[
      sizes = { send = "4MiB" }, frames = { codec = "json", accept = true, take = { id = "id" } },
    ]]
    w:set("queued", 1048576)
    w:send("a", '{"id":"' .. ("x"):rep(2000) .. '"}')
    assert.truthy(w:log():find("answer the link is congested (retry)", 1, true))
    w:send("a", '{"id":"' .. ("y"):rep(1200000) .. '"}')
    w:order("a", "stop")
    w:tick()
    assert.truthy(w:log():find "answer sent")
    w:set("queued", 0)
    w:bytes(1, runtime.close_frame(1000))
    assert.is_nil(w:log():find "finish", "not before all is written")
    w:writable(1)
    assert.truthy(w:log():find "finish 1")
    local sent = world.sent(w, 1)
    assert.equal(2, #sent)
    assert.equal(1200000 + #'message {"id":""}', #sent[1])
    assert.equal("close 1000", sent[2])
  end)
end)

describe("what a host reports of a link that is over", function ()
  it("changes nothing", function ()
    local w = world.up(frames)
    w:order("a", "stop")
    w:tick()
    w:ended(1)
    for _ = 1, 2 do
      w:stage(1, "securing")
      w:opened(1)
      assert.equal(5, w:bytes(1, "\129\3abc"))
      w:writable(1)
      w:drained(1)
      w:ended(1)
      w:closed(1)
    end
    assert.equal("stopped", w:view("a").state)
    assert.equal(0, w:view("a").delivered)
  end)
end)

describe("an acknowledgement", function ()
  it("does not wait behind that of an older frame, which came again in the same read", function ()
    local w = world.up(frames)
    w:bytes(1, world.text '{"id":1}')
    assert.same({}, world.sent(w, 1))
    w:stored(true)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    w:log()
    w:bytes(1, world.text '{"id":2}' .. world.text '{"id":1}')
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1), "it is safe")
    assert.truthy(w:log():find "store frames 2")
    w:stored(true)
    assert.same({ 'message {"ack":2}' }, world.sent(w, 1))
  end)

  it("shares one write with all that came while another was under way", function ()
    local w = world.up(frames)
    w:bytes(1, world.text '{"id":1}')
    for i = 2, 50 do w:bytes(1, world.text('{"id":' .. i .. "}")) end
    assert.equal("store frames 1 \n", w:log())
    w:stored(true)
    assert.equal(1, #world.sent(w, 1))
    w:stored(true)
    assert.equal(49, #world.sent(w, 1))
  end)

  it("is dropped with a write that failed, and given when the frame comes again", function ()
    local w = world.up(frames)
    w:bytes(1, world.text '{"id":1}')
    w:stored(false)
    assert.same({}, world.sent(w, 1))
    w:bytes(1, world.text '{"id":1}')
    assert.same({}, world.sent(w, 1), "not safe yet")
    w:stored(true)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    assert.equal(1, w:view("a").delivered)
    assert.equal(1, w:view("a").duplicate)
  end)

  it("is dropped when the store refuses, and the link goes on", function ()
    local w = world.up(frames)
    w:set("store_refuses", true)
    w:bytes(1, world.text '{"id":1}' .. world.text '{"id":2}')
    w:set("store_refuses", false)
    w:bytes(1, world.text '{"id":2}')
    w:stored(true)
    assert.same({ 'message {"ack":2}' }, world.sent(w, 1))
  end)

  it("is not sent on another link than the frame came on", function ()
    local w = world.up(frames)
    w:bytes(1, world.text '{"id":1}')
    w:ended(1)
    w:closed(1)
    w:tick(60000)
    w:tick()
    world.open(w, 2)
    w:written(2)
    w:stored(true)
    assert.same({}, world.sent(w, 2))
  end)
end)

describe("what was remembered before a close frame in the same read", function ()
  it("is stored", function ()
    local w = world.up [[
      session = { of = { "token" }, age = "24h" },
      frames = { codec = "json", take = { s = "s" }, remember = { seq = "s" }, deliver = { s = { present = true } } },
      greet = function (conn) conn.session = { id = "one" } end,
    ]]
    w:bytes(1, world.text '{"s":7}' .. runtime.close_frame(4000))
    assert.truthy(w:log():find('"seq":7', 1, true))
    assert.equal('{"id":"one","seq":7}', w:session "a")
  end)
end)
