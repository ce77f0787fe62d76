local world = require "policy_world"

-- What a hostile or broken hook may do, for every hook; and what each must come to.
local hooks = { "fetch", "prepare", "greet", "on_beat", "on_frame", "on_ended", "on_ack", "every" }
local limits = { instructions = 800000, memory = 2 * 1024 * 1024 }

-- Hooks whose answer means something, by what they take.
local takes = {
  fetch = { text = true, table = true },
  prepare = {},
  on_beat = { none = true, text = true, table = true },
  on_ack = { none = true, text = true, table = true },
  on_ended = { none = true, word = true },
}
local any = { greet = true, on_frame = true, every = true }

local function policy(code)
  return world.load(([[
    fetch = { it = { call = function (conn) CODE end } },
    prepare = function (conn) CODE end,
    greet = function (conn) CODE end,
    beat = { every = "41s" },
    on_beat = function (conn) CODE end,
    on_frame = function (conn, frame) CODE end,
    on_ended = function (conn, cause) CODE end,
    on_ack = function (conn, frame) CODE end,
    every = { it = { "30s", function (conn) CODE end } },]]):gsub("CODE", function () return code end),
    { instructions = limits.instructions, memory = limits.memory })
end

local function call(w, hook)
  return w:call(hook, { name = (hook == "fetch" or hook == "every") and "it" or nil, frame = '{"op":7}' })
end

