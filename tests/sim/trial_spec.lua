-- A new version of a policy runs on a share of the connections first: worse is taken back by itself, good is adopted, and
-- an outage that meets all says nothing of it. 40 connections, of which a few lose their link now and then, as in life.
local sim = require "holdfast.sim"
local world = require "hook_world"

local COUNT = 40

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

local GOOD = { limits = [[{ prepare = "10s", call = "5s", resolve = "5s", connect = "5s", secure = "5s", upgrade = "5s", greeting = "21s", close = "1s" }]] }

local function names()
  local list = {}
  for i = 1, COUNT do list[i] = ("c%02d"):format(i) end
  return list
end

-- All are up and settled, and have a past of half an hour.
local function open(own, count)
  s = world.new()
  for i, name in ipairs(names()) do
    if i > (count or COUNT) then break end
    local settings = { policy = world.policy(), token = s:secret(name .. "-token", "token") }
    for k, v in pairs(own and own[name] or {}) do settings[k] = v end
    s:connection(name, settings)
  end
  s:run_until(function () return s:state(s.names[#s.names]) == "up" end, "30s")
  s:advance "30m"
end

-- Each loses its link once within the next eight minutes.
local function wear()
  for i, name in ipairs(s.names) do
    s:at(i * 11000, function () if s.core:is_up() then s:fault("reset", { connection = name, times = 1, what = "link" }) end end)
  end
end

local function tried()
  local list = {}
  for _, name in ipairs(s.names) do
    local _, is = s:tried(name)
    if is then list[#list + 1] = name end
  end
  return list
end

local function versions()
  local count = {}
  for _, name in ipairs(s.names) do
    local v = s:tried(name)
    count[v] = (count[v] or 0) + 1
  end
  return count
end

local function notes(name)
  return table.concat(world.journal(s, name, "note"), "\n")
end

local function generations()
  local all = {}
  for _, name in ipairs(s.names) do all[name] = s:view(name).generation end
  return all
end

local function over(time)
  s:run_until(function () return s:trials().over and #s:trials() == 0 end, time or "11m")
  return s:trials().over
end

describe("a new version", function ()
  it("runs on its share alone, and on all once the window was quiet; no link is ended for it", function ()
    open()
    local before = generations()
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.1, watch = "10m" }))
    s:advance "1s"
    assert.same({ [1] = 36, [2] = 4 }, versions())
    local list = tried()
    assert.equal(4, #list)
    for _, name in ipairs(list) do assert.is_truthy(notes(name):match "on trial: goes on with text v2 for 10m, as one of 4 of 40 connections") end
    s:advance "9m"
    assert.same({ [1] = 36, [2] = 4 }, versions())
    local o = over "2m"
    assert.equal("adopted", o.ended)
    assert.equal("good", o.outcome)
    assert.is_truthy(o.why:match "^after 10m 0s: 4 connections, 0 hook errors, 0 reconnects; the others: 36 connections.*prepare and greet were not put to the test$")
    assert.same({ [2] = 40 }, versions())
    assert.same(before, generations())
    assert.is_truthy(notes(list[1]):match "text v2, which was on trial, is adopted: after 10m")
    s:close()
  end)

  it("is adopted although links end, when those of the others do, too", function ()
    open()
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.25 }))
    wear()
    local o = over()
    assert.equal("adopted", o.ended, o.why)
    assert.is_truthy(o.why:match "^after 10m 0s: 10 connections, 0 hook errors, %d+ reconnects?, ready after .*; the others: 30 connections", o.why)
    assert.is_nil(o.why:match "put to the test")
    s:close()
  end)

  it("whose greeting raises is taken back as soon as three did, and says so with numbers and the line", function ()
    open()
    assert(s:trial("c01", world.policy { greet = [[ error "no such field" ]] }, { share = 0.25 }))
    s:advance "1s"
    local list = tried()
    wear()
    local o = over()
    assert.equal("taken_back", o.ended)
    assert.equal("worse", o.outcome)
    assert.is_truthy(o.why:match "^%d+ hook errors in %d of 10 connections; none in the other 30, none in their own past; the last: .*:%d+: no such field", o.why)
    assert.same({ [1] = 40 }, versions())
    for _, name in ipairs(list) do assert.is_truthy(notes(name):match "text v2 is taken back, goes on with v1: ", name) end
    s:advance "9m"
    for _, name in ipairs(s.names) do assert.equal("up", s:state(name)) end
    s:close()
  end)

  it("that greets in too short a time reconnects more, and is taken back", function ()
    open()
    local short = { limits = [[{ prepare = "10s", call = "5s", resolve = "5s", connect = "5s", secure = "5s", upgrade = "5s", greeting = "30ms", close = "1s" }]] }
    assert(s:trial("c01", world.policy({}, short), { share = 0.25 }))
    wear()
    local o = over()
    assert.equal("taken_back", o.ended)
    assert.is_truthy(o.why:match "^%d+ reconnects in %d+ of 10 connections; ", o.why)
    assert.same({ [1] = 40 }, versions())
    s:advance "9m"
    for _, name in ipairs(s.names) do assert.equal("up", s:state(name)) end
    s:close()
  end)

  it("that takes longer to be ready is taken back", function ()
    open()
    local slow = [[ local op = conn.session.id and 6 or 2
                    conn:send { op = op, hello = true }
                    conn:await({ op = op }, { within = "10s" })
                    conn:await({ op = 99 }, { within = "6s" })
                    conn.session.id = "s" ]]
    assert(s:trial("c01", world.policy { greet = slow }, { share = 0.25 }))
    wear()
    local o = over()
    assert.equal("taken_back", o.ended, o.why)
    assert.is_truthy(o.why:match "^ready after [67]%.%ds %(median of %d+%); the others after 0%.%ds %(of %d+%)$", o.why)
    s:close()
  end)

  it("that gives up is taken back at once, and who was given up comes back", function ()
    open()
    assert(s:trial("c01", world.policy({}, { classify = [[{ { stage = "ready", verdict = "stop", note = "why not" }, { any = true, verdict = "resume" } }]] }), { share = 0.25 }))
    s:advance "1s"
    local victim = tried()[1]
    s:fault("reset", { connection = victim, times = 1, what = "link" })
    s:run_until(function () return s:state(victim) == "stopped" end, "1m")
    local o = over "10s"
    assert.equal("taken_back", o.ended)
    assert.is_truthy(o.why:match "^1 of 10 connections stopped for good; none in the other 30", o.why)
    s:run_until(function () return s:state(victim) == "up" end, "10s")
    s:close()
  end)

  it("that was good while the platform was not has its window prolonged, and is adopted", function ()
    open()
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.1 }))
    s:advance "3m"
    s:fault("refuse", { what = "link" })
    s:fault("reset", { times = COUNT, what = "link" })
    s:advance "5m"
    assert.is_true(s:trials()[1].weather)
    assert.same({ [1] = 36, [2] = 4 }, versions())
    s:heal()
    s:run_until(function () return s:trials().over ~= nil end, "20m")
    local o = s:trials().over
    assert.equal("adopted", o.ended, o.why)
    local minutes = tonumber(o.why:match "^after (%d+)m")
    assert.is_true(minutes >= 14 and minutes <= 18, o.why)
    over "10s"
    s:close()
  end)

  it("has no verdict when the outage does not end, and is taken back after three windows", function ()
    open()
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.1 }))
    s:advance "3m"
    s:fault("refuse", { what = "link" })
    s:fault("reset", { times = COUNT, what = "link" })
    s:advance "26m"
    assert.equal(1, #s:trials())
    local o = over "2m"
    assert.equal("taken_back", o.ended)
    assert.equal("no_verdict", o.outcome)
    assert.is_truthy(o.why:match "^no verdict after 30m 0s: both sides are failing together", o.why)
    s:heal()
    s:advance "5m"
    for _, name in ipairs(s.names) do assert.equal("up", s:state(name)) end
    s:close()
  end)

  it("that breaks its share in the middle of an outage is still found out by its hooks", function ()
    open()
    assert(s:trial("c01", world.policy { prepare = [[ error "broken" ]] }, { share = 0.1 }))
    s:advance "3m"
    s:fault("refuse", { what = "link" })
    s:fault("reset", { times = COUNT, what = "link" })
    local o = over "1m"
    assert.is_truthy(o.why:match "^%d hook errors in %d of 4 connections; none in the other 36", o.why)
    s:heal()
    s:advance "3m"
    s:close()
  end)

  it("that dials where nobody answers does not pass for weather", function ()
    open()
    assert(s:trial("c01", world.policy { prepare = [[ return { url = "wss://nowhere.echo.test/ws" } ]] }, { share = 0.25 }))
    wear()
    local o = over()
    assert.equal("taken_back", o.ended)
    assert.is_truthy(o.why:match "^%d+ reconnects in %d+ of 10 connections; ", o.why)
    s:advance "9m"
    for _, name in ipairs(s.names) do assert.equal("up", s:state(name)) end
    s:close()
  end)
