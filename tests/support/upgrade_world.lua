-- What the specs of `holdfast upgrade` share: processes that are no children of the spec, programs that pretend
-- to be the next holdfast, and what the platform saw.
local assert = require "luassert"
local world = require "daemon_world"
local control = world.control

local M = {}

function M.stats(peer) return control(peer, '{"verb":"stats"}') end

function M.has(text, what)
  assert.is_truthy(text:find(what, 1, true), ("no %s in:\n%s"):format(what, text))
end

-- A process that is no child of this one.
function M.runs(pid)
  local f = io.open("/proc/" .. pid .. "/stat")
  local state = f and f:read "*a":match "%) (%a)"
  if f then f:close() end
  return state ~= nil and state ~= "Z"
end

function M.absolute(path)
  return path:sub(1, 1) == "/" and path or io.popen("pwd"):read "*l" .. "/" .. path
end

-- A daemon_world with upgrades; close() ends whoever took over.
local World = {}
World.__index = World

function M.new() return setmetatable({ w = world.new(), new_ones = {} }, World) end

function World:close()
  for _, one in ipairs(self.new_ones) do
    os.execute("kill " .. one.pid .. " 2>/dev/null")
    self:gone(one.pid, one.run)
    one.run:pump(0)
  end
  self.w:close()
end

-- Waits until the process is gone; its pipes are those of the one it replaced.
function World:gone(pid, run)
  local limit = world.now_ms() + world.wait_ms
  repeat run:pump(10) until not M.runs(pid) or world.now_ms() > limit
  assert.is_false(M.runs(pid))
end

function World:upgrade(...) return self.w:start { "upgrade", ... } end

-- The pid of the process that took over; it is ended after the test.
function World:taken_over(run, daemon)
  assert.equal(0, run:wait(), run.err .. daemon.err)
  local pid = assert(run.out:match "^upgraded: process (%d+) runs holdfast %S+\n$", run.out)
  self.new_ones[#self.new_ones + 1] = { pid = pid, run = daemon }
  return pid
end

function World:refused(run, why)
  assert.equal(1, run:wait())
  assert.equal("", run.out)
  M.has(run.err, "holdfast: " .. why)
end

-- Nothing happened to the platform, and the same process serves.
function World:unharmed(peer, daemon)
  self.w:up()
  M.has(M.stats(peer), '"identifies":1')
  M.has(M.stats(peer), '"closes":{}')
  assert.is_nil(daemon:ended())
end

function World:script(name, text)
  local path = self.w:write(name, "#!/bin/sh\n" .. text)
  assert(os.execute(("chmod 700 '%s'"):format(path)) == 0)
  return path
end

-- A program that says of itself that it is ready, and then does what `text` says.
function World:ready_one(text)
  local ready = '{"handover":1,"is":"ready","version":"9.9","unix":"h.sock","store":"var/holdfast.db","fds":[]}'
  return self:script("ready.sh", ("printf '%%s' '%s' >&3\n%s\n"):format(ready, text))
end

return M
