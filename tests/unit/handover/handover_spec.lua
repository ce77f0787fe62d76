local handover = require "unit.handover"

describe("a handover's messages", function ()
  local old, new, before
  before_each(function ()
    before = handover.open_count()
    old, new = handover.pair()
  end)
  after_each(function ()
    handover.close(old)
    handover.close(new)
    assert.equal(before, handover.open_count())
  end)

  it("arrive whole, one by one, in order", function ()
    assert.is_true(handover.send(new, { is = "ready", version = "1.2", unix = "a b/\"h\".sock", http = "::1 7600", store = "x.db" }))
    assert.is_true(handover.send(new, { is = "taken" }))
    assert.same({ is = "ready", version = "1.2", why = "", unix = "a b/\"h\".sock", http = "::1 7600", store = "x.db", fds = {} },
      handover.receive(old))
    assert.equal("taken", handover.receive(old).is)
    assert.same({ nil, "nothing" }, { handover.receive(old) })
  end)

  it("carry descriptors, which are the same files, and of no child", function ()
    assert.is_true(handover.send(old, { is = "take", fds = { unix = 0, store_lock = old } }))
    local got = handover.receive(new)
    assert.is_true(handover.same(0, got.fds.unix))
    assert.is_true(handover.same(old, got.fds.store_lock))
    assert.is_nil(got.fds.http)
    assert.is_nil(got.fds.unix_lock)
    for _, fd in pairs(got.fds) do
      assert.is_true(handover.close_on_exec(fd))
      handover.close(fd)
    end
    assert.is_true(handover.send(old, { is = "take", fds = { unix = 0, unix_lock = 0, http = 0, store_lock = 0 } }))
    for _, fd in pairs(handover.receive(new).fds) do handover.close(fd) end
  end)

  it("tell a sentence, of any length, as one that can be printed", function ()
    handover.fail(new, "holdfast.lua:3: \"x\" is no key")
    assert.equal("holdfast.lua:3: \"x\" is no key", handover.receive(old).why)
    handover.fail(new, ("x"):rep(5000))
    assert.equal(("x"):rep(1023), handover.receive(old).why)
    handover.fail(-1, "nobody hears this")
  end)

  it("end when the other side is gone", function ()
    handover.send(new, { is = "ready" })
    handover.close(new)
    assert.equal("ready", handover.receive(old).is)
    assert.same({ nil, "ended" }, { handover.receive(old) })
    assert.is_false(handover.send(old, { is = "go" }))
    new = select(2, handover.pair())
    handover.close(new - 1)
  end)

  for what, bytes in pairs {
    ["text"] = "hello", ["half an object"] = '{"handover":1,"is":"re', ["no object"] = "[]", ["no kind"] = '{"handover":1}',
    ["another kind"] = '{"handover":1,"is":"stay"}', ["a number for a kind"] = '{"handover":1,"is":1}',
    ["another protocol"] = '{"handover":2,"is":"ready"}', ["no protocol"] = '{"is":"ready"}',
    ["descriptors that did not come"] = '{"handover":1,"is":"take","fds":["unix"]}',
    ["zero bytes in it"] = "\0\0\0\0",
    ["more than fits"] = '{"handover":1,"is":"ready","why":"' .. ("x"):rep(20000) .. '"}',
  } do
    it("are told from " .. what, function ()
      assert.is_true(handover.raw(new, bytes))
      assert.same({ nil, "bad" }, { handover.receive(old) })
      handover.send(new, { is = "ready" })
      assert.equal("ready", handover.receive(old).is)
    end)
  end

  it("leave no descriptor open that came unasked for, unnamed or twice", function ()
    for count, bytes in pairs {
      '{"handover":1,"is":"take","fds":[]}', '{"handover":1,"is":"take","fds":["unix","unix"]}',
      '{"handover":1,"is":"take","fds":["unix","http","stdin"]}', '{"handover":1,"is":"take"}', "hello",
      [40] = '{"handover":1,"is":"take","fds":["unix"]}',
    } do
      local open = handover.open_count()
      assert.is_true(handover.raw(old, bytes, count))
      assert.same({ nil, "bad" }, { handover.receive(new) }, bytes)
      assert.equal(open, handover.open_count())
    end
  end)

  it("ignore what a later version adds", function ()
    handover.raw(new, '{"handover":1,"is":"ready","colour":{"a":[1]},"version":"9","unix":7}')
    local got = handover.receive(old)
    assert.equal("9", got.version)
    assert.equal("", got.unix)
  end)

  it("are looked for only where the variable names such a socket, which it then does no more", function ()
    for _, value in ipairs { "", "0", "2", "-1", "x", "999" } do
      assert.same({ -1, true }, { handover.inherited(value) })
    end
    assert.same({ -1, true }, { handover.inherited() })
  end)
end)
