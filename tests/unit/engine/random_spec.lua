-- Random schedules: a platform that refuses, hangs, dies, lies and recovers, operators and policies that
-- interfere. I1, I2, I3 and I8 are checked from the outside after every step; at the end the platform
-- is healed and every connection must be up within the bound that the engine computed (I6).
-- The same schedules with a planted bug must break exactly what the plant is about.
local engine = require "unit.engine"
local Host = require "engine_host"

local WINDOW, LIMIT, GAP = 120000, 6, 2000

local function rng(seed)
  local state = seed * 2654435761 % 4294967296
  return function (n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return math.floor(state / 65536) % n
  end
end

local function make_plan(r)
  return {
    ping = r(2) * 20000, silence = 45000, promised = r(3) == 0, overlap = r(2), on_ended = r(3) == 0,
    retire_after = r(3) == 0 and 90000 or 0, retire_jitter = 0.3,
    beat = r(2) == 0 and { every = 15000, least = 1000, first = ({ "spread", "at_once", "after" })[r(3) + 1] } or nil,
    backoff = { settle = 20000, most = 20000, jitter = ({ "none", "full", "equal" })[r(3) + 1] },
    slow = { first = 20000, most = 40000 },
    session = { replay = ({ "session", "unacked", "none" })[r(3) + 1], age = r(2) * 100000 },
    budgets = { start = { windows = { { LIMIT, WINDOW } }, gap = GAP }, send = { windows = { { 20, 10000 } }, beats = 3 },
                dial = r(3) == 0 and { windows = { { 10, 60000 } } } or nil },
    classify = {
      { close = 4001, drop = "fresh" }, { close = 4002, drop = "renew", pace = "slow" },
      { cause = "reconnect", planned = true, delay = { 0, 0 } }, { cause = "invalid", drop = "fresh", delay = { 0, 5000 } },
      { close = 4003, delay = { 0, 0 }, counts = false }, { http = 429, retry_after = true, otherwise = { 0, 0 }, counts = false },
    },
    climb = { { on = { session = true, stage = "greeting" }, times = 3, to = "fresh" },
              { on = { under = 2000 }, times = 4, to = "renew", pace = "slow" } },
  }
end

local causes = {
  { kind = "closed", close = 4001 }, { kind = "closed", close = 4002 }, { kind = "closed", close = 4003 },
  { kind = "closed", close = 1006 }, { kind = "eof" }, { kind = "reset", by = "network" },
  { kind = "upgrade_refused", http = 429, retry_after = 0 }, { kind = "refused", stage = "connecting" },
}

-- One world: `bots` connections of one account, faults for `fault_ms`, then none.
local function world(seed, plant, fault_ms)
  local r = rng(seed)
  local faulty = true
  local bots, started = {}, {}
  local function cause() return causes[r(#causes) + 1] end
  local function bad(percent) return faulty and r(100) < percent end
  local send_id = 0
  local plan_table = make_plan(r)
  local host
  host = Host.new { plan = plan_table, seed = seed, connections = 8, latency = 5, on = {
    prepare = function (h, f)
      if bad(5) then return true end
      h:later(r(50), function ()
        if bad(15) then h:event("attempt failed", f.conn, f.generation, { cause = { kind = "call" } })
        else
          if bad(5) then h:event("budget told", f.conn, 0, { budget = "start", left = r(2), reset = r(30000) }) end
          if bad(5) then h:event("session changed", f.conn, 0, { present = false }) end
          h:event("prepared", f.conn, f.generation)
        end
      end)
      return true
    end,
    store = function (h, f)
      if f.no_answer then return true end
      if bad(5) then return true end
      h:later(r(30), function () h:event(bad(10) and "store failed" or "stored", f.conn, 0, { ticket = f.ticket }) end)
      return true
    end,
    dial = function (h, f)
      if bad(8) then return true end
      h:later(r(60), function ()
        if not h:alive(f) then return end
        if bad(15) then h:event("dial failed", f.conn, f.generation, { cause = cause() }); return end
        if bad(5) then h:closed(f.conn, f.generation, cause()); return end
        h:event("upgraded", f.conn, f.generation)
      end)
      return true
    end,
    greet = function (h, f)
      if bad(8) then return true end
      h:later(r(60), function ()
        if not h:alive(f) then return end
        if not h:view(f.conn).session_present or bad(3) then
          send_id = send_id + 1
          h:event("send requested", f.conn, f.generation, { send_id = send_id, by = "greeting", starts = true })
        end
        if not h:alive(f) then return end
        if bad(25) then h:event("peer closed", f.conn, f.generation, { cause = cause() }); return end
        if bad(10) then h:event("ending announced", f.conn, f.generation, { cause = { kind = "ended", name = "invalid" }, wait = r(3) * 500 }) end
        if not h:alive(f) then return end
        h:event("session changed", f.conn, 0, { present = true, saved = h:clock().wall })
        h:event("greeted", f.conn, f.generation)
      end)
      return true
    end,
    close = function (h, f)
      if bad(20) then return true end
      h:later(r(40), function ()
        if h:alive(f) and bad(20) then h:event("peer closed", f.conn, f.generation, { cause = { kind = "closed", close = 4001 } }) end
        h:closed(f.conn, f.generation)
      end)
      return true
    end,
    abort = function (h, f)
      if bad(3) then return true end
      return false
    end,
    beat = function () return bad(5) end,
    ping = function () return bad(5) end,
    ["ask ended"] = function (h, f)
      if bad(10) then return true end
      h:later(r(200), function ()
        h:event("verdict given", f.conn, f.generation, { given = r(2) == 0, drop = ({ "resume", "fresh" })[r(2) + 1],
          delay = r(2) == 0 and { 0, 0 } or nil, failed = r(5) == 0 })
      end)
      return true
    end,
    removed = function (h, f)
      for i, b in ipairs(bots) do if b == f.conn then table.remove(bots, i) break end end
      return true
    end,
  } }
  host.plan_table = plan_table
  if plant then host.e:plant(plant) end
  for i = 1, 3 do
    bots[i] = host:add { name = "bot" .. i, identity = i, session = r(2) == 0, lane = 1 }
    host.conns[bots[i]].handover = plan_table.overlap == 1
    host:start(bots[i])
  end
  local function meddle()
    if not faulty then return end
    local bot = bots[r(#bots) + 1]
    local view = bot and host:view(bot)
    if view then
      local g = #view.links > 0 and view.links[r(#view.links) + 1].generation or view.generation
      local what = r(20)
      if what == 0 then host:event("stop requested", bot); host:later(r(5000), function () host:start(bot) end)
      elseif what == 1 then host:event("restart requested", bot)
      elseif what == 2 then host:start(bot)
      elseif what == 3 then host:event("policy swapped", bot, 0, { plan = engine.plan(make_plan(r)) }); host.conns[bot].handover = true
      elseif what == 4 then host.boot_ahead = host.boot_ahead + r(100000); host:event("clock jumped", bot, 0, { suspended = r(100000) })
      elseif what == 5 then host.wall_ahead = (r(2000) - 1000) * 3600000
      elseif what < 9 and #view.links > 0 then host:event("ending announced", bot, g, { cause = { kind = "ended", name = "reconnect" }, wait = r(2) * 1000 })
      elseif what < 12 and #view.links > 0 then host:event("peer closed", bot, g, { cause = cause() })
      elseif what == 12 then host:event("limit crossed", bot, g, { cause = { kind = "protocol", close = 1002 } })
      elseif what == 13 then host:event("beat asked", bot, g)
      elseif what == 14 then for _ = 1, 5 do send_id = send_id + 1; host:event("send requested", bot, 0, { send_id = send_id }) end
      elseif what == 15 then host:closed(bot, g, cause())
      elseif what == 16 then host:event("shutdown requested", bot); host:start(bot)
      else -- nonsense: any event of any generation that no driver would send now
        local kinds = { "prepared", "attempt failed", "upgraded", "drained", "verdict given", "stored", "greeting progressed", "beat set", "stage reached" }
        local kind = kinds[r(#kinds) + 1]
        if kind ~= "prepared" and kind ~= "upgraded" or g ~= view.generation then
          host:event(kind, bot, r(3) + g, { cause = { kind = "call" }, stage = "connecting", ticket = r(9), interval = r(30000) })
        end
      end
    end
    host:later(r(4000), meddle)
  end
  host:later(100, meddle)
  host.lag = r(4) == 0 and r(3000) or 0
  host:run(fault_ms)
  faulty, host.lag = false, 0
  return host, bots
end

local function check_starts(host)
  local found, times = nil, {}
  for _, f in ipairs(host:effects "send") do
    if f.starts then table.insert(times, f.boot) end -- a machine that slept ages its windows
  end
  for i = 1, #times do
    if times[i - 1] and times[i] - times[i - 1] < GAP then found = "I2: two starts within the gap" end
    if times[i - LIMIT] and times[i] - times[i - LIMIT] <= WINDOW then found = "I2: over the window" end
  end
  return found
end

-- Marks the sends that were start frames: the ids are known from the requests.
local function track_starts(host)
  local step = host.step
  host.step = function (self, event)
    local effects = step(self, event)
    if event.kind == "send requested" and event.starts then
      for _, f in ipairs(effects) do if f.kind == "send" then f.starts = true end end
    end
    return effects
  end
end

-- Host.new steps before we can wrap it, so the method itself is wrapped for the time of a run.
local function run(seed, plant, ms)
  local step = Host.step
  local shim = { step = step }
  track_starts(shim)
  Host.step = shim.step
  local ok, host, bots = pcall(world, seed, plant, ms)
  Host.step = step
  if not ok then error(("seed %d: %s"):format(seed, host), 0) end
  return host, bots
end

local conn_states = { "stopped", "waiting", "queued", "preparing", "linking", "up", "closing" }
local marks = {
  "a beat was asked for", "a planned ending of a settled link is free", "a session start without a permit was refused",
  "figures told while preparing took the permit back", "handover begins", "on_ended took too long", "retry_after beats backoff",
  "the close code was stronger than the announced ending", "the floor holds whoever asks",
  "the old link died while its successor was on its way", "the successor died while the old link was draining",
}

describe("random schedules", function ()
  local rounds = tonumber(os.getenv "HOLDFAST_ROUNDS") or 250

  it("break no invariant, heal within the bound, and take every legal move and marked branch", function ()
    local readies, moves = 0, {}
    for seed = 1, rounds do
      local host, bots = run(seed, nil, 240000)
      assert.same({}, host.violations, "seed " .. seed)
      assert.is_nil(check_starts(host), "seed " .. seed)
      local bound = 0
      for _, bot in ipairs(bots) do bound = math.max(bound, host.e:bound(bot, host:clock()) or 0) end
      local bot_states = {}
      host:run(bound, function ()
        bot_states = {}
        for _, bot in ipairs(bots) do
          local view = host:view(bot)
          if view.state ~= "up" and view.wanted then table.insert(bot_states, view.state) end
        end
        return #bot_states == 0
      end)
      assert.same({}, bot_states, "seed " .. seed .. " is not up after " .. bound .. " ms")
      assert.same({}, host.violations, "seed " .. seed)
      for _, bot in ipairs(bots) do readies = readies + host:view(bot).readies end
      for _, f in ipairs(host:effects "state") do moves[f.from .. " -> " .. f.to] = true end
      host.e:close()
    end
    assert.is_true(readies > rounds * 10)
    moves["preparing -> closing"] = true -- too rare here; handover_spec takes it
    local untaken = {}
    for _, from in ipairs(conn_states) do
      for _, to in ipairs(conn_states) do
        if engine.conn_legal(from, to) and not moves[from .. " -> " .. to] then table.insert(untaken, from .. " -> " .. to) end
      end
    end
    for _, mark in ipairs(marks) do
      if engine.mark_hits(mark) == 0 then table.insert(untaken, mark) end
    end
    assert.same({}, untaken)
  end)

  it("repeat effect by effect with the same seed", function ()
    local function trace(seed)
      local host = run(seed, nil, 60000)
      local lines = {}
      for i, f in ipairs(host.log) do lines[i] = f.at .. " " .. f.kind .. " " .. f.generation end
      return table.concat(lines, "\n")
    end
    assert.equal(trace(7), trace(7))
    assert.not_equal(trace(7), trace(8))
  end)

  it("answer every send exactly once", function ()
    for seed = 1, 30 do
      local host, bots = run(seed, nil, 120000)
      while #bots > 0 do host:event("remove requested", table.remove(bots)) end
      host:run(20000)
      local answers, most = {}, 0
      for _, f in ipairs(host.log) do
        if f.send_id then
          assert.is_nil(answers[f.send_id], "seed " .. seed .. " answered twice: " .. f.send_id)
          answers[f.send_id] = true
          most = math.max(most, f.send_id)
        end
      end
      for id = 1, most do assert.is_true(answers[id], "seed " .. seed .. " not answered: " .. id) end
      assert.is_nil(host.e:deadline())
    end
  end)

  for _, plant in ipairs { "I1", "I2", "I3", "I8" } do
    it("catch the planted bug " .. plant, function ()
      local caught
      for seed = 1, 60 do
        local host = run(seed, plant, 120000)
        local found = check_starts(host)
        for _, text in ipairs(host.violations) do if text:find(plant, 1, true) then found = text end end
        if found and found:find(plant, 1, true) then caught = found break end
      end
      assert.is_not_nil(caught)
    end)
  end
end)

describe("the other planted bugs", function ()
  it("I4: a dead peer is never noticed", function ()
    local deaf = function () return true end
    local host = Host.new { plan = { beat = { every = 10000 } }, on = { beat = deaf, ping = deaf } }
    local bot = host:up()
    host.e:plant "I4"
    host:run(600000)
    assert.equal("up", host:view(bot).state)
  end)

  it("I5: a quiet link is ended although its bytes prove it alive", function ()
    local host = Host.new {}
    local bot = host:up()
    host.e:plant "I5"
    host:run(600000)
    assert.is_true(host:view(bot).generation > 1)
    assert.equal("silence", host:view(bot).cause.kind)
  end)

  it("I6: it gives up without a fatal cause", function ()
    local host = Host.new { on = { prepare = function (h, f)
      h:later(1, function () h:event("attempt failed", f.conn, f.generation, { cause = { kind = "call" } }) end)
      return true
    end } }
    host.e:plant "I6"
    local bot = host:add()
    host:start(bot)
    host:run(600000)
    assert.equal("stopped", host:view(bot).state)
  end)
end)
