-- Frames that the platform numbers without a hole: `frames.follows`.
local world = require "runtime_world"

local POLICY = [[
  session = { of = { "token" }, age = "24h", replay = "session" },
  frames = { codec = "json", take = { seq = "seq", kind = "kind" }, deliver = { seq = { present = true } },
             remember = { seq = "seq" }, follows = { by = "seq", anew = { kind = "hello" }, cause = "hole" } },
  greet = function (conn)
    if conn.session.id then return end
    conn:await { kind = "hello" }
    conn.session = { id = "one" }
  end,
  classify = { { cause = "hole", verdict = "resume", delay = "0s" }, { any = true, verdict = "resume" } },
]]

local function frame(seq, more) return world.text(('{"seq":%d%s}'):format(seq, more or "")) end

local function up()
  local w = world.new(POLICY)
  world.open(w, 1)
  w:bytes(1, frame(0, ',"kind":"hello"') .. frame(1) .. frame(2))
  assert.equal("up", w:view("a").state)
  assert.equal(3, w:view("a").delivered)
  return w
end

describe("numbered frames", function ()
  it("are taken in order, and what came already is dropped", function ()
    local w = up()
    w:bytes(1, frame(1) .. frame(2) .. frame(3) .. frame(3) .. world.text '{"other":true}' .. frame(4))
    assert.equal(5, w:view("a").delivered)
    assert.equal(3, w:view("a").duplicate)
    assert.equal('{"id":"one","seq":4}', w:session "a")
    assert.equal("up", w:view("a").state)
  end)

  it("end the link where one is missing: nothing behind the hole is taken, and the next link goes on before it", function ()
    local w = up()
    w:bytes(1, frame(3) .. frame(5) .. frame(6) .. frame(4))
    assert.equal(4, w:view("a").delivered)
    assert.equal("hole", w:view("a").cause)
    assert.equal("seq is 5, and 3 was the last", w:view("a").reason)
    assert.equal('{"id":"one","seq":3}', w:session "a")
    w:closed(1)
    w:tick(2000)
    world.open(w, 2)
    w:bytes(2, frame(4) .. frame(5) .. frame(6))
    assert.equal("up", w:view("a").state)
    assert.equal(7, w:view("a").delivered)
    assert.equal(0, w:view("a").duplicate)
  end)

  it("begin anew where the policy says so", function ()
    local w = up()
    w:bytes(1, frame(0, ',"kind":"hello"') .. frame(1))
    assert.equal(5, w:view("a").delivered)
    assert.equal('{"id":"one","seq":1}', w:session "a")
    w:bytes(1, frame(3))
    assert.equal("hole", w:view("a").cause)
  end)

  it("are not judged by what is no number, nor by a frame that is no JSON", function ()
    local w = up()
    w:bytes(1, world.text '{"seq":"9"}' .. world.text '{"seq":9.5}' .. world.text '{"seq":null}' .. world.text '{"seq":9')
    assert.equal("up", w:view("a").state)
  end)
end)
