-- A connection that is put over the API goes through the gate as a file's does: what would hurt is not taken, nothing is
-- dialled before the answer, and no link is touched by a refusal.
local world = require "daemon_world"
local api = require "api_client"
local socket = require "unit.ops"
local signals, control = world.signals, world.control

local function shipped()
  local f = assert(io.open "policies/discord.lua")
  local text = f:read "*a"
  f:close()
  return text
end

local function changed(pattern, by)
  local out, n = shipped():gsub(pattern, by, 1)
  assert(n == 1, pattern .. " is not in the policy any more")
  return out
end

local TIGHT = { first = "250ms", factor = 1, most = "250ms", floor = "250ms", jitter = "none", settle = "1s" }

describe("a connection that is put over the API", function ()
  local w, peer, daemon
  local function config(prove, more)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
store { path = "var/h.db" }
policies { path = "policies", watch = false, prove = %s }
connection "bot" {
  policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
}
%s]]):format(prove, peer.port, more or ""))
  end
  local function start(prove)
    config(prove or '"2m"')
    daemon = w:daemon { env = { CREDENTIALS_DIRECTORY = "creds", TMPDIR = w.folder } }
    w:up()
  end
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:write("policies/mine.lua", shipped())
    w:write("creds/second", "other." .. world.secret)
    w:write("creds/third", "third." .. world.secret)
  end)
  after_each(function () w:close() end)

  local function good(tune, more)
    local body = { policy = "mine", token = { credential = "second" }, intents = 1, ca_file = "ca.pem",
                   api = ("https://127.0.0.1:%s/api/v10"):format(peer.port),
                   tune = { budgets = { start = { gap = "300ms" } }, backoff = tune } }
    for k, v in pairs(more or {}) do body[k] = v end
    return body
  end
  local function call(method, target, body)
    world.wait_ms = 120000 -- the prover takes its time
    local status, answer = api.request(daemon, w.folder .. "/h.sock", method, target, { body = body })
    world.wait_ms = 20000
    return status, answer
  end
  local function put(name, body, more) return call("PUT", "/v1/connections/" .. name .. (more or ""), body) end
  local function get(name) return select(2, call("GET", "/v1/connections" .. (name and "/" .. name or ""))) end
  local function stats() return control(peer, '{"verb":"stats"}') end
  -- Sends it and does not wait.
  local function put_later(name, body, more)
    local json = require "dkjson".encode(body)
    local fd = assert(socket.connect(w.folder .. "/h.sock"))
    local out = ("PUT /v1/connections/%s%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s")
      :format(name, more or "", #json, json)
    assert.equal(#out, socket.write(fd, out))
    local got = ""
    return function ()
      assert(daemon:eventually(function ()
        local piece = socket.read(fd)
        got = got .. (piece or "")
        return got:find("\r\n\r\n", 1, true) and (piece == nil or got:sub(-2) == "}\n")
      end, 120000), got)
      socket.shut(fd)
      return tonumber(got:match "^HTTP/1%.1 (%d+)"), require "dkjson".decode(got:match "\r\n\r\n(.*)$")
    end
  end

  it("with what runs already is not proven again; with a tune of its own it is, and then known", function ()
    start()
    local status, view = put("second", good())
    assert.equal(201, status)
    assert.equal("runs already", view.proof)
    assert.falsy(daemon.err:find("proving", 1, true))
    status, view = put("third", good({ settle = "45s" }, { token = { credential = "third" } }))
    assert.equal(201, status)
    assert.equal("proven", view.proof)
    daemon:says "policy mine as tuned for connection third: proven, %d+ schedules of faults"
    w:status(function (text) return text:match '"state":"up"' end, { "third" })
    local before = #daemon.err
    status, view = put("second", good { settle = "45s" })
    assert.equal(200, status)
    assert.equal("proven", view.proof)
    assert.equal(1, view.generation)
    assert.falsy(daemon.err:find("proving mine", before, true))
  end)

  it("that would hurt is refused with promise and schedule, before anything is dialled", function ()
    start()
    local hellos = stats():match '"hellos":%d+'
    local status, answer = put("second", good(TIGHT))
    assert.equal(409, status)
    assert.equal("second", answer.error.where)
    assert.truthy(answer.error.what:find("policy mine as tuned for connection second: refused: I3 is broken (", 1, true), answer.error.what)
    assert.truthy(answer.error.what:find("schedule: ", 1, true), answer.error.what)
    assert.truthy(answer.error.expected:find("?unproven=1", 1, true))
    assert.equal(404, (call("GET", "/v1/connections/second")))
    assert.equal(hellos, stats():match '"hellos":%d+')
    -- It is told until it is put well.
    local told = get().puts
    assert.same({}, told.proving)
    assert.equal("second", told.refused[1].connection)
    assert.truthy(told.refused[1].why:find("I3 is broken", 1, true))
    assert.same(told.refused, select(2, call("GET", "/v1/summary")).puts.refused)
    local text = select(2, w:run { "status", "--socket", "h.sock" }).out
    assert.truthy(text:find "second: what was put at %S+, %S+ ago, was refused by the gate", text)
    assert.equal(201, (put("second", good())))
    assert.same({}, get().puts.refused)
    -- A restart has nothing of what was refused.
    daemon:kill(signals.term)
    assert.equal(0, daemon:wait())
    daemon = w:daemon { env = { CREDENTIALS_DIRECTORY = "creds" } }
    w:status(function (t) return t:match '"state":"up"' end, { "second" })
  end)

  it("and runs keeps its link when a change of it is refused, and its journal says so", function ()
    start()
    put("second", good())
    w:status(function (text) return text:match '"state":"up"' end, { "second" })
    assert.equal(409, (put("second", good(TIGHT))))
    local view = get "second"
    assert.equal("up", view.state)
    assert.equal(1, view.generation)
    local journal = select(2, call("GET", "/v1/connections/second/journal"))
    assert.truthy(require "dkjson".encode(journal):find("a change over the API was refused by the gate: what runs goes on", 1, true))
    -- And the text that was put before is what the next process has.
    daemon:kill(signals.term)
    assert.equal(0, daemon:wait())
    daemon = w:daemon { env = { CREDENTIALS_DIRECTORY = "creds" } }
    assert.equal(200, (put("second", good())))
  end)

  it("with a policy that nobody runs is proven as it is", function ()
    w:write("policies/other.lua", changed("climb = %b{},", "climb = {},"))
    start()
    local status, answer = put("second", good(nil, { policy = "other", tune = false }))
    assert.equal(400, status) -- a tune is a table
    local body = good(nil, { policy = "other" })
    body.tune = nil
    status, answer = put("second", body)
    assert.equal(409, status)
    assert.truthy(answer.error.what:find("policy other: refused: I6 is broken (", 1, true), answer.error.what)
    w:write("policies/other.lua", shipped())
    status, answer = put("second", body)
    assert.equal(201, status)
    assert.equal("proven", answer.proof)
  end)

  it("is let past with ?unproven=1, at once, and the journal says so", function ()
    start()
    local status, view = put("second", good(TIGHT), "?unproven=1")
    assert.equal(201, status)
    assert.equal("unproven", view.proof)
    daemon:says "policy mine as tuned for connection second is taken unproven: an operator wished so"
    local _, told = w:run { "status", "second", "--socket", "h.sock" }
    assert.truthy(told.out:find("a version that is unproven, because an operator wished so", 1, true), told.out)
    assert.falsy(daemon.err:find("proving mine", 1, true))
  end)

  it("is taken when the time is over, and that is said", function ()
    start '"1ms"'
    local status, view = put("second", good { settle = "45s" })
    assert.equal(201, status)
    assert.equal("not fully proven", view.proof)
    daemon:says "policy mine as tuned for connection second: not fully proven: the time was over"
  end)

  it("is not proven where the configuration says so", function ()
    start "false"
    local status, view = put("second", good(TIGHT))
    assert.equal(201, status)
    assert.equal("unproven", view.proof)
    daemon:says "policy mine as tuned for connection second is taken unproven: the configuration says so"
  end)

  it("holds nobody up while it is proven; the last wish of a name counts", function ()
    start()
    local first = put_later("second", good(TIGHT))
    daemon:says "proving mine before it is taken; what runs goes on"
    assert.same({ "second" }, get().puts.proving)
    local text = select(2, w:run { "status", "--socket", "h.sock" }).out
    assert.truthy(text:find("second: what was put is being proven before it is taken", 1, true), text)
    -- What needs no proof does not wait, whoever asks.
    assert.equal(201, (put("third", good(nil, { token = { credential = "third" } }))))
    assert.equal(201, (put("second", good())))
    local status, answer = first()
    assert.equal(409, status)
    assert.equal("another PUT of it came after this one", answer.error.what)
    assert.same({}, get().puts.proving)
    assert.same({}, get().puts.refused)
    -- And one that is deleted meanwhile does not come.
    local second = put_later("second", good { settle = "44s" })
    daemon:eventually(function () return #get().puts.proving == 1 end)
    assert.equal(202, (call("DELETE", "/v1/connections/second")))
    status, answer = second()
    assert.equal(409, status)
    assert.equal("it was deleted meanwhile", answer.error.what)
  end)

  it("waits for nobody when the daemon ends", function ()
    start()
    local first = put_later("second", good { settle = "44s" })
    daemon:says "proving mine"
    daemon:kill(signals.term)
    local status, answer = first()
    assert.equal(503, status)
    assert.equal("this one is shutting down", answer.error.what)
    assert.equal(0, (daemon:wait(20000)))
  end)

  it("is part of what a new text of its policy is proven with", function ()
    start()
    assert.equal(201, (put("second", good { settle = "45s" })))
    w:write("policies/mine.lua", changed('settle = "60s"', 'settle = "50s"'))
    local run = w:start { "reload", "--socket", "h.sock" }
    assert.equal(0, (run:wait(120000)), run.err)
    daemon:says "policy mine as tuned for connection second: proven, %d+ schedules of faults.-reloaded: "
    assert.equal(2, get("second").policy.version)
    assert.equal(1, get("second").generation)
  end)

  it("is checked once more at the end: a file that has it by then wins", function ()
    start()
    local first = put_later("second", good { settle = "45s" })
    daemon:says "proving mine"
    config('"2m"', ([[
connection "second" {
  policy = "mine", token = secret { credential = "second" }, intents = 1,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
}]]):format(peer.port))
    assert.equal(0, (w:start { "reload", "--socket", "h.sock" }:wait(120000)))
    local status, answer = first()
    assert.equal(409, status)
    assert.truthy(answer.error.what:find("the file wins", 1, true))
  end)

  it("is proven with the text that runs, whatever its file has by now", function ()
    w:write("policies/lib/numbers.lua", "return { settle = '60s' }\n")
    w:write("policies/mine.lua", changed('settle = "60s"', 'settle = require "lib.numbers".settle'))
    start()
    -- This one is refused, and stays in its file.
    w:write("policies/mine.lua", changed("climb = %b{},", "climb = {},"))
    assert.equal(1, (w:start { "reload", "--socket", "h.sock" }:wait(120000)))
    local status, view = put("second", good { most = "55s" })
    assert.equal(201, status, require "dkjson".encode(view))
    assert.equal("proven", view.proof)
    assert.equal(1, view.policy.version)
    local answer
    status, answer = put("third", good(TIGHT, { token = { credential = "third" } }))
    assert.equal(409, status)
    assert.truthy(answer.error.what:find("I3 is broken", 1, true))
    assert.falsy(answer.error.what:find("holdfast-gate", 1, true), answer.error.what)
    assert.equal("", io.popen(("ls -d '%s'/holdfast-gate-* 2>/dev/null"):format(w.folder)):read "*a")
  end)

  it("is refused with the reason where the text that runs cannot be laid down to be played", function ()
    config '"2m"'
    daemon = w:daemon { env = { CREDENTIALS_DIRECTORY = "creds", TMPDIR = w.folder .. "/none" } }
    w:up()
    w:write("policies/mine.lua", changed("climb = %b{},", "climb = {},"))
    local status, answer = put("second", good { settle = "45s" })
    assert.equal(409, status)
    assert.truthy(answer.error.what:find("cannot be played", 1, true), answer.error.what)
    assert.truthy(answer.error.what:find("/none/holdfast-gate-", 1, true), answer.error.what)
    assert.truthy(answer.error.what:find("No such file or directory", 1, true), answer.error.what)
    assert.equal(201, (put("second", good { settle = "45s" }, "?unproven=1")))
  end)
end)
