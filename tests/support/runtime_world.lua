-- The runtime over a host that does nothing by itself: steps that every spec needs.
local runtime = require "unit.runtime"
local scratch = require "scratch"

local world = {}

local POLICY = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "test", about = "for the runtime's own specs",
  options = { token = { type = "secret", required = true } },
  identity = { "token" }, account = { "token" }, hosts = { "far.test" },
%s
}
]]
local PREPARE = [[  prepare = function (conn) return { url = "wss://far.test/ws?key=SECRET" } end,]]

---Path of a policy file with these tables; `prepare` is added when they have none.
function world.policy(more)
  local path = scratch.path "policy.lua"
  local file = assert(io.open(path, "w"))
  file:write((POLICY:gsub("%%s", function () return more .. (more:find "prepare =" and "" or PREPARE) end)))
  file:close()
  return path
end

function world.new(more, most)
  local w = runtime.new(most)
  assert(w:add("a", world.policy(more or ""), "return { token = 'T' }"))
  w:tick()
  return w
end

---Link `n` up to the accepted upgrade; what the host was asked for stays in the log.
function world.open(w, n)
  for _, stage in ipairs { "resolving", "connecting", "securing" } do w:stage(n, stage) end
  w:opened(n)
  return w:bytes(n, runtime.accept(w:written(n)))
end

function world.up(more)
  local w = world.new(more)
  world.open(w, 1)
  local state = w:view("a").state
  if state ~= "up" then error("the connection is " .. state, 2) end
  w:log()
  w:written(1)
  return w
end

function world.text(payload) return runtime.frame(1, payload) end

---Kinds and payloads of what was written to link `n` since the last look.
function world.sent(w, n)
  local out = {}
  for i, item in ipairs(runtime.decode(w:written(n))) do
    out[i] = item.kind == "close" and "close " .. item.code or item.kind .. " " .. item.data
  end
  return out
end

return world
