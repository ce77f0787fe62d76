-- The store's core on a disk that forgets: whatever call is the last one before the process dies or the power
-- goes, the next core opens the file (quick_check included), finds each batch whole or not at all, in order, and
-- nothing less than what it had said was on disk.
local power = require "unit.store_power"

-- Changes that the workload makes when nobody stops it: what can be cut.
local function changes(options)
  options.again = 1e9
  local ok, n = power.run(options)
  assert.is_true(ok, n)
  options.again = nil
  return n
end

-- One run for each call; a seed of its own each, so that all kinds of cuts meet all kinds of places.
local function every_call(options, step)
  local last = changes { seed = 1, line = options.line, batches = options.batches }
  local whole = 0
  for cut = 0, last, step do
    local run = { seed = cut + 1, cut = cut }
    for k, v in pairs(options) do run[k] = v end
    if options.again then run.again = cut % options.again end
    local ok, why, _, there = power.run(run)
    assert.is_true(ok, ("cut after call %d: %s"):format(cut, tostring(why)))
    if there then whole = whole + 1 end
  end
  return whole, last
end

describe("a store of which a process dies at any call", function ()
  it("has each batch whole or not at all", function ()
    local whole, last = every_call({ line = 2000, batches = 8 }, 2)
    assert.is_true(last > 400, last .. " calls")
    assert.is_true(whole > 0) -- one was on disk, and its answer was lost
  end)
end)

describe("a store that loses power at any call", function ()
  it("has each batch whole or not at all", function ()
    every_call({ line = 2000, batches = 8, power = true }, 1)
  end)

  it("has so too when the next start loses power as well", function ()
    every_call({ line = 2000, batches = 6, power = true, again = 71 }, 3)
  end)

  it("has so while its log is emptied into the file", function ()
    local _, last = every_call({ line = 60000, batches = 7, power = true }, 13)
    assert.is_true(last > 1000, last .. " calls")
  end)
end)

describe("a store on a failing disk that then loses power", function ()
  local function failing(power_first)
    for _, often in ipairs { 0.02, 0.1, 0.3 } do
      for seed = 1, 40 do
        local ok, why = power.run { seed = seed, sync_failing = often, write_failing = often / 4, power = power_first, again = 1e9 }
        assert.is_true(ok, ("seed %d, %g: %s"):format(seed, often, tostring(why)))
      end
    end
  end

  it("has what it said it has", function () failing(true) end)

  -- A kernel may forget what it could not sync, and another process's sync says that all is well.
  it("has so too when another process went on before that", function () failing(false) end)
end)

describe("this check", function ()
  it("finds out a disk whose sync does nothing", function ()
    local caught = 0
    for seed = 1, 40 do
      if not power.run { seed = seed, lies = true, power = true, again = 1e9 } then caught = caught + 1 end
    end
    assert.is_true(caught >= 10, caught .. " of 40")
  end)

  it("gives the same bytes for the same calls", function ()
    assert.equal(power.bytes(3), power.bytes(3))
    assert.not_equal(power.bytes(3), power.bytes(4))
  end)
end)
