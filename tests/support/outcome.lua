-- busted output for many small processes: failures in full, one line per file, and the counts in a file
-- that tests/run.sh adds up (HOLDFAST_COUNTS).
local base = require "busted.outputHandlers.base"

return function (options)
  local busted = require "busted"
  local handler = base()
  handler.options = options

  local function describe(entry)
    local where = entry.trace and (entry.trace.short_src .. ":" .. entry.trace.currentline) or "?"
    local message = entry.message
    if type(message) ~= "string" then message = require("pl.pretty").write(message) end
    return string.format("not ok: %s\n  at %s\n  %s\n", entry.name or "?", where,
      (message:gsub("\n", "\n  ")))
  end

  handler.suiteEnd = function ()
    local failed = 0
    for _, list in ipairs { handler.failures, handler.errors } do
      for _, entry in ipairs(list) do
        failed = failed + 1
        io.write(describe(entry))
      end
    end
    for _, entry in ipairs(handler.pendings) do
      io.write("skipped: ", entry.name or "?", type(entry.message) == "string" and (" (" .. entry.message .. ")") or "", "\n")
    end
    local counts = string.format("%d %d %d\n", handler.successesCount, failed, handler.pendingsCount)
    local path = os.getenv "HOLDFAST_COUNTS"
    if path then
      local f = assert(io.open(path, "w"))
      f:write(counts)
      f:close()
    end
    return nil, true
  end

  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  return handler
end
