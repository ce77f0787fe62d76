-- One bot of a Mattermost server. Check it with `holdfast check -c examples/mattermost.lua`.
listen { unix = "../run/holdfast.sock" }
store { path = "../var/holdfast.db" }   -- the place in the server's numbering is kept in here, too
policies { path = "../policies" }

connection "townsquare" {
  policy = "mattermost",
  server = "https://chat.example.com",              -- where people open it, with its path if it has one
  token  = secret { env = "MATTERMOST_TOKEN" },     -- of a bot account, or a personal access token; or { file = "token" }

  -- Posts are made over the server's REST API. Over the socket a consumer may send user_typing, get_statuses and the
  -- like, numbered from 3 on: {"send":{"id":"x","connection":"townsquare","frame":{"seq":3,"action":"user_typing",...}}}

  -- To try it without a server, start  holdfast peer mattermost --port 9443 --ca-out examples/ca.pem --option events_every=1000
  -- with any MATTERMOST_TOKEN, put "https://127.0.0.1:9443" above, and take the comment signs away:
  -- ca_file = "ca.pem",
}
