-- The configuration of `make run`: one bot against a platform that this machine plays itself. run.sh puts
-- the peer's port in and copies it to build/demo/.
listen   { unix = "holdfast.sock" }
policies { path = "../../policies" }

-- Everything faster than in production, so that half a minute shows what an outage of an hour does.
local quick = {
  backoff = { first = "300ms", most = "2s", settle = "2s" },
  beat    = { every = { "1500ms", "1s", "5s" } },
  limits  = { greeting = "5s" },
  -- The platform allows one session start per 5.5 s, and holdfast keeps to it: here as there.
}

connection "support-bot" {
  policy   = "discord",
  token    = secret { env = "DEMO_TOKEN" },   -- never in this file, never in a log
  intents  = 513,
  api      = "https://127.0.0.1:9443/api/v10",
  ca_file  = "ca.pem",                        -- the peer made this CA a moment ago
  tune     = quick,
}
