-- QQ Bot: the official bot API v2, events over WebSocket. Numbers are the platform's documentation (as of
-- 2026-09) unless a comment says otherwise; where SDKs disagree, the choice that keeps the session.
local holdfast = require "holdfast"

-- Hosts in turn, until one answers with `key`. Errors come inside of HTTP 200, too: a code says so. What the
-- platform itself refused is not asked for elsewhere; what a retired or broken host says, is.
local function ask(conn, what, hosts, path, key, request)
  local failed, how
  for _, host in ipairs(type(hosts) == "table" and hosts or { hosts }) do
    request.url = host .. path
    local res, name, text = conn:http(request)
    local body = res and type(res.json) == "table" and res.json or {}
    if res and res.ok and type(body[key]) == "string" and body[key] ~= "" then return body end
    local trace = res and res.headers["x-tps-trace-id"]
    failed = what .. (not res and "_unreachable" or res.ok and not body.code and "_answer" or "_refused")
    how = res and { http = res.status, code = tonumber(body.code), retry_after = res.retry_after,
                    reason = tostring(body.message or key .. " is missing") .. (trace and ", trace " .. trace or "") }
      or { reason = name .. ": " .. text }
    if res and body.code and res.status < 500 and res.status ~= 404 then break end
  end
  conn:fail(failed or what .. "_answer", how)
end

