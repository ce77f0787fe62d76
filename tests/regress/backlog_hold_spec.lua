-- A stream that holds instead of dropping: nothing is lost, nothing is out of order, and a link that ends with
-- a frame held back does not take later frames instead.
local echo = require "echo_world"

local rules = [[
  frames = { codec = "json", take = { id = "id", pad = "pad" }, deliver = { id = { present = true } }, accept = true },
  backlog = { most = "64KiB", full = "hold", hold_for = "10s" },
]]

local function ids(c)
  local out = {}
  for _, e in ipairs(c:events()) do out[#out + 1] = e.frame.id end
  return out
end

local function one_to(n)
  local out = {}
  for i = 1, n do out[i] = i end
  return out
end

describe("a backlog that holds", function ()
  it("goes on at the first acknowledgement that makes room, and loses nothing", function ()
    local s = echo.new(rules)
    s:up("a", "10s")
    local c = s:consumer { name = "bot" }
    for i = 1, 60 do s:send("a", { id = i, pad = ("x"):rep(3000) }) end
    for _ = 1, 200 do
      s:advance "200ms"
      if #c:events() > 0 then c:ack "a" end
      if #c:events() == 60 then break end
    end
    assert.same(one_to(60), ids(c))
    assert.equal(1, s:view("a").generation)
    s:close()
  end)

  it("ends the link at hold_for, also when a frame only seems to fit", function ()
    local s = echo.new(rules)
    s:up("a", "10s")
    local c = s:consumer { name = "bot" }
    for i = 1, 20 do s:send("a", { id = i, pad = ("x"):rep(1000) }) end
    s:advance "1s"
    assert.equal(20, #c:events())
    -- Twice its own bytes: the field is told beside the frame.
    s:send("a", { id = 21, pad = ("x"):rep(12000) })
    s:advance "1s"
    local from = s:now()
    for _ = 1, 12 do
      s:advance "1s"
      s:send("b", "{}") -- anything that makes the loop turn
      if s:view("a").cause then break end
    end
    assert.equal("backlog_full", s:view("a").cause and s:view("a").cause.name)
    assert.is_true(s:now() - from <= 11000, "after " .. s:now() - from)
    c:ack "a"
    s:up("a", "1m")
    s:close()
  end)
end)
