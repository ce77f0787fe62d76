local world = require "daemon_world"
local json = require "dkjson"
local control = world.control

describe("why", function ()
  local w, peer
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  -- A peer and a daemon; options: peer (words), tune, port (of the API, instead of the peer's), ca.
  local function open(options)
    options = options or {}
    peer = w:peer({ "identify_gap=0" }, options.peer)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
connection "support-bot" {
  policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", %s
  tune = { %s },
}]]):format(options.port or peer.port, options.ca or 'ca_file = "ca.pem",', options.tune or ""))
    w:daemon()
  end

  local function state(wanted)
    w:status(function (text) return text:match('"state":"' .. wanted .. '"') end)
  end

  local function why(...)
    local code, run = w:run { "why", "support-bot", ... }
    assert.equal(0, code, run.err)
    assert.equal("", run.err)
    return run.out
  end

  -- The summary's value of `label`, its first line; and the story below.
  local function told(text, label)
    return text:match("\n  " .. label .. " +([^\n]+)\n")
  end
  local function story(text) return text:match "\n\n(.*)$" end
  local function has(text, part) assert.is_truthy(text:find(part, 1, true), text) end
  local function ended() w:status(function (text) return text:match '"cause":{' end) end

  local RULE = "by the rule %S*policies/discord%.lua:%d+"

  it("of a connection that never had trouble tells that it is up, and that nothing is to be done", function ()
    open()
    w:up()
    w:status(function (t) return t:match '"delivered":1' end) -- its greeting is an event, too
    local text = why()
    has(text, "support-bot is up, but not for long yet\n")
    assert.is_truthy(told(text, "next"):match "^a heartbeat is due at %d%d:%d%d:%d%d, in %d", text)
    assert.equal("nothing", told(text, "do"))
    assert.is_truthy(told(text, "life"):match "^alive: an event %d%.%ds ago; .*last byte %d%.%ds ago$", text)
    assert.is_nil(told(text, "before"))
    assert.is_truthy(story(text):match "^  %d%d:%d%d:%d%d  up %(link 1%)\n$", text)
  end)

  it("of a token revoked while up tells the close code, the rule, its note and the three steps back", function ()
    open()
    w:up()
    control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    state "stopped"
    local text = why()
    has(text, "support-bot is stopped and does not try again by itself\n")
    assert.equal("closed with 4004: Authentication failed. (by the platform, while it was up)", told(text, "because"))
    assert.is_truthy(told(text, "decided"):match("^stop, " .. RULE .. ': "the token is not valid'), text)
    assert.equal("nothing, until somebody starts it", told(text, "next"))
    assert.equal("never with these credentials: the platform refused them for good", told(text, "recovers"))
    assert.equal("put good credentials where the configuration reads them", told(text, "do"))
    has(text, "\n            holdfast reload ")
    has(text, "\n            holdfast start support-bot ")
    -- Newest first, each thing once: the alarm that repeats the rule's note is left out.
    assert.is_truthy(story(text):match("^  %d%d:%d%d:%d%d  closed with 4004: [^\n]+\n +%-> stop, " .. RULE ..
      "[^\n]+\n  %d%d:%d%d:%d%d  up %(link 1%)\n$"), text)
  end)

  it("of a token refused before the first dial tells the HTTP status", function ()
    open { peer = { "--option", "token=another" } }
    state "stopped"
    local text = why()
    assert.equal("gateway_refused, HTTP 401 (before the dial)", told(text, "because"))
    assert.equal("put good credentials where the configuration reads them", told(text, "do"))
  end)

  it("of intents refused tells what the rule names, and nothing of credentials", function ()
    open()
    w:up()
    control(peer, '{"verb":"kick","code":4014,"reason":"Disallowed intents."}')
    state "stopped"
    local text = why()
    assert.equal("never as it is: the policy holds this cause for fatal", told(text, "recovers"))
    assert.equal('change what the rule names: "intents refused: see the developer portal"', told(text, "do"))
  end)

  it("of an operator's stop tells how to start it", function ()
    open()
    w:up()
    w:run { "stop", "support-bot" }
    local text = why()
    has(text, "support-bot is stopped, as an operator wanted\n")
    assert.equal("stopped by an operator", told(text, "because"))
    assert.equal("stop, by an operator", told(text, "decided"))
    assert.equal("holdfast start support-bot", told(text, "do"))
  end)

  it("of a certificate that nobody vouches for names ca_file, and the other possibility", function ()
    open { ca = "" }
    ended()
    local text = why()
    has(told(text, "because"), "certificate refused: unable to get local issuer certificate (before the dial)")
    has(told(text, "do"), 'ca_file = "PATH" on the connection')
    has(text, "\n            otherwise somebody stands in between")
    assert.is_truthy(told(text, "recovers"):match "^by itself: it goes on trying, and is up within %d+h", text)
  end)

  it("of a refused connection tells address and next dial, and puts what repeats into one line", function ()
    open { port = 1, tune = 'backoff = { first = "250ms", most = "300ms" }' }
    w:status(function (text) return tonumber(text:match '"attempt":(%d+)') >= 3 end)
    local text = why()
    has(told(text, "because"), "refused: 127.0.0.1 port 1: connection refused (before the dial)")
    assert.is_truthy(text:match "^support%-bot is [^\n]+ %(%d+ failures in a row%)\n", text)
    has(told(text, "do"), "nobody listens at the address")
    assert.is_truthy(story(text):match "and %d+ times? more before that, since %d%d:%d%d:%d%d\n$", text)
    local _, lines = story(text):gsub("\n", "")
    assert.equal(3, lines)
    local _, all = story(why "--all"):gsub("\n", "")
    assert.is_true(all > 6)
  end)

  it("of one whose dial is put off says that its host answers nobody and others try it", function ()
    w:write("holdfast.lua", [[
listen { unix = "h.sock" }
for i = 1, 16 do
  connection("far-" .. i) { policy = "generic", url = "ws://127.0.0.1:1/" .. i, tune = { backoff = { first = "1s", most = "60s" } } }
end]])
    w:daemon()
    local name
    w:status(function (text)
      for _, c in ipairs(json.decode(text).connections) do
        if c.next and c.next.held then name = c.name end
      end
      return name
    end)
    local code, run = w:run { "why", name }
    assert.equal(0, code, run.err)
    assert.is_truthy(run.out:gsub("%s+", " "):find("it dials at [%d:]+, in [%w. ]+; put off: its host answers nobody, a few others try it meanwhile"), run.out)
  end)

  it("of a greeting that never comes tells the limit that passed, and that the trouble is not here", function ()
    open { peer = { "--faults", "silent_hello=true" },
           tune = 'limits = { greeting = "300ms" }, backoff = { first = "250ms", most = "300ms" }' }
    ended()
    local text = why()
    assert.equal("greeting took longer than its limit", told(text, "because"))
    assert.is_truthy(told(text, "decided"):match("^dial again after 0%.%ds, " .. RULE .. "$"), text)
    has(told(text, "do"), "nothing here: the platform took the connection and then said nothing in time")
  end)

  it("of a budget used up tells whose it is, and when its turn comes", function ()
    open { tune = 'budgets = { start = { windows = { { 1, "1h" } } } }' }
    w:up()
    control(peer, '{"verb":"kick","code":4009,"reason":"Session timed out."}')
    state "queued"
    local text = why()
    has(text, "support-bot is down and queued for its budget (1 failure in a row)\n")
    assert.is_truthy(told(text, "decided"):match("^dial again after %d%.%ds, with a new session, " .. RULE .. "$"), text)
    assert.equal("start: used up, 1 in its window; 1 in 1h are allowed", told(text, "budget"))
    assert.is_truthy(told(text, "next"):match "^its turn comes at [^\n]+, in 59m %d+s$", text)
    assert.equal("by itself, when its turn comes and the platform is well", told(text, "recovers"))
    has(told(text, "do"), "nothing: the budget keeps the platform from blocking the account")
  end)

  it("of a planned reconnect tells wish and draw", function ()
    open()
    w:up()
    control(peer, '{"verb":"op7"}')
    w:status(function (text) return text:match '"state":"up"' and text:match '"generation":2' end)
    local text = why()
    assert.equal("the platform announced reconnect (while it was up)", told(text, "before"))
    assert.is_truthy(told(text, "decided"):match("as planned %(asked for: 0%.0s to 1%.0s[^)]*%), " .. RULE), text)
    assert.is_truthy(story(text):match "^  %S+  up %(link 2%)\n", text)
  end)

  it("of a failing hook shows the policy's file and line", function ()
    local f = assert(io.open "policies/discord.lua")
    local source = f:read "*a"
    f:close()
    w:write("policies/discord.lua", (source:gsub("prepare = function %(conn%)\n", "prepare = function (conn)\n    local x = nil + 1\n", 1)))
    peer = w:peer()
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
policies { path = "policies" }
connection "support-bot" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem" }]]):format(peer.port))
    w:daemon()
    ended()
    local text = why()
    assert.is_truthy(told(text, "because"):match "policies/discord%.lua:%d+: attempt to perform arithmetic", text)
    has(told(text, "do"), "correct the policy where the story below says it failed, then `holdfast reload`")
  end)

  it("keeps the platform's words from the terminal's controls, and fits its width", function ()
    open()
    w:up()
    control(peer, '{"verb":"kick","code":4000,"reason":"\\u001b[31mred and a lot of other words that need a second line in a narrow window"}')
    ended()
    local _, run = w:run({ "why", "support-bot" }, { env = { COLUMNS = "60" } })
    assert.is_nil(run.out:find("\27", 1, true))
    has(run.out, "\\x1b[31mred")
    for line in run.out:gmatch "[^\n]+" do
      assert.is_true(#line <= 60 or not line:sub(13):find " ", line)
    end
  end)

  it("with --json gives summary, connection and journal", function ()
    open()
    w:up()
    control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    state "stopped"
    local all = assert(json.decode(why "--json"))
    assert.equal("support-bot is stopped and does not try again by itself", all.summary.headline)
    assert.equal(3, #all.summary["do"])
    assert.equal("stopped", all.connection.state)
    assert.equal("stop", all.connection.decision.pace)
    assert.is_truthy(all.connection.decision.file:match "discord%.lua$")
    assert.is_nil(all.connection.decision.delay_ms) -- nothing is due
    local kinds = {}
    for _, e in ipairs(all.journal) do kinds[e.kind] = true end
    assert.is_true(kinds.decision and kinds.state and kinds.alarm)
  end)
end)
