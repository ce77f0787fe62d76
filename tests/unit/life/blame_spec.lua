-- Whose doing an ending is: the rule of blame.h as a table.
local life = require "unit.life"

-- what it is, the cause, whose
local TABLE = {
  { "the platform closes", { kind = "closed", by = "peer", close = 4000, stage = "greeting" }, "platform" },
  { "the platform refuses the token", { kind = "closed", by = "peer", close = 4004, note = "the token is not valid: see the portal" }, "credentials" },
  { "an HTTP status of its own trouble", { kind = "failed", by = "policy", name = "endpoint", http = 502, stage = "preparing" }, "platform" },
  { "an HTTP status about credentials", { kind = "failed", by = "policy", name = "gateway_refused", http = 401, stage = "preparing" }, "credentials" },
  { "an upgrade refused for asking too often", { kind = "upgrade_refused", by = "peer", http = 429, stage = "upgrading" }, "limits" },
  { "an address that the platform does not know", { kind = "upgrade_refused", by = "peer", http = 404, stage = "upgrading" }, "configuration" },
  { "an error of the platform in an answer that came", { kind = "failed", by = "policy", name = "endpoint", http = 200, code = 7, stage = "preparing" }, "platform" },
  { "a call that nobody took", { kind = "failed", by = "policy", name = "open_unreachable", reason = "refused: connect to slack.com", stage = "preparing" }, "platform" },
  { "a call whose host has no address", { kind = "failed", by = "policy", name = "open_unreachable", reason = "resolve: no such name", stage = "preparing" }, "network" },
  { "a policy's word without a fact", { kind = "failed", by = "policy", name = "odd", stage = "preparing" }, "platform_or_network" },
  { "a second client, as policies name it", { kind = "ended", by = "peer", name = "conflict" }, "another_client" },
  { "a second client, told by the rule", { kind = "ended", by = "peer", name = "token_updated", note = "another installation uses this bot token" }, "another_client" },
  { "the same without such a rule", { kind = "ended", by = "peer", name = "token_updated" }, "platform" },
  { "nobody listens", { kind = "refused", by = "network", stage = "connecting" }, "platform" },
  { "no route", { kind = "unreachable", by = "network", stage = "connecting" }, "network" },
  { "no name", { kind = "resolve", by = "network", stage = "resolving" }, "network" },
  { "packets that vanish", { kind = "timeout", by = "us", stage = "connecting" }, "network" },
  { "a greeting that is never answered", { kind = "timeout", by = "us", stage = "greeting" }, "platform" },
  { "a deaf peer", { kind = "beat", by = "us" }, "platform_or_network" },
  { "a silent peer", { kind = "silence", by = "us" }, "platform_or_network" },
  { "a stream that just ends", { kind = "eof", by = "peer" }, "platform_or_network" },
  { "the policy's own wish", { kind = "wished", by = "policy" }, "policy" },
  { "the policy's own error", { kind = "hook", by = "policy" }, "policy" },
  { "a planned end", { kind = "ended", by = "peer", name = "refresh", planned = true }, "nobody" },
  { "an operator", { kind = "stopped", by = "operator", planned = true }, "operator" },
  { "a machine that slept", { kind = "suspend", by = "us" }, "machine" },
  { "a consumer that takes nothing", { kind = "backlog_full", by = "us" }, "consumer" },
  { "a bug of holdfast", { kind = "internal", by = "us" }, "holdfast" },
  { "a note about a token beside a network's trouble", { kind = "resolve", by = "network", stage = "resolving", note = "the token's host" }, "network" },
}

describe("whose doing an ending is", function ()
  for _, row in ipairs(TABLE) do
    it(("is told of %s: %s"):format(row[1], row[3]), function () assert.equal(row[3], life.blame(row[2])) end)
  end

  it("is told of every kind of cause", function ()
    for _, kind in pairs(life.kinds()) do assert.is_truthy(life.blame { kind = kind, by = "us" }) end
    assert.equal("nobody", life.blame { kind = "none" })
  end)
end)
