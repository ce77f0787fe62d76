-- The server side of Mattermost's WebSocket API, as far as a client can tell: users/me, authentication by header or
-- challenge, connections that are found again with what they missed, pings.
-- Hosted by the simulator and by `holdfast peer mattermost --port N`. What a peer may call stands in
-- runtime/peer/api.c.
--
-- Options
--   token          what clients must show; nil or false takes any
--   queue          events that are kept for a connection that went, 128
--   keep           ms for which it is kept, 300000
--   auth_within    ms in which a socket must be authenticated, 5000
--   ping           ms between the server's own WebSocket pings, 60000; 0: none
--   events_every   ms between made-up posts, 0: none
--   faults         see below; changed while running by control verbs fault and heal
--
-- Faults. A number of times where that makes sense; true is for ever.
--   http           { status =, times =, body =, headers = }   answers of the REST API
--   silent_http    never answers it
--   upgrade        { status =, times =, body =, headers = }   answers of the WebSocket upgrade
--   silent_upgrade accepts the connection and never answers the upgrade
--   silent_hello   upgrades and says nothing
--   strip_header   the Authorization header of the upgrade does not arrive
--   no_pong        pings stay unanswered
--   lose           so many events are numbered and not sent
--
-- Controls: stats, log, post, raw, kick, abort, deaf, expire, fault, heal, prove (what the prover may do with it),
-- prove_print (what tells two states of it apart).

local peer = require "holdfast.peer"

local state = {
  users = {},       -- by token: { made =, connections = {} }
  open = {},        -- by ws.id: sockets that the server believes open
  pending = {},     -- by request id: what the upgrade asked
  next_id = 1,
  log = {},
  stats = { http = 0, upgrades = 0, hellos = 0, resumed = 0, refused_resumes = 0, challenges = 0, pings = 0, bad_auth = 0,
            unauthenticated = 0, bad_requests = 0, actions = {}, most_open = 0, closes = {} },
}
local faults = {}

local function take(name) return peer.take(faults, name) end

local function note(p, kind, more)
  local entry = more or {}
  entry.kind, entry.at = kind, p:now()
  if #state.log < 20000 then state.log[#state.log + 1] = entry end
end

local function user_of(token)
  local user = state.users[token]
  if not user then
    user = { token = token, made = 0, connections = {} }
    state.users[token] = user
  end
  return user
end

local function token_of(p, header)
  local token = (header or ""):match "^Bearer (.+)$"
  if not token or (p.options.token and token ~= p.options.token) then return nil end
  return token
end

local function close(ws, code, reason)
  if ws.gone then return end
  if code == -1 then ws:abort() else ws:close(code or 1000, reason or "") end
end

