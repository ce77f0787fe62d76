-- Hooks: what each may do and what becomes of it when it does wrong; fetches that fail, serve old values, or
-- are asked too often.
local runtime = require "unit.runtime"
local world = require "runtime_world"

local function note_of(w, text)
  for _, e in ipairs(w:journal "a") do
    if e.text:find(text, 1, true) then return e end
  end
end

describe("on_ack", function ()
  it("writes the acknowledgement of a safe frame, and may change the session while it does", function ()
    local w = world.up [[
      session = { of = { "token" }, age = "24h" },
      frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } }, ack = { when = "early" } },
      greet = function (conn) conn.session = { id = "one" } end,
      on_ack = function (conn, frame)
        conn.session.acked = frame.id
        conn.keep.total = (conn.keep.total or 0) + 1
        return { ok = frame.id }
      end,
    ]]
    w:bytes(1, world.text '{"id":1}' .. world.text '{"id":2}')
    assert.same({}, world.sent(w, 1))
    w:stored(true)
    assert.same({ 'message {"ok":1}', 'message {"ok":2}' }, world.sent(w, 1))
    assert.equal('{"acked":2,"id":"one"}', w:session "a")
    assert.truthy(w:log():find('store keep 0 {"total":2}', 1, true))
  end)

  it("that raises is journaled, and the frame stays unacknowledged", function ()
    local w = world.up [[
      frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } }, ack = { when = "early" } },
      on_ack = function () error "broken" end,
    ]]
    w:bytes(1, world.text '{"id":1}')
    assert.truthy(note_of(w, "on_ack raised"))
    assert.equal(1, w:view("a").delivered)
    assert.is_nil(w:log():find "store frames")
  end)
end)

describe("a session", function ()
  it("hurries to the store when it is new, so that no kill costs a start; how far it got gathers", function ()
    local w = world.new [[
      session = { of = { "token" }, age = "24h" },
      frames = { codec = "json", take = { s = "s" }, remember = { seq = "s" }, deliver = { s = { present = true } } },
      greet = function (conn) conn.session = { id = "one" } end,
    ]]
    world.open(w, 1)
    assert.truthy(w:log():find('store session 0 {"id":"one"} hurries\n', 1, true))
    w:bytes(1, world.text '{"s":7}')
    assert.truthy(w:log():find('store session 0 {"id":"one","seq":7}\n', 1, true))
  end)
end)

describe("what a frame brings into the session", function ()
  it("is text as text, small integers as numbers, great ones as their digits; the same again is not stored", function ()
    local w = world.up [[
      session = { of = { "token" }, age = "24h" },
      frames = { codec = "json", take = { a = "a", b = "b", c = "c" }, deliver = { a = { present = true } },
                 remember = { a = "a", b = "b", c = "c" } },
      greet = function (conn) conn.session = { id = "one" } end,
    ]]
    w:log()
    local frame = world.text [[{"a":"caf\u00e9 \"x\"","b":9007199254740993,"c":-7}]]
    w:bytes(1, frame)
    assert.equal([[{"a":"café \"x\"","b":"9007199254740993","c":-7,"id":"one"}]], w:session "a")
    assert.truthy(w:log():find "store session")
    w:bytes(1, frame)
    assert.is_nil(w:log():find "store session")
    w:bytes(1, world.text('{"a":"' .. ("x"):rep(5000) .. '","c":8}'))
    assert.truthy(w:session("a"):find('"a":"café', 1, true), "too long to keep: what was there stays")
    assert.truthy(w:session("a"):find('"c":8', 1, true))
  end)
end)

describe("on_ended", function ()
  local function ended(body)
    local w = world.up("on_ended = function (conn, cause) " .. body .. " end,")
    w:bytes(1, runtime.close_frame(4000))
    for _, e in ipairs(w:journal "a") do
      if e.kind == "decision" then return e, w end
    end
    error "no decision"
  end

  it("may stop, slow down, or leave it to the tables", function ()
    assert.truthy(ended [[return "stop"]].text:find("stop by on_ended", 1, true))
    assert.truthy(ended [[return { verdict = "slow", note = "hm" }]].text:find("slow pace", 1, true))
    assert.truthy(ended [[return nil]].text:find("by rule", 1, true) or ended([[return nil]]).text:find("by engine", 1, true))
    assert.equal(90000, ended [[return { verdict = "fresh", delay = { "90s", "90s" } }]].delay)
  end)

  it("that answers nonsense, raises or never ends is journaled, and the tables decide", function ()
    for _, body in ipairs { [[return "sometimes"]], [[error "broken"]], "while true do end", [[return { delay = { 5, 1 } }]] } do
      local e, w = ended(body)
      assert.is_nil(e.text:find("stop", 1, true), e.text)
      assert.truthy(note_of(w, "on_ended"), body)
      assert.not_equal("stopped", w:view("a").state)
    end
  end)
end)

