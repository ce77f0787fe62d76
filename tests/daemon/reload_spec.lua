local world = require "daemon_world"
local signals, control = world.signals, world.control

-- A policy of the spec's own: Discord's, with one number to change.
local function policy(w, settle)
  local f = assert(io.open "policies/discord.lua")
  local text = f:read "*a"
  f:close()
  w:write("policies/mine.lua", (text:gsub('settle = "60s"', 'settle = "' .. settle .. '"')))
end

local function config(w, port, more)
  w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
policies { path = "policies" }
connection "bot" {
  policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
}
%s]]):format(port, more or ""))
end

describe("a reload", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    policy(w, "60s")
    config(w, peer.port)
    daemon = w:daemon()
    w:up()
  end)
  after_each(function () w:close() end)

  local function stats() return control(peer, '{"verb":"stats"}') end

  it("on SIGHUP swaps the policy in and keeps the link", function ()
    policy(w, "30s")
    daemon:kill(signals.hup)
    daemon:says "goes on with mine v2"
    daemon:says "reloaded: 1 connection changed, 0 removed, 0 as before"
    w:status(function (text) return text:match '"version":2' and text:match '"state":"up"' end)
    assert.is_truthy(stats():find('"hellos":1,', 1, true))
  end)

  it("changes nothing when nothing changed", function ()
    daemon:kill(signals.hup)
    daemon:says "reloaded: 0 connections changed, 0 removed, 1 as before"
    w:status(function (text) return text:match '"version":1[^0-9]' and text:match '"state":"up"' end)
  end)

  it("keeps the old policy when the new one is broken, and says where", function ()
    w:write("policies/mine.lua", "return 5 +")
    daemon:kill(signals.hup)
    daemon:says "mine.lua:1: "
    daemon:says "reload refused: everything goes on as it was"
    w:status(function (text) return text:match '"version":1[^0-9]' and text:match '"state":"up"' end)
    assert.is_truthy(stats():find('"hellos":1,', 1, true))
    -- And a good one after it is taken.
    policy(w, "30s")
    daemon:kill(signals.hup)
    daemon:says "goes on with mine v2"
  end)

  it("tells in status what is wrong before what is only unwise", function ()
    w:write("tok", "secret")
    w:write("policies/mine.lua", "return 5 +")
    w:write("holdfast.lua", w:read "holdfast.lua" .. '\nconnection "loose" { policy = "generic", url = "wss://127.0.0.1:1/", plain = false, headers = { a = secret { file = "tok" } } }\n')
    os.execute("chmod 644 '" .. w.folder .. "/tok'")
    daemon:kill(signals.hup)
    daemon:says "reload refused: everything goes on as it was"
    local out = select(2, w:run { "status", "--socket", "h.sock" }).out
    local first, rest = out:match "files on disk are not what runs\n  ([^\n]*)\n(.*)"
    assert.is_truthy(first and first:find("mine.lua:1: ", 1, true), out)
    assert.is_truthy(rest:find "warning: [^\n]*can be read by its group or others", out)
  end)

  it("keeps everything when the configuration is broken", function ()
    w:write("holdfast.lua", "listen {")
    daemon:kill(signals.hup)
    daemon:says "reload refused"
    local _, run = w:run { "status", "--socket", "h.sock" }
    assert.is_truthy(run.out:find("bot", 1, true))
  end)

  it("adds what was added and closes what was removed", function ()
    config(w, peer.port, ([[
connection "other" {
  policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513, shard_id = 1, shard_count = 2,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
}
]]):format(peer.port))
    daemon:kill(signals.hup)
    daemon:says "reloaded: 1 connection changed, 0 removed, 1 as before"
    w:status(function (text) return text:match '"state":"up"' end, { "other" })
    config(w, peer.port)
    daemon:kill(signals.hup)
    daemon:says "connection=other msg=\"is no longer configured: closing\""
    w:status(function (text) return not text:find('"name":"other"', 1, true) and text:match '"state":"up"' end)
  end)

  it("replaces a connection whose identity changed, one after the other", function ()
    w:write("holdfast.lua", w:read("holdfast.lua"):gsub("intents = 513,", "intents = 513, shard_id = 1, shard_count = 2,"))
    daemon:kill(signals.hup)
    daemon:says "is replaced: its identity or the way it dials changed"
    w:status(function (text) return text:match '"state":"up"' end, { "bot" })
    assert.is_truthy(peer:eventually(function () return stats():find('"open":1,', 1, true) end))
  end)

  it("is refused while the file names other connections with the same identity: each is told", function ()
    config(w, peer.port, ([[
for _, name in ipairs { "twin", "third" } do connection(name) {
  policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
} end
]]):format(peer.port))
    daemon:kill(signals.hup)
    daemon:says "twin: has the same identity as bot"
    daemon:says "third: has the same identity as bot"
    w:up()
  end)
end)
