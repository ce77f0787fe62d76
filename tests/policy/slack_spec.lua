-- Slack's scenarios S01 to S23 and S30 to S34: opening, recycling, liveness, endings. Envelopes (S24 to S29) have
-- a file of their own. S35 is about a client behind a proxy that looks like Slack, which this is not.
-- The delays are those of the policy: each from half of its rung to the whole (jitter "equal"), where the sheet of
-- facts proposes a quarter to either side.
local world = require "slack_world"

local MINUTE = 60000
local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

describe("a fresh start", function ()
  it("S01 is one open and one dial, and up only with hello", function ()
    s, p = world.new { peer = { faults = { hello_delay = 5000 } } }
    s:advance "4s"
    assert.equal("linking", s:state "a")
    s:up("a", "5s")
    assert.equal(1, #world.opens(p))
    assert.equal(1, #s:dials "a")
    assert.is_true(s:dials("a")[1].at - world.opens(p)[1] <= 10000)
    assert.equal(1, p:control("stats").hellos)
    s:close()
  end)

  it("S02 without a hello is a failure after ten seconds, and the next socket has a ticket of its own", function ()
    s, p = world.new { peer = { faults = { silent_hello = 1 } } }
    local dialled = s:run_until(function () return s:dials("a")[1] end, "5s").at
    s:run_until(function () return s:view("a").failed == 1 end, "30s")
    assert.is_true(s:now() - dialled >= 10000 and s:now() - dialled <= 11000)
    assert.equal("timeout", s:view("a").cause.kind)
    s:up("a", "10s")
    assert.equal(2, #world.opens(p))
    assert.same({ 0, 1 }, { p:control("stats").bad_tickets, p:control("stats").open })
    s:close()
  end)

  for _, code in ipairs { "invalid_auth", "token_revoked", "account_inactive", "missing_scope", "not_allowed_token_type" } do
    it((code == "invalid_auth" and "S07 " or code == "token_revoked" and "S08 " or "") .. "that Slack refuses with " .. code
      .. " stops after one open, and says why", function ()
      s, p = world.new { peer = { faults = { open_error = { error = code } } } }
      s:reach("a", "stopped", "10s")
      s:advance "24h"
      assert.equal(1, #world.opens(p))
      assert.is_true(s:view("a").fatal)
      assert.equal(code, s:view("a").cause.name)
      assert.truthy(s:json("a").warning:find("xapp- token with connections:write", 1, true))
      s:close()
    end)
  end

  it("stops where the address is no Slack API", function ()
    s, p = world.new { no_connection = true }
    world.connect(s, p, "a", { policy = "slack", api = "https://slack.com/wrong" })
    s:run_until(function () return s:view("a").fatal end, "10s")
    assert.equal(404, s:view("a").cause.http)
    s:close()
  end)

  it("S09 waits as long as a 429 says, and it is no failure", function ()
    s, p = world.new { peer = { faults = { open = { status = 429, times = 1, headers = { ["Retry-After"] = "37" }, body = "" } } } }
    s:up("a", "2m")
    local opens = world.opens(p)
    assert.equal(2, #opens)
    local gap = opens[2] - opens[1]
    assert.is_true(gap >= 37000 and gap <= 42000, gap)
    assert.equal(0, s:view("a").failed)
    s:close()
  end)

  it("S09 takes a rate limit that is told with status 200, too, and half a minute when no time is told", function ()
    for _, case in ipairs { { { ["Retry-After"] = "37" }, 37000 }, { nil, 30000 } } do
      s, p = world.new { peer = { faults = { open = { status = 200, times = 1, headers = case[1], json = { ok = false, error = "ratelimited" } } } } }
      s:up("a", "2m")
      local opens = world.opens(p)
      local gap = opens[2] - opens[1]
      assert.is_true(gap >= case[2] and gap <= case[2] * 1.05 + 500, gap)
      s:close()
    end
  end)

  for _, what in ipairs {
    { "internal_error", { open_error = { error = "internal_error" } } },
    { "fatal_error", { open_error = { error = "fatal_error" } } },
    { "status 503", { open = { status = 503 } } },
    { "an answer without an address", { open = { status = 200, json = { ok = true } } } },
    { "a page of something in between", { open = { status = 200, body = "<html>sign in</html>" } } },
  } do
    it("S10 follows the ladder to a minute through ten minutes of " .. what[1] .. ", and never stops", function ()
      s, p = world.new { peer = { faults = what[2] } }
      s:advance "10m"
      local opens = world.opens(p)
      assert.is_true(#opens <= 25 and #opens >= 14, #opens .. " opens")
      world.assert_ladder(opens, 1000, MINUTE)
      p:control "heal"
      s:up("a", "61s")
      s:close()
    end)
  end

  it("asks slowly when Slack says what nobody knows", function ()
    s, p = world.new { peer = { faults = { open_error = { error = "something_new" } } } }
    s:advance "1h"
    local opens = world.opens(p)
    assert.is_true(#opens >= 4 and #opens <= 13, #opens .. " opens")
    for i = 2, #opens do assert.is_true(opens[i] - opens[i - 1] >= 5 * MINUTE) end
    assert.equal("something_new", s:view("a").cause.name)
    p:control "heal"
    s:up("a", "16m")
    s:close()
  end)

  it("S11 climbs although every open succeeds, when every handshake is refused", function ()
    s, p = world.new { peer = { faults = { upgrade = { status = 503 } } } }
    s:advance "10m"
    local opens = world.opens(p)
    assert.is_true(#opens <= 25, #opens .. " opens")
    world.assert_ladder(opens, 1000, MINUTE, 2000)
    assert.equal(#opens, p:control("stats").upgrades)
    assert.equal(0, p:control("stats").bad_tickets, "each dial has a ticket of its own")
    s:close()
  end)

  it("S34 goes on at the minute's pace through an hour without names, and is back a minute after", function ()
    s, p = world.new { no_connection = true }
    local fault = s:fault("resolve_fail", {})
    world.connect(s, p, "a")
    s:advance "1h"
    local v = s:view "a"
    assert.is_true(v.failed >= 60 and v.failed <= 130, v.failed .. " failures")
    assert.equal(0, #world.opens(p))
    fault:off()
    s:up("a", "61s")
    s:close()
  end)
end)

describe("too many sockets", function ()
  it("S12 for an hour are few attempts, further and further apart", function ()
    s, p = world.new { peer = { faults = { too_many = true } } }
    s:advance "1h"
    local opens = world.opens(p)
    assert.is_true(#opens >= 4 and #opens <= 10, #opens .. " opens")
    assert.is_true(opens[2] - opens[1] >= MINUTE)
    assert.is_true(opens[#opens] - opens[#opens - 1] >= 4 * MINUTE)
    assert.equal("too_many_websockets", s:view("a").cause.name)
    p:control "heal"
    s:up("a", "16m")
    s:close()
  end)

  it("S13 are met with one socket of ours at most: what drained is closed before the next open", function ()
    s, p = world.settled()
    p:control("disconnect", { reason = "warning" })
    s:run_until(function () return s:view("a").ready == 2 end, "5s")
    s:advance "1s"
    assert.equal("draining", s:view("a").links[2].state)
    -- The new one is recycled as well, and no third is let in.
    p:control("fault", { too_many = true })
    local from = s:now()
    p:control("disconnect", { which = "newest", reason = "warning" })
    local at = s:run_until(function () return world.opens(p, from)[1] end, "1m")
    for _, e in ipairs(world.logged(p, "too_many", from)) do assert.is_true(e.open <= 2, e.open .. " open") end
    assert.is_true(s:descriptors("a").most <= 2)
    s:advance "20m"
    for _, e in ipairs(world.logged(p, "too_many", from)) do assert.is_true(e.open <= 2, e.open .. " open") end
    assert.is_true(#world.opens(p, at) <= 8)
    s:close()
  end)

  it("leave a socket that serves alone, and the successor waits", function ()
    s, p = world.settled()
    p:control("fault", { too_many = true })
    p:control("disconnect", { reason = "warning" })
    s:advance "10m"
    assert.equal("up", s:state "a")
    assert.equal(1, s:view("a").ready)
    assert.is_true(#world.opens(p) <= 6)
    p:control("event", { count = 5 })
    s:advance "1s"
    assert.equal(5, p:control("stats").acks)
    s:close()
  end)
end)

describe("recycling", function ()
  it("comes before a life that is told to be short, and only where three minutes of it are left", function ()
    for told, from in pairs { [181] = 91, [300] = 210, [180] = false } do
      s, p = world.new { peer = { told = told } }
      s:up("a", "10s")
      local up = s:now()
      s:try_until(function () return #world.opens(p) == 2 end, "10m")
      local after = (s:now() - up) / 1000
      local least, most = from or 600, from and from + 31 or 600
      assert.is_true(after >= least - 0.1 and after <= most, told .. ": " .. after)
      s:close()
    end
  end)

  it("S03 comes before Slack's own: at the told age less a minute to a minute and a half", function ()
    s, p = world.new()
    s:up("a", "10s")
    local up = s:now()
    s:run_until(function () return #world.opens(p) == 2 end, "6h")
    local after = s:now() - up
    assert.is_true(after >= 17970000 and after <= 18000000 + 200, after)
    s:run_until(function () return s:view("a").ready == 2 end, "5s")
    s:advance "100ms"
    assert.equal("draining", s:view("a").links[2].state)
    -- What still comes over the old one is acknowledged there.
    p:control("event", { count = 40 })
    s:advance "3s"
    assert.equal(40, p:control("stats").acks)
    assert.equal(0, p:control("stats").elsewhere)
    local by = {}
    for _, m in ipairs(world.acks(s)) do by[m.generation] = (by[m.generation] or 0) + 1 end
    assert.is_true((by[1] or 0) > 5 and (by[2] or 0) > 5, "both carry")
    s:advance "1m"
    assert.equal(2, p:control("stats").open)
    s:advance "50s"
    assert.equal(1, p:control("stats").open, "Slack closed it")
    assert.equal(2, s:descriptors("a").most)
    for _, e in ipairs(s:closes "a") do assert.is_true(e.at >= up + 18060000) end
    s:close()
  end)

  it("S04 after a warning lets the old socket acknowledge until it is closed, and there are never three", function ()
    s, p = world.settled { peer = { events_every = 100, lifetime = false } }
    local c = s:consumer { name = "bot", connections = { "a" }, from = "now" }
    local from, early = s:now(), p:control("stats").events
    p:control("disconnect", { reason = "warning" })
    s:advance "10s"
    p:control("disconnect", { which = "oldest", reason = "refresh_requested" })
    s:advance "9s"
    p:control("close", { which = "oldest" })
    s:advance "5s"
    assert.equal(1, p:control("stats").open)
    assert.equal(2, s:descriptors("a").most)
    assert.equal("up", s:state "a")
    local stats = p:control "stats"
    assert.same({ 0, 0, 0 }, { stats.late_acks, stats.bad_texts, stats.elsewhere })
    -- What Slack sent as it closed the socket itself may come again; nothing else does.
    local sent, again = {}, 0
    for _, e in ipairs(world.logged(p, "sent", from)) do
      local made = tonumber(e.event:match "%d+")
      if made > early and sent[made] then again = again + 1 end
      sent[made] = true
    end
    assert.is_true(again <= 1, again .. " were sent again")
    local numbers = {}
    for _, e in ipairs(c:events()) do
      local n = e.frame.payload.event.number
      if n > early then numbers[#numbers + 1] = n end
    end
    for i = 2, #numbers do assert.equal(numbers[i - 1] + 1, numbers[i]) end
    assert.is_true(#numbers >= 190)
    assert.same({}, c:gaps())
    s:close()
  end)

  it("S05 that comes without a warning is one open at once, and no failure", function ()
    s, p = world.settled()
    local from = s:now()
    p:control "disconnect"
    s:run_until(function () return #world.opens(p, from) == 1 end, "1s")
    -- 20 ms each way; the call itself needs its connection.
    assert.is_true(world.opens(p, from)[1] - from <= 200, world.opens(p, from)[1] - from)
    s:advance "1m"
    assert.equal(1, #world.opens(p, from))
    assert.equal(0, s:view("a").failed)
    assert.equal(2, s:view("a").generation)
    s:close()
  end)

  it("S06 whose replacement fails three times is served by the old socket, and tried again after 1, 2 and 4 s", function ()
    s, p = world.settled()
    p:control("fault", { open = { status = 503, times = 3 } })
    local from = s:now()
    p:control("disconnect", { reason = "warning" })
    s:run_until(function () return s:view("a").ready == 2 end, "20s")
    local opens = world.opens(p, from)
    assert.equal(4, #opens)
    world.assert_ladder(opens, 1000, MINUTE, 500)
    for _, e in ipairs(s:journal "a") do assert.is_true(e.kind ~= "state" or e.from ~= "up", e.text) end
    s:close()
  end)

  it("goes on for ten days without a break, an event lost or an unplanned ending", function ()
    s, p = world.new { sim = { memory = true }, peer = { events_every = 600000 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "10s")
    for i = 1, 240 do s:at(i * 3600000, function () assert.equal("up", s:state "a") end) end
    s:quiet("10d", "a")
    assert.is_true(s:view("a").ready >= 47, s:view("a").ready)
    local stats = p:control "stats"
    assert.same({ 0, 0, 0 }, { stats.redelivered, stats.too_many, stats.lost_events })
    assert.equal(stats.events, #c:events())
    assert.same({}, c:gaps())
    assert.equal(2, stats.most_open)
    s:close()
  end)
end)

describe("a socket that is idle", function ()
  it("S14 stays for a day without one event, with pongs alone", function ()
    s, p = world.new { peer = { lifetime = false, ping = 0 } }
    s:up("a", "10s")
    s:quiet("24h", "a")
    assert.equal(1, #world.opens(p))
    assert.equal(1, s:view("a").ready)
    s:close()
  end)
end)

describe("a socket that is dead", function ()
  for id, fault in pairs { S15 = "deaf", S17 = "half_open" } do
    it(id .. " (" .. fault .. ") is noticed after 20 s and replaced within a second more", function ()
      s, p = world.settled { peer = { lifetime = false, ping = 0 } }
      local from = s:now()
      if fault == "deaf" then p:control "deaf" else s:fault("half_open", { connection = "a", times = 1 }) end
      s:run_until(function () return s:view("a").failed == 1 end, "1m")
      local noticed = s:now()
      assert.is_true(noticed - from >= 15000 and noticed - from <= 25000, noticed - from)
      assert.equal("silence", s:view("a").cause.kind)
      s:run_until(function () return #world.opens(p, from) == 1 end, "5s")
      assert.is_true(world.opens(p, from)[1] - noticed <= 1200, world.opens(p, from)[1] - noticed)
      s:up("a", "5s")
      assert.equal(1, s:descriptors("a").open)
      s:close()
    end)
  end

  it("before its hello has arrived is noticed by silence, not by the greeting's limit", function ()
    s, p = world.new { peer = { lifetime = false, ping = 0 } }
    s:run_until(function () return p:control("stats").hellos == 1 end, "10s")
    p:control "deaf"
    local from = s:now()
    s:run_until(function () return s:view("a").failed == 1 end, "1m")
    assert.equal("silence", s:view("a").cause.kind)
    assert.is_true(s:now() - from >= 15000 and s:now() - from <= 22000, s:now() - from)
    s:up("a", "10s")
    s:close()
  end)

  it("S16 is not taken for one while the loop itself was away for half a minute", function ()
    s, p = world.settled { peer = { lifetime = false, ping = 5000 } }
    s:stall "30s"
    s:quiet("10m", "a")
    assert.equal(1, s:view("a").ready)
    s:close()
  end)

  for id, fault in pairs { S18 = "eof_without_close", S19 = "no_close_answer" } do
    it(id .. " to our close (" .. fault .. ") has its descriptor closed after a second", function ()
      s, p = world.settled()
      s:fault(fault, { connection = "a" })
      s:stop "a"
      local from = s:now()
      s:run_until(function () return s:descriptors("a").open == 0 end, "2s")
      assert.is_true(s:now() - from <= 1100, s:now() - from)
      s:reach("a", "stopped", "1s")
      s:close()
    end)
  end
end)

describe("one reconnect", function ()
  it("follows a disconnect for a reason that nobody has described, and does not wait for the close", function ()
    s, p = world.settled()
    p:control("disconnect", { reason = "anything" })
    s:run_until(function () return s:view("a").generation == 2 end, "5s")
    assert.equal("disconnect", s:view("a").decision.cause and s:view("a").decision.cause.name or s:view("a").cause.name)
    s:up("a", "10s")
    s:close()
  end)

  it("S20 follows an ending that is heard of twice", function ()
    s, p = world.settled()
    local from = s:now()
    p:control("disconnect", { reason = "anything" })
    p:control("close", { code = 1011 })
    p:control "abort"
    s:up("a", "10s")
    s:advance "1m"
    assert.equal(1, #world.opens(p, from))
    assert.equal(2, s:view("a").generation)
    s:close()
  end)

  it("S21 is not disturbed by the close of a socket that was replaced", function ()
    s, p = world.settled()
    p:control "disconnect"
    s:run_until(function () return s:view("a").ready == 2 end, "5s")
    local from = s:now()
    p:control("close", { which = "oldest", code = 1001 })
    s:advance "1m"
    assert.same({ 2, "up", 0 }, { s:view("a").generation, s:state "a", #world.opens(p, from) })
    s:close()
  end)

  it("S23 is what a start directly after a stop makes", function ()
    s, p = world.settled()
    local from = s:now()
    s:stop "a"
    s:start "a"
    s:advance "10s"
    assert.equal("up", s:state "a")
    assert.equal(1, #world.opens(p, from))
    assert.equal(1, p:control("stats").open)
    s:close()
  end)

  for _, close in ipairs { 1000, 1001, 1005 } do
    it("comes at once after Slack's close " .. close .. " of a socket that had settled, and after the backoff when it repeats", function ()
      s, p = world.settled()
      local from = s:now()
      p:control("close", { code = close == 1005 and 0 or close })
      s:run_until(function () return s:view("a").ready == 2 end, "3s")
      assert.is_true(world.opens(p, from)[1] - from <= 1400, world.opens(p, from)[1] - from)
      from = s:now()
      p:control("close", { code = close == 1005 and 0 or close })
      s:run_until(function () return #world.opens(p, from) == 1 end, "5s")
      assert.equal(2, s:view("a").failed)
      assert.is_true(world.opens(p, from)[1] - from >= 1000)
      s:close()
    end)
  end
end)

describe("a stop", function ()
  local moments = {
    ["while the open is under way"] = function () return s:state "a" == "preparing" end,
    ["while it waits for the next try"] = function () return s:state "a" == "waiting" end,
    ["while TLS is spoken"] = function () local l = s:view("a").links[1] return l and l.state == "securing" end,
    ["before hello"] = function () local l = s:view("a").links[1] return l and l.state == "greeting" end,
  }
  for name, reached in pairs(moments) do
    it("S22 " .. name .. " leaves nothing behind after a second", function ()
      local peer = { faults = { hello_delay = 5000 } }
      if name:find "waits" then peer.faults.open = { status = 503 } end
      s, p = world.new { peer = peer }
      s:run_until(reached, "10s")
      s:stop "a"
      s:advance "1100ms"
      assert.equal("stopped", s:state "a")
      assert.equal(0, s:descriptors("a").open)
      local stats = s:stats()
      assert.same({ 0, 0 }, { stats.calls, stats.tasks })
      local opens = #world.opens(p)
      s:advance "10m"
      assert.equal(opens, #world.opens(p))
      s:close()
    end)
  end
end)

describe("Slack's own word", function ()
  -- The sheet of facts proposes to ask again every quarter of an hour. Somebody switched it off on purpose, and what
  -- the method answers then is not known: so it stops, loudly, and whoever switches it on again starts it.
  it("S30 that Socket Mode is off stops it, says so, and a start brings it back", function ()
    s, p = world.settled()
    p:control "disable"
    s:reach("a", "stopped", "5s")
    s:advance "24h"
    assert.equal(1, #world.opens(p))
    assert.equal("link_disabled", s:view("a").cause.name)
    assert.truthy(s:json("a").warning:find("Socket Mode is switched off", 1, true))
    p:control "enable"
    s:start "a"
    s:up("a", "5s")
    s:close()
  end)

  it("S31 that it counts seven sockets is a warning in the status, and no reconnect", function ()
    s, p = world.new { peer = { lifetime = false, faults = { counted = 6 } } }
    s:up("a", "10s")
    local warning = s:json("a").warning
    assert.equal("Slack counts 7 sockets of this app, 1 of them ours: the others take their share of the events", warning)
    s:quiet("6h", "a")
    assert.equal(1, #world.opens(p))
    assert.equal(warning, s:json("a").warning)
    -- It is over with the first hello that counts right; while two are ours, two are right.
    p:control "heal"
    p:control "disconnect"
    s:run_until(function () return s:view("a").ready == 2 end, "5s")
    assert.is_nil(s:json("a").warning)
    s:close()
  end)
end)

describe("many", function ()
  -- 30 s says the sheet. What fails together at one host is let go together, at 10 a second, once one came through:
  -- gentler per second than the sheet's ladder (16 s by then, a quarter to either side), and sooner over.
  it("S32 apps that lose the network for a minute and a half come back some ten a second, one socket each", function ()
    s, p = world.new { no_connection = true, sim = { memory = true }, peer = { token = false, lifetime = false } }
    for i = 1, 200 do
      world.connect(s, p, ("c-%03d"):format(i), { app_token = s:secret(("xapp-1-A%03d-1-x"):format(i), "t") })
    end
    s:advance "90s"
    s:fault("black_hole", { lasts = "90s" })
    s:advance "90s"
    local from = s:now()
    s:advance "3m"
    local opens = world.opens(p, from)
    assert.is_true(#opens >= 200)
    assert.is_true(opens[#opens] - opens[1] >= 10000, opens[#opens] - opens[1])
    local second = {}
    for _, at in ipairs(opens) do second[math.floor(at / 1000)] = (second[math.floor(at / 1000)] or 0) + 1 end
    for at, count in pairs(second) do assert.is_true(count <= 32, count .. " in second " .. at) end
    for i = 1, 200 do
      local name = ("c-%03d"):format(i)
      assert.equal("up", s:state(name))
      assert.equal(1, s:descriptors(name).open)
    end
    s:close()
  end)

  it("S33 short lives do not reset the backoff", function ()
    s, p = world.new { peer = { faults = { drop_after = 2000 } } }
    s:advance "10m"
    local opens = world.opens(p)
    assert.is_true(#opens <= 25, #opens .. " opens")
    world.assert_ladder(opens, 1000, MINUTE, 4000)
    s:close()
  end)
end)
