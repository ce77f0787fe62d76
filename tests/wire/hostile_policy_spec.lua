-- One connection's policy loops, raises, answers nonsense or hoards: it waits with its cause, and the
-- connections beside it on the same loop notice nothing, their beats least of all.
local world = require "wire_world"

describe("a hostile policy", function ()
  local s, peer
  before_each(function ()
    world.setup()
    s = world.new()
    peer = s:peer("discord", { heartbeat_interval = 1000, max_concurrency = 16 })
    for i = 1, 3 do s:discord("good" .. i, peer, { shard_id = i, shard_count = 8 }) end
    for i = 1, 3 do s:up("good" .. i) end
  end)
  after_each(world.teardown)

  local function policy(body)
    return ([[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "probe",
  options  = { url = { type = "url", required = true } },
  identity = { "url" },
  frames   = { codec = "json", take = { op = "op" }, deliver = { op = 0 } },
  classify = { { any = true, verdict = "resume" } },
  %s
}
]]):format(body)
  end

  local prepare = "prepare = function (conn) return { url = conn.options.url } end,"

  local function undisturbed(bad, expected)
    local bots = s:consumer {}
    s:connection("bad", { policy = policy(bad), url = peer.ws .. "/?v=10&encoding=json" })
    local from = s:now()
    local d = s:fails("bad", "hostile: " .. bad:match "%w+ = [^\n]*":sub(1, 30), expected)
    peer:control("dispatch", { count = 100 })
    s:run_until(function () return #bots:numbers() >= 300 end)
    s:run_for "2100ms"
    for i = 1, 3 do
      local name, last = "good" .. i, nil
      assert.are.equal(1, s:view(name).ready)
      for _, n in ipairs(s:notes(name, "beat")) do
        if n.at > from then
          if last then assert.is_true(n.at - last <= 1600, ("%s: %d ms between beats"):format(name, n.at - last)) end
          last = n.at
        end
      end
      assert.is_true(last ~= nil)
    end
    -- I3: what it does is bounded by the backoff, not by how fast it fails.
    assert.is_true(#s:notes("bad", "decision") <= 8, #s:notes("bad", "decision") .. " attempts")
    assert.is_true(s:state "bad" == "waiting" or s:state "bad" == "preparing" or s:state "bad" == "linking"
      or s:state "bad" == "closing", s:state "bad")
    return d
  end

  it("that loops in greet is cut off", function ()
    undisturbed(prepare .. "\n  greet = function () while true do end end,", { stage = "greeting", kind = "hook" })
  end)

  it("that loops in prepare is cut off before any dial", function ()
    undisturbed("prepare = function () while true do end end,", { stage = "preparing", kind = "hook" })
    assert.are.equal(0, #s:notes("bad", "dial"))
  end)

  it("that hoards memory is cut off", function ()
    undisturbed(prepare .. [[

  greet = function () local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end end,]],
      { stage = "greeting", kind = "hook" })
  end)

  it("that raises is told with its line", function ()
    local d = undisturbed(prepare .. "\n  greet = function () error 'no idea' end,", { stage = "greeting", kind = "hook" })
    assert.is_truthy(d.cause.reason:find "no idea")
  end)

  it("that answers nonsense as an address is told so", function ()
    undisturbed("prepare = function () return { url = 0/0 } end,", { stage = "preparing" })
    assert.are.equal(0, #s:notes("bad", "dial"))
  end)

  it("that matches a pattern for ever is cut off", function ()
    undisturbed(prepare .. [[

  greet = function () return (("a"):rep(5000)):find(("a?"):rep(100) .. ("a*"):rep(100) .. "b") end,]],
      { stage = "greeting", kind = "hook" })
  end)
end)
