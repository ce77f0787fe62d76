-- What the prover may do with the peer of WuKongIM: its faults with their stages, and what a connection is given.
local up, hand = { "settled", "ready" }, { "settled", "greeting" }
local function row(at, verb, say, with, more)
  local r = { at = at, verb = verb, say = say, with = with }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end
local function fault(say, with, more) return row({ "down" }, "fault", say, with, more) end
local held, fatal = { held = true }, { fatal = true }

return {
  settings = { api = "$url" },
  speak = { verb = "message", with = { count = 1 } },
  faults = {
    row(up, "kick", "another device takes the session"),
    row({ "settled" }, "rival", "another installation takes the session every three seconds for ten minutes", { lasts = 600000, every = 3000 }),
    row({ "settled" }, "update_tokens", "the REST server starts and stores every token again"),
    row({ "settled" }, "blank", "the token is blanked"),
    row({ "settled" }, "forget", "the token is forgotten, and nobody says so"),
    row(up, "close", "the server closes without a packet"),
    row(hand, "drop", "the server drops the stream"),
    row(up, "deaf", "the server goes deaf"),
    row({ "settled" }, "fault", "PINGs are not answered any more", { no_pong = true }, held),
    fault("CONNECT is never answered", { stall = true }, held),
    fault("every CONNECT is refused without a word", { auth = "silent" }, held),
    fault("register is never answered", { silent_http = true }, held),
    fault("register is answered with 500", { http = { status = 500 } }, held),
    fault("register is answered with 429 once", { http = { status = 429, times = 1 } }),
    fault("register is answered with 403", { http = { status = 403, times = 1 } }, fatal),
    fault("the upgrade is never answered", { silent_upgrade = true }, held),
    fault("each session is kicked three seconds after it was accepted", { kick_after = { ms = 3000 } }, held),
    fault("each session is closed after two seconds", { close_after = 2000 }, held),
  },
}
