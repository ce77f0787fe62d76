-- A message longer than the host's queue of 1 MiB was refused for ever, with the advice to try again.
local echo = require "echo_world"

describe("a message longer than the host's queue", function ()
  it("is sent in pieces, in order with what follows, and its close comes after it", function ()
    local s = echo.new [[
      sizes = { send = "8MiB" },
      frames = { codec = "json" },
      greet = function (conn)
        conn:send { id = 1, pad = ("x"):rep(1048576) }
        conn:send { id = 2, pad = ("y"):rep(1200000) }
        conn:send { id = 3 }
      end,
    ]]
    s:up("a", "30s")
    s:run_until(function () return s.peers[1]:stats().messages == 3 end, "5m")
    assert.equal(1, s:view("a").generation)
    s:stop "a"
    s:reach("a", "stopped", "30s")
    s:close()
  end)
end)
