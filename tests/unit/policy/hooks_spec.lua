local world = require "policy_world"

-- What each hook may call. A call that is refused raises and names the hook.
local hooks = { "fetch", "prepare", "greet", "on_beat", "on_frame", "on_ended", "on_ack", "every" }
local calls = {
  get    = { code = [[conn:get "other"]], fetch = true, prepare = true, greet = true, every = true },
  http   = { code = [[conn:http { url = "https://api.chatter.example" }]], fetch = true, prepare = true, greet = true, every = true },
  await  = { code = "conn:await { op = 1 }", greet = true },
  send   = { code = "conn:send { op = 1 }", greet = true, on_frame = true, every = true, on_ack = true },
  set    = { code = "conn:set { beat = '5s' }", greet = true, on_frame = true, every = true },
  gap    = { code = "conn:gap 'x'", prepare = true, greet = true, on_frame = true, every = true },
  fail   = { code = "conn:fail 'x'", fetch = true, prepare = true, greet = true, on_beat = true, on_frame = true, on_ack = true, every = true },
  close  = { code = "conn:close 'x'", greet = true, on_beat = true, on_frame = true, on_ack = true, every = true },
  budget = { code = "conn:budget('start', { left = 1 })", fetch = true, prepare = true, greet = true, on_frame = true, every = true },
  log    = { code = "conn:log 'x'", all = true },
  warn   = { code = "conn:warn 'x'", all = true },
}

-- A policy whose hooks all run `code`, and then answer well.
local function every_hook(code, head)
  return world.load(([[
    fetch = { it = { call = function (conn) CODE return "x" end }, other = { call = function () return "x" end } },
    prepare = function (conn) CODE return { url = "wss://gw.chatter.example" } end,
    greet = function (conn) CODE end,
    beat = { every = "41s" },
    on_beat = function (conn) CODE end,
    on_frame = function (conn, frame) CODE end,
    on_ended = function (conn, cause) CODE end,
    on_ack = function (conn, frame) CODE end,
    every = { it = { "30s", function (conn) CODE end } },]]):gsub("CODE", function () return code end), { head = head })
end

local function call(w, hook)
  return w:call(hook, { name = (hook == "fetch" or hook == "every") and "it" or nil, frame = '{"op":7}' })
end

