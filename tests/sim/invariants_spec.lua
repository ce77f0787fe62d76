-- Every promise has a checker, and every checker catches the bug that the engine can be told to have.
-- Each pair of tests runs one scenario: with the bug it must be caught, without it must pass.
local sim = require "holdfast.sim"

-- A policy without a platform: dials what a mute peer's answer says.
local function policy(more)
  return [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "test",
  about = "for the checkers",
  options = { token = { type = "secret", required = true }, api = { type = "url", default = "https://mute.test" } },
  identity = { "token" },
  account = { "token" },
  hosts = { "mute.test" },
]] .. more .. [[
  prepare = function (conn) return { url = "wss://mute.test/ws" } end,
}
]]
end

local function world(options)
  local s = sim.new { seed = options.seed or 1, plant = options.plant }
  s:peer("mute", { host = "mute.test", options = { echo = true } })
  s:connection("a", { policy = policy(options.policy or ""), token = s:secret "t" })
  return s
end

local function discord(options)
  local s = sim.new { seed = options.seed or 1, plant = options.plant }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" } })
  s:connection("a", { policy = "discord", token = s:secret "1.x", intents = 513, api = p.url .. "/api/v10" })
  return s, p
end

local scenarios = {
  I1 = function (plant)
    local s, p = discord { plant = plant }
    s:up "a"
    s:fault("no_close_answer", {})
    for _ = 1, 10 do
      p:control "op7"
      s:advance "2m"
    end
    return s
  end,
  I2 = function (plant)
    local s, p = discord { plant = plant }
    p:control("fault", { close_after_identify = 1000 })
    s:advance "1h"
    return s
  end,
  I3 = function (plant)
    local s = world { plant = plant, policy = [[
      backoff = { first = "1s", most = "5s", jitter = "none" },
      classify = { { any = true, verdict = "resume", delay = "0s" } },
    ]] }
    s:fault("refuse", {})
    s:advance "1m"
    return s
  end,
  I4 = function (plant)
    local s = world { plant = plant, policy = [[ alive = { ping = "20s", silence = "45s" }, ]] }
    s:up "a"
    s:advance "1m"
    s:fault("half_open", {})
    s:advance "5m"
    return s
  end,
  I5 = function (plant)
    local s = world { plant = plant, policy = [[ alive = { ping = "20s", silence = "45s" }, ]] }
    s:up "a"
    s:quiet "24h"
    return s
  end,
  I6 = function (plant)
    local s = world { plant = plant }
    s:fault("refuse", { lasts = "20m" })
    s:advance "20m"
    s:heal()
    s:advance "1h"
    return s
  end,
  I7 = function (plant)
    local s = world { plant = plant, policy = [[
      frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } },
                 ack = { when = "early", frame = '{"ack":"@id"}' }, accept = true },
    ]] }
    s:up "a"
    s:fault("store_delay", { ms = "2s" })
    local c = s:consumer { name = "bot" }
    for i = 1, 5 do
      s:send("a", { id = "m" .. i })
      s:advance "10s"
    end
    assert.equal(5, #c:events())
    local acks = 0
    for _, m in ipairs(s:wire("a", "out")) do
      if m.data:find('"ack"', 1, true) then acks = acks + 1 end
    end
    assert.equal(5, acks)
    return s
  end,
  I8 = function (plant)
    local s = world { plant = plant }
    s:fault("refuse", {})
    s:advance "5m"
    return s
  end,
}

for n = 1, 8 do
  local id = "I" .. n
  describe("the promise " .. id, function ()
    it("has a checker that catches a planted bug", function ()
      local ok, err = pcall(scenarios[id], id)
      assert.is_false(ok, "nothing was caught")
      assert.truthy(tostring(err):find(id .. " violated", 1, true), tostring(err))
      assert.truthy(tostring(err):find("last lines of the trace", 1, true), tostring(err))
    end)

    it("holds in the same scenario without the bug", function ()
      scenarios[id](nil):close()
    end)
  end)
end
