-- A tiny driver for the engine's unit specs: it answers effects after the delays that a spec sets,
-- keeps a log, and checks I1, I3 and I8 from the outside. One per engine; any number of connections.
--
--   local host = Host.new { plan = { ... }, greet = function (host, conn, generation) ... end }
--   local bot = host:add { name = "ada" }; host:start(bot); host:run(60000)
local engine = require "unit.engine"

local Host = {}
Host.__index = Host

local function never() end

-- options: seed, plan (table), answer (table of delays in ms, false: no answer), hooks by effect kind
-- (function (host, effect) -> true when handled)
function Host.new(options)
  options = options or {}
  local self = setmetatable({
    now = options.now or 1000, boot_ahead = 0, wall_ahead = 0,
    e = engine.new { seed = options.seed or 1, connections = options.connections, sends = options.sends,
                     sends_each = options.sends_each },
    plan = engine.plan(options.plan or {}), floor = 250,
    log = {}, queue = {}, order = 0, conns = {}, on = options.on or {}, violations = {},
    latency = options.latency or 10, lag = options.lag or 0,
  }, Host)
  return self
end

function Host:clock()
  local boot = self.now + self.boot_ahead
  return { mono = self.now, boot = boot, wall = 1700000000000 + boot + self.wall_ahead }
end

function Host:add(fields)
  fields = fields or {}
  fields.plan = fields.plan or self.plan
  fields.at = self:clock()
  local h, why, other = self.e:add(fields)
  if not h then return nil, why, other end
  self.conns[h] = { h = h, name = fields.name or "bot", open = {}, pulses = {}, last_attempt = nil, states = {},
                    dials = {}, prepares = {}, starts = {} }
  return h
end

function Host:later(ms, fn)
  self.order = self.order + 1
  table.insert(self.queue, { at = self.now + ms, order = self.order, fn = fn })
end

function Host:violate(text)
  table.insert(self.violations, ("t=%d %s"):format(self.now, text))
end

-- One event in; effects are logged, checked and answered.
function Host:step(event)
  event.at = self:clock()
  local effects = self.e:step(event)
  for _, f in ipairs(effects) do
    f.at, f.boot = self.now, event.at.boot
    table.insert(self.log, f)
    self:check(f)
    local hook = self.on[f.kind]
    if not (hook and hook(self, f)) then (self["fx_" .. f.kind:gsub(" ", "_")] or never)(self, f) end
  end
  local view = event.conn and self.e:view(event.conn)
  if view and view.state ~= "stopped" and view.state ~= "up" then
    if not view.deadline then self:violate("I8: " .. view.state .. " without a deadline")
    elseif view.deadline < self.now then self:violate("I8: deadline in the past") end
    if view.state == "waiting" and not view.cause and view.attempts > 0 then self:violate("I8: waiting without a cause") end
  end
  return effects
end

function Host:check(f)
  local c = self.conns[f.conn]
  if not c then return end
  if f.kind == "prepare" then
    if c.last_attempt and self.now - c.last_attempt < self.floor and not c.planned then
      self:violate(("I3: attempts %d ms apart"):format(self.now - c.last_attempt))
    end
    c.last_attempt, c.planned = self.now, false
    table.insert(c.prepares, self.now)
  elseif f.kind == "dial" then
    c.open[f.generation] = true
    c.pulses[f.generation] = { last_byte = self.now }
    local n = 0
    for _ in pairs(c.open) do n = n + 1 end
    if n > (c.handover and 2 or 1) then self:violate("I1: " .. n .. " descriptors") end
    table.insert(c.dials, self.now)
  elseif f.kind == "journal" then
    c.planned = f.decision.planned
  elseif f.kind == "state" then
    table.insert(c.states, f.to)
    if not engine.conn_legal(f.from, f.to) then self:violate("illegal move " .. f.from .. " -> " .. f.to) end
  end
end

function Host:event(kind, conn, generation, fields)
  fields = fields or {}
  fields.kind, fields.conn, fields.generation = kind, conn, generation
  return self:step(fields)
end

