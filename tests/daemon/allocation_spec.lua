-- No frame asks for memory in the steady state: counted in the real daemon, from the socket to the consumer, with
-- the sequence remembered in the session and every frame written to the store.
local world = require "daemon_world"

local SANITIZED = world.build:find "san$" -- what is compiled in asks for memory by itself
local counted = SANITIZED and function (name) pending(name, "a sanitizer asks for memory by itself") end or it

local FRAMES, AT_ONCE = 600, 6

describe("in the steady state", function ()
  local w, peer
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local function absolute(path)
    if path:sub(1, 1) == "/" then return path end
    local p = io.popen "pwd"
    local here = p:read "*l"
    p:close()
    return here .. "/" .. path
  end

  -- What the program itself has asked for so far; libraries' own allocations are theirs.
  local function allocations()
    local bytes, n = w:read "allocations", 0
    for i = 8, 1, -1 do n = n * 256 + bytes:byte(i) end
    return n
  end

  counted("a frame allocates nothing on its way to the consumer", function ()
    peer = w:peer()
    w:config(peer.port)
    w:daemon { env = { LD_PRELOAD = absolute(world.build .. "/malloc_shim.so"), HOLDFAST_ALLOCATIONS = w.folder .. "/allocations" } }
    w:up()
    local tail = w:start { "tail", "--consumer", "bot-a" }
    tail:says '"hello"'
    local sent = 0
    local function frames(count)
      for _ = 1, count / AT_ONCE do
        world.control(peer, ('{"verb":"dispatch","count":%d}'):format(AT_ONCE))
        sent = sent + AT_ONCE
        tail:says(('"number":%d[,}]'):format(sent))
        tail.out = ""
      end
    end
    frames(FRAMES) -- buffers find their size
    local before = allocations()
    assert.is_true(before > 100, "nothing is counted")
    frames(FRAMES)
    local asked = allocations() - before
    assert.is_true(asked < FRAMES / 20, ("%d frames asked for memory %d times"):format(FRAMES, asked))
  end)
end)
