-- What OpenSSL's large pieces leave behind: kept for a herd that is dialled again, and back with the system some seconds
-- after nobody wanted it. One process, one pool: each test begins with what the one before left, which is 64 warm ones.
local blocks = require "unit.blocks"

local KEPT, A_PIECE = 64, 128
local SSL, BUFFER = 7624, 17000
local SOON, LATER = 5, 4000

describe("blocks", function ()
  if not blocks.pooled then return pending "there are none with AddressSanitizer" end

  local function rest_all()
    local turns = 0
    while true do
      local due = blocks.rest()
      turns = turns + 1
      assert(turns < 100, "never at rest")
      if due == 0 then return turns end
    end
  end
  before_each(rest_all)

  it("that were given back keep their pages, until a look later nobody wanted them", function ()
    blocks.take(300, SSL)
    blocks.give(300)
    assert.is_true(blocks.is_full())
    assert.equal(300, blocks.in_memory())
    assert.equal(LATER, blocks.rest()) -- a look: what it found is counted from here
    assert.equal(300, blocks.in_memory())
    assert.equal(SOON, blocks.rest())
    assert.equal(300 - A_PIECE, blocks.in_memory())
    assert.equal(0, blocks.rest())
    assert.equal(KEPT, blocks.in_memory())
    assert.is_false(blocks.is_full())
  end)

  it("that were wanted meanwhile stay for as long again", function ()
    blocks.take(200, SSL)
    blocks.give(200)
    assert.equal(LATER, blocks.rest())
    blocks.take(150, SSL)
    blocks.give(150)
    assert.equal(LATER, blocks.rest()) -- 50 were not
    assert.equal(150, blocks.in_memory())
    assert.equal(0, blocks.rest())
    assert.equal(KEPT, blocks.in_memory())
  end)

  it("that are in use are nobody's to give back", function ()
    blocks.take(400, SSL)
    assert.is_false(blocks.is_full())
    blocks.give(100)
    assert.is_true(blocks.is_full())
    assert.equal(LATER, blocks.rest())
    blocks.take(100, SSL)
    assert.equal(0, blocks.rest())
    assert.equal(400, blocks.in_memory())
    blocks.give(300)
    blocks.rest()
    assert.equal(SOON, blocks.rest())
    blocks.take(140, SSL) -- while their pages are going back
    rest_all()
    blocks.give(240)
    rest_all()
    assert.equal(KEPT, blocks.in_memory())
  end)

  it("of handshakes and records are kept for as many as shake hands at once", function ()
    local before = blocks.in_memory()
    blocks.take(600, BUFFER)
    blocks.give(600)
    assert.equal(before + 128, blocks.in_memory())
  end)

  it("of one size do not go early because others do", function ()
    blocks.take(300, SSL)
    blocks.give(300)
    blocks.rest()
    blocks.take(100, BUFFER)
    blocks.give(100)
    local before = blocks.in_memory()
    assert.equal(SOON, blocks.rest())
    assert.equal(before - A_PIECE, blocks.in_memory())
    assert.equal(LATER, blocks.rest()) -- the buffers were given back since the look
    assert.equal(KEPT + 100, blocks.in_memory())
    assert.equal(0, blocks.rest())
    assert.equal(2 * KEPT, blocks.in_memory())
  end)
end)
