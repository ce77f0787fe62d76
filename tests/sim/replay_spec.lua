-- Traces of simulated connections: what is in one, what never is, and what replays.
local sim = require "holdfast.sim"

local function discord(seed, options)
  local s = sim.new { seed = seed }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" }, options = { events_every = 15000 } })
  s:connection("bot", { policy = options and options.policy or "discord", token = s:secret "1.secret-token-marked",
                        intents = 513, api = p.url .. "/api/v10" })
  return s, p
end

local function exact(bytes)
  local r = assert(sim.core.replay(bytes))
  assert.equal(r.steps, r.steps_equal)
  assert.equal(r.hooks, r.hooks_run)
  assert.equal(r.hooks_run, r.hooks_equal)
  return r
end

describe("a recorded run", function ()
  it("replays to the same effects and the same hooks", function ()
    local s, p = discord(7)
    s:advance "3m"
    p:control("kick", { code = 4000 })
    s:advance "5m"
    local r = exact(assert(s.core:recorded "bot"))
    assert.is_true(r.steps > 20 and r.hooks > 8)
    s:close()
  end)

  it("is the same bytes in two runs of one seed", function ()
    local function bytes()
      local s, p = discord(7)
      s:advance "3m"
      p:control("kick", { code = 4000 })
      s:advance "5m"
      local b = assert(s.core:recorded "bot")
      s:close()
      return b
    end
    assert.is_true(bytes() == bytes())
  end)

  it("keeps the incident of the day before, and not the quiet hours since", function ()
    local s, p = discord(3)
    s:advance "3m"
    p:control("kick", { code = 4000 })
    s:advance "1m"
    local after = #assert(sim.core.unpacked(s.core:recorded "bot"))
    s:advance "26h"
    local bytes = assert(s.core:recorded "bot")
    local r = exact(bytes)
    assert.is_true(#assert(sim.core.unpacked(bytes)) < after + 8000, "quiet hours grew it")
    assert.is_true(r.dropped > 1000)
    assert.is_truthy(sim.core.unpacked(bytes):find("resume_url", 1, true))
    s:close()
  end)

  it("goes on over a reload, with both policies in it", function ()
    local f = assert(io.open "policies/discord.lua")
    local text = f:read "*a"
    f:close()
    local s, p = discord(9, { policy = text })
    s:advance "2m"
    p:control("kick", { code = 4000 })
    s:advance "1s"
    assert(s:reload("bot", (text:gsub('"60s"', '"61s"', 1))))
    s:advance "2m"
    p:control("kick", { code = 4000 })
    s:advance "1m"
    exact(assert(s.core:recorded "bot"))
    s:close()
  end)

  it("knows of an account what its other connections took in between", function ()
    local s = sim.new { seed = 11 }
    local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" }, options = { events_every = 15000 } })
    local token = s:secret "1.secret-token-marked"
    -- One of the shards may say who it is every five seconds: the others wait for it.
    for shard = 0, 2 do
      s:connection("bot" .. shard, { policy = "discord", token = token, intents = 513, api = p.url .. "/api/v10",
                                     shard_id = shard, shard_count = 3 })
    end
    s:advance "1m"
    for _ = 1, 3 do
      p:control("kick", { code = 4007 }) -- the session is over: each has to say it again
      s:advance "2m"
    end
    for shard = 0, 2 do
      local r = exact(assert(s.core:recorded("bot" .. shard)))
      assert.is_true(r.steps > 20)
    end
    s:close()
  end)

  it("holds only what is younger when it is asked for that", function ()
    local s, p = discord(3)
    for _ = 1, 4 do
      p:control("kick", { code = 4000 })
      s:advance "2h"
    end
    local all, last = exact(s.core:recorded "bot"), exact(s.core:recorded("bot", 60000))
    assert.is_true(last.steps < all.steps)
    s:close()
  end)
end)

describe("a trace that is none", function ()
  local s, p = discord(5)
  s:advance "3m"
  p:control("kick", { code = 4000 })
  s:advance "5m"
  local good = assert(s.core:recorded "bot")
  s:close()

  it("is one sentence, wherever it is cut off", function ()
    for n = 0, #good - 1, 7 do
      local r, why = sim.core.replay(good:sub(1, n))
      assert.is_nil(r)
      assert.is_truthy(why:find "cut off" or why:find "damaged" or why:find "not a trace", why)
    end
  end)

  it("is one sentence, whichever bit is another", function ()
    for n = 1, #good, 5 do
      local other = string.char((good:byte(n) + 1 + n % 255) % 256)
      if other ~= good:sub(n, n) then
        local r, why = sim.core.replay(good:sub(1, n - 1) .. other .. good:sub(n + 1))
        assert.is_nil(r, "byte " .. n)
        assert.is_string(why)
      end
    end
  end)

  it("may claim no more than a trace has, and unpack to no more", function ()
    local head = "holdfast trace 1\n"
    local r, why = sim.core.replay(head .. ("\255"):rep(16) .. good:sub(#head + 17))
    assert.is_nil(r)
    assert.is_truthy(why:find "larger than a trace may be")
    assert.is_nil((sim.core.replay "hello"))
    assert.is_nil((sim.core.replay ""))
  end)
end)

describe("a secret", function ()
  -- Every way that a policy can write one: as it is, joined, in hex and base64, as a digest.
  local POLICY = [[
local holdfast = require "holdfast"
local crypto = holdfast.crypto
return holdfast.policy {
  platform = "spill",
  about = "writes its secret wherever it can",
  options = { token = { type = "secret", required = true }, app = { type = "string", default = "app" } },
  identity = { "token" },
  hosts = { "mute.test" },
  alive = { ping = "20s", silence = "45s" },
  frames = { codec = "json", deliver = true },
  fetch = { ticket = { keep = "1h", call = function (conn)
    local answer = conn:http { url = "https://mute.test/ticket?sign=" .. crypto.hex(crypto.hmac("sha256", conn.options.token, "x")),
                               headers = { Authorization = "Basic " .. crypto.base64(conn.options.app .. ":" .. conn.options.token) },
                               json = { secret = conn.options.token, sign = crypto.base64(crypto.sha256(conn.options.token)) } }
    if not answer then return conn:fail "ticket" end
    return answer.json.url
  end } },
  prepare = function (conn) return { url = conn:get "ticket", headers = { ["X-Token"] = "T " .. conn.options.token } } end,
  greet = function (conn)
    conn:send { hex = crypto.hex(conn.options.token), joined = "<" .. conn.options.token .. ">" }
    conn:warn("token " .. tostring(conn.options.token))
  end,
}
]]
  local TOKEN, TICKET = "marked-secret-4711-abcdefgh", "marked-ticket-0815-ijklmnop"

  local function b64(text)
    return require("holdfast.sim").core and (function ()
      local out, map = {}, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
      for i = 1, #text, 3 do
        local a, b, c = text:byte(i, i + 2)
        local n = a * 65536 + (b or 0) * 256 + (c or 0)
        for k, shift in ipairs { 262144, 4096, 64, 1 } do
          local v = math.floor(n / shift) % 64
          out[#out + 1] = (k == 3 and not b or k == 4 and not c) and "=" or map:sub(v + 1, v + 1)
        end
      end
      return table.concat(out)
    end)()
  end

  it("stands in no trace, in no writing, and the trace replays all the same", function ()
    local s = sim.new { seed = 2 }
    s:peer("mute", { host = "mute.test", options = { url = "wss://mute.test/socket?ticket=" .. TICKET .. "&x=1" } })
    s:connection("bot", { policy = POLICY, token = s:secret(TOKEN, "token") })
    s:advance "10s"
    s:fault("reset", { times = 1 })
    s:advance "2m"
    local bytes = assert(s.core:recorded "bot")
    local text = assert(sim.core.unpacked(bytes))
    local hex = TOKEN:gsub(".", function (c) return ("%02x"):format(c:byte()) end)
    for what, secret in pairs { token = TOKEN, ticket = TICKET, hex = hex, base64 = b64("app:" .. TOKEN) } do
      assert.is_nil(text:find(secret, 1, true), what)
      assert.is_nil(text:find(secret:sub(3, 18), 1, true), "a part of " .. what)
    end
    assert.is_truthy(text:find("token.token.", 1, true))
    local r = exact(bytes)
    assert.is_true(r.hooks_run > 4)
    s:close()
  end)
end)
