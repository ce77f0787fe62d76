-- The simulator as a tool: that it reports failures, moves time as it says, and hides nothing.
local sim = require "holdfast.sim"

local function discord(options)
  options = options or {}
  local s = sim.new { seed = options.seed or 1, trace = options.trace }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" }, options = options.peer })
  s:connection("a", { policy = "discord", token = s:secret "1.hush", intents = 513, api = p.url .. "/api/v10" })
  return s, p
end

describe("time", function ()
  it("moves by what advance() says, and timers of a test run in it", function ()
    local s = sim.new()
    local seen = {}
    s:at("2s", function () seen[#seen + 1] = s:now() end)
    s:at("1s", function () seen[#seen + 1] = s:now() end)
    s:advance "90s"
    assert.same({ 1000, 2000 }, seen)
    assert.equal(90000, s:now())
    s:close()
  end)

  it("is not moved from inside a timer, except by what begins there", function ()
    local s = sim.new()
    local err
    s:at("1s", function () err = select(2, pcall(s.advance, s, "1s")) end)
    s:at("2s", function () s:suspend "10s" end)
    s:advance "1m"
    assert.truthy(err:find("time moves by itself", 1, true))
    local mono, boot = s:clock()
    assert.equal(10000, boot - mono)
    s:close()
  end)

  it("passes an error in a timer on to whoever advances", function ()
    local s = sim.new()
    s:at("1s", function () error "mine" end)
    local ok, err = pcall(s.advance, s, "2s")
    assert.is_false(ok)
    assert.truthy(tostring(err):find("mine", 1, true))
    s:abandon()
  end)

  it("refuses what is no duration", function ()
    local s = sim.new()
    for _, bad in ipairs { "soon", "5", "5 s", "s" } do
      assert.is_false(pcall(s.advance, s, bad), bad)
    end
    s:close()
  end)

  it("begins at the wall clock that was asked for", function ()
    local s = sim.new { wall = "2026-11-22T10:00:00Z" }
    local _, _, wall = s:clock()
    assert.equal(1795341600000, wall)
    s:close()
  end)
end)

describe("a failed wait", function ()
  it("says what, for how long, the state, the trace and how to repeat it", function ()
    local s = discord()
    s:fault("refuse", {})
    local ok, err = pcall(s.up, s, "a", "10s")
    assert.is_false(ok)
    for _, text in ipairs { "a is up did not come true within 10s", "a waiting since", "refused", "next dial",
                            "last lines of the trace", "HOLDFAST_SEED=1" } do
      assert.truthy(err:find(text, 1, true), text .. "\n" .. err)
    end
    s:abandon()
  end)
end)

describe("the end of a run", function ()
  it("leaves no descriptor, call, hook or stream", function ()
    local s = discord()
    s:up "a"
    s:shutdown()
    local stats = s:stats()
    assert.same({ 0, 0, 0 }, { stats.descriptors, stats.calls, stats.tasks })
    s:close()
  end)

  it("may come at any moment", function ()
    for ms = 1, 400, 13 do
      local s = discord()
      s:advance(ms)
      s:close()
    end
  end)

  it("may be without a word", function ()
    for ms = 1, 400, 29 do
      local s = discord()
      s:advance(ms)
      s:abandon()
    end
  end)
end)

describe("a secret", function ()
  it("is nowhere in the trace or the views, only on the wire", function ()
    local s = discord { trace = true }
    s:up "a"
    s:advance "1m"
    assert.is_nil(s:trace():find("hush", 1, true))
    assert.is_nil(sim.encode(s:view "a"):find("hush", 1, true))
    assert.is_nil(sim.encode(s:journal "a"):find("hush", 1, true))
    local sent = false
    for _, m in ipairs(s:wire("a", "out")) do sent = sent or m.data:find("1.hush", 1, true) ~= nil end
    assert.is_true(sent)
    s:close()
  end)
end)

describe("a suspend", function ()
  it("longer than a beat ends the link at once, and the session is resumed", function ()
    local s = discord()
    s:up "a"
    s:advance "5m"
    s:suspend "2m"
    s:advance "3s"
    assert.equal("up", s:state "a")
    local named = false
    for _, e in ipairs(s:journal "a") do
      named = named or (e.decision and e.decision.cause.name == "suspend")
    end
    assert.is_true(named)
    assert.equal(2, #s:dials "a")
    s:close()
  end)

  it("shorter than that leaves it alone", function ()
    local s = discord()
    s:up "a"
    s:advance "5m"
    s:suspend "2s"
    s:advance "2m"
    assert.equal(1, #s:dials "a")
    s:close()
  end)
end)

describe("a crash", function ()
  it("keeps the session, so that the next process resumes it", function ()
    local s, p = discord()
    s:up "a"
    s:advance "1m"
    local id = s:session("a").id
    s:crash_and_restart { after = "20s" }
    s:up("a", "10s")
    assert.equal(id, s:session("a").id)
    local stats = p:control "stats"
    assert.equal(1, stats.identifies)
    assert.equal(1, stats.resumes)
    s:close()
  end)

  it("gives the consumer a new epoch and says so", function ()
    local s, p = discord()
    local c = s:consumer { name = "bot" }
    s:up "a"
    p:control("dispatch", { kind = "MESSAGE_CREATE", d = { id = "1" } })
    s:advance "1s"
    local before = c:events()
    s:crash_and_restart()
    s:up("a", "10s")
    p:control("dispatch", { kind = "MESSAGE_CREATE", d = { id = "2" } })
    s:advance "1s"
    local after = c:events()
    assert.is_true(#after > #before)
    assert.is_true(after[#after].epoch > before[1].epoch)
    s:close()
  end)
end)

describe("a consumer", function ()
  it("gets frames in order, can pause, catch up and acknowledge", function ()
    local s, p = discord()
    s:up "a"
    local c = s:consumer { name = "bot" }
    c:pause()
    for i = 1, 20 do p:control("dispatch", { kind = "MESSAGE_CREATE", d = { id = tostring(i) } }) end
    s:advance "1s"
    assert.equal(0, #c:events())
    c:resume()
    s:advance "1s"
    local events = c:events()
    assert.equal("1", events[#events - 19].frame.d.id)
    assert.equal("20", events[#events].frame.d.id)
    c:ack "a"
    c:detach()
    c:attach "cursor"
    c:clear()
    s:advance "1s"
    assert.equal(0, #c:events())
    s:close()
  end)

  it("is compared with what the peer sent", function ()
    local s, p = discord()
    local c = s:consumer { name = "bot" }
    s:up "a"
    local sent = {}
    for i = 1, 10 do
      sent[i] = { op = 0, t = "MESSAGE_CREATE", s = i + 1, d = { id = tostring(i) } }
      p:control("dispatch", { kind = "MESSAGE_CREATE", d = { id = tostring(i) } })
    end
    s:advance "1s"
    assert.equal(0, s:check_delivery("a", c, sent))
    sent[11] = { op = 0, t = "NEVER_SENT", s = 99 }
    c.all = { unpack(c.all, 1, #c.all) }
    for i = #c.all, 1, -1 do
      if c.all[i].line.gap then table.remove(c.all, i) end
    end
    assert.is_false(pcall(s.check_delivery, s, "a", c, sent))
    s:close()
  end)
end)

describe("a send", function ()
  it("is answered: sent, or refused and why", function ()
    local s = discord()
    s:up "a"
    local good = s:send("a", { op = 3, d = { status = "online" } })
    local bad = s:send("a", { op = 3, d = { status = ("x"):rep(5000) } })
    local nobody = s:send("b", { op = 3 })
    s:advance "1s"
    assert.is_true(good:answer().sent)
    assert.is_true(bad:answer().refused)
    assert.is_true(nobody:answer().refused)
    s:close()
  end)
end)

describe("a quiet day", function ()
  it("takes a moment and ends no link", function ()
    local s = discord()
    s:up "a"
    s:quiet "24h"
    assert.equal(1, #s:dials "a")
    assert.is_true(s:view("a").beats_answered > 2000)
    s:close()
  end)
end)

describe("a heal", function ()
  it("promises a bound and holds everybody to it", function ()
    local s = discord()
    s:up "a"
    s:fault("black_hole", {})
    s:advance "10m"
    assert.not_equal("up", s:state "a")
    local bound = s:heal()
    assert.is_true(bound > 0 and bound < 24 * 3600000, bound)
    s:advance(bound)
    assert.equal("up", s:state "a")
    s:close()
  end)
end)

describe("a ghost", function ()
  it("is counted apart from our descriptors", function ()
    local s, p = discord()
    s:up "a"
    s:fault("black_hole", { lasts = "2m" })
    s:reach("a", "waiting", "3m")
    assert.equal(1, s:ghosts())
    assert.equal(0, s:descriptors("a").open)
    assert.equal(1, p:stats().ghosts)
    s:advance "10m"
    assert.equal(1, s:descriptors("a").most)
    s:close()
  end)
end)

describe("a reload", function ()
  it("keeps the link, and a broken policy is refused with file and line", function ()
    local s = discord()
    s:up "a"
    s:reload "a"
    assert.equal(2, s:view("a").policy_version)
    local ok, why = s:try_reload("a", "local holdfast = require \"holdfast\"\nreturn holdfast.policy { platform = 7 }\n")
    assert.is_nil(ok)
    assert.truthy(why:find("platform", 1, true), why)
    s:quiet "10m"
    assert.equal(1, #s:dials "a")
    s:close()
  end)
end)
