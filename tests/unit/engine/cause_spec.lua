local engine = require "unit.engine"

describe("causes", function ()
  it("have a name for every kind, stage and event, and stages parse back", function ()
    local events, stages, kinds = engine.names()
    assert.is_true(#events >= 30)
    for _, parsed in pairs(stages) do assert.is_true(parsed) end
    for _, kind in ipairs(kinds) do assert.is_true(#kind > 0 and #kind < 32) end
  end)

  it("carry their kind as name until somebody renames them", function ()
    assert.equal("closed", engine.make_cause("bye").name)
    assert.equal("reconnect", engine.make_cause("bye", "reconnect").name)
  end)

  it("cut a hostile reason to what a close frame may carry, on a character", function ()
    local cause = engine.make_cause(("é"):rep(200))
    assert.is_true(#cause.reason < 124)
    assert.equal(0, #cause.reason % 2)
  end)
end)

describe("a matcher", function ()
  local closed = { kind = "closed", close = 4007, stage = "greeting", age = 400, session = true, reason = "bad seq" }
  local http = { kind = "upgrade_refused", http = 503, stage = "upgrading", by = "peer",
                 head = "Server: edge\r\nX-Limit:  global \r\n" }

  it("matches everything with any", function () assert.is_true(engine.matches({ any = true }, closed)) end)

  it("is an AND across keys and an OR inside lists", function ()
    assert.is_true(engine.matches({ close = { 4000, 4007 }, stage = { "greeting", "ready" } }, closed))
    assert.is_false(engine.matches({ close = { 4000, 4007 }, stage = "ready" }, closed))
    assert.is_true(engine.matches({ close = { { 4005, 4009 } } }, closed))
    assert.is_false(engine.matches({ close = { { 4008, 4009 } } }, closed))
  end)

  it("asks for a link's age only where there was a link", function ()
    assert.is_true(engine.matches({ under = 5000 }, closed))
    assert.is_false(engine.matches({ under = 400 }, closed))
    assert.is_false(engine.matches({ under = 5000 }, { kind = "call", stage = "preparing" }))
  end)

  it("knows whether the attempt meant to resume", function ()
    assert.is_true(engine.matches({ session = true }, closed))
    assert.is_false(engine.matches({ session = false }, closed))
  end)

  it("never takes the lack of a close code or an HTTP answer for one", function ()
    assert.is_false(engine.matches({ close = { { -10, 5000 } } }, { kind = "eof" }))
    assert.is_false(engine.matches({ http = { { 0, 599 } } }, { kind = "eof" }))
  end)

  it("compares header values exactly, names without case, around white space", function ()
    assert.is_true(engine.matches({ header = "x-limit", header_value = "global" }, http))
    assert.is_false(engine.matches({ header = "x-limit", header_value = "glob" }, http))
    assert.is_false(engine.matches({ header = "x-none", header_value = "" }, http))
    assert.is_false(engine.matches({ header = "server", header_value = "edge" }, { kind = "upgrade_refused" }))
  end)

  it("survives header blocks without ends, colons or bytes", function ()
    for _, head in ipairs { "", ":", "\n\n\n", "x-limit", "x-limit:", ("a"):rep(5000), "\r\nx-limit:global" } do
      engine.matches({ header = "x-limit", header_value = "global" }, { kind = "upgrade_refused", head = head })
    end
    assert.is_true(engine.matches({ header = "x-limit", header_value = "global" },
      { kind = "upgrade_refused", head = "\r\nx-limit:global" }))
  end)

  it("finds a name, a part of the reason, a code and who did it", function ()
    assert.is_true(engine.matches({ cause = { "eof", "closed" } }, closed))
    assert.is_false(engine.matches({ cause = "closed" }, { kind = "closed", name = "reconnect" }))
    assert.is_true(engine.matches({ cause = "closed", reason = "seq" }, closed))
    assert.is_false(engine.matches({ cause = "closed", reason = "token" }, closed))
    assert.is_true(engine.matches({ code = 7 }, { kind = "failed", code = 7 }))
    assert.is_true(engine.matches({ by = { "us", "peer" } }, http))
    assert.is_false(engine.matches({ by = "us" }, http))
  end)
end)
