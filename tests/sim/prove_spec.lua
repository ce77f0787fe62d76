-- The prover against the stock policies, and against what it is there for: the five incidents, planted again.
local sim = require "holdfast.sim"
local prove = require "holdfast.prove"
local mutant = require "mutant"
local story = prove.story

local function run(policy, options)
  local o = { policy = policy, seed = 1, depth = 1, schedules = 1 }
  for k, v in pairs(options or {}) do o[k] = v end
  return prove.run(o)
end

local function words(report)
  return report.ok and story.covered(report) or story.broken({ policy = report.path }, report.schedule, report.result)
end

local function found(report, promise, pattern)
  assert.is_false(report.ok, "nothing was found")
  assert.equal(promise, report.promise, words(report))
  assert.truthy(report.text:find(pattern), report.text)
  -- Every fault alone is enough, and that is a matter of seconds.
  assert.truthy(report.schedules < 150, report.schedules .. " schedules")
  return report
end

describe("the prover", function ()
  it("finds nothing wrong with discord, and says what it reached", function ()
    local r = run("policies/discord.lua", { schedules = 20 })
    assert.is_true(r.ok, words(r))
    local text = story.covered(r)
    assert.truthy(text:find("proven: policies/discord.lua (I1 I2 I3 I4 I5 I6 I7 I8), seed 1", 1, true), text)
    assert.truthy(r.quiet >= 10)
    assert.is_nil(text:find "not proven")
    local lines = story.lines(r)
    assert.truthy(lines.rows.reached >= 10 and lines.rows.reached <= lines.rows.all, text)
    assert.truthy(lines.code.reached >= 20 and lines.code.reached <= lines.code.all, text)
    for _, at in ipairs(prove.faults.STAGES) do assert.is_true(r.stages[at], at .. " was not reached") end
  end)

  it("says of a policy without a peer what a mute one cannot show", function ()
    local r = run("policies/generic.lua", { depth = 2 })
    assert.is_true(r.ok, words(r))
    assert.truthy(story.covered(r):find("not proven I7: there is no peer for the platform generic", 1, true))
    local waits = mutant("generic", "waits_for_a_greeting", function (text)
      return text:gsub("  prepare =", "  greet = function (conn) conn:await({ op = 1 }, { within = \"5s\" }) conn:fail \"nothing\" end,\n  prepare =", 1)
               :gsub("frames   = { codec = \"json\"", "frames   = { codec = \"json\", take = { op = \"op\" }", 1)
               :gsub('platform = "generic"', 'platform = "nowhere"', 1)
    end)
    r = run(waits)
    assert.is_true(r.ok, words(r))
    assert.truthy(story.covered(r):find("not proven I4 I5 I6 I7: there is no peer for the platform nowhere", 1, true),
      story.covered(r))
  end)

  it("enters a state once, and plays on from each", function ()
    local r = run("policies/generic.lua", { depth = 2 })
    assert.is_true(r.ok, words(r))
    assert.truthy(r.folded > r.states, words(r))
    assert.truthy(r.depths[2] > r.depths[1] and r.depths[2] < r.depths[1] ^ 2, words(r))
    assert.is_nil(r.unfinished)
  end)

  it("ends what follows the first depth when somebody is in a hurry, and says how far it came", function ()
    local r = run("policies/generic.lua", { depth = 3, within_ms = 1 })
    assert.is_true(r.ok, words(r))
    assert.same({ 2, 0 }, { r.unfinished.depth, r.unfinished.done })
    assert.truthy(r.depths[1] > 30 and r.unfinished.of > 30 and r.quiet > 1, words(r))
    assert.truthy(words(r):find("unfinished depth 2: 0 of " .. r.unfinished.of .. " schedules of 1 faults", 1, true), words(r))
  end)

  it("tells the problems of a policy that has errors", function ()
    local bad = mutant("generic", "misspelt", function (text) return text:gsub("backoff  =", "backof   =", 1) end)
    local r = run(bad)
    assert.is_false(r.ok)
    assert.truthy(r.problems[1]:find "did you mean `backoff`")
  end)

  it("gives the same report for the same seed, byte for byte", function ()
    local function json()
      return sim.encode(story.json("p", run("policies/discord.lua", { schedules = 8, seed = 5 })))
    end
    local one = json()
    assert.equal(one, json())
    assert.truthy(#one > 500)
  end)
end)

describe("the incident", function ()
  it("of the resume loop is found: a session that is lost for good, resumed for ever", function ()
    local policy = mutant("discord", "resume_loop", function (t) return t:gsub("climb = %b{},", "climb = {},", 1) end)
    local r = found(run(policy), "I6", "after all was well")
    assert.equal(1, #r.schedule.moves)
    assert.equal("bury", r.schedule.moves[1].peer)
    local text = words(r)
    assert.truthy(text:find("* the session is lost for good: a RESUME of it is never answered", 1, true), text)
    assert.truthy(text:find("no_resumed by policy at greeting", 1, true), text)
    assert.truthy(text:find "resume_loop%.lua:%d+", text)
  end)

  it("of the silent death is found: it gives up, and nobody said that it should", function ()
    local policy = mutant("discord", "silent_death", function (t)
      return t:gsub('{ any = true, verdict = "resume" }',
        '{ stage = "upgrading", http = "500-599", verdict = "stop" },\n    { any = true, verdict = "resume" }', 1)
    end)
    local r = found(run(policy), "I6", "stopped for good after upgrade_refused at upgrading 503")
    assert.equal(1, #r.schedule.moves)
    assert.truthy(r.line and r.line > 60)
  end)

  it("of the false stall is found: a link is ended because no event came", function ()
    local policy = mutant("discord", "false_stall", function (t)
      return t:gsub("  on_beat = function",
        '  every = { stall = { "4m", function (conn) conn:close "no event for four minutes" end } },\n  on_beat = function', 1)
    end)
    local r = found(run(policy), "I5", "unplanned endings in 24h of quiet")
    assert.equal(0, #r.schedule.moves)
  end)

  it("of the kick storm is found: two owners of one reconnect, and a backoff that starts anew on open", function ()
    found(run("policies/discord.lua", { plant = "I1" }), "I1", "is dialled while")
    found(run("policies/discord.lua", { plant = "I3" }), "I3", "apart, the floor is")
    local policy = mutant("discord", "storm", function (t)
      return t:gsub('backoff  = %b{}', 'backoff = { first = "250ms", factor = 1, most = "250ms", floor = "250ms", jitter = "none", settle = "1s" }', 1)
    end)
    local r = found(run(policy), "I3", "a storm: %d+ attempts in ")
    assert.equal(1, #r.schedule.moves)
  end)

  it("of the zombie is found: alive by its own word, and nobody hears it", function ()
    found(run("policies/discord.lua", { plant = "I4" }), "I4", "is dead for")
  end)
end)

describe("a bug of the engine", function ()
  for promise, policy in pairs { I2 = "discord", I5 = "generic", I6 = "discord", I8 = "generic" } do
    it(("against %s is found with %s"):format(promise, policy), function ()
      local r = run("policies/" .. policy .. ".lua", { plant = promise })
      assert.is_false(r.ok, "nothing was found")
      assert.equal(promise, r.promise, words(r))
    end)
  end
end)

describe("a schedule that breaks a promise", function ()
  local policy = mutant("discord", "given_up", function (t)
    return t:gsub('{ any = true, verdict = "resume" }', '{ cause = "reset", verdict = "stop" },\n    { any = true, verdict = "resume" }', 1)
  end)
  local MOVES = {
    { at = "down", fault = "refuse", with = { what = "link", times = 1 } },
    { at = "settled", peer = "op7" },
    { at = "greeting", fault = "crash" },
    { at = "settled", fault = "reset", with = { times = 1 }, after = "40s", say = "the link is reset" },
    { at = "settled", fault = "reload" },
  }

  it("is shrunk to what is needed", function ()
    local shrink = require "holdfast.prove.shrink"
    local setup = prove.setup { policy = policy }
    local schedule = { seed = 3, moves = MOVES }
    local result = prove.play.schedule(setup, schedule, {})
    assert.is_false(result.ok)
    local shortest, last = shrink.shortest(setup, schedule, result)
    assert.equal(1, #shortest.moves)
    assert.equal("reset", shortest.moves[1].fault)
    assert.is_nil(shortest.moves[1].after)
    assert.equal("I6", last.promise)
  end)

  it("becomes a spec that repeats it, and that passes with a policy that keeps the promise", function ()
    local setup = prove.setup { policy = policy }
    local schedule = { seed = 3, moves = { MOVES[4] } }
    local result = prove.play.schedule(setup, schedule, {})
    local text = story.spec(setup, schedule, result, "holdfast prove x")
    local claims = {}
    local env = setmetatable({ describe = function (_, fn) fn() end, it = function (name, fn) claims[#claims + 1] = { name, fn } end },
      { __index = _G })
    local chunk = assert(loadstring(text))
    setfenv(chunk, env)()
    assert.equal(1, #claims)
    assert.truthy(claims[1][1]:find("keeps I6", 1, true))
    local ok, err = pcall(claims[1][2])
    assert.is_false(ok)
    assert.truthy(tostring(err):find("I6 is broken", 1, true), tostring(err))
    assert.truthy(tostring(err):find("* the link is reset", 1, true), tostring(err))
    chunk = assert(loadstring((text:gsub(policy:gsub("%p", "%%%0"), "policies/discord.lua"))))
    setfenv(chunk, env)()
    claims[2][2]()
  end)
end)
