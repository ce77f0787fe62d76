-- What must stay small: timers of deadlines that move, the queue after a herd, fetches of who is gone; and the
-- end of everything with all of it in flight.
local runtime = require "unit.runtime"
local world = require "runtime_world"

describe("timers", function ()
  it("do not pile up when a greeting awaits again and again", function ()
    local w = world.new [[
      frames = { codec = "json", take = { id = "id" } },
      limits = { greeting = "10m" },
      greet = function (conn)
        for _ = 1, 2000 do conn:await({ id = { present = true } }, { within = "5m" }) end
      end,
    ]]
    world.open(w, 1)
    for i = 1, 1500 do w:bytes(1, world.text('{"id":' .. i .. "}")) end
    assert.equal(1, w:counts().timers)
    w:tick(200000)
    w:bytes(1, world.text '{"id":1}')
    w:tick(150000)
    assert.equal("linking", w:view("a").state, "the wait began anew")
    assert.equal(1, w:counts().timers)
    w:tick(150000)
    w:tick()
    assert.is_true(w:counts().timers <= 1)
  end)

  it("do not pile up when a link with an hourly task flaps", function ()
    local w = world.up [[ every = { hourly = { "1h", function (conn) end } }, ]]
    for n = 2, 40 do
      w:bytes(n - 1, runtime.close_frame(1001))
      w:ended(n - 1)
      w:closed(n - 1)
      w:tick(120000)
      w:tick()
      world.open(w, n)
    end
    assert.is_true(w:counts().timers <= 2, w:counts().timers .. " timers")
  end)

  it("of a task keep their time over a reload that does not change them", function ()
    local task = [[ frames = { codec = "json" }, every = { note = { "60s", function (conn) conn:send { n = 1 } end } }, ]]
    local w = world.up(task)
    local path = world.policy(task)
    for _ = 1, 7 do
      w:tick(10000)
      w:swap("a", path, "return { token = 'T' }")
      w:bytes(1, runtime.frame(10, "hf"))
    end
    local notes = 0
    for _, m in ipairs(world.sent(w, 1)) do notes = notes + (m:find('"n":1', 1, true) and 1 or 0) end
    assert.equal(1, notes)
  end)
end)

