local net = require "unit.net"
local world = require "net_world"

describe("a name with several addresses", function ()
  before_each(world.setup)
  after_each(function ()
    net.close_fds()
    world.teardown()
  end)

  local function ending(seen)
    for _, e in ipairs(seen) do if e.what == "ended" then return e.cause end end
  end

  it("is tried address by address until one stands, with one descriptor at a time", function ()
    local s = world.server { { "write", "x" }, { "end" } }
    local w = world.open()
    w:pretend("many.test", { "127.0.0.2", "127.0.0.3", "::1", "127.0.0.1" })
    local before = net.fd_count()
    assert(w:link(1, { host = "many.test", port = s:port() }))
    local most = 0
    local connected
    world.eventually(w, function ()
      connected = s:saw(1)
      if not connected then most = math.max(most, net.fd_count() - before) end
      return connected
    end)
    assert.is_true(most <= 2, most) -- the link's, and perhaps the server's that is about to be seen
    local _, seen = world.await_what(w, "bytes")
    assert.equal("resolving connecting opened", world.story(seen, 1))
    w:abort(1)
  end)

  it("fails with the most telling of its causes", function ()
    local w = world.open()
    w:pretend("none.test", { "127.0.0.1", "::1" })
    assert(w:link(1, { host = "none.test", port = net.free_port() }))
    local _, seen = world.await_what(w, "closed")
    local cause = ending(seen)
    assert.equal("refused", cause.kind)
    assert.matches("and other addresses failed", cause.reason)
  end)

  it("gives way to the next address when one is silent", function ()
    local silent = net.silent_port "127.0.0.2"
    if not silent then return pending "no way to a silent port here" end
    local w = world.open { attempt_ms = 50 }
    w:pretend("two.test", { "127.0.0.2", "127.0.0.1" })
    local hits = net.mark_hits "a silent address gives way to the next"
    assert(w:link(1, { host = "two.test", port = silent }))
    local _, seen = world.await_what(w, "closed")
    assert.equal(hits + 1, net.mark_hits "a silent address gives way to the next")
    local cause = ending(seen)
    assert.equal("refused", cause.kind) -- by the second one
    assert.matches("127.0.0.1", cause.reason)
  end)

  it("leaves the last address to the engine's limit", function ()
    local silent = net.silent_port "127.0.0.1"
    if not silent then return pending "no way to a silent port here" end
    local w = world.open { attempt_ms = 20 }
    w:pretend("last.test", { "127.0.0.2", "127.0.0.1" })
    assert(w:link(1, { host = "last.test", port = silent }))
    local start = w:clock()
    while w:clock() - start < 100 do w:step(20) end
    local story = world.story(world.rest(w), 1)
    assert.equal("resolving connecting", story)
    local before = net.fd_count()
    w:abort(1)
    assert.equal(before - 1, net.fd_count())
    world.await_what(w, "closed")
  end)

  it("costs a call no time either: libcurl gets all of them", function ()
    local s = world.server { { "request" }, { "write", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" } }
    local w = world.open()
    w:pretend("call.test", { "127.0.0.2", "::1", "127.0.0.1" })
    w:http(1, { url = ("http://call.test:%d/"):format(s:port()) })
    local r = world.await_what(w, "http", 1)
    assert.equal("x", r.body)
    assert.matches("\r\nHost: call.test:", (select(2, s:saw(1))))
  end)
end)
