-- A simulated Feishu and one connection to it, for the feishu specs.
local platform_world = require "platform_world"

local APP, SECRET = "cli_a1b2c3d4e5f60718", "marked-secret-of-the-app"

local world = platform_world.of {
  policy = "feishu", host = "open.feishu.test", names = { "front.feishu.cn" }, settled = "125s",
  peer = function () return { app_id = APP, app_secret = SECRET } end,
  connection = function (s, p)
    return { app_id = APP, app_secret = s:secret(SECRET, "app-secret"), domain = p.url }
  end,
  number = function (e)
    local event = e.frame and e.frame.payload and e.frame.payload.event
    return type(event) == "table" and event.number or -1
  end,
}

world.APP, world.SECRET = APP, SECRET
world.PING_HEX = "0800100018f681801020002a0c0a0474797065120470696e67"

---Instants of the endpoint's calls since `from`.
function world.posts(p, from)
  local out = {}
  for _, e in ipairs(p:control "posts") do
    if e.at >= (from or 0) then out[#out + 1] = e.at end
  end
  return out
end

return world
