-- A simulated Mattermost and one connection to it, for tests/policy/mattermost_spec.lua.
local platform_world = require "platform_world"

local TOKEN = "bottoken0123456789abcdefgh"

return platform_world.of {
  policy = "mattermost", host = "chat.test", kind = "event",
  peer = function () return { token = TOKEN } end,
  connection = function (s) return { token = s:secret(TOKEN, "token"), server = "https://chat.test" } end,
  number = function (e) return e.take.event == "posted" and e.frame.data.number or nil end,
}
