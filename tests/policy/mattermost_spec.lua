-- Mattermost: the token that only the REST API refuses, pings, connections that are found again, events that miss.
local sim = require "holdfast.sim"
local world = require "mattermost_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local function pings(from)
  local out = {}
  for _, m in ipairs(s:wire("a", "out")) do
    local frame = m.text and sim.decode(m.data)
    if frame and frame.action == "ping" and m.at >= (from or 0) then out[#out + 1] = m.at end
  end
  return out
end

describe("a fresh start", function ()
  it("is one look at the token and one socket, up with hello, and a ping at once and every 30 s", function ()
    s, p = world.new()
    s:up("a", "10s")
    local up = s:now()
    s:advance "10m"
    local stats = p:control "stats"
    assert.same({ 1, 1, 1, 1 }, { stats.http, stats.upgrades, stats.hellos, stats.most_open })
    local sent = pings()
    assert.is_true(sent[1] - up <= 10 and #sent >= 20 and #sent <= 22, #sent .. " pings")
    for i = 2, #sent do assert.is_true(math.abs(sent[i] - sent[i - 1] - 30000) <= 300) end
    assert.is_true(#sent - stats.pings <= 1, "the last one may be on its way")
    s:close()
  end)

  it("stops when the token is refused, after one look and without a socket", function ()
    s, p = world.new { peer = { token = "another" } }
    s:run_until(function () return s:view("a").fatal end, "10s")
    s:advance "24h"
    assert.equal(401, s:view("a").cause.http)
    assert.same({ 1, 0 }, { p:control("stats").http, p:control("stats").upgrades })
    s:close()
  end)

  it("authenticates by the challenge where something took the header away", function ()
    s, p = world.new { peer = { faults = { strip_header = true } } }
    s:up("a", "10s")
    s:quiet("1h", "a")
    assert.same({ 1, 0 }, { p:control("stats").hellos, p:control("stats").unauthenticated })
    s:close()
  end)

  it("waits longer and longer, to five minutes, through an hour of refusals", function ()
    s, p = world.new { peer = { faults = { http = { status = 503 } } } }
    s:advance "1h"
    local calls = s:http()
    assert.is_true(#calls >= 14 and #calls <= 30, #calls .. " calls")
    for i = #calls - 3, #calls do assert.is_true(calls[i].at - calls[i - 1].at >= 150000) end
    p:control "heal"
    s:up("a", "5m")
    s:close()
  end)

  it("waits as long as a 429 says, and counts no failure", function ()
    s, p = world.new { peer = { faults = { http = { status = 429, times = 1, headers = { ["Retry-After"] = "50" } } } } }
    s:up("a", "2m")
    local calls = s:http()
    assert.is_true(calls[2].at - calls[1].at >= 50000)
    assert.equal(0, s:view("a").failed)
    s:close()
  end)

  it("fails in time where hello does not come", function ()
    s, p = world.new { peer = { faults = { silent_hello = 1 } } }
    s:run_until(function () return s:view("a").failed == 1 end, "20s")
    assert.equal("timeout", s:view("a").cause.kind)
    s:up("a", "20s")
    s:close()
  end)
end)

describe("a quiet day", function ()
  it("ends nothing", function ()
    s, p = world.new()
    s:up("a", "10s")
    s:quiet("24h", "a")
    assert.equal(1, p:control("stats").upgrades)
    s:close()
  end)
end)

describe("a connection that was cut", function ()
  it("is found again: what was missed comes, each post once, and there is no gap", function ()
    s, p = world.settled { peer = { events_every = 1000 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    local id, from = s:session("a").id, s:now()
    for _ = 1, 5 do
      s:fault("refuse", { lasts = "20s" })
      p:control "abort"
      s:advance "2m"
    end
    assert.equal(5, #world.logged(p, "resume", from))
    assert.equal(0, #world.logged(p, "hello", from))
    assert.equal(id, s:session("a").id)
    assert.equal(0, s:json("a").frames.duplicate, "asked for what it had")
    s:advance "1500ms"
    local numbers = world.numbers(c)
    for i = 2, #numbers do assert.equal(numbers[i - 1] + 1, numbers[i]) end
    assert.is_true(#numbers >= 500)
    assert.same({}, c:gaps())
    s:close()
  end)

  it("is found again after a crash and after a power cut, by what is on disk", function ()
    s, p = world.settled { peer = { events_every = 1000 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    for _, cut in ipairs { "crash", "power_cut", "crash" } do
      s:advance "10s"
      c:ack "a"
      s[cut](s, "5s")
      s:up("a", "1m")
      s:advance "30s"
    end
    assert.equal(3, p:control("stats").resumed)
    local seen, most = {}, 0
    for _, n in ipairs(world.numbers(c)) do
      seen[n] = true
      most = math.max(most, n)
    end
    local first = world.numbers(c)[1]
    for n = first, most do assert.truthy(seen[n], "post " .. n .. " is missing") end
    s:close()
  end)

  it("longer than the server's memory has another number and a gap that says so", function ()
    s, p = world.settled { peer = { events_every = 100 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    local id = s:session("a").id
    s:fault("refuse", { lasts = "30s" })
    p:control "abort"
    s:run_until(function () return s:view("a").ready == 2 end, "2m")
    s:advance "10s"
    assert.equal(1, p:control("stats").refused_resumes)
    assert.is_true(s:session("a").id ~= id)
    local gaps = c:gaps()
    assert.equal(1, #gaps)
    assert.truthy(gaps[1].cause:find "did not keep the connection", gaps[1].cause)
    local numbers = world.numbers(c)
    assert.is_true(numbers[#numbers] > 300)
    s:close()
  end)

  it("is not known to a server that started anew: another number, a gap, and on it goes", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control "expire"
    p:control "abort"
    s:run_until(function () return s:view("a").ready == 2 end, "1m")
    s:advance "1s"
    assert.equal(1, #c:gaps())
    p:control("post", { count = 3 })
    s:advance "1s"
    assert.same({ 1, 2, 3 }, world.numbers(c))
    assert.equal("up", s:state "a")
    s:close()
  end)

  it("whose return is cut three times over begins afresh", function ()
    s, p = world.settled()
    p:control("fault", { upgrade = { status = 500, times = 3 } })
    p:control "abort"
    s:run_until(function () return s:view("a").ready == 2 end, "5m")
    assert.equal(0, p:control("stats").resumed)
    assert.equal(2, p:control("stats").hellos)
    s:close()
  end)
end)

describe("an event that is missing", function ()
  it("ends the socket, and the next one is told where to go on: nothing is lost, nothing comes twice", function ()
    s, p = world.settled { peer = { events_every = 1000 } }
    local c = s:consumer { name = "bot", connections = { "a" } }
    p:control("fault", { lose = 2 })
    local from = s:now()
    s:run_until(function () return s:view("a").ready == 2 end, "1m")
    assert.is_true(s:now() - from <= 6000, s:now() - from)
    local said
    for _, e in ipairs(s:journal "a") do said = said or e.text:find "an event is missing: asked for again" end
    assert.truthy(said)
    s:advance "20s"
    local numbers = world.numbers(c)
    for i = 2, #numbers do assert.equal(numbers[i - 1] + 1, numbers[i]) end
    assert.same({}, c:gaps())
    assert.equal(1, p:control("stats").resumed)
    s:close()
  end)
end)

describe("a socket that is dead", function ()
  for name, break_it in pairs {
    ["that leaves pings unanswered"] = function () p:control("fault", { no_pong = true }) end,
    ["that is half open"] = function () s:fault("half_open", { connection = "a", times = 1 }) end,
  } do
    it(name .. " is noticed within two beats and found again", function ()
      s, p = world.settled()
      local from = s:now()
      break_it()
      s:run_until(function () return s:view("a").failed >= 1 end, "2m")
      assert.is_true(s:now() - from <= 62000, s:now() - from)
      assert.equal("beat", s:view("a").cause.kind)
      p:control "heal"
      s:run_until(function () return s:view("a").ready == 2 end, "1m")
      s:close()
    end)
  end
end)

describe("a consumer", function ()
  it("may say that it types and gets the answer; what would make posts elsewhere is refused", function ()
    s, p = world.settled()
    local c = s:consumer { name = "bot", connections = { "a" } }
    local typing = s:send("a", { seq = 7, action = "user_typing", data = { channel_id = "c" } })
    local other = s:send("a", { seq = 8, action = "authentication_challenge", data = { token = "x" } })
    s:advance "1s"
    assert.same({ sent = true }, typing:answer())
    assert.is_true(other:answer().refused)
    assert.equal(1, p:control("stats").actions.user_typing)
    local answered
    for _, e in ipairs(c:events()) do answered = answered or e.take.reply == 7 end
    assert.is_true(answered)
    s:close()
  end)
end)

describe("the token", function ()
  it("is in no log, journal, status or error", function ()
    local marked = "MARKEDSECRETTOKEN0123456789"
    s, p = world.new { sim = { trace = true }, peer = { token = marked }, settings = { token = sim.core.secret(marked, "token") } }
    s:up("a", "10s")
    p:control("kick", { code = 1011, reason = "of " .. marked })
    s:advance "2m"
    p:control("fault", { http = { status = 401, body = marked } })
    p:control "abort"
    s:run_until(function () return s:view("a").fatal end, "30s")
    local texts = { s:trace(), sim.encode(s:json "a"), s:describe "a" }
    for _, e in ipairs(s:journal "a") do texts[#texts + 1] = e.text end
    for _, text in ipairs(texts) do assert.is_nil(text:find(marked, 1, true)) end
    s:close()
  end)
end)
