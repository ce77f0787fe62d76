-- `make five`: FIVE_SECONDS (180) of faults from five platforms at once on the real daemon; support/five_world.lua has the
-- story. Prints a summary, then `five: passed` or what was not well. FIVE_DIR (build/five) keeps log and trace.
local five = require "five_world"

it("loses nothing, doubles nothing beyond the contract, and every connection comes up within its bound", function ()
  local findings = five.run {
    seconds = tonumber(os.getenv "FIVE_SECONDS") or 180, seed = tonumber(os.getenv "FIVE_SEED") or 1,
    folder = os.getenv "FIVE_DIR" or "build/five",
    out = function (line) io.stdout:write(line, "\n") io.stdout:flush() end,
  }
  assert.same({}, findings)
end)
