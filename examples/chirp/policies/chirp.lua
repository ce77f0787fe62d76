-- Chirp, a made-up platform: a ticket over HTTP, a WebSocket that is greeted with it, pings of its own.
local holdfast = require "holdfast"

return holdfast.policy {
  platform = "chirp",
  about    = "an example: ticket, welcome, auth, ping",
  options  = {
    token = { type = "secret", required = true },
    api   = { type = "url", default = "https://api.chirp.example" },
  },
  identity = { "token" },
  account  = { "token" },
  hosts    = { "api.chirp.example", "*.chirp.example" },  -- where an answer may lead; the api that is set counts too

  limits   = { prepare = "20s", call = "10s", greeting = "20s" },
  alive    = { ping = false, silence = false },  -- the beat is the probe
  -- The welcome says how often (conn:set in greet); 20 s until then, and never outside of 5 s to 2 min.
  beat     = { every = { "20s", "5s", "2m" }, answer = { type = "pong" }, dead = 1 },
  budgets  = { start = { frame = { type = "auth" }, windows = { { 60, "1h" } } } },

  frames = {
    take    = { type = "type", seq = "n" },  -- our name = where it stands in the frame
    deliver = { type = "event" },
    accept  = { type = "say" },              -- what consumers may send
  },

  classify = {
    { close = 4403, verdict = "stop", note = "banned: ask the platform" },
    { close = 4401, verdict = "fresh", note = "the ticket was refused: get a new one" },
    { stage = "preparing", http = { 401, 403 }, verdict = "stop", note = "the token is not valid" },
    { stage = "preparing", http = 429, delay_from = "retry_after", otherwise = "30s", verdict = "fresh" },
    { any = true, verdict = "fresh" },  -- nothing can be resumed here
  },

  -- Each dial gets a ticket of its own. `keep` carries it from here to greet.
  prepare = function (conn)
    local res, name, text = conn:http {
      method = "POST", url = conn.options.api .. "/v1/ticket",
      headers = { Authorization = "Bearer " .. conn.options.token },
    }
    if not res then conn:fail("ticket_unreachable", { reason = name .. ": " .. text }) end
    if not res.ok then conn:fail("ticket_refused", res) end
    local info = res.json
    if type(info) ~= "table" or type(info.address) ~= "string" or type(info.ticket) ~= "string" then
      conn:fail("ticket_answer", { reason = "address or ticket is missing" })
    end
    conn.keep.ticket = info.ticket
    return { url = info.address }
  end,

  greet = function (conn)
    local welcome = conn:await({ type = "welcome" }, { within = "10s" }) or conn:fail "no_welcome"
    if type(welcome.keepalive) == "number" then conn:set { beat = welcome.keepalive * 1000 } end
    conn:send { type = "auth", ticket = conn.keep.ticket }
    local ok = conn:await({ type = "ok" }, { within = "10s" }) or conn:fail "no_ok"
    conn.session.id = ok.session
  end,

  on_beat = function () return { type = "ping" } end,
}
