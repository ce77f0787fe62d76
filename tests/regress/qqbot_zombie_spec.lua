-- The QQ incident: the process alive, its status "connected", and deaf for 93 minutes. The reconnect loop had
-- used up its attempts and returned without a word; close codes were lost on the way, so that a session that
-- lived on (4009) was thrown away; and the heartbeat was not started again on the new socket, which the platform
-- cuts after a minute, without a close frame. The same six hours, against what the policy and the engine
-- make of them, and against settings that are naive in one of those ways each.
local world = require "qqbot_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

-- What goes wrong, and in which minute. Connections end by op 7 and 4009 each half hour besides.
local TROUBLE = {
  { at = 70, lasts = 4, fault = "half_open" },
  { at = 125, lasts = 20, fault = "refuse", gateway = true },   -- where the attempts were used up
  { at = 200, lasts = 1, kick = 4902 },
  { at = 215, lasts = 1, abort = true },
  { at = 222, lasts = 1, abort = true },
  { at = 240, lasts = 1, kick = 4006 },
  { at = 280, lasts = 6, fault = "resolve_fail" },
}
local MINUTES = 360
local GRACE = 3   -- minutes: a dead peer is noticed within 90 s, and the longest backoff is one minute

local function begin(trouble)
  if trouble.fault then trouble.on = s:fault(trouble.fault, {}) end
  if trouble.gateway then p:control("fault", { gateway = { status = 500 } }) end
  if trouble.kick then p:control("kick", { code = trouble.kick }) end
  if trouble.abort then p:control "abort" end
  if trouble.fault == "refuse" or trouble.fault == "resolve_fail" then p:control "abort" end
end

local function finish(trouble)
  if trouble.on then trouble.on:off() end
  if trouble.gateway then p:control "heal" end
end

local function held(most, count, what)
  if count > most then error(("%d %s, at most %d"):format(count, what, most), 3) end
end

-- The six hours, and what has to hold in them. Raises what does not.
local function check()
  local c = s:consumer { name = "bot", connections = { "a" } }
  s:up("a", "10s")
  local unwell_until, deaf, most_deaf, seen, gaps = 0, 0, 0, {}, 0
  for minute = 1, MINUTES do
    for _, trouble in ipairs(TROUBLE) do
      if minute == trouble.at then begin(trouble) end
      if minute == trouble.at + trouble.lasts then finish(trouble) end
      if minute >= trouble.at and minute <= trouble.at + trouble.lasts then unwell_until = minute + GRACE end
    end
    s:advance "1m"
    local new = world.numbers(c)
    for _, n in ipairs(new) do seen[#seen + 1] = n end
    gaps = gaps + #c:gaps()
    c:ack_all()
    deaf = #new == 0 and minute > unwell_until and deaf + 1 or 0
    most_deaf = math.max(most_deaf, deaf)
    local v = s:view "a"
    if v.state ~= "up" and not v.deadline and v.wanted and not v.fatal then error("no attempt is planned in " .. v.state, 2) end
  end
  held(1, p:control("stats").starved, "sockets cut for want of beats")   -- the half open one, whose beats were lost
  held(0, most_deaf, "minutes of silence while all was well")
  held(0, p:control("stats").double, "frames on a socket that was replaced")
  held(6, #world.instants(p, "identify"), "IDENTIFYs")   -- the first, 4902, 4006, and outages that outlived the session
  local missing = 0
  for i = 2, #seen do
    if seen[i] > seen[i - 1] + 1 then missing = missing + 1 end
    if seen[i] <= seen[i - 1] then error(("message %d after %d"):format(seen[i], seen[i - 1]), 2) end
  end
  if missing > gaps then error(("%d holes and %d gaps"):format(missing, gaps), 2) end
  if s:state "a" ~= "up" then error("it is not up in the end", 2) end
end

local PEER = { lifetime = 1800000, events_every = 10000, beat_limit = 60000 }

local function ready(settings, options)
  local so = { memory = true }
  for k, v in pairs(options or {}) do so[k] = v end
  s, p = world.new { settings = settings, sim = so, peer = PEER }
  -- Acknowledges what came and forgets it.
  local consumer = s.consumer
  s.consumer = function (...)
    local c = consumer(...)
    function c.ack_all(self)
      if #self:events() > 0 then self:ack "a" end
      self:clear()
    end
    return c
  end
end

describe("six hours like those of the incident", function ()
  it("leave no minute of silence while all is well, and no hole without a name", function ()
    ready()
    check()
    s:close()
  end)

  it("leave a word about each ending: its close code, the rule that judged it, and what came next", function ()
    ready()
    check()
    local codes = {}
    for _, e in ipairs(s:journal "a") do
      if e.kind == "decision" then
        local d = e.decision
        assert.is_true(d.line ~= nil or d.by ~= "rule", e.text)
        if d.cause.close then codes[d.cause.close] = true end
      end
    end
    s:close()
    ready()
    s:up("a", "10s")
    s:advance "2m"
    for _, code in ipairs { 4009, 4902, 4006 } do
      p:control("kick", { code = code })
      s:run_until(function () return s:view("a").cause and s:view("a").cause.close == code end, "10s")
      s:up("a", "1m")
      s:advance "2m"
    end
    s:close()
  end)
end)

describe("the same hours are not survived", function ()
  local function fails(says, settings, options)
    ready(settings, options)
    local ok, err = pcall(check)
    assert.is_false(ok, "nothing was wrong")
    assert.truthy(tostring(err):find(says), tostring(err))
  end

  it("by an engine whose attempts are used up after six", function ()
    fails("minutes of silence", nil, { plant = "I6", checks = false })
  end)

  it("by one whose beats come later than the platform waits", function ()
    fails("cut for want of beats", { tune = { beat = { every = { "100s", "90s", "120s" }, first = "after" } } })
  end)

  it("by one that throws the session away with every 4009 and op 7", function ()
    fails("IDENTIFYs", { tune = { classify = { { any = true, verdict = "fresh" } } } })
  end)

  it("by one that stops at the first answer that it does not know", function ()
    fails("minutes of silence", { tune = { classify = {
      { cause = "gateway_refused", verdict = "stop" }, { close = 4902, verdict = "stop" }, { any = true, verdict = "resume" } } } })
  end)
end)
