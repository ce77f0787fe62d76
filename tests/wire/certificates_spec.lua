-- Certificates and TLS alerts: what each fault of a chain is called, what OpenSSL puts up with, and what holdfast
-- does not look at.
local world = require "wire_world"

describe("a server's certificate", function ()
  local s
  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  local function server(tls, more)
    local steps = { tls = tls, { "tls" }, { "upgrade" }, { "write", "\129\9{\"op\":10}" }, { "quiet" } }
    for i, step in pairs(more or {}) do steps[i] = step end
    return s:raw(steps)
  end
  local function dial(raw, options)
    options = options or {}
    options.url, options.hello = raw.ws .. "/", true
    s:connection("probe", options)
  end
  -- X509_V_ERR_*; `alert`: what the server hears of it, RFC 8446, 6.2
  local function refused(fault, tls, code, reason, alert)
    local raw = server(tls)
    dial(raw)
    local d = s:fails("probe", fault, { stage = "securing", kind = "certificate", by = "peer", code = code, reason = reason })
    assert.are.equal(("the certificate is not good: %s (by the platform, in the TLS handshake)"):format(reason), d.why)
    s:run_until(function () return raw.saw()[1].notes:find "closed" end)
    assert.is_truthy(raw.saw()[1].notes:find("got_alert_" .. alert, 1, true), raw.saw()[1].notes)
    assert.is_nil(raw.saw()[1].received:find "GET")
  end

  it("that is not valid yet is named so", function ()
    refused("certificate: not yet valid", { starts = 3600, ends = 86400 }, 9, -- CERT_NOT_YET_VALID
      "certificate refused: certificate is not yet valid", 42) -- bad_certificate
  end)

  it("that expired a second ago is named so", function ()
    refused("certificate: just expired", { starts = -3600, ends = -1 }, 10, -- CERT_HAS_EXPIRED
      "certificate refused: certificate has expired", 45) -- certificate_expired
  end)

  it("without the CAs between it and the root is named so", function ()
    refused("certificate: no intermediates sent", { chain = "missing" }, 20, -- UNABLE_TO_GET_ISSUER_CERT_LOCALLY
      "certificate refused: unable to get local issuer certificate", 48) -- unknown_ca
  end)

  it("with a gap in its chain is named so", function ()
    refused("certificate: one intermediate missing", { chain = "gap" }, 20,
      "certificate refused: unable to get local issuer certificate", 48)
  end)

  it("that comes last in its chain is not seen: the CA that comes first is judged in its place", function ()
    refused("certificate: leaf not first", { chain = "leaf_last" }, 26, -- INVALID_PURPOSE
      "certificate refused: unsuitable certificate purpose", 43) -- unsupported_certificate
  end)

  it("is good when the CAs come in the wrong order, the root among them: OpenSSL sorts them", function ()
    local raw = server { chain = "reversed" }
    dial(raw)
    s:up "probe"
  end)

  it("is good when it is whole", function ()
    local raw = server(true)
    dial(raw)
    s:up "probe"
  end)

  -- No list of revoked certificates is loaded and no OCSP is asked, as in most clients that are no browsers: a
  -- certificate that must not work any more is kept out by its short life, or by taking its CA out of ca_file.
  it("that its CA revoked is accepted: the list is not looked at, in ca_file neither", function ()
    local raw = server(true)
    assert.is_truthy(raw.revoked:find "BEGIN X509 CRL")
    dial(raw, { ca = raw.ca .. raw.revoked })
    s:up "probe"
  end)

  it("that is refused does no harm to the next dial, when it is mended", function ()
    local bad, good = server { starts = 3600, ends = 86400 }, server(true)
    local front = s:relay()
    front:leads_to(bad)
    s:connection("probe", { url = front.ws .. "/", hello = true })
    s:fails("probe", "certificate: mended", { kind = "certificate" })
    front:leads_to(good)
    s:up "probe"
  end)

  describe("and a TLS alert", function ()
    it("from the server in the handshake is named with its number", function ()
      local raw = s:raw { { "write", "\21\3\3\0\2\2\40" }, { "end" } }
      s:connection("probe", { url = ("wss://127.0.0.1:%d/"):format(raw.port) })
      local d = s:fails("probe", "TLS alert in the handshake", { stage = "securing", kind = "tls", by = "peer", code = 40,
        reason = "the peer sent TLS alert 40: handshake failure" })
      assert.are.equal("no TLS with the peer: the peer sent TLS alert 40: handshake failure (by the platform, in the TLS handshake)",
        d.why)
    end)

    -- In TLS 1.3 the server judges after the client believes to be done.
    it("from the server that wants a certificate of ours is named, after the handshake", function ()
      local raw = server { asks_client = true }
      dial(raw)
      s:fails("probe", "client certificate required", { stage = "upgrading", kind = "tls", by = "peer", code = 116,
        reason = "the peer sent TLS alert 116: certificate required" })
      s:run_until(function () return raw.saw()[1].notes:find "sent_alert_116" end)
    end)

    it("goes to the server whose CA is not known", function ()
      local raw = server(true)
      dial(raw, { ca = false })
      s:fails("probe", "certificate: CA not known, alert sent", { stage = "securing", kind = "certificate" })
      s:run_until(function () return raw.saw()[1].notes:find "closed" end)
      assert.is_truthy(raw.saw()[1].notes:find("got_alert_48", 1, true), raw.saw()[1].notes)
    end)

    -- The line turns a bit over: whoever reads it says so and hangs up.
    local function corrupted(way, steps)
      local raw = server(true, steps)
      local relay = s:relay()
      relay:leads_to(raw)
      dial({ ws = relay.ws }, { tune = { alive = { ping = "1s", silence = "5s" } } })
      s:up "probe"
      relay:live { [way] = true }
      return raw
    end

    it("goes to the server when the line falsified what it sent", function ()
      -- It says something when our first ping is there.
      local raw = corrupted("corrupt_down", { [4] = { "read", "8" }, [5] = { "write", "\129\9{\"op\":10}" }, [6] = { "end" } })
      local d = s:fails("probe", "a bit turned over, downwards", { stage = "ready", kind = "tls", code = 0 })
      assert.is_truthy(d.cause.reason:find "bad record mac", d.cause.reason)
      s:run_until(function () return raw.saw()[1].notes:find "closed" end)
      assert.is_truthy(raw.saw()[1].notes:find("got_alert_20", 1, true), raw.saw()[1].notes)
    end)

    it("comes from the server when the line falsified what we sent", function ()
      local raw = corrupted("corrupt_up", { [4] = { "end" } })
      s:fails("probe", "a bit turned over, upwards", { stage = "ready", kind = "tls", by = "peer", code = 20,
        reason = "the peer sent TLS alert 20: bad record mac" })
      -- Noted by another thread, once the alert was on its way.
      s:run_until(function () return raw.saw()[1].notes:find("sent_alert_20", 1, true) end)
    end)
  end)
end)
