-- The server side of Slack's Socket Mode, as far as a client can tell: apps.connections.open with its one-shot
-- tickets, sockets that are counted, recycled and limited, envelopes with their deadlines and repetitions.
-- Hosted by the simulator and by `holdfast peer slack --port N`. What a peer may call stands in
-- runtime/peer/api.c.
--
-- Options
--   token          the app token that clients must show; nil or false takes any but those of bots and users (xox...)
--   opens          { count, ms }: so many opens in such a time, then 429; default { 50, 60000 } (tier 3)
--   retry_after    seconds that a 429 asks for, 30
--   ticket_ttl     ms in which a ticket must be dialled, 30000; it is good for one dial
--   sockets        how many the app may have, 10: one more is sent too_many_websockets instead of hello
--   lifetime       ms after which a socket is recycled: warning 10 s before, refresh_requested then, closed 10 s
--                  after that; default 18060000. false: never
--   told           seconds told as approximate_connection_time; default: the lifetime
--   ping           ms between the server's own pings, 0: none
--   ack_within     ms in which an envelope must be acknowledged, 3000
--   retries        ms after which an event that nobody acknowledged comes again; default { 500, 60000, 300000 }
--   elsewhere      false: an acknowledgement on another socket than the envelope's does not count
--   forget         ms for which a socket that we did not close ourselves is still counted after it ended, 0
--   events_every   ms between made-up events of the app, 0: none
--   faults         see below; changed while running by control verbs fault and heal
--
-- Faults. A number of times where that makes sense; true is for ever.
--   open           { status =, times =, body =, headers =, json = }    answers of apps.connections.open
--   open_error     { error = "internal_error", times = }   { ok = false, error = } with status 200
--   silent_open    never answers it
--   upgrade        { status =, times =, body =, headers = }    answers of the WebSocket upgrade
--   silent_upgrade accepts the connection and never answers the upgrade
--   silent_hello   upgrades and never says hello
--   hello_delay    ms before hello
--   too_many       disconnect/too_many_websockets instead of hello, whatever is open
--   noise          text that is no JSON, an empty text and a binary message after each hello
--   counted        so many sockets are added to num_connections
--   drop_after     ms after hello at which each socket ends with close_code (default -1, an abort)
--
-- Each app token is an app of its own, with its own sockets and limits; made-up events are those of the first one.
--
-- Controls: stats, log, event, interactive, slash, rate_limited, disconnect, close, abort, deaf, raw, disable,
-- enable, fault, heal, prove (what the prover may do with it), prove_print (what tells two states of it apart). Those about sockets take `which` = "oldest" or "newest"; without it they mean all.

local peer = require "holdfast.peer"

local state = {
  open = {},        -- by ws.id: sockets that the server believes open
  tickets = {},     -- by ticket: { at =, used =, app = }
  opened_at = {},   -- by app: instants of opens, for the rate
  app = nil,        -- the first app token that was shown: whose events are made up
  dialled = {},     -- by request id: apps whose upgrade was accepted
  waiting = {},     -- by envelope id: envelopes that are not acknowledged
  events = {},      -- by event id: { acked =, attempts = }
  next = 1,         -- of tickets, envelopes, events
  made = 0,
  log = {},         -- { kind = open | refused | hello | ack | ..., at, ... }
  stats = { opens = 0, refused_opens = 0, upgrades = 0, hellos = 0, too_many = 0, acks = 0, late_acks = 0, double_acks = 0,
            unknown_acks = 0, elsewhere = 0, bad_texts = 0, bad_tickets = 0, payload_refused = 0, redelivered = 0, given_up = 0,
            lost_interactions = 0, events = 0, most_open = 0, closes = {} },
  replies = {},     -- by envelope id: payloads that came with acknowledgements
}
local faults = {}
local enabled = true

local function take(name) return peer.take(faults, name) end

local function note(p, kind, more)
  local entry = more or {}
  entry.kind, entry.at = kind, p:now()
  if #state.log < 20000 then state.log[#state.log + 1] = entry end
end

local function number()
  state.next = state.next + 1
  return state.next - 1
end

local function uuid(n) return ("%08x-0000-4000-8000-%012x"):format(n, n) end

