-- One Slack app over Socket Mode. Check it with `holdfast check -c examples/slack.lua`; to try it without Slack, see
-- the end of this file.
listen { unix = "../run/holdfast.sock" }
store { path = "../var/holdfast.db" }   -- events are acknowledged to Slack once they are in here
policies { path = "../policies" }

connection "helpdesk" {
  policy    = "slack",
  -- Not the bot token: the app-level one, xapp-..., with the scope connections:write.
  app_token = secret { env = "SLACK_APP_TOKEN" },   -- or { file = "slack-app-token" }

  -- Events are acknowledged at once, whatever the bots do. Slash commands, dialogs and buttons may carry a reply, in
  -- three seconds: Slack is told when this consumer acknowledges them, with the reply that it may give:
  --   {"ack":{"connection":"helpdesk","epoch":1,"offset":7,"frame":{"envelope_id":"...","payload":{"text":"done"}}}}
  -- Without an owner they are acknowledged at once and without a reply; the bot answers over Slack's Web API.
  owner     = "helpdesk-bot",

  -- To try it without Slack, start  holdfast peer slack --port 9443 --ca-out examples/ca.pem --option events_every=1000
  -- with any SLACK_APP_TOKEN that begins with xapp-, and take the comment signs away:
  -- api     = "https://127.0.0.1:9443/api",
  -- ca_file = "ca.pem",
}
