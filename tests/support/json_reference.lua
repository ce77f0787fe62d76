-- A slow JSON checker that follows RFC 8259 rule by rule, to judge the fast one by; and a generator of
-- random JSON texts. Deterministic: no clock, its own random numbers.
local M = {}

local function utf8_len(s, i)
  local b = s:byte(i)
  local function tail(from, to, low, high)
    for k = from, to do
      local c = s:byte(i + k)
      if not c or c < (k == 1 and low or 0x80) or c > (k == 1 and high or 0xbf) then return nil end
    end
    return to + 1
  end
  if b < 0x80 then return 1 end
  if b >= 0xc2 and b <= 0xdf then return tail(1, 1, 0x80, 0xbf) end
  if b == 0xe0 then return tail(1, 2, 0xa0, 0xbf) end
  if b == 0xed then return tail(1, 2, 0x80, 0x9f) end
  if b >= 0xe1 and b <= 0xef then return tail(1, 2, 0x80, 0xbf) end
  if b == 0xf0 then return tail(1, 3, 0x90, 0xbf) end
  if b >= 0xf1 and b <= 0xf3 then return tail(1, 3, 0x80, 0xbf) end
  if b == 0xf4 then return tail(1, 3, 0x80, 0x8f) end
  return nil
end

local value -- of (s, i): the place after it, or nil

local function space(s, i)
  return (s:match("^[ \t\r\n]*()", i))
end

local function text(s, i)
  if s:sub(i, i) ~= '"' then return nil end
  i = i + 1
  while true do
    local c = s:sub(i, i)
    if c == "" then return nil end
    if c == '"' then return i + 1 end
    if c:byte() < 0x20 then return nil end
    if c == "\\" then
      local e = s:sub(i + 1, i + 1)
      if e ~= "" and ('"\\/bfnrt'):find(e, 1, true) then
        i = i + 2
      elseif s:match("^u%x%x%x%x", i + 1) then
        i = i + 6
      else
        return nil
      end
    else
      local n = utf8_len(s, i)
      if not n then return nil end
      i = i + n
    end
  end
end

local function number(s, i)
  i = s:match("^%-?()", i)
  i = s:match("^0()", i) or s:match("^[1-9][0-9]*()", i)
  if not i then return nil end
  if s:sub(i, i) == "." then
    i = s:match("^%.[0-9]+()", i)
    if not i then return nil end
  end
  if s:match("^[eE]", i) then i = s:match("^[eE][+-]?[0-9]+()", i) end
  return i
end

local function members(s, i, close, keyed)
  i = space(s, i)
  if s:sub(i, i) == close then return i + 1 end
  while true do
    i = space(s, i)
    if keyed then
      i = text(s, i)
      if not i then return nil end
      i = space(s, i)
      if s:sub(i, i) ~= ":" then return nil end
      i = space(s, i + 1)
    end
    i = value(s, i)
    if not i then return nil end
    i = space(s, i)
    local c = s:sub(i, i)
    if c == close then return i + 1 end
    if c ~= "," then return nil end
    i = i + 1
  end
end

function value(s, i)
  local c = s:sub(i, i)
  if c == "{" then return members(s, i + 1, "}", true) end
  if c == "[" then return members(s, i + 1, "]", false) end
  if c == '"' then return text(s, i) end
  return s:match("^true()", i) or s:match("^false()", i) or s:match("^null()", i) or number(s, i)
end

function M.is_valid(s)
  local i = value(s, space(s, 1))
  return i ~= nil and space(s, i) == #s + 1
end

-- Random numbers: a linear congruential generator (Numerical Recipes) on 32 bits.
function M.random(seed)
  local state = seed % 2 ^ 32
  return function(low, high)
    state = (state * 1664525 + 1013904223) % 2 ^ 32
    return low + math.floor(state / 2 ^ 32 * (high - low + 1))
  end
end

local pieces = { "a", "Z", "0", " ", "/", "@", ":", ",", "{", "}", "[", "]", "'", "\127", "é", "你", "😀", "\\\"", "\\\\",
  "\\/", "\\b", "\\n", "\\u0041", "\\u00e9", "\\uD83D\\uDE00", "\\ud800", "\\u0000", "long enough for a word of eight" }
local numbers = { "0", "-0", "1", "-17", "3.25", "1e3", "1E-2", "9007199254740993", "-9223372036854775808",
  "18446744073709551615", "0.1e+5", "123456789012345678901234567890" }
local spaces = { "", "", "", " ", "\n", "\t", "\r\n", "  " }

function M.space(draw)
  return spaces[draw(1, #spaces)]
end

function M.string(draw)
  local out = {}
  for i = 1, draw(0, 6) do out[i] = pieces[draw(1, #pieces)] end
  return '"' .. table.concat(out) .. '"'
end

-- Every key it makes begins with "_", so that a caller's own keys are never met by chance.
function M.value(draw, depth)
  local kind = draw(1, depth > 0 and 8 or 5)
  if kind == 1 then return ({ "true", "false", "null" })[draw(1, 3)] end
  if kind == 2 then return numbers[draw(1, #numbers)] end
  if kind <= 5 then return M.string(draw) end
  local out = {}
  for i = 1, draw(0, 4) do
    local item = M.space(draw) .. M.value(draw, depth - 1) .. M.space(draw)
    if kind >= 7 then item = M.space(draw) .. '"_' .. M.string(draw):sub(2) .. M.space(draw) .. ":" .. item end
    out[i] = item
  end
  local body = #out > 0 and table.concat(out, ",") or M.space(draw)
  return kind >= 7 and "{" .. body .. "}" or "[" .. body .. "]"
end

return M
