local bit = require "bit"
local net = require "unit.net"
local echo = require "unit.net_echo"
local world = require "net_world"

-- A frame as a server sends it; `flags`: first byte without the opcode, 0x80 unless given.
local function frame(opcode, payload, flags)
  local len = #payload
  local head = string.char(bit.bor(flags or 0x80, opcode))
  if len < 126 then return head .. string.char(len) .. payload end
  if len < 65536 then return head .. string.char(126, bit.rshift(len, 8), bit.band(len, 255)) .. payload end
  return head .. string.char(127, 0, 0, 0, 0, bit.band(bit.rshift(len, 24), 255), bit.band(bit.rshift(len, 16), 255),
    bit.band(bit.rshift(len, 8), 255), bit.band(len, 255)) .. payload
end

-- The masked frames of a client, as { opcode, payload } each.
local function frames(bytes)
  local list, at = {}, 1
  while at <= #bytes do
    local first, second = bytes:byte(at, at + 1)
    assert(bit.band(second, 0x80) ~= 0, "a client's frame must be masked")
    local len = bit.band(second, 0x7f)
    at = at + 2
    local bytes_of_len = len == 126 and 2 or len == 127 and 8 or 0
    if bytes_of_len > 0 then
      len = 0
      for i = 0, bytes_of_len - 1 do len = len * 256 + bytes:byte(at + i) end
      at = at + bytes_of_len
    end
    local mask = { bytes:byte(at, at + 3) }
    at = at + 4
    local out = {}
    for i = 0, math.min(len, #bytes - at + 1) - 1 do out[i + 1] = string.char(bit.bxor(bytes:byte(at + i), mask[i % 4 + 1])) end
    table.insert(list, { bit.band(first, 15), table.concat(out) })
    at = at + len
  end
  return list
end

local function close_code(f)
  return f[2]:byte(1) * 256 + f[2]:byte(2)
end

describe("ws_echo_client", function ()
  before_each(world.setup)
  after_each(world.teardown)

  -- Serves one connection: upgrade, then `script`; returns the client's status and frames.
  local function run(script, options)
    local steps = options and options.server or {}
    if options and options.server then table.insert(steps, { "tls" }) end
    table.insert(steps, { "upgrade" })
    for _, step in ipairs(script) do table.insert(steps, step) end
    local s = world.server(steps)
    local scheme = options and options.server and "wss" or "ws"
    local status = echo.run(("%s://localhost:%d/runCase?case=1&agent=holdfast"):format(scheme, s:port()),
      options and options.ca_file)
    s:stop()
    local _, received = s:saw(1)
    local request, rest = received:match "^(.-\r\n\r\n)(.*)$"
    return status, frames(rest), request
  end

  local goodbye = frame(8, "\3\232") -- 1000

  it("asks for the address given, target and query included", function ()
    local status, _, request = run { { "write", goodbye }, { "read", "8" } }
    assert.equal(0, status)
    assert.matches("^GET /runCase%?case=1&agent=holdfast HTTP/1.1\r\n", request)
    assert.matches("\r\nHost: localhost:%d+\r\n", request)
  end)

  it("echoes text, binary, empty and fragmented messages as they came, then closes alike", function ()
    local big = ("0123456789abcdef"):rep(8192)
    local status, got = run {
      { "write", frame(1, "h\195\169llo") .. frame(2, "\0\255") .. frame(1, "") },
      { "write", frame(1, "frag", 0) .. frame(9, "between") .. frame(0, "ment", 0) .. frame(0, "ed") },
      { "trickle", frame(2, "one byte at a time") },
      { "write", frame(2, big) .. goodbye },
      { "read", tostring(12 + 8 + 6 + 13 + 16 + 24 + 14 + #big + 8) },
    }
    assert.equal(0, status)
    assert.same({ 1, "h\195\169llo" }, got[1])
    assert.same({ 2, "\0\255" }, got[2])
    assert.same({ 1, "" }, got[3])
    assert.same({ 10, "between" }, got[4])
    assert.same({ 1, "fragmented" }, got[5])
    assert.same({ 2, "one byte at a time" }, got[6])
    assert.equal(2, got[7][1])
    assert.is_true(got[7][2] == big)
    assert.same({ 8, "\3\232" }, got[8])
    assert.equal(8, #got)
  end)

  it("echoes 16 MiB in one message, far more than a link queues", function ()
    local big = ("x"):rep(16 * 1048576)
    local s = world.server { { "upgrade" }, { "write", frame(2, big) }, { "read", tostring(#big + 14) },
      { "write", goodbye }, { "read", "8" } }
    assert.equal(0, echo.run("ws://127.0.0.1:" .. s:port()))
    s:stop()
    assert.is_true(select(2, s:saw(1)):len() > #big + 14)
  end)

  it("answers each of several pings that come in one read", function ()
    local status, got = run {
      { "write", frame(9, "a") .. frame(9, "b") .. frame(9, "c") .. frame(10, "unasked") .. goodbye },
      { "read", "29" } }
    assert.equal(0, status)
    assert.same({ { 10, "a" }, { 10, "b" }, { 10, "c" }, { 8, "\3\232" } }, got)
  end)

  for what, case in pairs {
    ["text that is not UTF-8"] = { frame(1, "\206\186\225\189\185\237\160\128"), 1007 },
    ["a close reason that is not UTF-8"] = { frame(8, "\3\232\255"), 1007 },
    ["reserved bits"] = { frame(1, "x", 0xc0), 1002 },
    ["an unknown opcode"] = { frame(3, "x"), 1002 },
    ["a fragmented ping"] = { frame(9, "x", 0), 1002 },
    ["a ping of 126 bytes"] = { frame(9, ("x"):rep(126)), 1002 },
    ["a continuation of nothing"] = { frame(0, "x"), 1002 },
    ["a close code that must not be sent"] = { frame(8, "\3\237"), 1002 },
    ["a close frame of one byte"] = { frame(8, "x"), 1002 },
    ["a masked frame"] = { "\129\129\0\0\0\0x", 1002 },
  } do
    it("answers " .. what .. " with " .. case[2], function ()
      local status, got = run { { "write", case[1] }, { "read", "8" } }
      assert.equal(0, status)
      assert.equal(8, got[1][1])
      assert.equal(case[2], close_code(got[1]))
    end)
  end

  for what, payload in pairs { ["4999"] = "\19\135", ["1000 with a reason"] = "\3\232bye", ["none"] = "" } do
    it("answers a close frame with its own code: " .. what, function ()
      local status, got = run { { "write", frame(8, payload) }, { "read", payload == "" and "6" or "8" } }
      assert.equal(0, status)
      assert.same({ 8, payload:sub(1, 2) }, got[1])
    end)
  end

  it("speaks wss", function ()
    local ca_file = os.tmpname()
    local status, got = run({ { "write", frame(1, "x") .. goodbye }, { "read", "15" } },
      { ca_file = ca_file, server = { authority = net.authority(ca_file) } })
    os.remove(ca_file)
    assert.equal(0, status)
    assert.same({ 1, "x" }, got[1])
  end)

  it("fails when it is not let in, and for an address that is none", function ()
    assert.equal(1, echo.run("ws://127.0.0.1:" .. net.free_port()))
    local s = world.server { { "request" }, { "write", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" } }
    assert.equal(1, echo.run("ws://127.0.0.1:" .. s:port()))
    assert.equal(2, echo.run("http://127.0.0.1:1/"))
    assert.equal(2, echo.run("ws://:1/"))
  end)
end)
