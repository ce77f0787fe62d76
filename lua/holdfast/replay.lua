-- Replays for specs: what was recorded of a connection is played again, against the policy that it had or against
-- the one that you have now. `holdfast replay TRACE --spec FILE` writes a spec that uses this.
--
--   local replay = require "holdfast.replay"
--   local run = replay.of { trace = "incident_spec.trace", policy = "policies/discord.lua" }
--   run:decides(1, { cause = "closed", close = 4000, verdict = "resume" })
local sim = require "holdfast.sim"

local replay = {}

local Run = {}
Run.__index = Run

local function read(path)
  local f, why = io.open(path, "rb")
  if not f then error(why, 3) end
  local bytes = f:read "*a"
  f:close()
  return bytes
end

-- The folder of the spec that asks, so that a trace can lie beside it.
local function beside(path)
  if path:find "^/" then return path end
  local source = debug.getinfo(3, "S").source
  return (source:match "^@(.*/)" or "") .. path
end

local function lua_folder()
  return (debug.getinfo(1, "S").source:gsub("^@", ""):gsub("/?holdfast/replay%.lua$", ""))
end

---Plays it. `policy`: a file instead of the trace's own, and then it goes on until they part.
---@param options { trace: string, policy?: string }
function replay.of(options)
  local path = beside(options.trace)
  local result, why = sim.core.compare(read(path), { policy = options.policy, lua = lua_folder() })
  if not result then error(("%s: %s"):format(path, why), 2) end
  result.trace = path
  return setmetatable(result, Run)
end

local function told(run)
  local p = run.parted
  if not p then return "" end
  return ("\n  the policy parts from what was recorded at %s, step %d%s\n    then: %s\n    now:  %s"):format(
    os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(p.at / 1000)), p.step, p.event and (" (" .. p.event .. ")") or p.hook and (" (" .. p.hook .. ")") or "",
    p.was, p.is)
end

---Each step had the effects that it had, each hook did what it did: nothing that was recorded is in doubt.
function Run:exact()
  if self.steps ~= self.steps_equal or self.hooks_run ~= self.hooks_equal then
    error(("%s does not replay: %d of %d steps, %d of %d hooks"):format(self.trace, self.steps_equal, self.steps, self.hooks_equal, self.hooks_run), 2)
  end
end

---The policy does what was done, to the end.
function Run:agrees()
  if self.parted then error(self.trace .. ":" .. told(self), 2) end
end

---What is decided, in the order of the trace. Keys: cause kind stage by close http verdict drop pace delay (ms, or
---{ least, most }) attempt.
function Run:decides(nth, want)
  local d = self.decisions[nth]
  if not d then
    error(("%s: there is no decision %d, only %d%s"):format(self.trace, nth, #self.decisions, told(self)), 2)
  end
  for key, value in pairs(want) do
    local got = d[key]
    local fits = got == value
    if type(value) == "table" then fits = got and got >= value[1] and got <= value[2] end
    if not fits then
      local shown = type(value) == "table" and ("%s to %s"):format(value[1], value[2]) or tostring(value)
      error(("%s: decision %d: %s is %s, expected %s\n  %s%s"):format(self.trace, nth, key, tostring(got), shown, d.words, told(self)), 2)
    end
  end
end

---No decision follows the nth.
function Run:decides_no_more_than(nth)
  if #self.decisions > nth then
    error(("%s: %d decisions, expected %d\n  %s%s"):format(self.trace, #self.decisions, nth, self.decisions[nth + 1].words, told(self)), 2)
  end
end

return replay
