-- The server side of WuKongIM (WKProto over WebSocket) behind a dmwork-style REST server, as far as a bot can tell:
-- register with its side effect, CONNECT alone and in time, kicks, acknowledgements and retries, idle limits, and
-- faults on demand. Hosted by the simulator and by `holdfast peer wukongim --port N`. What a peer may call stands in
-- runtime/peer/api.c and wkproto.c.
--
-- Options
--   line             "2.x" (default), "1.2", "main": which server this is, see LINES
--   latest           newest protocol version; default: the line's
--   plain            true: encryption is off
--   bot_tokens       { token = uid }; default: any token is a bot, whose uid is made of it
--   ws_url           what register says; default: where the peer itself is reached
--   events_every     ms between made-up messages to each open session, 0: none
--   first_number     of the made-up messages, 1: another one tells a peer that was started again
--   retry            { after = 60000, scan = 30000, times = 5 } of unacknowledged messages
--   faults           see `faults` below; changed while running by control verbs fault and heal
--
-- Controls: stats, log, sent, message, repeat_message, kick, close, drop, blank, update_tokens, forget, rival, raw, deaf, fault, heal,
-- prove (what the prover may do with it), prove_print (what tells two states of it apart).

-- How the lines differ: what a bad token gets, what a second session does to the first.
local peer = require "holdfast.peer"

local LINES = {
  ["1.2"] = { latest = 3, auth_fail = "connack", kick = "packet", update_kicks = false, frames = false },
  ["2.x"] = { latest = 5, auth_fail = "silent", kick = "packet", update_kicks = true, frames = false },
  main    = { latest = 6, auth_fail = "connack", kick = "close", update_kicks = false, frames = true },
}
local OTHER_DEVICE, TOKEN_UPDATED = "login in other device", "账号在其他设备上登录"
local MINUTE = 60000

local state = {
  users = {},   -- by uid: { uid, bot_token, token = what CONNECT must show or nil, seq = {}, made }
  open = {},    -- by ws.id: sockets that the server believes open
  log = {},     -- { kind = "register" | "connect" | "kick" | "heartbeat", at, uid, ... }
  next_id = 1,
  stats = { http = 0, registers = 0, register_kicked = 0, heartbeats = 0, upgrades = 0, connects = 0, accepted = 0,
            refused = 0, silent = 0, not_alone = 0, early = 0, late_connect = 0, bad_packets = 0, faults = 0,
            kicks = {}, pings = 0, sends = 0, messages = 0, missed = 0, acks = 0, acks_double = 0, acks_unknown = 0,
            ack_messages = 0, resent = 0, given_up = 0, idle_closed = 0, closes = {}, most_open = 0 },
}

-- Faults. A number of times where that makes sense; true is for ever.
--   http            { status =, times =, body =, headers =, path = }   answers of the REST server; path: a pattern
--   silent_http     never answers HTTP
--   register_delay  ms before register is answered; its kick happens on arrival
--   upgrade         { status =, times =, body =, headers = }           answers of the WebSocket upgrade
--   silent_upgrade  accepts the connection and never answers the upgrade
--   auth            "silent" or "connack": refuses every CONNECT so, whatever its token
--   connack         { code =, times =, tail = true }                   this reason; tail: node_id although no version is named
--   stall           takes CONNECT and says nothing, for ever
--   no_pong         PINGs stay unanswered
--   kick_after      { ms =, times =, reason =, close = ms }            each accepted session is kicked
--   close_after     ms: each accepted session is closed without a packet
--   split           messages are cut into WebSocket messages of so many bytes
--   time_diff       ms in CONNACK
local faults = {}

local function take(name) return peer.take(faults, name) end

local function line_of(p) return LINES[p.options.line or "2.x"] or error "no such line" end

local function note(p, kind, fields)
  fields.kind, fields.at = kind, p:now()
  if #state.log < 20000 then state.log[#state.log + 1] = fields end
end

-- ---- writing ---------------------------------------------------------------------------------------------

local function write(ws, bytes)
  if ws.gone or not bytes then return end
  local size = faults.split or #bytes
  for at = 1, #bytes, size do ws:send_bytes(bytes:sub(at, at + size - 1)) end
