-- What Discord's documentation and its incidents ask for, as the engine gets it: numbers, and what each ending means.
local claims = require "policy_claims"

describe("the plan for Discord", function ()
  it("asks for what nobody can connect without", function ()
    claims.requires("discord", { "token", "intents" })
  end)

  it("has the documented numbers, and the waits that outages need", function ()
    claims.numbers("discord", {
      prepare = "45s", call = "30s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s", greeting = "90s", close = "1s",
      drain = "30s", message_bytes = 64 * 1024 * 1024, send_bytes = 4096,
      beat = "41250ms", beat_least = "5s", beat_most = "2m", beat_first = "spread", beat_dead = 1,
      backoff = "1s * 2 to 1m", floor = "250ms", jitter = "full", settle = "1m", slow = "1m * 2 to 10m",
      start = "22 in 1h, 298 in 1d, 5500ms apart, 0.1 for people", send = "120 in 62s, 5 for beats",
      session_age = "1d", replay = "session", close_keep = 4000, close_final = 1000, fetch_gateway = "kept 1h, an old one serves",
    })
  end)

  it("keeps a session for as long as all that it was started with is the same", function ()
    claims.keeps("discord", { token = "secret:2.y", shard_id = 1, shard_count = 2, intents = 1, compress = "zstd-stream", api = "https://discord.com/api/v9" }, {
      token = "session identity account", shard_id = "session identity lane", shard_count = "session", intents = "session", compress = "session", api = "",
    })
    claims.keeps("discord", { token = "secret:1.reset" }, { token = "" })
  end)

  it("answers each close code as its documentation means it", function ()
    claims.decisions("discord", {
      { { kind = "closed" }, "close", { 4000, 4001, 4002, 4008, 4015, 1001, 1006, 1011, 3999 }, "resume" },
      { { kind = "closed" }, "close", { 4003, 4005, 4006, 4007, 4009 }, "fresh" },
      { { kind = "closed" }, "close", { 4004, 4010, 4011, 4012, 4013, 4014 }, "stop, with a note" },
      { { kind = "closed", close = 1000 }, "resume; 2 times: fresh, told" },
    })
  end)

  it("answers what the gateway says in band", function ()
    claims.decisions("discord", {
      { { kind = "ended", name = "reconnect" }, "resume, after 0s to 1s, planned" },
      { { kind = "ended", name = "session_paused" }, "resume, after 1s to 5s" },
      { { kind = "ended", name = "session_invalid" }, "fresh, after 1s to 5s" },
    })
  end)

  it("tells a token that is refused from an address that is, and both from an outage", function ()
    claims.decisions("discord", {
      { { stage = "preparing", name = "gateway_refused" }, "http", { 401, 404, 405 }, "stop, with a note" },
      { { stage = "preparing", name = "gateway_refused", http = 403 }, "slow, ladder 10m to 30m, with a note" },
      { { stage = "preparing", name = "gateway_refused", http = 429 }, "resume, after what it says or 1m, uncounted" },
      { { stage = "preparing", name = "gateway_refused" }, "http", { 400, 402, 406, 428, 430, 500, 502, 503 }, "resume" },
      { { kind = "upgrade_refused", stage = "upgrading", http = 429 }, "resume, after what it says or 1m, uncounted" },
      { { kind = "upgrade_refused", stage = "upgrading" }, "http", { 401, 403, 404, 405, 502, 520 }, "resume" },
      { { kind = "closed", stage = "greeting", http = 429 }, "resume" },
      { { kind = "address", stage = "preparing" }, "resume, without gateway" },
    })
  end)

  it("resumes after all else, and gives a session up when three resumes in a row failed", function ()
    claims.decisions("discord", {
      { { kind = "timeout" }, "stage", { "preparing", "resolving", "connecting", "securing", "upgrading", "greeting", "ready" }, "resume" },
      { { kind = "failed", stage = "greeting", session = true, name = "no_resumed" }, "resume; 3 times: fresh, told" },
      { { kind = "reset", session = true }, "stage", { "upgrading", "ready" }, "resume" },
      { { stage = "ready" }, "kind", { "eof", "reset", "beat", "protocol", "inflate" }, "resume" },
    })
  end)
end)
