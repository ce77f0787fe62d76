package.path = "./tests/unit/sim_world/?.lua;" .. package.path
local unit = require "unit.sim_world"
local helpers = require "helpers"

local function call(fault, options, url, timeout_ms, body_max)
  local w = unit.new(1)
  if fault then w:fault(fault, options or {}) end
  w:http(5, url or "https://a.test/api/x?y=1", timeout_ms, body_max)
  w:run(60000)
  local words = helpers.words(w:log())
  return words[#words], words, w
end

describe("an HTTP call", function ()
  it("reaches the server and brings its answer", function ()
    local answer, words = call()
    assert.equal("server http GET /api/x?y=1 host a.test body 0", words[1])
    assert.equal("http 5 200 fine", answer)
  end)

  local cases = {
    { "resolve_fail", "resolve" }, { "refuse", "refused" }, { "unreachable", "unreachable" },
    { "tls_fail", "tls" }, { "cert_expired", "certificate" }, { "cert_wrong_name", "certificate" },
    { "cert_unknown_ca", "certificate" }, { "plain_on_tls", "tls" }, { "reset", "reset" },
    { "truncate", "eof" }, { "garbage", "protocol" }, { "connect_timeout", "timeout" },
    { "black_hole", "timeout" }, { "half_open", "timeout" },
  }
  for _, case in ipairs(cases) do
    it("fails by " .. case[1] .. " as " .. case[2], function ()
      -- A count keeps a fault of "now" until the call meets it.
      assert.equal("http 5 " .. case[2], call(case[1], { times = 1 }))
    end)
  end

  it("gets a status of the fault's choice", function ()
    local answer = call("http_status", { status = 429, body = "later" })
    assert.equal("http 5 429 later", answer)
  end)

  it("fails over its size limit and for what is no address", function ()
    assert.equal("http 5 too_big", call(nil, nil, nil, nil, 2))
    assert.equal("http 5 address", call(nil, nil, "ftp://a.test/"))
    assert.equal("http 5 resolve", call(nil, nil, "https://nowhere.test/"))
  end)

  it("times out when the server says nothing, and a late answer finds nobody", function ()
    local w = unit.new(1)
    w:server "silent"
    w:http(5, "https://a.test/", 3000)
    w:run(2999)
    assert.is_nil(w:log():find("http 5", 1, true))
    w:run(10)
    assert.truthy(w:log():find("http 5 timeout", 1, true))
    assert.equal(0, w:counts().calls)
  end)

  it("is not heard of after it was cancelled", function ()
    local w = unit.new(1)
    w:http(5, "https://a.test/")
    w:run(50)
    w:http_cancel(5)
    w:http_cancel(5)
    w:run(60000)
    assert.is_nil(w:log():find("http 5", 1, true))
    assert.equal(0, w:counts().calls)
  end)

  it("gets the mute server's address", function ()
    assert.equal('http 5 200 {"url":"wss://mute.test/ws"}', call(nil, nil, "https://mute.test/open"))
  end)
end)
