-- What the benchmark's connections do: Discord's frames without its greeting. Fields are taken, dispatches
-- delivered, the sequence remembered, each frame checked to its end.
local holdfast = require "holdfast"

return holdfast.policy {
  platform = "bench",
  about    = "the benchmark's load peer",
  options  = {
    url   = { type = "url", required = true },
    token = { type = "string", required = true },
  },
  identity = { "token" },
  account  = { "token" },

  limits   = { prepare = "30s", call = "10s", resolve = "5s", connect = "30s", secure = "30s", upgrade = "30s", greeting = "30s",
               close = "1s", drain = "30s" },
  sizes    = { message = "16MiB", send = "1MiB" },
  alive    = { ping = "5m", silence = "15m" },
  backoff  = { first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "1s" },
  slow     = { first = "60s", factor = 2, most = "10m" },
  session  = { of = { "token" }, age = "24h", replay = "session" },
  close_code = { keep = 4000, final = 1000 },

  frames = {
    codec    = "json",
    take     = { op = "op", seq = "s", kind = "t" },
    deliver  = { op = 0 },
    ends     = { { op = 7, cause = "reconnect" } },
    remember = { seq = "seq" },
  },

  classify = { { any = true, verdict = "resume" } },

  prepare = function (conn) return { url = conn.options.url } end,
}
