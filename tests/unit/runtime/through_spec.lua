-- Acknowledgements that a consumer gives: `frames.ack.when = "through"`.
local runtime = require "unit.runtime"
local world = require "runtime_world"

local frames = [[
  frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } }, accept = true,
             dedupe = { by = { "id" }, over = "10m", most = 100 },
             ack = { when = "through", frame = '{"ack":"@id"}', within = "3s" } },
  sizes = { send = 200 },
]]

local function up(owner, more)
  local w = runtime.new()
  assert(w:add("a", world.policy((more or "") .. frames), "return { token = 'T' }", false, owner or "bot"))
  w:tick()
  world.open(w, 1)
  w:consume "bot"
  w:told()
  w:log()
  return w
end

local function ack(w, offset, more)
  w:say(('{"ack":{"connection":"a","epoch":1,"offset":%d%s}}'):format(offset, more or ""))
end

local function notes(w)
  local out = {}
  for _, entry in ipairs(w:journal "a") do
    if entry.kind == "note" then out[#out + 1] = entry.text end
  end
  return out
end

describe("a backlog that is too old", function ()
  it("goes in pieces that follow each other at once, and the next round is later", function ()
    local w, many = runtime.new(), {}
    assert(w:add("a", world.policy [[ frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } }, accept = true }, ]],
                 "return { token = 'T', backlog = { age = '1s' } }", false))
    w:tick()
    world.open(w, 1)
    w:consume "bot"
    for i = 1, 5000 do many[i] = world.text('{"id":' .. i .. "}") end
    w:bytes(1, table.concat(many))
    w:tick(10)
    assert.equal(5000, w:view "a".held)
    w:tick(10000)
    local pieces, left = 1, w:view "a".held
    assert.is_true(left > 0 and left < 5000)
    while left > 0 do
      w:tick() -- what else was due now is done
      assert.equal(1, (w:deadline()))
      w:tick(1)
      assert.is_true(w:view "a".held < left)
      pieces, left = pieces + 1, w:view "a".held
    end
    assert.equal(3, pieces)
    w:tick()
    assert.is_true(w:deadline() > 1)
  end)
end)

describe("an acknowledgement through the owner", function ()
  it("goes out when the owner has acknowledged the frame and it is safe, not before", function ()
    local w = up()
    w:bytes(1, world.text '{"id":1}' .. world.text '{"id":2}' .. world.text '{"id":3}')
    w:tick(100)
    assert.truthy(w:told():find '"offset":3')
    assert.same({}, world.sent(w, 1))
    ack(w, 2)
    assert.same({}, world.sent(w, 1), "not on disk yet")
    assert.truthy(w:log():find "store frames 2")
    w:stored(true)
    assert.same({ 'message {"ack":1}', 'message {"ack":2}' }, world.sent(w, 1))
    ack(w, 3)
    w:stored(true)
    assert.same({ 'message {"ack":3}' }, world.sent(w, 1))
    ack(w, 3)
    assert.same({}, world.sent(w, 1), "once")
  end)

  it("does not go out for another consumer's", function ()
    local w = up "other"
    w:bytes(1, world.text '{"id":1}')
    w:tick(10)
    w:told()
    ack(w, 1)
    w:tick(10)
    assert.equal("", w:log())
    assert.same({}, world.sent(w, 1))
  end)

  it("carries the owner's reply, to that one frame", function ()
    local w = up()
    w:bytes(1, world.text '{"id":1}' .. world.text '{"id":2}')
    w:tick(10)
    w:told()
    ack(w, 2, ',"frame":{"ack":2,"payload":{"text":"hello"}}')
    w:stored(true)
    assert.same({ 'message {"ack":1}', 'message {"ack":2,"payload":{"text":"hello"}}' }, world.sent(w, 1))
  end)

  it("goes out plain when the reply is longer than the platform takes, and says so", function ()
    local w = up()
    w:bytes(1, world.text '{"id":1}')
    w:tick(10)
    w:told()
    ack(w, 1, (',"frame":{"ack":1,"payload":"%s"}'):format(("x"):rep(300)))
    w:stored(true)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    assert.truthy(notes(w)[1]:find "longer than sizes.send")
  end)

  it("that comes too late is none: what the platform sends again is delivered again", function ()
    local w = up()
    w:bytes(1, world.text '{"id":1}')
    w:tick(10)
    assert.truthy(w:told():find '"offset":1')
    w:tick(2989)
    assert.same({}, notes(w))
    w:tick(2)
    assert.truthy(notes(w)[1]:find "consumer bot did not acknowledge 1 frame within", notes(w)[1])
    ack(w, 1, ',"frame":{"late":true}')
    assert.same({}, world.sent(w, 1))
    assert.truthy(notes(w)[1]:find "came too late")
    w:log()
    w:bytes(1, world.text '{"id":1}')
    w:tick(10)
    assert.truthy(w:told():find '"offset":2')
    ack(w, 2)
    w:stored(true)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    assert.equal(2, w:view("a").delivered)
  end)

  it("answers a duplicate with its original: waiting while that waits, at once when it is done", function ()
    local w = up()
    w:bytes(1, world.text '{"id":1}' .. world.text '{"id":1}')
    w:tick(10)
    w:told()
    assert.equal(1, w:view("a").delivered)
    ack(w, 1)
    w:stored(true)
    assert.same({ 'message {"ack":1}', 'message {"ack":1}' }, world.sent(w, 1))
    w:bytes(1, world.text '{"id":1}')
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    assert.equal(2, w:view("a").duplicate)
  end)

  it("is given up with the write that failed", function ()
    local w = up()
    w:bytes(1, world.text '{"id":1}')
    w:tick(10)
    w:told()
    ack(w, 1)
    w:stored(false)
    assert.same({}, world.sent(w, 1))
  end)

  it("goes out once the frame is safe where the connection names no owner, and the journal says so", function ()
    local w = runtime.new()
    assert(w:add("a", world.policy(frames), "return { token = 'T' }"))
    w:tick()
    world.open(w, 1)
    w:log()
    assert.truthy(notes(w)[1]:find "lets a consumer reply to some frames, and the connection names none")
    w:bytes(1, world.text '{"id":1}')
    assert.same({}, world.sent(w, 1), "not on disk yet")
    w:stored(true)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    w:bytes(1, world.text '{"id":2}')
    w:stored(false)
    assert.same({}, world.sent(w, 1), "not safe, not acknowledged")
  end)
end)