describe("a hook", function ()
  it("may not send more than sizes.send, nor call an address without encryption", function ()
    local w = world.up [[
      sizes = { send = 100 }, frames = { codec = "json" },
      greet = function (conn)
        local ok, why = conn:send { pad = ("x"):rep(200) }
        conn:warn(tostring(why))
        local r, err = conn:http { url = "http://far.test/?key=SECRET" }
        conn:warn("call: " .. tostring(r) .. " " .. tostring(err and err.name or err))
      end,
    ]]
    assert.truthy(note_of(w, "sizes.send"))
    assert.truthy(note_of(w, "call: "))
    for _, e in ipairs(w:journal "a") do assert.is_nil(e.text:find("SECRET", 1, true), e.text) end
    assert.is_nil(w:log():find "http 1")
    assert.is_nil(w:observed():find "SECRET")
  end)

  it("may tell of a gap and draw numbers", function ()
    local w = world.up [[
      greet = function (conn)
        conn:gap "history was cut"
        conn:warn("drew " .. tostring(holdfast.random() < 1))
      end,
    ]]
    assert.truthy(note_of(w, "gap: history was cut"))
    assert.truthy(note_of(w, "drew true"))
  end)

  it("that asks for what is there without an end is stopped", function ()
    local w = world.new [[
      fetch = { value = { call = function (conn) return "x" end, keep = "1h" } },
      prepare = function (conn) while true do conn:get "value" end end,
    ]]
    assert.equal("waiting", w:view("a").state)
    assert.equal("asks without end", w:view("a").reason)
  end)

  it("that calls over budgets.call is refused by name, before a byte leaves, until the window slides on", function ()
    local w = world.up [[
      budgets = { call = { windows = { { 2, "10s" } } } },
      every = { poll = { "1s", function (conn)
        local r, name, text = conn:http { url = "https://far.test/" }
        if not r then conn:warn(name .. ": " .. text) end
      end } },
    ]]
    for call = 1, 2 do
      w:tick(1000)
      w:http(call, 200, "", "")
    end
    w:log()
    for _ = 1, 8 do w:tick(1000) end
    assert.is_nil(w:log():find "http 3")
    assert.truthy(note_of(w, "budget: budgets.call is spent, the next call may go in 9 s"))
    for _ = 1, 2 do w:tick(1000) end
    assert.truthy(w:log():find "http 3")
  end)

  it("of a task that still waits is not begun a second time", function ()
    local w = world.up [[ every = { poll = { "1s", function (conn) conn:http { url = "https://far.test/" } end } }, ]]
    for _ = 1, 5 do w:tick(1000) end
    assert.equal(1, w:counts().calls)
    w:http(1, 200, "", "")
    w:tick(1000)
    assert.equal(1, w:counts().calls)
    assert.truthy(w:log():find "http 2")
  end)

  it("of a task is not begun on a link that closes: nobody would cancel it again", function ()
    local w = world.up [[ limits = { close = "30s" },
      every = { poll = { "5s", function (conn) conn:http { url = "https://far.test/" } end } }, ]]
    w:tick(4000)
    w:order("a", "stop")
    w:tick(1)
    assert.equal("closing", w:view("a").state)
    w:tick(2000)
    assert.equal("closing", w:view("a").state)
    assert.equal(0, w:counts().calls)
  end)
end)

