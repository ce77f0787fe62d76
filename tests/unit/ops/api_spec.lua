local support = require "ops_support"

describe("the API on the UNIX socket", function ()
  local server, client, box
  before_each(function ()
    server = support.open()
    box = server.box
    client = server:connect()
  end)
  after_each(function () server:close() support.remove_paths() end)

  it("lists connections, all or by pattern, over one kept connection", function ()
    for _, name in ipairs { "support-1", "support-2", "billing" } do box:add(name) end
    local function names(target)
      local status, body = client:request("GET", target)
      assert.equal(200, status)
      local list = {}
      for i, c in ipairs(body.connections) do list[i] = c.name end
      return table.concat(list, " ")
    end
    assert.equal("support-1 support-2 billing", names "/v1/connections")
    assert.equal("support-1 support-2", names "/v1/connections?connection=support-*")
    assert.equal("support-2 billing", names "/v1/connections?connection=*-2&connection=billing")
    assert.equal("", names "/v1/connections?connection=none")
  end)

  it("lists ten thousand connections", function ()
    for i = 1, 10000 do box:add("connection-" .. i) end
    local status, body = client:request("GET", "/v1/connections")
    assert.equal(200, status)
    assert.equal(10000, #body.connections)
    assert.equal("connection-10000", body.connections[10000].name)
  end)

  it("lets others have their turn while an answer is made of very many", function ()
    for i = 1, 20000 do box:add("connection-" .. i) end
    local slow, quick = server:connect(), server:connect()
    for _, path in ipairs { "/v1/connections", "/v1/connections?connection=none", "/v1/history", "/v1/summary" } do
      slow:write("GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n\r\n")
      server:eventually(function () return box:gathering() > 0 end, path .. " under way")
      assert.equal(200, (quick:request("GET", "/healthz")))
      local status, body = slow:answer()
      assert.equal(200, status, path)
      assert.equal("table", type(body))
    end
  end)

  it("forgets an answer under way when its reader hangs up", function ()
    for i = 1, 20000 do box:add("connection-" .. i) end
    local slow = server:connect()
    slow:write("GET /v1/connections HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server:eventually(function () return box:gathering() > 0 end, "an answer under way")
    slow:close(true)
    server:eventually(function () return box:gathering() == 0 end, "its end")
    assert.equal(200, (client:request("GET", "/healthz")))
  end)

  it("shows the states of hours, of one and of all, as far back as asked for", function ()
    for _, name in ipairs { "a", "b" } do box:add(name) end
    local T = 1795341600123
    local all = { { T, "up" }, { 1795341700000, "waiting", "eof" }, { 1795341701005, "given_up", "closed" }, { 1795341800000, "unknown" } }
    local status, body = client:request("GET", "/v1/connections/a/history")
    assert.same({ 200, "a", all }, { status, body.connection, body.history })
    assert.equal("number", type(body.now))
    status, body = client:request("GET", "/v1/connections/a/history?from=1795341700500")
    assert.same({ 200, { all[2], all[3], all[4] } }, { status, body.history })
    status, body = client:request("GET", "/v1/history?from=1h") -- long ago: what holds since then
    assert.same({ 200, { all[4] }, {} }, { status, body.connections.a, body.connections.b })
    assert.same({ a = all }, (select(2, client:request("GET", "/v1/history?connection=a"))).connections)
    for _, from in ipairs { "", "yesterday", "-1", "1795341700500x" } do
      assert.equal(400, (client:request("GET", "/v1/history?from=" .. from)))
      assert.equal(400, (client:request("GET", "/v1/connections/a/history?from=" .. from)))
    end
    assert.equal(404, (client:request("GET", "/v1/connections/c/history")))
    assert.equal(405, (client:request("DELETE", "/v1/history")))
  end)

  it("shows one connection, decoded from its address", function ()
    box:add "a b"
    local status, body = client:request("GET", "/v1/connections/a%20b")
    assert.same({ 200, { name = "a b", state = "up" } }, { status, body })
    status, body = client:request("GET", "/v1/connections/nobody")
    assert.equal(404, status)
    assert.equal("no such connection", body.error.what)
  end)

  it("passes on stop, start and restart", function ()
    box:add "a"
    for _, verb in ipairs { "stop", "start", "restart" } do
      assert.equal(202, (client:request("POST", "/v1/connections/a/" .. verb, { body = "" })))
      assert.equal(202, (client:request("POST", "/v1/connections/a/" .. verb, { body = "{}" })))
      assert.equal(404, (client:request("POST", "/v1/connections/b/" .. verb, { body = "" })))
    end
    assert.equal("stop a\nstop a\nstart a\nstart a\nrestart a\nrestart a\n", box:orders())
  end)

  it("passes on a start that may spend what is kept for people, or says why not", function ()
    box:add "a"
    box:add "b"
    assert.equal(202, (client:request("POST", "/v1/connections/a/start?spend_reserve=1", { body = "" })))
    local status, body = client:request("POST", "/v1/connections/b/start?spend_reserve=1", { body = "" })
    assert.equal(409, status)
    assert.equal("nothing is left: the next one comes at noon", body.error.what)
    status = client:request("POST", "/v1/connections/a/start?spend_reserve=yes", { body = "" })
    assert.equal(400, status)
    assert.equal(404, (client:request("POST", "/v1/connections/c/start?spend_reserve=1", { body = "" })))
    assert.equal("start with the reserve of a\nstart with the reserve of b\n", box:orders())
  end)

  it("sends a frame and answers once it is known what became of it", function ()
    box:add "a"
    local status, body = client:request("POST", "/v1/connections/a/send", { body = '{"n": 1}' })
    assert.same({ 200, { sent = true } }, { status, body })
    status = client:request("POST", "/v1/connections/a/send",
      { body = "\1\2", headers = "Content-Type: application/octet-stream\r\n" })
    assert.equal(200, status)
    assert.equal('send a text {"n": 1}\nsend a bytes \1\2\n', box:orders())
    box:set("answers", false)
    client:write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    server:eventually(function () return box:orders() ~= "" end)
    assert.equal("", client.got)
    box:answer("not up", true)
    status, body = client:answer()
    assert.same({ 503, { refused = { why = "not up", retry = true } } }, { status, body })
    client:write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    server:eventually(function () return box:orders() ~= "" end)
    box:answer("too long", false)
    assert.equal(409, (client:answer()))
  end)

  it("takes a send back when its client goes", function ()
    box:add "a"
    box:set("answers", false)
    client:write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    server:eventually(function () return box:orders():find "send" end)
    client:close(true)
    server:eventually(function () return box:orders() == "dropped\n" end)
    box:answer()
    local second = server:connect()
    second:write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    server:eventually(function () return box:orders():find "send" end)
    second:close()
    server:eventually(function () return box:orders() == "dropped\n" end)
  end)

  it("refuses a frame that is none", function ()
    box:add "a"
    for _, body in ipairs { "", "{", "{} {}", "\255" } do
      assert.equal(400, (client:request("POST", "/v1/connections/a/send", { body = body })))
    end
    assert.equal(404, (client:request("POST", "/v1/connections/b/send", { body = "{}" })))
    local _, _, head = client:request("POST", "/v1/connections/a/send")
    assert.truthy(head:find("connection: close", 1, true)) -- no length: where would the next one begin
    client:wait(function () return client.ended end)
    assert.equal("", box:orders())
  end)

  it("shows the journal, newest first, as much as asked for", function ()
    box:add "a"
    local status, body = client:request("GET", "/v1/connections/a/journal")
    assert.equal(200, status)
    assert.equal("a", body.connection)
    assert.equal(3, #body.journal)
    local first, second = body.journal[1], body.journal[2]
    assert.same({ "decision", "2026-11-22T10:00:00.123Z", 7, "eof", 1400, "policies/chatter.lua", 'a "text"' },
      { first.kind, first.at, first.generation, first.cause.kind, first.delay_ms, first.file, first.text })
    assert.same({ "state", "up", "waiting" }, { second.kind, second.from, second.to })
    _, body = client:request("GET", "/v1/connections/a/journal?limit=1")
    assert.equal(1, #body.journal)
    assert.equal(404, (client:request("GET", "/v1/connections/b/journal")))
  end)

  it("reloads, and answers with the problems", function ()
    local status, body = server:connect():request("POST", "/v1/reload?policy=discord")
    assert.equal(200, status)
    assert.is_true(body.reloaded)
    box:set("reload_ok", false)
    status, body = client:request("POST", "/v1/reload", { body = "" })
    assert.equal(409, status)
    assert.same({ 'a.lua:3: "x" is unknown', "second" }, body.problems)
    assert.equal("reload discord\nreload all\n", box:orders())
  end)

  it("says whether it is ready", function ()
    assert.equal(200, (client:request("GET", "/readyz")))
    box:set("ready", false)
    assert.equal(503, (client:request("GET", "/readyz")))
  end)

  it("answers what is not there with 404, another method with 405, both as JSON", function ()
    for _, target in ipairs { "/dashboard", "/dashboard/x", "/v1", "/v1/", "/v2/connections", "/v1/connections/a/b/c",
      "/v1/connections/a/explode", "/healthz/x" } do
      local status, body = client:request("GET", target)
      assert.equal(404, status, target)
      assert.equal("there is nothing at this address", body.error.what)
    end
    for _, c in ipairs { { "POST", "/healthz" }, { "DELETE", "/v1/connections" }, { "GET", "/v1/reload" },
      { "GET", "/v1/connections/a/stop" }, { "PUT", "/v1/events" } } do
      local fresh = server:connect()
      local status, body = fresh:request(c[1], c[2], { body = c[1] ~= "GET" and "" or nil })
      assert.equal(405, status, c[1] .. " " .. c[2])
      assert.equal("this address has another method", body.error.what)
    end
    assert.equal(426, (client:request("GET", "/v1/attach")))
  end)

  it("refuses a body over a MiB without reading it, and takes one of a MiB", function ()
    box:add "a"
    client:write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n"
    assert.equal(413, (client:answer()))
    client:wait(function () return client.ended end)
    local other = server:connect()
    other:write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert.equal(411, (other:answer()))
    local big = '"' .. ("x"):rep(1024 * 1024 - 2) .. '"'
    assert.equal(200, (server:connect():request("POST", "/v1/connections/a/send", { body = big })))
  end)

  it("takes acks for a consumer", function ()
    local s = box:add "a"
    local attached = server:connect()
    attached:write '{"attach":{"consumer":"bot"}}\n'
    attached:lines(1)
    for _ = 1, 3 do box:append(s, "{}") end
    attached:lines(3)
    local ack = '{"ack":{"connection":"a","epoch":3,"offset":2}}\n'
    local status, body = client:request("POST", "/v1/ack?consumer=bot", { body = ack })
    assert.same({ 200, { acks = 1 } }, { status, body })
    assert.equal(1, (box:held(s)))
    assert.equal(400, (client:request("POST", "/v1/ack?consumer=bot", { body = "nonsense" })))
    assert.equal(400, (client:request("POST", "/v1/ack", { body = ack })))
    assert.equal(404, (client:request("POST", "/v1/ack?consumer=nobody", { body = ack })))
  end)
end)

describe("the API on TCP", function ()
  local server
  before_each(function ()
    server = support.open { http = "127.0.0.1:0", tokens = {
      { "operate-token", 3 }, { "consume-token", 2, "bot-a" }, { "read-only-token", 1 } } }
    server.box:add "a"
  end)
  after_each(function () server:close() support.remove_paths() end)

  local function status(method, target, options) return (server:tcp():request(method, target, options)) end

  it("asks for a token everywhere but at /healthz, /readyz and the page, which holds no data", function ()
    assert.equal(200, status("GET", "/healthz"))
    assert.equal(200, status("GET", "/readyz"))
    assert.equal(200, status("GET", "/"))
    for _, target in ipairs { "/v1/connections", "/v1/connections/a", "/v1/events", "/v1/attach", "/v1/watch", "/v1/summary",
      "/metrics", "/v1/token", "/nothing", "/v1/reload" } do
      local code, body, head = server:tcp():request("GET", target)
      assert.equal(401, code, target)
      assert.equal("a token is needed", body.error.what)
      assert.truthy(head:find("www-authenticate: Bearer", 1, true))
    end
  end)

  it("knows only whole tokens, as Bearer", function ()
    assert.equal(200, status("GET", "/v1/connections", { token = "operate-token" }))
    for _, token in ipairs { "operate-toke", "operate-token2", "perate-token", "", "operate-tokeN", ("x"):rep(3000), "\0" } do
      assert.equal(401, status("GET", "/v1/connections", { token = token }), token)
    end
    assert.equal(401, status("GET", "/v1/connections", { headers = "Authorization: Basic operate-token\r\n" }))
    assert.equal(401, status("GET", "/v1/connections", { headers = "Authorization: operate-token\r\n" }))
    assert.equal(401, status("GET", "/v1/connections?token=operate-token"))
  end)

  it("lets each scope do its own and no more", function ()
    local function codes(token)
      return table.concat({ status("GET", "/v1/connections", { token = token }),
        status("POST", "/v1/connections/a/send", { token = token, body = "{}" }),
        status("POST", "/v1/connections/a/stop", { token = token }),
        status("POST", "/v1/reload", { token = token }) }, " ")
    end
    assert.equal("200 200 202 200", codes "operate-token")
    assert.equal("200 200 403 403", codes "consume-token")
    assert.equal("200 403 403 403", codes "read-only-token")
    assert.equal(403, status("GET", "/v1/events", { token = "read-only-token" }))
    assert.equal(403, (server:tcp():websocket("/v1/attach", { token = "read-only-token" })))
  end)

  it("keeps a consumer's token to that consumer", function ()
    assert.equal(409, status("GET", "/v1/events?consumer=bot-b", { token = "consume-token" }))
    assert.equal(403, status("POST", "/v1/ack?consumer=bot-b", { token = "consume-token", body = "{}" }))
    local c = server:tcp()
    assert.equal(200, (c:request("GET", "/v1/events", { token = "consume-token" })))
    assert.equal("bot-a", c:lines(1)[1].hello.consumer)
  end)

  it("serves only its own host names", function ()
    local port = server.box:address():match ":(%d+)$"
    for _, host in ipairs { "localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:" .. port, "[::1]:" .. port } do
      assert.equal(200, status("GET", "/healthz", { host = host }), host)
    end
    for _, host in ipairs { "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::1", "[::1]x", ":80",
      "127.0.0.2", ("a"):rep(300) } do
      assert.equal(403, status("GET", "/healthz", { host = host, token = "operate-token" }), host)
    end
  end)

  it("refuses every page from elsewhere", function ()
    local options = { token = "operate-token", host = "127.0.0.1:7600" }
    for origin, code in pairs { ["http://127.0.0.1:7600"] = 200, ["http://evil.example"] = 403, ["null"] = 403,
      ["https://127.0.0.1:7600"] = 403, ["http://127.0.0.1:7601"] = 403, ["http://127.0.0.1:7600.evil.example"] = 403 } do
      options.headers = "Origin: " .. origin .. "\r\n"
      assert.equal(code, status("GET", "/v1/connections", options), origin)
    end
    assert.equal(403, (server:tcp():websocket("/v1/attach",
      { token = "operate-token", headers = "Origin: http://evil.example\r\n" })))
  end)

  it("judges each request of a kept connection anew", function ()
    local c = server:tcp()
    assert.equal(200, (c:request("GET", "/v1/connections", { token = "operate-token" })))
    assert.equal(401, (c:request("GET", "/v1/connections")))
    assert.equal(403, (c:request("POST", "/v1/reload", { token = "read-only-token", body = "" })))
    assert.equal(200, (c:request("POST", "/v1/reload", { token = "operate-token", body = "" })))
  end)

  it("does not take the first byte { as NDJSON: that is for the UNIX socket", function ()
    local c = server:tcp()
    c:write '{"attach":{}}\n'
    for _ = 1, 50 do server.box:step() c:pull() end
    assert.falsy(c.got:find("hello", 1, true))
  end)
end)
