-- Fetched values that are renewed before their end, and what they cost: calls, not links.
local sim = require "holdfast.sim"

local function policy(fetch, classify)
  return ([[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "test", about = "for this spec",
  options = { token = { type = "secret", required = true }, shard = { type = "integer", default = 0 },
              api = { type = "url", default = "https://mute.test" } },
  identity = { "token", "shard" }, account = { "token" }, hosts = { "mute.test" },
  backoff = { first = "1s", most = "10s" },
  classify = { %s { any = true, verdict = "resume" } },
  fetch = { token = { %s, call = function (conn)
    local res, name = conn:http { url = conn.options.api .. "/token" }
    if not res then conn:fail("unreachable", name) end
    if not res.ok then conn:fail("refused", res) end
    return res.body
  end } },
  prepare = function (conn) return { url = conn:get "token" and "wss://mute.test/ws" } end,
}
]]):format(classify or "", fetch)
end

local HOUR, MINUTE = 3600000, 60000
local RENEWED = 'keep = "1h", renew = { "30s", "50s" }'

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

local function world(fetch, classify, seed)
  s = sim.new { seed = seed or 1 }
  s:peer("mute", { host = "mute.test", options = { url = "wss://mute.test/ws" } })
  s:connection("a", { token = s:secret "t", policy = policy(fetch, classify) })
  s:up("a", "10s")
end

local function gaps(from)
  local out, calls = {}, s:http()
  for i = (from or 1) + 1, #calls do out[#out + 1] = calls[i].at - calls[i - 1].at end
  return out
end

