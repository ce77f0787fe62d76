local store = require "unit.store"
local scratch = require "scratch"
local shim = store.shim

describe("a disk that fails under the store", function ()
  local path, open, s
  before_each(function ()
    shim.set {}
    path = scratch.path "holdfast.db"
    open = function (more)
      local options = { path = path, vfs = "shim", boot = "b", wall = 5000, boot_ms = 5, seed = 7 }
      for k, v in pairs(more or {}) do options[k] = v end
      return store.open(options)
    end
    s = assert(open())
  end)
  after_each(function ()
    shim.set {}
    s = nil
    collectgarbage()
  end)

  local function event(offset, bytes)
    return { "event", connection = "a", epoch = 1, offset = offset, bytes = bytes or ("line " .. offset) }
  end
  local function apply(...)
    assert.same({ "applied", "" }, { s:apply { ... } })
  end
  local function offsets()
    local all = {}
    for i, e in ipairs(assert(s:visit()).events or {}) do all[i] = e.offset end
    return table.concat(all, " ")
  end
  local function fails(as, words, ...)
    local result, why = s:apply { ... }
    assert.equal(as, result, why)
    assert.is_truthy(why:find(words, 1, true), why)
    assert.is_truthy(why:find(path, 1, true), why)
  end

  it("is told as full, keeps nothing of the batch, and is well again with room", function ()
    apply(event(1))
    shim.set { room = 6000 }
    fails("full", "the disk is full", event(2), event(3, ("x"):rep(50000)), event(4))
    fails("full", "the disk is full", event(2), event(3, ("x"):rep(50000)))
    shim.set {}
    assert.equal("1", offsets())
    apply(event(2))
    assert.equal("1 2", offsets())
    assert.is_true(s:close(true))
    s = assert(open())
    assert.equal("1 2", offsets())
    assert.same({ { connection = "a", epoch = 1, after = 0, last = 2 } }, s:visit().epochs)
    s:close(true)
  end)

  for _, case in ipairs {
    { what = { write = "io" }, as = "io", words = "disk I/O error" },
    { what = { sync = "fsync" }, as = "io", words = "disk I/O error" },
    { what = { write = "read_only" }, as = "io", words = "read-only" },
    { what = { write = "full" }, as = "full", words = "full" },
    { what = { write = "corrupt" }, as = "corrupt", words = "is damaged" },
    { what = { write = "io", read = "io", open = "cannot open", sync = "fsync" }, as = "io", words = "" },
  } do
    local name = {}
    for k, v in pairs(case.what) do name[#name + 1] = k .. " " .. v end
    table.sort(name)
    it("says what it is, goes on failing, and recovers by itself: " .. table.concat(name, ", "), function ()
      apply(event(1), { "session", connection = "a", bytes = "1" })
      shim.set(case.what)
      fails(case.as, case.words, event(2), { "session", connection = "a", bytes = "2" })
      for _ = 1, 3 do assert.is_not.equal("applied", (s:apply { event(2) })) end
      assert.is_not.equal("applied", (s:tidy(6000)))
      shim.set {}
      apply(event(2), event(3), { "session", connection = "a", bytes = "3" })
      assert.equal("1 2 3", offsets())
      assert.equal("3", s:visit().sessions[1].json)
      assert.equal("applied", (s:tidy(6000)))
      assert.is_true(s:close(true))
      s = assert(open())
      assert.is_true(s:start().was_clean)
      assert.equal("1 2 3", offsets())
      s:close(true)
    end)
  end

  it("never keeps a part of a batch, wherever a write or sync fails", function ()
    local done = 0
    for _, kind in ipairs { "write", "sync" } do
      for skip = 0, 40 do
        shim.set { [kind] = kind == "sync" and "fsync" or "io", skip = skip }
        local offset = done * 3
        local result = s:apply { event(offset + 1, ("a"):rep(5000)), event(offset + 2), event(offset + 3, ("b"):rep(150000)) }
        if skip % 3 == 0 then s:tidy(6000) end
        shim.set {}
        if result ~= "applied" then
          local all = assert(s:visit()).events or {}
          assert.is_truthy(#all == done * 3 or #all == done * 3 + 3, #all .. " after " .. kind .. " " .. skip)
          apply(event(offset + 1, ("a"):rep(5000)), event(offset + 2), event(offset + 3, ("b"):rep(150000)))
        end
        done = done + 1
      end
    end
    assert.is_true(s:close(true))
    s = assert(open { vfs = false })
    assert.equal(done * 3, #s:visit().events)
    s:close(true)
  end)

  it("may be given a batch again of which nobody knows whether it is in", function ()
    local permit = { "permit", connection = "a", account = 1, wall = 1, boot_ms = 1 }
    apply(event(1))
    shim.set { sync_after = "fsync" }
    fails("io", "disk I/O error", event(2), permit, { "journal", wall = 1, bytes = "{}" })
    shim.set {}
    apply(event(2), permit, { "journal", wall = 1, bytes = "{}" })
    assert.equal("1 2", offsets())
    assert.equal(1, #s:visit().permits)
    assert.equal(1, #s:visit().journal)
    s:close(true)
  end)

  it("after a failed sync empties the log with syncs of its own before it promises anything", function ()
    apply(event(1))
    shim.set { sync = "fsync" }
    fails("io", "disk I/O error", event(2))
    shim.set {}
    local before = shim.counts()
    apply(event(3))
    local after = shim.counts()
    assert.is_true(after - before >= 3, "the log, the file and the new batch")
    -- What lies in the log now was written after the failure.
    assert.is_true(s:info().wal_bytes < 40000)
    s:close(true)
  end)

  it("is handed the pages of a commit in few writes, those that went out early and are read again too", function ()
    local _, before = shim.counts()
    apply(event(1, ("a"):rep(400000))) -- a hundred pages, each with a head of its own
    local _, after = shim.counts()
    assert.is_true(after - before <= 10, after - before)
    -- More than SQLite keeps in memory, and every row in an index that is read again and again.
    local batch, seen = {}, 0
    for i = 2, 60 do
      batch[#batch + 1] = event(i, ("b"):rep(100000 + i))
      batch[#batch + 1] = { "journal", connection = "a", wall = 9000 - i, bytes = "line " .. i }
    end
    assert.equal("applied", (s:apply(batch)))
    for _, e in ipairs(s:visit().events) do
      if e.offset > 1 then
        assert.equal(100000 + e.offset, #e.line)
        assert.is_nil(e.line:find "[^b]")
        seen = seen + 1
      end
    end
    assert.equal(59, seen)
    assert.equal(59, #s:visit().journal)
    assert.is_true(s:close(true))
    s = assert(open { vfs = false })
    assert.equal(60, #s:visit().events)
    s:close(true)
  end)

  it("does not call an end clean that it could not note", function ()
    apply(event(1))
    shim.set { write = "io" }
    assert.is_false(s:close(true))
    shim.set {}
    s = assert(open())
    assert.is_false(s:start().was_clean)
    assert.equal(5001, s:start().epoch)
    assert.equal("1", offsets())
    s:close(true)
  end)

  it("proves with a write that it is well again, though there is nothing to tidy", function ()
    shim.set { write = "full" }
    fails("full", "full", event(1))
    assert.equal("full", (s:tidy(6000)))
    assert.equal("full", (s:tidy(6000)))
    shim.set {}
    local _, before = shim.counts()
    assert.equal("applied", (s:tidy(6000)))
    local _, after = shim.counts()
    assert.is_true(after > before)
    assert.equal("applied", (s:tidy(6000)))
    s:close(true)
  end)

  it("is one sentence at the start, too", function ()
    s:close(true)
    local cases = {
      { { open = "cannot open" }, "failed" }, { { read = "io" }, "failed" }, { { write = "full" }, "full" },
      { { write = "io" }, "failed" }, { { sync = "fsync" }, "failed" }, { { write = "read_only" }, "denied" },
      { { write = "full", skip = 1 }, "full" },
    }
    for _, case in ipairs(cases) do
      shim.set(case[1])
      local none, result, why = open()
      assert.is_nil(none)
      assert.equal(case[2], result, why)
      assert.is_truthy(why:find(path, 1, true))
      shim.set {}
    end
    s = assert(open())
    s:close(true)
  end)

  it("notices that its file was taken away or replaced, and does not write into another", function ()
    s:close(true)
    s = assert(open { vfs = false })
    apply(event(1))
    assert(os.rename(path, path .. ".moved"))
    fails("io", "removed or replaced", event(2))
    assert.is_nil(io.open(path))
    fails("io", "cannot write the store", event(2))
    assert(os.rename(path .. ".moved", path))
    apply(event(2))
    assert.equal("1 2", offsets())
    -- Another store in its place is not this one.
    assert(os.rename(path, path .. ".moved"))
    assert(os.rename(path .. "-wal", path .. ".moved-wal"))
    store.open({ path = path, wall = 99, seed = 1 }):close(true)
    fails("io", "removed or replaced", event(3))
    fails("io", "removed or replaced", event(3))
    local none, said = s:visit()
    assert.is_nil(none)
    assert.is_truthy(said:find("removed or replaced", 1, true), said)
    os.remove(path)
    assert(os.rename(path .. ".moved", path))
    assert(os.rename(path .. ".moved-wal", path .. "-wal"))
    apply(event(3))
    assert.equal("1 2 3", offsets())
    s:close(true)
  end)
end)

describe("a process that is killed while it writes", function ()
  it("leaves every answered batch, and each batch whole", function ()
    local path = scratch.path "holdfast.db"
    local next_batch, offset = 1, 0
    local random = 12345
    for round = 1, 50 do
      random = (random * 1103515245 + 12345) % 2147483648
      local answered = store.crash(path, next_batch, offset, random % 7, math.floor(random / 7) % 8000)
      local s = assert(store.open { path = path, boot = "b", wall = 1000 })
      assert.is_false(s:start().was_clean)
      local all = assert(s:visit())
      local newest = all.told and all.told[1].left or 0
      assert.is_true(newest >= answered, ("round %d: %d was answered, %d is there"):format(round, answered, newest))
      assert.is_true(newest <= answered + 1)
      assert.equal(newest, all.permits and #all.permits or 0)
      local counts, last = {}, 0
      for _, e in ipairs(all.events or {}) do
        counts[e.wall] = (counts[e.wall] or 0) + 1
        assert.equal(e.wall * 977 % 9000, #e.line)
        last = e.offset
      end
      for n = newest - newest % 16, newest do
        if n > 0 then assert.equal(n % 7 + 1, counts[n], "batch " .. n) end
        counts[n] = nil
      end
      assert.is_nil(next(counts))
      for _, e in ipairs(all.epochs or {}) do last = math.max(last, e.last) end
      next_batch, offset = newest + 1, last
      s:close(false)
    end
    assert.is_true(next_batch > 50, "the writer was given time to write")
  end)
end)
