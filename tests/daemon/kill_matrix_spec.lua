-- kill -9 at random instants and at every failpoint, on the real binary: a platform sends numbered messages all
-- the while, and a bot reads and acknowledges. After each kill the next daemon must go on from the bot's
-- cursor, resume the session, and leave no hole that it does not name.
--
-- HOLDFAST_KILLS: random instants, of daemons and of bots (16). HOLDFAST_FAILPOINTS=all: every failpoint with every
-- count, otherwise with one of them. HOLDFAST_SEED: of the instants. `make kill-matrix` runs it in full.
local kill_world = require "kill_world"
local world = require "daemon_world"
local store = require "unit.store"

local KILLS = tonumber(os.getenv "HOLDFAST_KILLS") or 16
local ALL = os.getenv "HOLDFAST_FAILPOINTS" == "all"
local SEED = tonumber(os.getenv "HOLDFAST_SEED") or os.time() % 1000000
local SLOW = world.build:find "asan" and 3 or 1

-- Passed again and again by a daemon that found a session and a backlog.
local RUNNING = {
  discord = {
    opened = { 1 }, restored = { 1 }, sent = { 1 }, accepted = { 1, 2, 40, 150 }, session = { 1, 3, 20 }, flush = { 1, 2, 9, 40 },
    commit = { 1, 2, 3, 5, 9, 40 }, committed = { 1, 2, 3, 5, 9, 40 }, delivered = { 1, 2, 20, 60 }, cursor = { 1, 4, 15 },
    trim = { 1, 2 },
  },
  ledger = {
    accepted = { 1, 30 }, seen = { 1, 2, 30 }, flush = { 1, 7 }, commit = { 2, 6, 20 }, committed = { 2, 6, 20 },
    stored = { 1, 2, 20 }, ack = { 1, 2, 30, 100 }, acked = { 1, 2, 30, 100 }, cursor = { 1, 9 },
  },
}
-- Passed by the first daemon of all: nothing is on disk before. Those that no later one passes, and the rest.
local FIRST_ALONE = { consumer = { 1 }, permit = { 1 }, stored = { 1 }, sent = { 1 }, session = { 1 } }
local FIRST_TOO = { session = { 2 }, opened = { 1 }, restored = { 1 }, accepted = { 1, 2, 5 }, flush = { 1, 2, 3, 4 },
                    commit = { 1, 2, 3, 4, 5, 6, 8 }, committed = { 1, 2, 3, 4, 5, 6, 8 }, delivered = { 1, 2, 3 } }
local ENDING = { closing = { 1 }, closed = { 1 } }

-- Only once the log has grown for some seconds.
if ALL then RUNNING.discord.checkpoint, RUNNING.discord.checkpointed = { 1 }, { 1 } end

-- Name and count, in a fixed order.
local function points(table_of)
  local names, out = {}, {}
  for name in pairs(table_of) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local counts = table_of[name]
    for i, count in ipairs(counts) do
      if ALL or i == 1 + SEED % #counts then out[#out + 1] = name .. ":" .. count end
    end
  end
  return out
end

local began = world.now_ms()
local function report(...)
  io.write(("kill matrix: %s (%.0f s)\n"):format(string.format(...), (world.now_ms() - began) / 1000))
  began = world.now_ms()
end

