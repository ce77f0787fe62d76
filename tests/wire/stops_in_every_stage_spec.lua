-- An operator's stop, removal and restart, and the shutdown of all, while an attempt hangs in each stage:
-- it ends at once, nothing is left, and the peer never sees what it should not.
local world = require "wire_world"

describe("an attempt that hangs", function ()
  local s
  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  local long = { limits = { prepare = "30s", call = "30s", connect = "30s", secure = "30s", upgrade = "30s",
                            greeting = "30s" } }

  local function probe(url) s:connection("bot", { url = url, hello = true, tune = long }) end

  local stages = {
    connecting = function () probe(("ws://127.0.0.1:%d/"):format(s:silent_port())) end,
    securing = function ()
      local peer = s:peer("discord", {})
      local relay = s:relay(peer)
      relay:set { mute = true }
      probe(relay.ws .. "/")
    end,
    upgrading = function ()
      local raw = s:raw { tls = true, { "tls" }, { "request" }, { "end" } }
      probe(raw.ws .. "/")
    end,
    greeting = function ()
      local peer = s:peer("discord", { faults = { silent_hello = true } })
      probe(peer.ws .. "/?v=10&encoding=json")
    end,
    preparing = function ()
      local peer = s:peer("discord", { faults = { silent_http = true } })
      s:discord("bot", peer, { tune = long })
    end,
  }

  for stage, hang in pairs(stages) do
    local function hangs()
      hang()
      s:run_until(function ()
        return stage == "preparing" and s:state "bot" == "preparing" or s:view "bot".link == stage
      end, nil, stage)
      s:run_for "50ms"
    end

    it(("in %s ends when it is stopped"):format(stage), function ()
      hangs()
      s:stop "bot"
      s:run_until(function () return s:state "bot" == "stopped" and s:view "bot".links == 0 end, "1s")
      assert.are.equal("stopped", s:view "bot".cause.kind)
      assert.are.equal(0, s:counts().links)
      assert.are.equal(0, s:counts().tasks)
    end)

    it(("in %s ends when it is removed"):format(stage), function ()
      hangs()
      s:remove "bot"
      s:run_until(function () return s:state "bot" == nil end, "1s")
      assert.are.equal(0, s:counts().links)
      assert.are.equal(0, s:counts().tasks)
    end)

    -- One that prepares is as new as an attempt can be: a restart changes nothing.
    local again = stage == "preparing" and 1 or 2
    it(("in %s is attempt %d after a restart"):format(stage, again), function ()
      hangs()
      s:restart "bot"
      s:run_until(function () return s:view "bot".generation == again end, "2s")
      assert.is_true(s:view "bot".links <= 1)
    end)

    it(("in %s ends with the daemon"):format(stage), function ()
      hangs()
      s:run_until(function () return s:shutdown() end, "1s")
      assert.are.equal(0, s:counts().links)
    end)
  end
end)
