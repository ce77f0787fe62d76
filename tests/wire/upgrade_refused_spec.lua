-- The upgrade: what a server may answer instead of accepting, and what it may not.
local world = require "wire_world"

describe("an upgrade", function ()
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

  describe("refused by libwebsockets", function ()
    local peer
    before_each(function () peer = s:peer("discord", {}) end)

    local function refused(fault, expected)
      peer:fault { upgrade = fault }
      probe(peer.ws .. "/?v=10&encoding=json", { hello = true })
      expected.stage, expected.kind, expected.http = "upgrading", "upgrade_refused", fault.status
      return s:fails("probe", "upgrade answered " .. fault.status, expected)
    end

    it("with 401 is named with its status", function ()
      local d = refused({ status = 401, body = '{"message":"no"}' }, { by = "peer", reason = "Unauthorized" })
      assert.are.equal("the upgrade was refused, HTTP 401: Unauthorized (by the platform, in the upgrade)", d.why)
    end)

    it("with 404 is named with its status", function ()
      refused({ status = 404 }, {})
    end)

    it("with 429 and Retry-After is tried again after that time, not earlier", function ()
      local d = refused({ status = 429, times = 1, headers = { ["Retry-After"] = "1" } }, { retry_after = 1000 })
      assert.is_true(d.delay >= 1000, "delay " .. d.delay)
      assert.are.equal(0, d.attempt)
      s:up "probe"
      local dials = s:notes("probe", "dial")
      assert.are.equal(2, #dials)
      assert.is_true(dials[2].at - dials[1].at >= 1000)
    end)

    it("with 503 and a body is tried again with backoff, and then works", function ()
      refused({ status = 503, times = 2, body = "<html>overloaded</html>" }, { by = "peer" })
      s:up "probe"
      assert.are.equal(3, #s:notes("probe", "dial"))
    end)

    it("with a redirect is a refusal: nothing is sent elsewhere", function ()
      refused({ status = 302, headers = { Location = "https://elsewhere.example/" } }, {})
    end)
  end)

  describe("answered with bytes that no WebSocket server sends", function ()
    local function answered(fault, bytes, expected, more)
      local steps = { { "request" }, { "write", bytes }, { "end" } }
      for _, step in ipairs(more or {}) do table.insert(steps, 3, step) end
      local raw = s:raw(steps)
      probe(raw.ws .. "/")
      expected.stage = "upgrading"
      local d, took = s:fails("probe", fault, expected)
      s:run_until(function () return s:state "probe" == "waiting" end, "2s")
      assert.are.equal(0, s:view "probe".links)
      return d, took
    end

    local head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

    it("names garbage", function ()
      answered("garbage for an upgrade", "SSH-2.0-OpenSSH_9.2\r\n\r\n", { kind = "upgrade_bad" })
    end)

    it("names a wrong Sec-WebSocket-Accept", function ()
      answered("wrong accept key", head .. "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        { kind = "upgrade_bad" })
    end)

    it("names a missing Sec-WebSocket-Accept", function ()
      answered("no accept key", head .. "\r\n", { kind = "upgrade_bad" })
    end)

    it("names an extension that was not asked for", function ()
      answered("extension not offered", head .. "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        { kind = "upgrade_bad" })
    end)

    it("names a flood of headers, and reads only so much of it", function ()
      local flood = head .. ("X-Filler: " .. ("f"):rep(1000) .. "\r\n"):rep(200)
      answered("header flood", flood, { kind = "upgrade_bad" })
    end)

    it("names a head that ends half-way", function ()
      answered("EOF in the head", head, { kind = "eof" }, { { "shutdown" } })
    end)

    it("names a reset", function ()
      answered("reset at the upgrade", "HTTP/1.1 1", { kind = "reset" }, { { "reset" } })
    end)

    -- What the status line says, for people: printable, cut to fit, empty when it says nothing.
    for line, reason in pairs {
      ["503 Service Unavailable"] = "Service Unavailable",
      ["520 "] = "",
      ["520"] = "",
      ["403   two  blanks  "] = "two  blanks",
      ["429 \27[2J\7gone"] = "\\x1b[2J\\x07gone",
      ["500 caf\xc3\xa9"] = "caf\xc3\xa9",
      ["500 caf\xe9"] = "caf\\xe9",
      ["500 " .. ("long "):rep(2000)] = ("long "):rep(24) .. "lon",
    } do
      local status = tonumber(line:sub(1, 3))
      it(("tells what %q says"):format(line:sub(1, 30)), function ()
        answered("refusal " .. status, "HTTP/1.1 " .. line .. "\r\nContent-Length: 0\r\n\r\n",
          { kind = "upgrade_refused", http = status, reason = reason })
      end)
    end

    it("takes 200 for a refusal, whatever its body", function ()
      answered("200 for an upgrade", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        { kind = "upgrade_refused", http = 200 })
    end)

    it("waits for the body of a refusal no longer than the limit", function ()
      local _, took = answered("503, its body never comes",
        "HTTP/1.1 503 Unavailable\r\nContent-Length: 5000\r\n\r\npart", { kind = "timeout" })
      assert.is_true(took < 4000, "took " .. took)
    end)
  end)

  describe("that is never answered", function ()
    it("ends at the limit of upgrading, over plain TCP", function ()
      local raw = s:raw { { "request" }, { "quiet" } }
      probe(raw.ws .. "/")
      local _, took = s:fails("probe", "silent after TCP (plain)", { stage = "upgrading", kind = "timeout" })
      assert.is_true(took >= 450 and took < 4000, "took " .. took)
    end)

    it("ends at the limit of upgrading, over TLS", function ()
      local raw = s:raw { tls = true, { "tls" }, { "request" }, { "quiet" } }
      probe(raw.ws .. "/")
      local _, took = s:fails("probe", "silent after TLS", { stage = "upgrading", kind = "timeout" })
      assert.is_true(took >= 450 and took < 4000, "took " .. took)
    end)
  end)

  it("may carry the first frames in the same packet as its head", function ()
    local raw = s:raw { { "upgrade" }, { "write", "\129\9{\"op\":10}\129\14{\"op\":0,\"n\":1}" }, { "quiet" } }
    local bot = s:consumer {}
    probe(raw.ws .. "/", { hello = true })
    s:run_until(function () return #bot:events() == 1 end)
    assert.are.equal("up", s:state "probe")
  end)
end)
