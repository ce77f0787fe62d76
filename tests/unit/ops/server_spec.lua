local ops = require "unit.ops"
local support = require "ops_support"

describe("the server", function ()
  local server
  after_each(function ()
    if server then server:close() end
    server = nil
    support.remove_paths()
  end)

  it("makes the socket's folder for itself alone, and the socket too", function ()
    server = support.open()
    assert.equal(tonumber("600", 8), ops.mode(server.path))
    assert.equal(tonumber("700", 8), ops.mode((server.path:gsub("/[^/]*$", ""))))
  end)

  it("takes its socket away when it ends", function ()
    server = support.open()
    local path = server.path
    server:close()
    server = nil
    assert.is_nil(ops.mode(path))
  end)

  -- libwebsockets closes one of its descriptors twice: an inotify handle opened in between was closed with it.
  it("closes nobody else's files when it ends", function ()
    server = support.open()
    local opened, lost, after = server.box:close_beside()
    assert.equal(0, lost, opened .. " were opened")
    assert.is_true(after)
  end)

  it("replaces a socket that nobody listens on", function ()
    server = support.open()
    local path = server.path
    server:close()
    ops.stale(path)
    server = support.open { unix = path }
    assert.equal(200, (server:connect():request("GET", "/healthz")))
  end)

  local function refused(options)
    local none, why, box = ops.new(options)
    assert.is_nil(none)
    assert.is_true(box:close())
    return why
  end

  it("does not start where another holdfast is running", function ()
    server = support.open()
    assert.equal("another holdfast is running at " .. server.path, refused { unix = server.path })
    assert.equal(200, (server:connect():request("GET", "/healthz")))
  end)

  it("does not take a socket on which any other process listens", function ()
    server = support.open()
    local path = server.path
    server:close()
    server = nil
    local fd = ops.stale(path, true)
    assert.equal("another holdfast is running at " .. path, refused { unix = path })
    ops.shut(fd)
  end)

  it("does not remove a file that is no socket", function ()
    server = support.open()
    local other = server.path .. "x"
    io.open(other, "w"):close()
    assert.equal(other .. " is there and is no socket", refused { unix = other })
    assert.is_number(ops.mode(other))
  end)

  it("says what is wrong with an address", function ()
    for _, http in ipairs { "7600", ":7600", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
      "example.org:1", "[::1:1", "[]:1", "[127.0.0.1]:1", "::1:7600" } do
      assert.truthy(refused { http = http }:find("not an address to listen on: " .. http, 1, true))
    end
    server = support.open { http = "127.0.0.1:0" }
    assert.truthy(refused { http = server.box:address() }:find "Address already in use")
    assert.truthy(refused { unix = "/" .. ("x"):rep(200) }:find "longer than 107")
    assert.truthy(refused { unix = "/proc/nowhere/api.sock" }:find "cannot make the folder /proc/nowhere")
    assert.truthy(refused { tokens = { { "short", 3 } } }:find "less than 8")
  end)

  it("listens on IPv6 too", function ()
    server = support.open { http = "[::1]:0", tokens = { { "long-enough", 3 } } }
    assert.truthy(server.box:address():find "^%[::1%]:%d+$")
    local c = server:tcp()
    assert.equal(200, (c:request("GET", "/v1/connections", { token = "long-enough", host = server.box:address() })))
  end)

  it("serves many clients at once and forgets each", function ()
    server = support.open { http = "127.0.0.1:0" }
    local clients = {}
    for i = 1, 200 do clients[i] = i % 2 == 0 and server:tcp() or server:connect() end
    for _, c in ipairs(clients) do c:write "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" end
    for _, c in ipairs(clients) do assert.equal(200, (c:answer())) end
    assert.equal(200, server.box:clients())
    for i, c in ipairs(clients) do c:close(i % 3 == 0) end
    server:eventually(function () return server.box:clients() == 0 end)
  end)

  it("refuses clients over its number, and takes new ones later", function ()
    server = support.open { clients = 3 }
    local first = {}
    for i = 1, 3 do
      first[i] = server:connect()
      first[i]:request("GET", "/healthz")
    end
    local fourth = server:connect()
    fourth:wait(function () return fourth.ended end)
    first[1]:close()
    server:eventually(function () return server.box:clients() == 2 end)
    assert.equal(200, (server:connect():request("GET", "/healthz")))
  end)

  it("ends clients that send nothing, or never finish, and idle ones later", function ()
    server = support.open { http = "127.0.0.1:0", head_ms = 50, idle_ms = 400 }
    local slow = { server:connect(), server:tcp(), server:connect(), server:connect(), server:tcp() }
    slow[3]:write "{\"attach\":"
    slow[4]:write "GET /healthz HT"
    slow[5]:write "GET /healthz HTTP/1.1\r\nHost: x\r\n"
    local idle = server:connect()
    assert.equal(200, (idle:request("GET", "/healthz")))
    for _, c in ipairs(slow) do c:wait(function () return c.ended end, "the end of a slow client") end
    idle:wait(function () return idle.ended end)
    assert.equal(0, server.box:clients())
  end)

  it("ends a request whose body never comes whole", function ()
    server = support.open { idle_ms = 100 }
    server.box:add "a"
    local c = server:connect()
    c:write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
    c:wait(function () return c.ended end)
    assert.equal("", server.box:orders())
  end)

  it("survives any first bytes on both sockets", function ()
    server = support.open { http = "127.0.0.1:0", head_ms = 300 }
    local seed = 11
    local function random() seed = (seed * 1103515245 + 12345) % 2147483648 return math.floor(seed / 65536) end
    local texts = { "\0", "\255\255\255\255", "\22\3\1\2\0\1\0\1\252\3\3", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET\r\n\r\n",
      "GET  HTTP/1.1\r\n\r\n", "\r\n\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", ("A"):rep(20000), "GET /" .. ("a"):rep(20000) .. " HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\n" .. ("X: y\r\n"):rep(5000) .. "\r\n", "{\0}\n", "{}\n", "{", "{\n",
      "GET /%00%ff%2e%2e/..%2f HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "GET /v1/events?connection=%00&from=%zz&&&=&a HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "POST /v1/ack HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
      "POST /v1/ack HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
      "GET /v1/attach HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
      "GET /v1/attach HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n",
      "CONNECT localhost:1 HTTP/1.1\r\n\r\n" }
    for i = 1, 60 do
      local bytes = {}
      for k = 1, 1 + random() % 300 do bytes[k] = string.char(random() % 256) end
      texts[#texts + 1] = table.concat(bytes)
    end
    for i, text in ipairs(texts) do
      for _, c in ipairs { server:connect(), server:tcp() } do
        c:write(text)
        for _ = 1, 5 do server.box:step() c:pull() end
        if i % 2 == 0 then c:close(i % 4 == 0) end
      end
    end
    local c = server:connect()
    assert.equal(200, (c:request("GET", "/healthz")))
    for fd in pairs(server.fds) do if fd ~= c.fd then ops.shut(fd) server.fds[fd] = nil end end
    server:eventually(function () return server.box:clients() == 1 end)
  end)

  it("ends with clients in every state", function ()
    server = support.open { http = "127.0.0.1:0" }
    local s = server.box:add "a"
    server.box:set("answers", false)
    server:connect() -- peeked
    server:connect():write '{"attach":{}}\n'
    server:connect():write '{"att'
    server:connect():write "GET /"
    server:connect():websocket "/v1/attach?consumer=w"
    server:connect():write "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"
    server:connect():write "POST /v1/connections/a/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    server:connect():request("GET", "/healthz")
    server.box:step(20)
    server.box:append(s, "{}")
  end)
end)
