-- WuKongIM's scenarios S1 to S14: kicks, refusals, register and what each may cost. The numbers are those of the
-- sheet of scenarios that the policy was written from. S23 and S24 are about an SDK behind holdfast as a proxy: there
-- is no such mode, so they say nothing here.
local world = require "wukongim_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local TOKEN_UPDATED = "账号在其他设备上登录"

local function fleet(count, options)
  options = options or {}
  options.no_connection = true
  s, p = world.new(options)
  for i = 1, count do world.connect(s, p, "b" .. i, { bot_token = s:secret(("bf_%032d"):format(i), "bot_token") }) end
end

local function each_up(count)
  for i = 1, count do
    if s:state("b" .. i) ~= "up" then return false end
  end
  return true
end

local function all_dials(count, from)
  local out = {}
  for i = 1, count do
    for _, at in ipairs(world.dials(s, "b" .. i, from)) do out[#out + 1] = at end
  end
  return out
end

-- Whenever it is not up, something is pending that will move it.
local function watch_pending(name, lasts)
  local stop = s:now() + lasts
  local function look()
    local v = s:view(name)
    if v.state ~= "up" and v.state ~= "stopped" then assert(v.deadline, name .. " waits for nothing: " .. v.state) end
    if s:now() < stop then s:at("250ms", look) end
  end
  look()
end

local function registers(from) return world.logged(p, "register", from) end

-- Every register there ever was found no live session: nobody was kicked by us.
local function assert_kicked_nobody()
  for _, e in ipairs(registers()) do assert.equal(0, e.live) end
  assert.equal(0, p:control("stats").register_kicked)
end

describe("a kick", function ()
  for _, reason in ipairs { "login in other device", TOKEN_UPDATED } do
    it("S1 after each CONNACK makes no storm: " .. reason, function ()
      fleet(15, { peer = { faults = { kick_after = { ms = 2000, reason = reason } } } })
      local from = 0
      for _, ms in ipairs { 0, 2000, 4000, 6000 } do
        s:at(ms, function () p:control("fault", { kick_after = { ms = ms, reason = reason } }) end)
      end
      s:advance "60s"
      for i = 1, 15 do
        local n = #world.dials(s, "b" .. i, from)
        assert.is_true(n >= 2 and n <= 8, n .. " dials")
        assert.equal(1, s:descriptors("b" .. i).most)
      end
      assert.equal(15, #registers())   -- those of the start
      assert_kicked_nobody()
      s:close()
    end)
  end

  it("S3 that arrives again on the old socket, while that closes, ends nothing but it", function ()
    s, p = world.settled()
    s:fault("no_close_answer", { lasts = "3s" })
    p:control("kick", { reason = "server kick", close = 60000 })
    s:run_until(function () return s:state "a" == "closing" end, "1s")
    p:control("raw", { hex = "90030c0000" })           -- DISCONNECT 12, of the same generation
    s:up("a", "3m")
    s:advance "40s"
    assert.equal("up", s:state "a")
    assert.equal(2, s:view("a").generation)
    assert.equal(1, s:view("a").endings)
    s:close()
  end)

  it("S7 that comes 37 s after another is followed by a dial within seconds, and by no register", function ()
    -- The sheet lets kicks refresh; here none does, and the kick without a reason is the one that it means.
    s, p = world.settled()
    local from = s:now()
    p:control("kick", { reason = "" })
    s:run_until(function () return s:view("a").generation == 2 end, "10s")
    s:up("a", "10s")
    s:advance(37000 - (s:now() - from))
    p:control("kick", { reason = "" })
    s:run_until(function () return s:view("a").generation == 3 end, "10s")
    s:up("a", "10s")
    assert.is_true(s:now() - from < 60000)
    assert.equal(0, #registers(from))
    s:close()
  end)

  it("S8 by another installation, again and again, slows us down and is an alarm that names it", function ()
    s, p = world.settled()
    local from = s:now()
    p:control("rival", { every = 3000, lasts = 1800000 })
    s:advance "30m"
    local dials = world.dials(s, "a", from)
    assert.is_true(#dials <= 12 and #dials >= 4, #dials .. " dials")
    assert.equal(0, #registers(from))
    local alarms = world.journal(s, "a", "alarm")
    assert.equal(1, #alarms)
    assert.truthy(alarms[1].text:find("another installation uses this bot token", 1, true))
    -- And it comes back by itself when the other one is gone.
    s:up("a", "11m")
    s:advance "40s"
    assert.equal("up", s:state "a")
    s:close()
  end)

  it("S9 of all bots within a second, as the REST server starts, brings them back spread and without register", function ()
    fleet(200)
    s:run_until(function () return each_up(200) end, "1m")
    s:advance "40s"
    local from = s:now()
    assert.equal(200, p:control "update_tokens")
    s:run_until(function () return p:control("stats").accepted == 400 end, "30s")
    s:advance "2s"
    assert.is_true(each_up(200))
    assert.is_true(world.most_in(all_dials(200, from), 1000) <= 20, world.most_in(all_dials(200, from), 1000))
    assert.equal(0, #registers(from))
    s:close()
  end)

  it("by an operator is slow", function ()
    s, p = world.settled()
    local from = s:now()
    p:control("kick", { reason = "server kick" })
    s:advance "59s"
    assert.equal(0, #world.dials(s, "a", from))
    s:up("a", "1m")
    assert.equal(0, #registers(from))
    s:close()
  end)

  it("that blanked the token is no reason to register: the refusals that follow are", function ()
    s, p = world.settled()
    s:advance "60s"
    local from = s:now()
    p:control "blank"
    s:run_until(function () return #registers(from) == 1 end, "40s")
    assert.equal(2, p:control("stats").silent)
    s:up("a", "10s")
    assert_kicked_nobody()
    s:close()
  end)
end)

describe("register", function ()
  it("S2 runs when the old socket is closed, however long it takes, and one dial follows it", function ()
    s, p = world.settled { peer = { line = "1.2", latest = 5, faults = { register_delay = 3000 } } }
    s:advance "60s"
    local from = s:now()
    p:control "blank"     -- a kick, and CONNACK 2 for the dial after it
    s:run_until(function () return #registers(from) == 1 end, "30s")
    local asked = s:now()
    s:up("a", "10s")
    assert.equal(1, #registers(from))
    assert.equal(1, #world.dials(s, "a", asked))
    assert.is_true(world.dials(s, "a", asked)[1] >= asked + 2900)
    assert_kicked_nobody()
    s:close()
  end)

  it("S4 follows the second silent rejection, once, and half a minute is enough for all of it", function ()
    for seed = 1, 20 do
      s, p = world.settled { seed = seed }
      s:advance "60s"
      local from = s:now()
      p:control "forget"
      world.back(s, "a", "30s")
      assert.equal(2, p:control("stats").silent)
      assert.equal(1, #registers(from))
      assert_kicked_nobody()
      s:abandon()
    end
    s, p = nil, nil
  end)

  it("S5 does not go on for ever when the token is refused all the same: slow, and one alarm", function ()
    s, p = world.settled()
    local from = s:now()
    p:control("fault", { auth = "silent" })
    p:control "close"
    s:advance "1h"
    assert.is_true(#registers(from) <= 8 and #registers(from) >= 2, #registers(from) .. " registers")
    local dials = world.dials(s, "a", from)
    assert.is_true(#dials <= 40 and #dials >= 8, #dials .. " dials")
    assert.equal(1, #world.journal(s, "a", "alarm"))
    local decisions = world.journal(s, "a", "decision")
    assert.equal("slow", decisions[#decisions].decision.pace)
    p:control "heal"
    s:up("a", "21m")   -- the one that it waits for may still be refused: what was renewed is asked for after it
    s:close()
  end)

  it("S6 that is told 429 three times waits as long as it says, with a deadline at every instant", function ()
    -- What asks for it here is a CONNACK that refuses: a kick does not.
    s, p = world.settled { peer = { line = "1.2", latest = 5 } }
    s:advance "60s"
    local from = s:now()
    p:control("fault", { http = { status = 429, times = 3, path = "register", headers = { ["Retry-After"] = "30" } } })
    p:control "forget"
    watch_pending("a", 120000)
    world.back(s, "a", "120s")
    local calls = world.calls(s, "/register", from)
    assert.equal(4, #calls)
    for i = 2, 4 do assert.is_true(calls[i].at - calls[i - 1].at >= 30000) end
    s:close()
  end)

  it("that is told 429 in the body alone waits as well", function ()
    s, p = world.new { peer = { faults = { http = { status = 429, times = 1,
      body = '{"error":{"code":"rate_limited","details":{"retry_after":41}}}' } } } }
    s:up("a", "1m")
    local calls = world.calls(s, "/register")
    assert.is_true(calls[2].at - calls[1].at >= 41000 and calls[2].at - calls[1].at <= 45000)
    s:close()
  end)

  it("that is wanted again within 60 s of the last is postponed, never forgotten", function ()
    s, p = world.settled { peer = { line = "1.2", latest = 5 } }
    s:advance "60s"
    p:control "forget"
    world.back(s, "a", "30s")
    local first = registers()[2].at
    p:control "forget"
    watch_pending("a", 120000)
    s:run_until(function () return #registers() == 3 end, "90s")
    assert.is_true(registers()[3].at - first >= 60000)
    assert.is_true(registers()[3].at - first <= 75000)
    s:up("a", "10s")
    s:close()
  end)

  it("S10 of 200 bots after an outage is spread, and all are back within three minutes", function ()
    fleet(200)
    s:run_until(function () return each_up(200) end, "1m")
    s:advance "2m"
    local down = s:fault("refuse", { what = "link" })
    p:control "forget"
    s:advance "90s"
    down:off()
    local from = s:now()
    s:run_until(function () return each_up(200) end, "180s", "all bots are back")
    local calls = {}
    for _, c in ipairs(world.calls(s, "", from)) do calls[#calls + 1] = c.at end
    -- The sheet asks for 20. Once the server answers one bot, 10 a second are let go; those that are due by themselves
    -- and heartbeats come on top. The platform's own limit is 500 in a second.
    assert.is_true(world.most_in(calls, 1000) <= 30, world.most_in(calls, 1000) .. " calls in a second")
    assert_kicked_nobody()
    s:close()
  end)

  it("S11 and the heartbeat may fail for ten minutes: no link ends for it", function ()
    s, p = world.settled()
    local f = s:fault("refuse", { what = "call" })
    s:quiet("10m", "a")
    f:off()
    p:control("fault", { http = { status = 429, headers = { ["Retry-After"] = "60" } } })
    s:quiet("10m", "a")
    p:control "heal"
    p:control("fault", { silent_http = true })
    s:quiet("10m", "a")
    assert.equal(1, s:view("a").generation)
    s:close()
  end)
end)

describe("a server that", function ()
  it("S12 is silently gone is given up within 60 s, by an abort, and dialled again within six more", function ()
    s, p = world.settled()
    for _, phase in ipairs { 0, 9000, 24000 } do
      s:advance(phase)
      local before = s:view("a").generation
      local from = s:now()
      local f = s:fault("black_hole", { connection = "a", what = "link" })
      s:run_until(function () return s:view("a").generation == before + 1 end, "66s")
      local decisions = world.journal(s, "a", "decision")
      -- Two PINGs, each without an answer within 10 s: the silence of the transport would be next.
      assert.equal("beat", decisions[#decisions].decision.cause.name)
      local closes = s:closes "a"
      assert.is_true(closes[#closes].at - from <= 60000)
      f:off()
      s:up("a", "1m")
      s:advance "40s"
    end
    s:close()
  end)

  it("S13 never answers the upgrade is left after 10 s, each time a little later again", function ()
    s, p = world.new { peer = { faults = { silent_upgrade = true } } }
    s:advance "100s"
    local decisions = world.journal(s, "a", "decision")
    assert.is_true(#decisions >= 4)
    for i, d in ipairs(decisions) do
      assert.equal("upgrading", d.decision.cause.stage)
      assert.equal(i, d.decision.attempt)
    end
    local dials = world.dials(s, "a")
    for i = 2, #dials do assert.is_true(dials[i] - dials[i - 1] >= 10000) end
    assert.equal(1, #registers())
    s:close()
  end)

  it("S14 never says CONNACK is left after 10 s, which is no silent rejection", function ()
    s, p = world.settled()
    local from = s:now()
    p:control("fault", { stall = 3 })
    p:control "close"
    world.back(s, "a", "3m")
    local stalled = 0
    for _, d in ipairs(world.journal(s, "a", "decision")) do
      if d.decision.cause.stage == "greeting" then
        stalled = stalled + 1
        assert.equal("timeout", d.decision.cause.name)
      end
    end
    assert.equal(3, stalled)
    assert.equal(0, #registers(from))
    s:close()
  end)

  it("drops the connection right after CONNECT is restarting, perhaps: that alone is no rejection either", function ()
    s, p = world.settled()
    local from = s:now()
    p:control("fault", { stall = true })
    p:control "close"
    local cut = 0
    s:run_until(function ()
      local connects = #world.logged(p, "connect", from)
      if connects > cut then
        cut = connects
        p:control "drop"
      end
      return cut == 5
    end, "3m")
    assert.equal(0, #registers(from))
    p:control "heal"
    s:up("a", "2m")
    assert.equal(0, p:control("stats").silent)
    s:close()
  end)
end)
