-- Mattermost's policy over real TLS sockets: the way of every day, being found again, and what goes wrong most.
local world = require "wire_world"

describe("a Mattermost bot over TLS", function ()
  local s, peer, bot

  local function connect(options)
    peer = s:peer("mattermost", options or {})
    bot = s:consumer { name = "a" }
    s:connection("bot", { policy = "mattermost", token = s:secret("bottoken", "token"), server = peer.url,
                          tune = { beat = { every = "1s" }, backoff = { factor = 1 } } })
  end

  local function numbers()
    local out = {}
    for _, e in ipairs(bot:events()) do
      if e.take.event == "posted" then out[#out + 1] = e.frame.data.number end
    end
    return out
  end

  -- Exactly 1..n, whatever happened on the way.
  local function whole(n)
    s:run_until(function () return #numbers() >= n end, nil, n .. " posts")
    for i, number in ipairs(numbers()) do assert.equal(i, number) end
  end

  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  it("comes up with one look at the token and one socket, and three hundred posts come in order", function ()
    connect()
    s:up "bot"
    peer:control("post", { count = 300 })
    whole(300)
    local stats = peer:stats()
    assert.same({ 1, 1, 1 }, { stats.http, stats.upgrades, stats.hellos })
    assert.equal(0, #bot:gaps())
  end)

  it("pings, and each ping is answered", function ()
    connect()
    s:up "bot"
    s:run_until(function () return s:view "bot".beats_answered >= 3 end, "5s")
    assert.equal("up", s:state "bot")
  end)

  it("is found again after a cut, with what was posted meanwhile, each once and in order", function ()
    connect()
    s:up "bot"
    peer:control("post", { count = 20 })
    whole(20)
    peer:control "abort"
    peer:control("post", { count = 30 })
    s:run_until(function () return s:view "bot".ready == 2 end)
    peer:control("post", { count = 10 })
    whole(60)
    assert.same({ 1, 1 }, { peer:stats().hellos, peer:stats().resumed })
    assert.equal(0, #bot:gaps())
  end)

  it("asks again for an event that did not come", function ()
    connect()
    s:up "bot"
    peer:fault { lose = 2 }
    peer:control("post", { count = 5 })
    s:fails("bot", "two events lost", { name = "sequence", drop = "resume" })
    whole(5)
    assert.equal(1, peer:stats().resumed)
  end)

  it("says that there is a gap when the server does not know the connection any more", function ()
    connect()
    s:up "bot"
    peer:control "expire"
    peer:control "abort"
    s:run_until(function () return s:view "bot".ready == 2 end)
    s:run_until(function () return #bot:gaps() == 1 end)
    peer:control("post", { count = 3 })
    whole(3)
  end)

  it("stops on a refused token and opens no socket", function ()
    connect { token = "another" }
    s:fails("bot", "a refused token", { http = 401, stage = "preparing", pace = "stop" })
    s:run_for "1s"
    assert.same({ 1, 0 }, { peer:stats().http, peer:stats().upgrades })
  end)

  it("is found again after pings went unanswered", function ()
    connect()
    s:up "bot"
    peer:fault { no_pong = true }
    s:fails("bot", "no pong", { kind = "beat" }, "5s")
    peer:heal()
    s:run_until(function () return s:view "bot".ready == 2 end)
    assert.equal(1, peer:stats().resumed)
  end)
end)
