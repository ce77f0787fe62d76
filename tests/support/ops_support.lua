-- Helpers of the ops specs: clients on real sockets, and a loop that runs only while one of them waits.
local ops = require "unit.ops"
local json = require "dkjson"

local support = {}
support.__index = support

local folder = os.tmpname()
os.remove(folder)
local number = 0

-- A fresh path for a socket file, in a folder that does not exist yet.
function support.path()
  number = number + 1
  return folder .. ".d/" .. number .. "/api.sock"
end

function support.remove_paths() os.execute("rm -rf '" .. folder .. ".d'") end

function support.open(options)
  options = options or {}
  options.unix = options.unix or support.path()
  local box, why = ops.new(options)
  assert(box, why)
  return setmetatable({ box = box, path = options.unix, fds = {} }, support)
end

function support:close()
  for fd in pairs(self.fds) do ops.shut(fd) end
  self.fds = {}
  local clean = self.box:close()
  assert(clean, "the loop still had something open")
end

-- Steps the loop until `done` says something, at most five seconds.
function support:eventually(done, what)
  local limit = os.time() + 5
  repeat
    self.box:step()
    local result = done()
    if result then return result end
  until os.time() > limit
  error("waited in vain for " .. (what or "something"), 2)
end

local client = {}
client.__index = client

function support:connect(to, small)
  local fd = assert(ops.connect(to or self.path, small))
  self.fds[fd] = true
  return setmetatable({ fd = fd, server = self, got = "", ended = false }, client)
end

function support:tcp() return self:connect(self.box:address()) end

function client:write(bytes)
  while #bytes > 0 do
    local n = ops.write(self.fd, bytes)
    if n > 0 then bytes = bytes:sub(n + 1) end
    if n < 0 then self.server.box:step() self:pull() end
    if self.ended then return end
  end
end

function client:pull()
  while not self.ended do
    local bytes = ops.read(self.fd)
    if bytes == "" then return end
    if bytes then self.got = self.got .. bytes else self.ended = true end
  end
end

function client:wait(done, what)
  return self.server:eventually(function () self:pull() return done() end, what)
end

function client:close(reset)
  ops.shut(self.fd, reset)
  self.server.fds[self.fd] = nil
end

-- Waits for one whole answer and takes it: status, body (decoded when JSON), head.
function client:answer()
  local head, body
  self:wait(function ()
    local _, stop = self.got:find("\r\n\r\n", 1, true)
    if not stop then assert(not self.ended, "the connection ended: " .. self.got) return false end
    head = self.got:sub(1, stop)
    local length = tonumber(head:lower():match "content%-length: (%d+)") or 0
    if #self.got < stop + length then
      assert(not self.ended, "the connection ended inside a body")
      return false
    end
    body = self.got:sub(stop + 1, stop + length)
    self.got = self.got:sub(stop + length + 1)
    return true
  end, "an answer")
  return tonumber(head:match "^HTTP/1%.[01] (%d+)"), json.decode(body) or body, head
end

-- request("GET", "/path", { headers = "A: b\r\n", body =, host = })
function client:request(method, target, options)
  options = options or {}
  local head = method .. " " .. target .. " HTTP/1.1\r\nHost: " .. (options.host or "localhost") .. "\r\n"
  if options.token then head = head .. "Authorization: Bearer " .. options.token .. "\r\n" end
  head = head .. (options.headers or "")
  if options.body then head = head .. "Content-Length: " .. #options.body .. "\r\n" end
  self:write(head .. "\r\n" .. (options.body or ""))
  return self:answer()
end

-- Waits until `count` NDJSON lines came and takes them, decoded.
function client:lines(count)
  self:wait(function ()
    local _, n = self.got:gsub("\n", "")
    assert(n >= count or not self.ended, "the connection ended: " .. self.got)
    return n >= count
  end, count .. " lines")
  local list = {}
  self.got = self.got:gsub("([^\n]*)\n", function (line)
    if #list == count then return end
    list[#list + 1] = assert(json.decode(line))
    return ""
  end)
  return list
end

local upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
  .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
support.upgrade = upgrade

function client:websocket(target, options)
  options = options or {}
  options.headers = upgrade .. (options.headers or "")
  return self:request("GET", target, options)
end

-- What came so far as messages; keeps all bytes, so that a frame may be cut anywhere.
function client:messages() return ops.ws_messages(self.got) end

function client:say(text) self:write(ops.ws_frame(1, text)) end

-- Waits for `count` lines inside messages; returns all so far, decoded.
function client:ws_lines(count)
  local list
  self:wait(function ()
    list = {}
    for line in table.concat((self:messages())):gmatch "([^\n]*)\n" do list[#list + 1] = json.decode(line) end
    return #list >= count
  end, count .. " lines")
  return list
end

return support
