-- /healthz and /readyz of the real daemon: what they depend on, and what they do not.
local world = require "daemon_world"
local api = require "api_client"
local control = world.control

describe("readiness", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
  end)
  after_each(function () w:close() end)

  local function get(path)
    local status, body = api.request(daemon, w.folder .. "/h.sock", "GET", path)
    return { status, body }
  end
  local READY, WELL = { 200, { ready = true } }, { 200, { ok = true } }

  it("is of the daemon and not of its connections: a standby whose connections are stopped is ready", function ()
    w:config(peer.port, 'store { path = "h.db" }')
    daemon = w:daemon()
    assert.same(READY, get "/readyz")
    assert.equal(0, (w:run { "stop", "bot" }))
    assert.same(READY, get "/readyz")
    daemon:stop()
    daemon = w:daemon() -- the wish outlives it: nothing is dialled, and it could at once
    assert.same(READY, get "/readyz")
    assert.same(WELL, get "/healthz")
    assert.is_truthy(w:status(function (t) return t:match '"state":"stopped"' end))
    assert.equal(0, (w:run { "start", "bot" }))
    w:up()
  end)

  it("stays while a platform is down: whose doing that is, the summary says", function ()
    w:config(peer.port)
    control(peer, '{"verb":"fault","http":{"status":503},"upgrade":{"status":503}}')
    daemon = w:daemon()
    w:status(function (t) return t:match '"http_status":503' end)
    assert.same(READY, get "/readyz")
    assert.same(WELL, get "/healthz")
    local summary = get "/v1/summary"[2]
    assert.same({ false, "platform" }, { summary.well, summary.worst.whose })
  end)

  it("is not taken by a second daemon on the same store, which is refused", function ()
    w:config(peer.port, 'store { path = "h.db" }')
    daemon = w:daemon()
    w:write("second.lua", (w:read "holdfast.lua":gsub('unix = "h.sock"', 'unix = "second.sock"')))
    local second = w:start { "run", "-c", "second.lua" }
    assert.are_not.equal(0, (second:wait()))
    assert.is_truthy((second.err .. second.out):find("h.db", 1, true), second.err .. second.out)
    assert.same(READY, get "/readyz")
    assert.is_false(os.rename(w.folder .. "/second.sock", w.folder .. "/second.sock") and true or false)
  end)
end)
