-- Which proxy a target goes through, by the environment. Tables: one line, one claim.
local proxy = require "unit.base_proxy"

local P = "http://proxy.example:3128"

-- "host:port", false, or nil and the error.
local function choose(environment, url)
  local scheme, rest = url:match "^(%a+)://(.*)$"
  local host, port = rest:match "^%[(.-)%]:?(%d*)$"
  if not host then host, port = rest:match "^([^:]*):?(%d*)$" end
  local tls = scheme == "https" or scheme == "wss"
  local p, why = proxy.choose(environment, tls, host, tonumber(port) or (tls and 443 or 80))
  if p == nil then return nil, why end
  return p and p.host .. ":" .. p.port, p
end

describe("the variables", function ()
  for what, case in pairs {
    ["HTTPS_PROXY is for wss"] = { { HTTPS_PROXY = P }, "wss://a.example", "proxy.example:3128" },
    ["HTTPS_PROXY is for https"] = { { HTTPS_PROXY = P }, "https://a.example", "proxy.example:3128" },
    ["HTTPS_PROXY is not for ws"] = { { HTTPS_PROXY = P }, "ws://a.example", false },
    ["https_proxy goes before HTTPS_PROXY"] = { { HTTPS_PROXY = P, https_proxy = "http://lower:1" }, "wss://a.example", "lower:1" },
    ["http_proxy is for ws"] = { { http_proxy = P }, "ws://a.example", "proxy.example:3128" },
    ["http_proxy is not for wss"] = { { http_proxy = P }, "wss://a.example", false },
    ["HTTP_PROXY is not read: a server may have made it of a client's header"] = { { HTTP_PROXY = P }, "http://a.example", false },
    ["ALL_PROXY is for wss without its own"] = { { ALL_PROXY = P }, "wss://a.example", "proxy.example:3128" },
    ["ALL_PROXY is for http without its own"] = { { ALL_PROXY = P }, "http://a.example", "proxy.example:3128" },
    ["all_proxy goes before ALL_PROXY"] = { { ALL_PROXY = P, all_proxy = "http://lower:1" }, "wss://a.example", "lower:1" },
    ["HTTPS_PROXY goes before all_proxy"] = { { HTTPS_PROXY = "http://upper:1", all_proxy = P }, "wss://a.example", "upper:1" },
    ["an empty value is none"] = { { https_proxy = "", HTTPS_PROXY = "" }, "wss://a.example", false },
    ["an empty lower-case one lets the other through"] = { { https_proxy = "", HTTPS_PROXY = P }, "wss://a.example", "proxy.example:3128" },
    ["nothing set is none"] = { {}, "wss://a.example", false },
    ["a proxy without a scheme is an http one"] = { { HTTPS_PROXY = "proxy.example:3128" }, "wss://a.example", "proxy.example:3128" },
    ["a proxy without a port has 80"] = { { HTTPS_PROXY = "http://proxy.example" }, "wss://a.example", "proxy.example:80" },
    ["a final slash is nothing"] = { { HTTPS_PROXY = P .. "/" }, "wss://a.example", "proxy.example:3128" },
    ["names are in lower case"] = { { HTTPS_PROXY = "HTTP://Proxy.Example:3128" }, "wss://a.example", "proxy.example:3128" },
    ["a proxy may be an IPv6 address"] = { { HTTPS_PROXY = "http://[2001:db8::1]:8" }, "wss://a.example", "2001:db8::1:8" },
  } do
    it(what, function () assert.equal(case[3], (choose(case[1], case[2]))) end)
  end

  for value, expected in pairs {
    ["http://u:p@proxy.example:1"] = { "Basic dTpw", "proxy.example:1" },
    ["u:p@proxy.example:1"] = { "Basic dTpw", "proxy.example:1" },
    ["http://u@proxy.example:1"] = { "Basic dTo=", "proxy.example:1" },
    ["http://user:p%40ss%3a%2f@proxy.example:1"] = { "Basic dXNlcjpwQHNzOi8=", "proxy.example:1" },
    ["http://u:a@b@proxy.example:1"] = { "Basic dTphQGI=", "proxy.example:1" },
    ["http://u:a/b?c#d@proxy.example:1"] = { "Basic dTphL2I/YyNk", "proxy.example:1" },
    ["u:a://b@proxy.example:1"] = { "Basic dTphOi8vYg==", "proxy.example:1" },
  } do
    it("make an authorization of " .. value, function ()
      local where, p = choose({ HTTPS_PROXY = value }, "wss://a.example")
      assert.same(expected, { p.authorization, where })
    end)
  end

  for value, why in pairs {
    ["socks5://u:hunter2@proxy.example:1"] = "names no http:// proxy; https:// and SOCKS proxies are not supported",
    ["https://proxy.example:1"] = "names no http:// proxy; https:// and SOCKS proxies are not supported",
    ["http://u:hunter2@"] = "has no host",
    ["http://"] = "has no host",
    ["http://proxy.example:0"] = "has no port from 1 to 65535",
    ["http://u:hunter2@proxy.example:http"] = "has no port from 1 to 65535",
    ["http://proxy.example:1/path"] = "must be http://host:port, with nothing behind it",
    ["http://proxy.example:1?q"] = "must be http://host:port, with nothing behind it",
    ["http://proxy example:1"] = "has a blank or a byte that must be encoded",
    ["http://u:hunter2%zz@proxy.example:1"] = "has a user name or password with a broken % escape, or one too long",
    ["http://u:hunter2%4@proxy.example:1"] = "has a user name or password with a broken % escape, or one too long",
    ["http://u%3a:hunter2@proxy.example:1"] = "has a colon in the user name",
    ["http://u:hunter2%0d%0a@proxy.example:1"] = "has a control byte in the user name or password",
    ["http://u:hunter2%00@proxy.example:1"] = "has a control byte in the user name or password",
    [("a"):rep(9000)] = "is longer than 8192 bytes",
    ["http://u:hunter2" .. ("a"):rep(5000) .. "@p:1"] = "has a user name or password with a broken % escape, or one too long",
  } do
    it("refuse " .. value:sub(1, 60) .. " and do not show it", function ()
      for _, name in ipairs { "HTTPS_PROXY", "https_proxy", "ALL_PROXY" } do
        local p, said = choose({ [name] = value }, "wss://a.example")
        assert.is_nil(p)
        assert.equal(("the environment variable %s %s"):format(name, why), said)
        assert.is_nil(said:find("hunter2", 1, true))
      end
    end)
  end
end)

