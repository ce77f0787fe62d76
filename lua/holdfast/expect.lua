-- Claims about a connection that read as sentences. In `holdfast test` they are there; elsewhere
-- `require "holdfast.expect"` first.
--
--   assert.connection("a").is_up_within "30s"
--   p:control("kick", { code = 4004 })
--   assert.connection("a").reaches("stopped", "10s").ended_by { close = 4004 }.is_stopped_for_good()
--
-- They are about the newest world, or about the one that is given: assert.connection("a", s). A claim that names a
-- time lets that much of it pass, or less when what it waits for comes sooner; each answers with itself, so that
-- the next can follow. A name that no claim has is an error, and so is a key that no cause or verdict has.
local sim = require "holdfast.sim"
local luassert = require "luassert"

---@class ConnectionClaims
---@field is fun(state: string): ConnectionClaims
---@field is_up_within fun(time: string|number): ConnectionClaims
---@field reaches fun(state: string, time: string|number): ConnectionClaims
---@field stays fun(state: string, time: string|number): ConnectionClaims
---@field stays_up_for fun(time: string|number): ConnectionClaims
---@field is_stopped_for_good fun(): ConnectionClaims
---@field ended_by fun(wanted: string|table): ConnectionClaims
---@field was_judged fun(wanted: table): ConnectionClaims
---@field dials fun(times: { at_most?: number, at_least?: number }, time: string|number): ConnectionClaims
---@field has_session fun(): ConnectionClaims
---@field has_no_session fun(): ConnectionClaims
---@field has_said fun(text: string): ConnectionClaims
---@field delivered_all fun(consumer: SimConsumer, sent: (string|table)[]): ConnectionClaims

---@class luassert
---@field connection fun(name: string, world?: Sim): ConnectionClaims

-- Each is called with the connection first: { name, world }.
local claims = {}

