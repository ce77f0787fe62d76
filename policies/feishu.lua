-- Feishu and Lark, the long connection of self-built apps. The platform publishes no wire format: frames and
-- codes are those of its SDKs for Node, Go, Python and Java (2026), numbers are theirs or its documentation's
-- unless a comment says otherwise. Where the SDKs disagree, the choice that keeps a bot on the air.
local holdfast = require "holdfast"

local USER_AGENT = "holdfast/1"
local CREDENTIALS = "app_id or app_secret is invalid"   -- the whole message; its code alone also means "busy"

-- Whatever the platform does not say, or says wrongly, is what it usually says. Each value is judged alone: a
-- pong with {} made one SDK ping 840 times a second.
local PING_USUAL, PING_LEAST, PING_MOST = 120, 5, 600   -- seconds

-- The frame itself goes back, with this payload and one more header, within 3 s.
local ECHO = { payload = '{"code":200}', headers = { biz_rt = "0" } }

local function ping(conn)
  return { SeqID = 0, LogID = 0, service = conn.keep.service, method = 0, headers = { type = "ping" } }
end

return holdfast.policy {
  platform = "feishu",
  about    = "Feishu and Lark long connection (pbbp2 frames), events and card callbacks",
  options  = {
    app_id     = { type = "string", required = true },
    app_secret = { type = "secret", required = true },
    domain     = { type = "url", default = "https://open.feishu.cn", about = "Lark: https://open.larksuite.com" },
  },
  identity = { "app_id" },
  account  = { "app_id" },
  hosts    = { "*.feishu.cn", "*.larksuite.com" },

  -- Without a limit on the call one SDK was deaf for 3.5 days. Up is an answer to the first ping.
  limits   = { prepare = "12s", call = "10s", resolve = "5s", connect = "10s", secure = "10s",
               upgrade = "10s", greeting = "12s", close = "1s", drain = "10s" },
  sizes    = { message = "16MiB", send = "64KiB" },
  -- Its own pings are the probe: whether WebSocket pings are answered is not documented, so none are sent.
  alive    = { ping = false, silence = false },
  -- 3 s for an answer killed healthy links on lossy lines, no limit at all left bots deaf: 30 s. Any frame answers.
  beat     = { every = { PING_USUAL .. "s", PING_LEAST .. "s", PING_MOST .. "s" }, first = "after",
               answer = { method = { 0, 1 } }, within = "30s" },
  -- At the end the platform's usual ReconnectInterval; its ReconnectCount is no permission to give up. Settled
  -- is a link that lived for a whole ping, not one that opened.
  backoff  = { first = "1s", factor = 2, most = "120s", floor = "250ms", jitter = "equal", settle = "120s" },
  slow     = { first = "10m", factor = 2, most = "30m" },  -- half to the whole is drawn: 5 min at least
  session  = { replay = "unacked" },                    -- pushed again: what was not acknowledged
  overlap  = 1,                                         -- 50 connections per app; each event goes to one of them
  retire   = { after = "6h", jitter = 0.2 },            -- bounds a link that answers pings and gets no events
  close_code = { keep = 1000, final = 1000 },

  frames = {
    codec   = "protobuf",
    layout  = {
      SeqID   = { 1, "uint64", required = true },
      LogID   = { 2, "uint64", required = true },
      service = { 3, "int32", required = true },
      method  = { 4, "int32", required = true },        -- 0 control, 1 data
      headers = { 5, "map", key = 1, value = 2 },
      payload_encoding = { 6, "string" },
      payload_type     = { 7, "string" },
      payload  = { 8, "json" },
      LogIDNew = { 9, "string" },
    },
    take    = { method = "method", type = "headers.type", message_id = "headers.message_id",
                seq = "headers.seq", sum = "headers.sum", event_id = "payload.header.event_id",
                kind = "payload.header.event_type", interval = "payload.PingInterval" },
    -- The SDKs drop frames of the type card without an acknowledgement; clicks come as events.
    deliver = { type = "event" },
    inspect = { type = "pong", interval = { from = PING_LEAST, to = PING_MOST } },
    join    = { by = "message_id", index = "seq", count = "sum", of = "payload",
                within = "10s", parts = 256, bytes = "16MiB" },
    -- What was not acknowledged is pushed again after 15 s, 5 min, 1 h and 6 h, with another message_id each time.
    -- Events of the old form, 1.0, have no event_id and are not told apart.
    dedupe  = { by = "event_id", over = "8h", most = 50000 },
    ack     = {
      { on = { type = "event", kind = "card.action.trigger" }, when = "through", within = "3s", echo = ECHO,
        reply = { payload = '{"code":200,"data":"@reply_base64"}' }, anywhere = true },
      { on = { type = "event" }, when = "early", within = "3s", echo = ECHO, anywhere = true },
    },
  },

  classify = {
    { cause = "credentials", verdict = "stop", note = "app_id or app_secret is wrong" },
    { cause = "endpoint", code = { 403, 514, 9499 }, verdict = "stop", note = "the app is refused: see its console" },
    { cause = "endpoint", code = 1000040345, verdict = "slow", note = "busy, or the app is not published" },
    { cause = "endpoint", code = 1000040350, verdict = "slow", note = "too many connections: other clients, or ghosts that expire" },
    { cause = "endpoint", code = 1000040351, verdict = "slow" },
    { cause = "endpoint", code = { 1, 1000040343 }, verdict = "fresh" },             -- busy, internal error
    { cause = "endpoint", code = 99991400, delay_from = "retry_after", otherwise = "60s", counts = false, verdict = "fresh" },
    { stage = { "preparing", "upgrading" }, http = 429, delay_from = "retry_after", otherwise = "60s",
      counts = false, verdict = "fresh" },
    { cause = "endpoint", http = { "400-407", "409-499" }, verdict = "slow", as = "endpoint_status" },
    { cause = "endpoint", http = 200, code = { "-9007199254740991--1", "1-9007199254740991" }, verdict = "slow",
      as = "endpoint_code", note = "a code that nobody has described" },
    { stage = "upgrading", header = { ["Handshake-Status"] = "403" }, verdict = "stop", note = "the app is refused: see its console" },
    { stage = "upgrading", header = { ["Handshake-Autherrcode"] = "1000040350" }, verdict = "slow", note = "too many connections" },
    { stage = "upgrading", header = { ["Handshake-Status"] = "514" }, verdict = "fresh", as = "ticket" },
    { stage = "upgrading", http = 403, verdict = "slow", note = "refused, and not by the platform's own word" },
    { close = { 1000, 1001, 1005 }, verdict = "fresh", delay = { "0s", "2s" }, planned = true },  -- "bye": routine
    { cause = "beat", verdict = "fresh", delay = { "0s", "1s" } },
    { stage = "ready", verdict = "fresh", delay = { "0s", "2s" } },
    { any = true, verdict = "fresh" },
  },
  climb = {
    { on = { cause = "endpoint_status", http = { 400, 401, 403 } }, times = 3, to = "stop", note = "refused three times: see app and console" },
    { on = { cause = "endpoint_code" }, times = 4, to = "stop", note = "a code that nobody has described, four times" },
    { on = { cause = "ticket" }, times = 4, within = "2h", to = "slow", note = "the fourth ticket that was refused" },
  },

  -- A ticket is good for one dial.
  prepare = function (conn)
    local o = conn.options
    local res, name, text = conn:http {
      url = holdfast.url.join(o.domain, "callback/ws/endpoint"),
      json = { AppID = o.app_id, AppSecret = o.app_secret },
      headers = { locale = "zh", ["User-Agent"] = USER_AGENT },
    }
    if not res then conn:fail("endpoint_unreachable", { reason = name .. ": " .. text }) end
    local answer = type(res.json) == "table" and res.json or {}
    if not res.ok or answer.code ~= 0 then
      local mine = answer.code == 1000040345 and answer.msg == CREDENTIALS
      conn:fail(mine and "credentials" or "endpoint", {
        http = res.status, code = answer.code, reason = answer.msg, headers = res.headers,
        retry_after = tonumber(res.headers["x-ogw-ratelimit-reset"]) or res.retry_after,
      })
    end
    local data = type(answer.data) == "table" and answer.data or {}
    local url = type(data.URL) == "string" and data.URL or ""
    local service, device = url:match "[?&]service_id=(%d+)", url:match "[?&]device_id=(%d+)"
    if not service then conn:fail("endpoint_answer", { reason = "no URL with a service_id" }) end
    local wish = type(data.ClientConfig) == "table" and data.ClientConfig.PingInterval
    local whole = type(wish) == "number" and wish % 1 == 0 and wish >= PING_LEAST and wish <= PING_MOST
    conn.keep = { service = tonumber(service), ping = whole and wish or conn.keep.ping or PING_USUAL }
    conn:log("the platform calls this connection " .. (device or "nothing"))
    return { url = url }
  end,

  greet = function (conn)
    conn:send(ping(conn))
    conn:set { beat = conn.keep.ping .. "s" }
    return conn:await({ method = { 0, 1 } }, { within = "10s" }) or conn:fail "no_answer"
  end,

  on_beat  = ping,
  on_frame = function (conn, frame)
    conn.keep.ping = frame.payload.PingInterval
    conn:set { beat = frame.payload.PingInterval .. "s" }
  end,

  on_ended = function (conn, cause)
    local said = cause.headers and cause.headers["handshake-msg"]
    if said then conn:warn("the platform said: " .. said) end
  end,
}
