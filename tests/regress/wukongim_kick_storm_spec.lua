-- The WuKongIM incident: 950 kicks an hour over 15 bots, 170 000 in all. Two owners of "reconnect", callbacks of
-- sockets that were gone, timers that outlived theirs, a backoff that was reset on open; and each forced register,
-- the answer to a kick, was the next kick. The same fleet and the same troubles, and what has to hold.
local world = require "wukongim_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local BOTS, HOUR, MINUTE = 15, 3600000, 60000

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function replaced(text, from, to)
  local at, last = text:find(from, 1, true)
  assert(at, "the policy has no more: " .. from)
  return text:sub(1, at - 1) .. to .. text:sub(last + 1)
end

local SHIPPED = read "policies/wukongim.lua"

-- What the plugin did: a kick is answered by register, at once, and nothing is remembered once a socket opened.
local function naive()
  local text = SHIPPED
  text = replaced(text, '{ cause = "conflict", verdict = "resume", pace = { "30s", "10m" } }', '{ cause = "conflict", verdict = "renew" }')
  text = replaced(text, '{ cause = "token_updated", verdict = "resume", delay = { "0s", "20s" } }', '{ cause = "token_updated", verdict = "renew" }')
  text = replaced(text, 'keep = "30d", gap = "60s"', 'keep = "30d", gap = "0s"')
  text = replaced(text, 'backoff  = { first = "3s", factor = 2, most = "60s"', 'backoff  = { first = "3s", factor = 1, most = "3s"')
  return (text:gsub("  climb = {\n.-\n  },\n", "", 1))
end

-- Another installation has another identity here: one process refuses two of the same.
local function elsewhere(text)
  return replaced(text, 'identity = { "bot_token" }', 'identity = { "bot_token", "api" }')
end

local function token(i) return s:secret(("bf_%032d"):format(i), "bot_token") end

local function fleet(policy, installations)
  s, p = world.new { no_connection = true, sim = { memory = true } }
  for i = 1, BOTS do
    for n = 1, installations do
      world.connect(s, p, ("%s%d"):format(n == 1 and "b" or "c", i),
        { policy = n == 1 and policy or elsewhere(policy), api = p.url .. (n == 1 and "" or "/"), bot_token = token(i) })
    end
  end
end

local function held(most, count, what)
  if count > most then error(("%d %s, at most %d"):format(count, what, most), 3) end
end

local function instants(kind, from)
  local out = {}
  for _, e in ipairs(world.logged(p, kind, from)) do out[#out + 1] = e.at end
  return out
end

local function each_up()
  for i = 1, BOTS do
    if s:state("b" .. i) ~= "up" then return false end
  end
  return true
end

-- Two hours of what a server does to bots that are alone. Raises what does not hold.
local function day()
  s:run_until(each_up, "1m")
  s:fault "no_close_answer"   -- no server line but the rebuilt one has close frames
  for hour = 0, 1 do
    local at = hour * HOUR
    s:at(at + 5 * MINUTE, function () p:control "update_tokens" end)           -- the REST server is started again
    s:at(at + 15 * MINUTE, function () p:control "close" end)                  -- a load balancer too
    s:at(at + 25 * MINUTE, function () p:control("fault", { http = { status = 429, headers = { ["Retry-After"] = "60" } } }) end)
    s:at(at + 35 * MINUTE, function () p:control "heal" end)
    s:at(at + 45 * MINUTE, function () p:control "forget" end)                 -- and the IM server
  end
  s:advance "2h"
  local stats = p:control "stats"
  local kicks = 0
  for _, n in pairs(stats.kicks) do kicks = kicks + n end
  -- One for each bot and start of the REST server: those that nobody but the server can help.
  held(2 * BOTS, kicks, "kicks in two hours")
  held(0, stats.register_kicked, "sessions kicked by our own register")
  held(3 * BOTS, stats.registers, "registers in two hours")
  held(1, stats.most_open, "sessions of one bot at once")
  for i = 1, BOTS do
    held(1, s:descriptors("b" .. i).most, "sockets of one bot at once")
    held(20, #world.dials(s, "b" .. i), "dials of one bot in two hours")
  end
  if not each_up() then error("not all are up", 2) end
end

-- An hour in which somebody left the old installation running: the same tokens, the same code.
local function twice()
  s:advance "10m"
  local from = s:now()
  local kicks
  for _ = 1, 6 do
    s:advance "10m"
    kicks = #instants("kick", from)
    held(300, kicks, "kicks in an hour")
  end
  held(40, world.most_in(instants("kick", from), MINUTE), "kicks in a minute")
  held(0, #instants("register", from), "registers in an hour")
  if kicks < BOTS then error("it gave up", 2) end
  for i = 1, BOTS do held(1, s:descriptors("b" .. i).most, "sockets of one bot at once") end
end

describe("fifteen bots", function ()
  it("live through an evening of restarts with one kick each, and none of their own making", function ()
    fleet(SHIPPED, 1)
    day()
    s:close()
  end)

  it("that somebody else runs as well settle at a few kicks an hour, and say what is wrong", function ()
    fleet(SHIPPED, 2)
    twice()
    local told = 0
    for i = 1, BOTS do
      for _, name in ipairs { "b" .. i, "c" .. i } do
        for _, e in ipairs(world.journal(s, name, "alarm")) do
          if e.text:find("another installation uses this bot token", 1, true) then told = told + 1 end
        end
      end
    end
    assert.is_true(told >= BOTS, told .. " alarms")
    s:close()
  end)
end)

describe("the same claims fail", function ()
  it("for a policy that answers a kick with register and forgets its failures: the storm of the incident", function ()
    fleet(naive(), 2)
    local ok, err = pcall(twice)
    assert.is_false(ok, "nothing was wrong")
    assert.truthy(tostring(err):find "kicks in an hour", tostring(err))
    local count = tonumber(tostring(err):match "(%d+) kicks")
    assert.is_true(count > 950, count .. " kicks")
  end)

  it("for that policy when the bots are alone", function ()
    fleet(naive(), 1)
    local ok, err = pcall(day)
    assert.is_false(ok, "nothing was wrong")
    assert.truthy(tostring(err):find "in two hours", tostring(err))
  end)

  it("for an engine that dials before the old socket is closed", function ()
    s, p = world.new { no_connection = true, sim = { memory = true, plant = "I1", checks = false } }
    for i = 1, BOTS do world.connect(s, p, "b" .. i, { bot_token = token(i) }) end
    local ok, err = pcall(day)
    assert.is_false(ok, "nothing was wrong")
    assert.truthy(tostring(err):find "of one bot at once", tostring(err))
  end)
end)
