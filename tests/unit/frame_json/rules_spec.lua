local frame = require "unit.frame_json"

local FIELDS = { { "op", "op" }, { "kind", "t" }, { "ok", "d.ok" }, { "id", "d.id" } }

local function rules(lists)
  lists.fields = FIELDS
  return frame.rules(lists)
end

local function matches(matchers, text)
  return frame.match(rules { deliver = matchers }, text).deliver
end

describe("a matcher", function()
  it("matches when any value of a list fits", function()
    local m = { { op = { { 3, 3 }, { 7, 9 } } } }
    for op = 0, 12 do
      assert.equal(op == 3 or (op >= 7 and op <= 9), matches(m, '{"op":' .. op .. "}"))
    end
  end)

  it("matches when all of its fields fit, in whatever order they come", function()
    local m = { { op = { { 0, 0 } }, kind = { "READY", "RESUMED" } } }
    assert.is_true(matches(m, '{"op":0,"t":"READY"}'))
    assert.is_true(matches(m, '{"t":"RESUMED","op":0}'))
    assert.is_false(matches(m, '{"op":0,"t":"OTHER"}'))
    assert.is_false(matches(m, '{"op":1,"t":"READY"}'))
    assert.is_false(matches(m, '{"op":0}'))
    assert.is_false(matches(m, "{}"))
  end)

  it("is one of several: any one is enough", function()
    local m = { { op = { { 1, 1 } } }, { kind = { "X" } } }
    assert.is_true(matches(m, '{"op":1}'))
    assert.is_true(matches(m, '{"op":2,"t":"X"}'))
    assert.is_false(matches(m, '{"op":2,"t":"Y"}'))
  end)

  it("matches nothing when the list is empty and everything without fields", function()
    assert.is_false(matches({}, '{"op":1}'))
    assert.is_true(matches({ {} }, '{"op":1}'))
    assert.is_true(matches({ {} }, "17"))
  end)

  it("takes both ends of a range, over all of 64 bits", function()
    local m = { { op = { { "-9223372036854775808", "-9223372036854775807" }, { "9007199254740993", "9007199254740993" } } } }
    assert.is_true(matches(m, '{"op":-9223372036854775808}'))
    assert.is_true(matches(m, '{"op":-9223372036854775807}'))
    assert.is_false(matches(m, '{"op":-9223372036854775806}'))
    assert.is_true(matches(m, '{"op":9007199254740993}'))
    assert.is_false(matches(m, '{"op":9007199254740992}'))
    assert.is_false(matches(m, '{"op":9007199254740994}'))
    assert.is_true(matches({ { op = { { 1000, 1000 } } } }, '{"op":1e3}'))
  end)

  it("does not take a string for a number, nor a number for a string", function()
    assert.is_false(matches({ { op = { { 5, 5 } } } }, '{"op":"5"}'))
    assert.is_false(matches({ { op = { "5" } } }, '{"op":5}'))
    assert.is_false(matches({ { op = { { 0, 9 } } } }, '{"op":5.5}'))
    assert.is_false(matches({ { op = { { 0, 1 } } } }, '{"op":true}'))
  end)

  it("compares strings with escapes decoded", function()
    assert.is_true(matches({ { kind = { "a/b\n" } } }, [[{"t":"a\/b\u000a"}]]))
    assert.is_true(matches({ { kind = { "😀" } } }, [[{"t":"\ud83d\ude00"}]]))
    assert.is_true(matches({ { kind = { "" } } }, '{"t":""}'))
    assert.is_false(matches({ { kind = { "a\\n" } } }, [[{"t":"a\n"}]]))
  end)

  it("tells true, false, null, there and not there apart", function()
    local function m(want) return { { ok = { want } } } end
    for text, expected in pairs {
      ['{"d":{"ok":true}}'] = { yes = true, present = true },
      ['{"d":{"ok":false}}'] = { no = true, present = true },
      ['{"d":{"ok":null}}'] = { null = true },
      ['{"d":{"ok":{}}}'] = { present = true },
      ['{"d":{}}'] = {},
    } do
      assert.equal(expected.yes or false, matches(m(true), text), text)
      assert.equal(expected.no or false, matches(m(false), text), text)
      assert.equal(expected.null or false, matches(m { null = true }, text), text)
      assert.equal(expected.present or false, matches(m { present = true }, text), text)
    end
  end)
end)

describe("rules", function()
  it("ask each list by itself", function()
    local r = rules { deliver = { { op = { { 0, 0 } } } }, inspect = { { op = { { 7, 9 } } } }, beat_asked = { { op = { { 1, 1 } } } },
      beat_answer = { { op = { { 11, 11 } } } }, accept = { { op = { { 3, 4 } } } }, start = { { op = { { 2, 2 } } } } }
    local expected = { [0] = "deliver", [1] = "beat_asked", [2] = "start", [3] = "accept", [4] = "accept", [7] = "inspect", [8] = "inspect", [9] = "inspect", [11] = "beat_answer" }
    for op = 0, 12 do
      local m = frame.match(r, '{"op":' .. op .. "}")
      for _, name in ipairs { "deliver", "inspect", "beat_asked", "beat_answer", "accept", "start" } do
        assert.equal(expected[op] == name, m[name], name .. " " .. op)
      end
      assert.equal(-1, m.ends)
    end
  end)

  it("take the first row of `ends` that matches", function()
    local r = rules { ends = { { { op = { { 7, 7 } } } }, { { op = { { 9, 9 } }, ok = { true } }, { op = { { 8, 8 } } } }, { { op = { { 7, 9 } } } } } }
    assert.equal(0, frame.match(r, '{"op":7}').ends)
    assert.equal(1, frame.match(r, '{"op":9,"d":{"ok":true}}').ends)
    assert.equal(1, frame.match(r, '{"op":8}').ends)
    assert.equal(2, frame.match(r, '{"op":9,"d":{"ok":false}}').ends)
    assert.equal(-1, frame.match(r, '{"op":10}').ends)
  end)
end)

describe("rows of acknowledgements", function()
  local NONE, EARLY, THROUGH = 0, 1, 2

  it("are tried in order, and one without a matcher is for every frame", function()
    local r = rules { acks = {
      { on = { { op = { { 1, 1 } } }, { kind = { "X" } } }, when = THROUGH },
      { on = { { op = { { 1, 9 } } } }, when = EARLY },
      { when = THROUGH },
    } }
    assert.equal(0, frame.match(r, '{"op":1}').ack)
    assert.equal(0, frame.match(r, '{"op":5,"t":"X"}').ack)
    assert.equal(1, frame.match(r, '{"op":5,"t":"Y"}').ack)
    assert.equal(2, frame.match(r, '{"op":10}').ack)
    assert.equal(2, frame.match(r, "{}").ack)
  end)

  it("say nothing of what no row matches, and of what a row of `none` matches first", function()
    local r = rules { acks = { { on = { { op = { { 1, 1 } } } }, when = NONE }, { on = { { op = { { 1, 9 } } } }, when = EARLY } } }
    assert.is_nil(frame.match(r, '{"op":1}').ack)
    assert.equal(1, frame.match(r, '{"op":2}').ack)
    assert.is_nil(frame.match(r, '{"op":10}').ack)
    assert.is_nil(frame.match(rules {}, '{"op":1}').ack)
  end)
end)
