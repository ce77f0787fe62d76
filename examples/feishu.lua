-- A Feishu (or Lark) app on its long connection. The app is a self-built one, with the subscription mode "long
-- connection" in its console; that mode can only be saved there while a client is connected, so start holdfast
-- first. `holdfast check -c FILE` says what is wrong with this file, all at once.
listen { unix = "../run/holdfast.sock" }
store { path = "../var/holdfast.db" }

connection "assistant" {
  policy     = "feishu",
  app_id     = "cli_a1b2c3d4e5f60718",
  app_secret = secret { env = "FEISHU_APP_SECRET" },  -- or { file = "app-secret" }, or { credential = "feishu" }

  -- Lark, the international platform:
  -- domain  = "https://open.larksuite.com",

  -- Events are acknowledged as soon as they are on disk. The consumer that is named here also answers clicks on
  -- cards: what its acknowledgement carries as `frame` goes back to the platform, within 3 s.
  -- owner   = "assistant-bot",

  -- The platform may be played on this machine: holdfast peer feishu --port 9443 --ca-out ca.pem
  -- domain  = "https://127.0.0.1:9443",
  -- ca_file = "ca.pem",
}
