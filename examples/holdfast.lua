-- A configuration to start from. It is Lua in a sandbox: variables, loops and functions work; files, clocks
-- and the network do not exist. Relative paths are relative to this file. `holdfast check -c FILE` says what
-- is wrong with it, all at once.

-- Where commands, bots and dashboards reach holdfast. The UNIX socket belongs to its user alone (0600). TCP
-- always asks for a token: give one with `token = secret { file = "api-token" }`, or find the generated one
-- in the file that the log names.
listen {
  unix = "../run/holdfast.sock",
  -- http = "127.0.0.1:7600",
}

-- What survives a restart: sessions, budgets, frames that nobody acknowledged. One file, one holdfast. By default
-- var/holdfast.db beside this file; { memory = true } keeps nothing.
store { path = "../var/holdfast.db" }

-- Policies of your own come first, the shipped ones after them. A changed file is taken by itself once it was
-- proven against faults, for at most `prove` (false: taken without); with `watch = false` only when asked to
-- (SIGHUP, `holdfast reload`). With `trial` a changed policy runs on a share of its connections first: one that does
-- worse than the version before it (hook errors, reconnects, time to ready) is taken back by itself, with the reason in
-- the log, in `status` and in each journal. A connection with `trial = true` is among the first to try, one with
-- `trial = false` never is.
policies {
  path = "../policies",
  -- prove = "30s",
  -- watch = true,
  -- trial = { share = "10%", watch = "10m" },
}

-- One connection is one bot (one shard of it). `policy` says whose rules apply; everything that is not one of
-- holdfast's own keys (policy tune trial owner ca_file proxy plain backlog) is an option of that policy.
connection "support-bot" {
  policy  = "discord",
  token   = secret { env = "DISCORD_TOKEN" },  -- or { file = "token" }, or { credential = "discord" }
  intents = 513,                               -- guilds, messages in them

  -- Any table of the policy can be overridden for this connection, under the same checks:
  -- tune = { backoff = { most = "2m" }, limits = { greeting = "60s" } },

  -- Elsewhere than at Discord: a private deployment, or a peer made by
  --   holdfast peer discord --port 9443 --ca-out ca.pem
  -- api     = "https://127.0.0.1:9443/api/v10",
  -- ca_file = "ca.pem",
  -- Without it HTTPS_PROXY, ALL_PROXY and NO_PROXY count; `proxy = false` is none, whatever they say.
  -- proxy   = "http://proxy.example:3128",
  -- proxy   = { url = "http://proxy.example:3128", user = "bots", password = secret { file = "proxy-password" } },
}

-- More shards of one bot are more connections; their session starts share one budget.
-- for shard = 1, 3 do
--   connection("support-bot-" .. shard) {
--     policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
--     shard_id = shard, shard_count = 4,
--   }
-- end
