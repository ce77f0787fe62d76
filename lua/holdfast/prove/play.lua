-- Plays one schedule of faults in a world of its own: the connection starts, each move waits for its stage, then
-- all is made well and the connection has to be up, settled, alive and quiet. I1 to I8 are judged by the
-- simulator after every step of it.
local sim = require "holdfast.sim"

local play = {}

local NAME = "bot"
local REACH = "20m"          -- a stage that does not come within it cannot be reached from there
local MINUTE, HOUR = 60000, 3600000
play.ATTEMPTS_PER_HOUR = 600 -- more is a storm, whatever the reason
local ZOMBIE = "30m"         -- a link that is dead for longer, and up by its own word, is a zombie

local function broken(promise, text) error({ promise = promise, text = text }, 0) end

-- Which promise a failure of the simulator is about. nil: it is none, something else is wrong.
local function judge(err)
  if type(err) == "table" and err.promise then return err end
  local headline = tostring(err):match("^[^\n]*"):gsub("^%S+%.lua:%d+: ", "")
  local promise, text = headline:match "^(I%d) violated [^:]*: (.*)$"
  if promise then return { promise = promise, text = text } end
  text = headline:match "^moves violated [^:]*: (.*)$"
  if text then return { promise = "I8", text = text } end
  text = headline:match "^(leaked: .*)$"
  if text then return { promise = "I1", text = text } end
  if headline:find("the runtime spins", 1, true) then return { promise = "I3", text = headline } end
  return nil
end

---A world with the policy's connection in it, before anything happened.
local function world(setup, seed, options)
  local s = sim.new { seed = seed, memory = true, lua = setup.lua, policies = setup.policies, plant = setup.plant,
                      reach = setup.reach, trace = options.trace or false, trace_bytes = options.trace_bytes }
  local ok, err = pcall(function ()
    local p
    if setup.peer == "mute" then
      p = s:peer("mute", { host = "prove.test", options = { url = "wss://prove.test/" } })
      for _, host in ipairs(setup.names) do s:name(host, p) end
    else
      p = s:peer(setup.peer, { host = setup.host or "prove.test", names = setup.names, options = setup.peer_options })
    end
    local settings = { policy = setup.policy }
    for k, v in pairs(setup.settings(s, p)) do settings[k] = v end
    s:connection(NAME, settings)
    s.prover = { peer = p, consumer = s:consumer { name = "prover" }, off = {} }
  end)
  if not ok then
    s:abandon()
    error(err, 0)
  end
  return s
end

play.world = world

local function stage(s)
  if not s.core:is_up() then return "gone" end
  return s.core:stage(NAME)
end

local DOWN = { waiting = true, preparing = true, queued = true, resolving = true }

local function where(s)
  local now = stage(s)
  if DOWN[now] or now == "stopped" and not s:view(NAME).fatal then return "down" end
  return now
end

-- A stop is right only where the platform meant it.
local function check_stop(s, run)
  if stage(s) ~= "stopped" or run.fatal then return end
  local v = s:view(NAME)
  if not v.fatal then return end -- it has not begun
  local d, c = v.decision or {}, v.cause or {}
  run.line = d.line
  broken("I6", ("stopped for good after %s at %s%s, and the platform meant no such thing"):format(
    c.name or "nothing", c.stage or "nowhere", c.close and " " .. c.close or c.http and (" " .. c.http) or ""))
end

local function speak(s, setup)
  local say = setup.speak
  if say then s.prover.peer:control(say.verb, say.with) end
end

-- Resets each link a second after it came up.
local function flap(s, until_ms)
  local function look()
    if s:now() >= until_ms or s.prover.healed then return end
    local now = stage(s)
    if now == "ready" or now == "settled" then s:fault("reset", { times = 1 }) end
    s:at("1s", look)
  end
  look()
end