end

local function encode(ws, packet)
  local bytes, why = ws.wk:encode(packet)
  if not bytes then error(why) end
  return bytes
end

local function send(ws, packet)
  if not ws.gone then write(ws, encode(ws, packet)) end
end

-- 2.x and 1.2 end the TCP connection without a close frame.
local function close(p, ws)
  if ws.gone then return end
  if line_of(p).frames then ws:close(1000, "") else ws:abort() end
end

local function count(list, key) list[key] = (list[key] or 0) + 1 end

-- A session ends: with the packet, and the close some time later; what still comes from it means nothing.
local function kick(p, ws, reason, close_ms, kind)
  if ws.gone or ws.kicked then return end
  ws.kicked = true
  ws.session = nil
  count(state.stats.kicks, kind or reason)
  note(p, "kick", { uid = ws.uid, reason = kind or reason })
  if reason then send(ws, { packet = "disconnect", reason_code = 12, reason = reason }) end
  p:after(close_ms or 2000, function () close(p, ws) end)
end

local function sockets(uid)
  local list = {}
  for _, ws in pairs(state.open) do
    if not uid or ws.uid == uid then list[#list + 1] = ws end
  end
  table.sort(list, function (a, b) return a.id < b.id end)
  return list
end

local function sessions(uid)
  local list = {}
  for _, ws in ipairs(sockets(uid)) do
    if ws.session then list[#list + 1] = ws end
  end
  return list
end

-- ---- messages --------------------------------------------------------------------------------------------

local function retry_of(p)
  local r = p.options.retry or {}
  return { after = r.after or MINUTE, scan = r.scan or 30000, times = r.times or 5 }
end

local function message_to(p, user, options)
  options = options or {}
  local channel = options.channel or "u_alice"
  -- A message has one number wherever it is named: `id` is the one that a sender's answer said.
  local id = options.id or "1906561204" .. string.format("%09d", state.next_id)
  state.next_id = state.next_id + 1
  user.seq[channel] = (user.seq[channel] or 0) + 1
  user.made = user.made + 1
  state.stats.messages = state.stats.messages + 1
  return {
    packet = "recv", flags = options.flags or {}, setting = options.setting or 0, from_uid = options.from or "u_alice",
    channel_id = channel, channel_type = options.channel_type or 1, client_msg_no = "c" .. id,
    message_id = id, message_seq = user.seq[channel], timestamp = math.floor(p:wall() / 1000),
    stream_no = options.stream and "" or nil, stream_id = options.stream and id or nil,
    payload = options.payload or { type = 1, content = "message " .. user.made, number = user.made },
  }
end

local function keep(p, ws, packet)
  if packet.flags.no_persist then return end
  ws.unacked[packet.message_id] = { packet = packet, at = p:now(), tries = 0 }
end

local function deliver(p, user, options)
  local live = sessions(user.uid)
  local packet = message_to(p, user, options)
  -- Nobody there: nothing is pushed later, a client fetches it over HTTP.
  if #live == 0 then state.stats.missed = state.stats.missed + 1 end
  for _, ws in ipairs(live) do
    keep(p, ws, packet)
    send(ws, packet)
  end
end

local function scan(p, ws)
  if ws.gone or ws.kicked then return end
  local r = retry_of(p)
  local ids = {}
  for id in pairs(ws.unacked) do ids[#ids + 1] = id end
  table.sort(ids)
  for _, id in ipairs(ids) do
    local entry = ws.unacked[id]
    if p:now() - entry.at >= r.after then
      entry.at, entry.tries = p:now(), entry.tries + 1
      if entry.tries > r.times then
        ws.unacked[id] = nil
        state.stats.given_up = state.stats.given_up + 1
      else
        state.stats.resent = state.stats.resent + 1
        send(ws, entry.packet)
      end
    end
  end
  p:after(r.scan, function () scan(p, ws) end)
end

local function events_start(p, ws, user)
  local every = p.options.events_every or 0
  if every <= 0 then return end
  local function tick()
    if ws.gone or ws.kicked then return end
    deliver(p, user)
    p:after(every, tick)
  end
  p:after(every, tick)
end

-- ---- CONNECT ---------------------------------------------------------------------------------------------

local function refuse(p, ws, code, how)
  state.stats.refused = state.stats.refused + 1
  if how == "silent" then
    state.stats.silent = state.stats.silent + 1
    -- Checked every half of 4 s of idleness: closed 4 to 6 s after CONNECT, without a byte.
    return p:after(4000 + math.floor(p:random() * 2000), function () close(p, ws) end)
  end
  if how == "tail" then
    ws:send_bytes("\32\21" .. ("\0"):rep(8) .. string.char(code) .. ("\0"):rep(12))
  else
    send(ws, { packet = "connack", reason_code = code })
  end
  p:after(10, function () close(p, ws) end)
end

local function accept(p, ws, user, packet)
  local line = line_of(p)
  for _, old in ipairs(sessions(user.uid)) do
    if old.device_flag == packet.device_flag then
      if line.kick == "close" then
        kick(p, old, nil, 1, "closed")
      elseif old.device_id == packet.device_id then
        kick(p, old, nil, 2000, "same device")
      else
        kick(p, old, OTHER_DEVICE, 2000)
      end
    end
  end
  ws.session, ws.unacked, ws.device_id, ws.device_flag = user, {}, packet.device_id, packet.device_flag
  state.stats.accepted = state.stats.accepted + 1
  state.stats.most_open = math.max(state.stats.most_open, #sessions(user.uid))
  send(ws, { packet = "connack", reason_code = 1, time_diff = faults.time_diff or 37, node_id = "1001" })
  p:after(retry_of(p).scan, function () scan(p, ws) end)
  events_start(p, ws, user)
  local k = take "kick_after"
  if k then p:after(k.ms, function () kick(p, ws, k.reason or OTHER_DEVICE, k.close) end) end
  if faults.close_after then p:after(faults.close_after, function () close(p, ws) end) end
end

local function on_connect(p, ws, packet)
  local line = line_of(p)
  local user = state.users[packet.uid]
  ws.uid = packet.uid
  state.stats.connects = state.stats.connects + 1
  note(p, "connect", { uid = packet.uid, device = packet.device_id, version = packet.version, ws = ws.id })
  if take "stall" then return end
  if packet.uid == "" or packet.uid:find "[@#&]" then return close(p, ws) end
  if faults.auth then return refuse(p, ws, 2, faults.auth) end
  local told = take "connack"
  if told then return refuse(p, ws, told.code, told.tail and "tail" or "connack") end
  if not user or not user.token or user.token ~= packet.token then return refuse(p, ws, 2, line.auth_fail) end
  accept(p, ws, user, packet)
end

local function on_ack(ws, packet)
  if not ws.session then return end
  local stats = state.stats
  stats.acks = stats.acks + 1
  if ws.unacked[packet.message_id] then
    ws.unacked[packet.message_id] = nil
    ws.acked = ws.acked or {}
    ws.acked[packet.message_id] = true
  elseif ws.acked and ws.acked[packet.message_id] then
    stats.acks_double = stats.acks_double + 1
  elseif not (packet.flags and packet.flags.no_persist) then
    stats.acks_unknown = stats.acks_unknown + 1
  end
end

local function on_packet(p, ws, packet)
  if packet.packet == "ping" then
    state.stats.pings = state.stats.pings + 1
    if not faults.no_pong then send(ws, { packet = "pong" }) end
  elseif packet.packet == "recvack" then
    on_ack(ws, packet)
  elseif packet.packet == "send" then
    state.stats.sends = state.stats.sends + 1
    state.last_send = packet
    send(ws, { packet = "sendack", message_id = "1906561204" .. string.format("%09d", state.next_id), message_seq = 1,
               client_seq = packet.client_seq or 0, reason_code = packet.fault and 9 or 1 })
    state.next_id = state.next_id + 1
  end
end

-- ---- controls --------------------------------------------------------------------------------------------

local control = {}

function control.stats()
  local s = {}
  for k, v in pairs(state.stats) do s[k] = v end
  s.open, s.sessions, s.unacked = #sockets(), #sessions(), 0
  for _, ws in ipairs(sessions()) do
    for _ in pairs(ws.unacked) do s.unacked = s.unacked + 1 end
    s.faults = s.faults + ws.wk:faults()
  end
  s.last_send = state.last_send
  return s
end

-- Every register, CONNECT, kick and heartbeat so far, in order, with its instant.
function control.log() return state.log end

-- How many messages were made for each bot so far.
function control.sent()
  local out = {}
  for uid, user in pairs(state.users) do out[uid] = user.made end
  return out
end

local function users(a)
  local list = {}
  for _, user in pairs(state.users) do
    if not a or not a.uid or user.uid == a.uid then list[#list + 1] = user end
  end
  table.sort(list, function (x, y) return x.uid < y.uid end)
  return list
end

-- { uid =, count =, joined = true: all in one WebSocket message, flags =, payload =, channel = ... }
function control.message(p, a)
  a = a or {}
  local n = 0
  for _, user in ipairs(users(a)) do
    local bytes = ""
    for _ = 1, a.count or 1 do
      n = n + 1
      local ws = a.joined and sessions(user.uid)[1]
      if ws then
        local packet = message_to(p, user, a)
        keep(p, ws, packet)
        bytes = bytes .. encode(ws, packet)
      else
        deliver(p, user, a)
      end
    end
    if bytes ~= "" then write(sessions(user.uid)[1], bytes) end
  end
  return n
end

-- A message that was sent before, as it was: { packet = }.
function control.repeat_message(p, a)
  for _, ws in ipairs(sessions()) do
    local packet = {}
    for k, v in pairs(a.packet) do packet[k] = v end
    packet.flags = packet.flags or {}
    keep(p, ws, packet)
    send(ws, packet)
  end
end

local function each(a, fn)
  local list = sessions(a and a.uid)
  for _, ws in ipairs(list) do fn(ws) end
  return #list
end

-- { uid =, reason = , close = ms }; without a reason as if another device had logged in.
function control.kick(p, a)
  return each(a, function (ws) kick(p, ws, a and a.reason or OTHER_DEVICE, a and a.close) end)
end

-- Every socket, greeted or not, without a word.
function control.drop(_, a)
  for _, ws in ipairs(sockets(a and a.uid)) do ws:abort() end
end

-- Without a packet.
function control.close(p, a) return each(a, function (ws) close(p, ws) end) end

-- /user/device_quit: the token is blanked, and its sessions are kicked with an empty reason.
function control.blank(p, a)
  for _, user in ipairs(users(a)) do user.token = nil end
  return each(a, function (ws) kick(p, ws, "") end)
end

-- The REST server starts: it stores every bot's token again, which kicks every session once.
function control.update_tokens(p, a)
  local n = 0
  for i, ws in ipairs(sessions()) do
    n = n + 1
    p:after(math.floor((i - 1) * (a and a.within or 1000) / 200), function () kick(p, ws, TOKEN_UPDATED, 10000) end)
  end
  return n
end

-- The IM server starts again: no session, no token.
function control.forget(p, a)
  for _, user in ipairs(users(a)) do user.token = nil end
  for _, ws in ipairs(sockets(a and a.uid)) do ws:abort() end
end

-- Another installation with the same token: it comes every `every` ms, while it lasts, and takes the session.
function control.rival(p, a)
  local until_ms = p:now() + (a and a.lasts or 30 * MINUTE)
  local function come()
    if p:now() >= until_ms then return end
    each(a, function (ws)
      if line_of(p).kick == "close" then kick(p, ws, nil, 1, "closed") else kick(p, ws, OTHER_DEVICE, 2000) end
    end)
    p:after(a and a.every or 3000, come)
  end
  come()
end

-- Bytes as they are, for what no server should send.
function control.raw(_, a)
  local bytes = a.hex:gsub("%x%x", function (h) return string.char(tonumber(h, 16)) end)
  local n = 0
  for _, ws in ipairs(sockets(a.uid)) do
    n = n + 1
    write(ws, bytes)
  end
  return n
end

function control.deaf(_, a)
  return each(a, function (ws) ws:deaf(not (a and a.off)) end)
end

function control.fault(_, a) peer.add(faults, a) end
function control.heal() peer.heal(faults) end

-- Stages and words: lua/holdfast/prove/faults.lua.
function control.prove()
  local held, fatal = { held = true }, { fatal = true }
  local up, hand, settled, down = { "settled", "ready" }, { "settled", "greeting" }, { "settled" }, { "down" }
  local list, add = peer.moves()
  local function fault(say, with, more) add(down, "fault", say, with, more) end
  add(up, "kick", "another device takes the session")
  add(settled, "rival", "another installation takes the session every three seconds for ten minutes", { lasts = 600000, every = 3000 })
  add(settled, "update_tokens", "the REST server starts and stores every token again")
  add(settled, "kick", "an operator kicks", { reason = "server kick" })
  add(settled, "blank", "the token is blanked")
  add(settled, "forget", "the server starts again and knows no token")
  add(up, "close", "the server closes without a packet")
  add(hand, "drop", "the server drops the stream")
  add(up, "deaf", "the server goes deaf")
  add(settled, "raw", "a packet comes that is none", { hex = "50ffffffff01" })
  add(settled, "raw", "a packet comes that nobody knows", { hex = "d003010203" })
  add(settled, "fault", "PINGs are not answered any more", { no_pong = true }, held)
  fault("no CONNECT is answered", { stall = true }, held)
  fault("one CONNECT is not answered", { stall = 1 })
  fault("every CONNECT is refused in silence", { auth = "silent" }, held)
  fault("every CONNECT is refused", { auth = "connack" }, held)
  for _, code in ipairs { 0, 6, 12, 14, 15, 17, 19, 22 } do
    fault("one CONNACK says " .. code, { connack = { code = code, times = 1 } })
  end
  fault("CONNACK says that the version is too old", { connack = { code = 27, times = 1 } }, fatal)
  fault("each session is kicked three seconds after it was accepted", { kick_after = { ms = 3000 } }, held)
  fault("each session is closed after two seconds", { close_after = 2000 }, held)
  fault("no upgrade is answered", { silent_upgrade = true }, held)
  fault("the REST server never answers", { silent_http = true }, held)
  fault("register is answered with 500", { http = { status = 500, path = "register" } }, held)
  fault("register is answered with 429 once", { http = { status = 429, times = 1, path = "register" } })
  fault("register is answered with 401 once", { http = { status = 401, times = 1, path = "register" } })
  fault("register fails within", { http = { status = 400, times = 1, path = "register", body = '{"msg":"获取IM Token失败","status":400}' } })
  fault("register knows no such bot", { http = { status = 400, times = 1, path = "register", body = '{"msg":"无效的bot token","status":400}' } }, fatal)
  fault("register is answered with 403", { http = { status = 403, times = 1, path = "register" } }, fatal)
  return { faults = list, speak = { verb = "message", with = { count = 1 } }, settings = { api = "$url" } }
end

-- What tells two states of this server apart.
function control.prove_print()
  local parts, count_of = {}, {}
  local function add(part)
    count_of[part] = (count_of[part] or 0) + 1
    if count_of[part] <= 2 then parts[#parts + 1] = part end
  end
  for _, user in pairs(state.users) do add(user.token and "known" or "unknown") end
  for _, ws in pairs(state.open) do
    add((ws.session and "session" or ws.uid and "asked" or "socket") .. (ws.kicked and " kicked" or "")
      .. (ws.unacked and next(ws.unacked) and " owed" or ""))
  end
  return peer.print(parts, faults)
end

-- ---- HTTP --------------------------------------------------------------------------------------------------

local function user_of(p, token)
  local known = p.options.bot_tokens
  local uid
  if known then uid = known[token] else uid = "bot_" .. token:gsub("[^%w]", ""):sub(-16) end
  if not uid then return nil end
  local user = state.users[uid]
  if not user then
    user = { uid = uid, bot_token = token, seq = {}, made = (p.options.first_number or 1) - 1 }
    state.users[uid] = user
  end
  return user
end

local function register(p, request, user)
  state.stats.registers = state.stats.registers + 1
  -- Storing the token kicks what lives under it: the point that everything here is about.
  user.token = user.bot_token
  local live = sessions(user.uid)
  note(p, "register", { uid = user.uid, live = #live })
  if line_of(p).update_kicks then
    for _, ws in ipairs(live) do
      state.stats.register_kicked = state.stats.register_kicked + 1
      kick(p, ws, TOKEN_UPDATED, 10000)
    end
  end
  local function answer()
    p:respond(request, 200, { json = {
      robot_id = user.uid, name = "bot", im_token = user.token or user.bot_token, api_url = p.base_url,
      ws_url = p.options.ws_url or p.base_url:gsub("^http", "ws") .. "/ws", owner_uid = "u_owner", owner_channel_id = "u_owner",
    } })
  end
  if faults.register_delay then p:after(faults.register_delay, answer) else answer() end
end

return {
  start = function (p, options)
    line_of(p)
    peer.add(faults, options.faults)
  end,

  http = function (p, request)
    state.stats.http = state.stats.http + 1
    if take "silent_http" then return end
    local f = faults.http
    if f and (not f.path or request.path:find(f.path)) then f = take "http" else f = nil end
    if f then return p:respond(request, f.status or 500, { body = f.body or "", headers = f.headers }) end
    local token = (request.headers.authorization or ""):match "^Bearer (.+)$"
    local user = token and user_of(p, token)
    if request.method ~= "POST" then return p:respond(request, 405, { json = { msg = "method not allowed", status = 405 } }) end
    if request.path:find "/v1/bot/register$" then
      if not user then return p:respond(request, 400, { json = { msg = "无效的bot token", status = 400 } }) end
      return register(p, request, user)
    end
    if not user then return p:respond(request, 401, { json = { msg = "unauthorized", status = 401 } }) end
    if request.path:find "/v1/bot/heartbeat$" then
      state.stats.heartbeats = state.stats.heartbeats + 1
      return p:respond(request, 200, { json = { status = 200 } })
    end
    p:respond(request, 404, { json = { msg = "not found", status = 404 } })
  end,

  upgrade = function (p, request)
    state.stats.upgrades = state.stats.upgrades + 1
    if take "silent_upgrade" then return nil end
    local f = take "upgrade"
    if f then
      p:respond(request, f.status or 500, { body = f.body or "", headers = f.headers })
      return false
    end
    return true
  end,

  opened = function (p, ws)
    state.open[ws.id] = ws
    ws.wk = p:wkproto { latest = p.options.latest or line_of(p).latest, plain = p.options.plain }
    ws.heard = p:now()
    -- 2 s without a byte before CONNECT, 3 min after it; the latter is looked at every half period.
    p:after(2000, function ()
      if ws.gone or ws.uid then return end
      state.stats.late_connect = state.stats.late_connect + 1
      close(p, ws)
    end)
    local function idle()
      if ws.gone then return end
      if p:now() - ws.heard >= 3 * MINUTE then
        state.stats.idle_closed = state.stats.idle_closed + 1
        return close(p, ws)
      end
      p:after(1.5 * MINUTE, idle)
    end
    p:after(1.5 * MINUTE, idle)
  end,

  message = function (p, ws, data)
    ws.heard = p:now()
    local before = ws.session ~= nil
    local asked = ws.uid ~= nil
    local packets, why = ws.wk:decode(data)
    if why then
      state.stats.bad_packets = state.stats.bad_packets + 1
      return close(p, ws)
    end
    if ws.kicked then return end
    if not asked then
      -- The server looks at the type of the last packet in its buffer: anything beside CONNECT ends it.
      if #packets ~= 1 or packets[1].packet ~= "connect" then
        state.stats.not_alone = state.stats.not_alone + 1
        return close(p, ws)
      end
      return on_connect(p, ws, packets[1])
    end
    if not before then
      state.stats.early = state.stats.early + 1
      return close(p, ws)
    end
    local acks = 0
    for _, packet in ipairs(packets) do
      if packet.packet == "recvack" then acks = acks + 1 end
      on_packet(p, ws, packet)
    end
    if acks > 0 then state.stats.ack_messages = state.stats.ack_messages + 1 end
  end,

  closed = function (p, ws, code)
    ws.gone, ws.session = true, nil
    state.open[ws.id] = nil
    count(state.stats.closes, tostring(code))
  end,

  control = control,
}
