local soak = require "soak_world"
local scratch = require "scratch"

describe("a soak of seconds", function ()
  it("loses nothing that no gap told, raises no alarm, and every command works", function ()
    local said = {}
    local findings = soak.run {
      seconds = 10, seed = 3, folder = scratch.folder(), out = function (line) said[#said + 1] = line end,
    }
    assert.same({}, findings)
    assert.equal("soak: passed", said[#said])
  end)
end)
