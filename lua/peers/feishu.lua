-- The server side of Feishu's long connection, as far as a client can tell: the endpoint call, tickets that are
-- good for one dial, frames in protobuf by a codec of its own, pushes that come again until they are
-- acknowledged, connections that share the events, and faults on demand. Hosted by the simulator and by
-- `holdfast peer feishu --port N`. What a peer may call stands in runtime/peer/api.c.
--
-- Options
--   app_id, app_secret  what clients must show; nil or false takes any
--   config              the ClientConfig of the endpoint; { ReconnectCount = -1, ReconnectInterval = 120,
--                       ReconnectNonce = 30, PingInterval = 120 }
--   pong_config         the one in pongs, likewise; false: pongs have no payload
--   url_base            "wss://..." of the addresses handed out; default: where the peer itself is reached
--   service             the service_id, 33554678
--   connections         how many one app may have, 50
--   ticket_life         ms, 30000
--   push_again          ms after a push's first sending at which it is sent again, { 15000, 300000, 3600000, 21600000 }
--   events_every        ms between made-up events, 0: none
--   first_number        of the made-up events, 1
--   parts               so many frames carry each made-up event, 1
--   faults              see `faults` below; changed while running by control verbs fault and heal
--
-- Controls: stats, posts, acks, pings, unacked, push, again, frame, raw, bye, abort, deaf, server_ping, pong, fault, heal,
-- prove (what the prover may do with it), prove_print (what tells two states of it apart).

local peer = require "holdfast.peer"

local state = {
  open = {},        -- by ws.id: sockets that the server believes open
  tickets = {},     -- by ticket: { by }, the instant until which it is good
  services = {},    -- by request.id: what the address said
  pushes = {},      -- by message_id: { push, ws, frames }
  events = {},      -- in order: { number, event_id, payload, acked, tries, first_at }
  next_ticket = 1, next_message = 1, number = 0,
  posts = {}, acks = {}, pings = {},
  stats = { http = 0, upgrades = 0, opened = 0, pings = 0, pongs = 0, acks = 0, acks_again = 0, acks_unknown = 0,
            acks_wrong = 0, acks_failed = 0, acks_late = 0, wrong = 0, storms = 0, pushed = 0, pushed_again = 0,
            texts = 0, refused = 0, most_open = 0, closes = {} },
}

-- Faults. A number of times where that makes sense; true is for ever.
--   http            { status =, times =, body =, headers = }   answers of the endpoint
--   silent_http     never answers it
--   code            { code =, msg =, times =, data = true | "null" }   an error of the endpoint; data: {} or null beside it
--   answer          { text =, times = }   the body of a 200
--   upgrade         { status =, times =, headers = }           answers of the WebSocket upgrade
--   silent_upgrade  accepts the connection and never answers the upgrade
--   silent          never says anything on a socket, whatever it hears
--   no_pong         pings stay unanswered
--   pong_delay      ms before a pong
--   pong_payload    the text of a pong's payload, whatever it is
--   close_after     ms after which each new socket is closed
--   no_push         events are counted and not sent
local faults = {}

local function take(name) return peer.take(faults, name) end

-- ---- protobuf: pbbp2.Frame. 64-bit numbers stay bytes, as they came, in SeqID and LogID. -----------------------

