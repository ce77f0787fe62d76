local net = require "unit.net"
local world = require "net_world"

local CERTIFICATE_EXPIRED, SELF_SIGNED_ROOT, NO_ISSUER, NAME, ADDRESS = 10, 19, 20, 62, 64
local TLS_1_2 = 0x0303

describe("link with TLS", function ()
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

  -- Dials a server with these options and steps; returns the events until the link is closed.
  local function dial(server, target)
    local s = world.server(server)
    local w = world.open()
    target = target or {}
    target.host, target.port, target.tls = target.host or "localhost", s:port(), true
    target.ca_file = target.ca_file or ca_file
    assert(w:link(1, target))
    local _, seen = world.await_what(w, "closed")
    return seen, s, w
  end

  local function ending(seen)
    for _, e in ipairs(seen) do if e.what == "ended" then return e.cause end end
  end

  it("opens after the handshake and carries bytes both ways", function ()
    local s = world.server { authority = ca, { "tls" }, { "read", "5" }, { "write", "world" }, { "notify" } }
    local w = world.open()
    assert(w:link(1, { host = "localhost", port = s:port(), tls = true, ca_file = ca_file }))
    world.await_what(w, "opened")
    assert.is_true(w:write(1, "hello"))
    local _, seen = world.await_what(w, "closed")
    assert.equal("world", world.bytes(seen, 1))
    local _, received = s:saw(1)
    assert.equal("hello", received)
    local cause = ending(seen)
    assert.equal("eof", cause.kind)
    assert.matches("close_notify", cause.reason)
    assert.not_matches("without", cause.reason)
  end)

  for _, version in ipairs { "1.2", "1.3" } do
    it("takes records of any size, however the socket cuts them, with pauses, with TLS " .. version, function ()
      local s = world.server { authority = ca, tls_most = version == "1.2" and TLS_1_2 or 0, { "tls" }, { "records", "60000" },
                               { "end" } }
      local w = world.open()
      w:set { quiet_bytes = true }
      assert(w:link(1, { host = "localhost", port = s:port(), tls = true, ca_file = ca_file }))
      world.await_what(w, "opened")
      local turns = 0
      world.eventually(w, function ()
        turns = turns + 1
        if turns % 16 == 0 then w:read(1, false) elseif turns % 16 == 1 then w:read(1, true) end
        return w:counts().counted == 60000
      end)
      assert.equal(0, w:counts().pattern_errors)
      w:abort(1)
    end)
  end

  for _, version in ipairs { "1.2", "1.3" } do
    it("tells a reset, a silent end and a goodbye of a link that was read dry before, with TLS " .. version, function ()
      for last, is in pairs { reset = "reset", notify = "eof", shutdown = "eof" } do
        local s = world.server { authority = ca, tls_most = version == "1.2" and TLS_1_2 or 0, { "tls" }, { "write", "x" },
                                 { "read", "1" }, { "write", "y" }, { "read", "1" }, { last } }
        local w = world.open()
        assert(w:link(1, { host = "localhost", port = s:port(), tls = true, ca_file = ca_file }))
        for _, byte in ipairs { "a", "b" } do
          world.await_what(w, "bytes")
          assert.is_true(w:write(1, byte))
        end
        local _, seen = world.await_what(w, "closed")
        local cause = ending(seen)
        assert.same({ is, is == "reset" and 104 or 0 }, { cause.kind, cause.code or 0 })
        if last == "notify" then assert.not_matches("without", cause.reason) end
      end
    end)
  end

  it("tells an end without close_notify from one with it", function ()
    local cause = ending(dial { authority = ca, { "tls" }, { "write", "x" } })
    assert.equal("eof", cause.kind)
    assert.matches("without close_notify", cause.reason)
  end)

  for what, case in pairs {
    ["another name"] = { server = { names = "DNS:other.example" }, code = NAME,
      reason = "the certificate is for other.example, not for localhost" },
    ["another address"] = { server = { names = "DNS:localhost,IP:127.0.0.2" }, host = "127.0.0.1",
      code = ADDRESS, reason = "not for 127.0.0.1" },
    ["a day gone by"] = { server = { from_s = -7200, until_s = -3600 }, code = CERTIFICATE_EXPIRED,
      reason = "certificate refused: certificate has expired" },
    ["a day to come"] = { server = { from_s = 3600 }, code = 9, reason = "not yet valid" },
    ["a wildcard inside a label"] = { server = { names = "DNS:local*" }, code = NAME, reason = "local%*" },
  } do
    it("refuses a certificate for " .. what, function ()
      local server = case.server
      server.authority, server[1] = ca, { "tls" }
      local seen = dial(server, { host = case.host })
      local cause = ending(seen)
      assert.equal("certificate", cause.kind)
      assert.equal("securing", cause.stage)
      assert.equal(case.code, cause.code)
      assert.matches(case.reason, cause.reason)
      assert.equal("resolving connecting securing ended closed", world.story(seen, 1))
    end)
  end

  it("refuses a certificate of an unknown CA", function ()
    local other_file = os.tmpname()
    local other = net.authority(other_file)
    local cause = ending(dial { authority = other, { "tls" } })
    os.remove(other_file)
    assert.equal("certificate", cause.kind)
    assert.is_true(cause.code == NO_ISSUER or cause.code == SELF_SIGNED_ROOT or cause.code == 7, cause.code)
  end)

  it("accepts the address literal that the certificate names", function ()
    local seen = dial({ authority = ca, { "tls" }, { "write", "x" } }, { host = "127.0.0.1" })
    assert.equal("resolving connecting securing opened ended closed", world.story(seen, 1))
  end)

  it("says that the peer sent plain text on a TLS port, and what", function ()
    local cause = ending(dial { { "write", "HTTP/1.1 400 Bad Request\r\n\r\n" }, { "end" } })
    assert.equal("tls", cause.kind)
    assert.equal(0, cause.code)
    assert.matches("does not speak TLS, it sent: HTTP/1.1 400 Bad", cause.reason)
  end)

  it("names the alert of a peer that shares no cipher", function ()
    local cause = ending(dial { authority = ca, tls_most = TLS_1_2, ciphers = "PSK", { "tls" } })
    assert.equal("tls", cause.kind)
    assert.equal(40, cause.code)
    assert.matches("handshake failure", cause.reason)
    assert.equal("peer", cause.by)
  end)

  it("refuses TLS below 1.2", function ()
    local cause = ending(dial { authority = ca, tls_most = 0x0302, ciphers = "ALL:@SECLEVEL=0", { "tls" } })
    assert.equal("tls", cause.kind)
    assert.equal("securing", cause.stage)
  end)

  it("names the alert that comes after the handshake when a client certificate is missing", function ()
    local seen = dial { authority = ca, want_client_certificate = true, { "tls" }, { "end" } }
    local cause = ending(seen)
    assert.equal("tls", cause.kind)
    assert.equal(116, cause.code)
    assert.matches("certificate required", cause.reason)
  end)

  it("tells a reset and an end inside the handshake", function ()
    local reset = ending(dial { { "read", "20" }, { "reset" } })
    assert.equal("reset", reset.kind)
    assert.equal("securing", reset.stage)
    local eof = ending(dial { { "shutdown" }, { "end" } })
    assert.equal("eof", eof.kind)
    assert.equal("securing", eof.stage)
    assert.matches("handshake", eof.reason)
  end)

  it("says why when the CA file cannot be read or holds none, and does not dial", function ()
    local seen, s = dial({ authority = ca, { "tls" } }, { ca_file = ca_file .. ".missing" })
    local cause = ending(seen)
    assert.equal("certificate", cause.kind)
    assert.matches("cannot read the CA file", cause.reason)
    assert.equal("us", cause.by)
    assert.is_nil(s:saw(1))
    local empty = os.tmpname()
    local none = ending(dial({ authority = ca, { "tls" } }, { ca_file = empty }))
    os.remove(empty)
    assert.matches("no certificate in the CA file", none.reason)
  end)

  it("reads a bundle however its blocks are written, and no further than a broken one", function ()
    local file = assert(io.open(ca_file))
    local pem = file:read "*a"
    file:close()
    local body = pem:match "^%-+BEGIN CERTIFICATE%-+\n(.-)%-+END CERTIFICATE%-+\n$"
    local function block(text) return "-----BEGIN CERTIFICATE-----\n" .. text .. "-----END CERTIFICATE-----\n" end
    assert.equal(pem, block(body))
    local other = block("MAMCAQE=\n") -- no certificate
    local long = body:gsub("\n", ""):gsub(("."):rep(76), "%0\n") .. "\n"
    local bundles = {
      { pem, true }, { "# Someone's\n=======\n" .. pem .. "\n", true }, { pem:gsub("\n", "\r\n"), true },
      { pem:sub(1, -2), true }, { other .. pem, true }, { other .. "--\n" .. pem, true }, { block(long), true },
      { ("x"):rep(1000) .. "\n" .. pem, true }, { block "A-B=\n" .. pem, false }, { block "====\n" .. pem, false },
      { block "AAA\n" .. pem, false }, { block "" .. pem, false },
      { "-----BEGIN CERTIFICATE-----\n" .. body, false }, { "-----BEGIN CERTIFICATE-----", false },
      { pem:gsub("END CERT", "END CRET"), false }, { body, false }, { "\0\n" .. pem, false },
    }
    for i, bundle in ipairs(bundles) do
      local name = os.tmpname()
      file = assert(io.open(name, "w"))
      file:write((bundle[1]))
      file:close()
      local s = world.server { authority = ca, { "tls" }, { "write", "x" }, { "end" } }
      local w = world.open { system_ca_file = name }
      assert(w:link(1, { host = "localhost", port = s:port(), tls = true }))
      local ended = world.await_what(w, bundle[2] and "opened" or "ended", 1)
      os.remove(name)
      assert.is_truthy(ended, i)
    end
  end)

  it("uses a changed CA file from soon on, and the old one until then", function ()
    local s = world.server { authority = ca, { "tls" }, { "write", "x" }, { "end" } }
    local other_file = os.tmpname()
    net.authority(other_file)
    local w = world.open { ca_look_ms = 1 }
    local target = { host = "localhost", port = s:port(), tls = true, ca_file = other_file }
    assert(w:link(1, target))
    assert.equal("certificate", world.await_what(w, "ended", 1).cause.kind)
    local file = assert(io.open(ca_file))
    local right = file:read "*a"
    file:close()
    file = assert(io.open(other_file, "w"))
    file:write(right)
    file:close()
    local id = 1
    world.eventually(w, function ()
      id = id + 1
      assert(w:link(id, target))
      local e = world.await(w, function (e) return e.id == id and (e.what == "opened" or e.what == "ended") end)
      if e.what == "opened" then w:abort(id) end
      world.await_what(w, "closed", id)
      return e.what == "opened"
    end)
    -- A file that breaks later does not end what worked.
    file = assert(io.open(other_file, "w"))
    file:write "nonsense"
    file:close()
    for more = id + 1, id + 3 do
      assert(w:link(more, target))
      world.await_what(w, "opened", more)
      w:abort(more)
      world.await_what(w, "closed", more)
    end
    os.remove(other_file)
  end)

  for version, most in pairs { ["1.3"] = 0, ["1.2"] = TLS_1_2 } do
    it("resumes the session at the second dial, also after an abort, with TLS " .. version, function ()
      local s = world.server { authority = ca, tls_most = most, { "tls" }, { "write", "x" }, { "end" } }
      local w = world.open()
      for id = 1, 3 do
        assert(w:link(id, { host = "localhost", port = s:port(), tls = true, ca_file = ca_file }))
        world.await_what(w, "bytes", id)
        w:abort(id)
        world.await_what(w, "closed", id)
      end
      local counts = w:counts()
      assert.equal(3, counts.handshakes)
      assert.equal(2, counts.handshakes_resumed)
      assert.matches("resumed", (s:saw(2)))
    end)
  end

  it("resumes with one ticket as often as links are dialled before the next ticket came", function ()
    local s = world.server { authority = ca, { "tls" }, { "write", "x" }, { "end" } }
    local w = world.open()
    local target = { host = "localhost", port = s:port(), tls = true, ca_file = ca_file }
    assert(w:link(1, target))
    world.await_what(w, "bytes", 1)
    for id = 2, 4 do
      assert(w:link(id, target))
      world.await_what(w, "opened", id)
      w:read(id, false) -- its own ticket stays unread
    end
    assert.equal(3, w:counts().handshakes_resumed)
    for id = 1, 4 do
      w:abort(id)
      world.await_what(w, "closed", id)
    end
  end)

  it("does not resume a session with another trust or another host name", function ()
    local s = world.server { authority = ca, { "tls" }, { "write", "x" }, { "end" } }
    local w = world.open { system_ca_file = ca_file }
    for id, target in ipairs { { host = "localhost", ca_file = ca_file }, { host = "localhost" },
      { host = "127.0.0.1" } } do
      target.port, target.tls = s:port(), true
      assert(w:link(id, target))
      world.await_what(w, "bytes", id)
      w:finish(id)
      world.await_what(w, "closed", id)
    end
    assert.equal(0, w:counts().handshakes_resumed)
  end)
end)
