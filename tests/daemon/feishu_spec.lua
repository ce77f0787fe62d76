-- A Feishu app without Feishu: the example configuration, `holdfast peer feishu` and a daemon beside it.
local world = require "daemon_world"
local control = world.control

describe("Feishu on this machine", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local ENV = { env = { FEISHU_APP_SECRET = world.secret } }

  local function example()
    local file = assert(io.open "examples/feishu.lua")
    local text = file:read "*a"
    file:close()
    return text
  end

  it("has an example that is checked without a complaint", function ()
    w:write("examples/feishu.lua", example())
    local code, run = w:run({ "check", "-c", "examples/feishu.lua" }, ENV)
    assert.equal(0, code, run.err)
    assert.is_nil(run.err:find "warning")
  end)

  it("is the example with two lines more: the peer plays, the daemon comes up, events arrive and are acknowledged", function ()
    local peer = w:start { "peer", "feishu", "--port", "0", "--ca-out", "ca.pem", "--option", "events_every=50" }
    peer.port = peer:says "listening on https?://127%.0%.0%.1:(%d+)"
    local text = example():gsub('%-%- domain  = "https://127%.0%.0%.1:9443"', ('domain  = "https://127.0.0.1:%s"'):format(peer.port))
      :gsub("%-%- ca_file", "ca_file"):gsub("%.%./run/", ""):gsub("%.%./var/", "")
    w:write("holdfast.lua", text)
    w:daemon(ENV)
    w:up()
    local tail = w:start({ "tail", "--from", "start" }, ENV)
    tail:says '"number":3'
    local stats = control(peer, '{"verb":"stats"}')
    assert.is_truthy(stats:find('"acks_wrong":0', 1, true), stats)
    assert.is_truthy(tonumber(stats:match '"acks":(%d+)') >= 2, stats)
  end)
end)
