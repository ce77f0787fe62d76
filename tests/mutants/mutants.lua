-- `make mutants`: does a spec notice when a rule or a number is another one? Mutants of the five stock policies and of the
-- engine's rules are drawn by MUTANTS_SEED (1), MUTANTS (150) of them; each is judged by the specs that concern it and by
-- the prover. Fails when fewer than 95 of 100 are found, those aside that accepted.lua gives a reason for.
-- MUTANTS_ONLY=slack (or engine, or policies, or a source of the engine: budget) draws from there alone; MUTANTS_JOBS (2) are judged at once. The list of all is kept in
-- build/mutants/report.txt.
package.path = "./tests/mutants/?.lua;" .. package.path
local sample = require "sample"
local accepted = require "accepted"

local FOUND_LEAST = 0.95
local BUILD, FOLDER = os.getenv "HOLDFAST_BUILD" or "build/test", "build/mutants"

-- Specs and the seconds of CPU that each may take, several times what it takes; the quick ones first, and PROVE is where the
-- prover comes.
local PROVE = "tests/mutants/prove_one.lua"
local POLICY = {
  discord = { { "tests/policy/discord_plan_spec.lua", 10 }, { PROVE, 120 }, { "tests/policy/discord_spec.lua", 60 },
              { "tests/policy/discord_longrun_spec.lua", 40 }, { "tests/regress/discord_resume_loop_spec.lua", 90 } },
  slack = { { "tests/policy/slack_plan_spec.lua", 10 }, { "tests/policy/slack_envelopes_spec.lua", 10 }, { "tests/regress/slack_false_stall_spec.lua", 10 },
            { "tests/policy/slack_spec.lua", 20 }, { PROVE, 120 } },
  feishu = { { "tests/policy/feishu_plan_spec.lua", 10 }, { "tests/policy/feishu_frames_spec.lua", 20 }, { "tests/policy/feishu_spec.lua", 40 },
             { PROVE, 120 }, { "tests/regress/feishu_silent_death_spec.lua", 70 } },
  qqbot = { { "tests/policy/qqbot_plan_spec.lua", 10 }, { "tests/regress/qqbot_zombie_spec.lua", 10 }, { "tests/policy/qqbot_spec.lua", 20 }, { PROVE, 120 },
            { "tests/policy/qqbot_longrun_spec.lua", 40 } },
  wukongim = { { "tests/policy/wukongim_plan_spec.lua", 10 }, { "tests/policy/wukongim_refusals_spec.lua", 10 }, { "tests/policy/wukongim_link_spec.lua", 10 },
               { PROVE, 120 }, { "tests/policy/wukongim_spec.lua", 60 }, { "tests/regress/wukongim_kick_storm_spec.lua", 90 } },
}
local ENGINE = {
  { "tests/unit/engine", 20, "engine engine_random" },
  { "tests/sim/invariants_spec.lua", 20, "sim" }, { "tests/sim/harness_spec.lua", 20, "sim" },
  { "tests/sim/budgets_and_store_spec.lua", 20, "sim" }, { "tests/sim/close_before_dial_spec.lua", 20, "sim" },
  { "tests/sim/reload_moves_deadlines_spec.lua", 20, "sim" }, { "tests/sim/wall_step_spec.lua", 20, "sim" },
  { "tests/sim/loop_and_clocks_spec.lua", 20, "sim" }, { "tests/sim/fetch_renewal_spec.lua", 20, "sim" },
  { "tests/sim/operators_in_every_state_spec.lua", 20, "sim" }, { "tests/sim/planned_handover_spec.lua", 20, "sim" },
  { "tests/policy/mattermost_spec.lua", 10, "sim" }, { "tests/policy/wukongim_link_spec.lua", 10, "sim" }, { PROVE, 120, "sim" },
  { "tests/policy/slack_spec.lua", 20, "sim" }, { "tests/policy/qqbot_spec.lua", 20, "sim" }, { "tests/sim/replay_spec.lua", 40, "sim" },
  { "tests/policy/discord_spec.lua", 60, "sim" },
}
-- First, where they concern one source. What only judges what it is told (blame, life, trial, weather) is in no simulated
-- run but its own.
local ENGINE_MORE = {
  blame = { { "tests/unit/life", 10, "life" } },
  trial = { { "tests/unit/trial", 10, "trial" }, { "tests/sim/trial_spec.lua", 40, "sim" } },
  life = { { "tests/unit/life", 10, "life" }, { "tests/sim/life_spec.lua", 40, "sim" } },
  weather = { { "tests/unit/weather", 10, "weather" }, { "tests/sim/weather_spec.lua", 40, "sim" } },
  plan = { { "tests/policy/defaults_spec.lua", 10, "policy_plan" } },
}
local ENGINE_PROVED = "discord"

