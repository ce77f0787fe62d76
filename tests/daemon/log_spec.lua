-- The log of the real daemon: fields for machines, and a storm that does not drown the disk.
local world = require "daemon_world"
local json = require "dkjson"
local control = world.control

describe("the daemon's log", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  -- Lines of JSON for which check(line) holds.
  local function lines(daemon, check)
    local list = {}
    for line in daemon.err:gmatch "[^\n]+" do
      local object = assert(json.decode(line), "no JSON: " .. line)
      if not check or check(object) then list[#list + 1] = object end
    end
    return list
  end

  it("as JSON has an object a line, and each decision and state its connection, generation, cause, verdict and next", function ()
    local peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    local daemon = w:start { "run", "--log", "json" }
    daemon:says '"msg":"holdfast %S+ runs'
    w:up()
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    daemon:says '"kind":"decision"'
    w:status(function (text) return text:match '"ready_total":2' end)
    daemon:says '"to":"up".-"to":"up"'
    local decision = lines(daemon, function (l) return l.kind == "decision" end)[1]
    assert.equal("bot", decision.connection)
    assert.equal(1, decision.generation)
    assert.same({ "closed", "ready", "peer", 4000 }, { decision.cause, decision.stage, decision.by, decision.close_code })
    assert.equal("resume", decision.verdict)
    assert.equal("dial", decision.next)
    assert.is_true(decision.next_in_ms >= 250)
    local up = lines(daemon, function (l) return l.kind == "state" and l.to == "up" end)
    assert.equal(2, #up)
    assert.equal("linking", up[2].from)
    assert.equal(2, up[2].generation)
    assert.is_string(up[2].next)
    control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    daemon:says '"level":"alarm".-"verdict":"stop"'
    local _, run = w:run({ "run", "--log", "xml" })
    assert.is_truthy(run.err:match "%-%-log is human, logfmt or json, not `xml`", run.err)
    daemon:stop()
    assert.is_true(#lines(daemon) > 5)
  end)

  it("writes fifty lines of one cause in a storm, and says how many it left out", function ()
    w:write("holdfast.lua", [[
listen { unix = "h.sock" }
for i = 1, 300 do
  connection("deaf-" .. i) { policy = "generic", url = "ws://127.0.0.1:1/" .. i,
    tune = { backoff = { first = "5m", most = "5m", jitter = "equal" } } }
end
]])
    local daemon = w:start({ "run" }, { env = { HOLDFAST_LOG_FORM = "json" } })
    daemon:says "holdfast %S+ runs 300 connection"
    w:status(function (text)
      local _, waiting = text:gsub('"state":"waiting"', "")
      return waiting == 300
    end)
    daemon:says '"weather: generic: 300 of 300'
    daemon:stop()
    local refused = lines(daemon, function (l) return l.cause == "refused" end)
    assert.equal(50, #refused)
    local left = lines(daemon, function (l) return l.msg:match "lines like these were left out" end)
    assert.equal(tostring(300 - 50), left[1].msg:match "^(%d+) more lines like these were left out: cause refused, stage connecting$")
    assert.is_true(#lines(daemon) < 200)
    -- What is left out of the log is in each journal all the same.
  end)
end)
