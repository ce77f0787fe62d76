-- What people and consumers ask for comes at any moment: in each state of a connection every wish is carried
-- out, no wish gets lost, nothing leaks, and every send is answered exactly once.
local world = require "hook_world"
local sim = require "holdfast.sim"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

-- How to bring "a" into each state, and keep it there for a little.
local STATES = {
  stopped = function ()
    s:stop "a"
    s:reach("a", "stopped")
  end,
  waiting = function ()
    s:fault("refuse", { lasts = "10s" })
    s:fault("reset", { times = 1 })
    s:run_until(function () return s:state "a" == "waiting" and s:view("a").failed >= 2 end, "30s")
  end,
  queued = function ()
    s:stop "a"
    s:reach("a", "stopped")
    for _ = 1, 20 do
      s:start "a"
      if pcall(s.reach, s, "a", "queued", "2s") then break end
      s:stop "a"
      s:reach("a", "stopped")
    end
    s:reach("a", "queued", "10s")
  end,
  preparing = function ()
    s:fault("store_delay", { ms = "2s", lasts = "3s" })
    s:stop "a"
    s:reach("a", "stopped")
    s:start "a"
    s:reach("a", "preparing")
  end,
  linking = function ()
    s:fault("slow", { ms = "700ms", lasts = "3s" })
    s:restart "a"
    s:reach("a", "linking", "10s")
    s:advance "100ms"
  end,
  greeting = function ()
    s:restart "a"
    s:run_until(function ()
      local l = s:view("a").links[1]
      return l and l.state == "greeting"
    end, "10s")
  end,
  up = function () s:up("a", "1m") end,
  closing = function ()
    s:fault("no_close_answer", { lasts = "3s" })
    s:restart "a"
    s:reach("a", "closing")
  end,
}
local NAMES = {}
for name in pairs(STATES) do NAMES[#NAMES + 1] = name end
table.sort(NAMES)

local function new()
  s = world.new { latency = "50ms" }
  world.connect(s, "a", {}, { budgets = [[{ start = { frame = { op = 2 }, windows = { { 6, "10m" } }, gap = "2s" },
                                            send = { windows = { { 60, "60s" } }, beats = 5 } }]] })
  world.connect(s, "other")
  s:up("a", "10s")
  s:advance "61s"
end

describe("in each state", function ()
  for _, state in ipairs(NAMES) do
    it("a stop stops (" .. state .. ")", function ()
      new()
      STATES[state]()
      s:stop "a"
      s:reach("a", "stopped", "20s")
      local attempts = s:view("a").attempts
      s:advance "1h"
      assert.equal("stopped", s:state "a")
      assert.equal(attempts, s:view("a").attempts)
      assert.equal(0, s:descriptors("a").open)
      assert.same({}, s:session "a")
      s:close()
    end)

    it("a start, a restart and a start again come up (" .. state .. ")", function ()
      new()
      STATES[state]()
      s:start "a"
      s:restart "a"
      s:start "a"
      s:heal()
      s:advance "15m"
      assert.equal("up", s:state "a")
      assert.equal(1, s:descriptors("a").most)
      s:close()
    end)

    it("a removal removes, and the identity is free again (" .. state .. ")", function ()
      new()
      STATES[state]()
      s:remove "a"
      s:run_until(function () return s:stats().connections == 1 end, "20s")
      assert.equal(1, s:stats().descriptors)
      s:connection("again", { policy = world.policy(), token = s:secret("a-token", "token") })
      s:heal()
      s:up("again", "2m")
      s:close()
    end)

    it("a stop and a start at the same instant come up again (" .. state .. ")", function ()
      new()
      STATES[state]()
      s:stop "a"
      s:start "a"
      s:heal()
      s:advance "15m"
      assert.equal("up", s:state "a")
      s:close()
    end)

    it("a reload keeps what is, and comes up (" .. state .. ")", function ()
      new()
      STATES[state]()
      local generation, before = s:view("a").generation, s:state "a"
      s:reload("a", world.policy({}, { limits = [[{ prepare = "9s", call = "4s", resolve = "4s", connect = "4s", secure = "4s",
        upgrade = "4s", greeting = "19s", close = "1s" }]] }))
      assert.equal(before, s:state "a")
      assert.equal(generation, s:view("a").generation)
      if before == "up" then
        s:quiet("30m", "a")
        assert.equal(generation, s:view("a").generation)
      elseif before ~= "stopped" then
        s:heal()
        s:advance "15m"
        assert.equal("up", s:state "a")
      end
      s:close()
    end)

    it("a crash comes back to what was wished (" .. state .. ")", function ()
      new()
      STATES[state]()
      local wanted = s:state "a" ~= "stopped"
      s:crash_and_restart { after = "5s" }
      s:heal()
      s:advance "15m"
      assert.equal(wanted and "up" or "stopped", s:state "a")
      s:close()
    end)

    it("a shutdown is over within its limits (" .. state .. ")", function ()
      new()
      STATES[state]()
      s:shutdown "20s"
      assert.equal(0, s:stats().descriptors)
      s:abandon()
    end)

    it("sends are answered once each (" .. state .. ")", function ()
      new()
      local c = s:consumer { name = "bot", connections = { "a" } }
      STATES[state]()
      local lines = {}
      for i = 1, 100 do
        lines[i] = ('{"send":{"id":"%s%d","connection":"a","frame":{"op":0,"n":%d}}}\n'):format(state, i, i)
      end
      c:input(table.concat(lines))
      s:at("1s", function () s:restart "a" end)
      s:heal { check = false }
      s:advance "20m"
      local answers = {}
      for _, text in ipairs(c:lines()) do
        local line = sim.decode(text)
        local answer = line.sent or line.refused
        if answer and answer.id then answers[answer.id] = (answers[answer.id] or 0) + 1 end
      end
      for i = 1, 100 do assert.equal(1, answers[state .. i], "answers to " .. i) end
      assert.is_true(#world.instants(s, "a", 0) <= 100)
      s:close()
    end)
  end
end)

describe("an identity", function ()
  it("has one connection: a second one is refused by name, and may come when the first has gone", function ()
    s = world.new()
    world.connect(s, "a")
    local settings = { policy = world.policy(), token = s:secret("a-token", "token") }
    local ok, why = s:try_connection("b", settings)
    assert.is_nil(ok)
    assert.truthy(why:find '"a"', why)
    assert.truthy(why:find "identity", why)
    s:up("a", "5s")
    ok = s:try_connection("b", settings)
    assert.is_nil(ok)
    s:stop "a"
    s:reach("a", "stopped")
    ok = s:try_connection("b", settings)
    assert.is_nil(ok)
    s:remove "a"
    s:run_until(function () return s:stats().connections == 0 end, "5s")
    assert.is_true(s:try_connection("b", settings))
    s:up("b", "5s")
    s:close()
  end)
end)

describe("tasks of a policy", function ()
  it("run while ready, once each per interval, also after a reload and on the next link", function ()
    s = world.new()
    world.connect(s, "a", { on_frame = "" })
    s:up("a", "5s")
    local function ticks(time)
      local from = s:now()
      s:advance(time)
      local count = 0
      for _, at in ipairs(world.instants(s, "a", 9)) do
        if at > from then count = count + 1 end
      end
      return count
    end
    assert.equal(20, ticks "10m")
    for _ = 1, 5 do s:reload("a", world.policy({ on_frame = "" })) end
    assert.is_true(math.abs(ticks "10m" - 20) <= 1)
    s:fault("reset", { times = 1 })
    s:advance "5s"
    assert.is_true(math.abs(ticks "10m" - 20) <= 1)
    s:fault("refuse", { lasts = "20m" })
    s:fault("reset", { times = 1 })
    s:advance "1s"
    assert.equal(0, ticks "10m")
    s:close()
  end)

  it("that fail are journaled and counted, and end nothing", function ()
    s = world.new()
    world.connect(s, "a", { every = "error 'of course'" })
    s:up("a", "5s")
    s:quiet("2h", "a")
    local said = world.journal(s, "a", "hook")
    assert.is_true(#said >= 10)
    assert.truthy(said[1]:find "of course", 1, true)
    s:close()
  end)
end)
