package.path = "./tests/unit/sim_world/?.lua;" .. package.path
local unit = require "unit.sim_world"
local helpers = require "helpers"

-- The reports of one dial to a.test under a fault, as words.
local function dial(fault, options, run_ms)
  local w = unit.new(1)
  w:fault(fault, options)
  w:open(1, "a.test")
  w:run(run_ms or 60000)
  local log = w:log()
  return helpers.words(log), log, w
end

local function last(words) return words[#words - 1], words[#words] end

describe("a dial", function ()
  local cases = {
    { "resolve_fail", {}, "ended 1 resolve at resolving" },
    { "refuse", {}, "ended 1 refused at connecting" },
    { "unreachable", {}, "ended 1 unreachable at connecting" },
    { "tls_fail", {}, "ended 1 tls at securing" },
    { "plain_on_tls", {}, "ended 1 tls at securing" },
    { "cert_expired", {}, "ended 1 certificate at securing" },
    { "cert_wrong_name", {}, "ended 1 certificate at securing" },
    { "cert_unknown_ca", {}, "ended 1 certificate at securing" },
    { "reset", { stage = "connecting" }, "ended 1 reset at connecting" },
    { "reset", { stage = "securing" }, "ended 1 reset at securing" },
  }
  for _, case in ipairs(cases) do
    it(("ends by %s%s, told once, then closed"):format(case[1], case[2].stage and " at " .. case[2].stage or ""), function ()
      local words = dial(case[1], case[2])
      local ended, closed = last(words)
      assert.equal(case[3], ended)
      assert.equal("closed 1", closed)
    end)
  end

  it("to a name that nobody has fails to resolve", function ()
    local w = unit.new(1)
    w:open(1, "nowhere.test")
    w:run(1000)
    assert.truthy(w:log():find("ended 1 resolve at resolving", 1, true))
  end)

  for _, fault in ipairs { "connect_timeout", "black_hole" } do
    it("hears nothing for ever in a " .. fault .. ", until it is aborted", function ()
      local words, _, w = dial(fault, {}, 600000)
      assert.equal("stage 1 connecting", words[#words])
      w:link(1, "abort")
      w:run(10)
      assert.same({ "closed 1" }, helpers.words(w:log()))
      assert.equal(0, w:counts().descriptors)
    end)
  end

  it("waits for a slow resolver", function ()
    local _, log = dial("resolve_slow", { ms = 4000 })
    assert.is_true(helpers.time_of(log, "stage 1 connecting") >= 4000)
  end)

  it("to a plain server with TLS ends by tls", function ()
    local w = unit.new(1)
    w:open(1, "plain.test", true)
    w:run(1000)
    assert.truthy(w:log():find("ended 1 tls at securing", 1, true))
  end)

  it("without TLS to a TLS server gets its complaint", function ()
    local w = unit.new(1)
    w:open(1, "a.test", false)
    w:run(1000)
    w:write(1, helpers.upgrade())
    w:run(10000)
    assert.truthy(w:seen(1):find "^HTTP/1.1 400 ")
  end)
end)

describe("a fault", function ()
  it("strikes as often as it says and no more", function ()
    local w = unit.new(1)
    w:fault("refuse", { times = 2 })
    local refused = 0
    for id = 1, 4 do
      w:open(id, "a.test")
      w:run(1000)
      if w:log():find("refused", 1, true) then refused = refused + 1 end
    end
    assert.equal(2, refused)
  end)

  it("strikes with about its probability, by the seed alone", function ()
    local function count(seed)
      local w, n = unit.new(seed), 0
      w:fault("refuse", { probability = 0.25 })
      for id = 1, 400 do
        w:open(id, "a.test")
        w:run(1000)
        if w:log():find("refused", 1, true) then n = n + 1 end
      end
      return n
    end
    assert.equal(count(5), count(5))
    local n = count(5)
    assert.is_true(n > 60 and n < 140, n)
  end)

  it("keeps to its host, its peer, its connection and to links or calls", function ()
    for _, who in ipairs { { host = "b.*" }, { peer = "plain" }, { connection = "c7" }, { what = 2 } } do
      local w = unit.new(1)
      w:fault("refuse", who)
      w:open(1, "a.test")
      w:run(1000)
      assert.truthy(w:log():find("opened 1", 1, true))
    end
    for _, who in ipairs { { host = "a.*" }, { peer = "tls" }, { connection = "c1" }, { what = 1 } } do
      local w = unit.new(1)
      w:fault("refuse", who)
      w:open(1, "a.test")
      w:run(1000)
      assert.truthy(w:log():find("ended 1 refused", 1, true))
    end
  end)

  it("is over when it is switched off", function ()
    local w = unit.new(1)
    local id = w:fault("refuse", {})
    assert.is_true(w:fault_off(id))
    assert.is_false(w:fault_off(id))
    w:open(1, "a.test")
    w:run(1000)
    assert.truthy(w:log():find("opened 1", 1, true))
  end)
end)

describe("an open stream", function ()
  it("is reset now", function ()
    local w = helpers.open()
    w:fault("reset", {})
    w:run(1000)
    local log = w:log()
    assert.truthy(log:find("ended 1 reset", 1, true))
    assert.truthy(log:find("closed 1", 1, true))
    assert.truthy(log:find("server closed 1006", 1, true))
  end)

  it("ends without a close frame", function ()
    local w = helpers.open()
    w:fault("eof_without_close", {})
    w:run(1000)
    assert.truthy(w:log():find("ended 1 eof", 1, true))
    assert.equal(0, w:counts().streams)
  end)

  it("is truncated after so many bytes, in the middle of a frame", function ()
    local w = helpers.open()
    w:fault("truncate", { bytes = 5 })
    w:server("send", "a long message")
    w:run(1000)
    assert.equal("\x81\x0ea l", w:seen(1))
    assert.truthy(w:log():find("ended 1 eof", 1, true))
  end)

  it("is reset after so many bytes", function ()
    local w = helpers.open()
    w:fault("reset", { bytes = 3 })
    w:server("send", "a long message")
    w:run(1000)
    assert.equal("\x81\x0ea", w:seen(1))
    assert.truthy(w:log():find("ended 1 reset", 1, true))
  end)

  it("trickles one byte at a time", function ()
    local w = helpers.open()
    local id = w:fault("trickle", { ms = 100 })
    w:server("send", "0123456789")
    w:run(650)
    local early = w:seen(1)
    assert.is_true(#early >= 3 and #early <= 7, #early)
    w:fault_off(id)
    w:run(1000)
    assert.equal("\x81\x0a0123456789", early .. w:seen(1))
  end)

  it("is slow both ways and keeps its order", function ()
    local w = helpers.open()
    w:fault("slow", { ms = 500 })
    w:write(1, unit.frame(1, "one"))
    w:run(400)
    assert.equal("", w:log())
    w:write(1, unit.frame(1, "two"))
    w:run(2000)
    local words = helpers.words(w:log())
    assert.equal("server text 3 one", words[1])
    assert.equal("server text 3 two", words[2])
  end)

  it("in a black hole is silent, and all of it comes after the heal", function ()
    local w = helpers.open()
    w:fault("black_hole", {})
    w:write(1, unit.frame(1, "up"))
    w:server("send", "down")
    w:run(600000)
    assert.equal("", w:log())
    assert.is_true(w:stream(1).dead > 0)
    w:heal()
    w:run(2000)
    assert.truthy(w:log():find("server text 2 up", 1, true))
    assert.equal("\x81\x04down", w:seen(1))
    assert.equal(0, w:stream(1).dead)
  end)

  it("in a black hole keeps our abort from the server: a ghost", function ()
    local w = helpers.open()
    w:fault("black_hole", {})
    w:link(1, "abort")
    w:run(600000)
    assert.same({ "closed 1" }, helpers.words(w:log()))
    local counts = w:counts()
    assert.equal(0, counts.descriptors)
    assert.equal(1, counts.ghosts)
    assert.equal(0, counts.of_c1)
  end)

  it("half-open stays dead after a heal", function ()
    local w = helpers.open()
    w:fault("half_open", {})
    w:write(1, unit.frame(1, "up"))
    w:heal()
    w:run(600000)
    assert.equal("", w:log())
    w:open(2, "a.test")
    w:run(1000)
    assert.truthy(w:log():find("opened 2", 1, true))
  end)

  it("brings garbage that is no frame", function ()
    local w = helpers.open()
    w:fault("garbage", { bytes = 20 })
    w:run(1000)
    local seen = w:seen(1)
    assert.equal(20, #seen)
    assert.is_true(math.floor(seen:byte(1) / 16) % 8 ~= 0)
  end)
end)

describe("an upgrade", function ()
  it("is answered with a status, headers and a body of the fault's choice", function ()
    local w = unit.new(1)
    w:fault("http_status", { status = 429, headers = "Retry-After: 7\r\n", body = "slow down" })
    w:open(1, "a.test")
    w:run(1000)
    w:write(1, helpers.upgrade())
    w:run(10000)
    local seen = w:seen(1)
    assert.truthy(seen:find "^HTTP/1.1 429 ")
    assert.truthy(seen:find("Retry-After: 7\r\n", 1, true))
    assert.truthy(seen:find("slow down", 1, true))
    assert.truthy(w:log():find("ended 1 eof", 1, true))
  end)

  it("is reset, or followed by a reset at the greeting", function ()
    for stage, expected in pairs { upgrading = "^$", greeting = "^HTTP/1.1 101 .*\r\n\r\n$" } do
      local w = unit.new(1)
      w:fault("reset", { stage = stage })
      w:open(1, "a.test")
      w:run(1000)
      w:write(1, helpers.upgrade())
      w:run(1000)
      assert.truthy(w:seen(1):find(expected), stage)
      assert.truthy(w:log():find("ended 1 reset", 1, true))
    end
  end)

  it("is refused by the server, or never answered", function ()
    local w = unit.new(1)
    w:server "answer"
    w:open(1, "a.test")
    w:run(1000)
    w:write(1, helpers.upgrade())
    w:run(1000)
    assert.truthy(w:seen(1):find "^HTTP/1.1 503 .*busy")
    w:server "silent"
    w:open(2, "a.test")
    w:run(1000)
    w:write(2, helpers.upgrade())
    w:run(600000)
    assert.equal("", w:seen(2))
  end)
end)
