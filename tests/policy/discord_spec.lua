-- Discord's scenarios D01 to D24: bootstrap, first session, heartbeats, endings and what each one costs.
local world = require "discord_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

describe("a fresh start", function ()
  it("takes an answer without an address, or without the day's limit, for none", function ()
    for _, body in ipairs { "{}", '{"url":"wss://gateway.discord.gg"}', '{"session_start_limit":{"remaining":5}}', "[]" } do
      s, p = world.new { peer = { faults = { http = { status = 200, times = 1, body = body } } } }
      s:run_until(function () return s:view("a").failed == 1 end, "10s")
      assert.equal("gateway_answer", s:view("a").cause.name, body)
      s:up("a", "10s")
      s:close()
    end
  end)

  it("D01 beats from within one interval on, identifies once, then beats every interval", function ()
    s, p = world.new()
    s:up("a", "10s")
    local hello = world.frames(s, "a", "in", 10)[1].at
    s:advance "10m"
    local beats = world.frames(s, "a", "out", 1)
    assert.is_true(beats[1].at - hello <= world.INTERVAL + 50)
    for i = 2, #beats do
      local gap = beats[i].at - beats[i - 1].at
      assert.is_true(math.abs(gap - world.INTERVAL) <= world.INTERVAL / 100, "gap of " .. gap)
    end
    assert.is_true(#beats >= 14)
    assert.equal(1, #world.frames(s, "a", "out", 2))
    assert.equal(0, #world.frames(s, "a", "out", 6))
    s:close()
  end)

  it("D02 spreads the first beat over the whole interval", function ()
    local least, most = math.huge, 0
    for seed = 1, 1000 do
      local s1 = world.new { seed = seed, sim = { latency = "1ms" } }
      s1:run_until(function () return #world.frames(s1, "a", "out", 1) > 0 end, "1m")
      local delay = world.frames(s1, "a", "out", 1)[1].at - world.frames(s1, "a", "in", 10)[1].at
      least, most = math.min(least, delay), math.max(most, delay)
      s1:abandon()
    end
    assert.is_true(least < 0.05 * world.INTERVAL, "least " .. least)
    assert.is_true(most > 0.95 * world.INTERVAL, "most " .. most)
  end)

  it("D03 stops for good when /gateway/bot says 401", function ()
    s, p = world.new { peer = { token = "another" } }
    s:run_until(function () return s:view("a").fatal end, "1m")
    s:advance "24h"
    assert.equal("stopped", s:state "a")
    assert.is_true(s:view("a").fatal)
    assert.equal(401, s:view("a").cause.http)
    assert.equal(1, #s:http())
    assert.equal(0, #s:dials "a")
    s:close()
  end)

  it("D04 waits as long as a 429 says", function ()
    s, p = world.new { peer = { faults = { http = { status = 429, times = 1, headers = { ["Retry-After"] = "64.57" },
      body = '{"message":"You are being rate limited.","retry_after":64.57,"global":false}' } } } }
    s:up("a", "3m")
    local calls = s:http()
    assert.equal(2, #calls)
    assert.is_true(calls[2].at - calls[1].at >= 64570, "after " .. calls[2].at - calls[1].at)
    assert.is_true(calls[2].at - calls[1].at <= 75000)
    s:close()
  end)

  it("D05 waits a minute after a 429 without headers, and keeps its page out of the log", function ()
    s, p = world.new { sim = { trace = true }, peer = { faults = { http = { status = 429, times = 1,
      body = "<html><title>Access denied MARKED-PAGE</title></html>" } } } }
    s:up("a", "5m")
    local calls = s:http()
    assert.equal(2, #calls)
    assert.is_true(calls[2].at - calls[1].at >= 60000)
    for _, entry in ipairs(s:journal "a") do assert.is_nil(entry.text:find "MARKED%-PAGE") end
    s:close()
  end)

  it("D06 asks eleven times through ten 503s, with delays under a doubling bound", function ()
    s, p = world.new { peer = { faults = { http = { status = 503, times = 10 } } } }
    s:up("a", "20m")
    local calls = s:http()
    assert.equal(11, #calls)
    local bound = 1000
    for i = 2, #calls do
      local gap = calls[i].at - calls[i - 1].at
      assert.is_true(gap <= bound + 500, ("gap %d is %d, bound %d"):format(i, gap, bound))
      assert.is_true(gap >= 250)
      bound = math.min(bound * 2, 60000)
    end
    s:close()
  end)

  it("D07 sends no IDENTIFY while the platform says that none is left, then exactly one", function ()
    s, p = world.new { peer = { limit = { total = 1000, remaining = 0, reset_after = 14400000 } } }
    s:advance "14399s"
    assert.equal("queued", s:state "a")
    assert.equal(0, world.counts(p).identify)
    assert.equal("budget", s:view("a").next)
    s:up("a", "10m")
    assert.equal(1, world.counts(p).identify)
    s:close()
  end)

  it("D08 resumes at once although no IDENTIFY is left", function ()
    s, p = world.settled()
    p:control("fault", { exhausted_for = 14400000 })
    local from = s:now()
    p:control "abort"
    s:run_until(function () return world.counts(p, from).resume == 1 end, "10s")
    s:up("a", "10s")
    assert.equal(0, world.counts(p, from).identify)
    s:close()
  end)
end)

describe("a heartbeat", function ()
  it("carries the number of the last event", function ()
    s, p = world.new()
    s:up("a", "10s")
    for _ = 1, 3 do
      p:control("dispatch", { count = 2 })
      s:advance "1m"
      local heard, beats = world.frames(s, "a", "in", 0), world.frames(s, "a", "out", 1)
      assert.equal(heard[#heard].frame.s, beats[#beats].frame.d)
    end
    s:close()
  end)

  it("that is acknowledged with `true`, as any other frame that says so, is no session that was given up", function ()
    s, p = world.new()
    s:up("a", "10s")
    for _, op in ipairs { 11, 99, 0 } do p:control("raw", { text = ('{"op":%d,"d":true,"s":null,"t":null}'):format(op) }) end
    s:advance "1m"
    assert.same({ "up", 1 }, { s:state "a", s:view("a").generation })
    s:close()
  end)

  it("D09 that stays unanswered ends the link with a code that keeps the session, and is resumed", function ()
    s, p = world.settled { settings = { compress = "zlib-stream" } }
    p:control "dispatch"
    s:advance "1s"
    p:control("fault", { no_ack = true })
    local before = s:session "a"
    local dialled = #s:dials "a"
    s:run_until(function () return s:view("a").generation == 2 end, "3m")
    p:control "heal"
    local closes = s:closes "a"
    assert.is_true(closes[1].code ~= 1000 and closes[1].code ~= 1001)
    assert.equal("beat", s:view("a").cause.kind)
    s:up("a", "10s")
    local dial = s:dials("a")[dialled + 1]
    assert.equal(world.RESUME_HOST, dial.host)
    assert.is_true(dial.at - closes[1].at <= 1000 + 1000)   -- U[0,1] s, and the close limit of 1 s
    local resume = world.last(world.frames(s, "a", "out", 6)).frame.d
    assert.equal(before.id, resume.session_id)
    assert.equal(before.seq, resume.seq)
    s:close()
  end)

  it("D10 answered just before the next one is due does no harm", function ()
    s, p = world.new { peer = { faults = { ack_delay = 41100 } } }
    s:up("a", "10s")
    s:quiet("30m", "a")
    s:close()
  end)

  it("D11 that the server asks for is sent at once, also while another is unanswered", function ()
    s, p = world.settled { peer = { faults = { ack_delay = 30000 } } }
    local beats = #world.frames(s, "a", "out", 1)
    s:run_until(function () return #world.frames(s, "a", "out", 1) == beats + 1 end, "1m")
    p:control "ask_beat"
    s:advance "200ms"
    assert.equal(beats + 2, #world.frames(s, "a", "out", 1))
    s:quiet("30m", "a")
    s:close()
  end)

  it("D12 is not judged before a whole interval after it was sent", function ()
    -- The seed whose first beat comes last in the interval.
    local worst, seed = 0, 1
    for n = 1, 60 do
      local s1 = world.new { seed = n }
      s1:run_until(function () return #world.frames(s1, "a", "out", 1) > 0 end, "1m")
      local delay = world.frames(s1, "a", "out", 1)[1].at - world.frames(s1, "a", "in", 10)[1].at
      if delay > worst then worst, seed = delay, n end
      s1:abandon()
    end
    assert.is_true(worst > 0.9 * world.INTERVAL)
    s, p = world.new { seed = seed, peer = { faults = { ack_delay = 41000 } } }
    s:up("a", "10s")
    s:quiet("5m", "a")
    s:close()
  end)
end)

describe("an ending that the server announces", function ()
  it("D13 by op 7 is a new socket within a second, and never a second one", function ()
    s, p = world.settled()
    local from = s:now()
    p:control "op7"
    s:run_until(function () return s:state "a" ~= "up" end, "1s")
    assert.same({ "reconnect", 0 }, { s:view("a").cause.name, s:view("a").failed }) -- planned: nobody's failure
    s:run_until(function () return world.counts(p, from).resume == 1 end, "4s")
    s:up("a", "4s")
    assert.equal(4000, world.last(s:closes "a").code)
    assert.equal(1, s:descriptors("a").most)
    assert.is_true(world.last(s:dials "a").at - from <= 2100)   -- U[0,1] s after the close of at most 1 s
    s:close()
  end)

  it("D14 by op 7 instead of HELLO is paced, and the intent stays", function ()
    s, p = world.new { peer = { faults = { op7_for_hello = 4 } } }
    s:up("a", "2m")
    assert.equal(5, #s:dials "a")
    assert.equal(1, world.counts(p).identify)
    s:abandon()
    s, p = world.settled()
    p:control("fault", { op7_for_hello = 2 })
    local from = s:now()
    p:control "abort"
    s:run_until(function () return s:state "a" == "up" and s:now() > from + 100 end, "1m")
    assert.same({ identify = 0, resume = 1 }, world.counts(p, from))
    s:close()
  end)

  it("D15 by op 9 false after RESUME drops the whole session and identifies after 1 to 5 s", function ()
    s, p = world.settled()
    p:control "expire"
    local from = s:now()
    p:control "abort"
    local refused = s:run_until(function ()
      local op9 = world.last(world.frames(s, "a", "in", 9))
      return op9 and op9.at >= from and op9.at
    end, "20s")
    s:advance "10ms"
    assert.same({}, s:session "a")
    s:up("a", "20s")
    local dial = world.last(s:dials "a")
    assert.equal("discord.test", dial.host)
    assert.is_true(dial.at - refused >= 1000 and dial.at - refused <= 5500, "after " .. dial.at - refused)
    assert.same({ identify = 1, resume = 1 }, world.counts(p, from))
    s:close()
  end)

  it("D16 by op 9 true is a RESUME with the same data after 1 to 5 s", function ()
    s, p = world.settled()
    local before, from = s:session "a", s:now()
    p:control("op9", { resumable = true })
    s:run_until(function () return world.counts(p, from).resume == 1 end, "10s")
    local resume = world.last(world.frames(s, "a", "out", 6))
    assert.equal(before.id, resume.frame.d.session_id)
    assert.equal(before.seq, resume.frame.d.seq)
    local dial = world.last(s:dials "a").at
    assert.is_true(dial - from >= 1000 and dial - from <= 5600)
    s:close()
  end)

  it("D17 by op 9 false after every IDENTIFY stays inside the day's budget", function ()
    s, p = world.new { peer = { faults = { invalid_identify = true } } }
    s:advance "24h"
    local count = world.counts(p).identify
    assert.is_true(count <= 300 and count >= 100, count .. " identifies")
    local log = p:control "log"
    for i = 2, #log do assert.is_true(log[i].at - log[i - 1].at >= 5000) end
    s:close()
  end)
end)

describe("a close code", function ()
  for _, code in ipairs { 4004, 4010, 4011, 4012, 4013, 4014 } do
    it("D18 of " .. code .. " stops this bot for good and no other", function ()
      s, p = world.new { no_connection = true, peer = { max_concurrency = 2 } }
      world.connect(s, p, "a", { shard_count = 2 })
      world.connect(s, p, "b", { shard_count = 2, shard_id = 1 })
      s:up("a", "30s")
      s:up("b", "30s")
      s:advance "70s"
      p:control("kick", { code = code, shard = "0/2" })
      s:reach("a", "stopped", "10s")
      local dials = #s:dials "a"
      s:advance "24h"
      assert.equal(dials, #s:dials "a")
      assert.equal(code, s:view("a").cause.close)
      assert.is_true(s:view("a").fatal)
      assert.equal("up", s:state "b")
      assert.equal(1, #s:dials "b")
      s:close()
    end)
  end

  for _, code in ipairs { 0, 1000, 1001, -1, 4000, 4001, 4002, 4008 } do
    local name = code == 0 and "none" or code == -1 and "1006" or tostring(code)
    it("D19 of " .. name .. " is resumed", function ()
      s, p = world.settled()
      local from = s:now()
      p:control("kick", { code = code })
      s:run_until(function () return world.counts(p, from).resume + world.counts(p, from).identify > 0 end, "10s")
      assert.same({ identify = 0, resume = 1 }, world.counts(p, from))
      s:up("a", "10s")
      s:close()
    end)
  end

  for _, code in ipairs { 4003, 4005, 4006, 4007, 4009 } do
    it("D20 of " .. code .. " is a new session at the general address", function ()
      s, p = world.settled()
      local from = s:now()
      p:control("kick", { code = code })
      s:run_until(function () return world.counts(p, from).resume + world.counts(p, from).identify > 0 end, "30s")
      assert.same({ identify = 1, resume = 0 }, world.counts(p, from))
      assert.equal("discord.test", world.last(s:dials "a").host)
      s:close()
    end)
  end

  it("of 1000 twice in a row is no more resumed", function ()
    s, p = world.settled()
    p:control("fault", { close_after_resume = 1000 })
    local from = s:now()
    p:control("kick", { code = 1000 })
    s:run_until(function () return world.counts(p, from).identify == 1 end, "1m")
    assert.equal(1, world.counts(p, from).resume)
    s:close()
  end)
end)

describe("a resume", function ()
  it("D21 that is closed three times over becomes an IDENTIFY at the general address", function ()
    s, p = world.settled()
    p:control("fault", { close_after_resume = 0, close_delay = 20 })
    local from = s:now()
    p:control "abort"
    s:run_until(function () return world.counts(p, from).identify == 1 end, "2m")
    assert.equal(3, world.counts(p, from).resume)
    assert.equal("discord.test", world.last(s:dials "a").host)
    assert.equal(1 + 4, #s:dials "a")
    s:close()
  end)

  it("D22 storm of sockets closed right after IDENTIFY stays inside the hour and the day", function ()
    s, p = world.new { peer = { faults = { close_after_identify = 1000 } } }
    s:advance "1h"
    assert.is_true(#s:dials "a" <= 22, #s:dials "a" .. " sockets in the first hour")
    assert.is_true(world.counts(p).identify <= 22)
    s:advance "23h"
    assert.is_true(world.counts(p).identify <= 298, world.counts(p).identify .. " in a day")
    s:close()
  end)

  it("D23 whose host does not resolve goes to the general address after two tries", function ()
    s, p = world.settled()
    local fault = s:fault("resolve_fail", { host = world.RESUME_HOST })
    local from, dialled = s:now(), #s:dials "a"
    p:control "abort"
    s:up("a", "1m")
    s:run_until(function () return s:state "a" == "up" and world.counts(p, from).resume == 1 end, "1m")
    local hosts = {}
    for i = dialled + 1, #s:dials "a" do hosts[#hosts + 1] = s:dials("a")[i].host end
    assert.same({ world.RESUME_HOST, world.RESUME_HOST, "discord.test" }, hosts)
    assert.equal(0, world.counts(p, from).identify)
    fault:off()
    s:close()
  end)

  it("D24 whose host answers 503 goes to the general address as soon as that works", function ()
    s, p = world.settled()
    s:fault("http_status", { host = world.RESUME_HOST, what = "link", status = 503, lasts = "10m" })
    local from = s:now()
    p:control "abort"
    s:run_until(function () return s:state "a" == "up" and world.counts(p, from).resume == 1 end, "1m")
    assert.equal(0, world.counts(p, from).identify)
    assert.equal("discord.test", world.last(s:dials "a").host)
    s:close()
  end)
end)