local function apply(s, setup, run, m)
  run.said[#run.said + 1] = { at = s:now(), move = m }
  local with = {}
  for k, v in pairs(m.with or {}) do with[k] = v end
  if m.peer then
    s.prover.peer:control(m.peer, m.with or {})
    run.fatal = run.fatal or m.fatal
    run.pardons = run.pardons + (m.fatal and 1 or 0)
    run.held = run.held or m.held
  elseif m.fault == "flap" then
    run.lasting = math.max(run.lasting, s:now() + sim.duration(m.lasts))
    flap(s, run.lasting)
  else
    if m.lasts then
      with.lasts = m.lasts
      run.lasting = math.max(run.lasting, s:now() + sim.duration(m.lasts))
      run.in_force[#run.in_force + 1] = { name = m.fault, until_ms = s:now() + sim.duration(m.lasts) }
    end
    local f = s:fault(m.fault, with)
    if with.times and m.at == "down" then run.armed[#run.armed + 1] = f end
  end
  run.known[#run.known + 1] = m.peer and (m.peer .. sim.encode(m.with or {})) or nil
end

-- What tells two moments apart for which the same may come.
local function print_of(s, setup, run)
  if not s.core:is_up() then return nil end
  local parts = { s.core:print(NAME) }
  for _, f in ipairs(run.in_force) do
    if f.until_ms > s:now() then parts[#parts + 1] = f.name end
  end
  for _, f in ipairs(run.armed) do
    if f:hits() == 0 then parts[#parts + 1] = f.name .. "?" end
  end
  if run.fatal then parts[#parts + 1] = "fatal" end
  if setup.prints then
    parts[#parts + 1] = s.prover.peer:control "prove_print"
  else
    for _, k in ipairs(run.known) do parts[#parts + 1] = k end
  end
  return table.concat(parts, "|")
end

local function struck(run)
  for _, f in ipairs(run.armed) do
    if f:hits() == 0 then return false end
  end
  return true
end

local function attempts_of(s)
  return s.core:is_up() and s:view(NAME).attempts or 0
end

-- More than an hour of the same: how many attempts that makes.
local function hold_hour(s, run)
  s:advance(10 * MINUTE)
  local before, from, attempts = attempts_of(s), s:now(), 0
  -- A storm need not be watched for the whole hour.
  while s:now() < from + HOUR and attempts <= play.ATTEMPTS_PER_HOUR do
    s:advance(5 * MINUTE)
    attempts = attempts_of(s) - before
  end
  check_stop(s, run)
  run.attempts = math.max(run.attempts, attempts)
  if attempts > play.ATTEMPTS_PER_HOUR then
    broken("I3", ("a storm: %d attempts in %s, at most %d in an hour may be"):format(attempts, play.time(s:now() - from),
      play.ATTEMPTS_PER_HOUR))
  end
end

local function is_fatal(s) return stage(s) == "stopped" and s:view(NAME).fatal end

-- The platform said so, and a person has seen to it.
local function pardon(s, run)
  run.pardons = run.pardons - 1
  s:start(NAME)
  s:try_until(function () return not s:view(NAME).fatal end, "1s")
end

-- Waits until it is so, for as long as `limit()` says. What the platform meant for good may still be under way when all
-- is made well, and stops it then: a person sees to that as well, once for each such word, and the wait begins anew.
local function come_to(s, run, is_so, limit)
  while true do
    s:try_until(function () return is_so() or is_fatal(s) end, limit() + MINUTE)
    if is_so() then return true end
    if not is_fatal(s) or run.pardons <= 0 then return false end
    pardon(s, run)
  end
end

-- All is well from here on: up within the bound, settled, alive.
local function heal(s, setup, run)
  check_stop(s, run)
  run.healed, s.prover.healed = s:now(), true
  for _, verb in ipairs(setup.heals or {}) do s.prover.peer:control(verb) end
  local bound
  local function recovers()
    bound = s:heal()
    run.bound = math.max(run.bound or 0, bound)
    return bound
  end
  if is_fatal(s) then pardon(s, run) end
  if not setup.comes_up then
    s:heal { check = false }
    s:advance "30m"
    return
  end
  if not come_to(s, run, function () return stage(s) == "ready" or stage(s) == "settled" end, recovers) then
    check_stop(s, run)
    broken("I6", ("%s %s after all was well"):format(stage(s), play.time(bound)))
  end
  local from = s:now()
  if not come_to(s, run, function () return stage(s) == "settled" end, function () return run.bound + HOUR end) then
    broken("I6", ("all is well, and it does not settle within %s"):format(play.time(s:now() - from)))
  end
end

-- Up in name only?
local function check_alive(s)
  local v = s.core:stream(NAME)
  if v and not v.dead and v.server then return true end
  return false, v and (v.dead and "its stream is dead" or "the platform has no such link") or "it has no socket"
end

local function rest(s, setup, run, quiet)
  if not setup.comes_up then return end
  -- A link that died just before was settled still: it has the time that I4 gives it.
  -- Twice, with time between: an answer that the platform still owes from before is noticed meanwhile.
  for _ = 1, 2 do
    s:advance "5m"
    if not s:try_until(function () return stage(s) ~= "settled" or (check_alive(s)) end, ZOMBIE) then
      local _, why = check_alive(s)
      broken("I4", ("a zombie: up by its own word for %s, and %s"):format(ZOMBIE, why))
    end
    if not come_to(s, run, function () return stage(s) == "settled" and (check_alive(s)) end, function () return run.bound + HOUR end) then
      broken("I6", ("all was well, and it is %s and does not stay"):format(stage(s)))
    end
  end
  speak(s, setup)
  s:advance "5s"
  s:caught_up()
  run.ended = print_of(s, setup, run)
  if not quiet then return end
  run.quiet = true
  s:quiet("24h", NAME)
end

function play.time(ms)
  for _, unit in ipairs { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } } do
    if ms >= unit[2] then return ("%.4g%s"):format(ms / unit[2], unit[1]) end
  end
  return ("%dms"):format(ms)
end

local function finish(s, run)
  run.time = s:now()
  local view = s.core:is_up() and s:view(NAME)
  local d = view and view.decision
  run.line = run.line or d and d.line ~= 0 and d.line or nil
  if s.core:is_up() then
    run.moves, run.legal = s.core:moves()
  end
end

---Plays it. Returns { ok = true, ... } or { promise, text, line, at ... }; `unreached`: the move whose stage did not
---come. A failure of anything but a promise is raised.
---@param setup table  from prove.setup()
---@param schedule { seed: number, moves: table[], hour?: boolean, probe?: boolean }
---@param options? { trace?: boolean, quiet?: boolean, arrive?: fun(index: number, print: string?, s: table): boolean?, done?: fun(s: table) }  `quiet`: 24 quiet hours at the end
function play.schedule(setup, schedule, options)
  options = options or {}
  local run = { said = {}, armed = {}, in_force = {}, known = {}, lasting = 0, attempts = 0, stages = {}, pardons = 0 }
  local s = world(setup, schedule.seed, options)
  local ok, err = xpcall(function ()
    for i, m in ipairs(schedule.moves) do
      if m.after then s:advance(m.after) end
      if not s:try_until(function () return where(s) == m.at end, m.wait or REACH) then
        check_stop(s, run)
        run.unreached = i
        break
      end
      run.stages[m.at] = true
      if options.arrive and options.arrive(i, print_of(s, setup, run), s) == false then
        run.folded = true
        return
      end
      apply(s, setup, run, m)
      s:advance(500)
      if setup.comes_up and s.core:is_up() then speak(s, setup) end
    end
    if schedule.probe then
      -- Which stages come from here, and in which state.
      local seen = {}
      s:try_until(function ()
        local now, which = stage(s), where(s)
        if not seen[which] and (which == "down" or which == "greeting" or which == "ready" or which == "settled") then
          seen[which] = true
          run.stages[#run.stages + 1] = { which, print_of(s, setup, run) }
        end
        return now == "settled" and (check_alive(s)) or now == "stopped" and s:view(NAME).fatal
      end, REACH)
      check_stop(s, run)
      run.probed = true
      return
    end
    if schedule.hour then
      hold_hour(s, run)
    else
      s:try_until(function () return struck(run) end, "10m")
      if run.lasting > s:now() then s:advance(run.lasting - s:now() + 1000) end
      if run.held then s:advance "6m" end
    end
    heal(s, setup, run)
    rest(s, setup, run, options.quiet)
    if options.done then options.done(s) end
  end, function (e)
    return judge(e) or { raised = type(e) == "string" and debug.traceback(e, 2) or e }
  end)
  if ok and not run.folded and not run.probed then
    finish(s, run)
    s.timers = {}
    ok, err = pcall(s.close, s)
    if not ok then err = judge(err) or { raised = err } end
  else
    local was = err
    pcall(finish, s, run)
    err = was
  end
  if not ok and options.trace then run.trace = s:trace() end
  if not ok then
    run.at = run.time or 0
    s:abandon()
    if err.raised then error(err.raised, 0) end
    run.promise, run.text = err.promise, err.text
    run.ok = false
    return run
  end
  s:abandon()
  run.ok = true
  return run
end

return play
