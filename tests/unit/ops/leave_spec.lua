local ops = require "unit.ops"
local support = require "ops_support"

describe("a server that is left", function ()
  local server, box, stream
  before_each(function ()
    server = support.open { http = "127.0.0.1:0", tokens = { { "operator-token", 3 }, { "reader-token", 1 } } }
    box = server.box
    stream = box:add "bot"
  end)
  after_each(function ()
    if server then server:close() end
    support.remove_paths()
  end)

  local function ended(c) c:wait(function () return c.ended end, "its end") end
  local function quiet() server:eventually(function () return box:quiet() end, "quiet") end

  describe("while it is suspended", function ()
    it("answers orders with the reason and says to try again, and goes on to be read", function ()
      box:suspend("shutting down", true)
      for _, order in ipairs { { "POST", "/v1/connections/bot/stop" }, { "POST", "/v1/reload" }, { "PUT", "/v1/connections/x" },
        { "DELETE", "/v1/connections/bot" }, { "POST", "/v1/ack?consumer=a" }, { "GET", "/v1/events" }, { "POST", "/v1/upgrade" } } do
        local status, body = server:connect():request(order[1], order[2], { body = order[1] ~= "GET" and "{}" or nil })
        assert.equal(503, status)
        assert.same({ what = "shutting down", expected = "try again in a moment" }, body.error)
      end
      assert.equal("", box:orders())
      assert.equal(200, (server:connect():request("GET", "/v1/connections")))
      assert.equal(200, (server:connect():request("GET", "/healthz")))
    end)

    it("refuses a send as one that may be tried again", function ()
      box:suspend("shutting down", true)
      local status, body = server:connect():request("POST", "/v1/connections/bot/send", { body = "{}" })
      assert.equal(503, status)
      assert.same({ refused = { why = "shutting down", retry = true } }, body)
      assert.equal("", box:orders())
    end)

    it("lets nobody attach, in no way", function ()
      box:suspend("holdfast is being upgraded", true)
      local status, body = server:connect():websocket "/v1/attach"
      assert.equal(503, status)
      assert.equal("holdfast is being upgraded", body.error.what)
      local c = server:connect()
      c:write '{"attach":{"consumer":"bot-a"}}\n'
      assert.equal("holdfast is being upgraded", c:lines(1)[1].error.what)
      ended(c)
    end)

    it("still asks for a token first", function ()
      box:suspend("shutting down", true)
      assert.equal(401, (server:tcp():request("POST", "/v1/reload")))
      assert.equal(503, (server:tcp():request("POST", "/v1/reload", { token = "operator-token" })))
    end)

    it("leaves who connects in the queue when told so, and serves them afterwards", function ()
      box:suspend("holdfast is being upgraded", false)
      local waiting = { server:connect(), server:tcp() }
      for _, c in ipairs(waiting) do c:write "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" end
      box:step(50)
      assert.equal(0, box:clients())
      for _, c in ipairs(waiting) do
        c:pull()
        assert.equal("", c.got)
        assert.is_false(c.ended)
      end
      box:resume()
      for _, c in ipairs(waiting) do assert.equal(200, (c:answer())) end
      assert.equal(202, (server:connect():request("POST", "/v1/connections/bot/stop")))
    end)
  end)

  describe("when it lets its consumers go", function ()
    local function leave()
      box:suspend("shutting down", true)
      box:let_go()
    end

    it("writes what is there, says why, and ends: NDJSON", function ()
      local c = server:connect()
      c:write '{"attach":{"consumer":"bot-a"}}\n'
      c:lines(1)
      box:append(stream, '{"op":1}')
      leave()
      local lines = c:lines(2)
      assert.equal(1, lines[1].event.offset)
      assert.same({ what = "shutting down", expected = "attach again" }, lines[2].error)
      ended(c)
      assert.equal(0, select(2, box:held(stream)))
      quiet()
    end)

    it("the same over HTTP", function ()
      local c = server:connect()
      c:write "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
      c:wait(function () return c.got:find("hello", 1, true) end)
      box:append(stream, '{"op":1}')
      leave()
      ended(c)
      assert.is_truthy(c.got:find('"offset":1,', 1, true), c.got)
      assert.is_truthy(c.got:find('{"error":{"what":"shutting down","expected":"attach again"}}\n', 1, true), c.got)
      quiet()
    end)

    it("the same by a WebSocket, with the close code for going away", function ()
      local c = server:connect()
      assert.equal(101, (c:websocket "/v1/attach"))
      c:ws_lines(1)
      box:append(stream, '{"op":1}')
      leave()
      c:ws_lines(2)
      c:wait(function () return c.got:find("\3\233shutting down", 1, true) end, "the close frame 1001")
      assert.is_truthy(c.got:find('"offset":1,', 1, true))
      c:close()
      quiet()
    end)

    it("waits for an answer under way", function ()
      box:set("answers", false)
      local c = server:connect()
      c:write "POST /v1/connections/bot/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
      server:eventually(function () return box:orders() ~= "" end)
      leave()
      box:answer("shutting down", true)
      assert.is_false(box:quiet())
      local status, body = c:answer()
      assert.equal(503, status)
      assert.same({ refused = { why = "shutting down", retry = true } }, body)
      quiet()
    end)

    it("is not kept by one that does not read: that one alone stays", function ()
      local c = server:connect(nil, 1)
      c:write '{"attach":{}}\n'
      server:eventually(function () return select(2, box:held(stream)) == 1 end)
      for _ = 1, 40 do box:append(stream, '"' .. ("x"):rep(20000) .. '"') end
      box:step(20)
      leave()
      box:step(20)
      assert.is_false(box:quiet())
      c:close()
      quiet()
    end)
  end)

  describe("whose listeners go to another one", function ()
    it("is followed at the same addresses, by who takes descriptors and lock", function ()
      local path, address = server.path, box:address()
      local waiting
      box:suspend("holdfast is being upgraded", false)
      waiting = { server:connect(), server:tcp() }
      for _, c in ipairs(waiting) do c:write "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" end
      local adopted = box:hand_over()
      assert.is_true(box:close())
      assert.equal(tonumber("600", 8), ops.mode(path))
      local next_one = support.open { unix = path, http = "127.0.0.1:0", adopted = adopted }
      assert.equal(address, next_one.box:address())
      for _, c in ipairs(waiting) do
        c.server = next_one
        assert.equal(200, (c:answer()))
        ops.shut(c.fd)
      end
      -- Locked all the while.
      local none, why, refused = ops.new { unix = path }
      assert.is_nil(none)
      assert.equal("another holdfast is running at " .. path, why)
      refused:close()
      next_one:close()
      assert.is_nil(ops.mode(path))
      server = nil
    end)

    it("refuses descriptors that listen elsewhere or not at all, and leaves none open", function ()
      local other = support.path()
      for _, adopted in ipairs { { unix = "unix" }, { http = "http" }, { unix = "lock" }, { unix = "http" }, { http = "unix" } } do
        local handed, given = box:hand_over(), {}
        for to, from in pairs(adopted) do given[to], handed[from] = handed[from], nil end
        for _, fd in pairs(handed) do ops.shut(fd) end
        local none, why, refused = ops.new { unix = given.unix and other, http = "127.0.0.1:1", adopted = given }
        assert.is_nil(none)
        assert.is_truthy(why:find("what was handed over does not listen at ", 1, true), why)
        assert.is_true(refused:close())
        assert.equal(-1, ops.write(given.unix or given.http, "x"))
      end
    end)
  end)

  describe("by an upgrade", function ()
    local function ask(c, body)
      c:write(("POST /v1/upgrade HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
    end

    it("has it begun by what runs it, and tells the outcome once it is known", function ()
      for body, order in pairs { [""] = "upgrade itself warm 0\n", ["{}"] = "upgrade itself warm 0\n",
        ['{"binary":"/opt/h","cold":true,"within_ms":500}'] = "upgrade /opt/h cold 500\n" } do
        local c = server:connect()
        ask(c, body)
        server:eventually(function () return box:clients() == 1 end)
        local said
        server:eventually(function () said = box:orders() return said ~= "" end)
        assert.equal(order, said)
        box:step(20)
        c:pull()
        assert.equal("", c.got)
        box:upgraded()
        local status, answer = c:answer()
        assert.equal(200, status)
        assert.same({ upgraded = { pid = 77, version = "2.0" } }, answer)
        c:close()
        server:eventually(function () return box:clients() == 0 end)
      end
      local c = server:connect()
      ask(c, "{}")
      server:eventually(function () return box:orders() ~= "" end)
      box:upgraded "the new one is \"odd\""
      local status, answer = c:answer()
      assert.equal(409, status)
      assert.same({ what = "the new one is \"odd\"", expected = "what ran goes on" }, answer.error)
    end)

    it("goes on when who asked is gone", function ()
      local c = server:connect()
      ask(c, "{}")
      server:eventually(function () return box:orders() ~= "" end)
      c:close(true)
      server:eventually(function () return box:clients() == 0 end)
      box:upgraded()
    end)

    it("is refused with what runs it says", function ()
      box:set("reload_ok", false)
      local status, answer = server:connect():request("POST", "/v1/upgrade", { body = "{}" })
      assert.equal(409, status)
      assert.same({ what = "not now", expected = "another time" }, answer.error)
    end)

    it("is not asked for over TCP, by nobody", function ()
      local status, answer = server:tcp():request("POST", "/v1/upgrade", { token = "operator-token", body = "{}" })
      assert.equal(403, status)
      assert.equal("an upgrade is asked for over the UNIX socket", answer.error.what)
      assert.equal(403, (server:tcp():request("POST", "/v1/upgrade", { token = "reader-token", body = "{}" })))
      assert.equal(401, (server:tcp():request("POST", "/v1/upgrade", { body = "{}" })))
      assert.equal("", box:orders())
    end)

    it("takes no body that is another, nor a program without its whole path", function ()
      for _, body in ipairs { "[]", "x", '{"binary":7}', '{"binary":"h"}', '{"binary":""}', '{"cold":1}', '{"within_ms":5}',
        '{"within_ms":1e9}', '{"colder":true}' } do
        assert.equal(400, (server:connect():request("POST", "/v1/upgrade", { body = body })), body)
      end
      assert.equal("", box:orders())
    end)
  end)
end)
