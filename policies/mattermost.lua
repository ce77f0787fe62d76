-- Mattermost's WebSocket API v4, for bot accounts and personal access tokens. Numbers are those of the server's and
-- the web client's source; what is not written there is a choice that costs no event.
local holdfast = require "holdfast"

-- Another connection_id than ours: what we missed is gone at the server, and numbers start anew.
local function meet(conn, hello)
  local data = type(hello.data) == "table" and hello.data or {}
  if type(data.connection_id) ~= "string" or data.connection_id == conn.session.id then return end
  if conn.session.id then conn:gap "the server did not keep the connection: what came meanwhile is missing" end
  conn.session = { id = data.connection_id, seq = hello.seq }
end

return holdfast.policy {
  platform = "mattermost",
  about    = "Mattermost WebSocket API v4",
  options  = {
    token  = { type = "secret", required = true },
    server = { type = "url", required = true },   -- https://chat.example.com, with its path if it has one
  },
  identity = { "token", "server" },
  account  = { "token", "server" },

  limits   = { prepare = "20s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s",
               greeting = "15s", close = "1s" },
  sizes    = { message = "16MiB", send = "8KiB" },   -- the server reads no more
  -- The web client's rule: a ping at once and every 30 s, and one that is not answered is the end. It waits for the
  -- answer until the next one is due; ten seconds are enough.
  alive    = { ping = false, silence = false },
  beat     = { every = "30s", first = "at_once", answer = { reply = 2 }, within = "10s", dead = 1 },
  -- The web client: 3 s flat, from the seventh failure on 3 s * n^2, at most 5 minutes.
  backoff  = { first = "3s", factor = 1.8, most = "5m", floor = "1s", jitter = "equal", settle = "60s" },
  slow     = { first = "5m", factor = 2, most = "15m" },
  -- The server keeps the last 128 events of a connection that went, for some minutes; asking costs nothing.
  session  = { of = { "token", "server" }, age = "24h", replay = "session" },
  close_code = { keep = 1000, final = 1000 },

  frames = {
    codec    = "json",
    take     = { event = "event", seq = "seq", reply = "seq_reply", status = "status", action = "action" },
    -- Events, and answers to what consumers asked (1 and 2 are our own numbers).
    deliver  = { { event = { present = true } }, { reply = { from = 3, to = 2147483647 } } },
    inspect  = { event = "hello" },
    remember = { seq = "seq" },
    follows  = { by = "seq", anew = { event = "hello" }, cause = "sequence" },
    accept   = { action = { "user_typing", "get_statuses", "get_statuses_by_ids", "user_update_active_status", "presence" } },
  },

  classify = {
    { cause = "sequence", verdict = "resume", delay = { "0s", "1s" }, note = "an event is missing: asked for again" },
    { stage = "preparing", http = 401, verdict = "stop", note = "the token is not valid (any more): issue a new one" },
    { stage = "preparing", http = { 404, 405 }, verdict = "stop", note = "option server points to no Mattermost" },
    { stage = "preparing", http = 403, verdict = "resume", pace = { "5m", "15m" }, note = "blocked by something in between, or the account is disabled" },
    { stage = { "preparing", "upgrading" }, http = 429, delay_from = "retry_after", otherwise = "30s", counts = false, verdict = "resume" },
    { cause = "not_authenticated", verdict = "fresh" },
    { any = true, verdict = "resume" },
  },
  climb = {
    { on = { session = true, stage = { "upgrading", "greeting" } }, times = 3, to = "fresh", note = "three resumes in a row failed" },
  },

  -- The socket does not say that a token is refused, it just ends; the REST API does.
  prepare = function (conn)
    local authorization = "Bearer " .. conn.options.token
    local server = conn.options.server:gsub("/+$", "")
    local res, name, text = conn:http { url = server .. "/api/v4/users/me", headers = { Authorization = authorization } }
    if not res then conn:fail("server_unreachable", { reason = name .. ": " .. text }) end
    if not res.ok then conn:fail("server_refused", { http = res.status, retry_after = res.retry_after, reason = "users/me" }) end
    local url, s = server:gsub("^http", "ws") .. "/api/v4/websocket", conn.session
    if s.id and s.seq then
      url = url .. "?" .. holdfast.url.query { connection_id = s.id, sequence_number = ("%d"):format(s.seq + 1) }
    end
    -- A connection is found again only if the upgrade itself says whose it is.
    return { url = url, headers = { Authorization = authorization } }
  end,

  -- Where a proxy took the header away, the challenge does it; otherwise the server leaves it unanswered.
  greet = function (conn)
    conn:send { seq = 1, action = "authentication_challenge", data = { token = conn.options.token } }
    if not conn.session.id then return meet(conn, conn:await { event = "hello" }) end
    -- No hello follows when the connection was found: what was missed, then this answer.
    conn:send { seq = 2, action = "ping" }
    local first = conn:await({ { event = "hello" }, { reply = 2 } }, { progress = { event = { present = true } } })
    if first.event == "hello" then return meet(conn, first) end
    if first.status ~= "OK" then conn:fail "not_authenticated" end
  end,

  on_beat  = function () return { seq = 2, action = "ping" } end,
  on_frame = meet,
}
