-- What may be changed in the engine's sources: comparisons, conditions, numbers, sums, and statements. Assertions, marks
-- and the bugs that can be planted for tests are left alone, and so is which draw is taken, and what only gives memory back: that is the leak
-- checker's, and what happens without memory. Where equal would be set to itself (`if (a > b) a = b;`, `a > b ? a : b`,
-- `a > b ? a - b : 0`), `>` and `>=` are the same code; and what stands behind an impossible branch is never reached.
-- How long the peer's close is waited for is part of an announced ending alone: with any other, nobody reads it.
local tokens = require "tokens"

local operators = {}

local QUIET = { ASSERT = true, MARK = true, PLANTED = true, ENSURE_CONN = true, _Static_assert = true, sizeof = true, __attribute__ = true,
                fx_alarm = true, snprintf = true, free = true, conn_draw = true }
local RELATIONS = { ["<"] = { "<=", ">=" }, ["<="] = { "<", ">" }, [">"] = { ">=", "<=" }, [">="] = { ">", "<" }, ["=="] = { "!=" }, ["!="] = { "==" },
                    ["&&"] = { "||" }, ["||"] = { "&&" } }
local SUMS = { ["+"] = "-", ["+="] = "-=", ["-="] = "+=", ["/"] = "*", ["*"] = "/", ["%"] = "/" }
local NO_STATEMENT = { ["return"] = true, ["break"] = true, ["case"] = true, ["goto"] = true, ["continue"] = true, ["default"] = true,
                       ["struct"] = true, ["static"] = true, ["const"] = true, ["enum"] = true, ["typedef"] = true, ["bool"] = true, ["char"] = true,
                       ["int"] = true, ["double"] = true, ["uint8_t"] = true, ["uint16_t"] = true, ["uint32_t"] = true, ["uint64_t"] = true,
                       ["int64_t"] = true, ["size_t"] = true, ["else"] = true, ["void"] = true, ["ENSURE_CONN"] = true, ["ASSERT"] = true, ["MARK"] = true,
                       ["fx_alarm"] = true, ["snprintf"] = true, ["free"] = true }
-- An `enum end_how` behind which conn_link_ends() has no use for its last argument.
local ENDS_AT_ONCE = { END_CLOSE = true, END_ABORT = true, END_GONE = true }
local BOUNDARY = { ["<"] = true, ["<="] = true, [">"] = true, [">="] = true }

-- The token that closes the bracket at `i`.
local PAIRS = { ["("] = ")", ["{"] = "}", ["["] = "]" }
local function closing(list, i)
  local open, close, depth = list[i].text, PAIRS[list[i].text], 0
  while list[i] do
    if list[i].text == open then depth = depth + 1 end
    if list[i].text == close then
      depth = depth - 1
      if depth == 0 then return i end
    end
    i = i + 1
  end
end

local function whole(text) return tonumber((text:gsub("[uUlL]+$", ""))) end

