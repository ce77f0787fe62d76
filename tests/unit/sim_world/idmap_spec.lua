local unit = require "unit.sim_world"

describe("the map of ids", function ()
  it("agrees with a plain array through thousands of puts and removals", function ()
    for seed = 1, 10 do assert.is_true(unit.idmap(seed, 3000)) end
  end)
end)

describe("a seed", function ()
  it("gives one trace in the bare world too", function ()
    local function run(seed)
      local w = unit.new(seed)
      w:fault("refuse", { probability = 0.5 })
      for id = 1, 20 do
        w:open(id, "a.test")
        w:run(700)
      end
      return w:trace()
    end
    assert.equal(run(3), run(3))
    assert.not_equal(run(3), run(4))
  end)
end)
