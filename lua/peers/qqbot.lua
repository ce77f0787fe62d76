-- The server side of QQ's bot platform, as far as a client can tell: access tokens, the gateway address with
-- its rate limit, sessions with replay, op 7 and 4009 at the end of a connection's life, the close that needs no
-- close frame when beats are missing, and faults on demand. Hosted by the simulator and by
-- `holdfast peer qqbot --port N`. What a peer may call stands in runtime/peer/api.c.
--
-- Options
--   app_id, client_secret  what clients must show; nil takes any
--   heartbeat_interval  ms, 45000
--   beat_limit          ms without a beat after which the socket is cut, no close frame: 60000
--   lifetime            ms after which a connection gets op 7 and, 200 ms later, 4009; 1800000, 0: never
--   token_life          s of a new access token, 7200; the same one is handed out until its last 60 s
--   token_number        expires_in as a number; it is text as the platform has it
--   gateway_rate        calls of /gateway and /gateway/bot in a minute and app, 2; more are refused
--   max_concurrency     IDENTIFYs per `identify_gap` and lane, 1
--   identify_gap        ms, 5000
--   limit               { total = 1000, remaining = 1000, reset_after = ms }
--   approved            mask of intents that are granted; nil: all
--   session_life        ms after which a session is resumed and brings no events any more; 0: none
--   replay_window       ms that a session outlives its socket, 300000
--   socket_url          "wss://..." told by /gateway; default: where the peer itself is reached
--   events_every        ms between made-up messages of each session, 0: none
--   first_number        of the made-up messages, 1
--   faults              see `faults` below; changed while running by control verbs fault and heal
--   script              { { at = ms, verb = "kick", ... }, ... }, run in a loop of `period` ms (30000)
--
-- Controls: stats, sent, log, dispatch { count, kind, d, shard }, op7, op9 { resumable, code }, ask_beat, kick { code,
-- reason }, abort, deaf { off }, raw { text }, resend { count }, expire (sessions), bury { code } (likewise, and a RESUME
-- of them is closed with that code, or never answered), new_token, exhausted { lasts }, fault { ... }, heal, prove (what
-- the prover may do with it), prove_print (what tells two states of it apart). Those of sockets take { shard = "0/1" }.
--
-- stats: double counts frames of a socket that came after a later one of the same shard was greeted: a client with
-- two of them. Those that merely never ended are ghosts: a fault kept their ending from here.

local peer = require "holdfast.peer"

local OP = { dispatch = 0, heartbeat = 1, identify = 2, resume = 6, reconnect = 7, invalid = 9, hello = 10, ack = 11 }
local BUFFER_MAX = 20000  -- events that a session holds for a replay

local state = {
  tokens = {},       -- by app: { current = { text, until_ms }, good = { [text] = until_ms } }
  accounts = {},     -- by app: { identifies, lanes, made }
  sessions = {},     -- by id
  open = {},         -- by ws.id: sockets that the server believes open
  next_session = 1, next_token = 1, calls = {},
  buried = {},       -- by id of sessions that are gone: the code that their RESUME is closed with, or "silent"
  log = {},          -- every token, gateway, identify and resume: { kind, at, ... }
  stats = { token_calls = 0, gateway_calls = 0, over_rate = 0, upgrades = 0, hellos = 0, identifies = 0, resumes = 0,
            resumed = 0, beats = 0, bad_beats = 0, starved = 0, refused_identifies = 0, over_total = 0,
            double = 0, ghosts = 0, retired = 0, received = 0, closes = {} },
}

-- Faults. A number, or `times` in a table, is how often; true is for ever.
--   token, gateway      { status =, body =, headers =, times = }   answers of the two calls
--   token_code          a code in an error answer with status 200, as the platform has it
--   gateway_code        { status =, code =, times = }              likewise, with its status
--   same_token          { expires_in =, times = }  the same token again, with so much time
--   stuck_token         no new token in the last 60 s
--   silent_token, silent_gateway    never answered
--   upgrade             { status =, times =, body = }
--   silent_upgrade, silent_hello
--   no_ready, no_resumed            takes IDENTIFY or RESUME and says nothing
--   ready_delay, replay_delay, ack_delay, close_delay    ms
--   close_after_identify, close_after_resume    { code =, times =, after_greeting = true }: before or after READY
--                       and RESUMED; code 0 is none, -1 an abort
--   op9_identify, op9_resume        { code =, times =, delay = 100 }: op 9 false, then that close; no code: no close
--   no_ack              beats stay unanswered
--   noise               unknown ops, types and fields between events
local faults = {}

