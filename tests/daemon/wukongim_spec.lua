-- WuKongIM as an operator and a bot meet it: the real binary, its peer on a real port, messages in and out.
local world = require "daemon_world"
local json = require "dkjson"
local control = world.control

local pipe = io.popen "pwd"
local here = pipe:read "*l"
pipe:close()

describe("a WuKongIM bot behind holdfast", function ()
  local w, peer
  local TOKEN = "bf_" .. world.secret
  local ENV = { env = { WUKONGIM_BOT_TOKEN = TOKEN } }

  local function start_peer(options)
    local words = { "peer", "wukongim", "--port", "0", "--ca-out", "ca.pem" }
    for _, o in ipairs(options or {}) do
      words[#words + 1] = "--option"
      words[#words + 1] = o
    end
    peer = w:start(words)
    peer.port = peer:says "listening on https?://127%.0%.0%.1:(%d+)"
    return peer
  end

  local function config(more)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
store { path = "h.db" }
connection "greeter" {
  policy = "wukongim", bot_token = secret { env = "WUKONGIM_BOT_TOKEN" }, api = "https://127.0.0.1:%s", ca_file = "ca.pem",
  tune = { backoff = { first = "250ms", most = "1s" } }, %s
}
]]):format(peer.port, more or ""))
  end

  local function stats()
    local answer = json.decode((control(peer, '{"verb":"stats"}')))
    return answer.answer or answer
  end
  local function until_stats(check)
    return peer:eventually(function () return check(stats()) end)
  end

  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("comes up from the example, whose only missing word is the token", function ()
    start_peer { "events_every=100" }
    local f = assert(io.open "examples/wukongim.lua")
    local text = f:read "*a"
    f:close()
    text = text:gsub('\n  api       = "[^\n]*', ""):gsub("%-%- (api%s+= \"https://127%.0%.0%.1:)9443", "%1" .. peer.port)
      :gsub("%-%- (ca_file = \"ca%.pem\")", "%1")
    text = text:gsub('"%.%./run/holdfast%.sock"', '"h.sock"'):gsub('"%.%./var/holdfast%.db"', '"h.db"')
      :gsub('"%.%./policies"', ("%q"):format(here .. "/policies"))
    w:write("holdfast.lua", text)
    assert.equal(0, (w:run({ "check" }, ENV)))
    local code, run = w:run({ "check" }, { env = { WUKONGIM_BOT_TOKEN = false } })
    assert.equal(1, code)
    assert.truthy((run.out .. run.err):find "WUKONGIM_BOT_TOKEN")
    w:daemon(ENV)
    w:up()
    local tail = w:start { "tail", "--consumer", "bot" }
    tail:says '"content":"message 3"'
    assert.truthy(until_stats(function (s) return s.acks >= 3 end))
  end)

  it("sends what a bot sends, encrypted, and hands its acknowledgement on", function ()
    start_peer()
    config()
    w:daemon(ENV)
    w:up()
    local tail = w:start { "tail" }
    tail:says '"hello"'
    local code, run = w:run { "send", "greeter",
      '{"packet":"send","channel_id":"u_alice","channel_type":1,"client_seq":7,"payload":{"type":1,"content":"hi"}}' }
    assert.equal(0, code, run.out .. run.err)
    tail:says '"packet":"sendack"'
    assert.equal("hi", stats().last_send.payload.content)
    code, run = w:run { "send", "greeter", '{"packet":"ping"}' }
    assert.not_equal(0, code)
    assert.truthy((run.out .. run.err):find("does not accept", 1, true))
  end)

  it("knows a message again after it was killed, comes back as the same device, and registers once per start", function ()
    start_peer()
    config()
    local daemon = w:daemon(ENV)
    w:up()
    control(peer, '{"verb":"message"}')
    assert.truthy(until_stats(function (s) return s.acks == 1 end))
    daemon:kill(world.signals.kill)
    daemon:wait()
    w:daemon(ENV)
    w:up()
    assert.truthy(until_stats(function (s) return s.sessions == 1 end))
    control(peer, '{"verb":"repeat_message","packet":{"packet":"recv","message_id":"1906561204000000001","message_seq":1,'
      .. '"from_uid":"u_alice","channel_id":"u_alice","channel_type":1,"timestamp":1,"payload":{"number":1}}}')
    control(peer, '{"verb":"message"}')
    assert.truthy(until_stats(function (s) return s.acks == 3 end))
    local tail = w:start { "tail", "--from", "start" }
    tail:says '"content":"message 2"'
    assert.equal(1, select(2, tail.out:gsub('"message_id":"1906561204000000001"', "")))
    local log = json.decode((control(peer, '{"verb":"log"}')))
    local devices, registers = {}, 0
    for _, e in ipairs(log.answer or log) do
      if e.kind == "connect" then devices[#devices + 1] = e.device end
      if e.kind == "register" then
        registers = registers + 1
        assert.equal(0, e.live)
      end
    end
    assert.equal(2, registers)
    assert.equal(devices[1], devices[2])
  end)

  it("says in status and why that another installation uses the token, and shows no secret", function ()
    start_peer()
    config()
    w:daemon(ENV)
    w:up()
    control(peer, '{"verb":"kick"}')
    w:status(function (text) return text:match '"state":"waiting"' end)
    local _, run = w:run { "why", "greeter" }
    assert.truthy(run.out:find("somebody else took over its identity", 1, true), run.out)
    assert.truthy(run.out:find("another client's, which uses the same credentials", 1, true), run.out)
    local _, status = w:run { "status", "--json" }
    assert.is_nil((run.out .. status.out):find(TOKEN, 1, true))
  end)
end)
