local unit = require "unit.policy"

-- Every one of these would run for ever, or for minutes, or eat all memory, in a plain Lua state.
local small = { instructions = 200000, memory = 2 * 1024 * 1024 }

local endless = {
  ["a loop"] = "while true do end",
  ["a loop inside pcall"] = "pcall(function () while true do end end)",
  ["pcall after pcall"] = "while true do pcall(function () while true do end end) end",
  ["pcall as the last thing"] = "return pcall(function () while true do end end)",
  ["nested pcalls"] = "local function f() while true do pcall(f) end end return pcall(f)",
  ["xpcall with a looping handler"] = "xpcall(function () while true do end end, function () while true do end end)",
  ["an error handler that fails for ever"] = "while true do xpcall(error, function () error('again') end) end",
  ["recursion caught again and again"] = "local function f() return 1 + f() end while true do pcall(f) end",
  ["tail calls"] = "local function f() return f() end return f()",
  ["an endless iterator"] = "for _ in function () return 1 end do end",
  ["__index that calls itself"] = "local t t = setmetatable({}, { __index = function (_, k) return t[k + 1] end }) while true do pcall(function () return t[1] end) end",
  ["__index loops through tables"] = "local t = setmetatable({}, { __index = function () while true do end end }) return t.x",
  ["__lt in sort"] = "local m = { __lt = function () while true do end end } table.sort({ setmetatable({}, m), setmetatable({}, m) })",
  ["__concat"] = "local t = setmetatable({}, { __concat = function () while true do end end }) return t .. 'x'",
  ["__tostring"] = "print(setmetatable({}, { __tostring = function () while true do end end }))",
  ["__pairs"] = "for _ in pairs(setmetatable({}, { __pairs = function () while true do end end })) do end",
  ["a sort whose comparison loops"] = "table.sort({ 3, 2, 1 }, function () while true do end end)",
  ["a gsub callback"] = "return (('x'):rep(100):gsub('.', function () while true do end end))",
  ["sorting in a loop"] = "local t = {} for i = 1, 20000 do t[i] = i end while true do table.sort(t) end",
  ["(.-)*b"] = "return (('a'):rep(5000)):find(('(.-)'):rep(10) .. 'b')",
  [".-.-.-.-x"] = "return ('a'):rep(3000):find('.-.-.-.-x')",
  ["(a*)*b style"] = "return ('a'):rep(200):find(('a*'):rep(20) .. 'b')",
  ["%b() many times"] = "return ('('):rep(100000):find('%b()x')",
  ["%f and back references"] = "return ('ab '):rep(3000):find('%f[%w](.-)(.-)%1%2%1x')",
  ["a catastrophic gmatch"] = "for _ in ('a'):rep(4000):gmatch('.-.-.-x') do end",
  ["a catastrophic gsub"] = "return ('a'):rep(4000):gsub('.-.-.-x', '')",
  ["a catastrophic match in pcall"] = "while true do pcall(string.match, ('a'):rep(4000), '.-.-.-x') end",
  ["string.rep in a loop"] = "while true do local s = ('x'):rep(100000) end",
  ["upper in a loop"] = "local s = ('x'):rep(300000) while true do local u = s:upper() end",
  ["reverse in a loop"] = "local s = ('x'):rep(300000) local r = s:reverse() while true do r = s:reverse() end",
  ["plain find in a loop"] = "local s = ('x'):rep(300000) while true do s:find('y', 1, true) end",
  ["concat in a loop"] = "local t = {} for i = 1, 5000 do t[i] = 'x' end while true do table.concat(t) end",
  ["format in a loop"] = "local s = ('x'):rep(200000) while true do local f = ('%s'):format(s) end",
  ["pairs in a loop"] = "local t = {} for i = 1, 5000 do t['k' .. i] = 1 end while true do pairs(t) end",
  ["next for ever"] = "local t = {} for i = 1, 1000 do t['k' .. i] = 1 end while true do local k repeat k = next(t, k) until k == nil end",
  ["insert at the front"] = "local t = {} while true do table.insert(t, 1, 1) end",
  ["JSON in a loop"] = "local j = require 'holdfast'.json local s = '[' .. ('1,'):rep(5000) .. '1]' while true do j.decode(s) end",
  ["JSON of a list in a loop"] = "local j = require 'holdfast'.json local t = {} for i = 1, 3000 do t[i] = i end while true do j.encode(t) end",
  ["hashing in a loop"] = "local c = require 'holdfast'.crypto local s = ('x'):rep(300000) while true do c.sha256(s) end",
  ["numbers formatted in a loop"] = "while true do local f = ('%99.99f'):format(1e300) end",
  ["small strings in a loop"] = "local i = 0 while true do i = i + 1 local s = 'k' .. i end",
  ["failures caught in a loop"] = "while true do pcall(error, 'x') end",
  ["unpack in a loop"] = "local t = {} for i = 1, 4000 do t[i] = i end while true do unpack(t) end",
  ["long digits read in a loop"] = "local s = ('1'):rep(100000) while true do tonumber(s) end",
  ["a long set in a loop"] = "local s, p = ('b'):rep(1000), '[' .. ('a'):rep(5000) .. ']' while true do s:find(p) end",
  ["sorting long texts"] = "local t = {} local p = ('x'):rep(10000) for i = 1, 60 do t[i] = p .. i end while true do table.sort(t) end",
  ["pairs of long keys"] = "local t = {} local p = ('x'):rep(2000) for i = 1, 200 do t[p .. i] = 1 end while true do pairs(t) end",
  ["JSON of control bytes"] = "local j = require 'holdfast'.json local s = ('\\1'):rep(10000) while true do j.encode(s) end",
  ["JSON of fractions"] = "local j = require 'holdfast'.json local t = {} for i = 1, 100 do t[i] = i / 7 end while true do j.encode(t) end",
  ["math.fmod in a loop"] = "while true do math.fmod(1e308, 3e-308) end",
  ["base64 in a loop"] = "local c = require 'holdfast'.crypto local s = ('x'):rep(30000) while true do c.base64(s) end",
}

