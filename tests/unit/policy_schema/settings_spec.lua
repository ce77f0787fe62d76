-- What a connection sets: options, and `tune` over the policy's tables.
local schema = require "unit.policy_schema"
local text = require "policy_text"

local source = [==[
return holdfast.policy {
  platform = "chatter",
  options = {
    token = { type = "secret", required = true, about = "of the bot" },
    shard = { type = "integer", default = 0, min = 0, max = 99 },
    api = { type = "url", default = { "https://a.example", "https://b.example:8443/x" }, many = true },
    mode = { type = "string", one_of = { "fast", "safe" }, default = "safe" },
    ping = { type = "tune", at = "alive.ping" },
    slow = { type = "tune" },
    headers = { type = "table" },
    pause = { type = "duration", max = "1m" },
  },
  identity = { "token" },
  hosts = "*.chatter.example",
  alive = { ping = "10s", silence = "30s" },
  backoff = { first = "1s", most = "30s" },
  frames = { take = { op = "op", kind = "t" }, deliver = { op = 0 } },
  classify = {
    { close = 4004, verdict = "stop" },
    { any = true, verdict = "resume" },
  },
  fetch = { gateway = { call = function() end, keep = "1h", gap = "1s" } },
  prepare = function() end,
}
]==]

local function policy() return text.load("local holdfast = require 'holdfast' " .. source) end
local function token() return schema.secret("TOKEN", "hunter2") end

local function build(settings, settings_text)
  if settings.token == nil then settings.token = token() end
  if settings.token == false then settings.token = nil end
  return schema.build { policy = policy(), text = source, settings = settings, settings_text = settings_text }
end

local function refused(settings, settings_text)
  local b, problems = build(settings, settings_text)
  assert.is_nil(b)
  local out = {}
  for i, p in ipairs(problems) do out[i] = p.whole end
  return out
end

describe("an option", function()
  it("that the policy requires is missed with its purpose", function()
    assert.same({ "holdfast.lua: token: is missing: the policy requires it: of the bot" }, refused { token = false })
  end)

  it("that nobody knows is refused with the nearest", function()
    assert.same({ "holdfast.lua: tokn: unknown key; did you mean `token`?" }, refused { tokn = token() })
  end)

  it("has the type, bounds and words that were declared", function()
    for _, case in ipairs {
      { "token", "plain text", 'expected a secret, such as secret { env = "NAME" }, got a text' },
      { "shard", "1", "expected a whole number, got a text" }, { "shard", 1.5, "expected a whole number, got the number 1.5" },
      { "shard", -1, "the least possible is 0" }, { "shard", 100, "the most possible is 99" },
      { "api", "example.org", "the address must begin with https://, http://, wss:// or ws://" },
      { "api", "http://example.org", "http:// is for loopback addresses only; use https:// or set plain = true" },
      { "mode", "fats", 'unknown word; did you mean "fast"?' }, { "mode", "x9", "expected one of fast, safe, got a text" },
      { "headers", "x", "expected a table, got a text" },
      { "headers", { a = { print } }, "holds a function; an option is data, functions belong into the policy" }, { "pause", "2m", "the most possible is 1m" },
      { "pause", 5, 'expected a duration with a unit, such as "30s" (ms s m h d), got the number 5' },
      { "plain", "yes", "expected true or false" },
    } do
      assert.same({ "holdfast.lua: " .. case[1] .. ": " .. case[3] }, refused { [case[1]] = case[2] })
    end
  end)

  it("may be a list only where many are possible", function()
    assert.same({ "holdfast.lua: mode: expected a text, got a table" }, refused { mode = { "fast" } })
    assert.same({ "holdfast.lua: api: the list is empty" }, refused { api = {} })
    assert.same({ "holdfast.lua: api[2]: the address has a user name or password in it; use options for credentials" },
      refused { api = { "https://x.example", "https://u:hunter2@x.example" } })
  end)

  it("of the type url adds its hosts, whether set or by default", function()
    local b = build {}
    table.sort(b.hosts)
    assert.same({ "*.chatter.example", "a.example", "b.example" }, b.hosts)
    b = build { api = "wss://Other.Example/x" }
    table.sort(b.hosts)
    assert.same({ "*.chatter.example", "other.example" }, b.hosts)
  end)

  it("may be a plain address towards this machine, or with plain = true", function()
    assert.truthy(build { api = "http://127.0.0.1:8080" })
    assert.truthy(build { api = "ws://[::1]:8080" })
    assert.truthy(build { api = "http://internal.example", plain = true })
  end)

  it("of the type tune sets a key of the policy, and its mistakes carry its own name", function()
    local b = build { ping = "7s", slow = { first = "90s" } }
    assert.equal(7000, b.plan.ping)
    assert.equal(90000, b.plan.slow.first)
    assert.is_nil(b.options.ping)
    assert.same({ 'holdfast.lua: ping: expected a duration with a unit, such as "30s" (ms s m h d), got the number 7' }, refused { ping = 7 })
    assert.same({ "holdfast.lua: ping: silence (30s) must be longer than ping (31s), or a healthy link is killed" }, refused { ping = "31s" })
    assert.same({ "holdfast.lua: slow.frist: unknown key; did you mean `first`?" }, refused { slow = { frist = "1m" } })
  end)

  it("never appears in a problem's text", function()
    for _, value in ipairs { "hunter2", { "hunter2" }, { hunter = "hunter2" }, token() } do
      for _, name in ipairs { "token", "shard", "api", "mode", "pause", "ping", "slow", "tune", "backlog", "plain" } do
        local _, problems = build { [name] = value }
        for _, p in ipairs(problems) do
          assert.is_nil(p.whole:find("hunter2", 1, true), p.whole)
        end
      end
    end
  end)
end)

