local world = require "daemon_world"
local json = require "json_reference"
local store = require "unit.store"

describe("store", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer()
    w:config(peer.port)
  end)
  after_each(function () w:close() end)

  -- A holdfast with nine frames that nobody acknowledged, all of them on disk: rows that nobody waits for gather.
  local function filled()
    daemon = w:daemon()
    w:up()
    local tail = w:start { "tail", "--consumer", "bot-a" }
    tail:says '"hello"'
    tail:stop()
    world.control(peer, '{"verb":"dispatch","count":8}')
    w:status(function (text) return text:find('"delivered":9', 1, true) and text:find('"pending_bytes":0,', 1, true) end)
  end

  it("info asks the running holdfast while one runs; export and compact want it stopped", function ()
    filled()
    local code, shown = w:run { "store", "info" }
    assert.equal(0, code, shown.err)
    assert.is_truthy(shown.out:match "^store +%S*var/holdfast%.db, held by the running holdfast\nhealth +well\nsize +[%d.]+ KiB", shown.out)
    assert.is_truthy(shown.out:match "\ncommits +%d+ of %d+ requests, 0 failed; the last took %d+ ms, the longest %d+ ms\n$", shown.out)
    code, shown = w:run { "store", "info", "--path", "var/holdfast.db", "--socket", "h.sock" }
    assert.equal(0, code, shown.err)
    code, shown = w:run { "store", "info", "--socket", "nobody.sock" }
    assert.equal(1, code)
    assert.equal("", shown.out)
    for _, verb in ipairs { "export", "compact" } do
      local code, run = w:run { "store", verb }
      assert.equal(1, code)
      assert.is_truthy(run.err:match "^holdfast: another holdfast %(process %d+%) has the store %S*var/holdfast%.db: stop it first, or ask it", run.err)
      assert.equal("", run.out)
    end
    assert.equal(0, daemon:stop())
  end)

  it("info counts what an end left, and says whether it was clean", function ()
    filled()
    assert.equal(0, daemon:stop())
    local code, run = w:run { "store", "info" }
    assert.equal(0, code, run.err)
    assert.is_truthy(run.out:match "^store +%S*var/holdfast%.db\nepoch +%d+, schema 1, ended clean\nsize +[%d.]+ KiB, of which %S+ ?[KMiB]* free, and a log of 0", run.out)
    assert.is_truthy(run.out:match "\nconsumers +1, with %d+ cursors\n", run.out)
    assert.is_truthy(run.out:match "\nCONNECTION +EVENTS +BYTES +OLDEST +LAST +CURSORS\nbot +%d+ +[%d.]+ K?i?B? *%d+%-%d+%-%d+T[%d:.]+Z +%d+%.9 +%d\n$", run.out)
    daemon = w:daemon()
    daemon:kill(world.signals.kill)
    daemon:wait()
    code, run = w:run { "store", "info", "--path", "var/holdfast.db" }
    assert.equal(0, code)
    assert.is_truthy(run.out:find("ended unclean", 1, true), run.out)
  end)

  it("export writes every row as one object of JSON, and no secret", function ()
    filled()
    daemon:kill(world.signals.kill)
    daemon:wait()
    local code, run = w:run { "store", "export" }
    assert.equal(0, code, run.err)
    local kinds, frames = {}, 0
    for line in run.out:gmatch "([^\n]*)\n" do
      assert.is_truthy(json.is_valid(line), line)
      local kind = line:match '^{"(%l+)":{'
      kinds[kind] = (kinds[kind] or 0) + 1
      if line:match '^{"event":{"connection":"bot","kind":"frame","epoch":%d+,"offset":%d+,"at":"[%dT:.Z-]+","line":{.*}}}$' then frames = frames + 1 end
    end
    assert.equal(1, kinds.store)
    assert.equal(1, kinds.consumer)
    assert.equal(1, kinds.session)
    assert.is_true(kinds.permit >= 1)
    assert.is_true(frames >= 8, run.out)
    assert.is_truthy(run.out:match '^{"store":{"schema":1,"epoch":%d+,"clean":false}}\n')
    assert.is_nil(run.out:find(world.secret, 1, true))
    -- It changed nothing, and what nobody acknowledged is delivered by the next start.
    local _, again = w:run { "store", "export" }
    assert.equal(run.out, again.out)
    daemon = w:daemon()
    w:start({ "tail", "--consumer", "bot-a" }):says '"number":8'
    assert.equal(0, daemon:stop())
  end)

  it("export writes a line for each row, whatever stands in it", function ()
    local path = w.folder .. "/hostile.db"
    local s = assert(store.open { path = path, wall = 1700000000000, boot_ms = 1, seed = 1 })
    local name = 'a"\n\\\27[31m\255'
    local requests = {}
    for i, line in ipairs { '{"a":1}\n', '{"a":\n1,\r\n"b":[\t]}', '{"a":1}\n{"store":{}}', '{"a":', "", "\255\0", '{"a":"' .. ("x"):rep(8000) .. '"}',
                            ("["):rep(2000) .. ("]"):rep(2000), "18446744073709551615" } do
      requests[#requests + 1] = { "event", connection = name, epoch = 1, offset = i, wall = i, bytes = line }
      requests[#requests + 1] = { "journal", connection = name, wall = i, bytes = line }
    end
    for _, r in ipairs {
      { "session", connection = name, account = "18446744073709551615", bytes = "}" }, { "keep", connection = name, bytes = "null" },
      { "connection", connection = name, bytes = '"' }, { "wish", connection = name, count = 1 },
      { "told budget", account = "18446744073709551615", budget = 3, count = -1, lanes = 4294967295, until_wall = "18446744073709551615" },
      { "permit", connection = name, account = 1, lane = "-9223372036854775808", wall = "18446744073709551615", boot_ms = "18446744073709551615" },
      { "consumer", consumer = name, bytes = "[" }, { "cursor", consumer = name, connection = name, epoch = "18446744073709551615" },
      { "seen", connection = name, key_high = "18446744073709551615", key_low = 1 },
    } do requests[#requests + 1] = r end
    assert.equal("applied", (s:apply(requests)))
    s:close(true)
    local code, run = w:run { "store", "export", "--path", path }
    assert.equal(0, code, run.err)
    local count = 0
    for line in run.out:gmatch "([^\n]*)\n" do
      count = count + 1
      assert.is_true(not not json.is_valid(line), line:sub(1, 300))
    end
    assert.equal(#requests + 2, count) -- the head, and the stretch of the stream
    assert.is_nil(run.out:find "[%z\1-\9\11-\31\127-\255]" and run.out:find("\27", 1, true))
    assert.is_truthy(run.out:find('"line_base64":"/wA="', 1, true))
    assert.is_truthy(run.out:find('"line":{"a": 1,  "b":[ ]}', 1, true))
    code, run = w:run { "store", "info", "--path", path }
    assert.equal(0, code, run.err)
    assert.is_nil(run.out:find("\27", 1, true))
  end)

  it("export tells that a damaged file could not be read to its end, after what it could", function ()
    filled()
    assert.equal(0, daemon:stop())
    local path = w.folder .. "/var/holdfast.db"
    local f = assert(io.open(path, "r+b"))
    local bytes = f:read "*a"
    local _, whole = w:run { "store", "export" }
    local frame = assert(bytes:find('"number":3', 1, true)) - 1
    f:seek("set", frame - frame % 4096)
    f:write(("\170"):rep(4096))
    f:close()
    local code, run = w:run { "run" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("is damaged", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast store export", 1, true), run.err)
    code, run = w:run { "store", "export" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("the export is not whole: the store ", 1, true), run.err)
    assert.is_true(#run.out > 100 and #run.out < #whole.out)
    code, run = w:run { "store", "compact" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("is damaged", 1, true), run.err)
  end)

  it("compact is no start: what was unclean stays so, and nothing is lost", function ()
    filled()
    daemon:kill(world.signals.kill)
    daemon:wait()
    local _, before = w:run { "store", "export" }
    local code, run = w:run { "store", "compact" }
    assert.equal(0, code, run.err)
    assert.is_truthy(run.out:match "var/holdfast%.db: [%d.]+ KiB, was [%d.]+ [KM]iB\n$", run.out)
    local _, after = w:run { "store", "export" }
    assert.equal(before.out, after.out)
  end)

  it("says what is missing or wrong, in one sentence", function ()
    local cases = {
      { 2, "info, export or compact?", {} },
      { 2, "`inf` is neither info, export nor compact; did you mean `info`?", { "inf" } },
      { 2, "--path and --config name the store twice", { "info", "--path", "a", "-c", "b" } },
      { 1, "there is no store at ", { "info" } },
      { 1, "there is no store at none.db", { "compact", "--path", "none.db" } },
      { 1, "holdfast.lua is no database", { "export", "--path", "holdfast.lua" } },
      { 1, "there is no configuration at other.lua", { "info", "-c", "other.lua" } },
      { 1, "keeps the store in memory", { "info", "-c", "memory.lua" } },
      { 1, "cannot read the configuration", { "info", "-c", "." } },
    }
    w:write("memory.lua", "store { memory = true }\n")
    for _, case in ipairs(cases) do
      local code, run = w:run { "store", unpack(case[3]) }
      assert.equal(case[1], code, run.err)
      assert.is_truthy(run.err:find(case[2], 1, true), run.err)
    end
    -- Nothing was made by asking.
    assert.is_nil(io.open(w.folder .. "/none.db.lock"))
    assert.is_nil(io.open(w.folder .. "/var"))
  end)

  it("finds the store of a configuration whose secrets are elsewhere", function ()
    filled()
    assert.equal(0, daemon:stop())
    local code, run = w:run({ "store", "info" }, { env = { DISCORD_TOKEN = false } })
    assert.equal(0, code, run.err)
  end)
end)
