local world = require "daemon_world"
local api = require "api_client"

describe("a connection put over the API", function ()
  local w, peer, daemon, http
  local OPERATE, READ, CONSUME = "operate-token", "read-token", "consume-token"

  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0", "events_every=50" }
    w:write("op.token", OPERATE)
    w:write("read.token", READ)
    w:write("consume.token", CONSUME)
    w:write("creds/second", "other." .. world.secret)
    w:write("creds/third", "third." .. world.secret)
    w:config(peer.port, "policies { prove = false }") -- put_gate_spec.lua is about the gate
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub('unix = "h.sock"', [[
unix = "h.sock", http = "127.0.0.1:0", tokens = {
  { secret = secret { file = "op.token" }, scope = "operate" },
  { secret = secret { file = "read.token" }, scope = "read" },
  { secret = secret { file = "consume.token" }, scope = "consume" } }]])))
    daemon = w:daemon { env = { CREDENTIALS_DIRECTORY = "creds" } }
    http = daemon:says "http (127%.0%.0%.1:%d+)"
  end)
  after_each(function () w:close() end)

  local function call(method, target, options)
    options = options or {}
    if options.token == nil then options.token = OPERATE end
    return api.request(daemon, http, method, target, options)
  end

  local function good(more)
    local body = { policy = "discord", token = { credential = "second" }, intents = 1, ca_file = "ca.pem",
                   api = ("https://127.0.0.1:%s/api/v10"):format(peer.port),
                   tune = { budgets = { start = { gap = "300ms" } } } }
    for k, v in pairs(more or {}) do body[k] = v end
    return body
  end

  local function put(name, body, options)
    options = options or {}
    options.body = body
    return call("PUT", "/v1/connections/" .. name, options)
  end

  local function state(name, wanted)
    return w:status(function (text) return text:match('"state":"' .. wanted .. '"') end, { name })
  end

  local function gone(name)
    return w:status(function (text) return not text:match('"name":"' .. name .. '"') end)
  end

  it("comes up with a secret from the credentials directory, and is said to be kept on disk", function ()
    local status, view = put("second", good())
    assert.equal(201, status)
    assert.equal("second", view.name)
    assert.equal("sqlite", view.kept)
    assert.equal("discord", view.policy.name)
    state("second", "up")
  end)

  it("stays as it is when the same is put again, and changes on its live link", function ()
    put("second", good())
    state("second", "up")
    assert.equal(200, (put("second", good())))
    local status, view = put("second", good { tune = { backoff = { most = "2m" } } })
    assert.equal(200, status)
    assert.equal("sqlite", view.kept)
    assert.equal("up", view.state)
    assert.equal(1, view.generation)
  end)

  it("is replaced when its identity changes: closed first, then dialled again", function ()
    put("second", good())
    state("second", "up")
    local status = put("second", good { token = { credential = "third" } })
    assert.equal(202, status)
    daemon:says 'connection=second msg=added'
    state("second", "up")
    local _, all = call("GET", "/v1/connections")
    assert.equal(2, #all.connections)
  end)

  it("is closed for good and forgotten on DELETE", function ()
    put("second", good())
    state("second", "up")
    local status, view = call("DELETE", "/v1/connections/second")
    assert.equal(202, status)
    assert.equal("second", view.name)
    gone "second"
    local stats = world.control(peer, '{"verb":"stats"}')
    assert.is_truthy(stats:find('"1000":1', 1, true), stats) -- final: the platform may end the session
    assert.equal(404, (call("DELETE", "/v1/connections/second")))
    assert.equal(201, (put("second", good())))
    state("second", "up")
  end)

  it("may be put again while the one before is still closing", function ()
    put("second", good())
    state("second", "up")
    call("DELETE", "/v1/connections/second")
    local status = put("second", good())
    assert.is_true(status == 202 or status == 201, status)
    daemon:says "connection=second msg=removed"
    state("second", "up")
  end)

  it("does not take a name or an identity that is in use: the file wins", function ()
    local status, answer = put("bot", good())
    assert.equal(409, status)
    assert.equal("bot", answer.error.where)
    assert.is_truthy(answer.error.what:find("the file wins", 1, true))
    status, answer = call("DELETE", "/v1/connections/bot")
    assert.equal(409, status)
    assert.is_truthy(answer.error.what:find("belongs to the configuration file", 1, true))
    assert.equal(201, (put("second", good())))
    status, answer = put("twin", good())
    assert.equal(409, status)
    assert.equal("has the same identity as second: two links would fight", answer.error.what)
    assert.equal("twin", answer.error.where)
    state("bot", "up")
  end)

  it("takes a secret as a credential's name alone, never as text, path or variable", function ()
    local cases = {
      { "plain-text", "token", "got a text" },
      { { file = "creds/second" }, "token", "got a table" },
      { { env = "DISCORD_TOKEN" }, "token", "got a table" },
      { { credential = "../op.token" }, "token", "a credential has a name, not a path" },
      { { credential = "/etc/passwd" }, "token", "a credential has a name, not a path" },
      { { credential = ".hidden" }, "token", "a credential has a name, not a path" },
      { { credential = "absent" }, "token", "the file absent: No such file or directory" },
    }
    for _, case in ipairs(cases) do
      local status, answer = put("second", good { token = case[1] })
      assert.equal(400, status)
      assert.equal(case[2], answer.error.where)
      assert.equal(case[3], answer.error.what)
    end
    local _, answer = put("second", good { token = "plain-text" })
    assert.is_truthy(answer.error.expected:find('{"credential":"NAME"}', 1, true))
    gone "second"
  end)

  it("is checked as the configuration is, with every problem named by its key's path", function ()
    local status, answer = put("second", good { intnts = 1, api = 5, tune = { backof = { first = "1s" } } })
    assert.equal(400, status)
    local found = { [answer.error.where] = answer.error }
    for _, more in ipairs(answer.error.also) do found[more.where] = more end
    assert.equal("unknown key", found.intnts.what)
    assert.equal("intents", found.intnts.expected)
    assert.equal("backoff", found["tune.backof"].expected)
    assert.equal("got the number 5", found.api.what)
    local cases = {
      { "Second", good(), "Second", "a name has 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit" },
      { "second", { intents = 1 }, "policy", 'is missing: which policy decides, such as "discord"?' },
      { "second", good { policy = "discrod" }, "policy", "there is no policy `discrod` in " },
      { "second", '{"policy":"discord","token":null}', "token", "null is no value: leave the key out" },
      { "second", '{"policy":"discord","policy":"slack"}', "policy", "stands here twice" },
      { "second", "[1]", "body", "got another value" },
      { "second", '{"policy":', "body", "got something that is no JSON" },
      { "second", '{"policy":"dis\\u0000cord"}', "body", "a text with a NUL in it is not possible" },
      { "second", '{"credential":"second"}', "body", "got a credential alone" },
      { "second", "", "body", "got something that is no JSON" },
      { "second", ('{"a":'):rep(18) .. "1" .. ("}"):rep(18), ("a."):rep(16) .. "a", "is nested too deep; at most 16 levels are possible" },
    }
    for _, case in ipairs(cases) do
      local code, body = put(case[1], case[2])
      assert.equal(400, code, case[4])
      assert.equal(case[3], body.error.where)
      assert.equal(case[4], body.error.what:sub(1, #case[4]))
    end
    state("bot", "up")
  end)

  it("is for tokens with the scope operate", function ()
    for _, method in ipairs { "PUT", "DELETE" } do
      local body = method == "PUT" and good() or nil
      assert.equal(401, (call(method, "/v1/connections/second", { body = body, token = false })))
      assert.equal(401, (call(method, "/v1/connections/second", { body = body, token = "wrong" })))
      for _, token in ipairs { READ, CONSUME } do
        local status, answer = call(method, "/v1/connections/second", { body = body, token = token })
        assert.equal(403, status)
        assert.equal("a token with the scope operate", answer.error.expected)
      end
    end
    gone "second"
  end)

  it("has a body of at most 64 KiB with a length", function ()
    local status, answer = put("second", "{" .. (" "):rep(65536) .. "}")
    assert.equal(413, status)
    assert.equal("at most 64 KiB", answer.error.expected)
    assert.equal(411, (call("PUT", "/v1/connections/second", { head = "Transfer-Encoding: chunked\r\n" })))
    local code, other = call("PATCH", "/v1/connections/second")
    assert.equal(405, code)
    assert.equal("GET, PUT, DELETE", other.error.expected)
  end)

  it("goes on over a reload, and yields to the file when that names it", function ()
    put("second", good())
    state("second", "up")
    local code = w:run { "reload" }
    assert.equal(0, code)
    local _, view = call("GET", "/v1/connections/second")
    assert.equal("up", view.state)
    assert.equal(1, view.generation)
    w:write("holdfast.lua", w:read "holdfast.lua" .. ([[
connection "second" {
  policy = "discord", token = secret { credential = "second" }, intents = 1,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
}]]):format(peer.port))
    assert.equal(0, (w:run({ "reload" })))
    daemon:says "was added over the API and is in the file now: the file wins"
    daemon:says "connection=second msg=added"
    state("second", "up")
    assert.equal(409, (call("DELETE", "/v1/connections/second")))
  end)

  it("keeps a reload from taking its identity for another name", function ()
    put("second", good())
    state("second", "up")
    w:write("holdfast.lua", w:read "holdfast.lua" .. ([[
connection "twin" {
  policy = "discord", token = secret { credential = "second" }, intents = 1,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
}]]):format(peer.port))
    local code, run = w:run { "reload" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("second: was added over the API and has the same identity as twin: delete it first", 1, true), run.err)
    local _, view = call("GET", "/v1/connections/second")
    assert.equal("up", view.state)
  end)

  it("that a verdict stopped starts again with new credentials", function ()
    put("second", good())
    state("second", "up")
    world.control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    state("second", "stopped")
    w:write("creds/second", "other." .. world.secret .. "2")
    local status = put("second", good())
    assert.equal(200, status)
    state("second", "up")
  end)
end)
