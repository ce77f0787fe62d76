local deliver = require "unit.deliver"
local support = require "deliver_support"

describe("a consumer", function ()
  local box
  before_each(function () box = deliver.new { epoch = 3 } end)
  after_each(function () box:close() end)

  it("reads only the connections that its patterns name, also those added later", function ()
    local a, b = box:stream "support-1", box:stream "billing"
    local r = box:attach { connection = { "support-*", "x?" } }
    local c, d = box:stream "support-2", box:stream "x1"
    for _, s in ipairs { a, b, c, d } do box:append(s, "{}") end
    local names = {}
    for _, line in ipairs(support.read(box, r)) do
      if line.event then names[#names + 1] = line.event.connection end
    end
    assert.same({ "support-1", "support-2", "x1" }, names)
  end)

  it("without a name begins now; with from=start at the oldest frame held", function ()
    local s = box:stream "a"
    support.fill(box, s, 3)
    local now, start = box:attach {}, box:attach { from = "start" }
    support.fill(box, s, 1)
    assert.equal("hello, 4", support.got(box, now))
    assert.equal("hello, 1, 2, 3, 4", support.got(box, start))
  end)

  it("with a name goes on from its cursor and gets again what it did not acknowledge", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 5)
    assert.equal("hello, 1, 2, 3, 4, 5", support.got(box, r))
    box:input(r, support.ack("a", 2))
    box:detach(r)
    support.fill(box, s, 1)
    local again = box:attach { consumer = "bot" }
    assert.equal("hello, 3, 4, 5, 6", support.got(box, again))
  end)

  it("holds frames while it is away, until it is forgotten", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    box:detach(r)
    local frame = '"' .. ("x"):rep(10000) .. '"'
    for _ = 1, 200 do box:append(s, frame) end
    assert.equal(200, box:view(s).frames)
    assert.is_true(box:forget "bot")
    assert.is_false(box:forget "bot")
    assert.is_true(box:view(s).frames < 110)
    assert.same({}, box:consumers())
  end)

  it("is detached by a second attachment under its name", function ()
    local s = box:stream "a"
    local first = box:attach { consumer = "bot" }
    local second = box:attach { consumer = "bot" }
    support.fill(box, s, 1)
    assert.equal("replaced: attached again elsewhere", box:detached(first))
    assert.equal("hello", support.got(box, first))
    assert.equal("hello, 1", support.got(box, second))
    box:input(first, support.ack("a", 1)) -- from a handle that is gone
    assert.equal(1, box:view(s).frames)
    box:detach(first)
    assert.equal(1, box:view(s).consumers)
    assert.is_nil(box:detached(second))
  end)

  it("with a position in this epoch gets what comes after it", function ()
    local s = box:stream "a"
    support.fill(box, s, 4)
    assert.equal("hello, 3, 4", support.got(box, box:attach { connection = "a", from = "3.2" }))
  end)

  it("with a position in an unknown epoch gets a gap and then the oldest frame held", function ()
    local s = box:stream "a"
    support.fill(box, s, 2)
    for _, from in ipairs { "2.812", "4.1", "3.99" } do
      local lines = support.read(box, box:attach { connection = "a", from = from })
      local cause = from == "3.99" and "unknown position" or "unknown epoch"
      assert.equal("hello, gap 0 " .. cause .. ", 1, 2", support.brief(lines))
      assert.is_false(lines[2].gap.certain)
    end
  end)

  it("with a position that is no longer held is told so", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 5)
    box:pump()
    box:input(r, support.ack("a", 3))
    local lines = support.read(box, box:attach { connection = "a", from = "3.1" })
    assert.equal("hello, gap 1 no longer held, 4, 5", support.brief(lines))
    assert.is_true(lines[2].gap.certain)
  end)

  it("refuses what makes no sense, with a sentence", function ()
    box:stream "a"
    local function why(attach) return select(2, box:attach(attach)) end
    assert.truthy(why { consumer = "no spaces" }:find "A%-Z")
    assert.truthy(why { consumer = ("x"):rep(64) }:find "63")
    assert.truthy(why { consumer = "" }:find "63")
    assert.truthy(why { from = "cursor" }:find "named consumer")
    assert.truthy(why { from = "3.1" }:find "exactly one")
    assert.truthy(why { from = "3.1", connection = "a*" }:find "exactly one")
    for _, from in ipairs { "", "3", "3.", ".1", "3.1x", "-1.2", "3.1.1", "3." .. ("9"):rep(19) } do
      assert.equal("from is now, start, cursor or EPOCH.OFFSET", why { from = from, connection = "a" })
    end
    assert.truthy(why { connection = "" }:find "pattern")
    assert.truthy(why { connection = ("x"):rep(128) }:find "pattern")
  end)

  it("is refused over the limit of consumers", function ()
    box:close()
    box = deliver.new { consumers = 2 }
    assert.is_number(box:attach { consumer = "one" })
    assert.is_number(box:attach {})
    local none, why = box:attach {}
    assert.is_nil(none)
    assert.equal("too many consumers", why)
    assert.is_number(box:attach { consumer = "one" }) -- replaces itself
  end)

  it("that takes no hello is not attached, and a name that never attached is not registered", function ()
    local none, why = box:attach { consumer = "bot", room = 3 }
    assert.is_nil(none)
    assert.equal("the attachment takes nothing", why)
    assert.same({}, box:consumers())
  end)

  it("gets the current state first, and later ones at their place between frames", function ()
    local s = box:stream "a"
    box:state(s, "linking")
    box:state(s, "up")
    support.fill(box, s, 1)
    local r = box:attach { from = "start" }
    assert.equal("hello, state up, 1", support.got(box, r))
    support.fill(box, s, 1)
    box:state(s, "waiting")
    box:state(s, "up")
    support.fill(box, s, 1)
    assert.equal("2, state waiting, state up, 3", support.got(box, r))
  end)

  it("can ask for no states and no gaps", function ()
    local s = box:stream "a"
    box:state(s, "up")
    local r = box:attach { states = "false", gaps = "false" }
    support.fill(box, s, 1)
    box:state(s, "waiting")
    box:gap(s, "session lost", false)
    support.fill(box, s, 1)
    assert.equal("hello, 1, 2", support.got(box, r))
  end)

  it("gets a gap again until a frame after it is acknowledged", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 1)
    box:gap(s, "session lost", false)
    assert.equal("hello, 1, gap 1 session lost", support.got(box, r))
    box:input(r, support.ack("a", 1))
    local again = box:attach { consumer = "bot" }
    assert.equal("hello, gap 1 session lost", support.got(box, again))
    support.fill(box, s, 1)
    box:pump()
    box:input(again, support.ack("a", 2))
    assert.equal("hello", support.got(box, box:attach { consumer = "bot" }))
  end)

  it("keeps its cursor when it asks to read something else", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 3)
    box:pump()
    box:input(r, support.ack("a", 1))
    assert.equal("hello", support.got(box, box:attach { consumer = "bot", from = "now" }))
    assert.equal(2, box:view(s).frames)
    assert.equal("hello, 2, 3", support.got(box, box:attach { consumer = "bot" }))
  end)

  it("gives up the cursors of connections that it no longer names", function ()
    local a, b = box:stream "a", box:stream "b"
    local other = box:attach { consumer = "other" }
    box:attach { consumer = "bot" }
    support.fill(box, a, 2)
    support.fill(box, b, 2)
    box:pump()
    box:input(other, support.ack("a", 2) .. support.ack("b", 2))
    assert.equal(2, box:view(a).frames)
    box:attach { consumer = "bot", connection = "b" }
    assert.equal(0, box:view(a).frames)
    assert.equal(2, box:view(b).frames)
  end)

  it("is listed with its lag, and forgotten after its age away", function ()
    box:close()
    box = deliver.new { named_age = 1000 }
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 3)
    box:pump()
    box:input(r, support.ack("a", 1))
    assert.same({ name = "bot", attached = true, lag = 2, since = box:consumers()[1].since, connections = 1,
      oldest = 1795341600123 }, box:consumers()[1])
    box:expire(1795341700000)
    assert.equal(1, #box:consumers())
    box:detach(r)
    box:expire(1795341700900)
    assert.equal(1, #box:consumers())
    box:expire(1795341701001)
    assert.equal(0, #box:consumers())
  end)

  it("does not hold a stream up after it is gone: two consumers interleaved", function ()
    local s = box:stream "a"
    local one, two = box:attach { consumer = "one" }, box:attach { consumer = "two" }
    for i = 1, 50 do
      support.fill(box, s, 1)
      box:pump()
      if i % 2 == 0 then box:input(one, support.ack("a", i)) end
      if i % 5 == 0 then box:input(two, support.ack("a", i)) end
      if i == 20 then
        box:detach(two)
        two = box:attach { consumer = "two" }
      end
    end
    assert.equal(0, box:view(s).frames)
    assert.equal(51, #support.lines((box:read(one))))
    assert.equal(31, #support.lines((box:read(two))))
  end)

  it("that is new where older frames are not held is told a gap: it may be one that was forgotten", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 6)
    box:pump()
    box:input(r, support.ack("a", 4))
    local lines = support.read(box, box:attach { consumer = "new" })
    assert.equal("hello, gap 0 no cursor, 5, 6", support.brief(lines))
    assert.is_false(lines[2].gap.certain)
    local new = box:attach { consumer = "new" } -- has said nothing yet
    assert.equal("hello, gap 0 no longer held, 5, 6", support.got(box, new))
    box:input(new, support.ack("a", 5))
    assert.equal("hello, 6", support.got(box, box:attach { consumer = "new" }))
    assert.is_true(box:forget "bot")
    assert.equal("hello, gap 0 no cursor, 6", support.got(box, box:attach { consumer = "bot" }))
    assert.equal("hello, 6", support.got(box, box:attach { consumer = "third", from = "start" }))
    assert.equal("hello", support.got(box, box:attach { consumer = "fourth", from = "now" }))
  end)

  it("that expired while it was away is told a gap when it comes back", function ()
    box:close()
    box = deliver.new { named_age = 1000 }
    local s = box:stream "a"
    local other, r = box:attach { consumer = "other" }, box:attach { consumer = "bot" }
    support.fill(box, s, 2)
    box:pump()
    box:detach(r)
    box:expire(1795341700000)
    assert.equal(1, #box:consumers())
    box:input(other, support.ack("a", 2))
    support.fill(box, s, 1)
    assert.equal("hello, gap 0 no cursor, 3", support.got(box, box:attach { consumer = "bot" }))
  end)

  it("has one place per connection, each with its own lag and age", function ()
    local a, b = box:stream "a", box:stream("b", { bytes = 1000 })
    local r = box:attach { consumer = "bot" }
    box:append(a, "{}", { wall = 5000 })
    box:append(a, "{}", { wall = 7000 })
    support.fill(box, b, 20, { wall = 9000 })
    box:pump()
    box:input(r, support.ack("a", 1))
    local held = box:view(b).frames
    assert.is_true(held < 20)
    assert.same({ "b 3.0 of 20 lag " .. held .. " since 9000", "a 3.1 of 2 lag 1 since 7000" },
      box:positions "bot")
    local view = box:consumers()[1]
    assert.same({ 2, held + 1, 7000 }, { view.connections, view.lag, view.oldest })
    box:input(r, support.ack("a", 2) .. support.ack("b", 20))
    view = box:consumers()[1]
    assert.same({ 2, 0, 0 }, { view.connections, view.lag, view.oldest })
    assert.same({}, box:positions "nobody")
    assert.same({}, box:positions "")
    assert.is_nil((box:cursor(a, "nobody")))
    box:attach {}
    assert.is_nil((box:cursor(a, "")))
  end)

  it("still gets what a connection held that was removed, and what was added under its name", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 3)
    box:state(s, "up")
    box:detach(r)
    box:remove(s)
    assert.is_nil(box:view(s))
    assert.same({ "a 3.0 of 3 lag 3 since 1795341600123 not configured" }, box:positions "bot")
    r = box:attach { consumer = "bot" }
    assert.equal("hello, 1, 2, 3", support.got(box, r))
    s = box:stream "a"
    support.fill(box, s, 1)
    assert.equal("4", support.got(box, r))
    box:input(r, support.ack("a", 4))
    box:remove(s)
    assert.same({}, box:positions "bot")
    local _, errors = box:ack_lines("bot", support.ack("a", 4))
    assert.truthy(errors:find("no such connection", 1, true))
  end)
end)
