-- Outages that many connections share: how they are told, how attempts against a host that answers nobody are
-- thinned out, and how those that waited return: spread out, and none later than the bound that is printed (I6),
-- which the simulator checks of each after heal().
local sim = require "holdfast.sim"
local world = require "hook_world"

local COUNT = 200
local BODIES = { fetch = false, on_frame = false, on_ended = false, every = false,
                 prepare = [[ return { url = "wss://echo.test/ws" } ]] }
local TABLES = { backoff = [[{ first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "60s" }]],
                 classify = [[{ { any = true, verdict = "resume" } }]] }

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

-- `own`: each connection has a host for itself, which nobody else's failures say anything of.
local function open(count, own)
  s = sim.new { seed = tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  local names = { "gw.echo.test" }
  for i = 1, count do names[#names + 1] = ("c%d.echo.test"):format(i) end
  s:peer("mute", { host = "echo.test", names = names, options = { echo = true } })
  local bodies = setmetatable({ prepare = own and [[ return { url = "wss://" .. conn.name .. ".echo.test/ws" } ]] or BODIES.prepare },
    { __index = BODIES })
  for k, v in pairs(BODIES) do if bodies[k] == nil then bodies[k] = v end end
  local copy = {}
  for k, v in pairs(BODIES) do copy[k] = v end
  copy.prepare = bodies.prepare
  for i = 1, count do
    s:connection("c" .. i, { policy = world.policy(copy, TABLES), token = s:secret("token-" .. i, "token") })
  end
  s:run_until(function () return s:state("c" .. count) == "up" end, "30s")
  s:advance "70s"
end

local function attempts()
  local n = 0
  for i = 1, COUNT do n = n + s:view("c" .. i).attempts end
  return n
end

local function up()
  local n = 0
  for i = 1, COUNT do n = n + (s:state("c" .. i) == "up" and 1 or 0) end
  return n
end

local function outage(lasts)
  local before = attempts()
  s:fault("refuse", { what = "link" })
  s:fault("reset", { times = COUNT, what = "link" })
  s:advance "5s"
  assert.equal(0, up())
  s:advance(lasts)
  return attempts() - before
end

describe("200 connections whose host goes away", function ()
  it("try less than half as often as if each were alone with its host", function ()
    open(COUNT, true)
    local alone = outage "5m"
    s:abandon()
    open(COUNT)
    local together = outage "5m"
    assert.is_true(together * 2 < alone, together .. " attempts together, " .. alone .. " alone")
    assert.is_true(together > 5 * 60 / 20, "a few go on trying: " .. together)
  end)

  it("return spread out, as soon as one of those that went on trying came through", function ()
    open(COUNT)
    outage "5m"
    local from, last = s:now(), attempts()
    s:heal()
    local first, most, half, all
    for _ = 1, 2400 do
      s:advance "100ms"
      local now, n = attempts(), up()
      if n > 0 and not first then first = s:now() end
      most, last = math.max(most or 0, now - last), now
      -- Nobody comes earlier than its own backoff said.
      if n >= COUNT / 2 and not half then half = s:now() end
      if n == COUNT then all = s:now() break end
    end
    assert.equal(COUNT, up())
    -- 10 a second, and what was due by itself in that tenth of a second.
    assert.is_true(most <= 10, most .. " attempts in 100 ms")
    assert.is_true(half - first <= 15000, "half came back " .. (half - first) .. " ms after the first")
    assert.is_true(all - from <= 64000, "all came back " .. (all - from) .. " ms after the host did")
    s:close()
  end)

  it("say so in one line, and each journal that it is not alone", function ()
    open(COUNT)
    assert.same({}, s:weather())
    outage "2m"
    local fronts = s:weather()
    assert.equal(1, #fronts)
    assert.is_truthy(fronts[1]:match "^echo: 200 of 200 connections failing at connecting since %d%d:%d%d UTC, one cause: refused$", fronts[1])
    local alone = 0
    for i = 1, COUNT do
      local found = 0
      for _, text in ipairs(world.journal(s, "c" .. i, "note")) do found = found + (text:match "^not alone: echo: " and 1 or 0) end
      alone = alone + (found == 0 and 1 or 0)
      assert.is_true(found <= 1, "told " .. found .. " times")
    end
    assert.is_true(alone <= COUNT / 10, alone .. " were not told")
    local view = s:json "c1"
    assert.is_truthy(view.weather:match "^echo: ")
    s:heal()
    s:run_until(function () return up() == COUNT end, "3m")
    s:advance "2s"
    assert.same({}, s:weather())
    assert.is_nil(s:json("c1").weather)
    s:close()
  end)
end)

describe("attempts that are held back", function ()
  local function held()
    local list = {}
    for i = 1, COUNT do
      local next_of = s:json("c" .. i).next
      if next_of and next_of.held then list[#list + 1] = "c" .. i end
    end
    return list
  end

  it("never wait longer than the longest wait of the policy, and are said to be held", function ()
    open(COUNT)
    outage "2m"
    local list = held()
    assert.is_true(#list > COUNT / 2, #list .. " are held")
    for _, name in ipairs(list) do
      local v = s:view(name)
      assert.is_true(v.deadline - v.since <= 63250 + 1000, name .. " waits " .. (v.deadline - v.since))
    end
    s:heal()
    s:advance "2m"
    assert.equal(COUNT, up())
    s:close()
  end)

  it("go on at once when an operator asks, and wait for nobody who is gone", function ()
    open(COUNT)
    outage "2m"
    local list = held()
    local before = s:view(list[1]).attempts
    s:restart(list[1])
    s:advance "2s"
    assert.is_true(s:view(list[1]).attempts > before)
    for i = 1, COUNT - 20 do s:remove("c" .. i) end
    s:heal()
    s:advance "2m"
    for i = COUNT - 19, COUNT do assert.equal("up", s:state("c" .. i)) end
    s:close()
  end)

  it("are none while some still come up there", function ()
    open(COUNT)
    s:fault("refuse", { what = "link", probability = 0.5 })
    s:fault("reset", { times = COUNT, what = "link" })
    s:advance "10s"
    assert.is_true(#held() <= 5)
    s:heal()
    s:advance "2m"
    assert.equal(COUNT, up())
    s:close()
  end)

  it("are the same, byte for byte, with the same seed", function ()
    local runs = {}
    for run = 1, 2 do
      open(COUNT)
      outage "1m"
      runs[run] = table.concat(s:weather(), "\n") .. attempts() .. table.concat(held(), " ")
      s:abandon()
    end
    assert.equal(runs[1], runs[2])
    s = nil
  end)
end)
