-- Helpers for specs of the real host: worlds and servers that are closed after each test, bounded
-- waits, and the check that no descriptor is left.
local net = require "unit.net"

local world = {}
local opened, servers, fds_before

local WAIT_MS = 10000

net.open({}):close() -- what libuv opens once per process is no leak of a test

function world.setup()
  opened, servers = {}, {}
  collectgarbage()
  fds_before = net.fd_count()
end

-- Every test ends with the same check: loops run dry, no descriptor more than at the start.
function world.teardown()
  for _, w in ipairs(opened) do assert(w:close(), "handles left in the loop") end
  for _, s in ipairs(servers) do s:stop() end
  opened, servers = {}, {}
  assert(net.fd_count() == fds_before,
    ("%d descriptors, %d before the test"):format(net.fd_count(), fds_before))
end

function world.open(options)
  local w = net.open(options or {})
  table.insert(opened, w)
  return w
end

function world.server(options)
  local s = net.server(options)
  table.insert(servers, s)
  return s
end

local pending = setmetatable({}, { __mode = "k" }) -- events that an earlier wait did not look at

-- What happened and was not looked at by any wait.
function world.rest(w)
  local list = pending[w] or {}
  for _, e in ipairs(w:events()) do table.insert(list, e) end
  pending[w] = nil
  return list
end

-- Runs the loop until `wanted(event)` holds for one; returns it and the list of all until then.
function world.await(w, wanted)
  local seen = {}
  local until_ms = w:clock() + WAIT_MS
  while true do
    local list = world.rest(w)
    for i, e in ipairs(list) do
      table.insert(seen, e)
      if wanted(e) then
        pending[w] = { unpack(list, i + 1) }
        return e, seen
      end
    end
    if w:clock() >= until_ms then
      local names = {}
      for _, e in ipairs(seen) do table.insert(names, e.what .. (e.cause and ":" .. e.cause.reason or "")) end
      error("did not come; saw: " .. table.concat(names, ", "), 2)
    end
    w:step(100)
  end
end

function world.await_what(w, what, id)
  return world.await(w, function (e) return e.what == what and (not id or e.id == id) end)
end

-- Runs the loop until `done()` holds, which may look at a server. Events are kept for the next wait.
function world.eventually(w, done)
  local until_ms = w:clock() + WAIT_MS
  while not done() do
    assert(w:clock() < until_ms, "did not come to hold")
    w:step(5)
  end
end

-- All bytes of a link in a list of events.
function world.bytes(seen, id)
  local parts = {}
  for _, e in ipairs(seen) do
    if e.what == "bytes" and e.id == id then table.insert(parts, e.bytes) end
  end
  return table.concat(parts)
end

-- "resolving connecting opened ..." of one link.
function world.story(seen, id)
  local words = {}
  for _, e in ipairs(seen) do
    if e.id == id and e.what ~= "bytes" then table.insert(words, e.stage or e.what) end
  end
  return table.concat(words, " ")
end

return world