function Host:start(conn) return self:event("start requested", conn) end

-- The default answers: everything works.
function Host:fx_prepare(f)
  self:later(self.latency, function () self:event("prepared", f.conn, f.generation) end)
end

function Host:fx_store(f)
  if f.no_answer then return end
  self:later(self.latency, function () self:event("stored", f.conn, 0, { ticket = f.ticket }) end)
end

function Host:fx_dial(f)
  self:later(self.latency, function ()
    if self:alive(f) then
      for _, stage in ipairs { "connecting", "securing", "upgrading" } do
        self:event("stage reached", f.conn, f.generation, { stage = stage })
      end
      self:event("upgraded", f.conn, f.generation)
    end
  end)
end

function Host:fx_greet(f)
  self:later(self.latency, function () if self:alive(f) then self:event("greeted", f.conn, f.generation) end end)
end

function Host:fx_beat(f)
  self:later(self.latency, function () self:hear(f.conn, f.generation); self:event("beat answered", f.conn, f.generation) end)
end

function Host:fx_ping(f) self:later(self.latency, function () self:hear(f.conn, f.generation) end) end

function Host:fx_drain(f)
  self:later(1, function ()
    local c = self.conns[f.conn]
    self:event("drained", f.conn, f.generation, { pulse = c.pulses[f.generation] })
  end)
end

function Host:fx_close(f)
  self:later(self.latency, function () self:closed(f.conn, f.generation) end)
end

function Host:fx_abort(f)
  self:later(0, function () self:closed(f.conn, f.generation) end)
end

function Host:fx_ask_ended(f)
  self:later(self.latency, function () self:event("verdict given", f.conn, f.generation, { given = false }) end)
end

function Host:alive(f)
  local c = self.conns[f.conn]
  return c and c.open[f.generation]
end

-- A byte came.
function Host:hear(conn, generation, frame)
  local p = self.conns[conn].pulses[generation]
  if not p then return end
  p.last_byte = self.now
  if frame then p.last_frame = self.now end
end

-- The descriptor is gone, once.
function Host:closed(conn, generation, cause)
  local c = self.conns[conn]
  if not c.open[generation] then return end
  c.open[generation] = nil
  self:event("link closed", conn, generation, { cause = cause })
end

function Host:deadline(h)
  local pulses = {}
  for generation in pairs(self.conns[h].open) do pulses[generation] = self.conns[h].pulses[generation] end
  return self:event("deadline passed", h, 0, { pulses = pulses })
end

-- Runs for `ms`, or until `stop()` is true; what is due first happens first.
function Host:run(ms, stop)
  local till, steps = self.now + ms, 0
  while not (stop and stop()) do
    steps = steps + 1
    if steps > 200000 then error("the engine does not come to rest") end
    local best
    for i, item in ipairs(self.queue) do
      local b = best and self.queue[best]
      if not b or item.at < b.at or (item.at == b.at and item.order < b.order) then best = i end
    end
    local at = best and self.queue[best].at
    local deadline = self.e:deadline()
    if deadline then deadline = deadline + self.lag end
    if at and at <= till and not (deadline and deadline < at) then
      if at > self.now then self.now = at end
      table.remove(self.queue, best).fn()
    elseif deadline and deadline <= till then
      if deadline > self.now then self.now = deadline end
      local h = self.e:due(self.now)
      if h then self:deadline(h) end
    else
      self.now = till
      break
    end
  end
  return self
end

function Host:view(conn) return self.e:view(conn) end

-- Effects of one kind since the start (or since log entry `from`).
function Host:effects(kind, from)
  local found = {}
  for i = from or 1, #self.log do
    if self.log[i].kind == kind then table.insert(found, self.log[i]) end
  end
  return found
end

function Host:last(kind)
  local found = self:effects(kind)
  return found[#found]
end

-- Up, with the greeting done.
function Host:up(fields)
  local bot = self:add(fields)
  self:start(bot)
  self:run(5000, function () return self:view(bot).state == "up" end)
  assert(self:view(bot).state == "up", "not up: " .. self:view(bot).state)
  return bot
end

return Host
