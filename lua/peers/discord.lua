-- The server side of Discord's Gateway v10, as far as a client can tell: bootstrap, sessions, real replay,
-- heartbeats, limits that are punished as the platform punishes them, and faults on demand.
-- Hosted by the simulator and by `holdfast peer discord --port N`. What a peer may call stands in
-- runtime/peer/api.c.
--
-- Options
--   token               what clients must show; nil or false takes any
--   heartbeat_interval  ms, 41250
--   max_concurrency     IDENTIFYs per `identify_gap` and lane, 1
--   identify_gap        ms, 5000
--   limit               { total = 1000, remaining = 1000, reset_after = ms }
--   resume_host         "wss://..." told in READY; default: where the peer itself is reached
--   replay_window       ms that a session outlives its socket, 180000
--   events_every        ms between made-up messages of each session, 0: none
--   first_number        of the made-up messages, 1: another one tells a peer that was started again
--   shards              recommended count, 1
--   faults              see `faults` below; changed while running by control verbs fault and heal
--
-- stats: double counts what a socket still said after a later one of its shard was greeted, a client with two of them;
-- ghosts those that merely never ended.
--
-- Controls: stats, sent, log, dispatch, op7, op9, ask_beat, kick, abort, deaf, raw, fault, heal, expire, bury,
-- prove (what the prover may do with it), prove_print (what tells two states of it apart).

local peer = require "holdfast.peer"

local OP = { dispatch = 0, heartbeat = 1, identify = 2, resume = 6, reconnect = 7, invalid = 9,
             hello = 10, ack = 11 }
local KNOWN = { [3] = true, [4] = true, [8] = true, [31] = true, [43] = true }

