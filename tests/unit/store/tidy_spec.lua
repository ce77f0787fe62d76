local store = require "unit.store"
local scratch = require "scratch"

describe("tidying a store", function ()
  local DAY = 24 * 3600 * 1000
  local START = 1000 * DAY
  local path, open, s
  before_each(function ()
    path = scratch.path "holdfast.db"
    open = function (more)
      local options = { path = path, boot = "b", wall = START, boot_ms = 50 * DAY, seed = 7 }
      for k, v in pairs(more or {}) do options[k] = v end
      return assert(store.open(options))
    end
    s = open()
  end)
  after_each(function () s:close(true) end)

  local function apply(...)
    assert.same({ "applied", "" }, { s:apply { ... } })
  end
  -- `count` requests as one batch.
  local function apply_many(count, make)
    local all = {}
    for i = 1, count do all[i] = make(i) end
    assert.same({ "applied", "" }, { s:apply(all) })
  end
  -- As the thread does: until it asks for no more.
  local function tidy(wall)
    local calls = 0
    repeat
      assert.same({ "applied", "" }, { s:tidy(wall) })
      calls = calls + 1
      assert.is_true(calls < 5000, "tidying has an end")
    until not s:wants_tidy()
    return calls
  end
  local function event(connection, epoch, offset, wall)
    return { "event", connection = connection, epoch = epoch, offset = offset, wall = wall, bytes = "x" }
  end

  it("takes journal entries by age, wherever they stand", function ()
    apply_many(700, function (i) return { "journal", wall = START - 31 * DAY + i, bytes = "{}" } end)
    apply({ "journal", wall = START + 5 * DAY, bytes = "{}" }, { "journal", wall = START - 29 * DAY, bytes = "{}" },
          { "journal", wall = START - 31 * DAY, bytes = '{"late":1}' })
    assert.is_true(tidy(START) >= 2, "in pieces")
    assert.equal(2, #s:visit().journal)
  end)

  it("takes journal entries by number, oldest first", function ()
    s:close(true)
    s = open { journal_entries = 50, journal_age = 10 * DAY }
    apply_many(400, function (i) return { "journal", wall = START + i, bytes = "{}" } end)
    tidy(START + 500)
    local journal = s:visit().journal
    assert.equal(50, #journal)
    assert.equal(START + 351, journal[1].wall)
    tidy(START + 11 * DAY)
    assert.is_nil(s:visit().journal)
  end)

  it("takes permits by age, and lets no step of the wall clock refill a budget", function ()
    apply({ "permit", connection = "a", account = 1, wall = START, boot_ms = 50 * DAY })
    tidy(START + 400 * DAY)
    assert.equal(1, #s:visit().permits)
    apply({ "permit", connection = "a", account = 1, wall = START + 33 * DAY, boot_ms = 83 * DAY })
    tidy(START + 33 * DAY)
    assert.equal(1, #s:visit().permits)
    -- Of an earlier boot only the wall clock is known.
    s:close(true)
    s = open { boot = "c", wall = START + 34 * DAY, boot_ms = 5 }
    tidy(START + 34 * DAY)
    assert.equal(1, #s:visit().permits)
    tidy(START + 66 * DAY)
    assert.is_nil(s:visit().permits)
  end)

  it("takes seen keys past their time", function ()
    s:fill({ "seen", connection = "a", key_low = 1, wall = START, until_wall = START + 10 }, 1000, 1000)
    apply({ "seen", connection = "a", key_high = 1, key_low = 1, until_wall = START + 11 },
          { "seen", connection = "a", key_high = 1, key_low = 2, until_wall = "18446744073709551615" })
    assert.is_true(tidy(START + 11) >= 3, "in pieces")
    assert.equal(2, #s:visit().seen)
    tidy(START + 100000 * DAY)
    assert.equal(1, #s:visit().seen)
  end)

  it("takes the old events of connections that never came back, and of no other", function ()
    for _, name in ipairs { "gone", "back", "quiet" } do
      apply_many(300, function (i) return event(name, START, i, START + i) end)
    end
    apply(event("gone", START, 301, START + 20 * DAY))
    tidy(START + 30 * DAY)
    assert.equal(901, #s:visit().events)
    s:close(true)
    s = open { wall = START + 30 * DAY }
    apply({ "journal", connection = "quiet", wall = START + 30 * DAY, bytes = "{}" })
    tidy(START + 30 * DAY + 60000) -- it may still come
    assert.equal(901, #s:visit().events)
    apply({ "trim", connection = "back", epoch = START, offset = 1 })
    tidy(START + 30 * DAY + 700000)
    local left = {}
    for _, e in ipairs(s:visit().events) do left[e.connection] = (left[e.connection] or 0) + 1 end
    assert.same({ back = 299, quiet = 300 }, left)
  end)

  it("keeps a stretch while events or cursors are in it, and the newest", function ()
    apply(event("a", 10, 1, START), event("a", 20, 2, START), event("a", 30, 3, START), event("a", 40, 4, START),
          { "consumer", consumer = "c", bytes = "[]", wall = START },
          { "cursor", consumer = "c", connection = "a", epoch = 20, offset = 2, wall = START },
          { "trim", connection = "a", epoch = 30, offset = 0 })
    tidy(START)
    local function epochs()
      local all = {}
      for i, e in ipairs(s:visit().epochs or {}) do all[i] = e.epoch .. ":" .. e.after .. "-" .. e.last end
      return table.concat(all, " ")
    end
    assert.equal("20:1-2 30:2-3 40:3-4", epochs())
    apply({ "cursor", consumer = "c", connection = "a", epoch = 40, offset = 4, wall = START }, { "trim", connection = "a", epoch = 40, offset = 4 })
    tidy(START + 30 * DAY)
    assert.equal("40:3-4", epochs())
    -- Nobody has it any more, and its name may be forgotten.
    s:close(true)
    s = open { wall = START + 40 * DAY }
    tidy(START + 41 * DAY)
    assert.equal("40:3-4", epochs())
    apply({ "consumer gone", consumer = "c" })
    tidy(START + 41 * DAY)
    assert.equal("", epochs())
    assert.same({}, s:streams())
    -- And comes back under the same name.
    apply(event("a", 50, 1, START))
    assert.equal("50:0-1", epochs())
  end)

  it("keeps the stretch of its own epoch whatever happened to its connection", function ()
    local epoch = s:start().epoch
    apply(event("a", epoch, 1, START), { "trim", connection = "a", epoch = epoch, offset = 1 }, { "connection gone", connection = "a" })
    s:close(true)
    s = open { wall = START + 100 * DAY }
    assert.equal(epoch, s:start().epoch)
    tidy(START + 101 * DAY)
    assert.same({ { connection = "a", epoch = epoch, after = 0, last = 1 } }, s:visit().epochs)
  end)

  it("holds at most 64 stretches of a connection, oldest out first, with their events", function ()
    apply_many(70, function (i) return event("a", i, i, START) end)
    apply({ "consumer", consumer = "c", bytes = "[]" }, { "cursor", consumer = "c", connection = "a", epoch = 2, offset = 2, wall = START })
    tidy(START)
    local all = s:visit()
    assert.equal(64, #all.epochs)
    assert.equal(7, all.epochs[1].epoch)
    assert.equal(64, #all.events)
    assert.equal(7, all.events[1].epoch)
  end)

  it("reaches every stream when there are many", function ()
    local requests = {}
    for i = 1, 1000 do requests[i] = event("s" .. i, 1, 1, START - 20 * DAY) end
    apply(unpack(requests))
    s:close(true)
    s = open { wall = START }
    for _ = 1, 100 do tidy(START + DAY) end
    assert.is_nil(s:visit().events)
    assert.same({}, s:streams())
  end)

  -- One acknowledgement of a consumer may trim ten thousand streams by a frame each.
  it("takes what trims of a thousand streams left in few pieces", function ()
    local events, trims = {}, {}
    for i = 1, 1000 do
      events[2 * i - 1], events[2 * i] = event("s" .. i, 1, 1, START), event("s" .. i, 1, 2, START)
      trims[i] = { "trim", connection = "s" .. i, epoch = 1, offset = 1 }
    end
    apply(unpack(events))
    apply(unpack(trims))
    local pieces = tidy(START)
    assert.is_true(pieces <= 12, pieces .. " pieces")
    assert.equal(1000, s:info().events)
  end)

  it("looks at the other streams too while a long trim fills its pieces", function ()
    apply(event("gone", 1, 1, START))
    s:fill({ "event", connection = "a", epoch = 1, offset = 1, wall = START + 20 * DAY, bytes = "x" }, 20000, 1000)
    s:close(true)
    s = open { wall = START + 20 * DAY }
    apply({ "trim", connection = "a", epoch = 1, offset = 20000 })
    for _ = 1, 20 do assert.same({ "applied", "" }, { s:tidy(START + 21 * DAY) }) end
    assert.is_true(s:wants_tidy(), "the trim still fills them")
    for _, stream in ipairs(s:streams()) do assert.is_not.equal("gone", stream.name) end
  end)

  it("gives the room of a flood back to the disk, in pieces", function ()
    s:fill({ "event", connection = "a", epoch = 1, offset = 1, bytes = ("x"):rep(4000) }, 5000, 250)
    local flood = s:info()
    assert.is_true(flood.file_bytes > 20e6)
    assert.is_true(flood.wal_bytes < 10e6, "the log stays bounded under load: " .. flood.wal_bytes)
    apply({ "trim", connection = "a", epoch = 1, offset = 5000 })
    assert.is_true(tidy(START) > 10)
    local after = s:info()
    assert.is_true(after.file_bytes < 2.5e6, after.file_bytes)
    s:close(true)
    local f = assert(io.open(path))
    assert.is_true(f:seek "end" < 2.5e6)
    f:close()
    s = open()
  end)

  it("gives a large log's room back when it is quiet", function ()
    local requests = {}
    for i = 1, 12 do requests[i] = event("a", 1, i, START); requests[i].bytes = ("x"):rep(4 * 1024 * 1024) end
    apply(unpack(requests))
    assert.is_true(s:info().wal_bytes > 40e6)
    tidy(START)
    assert.is_true(s:info().wal_bytes < 34e6, s:info().wal_bytes)
  end)

  it("leaves a file of the same size when as much goes as comes", function ()
    local sizes = {}
    for round = 1, 30 do
      local first = (round - 1) * 500 + 1
      s:fill({ "event", connection = "a", epoch = 1, offset = first, wall = START, bytes = ("x"):rep(1500) }, 500, 50)
      s:fill({ "seen", connection = "a", key_high = round, key_low = 1, offset = first, wall = START + round, until_wall = START + round + 2 }, 500, 50)
      apply({ "trim", connection = "a", epoch = 1, offset = first + 499 - 100 }, { "journal", wall = START + round, bytes = ('{"x":"%s"}'):format(("y"):rep(3000)) })
      tidy(START + round)
      sizes[round] = s:info().file_bytes + s:info().wal_bytes
    end
    assert.is_true(sizes[30] < sizes[10] * 1.2, sizes[10] .. " became " .. sizes[30])
  end)

  it("compacts a file to what it needs", function ()
    s:fill({ "event", connection = "a", epoch = 1, offset = 1, bytes = ("x"):rep(1000) }, 1000, 500)
    apply({ "trim", connection = "a", epoch = 1, offset = 990 })
    assert.same({ "applied", "" }, { s:compact() })
    local i = s:info()
    assert.is_true(i.file_bytes < 200000, i.file_bytes)
    assert.equal(0, i.free_bytes)
    assert.equal(0, i.wal_bytes)
    assert.equal(10, #s:visit().events)
    apply(event("a", 1, 1001, START))
    s:close(true)
    s = open()
    assert.equal(11, #s:visit().events)
  end)

  it("compacts without being a start", function ()
    apply({ "permit", connection = "a", account = 1, wall = START, boot_ms = 50 * DAY })
    s:close(false)
    s = open { offline = true, wall = START + DAY, boot = "other" }
    assert.same({ epoch = START, seed = 7, was_clean = false, is_new = false }, s:start())
    assert.same({ "applied", "" }, { s:compact() })
    assert.is_false(s:close(true))
    s = open { wall = START + 2 * DAY }
    assert.same({ epoch = START + 2 * DAY, seed = 7, was_clean = false, is_new = false }, s:start())
    assert.is_true(s:visit().permits[1].same_boot)
    assert.is_nil((store.open { path = path .. ".none", offline = true }))
  end)
end)
