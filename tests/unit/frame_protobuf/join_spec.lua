-- Messages in parts: order, bounds, expiry by a clock that the caller holds.
local protobuf = require "unit.frame_protobuf"

local j
before_each(function () j = protobuf.join(10000, 256, 65536) end)

describe("parts", function ()
  it("in any order are joined in the order of their index", function ()
    assert.equal("held", j:add("m", 2, 3, "c", 0))
    assert.equal("held", j:add("m", 0, 3, "a", 1))
    local result, whole = j:add("m", 1, 3, "b", 2)
    assert.equal("complete", result)
    assert.equal("abc", whole)
    assert.equal(0, j:counts().messages)
    assert.equal(0, j:counts().bytes)
  end)

  it("that are empty count as received", function ()
    j:add("m", 0, 3, "a", 0)
    j:add("m", 1, 3, "", 0)
    local result, whole = j:add("m", 2, 3, "c", 0)
    assert.equal("complete", result)
    assert.equal("ac", whole)
    assert.equal("held", j:add("n", 0, 2, "", 0))
    assert.same({ "complete", "" }, { j:add("n", 1, 2, "", 0) })
  end)

  it("of several messages do not mix", function ()
    j:add("a", 0, 2, "1", 0)
    j:add("b", 1, 2, "4", 0)
    assert.same({ "complete", "34" }, { j:add("b", 0, 2, "3", 0) })
    assert.same({ "complete", "12" }, { j:add("a", 1, 2, "2", 0) })
  end)

  it("that come twice count once, and the first stays", function ()
    j:add("m", 0, 2, "a", 0)
    assert.equal("held", j:add("m", 0, 2, "x", 0))
    assert.same({ "complete", "ab" }, { j:add("m", 1, 2, "b", 0) })
  end)

  it("that make no sense are refused and counted, and harm no others", function ()
    j:add("m", 0, 2, "a", 0)
    for _, case in ipairs { { 5, 2 }, { 2, 2 }, { 0, 0 }, { 0, -1 }, { -1, 2 }, { 0, 257 }, { 0, 1000000 } } do
      assert.equal("refused", j:add("x", case[1], case[2], "z", 0))
    end
    assert.equal("refused", j:add(("k"):rep(129), 0, 2, "z", 0))
    assert.equal(8, j:counts().refused)
    assert.equal(1, j:counts().messages)
    assert.same({ "complete", "ab" }, { j:add("m", 1, 2, "b", 0) })
  end)

  it("with another count begin their message anew", function ()
    j:add("m", 0, 3, "old", 0)
    assert.equal("held", j:add("m", 1, 2, "b", 1))
    assert.same({ "complete", "ab" }, { j:add("m", 0, 2, "a", 2) })
  end)

  it("256 of them are one message", function ()
    for i = 255, 1, -1 do assert.equal("held", j:add("m", i, 256, string.char(i), 0)) end
    local result, whole = j:add("m", 0, 256, "\0", 0)
    assert.equal("complete", result)
    for i = 0, 255 do assert.equal(i, whole:byte(i + 1)) end
  end)
end)

describe("an unfinished message", function ()
  it("is forgotten its time after the first part, however late the others came", function ()
    j:add("m", 0, 3, "a", 1000)
    j:add("m", 1, 3, "b", 10999)
    assert.equal("held", j:add("m", 2, 3, "c", 11000)) -- alone in a new message
    assert.equal(1, j:counts().expired)
    assert.equal("held", j:add("m", 0, 3, "a", 11001))
    assert.same({ "complete", "abc" }, { j:add("m", 1, 3, "b", 20999) })
  end)

  it("is forgotten also when nothing of its kind follows", function ()
    j:add("m", 0, 2, ("x"):rep(1000), 0)
    j:expire(9999)
    assert.equal(1, j:counts().messages)
    j:expire(10000)
    assert.same({ messages = 0, bytes = 0, refused = 0, expired = 1, displaced = 0 }, j:counts())
  end)

  it("gives way, oldest first, to those that need its room", function ()
    j:add("old", 0, 2, ("x"):rep(40000), 0)
    j:add("new", 0, 2, ("y"):rep(20000), 1)
    assert.equal("held", j:add("third", 0, 2, ("z"):rep(30000), 2))
    assert.equal(1, j:counts().displaced)
    assert.equal(2, j:counts().messages)
    assert.equal("complete", (j:add("new", 1, 2, "", 3)))
  end)

  it("that can never fit is refused, and takes none with it", function ()
    j:add("small", 0, 2, "x", 0)
    assert.equal("refused", j:add("m", 0, 2, ("x"):rep(65537), 0))
    j:add("big", 0, 2, ("x"):rep(60000), 0)
    assert.equal("refused", j:add("big", 1, 2, ("x"):rep(6000), 0))
    assert.equal(0, j:counts().displaced)
    assert.same({ "complete", "xy" }, { j:add("small", 1, 2, "y", 0) })
  end)

  it("is one of 64 at most", function ()
    for i = 1, 100 do j:add("m" .. i, 0, 2, "x", i) end
    assert.equal(64, j:counts().messages)
    assert.equal(36, j:counts().displaced)
    assert.equal("held", (j:add("m36", 1, 2, "y", 200)))
    assert.equal("complete", (j:add("m100", 1, 2, "y", 200)))
  end)

  it("is told by the whole of its key, also by one that is empty", function ()
    j:add("", 0, 2, "a", 0)
    j:add("a", 0, 2, "c", 0)
    assert.same({ "complete", "ab" }, { j:add("", 1, 2, "b", 0) })
  end)
end)
