-- WuKongIM's policy over real TLS sockets: the way of every day, kicks, refusals, and packets cut anywhere.
local world = require "wire_world"

local TUNE = {
  alive = { ping = "2s", silence = "4s" }, beat = { every = "1s", within = "800ms" },
  limits = { greeting = "7s" },
  backoff = { first = "250ms", factor = 2, most = "500ms", floor = "250ms", jitter = "none", settle = "1s" },
}

describe("a WuKongIM bot over TLS", function ()
  local s, peer

  local function connect(options)
    options = options or {}
    options.policy = "wukongim"
    options.bot_token = options.bot_token or s:secret("bf_0f1e2d3c4b5a69788796a5b4c3d2e1f0", "bot_token")
    options.api = options.api or peer.url
    local tune = {}
    for k, v in pairs(TUNE) do tune[k] = v end
    for k, v in pairs(options.tune or {}) do tune[k] = v end
    options.tune = tune
    return s:connection("bot", options)
  end

  local function numbers(c)
    local out = {}
    for _, e in ipairs(c:events()) do
      if e.frame.packet == "recv" and e.frame.payload.number then out[#out + 1] = e.frame.payload.number end
    end
    return out
  end

  local function stats() return peer:stats() end
  local function count(list) local n = 0 for _ in pairs(list) do n = n + 1 end return n end

  local function log(kind)
    local out = {}
    for _, e in ipairs(peer:control "log") do
      if e.kind == kind then out[#out + 1] = e end
    end
    return out
  end

  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  it("comes up with one register and a lone CONNECT, beats, and acknowledges three hundred messages", function ()
    peer = s:peer "wukongim"
    connect()
    local bot = s:consumer { name = "a" }
    s:up "bot"
    peer:control("message", { count = 300 })
    s:run_until(function () return #numbers(bot) == 300 and stats().acks == 300 end)
    for i, n in ipairs(numbers(bot)) do assert.equal(i, n) end
    s:run_until(function () return stats().pings >= 2 end)
    local now = stats()
    assert.same({ 1, 1, 0, 0, 0, 0, 0, 0 }, { now.registers, now.connects, now.not_alone, now.early, now.bad_packets,
                                              now.acks_double, now.acks_unknown, now.unacked })
    assert.equal(0, count(now.kicks))
  end)

  it("acknowledges many messages in few", function ()
    peer = s:peer "wukongim"
    connect()
    s:up "bot"
    peer:control("message", { count = 50, joined = true })
    s:run_until(function () return stats().acks == 50 end)
    assert.is_true(stats().ack_messages <= 5, stats().ack_messages .. " messages")
  end)

  for _, version in ipairs { 4, 5 } do
    it("takes packets that are cut at every byte, at version " .. version, function ()
      peer = s:peer("wukongim", { latest = version, faults = { split = 1 } })
      connect()
      local bot = s:consumer { name = "a" }
      s:up "bot"
      peer:control("message", { count = 5, channel_type = 2, channel = "g_1" })
      s:run_until(function () return #numbers(bot) == 5 and stats().acks == 5 end)
    end)
  end

  it("comes back from a kick with the same device id and without a register", function ()
    peer = s:peer "wukongim"
    connect { tune = { classify = { { any = true, verdict = "resume" } }, climb = {} } }
    s:up "bot"
    for round = 1, 3 do
      peer:control "kick"
      s:run_until(function () return s:view "bot".ready == round + 1 end)
    end
    local now = stats()
    assert.same({ 1, 4, 1 }, { now.registers, now.connects, now.most_open })
    local connects = log "connect"
    for i = 2, 4 do assert.equal(connects[1].device, connects[i].device) end
  end)

  it("waits half a minute and longer after a kick by another device", function ()
    peer = s:peer "wukongim"
    connect()
    s:up "bot"
    peer:control "kick"
    local d = s:ending "bot"
    assert.equal("conflict", d.cause.name)
    assert.equal("slow", d.pace)
    assert.is_true(d.delay >= 30000, d.delay)
    assert.equal(1, stats().registers)
  end)

  it("finds a token that the server forgot by two silent rejections and one register", function ()
    peer = s:peer "wukongim"
    connect { tune = { fetch = { registered = { gap = "0s" } } } }
    s:up "bot"
    peer:control "forget"
    s:run_until(function () return s:view "bot".ready == 2 end, "25s")
    local now = stats()
    assert.same({ 2, 2, 0 }, { now.registers, now.silent, now.register_kicked })
  end)

  it("stops when register does not know the token, and shows none of it", function ()
    peer = s:peer("wukongim", { bot_tokens = { bf_other = "bot_other" } })
    connect { bot_token = s:secret("bf_MARKED_SECRET", "bot_token") }
    local d = s:ending "bot"
    assert.equal("stopped", s:state "bot")
    assert.equal("unknown_token", d.cause.name)
    assert.is_nil(s.w:log():find("MARKED_SECRET", 1, true))
    assert.equal(0, stats().upgrades)
  end)

  it("notices a peer that went deaf, and is up again", function ()
    peer = s:peer "wukongim"
    connect()
    s:up "bot"
    peer:control "deaf"
    s:run_until(function () return s:view "bot".ready == 2 end, "10s")
    assert.equal(1, stats().registers)
  end)

  it("survives a line that is reset in the middle of messages: what comes twice is delivered once", function ()
    peer = s:peer("wukongim", { events_every = 10, retry = { after = 200, scan = 100, times = 5 } })
    local relay = s:relay()
    relay:leads_to(peer)
    connect { ws_url = relay.ws .. "/ws", tune = { classify = { { any = true, verdict = "resume" } }, climb = {} } }
    local bot = s:consumer { name = "a" }
    s:up "bot"
    for round = 1, 3 do
      relay:live { reset_down = 2000 * round }
      relay:set {}
      s:run_until(function () return s:view "bot".ready == round + 1 end)
    end
    local from = #numbers(bot)
    s:run_until(function () return #numbers(bot) >= from + 20 end)
    local seen = {}
    for _, n in ipairs(numbers(bot)) do
      assert.is_nil(seen[n], "message " .. n .. " came twice")
      seen[n] = true
    end
    assert.equal(0, stats().acks_unknown)
    assert.is_true(#bot:gaps() >= 1)
  end)
end)