-- Of one app, or of all; oldest first.
local function sockets(app, ready)
  local list = {}
  for _, ws in pairs(state.open) do
    if (not app or ws.app == app) and (not ready or ws.ready) then list[#list + 1] = ws end
  end
  table.sort(list, function (a, b) return a.number < b.number end)
  return list
end

local function close(ws, code, reason)
  if ws.gone then return end
  ws.ready, ws.ended_by_us = false, true
  if code == -1 then ws:abort() else ws:close(code or 1000, reason or "") end
end

local function disconnect(ws, reason)
  if not ws.gone then ws:send { type = "disconnect", reason = reason, debug_info = { host = "applink-1" } } end
end

-- ---- envelopes -------------------------------------------------------------------------------------------

local send_event

-- One envelope to one of the app's sockets, chosen by nobody's plan unless the newest is asked for: one that Slack
-- only believes open (a ghost) gets its share. Nil: none is open.
local function deliver(p, envelope, newest, on_late)
  local list = sockets(state.app or "", true)
  if #list == 0 then return nil end
  local ws = newest and list[#list] or list[1 + math.floor(p:random() * #list)]
  local entry = { envelope = envelope, ws = ws, at = p:now() }
  state.waiting[envelope.envelope_id] = entry
  note(p, "sent", { envelope = envelope.envelope_id, socket = ws.number, event = type(envelope.payload) == "table" and envelope.payload.event_id or nil })
  if not ws.gone then ws:send(envelope) end
  entry.timer = p:after(p.options.ack_within or 3000, function ()
    entry.late = true
    on_late()
  end)
  return ws
end

local function again(p, event)
  local after = (p.options.retries or { 500, 60000, 300000 })[event.attempts + 1]
  if not after then
    state.stats.given_up = state.stats.given_up + 1
    note(p, "given_up", { event = event.payload.event_id })
    return
  end
  p:after(after, function ()
    if event.acked then return end
    event.attempts = event.attempts + 1
    state.stats.redelivered = state.stats.redelivered + 1
    send_event(p, event)
  end)
end

function send_event(p, event, newest)
  local envelope = { type = "events_api", envelope_id = uuid(number()), accepts_response_payload = false, payload = event.payload,
                     retry_attempt = event.attempts, retry_reason = event.attempts > 0 and "timeout" or "" }
  event.envelopes[#event.envelopes + 1] = envelope.envelope_id
  local ws = deliver(p, envelope, newest, function ()
    if not event.acked then again(p, event) end
  end)
  if not ws then again(p, event) end
end

-- `payload` replaces the made-up one.
local function new_event(p, payload, newest)
  state.made = state.made + 1
  state.stats.events = state.stats.events + 1
  payload = payload or {
    type = "event_callback", event_id = ("Ev%010d"):format(state.made), event_time = math.floor(p:wall() / 1000), team_id = "T1",
    api_app_id = "A1", event = { type = "message", channel = "C1", text = "message " .. state.made, number = state.made },
  }
  local event = { payload = payload, attempts = 0, envelopes = {} }
  if payload.event_id then state.events[payload.event_id] = event end
  send_event(p, event, newest)
  return payload.event_id
end

-- Sent once: nobody repeats a click.
local function interaction(p, kind, payload, asks)
  local envelope = { type = kind, envelope_id = uuid(number()), accepts_response_payload = asks, payload = payload }
  local lost = function ()
    state.stats.lost_interactions = state.stats.lost_interactions + 1
    note(p, "lost", { envelope = envelope.envelope_id })
  end
  if not deliver(p, envelope, false, lost) then lost() end
  return envelope.envelope_id
end

local function on_ack(p, ws, frame)
  local stats = state.stats
  local entry = state.waiting[frame.envelope_id]
  if not entry then
    stats.unknown_acks = stats.unknown_acks + 1
    return
  end
  if entry.acked then
    stats.double_acks = stats.double_acks + 1
    return
  end
  if entry.ws ~= ws then
    stats.elsewhere = stats.elsewhere + 1
    if p.options.elsewhere == false then return end
  end
  local payload = frame.payload
  local filled = type(payload) == "table" and next(payload) ~= nil
  if filled and not entry.envelope.accepts_response_payload then stats.payload_refused = stats.payload_refused + 1 end
  if entry.late then
    stats.late_acks = stats.late_acks + 1
    return
  end
  entry.acked = true
  p:cancel(entry.timer)
  stats.acks = stats.acks + 1
  if filled then state.replies[frame.envelope_id] = payload end
  note(p, "ack", { envelope = frame.envelope_id, after = p:now() - entry.at, socket = ws.number })
  local id = entry.envelope.type == "events_api" and entry.envelope.payload.event_id
  if id and state.events[id] then state.events[id].acked = true end
end

-- ---- sockets ---------------------------------------------------------------------------------------------

local function lifetime(p) return p.options.lifetime == nil and 18060000 or p.options.lifetime end

local function recycle(p, ws)
  local ms = lifetime(p)
  if not ms then return end
  p:after(math.max(0, ms - 10000), function () disconnect(ws, "warning") end)
  p:after(ms, function () disconnect(ws, "refresh_requested") end)
  p:after(ms + 10000, function () close(ws, 1000, "") end)
end

local function ping_on(p, ws)
  local every = p.options.ping or 0
  if every <= 0 then return end
  local function tick()
    if ws.gone then return end
    ws:ping()
    p:after(every, tick)
  end
  p:after(every, tick)
end

local function hello(p, ws)
  if ws.gone then return end
  local count = #sockets(ws.app)
  if take "too_many" or count > (p.options.sockets or 10) then
    state.stats.too_many = state.stats.too_many + 1
    note(p, "too_many", { open = count })
    disconnect(ws, "too_many_websockets")
    p:after(1000, function () close(ws, 1000, "") end)
    return
  end
  local told = p.options.told or (lifetime(p) and math.floor(lifetime(p) / 1000)) or nil
  ws.ready = true
  state.stats.hellos = state.stats.hellos + 1
  note(p, "hello", { socket = ws.number, open = count })
  ws:send { type = "hello", num_connections = count + (faults.counted or 0), connection_info = { app_id = "A1" },
            debug_info = { host = "applink-1", build_number = 42, approximate_connection_time = told } }
  if faults.noise then
    ws:send "UNAUTHENTICATED: cache_error"
    ws:send ""
    ws:send_bytes "\0\1\2binary"
  end
  recycle(p, ws)
  ping_on(p, ws)
  if faults.drop_after then p:after(faults.drop_after, function () close(ws, faults.close_code or -1) end) end
end

-- ---- controls --------------------------------------------------------------------------------------------

local control = {}

local function each(a, fn)
  local list = sockets()
  if a and a.which == "oldest" then list = { list[1] } end
  if a and a.which == "newest" then list = { list[#list] } end
  for _, ws in ipairs(list) do fn(ws) end
  return #list
end

function control.stats()
  local s = {}
  for k, v in pairs(state.stats) do s[k] = v end
  s.open, s.ghosts, s.unacknowledged, s.lost_events = #sockets(), 0, 0, 0
  for _, ws in pairs(state.open) do
    if ws.gone then s.ghosts = s.ghosts + 1 end
  end
  for _, entry in pairs(state.waiting) do
    if not entry.acked then s.unacknowledged = s.unacknowledged + 1 end
  end
  for _, event in pairs(state.events) do
    if not event.acked then s.lost_events = s.lost_events + 1 end
  end
  s.replies = state.replies
  return s
end

-- All that happened: opens, hellos, envelopes sent, acknowledgements, in order.
function control.log() return state.log end

-- count made-up events, or one with `payload`; `id`: that event once more under another envelope, attempt `retry`;
-- which = "newest": not to any of the sockets, but to that one.
function control.event(p, a)
  a = a or {}
  if a.id then
    local event = state.events[a.id]
    event.attempts = a.retry or event.attempts
    return send_event(p, event, a.which == "newest")
  end
  local id
  for _ = 1, a.count or 1 do id = new_event(p, a.payload, a.which == "newest") end
  return id
end

function control.interactive(p, a)
  a = a or {}
  local payload = a.payload or { type = a.kind or "block_actions", trigger_id = "t1", user = { id = "U1" } }
  return interaction(p, "interactive", payload, a.asks ~= false)
end

function control.slash(p, a)
  a = a or {}
  return interaction(p, "slash_commands", { command = a.command or "/status", text = a.text or "", trigger_id = "t2" }, true)
end

-- What Slack sends instead of events when there are too many: it has no inner event and no event_id.
function control.rate_limited(p)
  return new_event(p, { type = "app_rate_limited", team_id = "T1", api_app_id = "A1", minute_rate_limited = math.floor(p:wall() / 60000) })
end

function control.disconnect(_, a)
  return each(a, function (ws) disconnect(ws, a and a.reason or "refresh_requested") end)
end
function control.close(_, a) return each(a, function (ws) close(ws, a and a.code or 1000, a and a.reason) end) end
function control.abort(_, a) return each(a, function (ws) ws:abort() end) end
function control.deaf(_, a) return each(a, function (ws) ws:deaf(not (a and a.off)) end) end
function control.raw(_, a)
  return each(a, function (ws) if a.binary then ws:send_bytes(a.text) else ws:send(a.text) end end)
end

-- Socket Mode is switched off, or on, in the app's settings.
function control.disable()
  enabled = false
  return each(nil, function (ws) disconnect(ws, "link_disabled") end)
end
function control.enable() enabled = true end

function control.fault(_, a) peer.add(faults, a) end
function control.heal() peer.heal(faults) end

-- Stages and words: lua/holdfast/prove/faults.lua.
function control.prove()
  local held = { held = true }
  local list, add = peer.moves()
  local up = { "settled", "ready" }
  for _, reason in ipairs { "warning", "refresh_requested", "something_new" } do
    add(up, "disconnect", "Slack says disconnect: " .. reason, { reason = reason })
  end
  add({ "greeting" }, "disconnect", "Slack says disconnect instead of hello", { reason = "refresh_requested" })
  add({ "settled" }, "disable", "Socket Mode is switched off", nil, { fatal = true })
  for _, code in ipairs { 1000, 1001, 1011, 4321, 0 } do
    add({ "settled" }, "close", "Slack closes with " .. (code == 0 and "no code" or code), { code = code })
  end
  add({ "settled", "ready", "greeting" }, "abort", "Slack drops the stream")
  add(up, "deaf", "Slack goes deaf")
  add({ "settled" }, "raw", "text that is no JSON arrives", { text = "UNAUTHENTICATED: cache_error" })
  add({ "settled" }, "event", "three events arrive", { count = 3 })
  add({ "settled" }, "slash", "a slash command arrives")
  add({ "down" }, "fault", "no hello is ever said", { silent_hello = true }, held)
  add({ "down" }, "fault", "hello comes after nine seconds", { hello_delay = 9000 }, held)
  add({ "down" }, "fault", "every socket is one too many", { too_many = true }, held)
  add({ "down" }, "fault", "every socket is dropped after two seconds", { drop_after = 2000 }, held)
  add({ "down" }, "fault", "no upgrade is answered", { silent_upgrade = true }, held)
  add({ "down" }, "fault", "apps.connections.open is never answered", { silent_open = true }, held)
  add({ "down" }, "fault", "apps.connections.open is answered with 429 once", { open = { status = 429, times = 1 } })
  add({ "down" }, "fault", "Slack counts six sockets more", { counted = 6 })
  for _, code in ipairs { "internal_error", "ratelimited", "something_new" } do
    add({ "down" }, "fault", "apps.connections.open says " .. code .. " twice", { open_error = { error = code, times = 2 } })
  end
  for _, code in ipairs { "invalid_auth", "token_revoked", "missing_scope" } do
    add({ "down" }, "fault", "apps.connections.open says " .. code, { open_error = { error = code } }, { fatal = true })
  end
  return { faults = list, speak = { verb = "event", with = {} }, heal = { "heal", "enable" },
           settings = { app_token = "xapp-1-A0PROVE-1-nothing", api = "$url/api" } }
end

function control.prove_print()
  local parts = {}
  for _, ws in pairs(state.open) do parts[#parts + 1] = (ws.ready and "ready" or "open") .. (ws.gone and " gone" or "") end
  if not enabled then parts[#parts + 1] = "disabled" end
  return peer.print(parts, faults)
end

-- ---- HTTP ------------------------------------------------------------------------------------------------

local function refuse(p, request, code)
  state.stats.refused_opens = state.stats.refused_opens + 1
  note(p, "refused", { error = code })
  p:respond(request, 200, { json = { ok = false, error = code } })
end

local function over_rate(p, app)
  local limit = p.options.opens or { 50, 60000 }
  local kept = {}
  for _, at in ipairs(state.opened_at[app] or {}) do
    if p:now() - at < limit[2] then kept[#kept + 1] = at end
  end
  state.opened_at[app] = kept
  return #kept >= limit[1]
end

local function open(p, request)
  state.stats.opens = state.stats.opens + 1
  note(p, "open")
  if take "silent_open" then return end
  local fault = take "open"
  if fault then return peer.answer(p, request, fault) end
  fault = take "open_error"
  if fault then return refuse(p, request, fault.error) end
  if request.method ~= "POST" then return refuse(p, request, "insecure_request") end
  local token = (request.headers.authorization or ""):match "^Bearer (.+)$"
  if not token then return refuse(p, request, "not_authed") end
  if token:find "^xox[a-z]%-" then return refuse(p, request, "not_allowed_token_type") end
  if p.options.token and token ~= p.options.token then return refuse(p, request, "invalid_auth") end
  if not enabled then return refuse(p, request, "socket_mode_disabled") end   -- not documented
  if over_rate(p, token) then
    state.stats.refused_opens = state.stats.refused_opens + 1
    return p:respond(request, 429, { headers = { ["Retry-After"] = tostring(p.options.retry_after or 30) },
                                     json = { ok = false, error = "ratelimited" } })
  end
  table.insert(state.opened_at[token], p:now())
  local ticket = uuid(number())
  state.app = state.app or token
  state.tickets[ticket] = { at = p:now(), app = token }
  p:respond(request, 200, { json = { ok = true, url = p.base_url:gsub("^http", "ws") .. "/link/?ticket=" .. ticket .. "&app_id=a1" } })
end

local function made_up(p, every)
  p:after(every, function ()
    new_event(p)
    made_up(p, every)
  end)
end

return {
  start = function (p, options)
    peer.add(faults, options.faults)
    if (options.events_every or 0) > 0 then made_up(p, options.events_every) end
  end,

  http = function (p, request)
    if request.path == "/api/apps.connections.open" then return open(p, request) end
    if request.path == "/api/auth.test" then
      return p:respond(request, 200, { json = { ok = true, team_id = "T1", user_id = "U1", bot_id = "B1" } })
    end
    p:respond(request, 404, { json = { ok = false, error = "unknown_method" } })
  end,

  upgrade = function (p, request)
    state.stats.upgrades = state.stats.upgrades + 1
    if take "silent_upgrade" then return nil end
    local fault = take "upgrade"
    if fault then
      peer.answer(p, request, fault)
      return false
    end
    local ticket = state.tickets[request.query.ticket or ""]
    if not ticket or ticket.used or p:now() - ticket.at > (p.options.ticket_ttl or 30000) then
      state.stats.bad_tickets = state.stats.bad_tickets + 1
      p:respond(request, 409, { body = "the ticket is not good (any more)" })
      return false
    end
    ticket.used = true
    state.dialled[request.id] = ticket.app
    return true
  end,

  opened = function (p, ws)
    ws.app, ws.number = state.dialled[ws.id], number()
    state.dialled[ws.id] = nil
    state.open[ws.id] = ws
    state.stats.most_open = math.max(state.stats.most_open, #sockets(ws.app))
    if take "silent_hello" then return end
    if faults.hello_delay then
      p:after(faults.hello_delay, function () hello(p, ws) end)
    else
      hello(p, ws)
    end
  end,

  message = function (p, ws, data, text)
    local frame = text and p:decode(data)
    if type(frame) ~= "table" or type(frame.envelope_id) ~= "string" then
      state.stats.bad_texts = state.stats.bad_texts + 1
      return
    end
    on_ack(p, ws, frame)
  end,

  closed = function (p, ws, code)
    ws.gone = true
    -- A ghost: it is counted and sent its share, until Slack notices that nobody is there.
    if (p.options.forget or 0) > 0 and not ws.ended_by_us then
      p:after(p.options.forget, function () state.open[ws.id] = nil end)
    else
      state.open[ws.id] = nil
    end
    local key = tostring(code)
    state.stats.closes[key] = (state.stats.closes[key] or 0) + 1
    note(p, "closed", { socket = ws.number, code = code })
  end,

  control = control,
}
