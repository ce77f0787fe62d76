local net = require "unit.net"
local world = require "net_world"

local MIB = 1048576

describe("link", function ()
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

  local function link(w, id, s, target)
    target = target or {}
    target.host, target.port = target.host or "127.0.0.1", target.port or s:port()
    assert(w:link(id, target))
  end

  local function ending(seen, id)
    for _, e in ipairs(seen) do if e.what == "ended" and e.id == (id or 1) then return e.cause end end
  end

  it("opens a plain connection, carries bytes both ways and ends with the peer", function ()
    local s = world.server { { "write", "hello" }, { "read", "3" } }
    local w = world.open()
    link(w, 7, s)
    local _, seen = world.await_what(w, "bytes", 7)
    assert.equal("hello", world.bytes(seen, 7))
    assert.is_true(w:write(7, "abc"))
    local _, rest = world.await_what(w, "closed", 7)
    assert.equal("resolving connecting opened", world.story(seen, 7))
    assert.equal("ended closed", world.story(rest, 7))
    assert.equal("eof", rest[1].cause.kind)
    assert.equal("abc", (select(2, s:saw(1))))
  end)

  describe("that cannot be opened", function ()
    it("names a refused port, with address and errno", function ()
      local w = world.open()
      link(w, 1, nil, { port = net.free_port() })
      local _, seen = world.await_what(w, "closed")
      assert.equal("resolving connecting ended closed", world.story(seen, 1))
      local cause = ending(seen)
      assert.equal("refused", cause.kind)
      assert.equal("connecting", cause.stage)
      assert.equal(111, cause.code)
      assert.matches("^127.0.0.1 port %d+: connection refused$", cause.reason)
    end)

    it("names the host that does not resolve, without blocking the loop", function ()
      local w = world.open()
      local start = w:clock()
      link(w, 1, nil, { host = "name.invalid", port = 1 })
      assert.is_true(w:clock() - start < 1000) -- only the call; the lookup takes as long as it takes
      local _, seen = world.await_what(w, "closed")
      local cause = ending(seen)
      assert.equal("resolve", cause.kind)
      assert.equal("resolving", cause.stage)
      assert.is_true(cause.code < 0)
      assert.matches("^cannot resolve name.invalid: ", cause.reason)
      assert.is_true(w:counts().lag_ms < 1000)
    end)

    it("looks a name up once for all who wait, and not again while the answer is fresh", function ()
      local w = world.open()
      for id = 1, 5 do link(w, id, nil, { host = "name.invalid", port = 1 }) end
      for id = 1, 5 do world.await_what(w, "closed", id); if id == 1 then break end end
      world.eventually(w, function () return w:counts().links == 0 end)
      assert.equal(1, w:counts().lookups)
      assert.equal(4, w:counts().lookups_shared)
      link(w, 6, nil, { host = "name.invalid", port = 1 })
      world.await_what(w, "closed", 6)
      assert.equal(1, w:counts().lookups)
    end)

    it("tries the other addresses of a name, one after the other", function ()
      -- localhost may have ::1 too; the server listens on 127.0.0.1 alone.
      local s = world.server { { "write", "x" } }
      local w = world.open()
      link(w, 1, s, { host = "localhost" })
      local _, seen = world.await_what(w, "bytes")
      assert.equal("resolving connecting opened", world.story(seen, 1))
    end)

    for what, target in pairs {
      ["an empty host"] = { host = "" },
      ["port 0"] = { host = "127.0.0.1", port = 0 },
      ["a host of 300 bytes"] = { host = ("x"):rep(300) },
    } do
      it("refuses " .. what, function ()
        local w = world.open()
        target.port = target.port or 1
        assert(w:link(1, target))
        local _, seen = world.await_what(w, "closed")
        assert.equal("address", ending(seen).kind)
      end)
    end
  end)

  it("takes brackets around an IPv6 literal", function ()
    local w = world.open()
    link(w, 1, nil, { host = "[::1]", port = net.free_port() })
    local _, seen = world.await_what(w, "closed")
    local kind = ending(seen).kind
    assert.is_true(kind == "refused" or kind == "unreachable", kind)
  end)

  it("tells a reset from an end", function ()
    local s = world.server { { "read", "1" }, { "reset" } }
    local w = world.open()
    link(w, 1, s)
    world.await_what(w, "opened")
    w:write(1, "x")
    local _, seen = world.await_what(w, "closed")
    assert.equal("reset", ending(seen).kind)
    assert.equal(104, ending(seen).code)
  end)

  it("hands out the peer's last words although a write has failed before they were read", function ()
    for _, tls in ipairs { false, true } do
      local s = world.server { authority = tls and ca or nil, { tls and "tls" or "read", "0" },
        { "read", "1" }, { "write", "last words" }, { "reset" } }
      local w = world.open()
      link(w, 1, s, { tls = tls, host = "localhost", ca_file = ca_file })
      world.await_what(w, "opened")
      w:read(1, false)
      w:write(1, "x")
      world.eventually(w, function () return (s:saw(1) or ""):find "closed" end)
      world.eventually(w, function () return not w:write(1, "into the void") end)
      w:read(1, true)
      local _, seen = world.await_what(w, "closed")
      assert.equal("last words", world.bytes(seen, 1))
      assert.equal("reset", ending(seen).kind)
    end
  end)

  for _, tls in ipairs { false, true } do
    describe(tls and "with TLS" or "without TLS", function ()
      local function server(...)
        return world.server { authority = tls and ca or nil, { tls and "tls" or "read", "0" }, ... }
      end
      local function target()
        return { tls = tls, host = "localhost", ca_file = ca_file }
      end

      it("carries 10 MiB each way at the same time, in order, within the write queue's limit", function ()
        local s = server({ "echo", tostring(10 * MIB) }, { "end" })
        local w = world.open()
        w:set { quiet_bytes = true }
        link(w, 1, s, target())
        world.await_what(w, "opened")
        w:send_pattern(1, 10 * MIB)
        local most, turns = 0, 0
        world.eventually(w, function ()
          most = math.max(most, w:queued(1))
          turns = turns + 1
          if turns % 16 == 0 then w:read(1, false) elseif turns % 16 == 1 then w:read(1, true) end
          return w:counts().counted == 10 * MIB
        end)
        assert.equal(0, w:counts().pattern_errors)
        assert.is_true(most <= MIB)
        w:abort(1)
      end)

      it("reads nothing while off, and gives everything later, unconsumed bytes first", function ()
        local s = server({ "pattern", "200000" }, { "end" })
        local w = world.open()
        w:set { quiet_bytes = true, consume_max = 7 }
        link(w, 1, s, target())
        world.eventually(w, function () return w:counts().counted == 7 end)
        w:step(20)
        assert.equal(7, w:counts().counted)
        w:read(1, true)
        world.eventually(w, function () return w:counts().counted == 14 end)
        w:set { consume_max = -1 }
        w:read(1, true)
        world.eventually(w, function () return w:counts().counted == 200000 end)
        assert.equal(0, w:counts().pattern_errors)
        w:abort(1)
      end)

      it("tells an end only after the bytes before it were consumed", function ()
        local s = server({ "write", "0123456789" })
        local w = world.open()
        w:set { consume_max = 3 }
        link(w, 1, s, target())
        local all = ""
        for _ = 1, 4 do
          local _, seen = world.await_what(w, "bytes")
          assert.is_nil(ending(seen))
          all = all .. world.bytes(seen, 1)
          w:read(1, true)
        end
        assert.equal("0123456789", all)
        w:set { consume_max = -1 }
        w:read(1, true)
        assert.equal("eof", world.await_what(w, "ended").cause.kind)
        world.await_what(w, "closed")
      end)

      it("refuses writes over its queue's limit, and says when there is room again", function ()
        local s = server({ "read", "1" }, { "quiet" })
        local w = world.open()
        link(w, 1, s, target())
        world.await_what(w, "opened")
        local piece = ("x"):rep(65536)
        local taken = 0
        while w:write(1, piece) do
          taken = taken + 1
          w:step(0)
          assert(taken < 1000)
        end
        assert.is_true(w:queued(1) <= MIB and w:queued(1) > MIB - 2 * 65536)
        assert.is_false(w:write(1, ("x"):rep(MIB + 1)))
        w:abort(1)
        assert.is_false(w:write(1, "x"))

        local reader = server({ "read", tostring(taken * 65536) }, { "end" })
        link(w, 2, reader, target())
        world.await_what(w, "opened", 2)
        local left = taken
        local wrote = 0
        while left > 0 and w:write(2, piece) do left = left - 1; wrote = wrote + 1 end
        world.await_what(w, "writable", 2)
        assert.is_true(w:queued(2) < 65536)
        w:abort(2)
        assert.is_true(wrote > 1)
      end)

      it("finishes: flushes, says goodbye, and reads what the peer still sends", function ()
        local s = server({ "end" }, { "write", "and goodbye to you" })
        local w = world.open()
        link(w, 1, s, target())
        world.await_what(w, "opened")
        local last = ("x"):rep(300000)
        assert.is_true(w:write(1, last))
        w:finish(1)
        assert.is_false(w:write(1, "too late"))
        local _, seen = world.await_what(w, "closed")
        assert.equal("and goodbye to you", world.bytes(seen, 1))
        assert.equal("eof", ending(seen).kind)
        local notes, received = s:saw(1)
        assert.equal(#last, #received)
        assert.matches(tls and "close_notify" or "eof", notes)
      end)

      it("is closed at once by an abort while open, and told so only from the loop", function ()
        local s = server({ "write", "x" }, { "end" })
        local w = world.open()
        link(w, 1, s, target())
        world.await_what(w, "bytes")
        local before = net.fd_count()
        w:abort(1)
        assert.is_true(net.fd_count() < before)
        assert.same({}, world.rest(w))
        w:abort(1)
        local _, seen = world.await_what(w, "closed")
        assert.equal("closed", world.story(seen, 1))
        w:abort(1)
        w:drain(1)
        w:finish(1)
        w:read(1, false)
        w:step(10)
        assert.same({}, world.rest(w))
      end)

      it("drains what is pending, then says so", function ()
        local s = server({ "pattern", "100000" }, { "quiet" })
        local w = world.open()
        w:set { quiet_bytes = true }
        link(w, 1, s, target())
        world.await_what(w, "opened")
        world.eventually(w, function () return w:counts().counted > 0 end)
        w:drain(1)
        assert.same({}, world.rest(w))
        world.await_what(w, "drained")
        world.eventually(w, function () return w:counts().counted == 100000 end)
        w:drain(1)
        world.await_what(w, "drained")
        w:abort(1)
      end)

      for _, at in ipairs { "resolving", "connecting", "securing", "opened", "bytes" } do
        if tls or at ~= "securing" then
          it("may be aborted from inside its own report of " .. at, function ()
            local s = server({ "pattern", "500000" }, { "end" })
            local w = world.open()
            w:set { abort_on = at }
            link(w, 1, s, target())
            local _, seen = world.await_what(w, "closed")
            assert.is_nil(ending(seen))
            assert.equal("closed", seen[#seen].what)
            assert.equal(0, w:counts().links)
          end)
        end
      end
    end)
  end

  it("is closed at once by an abort in every stage before it is open", function ()
    local s = world.server { { "quiet" } } -- accepts, but never answers the handshake
    local w = world.open()
    for passes = 0, 4 do
      local id = 10 + passes
      link(w, id, nil, { host = "localhost", port = s:port(), tls = true, ca_file = ca_file })
      for _ = 1, passes do w:step(20) end
      local before = net.fd_count()
      w:abort(id)
      -- Nothing turns the loop here: what else has a descriptor for a moment are the threads that look names up.
      local left = net.fd_count()
      for _ = 1, 1000 do
        if left <= before then break end
        left = net.fd_count()
      end
      assert.is_true(left <= before, ("%d descriptors, %d before the abort"):format(left, before))
      local _, seen = world.await_what(w, "closed", id)
      assert.is_nil(ending(seen, id))
      assert.equal("closed", seen[#seen].what)
    end
    link(w, 20, nil, { host = "localhost", port = s:port(), tls = true, ca_file = ca_file })
    world.await(w, function (e) return e.stage == "securing" end)
    w:finish(20) -- nothing to flush: an abort
    world.await_what(w, "closed", 20)
  end)

  it("drains and says so even while it is being dialled", function ()
    local s = world.server { { "quiet" } }
    local w = world.open()
    link(w, 1, s, { tls = true, host = "localhost", ca_file = ca_file })
    w:drain(1)
    world.await_what(w, "drained")
    w:abort(1)
    world.await_what(w, "closed")
  end)

  it("keeps two links apart, and a flood on one does not starve the other", function ()
    local flood = world.server { { "pattern", tostring(20 * MIB) }, { "end" } }
    local calm = world.server { { "read", "1" }, { "write", "pong" }, { "end" } }
    local w = world.open()
    link(w, 1, calm)
    world.await_what(w, "opened", 1)
    link(w, 2, flood)
    world.await_what(w, "bytes", 2)
    w:write(1, "!")
    local _, seen = world.await_what(w, "bytes", 1)
    assert.equal("pong", world.bytes(seen, 1))
    assert.is_true(w:counts().bytes_in < 20 * MIB)
    w:abort(1)
    w:abort(2)
  end)

  it("drops what is queued when the peer resets while reading is off, without spinning", function ()
    local s = world.server { { "read", "4000000" }, { "reset" } }
    local w = world.open()
    link(w, 1, s)
    world.await_what(w, "opened")
    w:read(1, false)
    local piece = ("x"):rep(65536)
    world.eventually(w, function ()
      return not w:write(1, piece) and w:queued(1) == 0
    end)
    local passes, start = 0, w:clock()
    while w:clock() - start < 50 do
      w:step(50)
      passes = passes + 1
    end
    assert.is_true(passes < 20, passes)
    w:read(1, true)
    local _, seen = world.await_what(w, "closed")
    assert.equal("reset", ending(seen).kind)
  end)

  it("notices a reset although reading is off, without spinning, and tells it when it is on", function ()
    local s = world.server { { "read", "1" }, { "reset" } }
    local w = world.open()
    link(w, 1, s)
    world.await_what(w, "opened")
    w:read(1, false)
    w:write(1, "x")
    world.eventually(w, function () return (s:saw(1) or ""):find "closed" end)
    local passes, start = 0, w:clock()
    while w:clock() - start < 50 do
      w:step(50)
      passes = passes + 1
    end
    assert.is_true(passes < 20, passes)
    w:read(1, true)
    local _, seen = world.await_what(w, "closed")
    assert.equal("reset", ending(seen).kind)
  end)

  describe("through a proxy", function ()
    it("asks for a tunnel, then speaks TLS with the target inside it", function ()
      local p = world.server { authority = ca, { "request" },
        { "write", "HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n" }, { "tls" }, { "write", "inside" } }
      local w = world.open()
      link(w, 1, nil, { host = "localhost", port = 4443, tls = true, ca_file = ca_file,
        proxy_host = "127.0.0.1", proxy_port = p:port(), proxy_authorization = "Basic abc" })
      local _, seen = world.await_what(w, "closed")
      assert.equal("inside", world.bytes(seen, 1))
      local _, request = p:saw(1)
      assert.matches("^CONNECT localhost:4443 HTTP/1.1\r\nHost: localhost:4443\r\n", request)
      assert.matches("\r\nProxy%-Authorization: Basic abc\r\n\r\n", request)
    end)

    it("loses no byte that came with the proxy's answer", function ()
      local p = world.server { { "request" }, { "write", "HTTP/1.1 200 OK\r\n\r\nearly" } }
      local w = world.open()
      link(w, 1, nil, { host = "x.example", port = 80, proxy_host = "127.0.0.1", proxy_port = p:port() })
      local _, seen = world.await_what(w, "closed")
      assert.equal("early", world.bytes(seen, 1))
    end)

    for what, case in pairs {
      ["refuses"] = { "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 407, "refused the tunnel: HTTP 407 Proxy Authentication" },
      ["refuses without a word"] = { "HTTP/1.1 503\r\n\r\n", 503, "refused the tunnel: HTTP 503$" },
      ["has a status that is none"] = { "HTTP/1.1 -20 OK\r\n\r\n", 0, "does not speak HTTP" },
      ["has next to no answer"] = { "HTTP/1.1\r\n\r\n", 0, "does not speak HTTP" },
      ["speaks no HTTP"] = { "SSH-2.0-whatever\r\n\r\n", 0, "does not speak HTTP" },
      ["just ends"] = { "HTTP/1.1 2", 0, "closed the connection" },
      ["never ends its answer"] = { "HTTP/1.1 200 OK\r\n" .. ("X: y\r\n"):rep(4000), 0, "too long" },
    } do
      it("names a proxy that " .. what, function ()
        local p = world.server { { "request" }, { "write", case[1] } }
        local w = world.open()
        link(w, 1, nil, { host = "x.example", port = 80, proxy_host = "127.0.0.1", proxy_port = p:port() })
        local _, seen = world.await_what(w, "closed")
        local cause = ending(seen)
        assert.equal("proxy", cause.kind)
        assert.equal(case[2], cause.code)
        assert.equal(0, cause.http_status) -- that is the target's
        assert.matches(case[3], cause.reason)
      end)
    end

    it("names a proxy that refuses the connection", function ()
      local w = world.open()
      link(w, 1, nil, { host = "x.example", port = 80, proxy_host = "127.0.0.1", proxy_port = net.free_port() })
      local _, seen = world.await_what(w, "closed")
      assert.equal("proxy", ending(seen).kind)
      assert.matches("^cannot reach the proxy: 127.0.0.1 port %d+: connection refused", ending(seen).reason)
    end)

    it("names a proxy whose name does not resolve", function ()
      local w = world.open()
      link(w, 1, nil, { host = "x.example", port = 80, proxy_host = "proxy.invalid", proxy_port = 1 })
      local _, seen = world.await_what(w, "closed")
      assert.equal("proxy", ending(seen).kind)
      assert.equal("resolving", ending(seen).stage)
      assert.matches("^cannot resolve the proxy's name proxy.invalid: ", ending(seen).reason)
    end)
  end)

  it("lets go of links in every stage when the net is closed", function ()
    local s = world.server { authority = ca, { "tls" }, { "quiet" } }
    local w = world.open()
    local target = { tls = true, host = "localhost", ca_file = ca_file }
    link(w, 1, s, target)
    world.await_what(w, "opened", 1)
    w:write(1, "x")
    link(w, 2, s, target)
    world.await(w, function (e) return e.id == 2 and e.stage == "securing" end)
    link(w, 3, nil, { host = "name.invalid", port = 1 })
    w:step(0)
    link(w, 4, s, target)
  end)
end)
