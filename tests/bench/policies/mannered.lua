-- The benchmark's connections with a platform's greeting and beats: for starts, idle links and herds.
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
  beat     = { every = "20s", first = "spread", answer = { op = 11 }, dead = 2 },
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
  greet   = function (conn)
    conn:await { op = 10 }
    conn:send { op = 2, d = { token = conn.options.token } }
    conn:await { op = 0, kind = "READY" }
  end,
  on_beat = function (conn) return { op = 1, d = conn.session.seq } end,
}
