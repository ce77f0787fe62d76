-- What Slack's documentation and the incidents of Socket Mode ask for, as the engine gets it: numbers, and what each ending
-- means.
local claims = require "policy_claims"

describe("the plan for Slack", function ()
  it("asks for what nobody can connect without", function ()
    claims.requires("slack", { "app_token" })
  end)

  it("has limits for all that official clients wait for without one, and few openings", function ()
    claims.numbers("slack", {
      prepare = "15s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s", greeting = "10s", close = "1s", drain = "2m",
      message_bytes = 16 * 1024 * 1024, send_bytes = 1024 * 1024, ping = "5s", silence = "20s",
      backoff = "1s * 2 to 1m", floor = "250ms", jitter = "equal", settle = "1m", slow = "1m * 2 to 15m",
      replay = "unacked", replay_for = "5m", overlap = 1, close_keep = 1000, close_final = 1000, dedupe = "1h", dedupe_most = 20000,
      ack_1 = "2700ms", ack_2 = "3s", ends_warning = "20s", ends_refresh = "10s",
    })
  end)

  it("is one identity for each app, whatever its token", function ()
    claims.keeps("slack", { app_token = "secret:xapp-1-A02-x", api = "https://slack-gov.com/api" }, { app_token = "session identity account", api = "" })
    claims.keeps("slack", { app_token = "secret:xapp-1-A01-new" }, { app_token = "" })
  end)

  it("takes recycling as planned, and being one too many as a matter of time", function ()
    claims.decisions("slack", {
      { { kind = "ended" }, "name", { "warning", "refresh" }, "resume, after 0s, planned" },
      { { kind = "ended", name = "disconnect" }, "resume" },
      { { kind = "ended", name = "link_disabled" }, "stop, with a note" },
      { { kind = "ended", name = "too_many_websockets", stage = "greeting" }, "slow, ladder 90s to 15m, with a note" },
    })
  end)

  it("stops where the app token is refused, and nowhere else", function ()
    claims.decisions("slack", {
      { { stage = "preparing", http = 200 }, "name", { "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired",
        "invalid_token", "user_removed_from_team", "team_disabled", "org_login_required", "team_access_not_granted", "missing_scope",
        "cannot_find_service", "not_allowed_token_type", "missing_args", "insecure_request", "forbidden_team", "access_denied" }, "stop, with a note" },
      { { stage = "preparing", http = 404, name = "open_http" }, "stop, with a note" },
      { { stage = "greeting" }, "name", { "invalid_auth", "timeout", "ratelimited" }, "resume" },
      { { stage = "ready", http = 500 }, "name", { "open_http", "something_new" }, "resume" },
      { { kind = "upgrade_refused", stage = "upgrading", http = 404 }, "resume" },
    })
  end)

  it("waits as long as it is told, hammers nobody, and sits out an outage", function ()
    claims.decisions("slack", {
      { { name = "x", http = 429 }, "stage", { "preparing", "upgrading" }, "resume, after what it says or 30s, uncounted" },
      { { name = "x", http = 429 }, "stage", { "greeting", "ready" }, "resume" },
      { { stage = "preparing", name = "ratelimited", http = 200 }, "resume, after what it says or 30s, uncounted" },
      { { stage = "greeting", name = "ratelimited" }, "resume" },
      { { stage = "preparing" }, "name", { "open_unreachable", "open_answer", "internal_error", "fatal_error", "service_unavailable",
        "request_timeout", "timeout" }, "resume" },
      { { stage = "preparing", name = "open_http" }, "http", { 408, 500, 503, 599 }, "resume" },
      { { stage = "preparing", name = "open_http" }, "http", { 400, 403, 407, 409, 499, 600 }, "slow, ladder 5m to 15m, with a note" },
      { { stage = "preparing", name = "something_new", http = 200 }, "slow, ladder 5m to 15m, with a note" },
      { { stage = "upgrading", name = "something_new" }, "resume" },
    })
  end)

  it("is back at once after a close that means nothing, and soon after a link that was cut", function ()
    claims.decisions("slack", {
      { { kind = "closed", stage = "ready" }, "close", { 1000, 1001, 1005 }, "resume, after 0s" },
      { { kind = "closed", stage = "ready" }, "close", { 999, 1002, 1006, 1011, 4321 }, "resume" },
      { { kind = "closed", stage = "greeting", close = 1000 }, "resume" },
      { { stage = "ready" }, "kind", { "silence", "eof", "reset" }, "resume, after 0s to 1s" },
      { { stage = "greeting" }, "kind", { "eof", "reset", "timeout" }, "resume" },
      { { stage = "ready" }, "kind", { "protocol", "too_big" }, "resume" },
    })
  end)
end)