end)

describe("while a version is on trial", function ()
  it("a third one takes its place, and the tried ones of the first go on with what serves the others", function ()
    open()
    assert(s:trial("c01", world.policy { greet = [[ error "no" ]] }, { share = 0.25 }))
    s:advance "1m"
    local first = tried()
    local was = s:tried(first[1])
    assert.equal(2, was)
    -- What serves the others is the version to compare with: any of them names it.
    local other
    for _, name in ipairs(s.names) do if select(2, s:tried(name)) == false then other = name break end end
    assert(s:trial(other, world.policy({}, GOOD), { share = 0.25 }))
    s:advance "1s"
    local count = versions()
    assert.equal(30, count[1])
    assert.equal(1, #s:trials())
    for _, name in ipairs(first) do
      local _, is = s:tried(name)
      if not is then assert.is_truthy(notes(name):match "goes on with text v1: v2 is on trial on others") end
    end
    wear()
    local o = over()
    assert.equal("adopted", o.ended, o.why)
    s:close()
  end)

  it("tried ones may be removed or stopped, and when none is left others are tried anew", function ()
    open()
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.05 }))
    s:advance "5m"
    local list = tried()
    assert.equal(2, #list)
    s:remove(list[1])
    s:advance "1s"
    assert.same({ list[2] }, tried())
    s:stop(list[2])
    s:advance "3s"
    local again = tried()
    assert.equal(2, #again)
    assert.are_not.equal(list[2], again[1])
    s:advance "9m"
    assert.is_nil(s:trials().over)
    local o = over "2m"
    assert.equal("adopted", o.ended)
    assert.same({ [2] = 39 }, versions())
    s:close()
  end)

  it("a person may end it either way", function ()
    open()
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.1 }))
    s:advance "1m"
    assert.is_true(s:end_trial("c01", "adopt", "enough"))
    assert.is_false(s:end_trial("c01", "adopt", "again"))
    s:advance "1s"
    assert.same({ [2] = 40 }, versions())
    assert.is_true(s:trials().over.asked)
    assert(s:trial("c01", world.policy { greet = [[ error "no" ]] }, { share = 0.1 }))
    s:advance "1m"
    assert.is_true(s:end_trial("c01", "take_back", "not today"))
    s:advance "1s"
    assert.same({ [2] = 40 }, versions())
    s:close()
  end)

  it("values that it fetches are its own, and those of the others are left alone", function ()
    open()
    local shape = { fetch = [[ return { at = "wss://echo.test/ws" } ]], prepare = [[ return { url = conn:get("where").at } ]] }
    assert(s:trial("c01", world.policy(shape), { share = 0.25 }))
    wear()
    local o = over()
    assert.equal("adopted", o.ended, o.why)
    wear()
    s:advance "10m"
    for _, name in ipairs(s.names) do
      assert.equal("up", s:state(name))
      assert.same({}, world.journal(s, name, "hook"))
    end
    s:close()
  end)
