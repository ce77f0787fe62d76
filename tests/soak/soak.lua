-- `make soak`: SOAK_SECONDS (1800) of everything at once on the real daemon; support/soak_world.lua has the story.
-- SOAK_LIFE (0.8) is the share of the one long life; in the rest the daemon is ended and killed. Prints a table, then
-- `soak: passed` or what was not well. SOAK_DIR (build/soak) keeps log, trace and samples.
local soak = require "soak_world"

it("is flat and loses nothing", function ()
  local findings = soak.run {
    seconds = tonumber(os.getenv "SOAK_SECONDS") or 1800, seed = tonumber(os.getenv "SOAK_SEED") or 1,
    life_share = tonumber(os.getenv "SOAK_LIFE"),
    folder = os.getenv "SOAK_DIR" or "build/soak",
    out = function (line) io.stdout:write(line, "\n") io.stdout:flush() end,
  }
  assert.same({}, findings)
end)