describe("whatever instant it is killed at", function ()
  local k
  after_each(function () k:close() end)

  -- Nothing missing, nothing told: what was sent is there, in order, from the cursor on. Policy `generic` cannot
  -- know that its platform sends again: it says after each kill that frames may be missing; none is.
  local function whole()
    local problems = k:verdict()
    assert.equal("", problems, "seed " .. SEED)
    for _, gap in ipairs(k.bot.gaps) do
      assert.is_truthy(k.kind == "ledger" and gap:find('"cause":"restarted","certain":false', 1, true), gap)
    end
    assert.same({}, k.bot:missing(k.bot.high), "seed " .. SEED)
  end

  local function begin(kind)
    k = kill_world.new(kind)
    k:start()
    k:catch_up()
    k:eventually(function () return k.bot.high >= 30 end)
  end

  local function sessions_went_on(what)
    if k.kind == "discord" then
      assert.equal(1, k:stat "identifies", what)
    else
      assert.equal(0, k:stat "strange", what)
    end
  end

  for _, kind in ipairs { "discord", "ledger" } do
    it("the next daemon goes on (" .. kind .. ", random instants)", function ()
      math.randomseed(SEED)
      local count = math.ceil(KILLS / 4 * (kind == "discord" and 2 or 1))
      begin(kind)
      for i = 1, count do
        -- In its start, in its resumption, or while it runs.
        local within = ({ 60, 400, 400, 1200 })[1 + i % 4]
        local at = math.random() * within * SLOW
        k:wait(at)
        local what = ("seed %d, kill %d at %.1f ms"):format(SEED, i, at)
        assert.is_nil(k.daemon:ended(), what .. ": it ended by itself:\n" .. k.daemon.err)
        local _, signal = k:kill()
        assert.equal(world.signals.kill, signal, what)
        assert.same({}, k.bot.problems, what)
        k:start()
        if i % 10 == 0 then k:catch_up() end
      end
      local last = k:catch_up()
      whole()
      sessions_went_on("seed " .. SEED)
      report("%s, seed %d: %d kills at random instants, %d messages, %d seen twice, %d gaps", kind, SEED, count, last, k.bot.again,
        #k.bot.gaps)
    end)

    it("the next daemon goes on (" .. kind .. ", failpoints)", function ()
      begin(kind)
      assert.equal(0, k.daemon:stop())
      k:ended()
      local list = points(RUNNING[kind])
      for _, point in ipairs(list) do
        k:start { env = { HOLDFAST_FAILPOINT = point } }
        k:eventually(function () return false end, world.wait_ms)
        local _, signal = k:ended()
        assert.equal(world.signals.kill, signal, point .. " was never passed:\n" .. k.daemon.err)
        assert.same({}, k.bot.problems, point)
        k:start()
        k:catch_up()
        whole()
        sessions_went_on(point)
        k:kill()
      end
      k:start()
      k:catch_up()
      whole()
      report("%s: %d failpoints, %d messages, %d seen twice, %d gaps", kind, #list, k.bot.high, k.bot.again, #k.bot.gaps)
    end)
  end

  local shimmed = world.build:find "asan" and function (name)
    pending(name, "AddressSanitizer must be the first that is preloaded")
  end or it
  for _, kind in ipairs { "discord", "ledger" } do
    shimmed("the next daemon goes on (" .. kind .. ", in any weather of the disk)", function ()
      local WEATHER = { "full", "readonly", "sync-fails", "sync 30", "sync 300" }
      math.randomseed(SEED)
      local count, refused = math.ceil(KILLS / 4), 0
      begin(kind)
      k:kill()
      for i = 1, count do
        -- It may be ill from the start on; then the start is refused, and the next one finds it well.
        k:disk(math.random() < 0.2 and WEATHER[math.random(#WEATHER)] or nil)
        k:start(k:disk_env())
        for _ = 1, math.random(3) do
          k:wait(math.random() * 250 * SLOW)
          k:disk(math.random() < 0.7 and WEATHER[math.random(#WEATHER)] or nil)
        end
        k:wait(math.random() * 250 * SLOW)
        local what = ("seed %d, kill %d"):format(SEED, i)
        local code, signal = k:kill() -- of one that was refused it finds nobody
        if signal then
          assert.equal(world.signals.kill, signal, what .. k.daemon.err)
        else
          assert.equal(1, code, what)
          assert.is_truthy(k.daemon.err:find("not started: ", 1, true), what .. k.daemon.err)
          refused = refused + 1
        end
        assert.same({}, k.bot.problems, what)
      end
      k:disk(nil)
      k:start(k:disk_env())
      local last = k:catch_up()
      whole()
      sessions_went_on("seed " .. SEED)
      report("%s, seed %d: %d kills in any weather, %d starts refused, %d messages, %d seen twice, %d gaps", kind, SEED, count - refused,
        refused, last, k.bot.again, #k.bot.gaps)
    end)
  end

  it("a bot that is killed gets what it had not acknowledged, and nothing that it had", function ()
    math.randomseed(SEED)
    begin "discord"
    local count = math.ceil(KILLS / 4)
    for _ = 1, count do
      k:wait(math.random() * 150)
      -- Its acknowledgements are in when the answer to a later line is.
      if k.bot.fd then
        k.bot.away = true
        local asked = k.bot:barrier(k)
        local acked = k.bot.acked
        k.bot:drop()
        k.bot.away = false
        if asked then
          k:eventually(function () return k.bot.number end)
          assert.equal(acked + 1, k.bot.first_number)
        end
      end
    end
    local last = k:catch_up()
    whole()
    sessions_went_on("seed " .. SEED)
    report("seed %d: %d bots killed, %d messages, %d seen twice", SEED, count, last, k.bot.again)
  end)

  it("`holdfast tail` that is killed has printed all that it acknowledged", function ()
    math.randomseed(SEED)
    k = kill_world.new("discord", { events_every = 3 })
    k.bot.away = true
    k:start()
    k.daemon:says "holdfast %S+ runs"
    k.w:up()
    local count, high, total = math.ceil(KILLS / 8), 0, 0
    for i = 1, count do
      local tail = k.w:start { "tail", "--consumer", "printer", "--json" }
      tail:says '"hello"'
      local until_ms = world.now_ms() + math.random() * 150
      while world.now_ms() < until_ms do tail:pump(2) k.daemon:pump(0) end
      tail:kill(world.signals.kill)
      tail:wait()
      tail:pump(0)
      local number
      for n in tail.out:gmatch '"event":[^\n]-"number":(%d+)[^\n]*\n' do
        n = tonumber(n)
        if number then assert.equal(number + 1, n, "tail " .. i)
        else assert.is_true(n <= high + 1, ("tail %d began with %d, and %d was the newest that any had printed (seed %d)"):format(i, n, high, SEED)) end
        number, total = n, total + 1
        high = math.max(high, n)
      end
    end
    report("seed %d: %d tails killed, %d messages printed, the newest %d", SEED, count, total, high)
  end)

  it("the very first daemon, no session starts without a permit, and holes are named", function ()
    local list, twice = points(FIRST_ALONE), 0
    if ALL then
      for _, point in ipairs(points(FIRST_TOO)) do list[#list + 1] = point end
    end
    for _, point in ipairs(list) do
      k = kill_world.new("discord")
      k:start { env = { HOLDFAST_FAILPOINT = point } }
      k:eventually(function () return false end, world.wait_ms)
      local _, signal = k:ended()
      assert.equal(world.signals.kill, signal, point .. " was never passed:\n" .. k.daemon.err)
      k:start()
      k:eventually(function () return k.bot.high > 0 end)
      k:catch_up()
      local problems = k:verdict()
      assert.equal("", problems, point)
      local identifies = k:stat "identifies"
      assert.is_true(identifies >= 1 and identifies <= 2, point .. ": " .. identifies .. " session starts")
      if identifies == 2 then twice = twice + 1 end
      k:kill()
      local permits = tonumber((store.sql(k.w.folder .. "/var/holdfast.db", "SELECT count(*) FROM permit WHERE budget = 0")))
      assert.is_true(permits >= identifies, ("%s: %d permits for %d session starts"):format(point, permits, identifies))
      if point ~= list[#list] then k:close() end
    end
    report("first start: %d failpoints, %d of them cost a second session start", #list, twice)
  end)

  it("in its orderly end, the next start is whole, clean or not", function ()
    begin "discord"
    for _, point in ipairs(points(ENDING)) do
      k:kill()
      k:start { env = { HOLDFAST_FAILPOINT = point } }
      k:catch_up()
      k.daemon:kill(world.signals.term)
      local _, signal = k:ended()
      assert.equal(world.signals.kill, signal, point)
      k:start()
      k:catch_up()
      whole()
      sessions_went_on(point)
    end
  end)
end)

describe("the kill matrix", function ()
  it("knows every failpoint of the sources", function ()
    local known, missing = { checkpoint = true, checkpointed = true }, {}
    for _, t in ipairs { RUNNING.discord, RUNNING.ledger, FIRST_ALONE, FIRST_TOO, ENDING } do
      for name in pairs(t) do known[name] = true end
    end
    local found = io.popen [[grep -rhoE 'FAILPOINT\("[a-z]+"\)' runtime | sort -u]]
    local count = 0
    for line in found:lines() do
      local name = line:match '"(%l+)"'
      count = count + 1
      if not known[name] then missing[#missing + 1] = name end
    end
    found:close()
    assert.is_true(count > 10)
    assert.same({}, missing)
  end)
end)
