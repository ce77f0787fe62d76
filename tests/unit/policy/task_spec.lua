local world = require "policy_world"

describe("a task", function ()
  local text = [[
    fetch = {
      token = { call = function (conn)
        local answer, name, text = conn:http { url = conn.options.api .. "/token", json = { secret = conn.options.token }, timeout = "3s" }
        if not answer then conn:fail(name, text) end
        if not answer.ok then conn:fail("refused", answer) end
        return answer.json.value, { keep = answer.json.expires_in .. "s", left = 3 }
      end },
    },
    prepare = function (conn) return { url = "wss://gw.chatter.example/?t=" .. conn:get "token" } end,
    greet = function (conn)
      local hello, why = conn:await({ op = 10 }, { within = "2s", progress = { op = 11 } })
      if not hello then conn:fail(why) end
      conn:send { op = 2 }
      local ok, answer = pcall(function () return conn:await { op = { 0, 9 } } end)
      conn.session.id = answer.d.id
      conn.keep.seen = true
    end,
    every = { poll = { "30s", function (conn)
      for i = 1, 3 do
        local answer = conn:http { url = conn.options.api .. "/poll/" .. i }
        conn:log(answer.status .. " " .. tostring(answer.json) .. " " .. tostring(answer.retry_after))
      end
    end } },]]

  it("waits for an HTTP answer and goes on", function ()
    local w = world.load(text)
    local result, a = w:call("fetch", { name = "token" })
    assert.equal("waiting", result, a.error)
    assert.same({ "http", "POST", "https://api.chatter.example/token", "Content-Type: application/json\r\n", '{"secret":"ab.cdef"}', 3000 },
                { a.wait, a.method, a.url, a.headers, a.body, a.timeout_ms })
    assert.equal(1, w:get "tasks")
    result, a = w:resume(a.task, { status = 200, body = '{"value":"t1","expires_in":7200}' })
    assert.equal("ok", result, a.error)
    assert.equal("t1", a.value)
    assert.same({ keep = 7200000, left = 3 }, a.info)
    assert.equal(0, w:get "tasks")
  end)

  it("fails by the name that the transport gave", function ()
    local w = world.load(text)
    local _, a = w:call("fetch", { name = "token" })
    local result
    result, a = w:resume(a.task, {})
    assert.equal("ok", result, a.error)
    assert.is_true(a.ended)
    assert.match("^end 3 preparing failed timeout by=policy .*reason=no answer in 10s$", w:events()[1])
  end)

  it("fails with an answer", function ()
    local w = world.load(text)
    local _, a = w:call("fetch", { name = "token" })
    _, a = w:resume(a.task, { status = 429, head = "Retry-After: 3\r\n", body = "no", retry_after_ms = 3000 })
    assert.is_true(a.ended)
    assert.match("failed refused by=policy http=429 code=0 retry_after_ms=3000 .*head=16 body=no$", w:events()[1])
  end)

  it("gets a fetched value, text or secret", function ()
    local w = world.load(text)
    local result, a = w:call "prepare"
    assert.equal("waiting", result)
    assert.same({ "fetch", "token" }, { a.wait, a.fetch })
    result, a = w:resume(a.task, { value = "abc" })
    assert.same({ url = "wss://gw.chatter.example/?t=abc" }, a.value)
    _, a = w:call "prepare"
    result, a = w:resume(a.task, { value = { __secret = "s3", name = "access" } })
    assert.equal("ok", result)
    assert.same({ __secret = "wss://gw.chatter.example/?t=s3", name = "access" }, a.value.url)
  end)

  it("gets a fetched table that it cannot change", function ()
    local w = world.load [[
      fetch = { it = { call = function () return { list = { 1 } } end } },
      prepare = function (conn) local t = conn:get "it" t.x = 1 end,]]
    local _, a = w:call "prepare"
    local result
    result, a = w:resume(a.task, { value = { url = "x" } })
    assert.equal("raised", result)
    assert.match("read only", a.error)
  end)

  it("awaits frames, through pcall too, and tells of changed session and keep once each", function ()
    local w = world.load(text)
    local result, a = w:call "greet"
    assert.same({ "waiting", "frame", 1, 1, 2000 }, { result, a.wait, a.matchers, a.progress, a.within_ms })
    result, a = w:resume(a.task, { frame = '{"op":10}' })
    assert.same({ "waiting", "frame", 0 }, { result, a.wait, a.within_ms })
    assert.same({ 'send 3 greet text {"op":2}' }, w:events())
    result, a = w:resume(a.task, { frame = '{"op":0,"d":{"id":"s9"}}' })
    assert.equal("ok", result, a.error)
    assert.same({ "session changed", "keep changed" }, w:events())
    assert.same({ id = "s9" }, w:get "session")
    assert.same({ seen = true }, w:get "keep")
  end)

  it("is told when its wait has passed", function ()
    local w = world.load(text)
    local _, a = w:call "greet"
    _, a = w:resume(a.task, {})
    assert.is_true(a.ended)
    assert.match("^end 3 greeting failed timeout", w:events()[1])
  end)

  it("waits any number of times", function ()
    local w = world.load(text)
    local _, a = w:call("every", { name = "poll" })
    for i = 1, 3 do
      assert.equal("https://api.chatter.example/poll/" .. i, a.url)
      _, a = w:resume(a.task, { status = 200 + i, body = i == 2 and "[1]" or "not json", retry_after_ms = i == 3 and 1500 or 0 })
    end
    assert.same({ "log 201 nil nil", "log 202 table nil", "log 203 nil 1.5" }, w:events())
    assert.equal(0, w:get "tasks")
  end)

  it("can be cancelled, and leaves nothing behind", function ()
    local w = world.load(text)
    local tasks = {}
    for i = 1, 50 do
      local _, a = w:call("every", { name = "poll" })
      tasks[i] = a.task
    end
    assert.equal(50, w:get "tasks")
    for _, task in ipairs(tasks) do w:cancel(task) end
    assert.equal(0, w:get "tasks")
    assert.same({}, w:events())
  end)

  it("keeps its version alive when everybody else let go", function ()
    local w = world.load(text)
    local _, a = w:call("every", { name = "poll" })
    w:release()
    -- The connection has another build by now; the task still answers, then the state goes with it.
    w:set("gone", true)
    local result, b = w:resume(a.task, { status = 200 })
    assert.equal("raised", result, b.error)
  end)

  it("gets a budget of its own for every stretch", function ()
    local w = world.load([[ every = { it = { "30s", function (conn)
      for _ = 1, 3 do
        for i = 1, 20000 do end
        conn:http { url = conn.options.api }
      end
      while true do end
    end } }, ]], { instructions = 100000 })
    local result, a = w:call("every", { name = "it" })
    for _ = 1, 2 do
      assert.equal("waiting", result, a.error)
      result, a = w:resume(a.task, { status = 200 })
    end
    assert.equal("waiting", result)
    result, a = w:resume(a.task, { status = 200 })
    assert.equal("over budget", result)
    assert.match(":%d+: over its instruction budget$", a.error)
    assert.equal(0, w:get "tasks")
  end)

  it("cannot wait inside callbacks of C functions, and says so", function ()
    for _, code in ipairs { "(('a'):gsub('a', function () conn:http { url = conn.options.api } end)):len()",
                            "table.sort({ 2, 1 }, function () return conn:get 'token' end)",
                            "print(setmetatable({}, { __tostring = function () return conn:await { op = 1 } end }))" } do
      local w = world.load(([[ fetch = { token = { call = function () return "x" end } }, greet = function (conn) CODE end, ]]):gsub("CODE", function () return code end))
      local result, a = w:call "greet"
      assert.equal("raised", result, code)
      assert.match("cannot wait inside a callback", a.error)
      assert.equal(0, w:get "tasks")
    end
  end)

  it("may wait inside pcall, xpcall and metamethods of Lua", function ()
    local w = world.load [[ greet = function (conn)
      local _, a = pcall(pcall, conn.http, conn, { url = conn.options.api })
      local _, b = xpcall(function () return conn:http { url = conn.options.api }.status end, error)
      local c = setmetatable({}, { __index = function () return conn:http { url = conn.options.api }.status end }).x
      conn:log(tostring(a) .. " " .. b .. " " .. c)
    end, ]]
    local _, a = w:call "greet"
    for i = 1, 3 do _, a = w:resume(a.task, { status = 200 + i }) end
    assert.equal("", a.error)
    assert.same({ "log true 202 203" }, w:events())
  end)

  it("cannot fetch itself, nor what does not exist", function ()
    local w = world.load [[ fetch = { a = { call = function (conn) return conn:get "a" end }, b = { call = function (conn) return conn:get "c" end } }, ]]
    local _, a = w:call("fetch", { name = "a" })
    assert.match("fetch `a` waits for itself", a.error)
    _, a = w:call("fetch", { name = "b" })
    assert.match("the policy has no fetch `c`", a.error)
  end)

  it("does not survive 2,000 rounds with more memory than after the first 100", function ()
    local w = world.load(text)
    local function round()
      local _, a = w:call("fetch", { name = "token" })
      w:resume(a.task, { status = 200, body = '{"value":"t1","expires_in":7200}' })
    end
    -- The cap is 16 MiB: leaks of a coroutine each would reach it.
    for _ = 1, 2000 do round() end
    assert.equal(0, w:get "tasks")
  end)
end)