local state = {
  sessions = {},     -- by id
  open = {},         -- by ws.id: sockets that the server believes open
  accounts = {},     -- by token: { identifies = instants of the last 24 h, lanes = instant of each one's last }
  next_session = 1,
  buried = {},       -- by id: sessions that are lost for good, and what a RESUME of one meets
  log = {},          -- every IDENTIFY and RESUME: { kind, at, shard }
  stats = { http = 0, upgrades = 0, hellos = 0, identifies = 0, resumes = 0, resumed = 0, beats = 0,
            refused_identifies = 0, token_resets = 0, over_rate = 0, most_open = {}, closes = {},
            received = 0, presences = 0, early = 0, double = 0, ghosts = 0 },
}

-- Faults. A number of times where that makes sense; true is for ever.
--   http            { status =, times =, body =, headers = }     answers of /gateway/bot
--   silent_http     never answers /gateway/bot
--   upgrade         { status =, times =, body =, headers = }     answers of the WebSocket upgrade
--   silent_upgrade  accepts the connection and never answers the upgrade
--   silent_hello    upgrades and never says HELLO
--   op7_for_hello   op 7 instead of HELLO
--   no_ready, no_resumed     takes IDENTIFY or RESUME and says nothing
--   ready_delay     ms before READY
--   close_after_identify, close_after_resume   close code, or 0 for none, -1 for an abort
--   close_delay     ms before those closes
--   invalid_identify         op 9 false to every IDENTIFY
--   no_ack          beats stay unanswered
--   ack_delay       ms before an answer to a beat
--   replay_delay    ms between replayed events
--   noise           unknown ops, types and fields between events
--   pieces          so many WebSocket messages carry each compressed payload
--   corrupt         so many compressed payloads get one wrong byte
--   scripted        a list of { at = ms, verb = "...", ... } run in a loop of `period` ms
local faults = {}

local function take(name) return peer.take(faults, name) end

local function send(p, ws, frame)
  if ws.gone then return end
  if not ws.deflate then return ws:send(frame) end
  local bytes = ws.deflate:message(p:encode(frame))
  if take "corrupt" then
    -- The first byte of a flushed payload is the header of a deflate or zstd block: no reader takes this one.
    bytes = "\255" .. bytes:sub(2)
  end
  local size = math.max(1, math.ceil(#bytes / (faults.pieces or 1)))
  for at = 1, #bytes, size do ws:send_bytes(bytes:sub(at, at + size - 1)) end
end

local function close(ws, code, reason)
  if ws.gone then return end
  ws.ended_by_us = true
  if code == -1 then
    ws:abort()
  else
    ws:close(code or 0, reason or "")
  end
end

local function dispatch(p, session, kind, data)
  session.seq = session.seq + 1
  local frame = { op = OP.dispatch, s = session.seq, t = kind, d = data }
  session.buffer[session.seq] = frame
  if session.ws and session.ready then send(p, session.ws, frame) end
  if faults.noise and session.ws and session.ready then
    send(p, session.ws, { op = 99, d = { anything = true }, extra = 1 })
    send(p, session.ws, { op = OP.ack, d = { late = true }, _trace = { "noise" } })
  end
  return session.seq
end

local function made_up(p, session)
  -- Numbered per shard, over all its sessions: what a consumer misses shows as a hole.
  local account = session.account
  local number = (account.made[session.key] or (p.options.first_number or 1) - 1) + 1
  account.made[session.key] = number
  session.made = session.made + 1
  return dispatch(p, session, "MESSAGE_CREATE", {
    id = "9" .. string.format("%016d", number), channel_id = "1", content = "message " .. number, number = number,
  })
end

local function events_start(p, session)
  local every = p.options.events_every or 0
  if every <= 0 then return end
  local function tick()
    if session.dead then return end
    made_up(p, session)
    session.timer = p:after(every, tick)
  end
  session.timer = p:after(every, tick)
end

local function session_end(p, session)
  session.dead = true
  state.sessions[session.id] = nil
  p:cancel(session.timer)
  p:cancel(session.expiry)
end

local function detach(p, ws)
  local session = ws.session
  ws.session = nil
  if not session or session.ws ~= ws then return end
  session.ws, session.ready = nil, false
  session.expiry = p:after(p.options.replay_window or 180000, function () session_end(p, session) end)
end

local function shard_key(d)
  local shard = type(d.shard) == "table" and d.shard or { 0, 1 }
  return tostring(shard[1]) .. "/" .. tostring(shard[2]), shard[1]
end

local function account_of(token)
  token = tostring(token):gsub("^Bot ", "")
  local account = state.accounts[token]
  if not account then
    account = { token = token, identifies = {}, lanes = {}, made = {} }
    state.accounts[token] = account
  end
  return account
end

local function token_matches(p, token)
  if account_of(token).reset then return false end
  local want = p.options.token
  return not want or token == want or token == "Bot " .. want
end

local function remaining(p, account)
  local limit = p.options.limit or {}
  local now = p:now()
  local kept = {}
  for _, at in ipairs(account.identifies) do
    if now - at < 86400000 then kept[#kept + 1] = at end
  end
  account.identifies = kept
  if state.exhausted_until then
    if now < state.exhausted_until then return 0, state.exhausted_until - now end
    state.exhausted_until = nil
  end
  local first = kept[1]
  return (limit.remaining or limit.total or 1000) - #kept, first and 86400000 - (now - first) or limit.reset_after or 0
end

-- A socket becomes the one of its shard. An older one that is still open here either never ended (a fault kept
-- that from us: a ghost), or its owner has two: what it still says tells.
local function greeted(ws, account, key)
  ws.key, ws.account = key, account
  for _, old in pairs(state.open) do
    if old ~= ws and old.key == key and old.account == account and not old.gone and not old.ended_by_us and not old.stale then
      old.stale = true
      state.stats.ghosts = state.stats.ghosts + 1
    end
  end
end

-- All that the daily limit takes with it: every session of the token, and the token itself.
local function reset_token(p, account, asking)
  account.reset = true
  state.stats.token_resets = state.stats.token_resets + 1
  for _, session in pairs(state.sessions) do
    if session.account == account then
      if session.ws then close(session.ws, 4004, "Authentication failed.") end
      session_end(p, session)
    end
  end
  close(asking, 4004, "Authentication failed.")
end

local function finish_identify(p, ws, session)
  local base = p.options.resume_host or p.base_url:gsub("^http", "ws")
  session.ready = true
  dispatch(p, session, "READY", {
    v = 10, user = { id = "42", username = "bot", bot = true },
    guilds = { { id = "1", unavailable = true } }, session_id = session.id,
    resume_gateway_url = base, shard = session.shard, application = { id = "42", flags = 0 },
  })
  events_start(p, session)
end

local function on_identify(p, ws, d)
  local now = p:now()
  state.stats.identifies = state.stats.identifies + 1
  state.log[#state.log + 1] = { kind = "identify", at = now, shard = (shard_key(d)) }
  if ws.session then return close(ws, 4005, "Already authenticated.") end
  if not token_matches(p, d.token) then return close(ws, 4004, "Authentication failed.") end
  if type(d.intents) ~= "number" then return close(ws, 4013, "Invalid intents.") end
  local account = account_of(d.token)
  local left = remaining(p, account)
  account.identifies[#account.identifies + 1] = now
  if left <= 0 then return reset_token(p, account, ws) end
  local key, shard_id = shard_key(d)
  local lane = (shard_id or 0) % (p.options.max_concurrency or 1)
  local last = account.lanes[lane]
  account.lanes[lane] = now
  if last and now - last < (p.options.identify_gap or 5000) then
    state.stats.refused_identifies = state.stats.refused_identifies + 1
    return send(p, ws, { op = OP.invalid, d = false })
  end
  if take "invalid_identify" then return send(p, ws, { op = OP.invalid, d = false }) end
  if take "no_ready" then return end
  if faults.close_after_identify then
    return p:after(faults.close_delay or 20, function () close(ws, faults.close_after_identify or 4000) end)
  end
  local session = { id = string.format("session%05d", state.next_session), seq = 0, buffer = {}, made = 0,
                    account = account, key = key, shard = d.shard or { 0, 1 } }
  state.next_session = state.next_session + 1
  greeted(ws, account, key)
  -- A new session of a shard ends the older one of the same shard.
  for _, old in pairs(state.sessions) do
    if old.key == key and old.account == account then
      if old.ws then close(old.ws, 4006, "Session is no longer valid.") end
      session_end(p, old)
    end
  end
  state.sessions[session.id] = session
  ws.session, session.ws = session, ws
  local delay = faults.ready_delay
  if delay then
    p:after(delay, function () if ws.session == session then finish_identify(p, ws, session) end end)
  else
    finish_identify(p, ws, session)
  end
end

local function finish_resume(p, ws, session)
  session.ready = true
  state.stats.resumed = state.stats.resumed + 1
  dispatch(p, session, "RESUMED", { _trace = { "peer" } })
end

local function replay(p, ws, session, from)
  local delay = faults.replay_delay
  if not delay then
    for seq = from + 1, session.seq do send(p, ws, session.buffer[seq]) end
    return finish_resume(p, ws, session)
  end
  local function step(seq)
    if ws.gone or ws.session ~= session then return end
    -- What happens meanwhile is part of the replay: a session that is not ready is sent nothing else.
    if seq > session.seq then return finish_resume(p, ws, session) end
    send(p, ws, session.buffer[seq])
    p:after(delay, function () step(seq + 1) end)
  end
  step(from + 1)
end

local function on_resume(p, ws, d)
  state.stats.resumes = state.stats.resumes + 1
  state.log[#state.log + 1] = { kind = "resume", at = p:now(), session = d.session_id, seq = d.seq }
  if ws.session then return close(ws, 4005, "Already authenticated.") end
  if not token_matches(p, d.token) then return close(ws, 4004, "Authentication failed.") end
  if faults.close_after_resume then
    return p:after(faults.close_delay or 20, function () close(ws, faults.close_after_resume or 0) end)
  end
  if take "no_resumed" then return end
  local fate = state.buried[d.session_id or ""]
  if fate == "silent" then return end
  if fate then return close(ws, fate, "") end
  local session = state.sessions[d.session_id or ""]
  if not session then return send(p, ws, { op = OP.invalid, d = false }) end
  if type(d.seq) ~= "number" or d.seq > session.seq or d.seq < 0 then
    session_end(p, session)
    return close(ws, 4007, "Invalid seq.")
  end
  greeted(ws, session.account, session.key)
  if session.ws and session.ws ~= ws then
    local old = session.ws
    old.session = nil
    close(old, 4000, "Resumed elsewhere.")
  end
  p:cancel(session.expiry)
  ws.session, session.ws, session.ready = session, ws, false
  replay(p, ws, session, d.seq)
end

local function on_beat(p, ws, d)
  state.stats.beats = state.stats.beats + 1
  ws.beats = (ws.beats or 0) + 1
  ws.last_beat = p:now()
  ws.beat_d = d
  if faults.no_ack then return end
  if faults.ack_delay then
    p:after(faults.ack_delay, function () send(p, ws, { op = OP.ack }) end)
  else
    send(p, ws, { op = OP.ack })
  end
end

-- 120 payloads in 60 s, beats included: over it the socket ends with 4008.
local function over_rate(p, ws)
  local now = p:now()
  local kept = {}
  for _, at in ipairs(ws.rate) do
    if now - at < 60000 then kept[#kept + 1] = at end
  end
  kept[#kept + 1] = now
  ws.rate = kept
  return #kept > 120
end

local function pick(which)
  local list = {}
  for _, ws in pairs(state.open) do
    if not which or (ws.session and ws.session.key == which) then list[#list + 1] = ws end
  end
  table.sort(list, function (a, b) return a.id < b.id end)
  return list
end

local control = {}

function control.stats(p)
  local s = {}
  for k, v in pairs(state.stats) do s[k] = v end
  s.open, s.sessions, s.remaining = 0, 0, nil
  for _, account in pairs(state.accounts) do
    local left = remaining(p, account)
    s.remaining = math.min(s.remaining or left, left)
  end
  for _ in pairs(state.open) do s.open = s.open + 1 end
  for _ in pairs(state.sessions) do s.sessions = s.sessions + 1 end
  return s
end

-- What every session sent so far: { id = { key, last = seq, made = n } }; and the highest number of each shard, also
-- by the application that a token names before its first dot.
function control.sent()
  local out = { numbers = {}, by_application = {} }
  for token, account in pairs(state.accounts) do
    local own = {}
    for key, number in pairs(account.made) do out.numbers[key], own[key] = number, number end
    out.by_application[token:match "^[^.]*"] = own
  end
  for id, session in pairs(state.sessions) do
    out[id] = { key = session.key, last = session.seq, made = session.made }
  end
  return out
end

-- Every IDENTIFY and RESUME so far, in order, with its instant.
function control.log() return state.log end

function control.dispatch(p, a)
  a = a or {}
  local count = 0
  for _, session in pairs(state.sessions) do
    if not a.shard or session.key == a.shard then
      for _ = 1, a.count or 1 do
        if a.kind then dispatch(p, session, a.kind, a.d or {}) else made_up(p, session) end
        count = count + 1
      end
    end
  end
  return count
end

local function each(which, fn)
  local list = pick(which)
  for _, ws in ipairs(list) do fn(ws) end
  return #list
end

function control.op7(p, a)
  return each(a and a.shard, function (ws)
    send(p, ws, { op = OP.reconnect })
    -- The platform closes by itself some seconds later.
    p:after(5000, function () close(ws, 1001, "Reconnect.") end)
  end)
end

function control.op9(p, a)
  return each(a and a.shard, function (ws)
    local resumable = a and a.resumable or false
    if not resumable and ws.session then session_end(p, ws.session) end
    send(p, ws, { op = OP.invalid, d = resumable })
  end)
end

function control.ask_beat(p, a)
  return each(a and a.shard, function (ws) send(p, ws, { op = OP.heartbeat }) end)
end

function control.kick(p, a)
  return each(a and a.shard, function (ws)
    local code = a and a.code or 4000
    if ws.session and (code == 4003 or code == 4006 or code == 4007 or code == 4009 or code == 4005) then
      session_end(p, ws.session)
    end
    close(ws, code, a and a.reason or "kicked")
  end)
end

function control.abort(_, a)
  return each(a and a.shard, function (ws) ws:abort() end)
end

function control.deaf(_, a)
  return each(a and a.shard, function (ws) ws:deaf(not (a and a.off)) end)
end

-- Bytes as they are, for what no server should send.
function control.raw(_, a)
  return each(a and a.shard, function (ws)
    if a.binary then ws:send_bytes(a.text) else ws:send(a.text) end
  end)
end

function control.expire(p)
  for _, session in pairs(state.sessions) do session_end(p, session) end
end

-- Lost for good, and nobody says so: what a RESUME meets is silence, or a close with `code`.
function control.bury(p, a)
  local list = {}
  for id, session in pairs(state.sessions) do list[#list + 1] = { id, session } end
  for _, entry in ipairs(list) do
    state.buried[entry[1]] = a and a.code or "silent"
    session_end(p, entry[2])
  end
  return control.abort(p)
end

-- Stages and words: lua/holdfast/prove/faults.lua.
function control.prove()
  local up, hand = { "settled", "ready" }, { "settled", "greeting" }
  local list, add = peer.moves()
  for _, code in ipairs { 4000, 4001, 4002, 4003, 4005, 4007, 4008, 4009, 1000, 1001 } do
    add(code == 4000 and { "settled", "ready", "greeting" } or { "settled" }, "kick", "the gateway closes with " .. code, { code = code })
  end
  for _, code in ipairs { 4004, 4010, 4013, 4014 } do
    add({ "settled" }, "kick", "the gateway closes with " .. code .. " and means it", { code = code }, { fatal = true })
  end
  add(up, "op7", "the gateway asks to reconnect (op 7)")
  add(hand, "op9", "the gateway ends the session (op 9 false)", { resumable = false })
  add({ "settled" }, "op9", "the gateway pauses the session (op 9 true)", { resumable = true })
  add({ "settled" }, "ask_beat", "the gateway asks for a heartbeat")
  add(hand, "abort", "the gateway drops the stream")
  add(up, "deaf", "the gateway goes deaf")
  add({ "settled", "down" }, "expire", "the session expires without a word")
  add({ "settled" }, "bury", "the session is lost for good: a RESUME of it is never answered", nil, { dead = true })
  add({ "settled" }, "bury", "the session is lost for good: a RESUME of it is closed with 1000", { code = 1000 }, { dead = true })
  add({ "settled" }, "bury", "the session is lost for good: a RESUME of it is closed with 4000", { code = 4000 }, { dead = true })
  local held = { held = true }
  add({ "down" }, "fault", "no HELLO ever comes", { silent_hello = true }, held)
  add({ "down" }, "fault", "one HELLO does not come", { silent_hello = 1 })
  add({ "down" }, "fault", "op 7 comes instead of every HELLO", { op7_for_hello = true }, held)
  add({ "down" }, "fault", "no IDENTIFY is answered", { no_ready = true }, held)
  add({ "down" }, "fault", "no RESUME is answered", { no_resumed = true }, held)
  add({ "down" }, "fault", "every IDENTIFY is refused with op 9", { invalid_identify = true }, held)
  add({ "down" }, "fault", "every IDENTIFY is closed with 1000", { close_after_identify = 1000 }, held)
  add({ "down" }, "fault", "every RESUME is cut off", { close_after_resume = -1 }, held)
  add({ "down" }, "fault", "no upgrade is answered", { silent_upgrade = true }, held)
  add({ "down" }, "fault", "/gateway/bot is never answered", { silent_http = true }, held)
  add({ "down" }, "fault", "/gateway/bot is answered with 429 once", { http = { status = 429, times = 1 } })
  add({ "down" }, "fault", "/gateway/bot is answered with 401", { http = { status = 401, times = 1 } }, { fatal = true })
  add({ "settled" }, "fault", "heartbeats are not answered any more", { no_ack = true }, held)
  return { faults = list, speak = { verb = "dispatch", with = { count = 1 } },
           settings = { intents = 513, api = "$url/api/v10" } }
end

function control.prove_print()
  local parts = {}
  -- That it keeps more than one that nobody will ask for makes no other state.
  local seen = {}
  for _, session in pairs(state.sessions) do
    local part = (session.ws and "held" or "kept") .. (session.ready and " ready" or "")
    if session.ws or not seen[part] then parts[#parts + 1] = part end
    seen[part] = true
  end
  for _, fate in pairs(state.buried) do
    local part = "buried " .. tostring(fate)
    if not seen[part] then parts[#parts + 1] = part end
    seen[part] = true
  end
  return peer.print(parts, faults)
end

function control.fault(p, a)
  peer.add(faults, a)
  if a and a.exhausted_for then state.exhausted_until = p:now() + a.exhausted_for end
end

function control.heal() peer.heal(faults) end

return {
  start = function (p, options)
    peer.add(faults, options.faults)
    if options.script then peer.play(p, control, options.script, options.period or 30000) end
    if options.limit and options.limit.remaining == 0 then
      state.exhausted_until = p:now() + (options.limit.reset_after or 0)
      options.limit.remaining = nil
    end
  end,

  http = function (p, request)
    state.stats.http = state.stats.http + 1
    if take "silent_http" then return end
    local fault = take "http"
    if fault then return peer.answer(p, request, fault) end
    local path = request.path
    if not path:find("/gateway/bot$") and not path:find("/gateway$") then
      return p:respond(request, 404, { json = { message = "404: Not Found", code = 0 } })
    end
    local url = p.base_url:gsub("^http", "ws")
    if path:find("/gateway$") then return p:respond(request, 200, { json = { url = url } }) end
    local token = (request.headers.authorization or ""):match("^Bot (.+)$")
    if not token or not token_matches(p, token) then
      return p:respond(request, 401, { json = { message = "401: Unauthorized", code = 0 } })
    end
    local left, reset = remaining(p, account_of(token))
    p:respond(request, 200, { json = {
      url = url, shards = p.options.shards or 1,
      session_start_limit = { total = (p.options.limit or {}).total or 1000, remaining = math.max(left, 0),
                              reset_after = reset, max_concurrency = p.options.max_concurrency or 1 },
    } })
  end,

  upgrade = function (p, request)
    state.stats.upgrades = state.stats.upgrades + 1
    if take "silent_upgrade" then return nil end
    local fault = take "upgrade"
    if fault then
      peer.answer(p, request, fault)
      return false
    end
    if request.query.v ~= "10" or request.query.encoding ~= "json" then
      p:respond(request, 400, { body = "v=10 and encoding=json expected" })
      return false
    end
    state.pending = state.pending or {}
    state.pending[request.id] = request
    return true
  end,

  opened = function (p, ws)
    local request = state.pending and state.pending[ws.id]
    if request then state.pending[ws.id] = nil end
    ws.rate = {}
    ws.opened_at = p:now()
    state.open[ws.id] = ws
    local compress = request and request.query.compress
    if compress then ws.deflate = p:deflate(compress) end
    if take "silent_hello" then return end
    if take "op7_for_hello" then return send(p, ws, { op = OP.reconnect }) end
    state.stats.hellos = state.stats.hellos + 1
    local interval = p.options.heartbeat_interval or 41250
    send(p, ws, { op = OP.hello, d = { heartbeat_interval = interval, _trace = { "peer" } } })
    ws.last_beat = p:now()
    local function watch()
      if ws.gone then return end
      if p:now() - ws.last_beat > 2 * interval then return close(ws, 4009, "Session timed out.") end
      ws.watch = p:after(interval, watch)
    end
    ws.watch = p:after(interval, watch)
  end,

  message = function (p, ws, data, text)
    state.stats.received = state.stats.received + 1
    if ws.stale then state.stats.double = state.stats.double + 1 end
    if not text then return close(ws, 4002, "Decode error.") end
    if #data > 4096 then return close(ws, 4002, "Payload too large.") end
    local frame = p:decode(data)
    if type(frame) ~= "table" then return close(ws, 4002, "Decode error.") end
    if over_rate(p, ws) then
      state.stats.over_rate = state.stats.over_rate + 1
      return close(ws, 4008, "You are being rate limited.")
    end
    local op = frame.op
    local d = type(frame.d) == "table" and frame.d or {}
    if op == OP.heartbeat then return on_beat(p, ws, frame.d) end
    if op == OP.identify then return on_identify(p, ws, d) end
    if op == OP.resume then return on_resume(p, ws, d) end
    if not KNOWN[op or -1] then return close(ws, 4001, "Unknown opcode.") end
    if not ws.session or not ws.session.ready then
      state.stats.early = state.stats.early + 1
      return close(ws, 4003, "Not authenticated.")
    end
    if op == 3 then state.stats.presences = state.stats.presences + 1 end
  end,

  closed = function (p, ws, code)
    ws.gone = true
    state.open[ws.id] = nil
    p:cancel(ws.watch)
    local key = tostring(code)
    state.stats.closes[key] = (state.stats.closes[key] or 0) + 1
    -- 1000 and 1001 from the client end the session; its echo of our own code does not.
    if ws.session and not ws.ended_by_us and (code == 1000 or code == 1001) then session_end(p, ws.session) end
    detach(p, ws)
  end,

  control = control,
}
