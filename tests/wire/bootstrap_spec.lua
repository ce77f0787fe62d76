-- The HTTP call before the dial: what its answers and failures mean to Discord's policy.
local world = require "wire_world"

describe("the bootstrap call", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 500, token = "MTIz.bot" })
  end)
  after_each(world.teardown)

  local function fails(fault, faults, expected)
    if faults then peer:fault(faults) end
    s:discord("bot", peer)
    expected.stage = "preparing"
    return s:fails("bot", fault, expected)
  end

  it("answered 401 stops, loudly, and no socket is opened", function ()
    s:discord("bot", peer, { token = world.wire.secret("MTIz.wrong", "token") })
    local d = s:fails("bot", "bootstrap 401", { stage = "preparing", http = 401, pace = "stop" })
    s:run_until(function () return s:state "bot" == "stopped" end)
    assert.is_true(s:view "bot".fatal)
    assert.is_truthy(d.note:find "token")
    s:run_for("600ms", function () return s:state "bot" == "stopped" end)
    assert.are.equal(1, peer:stats().http)
    assert.are.equal(0, peer:stats().upgrades)
  end)

  it("answered 429 with Retry-After waits for that time and is no failure", function ()
    local d = fails("bootstrap 429 Retry-After", { http = { status = 429, times = 1, headers = { ["Retry-After"] = "1" },
      body = '{"message":"You are being rate limited.","retry_after":1.0,"global":false}' } },
      { http = 429, retry_after = 1000 })
    assert.is_true(d.delay >= 1000, "delay " .. d.delay)
    local from = s:now()
    s:up "bot"
    assert.is_true(s:now() - from >= 900)
    assert.are.equal(0, s:view "bot".failed)
  end)

  it("answered 503 three times doubles its delay, then comes up", function ()
    fails("bootstrap 503", { http = { status = 503, times = 3, body = "upstream connect error" } },
      { http = 503, drop = "resume" })
    s:up "bot"
    local delays = {}
    for i, n in ipairs(s:notes("bot", "decision")) do delays[i] = n.decision.delay end
    assert.are.same({ 250, 500, 1000 }, delays)
    assert.are.equal(4, peer:stats().http)
  end)

  it("answered with HTML fails as an answer that is none", function ()
    fails("bootstrap 200 with HTML", { http = { status = 200, times = 1, body = "<html><body>Maintenance</body></html>" } },
      { kind = "failed" })
    s:up "bot"
  end)

  it("answered with JSON that lacks what is needed fails likewise", function ()
    fails("bootstrap 200 without url", { http = { status = 200, times = 1, body = '{"shards":1}' } },
      { kind = "failed", name = "gateway_answer" })
    s:up "bot"
  end)

  it("answered 404 stops: the address is wrong", function ()
    fails("bootstrap 404", { http = { status = 404 } }, { http = 404, pace = "stop" })
  end)

  it("answered 403 is slow", function ()
    fails("bootstrap 403", { http = { status = 403, times = 1 } }, { http = 403, pace = "slow" })
  end)

  it("that is never answered ends at its limit", function ()
    peer:fault { silent_http = true }
    s:discord("bot", peer, { tune = { limits = { call = "500ms", prepare = "1s" } } })
    local d, took = s:fails("bot", "bootstrap unanswered", { stage = "preparing" })
    assert.is_true(d.cause.kind == "failed" or d.cause.kind == "call" or d.cause.kind == "timeout", d.cause.kind)
    assert.is_true(took >= 450 and took < 4000, "took " .. took)
  end)

  it("to a port where nobody listens says so", function ()
    s:discord("bot", peer, { api = ("http://127.0.0.1:%d"):format(s:free_port()) })
    local d = s:fails("bot", "bootstrap refused", { stage = "preparing", name = "gateway_unreachable" })
    assert.is_truthy(d.cause.reason:find "refused")
  end)

  it("to a server with a certificate of an unknown authority says so, and sends no token", function ()
    s:discord("bot", peer, { ca = false })
    local d = s:fails("bot", "bootstrap: unknown CA", { stage = "preparing", name = "gateway_unreachable" })
    assert.is_truthy(d.cause.reason:find "certificate")
    assert.are.equal(0, peer:stats().http)
  end)

  it("that hands out a gateway on another host is refused before anything is dialled", function ()
    world.lead(peer, "wss://gateway.elsewhere.example")
    s:discord("bot", peer)
    s:fails("bot", "gateway on a foreign host", { stage = "preparing", kind = "address" })
    assert.are.equal(0, #s:notes("bot", "dial"))
  end)
end)
