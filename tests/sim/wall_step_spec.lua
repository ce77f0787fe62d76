local sim = require "holdfast.sim"

local function world(seed)
  local s = sim.new { seed = seed or 1 }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" } })
  s:connection("a", { policy = "discord", token = s:secret "1.x", intents = 513, api = p.url .. "/api/v10" })
  p:control("fault", { close_after_identify = 1000 })
  return s, p
end

describe("a step of the wall clock", function ()
  it("forward does not refill a budget of session starts", function ()
    local s, p = world()
    s:advance "30m"
    s:wall_step "20h"
    s:advance "1h"
    p:control "heal"
    s:close()
  end)

  it("backward does not refill or lock one", function ()
    local s, p = world()
    s:advance "30m"
    s:wall_step "-20h"
    s:advance "1h"
    p:control "heal"
    s:advance "2h"
    assert.equal("up", s:state "a")
    s:close()
  end)

  it("forward, and then a restart, does not refill it either", function ()
    local s, p = world()
    s:advance "30m"
    local before = p:control("stats").identifies
    for _ = 1, 5 do
      s:wall_step "20h"
      s:crash_and_restart { after = "1s" }
      s:advance "2m"
    end
    assert.is_true(before >= 15)
    assert.is_true(p:control("stats").identifies <= 22)
    assert.equal("queued", s:state "a")
    p:control "heal"
    s:close()
  end)

  it("is no suspend: the link stays", function ()
    local s = sim.new { seed = 1 }
    local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" } })
    s:connection("a", { policy = "discord", token = s:secret "1.x", intents = 513, api = p.url .. "/api/v10" })
    s:up "a"
    for _, by in ipairs { "1h", "-3h", "5s", "-5s", "48h" } do
      s:wall_step(by)
      s:quiet "10m"
    end
    s:close()
  end)
end)
