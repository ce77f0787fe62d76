-- What the prover says: the story of a broken promise, the spec that repeats it, and what was covered.
local faults = require "holdfast.prove.faults"
local play = require "holdfast.prove.play"

local story = {}

story.PROMISES = {
  I1 = "at most one open socket per identity",
  I2 = "no more session starts than the budget allows",
  I3 = "attempts keep their distance: no tight loop, no storm",
  I4 = "a dead peer is noticed in time",
  I5 = "a quiet link is not ended",
  I6 = "once all is well the connection is up, and it stops only where the platform meant it",
  I7 = "every safe frame reaches each consumer, and holes are named",
  I8 = "it is always known since when, why and what comes next",
}

local function clock(ms)
  local s = math.floor(ms / 1000)
  return ("%3d:%02d:%06.3f"):format(math.floor(s / 3600), math.floor(s / 60) % 60, s % 60 + ms % 1000 / 1000)
end

local LINES_HEAD, LINES_TAIL = 14, 6

---What happened, in order: faults, what holdfast did and why, the end.
function story.timeline(result)
  local events = {}
  local function say(at, text) events[#events + 1] = { at = at, order = #events, text = text } end
  for line in (result.trace or ""):gmatch "[^\n]+" do
    local at, level, text = line:match "^(%d+%.%d+) bot log (%a+): (.*)$"
    if at and level ~= "debug" then say(tonumber(at) * 1000, "  " .. text) end
  end
  for _, said in ipairs(result.said) do say(said.at - 0.5, "* " .. faults.describe(said.move)) end
  if result.healed then say(result.healed - 0.5, "* all is well from here on") end
  say(math.max(result.at or 0, 0), "! " .. result.promise .. ": " .. result.text)
  table.sort(events, function (a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.order < b.order
  end)
  local out = {}
  for i, e in ipairs(events) do
    if i <= LINES_HEAD or i > #events - LINES_TAIL or e.text:match "^[*!]" then
      out[#out + 1] = clock(math.max(0, math.floor(e.at + 0.5))) .. "  " .. e.text
    elseif i == LINES_HEAD + 1 then
      out[#out + 1] = ("                  (%d more lines)"):format(#events - LINES_HEAD - LINES_TAIL)
    end
  end
  return table.concat(out, "\n")
end

function story.steps(schedule)
  local out = {}
  for i, m in ipairs(schedule.moves) do
    out[i] = ("  %d. %s: %s%s"):format(i, m.at, faults.describe(m), m.after and ", after " .. m.after or "")
  end
  if #out == 0 then out[1] = "  no fault at all" end
  if schedule.hour then out[#out + 1] = "  and so for more than an hour" end
  return table.concat(out, "\n")
end

---One line: for logs and refusals.
function story.headline(setup, schedule, result)
  local steps = {}
  for i, m in ipairs(schedule.moves) do steps[i] = m.at .. ": " .. faults.describe(m) end
  return ("%s is broken (%s)%s; schedule: %s; seed %d"):format(result.promise, result.text,
    result.line and (", decided by %s:%d"):format(setup.policy, result.line) or "",
    #steps > 0 and table.concat(steps, "; then ") or "no fault at all", schedule.seed)
end

function story.broken(setup, schedule, result)
  return table.concat({
    ("%s is broken: %s"):format(result.promise, result.text),
    ("  %s promises: %s"):format(result.promise, story.PROMISES[result.promise] or "?"),
    result.line and ("  the last decision was that of %s:%d"):format(setup.policy, result.line) or "  no rule had decided anything",
    ("the shortest schedule that breaks it, seed %d:"):format(schedule.seed),
    story.steps(schedule),
    "what happens:",
    story.timeline(result),
  }, "\n")
end

local function quoted(v)
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) ~= "table" then return tostring(v) end
  local keys, parts = {}, {}
  for k in pairs(v) do keys[#keys + 1] = k end
  table.sort(keys, function (a, b) return tostring(a) < tostring(b) end)
  for _, k in ipairs(keys) do
    local name = type(k) == "string" and k:match "^[%a_][%w_]*$" and k .. " = " or type(k) == "string" and ("[%q] = "):format(k) or ""
    parts[#parts + 1] = name .. quoted(v[k])
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local ORDER = { "at", "after", "fault", "peer", "with", "lasts", "held", "dead", "fatal", "say" }

function story.spec(setup, schedule, result, command)
  local out = {
    "-- Written by `" .. command .. "`: the shortest schedule of faults that breaks a promise.",
    ("--   %s: %s"):format(result.promise, result.text),
    "-- `holdfast test` with this file plays it again; it passes once the policy keeps the promise.",
    'local prove = require "holdfast.prove"',
    "",
    ("describe(%q, function ()"):format(setup.shown),
    ("  it(%q, function ()"):format(("keeps %s: %s"):format(result.promise, story.PROMISES[result.promise] or "")),
    "    prove.check {",
    ("      policy = %q,"):format(setup.shown),
    ("      seed = %d,"):format(schedule.seed),
  }
  if schedule.hour then out[#out + 1] = "      hour = true," end
  out[#out + 1] = "      moves = {"
  for _, m in ipairs(schedule.moves) do
    local parts = {}
    for _, key in ipairs(ORDER) do
      local v = m[key]
      if v ~= nil and not (type(v) == "table" and next(v) == nil) then parts[#parts + 1] = key .. " = " .. quoted(v) end
    end
    out[#out + 1] = "        { " .. table.concat(parts, ", ") .. " },"
  end
  out[#out + 1] = "      },"
  out[#out + 1] = "    }"
  out[#out + 1] = "  end)"
  out[#out + 1] = "end)"
  return table.concat(out, "\n") .. "\n"
end

local function set_of(list)
  local out = {}
  for _, v in ipairs(list or {}) do out[v] = true end
  return out
end

---{ reached, all, missing = lines } of rules and of hooks.
function story.lines(report)
  local reached, out = set_of(report.reached), {}
  for _, kind in ipairs { "rows", "code" } do
    local all, missing = (report.lines or {})[kind] or {}, {}
    for _, line in ipairs(all) do
      if not reached[line] then missing[#missing + 1] = line end
    end
    out[kind] = { all = #all, reached = #all - #missing, missing = missing }
  end
  return out
end

local function count(t)
  local n = 0
  for _ in pairs(t or {}) do n = n + 1 end
  return n
end

---What was shown, and what was not.
function story.proven(report)
  if report.peer == "mute" and not report.comes_up then
    return { "I1", "I2", "I3", "I8" }, { "I4", "I5", "I6", "I7" },
      "there is no peer for the platform " .. report.platform .. ", and a mute one cannot greet: the connection never came up"
  end
  if report.peer == "mute" then
    return { "I1", "I2", "I3", "I4", "I5", "I6", "I8" }, { "I7" },
      "there is no peer for the platform " .. report.platform .. ": a mute one says nothing, so nothing was delivered"
  end
  return { "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8" }, {}, nil
end

function story.covered(report)
  local lines = story.lines(report)
  local proven, not_proven, why = story.proven(report)
  local depths = {}
  for d, n in ipairs(report.depths) do depths[d] = ("%d at depth %d"):format(n, d) end
  local out = {
    ("%s %s (%s), seed %d"):format(report.capped and "not fully proven:" or "proven:", report.policy, table.concat(proven, " "), report.seed),
    ("  schedules  %d: %s, %d random; %d faults and stages"):format(report.schedules, table.concat(depths, ", "), report.random, report.faults or 0),
    ("  states     %d entered, %d met again; stages %d of 4"):format(report.states or 0, report.folded, count(report.stages)),
    ("  moves      %d of %d legal ones of a connection"):format(count(report.moves), report.legal > 0 and report.legal or count(report.moves)),
    ("  time       %s simulated; %d times 24 quiet hours; longest promised recovery %s"):format(play.time(report.time), report.quiet, play.time(report.bound)),
    ("  storms     at most %d attempts in an hour of one fault (%d may be)"):format(report.attempts, play.ATTEMPTS_PER_HOUR),
    ("  rules      %d of %d reached%s"):format(lines.rows.reached, lines.rows.all,
      #lines.rows.missing > 0 and ", not line " .. table.concat(lines.rows.missing, " ") or ""),
    ("  hooks      %d of %d lines reached%s"):format(lines.code.reached, lines.code.all,
      #lines.code.missing > 0 and ", not line " .. table.concat(lines.code.missing, " ") or ""),
  }
  if #not_proven > 0 then out[#out + 1] = ("  not proven %s: %s"):format(table.concat(not_proven, " "), why) end
  if report.unfinished then
    out[#out + 1] = ("  unfinished depth %d: %d of %d schedules of %d faults were gone on from; --within gives it more time"):format(
      report.unfinished.depth, report.unfinished.done, report.unfinished.of, report.unfinished.depth - 1)
  end
  if report.unrested then
    out[#out + 1] = ("  unfinished quiet hours: %d states were left out; --within gives them more time"):format(report.unrested)
  end
  if report.capped then out[#out + 1] = "  the time was over before the list of schedules was" end
  return table.concat(out, "\n")
end

---A plain table for --json: the same for the same seed and number of schedules.
function story.json(setup_policy, report, spec)
  local proven, not_proven, why = story.proven(report)
  local lines = story.lines(report)
  local out = {
    policy = report.policy, platform = report.platform, hash = report.hash, peer = report.peer, seed = report.seed,
    ok = report.ok, capped = report.capped, schedules = report.schedules, folded = report.folded, states = report.states,
    depths = report.depths, random = report.random, simulated_ms = report.time, quiet_days = report.quiet,
    recovery_bound_ms = report.bound, attempts_per_hour_most = report.attempts, rules = lines.rows, hooks = lines.code,
    moves = {}, stages = {}, unfinished = report.unfinished, unrested = report.unrested,
  }
  for move in pairs(report.moves) do out.moves[#out.moves + 1] = move end
  for at in pairs(report.stages) do out.stages[#out.stages + 1] = at end
  table.sort(out.moves)
  table.sort(out.stages)
  if report.ok then
    out.proven, out.not_proven, out.why_not = proven, not_proven, why
  else
    out.broken = { promise = report.promise, text = report.text, at_ms = report.at, line = report.line,
                   file = setup_policy, seed = report.schedule.seed, schedule = report.schedule.moves,
                   hour = report.schedule.hour, timeline = story.timeline(report.result), spec = spec }
  end
  return out
end

return story
