-- The Slack incident: a watchdog took 180 s without an event for a dead socket. The app was idle, about one event
-- in 13 minutes, so a healthy socket was left every four minutes; Slack went on counting what was left, up to ten
-- sockets, sent each of them its share of the events, and let no new one in. The same day, and what has to hold.
local world = require "slack_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

-- Slack counts a socket that went without its doing for two hours more, and sends it its share.
local function new(options)
  options = options or {}
  s, p = world.new { sim = { memory = true, plant = options.plant, checks = options.checks },
                     peer = { forget = 2 * 3600000, ping = 0 }, settings = options.settings }
end

local function held(most, count, what)
  if count > most then error(("%d %s, at most %d"):format(count, what, most), 3) end
end

-- A day of an idle app. Raises what does not hold.
local function day()
  local c = s:consumer { name = "bot", connections = { "a" } }
  s:run_until(function () return s:state "a" == "up" end, "1m")
  for i = 1, 24 * 60 / 13 do s:at(i * 13 * 60000, function () p:control "event" end) end
  for i = 1, 24 do s:at(i * 3600000 + 1000, function () p:control("interactive", { asks = false }) end) end
  local before = s:view "a"
  s:advance "24h"
  s:advance "10m"
  local v, stats = s:view "a", p:control "stats"
  held(0, (v.endings - v.planned_endings) - (before.endings - before.planned_endings), "unplanned endings")
  held(6, stats.opens, "opens in a day")
  held(2, stats.most_open, "sockets at once, as Slack counts them")
  held(0, stats.too_many, "sockets not let in")
  held(0, stats.redelivered, "events sent again")
  held(0, stats.lost_interactions, "clicks lost")
  held(2, s:descriptors("a").most, "sockets of ours at once")
  local events = 0
  for _, e in ipairs(c:events()) do
    if e.take.type == "events_api" then events = events + 1 end
  end
  if events ~= stats.events then error(("%d of %d events came"):format(events, stats.events), 2) end
  if #c:gaps() > 0 then error("a gap", 2) end
end

local function fails(says)
  local ok, err = pcall(day)
  assert.is_false(ok, "nothing was wrong")
  assert.truthy(tostring(err):find(says), tostring(err))
  return p:control "stats"
end

describe("a day of an idle app", function ()
  it("is five sockets, each replaced as planned, and nothing is lost", function ()
    new()
    day()
    assert.is_true(s:view("a").planned_endings >= 4)
    s:close()
  end)

  it("survives what really ends a socket: one unplanned return, one ghost told, no further one made", function ()
    new()
    s:up("a", "10s")
    s:advance "2m"
    local from = s:now()
    p:control "abort"
    s:run_until(function () return s:view("a").ready == 2 end, "5s")
    assert.truthy(s:json("a").warning:find("Slack counts 2 sockets of this app, 1 of them ours", 1, true))
    s:quiet("4h", "a")
    assert.equal(1, #world.opens(p, from))
    s:close()
  end)
end)

describe("the same claims fail", function ()
  it("for an engine that takes events for the pulse: sockets pile up at Slack until none is let in", function ()
    new { plant = "I5", checks = false, settings = { tune = { alive = { ping = "60s", silence = "180s" } } } }
    local stats = fails "unplanned endings"
    assert.is_true(stats.opens >= 100, stats.opens .. " opens")
    assert.is_true(stats.most_open >= 10, stats.most_open .. " at once")
    assert.is_true(stats.too_many > 0 and stats.redelivered > 0, "it went well")
  end)

  it("for a policy with the incident's own watchdog", function ()
    local file = assert(io.open "policies/slack.lua")
    local text = file:read "*a"
    file:close()
    local function put(what, with)
      local from, to = text:find(what, 1, true)
      text = text:sub(1, from - 1) .. with .. text:sub(to + 1)
    end
    put("    ends    = {", "    inspect = { envelope = { present = true } },\n    ends    = {")
    put("  greet = function (conn)", [[
  on_frame = function (conn) conn.keep.last = holdfast.now_ms() end,
  every = { watchdog = { "30s", function (conn)
    if holdfast.now_ms() - (conn.keep.last or holdfast.now_ms()) < 180000 then return end
    conn.keep.last = holdfast.now_ms()
    conn:close "no event for three minutes"
  end } },

  greet = function (conn)
    conn.keep.last = conn.keep.last or holdfast.now_ms()]])
    new { settings = { policy = text } }
    -- The pulse is fresh: the journal says whose wish it was.
    local decision = s:run_until(function ()
      for _, e in ipairs(s:journal "a") do
        if e.kind == "decision" then return e.decision end
      end
    end, "5m")
    assert.same({ "wished", "policy", "no event for three minutes" }, { decision.cause.kind, decision.cause.by, decision.cause.reason })
    local stats = fails "unplanned endings"
    assert.is_true(stats.most_open >= 10 and stats.too_many > 0, stats.most_open .. " at once")
  end)
end)
