-- What public suites try on a client, and some more: one table, run on the codec alone in both roles and
-- however it is cut, and over real sockets with everything above the codec. A case is
--   { name, frames (as in frame_ws_cases.lua), items, max =, reason = }
-- items: what must come of it in order, "text:...", "binary:...", "ping:...", "pong:...", "close CODE:REASON",
-- "error: TEXT (CODE THAT WE SEND)"; after a close or an error nothing comes. max: the limit on messages.
-- reason: what the cause says beside an error's text.
local M = {}

local CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

local function code_bytes(code) return string.char(math.floor(code / 256), code % 256) end

local groups = {}
local function group(name)
  local list = {}
  groups[#groups + 1] = { name = name, cases = list }
  return function (case) list[#list + 1] = case end
end

-- ---- framing ---------------------------------------------------------------------------------------------

local case = group "a message"
for _, size in ipairs { 0, 1, 124, 125, 126, 127, 128, 254, 255, 65535, 65536, 70000 } do
  local payload = ("*"):rep(size)
  case { ("of %d bytes is one, as text and as binary"):format(size), { { TEXT, payload }, { BINARY, payload } },
    { "text:" .. payload, "binary:" .. payload } }
end
case { "of RFC 6455, 5.7, whole and in two pieces", { "\x81\x05Hello", "\x01\x03Hel", "\x80\x02lo" },
  { "text:Hello", "text:Hello" }, client = true }
case { "of exactly the limit passes", { { TEXT, ("x"):rep(2000) } }, { "text:" .. ("x"):rep(2000) }, max = 2000 }
case { "over the limit is refused", { { TEXT, ("x"):rep(2001) } }, { "error: message over the limit (1009)" }, max = 2000 }
case { "of fragments that are exactly the limit passes", { { TEXT, ("x"):rep(1200), fin = false },
  { CONTINUATION, ("x"):rep(800) } }, { "text:" .. ("x"):rep(2000) }, max = 2000 }
case { "of fragments over the limit together is refused", { { TEXT, ("x"):rep(1200), fin = false },
  { CONTINUATION, ("x"):rep(801) } }, { "error: message over the limit (1009)" }, max = 2000 }
case { "with 16 bits of length for 125 bytes is refused", { { TEXT, ("x"):rep(125), length_form = 16 } },
  { "error: length not in its shortest form (1002)" } }
case { "with 64 bits of length for 65535 bytes is refused", { { TEXT, ("x"):rep(65535), length_form = 64 } },
  { "error: length not in its shortest form (1002)" } }
case { "with 64 bits of length for none is refused", { { BINARY, "", length_form = 64 } },
  { "error: length not in its shortest form (1002)" } }
case { "with the top bit of its length set is refused", { "\x82\x7f\x80\0\0\0\0\0\0\1" },
  { "error: length with the top bit set (1002)" }, client = true }
case { "of a server that masks is refused", { "\x81\x81abcd\0" }, { "error: masked frame from a server (1002)" },
  client = true }

-- ---- pings and pongs -------------------------------------------------------------------------------------

case = group "a control frame"
do
  local pings, items = {}, {}
  for size = 0, 125 do
    local payload = ""
    for i = 1, size do payload = payload .. string.char((i * 7 + size) % 256) end
    pings[#pings + 1], items[#items + 1] = { PING, payload }, "ping:" .. payload
  end
  case { "that is a ping of 0 to 125 bytes is answered with them", pings, items }
  pings, items = {}, {}
  for i = 1, 10 do pings[i], items[i] = { PING, "payload " .. i }, "ping:payload " .. i end
  case { "that is a ping, ten in one read, is answered ten times in order", pings, items }
end
case { "that is a pong nobody asked for is taken", { { PONG, "" }, { PONG, "unasked" }, { PONG, ("p"):rep(125) } },
  { "pong:", "pong:unasked", "pong:" .. ("p"):rep(125) } }
case { "that is a pong before a ping does not answer for it", { { PONG, "unasked" }, { PING, "asked" } },
  { "pong:unasked", "ping:asked" } }
for name, op in pairs { ping = PING, pong = PONG, close = CLOSE } do
  case { ("that is a fragmented %s is refused"):format(name), { { op, "", fin = false } },
    { "error: fragmented control frame (1002)" } }
  for _, size in ipairs { 126, 65536 } do
    case { ("that is a %s of %d bytes is refused"):format(name, size), { { op, ("x"):rep(size) } },
      { "error: control frame over 125 bytes (1002)" } }
  end
end
case { "that is a ping followed by a continuation of it is refused", { { PING, "x", fin = false }, { CONTINUATION, "y" } },
  { "error: fragmented control frame (1002)" } }

-- ---- reserved bits and opcodes ---------------------------------------------------------------------------

case = group "a reserved bit"
for rsv = 1, 7 do
  for name, op in pairs { text = TEXT, binary = BINARY, ping = PING, pong = PONG } do
    case { ("%d on a %s is refused"):format(rsv, name), { { TEXT, "first" }, { op, "x", rsv = rsv }, { TEXT, "never" } },
      { "text:first", "error: reserved bits set (1002)" } }
  end
  case { ("%d on a close is refused"):format(rsv), { { CLOSE, code_bytes(1000), rsv = rsv } },
    { "error: reserved bits set (1002)" } }
  case { ("%d on a continuation is refused"):format(rsv),
    { { TEXT, "x", fin = false }, { CONTINUATION, "y", rsv = rsv } }, { "error: reserved bits set (1002)" } }
end

case = group "a reserved opcode"
for _, op in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
  case { ("%d is refused"):format(op), { { TEXT, "first" }, { op, "x" }, { PING, "never" } },
    { "text:first", "error: unknown opcode (1002)" } }
  case { ("%d without a payload is refused"):format(op), { { op, "" } }, { "error: unknown opcode (1002)" } }
  case { ("%d inside a message is refused"):format(op), { { TEXT, "x", fin = false }, { op, "y" } },
    { "error: unknown opcode (1002)" } }
end

-- ---- fragments -------------------------------------------------------------------------------------------

case = group "a fragmented message"
case { "is joined in any number of pieces, empty ones too", {
  { TEXT, "one", fin = false }, { CONTINUATION, "two", fin = false }, { CONTINUATION, "three" },
  { TEXT, "", fin = false }, { CONTINUATION, "", fin = false }, { CONTINUATION, "" },
  { BINARY, "", fin = false }, { CONTINUATION, "mid", fin = false }, { CONTINUATION, "" } },
  { "text:onetwothree", "text:", "binary:mid" } }
do
  local frames, payload = { { BINARY, "0", fin = false } }, "0"
  for i = 1, 999 do
    frames[#frames + 1] = { CONTINUATION, tostring(i % 10), fin = i == 999 }
    payload = payload .. i % 10
  end
  case { "of a thousand single bytes arrives whole", frames, { "binary:" .. payload } }
end
case { "lets pings and pongs through between its pieces, each at its place", {
  { TEXT, "a", fin = false }, { PING, "1" }, { PONG, "2" }, { PING, "" }, { CONTINUATION, "b" }, { PING, "3" } },
  { "ping:1", "pong:2", "ping:", "text:ab", "ping:3" } }
case { "twice, with a ping in each, is two", {
  { TEXT, "a", fin = false }, { PING, "1" }, { CONTINUATION, "b" },
  { TEXT, "c", fin = false }, { PING, "2" }, { CONTINUATION, "d" } }, { "ping:1", "text:ab", "ping:2", "text:cd" } }
case { "that never began is refused", { { CONTINUATION, "x" } }, { "error: continuation without a start (1002)" } }
case { "that never began and goes on is refused", { { CONTINUATION, "x", fin = false }, { CONTINUATION, "y" } },
  { "error: continuation without a start (1002)" } }
case { "with a piece after its end is refused", { { TEXT, "x", fin = false }, { CONTINUATION, "y" }, { CONTINUATION, "z" } },
  { "text:xy", "error: continuation without a start (1002)" } }
case { "with a piece after a whole one is refused", { { TEXT, "x" }, { CONTINUATION, "y", fin = false }, { TEXT, "z" } },
  { "text:x", "error: continuation without a start (1002)" } }
case { "with a text inside is refused", { { TEXT, "x", fin = false }, { TEXT, "y" } },
  { "error: new data frame inside a fragmented message (1002)" } }
case { "with a binary inside is refused", { { TEXT, "x", fin = false }, { BINARY, "y" } },
  { "error: new data frame inside a fragmented message (1002)" } }
case { "with a fragment of another inside is refused", { { BINARY, "x", fin = false }, { TEXT, "y", fin = false } },
  { "error: new data frame inside a fragmented message (1002)" } }
case { "with 16 bits of length for a piece of one byte is refused",
  { { TEXT, "x", fin = false }, { CONTINUATION, "y", length_form = 16 } },
  { "error: length not in its shortest form (1002)" } }
case { "that a close cuts off is let go", { { TEXT, "a", fin = false }, { CLOSE, "\x03\xe9bye" }, { CONTINUATION, "b" } },
  { "close 1001:bye" } }

-- ---- UTF-8 -----------------------------------------------------------------------------------------------

M.UTF8_VALID = {
  "", "a", "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
  "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\0", "\x7f", "\xc2\x80", "\xdf\xbf",
  "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xef\xbf\xbf",
  "\xf0\x90\x80\x80", "\xf0\x9f\xa4\x96", "\xf3\xbf\xbf\xbf", "\xf4\x8f\xbf\xbf",
  ("\xe4\xbd\xa0"):rep(40), ("ascii only, well over one word "):rep(4) .. "\xe5\xa5\xbd",
  "\xe4\xbd\xa0a\xe5\xa5\xbdb\xf0\x9f\xa4\x96c\xc3\xa9d",
}

-- { bytes, number of the first impossible byte, or nil when only the end is wrong }
M.UTF8_INVALID = {
  { "\x80", 1 }, { "\xbf", 1 }, { "\xc0", 1 }, { "\xc1\xbf", 1 }, { "\xf5\x80\x80\x80", 1 },
  { "\xff", 1 }, { "\xfe", 1 }, { "\xf8\x88\x80\x80\x80", 1 }, { "\xfc\x84\x80\x80\x80\x80", 1 },
  { "\xc2A", 2 }, { "\xc2\xc2", 2 }, { "\xdf\xc0", 2 },
  { "\xe0\x80\x80", 2 }, { "\xe0\x9f\xbf", 2 }, { "\xe0A", 2 }, { "\xe1\x80A", 3 },
  { "\xed\xa0\x80", 2 }, { "\xed\xbf\xbf", 2 }, { "\xed\xa0\x80\xed\xb0\x80", 2 },
  { "\xf0\x80\x80\x80", 2 }, { "\xf0\x8f\xbf\xbf", 2 }, { "\xf0\x90\x80A", 4 }, { "\xf0\x90\xff", 3 },
  { "\xf4\x90\x80\x80", 2 }, { "\xf4\xbf", 2 },
  { "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited", 13 },
  { "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 13 },
  { ("a"):rep(37) .. "\x80" .. ("a"):rep(37), 38 },
  { ("\xe4\xbd\xa0"):rep(13) .. "\xe4\xbd" .. "a", 42 },
  { "\xc2" }, { "\xe0\xa0" }, { "\xed\x9f" }, { "\xef" }, { "\xf0" }, { "\xf0\x90\x80" },
  { "\xf4\x8f\xbf" }, { ("\xe4\xbd\xa0"):rep(20) .. "\xe4\xbd" }, { ("a"):rep(64) .. "\xf0\x9f\xa4" },
}

local NOT_UTF8 = "error: text message is not UTF-8 (1007)"
local function shown(bytes)
  return (bytes:sub(1, 16):gsub("[^%w]", function (c) return ("\\x%02x"):format(c:byte()) end)) .. (#bytes > 16 and "..." or "")
end

-- Fragmented at every byte, all in one stream.
case = group "a text of"
for _, text in ipairs(M.UTF8_VALID) do
  local frames, items = { { TEXT, text } }, { "text:" .. text }
  for at = 0, #text do
    frames[#frames + 1], frames[#frames + 2] = { TEXT, text:sub(1, at), fin = false }, { PING, "" }
    frames[#frames + 1] = { CONTINUATION, text:sub(at + 1) }
    items[#items + 1], items[#items + 2] = "ping:", "text:" .. text
  end
  case { ("%s passes, cut into fragments at every byte"):format(shown(text)), frames, items }
end
for _, wrong in ipairs(M.UTF8_INVALID) do
  local text, middle = wrong[1], math.floor(#wrong[1] / 2)
  case { shown(text) .. " is refused", { { TEXT, "first" }, { TEXT, text }, { TEXT, "never" } },
    { "text:first", NOT_UTF8 } }
  case { shown(text) .. " is refused, cut into fragments", { { TEXT, text:sub(1, middle), fin = false }, { PING, "p" },
    { CONTINUATION, text:sub(middle + 1) } },
    wrong[2] and wrong[2] <= middle and { NOT_UTF8 } or { "ping:p", NOT_UTF8 } }
  case { shown(text) .. " passes as binary and in a ping", { { BINARY, text }, { PING, text } },
    { "binary:" .. text, "ping:" .. text } }
  -- Of 1000 bytes of which the rest never comes.
  if wrong[2] then
    case { shown(text) .. " is refused before the frame is whole", { "\x81\x7e\x03\xe8" .. text .. "aaaa" }, { NOT_UTF8 },
      client = true }
  end
end
case { "a sequence that a fragment may cut and the end may not", { { TEXT, "\xe4\xbd", fin = false }, { CONTINUATION, "" } },
  { NOT_UTF8 } }
case { "each its own: a sequence does not go on in the next", {
  { TEXT, "\xe4", fin = false }, { CONTINUATION, "\xbd\xa0" }, { TEXT, "\xe5\xa5\xbd" }, { BINARY, "\xff\xe4" }, { TEXT, "a" } },
  { "text:\xe4\xbd\xa0", "text:\xe5\xa5\xbd", "binary:\xff\xe4", "text:a" } }

-- ---- closing ---------------------------------------------------------------------------------------------

M.CLOSE_VALID = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3500, 3999,
  4000, 4004, 4500, 4999 }
M.CLOSE_INVALID = { 0, 1, 500, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 }

case = group "a close frame"
case { "without a payload has no code", { { CLOSE, "" } }, { "close 0:" } }
case { "of one byte is refused", { { CLOSE, "\x03" } }, { "error: close frame of one byte (1002)" } }
case { "of 125 bytes has a reason of 123", { { CLOSE, code_bytes(1000) .. ("x"):rep(123) } },
  { "close 1000:" .. ("x"):rep(123) } }
case { "of 126 bytes is refused", { { CLOSE, code_bytes(1000) .. ("x"):rep(124) } },
  { "error: control frame over 125 bytes (1002)" } }
for _, reason in ipairs { "\xff", "ok\xed\xa0\x80", "cut\xe4\xbd" } do
  case { "with the reason " .. shown(reason) .. " is refused", { { CLOSE, code_bytes(1000) .. reason } },
    { "error: close reason is not UTF-8 (1007)" } }
end
for _, code in ipairs(M.CLOSE_VALID) do
  case { ("with %d is a close with that code"):format(code), { { CLOSE, code_bytes(code) } }, { ("close %d:"):format(code) } }
  case { ("with %d and a reason keeps both"):format(code), { { CLOSE, code_bytes(code) .. "tsch\xc3\xbcss" } },
    { ("close %d:tsch\xc3\xbcss"):format(code) } }
end
for _, code in ipairs(M.CLOSE_INVALID) do
  for _, reason in ipairs { "", "reason" } do
    case { ("with %d%s is refused, and the number is told"):format(code, reason == "" and "" or " and a reason"),
      { { CLOSE, code_bytes(code) .. reason } }, { "error: close code that must not be sent (1002)" },
      reason = "close code that must not be sent: " .. code }
  end
end
case { "is the last that is read", { { TEXT, "before" }, { CLOSE, code_bytes(1000) }, { PING, "ping" }, { TEXT, "text" },
  { CLOSE, code_bytes(1001) }, "\xff\xff\xff" }, { "text:before", "close 1000:" } }
case { "after an error is not read", { { 3, "x" }, { CLOSE, code_bytes(1000) } }, { "error: unknown opcode (1002)" } }

M.groups = groups

return M
