local unit = require "unit.policy"

-- Our matcher against LuaJIT's own string library: same results, and errors for the same patterns.
local subjects = {
  "", "a", "aaa", "abc", "hello world", "  trim me  ", "key=value", "a=1, b=2, c=3", "THE (quick) fox",
  "f(a(b)c)d", "((unbalanced", "1.5e10", "2026-11-22T10:00:00.123Z", "%d%%", "a.b.c", "x^2$", "[set]", "-dash-",
  "wss://gateway.example:443/path?x=1", "\0zero\0", "tab\tnew\nline", "ünïcödé", "aXbXc", "\"quoted\" 'text'",
  ("ab"):rep(40),
}
local patterns = {
  "", "a", "a*", "a+", "a-", "a?", ".", ".*", ".-", ".+", "^a", "a$", "^a$", "^$", "^", "$", "%a", "%a+", "%d+", "%s*",
  "%w+", "%p", "%u+", "%l+", "%x+", "%c", "%g+", "%z", "%A+", "%D", "%S+", "%W", "%P+", "%U", "%L", "%X", "%C+", "%Z+", "%G",
  "[abc]", "[^abc]", "[a-c]+", "[%a_][%w_]*", "[]]", "[^]]+", "[a-]", "[-a]", "[%]]", "[a%-z]", "[^%s]+", "[%d.]+",
  "(a)(b)(c)", "()a()", "(.)(.)", "((a)b)", "(%a+)=(%w+)", "(%a+)%s*=%s*(%d)", "^%s*(.-)%s*$", "%b()", "%b()d", "%bxy",
  "%f[%a]%a+", "%f[%w]%w+%f[%W]", "%f[%z]", "(.)%1", "(%a)%1%1", "([\"'])(.-)%1", "%.", "%%d", "x%^2%$", "^(%w+)://([^/:]+)",
  "(%d+)-(%d+)-(%d+)T(%d+):(%d+)", "a.-b", "a.-$", "(a*)(b*)", "(a-)(b)", "%-", "%s", "n.w", "X", "()", "(())", "ab?a?b",
  -- malformed
  "%", "[", "[a", "[^", "[]", "[%", "(", ")", "(()", "a)", "%b", "%bx", "%f", "%fa", "%1", "(%1)", "(a)%2", "[a-%", "[%a",
}
local replacements = { "", "<%0>", "%1", "%%", "%2", "x", "%1%1", "%", "%a" }

local function packed(ok, ...)
  local parts = {}
  if not ok then return "error" end
  for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
  return ok and table.concat(parts, "\1")
end