describe("a consumer's send", function ()
  local rules = [[ sizes = { send = 1000 }, budgets = { start = { frame = { op = 2 }, windows = { { 5, "1h" } } } },
    frames = { codec = "json", take = { op = "op" }, accept = { op = { 2, 3 } } }, ]]
  it("is refused for what it is before the engine is asked", function ()
    local w = world.new(rules)
    w:stored(true)
    world.open(w, 1)
    w:written(1)
    w:log()
    for frame, why in pairs {
      ["{"] = "not valid JSON", ['{"op":4}'] = "does not accept", ['{"op":2}'] = "does not accept",
      ['{"op":3,"pad":"' .. ("x"):rep(1000) .. '"}'] = "longer than the platform takes",
    } do
      w:send("a", frame)
      local log = w:log()
      assert.truthy(log:find(why, 1, true), log)
      assert.is_nil(log:find "retry")
    end
    w:send("nobody", "{}")
    assert.truthy(w:log():find "no such connection")
    w:send("a", '{"op":3}')
    assert.truthy(w:log():find "answer sent")
    assert.same({ 'message {"op":3}' }, world.sent(w, 1))
  end)

  it("that waits for a greeting is answered when its connection is removed", function ()
    local w = world.new [[ frames = { codec = "json", accept = true }, greet = function (conn) conn:await { any = 1 } end, ]]
    w:order("a", "remove")
    w:tick()
    w:send("a", "{}")
    assert.truthy(w:log():find "answer")
    assert.equal(0, w:counts().sends)
  end)
end)

describe("a fetch", function ()
  local function fetching(rule, more)
    return ([[
      fetch = { gateway = { call = function (conn)
        local r = conn:http { url = "https://far.test/" }
        if not r or r.status ~= 200 then conn:fail("gateway", { reason = "status" }) end
        return r.body
      end, %s } },
      prepare = function (conn) return { url = conn:get "gateway" } end,
      backoff = { first = "1s", most = "1s", jitter = "none" }, %s
    ]]):format(rule, more or "")
  end

  local function again(w, n)
    w:ended(n)
    w:closed(n)
    w:tick(2000)
    w:tick()
  end

  it("that fails serves its old value where the policy says so", function ()
    local w = world.new(fetching [[keep = "1s", stale = true]])
    w:http(1, 200, "", "wss://far.test/one")
    world.open(w, 1)
    again(w, 1)
    w:http(2, 500, "", "")
    assert.equal("wss://far.test:443/one", w:view("a").address)
    assert.equal("linking", w:view("a").state)
  end)

  it("that fails is the attempt's ending where not, with the name that the policy gave", function ()
    local w = world.new(fetching [[keep = "1s"]])
    w:http(1, 500, "", "")
    assert.equal("gateway", w:view("a").cause)
    assert.equal("waiting", w:view("a").state)
    assert.equal(0, w:counts().tasks)
  end)

  it("is not called again within its gap", function ()
    local w = world.new(fetching [[keep = "1s", gap = "60s"]])
    w:http(1, 200, "", "wss://far.test/one")
    world.open(w, 1)
    again(w, 1)
    assert.equal("fetch_gap", w:view("a").cause)
    assert.is_nil(w:log():find "http 2")
  end)

  it("serves its old value within the gap where it may be stale", function ()
    local w = world.new(fetching [[keep = "1s", gap = "60s", stale = true]])
    w:http(1, 200, "", "wss://far.test/one")
    world.open(w, 1)
    again(w, 1)
    assert.equal("linking", w:view("a").state)
    assert.is_nil(w:log():find "http 2")
  end)

  it("that another fetch waits for takes it along when it fails", function ()
    local w = world.new [[
      fetch = {
        token = { call = function (conn)
          local r = conn:http { url = "https://far.test/" }
          conn:fail("token", { reason = "refused" })
        end },
        gateway = { call = function (conn) return conn:get "token" end },
      },
      prepare = function (conn) return { url = conn:get "gateway" } end,
    ]]
    w:http(1, 401, "", "")
    assert.equal("token", w:view("a").cause)
    assert.equal(0, w:counts().tasks)
  end)

  it("that answers nothing, or raises, is an ending by its hook", function ()
    for _, body in ipairs { "return nil", "error 'broken'" } do
      local w = world.new("fetch = { gateway = { call = function (conn) " .. body ..
        " end } }, prepare = function (conn) return { url = conn:get 'gateway' } end,")
      assert.equal("hook", w:view("a").cause, body)
    end
  end)

  it("of one connection is not another's where the policy says so", function ()
    local path = world.policy [[
      options = { token = { type = "secret", required = true }, shard = { type = "integer", default = 0 } },
      identity = { "token", "shard" },
      fetch = {
        mine = { call = function (conn) return conn:http({ url = "https://far.test/mine" }).body end, keep = "1h", per = "connection" },
        ours = { call = function (conn) return conn:http({ url = "https://far.test/ours" }).body end, keep = "1h" },
      },
      prepare = function (conn) return { url = conn:get "ours" .. conn:get "mine" } end,
    ]]
    local w = runtime.new()
    for shard = 1, 3 do assert(w:add("c" .. shard, path, ("return { token = 'T', shard = %d }"):format(shard))) end
    w:tick()
    assert.equal(1, w:counts().calls)
    w:http(1, 200, "", "wss://far.test/")
    assert.equal(3, w:counts().calls)
    for call = 2, 4 do w:http(call, 200, "", "x" .. call) end
    for shard = 1, 3 do assert.equal("linking", w:view("c" .. shard).state) end
    assert.equal(4, w:counts().fetches)
  end)

  it("of one account is asked of each server apart, also where only the port differs", function ()
    local path = world.policy [[
      options = { token = { type = "secret", required = true }, shard = { type = "integer", default = 0 },
                  api = { type = "url", required = true } },
      identity = { "token", "shard" },
      fetch = { gateway = { call = function (conn) return conn:http({ url = conn.options.api }).body end, keep = "1h" } },
      prepare = function (conn) return { url = conn:get "gateway" } end,
    ]]
    local w = runtime.new()
    for shard, port in ipairs { 1, 2, 1 } do
      assert(w:add("c" .. shard, path, ("return { token = 'T', shard = %d, api = 'https://far.test:%d/' }"):format(shard, port)))
    end
    w:tick()
    assert.equal(2, w:counts().calls)
  end)
end)

