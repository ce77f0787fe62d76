-- HTTP to the local API of a running binary, for specs. Waits by pumping the daemon's own pipes, so that what
-- it says is not lost meanwhile.
local socket = require "unit.ops"
local json = require "dkjson"

local M = {}

-- request(daemon, "127.0.0.1:7600" or "/path", "PUT", "/v1/...", { token =, body = text or table, head = lines })
-- answers status, body (decoded when it is JSON), head.
function M.request(daemon, to, method, target, options)
  options = options or {}
  local body = options.body
  if type(body) == "table" then body = json.encode(body) end
  local head = method .. " " .. target .. " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" .. (options.head or "")
  if options.token then head = head .. "Authorization: Bearer " .. options.token .. "\r\n" end
  if body then head = head .. "Content-Length: " .. (options.length or #body) .. "\r\n" end
  local fd = assert(socket.connect(to))
  local out, got = head .. "\r\n" .. (body or ""), ""
  local function whole()
    local stop = select(2, got:find("\r\n\r\n", 1, true))
    if not stop then return nil end
    local length = tonumber(got:lower():match "content%-length: (%d+)") or 0
    if #got < stop + length then return nil end
    return got:sub(1, stop), got:sub(stop + 1, stop + length)
  end
  local found = daemon:eventually(function ()
    if #out > 0 then
      local n = socket.write(fd, out)
      if n > 0 then out = out:sub(n + 1) end
    end
    local piece = socket.read(fd)
    got = got .. (piece or "")
    return whole() ~= nil or (piece == nil and "ended")
  end)
  socket.shut(fd)
  assert(found, "no answer to " .. method .. " " .. target)
  local answer, text = whole()
  assert(answer, "the answer broke off: " .. got)
  return tonumber(answer:match "^HTTP/1%.[01] (%d+)"), json.decode(text) or text, answer
end

return M
