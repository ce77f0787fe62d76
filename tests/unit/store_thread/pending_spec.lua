local threads = require "unit.store_thread"

describe("what could not be written", function ()
  local function names(requests)
    local all = {}
    for i, r in ipairs(requests) do
      all[i] = r[1] .. (r.connection and " " .. r.connection or "") .. (r.offset and " " .. r.offset or "") .. (r.ticket and " !" or "")
    end
    return table.concat(all, ", ")
  end

  it("is answered, and waits without those that were waited for", function ()
    local left, failed = threads.settle({
      { "event", connection = "a", offset = 1 }, { "frames", connection = "a", ticket = 7 },
      { "permit", connection = "a", account = 3, wall = 4, boot_ms = 5, lane = 6, ticket = 8 },
      { "session", connection = "a", bytes = "{}", ticket = 9 }, { "permit", connection = "b" }, { "trim", connection = "a", offset = 2 },
    }, false)
    assert.equal("event a 1, session a, trim a 2", names(left))
    assert.equal("{}", left[2].bytes)
    assert.same({ 7, 8, 9 }, failed)
  end)

  it("takes a permit back that may be on disk after all", function ()
    local left, failed = threads.settle({ { "permit", connection = "a", account = 3, wall = 4, boot_ms = 5, lane = 6, ticket = 8 } }, true)
    assert.same({ { "permit return", connection = "a", account = 3, wall = 4, boot_ms = 5, lane = 6 } }, left)
    assert.same({ 8 }, failed)
  end)

  it("keeps the newest of what replaces itself, and drops no event for that", function ()
    local left, failed, dropped = threads.shrink({
      { "session", connection = "a", bytes = "1" }, { "cursor", consumer = "c", connection = "a", offset = 1 },
      { "event", connection = "a", offset = 1 }, { "cursor", consumer = "d", connection = "a", offset = 1 },
      { "session", connection = "b", bytes = "1" }, { "session", connection = "a", bytes = "2" },
      { "keep", connection = "a", bytes = "k" }, { "trim", connection = "a", offset = 1 },
      { "cursor", consumer = "c", connection = "a", offset = 2 }, { "cursor", consumer = "c", connection = "b", offset = 3 },
      { "trim", connection = "a", offset = 2 }, { "session", connection = "a", bytes = "3", ticket = 4 },
      { "told budget", account = 1, budget = 0, count = 1 }, { "told budget", account = 1, budget = 1, count = 2 },
      { "told budget", account = 1, budget = 0, count = 3 }, { "permit return", account = 1 }, { "permit return", account = 1 },
    }, 1e6)
    assert.equal("event a 1, cursor a 1, session b, keep a, cursor a 2, cursor b 3, trim a 2, session a !, told budget, told budget, "
                 .. "permit return, permit return", names(left))
    assert.equal("3", left[8].bytes)
    assert.equal(3, left[10].count)
    assert.same({ {}, 0 }, { failed, dropped })
  end)

  it("loses events oldest first, then the journal, then seen keys, and nothing else", function ()
    local requests = {}
    for i = 1, 10 do
      requests[#requests + 1] = { "event", connection = "a", offset = i, bytes = ("e"):rep(1000) }
      requests[#requests + 1] = { "journal", connection = "j" .. i, bytes = ("j"):rep(1000) }
      requests[#requests + 1] = { "seen", connection = "s" .. i, bytes = ("s"):rep(1000) }
    end
    requests[#requests + 1] = { "session", connection = "a", bytes = ("x"):rep(1000) }
    local function count(left)
      local n = {}
      for _, r in ipairs(left) do n[r[1]] = (n[r[1]] or 0) + 1 end
      return n
    end
    local left, _, dropped = threads.shrink(requests, 30000)
    assert.same({ event = 5, journal = 10, seen = 10, session = 1 }, count(left))
    assert.equal(5, dropped)
    assert.equal(6, left[11].offset)
    left, _, dropped = threads.shrink(requests, 14000)
    assert.same({ journal = 1, seen = 10, session = 1 }, count(left))
    assert.equal("j10", left[10].connection) -- behind s1 to s9
    assert.equal(10, dropped)
    left = threads.shrink(requests, 0)
    assert.same({ session = 1 }, count(left))
  end)

  it("answers no frames as safe behind an event that is gone", function ()
    local requests = { { "frames", connection = "a", ticket = 1 } }
    for i = 1, 4 do
      requests[#requests + 1] = { "event", connection = "a", offset = i, bytes = ("e"):rep(1000), ticket = i == 2 and 20 or nil }
      requests[#requests + 1] = { "frames", connection = "a", ticket = 100 + i }
    end
    local left, failed, dropped = threads.shrink(requests, 3000)
    assert.equal(2, dropped)
    assert.equal("frames a !, event a 3, event a 4", names(left))
    assert.same({ 101, 20, 102, 103, 104 }, failed)
  end)
end)
