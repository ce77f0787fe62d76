-- What the configuration names beside itself, and what is rotated under it: secrets and CA files. Nobody has to ask.
local world = require "daemon_world"
local api = require "api_client"
local control = world.control

describe("a file that the configuration names", function ()
  local w, peer, daemon
  local function config(more)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
policies { prove = false }
connection "bot" {
  policy = "discord", token = secret { file = "tokens/bot" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } }, backoff = { first = "250ms", most = "1s" }, slow = { first = "1s", most = "1s" } },
}
%s]]):format(peer.port, more or ""))
  end
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:write("tokens/bot", world.token)
  end)
  after_each(function () w:close() end)

  local function start()
    daemon = w:daemon { env = { CREDENTIALS_DIRECTORY = "creds" } }
    w:up()
  end
  local function hellos() return tonumber(control(peer, '{"verb":"stats"}'):match '"hellos":(%d+)') end
  local function state(name, wanted)
    return w:status(function (text) return text:match('"state":"' .. wanted .. '"') end, { name })
  end
  local function reloads() return select(2, daemon.err:gsub("msg=\"reloaded: ", "")) end
  local function reloaded(n) assert.truthy(daemon:eventually(function () return reloads() == n end), daemon.err) end
  local function kick(code) control(peer, ('{"verb":"kick","code":%d,"reason":"as told"}'):format(code)) end

  it("a secret: the link stays open, and the next one has the new bytes", function ()
    config()
    start()
    assert.equal(1, hellos())
    w:write("tokens/bot", "app." .. world.secret .. "2")
    daemon:says "connection=bot msg=\"goes on with discord v1\""
    assert.equal(1, hellos())
    kick(4000)
    w:status(function (text) return text:match '"state":"up"' and text:match '"generation":2' end, { "bot" })
  end)

  it("a secret: what was given up because of it starts again by itself, with the new bytes", function ()
    peer = w:peer { "identify_gap=0", "token=app.new" }
    config()
    daemon = w:daemon()
    state("bot", "stopped")
    w:write("tokens/bot", "app.new")
    daemon:says "starts again: its settings changed"
    state("bot", "up")
  end)

  it("a secret that is gone, empty or half a file changes nothing but what status says", function ()
    config()
    start()
    os.execute(("rm '%s/tokens/bot'"):format(w.folder))
    daemon:says "tokens/bot: No such file or directory.-reload refused"
    state("bot", "up")
    w:write("tokens/bot", "")
    daemon:says "tokens/bot is empty.-reload refused"
    w:write("tokens/bot", world.token)
    daemon:says "reloaded: 0 connections changed, 0 removed, 1 as before"
    assert.equal(1, hellos())
  end)

  it("a secret of one connection touches no other", function ()
    w:write("tokens/two", "two." .. world.secret)
    config(([[connection "two" { policy = "discord", token = secret { file = "tokens/two" }, intents = 1, ca_file = "ca.pem",
      api = "https://127.0.0.1:%s/api/v10", tune = { budgets = { start = { gap = "300ms" } } } }]]):format(peer.port))
    start()
    state("two", "up")
    w:write("tokens/two", "two." .. world.secret .. "2")
    daemon:says "reloaded: 1 connection changed, 0 removed, 1 as before"
    assert.falsy(daemon.err:find("connection=bot msg=\"goes on", 1, true))
  end)

  it("a credential of one that was put over the API, too", function ()
    config()
    w:write("creds/second", "other." .. world.secret)
    start()
    local function put(method) return api.request(daemon, w.folder .. "/h.sock", method, "/v1/connections/second", { body = method == "PUT" and {
      policy = "discord", token = { credential = "second" }, intents = 1, ca_file = "ca.pem",
      api = ("https://127.0.0.1:%s/api/v10"):format(peer.port), tune = { budgets = { start = { gap = "300ms" } } } } or nil }) end
    assert.equal(201, (put "PUT"))
    state("second", "up")
    kick(4004)
    state("second", "stopped")
    w:write("creds/second", "other." .. world.secret .. "2")
    daemon:says "connection=second msg=\"its credentials changed\""
    state("second", "up")
    -- Another one's file is nobody's business.
    reloaded(1)
    local before = #daemon.err
    w:write("creds/nobody", "x")
    reloaded(2)
    assert.falsy(daemon.err:find("credentials changed", before, true))
    -- And of one that was deleted nothing is read any more.
    assert.equal(202, (put "DELETE"))
    w:write("creds/second", "third." .. world.secret)
    reloaded(3)
    assert.falsy(daemon.err:find("connection=second msg=\"goes on with the credentials", 1, true))
  end)

  it("a CA file: the next dial trusts what it says now", function ()
    config()
    local good = w:read "ca.pem"
    local other = w:peer({ "identify_gap=0" }, nil) -- its CA is another one, and is in ca.pem now
    assert.truthy(other.port)
    local wrong = w:read "ca.pem"
    assert.not_equal(good, wrong)
    w:write("ca.pem", good)
    start()
    w:write("ca.pem", wrong)
    daemon:says "files changed"
    daemon:says "reloaded: 0 connections changed, 0 removed, 1 as before"
    assert.equal(1, hellos())
    kick(4000)
    w:status(function (text) return text:match '"kind":"certificate"' end, { "bot" })
    w:write("ca.pem", good)
    w:status(function (text) return text:match '"state":"up"' end, { "bot" })
  end)
end)