describe("tune", function()
  it("changes single numbers and keeps the rest of their table", function()
    local b = build { tune = { backoff = { most = "2m" }, limits = { greeting = "5s" } } }
    assert.same({ 1000, 120000 }, { b.plan.backoff.first, b.plan.backoff.most })
    assert.equal(5000, b.plan.limits.greeting)
    assert.equal(10000, b.plan.ping)
  end)

  it("replaces lists and matchers whole", function()
    local b = build { tune = { classify = { { any = true, verdict = "slow" } }, frames = { deliver = { kind = "X" } } } }
    assert.equal(1, #b.plan.classify)
    assert.equal("slow", b.plan.classify[1].pace)
    assert.same({ { kind = { "X" } } }, b.rules.deliver)
    assert.same({ op = "op", kind = "t" }, b.rules.take)
  end)

  it("changes the only row of frames.ack by key, and a list of rows whole", function()
    local row = { on = { op = 1 }, when = "through", frame = '{"a":"@op"}', within = "3s" }
    local function acks(rows, over)
      local b, problems = schema.build { policy = text.plain { frames = { take = { op = "op", kind = "t" }, ack = rows } },
        settings = { token = token(), tune = { frames = { ack = over } } } }
      return assert(b, problems[1] and problems[1].whole).rules.ack
    end
    assert.same({ { on = { { op = { 1 } } }, when = 2, frame = '{"a":"@op"}', within = 5000 } }, acks(row, { within = "5s" }))
    assert.same({ { when = 1, frame = "{}", within = 0 } }, acks({ row, row }, { when = "early", frame = "{}" }))
    assert.same({ { when = 1, frame = "{}", within = 0 }, }, acks(row, { { when = "early", frame = "{}" } }))
  end)

  it("changes the numbers of a fetch and keeps its function", function()
    local b = build { tune = { fetch = { gateway = { keep = "2h" } } } }
    assert.same({ gateway = { keep = 7200000, gap = 1000, by_account = true } }, b.fetch)
  end)

  it("switches pings off with false", function()
    local b = build { tune = { alive = { ping = false, promised = true } } }
    assert.equal(0, b.plan.ping)
  end)

  it("is checked like the policy, and its mistakes name the configuration's file and line", function()
    local settings_text = [[
connection "a" {
  tune = {
    backoff = {
      first = 5,
    },
    alive = { silence = "9s" },
    classify = {
      { any = true, verdict = "resume" },
      { close = 4004, verdict = "sotp" },
    },
    frames = { deliver = { opp = 0 } },
    backof = 1,
    prepare = 1,
    options = {},
    fetch = { gateway = { call = 1 } },
  },
}]]
    local settings
    local env = { connection = function() return function(t) settings = t end end }
    setfenv(loadstring(settings_text), env)()
    local list = refused(settings, settings_text)
    table.sort(list)
    assert.same({
      "holdfast.lua:11: tune.frames.deliver.opp: no such name in frames.take; did you mean `op`?",
      "holdfast.lua:12: tune.backof: unknown key; did you mean `backoff`?",
      "holdfast.lua:13: tune.prepare: belongs to the policy alone; a connection cannot change it",
      "holdfast.lua:14: tune.options: belongs to the policy alone; a connection cannot change it",
      "holdfast.lua:15: tune.fetch.gateway.call: belongs to the policy alone; a connection cannot change it",
      'holdfast.lua:4: tune.backoff.first: expected a duration with a unit, such as "30s" (ms s m h d), got the number 5',
      "holdfast.lua:6: tune.alive.silence: silence (9s) must be longer than ping (10s), or a healthy link is killed",
      'holdfast.lua:9: tune.classify[2].verdict: unknown word; did you mean "stop"?',
      "holdfast.lua:9: warning: tune.classify[2]: is never reached: a row above matches everything",
    }, list)
  end)

  it("is blamed for a clash with the policy's own number", function()
    assert.same({ "holdfast.lua: tune.alive.ping: silence (30s) must be longer than ping (30s), or a healthy link is killed" },
      refused { tune = { alive = { ping = "30s" } } })
    assert.same({ "holdfast.lua: tune.backoff.most: first is above most" }, refused { tune = { backoff = { most = "500ms" } } })
    assert.same({ "holdfast.lua: tune.retire.after: is missing: replace a healthy link of this age" }, refused { tune = { retire = { jitter = 0.1 } } })
  end)

  it("that is no table of names is refused", function()
    assert.same({ "holdfast.lua: tune: expected a table of the policy's tables" }, refused { tune = "x" })
    assert.same({ "holdfast.lua: tune: a value without a name; only named keys can be laid over a policy" }, refused { tune = { "x" } })
  end)

  it("stands above an option that sets the same key", function()
    assert.equal(8000, build({ ping = "7s", tune = { alive = { ping = "8s" } } }).plan.ping)
  end)
end)

describe("the connection's backlog", function()
  it("is the policy's, laid over", function()
    local b = build { backlog = { most = "1MiB" } }
    assert.same({ most = 1048576, age = 86400000, hold = 10000, full = 0 }, b.plan.backlog)
    assert.same({ "holdfast.lua: backlog.mots: unknown key; did you mean `most`?" }, refused { backlog = { mots = 1 } })
  end)
end)

describe("a check of the settings", function()
  it("repeats none of the policy's own warnings", function()
    local p = text.plain { backoff = { jitter = "none" } }
    assert.same({ "warning: backoff.jitter: without jitter all connections return at the same instant" }, text.problems { policy = p })
    assert.same({}, text.problems { policy = p, settings = { token = token() } })
    assert.same({ "warning: tune.backoff.jitter: without jitter all connections return at the same instant" },
      text.problems { policy = text.plain(), settings = { token = token(), tune = { backoff = { jitter = "none" } } } })
  end)
end)

describe("an address", function()
  local hosts = { "*.chatter.example", "api.example", "127.0.0.1" }
  it("is allowed on the build's hosts alone", function()
    assert.is_true(schema.allowed(hosts, "wss://gw-1.chatter.example/?v=1"))
    assert.is_true(schema.allowed(hosts, "https://API.example:8443/x"))
    for _, url in ipairs { "wss://chatter.example/", "wss://evil.example/", "wss://a.chatter.example.evil.example/", "wss://evil.example/.chatter.example" } do
      assert.same({ false, "has a host that is not on the policy's hosts" }, { schema.allowed(hosts, url) })
    end
  end)
  it("is encrypted, unless it leads to this machine or the connection says plain", function()
    assert.same({ false, "is not encrypted (http:// or ws://) and leads beyond this machine" }, { schema.allowed(hosts, "ws://api.example/") })
    assert.is_true(schema.allowed(hosts, "ws://api.example/", true))
    assert.is_true(schema.allowed(hosts, "ws://127.0.0.1:1/"))
  end)
end)

describe("the public part of a secret", function()
  it("is what an anchored, simple pattern takes from its front", function()
    for _, case in ipairs {
      { "^[^.]+", "id77.x.y", "id77" }, { "^[^.]+", ".x", nil }, { "^%d+", "123abc", "123" }, { "^app_%w*", "app_9.z", "app_9" },
      { "^%a%d?x", "b7xq", "b7x" }, { "^%a%d?x", "bxq", "bx" }, { "^.", "", nil }, { "^abc$", "abc", "abc" }, { "^abc$", "abcd", nil },
      { "^[%w_]+", "a_9-", "a_9" }, { "^[a-c]+", "abcd", "abc" }, { "^%.", ".", "." }, { "^[^%.]+", "a.b", "a" },
    } do
      assert.is_true(schema.public_is_valid(case[1]), case[1])
      assert.equal(case[3], (schema.public_match(case[1], case[2])))
    end
  end)
  it("is refused as anything richer", function()
    for _, pattern in ipairs { "", "^", "abc", "^(a)", "^a-", "^*", "^a**", "^[", "^[a", "^[]", "^%", "^%1", "^%b()", "^%f[a]", "^a$b", "^[[]", ("^" .. ("a"):rep(200)) } do
      assert.is_false(schema.public_is_valid(pattern), pattern)
    end
  end)
end)

describe("a matcher at run time", function()
  it("is compiled over the names of take, or refused with a sentence", function()
    assert.same({ { op = { 10 } } }, schema.matchers({ "op", "kind" }, { op = 10 }))
    assert.same({ nil, "opp: no such name in frames.take; did you mean `op`?" }, { schema.matchers({ "op", "kind" }, { opp = 10 }) })
    assert.same({ nil, "the matcher names no field, so it would match everything" }, { schema.matchers({ "op" }, {}) })
    assert.same({ nil, "op: expected a whole number" }, { schema.matchers({ "op" }, { op = 0 / 0 }) })
    assert.is_nil((schema.matchers({ "op" }, 7)))
  end)
end)
