local world = require "net_world"

describe("net", function ()
  before_each(world.setup)
  after_each(world.teardown)

  it("reads three clocks freshly", function ()
    local w = world.open()
    local mono, boot, wall = w:clock()
    assert.is_true(boot >= mono)
    assert.is_true(math.abs(wall / 1000 - os.time()) < 5)
    repeat local later = w:clock() until later > mono -- without the loop running: not a cached time
  end)

  it("draws random bytes that do not repeat", function ()
    local w = world.open()
    assert.not_equal(w:random(), w:random())
    -- Few bytes come from a store: none of its places is given twice, nor from before a refill.
    local seen, zeroes = {}, 0
    for i = 1, 1000 do
      local bytes = w:random(i % 5 + 12)
      assert.equal(i % 5 + 12, #bytes)
      for at = 1, #bytes - 7 do
        local piece = bytes:sub(at, at + 7)
        assert.is_nil(seen[piece])
        seen[piece] = true
        if piece == ("\0"):rep(8) then zeroes = zeroes + 1 end
      end
    end
    assert.equal(0, zeroes)
  end)

  it("calls the tick once for many wakes, soon, and never from inside one", function ()
    local w = world.open()
    for _ = 1, 10 do w:wake() end
    assert.equal(0, w:counts().ticks)
    w:step(1000)
    assert.equal(1, w:counts().ticks)
  end)

  it("calls the tick at the runtime's deadline, not before", function ()
    local w = world.open()
    local due = w:clock() + 40
    w:set { deadline_ms = due }
    w:wake()
    world.eventually(w, function () return w:counts().last_tick_ms >= due end)
    assert.is_true(w:counts().last_tick_ms < due + 1000)
    assert.is_true(w:counts().ticks < 8)
  end)

  it("measures how long the loop was kept from its work", function ()
    local w = world.open()
    w:set { deadline_ms = w:clock() + 1 }
    w:wake()
    w:step(0)
    local start = w:clock()
    while w:clock() - start < 60 do end -- what a callback that blocks does to the loop
    world.eventually(w, function () return w:counts().ticks >= 2 end)
    assert.is_true(w:counts().lag_ms >= 50)
    assert.is_true(w:counts().delay_worst_us >= 50000)
    assert.is_true(w:counts().delay_last_us >= 50000)
  end)

  it("tells its own work from time that the machine gave to others", function ()
    local w = world.open()
    w:wake()
    w:step(0)
    w:set { tick_waits_ms = 60 }
    w:wake()
    world.eventually(w, function () return w:counts().delay_worst_us >= 60000 end)
    assert.is_true(w:counts().engine_worst_us >= 60000)
    assert.is_true(w:counts().engine_busy_worst_us < 30000)
    assert.is_true(w:counts().busy_worst_us < 30000)
    w:set { tick_works_ms = 40 }
    w:wake()
    world.eventually(w, function () return w:counts().busy_worst_us >= 39000 end)
    assert.is_true(w:counts().engine_busy_worst_us >= 39000)
  end)
end)
