-- What the prover may do with the peer of Slack: its faults with their stages, and what a connection is given.
local up, hand = { "settled", "ready" }, { "settled", "greeting" }
local function row(at, verb, say, with, more)
  local r = { at = at, verb = verb, say = say, with = with }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end
local function fault(say, with, more) return row({ "down" }, "fault", say, with, more) end
local held, fatal = { held = true }, { fatal = true }

return {
  settings = { app_token = "xapp-1-A0PROVE-1-nothing", api = "$url/api" },
  speak = { verb = "event", with = {} },
  heal = { "heal", "enable" },
  faults = {
    row(up, "disconnect", "Slack recycles the socket (refresh_requested)", { reason = "refresh_requested" }),
    row({ "settled" }, "disconnect", "Slack announces the end (warning)", { reason = "warning" }),
    row({ "settled" }, "disable", "Socket Mode is switched off", nil, fatal),
    row(up, "close", "Slack closes with 1000", { code = 1000 }),
    row({ "settled" }, "close", "Slack closes with 1001", { code = 1001 }),
    row({ "settled" }, "close", "Slack closes with 1011", { code = 1011 }),
    row(hand, "abort", "Slack drops the socket"),
    row(up, "deaf", "Slack goes deaf"),
    fault("one hello does not come", { silent_hello = 1 }),
    fault("no hello ever comes", { silent_hello = true }, held),
    fault("there are too many sockets", { too_many = true }, held),
    fault("apps.connections.open is answered with 429 once", { open = { status = 429, times = 1, headers = { ["Retry-After"] = "30" } } }),
    fault("apps.connections.open is answered with 500", { open = { status = 500 } }, held),
    fault("apps.connections.open says internal_error", { open_error = { error = "internal_error" } }, held),
    fault("apps.connections.open says invalid_auth", { open_error = { error = "invalid_auth", times = 1 } }, fatal),
    fault("apps.connections.open is never answered", { silent_open = true }, held),
    fault("the upgrade is never answered", { silent_upgrade = true }, held),
    fault("each socket ends two seconds after hello", { drop_after = 2000 }, held),
  },
}
