-- The configuration file: what it may say, and every way to get it wrong.
local config = require "unit.config"

local folder

local function write(name, text, mode)
  local f = assert(io.open(folder .. "/" .. name, "w"))
  f:write(text)
  f:close()
  os.execute("chmod " .. (mode or "600") .. " '" .. folder .. "/" .. name .. "'")
end

local function load(text)
  write("holdfast.lua", text)
  local c, problems = config.load(folder .. "/holdfast.lua")
  for i, p in ipairs(problems) do problems[i] = p:gsub(folder:gsub("%p", "%%%0") .. "/", "") end
  return c, problems
end

local function refused(text)
  local c, problems = load(text)
  assert.is_nil(c)
  return problems
end

describe("the configuration", function()
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    os.execute("mkdir -p '" .. folder .. "/sub'")
    config.setenv("HOLDFAST_SPEC_TOKEN", "from-env")
    config.setenv("HOLDFAST_SPEC_ABSENT", nil)
    config.setenv("CREDENTIALS_DIRECTORY", nil)
  end)
  after_each(function() os.execute("rm -rf '" .. folder .. "'") end)

  it("of the design is read whole", function()
    write("token", "api-token\n")
    write("t7", "slack-token\r\n\n")
    local c, problems = load [[
listen { unix = "run/holdfast.sock", http = "127.0.0.1:7600", token = secret { file = "token" } }
store  { path = "var/holdfast.db" }
policies { path = "policies" }
connection "support-bot" { policy = "discord", token = secret { env = "HOLDFAST_SPEC_TOKEN" }, intents = 513, ca_file = "ca.pem" }
connection "tenant-7" { policy = "slack", app_token = secret { file = "t7" }, tune = { backoff = { most = "2m" }, limits = { greeting = "5s" } } }
]]
    assert.same({}, problems)
    assert.same({
      trial = { share = 0, watch_ms = 0, rehearse = false },
      path = folder .. "/holdfast.lua", unix = folder .. "/run/holdfast.sock", store = folder .. "/var/holdfast.db",
      http_host = "127.0.0.1", http_port = 7600, policies = { folder .. "/policies" },
      tokens = { { secret = "token", bytes = "api-token", scopes = 7, consumer = "" } },
      connections = {
        { name = "support-bot", policy = "discord", file = folder .. "/holdfast.lua", line = 4, owner = "", trial = 0, plain = false,
          ca_file = folder .. "/ca.pem",
          settings = { token = { secret = "HOLDFAST_SPEC_TOKEN", bytes = "from-env" }, intents = 513 } },
        { name = "tenant-7", policy = "slack", file = folder .. "/holdfast.lua", line = 5, owner = "", trial = 0, plain = false,
          settings = { app_token = { secret = "t7", bytes = "slack-token" }, tune = { backoff = { most = "2m" }, limits = { greeting = "5s" } } } },
      },
    }, c)
  end)

  it("that is empty has its defaults beside the file", function()
    local c = load ""
    assert.same({ folder .. "/run/holdfast.sock", folder .. "/var/holdfast.db", { folder .. "/policies" }, {} },
      { c.unix, c.store, c.policies, c.connections })
    assert.is_nil(c.http_host)
  end)

  it("keeps absolute paths, joins relative ones with the file that names them", function()
    write("sub/more.lua", 'connection "b" { policy = "generic", ca_file = "ca.pem" }\nconnection "c" { polcy = 1 }\nreturn {}\n')
    local problems = refused [[
store { path = "/srv/x.db" }
require "sub.more"
]]
    assert.same({ "sub/more.lua:2: connection c.policy: is missing: which policy decides, such as \"discord\"?" }, problems)
    write("sub/more.lua", 'connection "b" { policy = "generic", ca_file = "ca.pem", x = secret { file = "s" } }\nreturn {}\n')
    write("sub/s", "deep")
    local c = load 'store { path = "/srv/x.db" } require "sub.more"'
    assert.equal("/srv/x.db", c.store)
    assert.equal(folder .. "/sub/ca.pem", c.connections[1].ca_file)
    assert.equal("deep", c.connections[1].settings.x.bytes)
  end)

  it("says how long a reload may prove, and whether files are watched", function()
    local c = load "policies {}"
    assert.is_nil(c.prove_ms)
    assert.is_nil(c.watch)
    c = load 'policies { prove = "90s", watch = false }'
    assert.same({ 90000, false }, { c.prove_ms, c.watch })
    assert.equal(0, load("policies { prove = false }").prove_ms)
    for _, wrong in ipairs { "true", '"0s"', '"11m"', '"soon"', "10" } do
      local problems = refused("policies { prove = " .. wrong .. " }")
      assert.truthy(problems[1]:find("holdfast.lua:1: policies.prove: expected a duration from ", 1, true), problems[1])
    end
    assert.truthy(refused("policies { watch = 1 }")[1]:find("policies.watch: expected true or false", 1, true))
  end)

  it("says how long the journal is kept", function()
    assert.is_nil(load('store { path = "x.db" }').journal_age_ms)
    assert.equal(14 * 24 * 3600 * 1000, load('store { journal_age = "14d" }').journal_age_ms)
    for _, wrong in ipairs { "14", '"two weeks"', '"0s"', "true" } do
      local problems = refused("store { journal_age = " .. wrong .. " }")
      assert.truthy(problems[1]:find('holdfast.lua:1: store.journal_age: expected a duration such as "30d", got ', 1, true), problems[1])
    end
  end)

  it("may be a program", function()
    local c = load [[
for i = 1, 3 do
  connection ("bot-" .. i) { policy = "generic", url = "wss://host-" .. i .. ".example/" }
end
]]
    assert.equal(3, #c.connections)
    assert.equal("wss://host-3.example/", c.connections[3].settings.url)
  end)

  it("splits holdfast's own keys from a policy's options", function()
    local c = load [[
connection "a" { policy = "generic", trial = true, owner = "bot-a", plain = true, proxy = "http://127.0.0.1:3128",
  backlog = { most = "1MiB" }, url = "ws://x.example", }
connection "b" { policy = "generic", proxy = false }
]]
    local a = c.connections[1]
    assert.same({ 1, "bot-a", true, "http://127.0.0.1:3128" }, { a.trial, a.owner, a.plain, a.proxy })
    assert.same({ plain = true, backlog = { most = "1MiB" }, url = "ws://x.example" }, a.settings)
    assert.equal("", c.connections[2].proxy)
  end)

  it("reads what a new version is tried on, and who is among the tried", function()
    local c = load [[
policies { trial = { share = "2.5%", watch = "90s", rehearse = true } }
connection "a" { policy = "generic", trial = true }
connection "b" { policy = "generic", trial = false }
connection "c" { policy = "generic" }
]]
    assert.same({ share = 0.025, watch_ms = 90000, rehearse = true }, c.trial)
    assert.same({ 1, -1, 0 }, { c.connections[1].trial, c.connections[2].trial, c.connections[3].trial })
    assert.equal(0, load("policies { trial = false }").trial.share)
    assert.equal(0, load("").trial.share)
    assert.equal(1, load('policies { trial = { share = "100%", watch = "24h" } }').trial.share)
  end)

  it("refuses a trial that makes no sense, with the nearest name", function()
    assert.same({ "holdfast.lua:1: policies.trial.shere: unknown key; did you mean `share`?",
                  'holdfast.lua:1: policies.trial.share: expected a part of the connections such as "10%", got nothing' },
      refused 'policies { trial = { shere = "10%", watch = "10m" } }')
    for _, share in ipairs { '"0%"', '"101%"', '"10"', "0.1", '"-1%"', '"1e1%"', '"%"', '" 10%"', '"nan%"', '"1.2.3%"', "true" } do
      assert.truthy(refused("policies { trial = { watch = '10m', share = " .. share .. " } }")[1]
        :find('policies.trial.share: expected a part of the connections such as "10%"', 1, true), share)
    end
    for _, watch in ipairs { '"999ms"', '"25h"', '"10"', "600", "false" } do
      assert.truthy(refused("policies { trial = { share = '10%', watch = " .. watch .. " } }")[1]
        :find('policies.trial.watch: expected a duration from "1s" to "24h"', 1, true), watch)
    end
    assert.truthy(refused("policies { trial = true }")[1]:find("policies.trial: expected { share = ", 1, true))
    assert.truthy(refused("policies { trial = { share = '10%', watch = '10m', rehearse = 1 } }")[1]
      :find("policies.trial.rehearse: expected true or false", 1, true))
  end)

  it("keeps a proxy's user and password apart from its address", function()
    write("password", "hunter2\n")
    local c = load [[
connection "a" { policy = "x", proxy = { url = "http://proxy.example:3128", user = "u", password = secret { file = "password" } } }
connection "b" { policy = "x", proxy = { url = "http://proxy.example:3128", user = "u" } }
connection "c" { policy = "x", proxy = { url = "http://proxy.example:3128" } }
connection "d" { policy = "x", proxy = { url = "http://proxy.example:3128", user = secret { env = "HOLDFAST_SPEC_TOKEN" }, password = secret { file = "password" } } }
]]
    local seen = {}
    for i, k in ipairs(c.connections) do
      assert.equal("http://proxy.example:3128", k.proxy)
      assert.same({}, k.settings)
      seen[i] = k.proxy_authorization or "none"
    end
    assert.same({ "Basic dTpodW50ZXIy", "Basic dTo=", "none", "Basic ZnJvbS1lbnY6aHVudGVyMg==" }, seen)
  end)

  it("names every mistake about a proxy, and shows no password", function()
    write("password", "hunter2\n")
    write("bad", "hunter2\nhunter2\n")
    for line, expected in pairs {
      ['proxy = { user = "u", password = secret { file = "password" } }'] = { 'a.proxy.url: is missing: which proxy, such as "http://host:port"?' },
      ['proxy = { url = "http://p:1", password = secret { file = "password" } }'] = { "a.proxy.user: is missing beside a password" },
      ['proxy = { url = "http://p:1", user = "u", password = "hunter2" }'] = { "a.proxy.password: expected secret { ... }, got a text that does not fit" },
      ['proxy = { url = "http://p:1", user = 7 }'] = { "a.proxy.user: expected a text or secret { ... }, got a number" },
      ['proxy = { url = "http://p:1", usr = "u" }'] = { "a.proxy.usr: unknown key; did you mean `user`?" },
      ['proxy = { url = "http://p:1", user = "u:v" }'] = { "a.proxy: has a colon in the user name" },
      ['proxy = { url = "http://p:1", user = "u", password = secret { file = "bad" } }'] = { "a.proxy: has a control byte in the user name or password" },
      ['proxy = { url = "https://p:1" }'] = { "a.proxy.url: the address must be http://host:port without a path" },
      ['proxy = { url = "http://u:hunter2@p:1" }'] = { "a.proxy.url: the address has a user name or password in it; say { url = ..., user = ..., password = secret { ... } }" },
      ['proxy = "http://u:hunter2@p:1"'] = { "a.proxy: the address has a user name or password in it; say { url = ..., user = ..., password = secret { ... } }" },
      ['proxy = "http://p:1/x"'] = { "a.proxy: the address must be http://host:port without a path" },
      ['proxy = { url = 7 }'] = { 'a.proxy.url: the address must be a text such as "http://host:port"' },
      ['proxy = true'] = { 'a.proxy: expected a text such as "http://host:port", { url = ..., user = ..., password = secret { ... } }, or false for none, got true' },
    } do
      local problems = refused('connection "a" { policy = "x",\n' .. line .. " }\n")
      for i, p in ipairs(problems) do
        assert.is_nil(p:find("hunter2", 1, true), p)
        problems[i] = p:gsub("^holdfast.lua:%d+: connection ", "")
      end
      assert.same(expected, problems, line)
    end
  end)

  it("names every mistake of a section at once, and the assignment that ended the run", function()
    assert.same({
      "holdfast.lua:1: listen.unx: unknown key; did you mean `unix`?",
      'holdfast.lua:2: listen.http: expected an address and a port, such as "127.0.0.1:7600"',
      "holdfast.lua:3: listen.token: expected secret { ... }, got a text that does not fit",
    }, refused [[
listen { unx = "x",
  http = "localhost:7600",
  token = "plain-text-token" }
]])
    local problems = refused 'store { path = 7 }\nstoer = nil\n'
    assert.equal(2, #problems)
    assert.truthy(problems[2]:find("holdfast.lua:2: ", 1, true) == 1 and problems[2]:find("stoer", 1, true))
  end)

  it("names every mistake of its connections at once", function()
    assert.same({
      "holdfast.lua:1: store.path: expected a path, got a number",
      "holdfast.lua:2: connection A: a name has 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit",
      'holdfast.lua:3: connection a.policy: is missing: which policy decides, such as "discord"?',
      "holdfast.lua:7: secret: the environment variable HOLDFAST_SPEC_ABSENT is not set",
      "holdfast.lua:5: connection b.owner: expected the name of a consumer, got a text that does not fit",
      "holdfast.lua:4: connection b.trial: expected true or false, got a text that does not fit",
      "holdfast.lua:6: connection b.proxy: the address must begin with https://, http://, wss:// or ws://",
      "holdfast.lua:9: store: is given twice; the first is at line 1",
    }, refused [[
store { path = 7 }
connection "A" { policy = "generic" }
connection "a" { polcy = "x" }
connection "b" { policy = "x", trial = "yes",
  owner = "no such name",
  proxy = "socks5://u:hunter2@h:1",
  token = secret { env = "HOLDFAST_SPEC_ABSENT" } }
connection "c" { policy = "y" }
store { path = "x" }
]])
  end)

  it("refuses two connections of one name", function()
    assert.same({ "holdfast.lua:2: connection a: the name is taken by the connection at holdfast.lua:1" }, refused [[
connection "a" { policy = "x" }
connection "a" { policy = "x" }
]])
  end)

  it("refuses a connection without its table, or without its name", function()
    assert.same({ 'holdfast.lua:2: connection a: has no table: connection "name" { policy = ... }' }, refused '\nlocal x = connection "a"')
    assert.same({ 'holdfast.lua:1: connection needs its name: connection "name" { ... }' }, refused 'connection { policy = "x" }')
  end)

  it("refuses names that could confuse a shell, a path or a log", function()
    for _, name in ipairs { "", " ", "a b", "a/b", "A", "-a", ".a", "_a", ("x"):rep(64), "a\\n", "\195\164" } do
      local problems = refused('connection "' .. name .. '" { policy = "x" }')
      assert.truthy(problems[1]:find("a name has 1 to 63", 1, true), name)
    end
    assert.truthy(load('connection "' .. ("x"):rep(63) .. '" { policy = "x" }'))
  end)

  it("that does not compile or raises is refused with its line", function()
    assert.truthy(refused("\nlisten {")[1]:find("^holdfast.lua:2: "))
    assert.truthy(refused("\n\nlocal x = nil + 1")[1]:find("^holdfast.lua:3: "))
    assert.truthy(refused("while true do end")[1]:find("holdfast.lua:1: ", 1, true))
    assert.truthy(refused("conection 'a' {}")[1]:find("holdfast.lua:1: ", 1, true))
    assert.truthy(refused("local f = io.open")[1]:find("holdfast.lua:1: ", 1, true))
  end)

  it("that is absent, writable by others or no file is refused", function()
    local _, problems = config.load(folder .. "/nothing.lua")
    assert.same({ folder .. "/nothing.lua: No such file or directory" }, problems)
    write("open.lua", "", "666")
    _, problems = config.load(folder .. "/open.lua")
    assert.truthy(problems[1]:find("writable by others", 1, true))
    _, problems = config.load(folder)
    assert.equal(1, #problems)
  end)
end)

describe("listen", function()
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    os.execute("mkdir -p '" .. folder .. "'")
    config.setenv("HOLDFAST_SPEC_TOKEN", "from-env")
  end)
  after_each(function() os.execute("rm -rf '" .. folder .. "'") end)

  it("takes addresses with a port and nothing else", function()
    for text, want in pairs {
      ["127.0.0.1:7600"] = { "127.0.0.1", 7600 }, ["[::1]:0"] = { "::1", 0 }, ["127.0.0.1:65535"] = { "127.0.0.1", 65535 },
    } do
      local c, problems = load('listen { http = "' .. text .. '" }')
      assert.same({}, problems)
      assert.same(want, { c.http_host, c.http_port })
    end
    for _, text in ipairs { '""', '"7600"', '":7600"', '"127.0.0.1"', '"127.0.0.1:"', '"127.0.0.1:65536"', '"127.0.0.1:-1"', '"127.0.0.1:1x"', '"::1:7600"', '"[::1]"',
      '"localhost:7600"', '"127.1:7600"', "7600", "true", "{}", '"127.0.0.1:7600\\0"' } do
      assert.same({ 'holdfast.lua:1: listen.http: expected an address and a port, such as "127.0.0.1:7600"' }, refused("listen { http = " .. text .. " }"), text)
    end
  end)

  it("warns where tokens would travel readable", function()
    local c, problems = load 'listen { http = "0.0.0.0:7600" }'
    assert.truthy(c)
    assert.same({ "holdfast.lua:1: warning: listen.http: 0.0.0.0 is reachable from other machines, without TLS: tokens travel readable" }, problems)
  end)

  it("gives each token its scopes, and a consumer where it reads one cursor", function()
    local c = load [[
local t = secret { env = "HOLDFAST_SPEC_TOKEN" }
listen { unix = false, http = "127.0.0.1:0", tokens = {
  { secret = t, scope = "read" }, { secret = t, scope = { "read", "consume" }, consumer = "bot-a" }, { secret = t, scope = "operate" },
} }]]
    assert.is_nil(c.unix)
    assert.same({ { 1, "" }, { 3, "bot-a" }, { 7, "" } },
      { { c.tokens[1].scopes, c.tokens[1].consumer }, { c.tokens[2].scopes, c.tokens[2].consumer }, { c.tokens[3].scopes, c.tokens[3].consumer } })
  end)

  it("refuses tokens that are none, scopes that are none, and both forms at once", function()
    local t = 'secret { env = "HOLDFAST_SPEC_TOKEN" }'
    for text, want in pairs {
      ["tokens = {}"] = "expected a list", ["tokens = 1"] = "expected a list", ["tokens = { { scope = 'read' } }"] = "tokens[1].secret",
      ["tokens = { { secret = 'x', scope = 'read' } }"] = "tokens[1].secret", ["tokens = { { secret = " .. t .. " } }"] = "tokens[1].scope",
      ["tokens = { { secret = " .. t .. ", scope = 'all' } }"] = "tokens[1].scope", ["tokens = { { secret = " .. t .. ", scope = {} } }"] = "tokens[1].scope",
      ["tokens = { { secret = " .. t .. ", scope = 'read', consumer = 'x' } }"] = "tokens[1].consumer",
      ["tokens = { { secret = " .. t .. ", scop = 'read' } }"] = "did you mean `scope`?",
      ["token = " .. t .. ", tokens = { { secret = " .. t .. ", scope = 'read' } }"] = "excludes `tokens`",
      ["unix = false"] = "listens nowhere", ["unix = ''"] = "expected a path", ["unix = '" .. ("x"):rep(200) .. "'"] = "a socket's path may have 107",
    } do
      local found
      for _, p in ipairs(refused("listen { " .. text .. " }")) do found = found or p:find(want, 1, true) end
      assert.truthy(found, text)
    end
    assert.same({ "holdfast.lua:1: listen: expected a table, got a number" }, refused "listen(7)")
  end)
end)

describe("a secret", function()
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    os.execute("mkdir -p '" .. folder .. "/creds'")
    config.setenv("HOLDFAST_SPEC_TOKEN", "")
    config.setenv("HOLDFAST_SPEC_ABSENT", nil)
    config.setenv("CREDENTIALS_DIRECTORY", nil)
  end)
  after_each(function() os.execute("rm -rf '" .. folder .. "'") config.setenv("CREDENTIALS_DIRECTORY", nil) end)

  local function read(place) return load("connection 'a' { policy = 'x', token = secret " .. place .. " }") end

  it("that cannot be read is one error that names its place", function()
    write("empty", "\n\n")
    write("big", ("x"):rep(70000))
    for place, want in pairs {
      ['{ env = "HOLDFAST_SPEC_ABSENT" }'] = "the environment variable HOLDFAST_SPEC_ABSENT is not set",
      ['{ env = "HOLDFAST_SPEC_TOKEN" }'] = "the environment variable HOLDFAST_SPEC_TOKEN is empty",
      ['{ file = "nothing" }'] = "the file nothing: No such file or directory", ['{ file = "empty" }'] = "the file empty is empty",
      ['{ file = "creds" }'] = "the file creds is no regular file", ['{ file = "big" }'] = "the file big is larger than 64 KiB",
      ['{ credential = "x" }'] = "the credential x: CREDENTIALS_DIRECTORY is not set (the service manager sets it)",
      ['{ credential = "../x" }'] = "a credential has a name, not a path", ['{ evn = "X" }'] = "unknown key `evn`; did you mean `env`?",
      ["{}"] = 'expected one place: { env = "NAME" }, { file = "path" } or { credential = "name" }',
      ['"x"'] = 'expected one place: { env = "NAME" }, { file = "path" } or { credential = "name" }',
      ["{ env = 1 }"] = "`env` must be a text, and not empty",
    } do
      local c, problems = read(place)
      assert.is_nil(c)
      assert.same({ "holdfast.lua:1: secret: " .. want }, problems)
    end
  end)

  it("comes from the credentials directory by name", function()
    write("creds/bot", "cred-bytes\n", "644")
    config.setenv("CREDENTIALS_DIRECTORY", folder .. "/creds")
    local c, problems = read '{ credential = "bot" }'
    assert.same({}, problems)
    assert.same({ secret = "bot", bytes = "cred-bytes" }, c.connections[1].settings.token)
  end)

  it("in a file that others can read is warned about", function()
    write("t", "hunter2", "640")
    local c, problems = read '{ file = "t" }'
    assert.equal("hunter2", c.connections[1].settings.token.bytes)
    assert.same({ "holdfast.lua:1: warning: secret: the file of t can be read by its group or others (chmod go=)" }, problems)
  end)

  it("keeps what stands inside it, and loses line ends behind it alone", function()
    write("t", " a\nb \n\r\n")
    local c = read '{ file = "t" }'
    assert.equal(" a\nb ", c.connections[1].settings.token.bytes)
  end)

  it("never shows its bytes, wherever it is put wrongly", function()
    write("t", "hunter2")
    for _, text in ipairs {
      'store { path = secret { file = "t" } }', 'listen { http = secret { file = "t" } }', 'connection "a" { policy = secret { file = "t" } }',
      'connection "a" { policy = "x", owner = secret { file = "t" }, proxy = secret { file = "t" }, ca_file = secret { file = "t" } }',
      'error(secret { file = "t" })', 'error("x" .. secret { file = "t" })', 'local x = secret { file = "t" } + 1', 'connection(secret { file = "t" })',
      'secret { env = secret { file = "t" } }', 'connection "a" { [secret { file = "t" }] = 1 }',
    } do
      for _, p in ipairs(refused(text)) do assert.is_nil(p:find("hunter2", 1, true), p) end
    end
  end)
end)