describe("NO_PROXY", function ()
  -- value, targets that go straight, targets that go through the proxy
  for _, case in ipairs {
    { "a.example", { "wss://a.example", "wss://b.a.example", "wss://c.b.a.example" }, { "wss://ba.example", "wss://example", "wss://a.example.org" } },
    { ".a.example", { "wss://a.example", "wss://b.a.example" }, { "wss://ba.example" } },
    { "*.a.example", { "wss://b.a.example" }, { "wss://a.example", "wss://ba.example" } },
    { "A.Example", { "wss://a.example" }, {} },
    { "a.example.", { "wss://a.example" }, {} },
    { "*", { "wss://a.example", "wss://192.0.2.1", "wss://[2001:db8::1]" }, {} },
    { "b.example,*", { "wss://a.example" }, {} },
    { "b.example, a.example", { "wss://a.example", "wss://b.example" }, { "wss://c.example" } },
    { "b.example a.example", { "wss://a.example", "wss://b.example" }, { "wss://c.example" } },
    { ",, a.example ,", { "wss://a.example" }, { "wss://b.example" } },
    { "a.example:443", { "wss://a.example", "https://b.a.example:443" }, { "wss://a.example:8443" } },
    { ".a.example:8443", { "wss://b.a.example:8443" }, { "wss://b.a.example" } },
    { "*:8443", { "wss://a.example:8443" }, { "wss://a.example" } },
    { "192.0.2.1", { "wss://192.0.2.1", "wss://[::ffff:192.0.2.1]" }, { "wss://192.0.2.10", "wss://x.192.0.2.a" } },
    { "192.0.2.1:8443", { "wss://192.0.2.1:8443" }, { "wss://192.0.2.1" } },
    { "192.0.2.0/24", { "wss://192.0.2.1", "wss://192.0.2.255" }, { "wss://192.0.3.1", "wss://[2001:db8::1]" } },
    { "10.0.0.0/9", { "wss://10.127.0.1" }, { "wss://10.128.0.1" } },
    { "0.0.0.0/0", { "wss://192.0.2.1" }, { "wss://a.example", "wss://[2001:db8::1]" } },
    { "2001:db8::1", { "wss://[2001:db8::1]", "wss://[2001:db8:0::0:1]" }, { "wss://[2001:db8::2]" } },
    { "[2001:db8::1]", { "wss://[2001:db8::1]" }, {} },
    { "[2001:db8::1]:8443", { "wss://[2001:db8::1]:8443" }, { "wss://[2001:db8::1]" } },
    { "2001:db8::/33", { "wss://[2001:db8:7fff::1]" }, { "wss://[2001:db8:8000::1]" } },
    { "intranet", { "wss://intranet", "wss://a.intranet" }, { "wss://intranet.example" } },
    { "2.1", nil, nil, "2.1" },
    { "a..example", nil, nil, "a..example" },
    { "a.example:x", nil, nil, "a.example:x" },
    { "a.example:0", nil, nil, "a.example:0" },
    { "a.example:65536", nil, nil, "a.example:65536" },
    { "192.0.2.0/33", nil, nil, "192.0.2.0/33" },
    { "192.0.2.0/", nil, nil, "192.0.2.0/" },
    { "[2001:db8::1", nil, nil, "[2001:db8::1" },
    { "[192.0.2.1]", nil, nil, "[192.0.2.1]" },
    { "[2001:db8::1]x", nil, nil, "[2001:db8::1]x" },
    { "b.example,127.*", nil, nil, "127.*" },
    { "http://a.example", nil, nil, "http://a.example" },
    { "a\27[2J", nil, nil, "a\\x1b[2J" },
    { "*.", nil, nil, "*." },
    { ".", nil, nil, "." },
    { ("a"):rep(300), nil, nil, ("a"):rep(60) },
  } do
    local value, straight, through, wrong = case[1], case[2], case[3], case[4]
    it(("%q %s"):format(value:sub(1, 40), wrong and "is refused, by name" or "is what it says"), function ()
      for _, name in ipairs { "NO_PROXY", "no_proxy" } do
        local environment = { ALL_PROXY = P, [name] = value }
        if wrong then
          local p, why = choose(environment, "wss://z.example")
          assert.is_nil(p)
          assert.equal(("the environment variable %s has `%s`, which is no name, .suffix, address, network or *, with or without :port")
            :format(name, wrong), why)
        end
        for _, url in ipairs(straight or {}) do assert.is_false(choose(environment, url), url) end
        for _, url in ipairs(through or {}) do assert.equal("proxy.example:3128", choose(environment, url), url) end
      end
    end)
  end

  it("in lower case goes before the other", function ()
    assert.is_false(choose({ ALL_PROXY = P, no_proxy = "a.example", NO_PROXY = "b.example" }, "wss://a.example"))
    assert.truthy(choose({ ALL_PROXY = P, no_proxy = "a.example", NO_PROXY = "b.example" }, "wss://b.example"))
  end)

  it("is nobody's business where no proxy is set", function ()
    assert.is_false(choose({ NO_PROXY = "127.*" }, "wss://a.example"))
  end)

  it("has at most 1,024 entries", function ()
    assert.is_false(choose({ ALL_PROXY = P, NO_PROXY = ("b.example,"):rep(1023) .. "a.example" }, "wss://a.example"))
    local p, why = choose({ ALL_PROXY = P, NO_PROXY = ("b.example,"):rep(1025) }, "wss://a.example")
    assert.is_nil(p)
    assert.equal("the environment variable NO_PROXY has more than 1024 entries", why)
  end)

  for _, host in ipairs { "localhost", "db.localhost", "127.0.0.1", "127.8.9.10" } do
    it("need not name " .. host .. ": loopback never goes through a proxy of the environment", function ()
      assert.is_false(choose({ ALL_PROXY = P }, "wss://" .. host))
      assert.is_false(choose({ ALL_PROXY = P }, "ws://" .. host .. ":8080"))
    end)
  end
  it("need not name the loopback of IPv6, however it is written", function ()
    for _, host in ipairs { "::1", "0:0::1", "::ffff:127.0.0.1" } do
      assert.is_false(choose({ ALL_PROXY = P }, "wss://[" .. host .. "]"))
    end
    assert.truthy(choose({ ALL_PROXY = P }, "wss://[::2]"))
    assert.truthy(choose({ ALL_PROXY = P }, "wss://notlocalhost"))
  end)
end)

describe("Basic", function ()
  it("has the vectors of RFC 7617, and every length", function ()
    assert.equal("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", (proxy.basic("Aladdin", "open sesame")))
    assert.equal("Basic dGVzdDoxMjPCow==", (proxy.basic("test", "123£")))
    assert.equal("Basic Og==", (proxy.basic("", "")))
    assert.equal("Basic YTo=", (proxy.basic("a", "")))
    assert.equal("Basic YTpi", (proxy.basic("a", "b")))
    assert.equal("Basic YTpiYzo6ZA==", (proxy.basic("a", "bc::d")))
  end)
  it("refuses what would be read as something else", function ()
    assert.same({ nil, "has a colon in the user name" }, { proxy.basic("a:b", "c") })
    for _, bad in ipairs { "a\r\nb", "a\0b", "a\127" } do
      assert.is_nil((proxy.basic("a", bad)))
      assert.is_nil((proxy.basic(bad, "a")))
    end
  end)
end)
