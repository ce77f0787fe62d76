-- Our close is never answered: the socket is aborted at the close limit, the next dial waits for it, and
-- never does one identity own two descriptors (I1), whatever the line does.
local world = require "wire_world"

describe("a close that is never answered", function ()
  local s, peer, relay
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 60000 })
    relay = s:relay(peer)
    s:watch(relay.port)
    s:connection("probe", { url = relay.ws .. "/?v=10&encoding=json", hello = true })
    s:up "probe"
  end)
  after_each(world.teardown)

  -- Dials and what ended the link before, in time.
  local function first(what, after)
    for _, n in ipairs(s:notes "probe") do
      if n.what == what and n.at >= after then return n end
    end
  end

  it("ends with an abort at limits.close, and only then the next one is dialled", function ()
    relay:live { black_hole = true }
    relay:set {}
    local from = s:now()
    s:restart "probe"
    s:run_until(function () return s:view "probe".ready == 2 end)
    local close, abort, dial = first("close", from), first("abort", from), first("dial", from)
    assert.are.equal(4000, close.code)
    assert.is_true(abort.at - close.at >= 290 and abort.at - close.at < 600, "after " .. abort.at - close.at)
    assert.is_true(dial.at >= abort.at)
    assert.are.equal(1, s:sockets_most())
  end)

  it("does not keep a stop from ending", function ()
    relay:live { black_hole = true }
    s:stop "probe"
    s:run_until(function () return s:state "probe" == "stopped" and s:view "probe".links == 0 end, "1s")
    assert.are.equal(1, s:sockets_most())
  end)

  it("is the same with a peer that answers nothing but stays connected", function ()
    peer:control "deaf"
    local from = s:now()
    s:restart "probe"
    s:run_until(function () return s:view "probe".ready == 2 end)
    assert.is_true(first("dial", from).at >= first("abort", from).at)
    assert.are.equal(1, s:sockets_most())
  end)

  it("never leaves two descriptors behind, through a storm of faults", function ()
    local faults = { { reset = true }, { mute = true }, { fin_down = 100 }, { reset_down = 400 }, { black_hole = true },
      { refuse = true }, { drop_down = true } }
    for _, f in ipairs(faults) do
      local seen = #s:notes("probe", "decision")
      relay:set(f)
      relay:reset()
      s:restart "probe"
      s:run_until(function () return #s:notes("probe", "decision") > seen end)
      s:run_for "300ms"
    end
    relay:set {}
    s:up "probe"
    assert.are.equal(1, s:sockets_most())
  end)
end)
