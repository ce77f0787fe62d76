-- A simulated Slack and one connection to it, for the slack specs.
local platform_world = require "platform_world"

local TOKEN = "xapp-1-A0TEST-1111111111111-0123456789abcdef-not-a-real-token"

local world = platform_world.of {
  policy = "slack", host = "wss-primary.slack.com", names = { "slack.com" }, kind = "type",
  peer = function () return { token = TOKEN, ping = 30000 } end,
  connection = function (s) return { app_token = s:secret(TOKEN, "app_token") } end,
}

world.TOKEN = TOKEN

---Instants of `apps.connections.open` since `from`.
function world.opens(p, from) return world.instants(p, "open", from) end

---Acknowledgements on the wire: { at, generation, frame }.
function world.acks(s, name)
  local out = {}
  for _, m in ipairs(world.frames(s, name or "a", "out")) do
    if m.frame.envelope_id then out[#out + 1] = m end
  end
  return out
end

---Raises unless the delays between instants climb as the backoff's ladder does: from half of each rung to the
---whole, `slack` ms more for what the attempt itself took.
function world.assert_ladder(instants, first, most, slack)
  local rung = first
  for i = 2, #instants do
    local gap = instants[i] - instants[i - 1]
    if gap < rung / 2 or gap > rung + (slack or 1500) then
      error(("delay %d is %d ms, the rung is %d"):format(i - 1, gap, rung), 2)
    end
    rung = math.min(rung * 2, most)
  end
end

return world
