-- Slack announced a planned end, its successor was being prepared, and then the socket was told to end at once, for
-- another reason: it was closing when the successor was dialled, so that for a moment there were two sockets of one app, none of
-- which served (I1). Found by the prover's third fault in a row.
local prove = require "holdfast.prove"

describe("a link that ends while its successor is prepared", function ()
  it("is closed before the successor is dialled", function ()
    prove.check { policy = "policies/slack.lua", seed = 1, moves = {
      { at = "greeting", peer = "disconnect", with = { reason = "refresh_requested" } },
      { at = "ready", peer = "disconnect", with = { reason = "warning" } },
      { at = "ready", peer = "disconnect", with = { reason = "something_new" } },
    } }
  end)
end)
