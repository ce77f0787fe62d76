-- The Discord incident: 2142 closes in 48 hours and seven hours of silence, because attempts were reset on
-- open, a dead session was resumed for ever, and no limit on the handshake ever raised the verdict. The
-- same world, a week long; what goes wrong is said by the peer's faults.
local world = require "discord_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local HOUR, DAY, MINUTE = 3600000, 86400000, 60000

local function instants(list, kind)
  local out = {}
  for _, e in ipairs(list) do
    if not kind or e.kind == kind then out[#out + 1] = e.at end
  end
  return out
end

local function held(most, count, what)
  if count > most then error(("%d %s, at most %d"):format(count, what, most), 3) end
end

-- What has to hold while it goes on, and after it. Raises what does not.
local function check(s1, p1, fault, options)
  s1:up("a", "1m")
  s1:advance "70s"
  local c = s1:consumer { name = "bot", connections = { "a" } }
  p1:control("dispatch", { count = 5 })
  s1:advance "5s"
  fault()
  local from, opened = s1:now(), #s1:dials "a"
  s1:advance(options.lasts or "2d")

  local log = p1:control "log"
  local identifies = instants(log, "identify")
  held(22, world.most_in(identifies, HOUR), "IDENTIFYs in an hour")
  held(298, world.most_in(identifies, DAY), "IDENTIFYs in a day")
  held(0, p1:control("stats").token_resets, "resets of the token")
  local dials = instants(s1:dials "a")
  -- One attempt a minute and a little, however long it lasts; at first the backoff is still short.
  held(30, world.most_in(dials, 5 * MINUTE), "attempts in five minutes")
  held(180, world.most_in(dials, HOUR), "attempts in an hour")
  held(options.resumes or 3, #instants(log, "resume"), "RESUMEs of a session that is dead")
  if #dials == opened then error("it gave up", 2) end
  held(1, s1:descriptors("a").most, "sockets at once")

  p1:control "heal"
  local bound = s1:heal()
  if bound > 30 * HOUR then error("a bound of " .. bound .. " ms", 2) end
  -- The bound is for the worst case, a spent day among them. With starts left it takes minutes.
  local spent = #identifies > 20
  s1:run_until(function () return s1:state "a" == "up" end, spent and bound or "5m", "up within the bound")
  p1:control("dispatch", { kind = "AFTER", d = { n = 1 } })
  s1:advance "2m"
  if s1:state "a" ~= "up" then error("it did not stay up", 2) end

  -- Before and after arrived; what the lost session held is named.
  local seen, after = 0, false
  for _, e in ipairs(c:events()) do
    if e.frame.t == "MESSAGE_CREATE" then seen = seen + 1 end
    after = after or e.frame.t == "AFTER"
  end
  if seen ~= 5 or not after then error("events are missing", 2) end
  if #c:gaps() == 0 then error("a session was lost and no gap says so", 2) end
  return from
end

local function drop_and(faults)
  return function ()
    p:control "expire"
    p:control("fault", faults)
    p:control "abort"
  end
end

local storms = {
  ["a peer that upgrades and never says HELLO"] = { silent_hello = true },
  ["a peer that never says READY"] = { no_ready = true },
  ["op 9 to every IDENTIFY"] = { invalid_identify = true },
  ["close 1000 right after every IDENTIFY"] = { close_after_identify = 1000 },
  ["a close without a code right after every IDENTIFY"] = { close_after_identify = 0 },
  ["a socket cut right after every IDENTIFY"] = { close_after_identify = -1 },
  ["op 7 instead of every HELLO"] = { op7_for_hello = true },
  ["no answer to the upgrade"] = { silent_upgrade = true },
  ["a front end that answers 503"] = { upgrade = { status = 503 } },
  ["a front end that answers 429 without a time"] = { upgrade = { status = 429 } },
  ["no answer from /gateway/bot and none to RESUME"] = { silent_http = true, no_resumed = true, silent_hello = true },
}
-- Days of storms: what is on disk has its own specs.
local MEMORY = { memory = true }

local names = {}
for name in pairs(storms) do names[#names + 1] = name end
table.sort(names)

describe("a week of", function ()
  it("a peer that upgrades and never says HELLO, the incident itself, costs no session and is over in minutes", function ()
    s, p = world.new { sim = MEMORY }
    check(s, p, drop_and { silent_hello = true }, { lasts = "7d" })
    assert.is_true(s:view("a").starts <= 2)
    s:close()
  end)

  it("it climbs: the third greeting in a row that fails drops the session, and the journal says who", function ()
    s, p = world.settled()
    drop_and { silent_hello = true }()
    local decision = s:run_until(function ()
      for _, e in ipairs(s:journal "a") do
        if e.kind == "decision" and e.decision.by == "climb" then return e.decision end
      end
    end, "3m")
    assert.equal("fresh", decision.drop)
    assert.equal("no_hello", decision.cause.name)
    assert.truthy(decision.note:find "three resumes", 1, true)
    assert.same({}, s:session "a")
    assert.equal(1 + 3, #s:dials "a")
    s:close()
  end)
end)

describe("two days of", function ()
  for _, name in ipairs(names) do
    it(name .. " stay inside budget and pace, and end within the bound", function ()
      s, p = world.new { sim = MEMORY }
      check(s, p, drop_and(storms[name]), {})
      s:close()
    end)
  end

  it("a resume host that is dead cost no session at all", function ()
    s, p = world.settled()
    p:control("dispatch", { count = 5 })
    s:advance "1s"
    s:fault("black_hole", { host = world.RESUME_HOST, what = "link" })
    for _ = 1, 20 do
      p:control "abort"
      s:advance "5m"
      assert.equal("up", s:state "a")
    end
    assert.equal(1, world.counts(p).identify)
    s:close()
  end)

  it("close 1000 right after every RESUME do not happen: the third attempt identifies", function ()
    s, p = world.settled()
    local from = s:now()
    p:control("fault", { close_after_resume = 1000 })
    p:control "abort"
    s:run_until(function () return world.counts(p, from).identify == 1 end, "2m")
    s:up("a", "10s")
    assert.is_true(world.counts(p, from).resume <= 2)
    s:close()
  end)

  it("a cut a second after every READY stay inside the budget", function ()
    -- Ready is not settled: the counters stand, and so does the budget.
    s, p = world.new { sim = MEMORY }
    local function cut()
      p:control "expire"
      p:control "abort"
    end
    local function watch()
      if s:state "a" == "up" then s:at("1s", cut) end
      s:at("5s", watch)
    end
    s:at("5s", watch)
    s:advance "2d"
    local identifies = instants(p:control "log", "identify")
    assert.is_true(world.most_in(identifies, HOUR) <= 22)
    assert.is_true(world.most_in(identifies, DAY) <= 298)
    assert.is_true(world.most_in(identifies, DAY) >= 200, "it gave up")
    s.timers = {}
    s:abandon()
  end)
end)

describe("the same checks fail", function ()
  local NAIVE = {
    climb = {}, budgets = { start = { windows = { { 100000, "1h" } }, gap = "0s" } },
    backoff = { first = "500ms", most = "500ms", factor = 1, floor = "250ms", settle = "1s" },
    limits = { greeting = "10m" },
  }

  local function fails(fault, options, settings, sim_options, says)
    local so = { memory = true }
    for k, v in pairs(sim_options or {}) do so[k] = v end
    s, p = world.new { settings = settings, sim = so, peer = { identify_gap = 0 } }
    local ok, err = pcall(check, s, p, drop_and(fault), options)
    assert.is_false(ok, "nothing was wrong")
    assert.truthy(tostring(err):find(says), tostring(err))
  end

  it("for a policy without climbs, budgets and backoff: sessions are spent", function ()
    fails({ close_after_identify = 1000 }, { lasts = "2h" }, { tune = NAIVE }, nil, "IDENTIFYs in an hour")
  end)

  it("for that policy where nothing is ever said: sockets are opened without end", function ()
    fails({ op7_for_hello = true }, { lasts = "2h" }, { tune = NAIVE }, nil, "attempts in five minutes")
  end)

  it("for a session that is never dropped: it is resumed for ever", function ()
    fails({ close_after_resume = 0 }, { lasts = "2h" }, { tune = { climb = {} } }, nil, "RESUMEs of a session")
  end)

  it("for an engine that forgets its backoff on open", function ()
    fails({ op7_for_hello = true }, { lasts = "2h" }, nil, { plant = "I3", checks = false },
      "attempts in five minutes")
  end)

  it("for an engine that starts sessions without a permit", function ()
    fails({ close_after_identify = 1000 }, { lasts = "2h" }, nil, { plant = "I2", checks = false },
      "IDENTIFYs in an hour")
  end)
end)
