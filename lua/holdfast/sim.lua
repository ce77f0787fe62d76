-- The simulator for busted: one holdfast runtime under virtual clocks, against scripted servers.
--
--   local sim = require "holdfast.sim"
--   local s = sim.new { seed = 7 }
--   local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" } })
--   s:connection("a", { policy = "discord", token = s:secret "1.x", intents = 513, api = p.url .. "/api/v10" })
--   s:run_until(function () return s:state "a" == "up" end, "30s")
--   s:close()
--
-- Durations are strings with a unit ("90s", "250ms", "1.5h") or milliseconds. All instants that this
-- module hands out are milliseconds since the world began, as s:now() counts them; names with `wall` are
-- Unix milliseconds. A broken promise (I1 to I8) raises out of whatever moved the time.

-- The C half: preloaded by the binary, or sim.so on the path beside this file's name, or the test module.
local function load_core()
  local found, core = pcall(require, "holdfast.sim_core")
  if found then return core end
  local file = package.searchpath and package.searchpath("holdfast.sim", package.cpath)
  local open = file and package.loadlib(file, "luaopen_holdfast_sim_core")
  if open then return open "holdfast.sim_core" end
  return require "unit.sim"
end
local core = load_core()

local sim = { core = core, decode = core.decode, encode = core.encode }

---@class Sim
---@field core userdata
local Sim = {}
Sim.__index = Sim

local UNITS = { ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000 }

---Milliseconds of "90s", "-1h", or of a number of milliseconds.
---@param text string|number
---@return number
local function duration(text)
  if type(text) == "number" then return text end
  local sign, number, unit = tostring(text):match "^(%-?)([%d.]+)(%a+)$"
  local ms = number and UNITS[unit] and tonumber(number)
  if not ms then error(("%q is no duration: \"250ms\", \"90s\", \"1.5h\""):format(tostring(text)), 3) end
  return (sign == "-" and -1 or 1) * math.floor(ms * UNITS[unit] + 0.5)
end
sim.duration = duration

---Unix milliseconds of "2026-11-22T10:00:00Z", without a calendar library.
local function wall_time(text)
  if type(text) == "number" then return text end
  local y, mo, d, h, mi, s = tostring(text):match "^(%d+)%-(%d+)%-(%d+)T(%d+):(%d+):(%d+%.?%d*)Z$"
  if not y then error(("%q is no time: \"2026-11-22T10:00:00Z\""):format(tostring(text)), 3) end
  y, mo, d = tonumber(y), tonumber(mo), tonumber(d)
  if mo <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local of_era = y - era * 400
  local of_year = math.floor((153 * (mo + (mo > 2 and -3 or 9)) + 2) / 5) + d - 1
  local days = era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
  return (days * 86400 + tonumber(h) * 3600 + tonumber(mi) * 60) * 1000 + math.floor(tonumber(s) * 1000 + 0.5)
end
sim.wall_time = wall_time

---@class SimOptions
---@field seed? number
---@field wall? string|number  wall clock at the beginning
---@field latency? string|number  one way, default 20 ms
---@field plant? string  a bug in the engine, "I1" to "I8", or in the "store": its checker must catch it
---@field memory? boolean  no SQLite and no disk below the store: for long runs that are about something else
---@field policy_instructions? number  budget of one call, default 1.5 million
---@field consumer_bytes? number       that wait for one consumer before it is let go, default 64 MiB
---@field lua? string  folder of lua/
---@field policies? string  folder of the policies
---@field trace? boolean  keep every line, not only the newest
---@field checks? boolean  false: a broken promise is only noted in s.violations

---@param options? SimOptions
---@return Sim
function sim.new(options)
  options = options or {}
  local wall = wall_time(options.wall or "2026-11-22T10:00:00Z")
  local s = setmetatable({
    options = options,
    seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED") or 1,
    checks = options.checks ~= false,
    violations = {},
    timers = {},
    next_timer = 1,
    marks = {},
    consumers = {},
    sends = {},
    next_send = 1,
    depth = 0,
    is_open = true,
  }, Sim)
  s.core = core.new {
    seed = s.seed,
    wall_ms = wall,
    memory = options.memory or false,
    latency_ms = duration(options.latency or "20ms"),
    trace = options.trace or false,
    reach = options.reach,
    plant = options.plant,
    policy_instructions = options.policy_instructions or 0,
    consumer_bytes = options.consumer_bytes or 0,
    trace_bytes = options.trace_bytes or 0,
    lua = options.lua,
    policies = options.policies,
    scratch = os.getenv "HOLDFAST_BUILD" or "build",
  }
  sim.newest = s
  return s
