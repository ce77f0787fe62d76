local threads = require "unit.store_thread"
local shim = threads.shim
local scratch = require "scratch"

describe("the store's thread", function ()
  local path
  before_each(function ()
    path = scratch.path "holdfast.db"
    shim.set {}
  end)
  after_each(function () shim.set {} end)

  local function open(more)
    local options = { path = path, boot = "b", wall = 1000, boot_ms = 5, seed = 1, vfs = "shim of the thread" }
    for k, v in pairs(more or {}) do options[k] = v end
    local t = assert(threads.open(options))
    assert.is_true(t:start())
    return t
  end

  -- Answers until there are `count`; fails rather than waits for ever.
  local function answers(t, count)
    local all = {}
    while #all < count do
      assert.is_true(t:wait(20000), ("%d of %d answers came"):format(#all, count))
      for _, a in ipairs(t:poll()) do all[#all + 1] = a end
    end
    return all
  end

  -- Polled as a loop would, until it is so.
  local function eventually(t, what, is)
    local all = {}
    for _ = 1, 2000 do
      for _, a in ipairs(t:poll()) do all[#all + 1] = a end
      if is() then return all end
      t:wait(10)
    end
    error("never came: " .. what)
  end

  local function rows(kind)
    local t = assert(threads.open { path = path, boot = "b", wall = 2000, read_only = true })
    local all = t:visit()
    t:close()
    return all[kind] or {}
  end

  it("answers each ticket once, in order, when it is on disk", function ()
    local t = open()
    t:submit { "event", connection = "a", epoch = 1, offset = 1, bytes = "one" }
    t:submit { "frames", connection = "a", ticket = 11 }
    t:submit { "permit", connection = "a", account = 5, wall = 9, ticket = 12 }
    t:flush()
    assert.same({ 11, 12 }, answers(t, 2))
    assert.is_true(t:is_idle())
    assert.is_true((t:close()))
    assert.equal("one", rows("events")[1].line)
    assert.equal(5, rows("permits")[1].account)
  end)

  it("takes all that was flushed meanwhile as one transaction", function ()
    shim.set { sync_ms = 50 }
    local t = open()
    t:submit { "permit", connection = "a", account = 1, wall = 1, ticket = 1 }
    t:flush()
    for i = 2, 200 do
      t:submit { "permit", connection = "a", account = 1, wall = i, ticket = i }
      t:flush()
    end
    assert.equal(200, #answers(t, 200))
    local h = t:health()
    assert.is_true(h.commits <= 3, h.commits)
    assert.equal(200, h.requests)
    assert.is_true(h.commit_ms_most >= 50)
    assert.is_true(h.file_bytes + h.wal_bytes > 0)
    shim.set {}
    assert.is_true((t:close()))
    assert.equal(200, #rows "permits")
  end)

  it("gathers what nobody waits for, and writes it at once when somebody does", function ()
    local t = open()
    for i = 1, 2000 do
      t:submit { "event", connection = "a", epoch = 1, offset = i, bytes = "one" }
      t:flush()
    end
    eventually(t, "all on disk without being asked", function () return t:is_idle() end)
    local h = t:health()
    assert.equal(2000, h.requests)
    assert.is_true(h.commits <= 200, h.commits .. " writes of 2000 flushes")
    for i = 1, 50 do
      t:submit { "event", connection = "a", epoch = 1, offset = 2000 + i, bytes = "one" }
      t:flush()
      t:submit { "frames", connection = "a", ticket = i }
      t:flush()
      assert.same({ i }, answers(t, 1))
    end
    assert.is_true((t:close()))
    assert.equal(2050, #rows "events")
  end)

  it("lets neither what hurries nor the end wait for what gathers", function ()
    local t = open { gather = 3600000 }
    local function event(offset)
      t:submit { "event", connection = "a", epoch = 1, offset = offset, bytes = "one" }
      t:flush()
    end
    local function written(commits)
      eventually(t, commits .. " writes", function () return t:is_idle() and t:health().commits == commits end)
    end
    event(1)
    written(1)
    event(2)
    t:submit { "session", connection = "a", account = 5, bytes = "{}" }
    t:flush()
    assert.is_false(t:wait(60))
    assert.is_true(t:health().pending_bytes > 0)
    assert.equal(1, t:health().commits)
    t:submit { "session", connection = "a", account = 5, bytes = '{"id":1}', hurries = true }
    t:flush()
    written(2)
    event(3)
    assert.is_false(t:wait(60))
    assert.equal(2, t:health().commits)
    assert.is_true((t:close()))
    assert.equal(3, #rows "events")
    assert.equal('{"id":1}', rows("sessions")[1].json)
  end)

  it("answers nothing before it is flushed, and nothing while a sync is stuck", function ()
    local t = open()
    shim.set { sync_ms = -1 }
    t:submit { "permit", connection = "a", account = 1, wall = 1, ticket = 1 }
    assert.is_false(t:wait(20))
    assert.is_false(t:is_idle())
    t:flush()
    assert.is_false(t:wait(60))
    assert.same({}, t:poll())
    assert.is_true(t:health().pending_bytes > 0)
    shim.set {}
    assert.same({ 1 }, answers(t, 1))
    assert.equal(0, t:health().pending_bytes)
    assert.is_true((t:close()))
  end)

  it("takes requests before it runs", function ()
    local t = assert(threads.open { path = path, boot = "b", wall = 1000, boot_ms = 5, seed = 1 })
    assert.same({}, t:visit())
    t:submit { "permit", connection = "a", account = 1, wall = 1, ticket = 1 }
    t:flush()
    assert.is_true(t:start())
    assert.same({ 1 }, answers(t, 1))
    t:close()
    t = assert(threads.open { path = path, boot = "b", wall = 1000, boot_ms = 5, seed = 1 })
    assert.equal(1, #t:visit().permits)
    assert.is_true((t:close())) -- never started: nothing happened
  end)

  for _, case in ipairs { { "a full disk", { write = "full" }, "full" }, { "a failing sync", { sync = "fsync" }, "I/O error" } } do
    it("says no at once while it is degraded by " .. case[1] .. ", keeps the rest, and recovers by itself", function ()
      local t = open()
      shim.set(case[2])
      t:submit { "event", connection = "a", epoch = 1, offset = 1, bytes = "one" }
      t:submit { "session", connection = "a", bytes = "{}" }
      t:submit { "permit", connection = "a", account = 1, wall = 1, ticket = 1 }
      t:submit { "frames", connection = "a", ticket = 2 }
      t:flush()
      assert.same({ -1, -2 }, answers(t, 2))
      local h = t:health()
      assert.is_true(h.degraded)
      assert.is_truthy(h.why:find(case[3], 1, true), h.why)
      assert.is_true(h.since_wall_ms > 1e12)
      assert.is_true(h.failures >= 1)
      assert.is_true(h.pending_bytes > 0)
      assert.is_false(t:is_idle())
      for i = 3, 20 do
        t:submit { "permit", connection = "a", account = 1, wall = i, ticket = i }
        t:submit { "event", connection = "a", epoch = 1, offset = i, bytes = "more" }
        t:flush()
        assert.same({ -i }, answers(t, 1))
      end
      shim.set {}
      eventually(t, "an idle store", function () return t:is_idle() end)
      assert.is_false(t:health().degraded)
      assert.equal("", t:health().why)
      t:submit { "permit", connection = "a", account = 1, wall = 99, ticket = 99 }
      t:flush()
      assert.same({ 99 }, answers(t, 1))
      assert.is_true((t:close()))
      assert.equal(19, #rows "events")
      assert.equal("{}", rows("sessions")[1].json)
      local permits = rows "permits"
      assert.same({ 1, 99 }, { #permits, permits[1].wall })
    end)
  end

  it("tries again no faster than its pause, however much is flushed", function ()
    local t = open()
    shim.set { write = "full" }
    local begun = os.time()
    t:submit { "permit", connection = "a", account = 1, wall = 1, ticket = 1 }
    t:flush()
    answers(t, 1)
    for i = 1, 500 do
      t:submit { "permit", connection = "a", account = 1, wall = 1, ticket = 1 + i }
      t:flush()
      answers(t, 1)
    end
    -- At 0, 100, 300, 700, 1500 ms.
    assert.is_true(t:health().failures <= 4 + (os.time() - begun), t:health().failures)
    shim.set {}
    t:close()
  end)

  it("becomes well when the disk is, though nothing waits", function ()
    local t = open()
    shim.set { write = "full" }
    t:submit { "permit", connection = "a", account = 1, wall = 1, ticket = 1 }
    t:flush()
    assert.same({ -1 }, answers(t, 1))
    assert.is_true(t:is_idle())
    assert.is_true(t:health().degraded)
    shim.set {}
    eventually(t, "health", function () return not t:health().degraded end)
    assert.is_true((t:close()))
  end)

  it("holds a bounded amount while the disk fails, and says what it dropped", function ()
    local t = open { pending = 100000 }
    shim.set { write = "full" }
    for i = 1, 300 do
      t:submit { "event", connection = "a", epoch = 1, offset = i, bytes = ("x"):rep(1000) }
      t:submit { "cursor", consumer = "c", connection = "a", epoch = 1, offset = i }
      t:submit { "permit", connection = "a", account = 1, wall = i, ticket = i }
      t:flush()
      assert.same({ -i }, answers(t, 1))
      assert.is_true(t:health().pending_bytes <= 103000, t:health().pending_bytes)
    end
    local dropped = t:health().dropped
    assert.is_true(dropped >= 200 and dropped < 300)
    shim.set {}
    eventually(t, "an idle store", function () return t:is_idle() end)
    -- What was dropped is a hole: the next start says so by its epoch.
    assert.is_false((t:close()))
    local events = rows "events"
    assert.equal(300 - dropped, #events)
    assert.equal(300, events[#events].offset)
    assert.same({ 1, 300 }, { #rows "cursors", rows("cursors")[1].offset })
    assert.equal(300, rows("epochs")[1].last)
  end)

  it("holds a bounded amount while a write is stuck, and refuses a turn that is too large", function ()
    local t = open { pending = 100000 }
    shim.set { sync_ms = -1 }
    t:submit { "session", connection = "a", bytes = "{}" }
    t:flush()
    for i = 1, 400 do
      t:submit { "event", connection = "a", epoch = 1, offset = i, bytes = ("x"):rep(1000) }
      t:submit { "frames", connection = "a", ticket = i }
      t:flush()
      assert.is_true(t:health().pending_bytes <= 160000, t:health().pending_bytes)
    end
    assert.is_true(t:health().dropped > 200)
    local taken = t:submit({ "event", connection = "b", epoch = 1, offset = 1, bytes = ("x"):rep(1000) }, 500)
    assert.is_true(taken > 50 and taken < 150, taken)
    shim.set {}
    t:flush()
    local all = eventually(t, "an idle store", function () return t:is_idle() end)
    assert.equal(400, #all)
    local yes = 0
    for _, a in ipairs(all) do if a > 0 then yes = yes + 1 end end
    assert.is_true(yes < 200)
    t:close()
  end)

  it("closes by its deadline, though a write is stuck, and writes nothing behind the next start's back", function ()
    local t = open()
    shim.set { sync_ms = -1 }
    t:submit { "session", connection = "a", bytes = "{}" }
    t:flush()
    local clean, ms = t:close(300)
    assert.is_false(clean)
    assert.is_true(ms >= 250 and ms < 5000, ms)
    -- The thread still has the file, and lets go of it when the disk comes back.
    local none, _, why = threads.open { path = path, wall = 2000 }
    assert.is_nil(none)
    assert.is_truthy(why:find("has it open", 1, true), why)
    shim.set {}
    local again
    for _ = 1, 1000 do
      again = threads.open { path = path, wall = 2000 }
      if again then break end
      require("unit.store_thread").nap(10)
    end
    assert(again, "it never let go")
    again:close()
  end)

  it("gives up by its deadline what a failing disk does not take", function ()
    local t = open()
    shim.set { write = "full" }
    t:submit { "session", connection = "a", bytes = "{}" }
    t:flush()
    local clean, ms = t:close(400)
    assert.is_false(clean)
    assert.is_true(ms < 5000, ms)
    shim.set {}
    assert.same({}, rows "sessions")
  end)

  it("writes at its end what was submitted and not flushed", function ()
    local t = open()
    t:submit({ "event", connection = "a", epoch = 1, offset = 1, bytes = "x" }, 1000)
    assert.is_true((t:close()))
    assert.equal(1000, #rows "events")
  end)

  it("answers a hundred thousand tickets in order", function ()
    local t = open()
    local taken = 0
    for first = 1, 100000, 1000 do
      taken = taken + t:submit({ "frames", connection = "a", ticket = first }, 1000)
      t:flush()
    end
    assert.equal(100000, taken)
    local all = answers(t, 100000)
    for i = 1, 100000 do if all[i] ~= i then assert.equal(i, all[i]) end end
    assert.is_true((t:close()))
  end)

  it("gives the room of a flood back by itself, between its writes", function ()
    local t = open()
    t:submit({ "event", connection = "a", epoch = 1, offset = 1, bytes = ("x"):rep(4000) }, 3000)
    t:submit { "frames", connection = "a", ticket = 1 }
    t:flush()
    assert.same({ 1 }, answers(t, 1))
    -- Not in one batch with them, which would not write them at all.
    t:submit { "trim", connection = "a", epoch = 1, offset = 3000 }
    t:submit { "frames", connection = "a", ticket = 2 }
    t:flush()
    assert.same({ 2 }, answers(t, 1))
    local before = t:health()
    assert.is_true(before.file_bytes + before.wal_bytes > 12e6)
    local i = 1
    eventually(t, "a small file", function ()
      i = i + 1
      t:submit { "permit", connection = "a", account = 1, wall = i, ticket = i }
      t:flush()
      return t:health().file_bytes > 0 and t:health().file_bytes < 2.5e6
    end)
    assert.is_false(t:health().degraded)
    assert.is_true((t:close()))
  end)

  it("says why it cannot open", function ()
    local none, _, why = threads.open { path = path .. "/no/where.db", wall = 1 }
    assert.is_nil(none)
    assert.is_truthy(why:find("create it", 1, true), why)
  end)
end)
