-- `holdfast status` of many connections: trouble first, and fit for any width.
local world = require "daemon_world"
local control = world.control

describe("status of many connections", function ()
  local w, peer, daemon

  -- One that comes up, one that an operator stops, and `failing` that nobody answers.
  local function open(failing)
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
connection "bot" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem" }
for i = 1, %d do
  connection("deaf-" .. i) { policy = "generic", url = "ws://127.0.0.1:1/" .. i,
    tune = { backoff = { first = "5m", most = "5m", jitter = "none" } } }
end
]]):format(peer.port, failing))
    daemon = w:daemon()
    w:status(function (text)
      local _, waiting = text:gsub('"state":"waiting"', "")
      return waiting == failing and text:match '"state":"up"'
    end)
  end
  after_each(function () w:close() end)

  -- Without what is said of the weather, which comes within a second of three that fail.
  local function lines(text)
    local list = {}
    for line in text:gmatch "[^\n]+" do
      if not line:match "^generic: %d+ of %d+ connections failing at connecting since %d%d:%d%d UTC, one cause: refused$" then
        list[#list + 1] = line
      end
    end
    return list
  end

  it("counts them, shows trouble first and what an operator stopped last", function ()
    open(3)
    assert.equal(0, (w:run { "stop", "deaf-2" }))
    w:status(function (text) return text:match '"state":"stopped"' end)
    local code, run = w:run { "status" }
    assert.equal(0, code)
    local all = lines(run.out)
    assert.equal("1 of 4 are up (1 alive), 2 waiting, 1 stopped", all[1])
    assert.is_truthy(all[2]:match "^NAME +STATE +LIFE +FOR +FAILED +CAUSE +NEXT +.*IN +OUT +BACKLOG +POLICY$", all[2])
    assert.is_truthy(all[3]:match "^deaf%-1 +waiting +%- +%S+ +1 +connection refused.* dial in 4m", all[3])
    assert.is_truthy(all[4]:match "^deaf%-3 +waiting ", all[4])
    assert.is_truthy(all[5]:match "^bot +up +alive ", all[5])
    assert.is_truthy(all[6]:match "^deaf%-2 +stopped ", all[6])
    assert.equal(6, #all)
  end)

  it("fits 500 into 80 columns and keeps what matters most there", function ()
    open(499)
    for _, width in ipairs { 80, 100, 120, 160 } do
      local _, run = w:run({ "status" }, { env = { COLUMNS = tostring(width) } })
      local all = lines(run.out)
      assert.equal(502, #all)
      assert.equal("1 of 500 are up (1 alive), 499 waiting", all[1])
      for i = 2, #all do
        assert.is_true(#all[i]:gsub("[\128-\191]", "") <= width, width .. ": " .. all[i])
        assert.is_truthy(i == 2 or all[i]:match "^%S+ +%l+ ")
      end
      for _, head in ipairs { "NAME", "STATE", "FOR", "CAUSE", "NEXT" } do assert.is_truthy(all[2]:find(head, 1, true)) end
      assert.equal(width >= 120, all[2]:find("POLICY", 1, true) ~= nil, all[2])
      assert.is_truthy(all[3]:match "connection refused", all[3])
    end
  end)

  it("says first what many of them have in common", function ()
    open(5)
    w:status(function (text) return text:match '"weather":%[{' end)
    local _, run = w:run { "status" }
    assert.is_truthy(run.out:match "^generic: 5 of 5 connections failing at connecting since %d%d:%d%d UTC, one cause: refused\n1 of 6 are up", run.out)
    local _, why = w:run { "why", "deaf-3" }
    assert.is_truthy(why.out:match "\n  weather +generic: 5 of 5 connections failing", why.out)
  end)

  it("says a peer in doubt where it is up", function ()
    open(1)
    local found = w:status(function (text) return text:match '"life":{[^}]*}' end)
    assert.is_truthy(found:match '"verdict":"dead"' or found:match '"verdict":"alive"')
    local _, run = w:run { "status", "bot" }
    assert.is_truthy(run.out:match "\n  life +alive: an event [^\n]+\n", run.out)
    assert.is_truthy(run.out:match "\n  kernel +round trip %d+%.%d ms, %d+ segments unacknowledged, %d+ sent again, last data %S+ ago\n", run.out)
    assert.is_truthy(run.out:match "\n  loop +%d+%.%d ms late in the last second, at most %d+%.%d ms in the last minute\n", run.out)
    local _, json = w:run { "status", "deaf-1" }
    assert.is_truthy(json.out:match "\n  life +dead: no link serves: waiting for ", json.out)
    assert.is_nil(json.out:match "\n  kernel")
  end)

  it("--watch shows it again each second until it is interrupted, and the change that came", function ()
    open(1)
    local watch = w:start { "status", "--watch" }
    watch:says "1 of 2 are up.-1 of 2 are up"
    control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    watch:says "0 of 2 are up, 1 waiting, 1 stopped %(1 for good%)"
    watch:kill(world.signals.int)
    assert.equal(0, (watch:wait()))
    assert.is_nil(watch.out:find("\27", 1, true))
    assert.equal(2, (w:run { "status", "bot", "--watch" }))
  end)

  it("--watch --json is one object a line, and ends when nobody serves any more", function ()
    open(1)
    local watch = w:start { "status", "--watch", "--json" }
    watch:says '{"connections":.-\n{"connections":.-\n'
    daemon:stop()
    assert.equal(1, (watch:wait()))
  end)
end)
