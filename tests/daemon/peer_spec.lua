local world = require "daemon_world"
local control = world.control

describe("peer", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("says where it listens, writes its CA, and ends with 0 on SIGTERM", function ()
    local peer = w:peer()
    assert.is_truthy(w:read("ca.pem"):find("BEGIN CERTIFICATE", 1, true))
    assert.equal(0, peer:stop())
  end)

  it("speaks plain http with --plain, and refuses --ca-out then", function ()
    local peer = w:start { "peer", "discord", "--port", "0", "--plain" }
    peer:says "listening on http://127%.0%.0%.1:%d+\n"
    local code, run = w:run { "peer", "discord", "--port", "0", "--plain", "--ca-out", "x.pem" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("there is no certificate", 1, true))
  end)

  it("answers controls, and says what is wrong with others", function ()
    local peer = w:peer()
    assert.is_truthy(control(peer, '{"verb":"stats"}'):find('"hellos":0', 1, true))
    assert.is_truthy(control(peer, '{"verb":"explode"}'):find('no control', 1, true))
    assert.is_truthy(control(peer, 'stats'):find('"error":"not JSON', 1, true))
    assert.is_truthy(control(peer, '{"word":"stats"}'):find('"error":"a control is', 1, true))
  end)

  it("goes on when nobody steers it any more", function ()
    local peer = w:peer()
    peer.process:close_input()
    w:config(peer.port)
    w:daemon()
    w:up()
  end)

  it("plays faults from the start, from a list and from a file", function ()
    local peer = w:peer({}, { "--faults", "silent_hello=1,ready_delay=10" })
    w:config(peer.port, "")
    w:write("faults.json", '{ "http": { "status": 500, "times": 2 } }')
    local second = w:peer({}, { "--faults", "faults.json" })
    w:config(second.port)
    w:daemon()
    w:up()
    assert.is_truthy(control(second, '{"verb":"stats"}'):find('"http":3,', 1, true))
  end)

  it("takes JSON and text as options", function ()
    local peer = w:peer { "events_every=50", "limit={\"total\":7}" }
    w:config(peer.port)
    w:daemon()
    local tail = w:start { "tail", "--from", "start" }
    tail:says '"number":3'
    assert.is_truthy(control(peer, '{"verb":"stats"}'):find('"remaining":6', 1, true))
  end)

  it("refuses a port that is taken, one that is none, and a platform that nobody plays", function ()
    local peer = w:peer()
    local cases = {
      { { "peer", "discord", "--port", tostring(peer.port) }, 1 },
      { { "peer", "discord", "--port", "70000" }, 2 },
      { { "peer", "discord", "--port", "x" }, 2 },
      { { "peer", "discord" }, 2 },
      { { "peer", "--port", "0" }, 2 },
      { { "peer", "icq", "--port", "0" }, 1 },
      { { "peer", "../discord", "--port", "0" }, 1 },
      { { "peer", "discord", "--port", "0", "--option", "alone" }, 2 },
      { { "peer", "discord", "--port", "0", "--faults", "absent.json" }, 2 },
    }
    for _, case in ipairs(cases) do
      local code, run = w:run(case[1])
      assert.equal(case[2], code, table.concat(case[1], " ") .. ": " .. run.out .. run.err)
      assert.is_truthy(run.err:match "^holdfast: [^\n]+\n", run.err)
    end
  end)

  it("says where it looked for a peer that is not there, and what is wrong with one that is, once", function ()
    local _, absent = w:run { "peer", "icq", "--port", "0" }
    assert.is_truthy(absent.err:match "^holdfast: peer icq: there is no /%S+/lua/peers/icq%.lua; HOLDFAST_LUA names",
                     absent.err)
    w:write("lua/peers/icq.lua", "return { start = function () error 'no power' end }")
    local code, broken = w:run({ "peer", "icq", "--port", "0" }, { env = { HOLDFAST_LUA = "lua" } })
    assert.equal(1, code)
    assert.is_truthy(broken.err:find("no power", 1, true), broken.err)
    w:write("lua/peers/icq.lua", "return {")
    local _, unread = w:run({ "peer", "icq", "--port", "0" }, { env = { HOLDFAST_LUA = "lua" } })
    assert.is_truthy(unread.err:match "^holdfast: peer icq: [^\n]*lua/peers/icq%.lua:1:", unread.err)
    assert.is_nil(unread.err:find("peer icq: peer icq", 1, true), unread.err)
  end)
end)

describe("test", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local spec = [[
local sim = require "holdfast.sim"
describe("a bot", function ()
  it("comes up", function ()
    local s = sim.new { seed = 7 }
    local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" } })
    s:connection("a", { policy = "discord", token = s:secret "1.x", intents = 513, api = p.url .. "/api/v10" })
    s:run_until(function () return s:state "a" == "%s" end, "30s")
    assert.equal("%s", s:state "a")
    s:close()
  end)
end)
]]

  it("runs specs against the simulator, with the shipped policies", function ()
    w:write("bot_spec.lua", spec:format("up", "up"))
    local code, run = w:run { "test", "bot_spec.lua" }
    assert.equal(0, code, run.out .. run.err)
    assert.is_truthy(run.out:find("1 success", 1, true), run.out)
  end)

  it("exits with a code other than 0 when a spec fails", function ()
    w:write("bot_spec.lua", spec:format("up", "stopped"))
    local code, run = w:run { "test", "bot_spec.lua" }
    assert.is_true(code ~= nil and code ~= 0)
    assert.is_truthy(run.out:find("1 failure", 1, true), run.out .. run.err)
  end)

  it("says what to install when busted is missing", function ()
    w:write("bot_spec.lua", spec:format("up", "up"))
    local code, run = w:run({ "test", "bot_spec.lua" }, { env = { LUA_PATH = w.folder .. "/?.lua" } })
    assert.equal(1, code)
    assert.is_truthy(run.err:find("busted is not installed: install Debian's package lua-busted", 1, true), run.err)
  end)
end)
