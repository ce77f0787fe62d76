-- What the policy does when the platform misbehaves. In this folder:
--   HOLDFAST_LUA=lua holdfast test chirp_spec.lua
local sim = require "holdfast.sim"

local s, p
local function begin(peer_options)
  s = sim.new()
  p = s:peer("chirp", { host = "api.chirp.example", options = peer_options })
  s:connection("bird", { policy = "chirp", token = s:secret "right", api = p.url })
end
after_each(function ()
  if s then s:abandon() end  -- nothing, after s:close()
  s, p = nil, nil
end)

describe("chirp", function ()
  it("authenticates, pings as often as the welcome says, and hands the events over in order", function ()
    begin { token = "right", keepalive = 7, events_every = 1000 }
    local bot = s:consumer { name = "bot" }
    assert.connection("bird").is_up_within "10s".stays_up_for "10m"
    assert.equal(1, p:control("stats").auths)
    assert.is_true(p:control("stats").pings >= 80)
    assert.is_true(p:control("stats").most_silent <= 8000)
    local last
    for _, event in ipairs(bot:events()) do
      local n = event.frame.n
      assert.equal((last or n - 1) + 1, n)
      last = n
    end
    assert.is_true(last > 590)
    s:close()
  end)

  it("dials again with a new ticket after a kick and after a refused ticket", function ()
    begin()
    s:up("bird", "10s")
    p:control("refuse", { times = 2 })
    p:control("kick", { code = 1011 })
    s:run_until(function () return p:control("stats").auths == 4 end, "2m")
    s:up("bird", "10s")
    assert.equal(4, p:control("stats").tickets)
    s:close()
  end)

  it("notices a peer that answers no pings, though nothing else is wrong", function ()
    begin { keepalive = 20 }
    s:up("bird", "10s")
    p:control("mute", {})
    s:run_until(function () return s:state "bird" ~= "up" end, "45s")
    assert.connection("bird").ended_by "beat"
    s:close()
  end)

  it("stops for good when banned, and when the token is wrong", function ()
    begin()
    s:up("bird", "10s")
    p:control("kick", { code = 4403 })
    assert.connection("bird").reaches("stopped", "10s").ended_by { close = 4403 }.is_stopped_for_good()
    assert.connection("bird").dials({ at_most = 0 }, "24h")
    s:close()
    begin { token = "another" }
    s:run_until(function () return s:view("bird").fatal end, "10s")
    assert.equal(401, s:view("bird").cause.http)
    s:close()
  end)
end)
