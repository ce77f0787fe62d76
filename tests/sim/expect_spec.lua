-- assert.connection(...): each claim holds where it should, and fails where it should, with a story that helps.
local sim = require "holdfast.sim"
require "holdfast.expect"
local discord = require "discord_world"

-- What a claim that does not hold says.
local function refusal(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  return tostring(type(err) == "table" and err.message or err)
end

local function first_line(fn) return (refusal(fn):gsub("\n.*", ""):gsub("^[^ ]*:%d+: ", "")) end

describe("assert.connection", function ()
  local s, p
  before_each(function () s, p = discord.new { seed = 11 } end)
  after_each(function () s:abandon() end)
  local function a() return assert.connection "a" end

  it("waits for states, and says where it got to when they do not come", function ()
    assert.equal("a should be up, and is stopped", first_line(function () a().is "up" end))
    a().is_up_within "30s".stays_up_for "1h".is "up"
    local since = s:now()
    a().is_up_within "30s"
    assert.equal(since, s:now())
    local text = refusal(function () a().reaches("stopped", "10s") end)
    assert.equal("a should be stopped within 10s", (text:gsub("\n.*", ""):gsub("^[^ ]*:%d+: ", "")))
    assert.is_truthy(text:find("a up since", 1, true))
    assert.is_truthy(text:find("seed 11", 1, true))
    assert.is_truthy(text:find("last lines of the trace", 1, true))
    s:stop "a"
    a().reaches("stopped", "10s").stays("stopped", "1h")
    assert.equal("a should be stopped by a verdict, and is stopped", first_line(function () a().is_stopped_for_good() end))
  end)

  it("knows an ending, its verdict and what is left of the session", function ()
    a().is_up_within "30s"
    assert.equal("a should have ended by \"reset\", and did by nothing yet", first_line(function () a().ended_by "reset" end))
    assert.equal("a should have a cause: none yet", first_line(function () a().ended_by { close = 4000 } end))
    a().has_session()
    assert.equal('a should have no session, and has { id = ', first_line(function () a().has_no_session() end):match "^.- id = ")
    p:control("kick", { code = 4009 })
    s:run_until(function () return s:view("a").cause end, "10s")
    a().ended_by { close = 4009, by = "peer" }.ended_by "closed"
    assert.equal('a should have a cause with { by = "us", close = 4009 }, and has by = "peer"',
      first_line(function () a().ended_by { close = 4009, by = "us" } end))
    a().was_judged { pace = "normal", by = "rule" }
    assert.equal('a should have a verdict with { pace = "stop" }, and has pace = "normal"',
      first_line(function () a().was_judged { pace = "stop" } end))
  end)

  it("tells a stop for good, and what the journal says of it", function ()
    a().is_up_within "30s"
    p:control("kick", { code = 4004 })
    a().reaches("stopped", "10s").is_stopped_for_good().ended_by { close = 4004 }.dials({ at_most = 0 }, "1h")
    assert.is_truthy(first_line(function () a().dials({ at_least = 1 }, "1m") end):find("dial at least 1 times in 1m, and did 0", 1, true))
    assert.equal('a should have said "no such words" in its journal', first_line(function () a().has_said "no such words" end))
  end)

  it("counts dials, and fails over one too many", function ()
    a().is_up_within "30s"
    s:fault("refuse", { what = "link" })
    p:control "abort"
    a().dials({ at_least = 2, at_most = 200 }, "10m")
    assert.is_truthy(first_line(function () a().dials({ at_most = 0 }, "10m") end):find("dial at most 0 times in 10m, and did %d+"))
    assert.is_truthy(first_line(function () a().stays_up_for "1m" end):find("be up, and is ", 1, true))
  end)

  it("notices a link that ended and came back", function ()
    a().is_up_within "30s"
    s:at("1m", function () p:control "abort" end)
    assert.equal("a should stay up for 10m", first_line(function () a().stays_up_for "10m" end))
  end)

  it("compares what was sent with what came, in order", function ()
    local bot = s:consumer { name = "bot" }
    a().is_up_within "30s"
    for i = 1, 3 do p:control("dispatch", { kind = "MESSAGE_CREATE", id = tostring(i) }) end
    s:advance "5s"
    local came = {}
    for i, e in ipairs(bot:events()) do came[i] = e.frame end
    assert.is_true(#came >= 3)
    a().delivered_all(bot, came)
    local swapped = { came[2], came[1] }
    assert.equal("a should deliver frame 2 after the one before it", first_line(function () a().delivered_all(bot, swapped) end))
    assert.is_truthy(first_line(function () a().delivered_all(bot, { '{"op":0,"never":1}' }) end)
      :find("a should deliver frame 1 of 1, and %d+ came"))
  end)

  it("says at once what is misspelt", function ()
    assert.is_truthy(refusal(function () a().is_upp() end):find('no claim is named "is_upp"; there are delivered_all, dials', 1, true))
    a().is_up_within "30s"
    assert.is_truthy(refusal(function () a().ended_by { clsoe = 1 } end):find('cause has no "clsoe"', 1, true))
    assert.is_truthy(refusal(function () a().was_judged { verdict = "stop" } end):find('verdict has no "verdict"', 1, true))
    assert.is_truthy(refusal(function () a().dials(3, "1m") end):find("dials takes { at_most = N }", 1, true))
    assert.is_truthy(refusal(function () assert.connection "b" end):find('no connection is named "b"', 1, true))
    assert.is_truthy(refusal(function () a().is_up_within "30 parsecs" end):find("is no duration", 1, true))
  end)

  it("is about the newest world unless another is given", function ()
    local other = sim.new { seed = 2 }
    assert.is_truthy(refusal(function () assert.connection "a" end):find("no connection is named", 1, true))
    assert.connection("a", s).is_up_within "30s"
    other:abandon()
    assert.is_truthy(refusal(function () assert.connection "a" end):find("the world is closed", 1, true))
  end)
end)
