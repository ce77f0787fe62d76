-- Lines of keys in a table as it was written.
local schema = require "unit.policy_schema"

local function lines(source, anchor, nth)
  local tables = {}
  local function take(t) tables[#tables + 1] = t return t end
  local env = setmetatable({
    holdfast = { policy = take }, connection = function() return take end,
  }, { __index = _G })
  setfenv(assert(loadstring(source)), env)()
  return schema.lines(tables[nth or 1], source, anchor or "holdfast.policy", nth)
end

describe("lines", function()
  it("are those of the keys, through every kind of string, comment and nesting", function()
    assert.same({
      line = 2, a = 3, b = 4, long = 5, ["key x"] = 8, f = 9, t = { line = 18, inner = 18, [1] = 19, [2] = 20 }, last = 25,
      call = { line = 22, z = 0 }, n = { line = 23, [1] = 24, [2] = 23 },
    }, lines [==========[
-- holdfast.policy { a = 1 }
return holdfast.policy { -- the table
  a = 1, --[[ b = 2
  ]] b = "} end, \" x = 1 \\", -- }
  long = [==[
 } b = 2 ]] ]=]
  ]==],
  ["key x"] = 'it\'s "quoted"' == "}" and 1 or 2,
  f = function(x)
    if x then return { a = 1, b = { 2 } } end
    for i = 1, 3 do while x do break end end
    repeat x = { a = 5 } until x == { ["b"] = 1 } or function() end
    local s = "end"
    do local a = 1 end
    return function() return { last = 9 } end
  end,
  --[==[ t = { ]==]
  t = { inner = 1;
    2,
    "three",
  },
  call = (function(t) return t end) { z = 1 },
  n = { [2] = "b",
    [1] = "a" },
  last = 1 }
]==========])
  end)

  it("count positional tables row by row", function()
    assert.same({ line = 1, classify = { line = 2, { line = 3, close = 3 }, { line = 4, any = 5 } } }, lines [[
return holdfast.policy {
  classify = {
    { close = 4004 },
    {
      any = true },
  },
}]])
  end)

  it("find the nth of equal constructors, and the one at a line", function()
    local source = 'connection "a" { x = 1 }\nconnection "b" {\n x = 2 }\n'
    assert.same({ line = 1, x = 1 }, lines(source, "connection", 1))
    assert.same({ line = 2, x = 3 }, lines(source, "connection", 2))
    assert.same({ line = 2, x = 3 }, schema.lines({ x = 2 }, source, 2))
  end)

  it("know nothing of a table that was not written as a literal", function()
    assert.same({ line = 0, x = 0 }, schema.lines({ x = 1 }, "local t = {} t.x = 1 return holdfast.policy(t)", "holdfast.policy"))
    assert.same({ line = 0, x = 0 }, schema.lines({ x = 1 }, "return { x = 1 }", "holdfast.policy"))
  end)

  it("end on whatever text there is", function()
    for _, source in ipairs {
      "", "{", "holdfast.policy", "holdfast.policy {", "holdfast.policy { x", "holdfast.policy { x =", "holdfast.policy { [", "holdfast.policy { [[",
      'holdfast.policy { "', "holdfast.policy { x = function(", "holdfast.policy { ] ) end }", "--[[", "holdfast.policy --[==[", 'holdfast.policy { "\\',
      "holdfast.policy " .. ("{"):rep(5000), "#!/x", "holdfast.policy { x = 1 = 2 }", "holdfast.policy { \0 x = 1 }", "holdfast.policy({{{", "holdfast.policy { until end x = 1 }",
    } do
      assert.is_table(schema.lines({ x = 1, { { {} } } }, source, "holdfast.policy"))
      assert.is_table(schema.lines({ x = 1, { { {} } } }, source, 1))
    end
  end)
end)
