-- The store under everything at once: traffic, disks that fail, fill up and slow down, processes that die and
-- machines that lose power, also in the middle of a write and of the next start. Then all is well, and:
-- the database opens (quick_check included) and holds what it said it holds, nobody started more sessions than
-- the budget, and every frame that was safe has come to the consumer. The simulator's checkers of I2 and I7
-- watch all the way; what a consumer got is checked here against what the platform sent.
-- HOLDFAST_SEED repeats one schedule, HOLDFAST_SEEDS=FIRST-LAST runs others.
local world = require "discord_world"
local sim = require "holdfast.sim"

local ECHO = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "echo",
  about = "a platform that sends again what was not acknowledged",
  options = { token = { type = "secret", required = true }, api = { type = "url", default = "https://echo.test" } },
  identity = { "token" },
  account = { "token" },
  hosts = { "echo.test" },
  frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } },
             ack = { when = "early", frame = '{"ack":"@id"}' }, accept = true },
  prepare = function (conn) return { url = "wss://echo.test/ws" } end,
}
]]

local function draws(seed)
  local state = (seed * 2654435761 + 777) % 4294967296
  return function (n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return math.floor(state / 4294967296 * n) + 1
  end
end

local DISK = { "disk_full", "disk_write_error", "disk_sync_error", "disk_read_only", "disk_slow", "disk_read_error",
               "store_fail", "store_delay" }

local function anything(s, p, c, draw, sent)
  local what = draw(12)
  local up = s.core:is_up()
  if what <= 3 then
    if up then s:crash_and_restart { power = true, after = draw(8000), again = ({ "power", "crash" })[draw(5)] } end
  elseif what <= 5 then
    if up then s:crash_and_restart { after = draw(3000), again = ({ "power", "crash" })[draw(5)] } end
  elseif what <= 8 then
    local kind = DISK[draw(#DISK)]
    s:fault(kind, { lasts = draw(20) * 1000, probability = draw(2) == 1 and 1 or 0.2, bytes = draw(60000), ms = draw(2000) })
  elseif what == 9 then
    p:control("dispatch", { count = draw(60) })
  elseif what == 10 then
    if up and c:attached() then c:detach() end
    s:at(draw(15) * 1000, function () if s.core:is_up() and not c:attached() then c:attach "cursor" end end)
  elseif what == 11 then
    s:fault("reset", { times = 1 })
  else
    for _ = 1, draw(5) do
      if s.core:is_up() and s:state "b" == "up" then
        sent.echo = sent.echo + 1
        s:send("b", { id = "m" .. sent.echo })
      end
    end
  end
end

-- Messages of the platform that never came, where no gap stands at their place.
local function check(c)
  local first, gaps, most = {}, {}, 0
  for i, text in ipairs(c:lines()) do
    local line = sim.decode(text)
    if line.gap and line.gap.connection == "a" then gaps[#gaps + 1] = i end
    local number = line.event and line.event.connection == "a" and line.event.frame.t == "MESSAGE_CREATE" and line.event.frame.d.number
    if number and not first[number] then
      if number < most then error(("message %d came after message %d"):format(number, most), 2) end
      first[number], most = i, number
    end
  end
  local before = 0
  for n = 1, most do
    if first[n] then
      before = first[n]
    else
      local next_one = n
      while not first[next_one] do next_one = next_one + 1 end
      local named = false
      for _, at in ipairs(gaps) do named = named or (at > before and at < first[next_one]) end
      if not named then error(("message %d is missing, and no gap says so"):format(n), 2) end
    end
  end
  return most
end

local function settle(s, c)
  s:heal()
  s:run_until(function () return s.core:is_up() end, "1m", "the process runs")
  s:run_until(function () return s:state "a" == "up" and s:state "b" == "up" end, "30h", "up after all is well")
  if not c:attached() then assert(c:attach "cursor") end
  s:advance "30s"
  s:caught_up()
end

local function schedule(seed)
  local draw = draws(seed)
  local s, p = world.new { seed = seed, peer = { events_every = 900 } }
  s:peer("mute", { host = "echo.test", options = { echo = true } })
  s:connection("b", { policy = ECHO, token = s:secret "t" })
  local c = s:consumer { name = "bot" }
  local sent = { echo = 0 }
  local function ack()
    if draw(2) == 1 and s.core:is_up() and c:attached() then
      for _, name in ipairs { "a", "b" } do
        local last
        for _, e in ipairs(c:events()) do
          if e.connection == name then last = e end
        end
        if last then c:ack(name, last.epoch, last.offset) end
      end
    end
    s:at(draw(15) * 1000, ack)
  end
  s:at("4s", ack)
  s:advance "10s"
  for _ = 1, 14 do
    anything(s, p, c, draw, sent)
    s:advance(draw(12) * 500)
  end
  settle(s, c)
  -- Nothing is under way: what there is survives.
  s:power_cut()
  settle(s, c)
  p:control("kick", { code = 4000 })
  s:advance "10s"
  local counts = s:store()
  local most = check(c)
  s:abandon()
  return most, counts
end

local function seeds()
  local one = tonumber(os.getenv "HOLDFAST_SEED")
  if one then return one, one end
  local first, last = (os.getenv "HOLDFAST_SEEDS" or ""):match "^(%d+)%-(%d+)$"
  return tonumber(first) or 1, tonumber(last) or 200
end

describe("whatever happens to disk, process and power", function ()
  local first, last = seeds()
  for seed = first, last do
    it(("the store has what it said it has, and consumers get it (seed %d)"):format(seed), function ()
      local most, counts = schedule(seed)
      assert.is_true(most >= 10, most .. " messages")
      assert.is_true(counts.power_cuts >= 1)
    end)
  end
end)

-- What the schedules rest on: each of these is caught, or seen.
describe("a store that answers before it wrote", function ()
  it("is caught by the checker of I7", function ()
    local caught, why = 0, nil
    for seed = 1, 20 do
      local s = sim.new { seed = seed, plant = "store" }
      s:peer("mute", { host = "echo.test", options = { echo = true } })
      s:connection("b", { policy = ECHO, token = s:secret "t" })
      s:consumer { name = "bot" }
      s:up "b"
      s:send("b", { id = "m0" })
      s:advance "5s"
      s:fault("store_delay", { ms = "2s" })
      s:send("b", { id = "m1" })
      s:advance "1s"
      s:power_cut()
      s:heal { check = false }
      local ok, err = pcall(function ()
        s:up("b", "10m")
        s:send("b", { id = "m2" })
        s:advance "5s"
        s:caught_up()
      end)
      if not ok then
        caught, why = caught + 1, tostring(err)
        assert.truthy(why:find("I7 violated", 1, true), why)
      end
      s:abandon()
    end
    assert.is_true(caught >= 5, caught .. " of 20")
  end)
end)

describe("a store that ended in order", function ()
  it("goes on in its epoch, with its consumers where they were", function ()
    local s, p = world.settled { peer = { events_every = 1000 } }
    local c = s:consumer { name = "bot" }
    s:advance "30s"
    local epoch, count = s:store().epoch, #c:events()
    assert.is_true(count > 20)
    assert.is_true(s:restart_process "1s")
    s:up("a", "1m")
    s:advance "10s"
    assert.equal(epoch, s:store().epoch)
    assert.is_true(s:store().was_clean)
    assert.is_true(#c:events() > count)
    assert.equal(0, #c:gaps())
    s:caught_up()
    assert.equal(1, p:control("stats").identifies)
    s:close()
  end)

  it("gives a consumer that acknowledged nothing all of its backlog again", function ()
    local s = world.settled { peer = { events_every = 1000 } }
    local c = s:consumer { name = "bot" }
    s:advance "20s"
    local numbers = world.numbers(c)
    for _, how in ipairs { "crash", "power_cut" } do
      c:clear()
      s[how](s, "1s")
      s:up("a", "1m")
      s:advance "2s"
      local again = world.numbers(c)
      for i, n in ipairs(numbers) do assert.equal(n, again[i]) end
    end
    s:close()
  end)
end)

describe("a disk", function ()
  it("that is corrupt is refused at the next start, and the process stays down", function ()
    local refused = 0
    for seed = 1, 10 do
      local s = world.new { seed = seed, peer = { events_every = 200 } }
      s:consumer { name = "bot" }
      s:advance "3m"
      s:restart_process "1s"
      s:advance "20s"
      s:fault("disk_corrupt", { bytes = 3000 })
      s:crash "1s"
      if not s.core:is_up() then
        refused = refused + 1
        assert.truthy(s.boot_error:find("holdfast.db", 1, true), s.boot_error)
      end
      s:abandon()
    end
    assert.is_true(refused >= 3, refused .. " of 10")
  end)

  it("that cannot be written keeps the process from starting until it is well", function ()
    local s = world.settled()
    local broken = s:fault("disk_read_only", {})
    s:power_cut "1s"
    s:advance "10s"
    assert.is_false(s.core:is_up())
    assert.truthy(s.boot_error)
    broken:off()
    s:run_until(function () return s.core:is_up() end, "5s")
    s:up("a", "1m")
    s:close()
  end)

  it("is seen from outside", function ()
    local s = world.settled()
    local d = s:store()
    assert.is_true(d.files["/holdfast.db"].bytes > 0 and d.writes > 0 and d.syncs > 0)
    assert.equal(0, d.power_cuts)
    assert.equal(0, d.disk_failures)
    assert.is_true(d.sessions == 1 and d.permits == 1)
    s:close()
  end)
end)