-- Few instructions, and much work in C: each costs more of the budget than its instructions, which
-- are a small part of it. { code, times that are too many, times that are not }
local costly = {
  ["an empty loop is the measure"] = { "local x = i", 80000, 5000 },
  ["string.format"] = { "local x = ('%d'):format(i)", 2000, 200 },
  ["string.format of a fraction"] = { "local x = ('%g'):format(0.1)", 2000, 200 },
  ["string.format of hundreds of digits"] = { "local x = ('%.99f'):format(1e300)", 100, 10 },
  ["string.rep"] = { "local x = ('x'):rep(30000 + i)", 40, 4 },
  ["string.byte"] = { "long:byte(1, 3000)", 40, 4 },
  ["string.upper"] = { "local x = (long .. i):upper()", 150, 10 },
  ["table.concat"] = { "local x = table.concat(list, ',')", 20, 2 },
  ["table.sort"] = { "table.sort(list)", 4, 0 },
  ["table.remove from the front"] = { "table.insert(list, table.remove(list, 1))", 60, 6 },
  ["unpack"] = { "unpack(list)", 200, 20 },
  ["a small string"] = { "local x = 'k' .. i", 4000, 400 },
  ["a small table"] = { "local x = {}", 4000, 400 },
  ["a closure"] = { "local x = function () return i end", 3000, 300 },
  ["setmetatable"] = { "setmetatable({}, list)", 2000, 200 },
  ["a failure that is caught"] = { "pcall(error)", 300, 30 },
  ["a failure that xpcall catches"] = { "xpcall(error, error)", 150, 15 },
  ["string.find of one character"] = { "('hello'):find('[xyz]')", 2000, 200 },
  ["string.find of a long set"] = { "('hello'):find(set)", 40, 4 },
  ["string.gsub"] = { "('hello'):gsub('l', 'x')", 1000, 100 },
  ["tonumber of many digits"] = { "tonumber(digits)", 40, 4 },
  ["pairs"] = { "pairs(keyed)", 40, 4 },
  ["math.sin"] = { "math.sin(i)", 8000, 800 },
  ["JSON decoded"] = { "json.decode('[1,2,3,\"x\",{}]')", 600, 60 },
  ["JSON encoded"] = { "json.encode(list)", 10, 1 },
  ["a digest"] = { "crypto.sha256('x')", 1500, 150 },
}
local prologue = [[
local json, crypto = require "holdfast".json, require "holdfast".crypto
local long, digits, set = ("x"):rep(4000), ("1"):rep(6000), "[" .. ("a"):rep(6000) .. "]"
local list, keyed = {}, {}
for i = 1, 500 do list[i] = i end
for i = 1, 200 do keyed["k" .. i] = i end
for i = 1, %d do %s end]]

