local url = require "unit.base_url"

describe("a URL", function()
  it("is split into scheme, host, port and target", function()
    assert.same({
      scheme = "wss", host = "gateway.example.org", port = 443, port_written = false, v6 = false,
      tls = true, websocket = true, target = "/?v=10&encoding=json", loopback = false,
    }, url.parse "WSS://Gateway.Example.ORG/?v=10&encoding=json")
    local u = url.parse "http://127.0.0.1:8080?x"
    assert.same({ "http", "127.0.0.1", 8080, true, "?x", true, false },
      { u.scheme, u.host, u.port, u.port_written, u.target, u.loopback, u.tls })
  end)

  it("takes an IPv6 address in brackets only", function()
    local u = url.parse "ws://[::1]:9000/x"
    assert.same({ "::1", true, 9000, true }, { u.host, u.v6, u.port, u.loopback })
    assert.is_nil(url.parse "ws://::1/")
    assert.is_nil(url.parse "ws://[::1/")
    assert.is_nil(url.parse "ws://[localhost]/")
    assert.is_nil(url.parse "ws://[::1]x/")
  end)

  it("is refused in every form that could send a token elsewhere", function()
    for _, text in ipairs {
      "", "example.org", "ftp://example.org", "https:/example.org", "https://", "https:///x", "https://a b/",
      "https://user:pass@example.org/", "https://good.example@evil.example/", "https://example.org/#x",
      "https://example.org\\@evil.example/", "https://example.org:0/", "https://example.org:65536/",
      "https://example.org:/", "https://example.org:80x/", "https://example.org:+80/", "https://exa\0mple.org/",
      "https://ex\195\164mple.org/", "https://.example.org/", "https://example..org/", "https://example.org./",
      "https://127.1/", "https://0x7f.0.0.1/", "https://2130706433/", "https://1.2.3.256/", "https://-a.org/",
      "https://" .. ("a"):rep(64) .. ".org/", "https://" .. ("a."):rep(130) .. "org/", "https://a\r\nb/",
      "https://example.org/" .. ("a"):rep(9000), " https://example.org",
    } do
      local u, why = url.parse(text)
      assert.is_nil(u, text)
      assert.is_string(why)
    end
  end)

  it("never repeats its text in the reason", function()
    local _, why = url.parse "https://user:hunter2@example.org/"
    assert.is_nil(why:find("hunter2", 1, true))
  end)

  it("is loopback only for 127.0.0.0/8, ::1 and localhost", function()
    for text, want in pairs {
      ["ws://127.0.0.1/"] = true, ["ws://127.255.0.9/"] = true, ["ws://localhost:1/"] = true,
      ["ws://[0:0:0:0:0:0:0:1]/"] = true, ["ws://128.0.0.1/"] = false, ["ws://10.0.0.1/"] = false,
      ["ws://localhost.example.org/"] = false, ["ws://[::2]/"] = false, ["ws://127.0.0.1.example.org/"] = false,
    } do assert.equal(want, url.parse(text).loopback, text) end
  end)
end)

describe("a host pattern", function()
  it("is an exact host, or a star with at least two labels behind it", function()
    for pattern, want in pairs {
      ["example.org"] = true, ["*.example.org"] = true, ["127.0.0.1"] = true, ["::1"] = true, ["localhost"] = true,
      ["*"] = false, ["*.org"] = false, ["*.1.2.3.4"] = false, ["a.*.org"] = false, ["Example.org"] = false,
      [""] = false, ["example.org:443"] = false, ["https://example.org"] = false, ["*example.org"] = false,
    } do assert.equal(want, url.pattern_is_valid(pattern), pattern) end
  end)

  it("covers one or more labels and not the bare domain", function()
    assert.is_true(url.matches("*.example.org", "a.example.org"))
    assert.is_true(url.matches("*.example.org", "a.b.example.org"))
    assert.is_false(url.matches("*.example.org", "example.org"))
    assert.is_false(url.matches("*.example.org", "badexample.org"))
    assert.is_false(url.matches("*.example.org", ".example.org"))
    assert.is_false(url.matches("example.org", "a.example.org"))
  end)
end)
