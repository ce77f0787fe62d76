-- A fetch that waited for another fetch hung the loop when its attempt was cancelled: the inner one lost its
-- task, was begun again for the outer one, which was about to go, and so on without end.
local sim = require "holdfast.sim"

local function policy(more)
  return [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "test", about = "for regressions",
  options = { token = { type = "secret", required = true }, shard = { type = "integer", default = 0 },
              api = { type = "url", default = "https://mute.test" } },
  identity = { "token", "shard" }, account = { "token" }, hosts = { "mute.test" },
]] .. more .. "}\n"
end

local nested = [[
  limits = { prepare = "5s", call = "10s" },
  fetch = {
    token = { call = function (conn) return conn:http({ url = conn.options.api .. "/token" }).body end, keep = "1h" },
    gateway = { call = function (conn) return conn:get "token" and "wss://mute.test/ws" end, keep = "1h" },
  },
  prepare = function (conn) return { url = conn:get "gateway" } end,
]]

local function world()
  local s = sim.new { seed = 1 }
  s:peer("mute", { host = "mute.test", options = { url = "wss://mute.test/ws" } })
  return s
end

describe("a cancelled attempt", function ()
  it("takes along the fetches that waited for each other", function ()
    local s = world()
    s:fault("black_hole", { lasts = "1m" })
    s:connection("a", { token = s:secret "t", policy = policy(nested) })
    s:advance "30s"
    assert.equal("timeout", s:view("a").cause.name)
    s:up("a", "2m")
    s:close()
  end)

  it("leaves its fetches to another connection that waits for them", function ()
    local s = world()
    s:fault("black_hole", { times = 1 })
    s:connection("a", { token = s:secret "t", shard = 1, policy = policy(nested) })
    s:advance "3s"
    s:connection("b", { token = s:secret "t", shard = 2, policy = policy(nested) })
    s:up("b", "10s")
    assert.equal(1, #s:http(), "the first call never arrived")
    s:up("a", "1m")
    assert.equal(1, #s:http(), "and it finds what the other fetched")
    s:close()
  end)

  it("ends although two fetches wait for each other", function ()
    local s = world()
    s:connection("a", { token = s:secret "t", policy = policy [[
      limits = { prepare = "5s" },
      fetch = {
        one = { call = function (conn) return conn:get "two" end },
        two = { call = function (conn) return conn:get "one" end },
      },
      prepare = function (conn) return { url = conn:get "one" } end,
    ]] })
    s:advance "20s"
    assert.equal("timeout", s:view("a").cause.name)
    s:close()
  end)
end)

describe("a value that is good for one attempt", function ()
  it("is fetched anew for who asks again, without an end to serving", function ()
    local s = world()
    s:connection("a", { token = s:secret "t", policy = policy [[
      fetch = { ticket = { call = function (conn) return conn:http({ url = conn.options.api .. "/t" }).body end,
                           keep = "0s" } },
      prepare = function (conn)
        for _ = 1, 3 do conn:get "ticket" end
        return { url = "wss://mute.test/ws" }
      end,
    ]] })
    s:up("a", "10s")
    assert.equal(3, #s:http())
    s:close()
  end)
end)
