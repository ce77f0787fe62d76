-- The simulated disk alone: what a power cut may bring back, and what it may not.
local power = require "unit.store_power"

local A, B = ("a"):rep(2048), ("b"):rep(2048)

describe("a power cut", function ()
  it("keeps what was synced", function ()
    for seed = 1, 100 do assert.equal(B, power.cut(seed, A, B, 0, true, true)) end
  end)

  it("takes any mix of old and new sectors of what was not, and tears some", function ()
    local old, new, mixed, torn = false, false, false, false
    for seed = 1, 300 do
      local got = power.cut(seed, A, B, 0, false, true)
      assert.equal(2048, #got)
      assert.is_nil(got:find "[^ab]")
      if got == A then old = true elseif got == B then new = true else mixed = true end
      for sector = 0, 3 do
        local s = got:sub(sector * 512 + 1, sector * 512 + 512)
        if s:find "a" and s:find "b" then
          torn = true
          assert.truthy(s:find "^b+a+$")
        end
      end
    end
    assert.is_true(old and new and mixed and torn)
  end)

  it("never touches what stands beside a write in its sector", function ()
    for seed = 1, 200 do
      local got = power.cut(seed, A, "bbbb", 510, false, true)
      assert.equal(A:sub(1, 510), got:sub(1, 510))
      assert.equal(A:sub(515), got:sub(515))
    end
  end)

  it("may take back that a file grew, and what it grew by", function ()
    local lengths = {}
    for seed = 1, 200 do
      local got = power.cut(seed, A, B, 2048, false, true)
      lengths[#got] = true
      assert.equal(A, got:sub(1, 2048))
    end
    assert.same({ [2048] = true, [4096] = true }, lengths)
  end)

  it("may take back that a file exists, unless its folder was synced", function ()
    local gone = 0
    for seed = 1, 50 do
      if not power.cut(seed, A, B, 0, true, false) then gone = gone + 1 end
      assert.truthy(power.cut(seed, A, B, 0, true, true))
    end
    assert.is_true(gone > 5 and gone < 45, gone .. " of 50")
  end)
end)
