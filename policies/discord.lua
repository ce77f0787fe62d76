-- Discord Gateway v10 for bot accounts. Numbers are Discord's documentation (gateway, rate limits,
-- opcodes) unless a comment says otherwise; where SDKs disagree, the choice that costs no session start.
local holdfast = require "holdfast"

local USER_AGENT = "DiscordBot (https://github.com/holdfast, 1)"  -- a bad one may be blocked by the front end

return holdfast.policy {
  platform = "discord",
  about    = "Discord Gateway v10, JSON, bot accounts",
  options  = {
    -- The part before the first dot is the application's id: it survives a reset of the token.
    token       = { type = "secret", required = true, public = "^[^.]+" },
    intents     = { type = "integer", required = true, min = 0 },
    shard_id    = { type = "integer", default = 0, min = 0 },
    shard_count = { type = "integer", default = 1, min = 1 },
    api         = { type = "url", default = "https://discord.com/api/v10" },
    compress    = { type = "string", one_of = { "zlib-stream", "zstd-stream" } },
  },
  identity = { "token", "shard_id" },
  account  = { "token" },
  hosts    = { "discord.com", "*.discord.gg" },

  -- /gateway/bot took more than 10 s in the field; READY and HELLO may be very late during an outage.
  limits   = { prepare = "45s", call = "30s", resolve = "5s", connect = "10s", secure = "10s",
               upgrade = "10s", greeting = "90s", close = "1s" },
  sizes    = { message = "64MiB", send = 4096 },
  -- Beats are the probe. Whether the gateway answers WebSocket pings is not documented, so none are sent.
  alive    = { ping = false, silence = false },
  beat     = { every = { "41250ms", "5s", "120s" }, first = "spread",
               asked = { op = 1 }, answer = { op = 11 }, dead = 1 },
  backoff  = { first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "60s" },
  slow     = { first = "60s", factor = 2, most = "10m" },
  budgets  = {
    -- 1000 IDENTIFYs a day, then the token is reset: stay below a third of it. One per 5 s and lane; the
    -- half second on top is for the way to the gateway.
    start = { frame = { op = 2 }, windows = { { 22, "1h" }, { 298, "24h" } }, gap = "5500ms",
              lane = "shard_id", operators = "10%" },
    -- 120 payloads in 60 s, as they arrive: a burst that was a little late must not meet the next one.
    send  = { windows = { { 120, "62s" } }, beats = 5 },
  },
  session  = { of = { "token", "shard_id", "shard_count", "intents", "compress" }, age = "24h",
               replay = "session" },
  close_code = { keep = 4000, final = 1000 },  -- 1000 and 1001 end the session, all others keep it

  frames = {
    codec    = "json",
    take     = { op = "op", seq = "s", kind = "t", resumable = "d" },
    deliver  = { op = 0 },
    ends     = {
      { op = 7, cause = "reconnect" },
      { op = 9, resumable = true, cause = "session_paused" },
      { op = 9, cause = "session_invalid" },
    },
    remember = { seq = "seq" },
    accept   = { op = { 3, 4, 8, 31, 43 } },
  },

  classify = {
    { close = 4004, verdict = "stop", note = "the token is not valid (any more): issue a new one" },
    { close = "4010-4012", verdict = "stop", note = "shard or API version refused: see shard_id, shard_count" },
    { close = { 4013, 4014 }, verdict = "stop", note = "intents refused: see the developer portal" },
    { close = { 4003, 4005, 4006, 4007, 4009 }, verdict = "fresh" },
    { cause = "reconnect", verdict = "resume", delay = { "0s", "1s" }, planned = true },
    { cause = "session_paused", verdict = "resume", delay = { "1s", "5s" } },   -- 1 to 5 s: Discord's staff
    { cause = "session_invalid", verdict = "fresh", delay = { "1s", "5s" } },
    { stage = "preparing", http = 401, verdict = "stop", note = "the token is not valid: issue a new one" },
    { stage = "preparing", http = { 404, 405 }, verdict = "stop", note = "option api points to no Discord API" },
    { stage = "preparing", http = 403, verdict = "slow", pace = { "10m", "30m" }, note = "blocked by address or user agent" },
    -- Without Retry-After it is the front end's ban by address (error 1015).
    { stage = { "preparing", "upgrading" }, http = 429, delay_from = "retry_after", otherwise = "60s",
      counts = false, verdict = "resume" },
    -- It led to a host that is not Discord's: asked again, not believed for an hour.
    { cause = "address", drop = "gateway", verdict = "resume" },
    -- A refused RESUME costs one round trip, an IDENTIFY costs quota and events: when unsure, resume.
    { any = true, verdict = "resume" },
  },
  climb = {
    { on = { session = true, stage = "greeting" }, times = 3, to = "fresh", note = "three resumes in a row failed" },
    { on = { close = 1000 }, times = 2, to = "fresh", note = "the server ended it twice in a row" },
  },

  fetch = {
    gateway = {
      keep = "1h", stale = true,
      call = function (conn)
        local res, name, text = conn:http {
          url = conn.options.api .. "/gateway/bot",
          headers = { Authorization = "Bot " .. conn.options.token, ["User-Agent"] = USER_AGENT },
        }
        if not res then conn:fail("gateway_unreachable", { reason = name .. ": " .. text }) end
        if not res.ok then conn:fail("gateway_refused", res) end
        local info = res.json
        local limit = type(info) == "table" and info.session_start_limit
        if type(limit) ~= "table" or type(info.url) ~= "string" then
          conn:fail("gateway_answer", { reason = "url or session_start_limit is missing" })
        end
        return info.url, { left = limit.remaining, reset = limit.reset_after, lanes = limit.max_concurrency }
      end,
    },
  },

  -- The resume address first. When that failed twice (the drop itself was the first failure) the general
  -- one, still to resume: a resume host that is gone must not hold a good session hostage.
  prepare = function (conn)
    local base = conn.session.resume_url
    if not base or conn.failed >= 3 then base = conn:get "gateway" end
    local query = "/?v=10&encoding=json"
    if conn.options.compress then query = query .. "&compress=" .. conn.options.compress end
    return { url = base:gsub("/+$", "") .. query, inflate = conn.options.compress }
  end,

  greet = function (conn)
    local hello = conn:await({ op = 10 }, { within = "20s" }) or conn:fail "no_hello"
    conn:set { beat = hello.d.heartbeat_interval }
    local o, s = conn.options, conn.session
    if s.id then
      conn:send { op = 6, d = { token = o.token, session_id = s.id, seq = s.seq } }
      -- A replay may take minutes; only 30 s without a replayed event are a failure.
      return conn:await({ kind = "RESUMED" }, { within = "30s", progress = { op = 0 } }) or conn:fail "no_resumed"
    end
    conn:send { op = 2, d = {
      token = o.token, intents = o.intents, shard = { o.shard_id, o.shard_count },
      properties = { os = "linux", browser = "holdfast", device = "holdfast" },
    } }
    local ready = conn:await({ kind = "READY" }, { within = "60s" }) or conn:fail "no_ready"
    s.id, s.resume_url = ready.d.session_id, ready.d.resume_gateway_url
  end,

  on_beat = function (conn)
    return { op = 1, d = conn.session.seq or holdfast.null }
  end,
}