describe("conn:http", function ()
  local function request(fields)
    local w = world.load(("greet = function (conn) conn:http { %s } end,"):format(fields))
    return w:call "greet"
  end

  it("sorts headers, and puts secrets where they belong", function ()
    local result, a = request [[url = conn.options.api, method = "PUT", body = conn.options.token, headers = { B = "2", A = "Bot " .. conn.options.token, C = 3 }]]
    assert.equal("waiting", result, a.error)
    assert.same({ "PUT", "A: Bot ab.cdef\r\nB: 2\r\nC: 3\r\n", "ab.cdef" }, { a.method, a.headers, a.body })
  end)

  it("keeps a content type that was given", function ()
    local _, a = request [[url = conn.options.api, json = {}, headers = { ["content-type"] = "text/plain" }]]
    assert.same({ "POST", "content-type: text/plain\r\n", "{}" }, { a.method, a.headers, a.body })
  end)

  for fields, why in pairs {
    [""] = "`url` must be", ["url = 1"] = "`url` must be", ["url = ''"] = "`url` must be", ["url = 'ftp://x'"] = "`url` must begin",
    ["url = 'https://x y'"] = "`url` must be", ["url = 'https://x\\n'"] = "`url` must be", ["url = 'https://x', method = 'TRACE'"] = "`method` must be",
    ["url = 'https://x', method = 1"] = "`method` that is no text", ["url = 'https://x', headers = 1"] = "`headers` that is no table",
    ["url = 'https://x', headers = { ['a b'] = '1' }"] = "a name that is none", ["url = 'https://x', headers = { a = '1\\r\\nB: 2' }"] = "more than one line",
    ["url = 'https://x', headers = { 'a' }"] = "a name that is none", ["url = 'https://x', headers = { a = {} }"] = "no text",
    ["url = 'https://x', headers = { a = ('x'):rep(20000) }"] = "more than 16 KiB", ["url = 'https://x', body = {}"] = "`body` that is no text",
    ["url = 'https://x', json = {}, body = 'x'"] = "at once", ["url = 'https://x', json = { print }"] = "cannot hold a function",
    ["url = 'https://x', timeout = 0"] = "above zero", ["url = 'https://x', timeout = 'x'"] = "a duration", ["url = 'https://x', tiemout = 1"] = "did you mean `timeout`",
    ["url = 'https://' .. ('x'):rep(9000)"] = "at most 8 KiB", ["url = 'https://x', headers = { a = conn.options.token .. '\\n' }"] = "more than one line",
  } do
    it("refuses " .. (fields == "" and "nothing" or fields), function ()
      local result, a = request(fields)
      assert.equal("raised", result)
      assert.match(why, a.error, 1, true)
      assert.is_nil(a.error:find("ab.cdef", 1, true))
    end)
  end

  it("reads hostile headers without harm", function ()
    local w = world.load [[ greet = function (conn)
      local a = conn:http { url = conn.options.api }
      for k, v in pairs(a.headers) do conn:log(k .. "=" .. v) end
    end, ]]
    local _, a = w:call "greet"
    _, a = w:resume(a.task, { status = 200, head = "A:  1 \r\na: 2\r\n: x\r\nnocolon\r\n\r\nB:\r\n" .. ("L"):rep(300) .. ": v\nLast: z" })
    assert.equal("", a.error)
    assert.same({ "log a=1", "log b=", "log last=z", "log " .. ("l"):rep(127) .. "=v" }, w:events())
  end)
end)

describe("conn:await", function ()
  for code, why in pairs {
    ["conn:await()"] = "table expected", ["conn:await(1)"] = "table expected", ["conn:await { nothing = 1 }"] = "nothing",
    ["conn:await({ op = 1 }, { within = 0 })"] = "above zero", ["conn:await({ op = 1 }, { within = 'x' })"] = "duration",
    ["conn:await({ op = 1 }, { withn = '1s' })"] = "did you mean `within`", ["conn:await({ op = 1 }, { progress = { no = 1 } })"] = "no",
    ["conn:await { op = print }"] = "op", ["conn:await { op = conn.options.token }"] = "op",
  } do
    it("refuses " .. code, function ()
      local w = world.load(("greet = function (conn) %s end,"):format(code))
      local result, a = w:call "greet"
      assert.equal("raised", result)
      assert.match(why, a.error, 1, true)
    end)
  end
end)
