-- A simulated QQ bot platform and one connection to it, for the qqbot specs.
local platform_world = require "platform_world"

local APP, SECRET = "102000001", "not-a-real-secret-of-qq"

local world = platform_world.of {
  policy = "qqbot", host = "qq.test", kind = "op",
  -- The end of a connection's life is for the specs that are about it.
  peer = function () return { app_id = APP, client_secret = SECRET, lifetime = 0 } end,
  connection = function (s, p)
    return { app_id = APP, client_secret = s:secret(SECRET, "client_secret"), api = p.url,
             token_url = p.url .. "/app/getAppAccessToken" }
  end,
  number = function (e) return e.frame and e.frame.t == "GROUP_AT_MESSAGE_CREATE" and e.frame.d.number or nil end,
}

world.APP, world.SECRET = APP, SECRET
world.INTERVAL = 45000

-- Beats of many links go out together: a small part of their interval early, never late.
function world.paced(interval, gap)
  assert(gap <= interval and gap > interval - math.min(interval / 128, 256), ("beats %d apart, not %d"):format(gap, interval))
end

return world
