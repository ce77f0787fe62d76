local store = require "unit.store"
local scratch = require "scratch"

describe("the store's core", function ()
  local path, open
  before_each(function ()
    path = scratch.path "holdfast.db"
    open = function (more)
      local options = { path = path, boot = "boot-1", wall = 1700000000000, boot_ms = 5000, seed = 77 }
      for k, v in pairs(more or {}) do options[k] = v end
      return store.open(options)
    end
  end)

  it("gives back every kind of row, in its order, after a clean end", function ()
    local s = assert(open())
    assert.same({ epoch = 1700000000000, seed = 77, was_clean = true, is_new = true }, s:start())
    assert.equal("applied", (s:apply {
      { "connection", connection = "b", bytes = '{"policy":"x"}' },
      { "connection", connection = "a", bytes = "{}" },
      { "wish", connection = "a", count = 1 },
      { "session", connection = "a", account = "18446744073709551615", wall = 42, bytes = '{"id":1}' },
      { "keep", connection = "a", bytes = "{}" },
      { "permit", connection = "a", budget = 0, account = "18446744073709551614", lane = -3, wall = 9, boot_ms = 8 },
      { "told budget", budget = 1, account = 7, count = -1, lanes = 16, until_wall = 100, until_boot = 200 },
      { "event", connection = "a", epoch = 3, offset = 1, wall = 5, bytes = "one" },
      { "event", connection = "a", kind = 1, epoch = 3, offset = 1, wall = 6, bytes = "hole" },
      { "event", connection = "a", epoch = 3, offset = 2, wall = 7, bytes = "two" },
      { "consumer", consumer = "bot", wall = 12, bytes = '["*"]' },
      { "cursor", consumer = "bot", connection = "a", epoch = 3, offset = 1, wall = 13 },
      { "seen", connection = "a", key_high = "18446744073709551615", key_low = 1, offset = 2, wall = 14, until_wall = 99 },
      { "journal", wall = 15, bytes = '{"start":true}' },
      { "journal", connection = "a", wall = 16, bytes = "{}" },
      { "frames", connection = "a", ticket = 9 },
    }))
    assert.is_true(s:close(true))
    s = assert(open { seed = 78 })
    assert.same({ epoch = 1700000000000, seed = 77, was_clean = true, is_new = false }, s:start())
    assert.same({
      connections = { { name = "a", json = "{}" }, { name = "b", json = '{"policy":"x"}' } },
      wishes = { { connection = "a", stopped = true } },
      sessions = { { connection = "a", session_of = "18446744073709551615", wall = 42, json = '{"id":1}' } },
      keeps = { { connection = "a", json = "{}" } },
      permits = { { account = "18446744073709551614", budget = 0, lane = -3, same_boot = true, wall = 9, boot_ms = 8 } },
      told = { { account = 7, budget = 1, left = -1, lanes = 16, same_boot = true, until_wall = 100, until_boot = 200 } },
      epochs = { { connection = "a", epoch = 3, after = 0, last = 2 } },
      events = {
        { connection = "a", kind = "frame", epoch = 3, offset = 1, wall = 5, line = "one" },
        { connection = "a", kind = "gap", epoch = 3, offset = 1, wall = 6, line = "hole" },
        { connection = "a", kind = "frame", epoch = 3, offset = 2, wall = 7, line = "two" },
      },
      consumers = { { name = "bot", patterns = '["*"]', wall = 12 } },
      cursors = { { consumer = "bot", connection = "a", epoch = 3, offset = 1, wall = 13 } },
      seen = { { connection = "a", key_high = "18446744073709551615", key_low = 1, offset = 2, wall = 14 } },
      journal = { { wall = 15, json = '{"start":true}' }, { connection = "a", wall = 16, json = "{}" } },
    }, s:visit())
    s:close(true)
  end)

  local function apply(s, ...)
    assert.same({ "applied", "" }, { s:apply { ... } })
  end
  local function lines(s)
    local all = {}
    for i, e in ipairs(s:visit().events or {}) do all[i] = e.line end
    return table.concat(all, " ")
  end
  local function event(offset, line, more)
    local r = { "event", connection = "a", epoch = 1, offset = offset, wall = 1, bytes = line }
    for k, v in pairs(more or {}) do r[k] = v end
    return r
  end

  it("goes on in its epoch after a clean end alone, and never back", function ()
    local s = assert(open { wall = 5000 })
    s:close(true)
    s = assert(open { wall = 9000 })
    assert.same({ epoch = 5000, seed = 77, was_clean = true, is_new = false }, s:start())
    s:close(false)
    s = assert(open { wall = 9000 })
    assert.same({ epoch = 9000, seed = 77, was_clean = false, is_new = false }, s:start())
    s = nil
    collectgarbage() -- no clean end either
    s = assert(open { wall = 100 })
    assert.equal(9001, s:start().epoch)
    s:close(true)
    os.remove(path)
    s = assert(open { wall = 9500 })
    assert.same({ epoch = 9500, seed = 77, was_clean = true, is_new = true }, s:start())
    s:close(true)
  end)

  it("goes on in its epoch when another process had it in between, opened it and accepted nothing", function ()
    local s = assert(open { wall = 5000 })
    s:close(true)
    assert(open { wall = 6000 }):close(false) -- killed
    s = assert(open { wall = 9000, back_in_epoch = 5000 })
    assert.same({ epoch = 5000, seed = 77, was_clean = true, is_new = false }, s:start())
    s:close(false)
    -- Only in that epoch: a later one says that somebody accepted something.
    s = assert(open { wall = 9000, back_in_epoch = 4999 })
    assert.same({ epoch = 9000, seed = 77, was_clean = false, is_new = false }, s:start())
    s:close(true)
  end)

  it("believes a boot time in its own boot alone, and never one of a boot without a name", function ()
    local s = assert(open())
    apply(s, { "permit", connection = "a", account = 1, wall = 1, boot_ms = 1 },
          { "told budget", account = 1, count = 5, until_wall = 8, until_boot = 9 })
    assert.is_true(s:visit().permits[1].same_boot)
    s:close(true)
    s = assert(open { boot = "boot-2" })
    apply(s, { "permit", connection = "a", account = 1, wall = 2, boot_ms = 1 })
    local all = s:visit()
    assert.is_false(all.permits[1].same_boot)
    assert.is_true(all.permits[2].same_boot)
    assert.is_false(all.told[1].same_boot)
    s:close(true)
    s = assert(open { boot = "boot-1" }) -- the same name again is another boot
    assert.is_false(s:visit().permits[1].same_boot)
    s:close(true)
    for _ = 1, 2 do
      s = assert(open { boot = "" })
      apply(s, { "permit", connection = "a", account = 3, wall = 3, boot_ms = 1 })
      s:close(true)
    end
    s = assert(open { boot = "" })
    assert.is_false(s:visit().permits[3].same_boot)
    s:close(true)
  end)

  it("may be given the same batch again", function ()
    local s = assert(open())
    local batch = {
      { "permit", connection = "a", budget = 0, account = 1, lane = 2, wall = 3, boot_ms = 4 },
      { "permit", connection = "b", budget = 0, account = 1, lane = 2, wall = 3, boot_ms = 4 },
      { "permit", connection = "a", budget = 0, account = 1, lane = 2, wall = 5, boot_ms = 6 },
      { "permit return", connection = "a", budget = 0, account = 1, wall = 5, boot_ms = 6 },
      event(1, "one"), event(2, "two"), event(3, "three"),
      event(3, "hole", { kind = 1, wall = 9 }), event(3, "another hole", { kind = 1, wall = 9 }),
      { "trim", connection = "a", epoch = 1, offset = 1 },
      { "seen", connection = "a", key_high = 1, key_low = 2, offset = 2, wall = 3, until_wall = 100 },
      { "told budget", account = 1, count = 5 }, { "told budget", account = 1, count = 4 },
      { "consumer", consumer = "c", bytes = "[]" }, { "cursor", consumer = "c", connection = "a", epoch = 1, offset = 1 },
      { "consumer", consumer = "gone", bytes = "[]" }, { "cursor", consumer = "gone", connection = "a", epoch = 1, offset = 1 },
      { "consumer gone", consumer = "gone" },
      { "wish", connection = "a", count = 1 }, { "wish", connection = "b", count = 1 }, { "wish", connection = "b", count = 0 },
      { "journal", connection = "a", wall = 3, bytes = "{}" }, { "journal", connection = "b", wall = 3, bytes = "{}" },
      { "journal", wall = 3, bytes = "{}" },
    }
    apply(s, unpack(batch))
    local once = s:visit()
    assert.equal(2, #once.permits)
    assert.equal(4, #once.events)
    assert.equal(3, #once.journal)
    assert.equal(4, once.told[1].left)
    assert.equal(1, #once.cursors)
    apply(s, unpack(batch))
    assert.same(once, s:visit())
    s:close(true)
  end)

  it("takes back one permit of those that are alike, the connection's own first", function ()
    local s = assert(open())
    for _, name in ipairs { "a", "b", "c" } do
      apply(s, { "permit", connection = name, account = 1, wall = 3, boot_ms = 4 })
    end
    apply(s, { "permit return", connection = "b", account = 1, wall = 3, boot_ms = 4 })
    apply(s, { "permit return", connection = "b", account = 1, wall = 3, boot_ms = 4 })
    assert.equal(2, #s:visit().permits)
    apply(s, { "permit return", account = 1, wall = 3, boot_ms = 4 })
    assert.equal(1, #s:visit().permits)
    apply(s, { "permit return", account = 1, wall = 3, boot_ms = 5 }, { "permit return", account = 2, wall = 3, boot_ms = 4 },
          { "permit return", account = 1, budget = 1, wall = 3, boot_ms = 4 })
    assert.equal(1, #s:visit().permits)
    s:close(true)
  end)

  it("trims frames up to a position, with the gaps between them, and keeps the gap that nobody was told of", function ()
    local s = assert(open())
    apply(s, event(1, "f1"), event(1, "g1", { kind = 1 }), event(2, "f2"), event(2, "g2", { kind = 1, wall = 5 }),
          event(2, "g2b", { kind = 1, wall = 6 }), event(3, "f3"), event(1, "next", { epoch = 2 }),
          event(1, "other", { connection = "b" }))
    apply(s, { "trim", connection = "a", epoch = 1, offset = 0 })
    assert.equal("f1 g1 f2 g2 g2b f3 next other", lines(s))
    apply(s, { "trim", connection = "a", epoch = 1, offset = 2 })
    assert.equal("g2 g2b f3 next other", lines(s))
    apply(s, { "trim", connection = "a", epoch = 1, offset = 2, kind = 1 })
    assert.equal("f3 next other", lines(s))
    apply(s, { "trim", connection = "a", epoch = 2, offset = 0 })
    assert.equal("next other", lines(s))
    apply(s, { "trim", connection = "a", epoch = 2, offset = "18446744073709551615" }, { "trim", connection = "none", epoch = 9 })
    assert.equal("other", lines(s))
    s:close(true)
  end)

  it("remembers the last offset of an epoch when all its events are trimmed", function ()
    local s = assert(open())
    apply(s, event(7, "x"), event(8, "y"), event(8, "gap", { kind = 1 }))
    apply(s, { "trim", connection = "a", epoch = 1, offset = 8, kind = 1 })
    apply(s, event(9, "z"), { "trim", connection = "a", epoch = 1, offset = 9 })
    assert.same({ { connection = "a", epoch = 1, after = 6, last = 9 } }, s:visit().epochs)
    assert.equal("", lines(s))
    s:close(true)
    s = assert(open())
    assert.same({ { connection = "a", epoch = 1, after = 6, last = 9 } }, s:visit().epochs)
    s:close(true)
  end)

  it("hides at once what a large trim has not deleted yet, and deletes it by and by", function ()
    local s = assert(open())
    s:fill(event(1, "x"), 4500, 1000)
    apply(s, { "trim", connection = "a", epoch = 1, offset = 4400 })
    assert.equal(100, #s:visit().events)
    assert.equal(100, s:info().events)
    assert.equal(100, s:streams()[1].events)
    assert.is_true(s:wants_tidy())
    s:close(true)
    s = assert(open())
    assert.equal(100, #s:visit().events)
    for _ = 1, 10 do assert.equal("applied", (s:tidy(1700000000000))) end
    assert.is_false(s:wants_tidy())
    assert.equal(100, #s:visit().events)
    apply(s, event(4501, "new"))
    assert.equal(101, #s:visit().events)
    s:close(true)
    assert.equal("101", store.sql(path, "SELECT count(*) FROM event"))
    assert.equal("1", store.sql(path, "SELECT count(*) FROM stream WHERE trim_epoch IS NULL"))
  end)

  it("forgets what belongs to a connection that went, and keeps its events", function ()
    local s = assert(open())
    apply(s, event(1, "one"), { "session", connection = "a", bytes = "{}" }, { "keep", connection = "a", bytes = "{}" },
          { "wish", connection = "a", count = 1 }, { "seen", connection = "a", key_low = 1, until_wall = 9 },
          { "connection", connection = "a", bytes = "{}" }, { "session", connection = "b", bytes = "{}" },
          { "connection gone", connection = "a" }, { "connection", connection = "a" }, { "connection gone", connection = "never" })
    local all = s:visit()
    assert.same({ { connection = "b", session_of = 0, wall = 0, json = "{}" } }, all.sessions)
    assert.is_nil(all.keeps or all.wishes or all.seen or all.connections)
    assert.equal("one", lines(s))
    s:close(true)
  end)

  it("takes names and lines of any kind", function ()
    local s = assert(open())
    local names = { "", "a'b\"c;--", "漢字é", "a b\tc\n%s", ("n"):rep(300), ("n"):rep(301), "\255\254" }
    local big = ("0123456789abcdef"):rep(4 * 1024 * 1024 / 16)
    for i, name in ipairs(names) do
      apply(s, event(1, "line " .. i, { connection = name }), event(2, "", { connection = name }),
            { "session", connection = name, bytes = name }, { "consumer", consumer = name, bytes = name },
            { "cursor", consumer = name, connection = name, epoch = 1, offset = i },
            { "journal", connection = name, wall = 1, bytes = name }, { "seen", connection = name, key_low = i, until_wall = 5 },
            { "permit", connection = name, account = i })
    end
    apply(s, event(1, big, { connection = "big" }), event(2, big .. "2", { connection = "big" }))
    s:close(true)
    s = assert(open())
    local all = s:visit()
    local found = {}
    for _, session in ipairs(all.sessions) do found[session.connection] = session.json end
    for _, name in ipairs(names) do assert.equal(name, found[name]) end
    assert.equal(#names, #all.consumers)
    assert.equal(#names, #all.cursors)
    assert.equal(#names, #all.seen)
    assert.equal(#names, #all.permits)
    local count = 0
    for _, e in ipairs(all.events) do
      if e.connection == "big" then
        assert.is_true(e.line == (e.offset == 1 and big or big .. "2"))
        count = count + 1
      end
    end
    assert.equal(2, count)
    assert.equal(#names * 2 + 2, #all.events)
    s:close(true)
  end)

  it("keeps numbers of 64 bits, and orders those that have an order by what 63 can tell", function ()
    local s = assert(open { seed = "18446744073709551615" })
    local most, nearly = "18446744073709551615", "9223372036854775806"
    apply(s, event(nearly, "late", { epoch = nearly, wall = nearly }), event(1, "early", { epoch = nearly }),
          { "session", connection = "a", account = "9223372036854775808", wall = most, bytes = "{}" },
          { "seen", connection = "a", key_high = "9223372036854775808", key_low = most, offset = nearly, wall = most, until_wall = most },
          { "told budget", account = most, count = "-9223372036854775808", lanes = 4294967295, until_wall = most, until_boot = most },
          { "permit", connection = "a", account = most, lane = "9223372036854775807", wall = most, boot_ms = nearly })
    assert.equal("applied", (s:tidy(1700000000000)))
    s:close(true)
    s = assert(open())
    local all = s:visit()
    assert.equal(most, s:start().seed)
    assert.equal("early late", lines(s))
    assert.same({ connection = "a", kind = "frame", epoch = nearly, offset = nearly, wall = nearly, line = "late" }, all.events[2])
    assert.equal("9223372036854775808", all.sessions[1].session_of)
    assert.equal(most, all.sessions[1].wall)
    assert.same({ connection = "a", key_high = "9223372036854775808", key_low = most, offset = nearly, wall = most }, all.seen[1])
    assert.same({ account = most, budget = 0, left = "-9223372036854775808", lanes = 4294967295, same_boot = true,
                  until_wall = most, until_boot = most }, all.told[1])
    assert.same({ account = most, budget = 0, lane = "9223372036854775807", same_boot = true, wall = most, boot_ms = nearly },
                all.permits[1])
    s:close(true)
  end)

  it("passes over rows that a hand wrote and that mean nothing", function ()
    local s = assert(open())
    apply(s, event(1, "one"))
    s:close(true)
    local _, failed = store.sql(path, [[INSERT INTO permit VALUES (1, 99, 'a', 1, 1, 1, 1), (1, -1, 'a', 1, 1, 1, 1), (1, 'x', 'a', 'y', '', 1, 1);
      INSERT INTO told VALUES (1, 1e300, 'left', x'00', NULL, -5, 'never', 0);
      INSERT INTO event (stream, epoch, offset, kind, tie, wall_ms, line) VALUES (1, 1, 2, 9, 0, 0, 'x'), (1, 1, -7, 0, 0, -3, NULL);
      INSERT INTO session VALUES ('n', NULL, NULL, NULL); INSERT INTO journal (wall_ms, tie, json) VALUES (-1, 0, 5)]])
    assert.is_nil(failed)
    s = assert(open())
    local all = s:visit()
    assert.equal("n", all.sessions[1].connection)
    for _, p in ipairs(all.permits or {}) do assert.is_true(p.budget <= 3) end
    assert.same({ "", "one" }, { all.events[1].line, all.events[2].line })
    assert.equal("applied", (s:tidy(1700000000000)))
    s:close(true)
  end)

  it("counts what it holds", function ()
    local s = assert(open())
    apply(s, event(1, "12345"), event(2, "67"), event(5, "x", { connection = "b", wall = 77 }), { "session", connection = "a", bytes = "{}" },
          { "consumer", consumer = "c", bytes = "[]" }, { "cursor", consumer = "c", connection = "b", epoch = 1, offset = 4 },
          { "journal", wall = 1, bytes = "{}" }, { "seen", connection = "a", key_low = 1 }, { "permit", connection = "a" })
    local i = s:info()
    assert.same({ 3, 8, 1, 1, 1, 1, 1, 1 },
                { i.events, i.event_bytes, i.sessions, i.permits, i.consumers, i.cursors, i.seen, i.journal_entries })
    assert.equal(1, i.schema_version)
    assert.equal(1700000000000, i.epoch)
    assert.is_true(i.file_bytes > 0 and i.wal_bytes > 0)
    assert.same({ { name = "a", events = 2, event_bytes = 7, oldest_wall_ms = 1, newest_wall_ms = 1, last_epoch = 1, last_offset = 2, cursors = 0 },
                  { name = "b", events = 1, event_bytes = 1, oldest_wall_ms = 77, newest_wall_ms = 77, last_epoch = 1, last_offset = 5, cursors = 1 } },
                s:streams())
    s:close(true)
  end)
end)

describe("what a batch takes away again", function ()
  local function draws(seed)
    local state = seed
    return function (n)
      state = (state * 1103515245 + 12345) % 2147483648
      return math.floor(state / 2147483648 * n) + 1
    end
  end
  local function open(path)
    return assert(store.open { path = path, boot = "b", wall = 5000, boot_ms = 5, seed = 7 })
  end
  local function seen(s)
    local v = s:visit()
    return { events = v.events, cursors = v.cursors, epochs = v.epochs, consumers = v.consumers }
  end

  for seed = 1, 20 do
    it(("leaves the same rows as if each request had come alone (seed %d)"):format(seed), function ()
      local draw = draws(seed)
      local path = scratch.path "many.db"
      local one, many = open(scratch.path "one.db"), open(path)
      local last, batch = {}, {}
      for round = 1, 400 do
        local name = "c" .. draw(3)
        local at = last[name] or { epoch = 1, offset = 0 }
        last[name] = at
        local what = draw(10)
        local request
        if what <= 4 then
          at.offset = at.offset + 1
          request = { "event", connection = name, epoch = at.epoch, offset = at.offset, wall = round, bytes = "line " .. round }
        elseif what == 5 then
          request = { "event", connection = name, kind = 1, epoch = at.epoch, offset = at.offset, wall = round, bytes = "gap " .. round }
        elseif what == 6 and draw(4) == 1 then
          at.epoch, at.offset = at.epoch + 1, 0
        elseif what == 6 and at.epoch > 1 then -- late
          request = { "event", connection = name, epoch = at.epoch - 1, offset = 100 + draw(5), wall = round, bytes = "late " .. round }
        elseif what <= 8 then
          request = { "trim", connection = name, kind = draw(2) - 1, epoch = at.epoch, offset = math.max(0, at.offset - draw(4) + 1) }
        elseif what <= 10 then
          request = { "cursor", consumer = "bot" .. draw(2), connection = name, epoch = at.epoch, offset = at.offset, wall = round }
        end
        if request then
          assert.equal("applied", (one:apply { request }))
          batch[#batch + 1] = request
        end
        if draw(12) == 1 then
          assert.equal("applied", (many:apply(batch)))
          batch = {}
          assert.same(seen(one), seen(many))
          if draw(6) == 1 then -- what is known of streams is gone with the process
            assert.is_true(many:close(true))
            many = open(path)
          end
        end
      end
      assert.equal("applied", (many:apply(batch)))
      assert.same(seen(one), seen(many))
      one:close(true)
      many:close(true)
    end)
  end

  it("holds for thousands of streams, each with rows from before", function ()
    local path = scratch.path "thousands.db"
    local s = open(path)
    local batch = {}
    for i = 1, 3000 do batch[i] = { "event", connection = "c" .. i, epoch = 1, offset = 1, wall = 1, bytes = "x" } end
    assert.equal("applied", (s:apply(batch)))
    assert.is_true(s:close(true))
    s = open(path)
    batch = {}
    for i = 1, 3000 do
      batch[#batch + 1] = { "event", connection = "c" .. i, epoch = 2, offset = 1, wall = 2, bytes = "y" }
      batch[#batch + 1] = { "trim", connection = "c" .. i, epoch = i % 3 == 0 and 1 or 2, offset = 1 }
    end
    for from = 1, #batch, 500 do
      local piece = {}
      for i = from, math.min(from + 499, #batch) do piece[#piece + 1] = batch[i] end
      assert.equal("applied", (s:apply(piece)))
    end
    assert.equal(1000, #s:visit().events)
    s:close(true)
  end)
end)
