-- What Feishu's SDKs and incidents ask for, as the engine gets it: numbers, and what each ending means.
local claims = require "policy_claims"

describe("the plan for Feishu", function ()
  it("asks for what nobody can connect without", function ()
    claims.requires("feishu", { "app_id", "app_secret" })
  end)

  it("has limits for every wait, and the platform's usual numbers", function ()
    claims.numbers("feishu", {
      prepare = "12s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s", greeting = "12s", close = "1s", drain = "10s",
      message_bytes = 16 * 1024 * 1024, send_bytes = 64 * 1024,
      beat = "2m", beat_least = "5s", beat_most = "10m", beat_within = "30s", beat_first = "after", beat_dead = 1,
      backoff = "1s * 2 to 2m", floor = "250ms", jitter = "equal", settle = "2m", slow = "10m * 2 to 30m",
      replay = "unacked", overlap = 1, retire = "6h", retire_jitter = 0.2, close_keep = 1000, close_final = 1000,
      join = "10s", join_parts = 256, join_bytes = 16 * 1024 * 1024, dedupe = "8h", dedupe_most = 50000, ack_1 = "3s", ack_2 = "3s",
    })
  end)

  it("is one identity for each app", function ()
    claims.keeps("feishu", { app_id = "cli_2", app_secret = "secret:t", domain = "https://open.larksuite.com" },
      { app_id = "session identity account", app_secret = "", domain = "" })
  end)

  it("stops where the app is refused, waits where there are too many, and asks again where the platform is busy", function ()
    claims.decisions("feishu", {
      { { stage = "preparing", name = "credentials", http = 200, code = 1000040345 }, "stop, with a note" },
      { { stage = "preparing", name = "endpoint", http = 200 }, "code", { 403, 514, 9499 }, "stop, with a note" },
      { { stage = "preparing", name = "endpoint", http = 200 }, "code", { 1000040345, 1000040350 }, "slow, with a note" },
      { { stage = "preparing", name = "endpoint", http = 200, code = 1000040351 }, "slow" },
      { { stage = "preparing", name = "endpoint", http = 200 }, "code", { 1, 1000040343 }, "fresh" },
      { { stage = "preparing", name = "endpoint", http = 400, code = 99991400 }, "fresh, after what it says or 1m, uncounted" },
      -- Of anything else such a number means nothing.
      { { stage = "preparing", name = "something_else", http = 200 }, "code",
        { 403, 514, 9499, 1000040345, 1000040350, 1000040351, 99991400, 5, -1 }, "fresh" },
      { { stage = "preparing", name = "something_else" }, "http", { 400, 403, 404, 409 }, "fresh" },
      { { name = "endpoint", http = 429 }, "stage", { "preparing", "upgrading" }, "fresh, after what it says or 1m, uncounted" },
      { { name = "x", stage = "greeting", http = 429 }, "fresh" },
    })
  end)

  it("takes a refusal that nobody has described for one only when it comes again and again", function ()
    claims.decisions("feishu", {
      { { stage = "preparing", name = "endpoint" }, "http", { 402, 404, 407, 409, 499 }, "slow, as endpoint_status" },
      { { stage = "preparing", name = "endpoint" }, "http", { 400, 401, 403 }, "slow, as endpoint_status; 3 times: stop, told" },
      { { stage = "preparing", name = "endpoint" }, "http", { 399, 408, 500, 503 }, "fresh" },
      { { stage = "preparing", name = "endpoint", http = 200 }, "code", { -9007199254740991, -1, 2, 999, 9007199254740991 },
        "slow, as endpoint_code, with a note; 4 times: stop, told" },
      { { stage = "preparing", name = "endpoint", http = 500, code = 77 }, "fresh" },
      { { stage = "preparing", name = "endpoint", http = 200 }, "fresh" },
    })
  end)

  it("reads what the handshake says in its headers", function ()
    local refused = { kind = "upgrade_refused", stage = "upgrading" }
    local function said(head, http, stage) return { kind = refused.kind, stage = stage or refused.stage, http = http, head = head } end
    claims.decisions("feishu", {
      { said("Handshake-Status: 403\r\n", 200), "stop, with a note" },
      { said("Handshake-Autherrcode: 1000040350\r\n", 200), "slow, with a note" },
      { said("Handshake-Status: 514\r\n", 200), "fresh, as ticket; 4 times in 2h: slow, told" },
      { said("Handshake-Status: 404\r\n", 200), "fresh" },
      { said("", 403), "slow, with a note" },
      { said("", 404), "fresh" },
      { { kind = "closed", stage = "greeting", head = "Handshake-Status: 403\r\n", http = 403 }, "fresh" },
      { { kind = "closed", stage = "greeting", head = "Handshake-Status: 514\r\n" }, "fresh" },
      { { kind = "closed", stage = "greeting", head = "Handshake-Autherrcode: 1000040350\r\n" }, "fresh" },
    })
  end)

  it("takes bye as routine, and is soon back after a link that was cut", function ()
    claims.decisions("feishu", {
      { { kind = "closed", stage = "ready" }, "close", { 1000, 1001, 1005 }, "fresh, after 0s to 2s, planned" },
      { { kind = "closed", stage = "ready" }, "close", { 1002, 1006, 1011, 4321 }, "fresh, after 0s to 2s" },
      { { kind = "beat", stage = "ready" }, "fresh, after 0s to 1s" },
      { { stage = "ready" }, "kind", { "eof", "reset", "protocol" }, "fresh, after 0s to 2s" },
      { { stage = "greeting" }, "kind", { "eof", "timeout" }, "fresh" },
      { { stage = "preparing", name = "endpoint_unreachable" }, "fresh" },
    })
  end)
end)