local greedy = {
  ["a table for ever"] = "local t = {} while true do t[#t + 1] = {} end",
  ["a table for ever in pcall"] = "local t = {} while true do pcall(function () while true do t[#t + 1] = { 1, 2, 3 } end end) end",
  ["doubling a string"] = "local s = 'x' while true do s = s .. s end",
  ["doubling a string in pcall"] = "local s = 'x' while true do pcall(function () s = s .. s end) end",
  ["string.rep at once"] = "return ('x'):rep(1e9)",
  ["string.rep of 2^60"] = "return ('x'):rep(2^60)",
  ["string.rep with a separator"] = "return ('x'):rep(1e6, ('y'):rep(1000))",
  ["string.rep in pcall"] = "return pcall(string.rep, 'x', 1e9)",
  ["a huge concat"] = "local s = ('x'):rep(100000) local t = {} for i = 1, 1000 do t[i] = s end return table.concat(t)",
  ["a huge gsub"] = "return (('x'):rep(10000):gsub('x', ('y'):rep(10000)))",
  ["a huge format"] = "local s = ('x'):rep(900000) return ('%s%s%s%s'):format(s, s, s, s)",
  ["closures for ever"] = "local t = {} while true do local n = #t t[n + 1] = function () return n end end",
  ["a huge JSON text"] = "local j = require 'holdfast'.json return j.decode('[' .. ('[],'):rep(100000) .. '1]')",
}

describe("a budget", function ()
  for name, text in pairs(endless) do
    it("ends " .. name, function ()
      local result, why = unit.run(text, small)
      assert.equal("over budget", result, tostring(why))
      assert.match("over its instruction budget$", why)
    end)
  end

  for name, text in pairs(greedy) do
    it("bounds " .. name, function ()
      local result, why = unit.run(text, { instructions = 5000000, memory = 2 * 1024 * 1024 })
      assert.equal("over budget", result, tostring(why))
      assert.match("over its memory cap$", why)
    end)
  end

  for name, work in pairs(costly) do
    it("charges what it takes: " .. name, function ()
      local limits = { instructions = 120000, memory = 2 * 1024 * 1024 }
      local result, why = unit.run(prologue:format(work[2], work[1]), limits)
      assert.equal("over budget", result, tostring(why))
      assert.match("over its instruction budget$", why)
      assert.equal("ok", (unit.run(prologue:format(work[3], work[1]), limits)))
    end)
  end

  it("ends in time what one instruction can make long", function ()
    local result, why = unit.run([[local a = ("x"):rep(1000000) local b, c = a .. "a", a .. "b"
      while true do local x = b < c end]], { instructions = 500000 })
    assert.equal("over budget", result)
    assert.match("over its time budget$", why) -- the count would take a hundred times as long
  end)

  it("says where it was used up", function ()
    local _, why = unit.run("local n = 0\nwhile true do\n  n = n + 1\nend", small)
    assert.match("^policies/x.lua:[23]: over its instruction budget$", why)
    _, why = unit.run("local t = {}\nwhile true do\n  t[#t + 1] = { 1 }\nend", { memory = 1024 * 1024 })
    assert.match("^policies/x.lua:3: over its memory cap$", why)
  end)

  it("is no obstacle for deep but finite recursion", function ()
    local result, why = unit.run "local function f(n) return n == 0 and 0 or 1 + f(n - 1) end return f(10000)"
    assert.equal("ok", result)
    assert.equal(10000, why)
  end)

  it("leaves endless recursion an ordinary error", function ()
    local result, why = unit.run "local function f() return 1 + f() end return f()"
    assert.equal("raised", result)
    assert.match("stack overflow", why)
    assert.is_true(#why < 512)
  end)

  it("bounds the depth of patterns", function ()
    local result, why = unit.run "return ('x'):rep(300):find(('x?'):rep(300) .. ('x'):rep(300))"
    assert.equal("raised", result)
    assert.match("pattern too complex", why)
  end)

  it("frees garbage before it refuses a large string", function ()
    local result, n = unit.run("local n = 0 for i = 1, 50 do n = n + #(('x'):rep(700000 + i)) end return n",
                               { instructions = 5000000, memory = 2 * 1024 * 1024 })
    assert.equal("ok", result, n)
    assert.equal(50 * 700000 + 1275, n)
  end)
end)
