-- Slack as an operator and a bot meet it: the real binary, its peer on a real port, replies over the local API.
local world = require "daemon_world"
local socket = require "unit.ops"
local json = require "dkjson"
local control = world.control

local pipe = io.popen "pwd"
local here = pipe:read "*l"
pipe:close()

local function absolute(path) return path:sub(1, 1) == "/" and path or here .. "/" .. path end

describe("a Slack app behind holdfast", function ()
  local w, peer
  local TOKEN = "xapp-1-A0TEST-" .. world.secret
  local ENV = { env = { SLACK_APP_TOKEN = TOKEN } }

  local function start_peer(options)
    local words = { "peer", "slack", "--port", "0", "--ca-out", "ca.pem" }
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
connection "helpdesk" {
  policy = "slack", app_token = secret { env = "SLACK_APP_TOKEN" }, api = "https://127.0.0.1:%s/api", ca_file = "ca.pem",
  tune = { backoff = { first = "250ms", most = "1s" } }, %s
}
]]):format(peer.port, more or ""))
  end

  local function stats() return json.decode(control(peer, '{"verb":"stats"}'):match '^{"answer":(.*)}$' or control(peer, '{"verb":"stats"}')) end
  local function until_stats(check)
    return peer:eventually(function ()
      local answer = stats()
      return check(answer.answer or answer)
    end)
  end

  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("comes up from the example, whose only missing word is the token", function ()
    start_peer { "events_every=100" }
    local f = assert(io.open "examples/slack.lua")
    local text = f:read "*a"
    f:close()
    text = text:gsub("%-%- (api%s+= \"https://127%.0%.0%.1:)9443", "%1" .. peer.port):gsub("%-%- (ca_file = \"ca%.pem\")", "%1")
    text = text:gsub('"%.%./run/holdfast%.sock"', '"h.sock"'):gsub('"%.%./var/holdfast%.db"', '"h.db"')
      :gsub('"%.%./policies"', ("%q"):format(here .. "/policies"))
    w:write("holdfast.lua", text)
    assert.equal(0, (w:run({ "check" }, ENV)))
    local code, run = w:run({ "check" }, { env = { SLACK_APP_TOKEN = false } })
    assert.equal(1, code)
    assert.truthy((run.out .. run.err):find "SLACK_APP_TOKEN")
    w:daemon(ENV)
    w:up()
    local tail = w:start { "tail", "--consumer", "helpdesk-bot" }
    tail:says '"type":"events_api"'
    tail:says '"text":"message %d+"'
    assert.truthy(until_stats(function (s) return s.acks >= 3 end))
  end)

  it("gives Slack the reply that the owner's acknowledgement carries", function ()
    start_peer()
    config 'owner = "bot",'
    local daemon = w:daemon(ENV)
    w:up()
    local fd, got = assert(socket.connect(absolute(w.folder .. "/h.sock"))), ""
    local function heard(pattern)
      return assert(daemon:eventually(function ()
        got = got .. (socket.read(fd) or "")
        return got:match(pattern)
      end), got)
    end
    socket.write(fd, '{"attach":{"consumer":"bot","connections":["helpdesk"]}}\n')
    heard '"hello"'
    control(peer, '{"verb":"slash","command":"/deploy"}')
    local event = json.decode((heard '({"event":[^\n]*/deploy[^\n]*})\n')).event
    assert.equal(0, stats().acks)
    socket.write(fd, json.encode { ack = { connection = "helpdesk", epoch = event.epoch, offset = event.offset,
      frame = { envelope_id = event.frame.envelope_id, payload = { text = "on its way" } } } } .. "\n")
    assert.truthy(until_stats(function (s) return s.acks == 1 end))
    assert.same({ text = "on its way" }, stats().replies[event.frame.envelope_id])
    socket.shut(fd)
  end)

  it("knows an event again after it was killed: acknowledged, not delivered twice", function ()
    start_peer { "lifetime=false" }
    config()
    local daemon = w:daemon(ENV)
    w:up()
    control(peer, '{"verb":"event"}')
    assert.truthy(until_stats(function (s) return s.acks == 1 end))
    daemon:kill(world.signals.kill)
    daemon:wait()
    daemon = w:daemon(ENV)
    w:up()
    assert.truthy(until_stats(function (s) return s.open == 1 end))
    control(peer, '{"verb":"event","id":"Ev0000000001","retry":1}')
    control(peer, '{"verb":"event"}')
    assert.truthy(until_stats(function (s) return s.acks == 3 end))
    local tail = w:start { "tail", "--from", "start" }
    tail:says '"event_id":"Ev0000000002"'
    local count = select(2, tail.out:gsub('"event_id":"Ev0000000001"', ""))
    assert.equal(1, count)
  end)

  it("stops and says why when the token is refused, and why names what to do", function ()
    start_peer { "token=xapp-1-A0TEST-other" }
    config()
    w:daemon(ENV)
    w:status(function (text) return text:match '"state":"stopped"' end)
    local _, run = w:run { "why", "helpdesk" }
    assert.truthy(run.out:find("invalid_auth", 1, true), run.out)
    assert.truthy(run.out:find("xapp- token with connections:write", 1, true), run.out)
    assert.equal(1, stats().opens)
  end)
end)
