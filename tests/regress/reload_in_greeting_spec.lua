-- A policy reloaded while a greeting waits: the frame that ended the greeting was read with the new rules over
-- the fields that the old ones had taken, and a hook of the old file saw the new one's rules.
local echo = require "echo_world"

local greet = [[
  session = { of = { "token" }, age = "24h" },
  greet = function (conn)
    conn:send { op = 1, s = 5, id = "first", kind = "hello" }
    conn:await({ op = 1 })
    conn:send { op = 2, s = 6, id = "second", kind = "hello" }
    conn:await({ op = 2 })
    conn.session = { id = "one" }
  end,
]]
local before = [[ frames = { codec = "json", take = { op = "op" }, deliver = { op = { 1, 2, 3 } }, accept = true }, ]]
local after = [[
  frames = { codec = "json", take = { id = "id", seq = "s", kind = "kind", op = "op" },
             deliver = { op = { 1, 2, 3 } }, accept = true,
             dedupe = { by = { "kind" }, over = "10m", most = 100 },
             remember = { seq = "seq" } },
]]

describe("a reload in the middle of a greeting", function ()
  it("takes effect after the frame that ends it, for rules, hooks and matchers alike", function ()
    local s = echo.new(before .. greet)
    local c = s:consumer { name = "bot" }
    s:run_until(function () return #s:wire("a", "out") == 1 end, "10s")
    s:reload("a", echo.policy(after .. greet))
    s:up("a", "10s")
    s:advance "1s"
    local events = c:events()
    assert.equal(2, #events)
    assert.same({ op = 1 }, events[1].take)
    assert.same({ op = 2 }, events[2].take)
    assert.same({ id = "one" }, s:session "a")

    s:send("a", { op = 3, s = 7, id = "third", kind = "later" })
    s:advance "1s"
    events = c:events()
    assert.equal(3, #events)
    assert.same({ id = "third", seq = 7, kind = "later", op = 3 }, events[3].take)
    assert.same({ id = "one", seq = 7 }, s:session "a")
    s:close()
  end)
end)