-- One numbered event: into the queue, and onto the socket if there is one.
local function emit(p, c, event, data)
  local frame = { event = event, data = data, broadcast = { user_id = "" }, seq = c.seq }
  c.seq = c.seq + 1
  c.queue[#c.queue + 1] = frame
  while #c.queue > (p.options.queue or 128) do table.remove(c.queue, 1) end
  if c.ws and not c.ws.gone and not take "lose" then c.ws:send(frame) end
end

local function new_connection(p, user, ws)
  local c = { id = ("%026d"):format(state.next_id), user = user, seq = 0, queue = {}, ws = ws }
  state.next_id = state.next_id + 1
  user.connections[c.id] = c
  ws.connection = c
  if take "silent_hello" then return c end
  state.stats.hellos = state.stats.hellos + 1
  note(p, "hello", { id = c.id })
  emit(p, c, "hello", { connection_id = c.id, server_version = "10.0.0.peer" })
  return c
end

-- Found again: what is missing, and no hello. Not in the queue although it should be: another id.
local function resume(p, user, ws, id, wanted)
  local c = user.connections[id]
  if not c then return new_connection(p, user, ws) end
  if c.ws and c.ws ~= ws then close(c.ws, 1000, "") end
  p:cancel(c.expiry)
  local first = c.queue[1] and c.queue[1].seq or c.seq
  if wanted ~= c.seq and (wanted > c.seq or wanted < first) then
    state.stats.refused_resumes = state.stats.refused_resumes + 1
    user.connections[id] = nil
    return new_connection(p, user, ws)
  end
  c.ws, ws.connection = ws, c
  state.stats.resumed = state.stats.resumed + 1
  note(p, "resume", { id = id, seq = wanted })
  for _, frame in ipairs(c.queue) do
    if frame.seq >= wanted then ws:send(frame) end
  end
  return c
end

local function post(p, count)
  for _, user in pairs(state.users) do
    for _ = 1, count do
      user.made = user.made + 1
      for _, c in pairs(user.connections) do
        emit(p, c, "posted", { channel_name = "town-square", post = p:encode { id = "p" .. user.made, message = "message " .. user.made },
                               number = user.made })
      end
    end
  end
end

local function made_up(p, every)
  p:after(every, function ()
    post(p, 1)
    made_up(p, every)
  end)
end

local control = {}

local function each(fn)
  local list = {}
  for _, ws in pairs(state.open) do list[#list + 1] = ws end
  table.sort(list, function (a, b) return a.id < b.id end)
  for _, ws in ipairs(list) do fn(ws) end
  return #list
end

function control.stats()
  local s = {}
  for k, v in pairs(state.stats) do s[k] = v end
  s.open = 0
  for _ in pairs(state.open) do s.open = s.open + 1 end
  return s
end
-- Hellos and resumes with their instants.
function control.log() return state.log end
function control.post(p, a) post(p, a and a.count or 1) end
function control.raw(_, a) return each(function (ws) if a.binary then ws:send_bytes(a.text) else ws:send(a.text) end end) end
function control.kick(_, a) return each(function (ws) close(ws, a and a.code or 1000, a and a.reason) end) end
function control.abort() return each(function (ws) ws:abort() end) end
function control.deaf(_, a) return each(function (ws) ws:deaf(not (a and a.off)) end) end
-- The server starts anew: no connection is known any more.
function control.expire()
  for _, user in pairs(state.users) do user.connections = {} end
end
function control.fault(_, a) peer.add(faults, a) end
function control.heal() peer.heal(faults) end

-- Stages and words: lua/holdfast/prove/faults.lua.
function control.prove()
  local held = { held = true }
  local list, add = peer.moves()
  local up = { "settled", "ready" }
  for _, code in ipairs { 1000, 1001, 1011, 4321, 0 } do
    add({ "settled" }, "kick", "the server closes with " .. (code == 0 and "no code" or code), { code = code })
  end
  add({ "settled", "ready", "greeting" }, "abort", "the server drops the stream")
  add(up, "deaf", "the server goes deaf")
  add({ "settled", "down" }, "expire", "the server starts anew and knows no connection")
  add({ "settled" }, "raw", "text that is no JSON arrives", { text = "?" })
  add({ "settled" }, "post", "three posts arrive", { count = 3 })
  add({ "settled" }, "fault", "the next two events are lost", { lose = 2 })
  add({ "settled" }, "fault", "pings are not answered any more", { no_pong = true }, held)
  add({ "down" }, "fault", "no hello is ever said", { silent_hello = true }, held)
  add({ "down" }, "fault", "the upgrade's token does not arrive", { strip_header = true }, held)
  add({ "down" }, "fault", "no upgrade is answered", { silent_upgrade = true }, held)
  add({ "down" }, "fault", "users/me is never answered", { silent_http = true }, held)
  add({ "down" }, "fault", "users/me is answered with 429 once", { http = { status = 429, times = 1 } })
  add({ "down" }, "fault", "users/me is answered with 403 twice", { http = { status = 403, times = 2 } })
  add({ "down" }, "fault", "the token is refused", { http = { status = 401 } }, { fatal = true })
  return { faults = list, speak = { verb = "post", with = { count = 1 } } }
end

function control.prove_print()
  local parts = {}
  for _, ws in pairs(state.open) do parts[#parts + 1] = (ws.user and "known" or "open") .. (ws.connection and " held" or "") end
  return peer.print(parts, faults)
end

local function on_request(p, ws, r)
  local seq = r.seq
  if type(seq) ~= "number" or seq <= 0 or type(r.action) ~= "string" then
    state.stats.bad_requests = state.stats.bad_requests + 1
    return ws:send { status = "FAIL", error = { id = "api.web_socket_router.bad_seq.app_error", status_code = 400 }, seq_reply = seq or 0 }
  end
  if r.action == "authentication_challenge" then
    state.stats.challenges = state.stats.challenges + 1
    if ws.user then return end
    local token = type(r.data) == "table" and token_of(p, "Bearer " .. tostring(r.data.token))
    if not token then
      state.stats.bad_auth = state.stats.bad_auth + 1
      return close(ws, -1)
    end
    ws.user = user_of(token)
    new_connection(p, ws.user, ws)
    return ws:send { status = "OK", seq_reply = seq }
  end
  if not ws.user then
    return ws:send { status = "FAIL", error = { id = "api.web_socket_router.not_authenticated.app_error", status_code = 401 }, seq_reply = seq }
  end
  if r.action == "ping" then
    state.stats.pings = state.stats.pings + 1
    if faults.no_pong then return end
    return ws:send { status = "OK", data = { text = "pong", version = "10.0.0" }, seq_reply = seq }
  end
  state.stats.actions[r.action] = (state.stats.actions[r.action] or 0) + 1
  ws:send { status = "OK", seq_reply = seq }
end

return {
  start = function (p, options)
    peer.add(faults, options.faults)
    if (options.events_every or 0) > 0 then made_up(p, options.events_every) end
  end,

  http = function (p, request)
    state.stats.http = state.stats.http + 1
    if take "silent_http" then return end
    local fault = take "http"
    if fault then return peer.answer(p, request, fault) end
    if request.path ~= "/api/v4/users/me" then
      return p:respond(request, 404, { json = { id = "api.context.404.app_error", status_code = 404 } })
    end
    if not token_of(p, request.headers.authorization) then
      return p:respond(request, 401, { json = { id = "api.context.session_expired.app_error", status_code = 401 } })
    end
    p:respond(request, 200, { json = { id = "u1", username = "bot", is_bot = true } })
  end,

  upgrade = function (p, request)
    state.stats.upgrades = state.stats.upgrades + 1
    if take "silent_upgrade" then return nil end
    local fault = take "upgrade"
    if fault then
      peer.answer(p, request, fault)
      return false
    end
    if request.path ~= "/api/v4/websocket" then
      p:respond(request, 404, { body = "" })
      return false
    end
    state.pending[request.id] = request
    return true
  end,

  opened = function (p, ws)
    local request = state.pending[ws.id]
    state.pending[ws.id] = nil
    state.open[ws.id] = ws
    local open = 0
    for _ in pairs(state.open) do open = open + 1 end
    state.stats.most_open = math.max(state.stats.most_open, open)
    local token = not faults.strip_header and token_of(p, request.headers.authorization)
    if token then
      ws.user = user_of(token)
      local id, seq = request.query.connection_id, tonumber(request.query.sequence_number or "")
      if id and id ~= "" and seq then resume(p, ws.user, ws, id, seq) else new_connection(p, ws.user, ws) end
    else
      p:after(p.options.auth_within or 5000, function ()
        if ws.user or ws.gone then return end
        state.stats.unauthenticated = state.stats.unauthenticated + 1
        close(ws, -1)
      end)
    end
    local every = p.options.ping == nil and 60000 or p.options.ping
    local function ping()
      if ws.gone then return end
      ws:ping()
      p:after(every, ping)
    end
    if every > 0 then p:after(every, ping) end
  end,

  message = function (p, ws, data, text)
    if #data > 8192 then return close(ws, -1) end
    local r = text and p:decode(data)
    if type(r) ~= "table" then return close(ws, -1) end
    on_request(p, ws, r)
  end,

  closed = function (p, ws, code)
    ws.gone = true
    state.open[ws.id] = nil
    state.stats.closes[tostring(code)] = (state.stats.closes[tostring(code)] or 0) + 1
    local c = ws.connection
    if not c or c.ws ~= ws then return end
    c.ws = nil
    c.expiry = p:after(p.options.keep or 300000, function ()
      if not c.ws then c.user.connections[c.id] = nil end
    end)
  end,

  control = control,
}