local function expect(code, kind, expected)
  for _, hook in ipairs(hooks) do
    it(("%s: %s"):format(hook, code), function ()
      local w = policy(code)
      local result, a = call(w, hook)
      local wanted = expected
      if not wanted then wanted = (any[hook] or takes[hook][kind]) and "ok" or "bad answer" end
      assert.equal(wanted, result, a.error)
      if wanted == "ok" then
        assert.equal("", a.error)
      else
        assert.match("^/.*/x.lua:%d+: ", a.error)
        assert.is_true(#a.error < 512)
        assert.is_nil(a.value)
        assert.equal("", a.frame)
      end
      assert.is_nil(a.error:find("0x", 1, true))
      assert.is_nil(a.error:find("ab.cdef", 1, true))
      assert.is_false(a.ended)
      assert.equal(0, w:get "tasks")
      -- and the next call is not touched by it
      assert.equal(wanted, (call(w, hook)))
    end)
  end
end

describe("an answer of", function ()
  expect("return", "none")
  expect("return nil", "none")
  expect("return 0", "number")
  expect("return 0/0", "number")
  expect("return -1", "number")
  expect("return 1e308", "number")
  expect("return true", "boolean")
  expect("return ''", "empty")
  expect("return '\\255\\0'", "bytes")
  expect("return 'resume'", "text_or_word")
  expect("return print", "function")
  expect("return conn", "userdata")
  expect("return holdfast.null", "null")
  expect("return { print }", "functions")
  expect("return { [{}] = 1 }", "odd")
  expect("local t = {} t.t = t return t", "circle")
  expect("local t = {} for i = 1, 200 do t = { t } end return t", "depth")
  expect("return { verdict = 0/0, url = 0/0, x = 0/0 }", "nan")
end)

-- The words above that some hooks do take are listed here, so that the table stays the one truth.
takes.on_beat.empty, takes.on_ack.empty = true, true
takes.fetch.text_or_word, takes.on_beat.text_or_word, takes.on_ack.text_or_word, takes.on_ended.text_or_word = true, true, true, true
takes.fetch.functions = true
takes.fetch.bytes = true
takes.on_beat.null, takes.on_ack.null = nil, nil
takes.fetch.nan = true

describe("a hook that", function ()
  expect("error 'boom'", nil, "raised")
  expect("error({ code = conn.options.token })", nil, "raised")
  expect("error('x' .. conn.options.token)", nil, "raised")
  expect("error()", nil, "raised")
  expect("local x = nil + 1", nil, "raised")
  expect("local function f() return 1 + f() end return f()", nil, "raised")
  expect("conn:nothing()", nil, "raised")
  expect("holdfast.policy {}", nil, "raised")
  expect("count = 1", nil, "raised")
  expect("while true do end", nil, "over budget")
  expect("while true do pcall(function () while true do end end) end", nil, "over budget")
  expect("return pcall(function () while true do end end)", nil, "over budget")
  expect("xpcall(function () while true do end end, function () while true do end end)", nil, "over budget")
  expect("local t = {} while true do t[#t + 1] = {} end", nil, "over budget")
  expect("local t = {} while true do pcall(function () while true do t[#t + 1] = {} end end) end", nil, "over budget")
  expect("return ('x'):rep(1e9)", nil, "over budget")
  expect("return ('a'):rep(3000):find('.-.-.-.-x')", nil, "over budget")
  expect("while true do conn:log 'x' end", nil, "over budget")
  expect("while true do conn.keep.x = math.random() end", nil, "over budget")
  expect("while true do local x = conn.options end", nil, "over budget")
end)

describe("on_ended", function ()
  local function ended(code)
    local w = world.load(("on_ended = function (conn, cause) return %s end,"):format(code))
    local result, a = w:call "on_ended"
    return result, a.value, a.error
  end

  it("answers words and tables, always the same shape", function ()
    assert.same({ verdict = "fresh" }, (select(2, ended "'fresh'")))
    assert.same({ verdict = "slow", delay = { 5000, 5000 }, note = "n" }, (select(2, ended "{ verdict = 'slow', delay = '5s', note = 'n' }")))
    assert.same({ delay = { 0, 250 } }, (select(2, ended "{ delay = { 0, '250ms' } }")))
    assert.same({}, (select(2, ended "{}")))
    assert.is_nil((select(2, ended "nil")))
  end)

  for _, code in ipairs { "'retry'", "{ verdict = 'retry' }", "{ verdict = 1 }", "{ delay = -1 }", "{ delay = 0/0 }", "{ delay = 1/0 }", "{ delay = 1e300 }",
                          "{ delay = 'soon' }", "{ delay = { '5s' } }", "{ delay = { '5s', '1s' } }", "{ delay = { '1s', '2s', '3s' } }", "{ delay = {} }",
                          "{ note = 1 }", "{ verdikt = 'stop' }", "{ 'stop' }", "{ verdict = conn.options.token }", "{ delay = true }", "conn.options.token" } do
    it("refuses " .. code, function ()
      local result, v, why = ended(code)
      assert.equal("bad answer", result)
      assert.is_nil(v)
      assert.match("x.lua:%d+: on_ended answered ", why)
    end)
  end
end)

describe("prepare", function ()
  local function prepare(code)
    local w = world.load(("prepare = function (conn) return %s end,"):format(code))
    local result, a = w:call "prepare"
    return result, a.value, a.error
  end

  it("answers an address with what goes with it", function ()
    local result, v = prepare "{ url = 'wss://gw.chatter.example/?t=' .. conn.options.token, inflate = 'zlib-stream', headers = { A = 'x', B = conn.options.token }, protocol = 'p', plain = true }"
    assert.equal("ok", result)
    assert.equal("wss://gw.chatter.example/?t=ab.cdef", v.url.__secret)
    assert.equal("zlib-stream", v.inflate)
    assert.equal("ab.cdef", v.headers.B.__secret)
  end)

  for _, code in ipairs { "'wss://x'", "{}", "{ url = 1 }", "{ url = '' }", "{ url = 'wss://x y' }", "{ url = 'wss://x\\n' }", "{ url = 'wss://' .. ('x'):rep(9000) }",
                          "{ url = 'wss://x', inflate = 1 }", "{ url = 'wss://x', headers = 1 }", "{ url = 'wss://x', headers = { 'x' } }",
                          "{ url = 'wss://x', headers = { A = 'x\\r\\nB: 1' } }", "{ url = 'wss://x', headers = { A = 1 } }", "{ url = 'wss://x', headers = { ['A b'] = '1' } }",
                          "{ url = 'wss://x', protocol = {} }", "{ url = 'wss://x', plain = 'yes' }", "{ url = 'wss://x', header = {} }", "{ url = print }",
                          "{ url = 'wss://x', headers = { A = conn.options.token .. '\\n' } }", "nil", "true" } do
    it("refuses " .. code, function ()
      local result, v, why = prepare(code)
      assert.equal("bad answer", result)
      assert.is_nil(v)
      assert.match("x.lua:%d+: prepare answered ", why)
      assert.is_nil(why:find("ab.cdef", 1, true))
    end)
  end
end)

describe("fetch", function ()
  local function fetch(code)
    local w = world.load(("fetch = { it = { call = function (conn) return %s end } },"):format(code))
    local result, a = w:call("fetch", { name = "it" })
    return result, a.value, a.info, a.error
  end

  it("answers a value and what it knows of it", function ()
    local result, v, info = fetch "{ url = 'x', token = conn.options.token }, { keep = 90000, left = 0, reset = '1h', lanes = 16 }"
    assert.equal("ok", result)
    assert.equal("ab.cdef", v.token.__secret)
    assert.same({ keep = 90000, left = 0, reset = 3600000, lanes = 16 }, info)
    assert.same({ keep = 366 * 24 * 3600 * 1000 }, (select(3, fetch "'x', { keep = 1e300 }")))
  end)

  for _, code in ipairs { "nil", "1", "true", "''", "'x', 1", "'x', { keep = -1 }", "'x', { keep = 0/0 }", "'x', { keep = 'long' }", "'x', { left = -1 }",
                          "'x', { left = 0/0 }", "'x', { left = 'many' }", "'x', { reset = -1 }", "'x', { keeps = '1s' }", "'x', { lanes = 1e300 }" } do
    it("refuses " .. code, function ()
      local result, v, info, why = fetch(code)
      assert.equal("bad answer", result)
      assert.is_nil(v)
      assert.is_nil(info)
      assert.match("x.lua:%d+: fetch.it answered ", why)
    end)
  end
end)

describe("on_beat", function ()
  it("answers a frame, or nothing to send", function ()
    local w = world.load [[ beat = { every = "41s" }, on_beat = function (conn) return conn.session.frame end, ]]
    local result, a = w:call "on_beat"
    assert.same({ "ok", "" }, { result, a.frame })
    w:set("session", { frame = { op = 1, d = 7 } })
    result, a = w:call "on_beat"
    assert.same({ "ok", '{"d":7,"op":1}', true }, { result, a.frame, a.text })
    w:set("session", { frame = "ping" })
    result, a = w:call "on_beat"
    assert.same({ "ok", "ping", true }, { result, a.frame, a.text })
  end)

  it("answers bytes where the codec is bytes", function ()
    local w = world.load([[ beat = { every = "41s" }, on_beat = function (conn) return "\0\1" end, ]], { codec = "bytes" })
    local result, a = w:call "on_beat"
    assert.same({ "ok", "\0\1", false }, { result, a.frame, a.text })
  end)
end)
