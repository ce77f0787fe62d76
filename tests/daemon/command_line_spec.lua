local world = require "daemon_world"

describe("the command line", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("lists its commands on --help and on help, on standard output", function ()
    for _, word in ipairs { "--help", "help", "-h" } do
      local code, run = w:run { word }
      assert.equal(0, code)
      for _, command in ipairs { "run", "check", "status", "tail", "peer", "test" } do
        assert.is_truthy(run.out:find("\n  " .. command .. " ", 1, true), command)
      end
      assert.equal("", run.err)
    end
  end)

  it("without a command says how it is used and exits 2", function ()
    local code, run = w:run {}
    assert.equal(2, code)
    assert.equal("", run.out)
    assert.is_truthy(run.err:find("usage: holdfast COMMAND", 1, true))
  end)

  it("tells its version in one line", function ()
    local code, run = w:run { "--version" }
    assert.equal(0, code)
    assert.is_truthy(run.out:match "^holdfast %d+%.%d+%.%d+\n$")
  end)

  it("explains each command with its options and an example", function ()
    for _, command in ipairs { "run", "check", "status", "tail", "peer", "test" } do
      local code, run = w:run { "help", command }
      assert.equal(0, code)
      assert.is_truthy(run.out:find("usage: holdfast " .. command, 1, true))
      assert.is_truthy(run.out:find("\n  holdfast " .. command, 1, true), command .. " has no example")
      local _, same = w:run { command, "--help" }
      assert.equal(run.out, same.out)
    end
  end)

  it("suggests the nearest command for an unknown one and exits 2", function ()
    local code, run = w:run { "stats" }
    assert.equal(2, code)
    assert.equal("holdfast: `stats` is no command; did you mean `status`? (`holdfast --help` lists them)\n", run.err)
    local _, far = w:run { "xyzzy" }
    assert.equal("holdfast: `xyzzy` is no command (`holdfast --help` lists them)\n", far.err)
  end)

  it("suggests the nearest option for an unknown one, shows the usage and exits 2", function ()
    local code, run = w:run { "status", "--jsn" }
    assert.equal(2, code)
    assert.is_truthy(run.err:find("--jsn is no option of `holdfast status`; did you mean `--json`?\nusage: ", 1, true))
  end)

  it("refuses an option without its value, a value too many, an option twice and a word too many", function ()
    local cases = {
      { { "run", "-c" }, "--config needs a value: --config FILE" },
      { { "status", "--json=yes" }, "--json takes no value" },
      { { "run", "-c", "a", "--config=b" }, "--config was given twice" },
      { { "status", "a", "b" }, "`b` is one argument too many" },
      { { "run", "now" }, "`now` is one argument too many" },
      { { "tail", "--pretty", "--json" }, "--pretty and --json exclude each other" },
    }
    for _, case in ipairs(cases) do
      local code, run = w:run(case[1])
      assert.equal(2, code)
      assert.is_truthy(run.err:find(case[2], 1, true), run.err)
    end
  end)

  it("keeps control bytes of its arguments off the terminal", function ()
    local _, run = w:run { "sta\27[31mtus" }
    assert.is_nil(run.err:find("\27", 1, true))
    assert.is_truthy(run.err:find("\\x1b", 1, true))
  end)
end)

