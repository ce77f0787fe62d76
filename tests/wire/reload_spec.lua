-- Configuration and policy are reloaded while links are up: the link stays, what is counted goes on, and deadlines
-- that the new numbers change are due by them.
local world = require "wire_world"

describe("a reload on a live link", function ()
  local s, raw
  before_each(function ()
    world.setup()
    s = world.new()
    raw = s:raw { { "upgrade" }, { "write", "\129\9{\"op\":10}" }, { "quiet" } } -- never answers a ping
  end)
  after_each(world.teardown)

  local function up(tune)
    s:connection("probe", { url = raw.ws .. "/", hello = true, tune = tune })
    s:up "probe"
  end
  local function swap(options)
    options.url, options.hello = raw.ws .. "/", true
    s:swap("probe", options)
  end
  local function stays()
    assert.are.equal("up", s:state "probe")
    assert.are.equal(1, s:view "probe".generation)
    assert.are.equal(1, s:view "probe".ready)
    assert.are.equal(1, #raw.saw())
    assert.are.equal(0, #s:notes("probe", "decision"))
  end

  it("to a shorter silence is judged by it", function ()
    up { alive = { ping = "60s", silence = "120s" } }
    assert.is_true(s:view "probe".deadline > s:now() + 20000)
    swap { tune = { alive = { ping = "1s", silence = "2s" } } }
    stays()
    local from = s:now()
    s:fails("probe", "silence after a reload", { stage = "ready", kind = "silence", by = "us" })
    local took = s:now() - from
    assert.is_true(took >= 1400 and took < 4500, "took " .. took)
  end)

  it("to a longer silence is not judged by the old one", function ()
    up { alive = { ping = "1s", silence = "2s" } }
    s:run_for "500ms"
    swap { tune = { alive = { ping = "60s", silence = "120s" } } }
    s:run_for("2500ms", function () return s:state "probe" == "up" end)
    stays()
  end)

  it("to the same numbers changes no deadline, however often", function ()
    up { alive = { ping = "1s", silence = "2s" } }
    local from = s:now()
    s:run_until(function ()
      swap { tune = { alive = { ping = "1s", silence = "2s" } } }
      return #s:notes("probe", "decision") > 0
    end, "4s")
    assert.is_true(s:now() - from < 3000, "silence was put off")
    assert.are.equal("silence", s:notes("probe", "decision")[1].decision.cause.kind)
  end)

  it("to another text of the policy delivers by it from the next frame on, on the same link", function ()
    local peer = s:peer("discord", { heartbeat_interval = 500, tls = false })
    local bot = s:consumer {}
    s:connection("probe", { url = peer.ws .. "/?v=10&encoding=json", hello = true })
    s:up "probe"
    peer:control("raw", { text = '{"op":3,"n":1}' })
    peer:control("raw", { text = '{"op":0,"n":2}' })
    s:run_until(function () return #bot:events() == 1 end)
    s:swap("probe", { policy = world.PROBE:gsub("deliver = { op = 0 }", "deliver = { op = 3 }"),
      url = peer.ws .. "/?v=10&encoding=json", hello = true })
    peer:control("raw", { text = '{"op":3,"n":3}' })
    peer:control("raw", { text = '{"op":0,"n":4}' })
    s:run_until(function () return #bot:events() == 2 end)
    s:run_for "50ms"
    local got = {}
    for i, e in ipairs(bot:events()) do got[i] = e.frame.n end
    assert.are.same({ 2, 3 }, got)
    assert.are.equal(0, #bot:gaps())
    assert.are.equal(1, s:view "probe".ready)
    assert.are.equal(1, peer:stats().upgrades)
  end)

  it("of every connection at once, under events, loses none and drops none", function ()
    local peer = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0 })
    local bot = s:consumer { name = "a" }
    s:discord("bot", peer)
    s:up "bot"
    for _ = 1, 10 do
      peer:control("dispatch", { count = 50 })
      s:swap("bot", { policy = "discord", token = world.wire.secret("MTIz.bot", "token"), intents = 513,
        api = peer.url .. "/api/v10", tune = { beat = { every = { "1s", "500ms", "10s" } } } })
      s:run_for "20ms"
    end
    s:run_until(function () return #bot:numbers() >= 500 end)
    for i, n in ipairs(bot:numbers()) do assert.are.equal(i, n) end
    assert.are.equal(1, s:view "bot".ready)
    assert.are.equal(1, peer:stats().identifies)
    assert.are.equal(0, #bot:gaps())
  end)

  it("while it waits for its next attempt is dialled by the new address", function ()
    local nobody = s:free_port()
    s:connection("probe", { url = ("ws://127.0.0.1:%d/"):format(nobody), hello = true })
    s:fails("probe", "refused before a reload", { kind = "refused" })
    swap {}
    s:up "probe"
    assert.are.equal(1, #raw.saw())
  end)
end)
