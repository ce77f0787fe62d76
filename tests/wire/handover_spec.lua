-- A planned replacement with overlap: the new link is ready before the old one is closed, at most two
-- descriptors are open, and what comes on either is delivered.
local world = require "wire_world"

describe("a planned replacement", function ()
  local s, peer, relay
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 60000 })
    relay = s:relay(peer)
    s:watch(relay.port)
  end)
  after_each(world.teardown)

  -- Settled after a second; op 7 is then a planned ending.
  local function connect(overlap)
    local policy = world.PROBE:gsub("session  =", ("overlap = %d,\n  session  ="):format(overlap))
      :gsub("deliver = { op = 0 }", 'deliver = { op = 0 }, ends = { { op = 7, cause = "reconnect" } }')
      :gsub("classify = {", 'classify = { { cause = "reconnect", verdict = "resume", planned = true },', 1)
    s:connection("probe", { policy = policy, url = relay.ws .. "/?v=10&encoding=json", hello = true,
      tune = { limits = { drain = "200ms" }, backoff = { settle = "1s" } } })
    s:up "probe"
    s:run_until(function () return s:view "probe".settled end, "2s")
    peer:control "op7"
  end

  it("with overlap is ready before the old link is closed", function ()
    connect(1)
    s:run_until(function () return s:view "probe".ready == 2 end, "4s")
    -- Never seen down in between.
    for _, n in ipairs(s:notes("probe", "state")) do
      assert.is_true(not (n.from == "up"), n.from .. " -> " .. n.to)
    end
    s:run_until(function () return s:view "probe".links == 1 end, "2s")
    assert.are.equal(2, s:sockets_most())
    s:run_until(function () return relay:stats().open == 1 end)
    assert.are.equal(1, peer:closed(4000))
  end)

  it("without overlap closes first, and never has two descriptors", function ()
    connect(0)
    s:run_until(function () return s:view "probe".ready == 2 end, "4s")
    assert.are.equal(1, s:sockets_most())
    assert.are.equal(1, peer:closed(4000))
  end)

  it("whose new link fails keeps the old one", function ()
    connect(1)
    relay:set { reset = true, times = 1 }
    s:run_until(function () return relay:stats().accepted >= 2 end, "4s")
    s:run_for("200ms", function () return s:state "probe" == "up" end)
    s:run_until(function () return s:view "probe".ready == 2 end, "7s")
    assert.is_true(s:sockets_most() <= 2)
  end)
end)
