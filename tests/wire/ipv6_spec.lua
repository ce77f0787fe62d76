-- The IPv6 loopback: links in the clear and over TLS, the certificate's address, and what is shown of it.
local world = require "wire_world"

describe("an address in brackets", function ()
  local s
  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  local function raw(steps)
    steps.v6 = true
    local ok, r = pcall(s.raw, s, steps)
    if not ok and tostring(r):find "cannot listen" then pending "no IPv6 here" end
    return assert(ok and r, r)
  end
  local hello = "\129\9{\"op\":10}"

  it("is dialled, and named so in Host and in the address that is shown", function ()
    local r = raw { { "upgrade" }, { "write", hello }, { "quiet" } }
    s:connection("probe", { url = r.ws .. "/path", hello = true })
    s:up "probe"
    assert.is_truthy(r.saw()[1].received:find("\r\nHost: [::1]:" .. r.port .. "\r\n", 1, true))
    assert.are.equal(("ws://[::1]:%d/path"):format(r.port), s:view "probe".address)
  end)

  it("is dialled over TLS, and the certificate must name it", function ()
    local steps = { { "tls" }, { "upgrade" }, { "write", hello }, { "quiet" } }
    steps.tls = { names = "IP:::1" }
    s:connection("probe", { url = raw(steps).ws .. "/", hello = true })
    s:up "probe"
    steps.tls = { names = "IP:127.0.0.1,DNS:localhost" }
    s:connection("other", { url = raw(steps).ws .. "/", hello = true })
    s:fails("other", "certificate: another address (IPv6)", { stage = "securing", kind = "certificate", code = 64 })
  end)

  it("where nobody listens is refused by name", function ()
    local r = raw { { "quiet" } }
    s:connection("probe", { url = ("ws://[::1]:%d/"):format(s:free_port()) })
    local d = s:fails("probe", "refused (IPv6)", { stage = "connecting", kind = "refused", code = 111 })
    assert.is_truthy(d.cause.reason:find("::1 port", 1, true), d.cause.reason)
    assert.is_truthy(r)
  end)

  it("of a name that has both is left for IPv4 when nobody listens there", function ()
    local r = s:raw { { "upgrade" }, { "write", hello }, { "quiet" } }
    s:connection("probe", { url = ("ws://localhost:%d/"):format(r.port), hello = true })
    s:up "probe"
    assert.are.equal(0, #s:notes("probe", "decision"))
  end)
end)
