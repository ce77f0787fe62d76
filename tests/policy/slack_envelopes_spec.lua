-- Slack's scenarios S24 to S29: what becomes of envelopes. Events are acknowledged at once, whatever the bots do;
-- what asks for a reply waits for the connection's owner, and goes out without one where there is no owner.
local sim = require "holdfast.sim"
local world = require "slack_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local function reply(c, event, payload)
  local frame = { envelope_id = event.frame.envelope_id, payload = payload }
  c:input(sim.encode { ack = { connection = event.connection, epoch = event.epoch, offset = event.offset, frame = frame } } .. "\n")
end

local function events_of(c, kind)
  local out = {}
  for _, e in ipairs(c:events()) do
    if e.take.type == kind then out[#out + 1] = e end
  end
  return out
end

describe("an event", function ()
  it("S24 is acknowledged within 50 ms, on its own socket, whether a bot is there or not", function ()
    s, p = world.settled()
    for _ = 1, 20 do
      p:control "event"
      s:advance "7s"
    end
    local ins, outs = world.frames(s, "a", "in", "events_api"), world.acks(s)
    assert.equal(20, #outs)
    for i, ack in ipairs(outs) do
      assert.same({ envelope_id = ins[i].frame.envelope_id }, ack.frame)
      assert.is_true(ack.at - ins[i].at <= 50, ack.at - ins[i].at)
      assert.equal(ins[i].generation, ack.generation)
    end
    assert.same({ 20, 0, 0, 0 }, { p:control("stats").acks, p:control("stats").redelivered, p:control("stats").double_acks,
                                   p:control("stats").payload_refused })
    s:close()
  end)

  it("is not acknowledged before it is on disk, and comes again when the disk fails", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    local fault = s:fault("store_fail", {})
    p:control "event"
    s:advance "3s"
    assert.equal(0, p:control("stats").acks)
    fault:off()
    s:advance "10s"
    assert.same({ 1, 1 }, { p:control("stats").acks, p:control("stats").redelivered })
    assert.equal(1, #c:events())
    s:close()
  end)

  it("S25 that comes again after 4, 60 and 300 s is acknowledged each time and delivered once", function ()
    s, p = world.settled { peer = { lifetime = false } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    local id = p:control "event"
    for i, after in ipairs { "4s", "56s", "240s" } do
      s:advance(after)
      p:control("event", { id = id, retry = i })
    end
    s:advance "1s"
    assert.equal(4, p:control("stats").acks)
    assert.equal(1, #c:events())
    assert.equal(4, #world.acks(s))
    s:close()
  end)

  it("S25 is known again after a crash and after a power cut", function ()
    s, p = world.settled { peer = { lifetime = false } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    local id = p:control "event"
    s:advance "1s"
    for i, cut in ipairs { "crash", "power_cut" } do
      s[cut](s, "2s")
      s:up("a", "30s")
      p:control("event", { id = id, retry = i, which = "newest" })   -- a power cut leaves Slack with a ghost
      s:advance "1s"
    end
    assert.equal(3, p:control("stats").acks)
    c:ack "a"
    local offsets = {}
    for _, e in ipairs(c:events()) do offsets[e.offset] = true end
    local count = 0
    for _ in pairs(offsets) do count = count + 1 end
    assert.equal(1, count)
    s:close()
  end)

  it("S26 that is a repetition of what was never seen is delivered", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:fault("refuse", { lasts = "200s" })
    p:control "abort"
    s:advance "100ms"
    local id = p:control "event"
    s:run_until(function () return #c:events() == 1 end, "10m")
    local event = c:events()[1]
    assert.equal(id, event.frame.payload.event_id)
    assert.is_true(event.take.retry >= 1)
    s:advance "10s"
    assert.equal(0, p:control("stats").lost_events)
    s:close()
  end)

  it("S27 without an inner event (app_rate_limited) is acknowledged and passed on", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control "rate_limited"
    p:control "rate_limited"
    s:advance "1s"
    assert.equal(2, p:control("stats").acks)
    assert.equal(2, #c:events(), "nothing tells them apart, so both")
    assert.equal("app_rate_limited", c:events()[1].take.kind)
    assert.equal("up", s:state "a")
    s:close()
  end)

  it("S29 whose socket went before the acknowledgement has it on the next one, and is delivered once", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    -- A disk that takes a second: the socket is gone by then.
    s:fault("store_delay", { ms = "1s", lasts = "3s" })
    p:control("disconnect", { reason = "warning" })
    s:run_until(function () return s:view("a").ready == 2 end, "10s")
    p:control("event", { count = 6 })
    s:advance "100ms"
    p:control("abort", { which = "oldest" })
    s:advance "10s"
    local stats = p:control "stats"
    assert.is_true(stats.elsewhere >= 1, "none was of the old socket")
    assert.same({ 6, 0, 0 }, { stats.acks, stats.redelivered, stats.double_acks })
    assert.equal(6, #c:events())
    s:close()
  end)

  it("S29 comes again where that does not count, and is still delivered once", function ()
    s, p = world.settled { peer = { elsewhere = false } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:fault("store_delay", { ms = "2s", lasts = "3s" })
    p:control("event", { count = 3 })
    s:advance "50ms"
    p:control "abort"
    s:advance "2m"
    assert.is_true(p:control("stats").redelivered >= 3)
    assert.equal(0, p:control("stats").lost_events)
    assert.equal(3, #c:events())
    s:close()
  end)
end)

describe("what is no envelope", function ()
  it("S28 leaves the socket alone: text that is no JSON, an empty text, a binary message", function ()
    s, p = world.new { peer = { lifetime = false, faults = { noise = true } } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "10s")
    s:quiet("1h", "a")
    assert.equal(1, s:view("a").ready)
    assert.same({ 0, 0 }, { p:control("stats").acks, p:control("stats").unknown_acks })
    assert.equal(3, s:json("a").frames and s:json("a").frames.malformed or #c:events())
    p:control "event"
    s:advance "1s"
    assert.equal(1, p:control("stats").acks)
    s:close()
  end)

  it("S28 before hello does not pass for one: the greeting fails in time", function ()
    s, p = world.new { peer = { lifetime = false, faults = { silent_hello = 1 } } }
    s:run_until(function () return p:control("stats").open == 1 end, "5s")
    p:control("raw", { text = "UNAUTHENTICATED: cache_error" })
    s:run_until(function () return s:view("a").failed == 1 end, "20s")
    assert.equal("timeout", s:view("a").cause.kind)
    s:up("a", "20s")
    s:close()
  end)
end)

describe("a slash command or an interaction", function ()
  local function owned(options)
    options = options or {}
    options.settings = { owner = "bot" }
    s, p = world.settled(options)
    return s:consumer { name = "bot", connections = { "a" } }
  end

  it("that asks for a reply has the owner's, within the three seconds", function ()
    local c = owned()
    local id = p:control("slash", { command = "/deploy" })
    s:advance "1s"
    assert.equal(0, p:control("stats").acks)
    reply(c, world.last(events_of(c, "slash_commands")), { text = "on its way" })
    s:advance "1s"
    local stats = p:control "stats"
    assert.same({ 1, 0, 0 }, { stats.acks, stats.late_acks, stats.lost_interactions })
    assert.same({ text = "on its way" }, stats.replies[id])
    s:close()
  end)

  it("is acknowledged plainly when the owner only acknowledges", function ()
    local c = owned()
    p:control("interactive", { kind = "view_submission" })
    s:advance "200ms"
    c:ack "a"
    s:advance "1s"
    assert.equal(1, p:control("stats").acks)
    assert.same({ envelope_id = c:events()[1].frame.envelope_id }, world.last(world.acks(s)).frame)
    s:close()
  end)

  it("that the owner leaves alone is told to nobody as done: it is lost at Slack, kept here, and the journal says so", function ()
    local c = owned()
    p:control "interactive"
    s:advance "4s"
    local stats = p:control "stats"
    assert.same({ 0, 0, 1 }, { stats.acks, stats.late_acks, stats.lost_interactions })
    reply(c, c:events()[1], { text = "too late" })
    s:advance "1s"
    assert.same({ 0, 0 }, { p:control("stats").acks, p:control("stats").late_acks })
    local late
    for _, e in ipairs(s:journal "a") do late = late or e.text:find "did not acknowledge 1 frame within" end
    assert.truthy(late)
    s:close()
  end)

  it("that asks for nothing is acknowledged at once, the owner or no owner", function ()
    owned()
    p:control("interactive", { asks = false })
    s:advance "100ms"
    assert.equal(1, p:control("stats").acks)
    s:close()
  end)

  it("does not hold events up: they are acknowledged while it waits for its owner", function ()
    local c = owned()
    p:control "slash"
    p:control("event", { count = 10 })
    s:advance "200ms"
    assert.equal(10, p:control("stats").acks)
    reply(c, events_of(c, "slash_commands")[1], { text = "x" })
    s:advance "200ms"
    assert.equal(11, p:control("stats").acks)
    s:close()
  end)

  it("has its reply on the next socket when its own is gone", function ()
    local c = owned()
    p:control "slash"
    s:advance "100ms"
    p:control "abort"
    s:run_until(function () return s:view("a").ready == 2 end, "2s")
    reply(c, c:events()[1], { text = "x" })
    s:advance "500ms"
    assert.same({ 1, 1, 0 }, { p:control("stats").acks, p:control("stats").elsewhere, p:control("stats").lost_interactions })
    s:close()
  end)

  it("where the connection names no owner is acknowledged as events are, and the journal says why", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control "slash"
    p:control "interactive"
    s:advance "100ms"
    assert.same({ 2, 0 }, { p:control("stats").acks, p:control("stats").lost_interactions })
    assert.equal(2, #c:events())
    local said
    for _, e in ipairs(s:journal "a") do said = said or e.text:find "names none %(owner" end
    assert.truthy(said)
    s:close()
  end)
end)

describe("a break", function ()
  it("of two minutes loses nothing and is no gap: Slack sends it all again", function ()
    s, p = world.settled { peer = { events_every = 5000, lifetime = false } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:fault("refuse", { lasts = "2m" })
    p:control "abort"
    s:advance "12m"
    local seen = {}
    for _, e in ipairs(c:events()) do
      local n = e.frame.payload.event.number
      assert.is_nil(seen[n], "event " .. n .. " twice")
      seen[n] = true
    end
    assert.equal(0, p:control("stats").given_up)
    assert.is_true(#c:events() >= 140)
    assert.same({}, c:gaps())
    s:close()
  end)

  it("of half an hour is longer than Slack repeats, and a gap says so", function ()
    s, p = world.settled { peer = { events_every = 60000, lifetime = false } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:fault("black_hole", { lasts = "30m" })
    s:advance "40m"
    assert.is_true(p:control("stats").given_up > 0)
    local gaps = c:gaps()
    assert.same({ 1, "longer than the replay", false }, { #gaps, gaps[1].cause, gaps[1].certain })
    s:close()
  end)
end)

describe("the app token", function ()
  it("and the ticket are in no log, journal, status or error", function ()
    local marked = "xapp-1-A0TEST-1111111111111-MARKEDSECRET"
    s, p = world.new { sim = { trace = true }, peer = { token = marked },
      settings = { app_token = sim.core.secret(marked, "app_token") } }
    s:up("a", "10s")
    p:control("fault", { open_error = { error = "internal_error", times = 3 }, upgrade = { status = 503, times = 2, body = marked } })
    p:control("close", { code = 1011, reason = "MARKEDSECRET " .. marked })
    s:advance "2m"
    p:control("fault", { open_error = { error = "invalid_auth" } })
    p:control "abort"
    s:reach("a", "stopped", "10s")
    local texts = { s:trace(), sim.encode(s:json "a"), s:describe "a" }
    for _, e in ipairs(s:journal "a") do texts[#texts + 1] = e.text end
    for _, text in ipairs(texts) do
      assert.is_nil(text:find(marked, 1, true))
      assert.is_nil(text:find("ticket=0", 1, true))
    end
    s:close()
  end)
end)