describe("a refusal of the upgrade", function ()
  it("whose body ends with the stream keeps its status", function ()
    local w = world.new ""
    w:opened(1)
    w:bytes(1, "HTTP/1.1 503 No\r\n\r\nbusy")
    w:ended(1)
    assert.equal(503, w:view("a").http)
  end)

  it("that is no HTTP is named so, and one that was cut is the network's", function ()
    local w = world.new ""
    w:opened(1)
    w:bytes(1, "SSH-2.0-OpenSSH\r\n\r\n")
    assert.equal("upgrade_bad", w:view("a").cause)
    w = world.new ""
    w:opened(1)
    w:bytes(1, "HTTP/1.1 10")
    w:ended(1)
    assert.equal("reset", w:view("a").cause)
  end)
end)

describe("a store that refuses", function ()
  it("costs the attempt that needs a permit, and not the daemon", function ()
    local path = world.policy [[ frames = { codec = "json", take = { op = "op" } }, session = { of = { "token" } },
      budgets = { start = { frame = { op = 2 }, windows = { { 5, "1h" } } } }, ]]
    local w = runtime.new()
    w:set("store_refuses", true)
    assert(w:add("a", path, "return { token = 'T' }"))
    w:tick()
    assert.equal("store", w:view("a").cause)
    w:set("store_refuses", false)
    w:tick(120000)
    w:tick()
    w:stored(true)
    assert.equal("linking", w:view("a").state)
  end)
end)

describe("what a greeting warns of", function ()
  local greet = [[
    frames = { codec = "json", take = { op = "op" }, deliver = { op = 0 }, inspect = { op = 9 } }, overlap = 1,
    greet = function (conn)
      local hello = conn:await { op = 10 }
      conn:log("links " .. conn.links)
      if hello.count > conn.links then conn:warn("the platform counts " .. hello.count) end
    end,
    on_frame = function (conn) conn:warn "seen" end,
  ]]

  it("stays while its link serves, and is gone with the next one that has nothing to warn of", function ()
    local w = world.new(greet)
    world.open(w, 1)
    w:bytes(1, world.text '{"op":10,"count":7}')
    assert.equal("up", w:view("a").state)
    assert.equal("the platform counts 7", w:view("a").warning)
    assert.truthy(w:observed():find "links 1")
    w:closed(1)
    w:tick(2000)
    world.open(w, 2)
    assert.equal("the platform counts 7", w:view("a").warning, "the next link has not said anything yet")
    w:bytes(2, world.text '{"op":10,"count":1}')
    assert.equal("up", w:view("a").state)
    assert.equal("", w:view("a").warning)
  end)
end)
