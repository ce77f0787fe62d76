-- WuKongIM over WebSocket (WKProto), for bots of a dmwork-style server. Numbers are those of the server's sources
-- (2.x, 1.2.6 and the rebuilt line) unless a comment says otherwise; where they disagree, what cannot kick anybody.
--
-- The one rule above all: `register` kicks every live session of the bot. So it runs in `prepare` alone, when our
-- own socket is closed, and is never the answer to a kick: somebody else's session would be kicked back.
local holdfast = require "holdfast"

-- register answers 400 for both kinds of failure; only the text tells them apart.
local UNKNOWN_TOKEN = "无效的bot token"
local TRANSIENT = { ["认证失败"] = true, ["获取IM Token失败"] = true }
local REFUSED = "the token is refused although it was registered again three times"
local TAKEN = "another installation uses this bot token: the two kick each other"

local function call(conn, path, body)
  return conn:http {
    method = "POST", url = conn.options.api:gsub("/+$", "") .. path, json = body,
    headers = { Authorization = "Bearer " .. conn.options.bot_token },
  }
end

return holdfast.policy {
  platform = "wukongim",
  about    = "WuKongIM (WKProto 5) behind a dmwork-style REST server",
  options  = {
    bot_token = { type = "secret", required = true },
    api       = { type = "url", required = true, about = "the REST base that registers the bot and names the socket" },
    -- Where register names an address that cannot be reached from here, or one of another host.
    ws_url    = { type = "url" },
  },
  identity = { "bot_token" },
  account  = { "bot_token" },
  hosts    = {},                     -- every server is somebody's own: the hosts of api and ws_url are added

  -- CONNECT must come within 2 s of the TCP accept, and a 2.x server that refuses closes silently 4 to 6 s after
  -- it: our own deadline lies behind that, so that the silence is seen as the answer that it is.
  limits   = { prepare = "30s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s",
               greeting = "10s", close = "2s" },
  sizes    = { message = "2MiB", send = "64KiB" },      -- a packet has at most 1 MiB
  -- Servers close after 3 min without a byte, proxies after 60 s. PONG is the proof; WebSocket pings only when
  -- that fails, because the stable server may lose bytes of frames that arrive together.
  alive    = { ping = "30s", silence = "45s" },
  beat     = { every = "25s", first = "at_once", answer = { packet = "pong" }, within = "10s", dead = 2 },
  backoff  = { first = "3s", factor = 2, most = "60s", floor = "500ms", jitter = "full", settle = "30s" },
  slow     = { first = "60s", factor = 2, most = "10m" },
  session  = { replay = "none" },                        -- what came meanwhile is fetched over HTTP: a gap says so
  close_code = { keep = 1000, final = 1000 },

  frames = {
    codec   = "wkproto",
    take    = { packet = "packet", id = "message_id", seq = "message_seq", flags = "flags", code = "reason_code",
                reason = "reason", from = "from_uid", channel = "channel_id", channel_type = "channel_type" },
    deliver = { packet = { "recv", "sendack", "event" } },
    -- The reason is text for people, so what is not known is the worst of them.
    ends    = {
      { packet = "disconnect", reason = "账号在其他设备上登录", cause = "token_updated" },
      { packet = "disconnect", reason = "server kick", cause = "operator_kick" },
      { packet = "disconnect", reason = "", cause = "token_blanked" },
      { packet = "disconnect", cause = "conflict" },
    },
    dedupe  = { by = { "packet", "id" }, over = "15m", most = 4096 },  -- sent again 5 times, 60 to 120 s apart
    ack     = { on = { packet = "recv" }, when = "early",
                frame = '{"packet":"recvack","message_id":"@id","message_seq":"@seq","flags":"@flags"}' },
    accept  = { packet = { "send", "sub" } },
  },

  classify = {
    -- Kicks: none of these drops anything, so none of them registers.
    { cause = "conflict", verdict = "resume", pace = { "30s", "10m" } },
    -- The token was stored again: by a register somewhere, or for all bots at once when the REST server starts.
    -- It is the same token, so come back, but not all bots in one second.
    { cause = "token_updated", verdict = "resume", delay = { "0s", "20s" } },
    -- Blanked: if it is, two silent rejections say so and renew it.
    { cause = "token_blanked", verdict = "resume" },
    { cause = "operator_kick", verdict = "resume", pace = { "60s", "10m" } },

    { cause = "connack", code = 2, verdict = "renew", note = "the token was refused: registered again" },
    { cause = "connack", code = 12, verdict = "resume", pace = { "30s", "10m" }, as = "conflict" },
    { cause = "connack", code = { 6, 17, 18 }, verdict = "renew", note = "another node: its address is asked for" },
    { cause = "connack", code = { 14, 15 }, verdict = "resume" },
    { cause = "connack", code = 19, verdict = "resume", pace = { "1h", "2h" }, note = "the bot is banned" },
    { cause = "connack", code = { 21, 27 }, verdict = "stop", note = "this server wants another protocol version" },
    { cause = "connack", code = 22, verdict = "resume", pace = { "30s", "10m" } },
    { cause = "connack", verdict = "slow", note = "CONNACK with a reason that is none for a connect" },

    { cause = "unknown_token", verdict = "stop", note = "the server does not know this bot token" },
    { cause = "register", http = 403, verdict = "stop", note = "the app bot is not published" },
    { cause = "register", http = 409, verdict = "stop", note = "the token belongs to another installation: rotate it" },
    { cause = "register", http = 429, delay_from = "retry_after", otherwise = "30s", counts = false, verdict = "resume" },
    { cause = "register", http = { 400, 401, 404 }, verdict = "slow", note = "register was refused: see bot_token, api" },
    -- At most one in 60 s; whoever asks sooner waits for the rest of it, with the deadline of any other attempt.
    { cause = "fetch_gap", delay_from = "retry_after", counts = false, verdict = "resume" },

    -- 2.x says nothing to a bad token: it closes without a byte. Sooner than 3 s it is a node that went away.
    -- Not counted: 5 s of silence each, and the climbs below, are pace enough for what a register mends.
    { stage = "greeting", cause = { "eof", "reset", "closed" }, under = "3s", verdict = "resume" },
    { stage = "greeting", cause = { "eof", "reset", "closed" }, counts = false, verdict = "resume", as = "silent_rejection" },
    { cause = "address", verdict = "renew", note = "register named an address on another host: see option ws_url" },
    { any = true, verdict = "resume" },
  },
  climb = {
    { on = { cause = "silent_rejection" }, times = 2, to = "renew", note = "refused in silence twice: registered again" },
    { on = { cause = "silent_rejection" }, times = 6, within = "1h", pace = { "10m", "10m" }, note = REFUSED },
    { on = { cause = "connack", code = 2 }, times = 4, within = "1h", pace = { "10m", "10m" }, note = REFUSED },
    -- Somebody who comes back as soon as we do is told to people; the ladder is that of two hours, because each of
    -- two installations may well settle before the other kicks it again.
    { on = { cause = { "conflict", "token_updated" } }, times = 3, within = "10m", pace = { "30s", "10m" }, note = TAKEN },
    { on = { cause = { "conflict", "token_updated" } }, times = 3, within = "2h", pace = { "30s", "10m" } },
    -- The rebuilt server closes without a packet. A register would only kick the other side back.
    { on = { stage = "ready", cause = { "eof", "closed" }, under = "6s" }, times = 3, within = "30m",
      pace = { "30s", "10m" }, note = "each session ends within seconds: perhaps " .. TAKEN },
    -- The address is register's: after so many dials that led nowhere it is asked for again.
    { on = { stage = { "resolving", "connecting", "securing", "upgrading" } }, times = 8, to = "renew" },
    { on = { cause = "register", http = 401 }, times = 3, to = "stop", note = "the bot token is not valid (any more)" },
  },

  fetch = {
    registered = {
      keep = "30d", gap = "60s",
      call = function (conn)
        local res, name, text = call(conn, "/v1/bot/register", { agent_platform = "holdfast" })
        if not res then conn:fail("register_unreachable", { reason = name .. ": " .. text }) end
        local info = type(res.json) == "table" and res.json or {}
        local url = conn.options.ws_url or info.ws_url
        if res.ok and type(info.robot_id) == "string" and type(info.im_token) == "string" and type(url) == "string" then
          return { uid = info.robot_id, token = info.im_token, url = url }
        end
        if res.status == 400 and info.msg == UNKNOWN_TOKEN then conn:fail("unknown_token", { http = 400, reason = info.msg }) end
        if res.status == 400 and TRANSIENT[info.msg] then conn:fail("register_failed", { http = 400, reason = info.msg }) end
        -- Some 429s say it in the body only.
        local details = type(info.error) == "table" and type(info.error.details) == "table" and info.error.details or {}
        conn:fail("register", { http = res.status, reason = info.msg, retry_after = res.retry_after or details.retry_after })
      end,
    },
  },

  prepare = function (conn)
    return { url = conn:get("registered").url }
  end,

  greet = function (conn)
    local bot = conn:get "registered"
    -- Kept per installation: another device id would kick our own last session, if the server still holds one.
    if not conn.keep.device_id then
      conn.keep.device_id = holdfast.crypto.hex(holdfast.crypto.md5(conn.name .. holdfast.random() .. holdfast.random()))
    end
    conn:send { packet = "connect", version = 5, device_flag = 0, device_id = conn.keep.device_id,
                uid = bot.uid, token = bot.token, client_timestamp = holdfast.now_ms() }
    local ack = conn:await { packet = "connack" } or conn:fail "no_connack"
    if ack.reason_code ~= 1 then conn:fail("connack", { code = ack.reason_code }) end
  end,

  on_beat = function () return { packet = "ping" } end,

  -- The REST server's own heartbeat: it says nothing about the socket, so it never touches it.
  every = {
    heartbeat = { "30s", function (conn) call(conn, "/v1/bot/heartbeat", {}) end },
  },
}