end)

describe("who is tried", function ()
  it("is the same whatever the order in which connections were added", function ()
    open()
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.1 }))
    local first = tried()
    s:abandon()
    s = world.new()
    for i = COUNT, 1, -1 do
      local name = ("c%02d"):format(i)
      s:connection(name, { policy = world.policy(), token = s:secret(name .. "-token", "token") })
    end
    s:run_until(function () return s:state "c01" == "up" end, "30s")
    s:advance "30m"
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.1 }))
    assert.same(first, tried())
    s:close()
  end)

  it("are those that like it, then those that are up; never those that do not", function ()
    open { c07 = { trial = true }, c08 = { trial = false }, c09 = { trial = false } }
    assert(s:trial("c01", world.policy({}, GOOD), { share = 0.025 }))
    assert.same({ "c07" }, tried())
    assert(s:end_trial("c01", "take_back"))
    s:advance "1s"
    assert(s:trial("c01", world.policy({}, GOOD), { share = 1 }))
    s:advance "1s"
    assert.equal(38, #tried())
    assert.equal(1, (s:tried "c08"))
    over()
    assert.equal(2, (s:tried "c08"))
    s:close()
  end)

  it("is nobody when all say never: then it is adopted as it is, and that is said", function ()
    open({ c01 = { trial = false } }, 1)
    assert.is_false(s:trial("c01", world.policy({}, GOOD)))
    assert.equal("adopted", s:trials().over.ended)
    assert.equal("untried, because no connection of it may be tried (trial = false)", s:trials().over.why)
    s:advance "1s"
    assert.equal(2, (s:tried "c01"))
    assert.is_truthy(notes "c01":match "goes on with text v2, untried, because no connection of it may be tried")
    s:stop "c01"
    s:advance "1s"
    assert.is_false(s:trial("c01", world.policy()))
    assert.equal("untried, because no connection of it runs", s:trials().over.why)
    s:advance "1s"
    s:close()
  end)

  it("is the only connection there is, compared with its own past", function ()
    open(nil, 1)
    assert(s:trial("c01", world.policy { greet = [[ error "no" ]] }))
    s:fault("reset", { times = 1, what = "link" })
    local o = over "1m"
    assert.equal("taken_back", o.ended)
    -- Three endings or three raised hooks: whichever are looked at first.
    assert.is_truthy(o.why:match "^%d [hr][%a ]+ in 1 of 1 connection; none in their own past", o.why)
    s:run_until(function () return s:state "c01" == "up" end, "1m")
    s:close()
  end)
end)

describe("a rehearsal", function ()
  it("replaces one tried link by plan, where the policy allows an overlap", function ()
    s = world.new()
    local tables = { overlap = "1" }
    for _, name in ipairs(names()) do s:connection(name, { policy = world.policy({}, tables), token = s:secret(name, "token") }) end
    s:run_until(function () return s:state(s.names[COUNT]) == "up" end, "30s")
    s:advance "5m"
    local before = generations()
    assert(s:trial("c01", world.policy({}, { overlap = "1", limits = GOOD.limits }), { rehearse = true }))
    s:advance "1m"
    local anew = {}
    for _, name in ipairs(s.names) do if s:view(name).generation > before[name] then anew[#anew + 1] = name end end
    assert.equal(1, #anew)
    assert.is_true(select(2, s:tried(anew[1])))
    assert.equal("up", s:state(anew[1]))
    local o = over()
    assert.equal("adopted", o.ended)
    assert.is_nil(o.why:match "put to the test")
    s:close()
  end)
end)