-- The words from `i` on, in steps of `by`, up to one of `stops` outside of brackets; and where that one is.
local function words_to(list, i, by, stops)
  local depth, first = 0, i
  while list[i] do
    local t = list[i].text
    if depth == 0 and stops[t] then break end
    if PAIRS[t] then depth = depth + by end
    if t == ")" or t == "}" or t == "]" then depth = depth - by end
    if depth < 0 then break end
    i = i + by
  end
  local from, to, words = math.min(first, i - by), math.max(first, i - by), {}
  for k = from, to do words[#words + 1] = list[k].text end
  return table.concat(words, " "), i
end

-- A relation between two values of which the larger or the smaller is what is taken: the equal one is either.
local BEGINS = { ["&&"] = true, ["||"] = true, ["="] = true, ["return"] = true, [","] = true, [";"] = true, ["?"] = true, [":"] = true }
local ENDS = { ["&&"] = true, ["||"] = true, [","] = true, [";"] = true, ["?"] = true, [":"] = true }
local function takes_either(list, i)
  local left = words_to(list, i - 1, -1, BEGINS)
  local right, at = words_to(list, i + 1, 1, ENDS)
  local a, b
  if list[at].text == "?" then
    a, at = words_to(list, at + 1, 1, { [":"] = true })
    b = words_to(list, at + 1, 1, { [","] = true, [";"] = true })
  elseif list[at].text == ")" then
    a, at = words_to(list, at + 1, 1, { ["="] = true, [";"] = true })
    if list[at].text ~= "=" then return false end
    b = words_to(list, at + 1, 1, { [";"] = true })
  else
    return false
  end
  if b == "0" then return a == left .. " - " .. right or a == right .. " - " .. left end
  return a == left and b == right or a == right and b == left
end

-- Whether the statement that ends at `i` takes memory for `name`.
local function allocated(list, i, name)
  local at, takes = i - 1, false
  while list[at] and list[at].text ~= ";" and list[at].text ~= "{" and list[at].text ~= "}" do
    takes = takes or list[at].text == "malloc" or list[at].text == "calloc"
    at = at - 1
  end
  for k = at, i do
    if takes and list[k].text == name and list[k + 1].text == "=" then return true end
  end
  return false
end

-- One function's.
local function body(text, list, first, last, put)
  local i, heads_end = first, 0
  while i <= last do
    local t, before, after = list[i], list[i - 1], list[i + 1]
    local starts = before.text == ";" or before.text == "{" or before.text == "}" or before.text == ")" or before.text == ":" or before.text == "else"
    local skip
    if t.kind == "name" and QUIET[t.text] and after.text == "(" then
      skip = closing(list, i + 1)
    elseif t.text == "if" and after.text == "(" and list[i + 2].text == "PLANTED" then
      -- To the end of the statement behind it.
      skip = closing(list, i + 1) + 1
      while list[skip].text ~= ";" do skip = skip + 1 end
    elseif t.text == "if" and list[i + 2].text == "!" and list[i + 4].text == ")" and allocated(list, i - 1, list[i + 3].text) then
      skip = closing(list, i + 1)
      if list[skip + 1].text == "return" then
        while list[skip].text ~= ";" do skip = skip + 1 end
      end
    elseif t.kind == "string" then
      skip = i
    elseif t.text == "0" and ENDS_AT_ONCE[list[i - 2].text] and before.text == "," and after.text == ")" then
      skip = i
    end
    if t.text == "ASSERT" and list[i + 2].text == "!" and list[i + 3].kind == "string" then
      -- To the end of the block.
      while list[skip + 1].text ~= "}" do skip = skip + 1 end
    end
    if skip then
      i = skip + 1
    else
      if t.text == "if" and after.text == "(" then
        local ends = closing(list, i + 1)
        put("condition negated", i + 1, ends, "(!(" .. text:sub(list[i + 2].first, list[ends - 1].last) .. "))")
        local single = list[ends + 1].text ~= "{"
        if single then
          local semi = ends + 1
          while list[semi].text ~= ";" do semi = semi + 1 end
          if list[semi + 1].text ~= "else" and before.text ~= "else" then put("guard removed", i, semi, ";") end
        end
      end
      local either = t.kind == "symbol" and BOUNDARY[t.text] and takes_either(list, i)
      for k, other in ipairs(t.kind == "symbol" and RELATIONS[t.text] or {}) do
        if not (either and k == 1) then put("relation changed", i, i, other) end
      end
      if t.kind == "symbol" and SUMS[t.text] and (before.kind ~= "symbol" or before.text == ")" or before.text == "]")
        and not (t.text == "*" and after.kind == "name" and (before.text == "const" or before.text == "return" or list[i - 2].text == "struct")) then
        put("sum changed", i, i, SUMS[t.text])
      end
      if t.text == "-" and (before.kind == "name" and before.text ~= "return" or before.kind == "number" or before.text == ")" or before.text == "]") then
        put("sum changed", i, i, "+")
      end
      if t.text == "!" and t.kind == "symbol" then put("negation removed", i, i, "") end
      if t.text == "true" then put("boolean flipped", i, i, "false") end
      if t.text == "false" then put("boolean flipped", i, i, "true") end
      if t.kind == "number" and not t.text:find("0x", 1, true) and whole(t.text) and before.text ~= "case" then
        local n = whole(t.text)
        put("number plus one", i, i, ("%.14g"):format(n + 1))
        if n > 0 then put("number minus one", i, i, ("%.14g"):format(n - 1)) end
        if n > 1 then put("number doubled", i, i, ("%.14g"):format(n * 2)) end
      end
      if t.text == "for" then heads_end = closing(list, i + 1) end
      -- A call or an assignment that is a statement of its own.
      if starts and i > heads_end and (t.kind == "name" and not NO_STATEMENT[t.text] and (after.text ~= ":" ) and t.text ~= "if" and t.text ~= "for"
        and t.text ~= "while" and t.text ~= "switch" and t.text ~= "do" and not t.text:match "_destroy$") and list[i + 1].kind ~= "name" and list[i + 1].text ~= "*" then
        local semi, depth, good = i, 0, true
        while list[semi] and not (list[semi].text == ";" and depth == 0) do
          if PAIRS[list[semi].text] then depth = depth + 1 end
          if list[semi].text == ")" or list[semi].text == "}" or list[semi].text == "]" then depth = depth - 1 end
          if depth < 0 then good = false break end
          semi = semi + 1
        end
        if good and list[semi] and semi <= last then put("statement removed", i, semi, ";") end
      end
      i = i + 1
    end
  end
end

---Every mutant of the text: { operator, first, last, with }.
function operators.of(text)
  local list = tokens.c(text)
  local found = {}
  local function put(operator, first, last, with)
    found[#found + 1] = { operator = operator, first = list[first].first, last = list[last].last, with = with }
  end
  -- Function bodies: braces at the outermost level behind a closing parenthesis.
  local i, named = 1, ""
  while list[i] do
    local t = list[i]
    if t.kind == "name" and list[i + 1] and list[i + 1].text == "(" then named = t.text end
    if t.text == "{" then
      local ends = closing(list, i)
      if list[i - 1].text == ")" and not named:match "_deinit$" and not named:match "_destroy$" then body(text, list, i + 1, ends - 1, put) end
      i = ends
    end
    i = i + 1
  end
  return found
end

return operators
