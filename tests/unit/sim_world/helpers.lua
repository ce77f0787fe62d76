-- Shared by the specs of the simulated world: an upgrade's bytes, and what a log must hold.
local unit = require "unit.sim_world"

local helpers = {}

function helpers.upgrade(host)
  return "GET /ws?v=10 HTTP/1.1\r\nHost: " .. (host or "a.test") .. "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    .. "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
end

-- A world with link 1 open and upgraded, its log empty.
function helpers.open(seed, host)
  local w = unit.new(seed or 1)
  w:open(1, host or "a.test")
  w:run(1000)
  w:write(1, helpers.upgrade(host))
  w:run(1000)
  assert(w:seen(1):find "^HTTP/1.1 101 ", w:log())
  w:log()
  return w
end

-- Lines of the log without their times.
function helpers.words(log)
  local out = {}
  for line in log:gmatch "[^\n]+" do out[#out + 1] = (line:gsub("^%d+ ", "")) end
  return out
end

-- World time of the first line with this text.
function helpers.time_of(log, text)
  for line in log:gmatch "[^\n]+" do
    if line:find(text, 1, true) then return tonumber(line:match "^%d+") end
  end
end

return helpers
