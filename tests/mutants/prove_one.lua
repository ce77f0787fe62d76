-- The prover as the judge of a mutant: every fault alone and each lasting one for more than an hour, no random ones, so
-- that it takes as long for each.
local prove = require "holdfast.prove"

it("keeps the promises I1 to I8 under each fault alone", function ()
  local r = prove.run { policy = ("policies/%s.lua"):format(os.getenv "MUTANT_POLICY"), seed = 1, depth = 1, for_ms = 0 }
  assert.is_nil(r.problems, r.problems and table.concat(r.problems, "\n"))
  assert(r.ok, r.promise and r.promise .. ": " .. r.text)
end)
