-- Written by `holdfast prove policies/slack.lua --seed 1`: the shortest schedule of faults that breaks a promise.
--   I6: stopped for good after not_allowed_token_type at preparing 200, and the platform meant no such thing
-- `holdfast test` with this file plays it again; it passes once the policy keeps the promise.
local prove = require "holdfast.prove"

describe("policies/slack.lua", function ()
  it("keeps I6: once all is well the connection is up, and it stops only where the platform meant it", function ()
    prove.check {
      policy = "policies/slack.lua",
      seed = 1,
      moves = {
      },
    }
  end)
end)