describe("a hook", function ()
  for name, allowed in pairs(calls) do
    for _, hook in ipairs(hooks) do
      local may = allowed.all or allowed[hook]
      it(("%s call conn:%s() in %s"):format(may and "may" or "may not", name, hook), function ()
        local w = every_hook(allowed.code)
        local result, a = call(w, hook)
        if may then
          assert.is_true(result == "ok" or result == "waiting", result .. " " .. a.error)
        else
          assert.equal("raised", result)
          assert.match(("conn:%s%%(%%) is not available in %s$"):format(name, hook), a.error)
        end
      end)
    end
  end

  it("tells by conn:set when this link will end", function ()
    local w = world.load [[ greet = function (conn) conn:set { retire = "5h" } conn:set { retire = 90500 } end, ]]
    assert.equal("ok", (w:call "greet"))
    assert.same({ "retire 3 18000000", "retire 3 90500" }, w:events())
    local _, a = world.load([[ greet = function (conn) conn:set { retire = -1 } end, ]]):call "greet"
    assert.match("conn:set{ retire }", a.error, 1, true)
  end)

  it("sees the connection's facts", function ()
    local w = world.load [[ greet = function (conn)
      conn:log(table.concat({ conn.name, conn.generation, conn.attempt, conn.failed, conn.links, tostring(conn.resuming), conn.options.api, tostring(conn),
                              tostring(conn.options.token) }, " "))
    end, ]]
    assert.equal("ok", (w:call "greet"))
    assert.same({ "log bot 3 2 1 2 false https://api.chatter.example conn <secret token>" }, w:events())
  end)

  it("cannot change options, nor anything else of conn", function ()
    for code, why in pairs {
      ["conn.options.api = 'x'"] = "conn.options is read only",
      ["conn.options.new = 'x'"] = "conn.options is read only",
      ["conn.name = 'x'"] = "conn.name cannot be set",
      ["conn.send = nil"] = "conn.send cannot be set",
      ["local x = conn.nam"] = "conn has no `nam`",
      ["conn[1] = 1"] = "conn. cannot be set",
      ["setmetatable(conn, {})"] = "table expected",
    } do
      local w = every_hook(code)
      local result, a = call(w, "greet")
      assert.equal("raised", result, code)
      assert.match(why, a.error)
    end
  end)

  it("answers nil, stale_handle when the connection is gone", function ()
    local w = every_hook "local ok, why = conn:send { op = 1 } print(ok, why)"
    w:set("gone", true)
    assert.equal("ok", (call(w, "greet")))
    assert.same({ "log nil stale_handle" }, w:events())
  end)

  it("cannot use a conn of another call", function ()
    local w = world.load([[
      greet = function (conn) kept.conn, kept.session = conn, conn.session end,
      on_ended = function (conn) kept.conn:log "x" end,
      on_frame = function (conn) kept.session.x = 1 end,]], { head = "local kept = {}" })
    assert.equal("ok", (w:call "greet"))
    for _, hook in ipairs { "on_ended", "on_frame" } do
      local result, a = w:call(hook, { frame = "{}" })
      assert.equal("raised", result)
      assert.match("belongs to a call that is over %(stale_handle%)", a.error)
    end
    assert.same({}, w:events())
  end)

  it("draws random numbers from the host, and reads the host's clock", function ()
    local w = every_hook "local h = holdfast print(h.random() == h.random(), math.random(10), h.now_ms())"
    call(w, "greet")
    assert.same({ "log false 1 1700000000123" }, w:events())
  end)

  describe("send", function ()
    it("encodes tables, takes text and secrets, and says how it went", function ()
      local w = every_hook [[
        assert(conn:send { op = 2, d = { token = conn.options.token, list = holdfast.array() } } == true)
        conn:send '{"raw":1}'
        conn:send('{"t":"' .. conn.options.token .. '"}')]]
      assert.equal("ok", (call(w, "greet")))
      assert.same({ [[send 3 greet text {"d":{"list":[],"token":"ab.cdef"},"op":2}]], [[send 3 greet text {"raw":1}]],
                    [[send 3 greet text {"t":"ab.cdef"}]] }, w:events())
    end)

    it("hands back why it was refused", function ()
      local w = every_hook "local ok, why = conn:send { op = 1 } print(ok, why)"
      w:set("refuse", true)
      assert.equal("ok", (call(w, "on_frame")))
      assert.same({ "log nil not up" }, w:events())
    end)

    it("raises for what is no frame", function ()
      for code, why in pairs { ["conn:send(1)"] = "a number, not a frame", ["conn:send(nil)"] = "a nil, not a frame", ["conn:send()"] = "value expected",
                               ["conn:send { print }"] = "JSON: cannot hold a function", ["conn:send '\\255'"] = "a text frame that is not UTF%-8",
                               ["conn:send { x = 0/0 }"] = "not finite", ["conn.send { op = 1 }"] = "expected, got table" } do
        local result, a = call(every_hook(code), "greet")
        assert.equal("raised", result, code)
        assert.match(why, a.error)
      end
    end)

    it("writes bytes and text where the codec is bytes", function ()
      local w = world.load([[ greet = function (conn) conn:send "\1\2" conn:send { text = "t" } conn:send { bytes = "b" } end, ]], { codec = "bytes" })
      local result, a = w:call "greet"
      assert.equal("ok", result, a.error)
      assert.same({ "send 3 greet bytes \1\2", "send 3 greet text t", "send 3 greet bytes b" }, w:events())
    end)
  end)

  describe("set", function ()
    it("takes beats as durations or milliseconds, and codecs with secrets", function ()
      local w = every_hook [[conn:set { beat = "41s" } conn:set { beat = 41250 } conn:set { codec = { name = "wkproto", key = conn.options.token } }]]
      assert.equal("ok", (call(w, "greet")))
      assert.same({ "beat 3 41000", "beat 3 41250", [[codec 3 {"key":"<secret token>","name":"wkproto"}]] }, w:events())
    end)

    for _, beat in ipairs { "0/0", "-1", "1/0", "1e300", "'5'", "'5 parsecs'", "true", "{}" } do
      it("refuses a beat of " .. beat, function ()
        local result, a = call(every_hook(("conn:set { beat = %s }"):format(beat)), "greet")
        assert.equal("raised", result)
        assert.match("conn:set{ beat }", a.error, 1, true)
      end)
    end

    it("names the nearest key", function ()
      local _, a = call(every_hook "conn:set { baet = '5s' }", "greet")
      assert.match("unknown key `baet`; did you mean `beat`?", a.error, 1, true)
    end)
  end)

  describe("frames", function ()
    it("are decoded, with large integers as text", function ()
      local w = every_hook "print(frame.op, frame.id, frame.list[2] == holdfast.null, frame.gone)"
      w:call("on_frame", { frame = '{"op":7,"id":9007199254740993,"list":[1,null],"gone":null}' })
      assert.same({ "log 7 9007199254740993 true nil" }, w:events())
    end)

    it("that are no JSON object come as bytes and text", function ()
      local w = every_hook "print(frame.malformed, frame.text, #frame.bytes)"
      w:call("on_frame", { frame = '{"op":' })
      w:call("on_frame", { frame = '12' })
      w:call("on_frame", { frame = '"\255"' })
      assert.same({ 'log true {"op": 6', "log nil 12 2", "log nil nil 3" }, w:events())
    end)

    it("come as bytes where the codec is bytes", function ()
      local w = world.load("on_frame = function (conn, frame) print(#frame.bytes, frame.text) end,", { codec = "bytes" })
      w:call("on_frame", { frame = '{"op":7}' })
      assert.same({ 'log 8 {"op":7}' }, w:events())
    end)
  end)

  it("on_ended sees the cause", function ()
    local w = every_hook "print(cause.stage, cause.kind, cause.cause, cause.by, cause.close, cause.http, cause.retry_after, cause.reason, cause.headers['x-a'])"
    w = world.load "on_ended = function (conn, cause) print(cause.stage, cause.kind, cause.by, cause.close, cause.http, cause.retry_after, cause.reason, cause.headers['x-a']) end,"
    w:call("on_ended", { close = 4013, reason = "bad intents" })
    assert.same({ "log ready closed peer 4013 nil 1.5 bad intents 1" }, w:events())
  end)

  describe("ending itself", function ()
    it("unwinds through every pcall and is no error", function ()
      for _, code in ipairs { "conn:fail 'x'", "pcall(conn.fail, conn, 'x') conn:log 'after'", "while true do pcall(function () conn:fail 'x' end) end",
                              "xpcall(function () conn:fail 'x' end, function () conn:log 'handler' end)",
                              "table.sort({ 1, 2 }, function () conn:fail 'x' end)", "(('a'):gsub('a', function () conn:fail 'x' end)):len()",
                              "return pcall(conn.fail, conn, 'x')", "setmetatable({}, { __index = function () conn:fail 'x' end }).a = nil conn:fail 'x'" } do
        for _, hook in ipairs { "greet", "on_frame", "prepare", "on_beat" } do
          local w = world.load(([[
            prepare = function (conn) do CODE end return { url = "wss://gw.chatter.example" } end, greet = function (conn) do CODE end end,
            beat = { every = "41s" }, on_beat = function (conn) do CODE end end, on_frame = function (conn) do CODE end end,]]):gsub("CODE", function () return code end))
          local result, a = call(w, hook)
          assert.equal("ok", result, code .. " " .. a.error)
          assert.is_true(a.ended)
          assert.equal("", a.error)
          assert.is_nil(a.value)
          local events = w:events()
          assert.equal(1, #events, table.concat(events, "\n"))
          assert.match("^end 3 %w+ failed x by=policy", events[1])
        end
      end
    end)

    it("tells the port what an HTTP answer or a table of details says", function ()
      local w = world.load [[ on_frame = function (conn)
        conn:fail("limited", { status = 429, headers = { ["retry-after"] = "3" }, retry_after = 3.5, body = "slow down", code = "40333", reason = "too many " .. conn.options.token })
      end, ]]
      call(w, "on_frame")
      assert.match("^end 3 ready failed limited by=policy http=429 code=40333 retry_after_ms=3500 line=%d+ reason=<secret token> head=16 body=slow down$", w:events()[1])
    end)

    it("takes a sentence, or what conn:http() returned in place of an answer", function ()
      local w = every_hook "conn:fail('timeout', 'no answer')"
      call(w, "fetch")
      assert.match("^end 3 preparing failed timeout by=policy http=0 code=0 line=%d+ reason=no answer$", w:events()[1])
    end)

    it("closes with a wish", function ()
      local w = every_hook "conn:close 'moving on'"
      call(w, "greet")
      assert.match("^end 3 greeting wished wished by=policy .* reason=moving on$", w:events()[1])
    end)

    it("refuses nonsense without ending", function ()
      for _, code in ipairs { "conn:fail()", "conn:fail {}", "conn:fail ''", "conn:fail('x', { statsu = 1 })", "conn:fail('x', { retry_after = 'soon' })",
                              "conn:fail('x', { headers = { a = ('x'):rep(9000) } })" } do
        local w = every_hook(code)
        local result = call(w, "greet")
        assert.equal("raised", result, code)
        assert.same({}, w:events())
      end
    end)

    it("keeps absurd numbers out", function ()
      local w = every_hook "conn:fail('x', { status = 0/0, code = 1e300, retry_after = -5 })"
      call(w, "greet")
      assert.match("http=0 code=0 line", w:events()[1])
    end)
  end)

  it("tells budgets", function ()
    local w = every_hook "conn:budget('start', { left = 990, reset = '24h', lanes = 16 }) conn:budget('call', { left = 0 })"
    call(w, "fetch")
    assert.same({ "budget 0 left=990 reset_ms=86400000 lanes=16", "budget 2 left=0 reset_ms=0 lanes=0" }, w:events())
    for _, code in ipairs { "conn:budget('starts', {})", "conn:budget('start')", "conn:budget('start', { left = -1 })", "conn:budget('start', { left = 0/0 })",
                            "conn:budget('start', { reset = -1 })", "conn:budget('start', { leff = 1 })" } do
      assert.equal("raised", (call(every_hook(code), "fetch")), code)
    end
  end)
end)
