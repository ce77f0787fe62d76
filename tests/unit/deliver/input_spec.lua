local deliver = require "unit.deliver"
local support = require "deliver_support"

describe("a line from a consumer", function ()
  local box, stream, reader
  before_each(function ()
    box = deliver.new { epoch = 3 }
    stream = box:stream "a"
    reader = box:attach { consumer = "bot" }
    support.fill(box, stream, 3)
    box:pump()
    box:read(reader)
  end)
  after_each(function () box:close() end)

  local function answers(text)
    box:input(reader, text)
    return support.read(box, reader)
  end

  it("acknowledges cumulatively, and tells the port", function ()
    assert.same({}, answers(support.ack("a", 2)))
    assert.equal(1, box:view(stream).frames)
    assert.equal("acked\ta\tbot\t3\t2\n", box:orders())
    answers(support.ack("a", 1)) -- older: nothing moves
    assert.equal("", box:orders())
  end)

  it("may arrive in any pieces, several in one, with CR, empty lines between", function ()
    local text = support.ack("a", 1):gsub("\n", "\r\n") .. "\n\n" .. support.ack("a", 2)
    for i = 1, #text do box:input(reader, text:sub(i, i)) end
    assert.equal("acked\ta\tbot\t3\t1\nacked\ta\tbot\t3\t2\n", box:orders())
    assert.same({}, support.read(box, reader))
  end)

  it("of an older epoch changes nothing and is no mistake", function ()
    assert.same({}, answers(support.ack("a", 3, 2)))
    assert.equal(3, box:view(stream).frames)
  end)

  it("that acknowledges what cannot be is answered with an error", function ()
    for text, what in pairs {
      [support.ack("a", 4)] = "that frame was not delivered yet",
      [support.ack("a", 1, 4)] = "that epoch has not begun",
      [support.ack("b", 1)] = "no such connection",
      ['{"ack":{"connection":"a","epoch":3}}\n'] = "ack.offset is no count",
      ['{"ack":{"connection":"a","epoch":"3","offset":1}}\n'] = "ack.epoch is no count",
      ['{"ack":{"connection":"a","epoch":3,"offset":-1}}\n'] = "ack.offset is no count",
      ['{"ack":{"connection":"a","epoch":3,"offset":1.5}}\n'] = "ack.offset is no count",
      ['{"ack":{"connection":"a","epoch":3,"offset":1e30}}\n'] = "ack.offset is no count",
      ['{"ack":{"connection":7,"epoch":3,"offset":1}}\n'] = "ack.connection is no connection's name",
      ['{"ack":{"connection":"","epoch":3,"offset":1}}\n'] = "ack.connection is no connection's name",
      ['{"ack":{"connection":"a\\u0000","epoch":3,"offset":1}}\n'] = "ack.connection is no connection's name",
      ['{"ack":{"connection":"' .. ("a"):rep(64) .. '","epoch":3,"offset":1}}\n'] =
        "ack.connection is no connection's name",
      ['{"ack":{"connection":"a","epoch":3,"offset":1,"frame":{}}}\n'] =
        "no connection here takes a reply with its ack",
    } do
      local lines = answers(text)
      assert.equal(1, #lines)
      assert.equal(what, lines[1].error.what)
      assert.truthy(lines[1].error.expected:find("ack", 1, true))
    end
    assert.equal(3, box:view(stream).frames)
    assert.equal("", box:orders())
  end)

  it("that is not what a line may be is answered, and the next one still counts", function ()
    for text, what in pairs {
      ["hello\n"] = "the line is not JSON",
      ["{\"ack\":{}\n"] = "the line is not JSON",
      ["{\"a\0b\":1}\n"] = "the line is not JSON",
      ["\0\n"] = "the line is not JSON",
      ["\255\254\n"] = "the line is not JSON",
      ["{} {}\n"] = "the line is not JSON",
      [("["):rep(100000) .. "\n"] = "the line is not JSON",
      ["[]\n"] = "the line says nothing known",
      ["{}\n"] = "the line says nothing known",
      ["7\n"] = "the line says nothing known",
      ["\"ack\"\n"] = "the line says nothing known",
      ["{\"ack\":7}\n"] = "the line says nothing known",
      ["{\"attach\":{}}\n"] = "the line says nothing known",
      ["{\"ack\":{},\"send\":{}}\n"] = "the line says nothing known",
    } do
      local lines = answers(text)
      assert.equal(1, #lines, text)
      assert.equal(what, lines[1].error.what)
    end
    answers(support.ack("a", 3))
    assert.equal("acked\ta\tbot\t3\t3\n", box:orders())
  end)

  it("that is longer than a MiB is answered once, skipped, and costs no more memory", function ()
    local piece = ("x"):rep(100000)
    for _ = 1, 30 do box:input(reader, piece) end
    box:input(reader, "\n" .. support.ack("a", 1))
    local lines = support.read(box, reader)
    assert.equal(1, #lines)
    assert.equal("the line is too long", lines[1].error.what)
    assert.equal("acked\ta\tbot\t3\t1\n", box:orders())
  end)

  it("floods nobody: a reader that asks for errors and reads none is detached", function ()
    box:room(reader, 0)
    for _ = 1, 5000 do box:input(reader, "x\n") end
    box:pump()
    assert.equal("too many answers were not read", box:detached(reader))
    box:input(reader, "x\n")
  end)

  it("of an anonymous consumer acknowledges nothing", function ()
    local r = box:attach {}
    box:read(r)
    box:input(r, support.ack("a", 1))
    assert.truthy(support.read(box, r)[2] == nil)
  end)

  it("may reply with its ack where the connection takes one", function ()
    box:close()
    box = deliver.new { replies = true }
    stream = box:stream "a"
    reader = box:attach { consumer = "bot" }
    support.fill(box, stream, 2)
    box:pump()
    box:input(reader, '{"ack":{"connection":"a","epoch":3,"offset":1,"frame":{"ok": 1}}}\n')
    box:input(reader, '{"ack":{"connection":"a","epoch":3,"offset":2,"frame_base64":"aGk="}}\n')
    assert.equal('reply\ta\tbot\t3\t1\ttext\t{"ok": 1}\nacked\ta\tbot\t3\t1\n'
      .. 'reply\ta\tbot\t3\t2\tbytes\thi\nacked\ta\tbot\t3\t2\n', box:orders())
  end)

  it("may be posted in a consumer's name, attached or not", function ()
    box:detach(reader)
    local count, errors = box:ack_lines("bot", support.ack("a", 1) .. "bad\n" .. support.ack("a", 2):sub(1, -2))
    assert.equal(2, count)
    assert.equal("the line is not JSON", support.lines(errors)[1].error.what)
    assert.equal(1, box:view(stream).frames)
    assert.is_nil((box:ack_lines("nobody", support.ack("a", 1))))
    local _, refused = box:ack_lines("bot", '{"send":{"id":"x","connection":"a","frame":1}}')
    assert.truthy(support.lines(refused)[1].error.what:find "attachment")
  end)
end)

describe("a send", function ()
  local box, reader
  before_each(function ()
    box = deliver.new {}
    box:stream "a"
    reader = box:attach {}
    box:read(reader)
  end)
  after_each(function () box:close() end)

  local function order() return box:orders():match "^(%w+)\t?([^\t]*)\t?([^\t\n]*)\t?([^\t]*)\t?(.-)\n$" end

  it("reaches the port verbatim and is answered once, under the consumer's own id", function ()
    box:input(reader, '{"send":{"id":"x\\"1","connection":"a","frame":{"n": 12345678901234567890, "s":"\\u00e9"}}}\n')
    local kind, connection, id, text, frame = order()
    assert.same({ "send", "a", "text", '{"n": 12345678901234567890, "s":"\\u00e9"}' },
      { kind, connection, text, frame })
    box:answer(tonumber(id))
    box:answer(tonumber(id), "again")
    box:pump()
    assert.equal('{"sent":{"id":"x\\"1"}}\n', (box:read(reader)))
  end)

  it("that is refused says why and whether to try again", function ()
    box:input(reader, '{"send":{"id":"x1","connection":"a","frame":1}}\n')
    local _, _, id = order()
    box:answer(tonumber(id), "not up", true)
    box:pump()
    assert.equal('{"refused":{"id":"x1","why":"not up","retry":true}}\n', (box:read(reader)))
  end)

  it("keeps strings, numbers and null as the JSON they are", function ()
    for _, frame in ipairs { '"text \\n"', "7", "null", "true", "[1, 2]" } do
      box:input(reader, '{"send":{"id":"x1","connection":"a","frame":' .. frame .. '}}\n')
      local _, _, _, text, got = order()
      assert.same({ "text", frame }, { text, got })
    end
  end)

  it("may carry bytes", function ()
    box:input(reader, '{"send":{"id":"x1","connection":"a","frame_base64":"aGk="}}\n')
    local _, _, _, text, got = order()
    assert.same({ "bytes", "hi" }, { text, got })
  end)

  it("may be answered from inside the order", function ()
    box:answer_inside(true)
    box:input(reader, '{"send":{"id":"x1","connection":"a","frame":1}}\n')
    box:pump()
    assert.equal('{"sent":{"id":"x1"}}\n', (box:read(reader)))
  end)

  it("that has an id is refused under it whatever else is wrong", function ()
    for text, why in pairs {
      ['{"send":{"id":"x1","connection":"b","frame":1}}\n'] = "no such connection",
      ['{"send":{"id":"x1","frame":1}}\n'] = "send.connection is no connection's name",
      ['{"send":{"id":"x1","connection":"a"}}\n'] = "there is neither frame nor frame_base64",
      ['{"send":{"id":"x1","connection":"a","frame_base64":"?"}}\n'] = "frame_base64 is not base64",
      ['{"send":{"id":"x1","connection":"a","frame_base64":7}}\n'] = "frame_base64 is not base64",
      ['{"send":{"id":"x1","connection":"a","frame":1,"frame_base64":"aGk="}}\n'] =
        "frame and frame_base64 exclude each other",
    } do
      box:input(reader, text)
      box:pump()
      local refused = support.lines((box:read(reader)))[1].refused
      assert.same({ id = "x1", why = why, retry = false }, refused)
    end
    for _, id in ipairs { "7", '""', '"' .. ("x"):rep(129) .. '"', '"a\\u0000b"' } do
      box:input(reader, '{"send":{"id":' .. id .. ',"connection":"a","frame":1}}\n')
      box:pump()
      assert.equal("send.id is no text of 1 to 128 bytes", support.lines((box:read(reader)))[1].error.what)
    end
    assert.equal("", box:orders())
  end)

  it("is refused to an attachment that may not send", function ()
    local silent = box:attach { can_send = false }
    box:read(silent)
    box:input(silent, '{"send":{"id":"x1","connection":"a","frame":1}}\n')
    box:pump()
    assert.truthy(box:read(silent):find("may not send", 1, true))
    assert.equal("", box:orders())
  end)

  it("is taken back when its consumer goes, and a late answer reaches nobody", function ()
    box:input(reader, '{"send":{"id":"x1","connection":"a","frame":1}}\n{"send":{"id":"x2","connection":"a","frame":1}}\n')
    local ids = {}
    for id in box:orders():gmatch "send\ta\t(%d+)" do ids[#ids + 1] = id end
    box:detach(reader)
    assert.same("dropped\t" .. ids[2] .. "\ndropped\t" .. ids[1] .. "\n", box:orders())
    box:answer(tonumber(ids[1]))
  end)

  it("is bounded in number per consumer", function ()
    for i = 1, 257 do
      box:input(reader, '{"send":{"id":"x' .. i .. '","connection":"a","frame":1}}\n')
    end
    box:pump()
    assert.same({ id = "x257", why = "too many sends are under way", retry = true },
      support.lines((box:read(reader)))[1].refused)
  end)

  it("by HTTP is answered through its own function, unless it was dropped", function ()
    local id = box:send("a", "{}")
    box:orders()
    box:answer(id, "not up", true)
    assert.equal("answered\tnot up\tretry\n", box:orders())
    local second = box:send("a", "{}")
    box:orders()
    box:send_drop(second)
    box:answer(second)
    assert.equal(("dropped\t%.0f\n"):format(second), box:orders())
    local none, why = box:send("b", "{}")
    assert.is_nil(none)
    assert.equal("no such connection", why)
  end)
end)

describe("an attach line", function ()
  it("says consumer, connections and from", function ()
    assert.same({ consumer = "bot-a", patterns = { "support-*", "b" }, from = 0, epoch = 0, offset = 0,
      states = true, gaps = false },
      deliver.parse '{"attach":{"consumer":"bot-a","connections":["support-*","b"],"from":"cursor","gaps":false}}\n')
    assert.same({ patterns = { "a" }, from = 3, epoch = 3, offset = 812, states = true, gaps = true },
      deliver.parse '{"attach":{"connections":["a"],"from":"3.812"}}')
    assert.same({ patterns = {}, epoch = 0, offset = 0, states = true, gaps = true }, deliver.parse '{"attach":{}}')
  end)

  it("that is wrong is refused with a sentence", function ()
    for line, wanted in pairs {
      [""] = "not one JSON object",
      ["{}"] = "not one JSON object",
      ["[1]"] = "not one JSON object",
      ['{"attach":7}'] = "not one JSON object",
      ['{"attach":{},"x":1}'] = "not one JSON object",
      ['{"attach":{}} {}'] = "not one JSON object",
      [("["):rep(5000)] = "not one JSON object",
      ['{"attach":{"connections":"a"}}'] = "connections is a list",
      ['{"attach":{"connections":[1]}}'] = "connections is a list",
      ['{"attach":{"connection":"a"}}'] = "connections, with a list",
      ['{"attach":{"consumer":7}}'] = "are texts",
      ['{"attach":{"consumer":"a b"}}'] = "A-Z",
      ['{"attach":{"from":"later"}}'] = "EPOCH.OFFSET",
      ['{"attach":{"states":"maybe"}}'] = "true or false",
      ['{"attach":{"colour":"red"}}'] = "known are",
    } do
      local ok, why = deliver.parse(line)
      assert.is_nil(ok, line)
      assert.truthy(why:find(wanted, 1, true), line .. ": " .. tostring(why))
    end
    local many = {}
    for i = 1, 33 do many[i] = '"c"' end
    assert.is_nil((deliver.parse('{"attach":{"connections":[' .. table.concat(many, ",") .. ']}}')))
  end)
end)
