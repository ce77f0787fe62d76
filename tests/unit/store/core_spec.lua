local store = require "unit.store"
local scratch = require "scratch"

describe("the store's core", function ()
  local path, open
  before_each(function ()
    path = scratch.path "holdfast.db"
    open = function (more)
      local options = { path = path, boot = "boot-1", wall = 1700000000000, boot_ms = 5000, seed = 77 }
      for k, v in pairs(more or {}) do options[k] = v end
      return store.open(options)
    end
  end)

  it("gives back every kind of row, in its order, after a clean end", function ()
    local s = assert(open())
    assert.same({ epoch = 1700000000000, seed = 77, was_clean = true, is_new = true }, s:start())
    assert.equal("applied", (s:apply {
      { "connection", connection = "b", bytes = '{"policy":"x"}' },
      { "connection", connection = "a", bytes = "{}" },
      { "wish", connection = "a", count = 1 },
      { "session", connection = "a", account = "18446744073709551615", wall = 42, bytes = '{"id":1}' },
      { "keep", connection = "a", bytes = "{}" },
      { "permit", connection = "a", budget = 0, account = "18446744073709551614", lane = -3, wall = 9, boot_ms = 8 },
      { "told budget", budget = 1, account = 7, count = -1, lanes = 16, until_wall = 100, until_boot = 200 },
      { "event", connection = "a", epoch = 3, offset = 1, wall = 5, bytes = "one" },
      { "event", connection = "a", kind = 1, epoch = 3, offset = 1, wall = 6, bytes = "hole" },
      { "event", connection = "a", epoch = 3, offset = 2, wall = 7, bytes = "two" },
      { "consumer", consumer = "bot", wall = 12, bytes = '["*"]' },
      { "cursor", consumer = "bot", connection = "a", epoch = 3, offset = 1, wall = 13 },
      { "seen", connection = "a", key_high = "18446744073709551615", key_low = 1, offset = 2, wall = 14, until_wall = 99 },
      { "journal", wall = 15, bytes = '{"start":true}' },
      { "journal", connection = "a", wall = 16, bytes = "{}" },
      { "frames", connection = "a", ticket = 9 },
    }))
    assert.is_true(s:close(true))
    s = assert(open { seed = 78 })
    assert.same({ epoch = 1700000000000, seed = 77, was_clean = true, is_new = false }, s:start())
    assert.same({
      connections = { { name = "a", json = "{}" }, { name = "b", json = '{"policy":"x"}' } },
      wishes = { { connection = "a", stopped = true } },
      sessions = { { connection = "a", session_of = "18446744073709551615", wall = 42, json = '{"id":1}' } },
      keeps = { { connection = "a", json = "{}" } },
      permits = { { account = "18446744073709551614", budget = 0, lane = -3, same_boot = true, wall = 9, boot_ms = 8 } },
      told = { { account = 7, budget = 1, left = -1, lanes = 16, same_boot = true, until_wall = 100, until_boot = 200 } },
      epochs = { { connection = "a", epoch = 3, after = 0, last = 2 } },
      events = {
        { connection = "a", kind = "frame", epoch = 3, offset = 1, wall = 5, line = "one" },
        { connection = "a", kind = "gap", epoch = 3, offset = 1, wall = 6, line = "hole" },
        { connection = "a", kind = "frame", epoch = 3, offset = 2, wall = 7, line = "two" },
      },
      consumers = { { name = "bot", patterns = '["*"]', wall = 12 } },
      cursors = { { consumer = "bot", connection = "a", epoch = 3, offset = 1, wall = 13 } },
      seen = { { connection = "a", key_high = "18446744073709551615", key_low = 1, offset = 2, wall = 14 } },
      journal = { { wall = 15, json = '{"start":true}' }, { connection = "a", wall = 16, json = "{}" } },
    }, s:visit())
    s:close(true)
  end)
end)
