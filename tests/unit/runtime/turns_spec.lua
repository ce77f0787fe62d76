-- Turns: hundreds of attempts at once, of which some are begun and the rest wait, first come, first served.
local runtime = require "unit.runtime"
local world = require "runtime_world"

local PLACES = 256

local function many(count)
  local w, path = runtime.new(1000), world.policy ""
  for i = 1, count do assert(w:add("c" .. i, path, ("return { token = 'T%d' }"):format(i))) end
  w:tick()
  return w
end
local function ticks(w, most)
  local n = 0
  while w:deadline() == 0 and n < (most or 1000) do
    w:tick()
    n = n + 1
  end
  return n
end
local function in_state(w, count, state, next_is)
  local n = 0
  for i = 1, count do
    local v = w:view("c" .. i)
    n = n + (v.state == state and (not next_is or v.next == next_is) and 1 or 0)
  end
  return n
end

describe("400 attempts at once", function ()
  it("begin a few in each tick, and only so many before one of them serves", function ()
    local w = many(400)
    assert.is_true(w:counts().under_way <= 32, w:counts().under_way .. " in the first tick")
    assert.is_true(ticks(w) >= 10)
    assert.same({ PLACES, 400 - PLACES }, { w:counts().under_way, w:counts().awaiting_turn })
    assert.same({ PLACES, 400 - PLACES }, { in_state(w, 400, "linking"), in_state(w, 400, "preparing", "turn") })
    assert.same({ 0, 10 }, { w:view("c257").ahead, w:view("c267").ahead })
    for i = 1, 3 do world.open(w, i) end
    ticks(w)
    assert.same({ PLACES, 400 - PLACES - 3 }, { w:counts().under_way, w:counts().awaiting_turn })
    assert.same({ "linking", "linking", "linking", "preparing" },
                { w:view("c257").state, w:view("c258").state, w:view("c259").state, w:view("c260").state })
  end)

  it("are all begun within two seconds though nobody answers, and none runs into a limit in the queue", function ()
    local w = many(400)
    ticks(w)
    w:tick(999)
    assert.equal(PLACES, w:counts().under_way)
    w:tick(1)
    ticks(w)
    assert.equal(0, w:counts().awaiting_turn)
    assert.equal(400, in_state(w, 400, "linking", "resolve limit"))
  end)

  it("give no place away for silence while it is this machine that is behind", function ()
    local w = many(400)
    ticks(w)
    w:set("behind", true)
    for _ = 1, 4 do w:tick(1000) end
    assert.equal(400 - PLACES, w:counts().awaiting_turn)
    assert.is_true(w:deadline() > 0, "it spins")
    world.open(w, 1)
    w:tick()
    assert.equal(400 - PLACES - 1, w:counts().awaiting_turn) -- a place that is free is given all the same
    w:set("behind", false)
    w:tick(10)
    ticks(w)
    assert.equal(0, w:counts().awaiting_turn)
  end)

  it("leave their place in the queue when they are stopped or removed, and are not begun", function ()
    local w = many(400)
    ticks(w)
    w:log()
    w:order("c257", "stop")
    w:order("c258", "remove")
    w:order("c259", "stop")
    w:order("c259", "start")
    w:tick(250)
    assert.same({ "stopped", "turn" }, { w:view("c257").state, w:view("c259").next })
    assert.is_nil(w:view "c258")
    assert.equal(400 - PLACES - 2, w:counts().awaiting_turn)
    world.open(w, 1)
    w:tick()
    assert.same({ "linking", "turn" }, { w:view("c260").state, w:view("c259").next }) -- which asked anew, as the last
  end)

  it("free their places by failing, too", function ()
    local w = many(300)
    ticks(w)
    for i = 1, 100 do
      w:ended(i)
      w:closed(i)
    end
    ticks(w)
    assert.equal(0, w:counts().awaiting_turn)
    assert.equal(200, in_state(w, 300, "linking"))
    assert.equal(100, in_state(w, 300, "waiting"))
  end)

  it("are started a few in each tick, in order; the rest waits for its turn, in anybody's eyes", function ()
    local w, path = runtime.new(1000), world.policy ""
    for i = 1, 400 do assert(w:add("c" .. i, path, ("return { token = 'T%d' }"):format(i))) end
    local v = w:view "c400"
    assert.same({ "preparing", "turn", 400 - 64 - 1 }, { v.state, v.next, v.ahead })
    assert.equal(400 - 64, w:counts().awaiting_turn)
    local journals = {}
    for n = 1, 7 do
      w:tick()
      journals[n] = 0
      for i = 1, 400 do
        if #w:journal("c" .. i) > 0 then
          assert.is_true(i == 1 or #w:journal("c" .. i - 1) > 0, "c" .. i .. " went first")
          journals[n] = journals[n] + 1
        end
      end
      assert.is_true(journals[n] <= 64 * (n + 1), journals[n] .. " after " .. n)
      assert.is_true(journals[n] > (journals[n - 1] or 0) or journals[n] == 400)
      assert.equal(400, in_state(w, 400, "preparing") + in_state(w, 400, "linking"))
    end
    assert.equal(400, journals[7])
    ticks(w)
    assert.equal(PLACES, w:counts().under_way)
  end)

  it("are started before whatever else happens to them", function ()
    local w, path = runtime.new(1000), world.policy ""
    for i = 1, 400 do assert(w:add("c" .. i, path, ("return { token = 'T%d' }"):format(i))) end
    w:order("c397", "stop")
    w:order("c398", "remove")
    w:order("c399", "stop")
    w:order("c399", "start")
    w:swap("c400", path, "return { token = 'T400' }")
    w:tick()
    assert.same({ "stopped", "waiting", "preparing" }, { w:view("c397").state, w:view("c399").state, w:view("c400").state })
    assert.is_nil(w:view "c398")
    for _, name in ipairs { "c397", "c399", "c400" } do assert.is_true(#w:journal(name) > 0, name .. " was not started") end
    assert.equal(0, #w:journal "c396")
    ticks(w)
    for _ = 1, 3 do
      w:tick(1000)
      ticks(w)
    end
    assert.same({ "stopped", "linking", "linking" }, { w:view("c397").state, w:view("c399").state, w:view("c400").state })
  end)

  it("are closed by a shutdown before they were all started, and dialled when it is called off", function ()
    local w, path = runtime.new(1000), world.policy ""
    for i = 1, 200 do assert(w:add("c" .. i, path, ("return { token = 'T%d' }"):format(i))) end
    w:tick()
    w:shutdown()
    for i = 1, w:counts().links do w:closed(i) end
    ticks(w)
    assert.equal(200, in_state(w, 200, "stopped"))
    w:shutdown_undo()
    ticks(w)
    w:tick(1000)
    ticks(w)
    assert.equal(200, in_state(w, 200, "linking"))
  end)

  it("end with the runtime, waiting or not", function ()
    local w = many(400)
    ticks(w, 3)
    w:destroy()
  end)
end)