local function varint(n)
  if n < 0 then return nil end
  local out = {}
  repeat
    local low = n % 128
    n = (n - low) / 128
    out[#out + 1] = string.char(n > 0 and low + 128 or low)
  until n == 0
  return table.concat(out)
end

local function field(number, bytes) return varint(number * 8 + 2) .. varint(#bytes) .. bytes end

local function wide(value) return type(value) == "string" and value or varint(value or 0) end

-- f: SeqID, LogID (numbers, or a varint's bytes), service, method, headers (a list of pairs), payload_encoding,
-- payload_type, payload, LogIDNew, more (bytes at the end)
local function encode(f)
  local out = { "\8", wide(f.SeqID), "\16", wide(f.LogID), "\24", varint(f.service or 0), "\32", varint(f.method or 0) }
  for _, h in ipairs(f.headers or {}) do out[#out + 1] = field(5, field(1, h[1]) .. field(2, h[2])) end
  local function optional(number, name)
    if f[name] then out[#out + 1] = field(number, f[name]) end
  end
  optional(6, "payload_encoding")
  optional(7, "payload_type")
  optional(8, "payload")
  optional(9, "LogIDNew")
  return table.concat(out) .. (f.more or "")
end

-- The varint at `at`, its bytes, and the place behind it; nil when there is none.
local function read_varint(text, at)
  local n, factor = 0, 1
  for i = at, math.min(at + 9, #text) do
    local byte = text:byte(i)
    n = n + byte % 128 * factor
    if byte < 128 then return n, text:sub(at, i), i + 1 end
    factor = factor * 128
  end
end

-- Each field in order: fn(number, value, bytes). False for what is no message.
local function fields(text, fn)
  local at = 1
  while at <= #text do
    local tag, _, next_at = read_varint(text, at)
    if not tag then return false end
    local wire = tag % 8
    local n, bytes, behind = read_varint(text, next_at)
    if wire == 0 then
      if not n then return false end
      fn((tag - wire) / 8, n, bytes)
    elseif wire == 2 then
      if not n or behind + n - 1 > #text then return false end
      bytes = text:sub(behind, behind + n - 1)
      behind = behind + n
      fn((tag - wire) / 8, nil, bytes)
    else
      return false
    end
    at = behind
  end
  return true
end

local NAMES = { [6] = "payload_encoding", [7] = "payload_type", [8] = "payload", [9] = "LogIDNew" }

local function decode(text)
  local f = { headers = {}, by = {} }
  local good = fields(text, function (number, n, bytes)
    if number == 1 then f.SeqID = bytes
    elseif number == 2 then f.LogID = bytes
    elseif number == 3 then f.service = n
    elseif number == 4 then f.method = n
    elseif number == 5 then
      local key, value = "", ""
      fields(bytes, function (k, _, b)
        if k == 1 then key = b elseif k == 2 then value = b end
      end)
      f.headers[#f.headers + 1] = { key, value }
      f.by[key] = value
    elseif NAMES[number] then f[NAMES[number]] = bytes
    end
  end)
  -- The SDKs' decoders reject a frame without the four required fields.
  if not good or not (f.SeqID and f.LogID and f.service and f.method) then return nil end
  return f
end

local function hex(text) return (text:gsub(".", function (c) return string.format("%02x", c:byte()) end)) end
local function unhex(text) return (text:gsub("%x%x", function (h) return string.char(tonumber(h, 16)) end)) end

-- ---- pushes ------------------------------------------------------------------------------------------------------

local function send(ws, bytes)
  if not ws.gone and not ws.mute then ws:send_bytes(bytes) end
end

local function open_sockets()
  local list = {}
  for _, ws in pairs(state.open) do list[#list + 1] = ws end
  table.sort(list, function (a, b) return a.id < b.id end)
  return list
end

-- One of the connections gets it, all of them equal: a ghost as well.
local function pick(p)
  local list = {}
  for _, ws in ipairs(open_sockets()) do
    if ws.pinged then list[#list + 1] = ws end
  end
  if #list == 0 then return nil end
  return list[math.floor(p:random() * #list) + 1]
end

local function message_id()
  local n = state.next_message
  state.next_message = n + 1
  return string.format("%08x-push-%d", n * 2654435 % 4294967296, n)
end

-- a: parts, order (a list of indices), SeqID, LogID, headers (more pairs), more, and optional fields
local function frames_of(p, ws, event, id, a)
  local parts, frames = a.parts or 1, {}
  local size = math.ceil(#event.payload / parts)
  for index = 0, parts - 1 do
    local headers = { { "type", a.type or "event" }, { "message_id", id }, { "sum", tostring(parts) },
                      { "seq", tostring(index) }, { "trace_id", event.event_id },
                      { "timestamp", tostring(p:wall()) }, { "instance_id", "i-" .. ws.id } }
    for _, h in ipairs(a.headers or {}) do headers[#headers + 1] = h end
    local payload = event.payload:sub(index * size + 1, (index + 1) * size)
    if a.empty == index then payload = "" end
    frames[index + 1] = {
      SeqID = a.SeqID and unhex(a.SeqID) or event.number, LogID = a.LogID and unhex(a.LogID) or p:wall() + index,
      service = ws.service, method = 1, headers = headers, payload = payload,
      payload_encoding = a.payload_encoding, payload_type = a.payload_type, LogIDNew = a.LogIDNew,
      more = a.more and unhex(a.more) or nil,
    }
  end
  return frames
end

local push_again

local function push(p, event, a)
  local ws = pick(p)
  if not ws or faults.no_push then return false end
  local id = message_id()
  local frames = frames_of(p, ws, event, id, a or event.how or {})
  event.tries = event.tries + 1
  event.ws = ws
  state.stats.pushed = state.stats.pushed + 1
  if event.tries > 1 then state.stats.pushed_again = state.stats.pushed_again + 1 end
  state.pushes[id] = { event = event, ws = ws, frames = frames, at = p:now() }
  local order = (a or event.how or {}).order
  for i = 1, order and #order or #frames do send(ws, encode(frames[order and order[i] + 1 or i])) end
  return id
end

push_again = function (p, event)
  local schedule = p.options.push_again or { 15000, 300000, 3600000, 21600000 }
  local due = schedule[event.repeats + 1]
  if not due then return end
  event.timer = p:after(math.max(0, event.first_at + due - p:now()), function ()
    if event.acked then return end
    event.repeats = event.repeats + 1
    push(p, event, event.how)
    push_again(p, event)
  end)
end

local function event_new(p, a)
  state.number = state.number + 1
  local number = state.number + (p.options.first_number or 1) - 1
  local kind = a.kind or "im.message.receive_v1"
  local id = a.event_id or ("ev-" .. number)
  local event = {
    number = number, event_id = id, kind = kind, tries = 0, repeats = 0, first_at = p:now(), how = a,
    payload = a.payload or p:encode {
      schema = "2.0",
      header = { event_id = id, event_type = kind, create_time = tostring(p:wall()), token = "v-token",
                 app_id = p.options.app_id or "cli_0000000000000000", tenant_key = "t1" },
      event = a.event or { number = number, message = { message_id = "om_" .. number, content = "message " .. number } },
    },
  }
  state.events[#state.events + 1] = event
  push(p, event, a)
  push_again(p, event)
  return event
end

-- What a socket that ended still owes is pushed to those that are left, at once when there is one.
local function push_orphans(p)
  for _, event in ipairs(state.events) do
    if not event.acked and (not event.ws or event.ws.gone) and event.repeats < 4 then push(p, event, event.how) end
  end
end

-- ---- what clients send ----------------------------------------------------------------------------------------------

local function pong_payload(p)
  if faults.pong_payload then return faults.pong_payload end
  if p.options.pong_config == false then return nil end
  return p:encode(p.options.pong_config or p.options.config or
    { ReconnectCount = -1, ReconnectInterval = 120, ReconnectNonce = 30, PingInterval = 120 })
end

local function on_ping(p, ws, f, data)
  state.stats.pings = state.stats.pings + 1
  state.pings[#state.pings + 1] = { at = p:now(), ws = ws.id, hex = hex(data) }
  if f.service ~= ws.service then state.stats.wrong = state.stats.wrong + 1 end
  if ws.pinged and p:now() - ws.pinged < 500 then state.stats.storms = state.stats.storms + 1 end
  local first = not ws.pinged
  ws.pinged = p:now()
  if take "no_pong" then return end
  local function answer()
    state.stats.pongs = state.stats.pongs + 1
    send(ws, encode { service = ws.service, method = 0, headers = { { "type", "pong" } }, payload = pong_payload(p) })
    if first then push_orphans(p) end
  end
  if faults.pong_delay then p:after(faults.pong_delay, answer) else answer() end
end

-- All of the frame that completed the push, in order, and one header more.
local function ack_fault(p, sent, f)
  if f.SeqID ~= wide(sent.SeqID) or f.LogID ~= wide(sent.LogID) then return "SeqID or LogID" end
  if f.service ~= sent.service or f.method ~= sent.method then return "service or method" end
  for _, name in ipairs { "payload_encoding", "payload_type", "LogIDNew" } do
    if f[name] ~= sent[name] then return name end
  end
  for i, h in ipairs(sent.headers) do
    local got = f.headers[i]
    if not got or got[1] ~= h[1] or got[2] ~= h[2] then return "header " .. h[1] end
  end
  local last = f.headers[#sent.headers + 1]
  if #f.headers ~= #sent.headers + 1 or last[1] ~= "biz_rt" or not tonumber(last[2]) then return "biz_rt" end
  local payload = f.payload and p:decode(f.payload)
  if type(payload) ~= "table" or type(payload.code) ~= "number" then return "payload" end
  return nil, payload
end

local function on_ack(p, ws, f, data)
  local push_of = state.pushes[f.by.message_id or ""]
  local seq = tonumber(f.by.seq)
  if not push_of or not seq or not push_of.frames[seq + 1] then
    state.stats.acks_unknown = state.stats.acks_unknown + 1
    return
  end
  local event = push_of.event
  local why, payload = ack_fault(p, push_of.frames[seq + 1], f)
  state.acks[#state.acks + 1] = { at = p:now(), after = p:now() - push_of.at, number = event.number, seq = seq,
    event_id = event.event_id, hex = hex(data), sent = hex(encode(push_of.frames[seq + 1])), fault = why,
    payload = f.payload, ws = ws.id, other_socket = ws ~= push_of.ws, code = payload and payload.code }
  if why then
    state.stats.acks_wrong = state.stats.acks_wrong + 1
    return
  end
  state.stats.acks = state.stats.acks + 1
  if p:now() - push_of.at > 3000 then state.stats.acks_late = state.stats.acks_late + 1 end
  if payload.code ~= 200 then
    state.stats.acks_failed = state.stats.acks_failed + 1
    return
  end
  if event.acked then state.stats.acks_again = state.stats.acks_again + 1 end
  event.acked = true
  p:cancel(event.timer)
end

local control = {}

function control.stats()
  local s = {}
  for k, v in pairs(state.stats) do s[k] = v end
  s.open, s.unacked, s.events = 0, 0, #state.events
  for _ in pairs(state.open) do s.open = s.open + 1 end
  for _, event in ipairs(state.events) do
    if not event.acked then s.unacked = s.unacked + 1 end
  end
  return s
end

-- { at } of every call of the endpoint, { at, hex, ws } of every ping, and every acknowledgement.
function control.posts() return state.posts end
function control.pings() return state.pings end
function control.acks() return state.acks end

-- Numbers of the events that nobody acknowledged yet.
function control.unacked()
  local out = {}
  for _, event in ipairs(state.events) do
    if not event.acked then out[#out + 1] = event.number end
  end
  return out
end

-- a: count, kind, event_id, payload (text), event (table), parts, order, empty, type, SeqID and LogID (hex of a
-- varint), headers, payload_encoding, payload_type, LogIDNew, more (hex)
function control.push(p, a)
  a = a or {}
  local last
  for _ = 1, a.count or 1 do last = event_new(p, a) end
  return last.number
end

-- The last event once more, as a push of its own.
function control.again(p, a)
  local event = state.events[#state.events]
  return push(p, event, a or event.how)
end

local function each(fn)
  local list = open_sockets()
  for _, ws in ipairs(list) do fn(ws) end
  return #list
end

-- One frame as it is: fields of `encode`, headers a list of pairs.
function control.frame(_, a) return each(function (ws) send(ws, encode(a)) end) end

-- Bytes (hex) or text, for what no server should send.
function control.raw(_, a)
  return each(function (ws)
    if a.text then ws:send(a.text) else ws:send_bytes(unhex(a.hex)) end
  end)
end

function control.server_ping()
  return each(function (ws)
    send(ws, encode { service = ws.service, method = 0, headers = { { "type", "ping" } } })
  end)
end

function control.pong(_, a)
  return each(function (ws)
    send(ws, encode { service = ws.service, method = 0, headers = { { "type", "pong" } }, payload = a and a.payload })
  end)
end

function control.bye(_, a)
  return each(function (ws)
    local code, reason = a and a.code or 1000, a and a.reason or "bye"
    ws:close(code, code == 0 and "" or reason)
  end)
end

function control.abort() return each(function (ws) ws:abort() end) end
function control.deaf(_, a) return each(function (ws) ws:deaf(not (a and a.off)) end) end

function control.fault(_, a) peer.add(faults, a) end
function control.heal() peer.heal(faults) end

-- Stages and words: lua/holdfast/prove/faults.lua.
function control.prove()
  local up, hand = { "settled", "ready" }, { "settled", "greeting" }
  local held = { held = true }
  local list, add = peer.moves()
  add({ "settled", "ready", "greeting" }, "bye", "the server closes with 1000 bye", { code = 1000 })
  for _, code in ipairs { 1001, 1011, 4321, 0 } do
    add({ "settled" }, "bye", "the server closes with " .. (code == 0 and "no code" or code), { code = code })
  end
  add(hand, "abort", "the server drops the stream")
  add(up, "deaf", "the server goes deaf")
  add({ "settled" }, "server_ping", "the server pings")
  add({ "settled" }, "pong", "a pong says a nonsense interval", { payload = '{"PingInterval":0}' })
  add({ "settled" }, "raw", "three bytes arrive that are no frame", { hex = "deadbe" })
  add({ "settled" }, "fault", "pings are not answered any more", { no_pong = true }, held)
  add({ "down" }, "fault", "one first ping is not answered", { no_pong = 1 })
  add({ "down" }, "fault", "no socket ever says anything", { silent = true }, held)
  add({ "down" }, "fault", "every socket is closed after a second", { close_after = 1000 }, held)
  add({ "down" }, "fault", "no upgrade is answered", { silent_upgrade = true }, held)
  add({ "down" }, "fault", "the endpoint is never answered", { silent_http = true }, held)
  add({ "down" }, "fault", "the endpoint is answered with 429 once", { http = { status = 429, times = 1 } })
  for _, code in ipairs { 1, 1000040343, 1000040345, 1000040350, 1000040351 } do
    add({ "down" }, "fault", "the endpoint says system busy (" .. code .. ")", { code = { code = code, msg = "system busy", times = 1 } })
  end
  add({ "down" }, "fault", "the endpoint says that the credentials are wrong",
    { code = { code = 1000040345, msg = "app_id or app_secret is invalid", times = 1 } }, { fatal = true })
  add({ "down" }, "fault", "the endpoint is answered with no JSON", { answer = { text = "<html>", times = 1 } })
  add({ "down" }, "fault", "the handshake says that the ticket is old",
    { upgrade = { status = 514, times = 1, headers = { ["Handshake-Status"] = "514" } } })
  add({ "down" }, "fault", "the handshake says that the app is refused",
    { upgrade = { status = 403, times = 1, headers = { ["Handshake-Status"] = "403" } } }, { fatal = true })
  return { faults = list, speak = { verb = "push", with = { count = 1 } },
           settings = { app_id = "cli_0123456789abcdef", domain = "$url" } }
end

function control.prove_print()
  local parts = {}
  for _, ws in pairs(state.open) do parts[#parts + 1] = ws.mute and "mute" or ws.pinged and "pinged" or "open" end
  return peer.print(parts, faults)
end

-- ---- the endpoint ---------------------------------------------------------------------------------------------------

local function fail_text(p, f)
  local tail = f.data == "null" and ',"data":null' or f.data and ',"data":{}' or ""
  return string.format('{"code":%.0f,"msg":%s%s}', f.code, p:encode(f.msg or ""), tail)
end

local function endpoint(p, request)
  local body = p:decode(request.body or "")
  if request.method ~= "POST" or type(body) ~= "table" or type(body.AppID) ~= "string" then
    return p:respond(request, 400, { json = { code = 9499, msg = "Bad Request" } })
  end
  local o = p.options
  if (o.app_id and body.AppID ~= o.app_id) or (o.app_secret and body.AppSecret ~= o.app_secret) then
    return p:respond(request, 200, { body = fail_text(p, { code = 1000040345, msg = "app_id or app_secret is invalid" }) })
  end
  local n = state.next_ticket
  state.next_ticket = n + 1
  local ticket = string.format("ticket-MARKED-%d", n)
  local device = string.format("7%018d", n)
  state.tickets[ticket] = { by = p:now() + (o.ticket_life or 30000) }
  local base = o.url_base or p.base_url:gsub("^http", "ws")
  p:respond(request, 200, { json = { code = 0, msg = "", data = {
    URL = string.format("%s/ws/v2?fpid=493&aid=552564&device_id=%s&access_key=key-MARKED-%d&service_id=%d&ticket=%s",
      base, device, n, o.service or 33554678, ticket),
    ClientConfig = o.config or { ReconnectCount = -1, ReconnectInterval = 120, ReconnectNonce = 30, PingInterval = 120 },
  } } })
end

return {
  start = function (p, options)
    peer.add(faults, options.faults)
    local every = options.events_every or 0
    if every <= 0 then return end
    local function tick()
      event_new(p, { parts = options.parts })
      p:after(every, tick)
    end
    p:after(every, tick)
  end,

  http = function (p, request)
    state.stats.http = state.stats.http + 1
    state.posts[#state.posts + 1] = { at = p:now() }
    if take "silent_http" then return end
    local fault = take "http"
    if fault then
      return p:respond(request, fault.status or 500, { body = fault.body or "", headers = fault.headers })
    end
    if not request.path:find "/callback/ws/endpoint$" then
      return p:respond(request, 404, { body = "404 page not found" })
    end
    fault = take "code"
    if fault then return p:respond(request, 200, { body = fail_text(p, fault) }) end
    fault = take "answer"
    if fault then return p:respond(request, 200, { body = fault.text }) end
    endpoint(p, request)
  end,

  upgrade = function (p, request)
    state.stats.upgrades = state.stats.upgrades + 1
    if take "silent_upgrade" then return nil end
    local fault = take "upgrade"
    local function refuse(status, headers)
      state.stats.refused = state.stats.refused + 1
      p:respond(request, status, { headers = headers })
      return false
    end
    if fault then return refuse(fault.status or 514, fault.headers) end
    local ticket = state.tickets[request.query.ticket or ""]
    state.tickets[request.query.ticket or ""] = nil
    if not ticket or ticket.by < p:now() then
      return refuse(514, { ["Handshake-Status"] = "514", ["Handshake-Msg"] = "ticket is invalid",
                           ["Handshake-Autherrcode"] = "1000040346" })
    end
    local open = 0
    for _ in pairs(state.open) do open = open + 1 end
    if open >= (p.options.connections or 50) then
      return refuse(514, { ["Handshake-Status"] = "514", ["Handshake-Msg"] = "the number of connections exceeded the limit",
                           ["Handshake-Autherrcode"] = "1000040350" })
    end
    state.services[request.id] = tonumber(request.query.service_id)
    return true
  end,

  opened = function (p, ws)
    ws.service = state.services[ws.id] or 0
    state.services[ws.id] = nil
    state.open[ws.id] = ws
    state.stats.opened = state.stats.opened + 1
    local open = 0
    for _ in pairs(state.open) do open = open + 1 end
    state.stats.most_open = math.max(state.stats.most_open, open)
    if take "silent" then ws.mute = true end
    if faults.close_after then
      p:after(faults.close_after, function () if not ws.gone then ws:close(1000, "bye") end end)
    end
  end,

  message = function (p, ws, data, text)
    if text then
      state.stats.texts = state.stats.texts + 1
      return
    end
    local f = decode(data)
    if not f then
      state.stats.wrong = state.stats.wrong + 1
      return
    end
    if f.method == 0 and f.by.type == "ping" then return on_ping(p, ws, f, data) end
    if f.method == 1 then return on_ack(p, ws, f, data) end
    state.stats.wrong = state.stats.wrong + 1
  end,

  closed = function (p, ws, code)
    ws.gone = true
    state.open[ws.id] = nil
    local key = tostring(code)
    state.stats.closes[key] = (state.stats.closes[key] or 0) + 1
    push_orphans(p)
  end,

  control = control,
}
