-- A simulated Discord and one connection to it, for the discord specs.
local platform_world = require "platform_world"

local TOKEN = "MTAwMDAwMDAwMDAwMDAwMDAw.GaBcDe.not-a-real-token"
local RESUME_HOST = "gateway-us-east1-b.discord.gg"

local world = platform_world.of {
  policy = "discord", host = "discord.test", names = { RESUME_HOST }, kind = "op",
  peer = function () return { token = TOKEN, resume_host = "wss://" .. RESUME_HOST } end,
  connection = function (s, p)
    return { token = s:secret(TOKEN, "token"), intents = 513, api = p.url .. "/api/v10" }
  end,
  number = function (e) return e.frame.t == "MESSAGE_CREATE" and e.frame.d.number or nil end,
}

world.TOKEN, world.RESUME_HOST = TOKEN, RESUME_HOST
world.INTERVAL = 41250

return world
