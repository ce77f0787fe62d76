local deliver = require "unit.deliver"
local support = require "deliver_support"

describe("a stream", function ()
  local box
  before_each(function () box = deliver.new { epoch = 3 } end)
  after_each(function () box:close() end)

  it("counts offsets from 1 and refuses a second one of the same name", function ()
    local s = box:stream "a"
    assert.is_nil(box:stream "a")
    assert.equal(1, box:append(s, "{}"))
    assert.equal(2, box:append(s, "{}"))
    box:remove(s)
    assert.is_nil(box:view(s))
    assert.is_number(box:stream "a")
  end)

  it("never uses an offset twice under one name in one epoch", function ()
    local s = box:stream "a"
    support.fill(box, s, 5)
    box:remove(s)
    s = box:stream "a"
    assert.equal(6, box:append(s, "{}"))
    local r = box:attach { connection = "a", from = "3.2" }
    assert.equal("hello, gap 2 no longer held, 6", support.got(box, r))
  end)

  it("keeps a frame that alone is more than what stays unclaimed", function ()
    local s = box:stream "a"
    box:append(s, '"' .. ("x"):rep(2000000) .. '"')
    assert.equal(1, box:view(s).frames)
    box:append(s, "{}")
    assert.equal(1, box:view(s).frames)
    assert.equal("hello, 2", support.got(box, box:attach { from = "start" }))
  end)

  it("finds each of many names, also after removals", function ()
    local all = {}
    for i = 1, 500 do all[i] = box:stream("c" .. i) end
    for i = 1, 500, 2 do box:remove(all[i]) end
    for i = 1, 500 do
      if i % 2 == 0 then assert.is_nil(box:stream("c" .. i)) else assert.is_number(box:stream("c" .. i)) end
    end
  end)

  it("holds what no consumer asked for yet, for one who comes late", function ()
    local s = box:stream "a"
    support.fill(box, s, 3)
    local late = box:attach { consumer = "late" }
    assert.equal("hello, 1, 2, 3", support.got(box, late))
  end)

  it("keeps only the newest MiB while no named consumer holds it", function ()
    local s = box:stream "a"
    local frame = '"' .. ("x"):rep(10000) .. '"'
    for _ = 1, 300 do box:append(s, frame) end
    local view = box:view(s)
    assert.is_true(view.bytes <= 1024 * 1024)
    assert.equal(0, view.dropped_total)
    assert.equal(300, view.last_offset)
    assert.is_true(view.frames > 90)
  end)

  it("releases a frame once every named consumer has acknowledged it", function ()
    local s = box:stream "a"
    local one, two = box:attach { consumer = "one" }, box:attach { consumer = "two" }
    support.fill(box, s, 5)
    box:pump()
    box:input(one, support.ack("a", 5))
    assert.equal(5, box:view(s).frames)
    box:input(two, support.ack("a", 3))
    assert.same({ 4, 2 }, { box:view(s).first_offset, box:view(s).frames })
    box:input(two, support.ack("a", 5))
    assert.same({ 0, 0 }, { box:view(s).frames, box:view(s).bytes })
  end)

  it("drops the oldest frame over its size and tells the gap", function ()
    local s = box:stream("a", { bytes = 1000 })
    local r = box:attach { consumer = "bot" }
    box:detach(r)
    support.fill(box, s, 20)
    local view = box:view(s)
    assert.is_true(view.bytes <= 1000)
    assert.equal(20, view.dropped_total + view.frames)
    local again = box:attach { consumer = "bot" }
    local lines = support.read(box, again)
    assert.same({ connection = "a", epoch = 3, after = 0, from = require "dkjson".null,
      to = "2026-11-22T10:00:00.123Z", cause = "overflow", certain = true }, lines[2].gap)
    assert.equal(view.first_offset, lines[3].event.offset)
    assert.equal(20, lines[#lines].event.offset)
  end)

  it("tells a reader that was overtaken while attached the gap at its own place", function ()
    local s = box:stream("a", { bytes = 1000 })
    local r = box:attach { room = 400 }
    support.fill(box, s, 2)
    assert.equal("hello, 1, 2", support.got(box, r))
    box:room(r, 0)
    support.fill(box, s, 30)
    box:pump()
    box:room(r, 1e6)
    box:resume(r)
    local text = support.got(box, r)
    assert.truthy(text:find("^gap 2 overflow, "))
    assert.truthy(text:find(", 32$"))
  end)

  it("says full, and takes nothing, when it holds; and has room after an ack", function ()
    local s = box:stream("a", { bytes = 1000, hold = true })
    local r = box:attach { consumer = "bot" }
    local n = 0
    while box:append(s, '{"op":0}') do n = n + 1 end
    assert.is_true(n > 3 and n < 12)
    assert.is_false(box:has_room(s, 100))
    assert.equal(n, box:view(s).last_offset)
    assert.is_nil(box:append(s, "{}"))
    box:pump()
    box:input(r, support.ack("a", n))
    assert.is_true(box:has_room(s, 100))
    assert.equal(n + 1, box:append(s, "{}"))
    assert.equal(0, box:view(s).dropped_total)
  end)

  it("takes one frame that is larger than its whole size", function ()
    for _, hold in ipairs { true, false } do
      local s = box:stream("a" .. tostring(hold), { bytes = 1000, hold = hold })
      box:attach { consumer = "bot" .. tostring(hold) }
      assert.equal(1, box:append(s, '"' .. ("x"):rep(200000) .. '"'))
    end
  end)

  it("drops what is too old, with a gap", function ()
    local s = box:stream("a", { age = 1000 })
    local r = box:attach { consumer = "bot" }
    box:detach(r)
    box:append(s, "{}", { wall = 1795341600000 })
    box:append(s, "{}", { wall = 1795341601000 })
    box:expire(1795341601500)
    local again = box:attach { consumer = "bot" }
    assert.equal("hello, gap 0 too old, 2", support.got(box, again))
  end)

  it("drops what is too old in pieces, and tells one gap", function ()
    local s = box:stream("a", { age = 1000 })
    box:detach(box:attach { consumer = "bot" })
    for _ = 1, 5000 do box:append(s, "{}", { wall = 1795341600000 }) end
    assert.equal(1, box:expire(1795341601500, 1))
    assert.is_true(box:view(s).frames > 0 and box:view(s).frames < 5000)
    box:append(s, "{}", { wall = 1795341601500 })
    assert.equal(2, box:expire(1795341601500))
    assert.equal(1, box:view(s).frames)
    assert.equal("hello, gap 0 too old, 5001", support.got(box, box:attach { consumer = "bot" }))
    assert.equal(1, box:expire(1795341601500))
  end)

  it("looks at many streams in pieces: at each, those that come and go meanwhile too", function ()
    local all = {}
    box:detach(box:attach { consumer = "bot" })
    for i = 1, 1300 do
      all[i] = box:stream("c" .. i, { age = 1000 })
      box:append(all[i], "{}", { wall = 1795341600000 })
    end
    local function held()
      local n = 0
      for _, s in ipairs(all) do n = n + box:view(s).frames end
      return n
    end
    box:expire(1795341601500, 1)
    assert.is_true(held() > 0 and held() < 1300)
    box:remove(table.remove(all))
    box:remove(table.remove(all, 1))
    all[#all + 1] = box:stream("late", { age = 1000 })
    box:append(all[#all], "{}", { wall = 1795341600000 })
    box:expire(1795341601500)
    assert.equal(0, held() - box:view(all[#all]).frames, "the others'")
    box:expire(1795341601500)
    assert.equal(0, held())
  end)

  it("survives a wall clock that steps back", function ()
    local s = box:stream("a", { age = 1000 })
    box:attach { consumer = "bot" }
    box:append(s, "{}", { wall = 1795341600000 })
    box:expire(1795341500000)
    assert.equal(1, box:view(s).frames)
  end)

  it("keeps order and content across segments of all sizes", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    box:detach(r)
    local wanted = {}
    for i = 1, 600 do
      wanted[i] = ("x"):rep((i * 7919) % 3000) .. i
      if i % 100 == 0 then wanted[i] = ("y"):rep(150000) end
      box:append(s, '"' .. wanted[i] .. '"')
    end
    local again = box:attach { consumer = "bot" }
    local lines = support.read(box, again)
    assert.equal(601, #lines)
    for i = 1, 600 do
      assert.equal(i, lines[i + 1].event.offset)
      assert.equal(wanted[i], lines[i + 1].event.frame)
    end
  end)

  -- Its segments grew with every one that it took, to 64 KB, whatever it held.
  it("takes as much memory as it holds, not as much as it ever carried", function ()
    if (os.getenv "HOLDFAST_BUILD" or ""):find "asan" then return pending "the sanitizer keeps what is given back" end
    local function resident()
      return tonumber(io.open("/proc/self/statm"):read("*a"):match "^%d+ (%d+)") * 4096
    end
    local streams, frame = {}, '"' .. ("x"):rep(400) .. '"'
    for i = 1, 300 do streams[i] = box:stream("s" .. i) end
    local bot = box:attach { consumer = "bot" }
    local before = resident()
    for round = 1, 200 do
      for i = 1, 300 do box:append(streams[i], frame) end
      box:pump()
      box:read(bot)
      for i = 1, 300 do box:input(bot, support.ack("s" .. i, round - 2)) end
    end
    assert.equal(2, box:view(streams[1]).frames)
    assert.is_true(resident() - before < 8 * 1048576, "grew by " .. resident() - before)
  end)

  it("gives memory back that nobody needed for two looks, in pieces, and then asks for no more of them", function ()
    local function resident()
      return tonumber(io.open("/proc/self/statm"):read("*a"):match "^%d+ (%d+)") * 4096
    end
    local s = box:stream("a", { age = 1000, bytes = 64 * 1048576 })
    box:detach(box:attach { consumer = "bot" })
    local frame = '"' .. ("x"):rep(60000) .. '"'
    for _ = 1, 400 do box:append(s, frame, { wall = 1795341600000 }) end
    local full = resident()
    assert.same({ false, false }, { box:rest() }) -- none is free
    box:expire(1795341700000)
    assert.equal(0, box:view(s).frames)
    local pieces, seen = 0, {}
    for look = 1, 40 do
      local more, wanted = box:rest()
      pieces = pieces + (more and 1 or 0)
      seen[look] = wanted
      if not wanted then break end
    end
    assert.is_true(seen[1], "a second look is wanted: what is free now may be taken again at once")
    assert.is_true(pieces >= 10 and pieces <= 13, pieces .. " pieces of 2 MiB of 24")
    assert.is_false(seen[#seen])
    assert.is_true(full - resident() > 18 * 1048576, (full - resident()) .. " bytes went back")
  end)

  it("does not let states of a flapping connection push out frames", function ()
    local s = box:stream("a", { bytes = 4000 })
    local holder = box:attach { consumer = "holder" }
    box:detach(holder)
    local tail = box:attach {}
    support.fill(box, s, 10)
    box:pump()
    for _ = 1, 200 do
      box:state(s, "waiting")
      box:pump()
      box:state(s, "up")
      box:pump()
    end
    assert.equal(10, box:view(s).frames)
    assert.equal(0, box:view(s).dropped_total)
    local _, count = support.got(box, tail):gsub("state", "")
    assert.equal(400, count)
  end)

  it("passes on what it accepted before it is removed", function ()
    local s = box:stream "a"
    local r = box:attach {}
    support.fill(box, s, 2)
    box:remove(s)
    assert.equal("hello, 1, 2", support.brief(support.lines((box:read(r)))))
  end)
end)

describe("the store in memory", function ()
  it("answers each ticket once, at the next poll, and what was asked from inside at the one after", function ()
    local first, second, idle_before, idle_after, kind = deliver.store(200)
    assert.equal(199, #first) -- ticket 0 wants no answer
    assert.same({ 1, 199 }, { first[1], first[199] })
    assert.same({ 999 }, second)
    assert.is_false(idle_before)
    assert.is_true(idle_after)
    assert.equal("memory", kind)
  end)
end)
