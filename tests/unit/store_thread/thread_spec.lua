local threads = require "unit.store_thread"
local shim = threads.shim
local scratch = require "scratch"

describe("the store's thread", function ()
  local path
  before_each(function ()
    path = scratch.path "holdfast.db"
    shim.set {}
  end)
  after_each(function () shim.set {} end)

  local function open(more)
    local options = { path = path, boot = "b", wall = 1000, boot_ms = 5, seed = 1, vfs = "shim of the thread" }
    for k, v in pairs(more or {}) do options[k] = v end
    local t = assert(threads.open(options))
    assert.is_true(t:start())
    return t
  end

  -- Answers until there are `count`; fails rather than waits for ever.
  local function answers(t, count)
    local all = {}
    while #all < count do
      assert.is_true(t:wait(20000), ("%d of %d answers came"):format(#all, count))
      for _, a in ipairs(t:poll()) do all[#all + 1] = a end
    end
    return all
  end

  local function rows(kind)
    local t = assert(threads.open { path = path, boot = "b", wall = 2000, read_only = true })
    local all = t:visit()
    t:close()
    return all[kind] or {}
  end

  it("answers each ticket once, in order, when it is on disk", function ()
    local t = open()
    t:submit { "event", connection = "a", epoch = 1, offset = 1, bytes = "one" }
    t:submit { "frames", connection = "a", ticket = 11 }
    t:submit { "permit", connection = "a", account = 5, wall = 9, ticket = 12 }
    t:flush()
    assert.same({ 11, 12 }, answers(t, 2))
    assert.is_true(t:is_idle())
    assert.is_true((t:close()))
    assert.equal("one", rows("events")[1].line)
    assert.equal(5, rows("permits")[1].account)
  end)
end)