return holdfast.policy {
  platform = "qqbot",
  about    = "QQ Bot API v2, WebSocket events",
  options  = {
    app_id        = { type = "string", required = true },
    client_secret = { type = "secret", required = true },
    intents       = { type = "integer", default = 1107300352, min = 0 },  -- bits 30, 25, 12: mentions, groups and direct
    shard_id      = { type = "integer", default = 0, min = 0 },
    shard_count   = { type = "integer", default = 1, min = 1 },
    -- The names changed in mid-2026; some old ones have answered 500 since. Asked in this order.
    token_url     = { type = "url", many = true, default = { "https://bots.qq.com/app/getAppAccessToken",
                                                             "https://api.bot.qq.com/app/getAppAccessToken" } },
    api           = { type = "url", many = true, default = { "https://api.sgroup.qq.com", "https://api.bot.qq.com" } },
  },
  identity = { "app_id", "shard_id" },
  account  = { "app_id" },
  hosts    = { "bots.qq.com", "*.sgroup.qq.com", "*.bot.qq.com" },

  limits   = { prepare = "45s", call = "10s", resolve = "5s", connect = "10s", secure = "10s",
               upgrade = "20s", greeting = "60s", close = "1s" },
  alive    = { ping = false, silence = false },  -- beats are the probe; an idle bot hears nothing else
  -- From right behind op 2 or 6 on, so that a long replay has them: 60 s without one and the socket is dropped.
  beat     = { every = { "45s", "5s", "55s" }, first = "at_once",
               asked = { op = 1 }, answer = { op = 11 }, dead = 1 },
  backoff  = { first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "60s" },
  slow     = { first = "60s", factor = 2, most = "10m" },
  -- 1000 sessions a day and max_concurrency in 5 s: a third of it, and half a second for the way.
  budgets  = { start = { frame = { op = 2 }, windows = { { 22, "1h" }, { 298, "24h" } }, gap = "5500ms",
                         lane = "shard_id", operators = "10%" } },
  -- After some days a session is still resumed and brings no events any more (bot-docs#191): a life of its own.
  session  = { of = { "app_id", "shard_id", "shard_count", "intents", "api" }, life = "24h", replay = "session" },
  close_code = { keep = 4000, final = 1000 },    -- what 1000 does to the session is not documented

  frames = {
    codec    = "json",
    take     = { op = "op", seq = "s", kind = "t", resumable = "d", id = "d.id", stamp = "d.timestamp" },
    deliver  = { op = 0 },
    ends     = {  -- op 9 comes before the close code that says why
      { op = 7, cause = "reconnect" },
      { op = 9, resumable = true, cause = "session_paused", after = "5s" },
      { op = 9, cause = "session_invalid", after = "5s" },
    },
    remember = { seq = "seq" },
    -- Messages come twice after a resume, minutes later. The id alone would not do: that of CHANNEL_UPDATE is
    -- the channel's; only messages and interactions have both of these.
    dedupe   = { by = { "kind", "id", "stamp" }, over = "30m", most = 2000 },
  },

  classify = {
    { close = { 4001, 4002, 4012 }, verdict = "stop", note = "the platform does not take our frames: a newer holdfast is needed" },
    { close = { 4010, 4011 }, verdict = "stop", note = "shard refused: see shard_id, shard_count" },
    { close = { 4013, 4014 }, verdict = "stop", note = "intents refused: see the bot's permissions" },
    { close = 4914, verdict = "stop", note = "the bot is delisted: only the sandbox takes it" },
    { close = 4915, verdict = "stop", note = "the bot is banned" },
    { close = 4004, verdict = "resume", drop = "token" },
    { close = { 4003, 4005, 4006, 4007, "4900-4913" }, verdict = "fresh" },
    { close = 4008, verdict = "resume", delay = "60s" },
    -- Every half hour, with or without op 7 before it. Not one of 4006 and 4007: the session lives on.
    { close = 4009, verdict = "resume", delay = { "0s", "1s" }, planned = true },
    { cause = "reconnect", verdict = "resume", delay = { "0s", "1s" }, planned = true },
    -- 1 to 5 s, from op 9 on: up to 5 s of it are the wait for the close.
    { cause = "session_paused", verdict = "resume", delay = { "6s", "10s" } },
    { cause = "session_invalid", verdict = "fresh", delay = { "6s", "10s" } },
    { cause = "token_refused", code = { 10004, 100007, 100016 }, verdict = "stop", note = "app_id or client_secret refused" },
    { cause = "token_refused", code = 100001, verdict = "resume", delay = "60s" },
    { cause = "gateway_refused", code = { 11243, 11251 }, verdict = "stop", note = "the token is of another bot: see app_id, api" },
    { cause = "gateway_refused", code = 11265, verdict = "stop", note = "the bot is banned" },
    { cause = "gateway_refused", code = 11298, verdict = "slow", pace = { "10m", "30m" },
      note = "this machine's address is not on the bot's IP allow-list" },
    { cause = "gateway_refused", code = 11244, verdict = "resume", drop = "token", delay = "60s" },
    { http = 404, cause = { "token_refused", "token_answer", "gateway_refused", "gateway_answer" }, verdict = "slow",
      note = "options token_url and api point to no QQ Bot API" },
    -- /gateway may be called twice a minute: the third time in a short while was refused in the field.
    { cause = "fetch_gap", verdict = "resume", delay_from = "retry_after", counts = false },
    { cause = { "gateway_refused", "gateway_answer", "gateway_unreachable" }, verdict = "resume", delay = "60s" },
    -- The cached address may be a retired one; asked again at most once a minute.
    { stage = { "resolving", "connecting", "securing", "upgrading" }, verdict = "resume", drop = "gateway" },
    { cause = "address", verdict = "resume", drop = "gateway" },
    { any = true, verdict = "resume" },
  },
  climb = {
    { on = { { session = true, stage = "greeting" }, { session = true, stage = "ready", under = "5s" } }, times = 3,
      to = "fresh", note = "three resumes in a row failed" },
    { on = { session = false, stage = "greeting" }, times = 5, within = "1h", pace = { "10m", "10m" },
      note = "session starts are refused: see the IP allow-list and intents" },
    -- The token is shared, and the same until its last minute: fetching it again does not help.
    { on = { { close = 4004 }, { code = 11244 } }, times = 3, within = "3h", pace = { "30m", "1h" },
      note = "the platform refuses the token that it hands out" },
  },

  fetch = {
    -- Lives 7200 s at most; asked for in its last 60 s there is a new one, and the old one stays good.
    token = {
      renew = { "30s", "50s" },
      call = function (conn)
        local o = conn.options
        local body = ask(conn, "token", o.token_url, "", "access_token",
                         { method = "POST", json = { appId = o.app_id, clientSecret = o.client_secret } })
        local left = tonumber(body.expires_in)  -- "7200" or 7200
        if not left or not (left > 0) then conn:fail("token_answer", { reason = "expires_in is missing" }) end
        return body.access_token, { keep = math.min(left, 7200) * 1000 }
      end,
    },
    gateway = {
      keep = "24h", gap = "60s", pause = "60s", stale = true,
      call = function (conn)
        local body = ask(conn, "gateway", conn.options.api, "/gateway/bot", "url",
          { headers = { Authorization = "QQBot " .. conn:get "token", ["X-Union-Appid"] = conn.options.app_id } })
        local limit = type(body.session_start_limit) == "table" and body.session_start_limit or {}
        return body.url, { left = limit.remaining, reset = limit.reset_after, lanes = limit.max_concurrency }
      end,
    },
  },

  prepare = function (conn)
    conn:get "token"  -- without one the socket would be for nothing
    return { url = conn:get "gateway" }
  end,

  greet = function (conn)
    local hello = conn:await({ op = 10 }, { within = "20s" }) or conn:fail "no_hello"
    local o, s, token = conn.options, conn.session, "QQBot " .. conn:get "token"
    if s.id then
      conn:send { op = 6, d = { token = token, session_id = s.id, seq = s.seq } }
    else
      conn:send { op = 2, d = { token = token, intents = o.intents, shard = { o.shard_id, o.shard_count } } }
    end
    local every = type(hello.d) == "table" and tonumber(hello.d.heartbeat_interval) or 0
    conn:set { beat = every > 0 and every < 3600000 and every or nil }
    if s.id then
      return conn:await({ kind = "RESUMED" }, { within = "30s", progress = { op = 0 } }) or conn:fail "no_resumed"
    end
    local ready = conn:await({ kind = "READY" }, { within = "20s" }) or conn:fail "no_ready"
    s.id = ready.d.session_id
  end,

  on_beat = function (conn)
    return { op = 1, d = conn.session.seq or holdfast.null }
  end,
}