describe("rows of acknowledgements", function ()
  local rows = [[
    frames = { codec = "json", take = { id = "id", kind = "kind", asks = "asks" }, deliver = { id = { present = true } },
               dedupe = { by = { "id" }, over = "10m", most = 100 },
               ack = {
                 { on = { kind = "secret" }, when = "none" },
                 { on = { kind = { "press", "slash" }, asks = true }, when = "through", frame = '{"ack":"@id"}', within = "3s" },
                 { on = { kind = "slow" }, when = "through", frame = '{"slow":"@id"}', within = "10s" },
                 { on = { { kind = "event" }, { asks = false } }, when = "early", frame = '{"early":"@id"}' },
               } },
  ]]
  local function up_rows(owner)
    local w = runtime.new()
    assert(w:add("a", world.policy(rows), "return { token = 'T' }", false, owner))
    w:tick()
    world.open(w, 1)
    w:consume "bot"
    w:told()
    w:log()
    return w
  end
  local function frame(id, kind, asks)
    return world.text(('{"id":%d,"kind":"%s"%s}'):format(id, kind, asks == nil and "" or ',"asks":' .. tostring(asks)))
  end

  it("are chosen by the frame: the first that matches, and none is none", function ()
    local w = up_rows "bot"
    w:bytes(1, frame(1, "event") .. frame(2, "secret", false) .. frame(3, "press", false) .. frame(4, "press", true)
      .. frame(5, "unknown") .. frame(6, "event", true))
    w:stored(true)
    assert.same({ 'message {"early":1}', 'message {"early":3}', 'message {"early":6}' }, world.sent(w, 1))
    w:told()
    ack(w, 4, ',"frame":{"ack":4,"text":"hello"}')
    assert.same({ 'message {"ack":4,"text":"hello"}' }, world.sent(w, 1), "its frame is safe with the others")
    ack(w, 6)
    assert.same({}, world.sent(w, 1), "those of other rows went out already")
  end)

  it("have deadlines of their own: the shorter one passes first, whatever came first", function ()
    local w = up_rows "bot"
    w:bytes(1, frame(1, "slow") .. frame(2, "press", true))
    w:tick(3001)
    assert.truthy(notes(w)[1]:find "consumer bot did not acknowledge 1 frame within", notes(w)[1])
    w:told()
    ack(w, 2)
    w:stored(true)
    assert.same({ 'message {"slow":1}' }, world.sent(w, 1), "of the late one the platform hears nothing")
    w:bytes(1, frame(3, "slow") .. frame(4, "press", true))
    w:tick(3001)
    w:tick(7000)
    assert.equal(3, #notes(w))
    ack(w, 4)
    assert.same({}, world.sent(w, 1))
  end)

  it("keep what they said when the policy is replaced meanwhile", function ()
    local w = up_rows "bot"
    w:bytes(1, frame(1, "event") .. frame(2, "press", true))
    w:swap("a", world.policy [[ frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } } }, ]], "return { token = 'T' }")
    w:stored(true)
    assert.same({ 'message {"early":1}' }, world.sent(w, 1))
    w:told()
    ack(w, 2)
    w:stored(true)
    assert.same({ 'message {"ack":2}' }, world.sent(w, 1))
    w:log()
    w:bytes(1, frame(3, "event"))
    w:tick(10)
    assert.is_nil(w:log():find "store frames", "the new policy acknowledges nothing")
  end)