end

-- ---- time ---------------------------------------------------------------------------------------------

local function repeat_line(s)
  local where = "SPEC"
  for level = 2, 12 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.short_src:match "_spec%.lua$" then where = info.short_src break end
  end
  return ("HOLDFAST_SEED=%s HOLDFAST_BUILD=%s %s/runner %s"):format(tostring(s.seed),
    os.getenv "HOLDFAST_BUILD" or "build/test", os.getenv "HOLDFAST_BUILD" or "build/test", where)
end

---State, cause and what comes next of every connection, or of one; for messages.
function Sim:describe(name)
  local lines = {}
  local names = name and name ~= "" and { name } or self.names or {}
  for i, n in ipairs(names) do
    if i > 20 then
      lines[#lines + 1] = ("  and %d more"):format(#names - 20)
      break
    end
    local ok, v = pcall(self.core.view, self.core, n)
    if ok and v then
      local c = v.cause
      lines[#lines + 1] = ("  %s %s since %.3fs, generation %d, failed %d, cause %s, next %s%s"):format(
        n, v.state, v.since / 1000, v.generation, v.failed,
        c and (c.name .. " at " .. c.stage .. (c.close and " " .. c.close or "")) or "none",
        v.next ~= "" and v.next or "nothing", v.deadline and (" at %.3fs"):format(v.deadline / 1000) or "")
    else
      lines[#lines + 1] = "  " .. n .. " does not run"
    end
  end
  return table.concat(lines, "\n")
end

---What a failure says: the headline, the state of everything, the newest lines of the trace, how to repeat it.
---@return string
function Sim:story(headline, name)
  return table.concat({
    headline,
    ("seed %s, %.3fs of world time"):format(tostring(self.seed), self.core:now() / 1000),
    self:describe(name),
    "last lines of the trace:",
    (self.core:trace(20):gsub("\n$", "")),
    "again: " .. repeat_line(self),
  }, "\n")
end

local function fail(s, headline, name, level) error(s:story(headline, name), level + 1) end

-- One stretch of time. Returns why it stopped: "time" or, with `one`, "on".
local function run(s, until_ms, one)
  while true do
    local why, what, about = s.core:run(until_ms, one)
    local broken = s.core:peer_error()
    if broken and s.checks then
      s.depth = 0
      fail(s, "a peer's script raised: " .. broken, nil, 4)
    end
    if why == "violation" then
      s.violations[#s.violations + 1] = what
      if s.checks then
        s.depth = 0
        fail(s, what, about, 4)
      end
      if one then return "on" end
    elseif why == "user" then
      local fn = s.timers[what]
      s.timers[what] = nil
      s.depth = s.depth + 1
      local ok, err = xpcall(fn, function (e)
        return type(e) == "string" and debug.traceback(e, 2) or e
      end)
      s.depth = s.depth - 1
      if not ok then error(err, 0) end
      if one then return "on" end
    elseif why == "stuck" then
      fail(s, "the runtime spins: a million steps without a millisecond", nil, 4)
    else
      return why
    end
  end
end

---Lets so much world time pass.
function Sim:advance(time)
  if self.depth > 0 then error("time moves by itself inside s:at()", 2) end
  local target = self.core:now() + duration(time)
  run(self, target, false)
  return self
end

---Steps until `fn()` is true; raises with the state of everything when it is not within `time`.
---@param fn fun(): any
---@param time? string|number  default one minute
function Sim:run_until(fn, time, what)
  if self.depth > 0 then error("time moves by itself inside s:at()", 2) end
  local target = self.core:now() + duration(time or "1m")
  while true do
    local answer = fn()
    if answer then return answer end
    if run(self, target, true) == "time" then
      answer = fn()
      if answer then return answer end
      fail(self, ("%s did not come true within %s"):format(what or "it", tostring(time or "1m")), nil, 2)
    end
  end
end

---As s:run_until(), but false when it did not come true.
function Sim:try_until(fn, time)
  if self.depth > 0 then error("time moves by itself inside s:at()", 2) end
  local target = self.core:now() + duration(time)
  while true do
    local answer = fn()
    if answer then return answer end
    if run(self, target, true) == "time" then return fn() or false end
  end
end

---Until the connection is up.
function Sim:up(name, time)
  return self:run_until(function () return self.core:state(name) == "up" end, time, name .. " is up")
end

---Until the connection is in this state.
function Sim:reach(name, state, time)
  return self:run_until(function () return self.core:state(name) == state end, time, name .. " is " .. state)
end

---Milliseconds since the world began.
function Sim:now() return self.core:now() end

---mono, boot and wall of the machine, in milliseconds.
function Sim:clock() return self.core:clock() end

---Calls `fn` after so much time, while time moves.
function Sim:at(time, fn)
  local n = self.next_timer
  self.next_timer = n + 1
  self.timers[n] = fn
  self.core:user_at(self.core:now() + duration(time), n)
  return self
end

local function freeze(s, time, suspend)
  local ms = duration(time)
  s.core:freeze(ms, suspend)
  if s.depth == 0 then run(s, s.core:now() + ms, false) end
  return s
end

---The machine sleeps: boot and wall time go on, mono does not. Returns when it is awake again, except
---inside s:at(), where it only begins.
function Sim:suspend(time) return freeze(self, time, true) end

---The loop gets no time.
function Sim:stall(time) return freeze(self, time, false) end

---Steps the wall clock, as `date` or NTP do.
function Sim:wall_step(time)
  self.core:wall_step(duration(time))
  return self
end

-- ---- the far end --------------------------------------------------------------------------------------

---@class SimPeer
---@field url string  "https://HOST"
---@field host string
local Peer = {}
Peer.__index = Peer

---A scripted server of lua/peers/NAME.lua, or "mute" (options: echo, url).
---@param name string
---@param options { host: string, options?: table, names?: string[], url?: string, plain?: boolean }
---@return SimPeer
function Sim:peer(name, options)
  options = options or {}
  local host = options.host or (name .. ".test")
  local url = options.url or ((options.plain and "http://" or "https://") .. host)
  local server, why = self.core:peer(name, url, options.options or {})
  if not server then error(why, 2) end
  self.core:name(host, server)
  for _, other in ipairs(options.names or {}) do self.core:name(other, server) end
  local p = setmetatable({ sim = self, server = server, name = name, host = host, url = url }, Peer)
  self.peers = self.peers or {}
  self.peers[#self.peers + 1] = p
  return p
end

---Calls a function of the peer's control table. Raises when it refuses.
function Peer:control(verb, argument)
  local ok, answer = self.sim.core:control(self.server, verb, argument)
  if not ok then error(answer, 2) end
  return answer
end

---{ streams, ghosts, upgrades, requests, messages }
function Peer:stats() return self.sim.core:server(self.server) end

---From now on this name leads to the peer; to nowhere without one.
function Sim:name(name, peer)
  self.core:name(name, peer and (type(peer) == "table" and peer.server or peer) or 0)
  return self
end

-- ---- connections ------------------------------------------------------------------------------------------

---@param text string
---@param name? string  what is shown instead
function Sim:secret(text, name) return core.secret(text, name) end

local OWN = { policy = true, plain = true, stopped = true, owner = true, trial = true }

---Adds a connection and starts it. `policy` is a name in the policies folder or the text of a policy file;
---`plain`, `stopped` and `owner` are holdfast's own; everything else goes to the policy, `tune` included.
function Sim:connection(name, settings)
  local ok, why = self:try_connection(name, settings)
  if not ok then error(why, 2) end
  return self
end

---As s:connection(), but nil and the reason when it is refused.
function Sim:try_connection(name, settings)
  local rest, own = {}, {}
  for k, v in pairs(settings) do
    if OWN[k] then own[k] = v else rest[k] = v end
  end
  local policy = settings.policy
  own.policy = nil
  local ok, why = self.core:add(name, policy, rest, own)
  if not ok then return nil, why end
  self.names = self.names or {}
  self.names[#self.names + 1] = name
  table.sort(self.names)
  return true
end

---options: spend_reserve, as `holdfast start NAME --spend-reserve`; nil and the reason when it is refused.
function Sim:start(name, options)
  local ok, why = self.core:order(name, "start", options and options.spend_reserve or false)
  if not ok then return nil, why end
  return self
end
function Sim:stop(name) self.core:order(name, "stop") return self end
function Sim:restart(name) self.core:order(name, "restart") return self end
function Sim:remove(name)
  self.core:order(name, "remove")
  for i, n in ipairs(self.names) do
    if n == name then table.remove(self.names, i) break end
  end
  return self
end

---The policy's file anew, or another policy (name or text). Raises when it is refused; the old one serves.
function Sim:reload(name, policy)
  local ok, why = self.core:reload(name, policy)
  if not ok then error(why, 2) end
  return self
end

---nil and the reason instead of raising.
function Sim:try_reload(name, policy) return self.core:reload(name, policy) end

---Settings for the next reload.
function Sim:set(name, settings) self.core:set(name, settings) return self end

---A new version (name or text) of the policy that this connection has, on a share of all connections that have it:
---{ share = 0.1, watch = "10m", rehearse = false }. False: there was nobody to try it on, and it is adopted at once;
---nil and why: it cannot be loaded.
function Sim:trial(name, policy, options)
  options = options or {}
  return self.core:trial(name, policy, options.share or 0.1, duration(options.watch or "10m"), options.rehearse or false)
end

---Ends the trial of this connection's policy: "adopt" or "take_back".
function Sim:end_trial(name, how, why) return self.core:trial_end(name, how, why or "an operator wished so") end

---Trials under way, each with the counts of both sides; and `over`, how the last one ended.
function Sim:trials() return self.core:trials() end

---The number of the version that it runs, and whether it is among the tried.
function Sim:tried(name) return self.core:tried(name) end

---Closes everything with `keep` and waits until all links are closed.
function Sim:shutdown(time)
  self.core:shutdown()
  self:run_until(function () return self.core:is_down() end, time or "30s", "everything is closed")
  return self
end

-- ---- looking -------------------------------------------------------------------------------------------------

---@class SimView
---@field state string
---@field since number
---@field deadline? number
---@field next string
---@field cause? table  stage kind name by close http code retry_after age session reason line
---@field decision? table  cause drop pace planned attempt backoff delay clamped by line note
---@field generation number
---@field failed number
---@field attempts number
---@field ready number
---@field links { generation: number, state: string, since: number }[]
---@field session_present boolean
---@field settled boolean
---@field wanted boolean
---@field fatal boolean
---@field beats_sent number
---@field beats_answered number
---@field backlog table

---@return SimView
function Sim:view(name) return self.core:view(name) end
---@return string?
function Sim:state(name) return self.core:state(name) end
---Lines about what several connections have in common that fail; none when all is fair.
---@return string[]
function Sim:weather() return self.core:weather() end
---Where the connection is: "waiting", "preparing", "greeting", "ready" (up), "settled" (up for long) ...
function Sim:stage(name) return self.core:stage(name) end
---The connection's JSON as the API shows it, decoded.
function Sim:json(name) return core.decode(self.core:view_json(name)) end
---Newest first: { wall, generation, kind, text, file, from, to, decision }
function Sim:journal(name) return self.core:journal(name) end
---conn.session, decoded.
function Sim:session(name) return core.decode(self.core:session_json(name) or "null") end
---{ left, used, next, hold, reserve_left } of "start", "dial", "call" or "send".
function Sim:budget(name, kind) return self.core:budget(name, kind) end
---{ at, host, generation }
function Sim:dials(name) return self.core:dials(name) end
---{ at, generation, code } or { at, generation, aborted = true }: how we ended links.
function Sim:closes(name) return self.core:closes(name) end
---{ at, generation, direction, text, data }, the newest 4096; `direction` "in" or "out" chooses.
function Sim:wire(name, direction) return self.core:wire(name, direction) end
---{ at, method, host, target, status, cause }: HTTP calls that are over.
function Sim:http() return self.core:http() end
---{ open, most }: descriptors of the connection's identity.
function Sim:descriptors(name) return self.core:descriptors(name) end
---{ session, keep, safe, permits, told = { { budget, left, lanes, until_wall } } }: what is durable.
function Sim:disk(name) return self.core:disk(name) end
function Sim:stats() return self.core:stats() end
---Streams whose end a fault kept from the servers.
function Sim:ghosts() return self.core:stats().ghosts end
---The whole trace (with trace = true), or its newest lines.
function Sim:trace(lines) return self.core:trace(lines) end
---Legal moves of connections that this run never made.
function Sim:moves_missing() return self.core:moves_missing() end

---The branch marked with this name was taken in this process.
function Sim:expect_mark(name)
  if core.mark_hits(name) == 0 then error(("the branch %q was never taken"):format(name), 2) end
  return self
end
function Sim:mark_hits(name) return core.mark_hits(name) end

-- ---- faults ---------------------------------------------------------------------------------------------------

local VERBS = {
  clock_jump = function (s, o) s:wall_step(o.by or o.ms or 0) end,
  suspend = function (s, o) s:suspend(o.lasts or o.ms or "1m") end,
  loop_stall = function (s, o) s:stall(o.lasts or o.ms or "1s") end,
  reload = function (s, o)
    for _, n in ipairs(o.connection and { o.connection } or s.names or {}) do s:reload(n) end
  end,
  crash = function (s, o) s:crash_and_restart(o) end,
  power_cut = function (s, o)
    o.power = true
    s:crash_and_restart(o)
  end,
}

---@class SimFault
local Fault = {}
Fault.__index = Fault

---Switches a fault on, now. Of the network: resolve_fail resolve_slow refuse connect_timeout unreachable
---reset black_hole half_open truncate trickle slow tls_fail cert_wrong_name cert_expired cert_unknown_ca
---plain_on_tls eof_without_close no_close_answer http_status garbage; of the store: store_delay{ms=}
---store_fail (a transaction fails, and the disk is not asked); of the disk: disk_full{bytes= that still fit}
---disk_write_error disk_sync_error (what was written may be there, or forgotten) disk_read_error
---disk_read_only disk_slow{ms=} disk_corrupt{bytes=}, done at once;
---of the machine, done at once: clock_jump{by=} suspend{lasts=} loop_stall{lasts=} reload crash power_cut.
---
---host (pattern), peer, connection (pattern), what ("link", "call", "any") choose; times, probability and
---lasts bound; ms, bytes, stage, status, headers, body say how.
---@return SimFault
function Sim:fault(name, options)
  options = options or {}
  if VERBS[name] then
    VERBS[name](self, options)
    return setmetatable({ sim = self }, Fault)
  end
  local o = {}
  for k, v in pairs(options) do o[k] = v end
  if o.ms then o.ms = duration(o.ms) end
  local f = setmetatable({ sim = self, name = name }, Fault)
  f.id = self.core:fault(name, o)
  if o.lasts then self:at(o.lasts, function () f:off() end) end
  return f
end

function Fault:off()
  if self.id then self.sim.core:fault_off(self.id) end
end
---How often it struck.
function Fault:hits() return self.id and self.sim.core:fault_hits(self.id) or 0 end

---Every fault off. From here on each wanted connection must be up within engine_recovery_bound_ms (I6),
---unless `check` is false (a peer still misbehaves). Returns the latest bound, in milliseconds.
function Sim:heal(options)
  local check = not (options and options.check == false)
  return self.core:heal(check)
end

-- A new process. While the store does not open (a fault of the disk) it is tried again each second, as a
-- service manager does; s.boot_error says why.
local function boot(s)
  local ok, why = s.core:boot()
  s.boot_error = why
  if not ok then
    s:at("1s", function () if not s.core:is_up() then boot(s) end end)
    return
  end
  for _, c in ipairs(s.consumers) do
    if c.wanted then c:attach "cursor" end
  end
end

local function come_back(s, after, again)
  s.sender = nil
  local function start()
    if again then s.core:boot_cut(again == "power") end
    boot(s)
  end
  if s.depth > 0 then
    s:at(after or "1s", start)
  else
    run(s, s.core:now() + duration(after or "1s"), false)
    start()
  end
  return s
end

---The process dies and comes back with what the disk holds. options: after (how long it is gone, default
---"1s"), power (the machine dies: peers hear nothing, and what was not synced is drawn), again ("crash" or
---"power": the next start dies so while it opens the store, and only the one after it comes up). What is being
---written at that moment is cut at a drawn place. Consumers attach again from their cursors.
function Sim:crash_and_restart(options)
  options = options or {}
  self.core:halt(options.power and "power" or "crash")
  return come_back(self, options.after, options.again)
end

---As crash_and_restart().
function Sim:crash(after) return self:crash_and_restart { after = after } end
function Sim:power_cut(after) return self:crash_and_restart { after = after, power = true } end

---The process ends in order (its links closed, everything written) and a new one starts: the epoch stays.
---True, or false when the disk did not take everything. Not inside s:at().
function Sim:restart_process(after)
  self:shutdown "2m"
  local clean = self.core:halt "end"
  come_back(self, after)
  return clean
end

---What is on the disk, in numbers: { epoch, was_clean, pending, transactions, failures, cuts (inside a
---transaction), events, permits, consumers, cursors, seen, sessions, files = { NAME = { bytes, unsynced } },
---writes, written_bytes, syncs, disk_failures, power_cuts, hash (of all bytes on it) }.
function Sim:store() return self.core:store() end

---All is quiet: I7 judges whether everything that is safe has come to the named consumers that are attached.
function Sim:caught_up()
  for _, c in ipairs(self.consumers) do
    if c:attached() then self.core:caught_up(c.number) end
  end
  run(self, self.core:now(), false)
  return self
end

-- ---- consumers --------------------------------------------------------------------------------------------------

---@class SimConsumer
local Consumer = {}
Consumer.__index = Consumer

---@param options { name?: string, connections?: string[], from?: string, states?: boolean, gaps?: boolean }
---@return SimConsumer
function Sim:consumer(options)
  options = options or {}
  local c = setmetatable({ sim = self, options = options, all = {} }, Consumer)
  local ok, why = c:attach(options.from)
  if not ok then error(why, 2) end
  self.consumers[#self.consumers + 1] = c
  return c
end

function Consumer:attach(from)
  local o = self.options
  local line = core.encode { attach = { consumer = o.name, connections = o.connections, from = from,
                                        states = o.states, gaps = o.gaps } }
  local number, why = self.sim.core:attach(self.number, line)
  if not number then return nil, why end
  self.number = number
  self.wanted = true
  return true
end

local function pull(c)
  local text = c.sim.core:take(c.number)
  for line in text:gmatch "[^\n]+" do
    local decoded = core.decode(line)
    c.all[#c.all + 1] = { text = line, line = decoded }
  end
end

local function select_lines(c, key)
  pull(c)
  local out = {}
  for _, entry in ipairs(c.all) do
    local found_line = entry.line and entry.line[key]
    if found_line then out[#out + 1] = found_line end
  end
  return out
end

---All that came so far: { connection, epoch, offset, at, take, frame }
function Consumer:events() return select_lines(self, "event") end
function Consumer:states() return select_lines(self, "state") end
function Consumer:gaps() return select_lines(self, "gap") end
function Consumer:errors() return select_lines(self, "error") end
---The raw lines.
function Consumer:lines()
  pull(self)
  local out = {}
  for i, entry in ipairs(self.all) do out[i] = entry.text end
  return out
end
---Forgets what came.
function Consumer:clear()
  pull(self)
  self.all = {}
  return self
end
---Acknowledges up to (epoch, offset); without them, the last event of the connection.
function Consumer:ack(connection, epoch, offset)
  if not offset then
    for _, e in ipairs(self:events()) do
      if e.connection == connection then epoch, offset = e.epoch, e.offset end
    end
  end
  if not offset then error("nothing to acknowledge", 2) end
  self.sim.core:input(self.number, core.encode { ack = { connection = connection, epoch = epoch, offset = offset } } .. "\n")
  return self
end
---Raw lines to holdfast.
function Consumer:input(lines)
  self.sim.core:input(self.number, lines)
  return self
end
function Consumer:pause() self.sim.core:pause(self.number, true) return self end
function Consumer:resume() self.sim.core:pause(self.number, false) return self end
function Consumer:detach()
  self.wanted = false
  self.sim.core:detach(self.number)
  return self
end
---true, or false and why holdfast let go of it.
function Consumer:attached()
  local text, attached, why = self.sim.core:take(self.number)
  for line in text:gmatch "[^\n]+" do self.all[#self.all + 1] = { text = line, line = core.decode(line) } end
  return attached, why
end

---@class SimSend
local Send = {}
Send.__index = Send

---Sends a frame (a table, or the JSON text itself) as a consumer does.
---@return SimSend
function Sim:send(name, frame)
  if not self.sender or not self.sender:attached() then
    self.sender = setmetatable({ sim = self, options = { connections = { "-none-" }, states = false, gaps = false },
                                 all = {} }, Consumer)
    assert(self.sender:attach "now")
  end
  local id = "s" .. self.next_send
  self.next_send = self.next_send + 1
  local text = type(frame) == "string" and frame or core.encode(frame)
  self.sender:input(('{"send":{"id":"%s","connection":"%s","frame":%s}}\n'):format(id, name, text))
  return setmetatable({ sim = self, id = id }, Send)
end

---nil while it waits; { sent = true } or { refused = true, why =, retry = }.
function Send:answer()
  if self.done then return self.done end
  pull(self.sim.sender)
  for _, entry in ipairs(self.sim.sender.all) do
    local l = entry.line or {}
    if l.sent and l.sent.id == self.id then self.done = { sent = true } end
    if l.refused and l.refused.id == self.id then
      self.done = { refused = true, why = l.refused.why, retry = l.refused.retry }
    end
    if l.error and tostring(l.error.id) == self.id then self.done = { refused = true, why = l.error.why or l.error.text } end
  end
  return self.done
end

-- ---- promises -----------------------------------------------------------------------------------------------------

---I5: so much time in which no link may end, planned handovers apart.
function Sim:quiet(time, name)
  local before = {}
  local names = name and { name } or self.names
  for _, n in ipairs(names) do
    local v = self.core:view(n)
    before[n] = v.endings - v.planned_endings
  end
  self:advance(time)
  for _, n in ipairs(names) do
    local v = self.core:view(n)
    local endings = v.endings - v.planned_endings - before[n]
    if endings ~= 0 then
      fail(self, ("I5 violated by %s: %d unplanned endings in %s of quiet"):format(n, endings, tostring(time)), n, 2)
    end
  end
  return self
end

---I7: every frame of `sent` (the peer's own list of JSON texts or tables, in order) came to the consumer in
---that order, at least once; what is missing is named by a gap of that connection.
function Sim:check_delivery(name, consumer, sent)
  local came, order = {}, 0
  for _, e in ipairs(consumer:events()) do
    if e.connection == name then
      order = order + 1
      came[core.encode(e.frame)] = came[core.encode(e.frame)] or order
    end
  end
  local gaps = 0
  for _, g in ipairs(consumer:gaps()) do
    if g.connection == name then gaps = gaps + 1 end
  end
  local last, missing = 0, {}
  for i, frame in ipairs(sent) do
    local key = core.encode(type(frame) == "string" and core.decode(frame) or frame)
    local at = came[key]
    if not at then
      missing[#missing + 1] = i
    elseif at < last then
      fail(self, ("I7 violated by %s: frame %d came before an earlier one"):format(name, i), name, 2)
    else
      last = at
    end
  end
  if #missing > 0 and gaps == 0 then
    fail(self, ("I7 violated by %s: %d of %d frames are missing (first: %d) and no gap says so"):format(
      name, #missing, #sent, missing[1]), name, 2)
  end
  return #missing
end

---Ends the run: shuts everything down and looks for what leaked.
function Sim:close()
  if not self.is_open then return end
  self.is_open = false
  local ok, err = true, nil
  if self.core:is_up() then
    ok, err = pcall(function ()
      self.core:heal(false)
      self:shutdown "2m"
      local stats = self.core:stats()
      local leaks = {}
      if stats.descriptors > 0 then leaks[#leaks + 1] = stats.descriptors .. " descriptors" end
      if stats.calls > 0 then leaks[#leaks + 1] = stats.calls .. " HTTP calls" end
      if stats.tasks > 0 then leaks[#leaks + 1] = stats.tasks .. " waiting hooks" end
      if #leaks > 0 then fail(self, "leaked: " .. table.concat(leaks, ", "), nil, 2) end
    end)
  end
  self.core:destroy()
  if not ok then error(err, 0) end
end

---Ends the run without a word, for after a test failed.
function Sim:abandon()
  if self.is_open then self.core:destroy() end
  self.is_open = false
end

return sim
