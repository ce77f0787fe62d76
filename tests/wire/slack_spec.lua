-- Slack's policy over real TLS sockets: the way of every day, recycling, and what goes wrong most.
local world = require "wire_world"

local TUNE = { alive = { ping = "500ms", silence = "1500ms" }, limits = { drain = "2s" } }

describe("a Slack app over TLS", function ()
  local s, peer

  local function connect(options)
    options = options or {}
    options.policy = "slack"
    options.app_token = options.app_token or s:secret("xapp-1-A0TEST-1-x", "app_token")
    options.api = options.api or peer.url .. "/api"
    local tune = {}
    for k, v in pairs(TUNE) do tune[k] = v end
    for k, v in pairs(options.tune or {}) do tune[k] = v end
    options.tune = tune
    return s:connection("bot", options)
  end

  local function new(options)
    peer = s:peer("slack", options or {})
    return peer
  end

  local function numbers(c)
    local out = {}
    for _, e in ipairs(c:events()) do
      if e.take.type == "events_api" then out[#out + 1] = e.frame.payload.event.number end
    end
    return out
  end

  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  it("comes up with one open and one ticket, and acknowledges three hundred events, once each", function ()
    new { lifetime = false, ack_within = 30000 }   -- a busy machine is no late client
    connect()
    local bot = s:consumer { name = "a" }
    s:up "bot"
    peer:control("event", { count = 300 })
    s:run_until(function () return peer:stats().acks == 300 end)
    local stats = peer:stats()
    assert.same({ 1, 1, 0, 0, 0, 0 }, { stats.opens, stats.upgrades, stats.bad_tickets, stats.redelivered, stats.late_acks, stats.unknown_acks })
    s:run_until(function () return #numbers(bot) == 300 end)
    for i, n in ipairs(numbers(bot)) do assert.equal(i, n) end
  end)

  it("is never away while it is recycled, and nothing that is sent meanwhile is lost or comes twice", function ()
    new { lifetime = false, events_every = 10 }
    -- Limits that a busy machine does not reach: after a drain that was cut, the oldest socket would be the new one.
    connect { tune = { backoff = { settle = "1s" }, limits = { drain = "60s" }, alive = { ping = "10s", silence = "60s" } } }
    local bot = s:consumer { name = "a" }
    s:up "bot"
    s:run_until(function () return s:view "bot".settled end)
    s:watch(peer.port)
    peer:control("disconnect", { reason = "warning" })
    s:run_until(function () return s:view "bot".ready == 2 end, nil, "the new one")
    s:run_for("300ms", function () return s:state "bot" == "up" end)
    peer:control("close", { which = "oldest", code = 1000 })
    s:run_for("300ms", function () return s:state "bot" == "up" end)
    s:run_until(function () return peer:stats().open == 1 end)
    assert.is_true(s:sockets_most() <= 3, s:sockets_most() .. " sockets, the HTTP call's among them")
    local seen = {}
    for _, n in ipairs(numbers(bot)) do
      assert.is_nil(seen[n], n .. " came twice")
      seen[n] = true
    end
    assert.equal(2, peer:stats().opens)
    assert.equal(0, s:view "bot".failed)
  end)

  it("is back with a new ticket after a close and after an abort", function ()
    new { lifetime = false }
    connect()
    s:up "bot"
    peer:control("close", { code = 1001 })
    s:run_until(function () return s:view "bot".ready == 2 end)
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 3 end)
    local stats = peer:stats()
    assert.same({ 3, 0, 1 }, { stats.opens, stats.bad_tickets, stats.open })
  end)

  it("notices a socket that went deaf by its own pings, and only then", function ()
    new { lifetime = false }
    connect()
    s:up "bot"
    s:run_for("2s", function () return s:state "bot" == "up" end)
    peer:control "deaf"
    s:fails("bot", "a deaf socket", { kind = "silence", stage = "ready" })
    s:run_until(function () return s:view "bot".ready == 2 end)
  end)

  it("asks again through refused opens and refused upgrades, each time with a ticket of its own", function ()
    new { lifetime = false, faults = { open = { status = 503, times = 2 }, upgrade = { status = 503, times = 2 } } }
    connect()
    s:up "bot"
    local stats = peer:stats()
    assert.same({ 5, 3, 0 }, { stats.opens, stats.upgrades, stats.bad_tickets })
  end)

  it("stops on a refused token, and takes no second look", function ()
    new { token = "xapp-1-A0TEST-1-other" }
    connect()
    local d = s:fails("bot", "a refused token", { name = "invalid_auth", stage = "preparing", pace = "stop" })
    assert.truthy(d)
    s:run_for "1s"
    assert.equal(1, peer:stats().opens)
    assert.equal("stopped", s:state "bot")
  end)

  it("waits as long as a 429 says", function ()
    new { lifetime = false, faults = { open = { status = 429, times = 1, headers = { ["Retry-After"] = "1" } } } }
    local from = s:now()
    connect()
    s:up "bot"
    assert.is_true(s:now() - from >= 1000)
    assert.equal(2, peer:stats().opens)
  end)

  it("meets too many sockets with patience", function ()
    new { lifetime = false, faults = { too_many = 1 } }
    connect { tune = { slow = { first = "1s", most = "2s" } } }
    s:fails("bot", "too many sockets", { name = "too_many_websockets", pace = "slow" })
    s:run_for("1s", function () return peer:stats().opens == 1 end)
  end)

  it("leaves neither socket nor descriptor when it is stopped while hello does not come", function ()
    new { faults = { silent_hello = true } }
    connect()
    s:run_until(function () return peer:stats().open == 1 end)
    s:stop "bot"
    s:run_until(function () return s:state "bot" == "stopped" end)
    s:run_until(function () return peer:stats().open == 0 end)
  end)
end)
