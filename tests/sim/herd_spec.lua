-- Many more connections than may dial at once: started together, cut together, or beside a host that is silent. The
-- simulator checks all promises after each step, the bound of I6 among them.
local sim = require "holdfast.sim"
local world = require "hook_world"

local COUNT = 300
local BODIES = { fetch = false, on_frame = false, on_ended = false, every = false }
local TABLES = { backoff = [[{ first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "60s" }]],
                 classify = [[{ { any = true, verdict = "resume" } }]] }

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

local function add(from, to, host)
  local bodies = { prepare = ([[ return { url = "wss://%s/ws" } ]]):format(host) }
  for k, v in pairs(BODIES) do bodies[k] = v end
  local path = world.policy(bodies, TABLES)
  for i = from, to do s:connection("c" .. i, { policy = path, token = s:secret("token-" .. i, "token") }) end
end

local function count(state, from, to)
  local n = 0
  for i = from or 1, to or COUNT do n = n + (s:state("c" .. i) == state and 1 or 0) end
  return n
end

local function until_up(from, to, within_ms)
  local until_ms = s:now() + within_ms
  while count("up", from, to) < to - from + 1 do
    assert.is_true(s:now() < until_ms, count("up", from, to) .. " are up")
    s:advance "100ms"
  end
end

local function failed()
  local n = 0
  for i = 1, COUNT do n = n + s:view("c" .. i).failed end
  return n
end

describe(COUNT .. " connections", function ()
  it("that start together all come up, without one failure", function ()
    s = sim.new { seed = tonumber(os.getenv "HOLDFAST_SEED" or "1") }
    s:peer("mute", { host = "echo.test", names = { "gw.echo.test" }, options = { echo = true } })
    add(1, COUNT, "echo.test")
    until_up(1, COUNT, 30000)
    assert.equal(0, failed())
    s:close()
  end)

  it("that are cut in one instant by a host that refuses all for 2 s come back, after two refused attempts each at most", function ()
    s = sim.new { seed = tonumber(os.getenv "HOLDFAST_SEED" or "1") }
    s:peer("mute", { host = "echo.test", names = { "gw.echo.test" }, options = { echo = true } })
    add(1, COUNT, "echo.test")
    until_up(1, COUNT, 30000)
    s:advance "70s"
    local before = {}
    for i = 1, COUNT do before[i] = s:view("c" .. i).attempts end
    s:fault("refuse", { what = "link" })
    s:fault("reset", { times = COUNT, what = "link" })
    s:advance "2s"
    assert.equal(0, count "up")
    s:heal()
    until_up(1, COUNT, 60000)
    for i = 1, COUNT do
      local v = s:view("c" .. i)
      assert.is_true(v.attempts - before[i] <= 3, ("c%d tried %d times"):format(i, v.attempts - before[i]))
      assert.not_equal("timeout", v.cause.kind)
    end
    s:close()
  end)

  it("most of which dial a host that is silent do not keep the others from theirs", function ()
    s = sim.new { seed = tonumber(os.getenv "HOLDFAST_SEED" or "1") }
    s:peer("mute", { host = "echo.test", names = { "gw.echo.test", "good.echo.test" }, options = { echo = true } })
    s:fault("black_hole", { host = "gw.echo.test", what = "link" })
    add(1, COUNT - 20, "gw.echo.test")
    add(COUNT - 19, COUNT, "good.echo.test")
    until_up(COUNT - 19, COUNT, 4000) -- who asked last
    assert.equal(0, count("up", 1, COUNT - 20))
    s:heal()
    until_up(1, COUNT, 300000)
    s:close()
  end)
end)
