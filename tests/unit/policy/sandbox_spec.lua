local unit = require "unit.policy"

local function run(text, options)
  return unit.run(text, options)
end

local function value(text, options)
  local result, v = run(text, options)
  assert.equal("ok", result, v)
  return v
end

local function raised(text, options)
  local result, why = run(text, options)
  assert.equal("raised", result, why)
  return why
end

describe("the sandbox", function ()
  local gone = {
    "os", "io", "ffi", "debug", "package", "jit", "coroutine", "newproxy", "load", "loadstring", "loadfile",
    "dofile", "collectgarbage", "gcinfo", "getfenv", "setfenv", "module", "rawlen",
    "string.dump", "string.gfind", "math.randomseed", "table.foreach",
  }
  for _, name in ipairs(gone) do
    it("has no " .. name, function ()
      local result, v = run(("return %s"):format(name))
      assert.is_true(result == "raised" or v == nil, tostring(v))
    end)
  end

  local escapes = {
    -- each must end in an error or in nil, never in something useful
    { "the string metatable", "return getmetatable('').__index" },
    { "setting the string metatable", "return setmetatable('', {})" },
    { "a library through a string", "('').rep = 1" },
    { "changing a library", "string.format = print" },
    { "changing a library past its metatable", "rawset(string, 'format', print)" },
    { "inserting into a library", "table.insert(string, 'x')" },
    { "sorting a frozen table", "table.sort(string)" },
    { "replacing a library's metatable", "setmetatable(string, nil)" },
    { "the metatable of the globals", "getmetatable(_G).__index = nil" },
    { "replacing the globals' metatable", "setmetatable(_G, nil)" },
    { "a global past the metatable", "rawset(_G, 'x', 1)" },
    { "a global by name", "x = 1" },
    { "an own base function", "pairs = nil" },
    { "a global through _G", "_G.x = 1" },
    { "a loaded module", "require 'holdfast'.policy = nil" },
    { "the inside of a loaded module", "require 'holdfast'.url.query = nil" },
    { "the native module", "require 'holdfast.native'.random = nil" },
    { "a finaliser", "setmetatable({}, { __gc = print })" },
    { "weak tables", "setmetatable({}, { __mode = 'k' })" },
    { "a function's environment", "return getfenv(print)" },
    { "the registry", "return debug.getregistry()" },
    { "files above", "return require '../etc/passwd'" },
    { "absolute files", "return require '/etc/passwd'" },
    { "hidden files", "return require '.git.config'" },
    { "empty parts", "return require 'a..b'" },
    { "a name with NUL", "return require 'holdfast\\0x'" },
    { "a name with a pattern", "return require 'hold?ast'" },
    { "an option-like name", "return require '-x'" },
    { "another metatable's index", "return getmetatable(print)" },
    { "a boolean's metatable", "return getmetatable(true)" },
  }
  for _, case in ipairs(escapes) do
    it("refuses: " .. case[1], function ()
      local result, v = run(case[2])
      assert.is_true(result == "raised" or v == nil, result .. " " .. tostring(v))
    end)
  end

  it("refuses bytecode", function ()
    assert.match("attempt to load", raised(string.dump(function () return 1 end)))
  end)

  it("keeps a wrapped coroutine out of reach", function ()
    assert.match("unknown name `coroutine`", raised "return coroutine.wrap(print)")
  end)

  it("lets a policy use metatables on its own tables", function ()
    assert.equal(7, value "local t = setmetatable({}, { __index = function (_, k) return k + 1 end }) return t[6]")
    assert.equal("mine", value "return tostring(setmetatable({}, { __tostring = function () return 'mine' end }))")
    assert.match("locked", raised "local t = setmetatable({}, { __metatable = 1 }) setmetatable(t, {})")
  end)

  it("names the nearest name for an unknown one", function ()
    assert.match("x.lua:1: unknown name `tostrin`; did you mean `tostring`?",
                 raised "return tostrin(1)", 1, true)
  end)

  it("says where a global was assigned", function ()
    assert.equal("policies/x.lua:2: globals are locked: write `local count`", raised "\ncount = 1")
  end)

  it("walks _G and the libraries in order", function ()
    local names = value [[local t = {} for k in pairs(math) do t[#t + 1] = k end return table.concat(t, " ")]]
    local sorted = {}
    for name in names:gmatch "%S+" do sorted[#sorted + 1] = name end
    table.sort(sorted)
    assert.equal(table.concat(sorted, " "), names)
    assert.match("random", names)
  end)

  it("keeps the list operators on frozen lists", function ()
    assert.equal("3 1,2,3 6", value [[
      local bit, t = bit, { 1, 2, 3 }
      local sum = 0
      for _, n in ipairs(t) do sum = sum + n end
      return #t .. " " .. table.concat(t, ",") .. " " .. sum]])
  end)

  describe("text of errors", function ()
    it("never shows an address", function ()
      local shown = value [[
        local t = { tostring({}), tostring(print), tostring(function () end), ("%s %s"):format({}, print) }
        local ok, why = pcall(error, {})
        t[#t + 1] = tostring(why)
        t[#t + 1] = select(2, pcall(function () return {} < {} end))
        t[#t + 1] = select(2, pcall(function () return {} .. "x" end))
        t[#t + 1] = select(2, pcall(string.rep))
        t[#t + 1] = tostring(require "holdfast".null)
        return table.concat(t, "\n")]]
      assert.is_nil(shown:find "0x", shown)
      assert.match("^table\nfunction\nfunction\ntable function\ntable\n", shown)
    end)

    it("refuses %p", function ()
      assert.match("invalid option '%%p'", raised "return ('%p'):format({})")
    end)

    it("begins with file and line, also for text that was raised without", function ()
      assert.equal("policies/x.lua:2: plain", raised "\nerror('plain', 0)")
      assert.equal("policies/x.lua:1: placed", raised "error('placed')")
      assert.equal("policies/x.lua:1: raised a value that is no text (table)", raised "error({})")
      assert.equal("policies/x.lua:1: raised a value that is no text (nil)", raised "error()")
      assert.match("^policies/x.lua:3: .*expected near", raised "\n\nlocal = 1")
    end)

    it("names the policy's line when a library raised", function ()
      local why = raised "local h = require 'holdfast'\nlocal x = h.url.query({ a = print })"
      assert.match("^lua/holdfast.lua:%d+: .*%(called from policies/x.lua:2%)$", why)
    end)

    it("is short and printable, whatever was raised", function ()
      local why = raised "error(('\\27[2J\\n'):rep(100000))"
      assert.is_true(#why < 512)
      assert.is_nil(why:find "[%c]")
    end)
  end)

  describe("pairs", function ()
    local function order(text)
      return value(("local t = %s local o = {} for k in pairs(t) do o[#o + 1] = tostring(k) end return table.concat(o, ' ')"):format(text))
    end

    it("goes through numbers, then strings by bytes, then false and true", function ()
      assert.equal("-1 0.5 1 2 3 10 B a aa b false true",
                   order "{ 'x', 'y', 'z', [10] = 1, [-1] = 1, [0.5] = 1, b = 1, aa = 1, a = 1, B = 1, [true] = 1, [false] = 1 }")
    end)

    it("does not depend on how the table was made", function ()
      assert.equal(order "(function () local t = {} for i = 1, 50 do t['k' .. i] = i end return t end)()",
                   order "(function () local t = {} for i = 50, 1, -1 do t['k' .. i] = i end t.gone = 1 t.gone = nil return t end)()")
    end)

    it("agrees with next", function ()
      assert.equal("1 2 a b", value [[
        local t, o, k = { 1, 2, b = 1, a = 1 }, {}
        k = next(t)
        while k ~= nil do o[#o + 1] = tostring(k) k = next(t, k) end
        return table.concat(o, " ")]])
      assert.equal("1 2 a b", value "local o = {} for k in next, { 1, 2, b = 1, a = 1 } do o[#o + 1] = tostring(k) end return table.concat(o, ' ')")
      assert.is_nil(value "return next({})")
    end)

    it("allows removing and changing while walking", function ()
      assert.equal("a c", value [[
        local t, o = { a = 1, b = 2, c = 3 }, {}
        for k in pairs(t) do t.b = nil t.z = 1 o[#o + 1] = k end
        return table.concat(o, " ")]])
    end)

    it("refuses keys that have no order", function ()
      assert.match("have no order", raised "for k in pairs({ [{}] = 1, [print] = 2 }) do end")
      assert.match("have no order", raised "return next({ [{}] = 1 })")
    end)

    it("sees lists with holes and very large keys", function ()
      assert.equal("1 3 1e+300", order "{ 1, nil, 3, [1e300] = 1 }")
    end)
  end)

  describe("random numbers", function ()
    it("follow the seed alone", function ()
      local text = "local t = {} for i = 1, 20 do t[i] = math.random(1000) end return table.concat(t, ' ')"
      assert.equal(value(text, { seed = 5 }), value(text, { seed = 5 }))
      assert.not_equal(value(text, { seed = 5 }), value(text, { seed = 6 }))
    end)

    it("stay in their interval and refuse an empty one", function ()
      assert.is_true(value "for i = 1, 2000 do local n = math.random(3, 7) if n < 3 or n > 7 or n % 1 ~= 0 then return false end end return true")
      assert.match("interval is empty", raised "return math.random(0)")
      assert.match("interval is empty", raised "return math.random(0/0)")
    end)
  end)

  describe("require", function ()
    local world = require "policy_world"

    it("runs a module once, and freezes what it returns", function ()
      local folder = world.folder()
      world.write(folder .. "/helper.lua", "return { list = { 1, 2 }, inner = { deep = 1 }, f = function () return 1 end }")
      local options = { beside = folder }
      assert.is_true(value("return rawequal(require 'helper', require 'helper')", options))
      assert.match("helper is read only", raised("require 'helper'.x = 1", options))
      assert.match("helper is read only", raised("require 'helper'.inner.deep = 2", options))
      assert.match("helper is read only", raised("local h = require 'helper' h.list[#h.list + 1] = 3", options))
      assert.equal(2, value("return #require 'helper'.list", options))
    end)

    it("cannot replace a module of the project", function ()
      local folder = world.folder()
      world.write(folder .. "/holdfast.lua", "return { evil = true }")
      assert.is_nil(value("return require 'holdfast'.evil", { beside = folder }))
    end)

    it("refuses files that others may write, bytecode, and circles", function ()
      local folder = world.folder()
      world.write(folder .. "/open.lua", "return {}", "666")
      world.write(folder .. "/code.lua", string.dump(function () end))
      world.write(folder .. "/a.lua", "return require 'b'")
      world.write(folder .. "/b.lua", "return require 'a'")
      assert.match("writable by others", raised("require 'open'", { beside = folder }))
      assert.match("attempt to load", raised("require 'code'", { beside = folder }))
      assert.match("requires itself", raised("require 'a'", { beside = folder }))
      assert.match("no module `nowhere`", raised("require 'nowhere'", { beside = folder }))
    end)
  end)

  describe("reading files", function ()
    local world = require "policy_world"

    it("refuses what is no plain file of ours", function ()
      local folder = world.folder()
      world.write(folder .. "/group", "x", "664")
      world.write(folder .. "/others", "x", "606")
      world.write(folder .. "/big", ("x"):rep(1024 * 1024 + 1))
      os.execute(("mkfifo '%s/fifo'"):format(folder))
      assert.match("writable by others", (select(2, unit.read_file(folder .. "/others"))))
      assert.equal("x", unit.read_file(folder .. "/group"))   -- of our own group: whoever runs us
      -- Another group's file needs a right that not everybody who runs the suite has.
      if os.execute(("chgrp 65534 '%s/group' 2>/dev/null"):format(folder)) == 0 then
        assert.match("writable by its group", (select(2, unit.read_file(folder .. "/group"))))
      end
      assert.match("larger than 1 MiB", (select(2, unit.read_file(folder .. "/big"))))
      assert.match("not a regular file", (select(2, unit.read_file(folder .. "/fifo"))))
      assert.match("not a regular file", (select(2, unit.read_file(folder))))
      assert.match("No such file", (select(2, unit.read_file(folder .. "/none"))))
      world.write(folder .. "/good", "text")
      assert.equal("text", unit.read_file(folder .. "/good"))
    end)
  end)

  it("prints into the log, with the same texts as tostring", function ()
    local _, _, printed = run "print('a', 1, nil, true, {}, print)"
    assert.equal("a 1 nil true table function\n", printed)
  end)
end)
