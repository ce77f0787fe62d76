-- /etc/holdfast/holdfast.lua, for the unit beside this file.
listen { unix = "/run/holdfast/holdfast.sock" }          -- in RuntimeDirectory
store  { path = "/var/lib/holdfast/holdfast.db" }        -- in StateDirectory

connection "support-bot" {
  policy  = "discord",
  token   = secret { credential = "discord-token" },     -- from LoadCredential
  intents = 513,
}
