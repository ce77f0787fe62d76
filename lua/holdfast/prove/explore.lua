-- Which schedules are played, in which order: none; each long fault for more than an hour; each fault alone; all
-- pairs and all triples, where a state that was entered before is not entered again; then random ones by seed
-- until the time is over. Behind each of these parts, 24 quiet hours from every state that its schedules ended in: they cost
-- a hundred times the rest. The first that breaks a promise ends it, and is shrunk.
local sim = require "holdfast.sim"
local play = require "holdfast.prove.play"
local faults = require "holdfast.prove.faults"
local shrink = require "holdfast.prove.shrink"

local explore = {}

local CAPPED = {}

local function new_report(setup, options)
  return { ok = true, policy = setup.shown, path = setup.policy, platform = setup.platform, hash = setup.hash, peer = setup.peer,
           seed = options.seed, schedules = 0, folded = 0, time = 0, quiet = 0, depths = {}, random = 0,
           stages = {}, moves = {}, legal = 0, attempts = 0, bound = 0, capped = false }
end

local function join(a, b)
  local out = {}
  for i, m in ipairs(a) do out[i] = m end
  out[#out + 1] = b
  return out
end

local function note(report, result)
  report.schedules = report.schedules + 1
  report.time = report.time + (result.time or 0)
  report.quiet = report.quiet + (result.quiet and 1 or 0)
  report.legal = result.legal or report.legal
  report.attempts = math.max(report.attempts, result.attempts or 0)
  report.bound = math.max(report.bound, result.bound or 0)
  for key, value in pairs(result.stages) do
    if value == true then report.stages[key] = true end
  end
  for _, move in ipairs(result.moves or {}) do report.moves[move] = true end
end

local function failed(report, setup, schedule, result)
  schedule, result = shrink.shortest(setup, schedule, result)
  report.ok = false
  report.promise, report.text, report.line, report.at = result.promise, result.text, result.line, result.at
  report.schedule, report.result = schedule, result
  return report
end

---A mute peer cannot greet: a policy that waits for it never comes up, and what needs that is not judged.
function explore.does_it_come_up(setup, seed)
  setup.comes_up = true
  local result = play.schedule(setup, { seed = seed, moves = {} }, {})
  if not result.ok and setup.peer == "mute" and (result.promise == "I6" or result.promise == "I4") then
    setup.comes_up = false
  end
  return result
end

-- Draws that depend on seed and number alone.
local function draws(seed, number)
  local state = (seed * 2654435761 + number * 40503 + 12345) % 4294967296
  return function (n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return math.floor(state / 4294967296 * n) + 1
  end
end

local function random_schedule(moves, seed, number)
  local draw = draws(seed, number)
  for _ = 1, 3 do draw(2) end
  local list = {}
  for i = 1, 1 + draw(7) do
    local m = {}
    for k, v in pairs(moves[draw(#moves)]) do m[k] = v end
    if draw(3) == 1 then m.after = ("%ds"):format(draw(draw(4) == 1 and 1800 or 60)) end
    if m.lasts == "6m" then m.lasts = ("%ds"):format(draw(900)) end
    if m.at ~= "down" and draw(4) == 1 and not m.peer then m.at = faults.STAGES[1 + draw(3)] end
    -- What the platform means for good ends a schedule; what it lost may come at any time.
    list[i] = m
    if m.fatal then break end
  end
  return { seed = seed * 1000003 % 2147483647 + number, moves = list }
end
explore.random_schedule = random_schedule

function explore.run(setup, options)
  local report = new_report(setup, options)
  local started = sim.core.stopwatch()
  local said, phase = 0, ""
  -- Ends of schedules: { print = true }, and those that were not yet followed for 24 hours.
  local ended, to_rest = {}, {}

  local function progress(force)
    local now = sim.core.stopwatch()
    if not options.progress then return end
    if not force and now - said < 200 then return options.progress() end
    said = now
    options.progress(("%s: %d schedules, %s of simulated time, seed %d"):format(phase, report.schedules,
      play.time(report.time), options.seed))
  end

  local function try(schedule, quiet)
    if options.cap_ms and sim.core.stopwatch() - started > options.cap_ms then error(CAPPED, 0) end
    local result = play.schedule(setup, schedule, { quiet = quiet })
    note(report, result)
    progress()
    if not result.ok then error({ schedule = schedule, result = result }, 0) end
    if not quiet and result.ended and not ended[result.ended] then
      ended[result.ended] = true
      to_rest[#to_rest + 1] = schedule
    end
    return result
  end

  -- Somebody is in a hurry: what is behind the first depth may end early.
  local function is_late() return options.within_ms and sim.core.stopwatch() - started > options.within_ms end

  -- 24 quiet hours from each end that no schedule before had.
  local function quiet_hours(whole)
    local was, list = phase, to_rest
    to_rest = {}
    for i, schedule in ipairs(list) do
      if not whole and is_late() then
        report.unrested = #list - i + 1
        break
      end
      phase = ("%s: 24 quiet hours %d of %d"):format(was, i, #list)
      try(schedule, true)
    end
    phase = was
  end

  local function exhaustive(moves, depth)
    local entered, prefixes = {}, { {} }
    for d = 1, depth do
      report.depths[d] = 0
      if d == 1 then
        -- First, because they are few and a storm is the worst of all.
        phase = "an hour of each"
        for _, hour in ipairs(faults.hours(moves)) do
          try({ seed = options.seed, moves = hour, hour = true })
        end
      end
      local next_prefixes = {}
      for n, prefix in ipairs(prefixes) do
        if d > 1 and is_late() then
          report.unfinished = { depth = d, done = n - 1, of = #prefixes }
          return entered
        end
        phase = ("depth %d of %d, %d of %d"):format(d, depth, n, #prefixes)
        local probe = play.schedule(setup, { seed = options.seed, moves = prefix, probe = true }, {})
        note(report, probe)
        if not probe.ok then error({ schedule = { seed = options.seed, moves = prefix }, result = probe }, 0) end
        for _, node in ipairs(probe.stages) do
          local at, print = node[1], node[2]
          local key = at .. "|" .. tostring(print)
          if entered[key] then
            report.folded = report.folded + 1
          else
            entered[key] = true
            for _, m in ipairs(moves) do
              if m.at == at then
                local schedule = { seed = options.seed, moves = join(prefix, m) }
                local result = try(schedule)
                report.depths[d] = report.depths[d] + 1
                if d < depth and not result.unreached then next_prefixes[#next_prefixes + 1] = schedule.moves end
              end
            end
          end
        end
      end
      phase = ("depth %d of %d"):format(d, depth)
      quiet_hours(d == 1)
      prefixes = next_prefixes
    end
    return entered
  end

  local function random(moves)
    phase = "random"
    local from = sim.core.stopwatch()
    local most = options.schedules
    while (most and report.random < most) or (not most and sim.core.stopwatch() - from < (options.for_ms or 10000)) do
      try(random_schedule(moves, options.seed, report.random + 1))
      report.random = report.random + 1
      quiet_hours(true)
    end
  end

  local ok, err = pcall(function ()
    phase = "without a fault"
    local first = explore.does_it_come_up(setup, options.seed)
    report.comes_up = setup.comes_up
    note(report, first)
    if not first.ok and setup.comes_up then error({ schedule = { seed = options.seed, moves = {} }, result = first }, 0) end
    try({ seed = options.seed, moves = {} }, true)
    local calls = false
    do
      local s = play.world(setup, options.seed, {})
      s:advance "2m"
      calls = #s:http() > 0
      report.lines = s.core:lines("bot")
      s:abandon()
    end
    report.calls = calls
    local moves = setup.moves(calls)
    report.faults = #moves
    report.states = 0
    for _ in pairs(exhaustive(moves, options.depth or 3)) do report.states = report.states + 1 end
    if not options.gate then random(moves) end
  end)
  if not ok then
    if err == CAPPED then
      report.capped = true
    elseif type(err) == "table" and err.schedule then
      phase = "shrinking"
      progress(true)
      failed(report, setup, err.schedule, err.result)
    else
      error(err, 0)
    end
  end
  report.reached = sim.core.reach_lines(options.reach)
  return report
end

return explore
