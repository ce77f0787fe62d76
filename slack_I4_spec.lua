-- Written by `holdfast prove policies/slack.lua --seed 1`: the shortest schedule of faults that breaks a promise.
--   I4: link 1 is dead for 11.1s and still open; bound by stage limit
-- `holdfast test` with this file plays it again; it passes once the policy keeps the promise.
local prove = require "holdfast.prove"

describe("policies/slack.lua", function ()
  it("keeps I4: a dead peer is noticed in time", function ()
    prove.check {
      policy = "policies/slack.lua",
      seed = 1,
      moves = {
        { at = "greeting", peer = "deaf", say = "the platform goes deaf" },
      },
    }
  end)
end)
