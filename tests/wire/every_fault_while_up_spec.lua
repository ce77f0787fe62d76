-- Every fault of the table (tests/support/wire_faults.lua) while a link is up: its cause, how soon it is noticed, and that the
-- connection is up again within the bound that it names, once the fault is healed.
local world = require "wire_world"
local faults = require "wire_faults"

describe("an up link, then well again:", function ()
  local s
  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  for _, row in ipairs(faults.up) do
    it(row[1], function () faults.run(s, row) end)
  end
end)
