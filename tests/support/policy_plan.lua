-- A stock policy's plan for one connection, with what its options need; `more` overrides options, `false`: it is not set; `path`: of another file for the same
-- platform.
local plan = require "unit.policy_plan"

local SETTINGS = {
  discord = { token = "secret:1.x", intents = 513 },
  slack = { app_token = "secret:xapp-1-A01-x" },
  feishu = { app_id = "cli_1", app_secret = "secret:s" },
  qqbot = { app_id = "1020", client_secret = "secret:s" },
  wukongim = { bot_token = "secret:bf_1", api = "https://im.example" },
  mattermost = { token = "secret:t", server = "https://chat.example" },
  generic = { url = "wss://chat.example/" },
}

return function (name, more, path)
  local parts = {}
  local settings = {}
  for k, v in pairs(SETTINGS[name]) do settings[k] = v end
  for k, v in pairs(more or {}) do settings[k] = v or nil end
  for k, v in pairs(settings) do parts[#parts + 1] = ("[%q] = %s"):format(k, type(v) == "string" and ("%q"):format(v) or tostring(v)) end
  return plan.open(path or ("policies/%s.lua"):format(name), "return { " .. table.concat(parts, ", ") .. " }")
end
