-- Any WebSocket that needs no platform's handshake: dial the address, keep it alive with pings, hand over
-- every message. What a platform does differently is set per connection: each table below is an option.
local holdfast = require "holdfast"

return holdfast.policy {
  platform = "generic",
  about    = "a plain WebSocket: RFC 6455 and nothing more",
  options  = {
    url        = { type = "url", required = true },
    headers    = { type = "table", about = "for the upgrade; values may be secrets" },
    protocol   = { type = "string", about = "Sec-WebSocket-Protocol" },
    inflate    = { type = "string", one_of = { "zlib-stream", "zstd-stream" } },
    ping       = { type = "tune", at = "alive.ping" },
    -- Two connections to one url are one identity, unless they are told apart here.
    identity   = { type = "string", default = "" },
    limits     = { type = "tune" },
    sizes      = { type = "tune" },
    alive      = { type = "tune" },
    backoff    = { type = "tune" },
    slow       = { type = "tune" },
    budgets    = { type = "tune" },
    retire     = { type = "tune" },
    close_code = { type = "tune" },
    frames     = { type = "tune" },
    classify   = { type = "tune" },
    climb      = { type = "tune" },
  },
  identity = { "url", "identity" },
  account  = { "url", "identity" },

  limits   = { prepare = "10s", call = "10s", resolve = "5s", connect = "10s", secure = "10s",
               upgrade = "10s", greeting = "20s", close = "1s", drain = "30s" },
  sizes    = { message = "16MiB", send = "1MiB" },
  alive    = { ping = "20s", silence = "45s" },
  backoff  = { first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "60s" },
  slow     = { first = "60s", factor = 2, most = "10m" },
  close_code = { keep = 1000, final = 1000 },  -- no session: nothing to keep

  frames   = { codec = "json", deliver = true, accept = true },

  classify = {
    { stage = "upgrading", http = { 401, 403 }, verdict = "slow", note = "refused: see url and headers" },
    { stage = "upgrading", http = { 429, 503 }, delay_from = "retry_after", otherwise = "30s", verdict = "resume" },
    { cause = "certificate", verdict = "slow", note = "the server's certificate is not trusted" },
    { any = true, verdict = "resume" },
  },

  prepare = function (conn)
    local o = conn.options
    return { url = o.url, headers = o.headers, protocol = o.protocol, inflate = o.inflate }
  end,
}
