-- QQ's scenarios Q24 to Q40: dead peers, outages, failing hosts, limits, replays that come twice, quiet days.
-- Not applicable: none. Where the sheet says "handed over" it means safe: on disk.
local world = require "qqbot_world"
local sim = require "holdfast.sim"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local HOUR, MINUTE = 3600000, 60000
-- Days of outages: what is on disk has its own specs.
local MEMORY = { memory = true }

describe("a server that never acknowledges", function ()
  it("Q24 is left at the second due beat, at most 90 s after the last answer, and resumed", function ()
    for seed = 1, 5 do
      s, p = world.settled { seed = seed }
      local from = s:now()
      p:control("fault", { no_ack = true })
      p:control("dispatch", { count = 1 })
      s:run_until(function () return #s:closes "a" > 0 end, "90s")
      assert.is_true(s:closes("a")[1].at - from <= 90000)
      assert.equal("beat", s:view("a").cause.kind)
      p:control "heal"
      s:run_until(function () return s:state "a" == "up" and s:view("a").generation == 2 end, "10s")
      assert.same({ identify = 0, resume = 1 }, world.counts(p, from))
      s:close()
    end
  end)

  it("is left although events go on coming", function ()
    s, p = world.settled { peer = { events_every = 500 } }
    p:control("fault", { no_ack = true })
    s:run_until(function () return #s:closes "a" > 0 end, "91s")
    assert.equal("beat", s:view("a").cause.kind)
    p:control "heal"
    s:close()
  end)
end)

describe("a machine that slept for eight hours", function ()
  it("Q25 aborts at once, fetches a token, resumes, is refused and identifies", function ()
    s, p = world.settled()
    local fault = s:fault("half_open", {})
    s:advance "1s"
    s:suspend "8h"
    fault:off()
    local awake = s:now()
    s:run_until(function () return s:state "a" == "up" and #world.instants(p, "identify", awake) == 1 end, "1m")
    local aborted
    for _, close in ipairs(s:closes "a") do
      if close.generation == 1 then aborted = close end
    end
    assert.is_true(aborted.aborted and aborted.at - awake <= 1000)
    assert.equal(1, #world.instants(p, "token", awake))
    assert.same({ identify = 1, resume = 1 }, world.counts(p, awake))
    assert.is_true(world.instants(p, "token", awake)[1] < world.instants(p, "resume", awake)[1])
    s:close()
  end)
end)

describe("beats", function ()
  it("Q26 are sent on every socket: a server that cuts the silent ones after 60 s cuts none", function ()
    s, p = world.settled { peer = { beat_limit = 60000 } }
    for _ = 1, 3 do
      p:control "op7"
      world.back(s, "a", "10s")
      s:advance "10m"
    end
    assert.equal(4, s:view("a").generation)
    assert.equal(0, p:control("stats").starved)
    local per = {}
    for _, beat in ipairs(world.frames(s, "a", "out", 1)) do per[beat.generation] = (per[beat.generation] or 0) + 1 end
    for generation = 1, 4 do assert.is_true((per[generation] or 0) >= 2, "no beats on socket " .. generation) end
    s:close()
  end)

  it("are sent while a long replay goes on, and asked ones at once", function ()
    s, p = world.settled()
    local refuse = s:fault("refuse", {})
    p:control "abort"
    s:advance "1s"
    p:control("dispatch", { count = 4000 })
    p:control("fault", { replay_delay = 50 })
    refuse:off()
    s:run_until(function () return s:state "a" == "up" end, "6m")
    assert.equal(0, p:control("stats").starved)
    assert.equal(1, #world.instants(p, "resume"))
    local beats = #world.frames(s, "a", "out", 1)
    p:control "ask_beat"
    s:advance "200ms"
    assert.equal(beats + 1, #world.frames(s, "a", "out", 1))
    s:close()
  end)

  it("keep the interval that HELLO says, within reason", function ()
    for told, kept in pairs { [41250] = 41250, [10] = 5000, [3599000] = 55000 } do
      s, p = world.new { peer = { heartbeat_interval = told } }
      s:up("a", "10s")
      s:advance "5m"
      local beats = world.frames(s, "a", "out", 1)
      for i = 2, #beats do world.paced(kept, beats[i].at - beats[i - 1].at) end
      assert.equal(0, p:control("stats").starved)
      s:close()
    end
  end)
end)

describe("a resume", function ()
  it("Q27 that is accepted and cut after a second, three times over, becomes an IDENTIFY", function ()
    s, p = world.settled()
    p:control("fault", { close_after_resume = { code = -1, after_greeting = true }, close_delay = 1000 })
    local from = s:now()
    p:control "abort"
    s:run_until(function () return #world.instants(p, "identify", from) == 1 end, "2m")
    assert.equal(3, #world.instants(p, "resume", from))
    s:up("a", "10s")
    s:close()
  end)

  it("that nobody answers, three times over, becomes an IDENTIFY", function ()
    s, p = world.settled()
    p:control("fault", { no_resumed = true })
    local from = s:now()
    p:control "abort"
    s:run_until(function () return #world.instants(p, "identify", from) == 1 end, "5m")
    local resumes = world.instants(p, "resume", from)
    assert.equal(3, #resumes)
    assert.is_true(resumes[2] - resumes[1] >= 30000, "a busy gateway has half a minute")
    s:close()
  end)

  it("Q28 of a session older than a day is an IDENTIFY instead, once", function ()
    s, p = world.settled()
    s:advance "24h"
    local from = s:now()
    p:control "op7"
    world.back(s, "a", "10s")
    assert.same({ identify = 1, resume = 0 }, world.counts(p, from))
    s:advance "10m"
    p:control "op7"
    world.back(s, "a", "10s")
    assert.same({ identify = 1, resume = 1 }, world.counts(p, from))
    s:close()
  end)

  it("Q28 goes on day after day where old sessions are resumed and bring nothing", function ()
    -- The platform lets them starve after two days: with a life of one day that is never seen.
    s, p = world.new { sim = MEMORY, peer = { lifetime = 1800000, session_life = 2 * 86400000, events_every = 60000 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "10s")
    for day = 1, 6 do
      s:advance "1d"
      local numbers = world.numbers(c)
      assert.is_true(#numbers >= 1430, #numbers .. " on day " .. day)
      assert.is_true(#c:gaps() <= 1)     -- the session that was let go may have held one
      c:clear()
    end
    assert.is_true(world.counts(p).identify <= 7)
    s:close()
  end)

  it("Q29 after which five messages come once more hands each over once", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("dispatch", { count = 8 })
    s:advance "1s"
    p:control "abort"
    world.back(s, "a", "10s")
    assert.equal(5, p:control("resend", { count = 5 }))
    s:advance "3m"
    assert.equal(5, p:control("resend", { count = 5 }))
    p:control("dispatch", { count = 2 })
    s:advance "1s"
    assert.equal(10, world.assert_whole(c))
    -- Also when the process was killed between the two.
    c:ack "a"
    s:advance "1s"
    s:crash_and_restart { after = "5s" }
    s:up("a", "20s")
    p:control("resend", { count = 4 })
    s:advance "1s"
    assert.equal(10, world.assert_whole(c))
    s:close()
  end)

  it("Q29 does not take two updates of one channel for the same event", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    for n = 1, 3 do
      p:control("dispatch", { kind = "CHANNEL_UPDATE", d = { id = "777", guild_id = "1", name = "name " .. n } })
      p:control("dispatch", { kind = "FRIEND_ADD", d = { openid = "O", timestamp = n } })
    end
    s:advance "1s"
    local kinds = {}
    for _, e in ipairs(c:events()) do kinds[e.frame.t] = (kinds[e.frame.t] or 0) + 1 end
    assert.equal(3, kinds.CHANNEL_UPDATE)
    assert.equal(3, kinds.FRIEND_ADD)
    s:close()
  end)
end)

describe("an outage", function ()
  it("Q30 of the gateway's address for four days is asked about once a minute, and over within one", function ()
    s, p = world.new { sim = MEMORY, peer = { faults = { gateway = { status = 500 } } } }
    s:advance "4d"
    local calls = world.instants(p, "gateway")
    assert.is_true(world.least_gap(calls) >= 60000)
    assert.is_true(#calls >= 4 * 1440 * 0.9, "it gave up")
    local v = s:view "a"
    assert.equal("waiting", v.state)
    assert.is_true(v.attempts >= #calls and v.deadline ~= nil)
    assert.equal(0, #s:dials "a")
    p:control "heal"
    s:up("a", "61s")
    s:close()
  end)

  it("Q31 of the first host for ever is none: the second one is asked in the same attempt", function ()
    s, p = world.new { no_connection = true, names = { "new.qq.test" } }
    s:fault("http_status", { host = "qq.test", what = "call", status = 500 })
    world.connect(s, p, "a", { api = { p.url, "https://new.qq.test" },
      token_url = { p.url .. "/app/getAppAccessToken", "https://new.qq.test/app/getAppAccessToken" } })
    s:up("a", "10s")
    s:close()
  end)

  for name, fault in pairs { ["does not resolve"] = "resolve_fail", ["refuses"] = "refuse", ["is a black hole"] = "black_hole" } do
    it("Q31 where the first host " .. name .. " is none", function ()
      s, p = world.new { no_connection = true, names = { "new.qq.test" } }
      s:fault(fault, { host = "qq.test", what = "call" })
      world.connect(s, p, "a", { api = { p.url, "https://new.qq.test" },
        token_url = { p.url .. "/app/getAppAccessToken", "https://new.qq.test/app/getAppAccessToken" } })
      s:up("a", "3m")
      s:close()
    end)
  end

  it("Q32 of names for 78 minutes is over within 61 s, and kept nobody busy", function ()
    s, p = world.settled()
    local fault = s:fault("resolve_fail", {})
    local from, before = s:now(), s:view("a").attempts
    p:control "abort"
    s:advance "78m"
    assert.is_true(s:view("a").attempts - before <= 200, s:view("a").attempts - before .. " attempts")
    local upgrades = p:control("stats").upgrades
    fault:off()
    s:run_until(function () return p:control("stats").upgrades > upgrades end, "61s")
    -- The session's replay window is over long ago: refused once, then begun anew.
    s:run_until(function () return #world.instants(p, "identify", from) == 1 end, "1m")
    s:close()
  end)

  it("Q32 at the very start is over as soon", function ()
    s, p = world.new { no_connection = true }
    local fault = s:fault("resolve_fail", {})
    world.connect(s, p, "a")
    s:advance "78m"
    assert.is_true(s:view("a").attempts <= 200)
    fault:off()
    s:up("a", "61s")
    s:close()
  end)

  it("Q33 that cuts each link 3 s after READY is met with a growing backoff", function ()
    s, p = world.new { peer = { identify_gap = 0,
      faults = { close_after_identify = { code = -1, after_greeting = true, times = 10 },
                 close_after_resume = { code = -1, after_greeting = true, times = 10 }, close_delay = 3000 } } }
    s:run_until(function () return s:view("a").failed >= 9 end, "30m")
    local dials, sum = s:dials "a", { 0, 0 }
    -- Full jitter: single delays may be short, the second half of them is longer than the first.
    for i = 2, 9 do sum[i <= 5 and 1 or 2] = sum[i <= 5 and 1 or 2] + dials[i].at - dials[i - 1].at - 3000 end
    assert.is_true(sum[2] > 2 * sum[1], ("%d then %d ms"):format(sum[1], sum[2]))
    assert.is_true(s:view("a").decision.backoff ~= nil)
    s:close()
  end)

  -- Each place where an attempt waits for somebody: the fault there must end in an attempt that is planned.
  local places = {
    { "the token's name", "resolve_fail", { what = "call" } },
    { "the token's call", "black_hole", { what = "call" } },
    { "the token's answer", "http_status", { what = "call", status = 503 } },
    { "the token's certificate", "cert_expired", { what = "call" } },
    { "the socket's name", "resolve_fail", { what = "link" } },
    { "its connection", "connect_timeout", { what = "link" } },
    { "its refusal", "refuse", { what = "link" } },
    { "its handshake", "tls_fail", { what = "link" } },
    { "its upgrade", "http_status", { what = "link", status = 502 } },
    { "its greeting", "reset", { what = "link", stage = "greeting" } },
    { "its silence", "black_hole", { what = "link" } },
  }
  for _, place in ipairs(places) do
    for _, first in ipairs { true, false } do
      it("Q34 at " .. place[1] .. (first and ", at the first connect" or ", at a reconnect") .. ", is survived", function ()
        if first then s, p = world.new { no_connection = true } else s, p = world.settled() end
        local fault = s:fault(place[2], place[3])
        if first then
          world.connect(s, p, "a")
        else
          p:control "new_token"
          p:control "abort"
        end
        for _ = 1, 20 do
          s:advance "30s"
          local v = s:view "a"
          assert.is_true(v.state ~= "stopped", "it stopped")
          assert.is_true(v.state == "up" or v.deadline ~= nil, v.state .. " without an end")
        end
        fault:off()
        -- Five session starts that failed are followed by one in ten minutes, and the token is another one.
        s:up("a", "25m")
        s:close()
      end)
    end
  end
end)

describe("what comes late", function ()
  it("Q35 from an old socket moves nothing on the new one", function ()
    s, p = world.settled()
    s:fault("no_close_answer", { times = 1 })
    s:fault("slow", { ms = "4s", times = 1 })
    p:control("op7", { delay = 3000 })
    world.back(s, "a", "20s")
    local generation = s:view("a").generation
    s:quiet("10m", "a")
    assert.equal(generation, s:view("a").generation)
    assert.equal(1, p:control("stats").open)
    s:close()
  end)
end)

describe("two shards", function ()
  it("Q36 do not wait for each other: one drops, the other beats on", function ()
    s, p = world.new { no_connection = true, peer = { max_concurrency = 2 } }
    world.connect(s, p, "a", { shard_count = 2 })
    world.connect(s, p, "b", { shard_id = 1, shard_count = 2 })
    s:up("a", "30s")
    s:up("b", "30s")
    s:advance "70s"
    local fault = s:fault("refuse", { connection = "a" })
    p:control("kick", { shard = "0/2", code = 1011 })
    s:advance "5m"
    assert.equal(1, s:view("b").generation)
    assert.is_true(s:view("b").beats_answered >= 8)
    fault:off()
    s:up("a", "2m")
    assert.equal(1, s:view("b").generation)
    s:close()
  end)

  it("identify one after the other where the platform wants that", function ()
    s, p = world.new { no_connection = true }
    for shard = 0, 4 do world.connect(s, p, "s" .. shard, { shard_id = shard, shard_count = 5 }) end
    for shard = 0, 4 do s:up("s" .. shard, "1m") end
    assert.is_true(world.least_gap(world.instants(p, "identify")) >= 5000)
    assert.equal(0, p:control("stats").refused_identifies)
    s:close()
  end)
end)

describe("the platform's own count", function ()
  it("Q37 of no session left lets a RESUME through, and holds the IDENTIFY back until it is reset", function ()
    s, p = world.settled()
    s:advance "25h"    -- the next dial asks for the address, and hears the count
    p:control("exhausted", { lasts = 4 * HOUR })
    local from = s:now()
    p:control "abort"
    s:advance "239m"
    assert.equal(0, p:control("stats").over_total)
    assert.equal(0, #world.instants(p, "identify", from))
    s:up("a", "5m")
    assert.equal(1, #world.instants(p, "identify", from))
    s:close()
    s, p = world.settled()
    p:control("exhausted", { lasts = 4 * HOUR })
    p:control "abort"
    world.back(s, "a", "10s")
    assert.equal(1, #world.instants(p, "resume"))
    s:close()
  end)

  it("Q37 at the start holds the first IDENTIFY back", function ()
    s, p = world.new { peer = { limit = { total = 1000, remaining = 0, reset_after = 4 * HOUR } } }
    s:advance "14399s"
    assert.equal("queued", s:state "a")
    assert.equal(0, #world.instants(p, "identify"))
    s:up("a", "10m")
    s:close()
  end)

  it("is never met: refused sessions all day stay under a third of it", function ()
    s, p = world.new { sim = MEMORY, peer = { faults = { close_after_identify = { code = 1000, after_greeting = true },
      close_after_resume = { code = 4006 } } } }
    s:advance "24h"
    local at = world.instants(p, "identify")
    assert.is_true(world.most_in(at, 3600000) <= 22)
    assert.is_true(#at <= 298 and #at >= 50, #at .. " identifies")
    s:close()
  end)
end)

describe("a quiet bot", function ()
  it("Q38 that hears nothing but acknowledgements is not reconnected in a day, nor in a month", function ()
    s, p = world.settled { sim = MEMORY }
    s:quiet("24h", "a")
    s:quiet("29d", "a")
    assert.equal(1, s:view("a").generation)
    s:close()
  end)

  it("Q38 is replaced at the end of each connection's life, and never otherwise", function ()
    s, p = world.settled { peer = { lifetime = 1800000 } }
    s:quiet("24h", "a")
    local v = s:view "a"
    assert.equal(v.endings, v.planned_endings)
    assert.is_true(v.endings >= 46)
    s:close()
  end)
end)

describe("a consumer", function ()
  it("Q39 that is slow for ten minutes holds no beat back, and a kill loses nothing that came", function ()
    s, p = world.settled { peer = { events_every = 100 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:advance "1s"
    c:pause()
    local beats = s:view("a").beats_sent
    s:quiet("10m", "a")
    assert.is_true(s:view("a").beats_sent - beats >= 13)
    s:advance "50ms"
    local stored = s:disk("a").session
    s:crash_and_restart { after = "5s" }
    s:run_until(function () return #world.instants(p, "resume") == 1 end, "20s")
    local resumed
    for _, e in ipairs(p:control "log") do
      if e.kind == "resume" then resumed = e.seq end
    end
    assert.equal((type(stored) == "string" and sim.decode(stored) or stored).seq, resumed)
    s:up("a", "10s")
    c:resume()
    for _ = 1, 30 do
      if not c:attached() then assert(c:attach "cursor") end
      s:advance "1s"
    end
    -- At least once, in order: what the crash cut off comes again, and nothing is missing.
    local last = 0
    for _, n in ipairs(world.numbers(c)) do
      assert.is_true(n <= last + 1, ("%d after %d"):format(n, last))
      last = math.max(last, n)
    end
    assert.is_true(last >= 6100, last .. " messages")
    s:close()
  end)
end)

describe("frames", function ()
  it("Q40 of garbage, unknown ops, or without a sequence end nothing", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("dispatch", { count = 1 })
    s:advance "100ms"
    local seq = s:session("a").seq
    for _, text in ipairs { "", "{", "nonsense", '{"op":77}', '{"op":0,"t":"NO_SEQUENCE","d":{}}', "[]", "null", '{"op":"0"}',
      '{"op":0,"s":null,"t":"NULL_SEQUENCE","d":{}}', '{"op":11,"op":99}', '{"op":1e3}', '{"op":0}}', '{"op":13,"d":{}}' } do
      p:control("raw", { text = text })
    end
    p:control("fault", { noise = true })
    p:control("dispatch", { count = 2 })
    s:quiet("10m", "a")
    assert.equal(seq + 2, s:session("a").seq)
    assert.equal(3, world.assert_whole(c))
    local kinds = {}
    for _, e in ipairs(c:events()) do kinds[e.frame and e.frame.t or "none"] = true end
    assert.is_true(kinds.NO_SEQUENCE and kinds.NULL_SEQUENCE and kinds.UNHEARD_OF)
    s:close()
  end)

  it("of a HELLO without an interval, or with nonsense, leave the policy's own", function ()
    for _, d in ipairs { "null", '{"heartbeat_interval":"soon"}', '{"heartbeat_interval":null}', '"x"', '{"heartbeat_interval":-1}' } do
      s, p = world.new { peer = { faults = { silent_hello = 1 } } }
      s:run_until(function () return p:control("stats").open == 1 end, "10s")
      p:control("raw", { text = '{"op":10,"d":' .. d .. "}" })
      s:up("a", "5s")
      s:advance "5m"
      assert.equal(1, s:view("a").generation, "HELLO with " .. d)
      assert.equal(0, p:control("stats").starved)
      s:close()
    end
  end)
end)

describe("secrets", function ()
  it("stand in no journal, trace, state or stream, not when the platform repeats them either", function ()
    s, p = world.new { sim = { trace = true }, peer = { faults = { token = { status = 500, times = 1,
      body = '{"code":100002,"message":"no, ' .. world.SECRET .. '"}' } } } }
    local c = s:consumer { name = "bot", connections = { "a" }, states = true }
    s:up("a", "2m")
    p:control("kick", { code = 4000, reason = "bad qqtoken-000001-" .. world.APP })
    world.back(s, "a", "1m")
    p:control("fault", { gateway = { status = 500, times = 1, body = "no qqtoken-000001-" .. world.APP } })
    s:advance "25h"
    p:control "abort"
    world.back(s, "a", "1m")
    local said = { s:trace(), sim.encode(s:json "a") }
    for _, e in ipairs(s:journal "a") do said[#said + 1] = e.text end
    for _, line in ipairs(c:lines()) do said[#said + 1] = line end
    local all = table.concat(said, "\n")
    assert.is_nil(all:find(world.SECRET, 1, true))
    assert.is_nil(all:find("qqtoken%-0000"))
    assert.truthy(all:find("<client_secret>", 1, true))
    s:close()
  end)
end)

describe("a stored session", function ()
  for what, change in pairs { ["other intents"] = { intents = 1 }, ["another shard count"] = { shard_count = 2 },
    ["another host"] = { api = "https://sandbox.qq.test" } } do
    it("is not resumed with " .. what, function ()
      s, p = world.settled { names = { "sandbox.qq.test" } }
      local settings = { app_id = world.APP, client_secret = s:secret(world.SECRET, "client_secret"), api = p.url,
                         token_url = p.url .. "/app/getAppAccessToken" }
      for k, v in pairs(change) do settings[k] = v end
      s:set("a", settings)
      local from = s:now()
      s:crash_and_restart { after = "10s" }
      s:up("a", "20s")
      assert.same({ identify = 1, resume = 0 }, world.counts(p, from))
      s:close()
    end)
  end

  it("outlives a kill and is as old as before", function ()
    s, p = world.settled()
    s:advance "23h"
    p:control("dispatch", { count = 1 })
    s:advance "1s"
    s:crash_and_restart { after = "10s" }
    s:up("a", "20s")
    assert.equal(1, #world.instants(p, "resume"))
    s:advance "1h"
    local from = s:now()
    p:control "op7"
    world.back(s, "a", "20s")
    assert.same({ identify = 1, resume = 0 }, world.counts(p, from))
    s:close()
  end)

  it("is ended by an operator's stop, and kept by a restart", function ()
    s, p = world.settled()
    local from = s:now()
    s:restart "a"
    world.back(s, "a", "10s")
    assert.same({ identify = 0, resume = 1 }, world.counts(p, from))
    assert.equal(4000, s:closes("a")[1].code)
    s:stop "a"
    s:reach("a", "stopped", "5s")
    assert.equal(1000, world.last(s:closes "a").code)
    assert.same({}, s:session "a")
    s:close()
  end)
end)
