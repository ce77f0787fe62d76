-- The stock policies against the prover, and the incident of each planted again in the policy that was meant to end
-- it. Discord's is in prove_spec.lua.
local prove = require "holdfast.prove"
local mutant = require "mutant"
local story = prove.story

local function run(policy, options)
  local o = { policy = policy, seed = 1, depth = 1, schedules = 3 }
  for k, v in pairs(options or {}) do o[k] = v end
  local r = prove.run(o)
  assert.is_nil(r.problems, r.problems and table.concat(r.problems, "\n"))
  return r
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
end

describe("the policy", function ()
  for _, name in ipairs { "slack", "qqbot", "feishu", "wukongim" } do
    it(name .. " keeps every promise under each fault alone", function ()
      local r = run("policies/" .. name .. ".lua")
      assert.is_true(r.ok, words(r))
      for _, at in ipairs(prove.faults.STAGES) do assert.is_true(r.stages[at], at .. " was not reached") end
      assert.truthy(r.faults > 50)
      assert.truthy(r.quiet >= 5, r.quiet .. " times 24 quiet hours")
    end)
  end
end)

describe("the incident", function ()
  it("of Slack is found: a quiet link is taken for a stalled one every four minutes", function ()
    local policy = mutant("slack", "stalls", function (t)
      return t:gsub("  greet *=", '  every = { stall = { "4m", function (conn) conn:close "no event for four minutes" end } },\n%0', 1)
    end)
    found(run(policy), "I5", "unplanned endings in 24h of quiet")
  end)

  it("of Feishu is found: after an error of the endpoint it gives up without a word", function ()
    local policy = mutant("feishu", "gives_up", function (t)
      return t:gsub("  classify = {\n", '%0    { stage = "preparing", http = "500-599", verdict = "stop" },\n', 1)
    end)
    found(run(policy), "I6", "stopped for good")
  end)

  it("of QQ is found: the heartbeat is not started again on the new socket", function ()
    local policy = mutant("qqbot", "beats_once", function (t)
      return t:gsub("  on_beat = function %(conn%)\n", "%0    if conn.generation > 1 then return end\n", 1)
    end)
    local r = run(policy)
    assert.is_false(r.ok, "nothing was found")
    assert.truthy(r.promise == "I5" or r.promise == "I6" or r.promise == "I4", words(r))
    found(run("policies/qqbot.lua", { plant = "I4" }), "I4", "is dead for")
  end)

  it("of WuKongIM is found: a kick is answered at once, for ever", function ()
    local policy = mutant("wukongim", "kick_storm", function (t)
      return t:gsub("backoff  = %b{}", 'backoff  = { first = "250ms", factor = 1, most = "250ms", floor = "250ms", jitter = "none", settle = "1s" }', 1)
              :gsub('{ cause = "conflict", verdict = "resume", pace = %b{} }', '{ cause = "conflict", verdict = "resume", delay = "0s" }', 1)
    end)
    found(run(policy), "I3", "a storm: %d+ attempts in ")
  end)
end)

describe("a bug of the engine", function ()
  it("against I7 is found with slack: an envelope is acknowledged before it is safe", function ()
    found(run("policies/slack.lua", { plant = "I7" }), "I7", ".")
  end)
end)

describe("a judge that is fair", function ()
  it("counts a byte that was under way when the platform went deaf as a pulse", function ()
    prove.check { policy = "policies/slack.lua", seed = 1, moves = {
      { at = "down", peer = "fault", with = { counted = 6 } },
      { at = "ready", peer = "deaf" },
    } }
  end)

  it("lets a person see to what the platform meant for good, also when the word arrives after all was made well", function ()
    -- The word is under way for three seconds when the rest is made well.
    local function under_way(peer)
      return { { at = "down", fault = "slow", with = { what = "any", ms = 3000 }, lasts = "10s" }, peer }
    end
    prove.check { policy = "policies/wukongim.lua", seed = 1, moves = under_way {
      at = "down", peer = "fault", with = { http = { status = 403, times = 1, path = "register" } }, fatal = true } }
    prove.check { policy = "policies/discord.lua", seed = 1, moves = {
      { at = "settled", fault = "slow", with = { what = "any", ms = 3000 }, lasts = "1s" },
      { at = "settled", peer = "kick", with = { code = 4004 }, fatal = true } } }
  end)
end)
