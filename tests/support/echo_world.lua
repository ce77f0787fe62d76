-- A world with one connection towards a server that echoes: what a consumer sends comes back as a frame.
local sim = require "holdfast.sim"

local echo = {}

---The text of a policy: `more` are its tables beyond the identity and `prepare`.
function echo.policy(more)
  return [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "test", about = "for regressions",
  options = { token = { type = "secret", required = true } },
  identity = { "token" }, account = { "token" }, hosts = { "mute.test" },
  prepare = function (conn) return { url = "wss://mute.test/ws" } end,
]] .. more .. "}\n"
end

---@param more string
---@param options? table  of sim.new
function echo.new(more, options)
  local s = sim.new(options or { seed = 1 })
  s:peer("mute", { host = "mute.test", options = { echo = true } })
  s:connection("a", { token = s:secret "t", policy = echo.policy(more) })
  return s
end

---Messages of one direction that hold `text`.
function echo.wire(s, direction, text)
  local out = {}
  for _, m in ipairs(s:wire("a", direction)) do
    if m.data:find(text, 1, true) then out[#out + 1] = m end
  end
  return out
end

return echo
