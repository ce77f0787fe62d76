local base = require "unit.base"

describe("slots", function ()
  it("find nothing under a handle whose place was used again", function ()
    local s = base.slots(4)
    local a = s:alloc(1)
    s:free(a)
    local b = s:alloc(2)
    assert.not_equal(a, b)
    assert.is_nil(s:get(a))
    assert.equal(2, s:get(b))
  end)

  it("refuse more than their limit, and serve again after a free", function ()
    local s = base.slots(3)
    local h = {}
    for i = 1, 3 do h[i] = assert(s:alloc(i)) end
    assert.is_nil(s:alloc(4))
    s:free(h[2])
    assert.is_truthy(s:alloc(5))
    assert.same({ 1, 3, 5 }, (function (l) table.sort(l) return l end)(s:list()))
  end)

  it("find nothing under handles that never were", function ()
    local s = base.slots(3)
    for _, h in ipairs { 0, 1, 2 ^ 32, 2 ^ 33 + 7, 2 ^ 52 } do assert.is_nil(s:get(h)) end
  end)

  it("keep items apart through a thousand reuses", function ()
    local s, live = base.slots(64), {}
    for i = 1, 1000 do
      if i % 3 == 0 then
        local h = next(live)
        if h then
          s:free(h)
          live[h] = nil
        end
      else
        local h = s:alloc(i)
        if h then live[h] = i end
      end
      for h, v in pairs(live) do assert.equal(v, s:get(h)) end
    end
  end)
end)

describe("a buffer", function ()
  it("takes all or nothing up to its limit", function ()
    local b = base.buffer(10)
    assert.is_true(b:append "12345678")
    assert.is_false(b:append "abc")
    assert.is_true(b:append "ab")
    assert.equal("12345678ab", (b:text()))
  end)

  it("keeps the rest when its front is consumed", function ()
    local b = base.buffer()
    b:append "abcdef"
    b:consume(4)
    b:append "x"
    assert.equal("efx", (b:text()))
  end)

  it("gives memory back only when empty and large", function ()
    local b = base.buffer()
    b:append(("x"):rep(5000))
    b:trim(100)
    assert.equal(5000, #(b:text()))
    b:consume(5000)
    b:trim(10000)
    assert.is_true(select(2, b:text()) >= 5000)
    b:trim(100)
    assert.equal(0, select(2, b:text()))
  end)
end)

describe("draws", function ()
  it("are a pure function of their four numbers", function ()
    assert.same({ base.draw(1, 2, 3, 4) }, { base.draw(1, 2, 3, 4) })
    assert.not_same({ base.draw(1, 2, 3, 4) }, { base.draw(1, 2, 4, 3) })
  end)

  it("are spread evenly and reach both ends of a range", function ()
    local sum, seen = 0, {}
    for i = 1, 10000 do
      local unit, ranged = base.draw(7, i, 0, 0)
      assert.is_true(unit >= 0 and unit < 1)
      sum = sum + unit
      seen[ranged] = (seen[ranged] or 0) + 1
    end
    assert.is_true(math.abs(sum / 10000 - 0.5) < 0.02)
    for n = 10, 19 do assert.is_true(seen[n] > 850 and seen[n] < 1150) end
    assert.is_nil(seen[9])
    assert.is_nil(seen[20])
  end)
end)

describe("a value", function ()
  it("becomes JSON with its keys in order", function ()
    assert.equal([[{"a":[1,2.5,"x"],"b":{"c":true},"n":-3}]], base.value_json { b = { c = true }, a = { 1, 2.5, "x" }, n = -3 })
  end)

  it("writes what JSON has no number for as null, and integers without an exponent", function ()
    assert.equal([[{"big":9007199254740991,"inf":null}]], base.value_json { inf = math.huge, big = 2 ^ 53 - 1 })
  end)

  it("never shows a secret's bytes", function ()
    local text = base.value_json { ["secret:token"] = "MARKED-SECRET", plain = 1 }
    assert.equal([[{"plain":1,"token":"<secret token>"}]], text)
  end)

  it("is the same in one block, and what was in it outlives the original", function ()
    local deep = { a = { 1, { "x", ("y"):rep(1000) }, {} }, ["secret:token"] = "MARKED-SECRET", nul = "a\0b", yes = true, n = -3 }
    assert.equal(base.value_json(deep), base.value_packed(deep))
    assert.equal([["x"]], base.value_packed "x")
    assert.equal("{}", base.value_packed {})
  end)

  it("compares by content, whatever the order of insertion", function ()
    assert.is_true(base.value_equal({ a = 1, b = { 1, 2 } }, { b = { 1, 2 }, a = 1 }))
    assert.is_false(base.value_equal({ a = 1 }, { a = "1" }))
    assert.is_false(base.value_equal({ a = 1 }, { a = 1, b = 2 }))
  end)

  it("loses a key that is set to nil", function ()
    assert.equal([[{"b":2}]], base.value_set({ a = 1, b = 2 }, "a", nil))
    assert.equal([[{"a":5,"b":2}]], base.value_set({ a = 1, b = 2 }, "a", 5))
  end)

  it("gives equal secrets equal fingerprints, and others others", function ()
    assert.is_true(base.same_fingerprint("abc", "abc"))
    assert.is_false(base.same_fingerprint("abc", "abd"))
  end)
end)

describe("spare blocks", function ()
  local checked = os.getenv "HOLDFAST_BUILD":find "asan" ~= nil -- where nothing is kept

  it("hold what was put into them, whatever sizes they take", function ()
    math.randomseed(7)
    local s, sizes = base.spare(), { 1, 15, 16, 17, 31, 32, 33, 300, 496, 497, 511, 512, 513, 528, 1000, 5000 }
    for _ = 1, 60000 do
      assert.is_true(s:put(math.random(0, 255), math.random(4) == 1 and 0 or sizes[math.random(#sizes)]))
    end
  end)

  it("are kept up to sixteen kilobytes of each size", function ()
    local s = base.spare()
    for place = 0, 255 do s:put(place, place < 200 and 40 or 512) end
    for place = 0, 255 do s:put(place, 0) end
    assert.equal(checked and 0 or 200, s:kept(40))
    assert.equal(checked and 0 or 32, s:kept(512))
    assert.equal(0, s:kept(16))
    for place = 0, 9 do s:put(place, 48) end
    assert.equal(checked and 0 or 190, s:kept(33))
  end)

  it("stay where they are while they become smaller, and count as smaller then", function ()
    local s = base.spare()
    s:put(1, 500)
    assert.is_true(s:put(1, 20))
    s:put(1, 0)
    assert.equal(checked and 0 or 1, s:kept(20))
    assert.equal(0, s:kept(500))
  end)

  it("above the sizes that are kept go back to the system", function ()
    local s = base.spare()
    s:put(1, 513)
    s:put(1, 0)
    s:put(2, 4000)
    assert.is_true(s:put(2, 100)) -- and one that shrinks into them is one of them
    s:put(2, 0)
    assert.equal(checked and 0 or 1, s:kept(100))
  end)
end)
