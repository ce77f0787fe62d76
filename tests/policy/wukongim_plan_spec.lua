-- What WuKongIM's sources and the kick storm ask for, as the engine gets it: numbers, and what each ending means.
local claims = require "policy_claims"

describe("the plan for WuKongIM", function ()
  it("asks for what nobody can connect without", function ()
    claims.requires("wukongim", { "bot_token", "api" })
  end)

  it("has deadlines behind the server's own, and few registers", function ()
    claims.numbers("wukongim", {
      prepare = "30s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s", greeting = "10s", close = "2s", drain = "30s",
      message_bytes = 2 * 1024 * 1024, send_bytes = 64 * 1024, ping = "30s", silence = "45s",
      beat = "25s", beat_least = "25s", beat_most = "25s", beat_within = "10s", beat_first = "at_once", beat_dead = 2,
      backoff = "3s * 2 to 1m", floor = "500ms", jitter = "full", settle = "30s", slow = "1m * 2 to 10m",
      replay = "none", close_keep = 1000, close_final = 1000, dedupe = "15m", dedupe_most = 4096,
      fetch_registered = "kept 30d, 1m apart", every_heartbeat = "30s",
    })
  end)

  it("is one identity for each bot token", function ()
    claims.keeps("wukongim", { bot_token = "secret:bf_2", api = "https://other.example", ws_url = "wss://ws.example" },
      { bot_token = "session identity account", api = "", ws_url = "" })
  end)

  it("never registers in answer to a kick, and stands back from another installation", function ()
    local taken = "; 3 times in 10m: slow, ladder 30s to 10m, told; 3 times in 2h: slow, ladder 30s to 10m"
    claims.decisions("wukongim", {
      { { kind = "ended", name = "conflict" }, "slow, ladder 30s to 10m" .. taken },
      { { kind = "ended", name = "token_updated" }, "resume, after 0s to 20s" .. taken },
      { { kind = "ended", name = "token_blanked" }, "resume" },
      { { kind = "ended", name = "operator_kick" }, "slow, ladder 1m to 10m" },
      { { stage = "greeting", name = "connack", code = 12 }, "slow, ladder 30s to 10m, as conflict" .. taken },
      { { kind = "closed", stage = "ready" }, "age", { 1, 5999 }, "resume; 3 times in 30m: slow, ladder 30s to 10m, told" },
      { { kind = "eof", stage = "ready", age = 5999 }, "resume; 3 times in 30m: slow, ladder 30s to 10m, told" },
      { { kind = "eof", stage = "ready", age = 6000 }, "resume" },
      { { kind = "reset", stage = "ready", age = 1 }, "resume" },
    })
  end)

  it("answers each reason of a CONNACK as its meaning asks", function ()
    claims.decisions("wukongim", {
      { { stage = "greeting", name = "connack", code = 2 }, "renew, with a note; 4 times in 1h: slow, ladder 10m, told" },
      { { stage = "greeting", name = "connack" }, "code", { 6, 17, 18 }, "renew, with a note" },
      { { stage = "greeting", name = "connack" }, "code", { 14, 15 }, "resume" },
      { { stage = "greeting", name = "connack", code = 19 }, "slow, ladder 1h to 2h, with a note" },
      { { stage = "greeting", name = "connack" }, "code", { 21, 27 }, "stop, with a note" },
      { { stage = "greeting", name = "connack", code = 22 }, "slow, ladder 30s to 10m" },
      { { stage = "greeting", name = "connack" }, "code", { 0, 1, 3, 5, 7, 11, 13, 16, 20, 23, 26, 28 }, "slow, with a note" },
      -- Of anything else such a number means nothing.
      { { stage = "greeting", name = "something_else" }, "code", { 2, 6, 12, 14, 17, 18, 19, 21, 22, 27 }, "resume" },
    })
  end)

  it("tells what register refuses from what it is too busy for", function ()
    claims.decisions("wukongim", {
      { { stage = "preparing", name = "unknown_token", http = 400 }, "stop, with a note" },
      { { stage = "preparing", name = "register" }, "http", { 403, 409 }, "stop, with a note" },
      { { stage = "preparing", name = "register", http = 429 }, "resume, after what it says or 30s, uncounted" },
      { { stage = "preparing", name = "register" }, "http", { 400, 404 }, "slow, with a note" },
      { { stage = "preparing", name = "register", http = 401 }, "slow, with a note; 3 times: stop, told" },
      { { stage = "preparing", name = "register" }, "http", { 402, 405, 408, 410, 428, 430, 500 }, "resume" },
      { { stage = "preparing", http = 400, name = "register_failed" }, "resume" },
      { { stage = "preparing", name = "register_unreachable" }, "resume" },
      { { stage = "preparing", name = "something_else" }, "http", { 400, 401, 403, 404, 409, 429 }, "resume" },
      { { stage = "preparing", name = "fetch_gap" }, "resume, after what it says, uncounted" },
      { { kind = "address", stage = "preparing" }, "renew, with a note" },
    })
  end)

  it("hears a refusal in the silence of a server that closes without a byte", function ()
    local silent = "resume, uncounted, as silent_rejection; 2 times: renew, told; 6 times in 1h: slow, ladder 10m, told"
    claims.decisions("wukongim", {
      { { stage = "greeting", age = 3000 }, "kind", { "eof", "reset", "closed" }, silent },
      { { stage = "greeting", age = 2999 }, "kind", { "eof", "reset", "closed" }, "resume" },
      { { stage = "greeting", age = 3000 }, "kind", { "timeout", "protocol" }, "resume" },
      { { stage = "upgrading", age = 5000, kind = "eof" }, "resume; 8 times: renew" },
    })
  end)

  it("asks for the address again after eight dials that led nowhere", function ()
    claims.decisions("wukongim", {
      { { kind = "timeout" }, "stage", { "resolving", "connecting", "securing", "upgrading" }, "resume; 8 times: renew" },
      { { kind = "timeout" }, "stage", { "preparing", "greeting", "ready" }, "resume" },
    })
  end)
end)
