package.path = "./tests/unit/sim_world/?.lua;" .. package.path
local unit = require "unit.sim_world"
local helpers = require "helpers"

describe("a stream", function ()
  it("cuts messages at arbitrary bytes and loses none of them", function ()
    local pieces = 0
    for seed = 1, 20 do
      local w = helpers.open(seed)
      local sent = {}
      for i = 1, 50 do
        sent[i] = ("message %d "):format(i) .. ("x"):rep(i * 7)
        w:server("send", sent[i])
      end
      w:run(5000)
      local seen, at = w:seen(1), 1
      for i = 1, 50 do
        local len = seen:byte(at + 1)
        at = at + 2
        if len == 126 then
          len = seen:byte(at) * 256 + seen:byte(at + 1)
          at = at + 2
        end
        assert.equal(sent[i], seen:sub(at, at + len - 1))
        at = at + len
      end
      assert.equal(#seen + 1, at)
      for _ in w:log():gmatch "bytes 1" do pieces = pieces + 1 end
    end
    assert.is_true(pieces > 100, pieces)
  end)

  it("pushes back: a server that does not read fills the window, and writable follows", function ()
    local w = helpers.open()
    w:server "deaf"
    local block = ("x"):rep(100000)
    local taken = 0
    while w:write(1, unit.frame(2, block)) do
      taken = taken + 1
      w:run(100)
      assert.is_true(taken < 100)
    end
    assert.is_true(taken * 100000 > 900000 and taken * 100000 < 1300000, taken)
    assert.is_true(w:queued(1) > 900000)
    w:log()
    w:server "hear"
    w:run(20000)
    local log = w:log()
    assert.equal(0, w:queued(1))
    assert.equal(taken, select(2, log:gsub("server binary 100000", "")))
    assert.equal(1, select(2, log:gsub("writable 1", "")))
  end)

  it("keeps what a runtime did not take, and gives it when reading is on again", function ()
    local w = helpers.open()
    w:take(4)
    w:server("send", "0123456789")
    w:run(5000)
    assert.equal("\x81\x0a01", w:seen(1))
    w:take(0)
    w:read(1, true)
    w:run(1000)
    assert.equal("23456789", w:seen(1))
  end)

  it("does not tell its end while reading is off", function ()
    local w = helpers.open()
    w:read(1, false)
    w:server("send", "last words")
    w:run(100)
    w:server "abort"
    w:run(60000)
    assert.same({ "server closed 1006" }, helpers.words(w:log()))
    w:read(1, true)
    w:run(100)
    assert.equal("\x81\x0alast words", w:seen(1))
    assert.truthy(w:log():find("ended 1 eof", 1, true))
  end)

  it("drains what has arrived and says so", function ()
    local w = helpers.open()
    w:server("send", "hello")
    w:run(100)
    w:log()
    w:link(1, "drain")
    w:run(0)
    assert.same({ "drained 1" }, helpers.words(w:log()))
  end)

  it("finishes: flushes, hears the server out, and is closed", function ()
    local w = helpers.open()
    w:write(1, unit.frame(8, "\x03\xe8"))
    w:link(1, "finish")
    assert.is_false(w:write(1, "more"))
    w:run(1000)
    local log = w:log()
    assert.truthy(log:find("server closed 1000", 1, true))
    assert.equal("\x88\x02\x03\xe8", w:seen(1))
    assert.truthy(log:find("closed 1", 1, true))
    assert.equal(0, w:counts().streams)
  end)

  it("waits for ever for a server that answers no close, until it is aborted", function ()
    local w = helpers.open()
    w:fault("no_close_answer", {})
    w:write(1, unit.frame(8, "\x03\xe8"))
    w:link(1, "finish")
    w:run(600000)
    assert.is_nil(w:log():find("closed 1", 1, true))
    w:link(1, "abort")
    w:link(1, "abort")
    w:run(1000)
    assert.equal(1, select(2, w:log():gsub("closed 1\n", "")))
  end)

  it("hears a server's close, ping and abort", function ()
    local w = helpers.open()
    w:server "ping"
    w:run(100)
    assert.equal("\x89\x00", w:seen(1))
    w:server("close", 4004, "no")
    w:run(100)
    assert.equal("\x88\x04\x0f\xa4no", w:seen(1))
    w:write(1, unit.frame(8, "\x0f\xa4"))
    w:run(1000)
    local log = w:log()
    assert.truthy(log:find("server closed 4004", 1, true))
    assert.truthy(log:find("ended 1 eof", 1, true))
  end)

  it("is given up by a server whose close is not answered", function ()
    local w = helpers.open()
    w:server("close", 4000)
    w:run(4000)
    assert.is_nil(w:log():find("server closed", 1, true))
    w:run(2000)
    assert.truthy(w:log():find("server closed 1006", 1, true))
  end)

  it("answers a ping, and refuses a broken frame with 1002", function ()
    local w = helpers.open()
    w:write(1, unit.frame(9, "p"))
    w:run(1000)
    assert.equal("\x8a\x01p", w:seen(1))
    w:write(1, "\xf1\x80\x00\x00\x00\x00")
    w:run(1000)
    assert.equal("\x88", w:seen(1):sub(1, 1))
  end)

  it("answers a bad request with 400", function ()
    local w = unit.new(1)
    w:open(1, "a.test")
    w:run(1000)
    w:write(1, "NONSENSE\r\n\r\n")
    w:run(1000)
    assert.truthy(w:seen(1):find "^HTTP/1.1 400 ")
  end)

  it("counts descriptors per identity from the open to the close", function ()
    local w = unit.new(1)
    w:open(1, "a.test")
    w:open(11, "a.test")
    w:open(2, "a.test")
    local c = w:counts()
    assert.same({ 3, 2, 2 }, { c.descriptors, c.of_c1, c.most_of_c1 })
    w:link(1, "abort")
    c = w:counts()
    assert.same({ 2, 1, 2 }, { c.descriptors, c.of_c1, c.most_of_c1 })
  end)

  it("echoes at the mute server", function ()
    local w = helpers.open(1, "mute.test")
    w:write(1, unit.frame(1, "who is there"))
    w:run(1000)
    assert.equal("\x81\x0cwho is there", w:seen(1))
  end)
end)
