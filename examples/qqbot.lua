-- A QQ bot (the official bot API v2). `holdfast check -c examples/qqbot.lua` says what is wrong with it;
-- `holdfast run -c examples/qqbot.lua` runs it, with QQBOT_SECRET set. examples/holdfast.lua explains the sections.
listen { unix = "../run/holdfast.sock" }
store { path = "../var/holdfast.db" }

connection "qq-bot" {
  policy        = "qqbot",
  app_id        = "102000001",                      -- as the bot's page has it
  client_secret = secret { env = "QQBOT_SECRET" },  -- or { file = "qqbot-secret" }
  -- What the bot hears of: mentions in guilds (2^30), groups and direct messages (2^25), direct messages of
  -- guilds (2^12). That is also what it is without the line. More needs the platform's consent; asking for
  -- what is not granted ends with close code 4014.
  intents       = 2^30 + 2^25 + 2^12,

  -- The names of the platform changed in 2026. Both old and new ones are asked in turn, unless set here:
  -- api       = "https://sandbox.api.sgroup.qq.com",  -- the sandbox, or one's own peer:
  -- api       = "https://127.0.0.1:9446", token_url = "https://127.0.0.1:9446/app/getAppAccessToken", ca_file = "ca.pem",
  --   holdfast peer qqbot --port 9446 --ca-out examples/ca.pem --option events_every=1000
}

-- A new bot has an IP allow-list: `holdfast why qq-bot` says so when this machine is not on it.
