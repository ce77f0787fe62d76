-- A reload while something waits: links stay, and deadlines that the new numbers change are re-armed, counted
-- from where they began, not from the reload.
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

local function limits(greeting)
  return ([[{ prepare = "10s", call = "5s", resolve = "5s", connect = "5s", secure = "5s", upgrade = "5s",
              greeting = %q, close = "1s" }]]):format(greeting)
end

describe("a reload", function ()
  it("while greeting shortens and lengthens the greeting's limit from its begin", function ()
    for _, case in ipairs { { "60s", "10s" }, { "20s", "50s" } } do
      s = world.new()
      world.connect(s, "a", { greet = "conn:await { op = 12345 }" }, { limits = limits(case[1]) })
      local began = s:run_until(function ()
        local l = s:view("a").links[1]
        return l and l.state == "greeting" and l.since
      end, "5s")
      s:advance "5s"
      s:reload("a", world.policy({ greet = "conn:await { op = 12345 }" }, { limits = limits(case[2]) }))
      s:run_until(function () return #s:closes "a" > 0 end, "70s")
      local took, due = s:closes("a")[1].at - began, tonumber(case[2]:match "%d+") * 1000
      assert.is_true(took >= due - 50 and took <= due + 200, ("%d ms, %d are due"):format(took, due))
      s:abandon()
      s = nil
    end
  end)

  it("while up changes the beat, and no beat goes missing", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    s:advance "70s"
    local from = s:now()
    s:reload("a", world.policy({}, { beat = [[{ every = { "5s", "5s", "20s" }, answer = { op = 1 }, dead = 1 }]] }))
    s:quiet("5m", "a")
    local last = from
    for _, at in ipairs(world.instants(s, "a", 1)) do
      if at >= from then
        assert.is_true(at - last <= 10100, "no beat for " .. at - last .. " ms")
        last = at
      end
    end
    assert.equal(5000, s:view("a").beat_interval)
    s:close()
  end)

  it("while up finds a dead peer by the new numbers", function ()
    local slow, quick = [[{ ping = "5m", silence = "20m" }]], [[{ ping = "5s", silence = "12s" }]]
    local beat = [[{ every = { "15m", "5s", "20m" }, answer = { op = 1 }, dead = 1 }]]
    s = world.new()
    world.connect(s, "a", { every = false }, { alive = slow, beat = beat })
    s:up("a", "5s")
    s:advance "1m"
    local dead = s:fault("half_open", { times = 1 })
    s:advance "1m"
    assert.equal(0, #s:closes "a")
    s:reload("a", world.policy({ every = false }, { alive = quick, beat = beat }))
    local from = s:now()
    s:run_until(function () return #s:closes "a" > 0 end, "30s")
    assert.is_true(s:now() - from <= 13000, "found after " .. s:now() - from)
    dead:off()
    s:heal()
    s:up("a", "1m")
    s:close()
  end)

  it("while waiting cuts the wait to the new longest delay, from its begin, and never lengthens it", function ()
    local function backoff(first)
      return { backoff = ([[{ first = %q, most = %q, jitter = "none", floor = "250ms" }]]):format(first, first) }
    end
    for _, case in ipairs { { { "20s" }, 20000 }, { { "90s" }, 60000 }, { { "90s", "20s", "90s", "60s" }, 20000 }, { { "5s" }, 10000 } } do
      s = world.new()
      world.connect(s, "a", {}, backoff "60s")
      s:fault("refuse", { times = 1, what = "link" })
      s:reach("a", "waiting", "5s")
      local began = s:view("a").since
      s:advance "10s"
      for _, first in ipairs(case[1]) do s:reload("a", world.policy({}, backoff(first))) end
      s:up("a", "90s")
      local waited = s:dials("a")[2].at - began
      assert.is_true(math.abs(waited - case[2]) <= 100, ("waited %d ms, %d are due"):format(waited, case[2]))
      assert.equal(2, #s:dials "a")
      s:close()
      s = nil
    end
  end)

  it("that is refused leaves everything as it was, and says where and why", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    for _, text in ipairs { "return 7 return", "return nonsense(", "return error 'boom'",
                            world.policy({}, { backof = "{}" }), world.policy({}, { backoff = "{ first = '-1s' }" }),
                            world.policy({ prepare = "local x = = 1" }) } do
      local ok, why = s:try_reload("a", text)
      assert.is_nil(ok)
      assert.truthy(#why > 0 and why:find "%.lua", why)
    end
    s:quiet("10m", "a")
    s:close()
  end)

  it("every few seconds for an hour, through all that happens, changes nothing for the better or worse", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    local one, two = world.policy(), world.policy({}, { sizes = "{ send = 2048 }" })
    for i = 1, 600 do s:at(i * 6000, function () s:reload("a", i % 2 == 0 and one or two) end) end
    for i = 1, 6 do s:at(i * 500000, function () s:fault("reset", { times = 1 }) end) end
    s:advance "1h"
    assert.equal("up", s:state "a")
    assert.equal(7, s:view("a").generation)
    assert.is_true(world.assert_beats(s, "a", 10000, s:now() - 500000) >= 40)
    s:close()
  end)
end)
