-- The prover: plays schedules of faults against a policy in the simulator, judges I1 to I8 after every step, makes
-- all well again and demands that the connection comes back, settles and stays. `holdfast prove`, the reload
-- gate of the daemon, and the specs that `holdfast prove` writes are this module.
--
--   local prove = require "holdfast.prove"
--   prove.check { policy = "policies/discord.lua", seed = 7, moves = { { at = "settled", fault = "reset" } } }
local sim = require "holdfast.sim"
local faults = require "holdfast.prove.faults"
local play = require "holdfast.prove.play"
local explore = require "holdfast.prove.explore"
local story = require "holdfast.prove.story"

local prove = { faults = faults, play = play, story = story }

-- The folder that this very file was found in.
local function lua_folder()
  return (debug.getinfo(1, "S").source:gsub("^@", ""):gsub("/?holdfast/prove%.lua$", ""))
end

local function exists(path)
  local f = io.open(path)
  if f then f:close() end
  return f ~= nil
end

local function path_of(url) return url and url:match "^%a+://[^/]+(/.*)$" or "" end

-- What an option of this type is given: enough to be taken, and nothing real.
local function value_of(s, name, option, base, mute)
  local kind = option.type or "string"
  if kind == "secret" then return s:secret("prove." .. name, name) end
  if kind == "url" then
    if option.default then return base .. path_of(type(option.default) == "table" and option.default[1] or option.default) end
    return option.required and (mute and "wss://prove.test/" or base) or nil
  end
  if option.default ~= nil or not option.required then return nil end
  if option.one_of then return option.one_of[1] end
  if kind == "integer" or kind == "number" then return option.min or 1 end
  if kind == "boolean" then return false end
  if kind == "string" then return "prove-" .. name end
  return {}
end

local function filled(value, base)
  if type(value) == "string" then return (value:gsub("%$ws", (base:gsub("^http", "ws"))):gsub("%$url", base)) end
  if type(value) ~= "table" then return value end
  local out = {}
  for k, v in pairs(value) do out[k] = filled(v, base) end
  return out
end

---What has to be known before a schedule can be played: the policy, its peer, what both want to be given.
---nil and a list of problems when the policy has errors.
---@param options { policy: string, seed?: number, lua?: string, policies?: string, plant?: string, settings?: table }
function prove.setup(options)
  local lua = options.lua or lua_folder()
  local path = options.policy
  if not path:find "/" then path = exists(path) and "./" .. path or lua:match "^(.-)[^/]*$" .. "policies/" .. path .. ".lua" end
  local policy, problems = sim.core.policy(path, lua)
  if not policy then return nil, problems end
  local setup = { policy = path, shown = options.policy, platform = policy.platform, hash = policy.hash, lua = lua,
                  policies = options.policies, plant = options.plant, comes_up = true, names = {}, reach = options.reach }
  local hosts = type(policy.hosts) == "table" and policy.hosts or { policy.hosts }
  local has_url = false
  for _, option in pairs(policy.options or {}) do has_url = has_url or option.type == "url" end
  for _, host in ipairs(hosts) do
    setup.names[#setup.names + 1] = (host:gsub("^%*", "prove"))
  end
  local mute = not exists(lua .. "/peers/" .. policy.platform .. ".lua")
  setup.peer = mute and "mute" or policy.platform
  local about = {}
  if not mute then
    -- A look at the peer: what it says about itself.
    local s = sim.new { seed = 1, memory = true, lua = lua }
    local p = s:peer(setup.peer, { host = "prove.test" })
    local function says(verb, argument)
      local ok, answer = pcall(p.control, p, verb, argument)
      return ok, answer
    end
    local ok, answer = says "prove"
    if ok and type(answer) == "table" then
      -- A plain list is one of faults.
      for k, v in pairs(answer[1] and { faults = answer } or answer) do about[k] = v end
    end
    setup.heals = {}
    for _, verb in ipairs(about.heal or { "heal" }) do
      if says(verb) then setup.heals[#setup.heals + 1] = verb end
    end
    setup.prints = (says "prove_print")
    if not about.faults then
      about.faults = {}
      local common = { { "abort", "the platform drops the stream" }, { "deaf", "the platform goes deaf" },
                       { "kick", "the platform closes with 1001", { code = 1001 } } }
      for _, row in ipairs(common) do
        if says(row[1], row[3]) then
          about.faults[#about.faults + 1] = { verb = row[1], say = row[2], with = row[3], at = { "settled", "ready", "greeting" } }
        end
      end
    end
    s:abandon()
  end
  setup.speak = about.speak
  setup.peer_options = about.options
  setup.host = not has_url and setup.names[1] or nil
  local base = "https://" .. (setup.host or "prove.test")
  setup.settings = function (s)
    local out = {}
    for name, option in pairs(policy.options or {}) do
      if type(option) == "table" then out[name] = value_of(s, name, option, base, mute) end
    end
    for _, more in ipairs { about.settings or {}, options.settings or {} } do
      for name, value in pairs(filled(more, base)) do
        local option = (policy.options or {})[name]
        local secret = type(option) == "table" and option.type == "secret" and type(value) == "string"
        out[name] = secret and s:secret(value, name) or value
      end
    end
    return out
  end
  setup.about = about
  setup.moves = function (calls) return faults.moves { calls = calls, peer = about.faults } end
  return setup
end

---Plays one schedule and raises a readable story when a promise is broken. For specs.
---@param options { policy: string, seed: number, moves: table[], hour?: boolean, plant?: string }
function prove.check(options)
  local setup, problems = prove.setup(options)
  if not setup then error(table.concat(problems, "\n"), 2) end
  if setup.peer == "mute" then explore.does_it_come_up(setup, options.seed or 1) end
  local schedule = { seed = options.seed or 1, moves = options.moves or {}, hour = options.hour }
  local result = play.schedule(setup, schedule, { quiet = true, trace = true })
  if not result.ok then error(story.broken(setup, schedule, result), 2) end
  return result
end

---Explores. The report: { ok, promise, text, line, schedule, spec, covered = ... }, see story.lua for its words.
---@param options { policy: string, seed: number, depth?: number, for_ms?: number, schedules?: number, cap_ms?: number, gate?: boolean, plant?: string, progress?: fun(text: string) }
function prove.run(options)
  options.reach = options.reach or sim.core.reach()
  local setup, problems = prove.setup(options)
  if not setup then return { ok = false, problems = problems, policy = options.policy } end
  return explore.run(setup, options)
end

return prove
