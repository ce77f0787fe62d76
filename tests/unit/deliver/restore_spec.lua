local deliver = require "unit.deliver"
local support = require "deliver_support"

local WALL = 1795341600000

describe("a restart", function ()
  local box, disk, epoch
  before_each(function ()
    epoch = 3
    box, disk = deliver.new { epoch = epoch, keeps = true, wall = WALL }, support.disk()
  end)
  after_each(function () box:close() end)

  -- A clean one goes on in the same epoch; of an unclean one the newest `lost` calls were not safe.
  local function restart(lost, options)
    box:pump()
    disk:take(box)
    box:close()
    if lost then
      disk:lose(lost)
      epoch = epoch + 1
    end
    options = options or {}
    options.epoch, options.keeps, options.wall = epoch, true, WALL + 1000
    box = disk:restore(deliver.new(options), not lost)
  end

  local function bot(options)
    options = options or {}
    options.consumer = "bot"
    return box:attach(options)
  end

  it("keeps the backlog and the cursor: byte for byte, and nothing twice", function ()
    local s = box:stream "a"
    local r = bot()
    support.fill(box, s, 3)
    box:gap(s, "session lost", false)
    support.fill(box, s, 2)
    box:pump()
    local before = box:read(r)
    box:input(r, support.ack("a", 2))
    restart()
    assert.same({ name = "bot", attached = false, lag = 3 },
      { name = box:consumers()[1].name, attached = box:consumers()[1].attached, lag = box:consumers()[1].lag })
    s = box:stream "a"
    r = bot()
    box:pump()
    local after = box:read(r)
    assert.equal("hello, 3, gap 3 session lost, 4, 5", support.brief(support.lines(after)))
    local tail = after:match "\n(.*)"
    assert.equal(tail, before:sub(-#tail))
    assert.equal(6, support.fill(box, s, 1))
    local event = support.read(box, r)[1].event
    assert.same({ 3, 6 }, { event.epoch, event.offset })
  end)

  it("that was clean goes on in its epoch, also for acks of what was told before it", function ()
    local s = box:stream "a"
    support.fill(box, s, 5)
    bot()
    restart()
    s = box:stream "a"
    local count, errors = box:ack_lines("bot", support.ack("a", 4, 3))
    assert.same({ 1, "" }, { count, errors })
    assert.same({ 3, 4 }, { box:cursor(s, "bot") })
    assert.equal("hello, 5", support.got(box, bot()))
  end)

  it("that was not clean begins an epoch whose offsets go on, and an old ack never covers a new frame", function ()
    local s = box:stream "a"
    local r = bot()
    support.fill(box, s, 8)
    assert.equal("hello, 1, 2, 3, 4, 5, 6, 7, 8", support.got(box, r))
    restart(3) -- 6, 7 and 8 were told and were not safe
    s = box:stream "a"
    assert.equal(6, support.fill(box, s, 1))
    support.fill(box, s, 4)
    r = bot()
    local lines = support.read(box, r)
    assert.equal("hello, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10", support.brief(lines))
    assert.same({ 3, 4 }, { lines[6].event.epoch, lines[7].event.epoch })
    box:input(r, support.ack("a", 8, 3))
    assert.same({ 3, 5 }, { box:cursor(s, "bot") })
    assert.equal("acked\ta\tbot\t3\t5\n", box:orders())
    box:input(r, support.ack("a", 7, 4))
    assert.same({ 4, 7 }, { box:cursor(s, "bot") })
    assert.equal("acked\ta\tbot\t4\t7\n", box:orders())
    assert.equal("hello, 8, 9, 10", support.got(box, bot()))
  end)

  it("keeps the order of positions over many epochs, and knows the newest 64", function ()
    for _ = 1, 70 do
      local s = box:stream "a"
      bot()
      support.fill(box, s, 2)
      restart(0)
    end
    local s = box:stream "a"
    local lines = support.read(box, bot())
    assert.equal(141, #lines)
    for i = 2, #lines do
      assert.same({ i - 1, 3 + math.floor((i - 2) / 2) }, { lines[i].event.offset, lines[i].event.epoch })
    end
    local function from(position)
      local got = support.read(box, box:attach { connection = "a", from = position })
      return #got - 1, got[2] and got[2].gap and got[2].gap.cause
    end
    assert.same({ 2 }, { from "71.138" })   -- the epoch's last frame
    assert.same({ 2 }, { from "71.900" })   -- beyond its end: clamped
    assert.same({ 4 }, { from "71.1" })     -- before its first: all of it
    assert.same({ 0 }, { from "73.140" })
    assert.same({ 126 }, { from "9.14" })
    assert.same({ 141, "unknown epoch" }, { from "8.12" })
    assert.same({ 141, "unknown epoch" }, { from "74.1" })
    assert.same({ 141, "unknown position" }, { from "73.141" })
    assert.same({ 1, "" }, { box:ack_lines("bot", support.ack("a", 12, 8)) })
    assert.same({ 9, 0 }, { box:cursor(s, "bot") })
    local count, errors = box:ack_lines("bot", support.ack("a", 1, 74))
    assert.equal(0, count)
    assert.truthy(errors:find("that epoch has not begun", 1, true))
  end)

  it("yields a gap and the oldest frame for a cursor of an epoch that nobody knows", function ()
    local s = box:stream "a"
    bot()
    support.fill(box, s, 3)
    disk:take(box)
    box:close()
    local streams = disk:rows()
    box = deliver.new { epoch = 9, keeps = true }
    box:restore("epoch", "a", 3, 0, 3)
    for _, event in ipairs(streams.a.events) do box:restore(unpack(event)) end
    box:restore("consumer", "bot", WALL, "[]")
    box:restore("cursor", "bot", "a", 2, 77, WALL)
    box:restore("done", false)
    local r = bot()
    local lines = support.read(box, r)
    assert.equal("hello, gap 0 unknown epoch, 1, 2, 3", support.brief(lines))
    assert.is_false(lines[2].gap.certain)
    box:input(r, support.ack("a", 1, 3))
    assert.equal("hello, 2, 3", support.got(box, bot()))
  end)

  it("tells frames that the store dropped as a certain gap, in the middle, at the end and over epochs", function ()
    local s = box:stream "a"
    local r = bot()
    box:attach { consumer = "other" } -- holds all of it
    support.fill(box, s, 12)
    box:pump()
    box:input(r, support.ack("a", 1))
    box:pump()
    disk:take(box)
    local kept = {}
    for _, op in ipairs(disk.ops) do
      local n = op[1] == "frame" and tonumber(op[4])
      if not n or n <= 3 or n == 6 or n == 7 or n == 12 then kept[#kept + 1] = op end
    end
    disk.ops = kept
    restart(0)
    r = bot()
    local lines = support.read(box, r)
    assert.equal("hello, 2, 3, gap 3 not stored, 6, 7, gap 7 not stored, 12", support.brief(lines))
    assert.is_true(lines[4].gap.certain)
    assert.equal(3, lines[4].gap.epoch)
    s = box:stream "a"
    support.fill(box, s, 3)
    disk:take(box)
    table.remove(disk.ops, #disk.ops - 2) -- 13, the first of its epoch
    local ops = disk.ops
    ops[#ops + 1] = { "cursor", "bot", "a", "4", "17", "0" } -- stored while 16 and 17 were not
    restart()
    assert.equal("hello, 1, 2, 3, gap 3 not stored, 6, 7, gap 7 not stored, 12, gap 12 not stored, 14, 15, gap 15 not stored",
      support.got(box, box:attach { consumer = "other" }))
    assert.equal("hello", support.got(box, bot()))
    assert.equal(18, support.fill(box, box:stream "a", 1))
  end)

  it("tells a consumer whose frames were dropped while the process was another one", function ()
    local s = box:stream("a", { bytes = 1000 })
    local r = bot()
    support.fill(box, s, 2)
    box:pump()
    box:input(r, support.ack("a", 1))
    box:detach(r)
    support.fill(box, s, 20)
    local first = box:view(s).first_offset
    box:expire(WALL + 500)
    restart()
    local lines = support.read(box, bot())
    assert.same({ after = 1, cause = "no longer held", certain = true },
      { after = lines[2].gap.after, cause = lines[2].gap.cause, certain = lines[2].gap.certain })
    assert.equal(first, lines[3].event.offset)
  end)

  it("keeps what a connection holds that nobody configured: read, acknowledged, and gone with its last", function ()
    local s = box:stream "a"
    bot()
    support.fill(box, s, 3)
    restart(0)
    local r = bot()
    assert.equal("hello, 1, 2, 3", support.got(box, r))
    local none, why = box:send("a", "{}")
    assert.same({ nil, "no such connection" }, { none, why })
    box:input(r, support.ack("a", 2, 3))
    assert.equal("hello, 3", support.got(box, bot()))
    s = box:stream "a"
    assert.equal(4, support.fill(box, s, 1))
    assert.is_nil(box:stream "a")
  end)

  it("that was not clean is told of a connection that nobody adds, and once, and not of one that is added", function ()
    local s, b = box:stream "a", box:stream "b"
    bot()
    support.fill(box, s, 2)
    support.fill(box, b, 1)
    restart(1)
    box:stream "b"
    local r = bot()
    box:expire(WALL + 2000)
    box:expire(WALL + 61000)
    assert.equal("hello, 1, 2", support.got(box, r))
    box:expire(WALL + 62001)
    box:expire(WALL + 200000)
    local lines = support.read(box, r)
    assert.equal("gap 2 unclean start", support.brief(lines))
    assert.same({ 4, false }, { lines[1].gap.epoch, lines[1].gap.certain })
    assert.truthy(disk:take(box):find("gap a 4 2", 1, true))
    restart()
    box:expire(WALL + 300000)
    box:expire(WALL + 500000)
    assert.equal("hello, 1, 2, gap 2 unclean start", support.got(box, bot()))
  end)

  it("drops by age what nobody configured, and then its name", function ()
    local s = box:stream "a"
    bot()
    support.fill(box, s, 3)
    restart(0, { named_age = 10000 })
    box:kept()
    local r = bot()
    support.got(box, r)
    box:expire(WALL + 10124)
    assert.equal("trim a 3 3", disk:take(box):match "trim.*")
    box:expire(WALL + 20125)
    box:expire(WALL + 30126)
    assert.equal(4, support.fill(box, box:stream "a", 1)) -- its offsets are not used again
  end)

  it("leaves consumers detached since when they were, and expires them from there", function ()
    local r = bot()
    box:expire(WALL + 500)
    box:detach(r)
    restart()
    assert.same({ false, WALL + 500 }, { box:consumers()[1].attached, box:consumers()[1].since })
    box:expire(WALL + 500 + 7 * 24 * 3600000)
    assert.equal(1, #box:consumers())
    box:expire(WALL + 501 + 7 * 24 * 3600000)
    assert.same({}, box:consumers())
    assert.equal("gone bot", disk:take(box):match "gone.*")
  end)

  it("keeps more consumers than a lower limit admits", function ()
    for i = 1, 5 do box:attach { consumer = "bot" .. i } end
    restart(0, { consumers = 2 })
    assert.equal(5, #box:consumers())
    assert.is_nil((box:attach { consumer = "bot6" }))
    assert.is_number(box:attach { consumer = "bot5" })
  end)

  it("keeps a consumer's patterns: it holds new connections that match, and no others", function ()
    bot { connection = { "x-*" } }
    restart()
    local x, y = box:stream "x-1", box:stream "y"
    local frame = '"' .. ("x"):rep(10000) .. '"'
    for _ = 1, 200 do
      box:append(x, frame)
      box:append(y, frame)
    end
    assert.equal(200, box:view(x).frames)
    assert.is_true(box:view(y).frames < 110)
  end)

  it("keeps where a consumer began: one from now does not get what it never asked for", function ()
    local s = box:stream "a"
    support.fill(box, s, 5)
    local r = bot { from = "now" }
    support.fill(box, s, 1)
    assert.equal("hello, 6", support.got(box, r))
    restart(0)
    assert.equal("hello, 6", support.got(box, bot()))
  end)

  it("tells one who was registered before the first frame all of it, and what was dropped", function ()
    box:stream("a", { bytes = 1000 })
    box:detach(bot())
    restart()
    local s = box:stream("a", { bytes = 1000 })
    support.fill(box, s, 20)
    box:expire(WALL + 1500)
    restart()
    local lines = support.read(box, bot())
    assert.equal("gap 0 no longer held", support.brief { lines[2] })
  end)

  it("keeps a gap that is behind the last acknowledged frame", function ()
    local s = box:stream "a"
    local r = bot()
    support.fill(box, s, 2)
    box:gap(s, "session lost", false)
    box:pump()
    box:input(r, support.ack("a", 2))
    box:expire(WALL + 500)
    restart(0)
    assert.equal("hello, gap 2 session lost", support.got(box, bot()))
  end)

  it("says in hello that the backlog is durable", function ()
    assert.truthy(box:read(box:attach {}):find('"backlog":"sqlite"', 1, true))
  end)

  it("leaves out rows that cannot be, and takes the rest", function ()
    local line = '{"event":{}}\n'
    box:restore("epoch", "a", 3, 5, 4)          -- ends before it begins
    box:restore("epoch", "a", 7, 0, 10)         -- has not begun
    box:restore("epoch", "a", 2, 0, 10)
    box:restore("epoch", "a", 1, 10, 20)        -- out of order
    box:restore("epoch", "", 2, 0, 10)
    box:restore("epoch", ("x"):rep(64), 2, 0, 10)
    box:restore("epoch", "a", 3, 2 ^ 62, 2 ^ 62)
    box:restore("frame", "a", 2, 9, 0, line)
    box:restore("frame", "a", 2, 9, 0, line)    -- twice
    box:restore("frame", "a", 2, 8, 0, line)    -- out of order
    box:restore("frame", "a", 2, 0, 0, line)
    box:restore("frame", "a", 4, 11, 0, line)
    box:restore("frame", "a", 2, 10, 0, "no line")
    box:restore("frame", "a", 2, 10, 0, "two\nlines\n")
    box:restore("frame", "a", 2, 10, 0, "")
    box:restore("frame", "a", 3, 5, 0, line)    -- inside the epoch before
    box:restore("gap", "a", 2, 8, 0, line)
    box:restore("consumer", "not a name", WALL, "[]")
    box:restore("consumer", "bot", WALL, '["a",7]')
    box:restore("consumer", "bot", WALL, "[]")
    box:restore("cursor", "nobody", "a", 2, 9, WALL)
    box:restore("cursor", "bot", "a", 2, 2 ^ 62, WALL)
    box:restore("cursor", "bot", "a", 2, 8, WALL)
    box:restore("cursor", "bot", "a", 2, 9, WALL)
    box:restore("frame", "a", 3, 11, 0, line)   -- after the consumers
    box:restore("done", true)
    local s = box:stream "a"
    assert.same({ 2, 8 }, { box:cursor(s, "bot") })
    assert.equal(1, box:view(s).frames)
    assert.equal(11, support.fill(box, s, 1))
    for _, patterns in ipairs { "", "{}", "[", '["' .. ("x"):rep(128) .. '"]', '[""]', "\0" } do
      local other = deliver.new {}
      other:restore("consumer", "bot", WALL, patterns)
      other:restore("done", true)
      assert.equal(1, #other:consumers())
      other:close()
    end
  end)
end)
