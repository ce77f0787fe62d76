-- Close, then prepare, then dial: the next attempt starts when the old socket is closed or was given up at the
-- close limit. The wait for it and the backoff run side by side, and never are two sockets open.
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

local CLOSES = { limits = [[{ prepare = "10s", call = "5s", resolve = "5s", connect = "5s", secure = "5s", upgrade = "5s",
  greeting = "20s", close = "3s" }]] }

describe("a close that the peer never answers", function ()
  it("is given up at the limit, and the dial follows at once", function ()
    s = world.new()
    world.connect(s, "a", { on_frame = "if arg.please then conn:close 'asked to' end" }, CLOSES)
    s:up("a", "5s")
    s:advance "61s"
    s:fault("no_close_answer", {})
    s:send("a", { op = 9, please = true })
    s:run_until(function () return s:view("a").generation == 2 end, "10s")
    local closes = s:closes "a"
    assert.equal(4000, closes[1].code)
    assert.is_true(closes[2].aborted)
    assert.equal(3000, closes[2].at - closes[1].at)
    local dial = s:dials("a")[2].at
    assert.is_true(dial >= closes[2].at and dial - closes[2].at < 300, "dialled " .. dial - closes[2].at .. " ms later")
    assert.equal(1, s:descriptors("a").most)
    s:close()
  end)

  it("takes no longer than the backoff where that is longer", function ()
    s = world.new()
    world.connect(s, "a", { on_frame = "if arg.please then conn:close 'asked to' end" }, {
      limits = CLOSES.limits, backoff = [[{ first = "20s", most = "20s", jitter = "none", settle = "60s" }]] })
    s:up("a", "5s")
    s:fault("no_close_answer", {})
    s:send("a", { op = 9, please = true })
    s:run_until(function () return #s:closes "a" > 0 end, "5s")
    local asked = s:closes("a")[1].at
    s:run_until(function () return s:view("a").generation == 2 end, "30s")
    assert.equal(20000, s:dials("a")[2].at - asked)
    s:close()
  end)

  it("still lets in what the peer said before", function ()
    s = world.new { latency = "200ms" }
    world.connect(s, "a", { on_frame = "if arg.please then conn:close 'asked to' end" }, CLOSES)
    local c = s:consumer { name = "bot", connections = { "a" } }
    s:up("a", "10s")
    s:send("a", { op = 9, please = true })
    for i = 1, 10 do s:at(i * 20, function () s:send("a", { op = 0, n = i }) end) end
    s:advance "5s"
    assert.equal(10, #c:events())
    s:close()
  end)

  it("does not keep a stop, a removal or a shutdown waiting for ever", function ()
    s = world.new()
    world.connect(s, "a", {}, CLOSES)
    world.connect(s, "b", {}, CLOSES)
    s:up("a", "5s")
    s:up("b", "5s")
    s:fault("no_close_answer", {})
    local from = s:now()
    s:stop "a"
    s:reach("a", "stopped", "4s")
    assert.is_true(s:now() - from <= 3000)
    s:remove "b"
    s:run_until(function () return s:stats().connections == 1 end, "4s")
    assert.equal(0, s:stats().descriptors)
    s:start "a"
    s:up("a", "5s")
    s:shutdown "4s"
    s:abandon()
  end)
end)
