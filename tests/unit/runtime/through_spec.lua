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

  it("needs an owner", function ()
    local w = runtime.new()
    local ok, why = w:add("a", world.policy(frames), "return { token = 'T' }")
    assert.is_nil(ok)
    assert.truthy(why:find "needs owner")
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
