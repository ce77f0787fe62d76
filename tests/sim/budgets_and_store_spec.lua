-- Budgets are an account's, fair among its connections, and durable before they are used: no dial that will
-- start a session without a permit on the disk.
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

-- Eight connections of one account: the token is the account, `n` tells identities apart.
local function account(tables)
  local text = world.policy({}, tables)
  return (text:gsub("options = { token", "options = { n = { type = \"integer\", default = 0 }, token", 1)
    :gsub("identity = { \"token\" }", "identity = { \"token\", \"n\" }", 1))
end

local function starts(names)
  local out = {}
  for _, name in ipairs(names) do
    for _, at in ipairs(world.instants(s, name, 2)) do out[#out + 1] = { at = at, name = name } end
  end
  table.sort(out, function (a, b) return a.at < b.at end)
  return out
end

describe("a start budget that eight connections share", function ()
  local names
  local function eight(windows, gap)
    s = world.new()
    names = {}
    local text = account { budgets = ("{ start = { frame = { op = 2 }, windows = { %s }, gap = %q } }"):format(windows, gap) }
    for i = 1, 8 do
      names[i] = "c" .. i
      s:connection(names[i], { policy = text, token = s:secret("one", "token"), n = i })
    end
  end

  it("is given out in the order of asking, one after the gap", function ()
    eight("{ 100, '1h' }", "5s")
    s:advance "1m"
    local order = starts(names)
    assert.equal(8, #order)
    local seen = {}
    for i = 1, 8 do
      seen[order[i].name] = true
      if i > 1 then
        local gap = order[i].at - order[i - 1].at
        -- The permit is claimed 5 s apart; the frames travel as long as their dials take.
        assert.is_true(gap >= 4800 and gap <= 5300, "gap of " .. gap)
      end
    end
    for _, name in ipairs(names) do
      assert.is_true(seen[name], name)
      assert.equal("up", s:state(name))
    end
    s:close()
  end)

  it("goes round: whoever failed last asks last", function ()
    eight("{ 8, '10m' }", "0s")
    s:advance "5s"
    -- Every session is lost, again and again; in each window each one gets its one start.
    for _ = 1, 6 do
      local from = s:now()
      for _, name in ipairs(names) do s:stop(name) end
      s:advance "2s"
      for _, name in ipairs(names) do s:start(name) end
      s:advance "10m"
      local count = {}
      for _, start in ipairs(starts(names)) do
        if start.at >= from then count[start.name] = (count[start.name] or 0) + 1 end
      end
      for _, name in ipairs(names) do assert.equal(1, count[name], name) end
    end
    s:close()
  end)

  it("starves nobody when one of them fails all the time", function ()
    eight("{ 20, '10m' }", "2s")
    local bad = s:fault("reset", { connection = "c1", stage = "greeting" })
    s:advance "30m"
    for i = 2, 8 do assert.equal("up", s:state(names[i]), names[i]) end
    assert.is_true(s:view("c1").attempts >= 10)
    bad:off()
    s:heal()
    s:advance "30m"
    assert.equal("up", s:state "c1")
    s:close()
  end)

  it("survives a crash: what was spent stays spent", function ()
    eight("{ 10, '1h' }", "0s")
    s:advance "5s"
    assert.equal(8, #starts(names))
    for _ = 1, 5 do
      for _, name in ipairs(names) do s:stop(name) end
      s:advance "2s"
      for _, name in ipairs(names) do s:start(name) end
      s:crash_and_restart { after = "3s" }
      s:advance "30s"
    end
    local first, most = 1, 0
    local all = starts(names)
    for i = 1, #all do
      while all[i].at - all[first].at >= 3600000 do first = first + 1 end
      most = math.max(most, i - first + 1)
    end
    assert.equal(10, most)
    s:close()
  end)
end)

describe("a permit that cannot be stored", function ()
  it("is no permit: nothing is dialled, and it recovers by itself", function ()
    s = world.new()
    local broken = s:fault("store_fail", {})
    world.connect(s, "a")
    s:advance "10m"
    assert.equal(0, #s:dials "a")
    assert.equal(0, s:disk("a").permits)
    assert.equal("store", s:view("a").cause.kind)
    assert.is_true(s:view("a").attempts >= 5 and s:view("a").attempts <= 60, s:view("a").attempts .. " attempts")
    broken:off()
    s:heal()
    s:up("a", "2m")
    assert.equal(1, s:disk("a").permits)
    s:close()
  end)

  it("delays the dial as long as the disk takes, and no longer than prepare may", function ()
    s = world.new()
    local slow = s:fault("store_delay", { ms = "3s" })
    world.connect(s, "a")
    s:up("a", "10s")
    assert.is_true(s:dials("a")[1].at >= 3000)
    slow:off()
    s:stop "a"
    s:reach("a", "stopped")
    s:fault("store_delay", { ms = "25s" })
    s:start "a"
    s:advance "5m"
    assert.equal(1, #s:dials "a")
    assert.is_true(s:view("a").failed >= 3)
    s:heal()
    s:up("a", "2m")
    s:close()
  end)

  it("does not touch a link that is up, nor a resume", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    s:advance "70s"
    local broken = s:fault("store_fail", {})
    s:quiet "1h"
    s:fault("reset", { times = 1 })
    s:advance "10s"
    assert.equal("up", s:state "a")
    assert.equal(2, s:view("a").generation)
    assert.equal(1, #world.instants(s, "a", 2))
    broken:off()
    s:close()
  end)
end)

describe("an account", function ()
  it("lets two connections fetch once, and both get the answer", function ()
    s = world.new()
    local p = s:peer("mute", { host = "api.echo.test", options = { url = "wss://echo.test/ws" } })
    local text = account {}:gsub('return "wss://echo.test/ws"',
      'local res = conn:http { url = "https://api.echo.test/where" } or conn:fail "gone" return res.json.url')
    for i = 1, 6 do s:connection("c" .. i, { policy = text, token = s:secret("one", "token"), n = i }) end
    s:connection("other", { policy = text, token = s:secret("two", "token"), n = 1 })
    s:advance "10s"
    for i = 1, 6 do assert.equal("up", s:state("c" .. i)) end
    assert.equal("up", s:state "other")
    assert.equal(2, p:stats().requests)
    -- While one fetch is under way the others wait for it, also when its connection is stopped.
    s:advance "2h"
    local slow = s:fault("slow", { host = "api.echo.test", ms = "400ms" })
    for i = 1, 6 do s:restart("c" .. i) end
    s:advance "1s"
    s:stop "c1"
    s:advance "20s"
    for i = 2, 6 do assert.equal("up", s:state("c" .. i), "c" .. i) end
    slow:off()
    s:close()
  end)

  it("with a value that may be stale dials by it while the renewal fails, and not without that", function ()
    for _, stale in ipairs { true, false } do
      s = world.new()
      local p = s:peer("mute", { host = "api.echo.test", options = { url = "wss://echo.test/ws" } })
      local text = account {}:gsub('return "wss://echo.test/ws"',
        'local res = conn:http { url = "https://api.echo.test/where" } or conn:fail "gone" return res.json.url')
        :gsub('keep = "1h"', 'keep = "1h", stale = ' .. tostring(stale))
      s:connection("a", { policy = text, token = s:secret("one", "token") })
      s:up("a", "5s")
      s:advance "2h"
      s:name("api.echo.test", nil)
      s:fault("reset", { times = 1 })
      s:advance "1m"
      assert.equal(stale and "up" or "waiting", s:state "a" == "preparing" and "waiting" or s:state "a")
      if not stale then assert.equal("gone", s:view("a").cause.name) end
      s:name("api.echo.test", p)
      s:heal()
      s:up("a", "2m")
      s:close()
      s = nil
    end
  end)
end)
