-- Feishu's policy over real sockets and TLS, against its peer.
local world = require "wire_world"

local APP, SECRET = "cli_a1b2c3d4e5f60718", "marked-secret-of-the-app"

describe("a Feishu app", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("feishu", { app_id = APP, app_secret = SECRET, config = { PingInterval = 5 }, push_again = { 4000, 8000, 16000, 32000 } })
  end)
  after_each(world.teardown)

  local function connect(options)
    options = options or {}
    options.policy, options.app_id = "feishu", options.app_id or APP
    options.app_secret = world.wire.secret(options.secret or SECRET, "app-secret")
    options.secret = nil
    options.domain = peer.url
    options.tune = options.tune or {}
    options.tune.beat = options.tune.beat or { every = { "1s", "500ms", "1s" }, within = "500ms" }
    s:connection("bot", options)
  end

  local function numbers(bot)
    local out = {}
    for _, e in ipairs(bot:events()) do out[#out + 1] = e.frame.payload.event.number end
    return out
  end

  it("comes up with one post and one dial, pings, and is answered", function ()
    connect()
    s:up "bot"
    s:run_until(function () return peer:stats().pongs >= 3 end)
    local stats = peer:stats()
    assert.are.equal(1, stats.http)
    assert.are.equal(1, stats.opened)
    assert.are.equal(0, stats.wrong + stats.texts + stats.storms)
    assert.are.equal("0800100018f681801020002a0c0a0474797065120470696e67", peer:control("pings")[1].hex)
  end)

  it("acknowledges a thousand events, some in parts, each once and exactly as it came", function ()
    local bot = s:consumer { name = "a" }
    connect()
    s:up "bot"
    peer:control("push", { count = 950 })
    peer:control("push", { count = 50, parts = 3, order = { 2, 0, 1 } })
    s:run_until(function () return peer:stats().acks >= 1000 end)
    local stats = peer:stats()
    assert.are.equal(0, stats.acks_wrong + stats.acks_unknown)
    assert.are.equal(0, stats.unacked)
    s:run_until(function () return #bot:events() >= 1000 end)
    for i, n in ipairs(numbers(bot)) do assert.are.equal(i, n) end
    assert.are.equal(1000, #bot:events())
  end)

  it("takes and echoes 64-bit numbers, unknown fields and a payload of a megabyte", function ()
    local bot = s:consumer { name = "a" }
    connect()
    s:up "bot"
    local payload = '{"header":{"event_id":"big"},"event":{"number":1,"text":"' .. ("x"):rep(1048576) .. '"}}'
    peer:control("push", { SeqID = "81808080808080808001", more = "5007", payload = payload })
    s:run_until(function () return peer:stats().acks == 1 end)
    local ack = peer:control("acks")[1]
    assert.are.equal("0881808080808080808001", ack.hex:sub(1, 22))
    assert.are.equal("5007", ack.hex:sub(-4))
    assert.are.equal(0, peer:stats().acks_wrong)
    s:run_until(function () return #bot:events() == 1 end)
    assert.are.equal("9223372036854775809", bot:events()[1].frame.SeqID)
  end)

  it("is pushed an event again when a link ends before its acknowledgement, and hands it on once", function ()
    local bot = s:consumer { name = "a" }
    connect()
    s:up "bot"
    for _ = 1, 5 do
      peer:control("push", { count = 20 })
      peer:control "abort"
      local ready = s:view("bot").ready
      s:run_until(function () return s:view("bot").ready > ready and peer:stats().unacked == 0 end)
    end
    s:run_until(function () return #bot:events() >= 100 end)
    local seen = {}
    for _, n in ipairs(numbers(bot)) do
      assert.is_nil(seen[n], "event " .. n .. " came twice")
      seen[n] = true
    end
    assert.are.equal(100, #bot:events())
    assert.are.equal(0, peer:stats().acks_wrong)
  end)

  it("takes bye for what it is: a new post within 2 s, no failure", function ()
    connect { tune = { backoff = { settle = "1s" }, beat = { every = { "1s", "500ms", "1s" }, within = "500ms" } } }
    s:up "bot"
    s:run_until(function () return s:view("bot").settled end)
    peer:control "bye"
    local d = s:ending "bot"
    assert.are.equal(1000, d.cause.close)
    assert.is_true(d.planned)
    s:run_until(function () return peer:stats().opened == 2 end, "4s")
    assert.are.equal(0, s:view("bot").failed)
  end)

  it("notices a deaf peer by the ping that is not answered", function ()
    connect()
    s:up "bot"
    peer:fault { no_pong = true }
    s:fails("bot", "no pong", { kind = "beat", stage = "ready" }, "3s")
    peer:heal()
    s:up "bot"
  end)

  it("stops for wrong credentials after one post", function ()
    connect { secret = "another" }
    s:run_until(function () return s:view("bot").fatal end)
    assert.are.equal(1, peer:stats().http)
    assert.are.equal(0, peer:stats().upgrades)
  end)

  it("stops when the handshake says 403 in its headers, and keeps the platform's words", function ()
    peer:fault { upgrade = { status = 403, headers = { ["Handshake-Status"] = "403", ["Handshake-Msg"] = "app is disabled" } } }
    connect()
    s:run_until(function () return s:view("bot").fatal end)
    assert.are.equal(1, peer:stats().upgrades)
    local told = false
    for _, e in ipairs(s:journal "bot") do told = told or (e.text or ""):find("app is disabled", 1, true) ~= nil end
    assert.is_true(told)
  end)

  it("outlives an endpoint that never answers, and one that is broken", function ()
    peer:fault { silent_http = 1, http = { status = 502, times = 2, body = "bad gateway" } }
    connect { tune = { limits = { call = "300ms" } } }
    s:up "bot"
    assert.are.equal(4, peer:stats().http)
  end)

  it("stays up after text, random bytes and half a frame", function ()
    local bot = s:consumer { name = "a" }
    connect()
    s:up "bot"
    peer:control("raw", { text = "hello" })
    peer:control("raw", { hex = "deadbeef" })
    peer:control("raw", { hex = "18012000" })
    peer:control "push"
    s:run_until(function () return peer:stats().acks == 1 end)
    s:run_until(function () return #bot:events() == 4 end)
    assert.are.equal(1, peer:stats().opened)
    assert.is_true(bot:events()[1].malformed)
  end)

  it("shows neither secret nor ticket in anything it says", function ()
    peer:fault { code = { times = 1, code = 1, msg = "no: " .. SECRET } }
    connect()
    s:up "bot"
    peer:control "abort"
    s:run_until(function () return s:view("bot").ready == 2 end)
    local all = s.w:log()
    for _, e in ipairs(s:journal "bot") do all = all .. (e.text or "") end
    assert.is_nil(all:find("MARKED", 1, true))
    assert.is_nil(all:find(SECRET, 1, true))
    assert.is_truthy(all:find("the platform calls this connection 7", 1, true))
  end)
end)
