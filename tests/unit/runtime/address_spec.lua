-- Addresses: what prepare may answer, what is refused, and what of it may be shown.
local runtime = require "unit.runtime"
local world = require "runtime_world"

local path = world.policy ""

local function address(prepared, plain)
  return runtime.address(path, "return { token = 'T' }", "return " .. prepared, plain)
end

describe("a prepared address", function ()
  it("is taken apart, with the standard port left out of Host", function ()
    local a = address [[{ url = "wss://far.test/a/b?x=1" }]]
    assert.same({ "far.test", 443, true, "far.test", "/a/b?x=1" }, { a.host, a.port, a.tls, a.authority, a.target })
    a = address [[{ url = "wss://far.test:8443" }]]
    assert.same({ 8443, "far.test:8443", "/" }, { a.port, a.authority, a.target })
    a = address [[{ url = "wss://far.test?x=1" }]]
    assert.equal("/?x=1", a.target)
  end)

  it("shows names of query parameters and never a value", function ()
    for url, shown in pairs {
      ["wss://far.test/ws?ticket=SECRET&app=SECRET2"] = "wss://far.test:443/ws?ticket=*&app=*",
      ["wss://far.test/ws?SECRET"] = "wss://far.test:443/ws?*",
      ["wss://far.test/ws?SECRET&a=b"] = "wss://far.test:443/ws?*&a=*",
      ["wss://far.test/ws?a=SECRET?b=SECRET&=SECRET"] = "wss://far.test:443/ws?a=*&=*",
      ["wss://far.test/ws?a=SECRET=SECRET;b=SECRET"] = "wss://far.test:443/ws?a=*",
      ["wss://far.test/ws?a="] = "wss://far.test:443/ws?a=*",
      ["wss://far.test/ws?"] = "wss://far.test:443/ws?",
      ["wss://far.test/ws?a=SECRET&"] = "wss://far.test:443/ws?a=*&",
      ["wss://far.test"] = "wss://far.test:443",
    } do
      local a = address(("{ url = %q }"):format(url))
      assert.equal(shown, a.shown)
      assert.is_nil(a.shown:find("SECRET", 1, true))
    end
  end)

  it("may be a secret, masked like any other", function ()
    local a = address [[{ url_secret = "wss://far.test/ws?key=SECRET" }]]
    assert.equal("/ws?key=SECRET", a.target)
    assert.equal("wss://far.test:443/ws?key=*", a.shown)
  end)

  it("may be as long as addresses get, shown cut", function ()
    local a = address(("{ url = %q }"):format("wss://far.test/" .. ("p"):rep(6000) .. "?k=" .. ("v"):rep(1000)))
    assert.equal(255, #a.shown)
    assert.is_nil(a.shown:find("v", 1, true))
  end)

  it("is refused elsewhere than on the policy's hosts, and its text is not in the reason", function ()
    for url, why in pairs {
      ["wss://evil.test/?k=SECRET"] = "evil.test is not on the policy's hosts",
      ["wss://far.test.evil.test/"] = "not on the policy's hosts",
      ["https://far.test/?k=SECRET"] = "https://, expected wss:// or ws://",
      ["ws://far.test/?k=SECRET"] = "only towards loopback",
      ["wss://user:SECRET@far.test/"] = "user name or password",
      ["wss:///SECRET"] = "has no host",
      ["wss://far.test:0/SECRET"] = "port",
    } do
      local a, reason = address(("{ url = %q }"):format(url))
      assert.is_nil(a)
      assert.truthy(reason:find(why, 1, true), reason)
      assert.is_nil(reason:find("SECRET", 1, true), reason)
    end
    assert.is_nil((address "{ }"))
  end)

  it("may be plain where the connection says so", function ()
    local a = address([[{ url = "ws://far.test/" }]], true)
    assert.same({ false, 80, "far.test" }, { a.tls, a.port, a.authority })
  end)

  it("takes a protocol as text or as a secret", function ()
    assert.equal("chat", address [[{ url = "wss://far.test", protocol = "chat" }]].protocol)
    assert.equal("SECRET", address [[{ url = "wss://far.test", protocol_secret = "SECRET" }]].protocol)
  end)

  it("takes the known ways of compression and names the others", function ()
    assert.is_true(address [[{ url = "wss://far.test", inflate = "zlib-stream" }]].inflate ~= 0)
    local a, why = address [[{ url = "wss://far.test", inflate = "rar" }]]
    assert.is_nil(a)
    assert.truthy(why:find "rar")
  end)

  it("takes 32 headers and refuses more", function ()
    local function headers(n)
      local out = {}
      for i = 1, n do out[i] = ("[%q] = 'v'"):format("X-" .. i) end
      return ("{ url = 'wss://far.test', headers = { %s } }"):format(table.concat(out, ", "))
    end
    assert.equal(32, address(headers(32)).headers)
    local a, why = address(headers(33))
    assert.is_nil(a)
    assert.truthy(why:find "at most 32")
  end)
end)
