-- Links and bootstrap calls through an HTTP proxy: both take the tunnel, what the proxy does wrong is the
-- proxy's, what the target does wrong behind it is the target's, and nobody is shown the password.
local world = require "wire_world"

local BASIC = "Basic dTpodW50ZXIy" -- u:hunter2
local MANY_WORDS = { "hunter2", "dTpodW50ZXIy" }

describe("through a proxy", function ()
  local s, peer, proxy

  local function begin(environment, options)
    s = world.new { environment = environment }
    peer = s:peer("discord", { heartbeat_interval = 500, token = "MTIz.bot", names = options and options.names })
  end

  -- Whatever an operator can see.
  local function says_nothing_secret(name)
    local seen = { s.w:log() }
    for _, e in ipairs(s:journal(name)) do seen[#seen + 1] = e.text end
    local function collect(t)
      for _, v in pairs(t) do
        if type(v) == "table" then collect(v) elseif type(v) == "string" then seen[#seen + 1] = v end
      end
    end
    collect(s:view(name))
    collect(s:notes(name))
    collect(s:journal(name))
    local all = table.concat(seen, "\n")
    assert.is_true(#all > 100)
    for _, word in ipairs(MANY_WORDS) do assert.is_nil(all:find(word, 1, true), word) end
  end

  before_each(world.setup)
  after_each(world.teardown)

  describe("that a connection names", function ()
    before_each(function () begin() end)

    it("the bootstrap call and the link both go, to loopback as well, each with its authorization", function ()
      proxy = s:proxy { authorization = BASIC }
      s:discord("bot", peer, { proxy = proxy:named(BASIC) })
      s:up "bot"
      local stats, target = proxy:stats(), "127.0.0.1:" .. peer.port
      assert.equal(2, stats.tunnels)
      assert.equal(target .. " " .. target, stats.targets)
      assert.equal(BASIC, stats.said)
      assert.equal(1, peer:stats().http)
      assert.equal(1, peer:stats().upgrades)
      s:restart "bot"
      s:run_until(function () return peer:stats().upgrades == 2 and s:state "bot" == "up" end)
      assert.equal(peer:stats().http + peer:stats().upgrades, proxy:stats().tunnels)
      says_nothing_secret "bot"
    end)

    for what, authorization in pairs { ["without the password"] = false, ["with a wrong one"] = "Basic dTp4aHVudGVyMg==" } do
      it(what .. " the call fails with the proxy's 407, and nothing reaches the target", function ()
        proxy = s:proxy { authorization = BASIC }
        s:discord("bot", peer, { proxy = proxy:named(authorization or nil) })
        local d = s:fails("bot", "proxy 407 " .. what, { stage = "preparing", name = "gateway_unreachable" })
        assert.equal(("proxy: the proxy at 127.0.0.1:%d refused the tunnel: HTTP 407"):format(proxy.port), d.cause.reason)
        assert.not_equal("stop", d.pace)
        assert.equal(0, peer:stats().http)
        assert.equal(0, #s:notes("bot", "dial"))
        says_nothing_secret "bot"
      end)
    end

    local function link(options, faults)
      proxy = s:proxy(options or {})
      if faults then proxy:set(faults) end
      s:connection("probe", { url = peer.ws .. "/?v=10&encoding=json", hello = true, proxy = proxy:named(BASIC) })
    end

    for what, case in pairs {
      ["asks for a password"] = { "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", 407,
        "refused the tunnel: HTTP 407 Proxy Authentication Required" },
      ["may not go there"] = { "HTTP/1.1 403 Forbidden\r\n\r\n<html>", 403, "refused the tunnel: HTTP 403 Forbidden" },
      ["cannot reach the target"] = { "HTTP/1.0 502 Bad Gateway\r\nConnection: close\r\n\r\n", 502, "refused the tunnel: HTTP 502 Bad Gateway" },
      ["says nothing but a status"] = { "HTTP/1.1 504\r\n\r\n", 504, "refused the tunnel: HTTP 504" },
      ["would escape from the terminal"] = { "HTTP/1.1 500 \27[2Jgone\r\n\r\n", 500, "refused the tunnel: HTTP 500 \\x1b[2Jgone" },
      ["speaks something else"] = { "SSH-2.0-OpenSSH_9.2\r\n\r\n", 0, "does not speak HTTP" },
      ["has a status of two digits"] = { "HTTP/1.1 20 OK\r\n\r\n", 0, "does not speak HTTP" },
      ["hangs up inside its answer"] = { "HTTP/1.1 2", 0, "closed the connection during CONNECT" },
      ["talks before TLS"] = { "HTTP/1.1 200 OK\r\n\r\nboo", 0, "sent data before TLS began" },
    } do
      it("that " .. what .. " the link fails with the proxy's own words", function ()
        link { answer = case[1] }
        local d = s:fails("probe", "proxy " .. what, { stage = "connecting", kind = "proxy", code = case[2] })
        assert.equal(("the proxy at 127.0.0.1:%d %s"):format(proxy.port, case[3]), d.cause.reason)
        assert.is_nil(d.cause.http) -- that would be the target's
        assert.equal(0, peer:stats().upgrades)
        says_nothing_secret "probe"
      end)

      it("that " .. what .. " the call fails with them as well", function ()
        proxy = s:proxy { answer = case[1] }
        s:discord("bot", peer, { proxy = proxy:named(BASIC) })
        local d = s:fails("bot", "call: proxy " .. what, { stage = "preparing", name = "gateway_unreachable" })
        if what ~= "talks before TLS" and what ~= "has a status of two digits" then
          assert.truthy(d.cause.reason:find("^proxy: the proxy at 127.0.0.1:%d+ "), d.cause.reason)
        end
        assert.not_equal("stop", d.pace)
        assert.equal(0, peer:stats().http)
        says_nothing_secret "bot"
      end)
    end

    it("that refuses the connection both say that it cannot be reached, and come up when it can", function ()
      link({}, { refuse = true })
      local d = s:fails("probe", "proxy refuses", { stage = "connecting", kind = "proxy", code = 111 })
      assert.truthy(d.cause.reason:find(("^cannot reach the proxy: 127.0.0.1 port %d: connection refused"):format(proxy.port)), d.cause.reason)
      s:discord("bot", peer, { proxy = proxy:named() })
      d = s:fails("bot", "call: proxy refuses", { stage = "preparing" })
      assert.truthy(d.cause.reason:find(("^proxy: cannot reach the proxy: 127.0.0.1:%d: connection refused"):format(proxy.port)), d.cause.reason)
      proxy:set {}
      s:up "probe"
      s:up "bot"
    end)

    it("whose name does not resolve both say whose name it is", function ()
      local named = { host = "proxy.invalid", port = 3128 }
      s:connection("probe", { url = peer.ws, proxy = named })
      local d = s:fails("probe", "proxy's name", { stage = "resolving", kind = "proxy" })
      assert.truthy(d.cause.reason:find("^cannot resolve the proxy's name proxy.invalid: "), d.cause.reason)
      s:discord("bot", peer, { proxy = named })
      d = s:fails("bot", "call: proxy's name", { stage = "preparing" })
      assert.truthy(d.cause.reason:find("^proxy: cannot resolve the proxy's name proxy.invalid: "), d.cause.reason)
    end)

    it("that is silent the link ends at the limit for connecting, and the call at its own", function ()
      link({}, { mute = true })
      local _, took = s:fails("probe", "proxy silent", { stage = "connecting", kind = "timeout" })
      assert.is_true(took >= 450 and took < 4000, "took " .. took)
      s:discord("bot", peer, { proxy = proxy:named(), tune = { limits = { call = "500ms", prepare = "1s" } } })
      local d
      d, took = s:fails("bot", "call: proxy silent", { stage = "preparing" })
      assert.equal(("proxy: the proxy at 127.0.0.1:%d gave no answer in time"):format(proxy.port), d.cause.reason)
      assert.is_true(took >= 450 and took < 4000, "took " .. took)
    end)

    it("a target with a foreign certificate is the target's fault", function ()
      proxy = s:proxy {}
      s:connection("probe", { url = peer.ws, ca = false, proxy = proxy:named() })
      s:fails("probe", "certificate behind a proxy", { stage = "securing", kind = "certificate" })
      s:discord("bot", peer, { ca = false, proxy = proxy:named() })
      local d = s:fails("bot", "call: certificate behind a proxy", { stage = "preparing" })
      assert.truthy(d.cause.reason:find "^certificate: ", d.cause.reason)
      assert.equal(2, proxy:stats().tunnels)
    end)

    it("a target that refuses the upgrade is the target's refusal", function ()
      peer:fault { upgrade = { status = 503 } }
      link()
      s:fails("probe", "503 behind a proxy", { stage = "upgrading", kind = "upgrade_refused", http = 503 })
    end)

    it("a link that is cut later ends as any other", function ()
      link()
      s:up "probe"
      proxy:reset()
      s:fails("probe", "reset by the proxy", { stage = "ready", kind = "reset" })
      s:up "probe"
    end)
  end)

  describe("that the environment names", function ()
    local function through(environment, name, options)
      begin(environment, { names = "DNS:api.test,DNS:other.test,IP:127.0.0.1" })
      proxy = s:proxy(options or {})
      s:pretend "api.test"
      s:pretend "proxy.test"
      s:discord(name, peer, { api = ("https://api.test:%d/api/v10"):format(peer.port), proxy = "environment" })
      world.lead(peer, ("wss://api.test:%d"):format(peer.port))
    end

    -- The port is known only later: a first world finds one that is free.
    local function environment_of(url, more)
      local w = world.new()
      local port = w:free_port()
      w:close()
      local environment = { HTTPS_PROXY = url:format(port) }
      for k, v in pairs(more or {}) do environment[k] = v end
      return environment, port
    end

    it("call and link both go, with the user and password of its address", function ()
      local environment, port = environment_of "http://u:hunter2@proxy.test:%d"
      through(environment, "bot", { authorization = BASIC, port = port })
      s:up "bot"
      local target = "api.test:" .. peer.port
      assert.equal(target .. " " .. target, proxy:stats().targets)
      assert.equal(2, proxy:stats().tunnels)
      says_nothing_secret "bot"
    end)

    it("nothing goes to what NO_PROXY names", function ()
      local environment, port = environment_of("http://u:hunter2@proxy.test:%d", { NO_PROXY = "elsewhere.test, .test" })
      through(environment, "bot", { port = port })
      s:up "bot"
      assert.equal(0, proxy:stats().accepted)
      assert.equal(1, peer:stats().upgrades)
    end)

    it("a gateway may go where the call does not: it is judged target by target", function ()
      local environment, port = environment_of("http://proxy.test:%d", { NO_PROXY = "127.0.0.1,other.test" })
      begin(environment, { names = "DNS:api.test,DNS:other.test,IP:127.0.0.1" })
      proxy = s:proxy { port = port }
      s:pretend "proxy.test"
      s:pretend "api.test"
      s:discord("bot", peer, { api = ("https://127.0.0.1:%d/api/v10"):format(peer.port), proxy = "environment" })
      s:connection("probe", { url = ("wss://api.test:%d/?v=10&encoding=json"):format(peer.port), hello = true, proxy = "environment" })
      s:up "bot"
      s:up "probe"
      assert.equal("api.test:" .. peer.port, proxy:stats().targets)
    end)

    it("a connection that says none goes to none, and loopback is never sent there", function ()
      local environment, port = environment_of "http://proxy.test:%d"
      begin(environment)
      proxy = s:proxy { port = port }
      s:pretend "proxy.test"
      s:discord("bot", peer, { proxy = "environment" })
      s:connection("probe", { url = peer.ws .. "/?v=10&encoding=json", hello = true })
      s:up "bot"
      s:up "probe"
      assert.equal(0, proxy:stats().accepted)
    end)
  end)
end)