-- The cases run in one sandbox, written as one chunk; the reference runs here.
local function compare(name, calls)
  local chunk = { "local r = {} local function packed(ok, ...) local p = {} if not ok then return 'error' end for i = 1, select('#', ...) do p[i] = tostring((select(i, ...))) end return table.concat(p, '\\1') end\n" }
  local expected = {}
  for i, call in ipairs(calls) do
    local args = {}
    for k = 1, #call do args[k] = type(call[k]) == "string" and ("%q"):format(call[k]):gsub("%z", "\\0"):gsub("\\\n", "\\n") or tostring(call[k]) end
    chunk[#chunk + 1] = ("r[%d] = packed(pcall(string.%s, %s))\n"):format(i, name, table.concat(args, ", "))
    expected[i] = packed(pcall(string[name], unpack(call)))
  end
  chunk[#chunk + 1] = "return r"
  local result, got = unit.run(table.concat(chunk), { instructions = 1e9, memory = 64 * 1024 * 1024 })
  assert.equal("ok", result, tostring(got))
  for i, call in ipairs(calls) do
    assert.equal(expected[i], got[i], ("string.%s(%q, %q, %s)"):format(name, call[1], tostring(call[2]), tostring(call[3])))
  end
  return #calls
end

local function each(make)
  local calls = {}
  for _, s in ipairs(subjects) do
    for _, p in ipairs(patterns) do make(calls, s, p) end
  end
  return calls
end

-- string.find of a chunk has a limit of constants: several chunks.
local function compare_all(name, calls)
  local count = 0
  for from = 1, #calls, 200 do
    local part = {}
    for i = from, math.min(from + 199, #calls) do part[#part + 1] = calls[i] end
    count = count + compare(name, part)
  end
  return count
end

describe("string matching equals LuaJIT's", function ()
  it("in find", function ()
    assert.equal(#subjects * #patterns, compare_all("find", each(function (c, s, p) c[#c + 1] = { s, p } end)))
  end)

  it("in find from a place", function ()
    compare_all("find", each(function (c, s, p) c[#c + 1] = { s, p, #p % 5 - 2 } end))
  end)

  it("in plain find", function ()
    compare_all("find", each(function (c, s, p) c[#c + 1] = { s, p, 1, true } end))
  end)

  it("in match", function ()
    compare_all("match", each(function (c, s, p) c[#c + 1] = { s, p } end))
  end)

  it("in gsub with text", function ()
    compare_all("gsub", each(function (c, s, p) c[#c + 1] = { s, p, replacements[(#s + #p) % #replacements + 1] } end))
  end)

  it("in gsub with a limit", function ()
    compare_all("gsub", each(function (c, s, p) c[#c + 1] = { s, p, "<%0>", #s % 3 } end))
  end)

  it("in the rest of the library", function ()
    local subs, bytes, reps = {}, {}, {}
    for _, s in ipairs { "", "a", "hello", "\0\255" } do
      for from = -7, 7 do
        for to = -7, 7 do subs[#subs + 1] = { s, from, to } bytes[#bytes + 1] = { s, from, to } end
      end
      for n = -1, 3 do reps[#reps + 1] = { s, n } reps[#reps + 1] = { s, n, ", " } end
    end
    compare_all("sub", subs)
    compare_all("byte", bytes)
    compare_all("rep", reps)
    compare("upper", { { "aZ\233 9" } })
    compare("lower", { { "aZ\201 9" } })
    compare("reverse", { { "" }, { "abc" } })
    compare("len", { { "" }, { "a\0b" } })
    compare("char", { { 0, 65, 255 }, { 256 }, { -1 } })
  end)

  it("in format", function ()
    compare("format", {
      { "%d", 3 }, { "%5d|", 3 }, { "%-5d|", 3 }, { "%05d", 42 }, { "%+d", 42 }, { "%x", 255 }, { "%X", 255 }, { "%#x", 255 },
      { "%o", 8 }, { "%c", 65 }, { "%e", 12345.678 }, { "%.3f", 2 / 3 }, { "%g", 1e20 }, { "%g", 0.1 }, { "%10.2f|", 3.14159 },
      { "%s", "x" }, { "%5s|", "x" }, { "%-5s|", "x" }, { "%.2s", "xyz" }, { "%s", 12 }, { "%s", true }, { "%q", "a\nb\"c\\" },
      { "%%" }, { "100%%" }, { "%i", 7 }, { "%u", 7 }, { "%d", "10" }, { "%d", -3 }, { "%d", "x" }, { "%s" }, { "%y", 1 }, { "%" },
      { "%123d", 1 }, { "%d %s %d", 1, "two", 3 }, { "%5.1f|%-8s|", 2.31, "ab" },
    })
  end)

  it("in gmatch and gsub with functions and tables", function ()
    local text = [[
      local out = {}
      for _, s in ipairs { "a=1, b=2", "", "hello world", "xxx" } do
        for _, p in ipairs { "(%w+)=(%w+)", "%w+", "", "x*", "()", "^%w" } do
          for a, b in s:gmatch(p) do out[#out + 1] = tostring(a) .. "/" .. tostring(b) end
          out[#out + 1] = ";"
          out[#out + 1] = s:gsub(p, function (a, b) return a and b and b .. a or nil end)
          out[#out + 1] = s:gsub(p, { a = "A", hello = false, x = 9 })
        end
      end
      return table.concat(out, "|")]]
    local result, got = unit.run(text)
    assert.equal("ok", result, tostring(got))
    assert.equal(assert(loadstring(text))(), got)
  end)
end)