local function show(value)
  if type(value) == "table" then
    local out, names = {}, {}
    for k in pairs(value) do names[#names + 1] = k end
    table.sort(names, function (a, b) return tostring(a) < tostring(b) end)
    for i, k in ipairs(names) do out[i] = type(k) == "number" and show(value[k]) or k .. " = " .. show(value[k]) end
    return "{ " .. table.concat(out, ", ") .. " }"
  end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

-- Busted counts what luassert raises as a failure; an error of a spec itself is an error.
local function check(c, holds, wanted, ...)
  if holds then return c end
  luassert(false, c.world:story(("%s should %s"):format(c.name, wanted:format(...)), c.name), 4)
end

local function state(c) return c.world:state(c.name) or "removed" end

local function pass(c, fn, time) return c.world:try_until(fn, time) end

---It is in this state now: stopped, waiting, queued, preparing, linking, up, closing.
function claims.is(c, wanted)
  return check(c, state(c) == wanted, "be %s, and is %s", wanted, state(c))
end

function claims.is_up_within(c, time)
  return check(c, pass(c, function () return state(c) == "up" end, time), "be up within %s", time)
end

function claims.reaches(c, wanted, time)
  return check(c, pass(c, function () return state(c) == wanted end, time), "be %s within %s", wanted, time)
end

---No link ends in that time, planned handovers apart, and it is up at its end.
function claims.stays_up_for(c, time)
  check(c, state(c) == "up", "be up, and is %s", state(c))
  local before = c.world:view(c.name)
  local left = pass(c, function ()
    local v = c.world:view(c.name)
    return v.endings - v.planned_endings > before.endings - before.planned_endings
  end, time)
  return check(c, not left and state(c) == "up", "stay up for %s", time)
end

function claims.stays(c, wanted, time)
  local left = pass(c, function () return state(c) ~= wanted end, time)
  return check(c, not left, "stay %s for %s, and is %s", wanted, time, state(c))
end

---An operator, or other credentials, are waited for: a verdict said stop.
function claims.is_stopped_for_good(c)
  return check(c, c.world:view(c.name).fatal, "be stopped by a verdict, and is %s", state(c))
end

-- Every key of `wanted` is in `what` with that value.
local function has(c, what, wanted, known, of)
  for key in pairs(wanted) do
    if not known[key] then error(("%s has no %q"):format(of, tostring(key)), 4) end
  end
  if not what then return check(c, false, "have a %s: none yet", of) end
  for key, value in pairs(wanted) do
    if what[key] ~= value then
      return check(c, false, "have a %s with %s, and has %s = %s", of, show(wanted), key, show(what[key]))
    end
  end
  return c
end

local CAUSE = { stage = true, kind = true, name = true, by = true, close = true, http = true, code = true,
                retry_after = true, session = true, reason = true, line = true, age = true }
local VERDICT = { drop = true, pace = true, planned = true, clamped = true, by = true, line = true, note = true,
                  attempt = true, backoff = true, delay = true }

---Why its last link or attempt ended: one of stage, kind, name, by ("peer", "network", "us", "policy", "operator"),
---close, http, code, reason, session ... or a list; a text alone is the cause's name or kind.
function claims.ended_by(c, wanted)
  local cause = c.world:view(c.name).cause
  if type(wanted) == "string" then
    return check(c, cause and (cause.name == wanted or cause.kind == wanted), "have ended by %q, and did by %s", wanted,
                 cause and show(cause.name) or "nothing yet")
  end
  return has(c, cause, wanted, CAUSE, "cause")
end

---What was decided on it: drop ("resume", "fresh", "renew"), pace ("normal", "slow", "stop"), planned, clamped, delay
---(milliseconds), by ("rule", "hook", "climb", "engine", "operator"), line (of the policy), note.
function claims.was_judged(c, wanted) return has(c, c.world:view(c.name).decision, wanted, VERDICT, "verdict") end

---Lets that much time pass and counts dials in it.
function claims.dials(c, times, time)
  if type(times) ~= "table" or not (times.at_most or times.at_least) then
    error("dials takes { at_most = N } or { at_least = N }, and a time", 2)
  end
  local before = #c.world:dials(c.name)
  c.world:advance(time)
  local count = #c.world:dials(c.name) - before
  return check(c, count <= (times.at_most or count) and count >= (times.at_least or count), "dial %s times in %s, and did %d",
               times.at_most and "at most " .. times.at_most or "at least " .. times.at_least, time, count)
end

function claims.has_session(c)
  return check(c, next(c.world:session(c.name) or {}) ~= nil, "have a session")
end

function claims.has_no_session(c)
  local session = c.world:session(c.name) or {}
  return check(c, next(session) == nil, "have no session, and has %s", show(session))
end

---Its journal has a line with this text in it.
function claims.has_said(c, text)
  for _, entry in ipairs(c.world:journal(c.name)) do
    if entry.text and entry.text:find(text, 1, true) then return c end
  end
  return check(c, false, "have said %q in its journal", text)
end

---All that the platform sent came to the consumer, in order; what is missing is in no gap's excuse.
function claims.delivered_all(c, consumer, sent)
  local came, order = {}, 0
  for _, e in ipairs(consumer:events()) do
    if e.connection == c.name then
      order = order + 1
      local key = sim.encode(e.frame)
      came[key] = came[key] or order
    end
  end
  local last = 0
  for i, frame in ipairs(sent) do
    local at = came[sim.encode(type(frame) == "string" and sim.decode(frame) or frame)]
    check(c, at, "deliver frame %d of %d, and %d came", i, #sent, order)
    check(c, at > last, "deliver frame %d after the one before it", i)
    last = at
  end
  return c
end

---@param name string
---@param world? Sim  the newest
---@return ConnectionClaims
local function connection(name, world)
  local w = world or sim.newest
  if not w then error("there is no world yet: sim.new{}", 2) end
  if not w.is_open then error("the world is closed", 2) end
  local known = false
  for _, n in ipairs(w.names or {}) do known = known or n == name end
  if not known then error(("no connection is named %q"):format(tostring(name)), 2) end
  return setmetatable({ name = name, world = w }, {
    __index = function (c, key)
      local claim = claims[key]
      if not claim then
        local names = {}
        for n in pairs(claims) do names[#names + 1] = n end
        table.sort(names)
        error(("no claim is named %q; there are %s"):format(tostring(key), table.concat(names, ", ")), 2)
      end
      return function (...) return claim(c, ...) end
    end,
  })
end

rawset(luassert, "connection", connection)

return { connection = connection, claims = claims }