describe("a reload", function ()
  it("of a connection that was just removed is dropped with it", function ()
    local w = world.new ""
    w:order("a", "stop")
    w:tick()
    w:closed(1)
    w:order("a", "remove")
    w:swap("a", world.policy "", "return { token = 'T' }")
    w:tick()
    assert.equal(0, w:counts().connections)
  end)

  it("that acknowledges through a consumer, on a connection without an owner, says that nobody will reply", function ()
    local w = world.up [[ frames = { codec = "json", take = { id = "id" }, deliver = true }, ]]
    local path = world.policy [[
      frames = { codec = "json", take = { id = "id" }, deliver = true,
                 ack = { when = "through", frame = '{"ack":"@id"}', within = "3s" } },
    ]]
    w:swap("a", path, "return { token = 'T' }")
    assert.truthy(w:journal("a")[1].text:find("the connection names none", 1, true), w:journal("a")[1].text)
    w:bytes(1, world.text '{"id":1}')
    w:stored(true)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    local before = #w:journal "a"
    w:swap("a", path, "return { token = 'T' }")
    assert.equal(before, #w:journal "a", "once")
  end)
end)

describe("connections", function ()
  it("are found by name among many, refused twice, and gone when removed", function ()
    local w, path = runtime.new(600), world.policy ""
    for i = 1, 500 do assert(w:add("c" .. i, path, ("return { token = 'T%d' }"):format(i))) end
    local ok, why = w:add("c77", path, "return { token = 'other' }")
    assert.is_nil(ok)
    assert.truthy(why:find "exists already")
    ok, why = w:add("same", path, "return { token = 'T77' }")
    assert.is_nil(ok)
    assert.truthy(why:find 'same identity as "c77"')
    for i = 1, 500, 2 do w:order("c" .. i, "remove") end
    w:tick()
    assert.equal(250, w:counts().connections)
    for i = 1, 500 do assert.equal(i % 2 == 0, w:view("c" .. i) ~= nil) end
    assert(w:add("same", path, "return { token = 'T77' }"))
    assert.truthy(w:view("same"))
  end)

  it("are told of a sleeping machine a slice at a time, each of them once", function ()
    local w, path = runtime.new(1000), world.policy "alive = { ping = '20s', silence = '45s' },"
    for i = 1, 60 do
      assert(w:add("c" .. i, path, ("return { token = 'T%d' }"):format(i)))
    end
    repeat w:tick() until w:deadline() > 0 -- some are begun in each
    for i = 1, 60 do world.open(w, i) end
    w:log()
    w:tick(0, 3600000)
    while w:deadline() == 0 do w:tick() end
    local aborted = 0
    for _ in w:log():gmatch "abort" do aborted = aborted + 1 end
    assert.equal(60, aborted)
    for i = 1, 60 do assert.equal("suspend", w:view("c" .. i).cause) end
    assert.truthy(w:observed():find "slept for 3600000 ms")
  end)
end)

describe("the clocks", function ()
  it("that drift apart by little and little are no jump", function ()
    local w = world.up ""
    w:observed()
    for _ = 1, 100 do w:tick(1000, 0, 50) end
    for _ = 1, 100 do w:tick(1000, 30, -80) end
    local said = w:observed()
    assert.is_nil(said:find "slept")
    assert.is_nil(said:find "stepped")
    w:tick(0, 0, -3600000)
    assert.truthy(w:observed():find "wall time stepped by %-3600000 ms")
  end)
end)

describe("fetched values", function ()
  it("of connections that are long gone are let go", function ()
    local w, path = runtime.new(600), world.policy [[
      fetch = { gateway = { call = function (conn) return "wss://far.test/ws" end, keep = "1m" } },
      prepare = function (conn) return { url = conn:get "gateway" } end,
    ]]
    for round = 1, 6 do
      for i = 1, 30 do
        assert(w:add("c" .. i, path, ("return { token = 'T%d-%d' }"):format(round, i)))
      end
      w:set("open_fails", true)
      w:tick()
      for i = 1, 30 do w:order("c" .. i, "remove") end
      w:tick(7200000)
      w:tick()
    end
    assert.is_true(w:counts().fetches <= 100, w:counts().fetches .. " kept")
  end)
end)

describe("the journal", function ()
  it("tells a decision whole, in words and in parts, and keeps the newest 64 entries", function ()
    local w = world.up [[ classify = { { close = 4004, verdict = "stop", note = "issue a new token" },
                                       { any = true, verdict = "resume" } }, ]]
    w:bytes(1, runtime.close_frame(4004, "bad \27[2J token"))
    local found
    for _, e in ipairs(w:journal "a") do
      assert.is_nil(e.text:find "[%z\1-\31]", e.text)
      if e.kind == "decision" then found = e end
    end
    assert.same({ "closed", 4004, "issue a new token" }, { found.cause, found.close, found.note })
    assert.truthy(found.text:find("closed 4004 by peer at ready: bad \\x1b[2J token: stop by rule", 1, true), found.text)
    assert.truthy(found.text:find(("%s:%d"):format(found.file, found.line), 1, true), found.text)
    for _ = 1, 80 do
      w:order("a", "start")
      w:tick(60000)
      w:order("a", "stop")
      w:tick()
    end
    assert.equal(64, #w:journal "a")
  end)

  it("shows what a hook says without its control bytes, cut on a character", function ()
    local w = world.up [[ greet = function (conn) conn:warn("\27]0;x\7" .. ("é"):rep(400)) end, ]]
    local text = w:journal("a")
    for _, e in ipairs(text) do
      if e.kind == "note" then
        assert.truthy(e.text:find("\\x1b]0;x\\x07", 1, true), e.text)
        assert.is_true(#e.text <= 255)
        assert.is_nil(e.text:find "\195$")
        return
      end
    end
    error "no note"
  end)
end)

describe("the end of everything", function ()
  it("answers sends, cancels calls and aborts links, wherever they are", function ()
    local w = runtime.new()
    local path = world.policy [[
      frames = { codec = "json", take = { id = "id" }, accept = true },
      fetch = { gateway = { call = function (conn) return conn:http({ url = "https://far.test/" }).body end, keep = "1h" } },
      prepare = function (conn) return { url = conn:get "gateway" } end,
      greet = function (conn) conn:await { id = 1 } end,
    ]]
    for i = 1, 4 do assert(w:add("c" .. i, path, ("return { token = 'T%d' }"):format(i))) end
    w:tick()
    w:http(1, 200, "", "wss://far.test/ws")
    w:http(2, 200, "", "wss://far.test/ws")
    w:opened(1)
    world.open(w, 2)
    w:send("c2", '{"id":5}')
    w:log()
    w:destroy()
  end)

  it("opens again what a shutdown ended that is taken back, and nothing that was stopped before", function ()
    local w = world.up "close_code = { keep = 4000, final = 4001 },"
    local path = world.policy "frames = { codec = 'bytes', accept = true }, prepare = function (conn) return { url = 'wss://far.test/ws' } end, greet = function () end,"
    assert(w:add("stopped", path, "return { token = 'T9' }"))
    w:order("stopped", "stop")
    w:tick()
    w:shutdown()
    w:tick()
    w:bytes(1, runtime.close_frame(4000))
    w:ended(1)
    w:closed(1)
    w:tick()
    assert.is_true(w:is_down())
    assert.equal("stopped", w:view("a").state)
    w:shutdown_undo()
    w:tick()
    assert.is_false(w:is_down())
    assert.are_not.equal("stopped", w:view("a").state)
    assert.equal("stopped", w:view("stopped").state)
  end)

  it("is down when the last link is closed", function ()
    local w = world.up "close_code = { keep = 4000, final = 4001 },"
    w:shutdown()
    assert.is_false(w:is_down())
    w:tick()
    assert.same({ "close 4000" }, world.sent(w, 1))
    w:bytes(1, runtime.close_frame(4000))
    w:ended(1)
    assert.is_false(w:is_down())
    w:closed(1)
    w:tick()
    assert.is_true(w:is_down())
  end)
end)
