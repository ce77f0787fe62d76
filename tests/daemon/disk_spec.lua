-- The disk under the real daemon: full, read-only, failing, slow, gone, damaged. Whatever it does the loop goes on:
-- events reach the bot, the API answers; nothing is promised that is not on disk; it says so once, loudly,
-- and comes back by itself.
local kill_world = require "kill_world"
local world = require "daemon_world"
local api = require "api_client"

local SANITIZED = world.build:find "asan"
local shimmed = SANITIZED and function (name) pending(name, "AddressSanitizer must be the first that is preloaded") end or it

local function report(...) io.write("disk: ", string.format(...), "\n") end

describe("while the disk is ill", function ()
  local k
  after_each(function () k:close() end)

  local function begin(kind, options)
    k = kill_world.new(kind, options)
    k:disk(nil)
    k:start(not SANITIZED and k:disk_env() or nil)
    assert(k:eventually(function () return k.bot.high >= 20 end), "no events came")
    k:catch_up()
    if kind == "ledger" then k:eventually(function () return k:stat "acked" >= 10 end) end
  end

  local function get(target) return api.request(k.daemon, k.w.folder .. "/h.sock", "GET", target) end

  local function count(text, what) return select(2, text:gsub(what, "")) end

  local function ill(word)
    assert.is_truthy(k:eventually(function () return k.daemon.err:find("the store cannot write", 1, true) end), k.daemon.err)
    local _, store = get "/v1/store"
    assert.is_true(store.degraded)
    assert.is_truthy(store.why:find(word, 1, true), store.why)
    local status, ready = get "/readyz"
    assert.same({ 200, { ready = true, store = "degraded" } }, { status, ready })
    for _, words in ipairs { { "status" }, { "why", "bot" } } do
      local code, run = k.w:run(words)
      assert.equal(0, code, run.out .. run.err)
      assert.is_truthy(run.out:find("the store cannot write", 1, true), table.concat(words, " ") .. ":\n" .. run.out)
      assert.is_truthy(run.out:find(word, 1, true), run.out)
    end
  end

  local function well()
    k:disk(nil)
    assert.is_truthy(k:eventually(function () return k.daemon.err:find("the store writes again", 1, true) end), k.daemon.err)
    local _, store = get "/v1/store"
    assert.is_false(store.degraded)
    assert.same({ ready = true }, select(2, get "/readyz"))
  end

  -- No hole, and a restart knows everything that the platform was promised.
  local function nothing_lost()
    assert.equal("", (k:verdict()))
    k:kill()
    k:start()
    k:catch_up()
    assert.equal("", (k:verdict()))
    assert.same({}, k.bot:missing(k.bot.high))
    for _, gap in ipairs(k.bot.gaps) do
      assert.is_truthy(k.kind == "ledger" and gap:find('"cause":"restarted","certain":false', 1, true), gap)
    end
  end

  for weather, word in pairs { full = "the disk is full", readonly = "read-only", ["sync-fails"] = "Input/output error" } do
    shimmed(weather .. ", events reach the bot, no acknowledgement leaves, and all is made up for", function ()
      begin "ledger"
      k:disk(weather)
      ill(word)
      local acked, seen, probe = k:stat "acked", k.bot.high, k:probing()
      k:eventually(function () return k.bot.high >= seen + 100 end)
      assert.is_true(k.bot.high >= seen + 100)
      assert.equal(acked, k:stat "acked")
      assert.is_true(probe.answers > 10)
      local most, latest = probe.most_ms, k.bot.latest_ms
      well()
      -- What went by meanwhile is acknowledged when the platform sends it again, and not delivered again.
      local last, again = k:last(), k.bot.again
      assert.is_true(k:unacked(last) >= 50)
      k:control '{"verb":"again"}'
      assert.is_truthy(k:eventually(function () return k:unacked(last) == 0 end), "some are never acknowledged")
      assert.equal(again, k.bot.again)
      assert.equal(1, count(k.daemon.err, "are not safe"), k.daemon.err)
      assert.equal(1, count(k.daemon.err, "the store cannot write"), k.daemon.err)
      assert.equal(1, count(k.daemon.err, "the store writes again"))
      nothing_lost()
      report("%s: the longest answer of the API took %.0f ms, the latest event %.0f ms", weather, most, latest)
      assert.is_true(most < 1000 and latest < 1000, "the loop stalled")
    end)

    shimmed(weather .. ", no session starts, and one does when it is well", function ()
      begin "discord"
      k:disk(weather)
      ill(word)
      k:control '{"verb":"op9"}'
      -- What it could not reserve it does not use, however often it tries.
      assert.is_truthy(k:eventually(function () return k.daemon.err:find("could not be stored", 1, true) end), k.daemon.err)
      k:wait(1500)
      assert.equal(1, k:stat "identifies")
      local _, run = k.w:run { "why", "bot" }
      assert.is_truthy(run.out:find("permit to start a session could not be stored", 1, true), run.out)
      well()
      assert.is_truthy(k:eventually(function () return k:stat "identifies" == 2 end), k.daemon.err)
      k:eventually(function () return k.bot.gaps[1] end)
      k:catch_up()
      assert.equal(1, #k.bot.gaps, "the session that was lost, once")
      assert.equal("", (k:verdict()))
    end)
  end

  shimmed("a kill loses nothing that the platform was promised or the cursor covers", function ()
    for _, kind in ipairs { "discord", "ledger" } do
      begin(kind)
      k:disk "full"
      ill "the disk is full"
      local seen = k.bot.high
      k:eventually(function () return k.bot.high >= seen + 60 end)
      nothing_lost()
      if kind == "discord" then
        assert.equal(1, k:stat "identifies")
        k:close()
      end
    end
  end)

  shimmed("an orderly end is in time and is no clean one", function ()
    begin "discord"
    k:disk "full"
    ill "the disk is full"
    local at = world.now_ms()
    k.daemon:kill(world.signals.term)
    -- What it could not write it names, also by its exit code.
    assert.equal(1, (k:ended()))
    assert.is_truthy(k.daemon.err:find("the store did not finish within 10 s", 1, true), k.daemon.err)
    report("full: the orderly end took %.0f ms", world.now_ms() - at)
    assert.is_truthy(k.daemon.err:find("the store was not closed in order", 1, true), k.daemon.err)
    k:disk(nil)
    k:start()
    k:catch_up()
    assert.equal("", (k:verdict()))
    assert.same({}, k.bot.gaps)
    assert.equal(1, k:stat "identifies")
  end)

  shimmed("two seconds for each sync stall nothing, and an acknowledgement waits for its sync", function ()
    begin "ledger"
    k:wait(300)
    local probe = k:probing()
    k:wait(2000)
    local before_ms, before_event_ms = probe.most_ms, k.bot.latest_ms
    k:disk "sync 2000"
    probe = k:probing()
    local acked = k:stat "acked"
    local seen, most_waiting = k.bot.high, 0
    local until_ms = world.now_ms() + 6500
    while world.now_ms() < until_ms do
      k:wait(100)
      most_waiting = math.max(most_waiting, k.bot.high - k:stat "acked")
    end
    report("2 s per sync: the longest answer of the API took %.0f ms (%.0f before), the latest event %.0f ms (%.0f before); %d answers",
      probe.most_ms, before_ms, k.bot.latest_ms, before_event_ms, probe.answers)
    report("2 s per sync: %d events, up to %d of them waited for their acknowledgement", k.bot.high - seen, most_waiting)
    assert.is_true(probe.answers > 20 and k.bot.high - seen > 200)
    assert.is_true(most_waiting > 100, "acknowledged before they were safe")
    assert.is_true(probe.most_ms < 1000 and k.bot.latest_ms < 1000, "the loop stalled")
    assert.is_true(k:stat "acked" > acked)
    assert.is_nil(k.daemon.err:find("cannot write", 1, true), k.daemon.err)
    nothing_lost()
  end)

  shimmed("a sync that does not come back is told, and delays an orderly end only so much", function ()
    begin "ledger"
    k:disk "sync 600000"
    ill "has not answered for"
    local probe, seen = k:probing(), k.bot.high
    k:eventually(function () return k.bot.high >= seen + 100 end)
    local at = world.now_ms()
    k.daemon:kill(world.signals.term)
    local code, signal = k.daemon:wait(60000)
    k:ended()
    report("a sync that hangs: the orderly end took %.0f ms; answers of the API %.0f ms at most before it",
      world.now_ms() - at, probe.most_ms)
    assert.same({ 1 }, { code, signal })
    k:probing_ends()
    k:disk(nil)
    k:start()
    k:catch_up()
    assert.equal("", (k:verdict()))
  end)

  it("a limit on the size of files is a full disk: no end, no flood of words", function ()
    k = kill_world.new("ledger")
    -- The signal may be ignored by whoever runs this; elsewhere it would end the daemon.
    k.daemon = k.w:start({ "--default-signal=XFSZ", "bash", "-c", "ulimit -f 250; exec " .. world.binary .. " run" },
      { program = "/usr/bin/env" })
    -- Emptying the log makes a little room again and again: it writes and fails in turns.
    assert.is_truthy(k:eventually(function () return k.daemon.err:find("File too large", 1, true) end), k.daemon.err)
    local seen, probe = k.bot.high, k:probing()
    assert.is_truthy(k:eventually(function () return k.bot.high >= seen + 300 end), k.daemon.err)
    assert.is_true(probe.most_ms < 1000)
    assert.is_true(count(k.daemon.err, "cannot write") <= 2, k.daemon.err)
    assert.is_true(count(k.daemon.err, "are not safe") <= 1, k.daemon.err)
    nothing_lost()
  end)

  it("a folder that goes away is told; put back, it is written again", function ()
    begin "discord"
    assert.equal(0, os.execute(("mv '%s/var' '%s/elsewhere'"):format(k.w.folder, k.w.folder)))
    ill "the file was removed or replaced meanwhile"
    local seen = k.bot.high
    k:eventually(function () return k.bot.high >= seen + 50 end)
    assert.equal(0, os.execute(("mv '%s/elsewhere' '%s/var'"):format(k.w.folder, k.w.folder)))
    well()
    nothing_lost()
    assert.equal(1, k:stat "identifies")
  end)
end)

describe("a start", function ()
  local w, peer
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
  end)
  after_each(function () w:close() end)

  -- One line, with the way out, at once; the platform hears nothing.
  local function refused(words, options)
    local upgrades = world.control(peer, '{"verb":"stats"}'):match '"upgrades":(%d+)'
    local run = w:start({ "run" }, options)
    run.process:close_input()
    assert.equal(1, (run:wait()))
    local lines = select(2, run.err:gsub("\n", ""))
    assert.equal(1, lines, run.err)
    for _, word in ipairs(words) do assert.is_truthy(run.err:find(word, 1, true), run.err) end
    assert.equal(upgrades, world.control(peer, '{"verb":"stats"}'):match '"upgrades":(%d+)')
  end

  -- Of a page, counted from 0; answers what stood there.
  local function put(page, bytes)
    local f = assert(io.open(w.folder .. "/var/holdfast.db", "r+b"))
    f:seek("set", page * 4096)
    local before = f:read(#bytes)
    f:seek("set", page * 4096)
    f:write(bytes)
    f:close()
    return before
  end

  it("with a damaged page, whichever it is, is refused with the way out, and that way leads out", function ()
    local daemon = w:daemon()
    w:up()
    world.control(peer, '{"verb":"dispatch","count":50}')
    w:status(function (text) return tonumber(text:match '"delivered":(%d+)') >= 51 end)
    daemon:stop()
    local f = assert(io.open(w.folder .. "/var/holdfast.db", "rb"))
    local pages = f:seek "end" / 4096
    f:close()
    assert.is_true(pages > 20)
    for page = 1, pages - 1, 4 do
      local before = put(page, ("\255\13\0\7"):rep(64))
      refused { "var/holdfast.db is damaged", "`holdfast store export`", "move the file aside" }
      put(page, before)
    end
    put(pages - 1, ("\255\13\0\7"):rep(64))
    refused { "is damaged" }
    local code, export = w:run { "store", "export" }
    assert.equal(1, code)
    assert.is_truthy(export.err:find("the export is not whole", 1, true), export.err)
    assert.is_truthy(export.out:find('"MESSAGE_CREATE"', 1, true), "nothing of what is still there")
    assert(os.rename(w.folder .. "/var/holdfast.db", w.folder .. "/var/damaged.db"))
    w:daemon()
    w:up()
  end)

  it("where the folder of its folder is missing is refused, and grows no tree", function ()
    w:config(peer.port, [[store { path = "no/such/holdfast.db" }]])
    refused { "no/such/holdfast.db", "missing", "store.path" }
    assert.is_nil(io.open(w.folder .. "/no"))
  end)

  it("beside a daemon that runs is refused, and takes nothing from it", function ()
    local daemon = w:daemon()
    w:up()
    w:write("second.lua", w:read "holdfast.lua":gsub('"h.sock"', '"second.sock"'):gsub('"bot"', '"other"') .. "")
    local run = w:start { "run", "-c", "second.lua" }
    run.process:close_input()
    assert.equal(1, (run:wait()))
    assert.is_truthy(run.err:find("another holdfast %(process " .. daemon.process:pid() .. "%) has the store"), run.err)
    w:up()
    assert.is_truthy(world.control(peer, '{"verb":"stats"}'):find('"identifies":1,', 1, true))
  end)

  shimmed("on a full or read-only disk is refused in one sentence", function ()
    w:write("weather", "")
    local env = kill_world.disk_env(w)
    for weather, word in pairs { full = "the disk is full", readonly = "Read-only file system" } do
      w:write("weather", weather)
      refused({ "var/holdfast.db", word }, env)
      w:write("weather", "")
      local daemon = w:daemon(env)
      w:up()
      daemon:stop()
      w:write("weather", weather)
      refused({ "var/holdfast.db", word }, env)
      assert(os.execute(("rm -r '%s/var'"):format(w.folder)) == 0)
    end
  end)
end)
