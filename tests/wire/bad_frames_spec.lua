-- What no server should send, byte by byte: each breaks the link with the close code that RFC 6455 names,
-- and a cause that says what was wrong.
local world = require "wire_world"

local function be(n, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

-- A server's frame: first byte as it is, then the length.
local function frame(first, payload)
  local n = #payload
  local length = n < 126 and string.char(n) or n < 65536 and "\126" .. be(n, 2) or "\127" .. be(n, 8)
  return string.char(first) .. length .. payload
end

-- The code in the first masked close frame among the bytes that a raw server received, after the upgrade.
local function close_code(received)
  local _, at = received:find("\r\n\r\n", 1, true)
  at = at + 1
  while at < #received do
    local first, second = received:byte(at, at + 1)
    local n, head = second % 128, 2
    if n == 126 then n, head = received:byte(at + 2) * 256 + received:byte(at + 3), 4 end
    local mask = { received:byte(at + head, at + head + 3) }
    if first == 0x88 then
      if n == 0 then return 1005 end
      local a, b = received:byte(at + head + 4, at + head + 5)
      return bit.bxor(a, mask[1]) * 256 + bit.bxor(b, mask[2])
    end
    at = at + head + 4 + n
  end
end

describe("a server that sends", function ()
  local s
  before_each(function ()
    world.setup()
    s = world.new()
  end)
  after_each(world.teardown)

  local hello = frame(0x81, '{"op":10}')

  local function sends(fault, bytes, expected, code)
    local raw = s:raw { { "upgrade" }, { "write", hello .. bytes }, { "end" } }
    s:connection("probe", { url = raw.ws .. "/", hello = true })
    local d = s:fails("probe", fault, expected)
    s:run_until(function ()
      local saw = raw.saw()[1]
      return saw.notes:find "eof" or saw.notes:find "reset" or saw.notes:find "closed"
    end)
    assert.are.equal(code, close_code(raw.saw()[1].received))
    s:run_until(function () return s:state "probe" == "waiting" end)
    return d
  end

  it("a message over the limit gets 1009", function ()
    sends("message over the limit", frame(0x82, ("x"):rep(1024 * 1024 + 1)), { stage = "ready", kind = "too_big" }, 1009)
  end)

  it("only the length of one over the limit gets 1009 before its bytes come", function ()
    sends("length over the limit", "\130\127" .. be(2 ^ 40, 8), { kind = "too_big" }, 1009)
  end)

  it("invalid UTF-8 in a text message gets 1007", function ()
    sends("invalid UTF-8", frame(0x81, '{"op":0,"n":"\xc3\x28"}'), { kind = "protocol", close = 1007 }, 1007)
  end)

  it("a reserved bit gets 1002", function ()
    sends("reserved bit", frame(0xc1, '{"op":0}'), { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a reserved opcode gets 1002", function ()
    sends("reserved opcode", frame(0x83, "x"), { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a masked frame gets 1002", function ()
    sends("masked server frame", "\129\130\1\2\3\4ab", { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a fragmented ping gets 1002", function ()
    sends("fragmented ping", "\9\1x", { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a ping over 125 bytes gets 1002", function ()
    sends("long ping", "\137\126" .. be(126, 2) .. ("x"):rep(126), { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a continuation of nothing gets 1002", function ()
    sends("continuation of nothing", frame(0x80, "x"), { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a close frame of one byte gets 1002", function ()
    sends("close frame of one byte", frame(0x88, "x"), { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a close frame with a code that may not be sent gets 1002", function ()
    sends("close code 1006 on the wire", frame(0x88, "\3\238"), { kind = "protocol", close = 1002 }, 1002)
  end)

  it("a close frame gets its own code back, once", function ()
    local raw = s:raw { { "upgrade" }, { "write", hello .. frame(0x88, "\15\160kicked") }, { "end" } }
    s:connection("probe", { url = raw.ws .. "/", hello = true })
    s:fails("probe", "close 4000 by raw bytes", { kind = "closed", close = 4000, reason = "kicked" })
    s:run_until(function () return raw.saw()[1].notes:find "eof" end)
    assert.are.equal(4000, close_code(raw.saw()[1].received))
  end)

  it("a ping gets its pong, and the link lives", function ()
    local raw = s:raw { { "upgrade" }, { "write", hello .. frame(0x89, "abc") }, { "read", "9" }, { "quiet" } }
    s:connection("probe", { url = raw.ws .. "/", hello = true })
    s:up "probe"
    s:run_until(function () return #(raw.saw()[1].received:match "\r\n\r\n(.*)$" or "") >= 9 end)
    local pong = raw.saw()[1].received:match "\r\n\r\n(.*)$"
    assert.are.equal(0x8a, pong:byte(1))
    assert.are.equal(0x83, pong:byte(2))
    assert.are.equal("up", s:state "probe")
  end)

  it("no JSON is delivered as it came, marked malformed, and the link lives", function ()
    local policy = world.PROBE:gsub("deliver = { op = 0 }", "deliver = true")
    local bot = s:consumer {}
    local raw = s:raw { { "upgrade" }, { "write", hello .. frame(0x81, "{not json") }, { "quiet" } }
    s:connection("probe", { policy = policy, url = raw.ws .. "/", hello = true })
    s:up "probe"
    s:run_until(function () return s:view "probe".malformed == 1 or s:view "probe".other >= 2 end)
    assert.are.equal("up", s:state "probe")
    for _, e in ipairs(bot:events()) do assert.is_true(e.frame ~= nil or e.frame_base64 ~= nil) end
  end)
end)
