-- What the prover may do with the peer of Feishu: its faults with their stages, and what a connection is given.
local up, hand = { "settled", "ready" }, { "settled", "greeting" }
local function row(at, verb, say, with, more)
  local r = { at = at, verb = verb, say = say, with = with }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end
local function fault(say, with, more) return row({ "down" }, "fault", say, with, more) end
local held, fatal = { held = true }, { fatal = true }

return {
  settings = { domain = "$url" },
  speak = { verb = "push", with = { count = 1 } },
  faults = {
    row(up, "bye", "Feishu says bye (1000)", { code = 1000 }),
    row({ "settled" }, "bye", "Feishu closes with 1001", { code = 1001 }),
    row({ "settled" }, "bye", "Feishu closes with 1006's meaning: no code", { code = 0 }),
    row(hand, "abort", "Feishu drops the stream"),
    row(up, "deaf", "Feishu goes deaf"),
    row({ "settled" }, "server_ping", "Feishu pings"),
    row({ "settled" }, "fault", "pings are not answered any more", { no_pong = true }, held),
    fault("nothing is ever said on a socket", { silent = true }, held),
    fault("the endpoint is never answered", { silent_http = true }, held),
    fault("the endpoint is answered with 500", { http = { status = 500 } }, held),
    fault("the endpoint is busy once (code 1)", { code = { code = 1, msg = "busy", times = 1 } }),
    fault("the endpoint counts too many connections (1000040350)", { code = { code = 1000040350, msg = "too many", times = 2 } }),
    fault("the endpoint says an internal error (1000040343)", { code = { code = 1000040343, msg = "internal" } }, held),
    fault("the endpoint refuses the app (514)", { code = { code = 514, msg = "refused", times = 1 } }, fatal),
    fault("the upgrade is never answered", { silent_upgrade = true }, held),
    fault("each socket is closed after two seconds", { close_after = 2000 }, held),
  },
}
