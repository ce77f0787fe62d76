local deliver = require "unit.deliver"
local support = require "deliver_support"

describe("a pump", function ()
  local box
  after_each(function () box:close() end)

  it("writes many lines at once", function ()
    box = deliver.new {}
    local s = box:stream "a"
    local r = box:attach {}
    box:read(r)
    for _ = 1, 100 do box:append(s, '{"op":0}') end
    box:pump()
    local text, writes = box:read(r)
    assert.equal(100, #support.lines(text))
    assert.is_true(writes <= 6, "writes: " .. writes)
  end)

  it("has something to do exactly while a reader that takes lines has not got all", function ()
    box = deliver.new {}
    local s = box:stream "a"
    assert.is_false(box:pump())
    local r = box:attach { room = 100 }
    assert.is_false(box:pump())
    box:append(s, "{}")
    assert.is_true(box:pump())  -- the sink refuses
    assert.is_false(box:pump()) -- blocked: nothing to do until it resumes
    box:append(s, "{}")
    assert.is_false(box:pump())
    box:room(r, 1000)
    box:resume(r)
    assert.is_true(box:pump())
    assert.is_false(box:pump())
    assert.equal("hello, 1, 2", support.brief(support.lines((box:read(r)))))
  end)

  it("detaches only the slow reader, and later catches it up from the backlog", function ()
    box = deliver.new { consumer_bytes = 20000 }
    local s = box:stream "a"
    local slow, fast = box:attach { consumer = "slow", room = 500 }, box:attach { consumer = "fast" }
    local frame = '"' .. ("x"):rep(900) .. '"'
    for _ = 1, 60 do
      box:append(s, frame)
      box:pump()
    end
    assert.truthy(box:detached(slow):find "too slow")
    assert.is_nil(box:detached(fast))
    assert.equal(61, #support.lines((box:read(fast))))
    local again = box:attach { consumer = "slow" }
    assert.equal(61, #support.read(box, again))
    assert.equal(0, box:view(s).gaps_total)
  end)

  it("does not call a reader slow that is only catching up", function ()
    box = deliver.new { consumer_bytes = 20000 }
    local s = box:stream "a"
    box:detach(box:attach { consumer = "bot" })
    local frame = '"' .. ("x"):rep(900) .. '"'
    for _ = 1, 200 do box:append(s, frame) end
    local r = box:attach { consumer = "bot", room = 70000 }
    local count = 0
    for _ = 1, 40 do
      box:pump()
      count = count + #support.lines((box:read(r)))
      box:room(r, 70000)
      box:resume(r)
      box:append(s, frame)
    end
    box:pump()
    count = count + #support.lines((box:read(r)))
    assert.is_nil(box:detached(r))
    assert.equal(241, count)
  end)

  it("holds frames for a blocked anonymous reader no longer than its queue", function ()
    box = deliver.new { consumer_bytes = 20000 }
    local s = box:stream "a"
    local named, tail = box:attach { consumer = "bot" }, box:attach { room = 100 }
    local frame = '"' .. ("x"):rep(900) .. '"'
    for i = 1, 60 do
      box:append(s, frame)
      box:pump()
      box:input(named, support.ack("a", i))
    end
    assert.truthy(box:detached(tail):find "too slow")
    assert.equal(0, box:view(s).frames)
  end)

  it("serves ten thousand quiet streams without looking at them", function ()
    box = deliver.new {}
    local streams = {}
    for i = 1, 10000 do streams[i] = box:stream("c" .. i) end
    local r = box:attach { consumer = "all" }
    support.got(box, r)
    local start = os.clock()
    for i = 1, 2000 do
      box:append(streams[i], "{}")
      box:pump()
      box:input(r, support.ack("c" .. i, 1))
    end
    assert.equal(2000, #support.lines((box:read(r))))
    assert.is_true(os.clock() - start < 20) -- a scan of all would take minutes
  end)
end)
