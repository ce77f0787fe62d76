local frame = require "unit.frame_json"
local reference = require "json_reference"

local by = frame.rules { fields = { { "kind", "t" }, { "id", "d.id" } }, by = { "kind", "id" } }

describe("a key", function()
  local d = frame.dedupe(10, 1000, 42)
  local function key(text) return d:key(by, text) end

  it("is the same for the same values, however they are written", function()
    assert.equal(key '{"t":"A","d":{"id":10}}', key '{"d":{"x":1,"id":1e1},"t":"\\u0041"}')
    assert.equal(key [[{"t":"\ud83d\ude00","d":{"id":"a\/b"}}]], key '{"t":"😀","d":{"id":"a/b"}}')
  end)

  it("differs when a value, its kind or the border between two differs", function()
    local all = { '{"t":"A","d":{"id":10}}', '{"t":"A","d":{"id":"10"}}', '{"t":"A","d":{"id":11}}', '{"t":"B","d":{"id":10}}', '{"t":"A1","d":{"id":"0"}}', '{"t":"A10","d":{"id":""}}',
      '{"t":"","d":{"id":"A10"}}', '{"t":"A","d":{"id":true}}', '{"t":"A","d":{"id":false}}', '{"t":"A","d":{"id":[10]}}', '{"t":"A","d":{"id":10.5}}', '{"t":10,"d":{"id":"A"}}' }
    for kind = 0, 9 do -- whatever number marks a string inside the hash
      all[#all + 1] = ('{"t":"A\\u000%d","d":{"id":"B"}}'):format(kind)
      all[#all + 1] = ('{"t":"A","d":{"id":"\\u000%dB"}}'):format(kind)
    end
    local seen = {}
    for _, text in ipairs(all) do
      local k = key(text)
      assert.is_nil(seen[k], text)
      seen[k] = text
    end
  end)

  it("does not exist when a field is absent or null, or none is named", function()
    assert.is_nil(key '{"t":"A"}')
    assert.is_nil(key '{"t":null,"d":{"id":1}}')
    assert.is_nil(key '{"d":{"id":1}}')
    assert.is_nil(d:key(frame.rules { fields = { { "kind", "t" } } }, '{"t":"A"}'))
  end)

  it("depends on the seed", function()
    local text = '{"t":"A","d":{"id":10}}'
    assert.not_equal(key(text), frame.dedupe(10, 1000, 43):key(by, text))
    assert.equal(key(text), frame.dedupe(99, 9, 42):key(by, text))
  end)
end)

describe("SipHash-2-4 with 128 bits", function()
  local vectors = {
    [0] = "a3817f04ba25a8e66df67214c7550293",
    [1] = "da87c1d86b99af44347659119b22fc45",
    [7] = "a1f1ebbed8dbc153c0b84aa61ff08239",
    [8] = "3b62a9ba6258f5610f83e264f31497b4",
    [15] = "5493e99933b0a8117e08ec0f97cfc3d9",
    [16] = "6ee2a4ca67b054bbfd3315bf85230577",
    [63] = "5150d1772f50834a503e069a973fbd7c",
  }

  it("yields the reference's values", function()
    for n, hex in pairs(vectors) do
      local bytes = {}
      for i = 1, n do bytes[i] = string.char(i - 1) end
      assert.equal(hex, frame.siphash(table.concat(bytes)), n .. " bytes")
    end
  end)

  it("does not depend on how the bytes are cut", function()
    local text = ("0123456789abcdef"):rep(3)
    local whole = frame.siphash(text)
    for i = 0, #text do
      for j = i, #text, 5 do assert.equal(whole, frame.siphash(text:sub(1, i), text:sub(i + 1, j), text:sub(j + 1))) end
    end
  end)
end)

describe("seen keys", function()
  it("are known for over_ms, this one included, with the original's offset", function()
    local d = frame.dedupe(10, 1000, 1)
    assert.is_nil(d:seen(1, 5000))
    d:add(1, 5000, 77)
    assert.equal(77, d:seen(1, 5000))
    assert.equal(77, d:seen(1, 6000))
    assert.is_nil(d:seen(1, 6001))
    assert.is_nil(d:seen(2, 5000))
  end)

  it("are still known when the clock steps back", function()
    local d = frame.dedupe(10, 1000, 1)
    d:add(1, 5000, 7)
    assert.equal(7, d:seen(1, 10))
    d:add(2, 10, 8)
    assert.equal(7, d:seen(1, 10))
  end)

  it("give way oldest first beyond `most`", function()
    local d = frame.dedupe(3, 1e9, 1)
    for key = 1, 5 do d:add(key, key, key * 10) end
    assert.equal(3, d:count())
    assert.is_nil(d:seen(1, 5))
    assert.is_nil(d:seen(2, 5))
    for key = 3, 5 do assert.equal(key * 10, d:seen(key, 5)) end
  end)

  it("become the newest when they are added again, and count once", function()
    local d = frame.dedupe(3, 1e9, 1)
    for key = 1, 3 do d:add(key, key, key) end
    d:add(1, 4, 100)
    assert.equal(3, d:count())
    d:add(4, 5, 4)
    assert.equal(100, d:seen(1, 5))
    assert.is_nil(d:seen(2, 5))
  end)

  it("do not stay past their age once others come", function()
    local d = frame.dedupe(100, 1000, 1)
    for key = 1, 50 do d:add(key, 0, key) end
    d:add(99, 1001, 1)
    assert.equal(1, d:count())
  end)

  it("of a set without room are never remembered", function()
    local d = frame.dedupe(0, 1000, 1)
    d:add(1, 0, 1)
    assert.equal(0, d:count())
    assert.is_nil(d:seen(1, 0))
  end)

  it("agree with a plain list over a long random run, through growth, collisions and eviction", function()
    for _, most in ipairs { 1, 2, 15, 16, 17, 33, 100 } do
      local draw, d, list, now, over = reference.random(most), frame.dedupe(most, 60, 9), {}, 1000, 60
      for step = 1, 4000 do
        now = now + draw(0, 3)
        local key = draw(1, most * 2 + 3)
        local at
        for i, e in ipairs(list) do if e.key == key then at = i end end
        local known = at and now - list[at].at <= over and list[at].offset or nil
        assert.equal(known, d:seen(key, now))
        if draw(1, 3) > 1 then
          if at then
            table.remove(list, at)
          else
            while list[1] and (now - list[1].at > over or #list >= most) do table.remove(list, 1) end
          end
          table.insert(list, { key = key, at = now, offset = step })
          d:add(key, now, step)
        end
        assert.equal(#list, d:count())
      end
    end
  end)
end)
