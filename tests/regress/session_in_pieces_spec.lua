-- A session that was dropped must not come back in pieces: a hook of the link that ended still ran for what
-- came before the peer's close, and its writes made half a session that the next attempt meant to resume.
local echo = require "echo_world"

describe("a dropped session", function ()
  it("is not revived by a hook of the link whose ending dropped it", function ()
    local s = echo.new [[
      session = { of = { "token" }, age = "24h" },
      frames = { codec = "json", take = { op = "op", seq = "s" }, deliver = { op = 1 }, accept = true,
                 inspect = { op = 1 }, remember = { seq = "seq" },
                 ends = { { op = 9, cause = "invalid", after = "5s" } } },
      classify = { { cause = "invalid", verdict = "fresh", delay = "1m" }, { any = true, verdict = "resume" } },
      greet = function (conn) conn.session = { id = "one" } end,
      on_frame = function (conn, frame)
        conn.session.seen = frame.s
        conn:send { op = 2, told = conn.session.id or "none", seen = conn.session.seen }
      end,
    ]]
    s:up("a", "10s")
    s:send("a", { op = 1, s = 1 })
    s:advance "1s"
    assert.same({ id = "one", seen = 1, seq = 1 }, s:session "a")
    s:send("a", { op = 9 })
    s:send("a", { op = 1, s = 2 })
    s:advance "2s"
    assert.equal("invalid", s:view("a").cause.name)
    assert.same({}, s:session "a")
    assert.is_false(s:view("a").session_present)
    assert.is_nil(s:disk("a") and s:disk("a").session)
    assert.equal(2, #echo.wire(s, "in", '"op":1'), "the hook did run")
    s:close()
  end)
end)
