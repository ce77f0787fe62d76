-- What was recorded replays: random schedules of faults against every stock policy and its platform, each run's
-- own trace played again. Every step of the engine must have the effects that it had, bit for bit, and every hook
-- must do what it did. A hundred runs, or HOLDFAST_REPLAYS=COUNT or FIRST-LAST of them (`make prove-long` plays
-- a thousand).
local sim = require "holdfast.sim"
local prove = require "holdfast.prove"
local explore = require "holdfast.prove.explore"

local POLICIES = { "discord", "slack", "feishu", "qqbot", "wukongim", "mattermost", "generic" }

local function range()
  local text = os.getenv "HOLDFAST_REPLAYS" or "100"
  local first, last = text:match "^(%d+)%-(%d+)$"
  return tonumber(first) or 1, tonumber(last) or tonumber(text)
end

local setups = {}
local function setup_of(policy)
  setups[policy] = setups[policy] or assert(prove.setup { policy = policy, seed = 1 })
  return setups[policy]
end

local total = { runs = 0, steps = 0, hooks = 0, bytes = 0 }

local function replays(s, what)
  if not s.core:is_up() then return end
  local bytes, none = s.core:recorded "bot"
  if not bytes then
    assert.equal("nothing has happened to it yet", none)
    return
  end
  local r, why = sim.core.replay(bytes)
  assert(r, ("%s: %s"):format(what, tostring(why)))
  assert(r.steps_equal == r.steps, ("%s: step %d of %d has other effects"):format(what, r.first_other_step, r.steps))
  assert(r.hooks_equal == r.hooks_run, ("%s: %d of %d hooks did something else:\n  was: %s\n  is:  %s"):format(
    what, r.hooks_run - r.hooks_equal, r.hooks_run, r.was, r.is))
  total.steps, total.hooks, total.bytes = total.steps + r.steps, total.hooks + r.hooks_run, total.bytes + #bytes
end

local function run(number)
  local policy = POLICIES[number % #POLICIES + 1]
  local setup = setup_of(policy)
  setup.comes_up = setup.peer ~= "mute"
  local moves = setup.moves {}
  local schedule = explore.random_schedule(moves, 17, number)
  -- Half of them with little room: there segments begin wherever the connection happens to be.
  local result = prove.play.schedule(setup, schedule, {
    trace_bytes = number % 2 == 0 and 8192 or nil,
    arrive = function (i, _, s)
      if i % 3 == 1 then replays(s, ("run %d (%s), before move %d"):format(number, policy, i)) end
    end,
    done = function (s) replays(s, ("run %d (%s)"):format(number, policy)) end,
  })
  total.runs = total.runs + 1
  assert(result.ok, ("run %d (%s): %s %s"):format(number, policy, tostring(result.promise), tostring(result.text)))
end

describe("recorded random runs", function ()
  local first, last = range()
  for from = first, last, 25 do
    local to = math.min(from + 24, last)
    it(("replay to equal effects (%d to %d)"):format(from, to), function ()
      for number = from, to do run(number) end
    end)
  end

  it("had something in them", function ()
    if os.getenv "HOLDFAST_SAY" then
      print(("%d runs, %d steps, %d hooks, %d bytes of traces"):format(total.runs, total.steps, total.hooks, total.bytes))
    end
    assert.is_true(total.steps > 20 * total.runs)
    assert.is_true(total.hooks > 2 * total.runs)
  end)
end)
