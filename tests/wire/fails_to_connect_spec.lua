-- Every way in which a dial can fail before the upgrade: the exact stage and cause, and that the next
-- attempt is due. Real sockets, no platform: the probe's policy dials an address.
local world = require "wire_world"

describe("a dial that fails", function ()
  local s
  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  local function probe(url, options)
    options = options or {}
    options.url = url
    s:connection("probe", options)
  end

  -- After the failure it waits with the cause, and a later attempt is due (I8).
  local function waits()
    s:run_until(function () return s:state "probe" == "waiting" end, "2s")
    local v = s:view "probe"
    assert.is_true(v.deadline > s:now() - 50)
    assert.are_not.equal("", v.next)
    assert.are.equal(0, v.links)
  end

  it("names a host that does not resolve", function ()
    probe "wss://name.invalid/"
    local d = s:fails("probe", "name does not resolve", { stage = "resolving", kind = "resolve" })
    assert.is_true(d.cause.code ~= 0)
    waits()
  end)

  it("names a port where nobody listens", function ()
    probe(("ws://127.0.0.1:%d/"):format(s:free_port()))
    s:fails("probe", "refused", { stage = "connecting", kind = "refused", by = "network", code = 111 })
    waits()
  end)

  it("names a connect that is not answered, at its limit", function ()
    probe(("ws://127.0.0.1:%d/"):format(s:silent_port()))
    local _, took = s:fails("probe", "SYN unanswered", { stage = "connecting", kind = "timeout" })
    assert.is_true(took >= 450 and took < 4000, "took " .. took)
    waits()
  end)

  it("comes up as soon as a refusing relay listens again", function ()
    local peer = s:peer("discord", {})
    local relay = s:relay(peer)
    relay:set { refuse = true }
    probe(relay.ws .. "/?v=10&encoding=json", { hello = true })
    s:fails("probe", "relay refuses", { stage = "connecting", kind = "refused" })
    relay:set {}
    s:up "probe"
  end)

  describe("while TLS is set up", function ()
    local peer
    before_each(function () peer = s:peer("discord", {}) end)

    it("names a certificate of an unknown authority", function ()
      probe(peer.ws .. "/?v=10&encoding=json", { ca = false })
      s:fails("probe", "certificate: unknown CA", { stage = "securing", kind = "certificate" })
      waits()
      assert.are.equal(0, peer:stats().upgrades)
    end)

    it("names a certificate of another name", function ()
      local other = s:peer("discord", { names = "DNS:elsewhere.example" })
      probe(other.ws .. "/?v=10&encoding=json", { ca = other.ca })
      -- 64: X509_V_ERR_IP_ADDRESS_MISMATCH
      s:fails("probe", "certificate: wrong name", { stage = "securing", kind = "certificate", code = 64 })
      waits()
      assert.are.equal(0, other:stats().upgrades)
    end)

    it("names an expired certificate", function ()
      local old = s:peer("discord", { starts = -7200, ends = -3600 })
      probe(old.ws .. "/?v=10&encoding=json", { ca = old.ca })
      -- 10: X509_V_ERR_CERT_HAS_EXPIRED
      s:fails("probe", "certificate: expired", { stage = "securing", kind = "certificate", code = 10 })
      waits()
      assert.are.equal(0, old:stats().upgrades)
    end)

    it("names plain text on a TLS port", function ()
      local plain = s:raw { { "write", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" }, { "end" } }
      probe(("wss://127.0.0.1:%d/"):format(plain.port))
      s:fails("probe", "plain text on a TLS port", { stage = "securing", kind = "tls" })
      waits()
    end)

    it("names a reset right after the accept", function ()
      local relay = s:relay(peer)
      relay:set { reset = true }
      probe(relay.ws .. "/?v=10&encoding=json")
      -- Which of the two stages it is in depends on how soon the reset comes.
      local d = s:fails("probe", "reset at accept", { kind = "reset", by = "network", code = 104 })
      assert.is_true(d.cause.stage == "connecting" or d.cause.stage == "securing", d.cause.stage)
      waits()
    end)

    it("names a reset in the middle of the handshake", function ()
      local relay = s:relay(peer)
      relay:set { reset_down = 300 }
      probe(relay.ws .. "/?v=10&encoding=json")
      s:fails("probe", "reset in the TLS handshake", { stage = "securing", kind = "reset" })
      waits()
    end)

    it("names an end of the stream in the middle of the handshake", function ()
      local relay = s:relay(peer)
      relay:set { fin_down = 300 }
      probe(relay.ws .. "/?v=10&encoding=json")
      s:fails("probe", "EOF in the TLS handshake", { stage = "securing", kind = "eof" })
      waits()
    end)

    it("ends a handshake that stalls at the limit of securing", function ()
      local relay = s:relay(peer)
      relay:set { mute = true }
      probe(relay.ws .. "/?v=10&encoding=json")
      local _, took = s:fails("probe", "silent after TCP (TLS)", { stage = "securing", kind = "timeout" })
      assert.is_true(took >= 450 and took < 4000, "took " .. took)
      waits()
    end)

    it("ends a handshake that stalls half-way likewise", function ()
      local relay = s:relay(peer)
      relay:set { black_hole = true }
      probe(relay.ws .. "/?v=10&encoding=json")
      s:fails("probe", "black hole in the TLS handshake", { stage = "securing", kind = "timeout" })
      waits()
    end)

    it("succeeds over a line that carries one byte at a time", function ()
      local relay = s:relay(peer)
      relay:set { trickle = true }
      probe(relay.ws .. "/?v=10&encoding=json", { hello = true,
        tune = { limits = { secure = "5s", upgrade = "5s", greeting = "5s" } } })
      s:up "probe"
    end)

    it("succeeds over a slow line", function ()
      local relay = s:relay(peer)
      relay:set { delay = 40 }
      probe(relay.ws .. "/?v=10&encoding=json", { hello = true })
      s:up "probe"
    end)
  end)
end)
