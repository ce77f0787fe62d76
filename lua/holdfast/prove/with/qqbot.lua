-- What the prover may do with the peer of QQ: its faults with their stages, and what a connection is given.
local up, hand = { "settled", "ready" }, { "settled", "greeting" }
local function row(at, verb, say, with, more)
  local r = { at = at, verb = verb, say = say, with = with }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end
local function fault(say, with, more) return row({ "down" }, "fault", say, with, more) end
local held, fatal = { held = true }, { fatal = true }

local about = {
  settings = { token_url = "$url/app/getAppAccessToken", api = "$url" },
  speak = { verb = "dispatch", with = { count = 1 } },
  faults = {
    row(up, "op7", "the gateway asks to reconnect (op 7)"),
    row(hand, "op9", "the gateway ends the session (op 9 false)", { resumable = false }),
    row({ "settled" }, "op9", "the gateway pauses the session (op 9 true)", { resumable = true }),
    row({ "settled" }, "ask_beat", "the gateway asks for a heartbeat"),
    row(hand, "abort", "the gateway drops the stream"),
    row(up, "deaf", "the gateway goes deaf"),
    row({ "settled", "down" }, "expire", "the session expires without a word"),
    row({ "down" }, "new_token", "another token is handed out, and the old one goes"),
    fault("no HELLO ever comes", { silent_hello = true }, held),
    fault("no IDENTIFY is answered", { no_ready = true }, held),
    fault("no RESUME is answered", { no_resumed = true }, held),
    fault("the upgrade is never answered", { silent_upgrade = true }, held),
    fault("the token is never answered", { silent_token = true }, held),
    fault("the gateway's address is never answered", { silent_gateway = true }, held),
    fault("the token is answered with 500", { token = { status = 500 } }, held),
    fault("the gateway's address is answered with 500", { gateway = { status = 500 } }, held),
    row({ "settled" }, "fault", "heartbeats are not answered any more", { no_ack = true }, held),
  },
}
for _, code in ipairs { 4004, 4006, 4007, 4008, 4009, 4900, 4913, 1000, 1001 } do
  about.faults[#about.faults + 1] = row({ "settled" }, "kick", "the gateway closes with " .. code, { code = code })
end
for _, code in ipairs { 4001, 4010, 4013, 4914, 4915 } do
  about.faults[#about.faults + 1] = row({ "settled" }, "kick", "the gateway closes with " .. code .. " and means it", { code = code }, fatal)
end
return about
