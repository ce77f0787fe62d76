local frame = require "unit.frame_path"

local rules = frame.rules { fields = { { "id", "id" }, { "d", "d" }, { "seq_1", "s" } }, send_max = 60 }

describe("an acknowledgement template", function()
  it("takes each field as raw JSON: strings with quotes and escapes, numbers exactly, whole objects", function()
    local message = '{"id":"a\\"\\u00e9","d":{"x":[1,null]},"s":9007199254740993}'
    assert.equal('{"ack":"a\\"\\u00e9"}', frame.ack(rules, '{"ack":"@id"}', message))
    assert.equal('{"ack":9007199254740993}', frame.ack(rules, '{"ack":"@seq_1"}', message))
    assert.equal('{"ack":{"x":[1,null]},"id":"a\\"\\u00e9"}', frame.ack(rules, '{"ack":"@d","id":"@id"}', message))
    assert.equal('["a\\"\\u00e9"]', frame.ack(rules, '["@id"]', message))
    assert.equal("9007199254740993", frame.ack(rules, '"@seq_1"', message))
    for _, value in ipairs { "null", "true", "false", "1.50", '""', "[]" } do
      assert.equal("[" .. value .. "]", frame.ack(rules, '["@id"]', '{"id":' .. value .. "}"))
    end
  end)

  it("is copied as it is where it names no field", function()
    for _, template in ipairs { "{}", '{"a":"id"}', '{"a":"x@id"}', '{"a":"@id "}', '{"a":"@"}', '{"a":"@@id"}', '{"a":"\\"@id"}', '{"a":"\\"\\"@id"}', '{"a":"\\\\\\"@id"}', '{"a":"@id\\""}', '["\\\\",1]' } do
      assert.equal(template, frame.ack(rules, template, '{"id":"v"}'))
    end
    assert.equal('["\\\\","v"]', frame.ack(rules, '["\\\\","@id"]', '{"id":"v"}'))
  end)

  it("yields nothing, and leaves nothing behind, when a field is absent or unknown", function()
    assert.same({ nil, "before" }, { frame.ack(rules, '{"a":"@id","b":"@d"}', '{"id":"v"}', 0, "before") })
    assert.same({ nil, "before" }, { frame.ack(rules, '{"a":"@nobody"}', '{"id":"v"}', 0, "before") })
  end)

  it("yields nothing over the limit of a frame or of the buffer", function()
    local function of(n) return ('{"id":"%s"}'):format(("v"):rep(n)) end
    assert.equal(60, #frame.ack(rules, '{"ack":"@id"}', of(50)))
    assert.is_nil((frame.ack(rules, '{"ack":"@id"}', of(51))))
    assert.is_nil((frame.ack(rules, '{"ack":"@id"}', '{"id":"12345"}', 10)))
    assert.same({ nil, "123" }, { frame.ack(rules, '{"ack":"@id"}', '{"id":"12345"}', 17, "123") })
    assert.equal('123{"ack":"12345"}', frame.ack(rules, '{"ack":"@id"}', '{"id":"12345"}', 18, "123"))
  end)

  it("is checked when a policy loads: JSON, and every name a field", function()
    assert.same({ true, "" }, { frame.ack_check(rules, '{"ack":"@id","x":["@d","@seq_1","plain"]}') })
    assert.same({ false, "idd" }, { frame.ack_check(rules, '{"ack":"@id","b":"@idd"}') })
    assert.same({ false, "" }, { frame.ack_check(rules, '{"ack":"@id"') })
    assert.same({ false, "" }, { frame.ack_check(rules, "") })
    assert.same({ false, ("n"):rep(31) }, { frame.ack_check(rules, '"@' .. ("n"):rep(100) .. '"') })
  end)
end)
