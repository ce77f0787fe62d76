-- What somebody who is woken at three in the morning asks, in each of the five incidents: what broke, whose doing is
-- it, since when, what comes next? The real binary, its policies and their peers on real ports; the answers are taken
-- from the tools alone: why, status, /v1/summary, /metrics and the log.
local world = require "daemon_world"
local api = require "api_client"
local control = world.control

describe("the four questions of an operator", function ()
  local w, daemon, peer
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  -- A peer of the platform, and one connection to it by the shipped policy (or `policy`), once it is up.
  local function open(platform, how)
    local words = { "peer", platform, "--port", "0", "--ca-out", "ca.pem" }
    for _, o in ipairs(how.options or {}) do
      words[#words + 1] = "--option"
      words[#words + 1] = o
    end
    peer = w:start(words)
    peer.port = peer:says "listening on https?://127%.0%.0%.1:(%d+)"
    w:write("holdfast.lua", ('listen { unix = "h.sock" }\nstore { path = "h.db" }\n%s\nconnection "bot" { policy = "%s", ca_file = "ca.pem", %s, %s }\n')
      :format(how.policy and 'policies { path = "policies" }' or "", how.policy or platform, (how.keys:gsub("PORT", peer.port)),
        how.tune or 'tune = { backoff = { first = "250ms", most = "1s" } }'))
    daemon = w:daemon { env = { BOT_SECRET = how.secret or world.secret } }
    w:up()
  end

  local function why()
    local code, run = w:run { "why", "bot" }
    assert.equal(0, code, run.err)
    return run.out
  end
  -- The first text of `why` whose summary, not its story, has the pattern.
  local function till(pattern)
    local text
    assert(daemon:eventually(function ()
      peer:pump(0)
      text = why()
      return text:match "^(.-)\n\n":find(pattern)
    end), "never in `why`: " .. pattern .. "\n" .. tostring(text))
    return text:match "^(.-\n)\n"
  end
  local function told(text, label) return text:match("\n  " .. label .. " +([^\n]*)") end
  local function has(text, part) assert.is_truthy(text:find(part, 1, true), text) end
  local function matches(text, pattern) assert.is_truthy(tostring(text):match(pattern), tostring(text) .. " is not " .. pattern) end
  local CLOCK = "%d%d:%d%d:%d%d"

  -- Every tool says the same.
  local function alike(whose, cause)
    local status, summary = api.request(daemon, w.folder .. "/h.sock", "GET", "/v1/summary")
    assert.equal(200, status)
    assert.is_false(summary.well)
    local worst = summary.worst
    assert.same({ "bot", whose, cause }, { worst.name, worst.whose, worst.cause.name })
    matches(worst.down_since, "^%d%d%d%d%-%d%d%-%d%dT")
    matches(worst.next_at, "^%d%d%d%d%-%d%d%-%d%dT")
    assert.is_true(worst.next_at >= worst.since)
    local _, metrics = api.request(daemon, w.folder .. "/h.sock", "GET", "/metrics")
    assert.equal("1", metrics:match('\nholdfast_down{whose="' .. whose .. '"} (%d+)'), metrics)
    assert.is_truthy(daemon:eventually(function () return daemon.err:find("whose=" .. whose, 1, true) end), daemon.err)
  end

  it("are answered in a kick storm by another client (WuKongIM)", function ()
    open("wukongim", { keys = 'bot_token = secret { env = "BOT_SECRET" }, api = "https://127.0.0.1:PORT"', secret = "bf_" .. world.secret })
    control(peer, '{"verb":"rival","lasts":600000,"every":500}')
    local text = till "whose "
    matches(text, "^bot is down and waits for its next attempt %(%d failures? in a row%)\n")
    assert.equal("somebody else took over its identity (while it was up)", told(text, "because"))
    assert.equal("another client's, which uses the same credentials", told(text, "whose"))
    matches(told(text, "down"), "^since " .. CLOCK .. ", for [%d.]+s$")
    matches(told(text, "decided"), "^dial again after 30s, at the slow pace, by the rule %S*wukongim%.lua:%d+")
    matches(told(text, "next"), "^it dials at " .. CLOCK .. ", in %d+s$")
    matches(told(text, "do"), "^find the other installation that uses these credentials and stop one of the two$")
    alike("another_client", "conflict")
    local _, run = w:run { "status" }
    matches(run.out, "\nbot +waiting +[%d.]+s +1 +somebody else took over its identity +dial in %d+s ")
  end)

  it("are answered while a gateway refuses to resume and to start sessions (Discord)", function ()
    open("discord", { keys = 'token = secret { env = "BOT_SECRET" }, intents = 513, api = "https://127.0.0.1:PORT/api/v10"', secret = world.token,
                      options = { "identify_gap=0" } })
    control(peer, '{"verb":"fault","close_after_resume":4000,"close_after_identify":4000}')
    control(peer, '{"verb":"kick","code":4000,"reason":"unknown error"}')
    local text = till "three resumes in a row failed"
    matches(text, "^bot is [^\n]* %(%d failures in a row%)\n")
    assert.equal("closed with 4000 (by the platform, in the greeting)", told(text, "because"))
    assert.equal("the platform's", told(text, "whose"))
    matches(told(text, "down"), "^since " .. CLOCK .. ", for [%d.]+s$")
    matches(told(text, "decided"), '^dial again after [%d.]+s, with a new session, by the climb rule %S*discord%.lua:%d+: "three resumes in a row failed"$')
    matches(told(text, "next"), " at " .. CLOCK .. ", in [%d.]+s$")
    -- From then on new sessions are asked for, as slowly as the account allows, and it says so.
    text = till "queued for its budget"
    matches(told(text, "budget"), "^start: %d+ used, %d+ left; the gap between two holds it up$")
    matches(told(text, "next"), "^its turn comes at " .. CLOCK)
    matches(told(text, "do"), "^nothing: the budget keeps the platform from blocking the account")
    alike("platform", "closed")
  end)

  it("are answered while the endpoint that hands out addresses is down (Feishu)", function ()
    open("feishu", { keys = 'app_id = "cli_a1b2c3d4e5f60718", app_secret = secret { env = "BOT_SECRET" }, domain = "https://127.0.0.1:PORT"' })
    control(peer, '{"verb":"fault","http":{"status":502}}')
    control(peer, '{"verb":"bye"}')
    local text = till "%(%d+ failures in a row%).*HTTP 502"
    assert.equal("endpoint, HTTP 502 (before the dial)", told(text, "because"))
    assert.equal("the platform's", told(text, "whose"))
    matches(told(text, "down"), "^since " .. CLOCK .. ", for [%d.]+s$")
    has(text, "feishu.lua:")
    matches(told(text, "recovers"), "^by itself: it goes on trying, and is up within .* once the platform is well and reachable$")
    assert.equal("nothing here: the platform has trouble of its own; see its status page", told(text, "do"))
    alike("platform", "endpoint")
    -- It never gave up: once the endpoint answers, it is up without anybody's help.
    control(peer, '{"verb":"heal"}')
    w:up()
  end)

  it("are answered of an idle app: nothing is wrong, though no event comes (Slack)", function ()
    open("slack", { keys = 'app_token = secret { env = "BOT_SECRET" }, api = "https://127.0.0.1:PORT/api"', secret = "xapp-1-A1-" .. world.secret,
                    tune = 'tune = { alive = { ping = "500ms", silence = "10s" } }' })
    local text = till "a ping was answered"
    matches(text, "^bot is up[^\n]*\n")
    matches(told(text, "life"), "^alive: [^;]*; a ping was answered [%d.]+s ago; last byte [%d.]+s ago$")
    assert.equal("nothing", told(text, "do"))
    assert.is_nil(told(text, "whose"))
    assert.is_nil(told(text, "down"))
    local _, summary = api.request(daemon, w.folder .. "/h.sock", "GET", "/v1/summary")
    assert.same({ true, false, 1 }, { summary.well, summary.needs_person, summary.peers.alive + summary.peers.quiet })
  end)

  it("are answered of a watchdog in the policy that takes quiet for dead (Slack)", function ()
    local f = assert(io.open "policies/slack.lua")
    local text = f:read "*a"
    f:close()
    local wrong, n = text:gsub("\n}%s*$", '\n  every = { watchdog = { "1s", function (conn) conn:close "no event for 180 s" end } },\n}\n')
    assert.equal(1, n)
    w:write("policies/watched.lua", wrong)
    open("slack", { policy = "watched", keys = 'app_token = secret { env = "BOT_SECRET" }, api = "https://127.0.0.1:PORT/api"',
                    secret = "xapp-1-A1-" .. world.secret, tune = 'tune = { backoff = { first = "2s", most = "10m" } }' })
    text = till "bot is down.*closed by the policy"
    assert.equal("closed by the policy: no event for 180 s (while it was up)", told(text, "because"))
    assert.equal("the policy's own: nothing was wrong with the link that it closed", told(text, "whose"))
    matches(told(text, "next"), "^it dials at " .. CLOCK)
    matches(told(text, "do"), "^look at what in the policy closes it: a link on which nothing happens is quiet and not dead")
    alike("policy", "wished")
  end)

  it("are answered of a peer that went deaf while its socket stayed open (QQ)", function ()
    open("qqbot", { options = { "heartbeat_interval=2000", "identify_gap=0" },
                    keys = 'app_id = "1", client_secret = secret { env = "BOT_SECRET" }, token_url = "https://127.0.0.1:PORT/app/getAppAccessToken", api = "https://127.0.0.1:PORT"',
                    tune = 'tune = { backoff = { first = "30s", most = "30s", floor = "20s" } }' })
    control(peer, '{"verb":"deaf"}')
    local text = till "bot is down and waits"
    assert.equal("a heartbeat stayed unanswered: a beat was not answered until the next was due (while it was up)", told(text, "because"))
    assert.equal("the platform's or the network's: from here nobody can tell which", told(text, "whose"))
    matches(told(text, "down"), "^since " .. CLOCK)
    matches(told(text, "decided"), "^dial again after %d+s, by the rule %S*qqbot%.lua:%d+")
    matches(told(text, "next"), "^it dials at " .. CLOCK .. ", in %d+s$")
    matches(told(text, "do"), "^nothing, unless it repeats: then the platform or something on the way is deaf$")
    alike("platform_or_network", "beat")
  end)
end)
