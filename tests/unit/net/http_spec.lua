local net = require "unit.net"
local world = require "net_world"

local function answer(head, body)
  return ("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s"):format(head, #body, body)
end

describe("http", function ()
  local ca, ca_file
  before_each(function ()
    world.setup()
    ca_file = os.tmpname()
    ca = net.authority(ca_file)
  end)
  after_each(function ()
    os.remove(ca_file)
    world.teardown()
  end)

  local function call(server, request)
    local s = world.server(server)
    local w = world.open()
    request.url = (request.url or "http://127.0.0.1:PORT/"):gsub("PORT", s:port())
    assert(w:http(5, request))
    return world.await_what(w, "http", 5), s, w
  end

  it("answers a GET with status, raw header lines and body", function ()
    local r, s = call({ { "request" }, { "write", answer("200 OK\r\nX-One: 1\r\nx-two:  two ", "hello") } },
      { headers = { Authorization = "Bot secret" } })
    assert.is_true(r.answered)
    assert.equal(200, r.status)
    assert.equal("X-One: 1\r\nx-two:  two \r\nContent-Length: 5\r\n", r.head)
    assert.equal("hello", r.body)
    assert.equal("none", r.cause.kind)
    local _, request = s:saw(1)
    assert.matches("^GET / HTTP/1.1\r\n", request)
    assert.matches("\r\nAuthorization: Bot secret\r\n", request)
    assert.not_matches("[Uu]ser%-[Aa]gent", request)
    assert.not_matches("[Aa]ccept%-[Ee]ncoding", request)
  end)

  it("sends a POST's body and nothing that was not asked for", function ()
    local r, s = call({ { "request" }, { "write", answer("201 Created", "") } },
      { method = "POST", body = '{"a":1}', headers = { ["Content-Type"] = "application/json" } })
    assert.equal(201, r.status)
    assert.equal("", r.body)
    local _, request = s:saw(1)
    assert.matches("^POST / HTTP/1.1\r\n", request)
    assert.matches("\r\nContent%-Type: application/json\r\n", request)
    assert.matches('\r\n\r\n{"a":1}$', request)
    assert.not_matches("urlencoded", request)
    assert.not_matches("Expect", request)
  end)

  for _, method in ipairs { "PUT", "DELETE", "PATCH" } do
    it("sends " .. method .. " as such", function ()
      local r, s = call({ { "request" }, { "write", answer("204 No Content", "") } }, { method = method })
      assert.equal(204, r.status)
      assert.matches("^" .. method .. " /", (select(2, s:saw(1))))
    end)
  end

  it("hands out a 429 with its headers and body", function ()
    local r = call({ { "request" }, { "write", answer("429 Too Many Requests\r\nRetry-After: 3", "slow") } }, {})
    assert.is_true(r.answered)
    assert.equal(429, r.status)
    assert.matches("Retry%-After: 3\r\n", r.head)
    assert.equal("slow", r.body)
  end)

  it("keeps the header lines of the final answer alone", function ()
    local r = call({ { "request" },
      { "write", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" .. answer("200 OK\r\nA: b", "ok") } }, {})
    assert.equal(200, r.status)
    assert.equal("A: b\r\nContent-Length: 2\r\n", r.head)
  end)

  it("does not follow a redirect", function ()
    local r = call({ { "request" }, { "write", answer("302 Found\r\nLocation: http://127.0.0.1:1/", "") } }, {})
    assert.equal(302, r.status)
  end)

  it("reads an answer that trickles in pieces of one byte, chunked", function ()
    local r = call({ { "request" }, { "trickle", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" ..
      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" } }, {})
    assert.equal("abcde", r.body)
  end)

  it("uses a connection again for the same place", function ()
    local ok = answer("200 OK", "x")
    local s = world.server { { "request" }, { "write", ok }, { "request" }, { "write", ok }, { "end" } }
    local w = world.open()
    for id = 1, 2 do
      w:http(id, { url = "http://127.0.0.1:" .. s:port() .. "/" })
      assert.is_true(world.await_what(w, "http", id).answered)
    end
    assert.is_nil(s:saw(2))
  end)

  for what, case in pairs {
    ["with a length"] = answer("200 OK", ("x"):rep(300)),
    ["in chunks"] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12c\r\n" .. ("x"):rep(300) .. "\r\n0\r\n\r\n",
    ["without an end"] = "HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(300),
    ["of headers"] = "HTTP/1.1 200 OK\r\n" .. ("X-Flood: " .. ("y"):rep(1000) .. "\r\n"):rep(100),
  } do
    it("fails an answer over the limit, " .. what .. ", with too_big", function ()
      local r = call({ { "request" }, { "write", case }, { "end" } }, { body_bytes_max = 256 })
      assert.is_false(r.answered)
      assert.equal("too_big", r.cause.kind)
    end)
  end

  it("ends a call at its limit, whatever the server does", function ()
    local r = call({ { "request" }, { "end" } }, { timeout_ms = 30 })
    assert.is_false(r.answered)
    assert.equal("timeout", r.cause.kind)
    assert.equal("ready", r.cause.stage)
  end)

  it("says nothing more after a cancel, before, during and after the lookup", function ()
    local s = world.server { { "request" }, { "quiet" } }
    local w = world.open()
    local url = "http://localhost:" .. s:port() .. "/"
    w:http(1, { url = url })
    w:cancel(1)
    w:http(2, { url = url })
    w:step(0)
    w:cancel(2)
    w:http(3, { url = url })
    world.eventually(w, function ()
      return ((select(2, s:saw(1)) or "") .. (select(2, s:saw(2)) or "")):find "\r\n\r\n"
    end)
    w:cancel(3)
    w:cancel(3)
    w:cancel(99)
    assert.equal(0, w:counts().calls)
    w:step(20)
    assert.same({}, world.rest(w))
  end)

  for what, case in pairs {
    ["a refused port"] = { url = function () return "http://127.0.0.1:" .. net.free_port() .. "/" end,
      kind = "refused", stage = "connecting" },
    ["a name that is none"] = { url = "http://name.invalid/", kind = "resolve", stage = "resolving" },
    ["another scheme"] = { url = "ftp://127.0.0.1/", kind = "address", stage = "preparing" },
    ["no address at all"] = { url = "nonsense", kind = "address", stage = "preparing" },
  } do
    it("gives the cause of " .. what, function ()
      local w = world.open()
      local url = type(case.url) == "function" and case.url() or case.url
      assert.is_true(w:http(1, { url = url }))
      local r = world.await_what(w, "http", 1)
      assert.is_false(r.answered)
      assert.equal(case.kind, r.cause.kind)
      assert.equal(case.stage, r.cause.stage)
    end)
  end

  for what, case in pairs {
    ["an end without an answer"] = { { { "request" } }, "eof" },
    ["an end inside the answer"] = { { { "request" }, { "write", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc" } }, "eof" },
    ["a reset"] = { { { "request" }, { "reset" } }, "reset" },
    ["something that is no HTTP"] = { { { "request" }, { "write", "SSH-2.0-x\r\n\r\n" } }, "protocol" },
  } do
    it("gives the cause of " .. what, function ()
      local r = call(case[1], {})
      assert.is_false(r.answered)
      assert.equal(case[2], r.cause.kind)
    end)
  end

  it("refuses headers and methods that would forge a request", function ()
    local w = world.open()
    w:http(1, { url = "http://127.0.0.1:1/", headers = { A = "b\r\nC: d" } })
    w:http(2, { url = "http://127.0.0.1:1/", headers = { ["A b"] = "c" } })
    w:http(3, { url = "http://127.0.0.1:1/", method = "GET / HTTP/1.1\r\nA: b" })
    for id = 1, 3 do
      assert.equal(id, world.await_what(w, "http", id).id)
    end
    assert.equal(0, w:counts().calls)
  end)

  describe("over TLS", function ()
    local function secure(server, request)
      server.authority = server.authority or ca
      request.url = request.url or "https://localhost:PORT/"
      return call(server, request)
    end
    local ok = { "write", answer("200 OK", "x") }

    it("answers with the CA file given", function ()
      local r = secure({ { "tls" }, { "request" }, ok }, { ca_file = ca_file })
      assert.equal(200, r.status)
    end)

    it("refuses the same server without it, even right after a call that had it", function ()
      local s = world.server { authority = ca, { "tls" }, { "request" }, ok, { "request" }, ok, { "end" } }
      local w = world.open()
      local url = "https://localhost:" .. s:port() .. "/"
      w:http(1, { url = url, ca_file = ca_file })
      assert.equal(200, world.await_what(w, "http", 1).status)
      w:http(2, { url = url })
      local r = world.await_what(w, "http", 2)
      assert.is_false(r.answered)
      assert.equal("certificate", r.cause.kind)
      assert.equal("securing", r.cause.stage)
      assert.is_true(r.cause.code > 0)
    end)

    it("refuses a certificate for another name and one that has expired", function ()
      local name = secure({ names = "DNS:other.example", { "tls" } }, { ca_file = ca_file })
      assert.equal("certificate", name.cause.kind)
      assert.equal(62, name.cause.code)
      local old = secure({ from_s = -7200, until_s = -3600, { "tls" } }, { ca_file = ca_file })
      assert.equal("certificate", old.cause.kind)
      assert.equal(10, old.cause.code)
    end)

    it("tells plain text, an alert, a reset and an end in the handshake apart", function ()
      local plain = secure({ { "write", "HTTP/1.1 400 Bad\r\n\r\n" }, { "end" } }, { ca_file = ca_file })
      assert.equal("tls", plain.cause.kind)
      local alert = secure({ tls_most = 0x0303, ciphers = "PSK", { "tls" } }, { ca_file = ca_file })
      assert.equal("tls", alert.cause.kind)
      assert.equal(40, alert.cause.code)
      local reset = secure({ { "read", "20" }, { "reset" } }, { ca_file = ca_file })
      assert.equal("reset", reset.cause.kind)
      local eof = secure({ { "shutdown" }, { "end" } }, { ca_file = ca_file })
      assert.equal("eof", eof.cause.kind)
      for _, r in ipairs { plain, alert, reset, eof } do assert.equal("securing", r.cause.stage) end
    end)

    it("says why when the CA file is missing", function ()
      local r = secure({ { "tls" } }, { ca_file = ca_file .. ".missing" })
      assert.matches("cannot read the CA file", r.cause.reason)
    end)
  end)

  it("asks the proxy, with its authorisation, and hides it from the target", function ()
    local r, s = call({ { "request" }, { "write", answer("200 OK", "by proxy") } }, {
      url = "http://name.invalid/x", proxy_host = "127.0.0.1", proxy_port = 0 })
    assert.is_false(r.answered) -- port 0: nothing listens
    assert.is_nil(s:saw(1))
    local p = world.server { { "request" }, { "write", answer("200 OK", "by proxy") } }
    local w = world.open()
    w:http(1, { url = "http://name.invalid/x", proxy_host = "127.0.0.1", proxy_port = p:port(),
      proxy_authorization = "Basic abc" })
    assert.equal("by proxy", world.await_what(w, "http", 1).body)
    local _, request = p:saw(1)
    assert.matches("^GET http://name.invalid/x HTTP/1.1\r\n", request)
    assert.matches("\r\nProxy%-Authorization: Basic abc\r\n", request)
  end)

  it("takes a 407 without a tunnel as the proxy's, and one inside a tunnel as the target's", function ()
    local p = world.server { { "request" }, { "write", answer("407 Proxy Authentication Required", "no") } }
    local w = world.open()
    w:http(1, { url = "http://name.invalid/x", proxy_host = "127.0.0.1", proxy_port = p:port() })
    local r = world.await_what(w, "http", 1)
    assert.is_false(r.answered)
    assert.equal("proxy", r.cause.kind)
    assert.matches("^the proxy at 127.0.0.1:%d+ refused the request: HTTP 407$", r.cause.reason)
    local t = world.server { authority = ca, { "request" }, { "write", "HTTP/1.1 200 OK\r\n\r\n" }, { "tls" },
      { "request" }, { "write", answer("407 Odd", "no") } }
    w:http(2, { url = "https://localhost/", ca_file = ca_file, proxy_host = "127.0.0.1", proxy_port = t:port() })
    r = world.await_what(w, "http", 2)
    assert.is_true(r.answered)
    assert.equal(407, r.status)
  end)

  it("lends no tunnel with credentials to a call with others", function ()
    local p = world.server { { "request" }, { "write", answer("200 OK", "x") }, { "end" } }
    local w = world.open()
    for id, authorization in ipairs { "Basic abc", "Basic def" } do
      w:http(id, { url = "http://name.invalid/", proxy_host = "127.0.0.1", proxy_port = p:port(),
        proxy_authorization = authorization })
      assert.equal("x", world.await_what(w, "http", id).body)
      assert.matches("Proxy%-Authorization: " .. authorization, (select(2, p:saw(id))))
    end
  end)

  it("lets go of calls in every stage when the net is closed", function ()
    local s = world.server { { "request" }, { "quiet" } }
    local w = world.open()
    w:http(1, { url = "http://127.0.0.1:" .. s:port() .. "/" })
    world.eventually(w, function () return (select(2, s:saw(1)) or ""):find "\r\n\r\n" end)
    w:http(2, { url = "http://localhost:" .. s:port() .. "/" })
    w:step(0)
    w:http(3, { url = "https://localhost:" .. s:port() .. "/", ca_file = ca_file })
  end)
end)
