local ops = require "unit.ops"
local support = require "ops_support"

local function briefly(list)
  local out = {}
  for i, line in ipairs(list) do out[i] = line.event and line.event.offset or next(line) end
  return table.concat(out, " ")
end

describe("an attachment", function ()
  local server, box, stream
  before_each(function ()
    server = support.open { queue = 20000, consumer_bytes = 200000 }
    box = server.box
    stream = box:add "support-bot"
  end)
  after_each(function () server:close() support.remove_paths() end)

  describe("by NDJSON on the UNIX socket", function ()
    it("gets lines, acknowledges and sends, in any pieces", function ()
      local c = server:connect()
      for byte in ('{"attach":{"consumer":"bot-a","connections":["support-*"]}}\n'):gmatch "." do
        c:write(byte)
        box:step()
      end
      box:append(stream, '{"op":0}')
      assert.equal("hello 1", briefly(c:lines(2)))
      c:write '{"ack":{"connection":"support-bot","epoch":3,"offset":1}}\n{"send":{"id":"x1","connection":"support-bot","frame":{"a":1}}}\nnonsense\n'
      local answers = c:lines(2)
      assert.equal("x1", answers[1].sent.id)
      assert.equal("the line is not JSON", answers[2].error.what)
      assert.equal(0, (box:held(stream)))
      assert.equal('send support-bot text {"a":1}\n', box:orders())
    end)

    it("may say all in its first write", function ()
      local c = server:connect()
      c:write '{"attach":{}}\n{"send":{"id":"x1","connection":"support-bot","frame":1}}\n'
      assert.equal("hello sent", briefly(c:lines(2)))
    end)

    it("is refused with a sentence and closed when its first line is wrong", function ()
      for _, line in ipairs { "{}\n", '{"attach":{"colour":1}}\n', '{"attach":{"from":"cursor"}}\n', '{"attach":7}\n', "{" .. ("x"):rep(70000) } do
        local c = server:connect()
        c:write(line)
        local errors = c:lines(1)
        assert.is_string(errors[1].error.what)
        c:wait(function () return c.ended end)
      end
      assert.equal(0, box:clients())
    end)

    it("ends when its client does, by close or reset", function ()
      for _, reset in ipairs { false, true } do
        local c = server:connect()
        c:write '{"attach":{"consumer":"bot"}}\n'
        c:lines(1)
        c:close(reset)
        server:eventually(function () return select(2, box:held(stream)) == 0 end)
      end
    end)

    it("is told when another takes its name", function ()
      local first, second = server:connect(), server:connect()
      first:write '{"attach":{"consumer":"bot"}}\n'
      first:lines(1)
      second:write '{"attach":{"consumer":"bot"}}\n'
      second:lines(1)
      assert.equal("replaced: attached again elsewhere", first:lines(1)[1].error.what)
      first:wait(function () return first.ended end)
      box:append(stream, "{}")
      assert.equal("1", briefly(second:lines(1)))
    end)
  end)

  describe("by WebSocket", function ()
    it("gets lines as messages, several at once, and is heard", function ()
      local c = server:connect()
      assert.equal(101, (c:websocket "/v1/attach?consumer=bot-a&connection=support-*&from=cursor"))
      c:ws_lines(1)
      for _ = 1, 50 do box:append(stream, '{"op":0}') end
      local all = c:ws_lines(51)
      assert.equal(50, all[51].event.offset)
      assert.is_true(#(c:messages()) <= 3)
      c:say '{"ack":{"connection":"support-bot","epoch":3,"offset":50}}'
      c:say '{"send":{"id":"x1","connection":"support-bot","frame":[1]}}\n{"send":{"id":"x2","connection":"support-bot","frame":[2]}}'
      all = c:ws_lines(53)
      assert.same({ "x1", "x2" }, { all[52].sent.id, all[53].sent.id })
      assert.equal(0, (box:held(stream)))
    end)

    it("is heard in fragments and in big messages", function ()
      local c = server:connect()
      c:websocket "/v1/attach"
      c:ws_lines(1)
      local frame = '"' .. ("y"):rep(30000) .. '"'
      local text = '{"send":{"id":"x1","connection":"support-bot","frame":' .. frame .. '}}'
      c:write(ops.ws_frame(1, text:sub(1, 10), false) .. ops.ws_frame(0, text:sub(11, 9000), false)
        .. ops.ws_frame(9, "ping") .. ops.ws_frame(0, text:sub(9001), true))
      assert.equal("x1", c:ws_lines(2)[2].sent.id)
      assert.equal("send support-bot text " .. frame .. "\n", box:orders())
      c:write(ops.ws_frame(1, "") .. ops.ws_frame(1, "nonsense"))
      assert.equal("the line is not JSON", c:ws_lines(3)[3].error.what)
    end)

    it("gets frames far larger than its queue", function ()
      local c = server:connect()
      c:websocket "/v1/attach"
      c:ws_lines(1)
      local big = '"' .. ("z"):rep(900000) .. '"'
      box:append(stream, big)
      box:append(stream, "1")
      local all = c:ws_lines(3)
      assert.equal(900000, #all[2].event.frame)
      assert.equal(2, all[3].event.offset)
    end)

    it("is closed with a reason when another takes its name", function ()
      local first = server:connect()
      first:websocket "/v1/attach?consumer=bot"
      first:ws_lines(1)
      local second = server:connect()
      second:websocket "/v1/attach?consumer=bot"
      second:ws_lines(1)
      local code, reason
      first:wait(function () _, code, reason = first:messages() return code end)
      assert.same({ 1008, "replaced: attached again elsewhere" }, { code, reason })
      first:write(ops.ws_frame(8, "\3\240"))
      first:wait(function () return first.ended end)
    end)

    it("is gone from here even when its client never answers the close", function ()
      local first, second = server:connect(), server:connect()
      first:websocket "/v1/attach?consumer=bot"
      second:websocket "/v1/attach?consumer=bot"
      second:ws_lines(1)
      server:eventually(function () return box:clients() == 1 end)
    end)

    it("is refused before the upgrade when its query is wrong", function ()
      for target, what in pairs { ["/v1/attach?from=later"] = "EPOCH.OFFSET", ["/v1/attach?colour=red"] = "known are",
        ["/v1/attach?consumer=a%20b"] = "A-Z" } do
        local c = server:connect()
        local status, body = c:websocket(target)
        assert.equal(400, status)
        assert.truthy(body.error.what:find(what, 1, true))
      end
      assert.equal(404, (server:connect():websocket "/v1/connections"))
    end)

    it("is closed with a sentence when deliver refuses it", function ()
      local c = server:connect()
      c:websocket "/v1/attach?from=cursor"
      local code, reason
      c:wait(function () _, code, reason = c:messages() return code end)
      assert.same({ 1008, "only a named consumer has a cursor" }, { code, reason })
    end)

    it("ends when its client does, in the middle of everything", function ()
      for i = 1, 20 do
        local c = server:connect()
        c:websocket "/v1/attach?consumer=bot"
        box:append(stream, '"' .. ("x"):rep(5000) .. '"')
        if i % 2 == 0 then box:step(i) end
        c:close(i % 3 == 0)
        box:append(stream, '"' .. ("x"):rep(5000) .. '"')
      end
      server:eventually(function () return box:clients() == 0 end)
      assert.equal(0, select(2, box:held(stream)))
    end)
  end)

  describe("by GET /v1/events", function ()
    it("streams lines until its client goes", function ()
      local c = server:connect()
      local status, _, head = c:request("GET", "/v1/events?connection=support-*&from=start")
      assert.equal(200, status)
      assert.truthy(head:find("content-type: application/x-ndjson", 1, true))
      box:append(stream, "{}")
      assert.equal("hello 1", briefly(c:lines(2)))
      box:append(stream, "{}")
      assert.equal("2", briefly(c:lines(1)))
      c:close()
      server:eventually(function () return select(2, box:held(stream)) == 0 end)
    end)

    it("outlives every time-out of a request", function ()
      server:close()
      server = support.open { head_ms = 50, idle_ms = 50 }
      box = server.box
      stream = box:add "a"
      local c, w, n = server:connect(), server:connect(), server:connect()
      c:request("GET", "/v1/events")
      w:websocket "/v1/attach"
      n:write '{"attach":{}}\n'
      n:lines(1)
      local gone = server:connect() -- a clock: it must be gone twice before
      for _ = 1, 2 do
        gone:wait(function () return gone.ended end)
        gone = server:connect()
      end
      assert.same({ false, false, false }, { c.ended, w.ended, n.ended })
      box:append(stream, "{}")
      assert.equal("hello 1", briefly(c:lines(2)))
      assert.equal(1, w:ws_lines(2)[2].event.offset)
      assert.equal("1", briefly(n:lines(1)))
    end)

    it("is told when another takes its name, and ended", function ()
      local first = server:connect()
      first:request("GET", "/v1/events?consumer=bot")
      first:lines(1)
      local second = server:connect()
      second:request("GET", "/v1/events?consumer=bot")
      second:lines(1)
      assert.equal("replaced: attached again elsewhere", first:lines(1)[1].error.what)
      first:wait(function () return first.ended end)
    end)

    it("is refused when its query is wrong", function ()
      local c = server:connect()
      assert.equal(400, (c:request("GET", "/v1/events?from=never")))
      assert.equal(409, (c:request("GET", "/v1/events?from=cursor")))
      assert.equal(400, (c:request("GET", "/v1/events?connection=" .. ("x"):rep(128))))
    end)
  end)

  for kind, open in pairs {
    ndjson = function (c) c:write '{"attach":{"consumer":"slow"}}\n' end,
    websocket = function (c) c:write("GET /v1/attach?consumer=slow HTTP/1.1\r\nHost: x\r\n" .. support.upgrade .. "\r\n") end,
    events = function (c) c:write "GET /v1/events?consumer=slow HTTP/1.1\r\nHost: x\r\n\r\n" end,
  } do
    it("that reads nothing is let go, costs no other, and is caught up later: " .. kind, function ()
      local slow, fast = server:connect(nil, 2048), server:connect()
      open(slow)
      server:eventually(function () return select(2, box:held(stream)) == 1 end)
      fast:write '{"attach":{"consumer":"fast"}}\n'
      fast:lines(1)
      local frame = '"' .. ("x"):rep(5000) .. '"'
      for i = 1, 400 do
        box:append(stream, frame)
        assert.equal(i, fast:lines(1)[1].event.offset)
        box:step()
      end
      server:eventually(function () return select(2, box:held(stream)) == 1 end, "the slow one to be let go")
      slow:close()
      local again = server:connect()
      again:write '{"attach":{"consumer":"slow","states":false}}\n'
      local lines = again:lines(401)
      for i = 1, 400 do assert.equal(i, lines[i + 1].event.offset) end
    end)

    it("that reads slowly but reads gets every frame in order: " .. kind, function ()
      local c = server:connect(nil, 2048)
      open(c)
      server:eventually(function () return select(2, box:held(stream)) == 1 end)
      local frame = '"' .. ("x"):rep(3000) .. '"'
      for i = 1, 60 do
        for _ = 1, 2 do box:append(stream, frame) end
        for _ = 1, 3 do box:step() c:pull() end
      end
      local seen = function ()
        local text = c.got
        if kind == "websocket" then
          local stop = select(2, text:find("\r\n\r\n", 1, true))
          text = stop and table.concat((ops.ws_messages(text:sub(stop + 1)))) or ""
        end
        local list = {}
        for offset in text:gmatch '"offset":(%d+)' do list[#list + 1] = tonumber(offset) end
        return list
      end
      c:wait(function () return #seen() >= 120 end)
      for i, offset in ipairs(seen()) do assert.equal(i, offset) end
    end)
  end
end)
