-- A new version of a policy on trial, on the real daemon with ten connections to the Discord peer: good is adopted, worse
-- is taken back, and status, why, journal, metrics and the API say so. Links stay open.
local world = require "daemon_world"
local control, signals = world.control, world.signals

local COUNT = 10

local function shipped(pattern, by)
  local f = assert(io.open "policies/discord.lua")
  local text = f:read "*a"
  f:close()
  if not pattern then return text end
  local changed, n = text:gsub(pattern, by, 1)
  assert(n == 1, pattern .. " is not in the policy any more")
  return changed
end

local GOOD = { 'settle = "60s"', 'settle = "31s"' }
local BAD = { "greet%s*=%s*function%s*%(conn%)", "greet = function (conn) error 'no such field'" }

describe("a version on trial", function ()
  local w, peer, daemon
  local function config(trial, more, own)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock", http = "127.0.0.1:0" }
policies { path = "policies", watch = false, prove = false%s }
for i = 1, %d do
  connection("bot-" .. i) {
    policy = "mine", token = secret { file = "token-" .. i }, intents = 513,
    api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
    tune = { backoff = { first = "250ms", most = "1s", settle = "1s" }, budgets = { start = { gap = "300ms" } } }, %s
  }
end
%s]]):format(trial and ", trial = " .. trial or "", COUNT, peer.port, own or "", more or ""))
  end
  local function policy(change) w:write("policies/mine.lua", shipped(change and change[1], change and change[2])) end
  local function all_up()
    w:status(function (text)
      local _, up = text:gsub('"state":"up"', "")
      return up >= COUNT
    end)
  end
  local function start(trial)
    config(trial)
    daemon = w:daemon()
    all_up()
  end
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    for i = 1, COUNT do w:write("token-" .. i, "app" .. i .. "." .. world.secret) end
    policy()
  end)
  after_each(function () w:close() end)

  local function command(...)
    return w:run { ... }
  end
  local function reload(...)
    return command("reload", "--socket", "h.sock", ...)
  end
  local function versions(text)
    local count = {}
    for n in text:gmatch '"policy":{"name":"mine","version":(%d+)' do count[tonumber(n)] = (count[tonumber(n)] or 0) + 1 end
    return count
  end
  local function runs(wanted)
    w:status(function (text)
      local count = versions(text)
      for v, n in pairs(wanted) do if count[v] ~= n then return false end end
      return true
    end)
  end
  local function tried_name()
    local _, text = w:status(function (t) return t:match '"trial":"runs mine v2' end)
    for one in text:gmatch '{"name":"bot.-"trial":"[^"]*"' do
      local name = one:match '.*"name":"(bot%-%d+)"'
      if name then return name end
    end
  end
  local function hellos() return tonumber(control(peer, '{"verb":"stats"}'):match '"hellos":(%d+)') end

  it("that does well is adopted when its time is over, and no link was ended for it", function ()
    start '{ share = "30%", watch = "3s" }'
    policy(GOOD)
    local code, run = reload()
    assert.equal(0, code, run.err)
    daemon:says "policy mine: v2 is on trial for 3s on 3 of 10 connections; v1 serves the others"
    daemon:says "policy mine: v2 is adopted: after [%d.]+s: 3 connections, 0 hook errors, 0 reconnects; the others: 7 connections"
    runs { [2] = COUNT }
    assert.equal(COUNT, hellos())
    code, run = command("why", "bot-1", "--json", "--socket", "h.sock")
    assert.equal(0, code, run.err)
    assert.truthy(run.out:find "v2, which was on trial")
    -- The same text again is what runs.
    assert.equal(0, (reload()))
    assert.falsy(daemon.err:find "v3")
  end)

  it("that does worse is taken back by itself, is not tried again until somebody says so, and all can be seen", function ()
    start '{ share = "30%", watch = "2m" }'
    policy(BAD)
    assert.equal(0, (reload()))
    runs { [1] = 7, [2] = 3 }
    local code, run = command("status", "--socket", "h.sock")
    assert.equal(0, code)
    assert.truthy(run.out:match "mine v2 is on trial since %S+.-, until .- at least: tried: 3 connections, 0 hook errors, 0 reconnects; the others: 7 connections", run.out)
    local name = assert(tried_name())
    code, run = command("why", name, "--socket", "h.sock")
    assert.equal(0, code)
    assert.truthy(run.out:gsub("%s+", " "):match "trial runs mine v2, which is on trial on 3 of 10 until .- at least; v1 serves the others", run.out)
    -- An upgrade would run it everywhere.
    code, run = command("upgrade", "--cold", "--socket", "h.sock")
    assert.equal(1, code)
    assert.truthy(run.err:find "v2 of policy mine is on trial", 1, true)

    control(peer, '{"verb":"kick","code":4000}')
    daemon:says "policy mine: v2 is taken back, v1 goes on: %d+ hook errors in %d of 3 connections; none in the other 7.-no such field"
    daemon:says "policies/mine.lua is NOT what runs: v2 of it was taken back"
    runs { [1] = COUNT }
    all_up()
    code, run = command("status", "--socket", "h.sock")
    assert.truthy(run.out:match "policies/mine.lua v2 was taken back at .-: %d+ hook errors.-; the file is NOT what runs: v1 does", run.out)
    local _, json = w:status(function (text) return text:match '"taken_back":%[{"policy":"mine"' end)
    assert.truthy(json:match '"version":2,"serves":1,"at":"[^"]+","verdict":"worse"')
    code, run = command("why", name, "--json", "--socket", "h.sock")
    assert.truthy(run.out:find "mine v2 is taken back, goes on with v1: ", 1, true)

    -- Neither SIGHUP nor a reload tries the same text again.
    code, run = reload()
    assert.equal(0, code)
    assert.truthy(run.err:match "its file still has the text that was taken back at", run.err)
    daemon:kill(signals.hup)
    daemon:says "reloaded: 0 connections changed, 0 removed, 10 as before.*reloaded: 0 connections changed, 0 removed, 10 as before"
    runs { [1] = COUNT }
    assert.equal(0, (reload "--again"))
    runs { [1] = 7, [3] = 3 }
    code, run = reload("mine", "--take-back")
    assert.equal(0, code, run.err)
    assert.equal("taken back mine\n", run.out)
    runs { [1] = COUNT }
    -- And with the old text in its file nothing is wrong any more.
    policy()
    assert.equal(0, (reload()))
    w:status(function (text) return text:find('"taken_back":[]', 1, true) end)
  end)

  local function restarted(signal)
    daemon:kill(signal or signals.term)
    daemon:wait()
    daemon = w:daemon()
    all_up()
  end

  it("that a restart cut begins anew, and what served goes on; what was taken back stays so", function ()
    start '{ share = "10%", watch = "1h" }'
    policy(GOOD)
    assert.equal(0, (reload()))
    runs { [1] = 9, [2] = 1 }
    restarted(signals.kill)
    daemon:says "policy mine: its version was on trial when the process before ended: v1 goes on, and the trial begins anew"
    runs { [1] = 9, [3] = 1 }
    policy { 'settle = "60s"', 'settle = "33s"' }
    assert.equal(0, (reload()))
    runs { [1] = 9, [4] = 1 }
    assert.equal(0, (reload("mine", "--take-back")))
    runs { [1] = COUNT }
    for _ = 1, 2 do -- however often
      restarted()
      daemon:says "policies/mine.lua is NOT what runs: it has the text that was taken back at %S+; v1 goes on"
      runs { [1] = COUNT }
      w:status(function (text) return text:match '"taken_back":%[{"policy":"mine","file":"policies/mine.lua","version":4,"serves":1,' end)
    end
    local code, run = reload()
    assert.equal(0, code)
    assert.truthy(run.err:match "its file still has the text that was taken back at", run.err)
    runs { [1] = COUNT }
    assert.equal(0, (reload "--again"))
    runs { [1] = 9, [5] = 1 }
    assert.equal(0, (reload("mine", "--adopt")))
    runs { [5] = COUNT }
    -- Adopted: it is what runs, from its file, and nothing is said of it.
    restarted()
    runs { [1] = COUNT }
    assert.falsy(daemon.err:find("NOT what runs", 1, true))
    assert.falsy(daemon.err:find("trial", 1, true))
  end)

  it("that was taken back is forgotten once its file is seen to while nothing runs", function ()
    start '{ share = "10%", watch = "1h" }'
    policy(GOOD)
    assert.equal(0, (reload()))
    runs { [1] = 9, [2] = 1 }
    assert.equal(0, (reload("mine", "--take-back")))
    daemon:kill(signals.term)
    daemon:wait()
    policy()
    daemon = w:daemon()
    all_up()
    assert.falsy(daemon.err:find("taken back", 1, true))
    -- With no trial wished for, the text of then runs everywhere, and after a restart as well.
    config()
    policy(GOOD)
    assert.equal(0, (reload()))
    runs { [2] = COUNT }
    restarted()
    assert.falsy(daemon.err:find("taken back", 1, true))
    runs { [1] = COUNT }
  end)

  it("runs everywhere after a restart where what served fits no more, which is said loudly", function ()
    start '{ share = "10%", watch = "1h" }'
    w:write("policies/mine.lua", shipped("options%s*=%s*{", 'options = { colour = { type = "string" },'))
    assert.equal(0, (reload()))
    runs { [1] = 9, [2] = 1 }
    assert.equal(0, (reload("mine", "--take-back")))
    daemon:kill(signals.term)
    daemon:wait()
    config('{ share = "10%", watch = "1h" }', nil, 'colour = "red",')
    daemon = w:daemon()
    all_up()
    daemon:says "policies/mine.lua is the text that was taken back at %S+: an operator wished so; it runs everywhere since this start"
  end)

  it("can be adopted by a person, and ended by another text or by the old one", function ()
    start '{ share = "10%", watch = "1h" }'
    policy(GOOD)
    assert.equal(0, (reload()))
    runs { [1] = 9, [2] = 1 }
    -- The same text: it goes on.
    assert.equal(0, (reload()))
    runs { [1] = 9, [2] = 1 }
    policy { 'settle = "60s"', 'settle = "32s"' }
    assert.equal(0, (reload()))
    daemon:says "the trial of v2 is over without a verdict: another version came"
    runs { [1] = 9, [3] = 1 }
    policy()
    assert.equal(0, (reload()))
    daemon:says "v3 is taken back, v1 goes on: its file has the text of before again"
    runs { [1] = COUNT }
    w:status(function (text) return text:find('"trials":[],"taken_back":[]', 1, true) end)
    policy(GOOD)
    assert.equal(0, (reload()))
    runs { [1] = 9, [4] = 1 }
    local code, run = reload("mine", "--adopt")
    assert.equal(0, code, run.err)
    assert.equal("adopted mine\n", run.out)
    runs { [4] = COUNT }
    code, run = reload("mine", "--adopt")
    assert.equal(1, code)
    assert.truthy(run.err:find("no version of a policy `mine` is on trial", 1, true))
    assert.equal(COUNT, hellos())
  end)

  it("is skipped by --now, and where the configuration names no trial", function ()
    start '{ share = "10%", watch = "1h" }'
    policy(GOOD)
    assert.equal(0, (reload "--now"))
    runs { [2] = COUNT }
    config()
    policy()
    assert.equal(0, (reload()))
    runs { [3] = COUNT }
    assert.falsy(daemon.err:find "is on trial")
  end)

  it("goes on when settings change meanwhile, which must fit both", function ()
    start '{ share = "10%", watch = "1h" }'
    w:write("policies/mine.lua", shipped("options%s*=%s*{", 'options = { colour = { type = "string" },'))
    assert.equal(0, (reload()))
    runs { [1] = 9, [2] = 1 }
    config('{ share = "10%", watch = "1h" }', nil, 'colour = "red",')
    local code, run = reload()
    assert.equal(1, code)
    assert.truthy(run.err:find("a version on trial must be able to go", 1, true), run.err)
    runs { [1] = 9, [2] = 1 }
    config('{ share = "10%", watch = "1h" }', nil, "shard_count = 2,")
    code, run = reload()
    assert.equal(0, code, run.err)
    runs { [1] = 9, [2] = 1 }
    local name = tried_name()
    assert.truthy(name)
    -- The tried one is removed: another one takes its place.
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub("for i = 1, 10 do", "for i = 1, 10 do if i ~= " .. name:match "%d+" .. " then ", 1)
      :gsub("\n  }\nend", "\n  }\nend end", 1)))
    code, run = reload()
    assert.equal(0, code, run.err)
    runs { [1] = 8, [2] = 1 }
    assert.equal(0, (reload("mine", "--adopt")))
    runs { [2] = 9 }
  end)
end)