end)

describe("early acknowledgements at risk", function ()
  it("go out when the store failed, and those of other rows do not", function ()
    local w = world.up [[
      frames = { codec = "json", take = { id = "id", kind = "k" }, deliver = { id = { present = true } },
                 ack = { { on = { kind = "x" }, when = "early", frame = '{"ack":"@id"}', at_risk = true },
                         { when = "early", frame = '{"ack":"@id"}' } } },
    ]]
    w:bytes(1, world.text '{"id":1,"k":"x"}' .. world.text '{"id":2}')
    w:stored(false)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    assert.truthy(w:observed():find "those that the policy says acknowledged all the same %(at_risk%), the others not")
  end)
end)

describe("an early acknowledgement at risk", function ()
  it("goes out although the store failed, and only then", function ()
    local w = world.up [[
      frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } },
                 ack = { when = "early", frame = '{"ack":"@id"}', at_risk = true } },
    ]]
    w:bytes(1, world.text '{"id":1}')
    assert.same({}, world.sent(w, 1))
    w:stored(false)
    assert.same({ 'message {"ack":1}' }, world.sent(w, 1))
    assert.truthy(w:observed():find "at_risk")
  end)
end)

describe("an acknowledgement whose link is gone", function ()
  local function sent_on_the_next(row)
    local w = world.up([[
      frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } }, ack = { ]] .. row .. [[ } },
    ]])
    w:bytes(1, world.text '{"id":1}')
    w:closed(1)
    w:tick(2000)
    world.open(w, 2)
    world.sent(w, 2)
    assert.equal("up", w:view("a").state)
    w:stored(true)
    return world.sent(w, 2)
  end

  it("goes out on the link that took its place, where the policy says anywhere", function ()
    assert.same({ 'message {"ack":1}' }, sent_on_the_next [[when = "early", frame = '{"ack":"@id"}', anywhere = true]])
  end)

  it("goes nowhere otherwise", function ()
    assert.same({}, sent_on_the_next [[when = "early", frame = '{"ack":"@id"}']])
  end)

  it("goes nowhere while the next one is not greeted", function ()
    local w = world.new [[
      frames = { codec = "json", take = { id = "id" }, deliver = { id = { 1, 2 } },
                 ack = { when = "early", frame = '{"ack":"@id"}', anywhere = true } },
      greet = function (conn) conn:await { id = 7 } end,
    ]]
    world.open(w, 1)
    w:bytes(1, world.text '{"id":7}' .. world.text '{"id":1}')
    w:closed(1)
    w:tick(2000)
    world.open(w, 2)
    world.sent(w, 2)
    assert.equal("linking", w:view("a").state)
    w:stored(true)
    assert.same({}, world.sent(w, 2))
    w:bytes(2, world.text '{"id":7}')
    assert.same({}, world.sent(w, 2), "nor later: the platform sends the frame again")
  end)
end)

describe("what a burst took", function ()
  -- What a burst took is given back at an instant that may have passed before there was a burst.
  it("is given back, and an instant for that which passed before the burst is none that the loop missed", function ()
    local w = up()
    local function burst(first)
      for i = first, first + 2999 do w:bytes(1, world.text(('{"id":%d,"pad":"%s"}'):format(i, ("x"):rep(1000)))) end
      w:told()
      ack(w, first + 2999)
      local ahead, missed = w:deadline()
      assert.same({ 0, 0 }, { ahead, missed })
      for _ = 1, 50 do w:tick(100) end
      ahead, missed = w:deadline()
      assert.is_true(ahead > 0, "it was given back")
      assert.equal(0, missed)
    end
    burst(1)
    w:tick(40000)
    burst(3001)
  end)
end)
