-- Hooks across a reload: what runs finishes on the version that began it, what comes next is of the new one; no run and
-- no frame is lost in between, and none is done twice.
local sim = require "holdfast.sim"
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

-- What the versions put on the wire: { at, v =, n = } of one op.
local function said(op)
  local out = {}
  for _, m in ipairs(s:wire("a", "out")) do
    local frame = m.text and sim.decode(m.data)
    if type(frame) == "table" and frame.op == op then out[#out + 1] = { at = m.at, v = frame.v, n = frame.n } end
  end
  return out
end

local function task(v, period)
  return { every = ([[ conn:http { url = "https://echo.test/slow" } conn:send { op = 8, v = %q } ]]):format(v) },
    { every = ("%q"):format(period or "30s"), frames = [[{ codec = "json", take = { op = "op" }, deliver = { op = 0 }, accept = true }]] }
end

local function connect(v, period)
  s = world.new()
  world.connect(s, "a", task(v, period))
  s:up("a", "5s")
end

local function count(list, v)
  local n = 0
  for _, one in ipairs(list) do n = n + (one.v == v and 1 or 0) end
  return n
end

describe("a task that waits while its policy is reloaded", function ()
  it("finishes on the version that began it; the next run is the new one's, at its time", function ()
    connect "old"
    s:run_until(function () return #said(8) == 2 end, "2m")
    local slow = s:fault("slow", { what = "call", ms = 6000 })
    s:advance(said(8)[2].at + 32000 - s:now())
    assert.equal(1, slow:hits()) -- it waits for its answer
    assert.equal(2, #said(8))
    s:reload("a", world.policy(task "new"))
    slow:off()
    s:run_until(function () return #said(8) == 3 end, "20s")
    assert.equal("old", said(8)[3].v)
    s:advance "5m"
    local list = said(8)
    assert.equal(3, count(list, "old"))
    assert.is_true(math.abs(count(list, "new") - 10) <= 1, count(list, "new") .. " runs in five minutes")
    for i = 4, #list do
      assert.equal("new", list[i].v)
      -- Begun every 30 s, each takes as long as its call: never two at once, and none is left out.
      if i > 4 then assert.is_true(list[i].at - list[i - 1].at > 20000 and list[i].at - list[i - 1].at < 40000) end
    end
    assert.equal(1, #s:dials "a")
    s:close()
  end)

  it("is begun by neither twice, however often it is reloaded", function ()
    connect "v0"
    s:run_until(function () return #said(8) == 1 end, "2m")
    local from = s:now()
    for i = 1, 60 do
      s:reload("a", world.policy(task("v" .. i)))
      s:advance "5s"
    end
    local n = #said(8) - 1
    assert.is_true(n >= 9 and n <= 11, ("%d runs in %d s, one in 30 s is due"):format(n, (s:now() - from) / 1000))
    s:close()
  end)

  it("takes the new period from when it last began, not from the reload", function ()
    connect("old", "10m")
    s:run_until(function () return #said(8) == 1 end, "11m")
    local last = said(8)[1].at
    s:advance "1m"
    s:reload("a", world.policy(task("new", "90s")))
    s:run_until(function () return #said(8) == 2 end, "10m")
    local after = said(8)[2].at - last
    assert.is_true(after >= 85000 and after <= 100000, after .. " ms after the last one")
    assert.equal("new", said(8)[2].v)
    -- What is over by the new period comes within one: many connections must not all run it at once.
    s:advance "80s"
    s:reload("a", world.policy(task("newer", "20s")))
    local from = s:now()
    s:run_until(function () return #said(8) == 3 end, "21s")
    assert.is_true(s:now() - from <= 21000)
    s:close()
  end)
end)

describe("frames that are inspected while their policy is reloaded", function ()
  it("are each seen by one version, the old one's before the new one's", function ()
    s = world.new()
    local function policy(v) return { every = false, on_frame = ([[ conn:send { op = 7, n = arg.n, v = %q } ]]):format(v) },
      { budgets = [[{ start = { frame = { op = 2 }, windows = { { 1000, "1h" } } } }]] } end
    world.connect(s, "a", policy "v0")
    s:up("a", "5s")
    for i = 1, 100 do
      s:send("a", ('{"op":9,"n":%d}'):format(i))
      if i % 10 == 0 then s:reload("a", world.policy(policy("v" .. i / 10))) end
      s:advance "7ms"
    end
    s:advance "5s"
    local list, version = said(7), 0
    assert.equal(100, #list)
    for i, one in ipairs(list) do
      assert.equal(i, one.n)
      local v = tonumber(one.v:match "%d+")
      assert.is_true(v == version or v == version + 1 or v > version, one.v)
      version = v
    end
    assert.equal(10, version)
    s:close()
  end)
end)