describe("a value with `renew`", function ()
  it("is fetched anew 30 to 50 s before each of its ends, while the link does not notice", function ()
    for seed = 1, 10 do
      world(RENEWED, nil, seed)
      s:quiet("10h", "a")
      local list = gaps()
      assert.equal(10, #list)
      for _, gap in ipairs(list) do assert.is_true(gap >= HOUR - 50500 and gap <= HOUR - 29500, "after " .. gap) end
      assert.equal(1, s:view("a").generation)
      s:close()
    end
  end)

  it("is not fetched without it, until somebody asks", function ()
    world 'keep = "1h"'
    s:advance "10h"
    assert.equal(1, #s:http())
    s:restart "a"
    s:run_until(function () return s:view("a").generation == 2 and s:state "a" == "up" end, "10s")
    assert.equal(2, #s:http())
    s:close()
  end)

  it("is asked for again within 30 s of every failure, and serves dials until its own end", function ()
    world(RENEWED)
    s:advance "50m"
    local before = #s:http()
    local fault = s:fault("http_status", { what = "call", status = 500 })
    s:advance(9 * MINUTE + 40000)
    assert.is_true(#s:http() > before)
    s:restart "a"
    s:run_until(function () return s:view("a").generation == 2 and s:state "a" == "up" end, "10s")
    s:advance "3m"
    assert.equal("up", s:state "a", "its end is not the link's")
    for _, gap in ipairs(gaps(before + 1)) do assert.is_true(gap <= 30500, "after " .. gap) end
    assert.is_true(#s:http() - before >= 6)
    fault:off()
    s:advance "31s"
    local calls = s:http()
    assert.equal(200, calls[#calls].status)
    s:quiet("1h", "a")
    assert.is_true(#s:http() - #calls <= 2, "the ladder begins anew")
    s:close()
  end)

  it("that the rules call fatal is left alone until it is needed, and the link lives on", function ()
    world(RENEWED, '{ cause = "refused", http = 403, verdict = "stop", note = "the secret is not valid" },')
    s:advance "50m"
    local before = #s:http()
    s:fault("http_status", { what = "call", status = 403 })
    s:quiet("24h", "a")
    assert.equal(before + 1, #s:http())
    local alarm
    for _, e in ipairs(s:journal "a") do alarm = alarm or e.kind == "alarm" and e.text end
    assert.truthy(alarm and alarm:find("token was not renewed", 1, true), tostring(alarm))
    s:restart "a"
    s:reach("a", "stopped", "10s")
    assert.equal(403, s:view("a").cause.http)
    s:close()
  end)

  it("waits as long as the rules say after a failure", function ()
    world(RENEWED, '{ cause = "refused", verdict = "resume", delay = "5m" },')
    s:advance "50m"
    local before = #s:http()
    s:fault("http_status", { what = "call", status = 429, lasts = "25m" })
    s:advance "40m"
    for _, gap in ipairs(gaps(before + 1)) do assert.is_true(gap >= 5 * MINUTE, "after " .. gap) end
    assert.equal(5, #s:http() - before)
    assert.equal(200, s:http()[#s:http()].status)
    s:close()
  end)

  it("costs one call for all the connections of its account", function ()
    world(RENEWED)
    for shard = 1, 9 do
      s:connection("b" .. shard, { token = s:secret "t", shard = shard, policy = policy(RENEWED) })
    end
    s:advance "70m"
    for _, name in ipairs(s.names) do assert.equal("up", s:state(name)) end
    assert.equal(2, #s:http())
    -- And whoever asked last may go.
    for shard = 1, 9 do s:remove("b" .. shard) end
    s:advance "1h"
    assert.equal(3, #s:http())
    s:close()
  end)

  it("is let alone once nobody wants it, and fetched anew for who comes back", function ()
    world(RENEWED)
    s:stop "a"
    s:advance "5h"
    assert.equal(1, #s:http())
    s:start "a"
    s:up("a", "10s")
    assert.equal(2, #s:http())
    s:close()
  end)

  it("that brings ever less time is asked for ever sooner, never in a tight loop", function ()
    -- The call's own word about how long it is good.
    s = sim.new { seed = 1 }
    s:peer("mute", { host = "mute.test", options = { url = "wss://mute.test/ws" } })
    local text = policy('keep = "1h", renew = { "30s", "50s" }'):gsub("return res.body", 'return res.body, { keep = "1s" }')
    s:connection("a", { token = s:secret "t", policy = text })
    s:up("a", "10s")
    s:advance "10m"
    for _, gap in ipairs(gaps()) do assert.is_true(gap >= 2000, "after " .. gap) end
    s:close()
  end)

  it("ages while the machine sleeps", function ()
    world 'keep = "1h"'
    s:suspend "2h"
    s:run_until(function () return s:view("a").generation == 2 and s:state "a" == "up" end, "10s")
    assert.equal(2, #s:http())
    s:close()
  end)
end)

describe("a value with `pause`", function ()
  it("is not asked for again so soon after a failure, by whichever connection", function ()
    s = sim.new { seed = 1 }
    s:peer("mute", { host = "mute.test", options = { url = "wss://mute.test/ws" } })
    local text = policy('keep = "1h", pause = "60s"',
      '{ cause = "fetch_gap", verdict = "resume", counts = false, delay_from = "retry_after" },')
    s:fault("http_status", { what = "call", status = 500, lasts = "20m" })
    for shard = 0, 9 do
      s:connection("c" .. shard, { token = s:secret "t", shard = shard, policy = text })
    end
    s:advance "20m"
    for _, gap in ipairs(gaps()) do assert.is_true(gap >= 60000, "after " .. gap) end
    assert.is_true(#s:http() >= 15, #s:http() .. " calls")
    s:advance "3m"
    for _, name in ipairs(s.names) do assert.equal("up", s:state(name)) end
    s:close()
  end)

  it("serves its old value meanwhile where it may be stale", function ()
    world 'keep = "10m", pause = "5m", stale = true'
    s:advance "11m"
    s:fault("http_status", { what = "call", status = 500 })
    for n = 2, 6 do
      s:restart "a"
      s:run_until(function () return s:view("a").generation == n and s:state "a" == "up" end, "10s")
      s:advance "20s"
    end
    assert.equal(2, #s:http())
    s:close()
  end)
end)

describe("a session with `life`", function ()
  local text = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "test", about = "for this spec",
  options = { token = { type = "secret", required = true } },
  identity = { "token" }, account = { "token" }, hosts = { "mute.test" },
  session = { of = "token", replay = "session", %s },
  classify = { { any = true, verdict = "resume" } },
  prepare = function () return { url = "wss://mute.test/ws" } end,
  greet = function (conn)
    conn.session = conn.session.id and { id = conn.session.id, resumed = (conn.session.resumed or 0) + 1 } or { id = "s" .. conn.generation }
  end,
}
]]
  local function live(says)
    s = sim.new { seed = 1 }
    s:peer("mute", { host = "mute.test" })
    s:connection("a", { token = s:secret "t", policy = text:format(says) })
    s:up("a", "10s")
  end
  local function again()
    local n = s:view("a").generation
    s:restart "a"
    s:run_until(function () return s:view("a").generation > n and s:state "a" == "up" end, "10s")
    return s:session "a"
  end

  it("is resumed until it is that old, however often it was used, and begun anew then", function ()
    live 'life = "24h"'
    for n = 1, 23 do
      s:advance "1h"
      assert.equal(n, again().resumed)
    end
    s:advance "61m"
    local session = again()
    assert.is_nil(session.resumed)
    assert.equal("s25", session.id)
    s:advance "23h"
    assert.equal(1, again().resumed)
    s:close()
  end)

  it("is as old after the process was killed", function ()
    live 'life = "24h"'
    s:advance "20h"
    s:crash_and_restart { after = "1h" }
    s:up("a", "10s")
    assert.equal(1, s:session("a").resumed)
    s:advance "4h"
    assert.is_nil(again().resumed)
    s:close()
  end)

  it("is only as old as it seems when the wall clock went back", function ()
    live 'life = "24h"'
    s:advance "1h"
    s:wall_step "-10h"
    assert.equal(1, again().resumed)
    s:close()
  end)

  it("that is too old by `age` is not shown to the hooks of the attempt that starts a new one", function ()
    live 'age = "10m"'
    s:advance "1m"
    local gone = s:fault("refuse", {})
    s:restart "a"
    s:advance "20m"
    gone:off()
    s:up("a", "2m")
    assert.is_nil(s:session("a").resumed)
    assert.is_true(s:session("a").id ~= "s1")
    s:close()
  end)
end)
