-- QQ's policy over real TLS: token, gateway, session, resume, kicks, a refused bootstrap, a second host.
local world = require "wire_world"

local APP, SECRET = "102000001", "MARKED-client-secret"

describe("a QQ bot over TLS", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("qqbot", { heartbeat_interval = 1000, lifetime = 0, identify_gap = 0, app_id = APP, client_secret = SECRET,
                             gateway_rate = 100 })
  end)
  after_each(world.teardown)

  local function bot(options)
    options = options or {}
    local o = { policy = "qqbot", app_id = APP, client_secret = world.wire.secret(SECRET, "client_secret"),
                api = peer.url, token_url = peer.url .. "/app/getAppAccessToken",
                tune = { beat = { every = { "1s", "500ms", "10s" } }, budgets = { start = { gap = "250ms" } } } }
    for k, v in pairs(options) do o[k] = v end
    return s:connection("bot", o)
  end

  local function numbers(consumer)
    local out = {}
    for _, e in ipairs(consumer:events()) do
      if e.frame and e.frame.t == "GROUP_AT_MESSAGE_CREATE" then out[#out + 1] = e.frame.d.number end
    end
    return out
  end

  local function whole(consumer, count)
    s:run_until(function () return #numbers(consumer) >= count end)
    local list = numbers(consumer)
    assert.are.equal(count, #list)
    for i, n in ipairs(list) do assert.are.equal(i, n) end
  end

  local function count(kind)
    local n = 0
    for _, e in ipairs(peer:control "log") do n = n + (e.kind == kind and 1 or 0) end
    return n
  end

  it("comes up with one token, one address and one IDENTIFY, and hands events over in order", function ()
    local c = s:consumer { name = "a" }
    bot()
    s:up "bot"
    peer:control("dispatch", { count = 300 })
    whole(c, 300)
    local stats = peer:stats()
    assert.are.same({ 1, 1, 1 }, { stats.token_calls, stats.gateway_calls, stats.identifies })
    assert.are.equal("session-00001", s:session "bot".id)
    assert.is_truthy(s:session "bot".begun)
  end)

  it("beats at once and then each second, every beat is answered, and each names the last sequence", function ()
    bot()
    s:up "bot"
    peer:control("dispatch", { count = 2 })
    s:run_until(function () return s:view "bot".beats_answered >= 3 end, "5s")
    assert.are.equal(0, peer:stats().bad_beats)
    local last
    for _, m in ipairs(s:messages("bot", "out")) do
      if m.frame.op == 1 then last = m.frame.d end
    end
    assert.are.equal(3, last)
  end)

  it("resumes after op 7 and 4009, nothing is lost or doubled, and the address is not asked for again", function ()
    local c = s:consumer { name = "a" }
    bot()
    s:up "bot"
    for round = 1, 3 do
      peer:control("dispatch", { count = 20 })
      peer:control("op7", { delay = 50 })
      peer:control("dispatch", { count = 20 })
      s:run_until(function () return s:view "bot".ready == round + 1 end)
    end
    whole(c, 120)
    assert.are.equal(0, #c:gaps())
    local stats = peer:stats()
    assert.are.same({ 1, 3, 1, 0 }, { stats.identifies, stats.resumed, stats.gateway_calls, stats.double })
  end)

  it("resumes after 4009 alone, and after a cut without a close frame", function ()
    bot()
    s:up "bot"
    peer:control("kick", { code = 4009 })
    s:run_until(function () return s:view "bot".ready == 2 end)
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 3 end)
    assert.are.equal(1, peer:stats().identifies)
  end)

  for _, code in ipairs { 4006, 4900 } do
    it("identifies anew after " .. code, function ()
      bot()
      s:up "bot"
      peer:control("kick", { code = code })
      s:run_until(function () return s:view "bot".ready == 2 end)
      assert.are.same({ 2, 0 }, { peer:stats().identifies, peer:stats().resumes })
    end)
  end

  it("waits for the close code behind op 9: 4914 stops it, and no IDENTIFY follows", function ()
    peer:fault { op9_identify = { code = 4914, delay = 200 } }
    bot()
    s:run_until(function () return s:view "bot".fatal end)
    assert.are.equal(4914, s:view "bot".cause.close)
    s:run_for("1s")
    assert.are.equal(1, count "identify")
  end)

  it("stops when the token is refused inside of HTTP 200, and opens no socket", function ()
    bot { client_secret = world.wire.secret("another-secret-yet", "client_secret") }
    s:run_until(function () return s:view "bot".fatal end)
    assert.are.equal(100016, s:view "bot".cause.code)
    assert.are.equal(0, peer:stats().upgrades)
    assert.are.equal(1, peer:stats().token_calls)
  end)

  it("waits a minute after a refused frequency, and says so", function ()
    peer:fault { gateway_code = { status = 400, code = 100017 } }
    bot()
    local d = s:fails("bot", "frequency", { stage = "preparing", http = 400, drop = "resume" })
    assert.is_true(d.delay >= 60000)
  end)

  it("asks the second host when the first one is gone", function ()
    local gone = ("https://127.0.0.1:%d"):format(s:free_port())
    bot { api = { gone, peer.url }, token_url = { gone .. "/t", peer.url .. "/app/getAppAccessToken" } }
    s:up "bot"
    assert.are.equal(1, peer:stats().identifies)
  end)

  it("leaves a server that acknowledges no beats, and resumes", function ()
    bot()
    s:up "bot"
    peer:fault { no_ack = true }
    s:run_until(function () return #s:notes("bot", "decision") >= 1 end, "5s")
    assert.are.equal("beat", s:notes("bot", "decision")[1].decision.cause.kind)
    peer:heal()
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.are.equal(1, peer:stats().resumed)
  end)

  it("hands each message over once when the platform sends it again after a resume", function ()
    local c = s:consumer { name = "a" }
    bot()
    s:up "bot"
    peer:control("dispatch", { count = 10 })
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 2 end)
    peer:control("resend", { count = 5 })
    peer:control("dispatch", { count = 1 })
    whole(c, 11)
  end)
end)
