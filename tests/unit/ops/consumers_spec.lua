local support = require "ops_support"

describe("the API of consumers", function ()
  local server, client, box, stream
  before_each(function ()
    server = support.open { http = "127.0.0.1:0", tokens = {
      { "operate-token", 3 }, { "consume-token", 2, "bot-a" }, { "read-only-token", 1 } } }
    box = server.box
    stream = box:add "support-bot"
    client = server:connect()
  end)
  after_each(function () server:close() support.remove_paths() end)

  local function attach(name)
    local c = server:connect()
    c:write(('{"attach":{%s}}\n'):format(name and ('"consumer":"%s"'):format(name) or ""))
    c:lines(1)
    return c
  end

  it("lists who reads, named or not, with what waits for each", function ()
    local status, body = client:request("GET", "/v1/consumers")
    assert.same({ 200, { consumers = {} } }, { status, body })
    local bot = attach "bot-a"
    attach()
    for _ = 1, 3 do box:append(stream, '{"op":0}') end
    bot:lines(3)
    bot:write '{"ack":{"connection":"support-bot","epoch":3,"offset":1}}\n'
    bot:close()
    local list = server:eventually(function ()
      body = select(2, client:request("GET", "/v1/consumers"))
      return #body.consumers == 2 and not body.consumers[1].attached and body.consumers
    end)
    assert.same({ "bot-a", 1, 2 }, { list[1].name, list[1].connections, list[1].lag })
    assert.truthy(list[1].oldest:match "^%d%d%d%d%-")
    assert.same({ true, 0 }, { list[2].attached, list[2].lag })
    assert.is_nil(list[2].name)
  end)

  it("shows one with its place in each connection", function ()
    box:add "billing"
    local bot = attach "bot-a"
    box:append(stream, '{"op":0}')
    bot:lines(1)
    local status, body = client:request("GET", "/v1/consumers/bot-a")
    assert.equal(200, status)
    assert.same({ "bot-a", true, 2, 1 }, { body.name, body.attached, body.connections, body.lag })
    table.sort(body.positions, function (a, b) return a.connection < b.connection end)
    local quiet, busy = body.positions[1], body.positions[2]
    assert.same({ connection = "billing", configured = true, epoch = 3, offset = 0, last = 0, lag = 0 }, quiet)
    assert.truthy(busy.oldest)
    assert.same({ "support-bot", 3, 0, 1, 1 }, { busy.connection, busy.epoch, busy.offset, busy.last, busy.lag })
    for _, name in ipairs { "bot-b", "bot", "%22", "a%20b" } do
      status, body = client:request("GET", "/v1/consumers/" .. name)
      assert.same({ 404, "no such consumer" }, { status, body.error.what })
    end
  end)

  it("forgets one: it is detached, and what it held is let go", function ()
    local bot = attach "bot-a"
    box:append(stream, '{"op":0}')
    bot:lines(1)
    local status, body = server:connect():request("DELETE", "/v1/consumers/bot-a")
    assert.same({ 200, { forgotten = "bot-a" } }, { status, body })
    bot:wait(function () return bot.ended end)
    assert.equal(404, (server:connect():request("DELETE", "/v1/consumers/bot-a")))
    assert.same({}, select(2, client:request("GET", "/v1/consumers")).consumers)
    assert.truthy(box:log():find("consumer bot-a: forgotten", 1, true))
  end)

  it("is read by any token, and forgotten through by those that operate", function ()
    attach "bot-a"
    local function status(method, target, token)
      return (server:tcp():request(method, target, { token = token }))
    end
    for _, token in ipairs { "operate-token", "consume-token", "read-only-token" } do
      assert.equal(200, status("GET", "/v1/consumers", token))
      assert.equal(200, status("GET", "/v1/consumers/bot-a", token))
    end
    assert.equal(401, status("GET", "/v1/consumers"))
    assert.equal(403, status("DELETE", "/v1/consumers/bot-a", "consume-token"))
    assert.equal(403, status("DELETE", "/v1/consumers/bot-a", "read-only-token"))
    assert.equal(200, status("DELETE", "/v1/consumers/bot-a", "operate-token"))
    assert.equal(405, (server:connect():request("PUT", "/v1/consumers/bot-a")))
    assert.equal(405, (server:connect():request("DELETE", "/v1/consumers")))
  end)
end)
