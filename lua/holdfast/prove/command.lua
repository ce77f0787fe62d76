-- One run of the prover for the command and for the reload gate: options in, words out.
local sim = require "holdfast.sim"
local prove = require "holdfast.prove"
local story = prove.story

local function write_spec(options, report, setup)
  local base = options.policy:match "([^/]+)$":gsub("%.lua$", "")
  local path = ("./%s_%s_spec.lua"):format(base, report.promise)
  local f, why = io.open(path, "w")
  if not f then return nil, ("%s cannot be written: %s"):format(path, tostring(why)) end
  f:write(story.spec(setup, report.schedule, report.result, options.command))
  f:close()
  return path
end

return function (options)
  if options.settings then options.settings = sim.decode(options.settings) end
  options.seed = options.seed or 1
  local report = prove.run(options)
  if report.problems then
    return { result = "unfit", text = table.concat(report.problems, "\n"),
             json = sim.encode { ok = false, policy = options.policy, problems = report.problems } }
  end
  local setup = { shown = report.policy, policy = report.path }
  if report.ok then
    return { result = "held", capped = report.capped, schedules = report.schedules, hash = report.hash,
             text = story.covered(report), json = sim.encode(story.json(setup.policy, report)) }
  end
  local spec, why
  if options.command then spec, why = write_spec(options, report, setup) end
  local text = story.broken(setup, report.schedule, report.result)
  text = text .. ("\nafter %d schedules; repeat all with --seed %d"):format(report.schedules, report.seed)
  if spec then text = text .. ("\nthe spec that repeats it: %s (holdfast test %s)"):format(spec, spec) end
  if why then text = text .. "\n" .. why end
  return { result = "broken", schedules = report.schedules, hash = report.hash, spec = spec, text = text,
           headline = story.headline(setup, report.schedule, report.result),
           json = sim.encode(story.json(setup.policy, report, spec)) }
end
