-- A planned handover: where the policy says overlap = 1 the new link is ready first, then the old one drains
-- and is closed. Two descriptors, never three; what either link brings is delivered.
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

local HANDOVER = {
  overlap = "1", retire = [[{ after = "10m" }]],
  limits = [[{ prepare = "10s", call = "5s", resolve = "5s", connect = "9s", secure = "9s", upgrade = "9s",
               greeting = "20s", close = "1s", drain = "5s" }]],
}

local function tables(more)
  local out = {}
  for k, v in pairs(HANDOVER) do out[k] = v end
  for k, v in pairs(more or {}) do out[k] = v end
  return out
end

describe("a retired link", function ()
  it("is replaced by one that is ready before it goes", function ()
    s = world.new()
    world.connect(s, "a", {}, tables())
    s:up("a", "5s")
    local overlapped, gone = 0, 0
    local function look()
      local v = s:view "a"
      assert.is_true(s:descriptors("a").open <= 2)
      if v.state ~= "up" then gone = gone + 1 end
      if #v.links == 2 then overlapped = overlapped + 1 end
    end
    for i = 1, 3600 * 4 do s:at(i * 250, look) end
    s:advance "1h"
    assert.equal(0, gone)
    assert.is_true(overlapped > 0)
    assert.equal(6, s:view("a").generation)
    assert.equal(2, s:descriptors("a").most)
    assert.equal(s:view("a").endings, s:view("a").planned_endings)
    for _, close in ipairs(s:closes "a") do assert.equal(4000, close.code) end
    s:close()
  end)

  it("loses no frame, whichever link brings it", function ()
    s = world.new { latency = "300ms" }
    world.connect(s, "a", {}, tables { budgets = "{ send = { windows = { { 1200, '60s' } }, beats = 10 } }", session = false })
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "20s")
    local sends = {}
    for i = 1, 900 do
      s:at(570000 + i * 100, function ()
        sends[i] = s:send("a", { op = 0, n = i })
        if i > 50 then assert(sends[i - 50]:answer(), "no answer to send " .. i - 50) end
      end)
    end
    s:advance "12m"
    assert.equal(2, s:descriptors("a").most)
    local seen, links = {}, {}
    for _, e in ipairs(c:events()) do seen[e.frame.n] = (seen[e.frame.n] or 0) + 1 end
    for i = 1, 900 do
      assert.same({ sent = true }, sends[i]:answer(), "send " .. i)
      assert.equal(1, seen[i], "frame " .. i)
    end
    -- The old link brought some after the new one served.
    local served = math.huge
    for _, m in ipairs(s:wire("a", "in")) do
      if m.generation == 2 then served = math.min(served, m.at) end
      if m.generation == 1 and m.at > served then links[1] = true end
    end
    assert.is_true(links[1], "nothing came over the old link while it drained")
    assert.same({}, c:gaps())
    s:close()
  end)

  it("stays where its successor cannot come up, and is replaced when it can", function ()
    s = world.new()
    world.connect(s, "a", {}, tables())
    s:up("a", "5s")
    s:advance "9m"
    local refuse = s:fault("refuse", {})
    s:advance "30m"
    assert.equal("up", s:state "a")
    assert.equal(1, s:view("a").ready)
    assert.equal(0, #s:closes "a" - #s:dials "a" + 1)
    assert.is_true(s:view("a").attempts <= 80, s:view("a").attempts .. " attempts")
    refuse:off()
    s:run_until(function () return s:view("a").ready == 2 end, "2m")
    s:advance "10s"
    assert.equal(1, #s:view("a").links)
    assert.equal(2, s:descriptors("a").most)
    s:close()
  end)

  it("that dies during the handover leaves its successor alone", function ()
    s = world.new { latency = "500ms" }
    world.connect(s, "a", {}, tables())
    s:up("a", "20s")
    s:run_until(function () return #s:view("a").links == 2 end, "11m")
    -- Streams that are open now are cut at once; what is dialled later is not.
    local old = s:view("a").links[2]
    s:fault("reset", { times = 1, connection = "a" })
    s:advance "30s"
    assert.truthy(old)
    assert.equal("up", s:state "a")
    assert.equal(1, #s:view("a").links)
    assert.equal(2, s:descriptors("a").most)
    s:close()
  end)

  it("is closed first where the policy allows no overlap", function ()
    s = world.new()
    world.connect(s, "a", {}, tables { overlap = "0" })
    s:up("a", "5s")
    s:advance "35m"
    assert.equal(4, s:view("a").generation)
    assert.equal(1, s:descriptors("a").most)
    local closes, dials = s:closes "a", s:dials "a"
    for i = 2, 4 do
      assert.is_true(dials[i].at > closes[i - 1].at and dials[i].at - closes[i - 1].at <= 1500)
    end
    s:close()
  end)

  it("goes at an age drawn from after, less or more the jitter, so that a hundred do not go together", function ()
    s = world.new()
    for i = 1, 100 do world.connect(s, ("c-%03d"):format(i), {}, tables { retire = [[{ after = "30m", jitter = 0.5 }]] }) end
    s:advance "46m"
    local ages = {}
    for i = 1, 100 do
      local second = s:dials(("c-%03d"):format(i))[2]
      assert.truthy(second)
      ages[i] = second.at
    end
    table.sort(ages)
    assert.is_true(ages[1] >= 15 * 60000 and ages[100] <= 45 * 60000 + 2000, ages[1] .. " to " .. ages[100])
    assert.is_true(ages[100] - ages[1] >= 20 * 60000)
    assert.is_true(ages[75] - ages[25] >= 8 * 60000)
    s:close()
  end)
end)