local function take(name) return peer.take(faults, name) end

local function note(p, kind, more)
  more = more or {}
  more.kind, more.at = kind, p:now()
  state.log[#state.log + 1] = more
end

local function send(ws, frame)
  if not ws.gone then ws:send(frame) end
end

local function close(ws, code, reason)
  if ws.gone then return end
  ws.ended_by_us = true
  if code == -1 then ws:abort() else ws:close(code or 0, reason or "") end
end

local function account_of(app)
  local account = state.accounts[app]
  if not account then
    account = { app = app, identifies = {}, lanes = {}, made = {}, newest = {} }
    state.accounts[app] = account
  end
  return account
end

-- ---- access tokens ------------------------------------------------------------------------------------------

local function new_token(p, app)
  local t = state.tokens[app]
  if not t then
    t = { good = {} }
    state.tokens[app] = t
  end
  local life = (p.options.token_life or 7200) * 1000
  t.current = { text = ("qqtoken-%06d-%s"):format(state.next_token, app), until_ms = p:now() + life }
  t.good[t.current.text] = t.current.until_ms
  state.next_token = state.next_token + 1
  return t.current
end

-- The app that a header or a frame's token belongs to: "QQBot <token>", the prefix included.
local function app_of(p, text)
  local token = type(text) == "string" and text:match "^QQBot (%S+)$"
  for app, t in pairs(state.tokens) do
    if token and t.good[token] then return t.good[token] > p:now() and app or nil end
  end
  return nil
end

local function on_token(p, request)
  state.stats.token_calls = state.stats.token_calls + 1
  note(p, "token")
  if take "silent_token" then return end
  local fault = take "token"
  if fault then return p:respond(request, fault.status or 500, { body = fault.body or "", headers = fault.headers }) end
  local function refuse(code, message)
    return p:respond(request, 200, { json = { code = code, message = message },
                                     headers = { ["X-Tps-trace-ID"] = "trace-" .. state.stats.token_calls } })
  end
  local coded = take "token_code"
  if coded then return refuse(type(coded) == "table" and coded.code or coded, "refused") end
  local asked = p:decode(request.body or "")
  local o = p.options
  if type(asked) ~= "table" or type(asked.appId) ~= "string" or type(asked.clientSecret) ~= "string" then
    return refuse(100007, "appid invalid")
  end
  if o.app_id and asked.appId ~= o.app_id then return refuse(10004, "bot does not exist") end
  if o.client_secret and asked.clientSecret ~= o.client_secret then return refuse(100016, "invalid appid or secret") end
  local t = state.tokens[asked.appId]
  local current, left = t and t.current, nil
  local same = current and take "same_token"
  if same then
    left = same.expires_in
  else
    local new = not current or p:now() >= current.until_ms or (p:now() > current.until_ms - 60000 and not faults.stuck_token)
    if new then current = new_token(p, asked.appId) end
    left = math.floor((current.until_ms - p:now()) / 1000)
  end
  p:respond(request, 200, { json = { access_token = current.text, expires_in = o.token_number and left or tostring(left) } })
end

-- ---- the gateway's address ----------------------------------------------------------------------------------

local function remaining(p, account)
  local limit = p.options.limit or {}
  local now = p:now()
  if state.exhausted_until then
    if now < state.exhausted_until then return 0, state.exhausted_until - now end
    state.exhausted_until = nil
  end
  local kept = {}
  for _, at in ipairs(account.identifies) do
    if now - at < 86400000 then kept[#kept + 1] = at end
  end
  account.identifies = kept
  return (limit.remaining or limit.total or 1000) - #kept, kept[1] and 86400000 - (now - kept[1]) or limit.reset_after or 0
end

local function on_gateway(p, request)
  state.stats.gateway_calls = state.stats.gateway_calls + 1
  note(p, "gateway")
  local function refuse(status, code, message)
    return p:respond(request, status, { json = { code = code, message = message, err_code = 40000000 + code % 1000 },
                                        headers = { ["X-Tps-trace-ID"] = "trace-g" .. state.stats.gateway_calls } })
  end
  -- Of each app, as far as anybody knows; whoever shows no good token is one, too.
  local app = app_of(p, request.headers.authorization)
  local now, recent = p:now(), {}
  for _, at in ipairs(state.calls[app or ""] or {}) do
    if now - at < 60000 then recent[#recent + 1] = at end
  end
  recent[#recent + 1] = now
  state.calls[app or ""] = recent
  if #recent > (p.options.gateway_rate or 2) then
    state.stats.over_rate = state.stats.over_rate + 1
    return refuse(400, 100017, "frequency limit")
  end
  if take "silent_gateway" then return end
  local fault = take "gateway"
  if fault then return p:respond(request, fault.status or 500, { body = fault.body or "", headers = fault.headers }) end
  local coded = take "gateway_code"
  if coded then return refuse(coded.status or 401, coded.code, coded.message or "refused") end
  if not app then return refuse(401, 11244, "token missing or expired") end
  local url = (p.options.socket_url or p.base_url:gsub("^http", "ws")) .. "/websocket/"
  if not request.path:find "/bot$" then return p:respond(request, 200, { json = { url = url } }) end
  local left, reset = remaining(p, account_of(app))
  p:respond(request, 200, { json = { url = url, shards = 1, session_start_limit = {
    total = (p.options.limit or {}).total or 1000, remaining = math.max(left, 0), reset_after = reset,
    max_concurrency = p.options.max_concurrency or 1 } } })
end

-- ---- sessions -----------------------------------------------------------------------------------------------

local function is_aged(p, session)
  local life = p.options.session_life or 0
  return life > 0 and p:now() - session.begun > life
end

local function dispatch(p, session, kind, data, id)
  if is_aged(p, session) and kind ~= "READY" and kind ~= "RESUMED" then return session.seq end
  session.seq = session.seq + 1
  local frame = { op = OP.dispatch, s = session.seq, t = kind, d = data, id = id }
  session.buffer[session.seq] = frame
  session.buffer[session.seq - BUFFER_MAX] = nil
  if session.ws and session.ready then
    send(session.ws, frame)
    if faults.noise then
      send(session.ws, { op = 77, d = { anything = true }, extra = 1 })
      send(session.ws, { op = OP.dispatch, t = "UNHEARD_OF", d = "" })
    end
  end
  return session.seq
end

local function made_up(p, session)
  -- Numbered per shard, over all its sessions: what a consumer misses shows as a hole.
  local made = session.account.made
  local number = (made[session.key] or (p.options.first_number or 1) - 1) + 1
  made[session.key] = number
  session.made = session.made + 1
  local id = ("ROBOT1.0_%016d"):format(number)
  local data = {
    id = id, group_openid = "G", author = { member_openid = "M" }, content = " message " .. number, number = number,
    timestamp = ("%.0f"):format(p:wall()),
  }
  -- Every session of the shard that is still held gets it, one that its client has forgotten too.
  for _, other in pairs(state.sessions) do
    if other ~= session and other.account == session.account and other.key == session.key and other.started then
      dispatch(p, other, "GROUP_AT_MESSAGE_CREATE", data, "GROUP_AT_MESSAGE_CREATE:" .. id)
    end
  end
  return dispatch(p, session, "GROUP_AT_MESSAGE_CREATE", data, "GROUP_AT_MESSAGE_CREATE:" .. id)
end

-- The newest of its shard: messages are made once for all of them.
local function is_newest(session) return session.account.newest[session.key] == session end

local function events_start(p, session)
  local every = p.options.events_every or 0
  session.account.newest[session.key], session.started = session, true
  if every <= 0 then return end
  local function tick()
    if session.dead or not is_newest(session) then return end
    made_up(p, session)
    session.timer = p:after(every, tick)
  end
  session.timer = p:after(every, tick)
end

local function session_end(p, session)
  session.dead = true
  state.sessions[session.id] = nil
  if session.timer then p:cancel(session.timer) end
  if session.expiry then p:cancel(session.expiry) end
end

local function detach(p, ws)
  local session = ws.session
  ws.session = nil
  if not session or session.ws ~= ws then return end
  session.ws, session.ready = nil, false
  session.expiry = p:after(p.options.replay_window or 300000, function () session_end(p, session) end)
end

-- A socket becomes the one of its shard. An older one that is still open here either never ended (a fault kept
-- that from us), or its owner has two: what it still says tells.
local function greeted(ws, app, key)
  ws.key, ws.app = key, app
  for _, old in pairs(state.open) do
    if old ~= ws and old.key == key and old.app == app and not old.gone and not old.ended_by_us and not old.stale then
      old.stale = true
      state.stats.ghosts = state.stats.ghosts + 1
    end
  end
end

-- op 9 now, and the close that says why a little later.
local function invalid(p, ws, fault)
  send(ws, { op = OP.invalid, d = false })
  if fault.code then p:after(fault.delay or 100, function () close(ws, fault.code, fault.reason or "refused") end) end
end

local function closes(p, ws, fault)
  p:after(faults.close_delay or 20, function () close(ws, fault.code or 0, fault.reason or "") end)
end

local function shard_key(d)
  local shard = type(d.shard) == "table" and d.shard or { 0, 1 }
  return tostring(shard[1]) .. "/" .. tostring(shard[2]), tonumber(shard[1]) or 0
end

local function has_all(mask, wanted)
  for bit = 0, 30 do
    local value = 2 ^ bit
    if math.floor(wanted / value) % 2 == 1 and math.floor(mask / value) % 2 == 0 then return false end
  end
  return true
end

local function on_identify(p, ws, d)
  state.stats.identifies = state.stats.identifies + 1
  note(p, "identify", { shard = (shard_key(d)) })
  if ws.key then return close(ws, 4005, "already authenticated") end
  local app = app_of(p, d.token)
  if not app then return close(ws, 4004, "authentication failed") end
  if type(d.intents) ~= "number" then return invalid(p, ws, { code = 4013 }) end
  if p.options.approved and not has_all(p.options.approved, d.intents) then return invalid(p, ws, { code = 4014 }) end
  local account, now = account_of(app), p:now()
  local left = remaining(p, account)
  account.identifies[#account.identifies + 1] = now
  local key, shard_id = shard_key(d)
  local lane = shard_id % (p.options.max_concurrency or 1)
  local last = account.lanes[lane]
  account.lanes[lane] = now
  if left <= 0 then
    state.stats.over_total = state.stats.over_total + 1
    return invalid(p, ws, { code = 4903, reason = "create session error" })
  end
  if last and now - last < (p.options.identify_gap or 5000) then
    state.stats.refused_identifies = state.stats.refused_identifies + 1
    return invalid(p, ws, { code = 4903, reason = "create session error" })
  end
  local fault = take "op9_identify"
  if fault then return invalid(p, ws, type(fault) == "table" and fault or {}) end
  if take "no_ready" then return end
  fault = take "close_after_identify"
  if fault and not fault.after_greeting then return closes(p, ws, fault) end
  local session = { id = ("session-%05d"):format(state.next_session), seq = 0, buffer = {}, made = 0, begun = now,
                    account = account, key = key, shard = d.shard or { 0, 1 }, ws = ws }
  state.next_session = state.next_session + 1
  state.sessions[session.id] = session
  ws.session = session
  greeted(ws, app, key)
  local function ready()
    if ws.session ~= session then return end
    session.ready = true
    -- The shard that READY repeats need not be the one that was asked for.
    dispatch(p, session, "READY", { version = 1, session_id = session.id, shard = { 0, 0 }, extra = { "field" },
                                    user = { id = "42", username = "bot", bot = true } })
    events_start(p, session)
    if fault then closes(p, ws, fault) end
  end
  if faults.ready_delay then p:after(faults.ready_delay, ready) else ready() end
end

local function on_resume(p, ws, d)
  state.stats.resumes = state.stats.resumes + 1
  note(p, "resume", { session = d.session_id, seq = d.seq })
  if ws.key then return close(ws, 4005, "already authenticated") end
  local app = app_of(p, d.token)
  if not app then return close(ws, 4004, "authentication failed") end
  local fault = take "op9_resume"
  if fault then return invalid(p, ws, type(fault) == "table" and fault or {}) end
  fault = take "close_after_resume"
  if fault and not fault.after_greeting then return closes(p, ws, fault) end
  if take "no_resumed" then return end
  local fate = state.buried[d.session_id or ""]
  if fate then return fate ~= "silent" and close(ws, fate, "") end
  local session = state.sessions[d.session_id or ""]
  if not session or session.account.app ~= app then return invalid(p, ws, { code = 4006, reason = "session id invalid" }) end
  if type(d.seq) ~= "number" or d.seq > session.seq or d.seq < 0 or (d.seq < session.seq and not session.buffer[d.seq + 1]) then
    session_end(p, session)
    return close(ws, 4007, "seq wrong")
  end
  local old = session.ws
  session.ws, session.ready, ws.session = ws, false, session
  greeted(ws, app, session.key)
  if old and old ~= ws then
    old.session = nil
    close(old, 4902, "reset by resume")
  end
  if session.expiry then p:cancel(session.expiry) end
  local function finish()
    session.ready = true
    state.stats.resumed = state.stats.resumed + 1
    dispatch(p, session, "RESUMED", "")
    if fault then closes(p, ws, fault) end
  end
  local delay = faults.replay_delay
  if not delay then
    for seq = d.seq + 1, session.seq do send(ws, session.buffer[seq]) end
    return finish()
  end
  local function step(seq)
    if ws.gone or ws.session ~= session then return end
    if seq > session.seq then return finish() end
    send(ws, session.buffer[seq])
    p:after(delay, function () step(seq + 1) end)
  end
  step(d.seq + 1)
end

local function on_beat(p, ws, d)
  state.stats.beats = state.stats.beats + 1
  ws.beats = (ws.beats or 0) + 1
  -- null is absent after decoding; anything else is the last `s`.
  if d ~= nil and (type(d) ~= "number" or ws.session and d > ws.session.seq) then
    state.stats.bad_beats = state.stats.bad_beats + 1
    return close(ws, 4002, "bad payload")
  end
  ws.last_beat, ws.beat_d = p:now(), d
  if faults.no_ack then return end
  if faults.ack_delay then p:after(faults.ack_delay, function () send(ws, { op = OP.ack }) end) else send(ws, { op = OP.ack }) end
end

-- ---- controls -----------------------------------------------------------------------------------------------

local function each(a, fn)
  local list = {}
  for _, ws in pairs(state.open) do
    if not (a and a.shard) or ws.key == a.shard then list[#list + 1] = ws end
  end
  table.sort(list, function (x, y) return x.id < y.id end)
  for _, ws in ipairs(list) do fn(ws) end
  return #list
end

local control = {}

function control.stats()
  local s = { open = 0, sessions = 0 }
  for k, v in pairs(state.stats) do s[k] = v end
  for _ in pairs(state.open) do s.open = s.open + 1 end
  for _ in pairs(state.sessions) do s.sessions = s.sessions + 1 end
  return s
end

-- The highest number of the made-up messages of each shard, also by application.
function control.sent()
  local numbers, by_application = {}, {}
  for app, account in pairs(state.accounts) do
    local own = {}
    for key, number in pairs(account.made) do numbers[key], own[key] = number, number end
    by_application[app] = own
  end
  return { numbers = numbers, by_application = by_application }
end

function control.log() return state.log end

function control.dispatch(p, a)
  local count = 0
  for _, session in pairs(state.sessions) do
    local wanted = not (a and a.shard) or session.key == a.shard
    if wanted and ((a and a.kind) or is_newest(session)) then
      for _ = 1, a and a.count or 1 do
        if a and a.kind then dispatch(p, session, a.kind, a.d or "", a.id) else made_up(p, session) end
        count = count + 1
      end
    end
  end
  return count
end

-- The newest events once more, under new numbers: the platform does so after a resume.
function control.resend(p, a)
  local count = 0
  for _, session in pairs(state.sessions) do
    local last, list = session.seq, {}
    for seq = last, 1, -1 do
      local frame = session.buffer[seq]
      if frame and frame.t ~= "READY" and frame.t ~= "RESUMED" and #list < (a and a.count or 1) then table.insert(list, 1, frame) end
    end
    for _, frame in ipairs(list) do
      dispatch(p, session, frame.t, frame.d, frame.id)
      count = count + 1
    end
  end
  return count
end

local function retire(p, ws, delay)
  send(ws, { op = OP.reconnect })
  p:after(delay or 200, function () close(ws, 4009, "Session timed out") end)
end

function control.op7(p, a) return each(a, function (ws) retire(p, ws, a and a.delay) end) end

function control.op9(p, a)
  return each(a, function (ws)
    local resumable = a and a.resumable or false
    if not resumable and ws.session then session_end(p, ws.session) end
    send(ws, { op = OP.invalid, d = resumable })
    if a and a.code then p:after(a.delay or 100, function () close(ws, a.code) end) end
  end)
end

function control.ask_beat(_, a) return each(a, function (ws) send(ws, { op = OP.heartbeat }) end) end

function control.kick(p, a)
  return each(a, function (ws)
    local code = a and a.code or 4009
    if ws.session and (code == 4006 or code == 4007 or code >= 4900 and code <= 4913) then session_end(p, ws.session) end
    close(ws, code, a and a.reason or "kicked")
  end)
end

function control.abort(_, a) return each(a, function (ws) ws:abort() end) end
function control.deaf(_, a) return each(a, function (ws) ws:deaf(not (a and a.off)) end) end
-- Bytes as they are, for what no server should send.
function control.raw(_, a) return each(a, function (ws) ws:send(a.text) end) end

function control.expire(p)
  for _, session in pairs(state.sessions) do session_end(p, session) end
end

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
  local list, add = peer.moves()
  local up, hand, settled, down = { "settled", "ready" }, { "settled", "greeting" }, { "settled" }, { "down" }
  for _, code in ipairs { 4009, 4003, 4006, 4007, 4008, 4900, 4902, 4913, 1000, 1001 } do
    add(code == 4009 and { "settled", "ready", "greeting" } or settled, "kick", "the gateway closes with " .. code, { code = code })
  end
  for _, code in ipairs { 4001, 4010, 4013, 4014, 4914, 4915 } do
    add(settled, "kick", "the gateway closes with " .. code .. " and means it", { code = code }, { fatal = true })
  end
  add(up, "op7", "the gateway ends the connection's life (op 7, then 4009)")
  add(settled, "op9", "the gateway ends the session (op 9 false) and says no more", { resumable = false })
  add(hand, "op9", "the gateway ends the session (op 9 false) with 4903", { resumable = false, code = 4903 })
  add(settled, "op9", "the gateway refuses for good: op 9 false, then 4914", { resumable = false, code = 4914 }, { fatal = true })
  add(settled, "ask_beat", "the gateway asks for a heartbeat")
  add(hand, "abort", "the gateway drops the stream")
  add(up, "deaf", "the gateway goes deaf")
  add({ "settled", "down" }, "expire", "the session expires without a word")
  add(settled, "new_token", "the platform forgets its tokens")
  add(settled, "bury", "the session is lost for good: a RESUME of it is never answered", nil, { dead = true })
  add(settled, "bury", "the session is lost for good: a RESUME of it is closed with 1000", { code = 1000 }, { dead = true })
  local held = { held = true }
  add(down, "fault", "no HELLO ever comes", { silent_hello = true }, held)
  add(down, "fault", "no IDENTIFY is answered", { no_ready = true }, held)
  add(down, "fault", "no RESUME is answered", { no_resumed = true }, held)
  add(down, "fault", "every IDENTIFY is refused with op 9 and 4903", { op9_identify = { code = 4903 } }, held)
  add(down, "fault", "every RESUME is cut off", { close_after_resume = { code = -1 } }, held)
  add(down, "fault", "every token is refused with 4004", { close_after_resume = { code = 4004 }, close_after_identify = { code = 4004 } }, held)
  add(down, "fault", "no upgrade is answered", { silent_upgrade = true }, held)
  add(down, "fault", "the token is never answered", { silent_token = true }, held)
  add(down, "fault", "tokens are asked for too often", { token_code = { code = 100001 } }, held)
  add(down, "fault", "/gateway is called too often", { gateway_code = { status = 400, code = 100017 } }, held)
  add(down, "fault", "this machine is not on the allow-list", { gateway_code = { status = 401, code = 11298 } }, held)
  add(settled, "fault", "heartbeats are not answered any more", { no_ack = true }, held)
  -- Without the end of a connection's life: a session that expired would be missed in the quiet hours only.
  return { faults = list, options = { lifetime = 0 }, speak = { verb = "dispatch", with = { count = 1 } },
           settings = { app_id = "102000001", api = "$url", token_url = "$url/app/getAppAccessToken" } }
end

function control.prove_print(p)
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
  for _, t in pairs(state.tokens) do parts[#parts + 1] = t.current.until_ms > p:now() and "token" or "old token" end
  return peer.print(parts, faults)
end

-- The platform forgets its tokens: from now on only a new one is good.
function control.new_token()
  state.tokens = {}
end

function control.exhausted(p, a) state.exhausted_until = p:now() + a.lasts end

function control.fault(_, a) peer.add(faults, a) end
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
    if request.path:find "/app/getAppAccessToken$" and request.method == "POST" then return on_token(p, request) end
    if (request.path == "/gateway" or request.path == "/gateway/bot") and request.method == "GET" then
      return on_gateway(p, request)
    end
    p:respond(request, 404, { json = { message = "not found", code = 404 } })
  end,

  upgrade = function (p, request)
    state.stats.upgrades = state.stats.upgrades + 1
    if take "silent_upgrade" then return nil end
    local fault = take "upgrade"
    if fault or request.path ~= "/websocket/" and request.path ~= "/websocket" then
      p:respond(request, fault and (fault.status or 503) or 404, { body = fault and fault.body or "" })
      return false
    end
    return true
  end,

  opened = function (p, ws)
    state.open[ws.id] = ws
    ws.last_beat = p:now()
    local limit = p.options.beat_limit or 60000
    local function watch()
      if ws.gone then return end
      local silent = p:now() - ws.last_beat
      if silent >= limit then
        state.stats.starved = state.stats.starved + 1
        return close(ws, -1)
      end
      ws.watch = p:after(limit - silent, watch)
    end
    ws.watch = p:after(limit, watch)
    local life = p.options.lifetime or 1800000
    if life > 0 then
      ws.retirement = p:after(life, function ()
        if ws.gone then return end
        state.stats.retired = state.stats.retired + 1
        retire(p, ws)
      end)
    end
    if take "silent_hello" then return end
    state.stats.hellos = state.stats.hellos + 1
    send(ws, { op = OP.hello, d = { heartbeat_interval = p.options.heartbeat_interval or 45000 } })
  end,

  message = function (p, ws, data, text)
    state.stats.received = state.stats.received + 1
    if ws.stale then state.stats.double = state.stats.double + 1 end
    local frame = text and p:decode(data)
    if type(frame) ~= "table" then return close(ws, 4002, "bad payload") end
    local d = type(frame.d) == "table" and frame.d or {}
    if frame.op == OP.heartbeat then return on_beat(p, ws, frame.d) end
    if frame.op == OP.identify then return on_identify(p, ws, d) end
    if frame.op == OP.resume then return on_resume(p, ws, d) end
    close(ws, 4001, "bad opcode")
  end,

  closed = function (p, ws, code)
    ws.gone = true
    state.open[ws.id] = nil
    if ws.watch then p:cancel(ws.watch) end
    if ws.retirement then p:cancel(ws.retirement) end
    local key = tostring(code)
    state.stats.closes[key] = (state.stats.closes[key] or 0) + 1
    -- Whether 1000 from a client ends the session is not documented: the peer is strict.
    if ws.session and not ws.ended_by_us and (code == 1000 or code == 1001) then session_end(p, ws.session) end
    detach(p, ws)
  end,

  control = control,
}
