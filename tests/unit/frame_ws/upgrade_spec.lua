local ws = require "unit.frame_ws"
local cases = require "frame_ws_cases"

local ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" -- for the nonce of RFC 6455, 1.3, which the test host uses

local function lines(list)
  return table.concat(list, "\r\n") .. "\r\n\r\n"
end

-- The answer must be the same however it is cut.
local function read(bytes, options)
  options = options or {}
  local function run(cuts)
    local o = { protocol = options.protocol, ended = options.ended }
    for k, v in pairs(cuts) do o[k] = v end
    local r = ws.read_answer(bytes, o)
    -- What is kept of a head that is none is evidence, as much as came with the wrong byte.
    if r.state == "bad" then r.head = nil end
    return r
  end
  local whole = run {}
  assert.same(whole, run { step = 1 })
  for _, at in ipairs(cases.cuts(#bytes)) do assert.same(whole, run { cut = at }, "cut at " .. at) end
  return whole
end

local GOOD = { "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
  "Sec-WebSocket-Accept: " .. ACCEPT }

-- GOOD with lines replaced or added.
local function answer(changes)
  local list = {}
  for i, line in ipairs(GOOD) do
    local v = changes[i]
    if v == nil then list[#list + 1] = line elseif v then list[#list + 1] = v end
  end
  for _, line in ipairs(changes.more or {}) do list[#list + 1] = line end
  return lines(list)
end

describe("a right answer", function()
  local function done(name, bytes, options)
    it(name, function()
      local r = read(bytes .. "\x81\x05Hello", options)
      assert.equal("done", r.state)
      assert.equal(101, r.status)
      assert.equal(#bytes, r.consumed) -- the frame that came with it is the caller's
      assert.equal(bytes, r.head)
    end)
  end

  done("is taken", answer {})
  done("may have any case of names and of the words in them",
    answer { [2] = "UPGRADE: WebSocket", [3] = "connection: UPGRADE", [4] = "sec-websocket-accept:" .. ACCEPT })
  done("may list more in Connection", answer { [3] = "Connection: keep-alive, Upgrade" })
  done("may spread Connection over two lines",
    answer { [3] = "Connection: keep-alive", more = { "Connection: upgrade" } })
  done("may have spaces and tabs around values",
    answer { [2] = "Upgrade:  \t websocket  \t", [4] = "Sec-WebSocket-Accept:\t" .. ACCEPT .. "  " })
  done("may have no reason, and more headers",
    answer { "HTTP/1.1 101", more = { "Date: now", "X-Empty:", "Server: a: b", "Content-Length: 5" } })
  done("may end its lines with LF alone", (answer({}):gsub("\r", "")))
  done("may choose a subprotocol that was asked for",
    answer { more = { "Sec-WebSocket-Protocol: chat.v2" } }, { protocol = "chat.v1, chat.v2" })
  done("may choose no subprotocol", answer {}, { protocol = "chat" })
  done("may name no extension", answer { more = { "Sec-WebSocket-Extensions:" } })
end)

describe("a wrong 101", function()
  local function bad(why, bytes, options)
    it("is named: " .. why, function()
      local r = read(bytes .. "\x81\x05Hello", options)
      assert.equal("bad", r.state)
      assert.equal(why, r.why)
    end)
  end

  bad("Sec-WebSocket-Accept is wrong", answer { [4] = "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=" })
  bad("Sec-WebSocket-Accept is wrong", answer { [4] = "Sec-WebSocket-Accept: " .. ACCEPT:lower() })
  bad("Sec-WebSocket-Accept is wrong", answer { [4] = "Sec-WebSocket-Accept: " .. ACCEPT .. "x" })
  bad("Sec-WebSocket-Accept is wrong", answer { [4] = "Sec-WebSocket-Accept:" })
  bad("Sec-WebSocket-Accept is wrong", answer { [4] = "Sec-WebSocket-Accept: " .. ACCEPT:sub(1, 27) })
  bad("the 101 has no Sec-WebSocket-Accept", answer { [4] = false })
  bad("the 101 has more than one Sec-WebSocket-Accept", answer { more = { GOOD[4] } })
  bad("the 101 has no Upgrade: websocket", answer { [2] = false })
  bad("the 101 has no Upgrade: websocket", answer { [2] = "Upgrade: h2c" })
  bad("the 101 has no Upgrade: websocket", answer { [2] = "Upgrade: websockets" })
  bad("the 101 has no Connection: Upgrade", answer { [3] = "Connection: close" })
  bad("the 101 has no Connection: Upgrade", answer { [3] = "Connection: upgraded" })
  bad("a subprotocol that was not asked for", answer { more = { "Sec-WebSocket-Protocol: chat" } })
  bad("a subprotocol that was not asked for", answer { more = { "Sec-WebSocket-Protocol: cha" } },
    { protocol = "chat" })
  bad("a subprotocol that was not asked for", answer { more = { "Sec-WebSocket-Protocol: a, b" } },
    { protocol = "a, b" })
  bad("a subprotocol that was not asked for",
    answer { more = { "Sec-WebSocket-Protocol: " .. ("x"):rep(500) } }, { protocol = "chat" })
  bad("the 101 has more than one subprotocol",
    answer { more = { "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a" } }, { protocol = "a" })
  bad("an extension that was not asked for",
    answer { more = { "Sec-WebSocket-Extensions: permessage-deflate" } })
  bad("a malformed header line in the 101", answer { more = { "no colon here" } })
  bad("a malformed header line in the 101", answer { more = { "Spaced : name" } })
  bad("a malformed header line in the 101", answer { more = { " folded: line" } })
  bad("a malformed header line in the 101", answer { more = { ": no name" } })
  bad("a malformed header line in the 101", answer { more = { "Stray: c\rr" } })
  bad("HTTP/1.0 cannot switch protocols", answer { "HTTP/1.0 101 Switching Protocols" })
end)

describe("what is no answer", function()
  local function bad(why, bytes, status)
    it(("is named: %s (%q)"):format(why, bytes:sub(1, 24)), function()
      local r = read(bytes)
      assert.equal("bad", r.state)
      assert.equal(why, r.why)
      assert.equal(status or 0, r.status)
    end)
  end

  bad("the answer is not HTTP/1", "SSH-2.0-OpenSSH_9.2\r\n")
  bad("the answer is not HTTP/1", "\x15\x03\x01\x00\x02\x02\x0a") -- a TLS alert
  bad("the answer is not HTTP/1", "\0\0\0")
  bad("the answer is not HTTP/1", "HTTP/2 200\r\n\r\n")
  bad("the answer is not HTTP/1", "\r\nHTTP/1.1 101\r\n\r\n")
  bad("the answer is not HTTP/1", "http/1.1 200 OK\r\n\r\n")
  bad("the answer is not HTTP/1", "<html>")
  bad("the answer's status line is malformed", "HTTP/1.1\r\n\r\n")
  bad("the answer's status line is malformed", "HTTP/1.1 1o1 Switching\r\n\r\n")
  bad("the answer's status line is malformed", "HTTP/1.1 1011\r\n\r\n")
  bad("the answer's status line is malformed", "HTTP/1.1  101\r\n\r\n")
  bad("the answer's status line is malformed", "HTTP/1.x 101\r\n\r\n")
  bad("the answer's status is below 100", "HTTP/1.1 099 No\r\n\r\n", 99)
  bad("an interim status (1xx) that was not asked for", "HTTP/1.1 100 Continue\r\n\r\n", 100)
  bad("an interim status (1xx) that was not asked for", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n", 103)
  bad("a NUL byte in the answer's head", "HTTP/1.1 101 Sw\0tching\r\n\r\n")
  bad("the answer's head is over 16 KiB", "HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(4000))
  bad("the answer's head is over 16 KiB", "HTTP/1.1 200 " .. ("x"):rep(20000))
  bad("the answer's head is over 16 KiB", "HTTP/1.1 200 " .. ("x"):rep(20000) .. "\r\n\0\r\n\r\n")

  it("is known before a line ends", function()
    assert.equal("bad", ws.read_answer("SSH").state)
    assert.equal("bad", ws.read_answer("HTTQ").state)
    assert.equal("more", ws.read_answer("HTTP/1").state)
  end)

  it("is a head of 16 KiB and a byte, and not one of exactly 16 KiB", function()
    local function of(size)
      local head = "HTTP/1.1 404 No\r\nContent-Length: 0\r\nA: "
      return head .. ("x"):rep(size - #head - 4) .. "\r\n\r\n"
    end
    assert.equal("refused", read(of(16384)).state)
    assert.equal("bad", read(of(16385)).state)
  end)

  it("is a stream that ended before it", function()
    assert.equal("the stream ended without an answer", read("", { ended = true }).why)
    assert.equal("the stream ended inside the answer's head", read("HTTP/1.1 200 OK\r\nA:", { ended = true }).why)
  end)
end)

describe("a refusal", function()
  local function refused(name, bytes, status, body, options)
    it(name, function()
      local r = read(bytes, options)
      assert.equal("refused", r.state)
      assert.equal(status, r.status)
      assert.equal(body, r.body)
      assert.is_nil(r.why)
      assert.equal(bytes:match "^(.-\r?\n\r?\n)", r.head)
    end)
  end
  local HEAD = "HTTP/1.1 429 Too Many Requests\r\n"

  refused("keeps status, headers and a body with Content-Length",
    HEAD .. "Content-Length: 12\r\nRetry-After: 3\r\n\r\nslow down ok" .. "and what follows", 429, "slow down ok")
  refused("may have no body", HEAD .. "Content-Length: 0\r\n\r\n", 429, "")
  refused("with 204 has none", "HTTP/1.1 204 No Content\r\n\r\n", 204, "")
  refused("with 304 has none", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "")
  refused("keeps a chunked body",
    HEAD .. "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n", 429, "hello world")
  refused("takes chunked over Content-Length",
    HEAD .. "Content-Length: 3\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 429, "x")
  refused("keeps what a broken chunk left", HEAD .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX", 429, "abc")
  refused("keeps what came before a chunk without a size",
    HEAD .. "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n\r\n\r\n", 429, "ab")
  refused("survives an absurd chunk size",
    HEAD .. "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\n", 429, "")
  refused("keeps a body that the stream's end ends", HEAD .. "\r\nuntil the end", 429, "until the end", { ended = true })
  refused("keeps a body that was cut", HEAD .. "Content-Length: 99\r\n\r\ncut", 429, "cut", { ended = true })
  refused("keeps a chunked body that was cut",
    HEAD .. "Transfer-Encoding: chunked\r\n\r\n9\r\ncut", 429, "cut", { ended = true })
  refused("keeps the first 4096 bytes of a body", HEAD .. "\r\n" .. ("x"):rep(9000), 429, ("x"):rep(4096))
  refused("keeps the first 4096 bytes of a chunked body",
    HEAD .. "Transfer-Encoding: chunked\r\n\r\nfff\r\n" .. ("x"):rep(4095) .. "\r\nfff\r\n" .. ("y"):rep(4095), 429,
    ("x"):rep(4095) .. "y")
  refused("may be of HTTP/1.0", "HTTP/1.0 503 Busy\r\n\r\nbusy", 503, "busy", { ended = true })
  refused("may have headers that are nonsense",
    "HTTP/1.1 401 Unauthorized\r\nnonsense\r\n : x\r\nContent-Length: 2\r\n\r\nno", 401, "no")
  refused("reads lengths that contradict each other until the end",
    HEAD .. "Content-Length: 1\r\nContent-Length: 2\r\n\r\nabc", 429, "abc", { ended = true })
  refused("reads a length that is none until the end",
    HEAD .. "Content-Length: -1\r\n\r\nabc", 429, "abc", { ended = true })
  refused("may be a redirect", "HTTP/1.1 302 Found\r\nLocation: wss://else.example/\r\nContent-Length: 0\r\n\r\n", 302, "")
  refused("may be a plain 200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi")

  it("has its status as soon as its head is there", function()
    local r = ws.read_answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 50\r\n\r\nhalf of")
    assert.same({ "more", 403, "half of" }, { r.state, r.status, r.body })
  end)
end)

describe("a header of an answer", function()
  local HEAD = "HTTP/1.1 200 OK: not a header\r\nFirst:  one \t\r\nSECOND:two\r\nbroken\r\nFirst: again\r\n" ..
    "Long: 0123456789012345678901234567890123456789\r\n\r\nBody: not a header\r\n"

  it("is found whatever its case, trimmed, the first of several", function()
    assert.equal("one", ws.header(HEAD, "first"))
    assert.equal("two", ws.header(HEAD, "Second"))
    assert.equal("again", ws.header("HTTP/1.1 200\r\nbroken\r\nx: again", "X"))
  end)

  it("is cut to the room there is", function()
    assert.equal("0123456789012345678901234567890", ws.header(HEAD, "Long"))
  end)

  it("is absent otherwise", function()
    for _, name in ipairs { "Fir", "Firsts", "broken", "Body", "HTTP/1.1 200 OK", "" } do
      assert.is_nil(ws.header(HEAD, name))
    end
    assert.is_nil(ws.header("", "First"))
    assert.is_nil(ws.header("HTTP/1.1 200 OK", "First"))
  end)
end)

describe("Retry-After", function()
  local NOW = 784111777000 -- Sun, 06 Nov 1994 08:49:37 GMT

  local function after(value)
    return ws.retry_after("HTTP/1.1 429 X\r\nRetry-After: " .. value .. "\r\n\r\n", NOW)
  end

  it("is seconds, with decimals too, rounded up", function()
    for value, ms in pairs { ["0"] = 0, ["1"] = 1000, ["120"] = 120000, ["0.37"] = 370, ["1.0"] = 1000,
      ["64.57"] = 64570, ["0.0001"] = 1, ["2.0000"] = 2000, ["999999999"] = 999999999000 } do
      assert.equal(ms, after(value), value)
    end
  end)

  it("is a date in any of the three forms, and nothing when it has passed", function()
    assert.equal(60000, after "Sun, 06 Nov 1994 08:50:37 GMT")
    assert.equal(60000, after "Sunday, 06-Nov-94 08:50:37 GMT")
    assert.equal(60000, after "Sun Nov  6 08:50:37 1994")
    assert.equal(0, after "Sun, 06 Nov 1994 08:49:37 GMT")
    assert.equal(0, after "Sun, 06 Nov 1970 08:49:37 GMT")
    assert.equal(1732233600000 - NOW, after "Fri, 22 Nov 2024 00:00:00 GMT")
    assert.equal(951782400000 - NOW, after "Tue, 29 Feb 2000 00:00:00 GMT")
    assert.equal(4102444800000 - NOW, after "Fri, 01 Jan 2100 00:00:00 GMT")
  end)

  it("is unknown when absent or nonsense", function()
    assert.is_nil(ws.retry_after("HTTP/1.1 429 X\r\n\r\n", NOW))
    for _, value in ipairs { "", "-1", "soon", "1e3", "1.", ".5", "1,5", "0x10", "1 2", "inf", "nan",
      "9999999999", "99999999999999999999999", "Sun, 06 Nov 1994 08:50:37", "Sun, 06 Xyz 1994 08:50:37 GMT",
      "Sun, 06 anF 1994 08:50:37 GMT", "Sun, 32 Nov 1994 08:50:37 GMT", "Sun, 06 Nov 1994 24:50:37 GMT",
      "Sun, 06 Nov 1994 08:50:37 GMT tomorrow", "Sun, 06 Nov 1994 -1:50:37 GMT" } do
      assert.is_nil(after(value), value)
    end
  end)
end)

describe("a request", function()
  local PLAIN = { host = "chat.example:8443", target = "/ws?v=1" }

  local function with(changes)
    local q = {}
    for k, v in pairs(PLAIN) do q[k] = v end
    for k, v in pairs(changes) do q[k] = v end
    return ws.request(q)
  end

  it("is what RFC 6455 asks for", function()
    assert.equal(lines { "GET /ws?v=1 HTTP/1.1", "Host: chat.example:8443", "Upgrade: websocket",
      "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Protocol: chat", "Authorization: Bot x", "X-Odd: a\tb \xe4\xbd\xa0" },
      with { protocol = "chat", headers = { { "Authorization", "Bot x" }, { "X-Odd", "a\tb \xe4\xbd\xa0" } } })
  end)

  it("is understood by the other role", function()
    local r = ws.read_request((with { headers = { { "A", "b" } } }))
    assert.is_true(r.is_upgrade)
    assert.equal("/ws?v=1", r.target)
    assert.equal("dGhlIHNhbXBsZSBub25jZQ==", r.key)
  end)

  it("is refused for anything that could add a line or a word to it", function()
    for _, evil in ipairs { "a\r\nB: c", "a\nB", "a\rB", "a\1", "a\x7f" } do
      assert.is_nil(with { host = evil })
      assert.is_nil(with { target = "/" .. evil })
      assert.is_nil(with { protocol = evil })
      assert.is_nil(with { headers = { { "X", evil } } })
      assert.is_nil(with { headers = { { evil, "x" } } })
    end
    assert.is_nil(with { host = "" })
    assert.is_nil(with { host = "a b" })
    assert.is_nil(with { target = "/a b" })
    assert.is_nil(with { target = "no-slash" })
    assert.is_nil(with { target = "" })
    assert.is_nil(with { protocol = "" })
    assert.is_nil(with { protocol = ("x"):rep(64) })
    assert.is_string(with { protocol = ("x"):rep(63) })
    for _, name in ipairs { "", "a b", "a:", "\xe4" } do
      assert.is_nil(with { headers = { { name, "x" } } })
    end
  end)

  it("is refused for headers that the upgrade owns", function()
    for _, name in ipairs { "Host", "HOST", "connection", "Upgrade", "Sec-WebSocket-Key", "sec-websocket-version",
      "Sec-WebSocket-Extensions", "Sec-WebSocket-", "Content-Length", "transfer-encoding" } do
      assert.is_nil(with { headers = { { "Fine", "x" }, { name, "x" } } }, name)
    end
    assert.is_string(with { headers = { { "Sec-WebSocke", "x" }, { "Hosts", "x" } } })
  end)

  it("is all or nothing under the buffer's limit", function()
    assert.is_nil(with { limit = 100 })
  end)
end)
