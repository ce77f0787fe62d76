-- What QQ's documentation and its incidents ask for, as the engine gets it: numbers, and what each ending means.
local claims = require "policy_claims"

describe("the plan for QQ", function ()
  it("asks for what nobody can connect without", function ()
    claims.requires("qqbot", { "app_id", "client_secret" })
  end)

  it("has the documented numbers", function ()
    claims.numbers("qqbot", {
      prepare = "45s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "20s", greeting = "1m", close = "1s", drain = "30s",
      message_bytes = 64 * 1024 * 1024, send_bytes = 1024 * 1024,
      beat = "45s", beat_least = "5s", beat_most = "55s", beat_first = "at_once", beat_dead = 1,
      backoff = "1s * 2 to 1m", floor = "250ms", jitter = "full", settle = "1m", slow = "1m * 2 to 10m",
      start = "22 in 1h, 298 in 1d, 5500ms apart, 0.1 for people", session_life = "1d", replay = "session", close_keep = 4000, close_final = 1000,
      dedupe = "30m", dedupe_most = 2000, ends_session_paused = "5s", ends_session_invalid = "5s",
      fetch_token = "kept for one attempt, renewed 30s to 50s before its end", fetch_gateway = "kept 1d, 1m apart, 1m after a failure, an old one serves",
    })
  end)

  it("keeps a session for as long as all that it was started with is the same", function ()
    claims.keeps("qqbot", { app_id = "1021", client_secret = "secret:t", shard_id = 1, shard_count = 2, intents = 1, api = "https://api.bot.qq.com" }, {
      app_id = "session identity account", client_secret = "", shard_id = "session identity lane", shard_count = "session", intents = "session", api = "session",
    })
  end)

  it("answers each close code as its documentation means it", function ()
    claims.decisions("qqbot", {
      { { kind = "closed" }, "close", { 4001, 4002, 4010, 4011, 4012, 4013, 4014, 4914, 4915 }, "stop, with a note" },
      { { kind = "closed" }, "close", { 4003, 4005, 4006, 4007, 4900, 4901, 4912, 4913 }, "fresh" },
      { { kind = "closed", close = 4004 }, "resume, without token; 3 times in 3h: slow, ladder 30m to 1h, told" },
      { { kind = "closed", close = 4008 }, "resume, after 1m" },
      { { kind = "closed", close = 4009 }, "resume, after 0s to 1s, planned" },
      { { kind = "closed" }, "close", { 1000, 1001, 1006, 4000, 4015, 4899, 4916 }, "resume" },
    })
  end)

  it("answers what the gateway says in band", function ()
    claims.decisions("qqbot", {
      { { kind = "ended", name = "reconnect" }, "resume, after 0s to 1s, planned" },
      { { kind = "ended", name = "session_paused" }, "resume, after 6s to 10s" },
      { { kind = "ended", name = "session_invalid" }, "fresh, after 6s to 10s" },
    })
  end)

  it("tells credentials that are refused from being asked too often", function ()
    claims.decisions("qqbot", {
      { { stage = "preparing", name = "token_refused", http = 200 }, "code", { 10004, 100007, 100016 }, "stop, with a note" },
      { { stage = "preparing", name = "token_refused", http = 200, code = 100001 }, "resume, after 1m" },
      { { stage = "preparing", name = "token_refused", http = 200 }, "code", { 10005, 100008, 100017 }, "resume" },
      { { stage = "preparing", name = "gateway_refused", http = 400 }, "code", { 11243, 11251, 11265 }, "stop, with a note" },
      { { stage = "preparing", name = "gateway_refused", http = 401, code = 11298 }, "slow, ladder 10m to 30m, with a note" },
      { { stage = "preparing", name = "gateway_refused", http = 401, code = 11244 },
        "resume, after 1m, without token; 3 times in 3h: slow, ladder 30m to 1h, told" },
      { { stage = "preparing", name = "token_refused", http = 200, code = 11244 }, "resume; 3 times in 3h: slow, ladder 30m to 1h, told" },
      -- Of anything else such a number means nothing.
      { { stage = "preparing", name = "something_else", http = 200 }, "code", { 10004, 100007, 100016, 100001, 11243, 11251, 11265, 11298 }, "resume" },
      { { stage = "preparing", name = "token_refused", http = 200 }, "code", { 11243, 11251, 11265, 11298 }, "resume" },
      { { stage = "preparing", name = "gateway_refused", http = 200 }, "code", { 10004, 100007, 100016, 100001 }, "resume, after 1m" },
      { { stage = "preparing", name = "something_else", http = 404 }, "resume" },
      { { stage = "preparing", http = 404 }, "name", { "token_refused", "token_answer", "gateway_refused", "gateway_answer" }, "slow, with a note" },
      { { stage = "preparing", http = 404, name = "token_unreachable" }, "resume" },
      { { stage = "preparing", name = "fetch_gap" }, "resume, after what it says, uncounted" },
      { { stage = "preparing", http = 400 }, "name", { "gateway_refused", "gateway_answer" }, "resume, after 1m" },
      { { stage = "preparing", name = "gateway_unreachable" }, "resume, after 1m" },
      { { stage = "preparing", http = 500 }, "name", { "token_answer", "token_refused", "token_unreachable" }, "resume" },
    })
  end)

  it("doubts the cached address where the way to it fails", function ()
    claims.decisions("qqbot", {
      { { kind = "timeout" }, "stage", { "resolving", "connecting", "securing", "upgrading" }, "resume, without gateway" },
      { { kind = "address", stage = "preparing" }, "resume, without gateway" },
      { { kind = "timeout" }, "stage", { "preparing", "ready" }, "resume" },
    })
  end)

  it("gives a session up when three resumes in a row failed, and slows down where session starts are refused", function ()
    claims.decisions("qqbot", {
      { { kind = "timeout", stage = "greeting", session = true }, "resume; 3 times: fresh, told" },
      { { kind = "eof", stage = "ready", session = true }, "age", { 1, 4999 }, "resume; 3 times: fresh, told" },
      { { kind = "eof", stage = "ready", session = true, age = 5000 }, "resume" },
      { { kind = "eof", stage = "ready", session = false, age = 1 }, "resume" },
      { { kind = "timeout", stage = "greeting", session = false }, "resume; 5 times in 1h: slow, ladder 10m, told" },
    })
  end)
end)
