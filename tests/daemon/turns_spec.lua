-- Many connections whose far end takes them and says nothing: they dial a part at a time, the daemon answers
-- meanwhile, and says which of them wait for their turn.
local world = require "daemon_world"
local json = require "dkjson"

local COUNT = 1500 -- some six seconds' worth of turns

describe("many connections that dial at once", function ()
  local w, silent
  before_each(function () w = world.new() end)
  after_each(function ()
    w:close()
    silent = nil
  end)

  it("take turns; status, why and /metrics answer and say who waits, and none fails for having waited", function ()
    local port
    silent, port = world.listen_silent()
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
store { memory = true }
for i = 1, %d do
  connection("c" .. i) { policy = "generic", url = "ws://127.0.0.1:%d/" .. i, tune = { limits = { upgrade = "60s" } } }
end]]):format(COUNT, port))
    local daemon = w:daemon()
    local last = "c" .. COUNT
    -- The one that asked last; by the time that it is asked about it may be next to the last.
    local code, run = w:run { "why", last }
    assert.equal(0, code, run.err)
    assert.is_truthy(run.out:find(last .. " waits for its turn to dial\n", 1, true), run.out)
    assert.is_truthy(run.out:match "it dials when %d+ others, which asked before it, have begun to", run.out)
    local waiting, linking = 0, 0
    w:status(function (text)
      waiting, linking = 0, 0
      for _, c in ipairs(json.decode(text).connections) do
        if c.state == "preparing" and c.next.what == "turn" then waiting = waiting + 1 end
        if c.state == "linking" then linking = linking + 1 end
      end
      return linking > 0
    end)
    assert.is_true(waiting > 0, linking .. " dial")
    w:status(function (text)
      linking = 0
      for _, c in ipairs(json.decode(text).connections) do
        assert.equal(0, c.attempt)
        if c.state == "linking" then linking = linking + 1 end
      end
      return linking == COUNT
    end)
    daemon:stop()
  end)
end)
