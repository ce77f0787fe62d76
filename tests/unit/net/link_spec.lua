local net = require "unit.net"
local world = require "net_world"

describe("link", function ()
  before_each(world.setup)
  after_each(world.teardown)

  it("opens a plain connection, carries bytes both ways and ends with the peer", function ()
    local s = world.server { { "write", "hello" }, { "read", "3" } }
    local w = world.open()
    assert.is_true(w:link(7, { host = "127.0.0.1", port = s:port() }))
    local _, seen = world.await_what(w, "bytes", 7)
    assert.equal("hello", world.bytes(seen, 7))
    assert.is_true(w:write(7, "abc"))
    local _, rest = world.await_what(w, "closed", 7)
    assert.equal("resolving connecting opened", world.story(seen, 7))
    assert.equal("ended closed", world.story(rest, 7))
    assert.equal("eof", rest[1].cause.kind)
    local _, received = s:saw(1)
    assert.equal("abc", received)
  end)
end)