local function write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

local function read(path)
  local f = io.open(path)
  if not f then return nil end
  local text = f:read "*a"
  f:close()
  return text
end

local function out(...)
  io.stdout:write(string.format(...), "\n")
  io.stdout:flush()
end

local function prepare(m)
  local judges, lines = {}, {}
  for _, j in ipairs(ENGINE_MORE[m.stem] or {}) do judges[#judges + 1] = j end
  for _, j in ipairs(POLICY[m.subject] or ENGINE) do judges[#judges + 1] = j end
  for _, j in ipairs(judges) do lines[#lines + 1] = ("%s %d 1-300 %s"):format(j[1], j[2], m.stem and j[3] or "") end
  write(m.folder .. "/judges", table.concat(lines, "\n") .. "\n")
  write(m.folder .. "/proved", m.stem and ENGINE_PROVED or m.subject)
  write(m.folder .. (m.stem and "/stem" or "/policy"), m.stem or m.subject)
  return judges
end

local function reason_of(m)
  for _, row in ipairs(accepted) do
    if row.file == m.file and row.before == m.before and (row.after == nil or row.after == m.after) then return row.reason end
  end
end

-- Every judge is content with what is not mutated; otherwise it says nothing about mutants.
local function sound(mutants)
  local seen, folder = {}, FOLDER .. "/whole"
  os.execute(("rm -rf %s && mkdir -p %s"):format(folder, folder))
  for _, m in ipairs(mutants) do
    local lines = {}
    for _, j in ipairs(m.judges) do
      local key = j[1] .. (j[1] == PROVE and (m.stem and ENGINE_PROVED or m.subject) or "")
      if not seen[key] then lines[#lines + 1] = ("%s %d 1-300 "):format(j[1], j[2]) end
      seen[key] = true
    end
    if #lines > 0 then
      local own = folder .. "/" .. m.id
      os.execute(("mkdir -p %s && cp policies/%s.lua %s/policy.lua"):format(own, m.stem and ENGINE_PROVED or m.subject, own))
      write(own .. "/judges", table.concat(lines, "\n") .. "\n")
      write(own .. "/proved", m.stem and ENGINE_PROVED or m.subject)
      write(own .. "/policy", m.stem and ENGINE_PROVED or m.subject)
    end
  end
  os.execute(("ls -d %s/m* | xargs -P %s -n 1 tests/mutants/judge.sh"):format(folder, os.getenv "MUTANTS_JOBS" or "2"))
  local pipe = io.popen(("grep -L '^survived$' %s/m*/verdict"):format(folder))
  local bad = pipe:read "*a"
  pipe:close()
  assert(bad == "", "a judge is not content with the sources as they are: " .. bad)
end

it("finds at least 95 of 100 mutants", function ()
  local count, seed = tonumber(os.getenv "MUTANTS" or 150), tonumber(os.getenv "MUTANTS_SEED" or 1)
  os.execute(("rm -rf %s && mkdir -p %s %s/mutants"):format(FOLDER, FOLDER, BUILD))
  for _, unit in ipairs { "engine", "engine_random", "sim", "life", "trial", "weather", "policy_plan" } do
    local ok = os.execute(("%s -w -g0 -c tests/support/unit_%s.c -o %s/mutants/%s.o"):format(os.getenv "MUTANTS_CC", unit, BUILD, unit))
    assert(ok == 0, "tests/support/unit_" .. unit .. ".c does not compile")
  end
  local mutants, counts = sample.draw { count = count, seed = seed, folder = FOLDER, build = BUILD, cc = os.getenv "MUTANTS_CC",
                                        only = os.getenv "MUTANTS_ONLY" }
  out("mutants: %d drawn with seed %d from %d that can be made; %d more were none (did not load or compile, or the same code)",
    #mutants, seed, counts.all, counts.none)
  for _, m in ipairs(mutants) do m.judges = prepare(m) end
  if not os.getenv "MUTANTS_TRUST" then sound(mutants) end
  local list = {}
  for i, m in ipairs(mutants) do list[i] = m.folder end
  write(FOLDER .. "/list", table.concat(list, "\n") .. "\n")
  os.execute(("xargs -P %s -n 1 tests/mutants/judge.sh <%s/list >%s/log 2>&1"):format(os.getenv "MUTANTS_JOBS" or "2", FOLDER, FOLDER))

  local by, report, survivors = {}, {}, {}
  for _, m in ipairs(mutants) do
    local said = (read(m.folder .. "/verdict") or "not judged"):gsub("%s+$", "")
    local row = by[m.subject] or { all = 0, specs = 0, prove = 0, ran_on = 0, accepted = 0, survived = 0 }
    by[m.subject] = row
    row.all = row.all + 1
    local reason
    if said:match "^found tests/mutants/prove_one" then row.prove = row.prove + 1
    elseif said:match "^found" then row.specs = row.specs + 1
    elseif said:match "^ran on" then row.ran_on = row.ran_on + 1
    else
      reason = said == "survived" and reason_of(m)
      row[reason and "accepted" or "survived"] = row[reason and "accepted" or "survived"] + 1
      survivors[#survivors + 1] = { m = m, reason = reason, said = said }
    end
    report[#report + 1] = ("%s %s:%d %s\n  - %s\n  + %s\n  %s%s"):format(m.id, m.file, m.line, m.operator, m.before, m.after, said,
      reason and " (accepted: " .. reason .. ")" or "")
  end
  local all, found, excused = 0, 0, 0
  local summary = { ("%-10s %7s %8s %8s %7s %9s %9s"):format("", "mutants", "by specs", "by prove", "ran on", "accepted", "survived") }
  for _, subject in ipairs { "discord", "slack", "feishu", "qqbot", "wukongim", "engine" } do
    local r = by[subject]
    if r then
      summary[#summary + 1] = ("%-10s %7d %8d %8d %7d %9d %9d"):format(subject, r.all, r.specs, r.prove, r.ran_on, r.accepted, r.survived)
      all, found, excused = all + r.all, found + r.specs + r.prove + r.ran_on, excused + r.accepted
    end
  end
  summary[#summary + 1] = ("found: %d of %d, %.1f %%; with the %d that have a reason aside: %.1f %%"):format(found, all, 100 * found / all, excused,
    100 * found / (all - excused))
  for _, s in ipairs(survivors) do
    summary[#summary + 1] = ("%s %s:%d %s\n  - %s\n  + %s%s"):format(s.said, s.m.file, s.m.line, s.m.operator, s.m.before, s.m.after,
      s.reason and "\n  because " .. s.reason or "")
  end
  local text = table.concat(summary, "\n")
  write(FOLDER .. "/report.txt", text .. "\n\n" .. table.concat(report, "\n") .. "\n")
  out("%s", text)
  assert(found / (all - excused) >= FOUND_LEAST, "fewer than 95 of 100 were found: a survivor lacks a claim, or a reason in tests/mutants/accepted.lua")
end)
