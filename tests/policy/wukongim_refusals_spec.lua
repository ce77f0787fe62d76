-- What each refusal of a WuKongIM server means: of register over HTTP, in CONNACK, by version.
local world = require "wukongim_world"

local s, p
after_each(function ()
  if s then s:abandon() end
  s, p = nil, nil
end)

local function registers(from) return world.logged(p, "register", from) end

describe("register that answers", function ()
  local function answering(status, body, times)
    s, p = world.new { peer = { faults = { http = { status = status, body = body, times = times or 1000, path = "register" } } } }
  end

  for _, case in ipairs {
    { 400, '{"msg":"无效的bot token","status":400}', "unknown_token" },
    { 403, '{"msg":"app bot is not published"}', "register" },
    { 409, '{"msg":"bound to another installation"}', "register" },
  } do
    it(case[1] .. " for good stops, with a note for the operator", function ()
      answering(case[1], case[2])
      s:run_until(function () return s:view("a").fatal end, "1m")
      s:advance "24h"
      assert.equal("stopped", s:state "a")
      assert.equal(1, #s:http())
      assert.equal(0, #s:dials "a")
      assert.same({ case[3], case[1] }, { s:view("a").cause.name, s:view("a").cause.http })
      assert.equal(1, #world.journal(s, "a", "alarm"))
      s:close()
    end)
  end

  for _, msg in ipairs { "认证失败", "获取IM Token失败" } do
    it("400 because something else failed is tried again like any trouble: " .. msg, function ()
      answering(400, '{"msg":"' .. msg .. '","status":400}', 3)
      s:run_until(function () return s:view("a").failed == 1 end, "10s")
      assert.same({ "register_failed", 400, msg }, { s:view("a").cause.name, s:view("a").cause.http, s:view("a").cause.reason })
      s:up("a", "1m")
      assert.equal(4, #world.calls(s, "/register"))
      s:close()
    end)
  end

  it("400 with a text that nobody knows is slow, and never for good", function ()
    answering(400, '{"msg":"something new","status":400}')
    s:advance "2h"
    assert.is_false(s:view("a").fatal)
    local calls = #world.calls(s, "/register")
    assert.is_true(calls >= 10 and calls <= 25, calls .. " calls")
    p:control "heal"
    s:up("a", "11m")
    s:close()
  end)

  it("401 three times stops", function ()
    answering(401, '{"msg":"unauthorized"}')
    s:run_until(function () return s:view("a").fatal end, "1h")
    assert.equal(3, #s:http())
    s:close()
  end)

  for _, status in ipairs { 500, 502, 503 } do
    it(status .. " is tried again with a backoff", function ()
      answering(status, "", 6)
      s:up("a", "5m")
      local calls = world.calls(s, "/register")
      assert.equal(7, #calls)
      s:close()
    end)
  end

  it("200 with nonsense is trouble like any other, not a crash", function ()
    for _, body in ipairs { "", "[]", "null", '{"robot_id":7}', '{"robot_id":"x","im_token":"y"}', "<html>" } do
      s, p = world.new { peer = { faults = { http = { status = 200, body = body, times = 2, path = "register" } } } }
      s:up("a", "2m")
      s:abandon()
    end
    s, p = nil, nil
  end)

  it("an address on a foreign host leads to no dial there", function ()
    s, p = world.new { peer = { ws_url = "wss://elsewhere.example/ws" } }
    s:advance "10m"
    assert.equal(0, #s:dials "a")
    local decisions = world.journal(s, "a", "decision")
    assert.equal("address", decisions[1].decision.cause.name)
    assert.is_true(#registers() <= 11, #registers() .. " registers")   -- asked again, but not more than once a minute
    s:close()
  end)

  it("an address that leads nowhere any more is asked for again after eight dials", function ()
    s, p = world.settled()
    s:advance "60s"
    local from = s:now()
    local gone = s:fault("refuse", { what = "link" })
    p:control "close"
    s:run_until(function () return #world.dials(s, "a", from) == 8 end, "10m")
    assert.equal(0, #registers(from))
    s:run_until(function () return #world.dials(s, "a", from) == 9 end, "2m")
    assert.equal(1, #registers(from))
    gone:off()
    s:up("a", "2m")
    assert.equal(1, #registers(from))
    s:close()
  end)

  it("an address that is not reachable from here is overridden by ws_url; register runs all the same", function ()
    s, p = world.new { no_connection = true, peer = { ws_url = "wss://elsewhere.example/ws" } }
    world.connect(s, p, "a", { ws_url = "wss://im.test/ws" })
    s:up("a", "10s")
    assert.equal(1, #registers())
    assert.equal(0, p:control("stats").late_connect)
    s:close()
  end)
end)

describe("CONNACK", function ()
  -- What one such answer leads to: registers that follow it, and the least and most of what is waited.
  local cases = {
    [0] = { registers = 0, least = 29000, most = 61000 },
    [2] = { registers = 1, most = 3500 },
    [5] = { registers = 0, least = 29000, most = 61000 },
    [6] = { registers = 1, most = 3500 },
    [12] = { registers = 0, least = 30000, most = 61000 },
    [14] = { registers = 0, most = 3500 },
    [15] = { registers = 0, most = 3500 },
    [17] = { registers = 1, most = 3500 },
    [18] = { registers = 1, most = 3500 },
    [19] = { registers = 0, least = 3600000, most = 7200000 },
    [22] = { registers = 0, least = 30000, most = 61000 },
    [99] = { registers = 0, least = 29000, most = 61000 },
  }
  local codes = {}
  for code in pairs(cases) do codes[#codes + 1] = code end
  table.sort(codes)
  for _, code in ipairs(codes) do
    it(code .. " is answered as its meaning asks", function ()
      local case = cases[code]
      s, p = world.settled()
      s:advance "60s"
      p:control("fault", { connack = { code = code, times = 1 } })
      p:control "close"
      s:run_until(function () return #world.journal(s, "a", "decision") == 2 end, "1m")
      local from = s:now()
      s:run_until(function () return #world.dials(s, "a", from) == 1 end, "3h")
      local waited = world.dials(s, "a", from)[1] - from
      -- The backoff of the second failure in a row may be drawn above the rule's own delay.
      assert.is_true(waited >= (case.least or 0) and waited <= math.max(case.most, 6500), "waited " .. waited)
      assert.equal(case.registers, #registers(from))
      s:up("a", "1m")
      s:close()
    end)
  end

  for _, code in ipairs { 21, 27 } do
    it(code .. " stops: no waiting mends it", function ()
      s, p = world.new { peer = { faults = { connack = { code = code, times = 1000 } } } }
      s:run_until(function () return s:view("a").fatal end, "1m")
      assert.equal(code, s:view("a").cause.code)
      s:advance "24h"
      assert.equal(1, #s:dials "a")
      s:close()
    end)
  end

  it("2 with a tail that no version explains, as the rebuilt server sends it, is read", function ()
    s, p = world.settled { peer = { line = "main" } }
    s:advance "60s"
    local from = s:now()
    p:control("fault", { connack = { code = 2, tail = true, times = 1 } })
    p:control "close"
    world.back(s, "a", "1m")
    assert.equal(1, #registers(from))
    s:close()
  end)

  it("2 for ever is slow after three registers in vain, and an alarm", function ()
    s, p = world.settled { peer = { line = "main" } }
    local from = s:now()
    p:control("fault", { auth = "connack" })
    p:control "close"
    s:advance "1h"
    assert.is_true(#registers(from) >= 3 and #registers(from) <= 10, #registers(from) .. " registers")
    assert.is_true(#world.dials(s, "a", from) <= 15, #world.dials(s, "a", from) .. " dials")
    assert.equal(1, #world.journal(s, "a", "alarm"))
    p:control "heal"
    s:up("a", "11m")
    s:close()
  end)
end)

describe("on every server line", function ()
  for _, line in ipairs { "1.2", "2.x", "main" } do
    it(line .. " a lost token is found again by one register that kicks nobody", function ()
      s, p = world.settled { peer = { line = line } }
      s:advance "60s"
      local from = s:now()
      p:control "forget"
      world.back(s, "a", "1m")
      assert.equal(1, #registers(from))
      for _, e in ipairs(registers()) do assert.equal(0, e.live) end
      s:close()
    end)

    it(line .. " another installation costs no register and no storm", function ()
      s, p = world.settled { peer = { line = line } }
      local from = s:now()
      p:control("rival", { every = 3000, lasts = 1200000 })
      s:advance "20m"
      assert.equal(0, #registers(from))
      assert.is_true(#world.dials(s, "a", from) <= 16, #world.dials(s, "a", from) .. " dials")
      s:up("a", "11m")
      s:close()
    end)
  end
end)