describe("check", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("says what a good configuration has and exits 0", function ()
    w:config(9443)
    w:write("ca.pem", "")
    local code, run = w:run { "check" }
    assert.equal("holdfast.lua: ok, 1 connection, 1 policy\n", run.out)
    assert.equal(0, code)
  end)

  it("checks shipped policy files", function ()
    local here = io.popen("pwd"):read "*l"
    local code, run = w:run { "check", here .. "/policies/discord.lua" }
    assert.equal(0, code, run.err)
    assert.is_truthy(run.out:find("platform discord", 1, true))
  end)

  it("tells all problems of a configuration at once, with file, line and key", function ()
    w:write("holdfast.lua", [[
listen { unix = "h.sock", htp = "127.0.0.1:1" }
connection "a" { policy = "discord", token = secret { env = "NOT_SET_ANYWHERE" }, intents = 1 }
connection "b" { policy = "discord", token = secret { file = "absent" }, intents = 1 }
]])
    local code, run = w:run { "check" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("holdfast.lua:1: listen.htp: unknown key; did you mean `http`?", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast.lua:2: secret: the environment variable NOT_SET_ANYWHERE is not set", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast.lua:3: secret: the file absent: No such file or directory", 1, true), run.err)
    assert.is_truthy(run.err:find("3 errors", 1, true))
  end)

  it("tells a mistyped policy, option and tune of three connections at once", function ()
    w:write("holdfast.lua", [[
listen { unix = "h.sock" }
connection "a" { policy = "discrod", token = secret { env = "DISCORD_TOKEN" }, intents = 1 }
connection "b" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intnts = 1 }
connection "c" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 1, tune = { backof = { most = "1s" } } }
]])
    local code, run = w:run { "check" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("holdfast.lua:2: connection a.policy: there is no policy `discrod`", 1, true), run.err)
    assert.is_truthy(run.err:find("did you mean `discord`?", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast.lua:3: intnts: unknown key; did you mean `intents`?", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast.lua:4: tune.backof: unknown key; did you mean `backoff`?", 1, true), run.err)
  end)

  it("tells what is wrong with the file, its secrets, its connections and its policies at the same time", function ()
    w:write("policies/wrong.lua", [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "wrong", about = "x", hosts = { "a.example" }, options = {}, identity = {},
  alive = { ping = "60s", silence = "45s" },
  bakoff = {}, classify = { { close = 4004, verdikt = "stop" } },
}
]])
    w:write("holdfast.lua", [[
listen { unix = "h.sock", htp = "127.0.0.1:1" }
connection "a" { policy = "discrod", token = secret { env = "NOT_SET_ANYWHERE" }, intents = 1 }
connection "b" { policy = "discord", token = secret { env = "NOT_SET_ANYWHERE" }, intnts = 1 }
connection "c" { policy = "wrong" }
connection "d" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 1, ownr = "x", tune = { backof = { most = "1s" } } }
]])
    local code, run = w:run { "check" }
    assert.equal(1, code)
    for _, line in ipairs {
      "holdfast.lua:1: listen.htp: unknown key; did you mean `http`?",
      "holdfast.lua:2: secret: the environment variable NOT_SET_ANYWHERE is not set",
      "holdfast.lua:3: secret: the environment variable NOT_SET_ANYWHERE is not set",
      "holdfast.lua:2: connection a.policy: there is no policy `discrod` in ",
      "did you mean `discord`?",
      "holdfast.lua:3: intnts: unknown key; did you mean `intents`?",
      "policies/wrong.lua:5: bakoff: unknown key; did you mean `backoff`?",
      "policies/wrong.lua:5: classify[1].verdikt: unknown key; did you mean `verdict`?",
      "policies/wrong.lua:4: alive.silence: silence (45s) must be longer than ping (1m), or a healthy link is killed",
      "holdfast.lua:5: ownr: unknown key; did you mean `owner`?",
      "holdfast.lua:5: tune.backof: unknown key; did you mean `backoff`?",
    } do
      assert.is_truthy(run.err:find(line, 1, true), line .. " is missing:\n" .. run.err)
    end
  end)

  it("warns of what is legal and unwise, in a policy and in a tune, and exits 0", function ()
    local function policy(backoff, classify) return ([[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "unwise", about = "x", hosts = { "a.example" },
  options = { token = { type = "secret", required = true } }, identity = { "token" },
  alive = { ping = "20s", silence = "45s" },
  beat = { every = { "41s", "5s", "120s" }, answer = { op = 11 }, dead = 1 },
  backoff = { first = "1s", factor = 2, most = "60s", %s },
  frames = { codec = "json", take = { op = "op" }, deliver = true },
  classify = { { close = "4000-4999", verdict = "fresh" },
    %s },
  prepare = function (conn) return { url = "wss://a.example/" } end,
  on_beat = function (conn) return { op = 1 } end,
}
]]):format(backoff, classify) end
    w:write("policies/unwise.lua", policy('jitter = "none", settle = "10s"', '{ close = 4004, verdict = "stop" }'))
    w:write("policies/wise.lua", policy('settle = "60s"', '{ any = true, verdict = "resume" }'))
    local code, run = w:run { "check", "policies/unwise.lua" }
    assert.equal(0, code)
    assert.same({
      "policies/unwise.lua:10: warning: classify[2]: is never reached: row 1, in line 9, matches all of it",
      "policies/unwise.lua:9: warning: classify: no row matches everything: end with { any = true, verdict = \"resume\" }",
      "policies/unwise.lua:7: warning: backoff.settle: a link settles before its first beat is answered; the interval is longer",
      "policies/unwise.lua:7: warning: backoff.jitter: without jitter all connections return at the same instant",
    }, (function ()
      local lines = {}
      for line in run.err:gmatch "[^\n]+" do lines[#lines + 1] = line end
      return lines
    end)())
    -- Of what a connection tunes the connection's own line is told.
    w:write("holdfast.lua", [[
listen { unix = "h.sock" }
connection "a" { policy = "wise", token = secret { env = "DISCORD_TOKEN" } }
connection "b" { policy = "wise", token = secret { env = "HOME" }, tune = { backoff = { jitter = "none", settle = "10s" } } }
]])
    code, run = w:run { "check" }
    assert.equal(0, code)
    local _, count = run.err:gsub("warning", "")
    assert.equal(2, count, run.err)
    assert.is_truthy(run.err:find("holdfast.lua:3: warning: tune.backoff.settle: a link settles before its first beat", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast.lua:3: warning: tune.backoff.jitter: without jitter", 1, true), run.err)
  end)

  it("finds two connections with one identity", function ()
    w:config(9443, [[
connection "twin" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 1 }
]])
    local code, run = w:run { "check" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("connection twin: has the same identity as bot (holdfast.lua:2)", 1, true), run.err)
  end)

  it("tells a policy file's errors with their lines", function ()
    w:write("broken.lua", 'local holdfast = require "holdfast"\nreturn holdfast.policy {\n  platform = "x",\n  bakoff = {},\n}\n')
    local code, run = w:run { "check", "broken.lua" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("broken.lua:4: bakoff: unknown key; did you mean `backoff`?", 1, true), run.err)
  end)

  it("says what to do when there is no configuration", function ()
    local code, run = w:run { "check" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("there is no configuration at holdfast.lua: write one", 1, true))
  end)
end)
