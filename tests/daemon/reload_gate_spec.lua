-- The reload gate on the real daemon: a policy that would hurt does not get in, a good one does, and links stay
-- open meanwhile.
local world = require "daemon_world"
local api = require "api_client"
local signals, control = world.signals, world.control

local function shipped()
  local f = assert(io.open "policies/discord.lua")
  local text = f:read "*a"
  f:close()
  return text
end

local function changed(text, pattern, by)
  local out, n = text:gsub(pattern, by, 1)
  assert(n == 1, pattern .. " is not in the policy any more")
  return out
end

local ANY = '{ any = true, verdict = "resume" }'

describe("the reload gate", function ()
  local w, peer, daemon
  local function config(prove)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
policies { path = "policies", watch = false%s }
connection "bot" {
  policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
}
]]):format(prove and ", prove = " .. prove or "", peer.port))
  end
  local function start(prove)
    config(prove)
    daemon = w:daemon()
    w:up()
  end
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:write("policies/mine.lua", shipped())
  end)
  after_each(function () w:close() end)

  local function stats() return control(peer, '{"verb":"stats"}') end
  local function reload(more)
    local args = { "reload", "--socket", "h.sock" }
    for _, a in ipairs(more or {}) do args[#args + 1] = a end
    local run = w:start(args)
    return run:wait(120000), run
  end
  local function runs_version(n)
    w:status(function (text) return text:match('"version":' .. n .. "[^0-9]") and text:match '"state":"up"' end)
    assert.truthy(stats():find('"hellos":1,', 1, true))
  end

  it("takes a version that keeps the promises, and says that it was proven", function ()
    start '"2m"'
    w:write("policies/mine.lua", changed(shipped(), 'settle = "60s"', 'settle = "30s"'))
    local code, run = reload()
    assert.equal(0, code, run.err)
    assert.equal("reloaded\n", run.out)
    daemon:says "proving mine before it is taken; what runs goes on"
    daemon:says "policy mine as tuned for connection bot: proven, %d+ schedules of faults"
    runs_version(2)
    -- The same text again is known.
    assert.equal(0, (reload()))
  end)

  local hurtful = {
    ["never settle"] = { 'within = "60s" }%) or conn:fail "no_ready"', 'within = "60s" }) or conn:fail "no_ready"\n    conn:fail "never"', "I6" },
    ["stop in silence"] = { ANY, '{ stage = "upgrading", http = "500-599", verdict = "stop" }, ' .. ANY, "I6" },
    ["loop tightly"] = { 'backoff  = %b{}', 'backoff = { first = "250ms", factor = 1, most = "250ms", floor = "250ms", jitter = "none", settle = "1s" }', "I3" },
    ["resume a dead session for ever"] = { "climb = %b{},", "climb = {},", "I6" },
  }
  for name, case in pairs(hurtful) do
    it("refuses a version that would " .. name .. ", and says promise, schedule and line", function ()
      start '"2m"'
      w:write("policies/mine.lua", changed(shipped(), case[1], case[2]))
      local code, run = reload()
      assert.equal(1, code)
      assert.truthy(run.err:find("policy mine as tuned for connection bot: refused: " .. case[3] .. " is broken (", 1, true), run.err)
      assert.truthy(run.err:find("schedule: ", 1, true), run.err)
      if name ~= "loop tightly" then assert.truthy(run.err:find "decided by %S*mine%.lua:%d+", run.err) end
      daemon:says "reload refused: everything goes on as it was"
      runs_version(1)
    end)
  end

  it("proves a connection's tune, and refuses one that breaks what the policy keeps", function ()
    start '"2m"'
    local before = w:read "holdfast.lua"
    local function tuned(tune)
      w:write("holdfast.lua", (before:gsub('tune = { budgets', 'tune = { ' .. tune .. ', budgets', 1)))
      return reload()
    end
    local code, run = tuned 'backoff = { first = "250ms", factor = 1, most = "250ms", floor = "250ms", jitter = "none", settle = "1s" }'
    assert.equal(1, code)
    assert.truthy(run.err:find("policy mine as tuned for connection bot: refused: I3 is broken (", 1, true), run.err)
    code, run = tuned 'backoff = { settle = "45s" }'
    assert.equal(0, code, run.err)
    daemon:says "policy mine as tuned for connection bot: proven, %d+ schedules of faults"
    -- Known by now: the tune before runs no more, this one does.
    assert.equal(0, (reload()))
    runs_version(1)
  end)

  it("proves a tune of any length, and says of how many it was not fully done", function ()
    start '"2m"'
    local before = w:read "holdfast.lua"
    local rows = {}
    for i = 1, 40 do rows[i] = ('{ code = %d, verdict = "resume", as = "a_name_to_make_it_long_%d" }'):format(4500 + i, i) end
    local long = "classify = { " .. table.concat(rows, ", ") .. " }"
    local function tuned(tune)
      w:write("holdfast.lua", (before:gsub("tune = { budgets", function () return "tune = { " .. tune .. ", budgets" end, 1)))
      return reload()
    end
    local code, run = tuned(long .. ', backoff = { first = "250ms", factor = 1, most = "250ms", floor = "250ms", jitter = "none", settle = "1s" }')
    assert.equal(1, code)
    assert.truthy(run.err:find("policy mine as tuned for connection bot: refused: I3 is broken (", 1, true), run.err)
    -- More tunes than there is time for: each is counted, and the reload is not refused for that.
    local many = { (before:gsub('prove = "2m"', 'prove = "1ms"')) }
    for i = 1, 70 do
      many[#many + 1] = ([[connection "c%d" { policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
        api = "https://127.0.0.1:1/api/v10", shard_id = %d, shard_count = 100, tune = { backoff = { most = "%ds" } } }]]):format(i, i, 60 + i)
    end
    w:write("holdfast.lua", table.concat(many, "\n"))
    assert.equal(0, (reload { "--unproven" }))
    daemon:says "62 more tunes are taken unproven: an operator wished so"
    w:write("holdfast.lua", (table.concat(many, "\n"):gsub('most = "(%d+)s"', 'most = "%1000ms"')))
    code, run = reload()
    assert.equal(0, code, run.err)
    assert.truthy(run.err:find "policy mine: not fully proven: 70 of 70 tunes, such as that of connection c1: the time was over, %d+ schedules", run.err)
    -- And it is known: neither is it proven, nor told, again.
    code, run = reload()
    assert.same({ 0, "" }, { code, run.err })
  end)

  it("is told of by status, summary and metrics until a reload is taken", function ()
    start '"2m"'
    local function status() return select(2, w:run { "status", "--socket", "h.sock" }).out end
    assert.falsy(status():find("reload", 1, true))
    w:write("policies/mine.lua", changed(shipped(), "climb = %b{},", "climb = {},"))
    assert.equal(1, (reload()))
    local text = status()
    assert.truthy(text:find "reload refused at %S+, %S+ ago: files on disk are not what runs", text)
    assert.truthy(text:find("policy mine as tuned for connection bot: refused: I6 is broken (", 1, true), text)
    local function get(target) return select(2, api.request(daemon, w.folder .. "/h.sock", "GET", target)) end
    local told = get("/v1/summary").reload
    assert.same({ "nothing", true, 1 }, { told.doing, told.refused, #told.problems })
    assert.truthy(told.problems[1]:find("I6 is broken", 1, true))
    local metrics = get "/metrics"
    assert.truthy(metrics:find("\nholdfast_reload_refused 1\n", 1, true))
    assert.truthy(metrics:find('\nholdfast_reloads_total{result="refused"} 1\n', 1, true))
    -- A policy that nobody uses says nothing about the files.
    assert.equal(1, (reload { "nobody" }))
    assert.truthy(status():find "policy mine as tuned for connection bot: refused")
    w:write("policies/mine.lua", shipped())
    assert.equal(0, (reload()))
    assert.falsy(status():find("refused", 1, true))
    metrics = get "/metrics"
    assert.truthy(metrics:find("\nholdfast_reload_refused 0\n", 1, true))
    assert.truthy(metrics:find('\nholdfast_reloads_total{result="taken"} 1\n', 1, true))
  end)

  it("lets a version past it with --unproven, and journals that", function ()
    start '"2m"'
    w:write("policies/mine.lua", changed(shipped(), "climb = %b{},", "climb = {},"))
    local code, run = reload { "--unproven" }
    assert.equal(0, code, run.err)
    daemon:says "policy mine as tuned for connection bot is taken unproven: an operator wished so"
    runs_version(2)
    local _, status = w:run { "status", "bot", "--socket", "h.sock" }
    assert.truthy(status.out:find("a version that is unproven, because an operator wished so", 1, true), status.out)
  end)

  it("takes a version that was not fully proven in the time, and says so", function ()
    start '"1ms"'
    w:write("policies/mine.lua", changed(shipped(), 'settle = "60s"', 'settle = "30s"'))
    local code, run = reload()
    assert.equal(0, code, run.err)
    assert.truthy(run.err:find("policy mine as tuned for connection bot: not fully proven: the time was over", 1, true), run.err)
    runs_version(2)
    local _, status = w:run { "status", "bot", "--socket", "h.sock" }
    assert.truthy(status.out:find("a version that is not fully proven", 1, true), status.out)
  end)

  it("is switched off by `prove = false`", function ()
    start "false"
    w:write("policies/mine.lua", changed(shipped(), "climb = %b{},", "climb = {},"))
    assert.equal(0, (reload()))
    daemon:says "policy mine as tuned for connection bot is taken unproven: the configuration says so"
    runs_version(2)
  end)

  it("does not hold up the loop: others are answered while it proves, and a second reload waits for the same answer", function ()
    start '"2m"'
    w:write("policies/mine.lua", changed(shipped(), 'settle = "60s"', 'settle = "30s"'))
    local first = w:start { "reload", "--socket", "h.sock" }
    daemon:says "proving mine"
    local second = w:start { "reload", "mine", "--socket", "h.sock" }
    assert.equal(0, (w:run { "status", "--socket", "h.sock" }))
    -- A signal is not lost: it comes after the one that is under way.
    daemon:kill(signals.hup)
    assert.equal(0, (first:wait(120000)))
    assert.equal(0, (second:wait(120000)))
    assert.equal("reloaded mine\n", second.out)
    daemon:says("reloaded: 1 connection changed.-reloaded: 0 connections changed", 60000)
    runs_version(2)
  end)

  it("ends at once when the daemon ends", function ()
    start '"2m"'
    w:write("policies/mine.lua", changed(shipped(), 'settle = "60s"', 'settle = "30s"'))
    daemon:kill(signals.hup)
    daemon:says "proving mine"
    daemon:kill(signals.term)
    assert.equal(0, (daemon:wait(20000)))
  end)

  it("proves the text that is there at the end, when it changes meanwhile", function ()
    start '"2m"'
    w:write("policies/mine.lua", changed(shipped(), 'settle = "60s"', 'settle = "30s"'))
    local run = w:start { "reload", "--socket", "h.sock" }
    daemon:says "proving mine"
    w:write("policies/mine.lua", changed(shipped(), "climb = %b{},", "climb = {},"))
    assert.equal(1, (run:wait(120000)))
    assert.truthy(run.err:find("I6 is broken", 1, true), run.err)
    runs_version(1)
  end)
end)
