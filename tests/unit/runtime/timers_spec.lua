-- The heap of timers: order, stability, and one entry for a deadline that moves.
local runtime = require "unit.runtime"

local function drain(t, now)
  local out = {}
  while true do
    local due, index = t:take(now)
    if not due then return out end
    out[#out + 1] = { due = due, index = index }
  end
end

describe("timers", function ()
  it("come in order of due time, equal ones in order of adding, as a sorted reference says", function ()
    local t, reference, state = runtime.timers(), {}, 12345
    for i = 1, 10000 do
      state = (state * 1103515245 + 12345) % 2147483648
      local due = 1 + state % 500
      t:add(due, i)
      reference[i] = { due = due, index = i }
    end
    table.sort(reference, function (a, b)
      if a.due ~= b.due then return a.due < b.due end
      return a.index < b.index
    end)
    assert.equal(reference[1].due, t:next())
    assert.same(reference, drain(t, 500))
    assert.equal(0, t:count())
    assert.is_nil(t:next())
  end)

  it("stay in order while some are taken and others are added", function ()
    local t, pending, state, now = runtime.timers(), {}, 99, 0
    for i = 1, 3000 do
      state = (state * 1103515245 + 12345) % 2147483648
      local due = now + 1 + math.floor(state / 7) % 60
      t:add(due, i)
      pending[#pending + 1] = { due = due, index = i }
      if i % 3 == 0 then
        now = now + state % 5
        table.sort(pending, function (a, b) return a.due < b.due or a.due == b.due and a.index < b.index end)
        local expected = {}
        while pending[1] and pending[1].due <= now do expected[#expected + 1] = table.remove(pending, 1) end
        assert.same(expected, drain(t, now))
      end
    end
  end)

  it("are not taken before they are due", function ()
    local t = runtime.timers()
    t:add(10, 1)
    assert.is_nil(t:take(9))
    assert.equal(10, (t:take(10)))
    assert.is_nil(t:take(1e15))
  end)

  it("have one entry for a deadline that only moves away", function ()
    local t, armed = runtime.timers(), 0
    for due = 100, 10100 do armed = t:arm(armed, due) end
    assert.equal(100, armed)
    assert.equal(1, t:count())
    assert.equal(50, t:arm(armed, 50), "an earlier one needs an entry of its own")
    assert.equal(2, t:count())
  end)
end)
