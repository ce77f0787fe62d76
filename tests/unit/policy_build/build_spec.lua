-- A policy file on disk, through the sandbox, to a build.
local policy = require "unit.policy_build"

local path

local function write(text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
  os.execute("chmod 600 '" .. path .. "'")
end

local source = [[
local holdfast = require "holdfast"

return holdfast.policy {
  platform = "chatter",
  options = { shard = { type = "integer", required = true } },
  identity = { "shard" },
  hosts = { "*.chatter.example" },
  alive = { ping = "10s" },
  classify = {
    { close = 4004, verdict = "stop" },
    -- a comment { close = 1 }
    { any = true, verdict = "resume" },
  },
  prepare = function(conn) return { url = "wss://gw.chatter.example/" } end,
}
]]

describe("a policy file", function()
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("becomes a build that holds its version", function()
    write(source)
    local b, problems = policy.build(path, "return { shard = 3 }")
    assert.same({}, problems)
    assert.same({ ping = 10000, version = 3, platform = "chatter", allowed = true, evil = false, lines = { 10, 12 } }, b)
  end)

  it("that is wrong is refused with each mistake's own line", function()
    write((source:gsub('ping = "10s"', 'ping = 10'):gsub('verdict = "stop"', 'verdict = "sotp"'):gsub("hosts", "host")))
    local b, problems = policy.build(path, "return { shard = 3 }")
    assert.is_nil(b)
    table.sort(problems)
    assert.same({
      path .. ':10: classify[1].verdict: unknown word "sotp"; did you mean "stop"?',
      path .. ":3: warning: hosts: is missing, and no option is a url: it may dial nowhere",
      path .. ":7: host: unknown key; did you mean `hosts`?",
      path .. ':8: alive.ping: expected a duration with a unit, such as "30s" (ms s m h d), got the number 10',
    }, problems)
  end)

  it("is refused for settings that do not fit it, in the configuration's name", function()
    write(source)
    local b, problems = policy.build(path, "return { shrad = 3, tune = { alive = { ping = '60s' } } }")
    assert.is_nil(b)
    table.sort(problems)
    assert.same({
      "holdfast.lua: shard: is missing: the policy requires it",
      "holdfast.lua: shrad: unknown key; did you mean `shard`?",
      "holdfast.lua: tune.alive.ping: silence (45s) must be longer than ping (1m), or a healthy link is killed",
    }, problems)
  end)

  it("shares its tables with the builds that tune alike, and with no other", function()
    write((source:gsub('hosts = {', 'budgets = { start = { windows = { { 9, "1h" } }, lane = "shard" } },\n  hosts = {')))
    local tuned = "return { shard = 3, tune = { alive = { ping = '20s' } } }"
    local builds, again = policy.share(path, "return { shard = 1 }", "return { shard = 2 }", tuned, tuned,
      "return { shard = 5, tune = { alive = { ping = '30s' } } }", "return { shard = 6 }",
      "return { shard = 3,\n tune = { alive = { ping = '20s' } } }")
    assert.same({
      { with = 1, ping = 10000, lane = 1 }, { with = 1, ping = 10000, lane = 2 },
      { with = 3, ping = 20000, lane = 3 }, { with = 3, ping = 20000, lane = 3 },
      { with = 5, ping = 30000, lane = 5 }, { with = 1, ping = 10000, lane = 6 },
      { with = 3, ping = 20000, lane = 3 },
    }, builds)
    assert.is_true(again)
  end)

  it("that is wrong for one connection is not shared with the next", function()
    write(source)
    local builds = policy.share(path, "return { shard = 1, tune = { alive = { ping = 3 } } }",
      "return { shard = 1, tune = { alive = { ping = 3 } } }", "return { shard = 1 }")
    assert.is_nil(builds[1])
    assert.is_nil(builds[2])
    assert.same(10000, builds[3].ping)
  end)
end)
