-- One bot of a WuKongIM server with a dmwork-style REST server. Check it with
-- `holdfast check -c examples/wukongim.lua`; to try it without a server, see the end of this file.
listen { unix = "../run/holdfast.sock" }
store { path = "../var/holdfast.db" }   -- messages are acknowledged to the server once they are in here
policies { path = "../policies" }

connection "greeter" {
  policy    = "wukongim",
  bot_token = secret { env = "WUKONGIM_BOT_TOKEN" },   -- bf_... or app_...; or { file = "bot-token" }
  -- The REST base, without /v1. One installation per token: a second one, an old plugin left running, is kicked by
  -- this one and kicks it. An alarm says so; no waiting mends it.
  api       = "https://im.example.org/api",
  -- Where register names another host, or an address that cannot be reached from here:
  -- ws_url  = "wss://im.example.org/ws",

  -- Bots get {"packet":"recv",...,"payload":{...}}, decrypted, and may send over the socket
  --   {"packet":"send","channel_id":"u_alice","channel_type":1,"client_msg_no":"...","payload":{"type":1,"content":"hi"}}
  -- or over the REST server, as before. What came while nothing was connected is not sent again: a gap says so, and
  -- /v1/bot/messages/sync has it.

  -- To try it without a server, start
  --   holdfast peer wukongim --port 9443 --ca-out examples/ca.pem --option events_every=1000
  -- with any WUKONGIM_BOT_TOKEN, and put these two in the place of api:
  -- api     = "https://127.0.0.1:9443",
  -- ca_file = "ca.pem",
}
