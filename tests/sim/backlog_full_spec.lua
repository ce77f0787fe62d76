-- A backlog that is full, and consumers that are slow: hold stops reading for a while and no link dies of it;
-- drop_oldest says what went; a slow consumer costs only itself.
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

local PAD = ("x"):rep(200)

local function tables(full, more)
  local out = { backlog = ("{ most = '16KiB', full = %q, hold_for = '4s' }"):format(full), budgets = "{}" , session = false,
    budgets = "{ send = { windows = { { 100000, '60s' } }, beats = 10 } }" }
  for k, v in pairs(more or {}) do out[k] = v end
  return out
end

local function numbers(c)
  local out = {}
  for _, e in ipairs(c:events()) do out[#out + 1] = e.frame.n end
  return out
end

-- A frame every `ms`, so many of them, echoed by the peer.
local function stream(count, ms)
  for i = 1, count do
    s:at(i * ms, function () s:send("a", { op = 0, n = i, pad = PAD }) end)
  end
end

describe("a full backlog", function ()
  it("that holds stops reading, goes on after an acknowledgement, and loses nothing", function ()
    s = world.new()
    world.connect(s, "a", {}, tables "hold")
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "5s")
    stream(400, 20)
    for i = 1, 20 do
      s:at(i * 2000, function ()
        if #c:events() > 0 then c:ack "a" end
      end)
    end
    s:advance "60s"
    local got = numbers(c)
    assert.equal(400, #got)
    for i, n in ipairs(got) do assert.equal(i, n) end
    assert.same({}, c:gaps())
    assert.equal(1, s:view("a").generation)
    assert.is_true(s:view("a").backlog.bytes <= 20000)
    s:close()
  end)

  it("that holds too long ends the link by name, with a code that keeps the session, and says so", function ()
    s = world.new()
    world.connect(s, "a", {}, tables "hold")
    s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "5s")
    stream(200, 20)
    s:run_until(function () return s:view("a").generation == 2 or s:view("a").cause end, "30s")
    assert.equal("backlog_full", s:view("a").cause.name)
    assert.equal(4000, s:closes("a")[1].code)
    assert.equal(0, s:view("a").backlog.dropped)
    s:advance "10m"
    assert.is_true(s:view("a").attempts <= 60, s:view("a").attempts .. " attempts")
    s:close()
  end)

  it("that drops its oldest keeps the link, and names a gap to whoever missed them", function ()
    s = world.new()
    world.connect(s, "a", {}, tables "drop_oldest")
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "5s")
    c:detach()
    stream(400, 20)
    s:quiet "30s"
    c:attach "cursor"
    s:advance "1s"
    local got = numbers(c)
    assert.is_true(#got > 10 and #got < 200, #got .. " frames are left")
    assert.equal(400, got[#got])
    for i = 2, #got do assert.equal(got[i - 1] + 1, got[i]) end
    assert.is_true(#c:gaps() >= 1)
    assert.equal(1, s:view("a").generation)
    s:close()
  end)
end)

describe("a slow consumer", function ()
  it("that reads nothing for an hour is let go, costs its neighbour nothing, and catches up", function ()
    s = world.new { consumer_bytes = 4194304 }
    world.connect(s, "a", {}, tables("drop_oldest", { backlog = "{ most = '64MiB' }" }))
    local slow = s:consumer { name = "slow", connections = { "a" } }
    local quick = s:consumer { name = "quick", connections = { "a" } }
    s:up("a", "5s")
    slow:pause()
    -- More than one consumer's queue holds, twice over.
    for i = 1, 2000 do
      s:at(i * 100, function () s:send("a", { op = 0, n = i, pad = ("x"):rep(5000) }) end)
      if i % 50 == 0 then s:at(i * 100 + 60, function () quick:ack "a" end) end
    end
    s:quiet "4m"
    assert.equal(2000, #quick:events())
    assert.is_false(slow:attached())
    slow:resume()
    slow:attach "cursor"
    s:advance "10s"
    local seen = {}
    for _, e in ipairs(slow:events()) do seen[e.frame.n] = true end
    for i = 1, 2000 do assert.is_true(seen[i], "frame " .. i) end
    assert.same({}, slow:gaps())
    assert.equal(1, s:view("a").generation)
    s:close()
  end)

  it("that pauses and goes on gets all, in order", function ()
    s = world.new()
    world.connect(s, "a", {}, tables("drop_oldest", { backlog = "{ most = '64MiB' }" }))
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "5s")
    stream(1000, 10)
    for i = 1, 10 do
      s:at(i * 1000, function () c:pause() end)
      s:at(i * 1000 + 700, function () c:resume() end)
    end
    s:advance "20s"
    local got = numbers(c)
    assert.equal(1000, #got)
    for i, n in ipairs(got) do assert.equal(i, n) end
    s:close()
  end)
end)

describe("a frame that comes again", function ()
  it("within the time and under the same key is delivered once, later again", function ()
    s = world.new()
    world.connect(s, "a", {}, tables("drop_oldest", { backlog = "{ most = '64MiB' }",
      frames = [[{ codec = "json", take = { op = "op", id = "id" }, deliver = { op = 0 }, inspect = { op = 9 }, accept = true,
                   dedupe = { by = { "id" }, over = "10m", most = 1000 } }]] }))
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "5s")
    for i = 1, 5 do
      for _ = 1, 3 do s:send("a", { op = 0, id = "m" .. i, n = i }) end
    end
    s:advance "1s"
    assert.same({ 1, 2, 3, 4, 5 }, numbers(c))
    assert.equal(10, s:view("a").duplicate)
    s:restart "a"
    s:advance "5s"
    s:send("a", { op = 0, id = "m5", n = 5 })
    s:advance "1s"
    assert.same({ 1, 2, 3, 4, 5 }, numbers(c))
    s:advance "11m"
    s:send("a", { op = 0, id = "m5", n = 5 })
    s:advance "1s"
    assert.same({ 1, 2, 3, 4, 5, 5 }, numbers(c))
    s:close()
  end)
end)
