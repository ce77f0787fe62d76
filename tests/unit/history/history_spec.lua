-- The states of hours in eight bytes each: what is kept, what is left out, what becomes coarser.
local history = require "unit.history"

local HOUR, MINUTE = 3600e3, 60e3
local T0 = 1795341600000 -- 2026-11-22T10:00:00Z

local function of(list)
  local h = history.new()
  for _, m in ipairs(list) do h:add(T0 + m[1], m[2], m[3]) end
  return h
end
local function told(h)
  local out = {}
  for i, m in ipairs(h:marks()) do out[i] = ("%d %s"):format(m[1] - T0, m[2]) end
  return out
end
-- The state at an instant.
local function at(marks, ms)
  local state
  for _, m in ipairs(marks) do if m[1] <= ms then state = m[2] end end
  return state
end

describe("a connection's history", function ()
  it("costs an idle connection less than a hundred bytes", function ()
    local h = of { { 0, "queued" }, { 3, "preparing" }, { 500, "linking" }, { 900, "up" } }
    assert.same({ "0 queued", "900 up" }, told(h))
    assert.is_true(h:bytes() < 100, h:bytes())
  end)

  it("leaves out what was brief on the way, and no drop, however brief", function ()
    local h = of { { 0, "up" }, { 1000, "closing" }, { 1001, "waiting", 5 }, { 1400, "preparing" }, { 1401, "linking" }, { 2000, "up" },
                   { 60000, "closing" }, { 60001, "preparing" }, { 60002, "linking" }, { 60100, "up" } }
    assert.same({ "0 up", "1001 waiting", "2000 up", "60002 linking", "60100 up" }, told(h))
    assert.equal(5, h:marks()[2][3])
  end)

  it("keeps what took long on the way", function ()
    assert.same({ "0 waiting", "5000 preparing", "35000 waiting" }, told(of { { 0, "waiting" }, { 5000, "preparing" }, { 35000, "waiting" } }))
  end)

  it("goes on where it was when the clock goes back", function ()
    assert.same({ "0 up", "5000 waiting", "5000 up" }, told(of { { 0, "up" }, { 5000, "waiting" }, { 1000, "up" } }))
  end)

  it("of a storm of a day keeps every hour with its outage, the last hour as it was, and stays bounded", function ()
    local h, drops = history.new(), 0
    h:add(T0, "up")
    for at_ms = MINUTE, 24 * HOUR, MINUTE do
      h:add(T0 + at_ms, "waiting", 7)
      h:add(T0 + at_ms + 5000, "up")
    end
    local marks = h:marks()
    assert.is_true(#marks <= 512, #marks)
    assert.is_true(h:bytes() < 4300)
    for i = 2, #marks do
      assert.is_true(marks[i][1] >= marks[i - 1][1])
      assert.are_not.equal(marks[i][2], marks[i - 1][2])
    end
    for hour = 0, 23 do
      local seen = false
      for _, m in ipairs(marks) do
        seen = seen or (m[2] == "waiting" and m[1] >= T0 + hour * HOUR and m[1] < T0 + (hour + 1) * HOUR + MINUTE)
      end
      assert.is_true(seen, "hour " .. hour)
    end
    for _, m in ipairs(marks) do if m[2] == "waiting" and m[1] > T0 + 23 * HOUR then drops = drops + 1 end end
    assert.equal(60, drops)
    assert.equal("up", at(marks, T0 + 24 * HOUR + 5000))
  end)

  it("does not let a long outage vanish among many short ones", function ()
    local h = history.new()
    h:add(T0, "up")
    h:add(T0 + HOUR, "given_up", 3)
    h:add(T0 + 3 * HOUR, "up")
    for i = 1, 2000 do
      h:add(T0 + 3 * HOUR + i * 10000, "waiting")
      h:add(T0 + 3 * HOUR + i * 10000 + 3000, "up")
    end
    local marks = h:marks()
    assert.equal("given_up", at(marks, T0 + 2 * HOUR))
    assert.is_true(#marks <= 512)
  end)

  it("forgets what is older than a week, but what still held then", function ()
    local h, day = history.new(), 24 * HOUR
    for i = 0, 40 do h:add(T0 + i * day, i % 2 == 0 and "up" or "stopped") end
    local marks = h:marks()
    assert.equal(T0 + 40 * day, marks[#marks][1])
    assert.is_true(marks[1][1] >= T0 + 32 * day and marks[1][1] <= T0 + 33 * day, (marks[1][1] - T0) / day)
  end)
end)
