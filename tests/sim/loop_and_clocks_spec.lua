-- A loop that got no time, clocks that were set: being slow is not being dead, and time that was set buys nothing.
local world = require "hook_world"
local discord = require "discord_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

describe("a loop that stands still", function ()
  for _, lasts in ipairs { "5s", "30s", "44s", "2m", "10m" } do
    it("for " .. lasts .. " kills no link whose peer is alive", function ()
      s = world.new()
      world.connect(s, "a")
      world.connect(s, "b", {}, { alive = [[{ ping = "1s", silence = "2s" }]] })
      s:up("a", "5s")
      s:up("b", "5s")
      s:advance "70s"
      s:stall(lasts)
      s:quiet "30m"
      assert.equal(1, s:view("a").generation)
      assert.equal(1, s:view("b").generation)
      s:close()
    end)
  end

  it("again and again kills none either", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    for i = 1, 200 do s:at(i * 37000, function () s:stall "29s" end) end
    s:quiet "3h"
    s:close()
  end)

  it("still finds a peer that died meanwhile", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    s:advance "70s"
    s:at("5s", function () s:stall "2m" end)
    s:at("10s", function () s:fault("half_open", { times = 1 }) end)
    s:advance "6m"
    assert.equal(2, s:view("a").generation)
    assert.equal("up", s:state "a")
    s:close()
  end)
end)

describe("a wall clock that is set", function ()
  for _, by in ipairs { "-24h", "-1h", "-1m", "1m", "1h", "25h", "365d" } do
    it("by " .. by .. " ends no link and moves no beat", function ()
      s = world.new()
      world.connect(s, "a")
      s:up("a", "5s")
      s:advance "70s"
      local from = s:now()
      s:wall_step(by)
      s:quiet "10m"
      assert.is_true(world.assert_beats(s, "a", 10000, from) >= 59)
      s:close()
    end)
  end

  it("to and fro never refills a budget", function ()
    s, p = discord.new { peer = { faults = { close_after_identify = 1000 } } }
    local draw = 1
    for i = 1, 24 * 12 do
      s:at(i * 300000, function ()
        draw = draw * 16807 % 2147483647
        s:wall_step(({ -86400000, 86400000, 3600000, -3600000, 400 * 86400000, -400 * 86400000 })[draw % 6 + 1])
      end)
    end
    s:advance "24h"
    local log, most, first = p:control "log", 0, 1
    for i = 1, #log do
      while log[i].at - log[first].at >= 3600000 do first = first + 1 end
      most = math.max(most, i - first + 1)
    end
    assert.is_true(most <= 22, most .. " in an hour")
    assert.is_true(#log <= 298 and #log >= 100, #log .. " in a day")
    s:close()
  end)

  it("forward during a wait neither shortens nor lengthens it", function ()
    s, p = discord.new { peer = { faults = { http = { status = 429, times = 1, body = "{}", headers = { ["Retry-After"] = "600" } } } } }
    s:advance "1m"
    s:wall_step "2h"
    s:wall_step "-30d"
    s:up("a", "12m")
    local calls = s:http()
    assert.equal(2, #calls)
    assert.is_true(calls[2].at - calls[1].at >= 600000 and calls[2].at - calls[1].at <= 640000)
    s:close()
  end)
end)

describe("a suspend", function ()
  it("shorter than the interval is no end, a longer one is", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    s:advance "70s"
    s:suspend "3s"
    s:advance "1m"
    assert.equal(1, s:view("a").generation)
    s:suspend "5m"
    s:advance "10s"
    assert.equal(2, s:view("a").generation)
    assert.equal("suspend", s:view("a").cause.kind)
    s:close()
  end)

  it("while waiting, preparing, linking or greeting gets stuck nowhere", function ()
    for _, state in ipairs { "waiting", "preparing", "linking", "closing", "queued" } do
      s, p = discord.new { peer = { faults = { ready_delay = 2000, http = { status = 503, times = 1 } } }, sim = { latency = "100ms" } }
      if state == "closing" then
        s:up("a", "1m")
        s:fault("no_close_answer", {})
        p:control("op7")
      elseif state == "queued" then
        s:up("a", "1m")
        p:control("expire")
        p:control("kick", { code = 4009 })
      end
      s:reach("a", state, "1m")
      s:suspend "8h"
      s:heal()
      p:control("fault", { ready_delay = false, http = false })
      s:advance "2m"
      assert.equal("up", s:state "a", state)
      s:close()
      s = nil
    end
  end)
end)
