-- Policies as tests write them: runs a policy's text beside a stand-in for `holdfast`, so that the schema
-- can be tested without the sandbox.
local schema = require "unit.policy_schema"

local text = {}

-- The table that a policy file returns.
function text.load(source, name)
  local chunk = assert(loadstring(source, name or "=policies/x.lua"))
  setfenv(chunk, setmetatable({
    require = function() return { policy = function(t) return t end } end,
  }, { __index = _G }))
  return chunk()
end

-- The smallest policy without a complaint, with `changes` laid over its root.
function text.plain(changes)
  local policy = {
    platform = "chatter",
    options = { token = { type = "secret", required = true }, shard = { type = "integer", default = 0 } },
    identity = { "token", "shard" },
    account = { "token" },
    hosts = { "*.chatter.example" },
    session = { of = "token" },
    classify = { { any = true, verdict = "resume" } },
    prepare = function() end,
  }
  for k, v in pairs(changes or {}) do policy[k] = v ~= "NIL" and v or nil end
  return policy
end

-- "backoff.first: what is wrong", errors and warnings, in order.
function text.problems(input)
  local _, problems = schema.check(input)
  local out = {}
  for i, p in ipairs(problems) do out[i] = (p.warning and "warning: " or "") .. (p.key or "") .. ": " .. p.text end
  return out
end

return text
