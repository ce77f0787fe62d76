-- Slack Socket Mode. Numbers are Slack's documentation ("Using Socket Mode", apps.connections.open, "Rate limits")
-- unless a comment says otherwise. Where the official clients disagree with it or each other: what loses no event
-- and opens the fewest sockets, because a socket that Slack still counts takes its share of the events with it.
local holdfast = require "holdfast"

return holdfast.policy {
  platform = "slack",
  about    = "Slack Socket Mode: events, slash commands and interactions of one app",
  options  = {
    -- xapp-1-A0123ABC-...: the part up to the app's id is no secret and survives a new token.
    app_token = { type = "secret", required = true, public = "^xapp%-%d+%-%w+" },
    api       = { type = "url", default = "https://slack.com/api" },
  },
  identity = { "app_token" },
  account  = { "app_token" },
  hosts    = { "slack.com", "*.slack.com", "slack-gov.com", "*.slack-gov.com" },

  -- hello comes within a second; official clients wait for it for ever, and hung there. A socket that was replaced
  -- is left to Slack to close: what is sent just as we close is lost, or comes again late.
  limits   = { prepare = "15s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s",
               greeting = "10s", close = "1s", drain = "2m" },
  sizes    = { message = "16MiB", send = "1MiB" },
  -- Our own pings alone prove life (Slack's may never start). An idle app hears nothing for 12 minutes and more.
  alive    = { ping = "5s", silence = "20s" },
  -- Opening is a method of tier 1, one a minute with bursts; 70 a minute in the field drew 429 for an hour.
  backoff  = { first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "equal", settle = "60s" },
  slow     = { first = "60s", factor = 2, most = "15m" },
  -- Events that nobody acknowledged come again at once, after 1 minute and after 5.
  session  = { replay = "unacked", replay_for = "5m" },
  overlap  = 1,
  close_code = { keep = 1000, final = 1000 },

  frames = {
    codec   = "json",
    take    = { type = "type", reason = "reason", envelope = "envelope_id", asks = "accepts_response_payload",
                kind = "payload.type", event = "payload.event_id", retry = "retry_attempt" },
    deliver = { envelope = { present = true } },
    ends    = {
      { type = "disconnect", reason = "warning", cause = "warning", after = "20s" },   -- it ends in about 10 s
      { type = "disconnect", reason = "refresh_requested", cause = "refresh", after = "10s" },
      { type = "disconnect", reason = "too_many_websockets", cause = "too_many_websockets" },  -- instead of hello
      { type = "disconnect", reason = "link_disabled", cause = "link_disabled" },
      { type = "disconnect", cause = "disconnect" },
    },
    -- By the event, not the envelope: a repetition has another envelope. Ten minutes at least; an hour was seen.
    dedupe  = { by = "event", over = "1h", most = 20000 },
    -- 3 s from Slack to Slack. What asks for a reply waits for the owner, who has less than that; Slack sends it
    -- only once. Whether another socket's acknowledgement counts is not documented: one try costs nothing.
    ack     = {
      { on = { type = { "interactive", "slash_commands" }, asks = true }, when = "through",
        frame = '{"envelope_id":"@envelope"}', within = "2700ms", anywhere = true },
      { when = "early", frame = '{"envelope_id":"@envelope"}', within = "3s", anywhere = true },
    },
  },

  classify = {
    { cause = { "warning", "refresh" }, verdict = "resume", delay = "0s", planned = true },
    { cause = "link_disabled", verdict = "stop", note = "Socket Mode is switched off: switch it on in the app's settings, then start" },
    -- Ten sockets of one app are open or not yet forgotten: only time helps, up to two hours in the field.
    { cause = "too_many_websockets", verdict = "resume", pace = { "90s", "15m" }, note = "Slack counts more than 10 sockets of this app" },

    { stage = "preparing", verdict = "stop", note = "Slack refuses the app token: it needs an xapp- token with connections:write",
      cause = { "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "invalid_token",
                "user_removed_from_team", "team_disabled", "org_login_required", "team_access_not_granted",
                "missing_scope", "cannot_find_service", "not_allowed_token_type", "missing_args", "insecure_request",
                "forbidden_team", "access_denied" } },
    { stage = "preparing", http = 404, verdict = "stop", note = "option api points to no Slack API" },
    { stage = { "preparing", "upgrading" }, http = 429, delay_from = "retry_after", otherwise = "30s", counts = false, verdict = "resume" },
    { stage = "preparing", cause = "ratelimited", delay_from = "retry_after", otherwise = "30s", counts = false, verdict = "resume" },
    -- Seen during outages; clients that stopped on them stayed away.
    { stage = "preparing", verdict = "resume",
      cause = { "open_unreachable", "open_answer", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
                "timeout" } },
    { stage = "preparing", http = { 408, "500-599" }, verdict = "resume" },
    { stage = "preparing", verdict = "resume", pace = { "5m", "15m" }, note = "Slack refuses to open a socket" },   -- not known: no hammering

    -- The first return is at once; another one soon is a failure.
    { stage = "ready", close = { 1000, 1001, 1005 }, verdict = "resume", delay = "0s" },
    { stage = "ready", cause = { "silence", "eof", "reset" }, verdict = "resume", delay = { "0s", "1s" } },
    { any = true, verdict = "resume" },
  },

  -- The address is good for one dial: the ticket in it is used up, or old, at the next.
  prepare = function (conn)
    local res, name, text = conn:http {
      method = "POST", url = conn.options.api .. "/apps.connections.open", body = "",
      headers = { Authorization = "Bearer " .. conn.options.app_token, ["Content-Type"] = "application/x-www-form-urlencoded" },
    }
    if not res then conn:fail("open_unreachable", { reason = name .. ": " .. text }) end
    if not res.ok then conn:fail("open_http", res) end
    local answer = type(res.json) == "table" and res.json or {}
    if answer.ok == true and type(answer.url) == "string" then return { url = answer.url } end
    local code = answer.ok == false and type(answer.error) == "string" and answer.error:match "^[%w_]+$"
    conn:fail(code or "open_answer", { http = res.status, retry_after = res.retry_after, reason = "apps.connections.open was refused" })
  end,

  greet = function (conn)
    local hello = conn:await { type = "hello" }
    local counted = tonumber(hello.num_connections) or 0
    -- More than ours are sockets of another process, or dead ones that Slack still counts. Connecting again makes
    -- one more of them, so it is said and nothing else.
    if counted > conn.links then
      conn:warn(("Slack counts %d sockets of this app, %d of them ours: the others take their share of the events"):format(counted, conn.links))
    end
    local lives = type(hello.debug_info) == "table" and tonumber(hello.debug_info.approximate_connection_time)
    if lives and lives > 180 then conn:set { retire = (lives - 60 - 30 * holdfast.random()) * 1000 } end   -- before Slack's own recycling
  end,
}
