local deliver = require "unit.deliver"
local support = require "deliver_support"

describe("a keeper", function ()
  local box, disk
  before_each(function ()
    box, disk = deliver.new { epoch = 3, keeps = true, wall = 1795341600000 }, support.disk()
  end)
  after_each(function () box:close() end)
  local function told() return disk:take(box) end

  it("is told each frame and each gap with its finished line, and no state", function ()
    local s = box:stream "a"
    local r = box:attach {}
    told()
    box:append(s, '{"op":0}')
    box:state(s, "up")
    box:gap(s, "session lost", false)
    box:append(s, '{"op":1}')
    box:pump()
    assert.equal("frame a 3 1, gap a 3 1, frame a 3 2", told())
    local lines = {}
    for line in box:read(r):gmatch "[^\n]+" do
      if not line:find("^{\"[hs]") then lines[#lines + 1] = line end
    end
    for i, op in ipairs(disk.ops) do assert.equal(lines[i], op[6]) end
  end)

  it("is told a consumer when it attaches and detaches, with its patterns, and that it is gone", function ()
    box:stream "a"
    local r = box:attach { consumer = "bot", connection = { "a", 'b"*' } }
    assert.equal("consumer bot", told())
    assert.equal('["a","b\\"*"]', disk.ops[1][4])
    box:expire(1795341605000)
    box:detach(r)
    assert.equal("consumer bot", told())
    assert.equal("1795341605000", disk.ops[2][3])
    box:attach { consumer = "bot" }
    assert.equal("consumer bot", told())
    assert.equal("[]", disk.ops[3][4])
    box:attach { consumer = "bot" } -- the first is detached, the second attached
    assert.equal("consumer bot, consumer bot", told())
    box:attach {}
    assert.equal("", told())
    assert.is_true(box:forget "bot")
    assert.equal("consumer bot, gone bot", told())
  end)

  it("hears nothing of a name whose first attachment failed", function ()
    box:stream "a"
    assert.is_nil((box:attach { consumer = "bot", room = 3 }))
    assert.equal("", told())
  end)

  it("hears again of a consumer that stays attached, once an hour", function ()
    box:attach { consumer = "bot" }
    told()
    box:expire(1795341600000 + 3600000)
    assert.equal("", told())
    box:expire(1795341600000 + 3600001)
    assert.equal("consumer bot", told())
  end)

  it("hears that a consumer's age is over", function ()
    box:detach(box:attach { consumer = "bot" })
    told()
    box:expire(1795341600000 + 7 * 24 * 3600000 + 1)
    assert.equal("gone bot", told())
  end)

  it("gets one cursor for many acks, with the next pump, and none for acks that move nothing", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 10)
    box:pump()
    told()
    for i = 1, 9 do box:input(r, support.ack("a", i)) end
    assert.equal("", told())
    assert.is_true(box:pump())
    assert.equal("cursor bot a 3 9", told())
    box:input(r, support.ack("a", 4) .. support.ack("a", 9))
    assert.is_false(box:pump())
    assert.equal("", told())
  end)

  it("gets a new consumer's cursor at once where there are frames, and none of an anonymous one", function ()
    local a = box:stream "a"
    box:stream "b"
    support.fill(box, a, 4)
    told()
    box:attach { consumer = "bot", from = "now" }
    assert.equal("consumer bot, cursor bot a 3 4", told())
    box:attach { from = "start" }
    box:pump()
    assert.equal("", told())
  end)

  it("gets few trims: one for at least 64 frames, smaller ones once a second, each after its cursors", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 200)
    box:pump()
    told()
    box:input(r, support.ack("a", 63))
    box:pump()
    assert.equal("cursor bot a 3 63", told())
    box:input(r, support.ack("a", 64))
    box:pump()
    assert.equal("cursor bot a 3 64, trim a 3 64", told())
    box:input(r, support.ack("a", 70))
    box:pump()
    assert.equal("cursor bot a 3 70", told())
    box:input(r, support.ack("a", 71))
    box:expire(1795341601000)
    assert.equal("cursor bot a 3 71, trim a 3 71", told())
    box:expire(1795341602000)
    assert.equal("", told())
  end)

  it("gets the trims of many streams in pieces, each once", function ()
    local r = box:attach { consumer = "bot" }
    for i = 1, 700 do
      local s = box:stream("c" .. i)
      support.fill(box, s, 1)
    end
    box:pump()
    for i = 1, 700 do box:input(r, support.ack("c" .. i, 1)) end
    box:pump()
    told()
    local pieces, trims = box:expire(1795341601000), 0
    for _ in told():gmatch "trim c%d+ 3 1" do trims = trims + 1 end
    assert.equal(700, trims)
    assert.is_true(pieces > 1)
  end)

  it("gets a trim for few but large frames too, and of several streams first those with much", function ()
    local a, b = box:stream "a", box:stream "b"
    local r = box:attach { consumer = "bot" }
    support.fill(box, a, 3)
    for _ = 1, 3 do box:append(b, '"' .. ("x"):rep(100000) .. '"') end
    box:pump()
    told()
    box:input(r, support.ack("a", 3) .. support.ack("b", 3))
    box:pump()
    assert.equal("cursor bot b 3 3, cursor bot a 3 3, trim b 3 3", told())
    box:expire(1795341601000)
    assert.equal("trim a 3 3", told())
  end)

  it("keeps the frame before a gap that is not acknowledged", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 3)
    box:gap(s, "session lost", false)
    box:pump()
    told()
    box:input(r, support.ack("a", 3))
    box:expire(1795341601000)
    assert.equal("cursor bot a 3 3, trim a 3 2", told())
    support.fill(box, s, 1)
    box:pump()
    box:input(r, support.ack("a", 4))
    box:expire(1795341602000)
    assert.equal("frame a 3 4, cursor bot a 3 4, trim a 3 4", told())
  end)

  it("hears of frames that were dropped over size and age, as trims", function ()
    local s = box:stream("a", { bytes = 1000, age = 1000 })
    box:detach(box:attach { consumer = "bot" })
    support.fill(box, s, 20)
    told()
    box:expire(1795341600124)
    local first = box:view(s).first_offset
    assert.equal("trim a 3 " .. first - 1, told())
    box:expire(1795341700000)
    assert.equal("trim a 3 20", told())
  end)

  it("hears of a removed connection's frames only when nobody needs them any more", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 3)
    box:remove(s)
    assert.equal("hello, 1, 2, 3", support.brief(support.lines((box:read(r)))))
    told()
    box:expire(1795341601000)
    assert.equal("", told())
    box:input(r, support.ack("a", 3))
    box:expire(1795341602000)
    assert.equal("cursor bot a 3 3, trim a 3 3", told())
    box:stream "b" -- an offset of the removed one is not used again
    s = box:stream "a"
    assert.equal("cursor bot b 3 3, cursor bot a 3 3", told())
    assert.equal(4, support.fill(box, s, 1))
  end)

  it("hears nothing after it was taken away, and nothing of the end", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    support.fill(box, s, 100)
    box:pump()
    told()
    box:input(r, support.ack("a", 99))
    box:unkeep()
    box:pump()
    box:remove(s)
    box:expire(1795341601000)
    assert.equal("", told())
  end)

  it("is told nothing per frame but the frame", function ()
    local s = box:stream "a"
    local r = box:attach { consumer = "bot" }
    told()
    for i = 1, 1000 do
      support.fill(box, s, 1)
      box:pump()
      if i % 100 == 0 then box:input(r, support.ack("a", i)) end
    end
    local _, frames = told():gsub("frame", "")
    assert.equal(1000, frames)
    assert.equal(1000 + 9 + 9, #disk.ops - 1 + 0)
  end)
end)
