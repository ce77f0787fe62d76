-- The verdict about the peer, minute by minute, on whole connections: what is quiet stays quiet, and what is
-- dead was suspect before the engine ended it.
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

-- Verdicts seen of `name` while `span` passes in steps, as name -> times.
local function seen(name, steps, span)
  local counts = {}
  for _ = 1, steps do
    s:advance(span)
    local v = s:view(name)
    counts[v.life] = (counts[v.life] or 0) + 1
    assert.is_true(#v.evidence > 0)
  end
  return counts
end

describe("the verdict about a peer", function ()
  it("is quiet through a day without an event, and never suspect", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    s:advance "70s"
    local counts = seen("a", 24 * 60, "1m")
    assert.is_nil(counts.suspect)
    assert.is_nil(counts.dead)
    assert.equal(24 * 60, (counts.quiet or 0) + (counts.alive or 0))
    assert.is_true((counts.quiet or 0) > 23 * 60)
    s:close()
  end)

  it("is suspect, with its evidence, before the engine gives a dead peer up", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    s:advance "70s"
    s:fault("half_open", { times = 1 })
    local order, evidence = {}, nil
    for _ = 1, 600 do
      s:advance "500ms"
      local v = s:view "a"
      if v.generation > 1 then break end
      if order[#order] ~= v.life then order[#order + 1] = v.life end
      if v.life == "suspect" then evidence = v.evidence end
    end
    assert.is_truthy(table.concat(order, " "):match "suspect", table.concat(order, " "))
    assert.is_truthy(evidence:match "is unanswered for %d", evidence)
    s:close()
  end)

  it("is dead with the state in words while no link serves", function ()
    s = world.new()
    world.connect(s, "a")
    s:up("a", "5s")
    s:stop "a"
    s:advance "10s"
    local v = s:view "a"
    assert.equal("dead", v.life)
    assert.is_truthy(v.evidence:match "^no link serves: stopped for %S+, as an operator wanted$", v.evidence)
    s:close()
  end)
end)
