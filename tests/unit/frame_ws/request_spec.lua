local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"

local KEY = "dGhlIHNhbXBsZSBub25jZQ=="

local function lines(list)
  return table.concat(list, "\r\n") .. "\r\n\r\n"
end

local function read(bytes)
  local whole = ws.read_request(bytes)
  assert.same(whole, ws.read_request(bytes, { step = 1 }))
  for _, at in ipairs(cases.cuts(#bytes)) do
    assert.same(whole, ws.read_request(bytes, { cut = at }), "cut at " .. at)
  end
  return whole
end

local GOOD = { "GET /ws?a=b HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: keep-alive, Upgrade",
  "Sec-WebSocket-Key: " .. KEY, "Sec-WebSocket-Version: 13" }

local function upgrade(changes)
  local list = {}
  for i, line in ipairs(GOOD) do
    if changes[i] == nil then list[#list + 1] = line
    elseif changes[i] then list[#list + 1] = changes[i] end
  end
  for _, line in ipairs(changes.more or {}) do list[#list + 1] = line end
  return lines(list)
end

describe("a request for an upgrade", function()
  it("is recognised, and what follows it is left", function()
    local bytes = upgrade {}
    local r = read(bytes .. "\x81\x80abcd")
    assert.equal("done", r.state)
    assert.is_true(r.is_upgrade)
    assert.equal("/ws?a=b", r.target)
    assert.equal(KEY, r.key)
    assert.equal(#bytes, r.consumed)
  end)

  it("is none when anything is wrong with it", function()
    for name, bytes in pairs {
      method = upgrade { "POST /ws HTTP/1.1" }, version = upgrade { "GET /ws HTTP/1.0" },
      upgrade = upgrade { [3] = false }, connection = upgrade { [4] = "Connection: keep-alive" },
      ["no key"] = upgrade { [5] = false }, ["short key"] = upgrade { [5] = "Sec-WebSocket-Key: dGhlIHM=" },
      ["bad key"] = upgrade { [5] = "Sec-WebSocket-Key: !!!" }, ["two keys"] = upgrade { more = { GOOD[5] } },
      ["key of 18 bytes"] = upgrade { [5] = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA" },
      ["old version"] = upgrade { [6] = "Sec-WebSocket-Version: 8" }, ["no version"] = upgrade { [6] = false },
    } do
      local r = read(bytes)
      assert.equal("done", r.state, name)
      assert.is_false(r.is_upgrade, name)
    end
  end)
end)

describe("a plain request", function()
  it("has method, target and body", function()
    local r = read "POST /oauth?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1"
    assert.same({ "done", "POST", "/oauth?x=1", "hello", false },
      { r.state, r.method, r.target, r.body, r.is_upgrade })
    assert.equal(#"POST /oauth?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", r.consumed)
  end)

  it("may come in chunks", function()
    local r = read "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\nrest"
    assert.same({ "done", "abc0123456789" }, { r.state, r.body })
  end)

  it("may follow empty lines, and be of HTTP/1.0 without a host", function()
    assert.equal("done", read("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").state)
    assert.equal("done", read("GET / HTTP/1.0\r\n\r\n").state)
  end)

  it("waits for its body", function()
    assert.equal("more", read("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell").state)
    assert.equal("more", read("GET / HTTP/1.1\r\nHost: x\r\n").state)
  end)
end)

describe("a hostile request", function()
  local function bad(why, bytes)
    it(("is named: %s (%q)"):format(why, bytes:sub(1, 20)), function()
      local r = read(bytes)
      assert.equal("bad", r.state)
      assert.equal(why, r.why)
    end)
  end

  bad("a NUL byte in the request's head", "\x16\x03\x01\x02\x00\r\n\r\n")
  bad("the request line has no method", "\x16\x03\x01 / HTTP/1.1\r\n\r\n")
  bad("the request line has no method", "GET\r\n\r\n")
  bad("the request line has no path", "GET /\r\n\r\n")
  bad("the request line has no path", "GET http://x/ HTTP/1.1\r\n\r\n")
  bad("the request line has no path", "GET  HTTP/1.1\r\n\r\n")
  bad("the request is not HTTP/1.0 or HTTP/1.1", "GET / HTTP/2\r\n\r\n")
  bad("the request is not HTTP/1.0 or HTTP/1.1", "GET / a HTTP/1.1\r\n\r\n")
  bad("the request is not HTTP/1.0 or HTTP/1.1", "GET / HTTP/1.2\r\n\r\n")
  bad("the request's method is over 15 bytes", "ABCDEFGHIJKLMNOP / HTTP/1.1\r\n\r\n")
  bad("the request's path is over 2047 bytes", "GET /" .. ("x"):rep(2047) .. " HTTP/1.1\r\n\r\n")
  bad("the request needs exactly one Host", "GET / HTTP/1.1\r\n\r\n")
  bad("the request needs exactly one Host", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
  bad("a malformed header line in the request", "GET / HTTP/1.1\r\nHost : a\r\n\r\n")
  bad("a malformed header line in the request", "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n")
  bad("a NUL byte in the request's head", "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n")
  bad("the request's head is over 16 KiB", "GET / HTTP/1.1\r\n" .. ("A: b\r\n"):rep(4000))
  bad("a Content-Length that is no length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n")
  bad("a Content-Length that is no length",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
  bad("Content-Length and Transfer-Encoding together",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
  bad("an unknown transfer coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n")
  bad("the request's body is over 1 MiB", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n")
  bad("the request's chunks are broken",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")

  it("cannot pile up chunks over 1 MiB", function()
    local r = ws.read_request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" ..
      ("10000\r\n" .. ("x"):rep(65536) .. "\r\n"):rep(17), { step = 50000 })
    assert.equal("the request's body is over 1 MiB", r.why)
  end)
end)

describe("an answer to a request", function()
  it("accepts what the client asked, as the client role reads it", function()
    local r = ws.read_answer(ws.accept(KEY, "chat"), { protocol = "chat" })
    assert.equal("done", r.state)
    assert.equal("done", ws.read_answer(ws.accept(KEY)).state)
    assert.matches("Sec%-WebSocket%-Accept: s3pPLMBiTxaQ9kYGzzhZRbK%+xOo=\r\n", ws.accept(KEY))
    assert.is_nil(ws.accept(KEY, "a\r\nB: c"))
    assert.is_nil(ws.accept(("x"):rep(200)))
  end)

  it("carries headers and a body with its length", function()
    assert.equal("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nslow",
      ws.response(429, "Retry-After: 3\r\n", "slow"))
    local r = ws.read_answer(ws.response(503, "", "busy"))
    assert.same({ "refused", 503, "busy" }, { r.state, r.status, r.body })
  end)

  it("has no body where HTTP allows none", function()
    assert.equal("HTTP/1.1 204 No Content\r\n\r\n", ws.response(204, "", "ignored"))
    assert.equal("HTTP/1.1 304 Not Modified\r\n\r\n", ws.response(304, "", ""))
  end)
end)
