-- What may be changed in a policy file: every rule and every number of its tables, and the lines of its hooks. What is
-- only said to people (notes, about, log) is left alone, and so is what names an option or a host.
local tokens = require "tokens"

local operators = {}

local OPEN = { ["{"] = true, ["("] = true, ["["] = true, ["function"] = true, ["if"] = true, ["do"] = true, ["repeat"] = true }
local CLOSE = { ["}"] = true, [")"] = true, ["]"] = true, ["end"] = true, ["until"] = true }
local SPOKEN = { note = true, about = true, platform = true, type = true, hosts = true, default = true, public = true }
-- A row of a list of rules: it can be left out.
local RULES = { classify = true, climb = true, ends = true, ack = true, deliver = true, windows = true, on = true }
local CODES = { close = true, http = true, code = true, op = true, method = true, reply = true, keep = false, final = false }
local PACES = { resume = { "fresh", "slow" }, fresh = { "resume", "renew" }, renew = { "fresh", "stop" }, slow = { "resume", "stop" },
                stop = { "slow", "resume" } }
local WORDS = { jitter = { full = "none", equal = "none" }, first = { spread = "at_once", at_once = "after", after = "at_once" },
                replay = { session = "none", unacked = "none", none = "session" }, when = { early = "through", through = "early" } }
local STAGES = { preparing = "upgrading", upgrading = "preparing", greeting = "ready", ready = "greeting", resolving = "ready",
                 connecting = "ready", securing = "ready" }

-- Tables of which the plan's numbers tell all.
local PLAIN = { limits = true, backoff = true, slow = true, close_code = true }

local SAID = { beat = { every = true, first = true, within = true, dead = true }, join = { within = true, parts = true, bytes = true },
               dedupe = { over = true, most = true }, sizes = { message = true, send = true } }

-- The value that begins at token `i` ends before the separator; returns its last token.
local function value_end(list, i)
  local depth = 0
  while list[i] do
    local t = list[i].text
    if list[i].kind ~= "string" then
      if depth == 0 and (t == "," or t == ";" or CLOSE[t]) then return i - 1 end
      if OPEN[t] then depth = depth + 1 end
      if CLOSE[t] then depth = depth - 1 end
    end
    i = i + 1
  end
  return #list
end

-- { first, last, entries = { { key, first, last, value_first, value_last, table } } }; `i` is the opening brace.
local function parse_table(list, i)
  local node = { first = i, entries = {} }
  local at, index = i + 1, 0
  while list[at].text ~= "}" do
    local e = { first = at }
    if list[at].kind == "name" and list[at + 1].text == "=" then
      e.key, e.value_first = list[at].text, at + 2
    elseif list[at].text == "[" and list[at].kind == "symbol" then
      e.key = list[at + 1].text:gsub("^[\"']", ""):gsub("[\"']$", "")
      e.value_first = at + 4
    else
      index = index + 1
      e.key, e.index, e.value_first = index, index, at
    end
    e.value_last = value_end(list, e.value_first)
    e.last = e.value_last
    if list[e.value_first].text == "{" and list[e.value_first].kind == "symbol" then
      local inner = parse_table(list, e.value_first)
      if inner.last == e.value_last then e.table = inner end
    end
    node.entries[#node.entries + 1] = e
    at = e.value_last + 1
    if list[at].text == "," or list[at].text == ";" then at = at + 1 end
  end
  node.last = at
  return node
end

local function duration(text) return text:match '^"(%d+%.?%d*)([a-zA-Z%%]+)"$' end

local function scaled(text, by)
  local n, unit = duration(text)
  if n then return ('"%.14g%s"'):format(tonumber(n) * by, unit) end
  n = tonumber(text)
  return n and ("%.14g"):format(n % 1 == 0 and math.floor(n * by) or n * by)
end

local function is_span(node, list)
  local e = node.entries
  return #e == 2 and e[1].index and e[2].index and e[1].value_first == e[1].value_last and e[2].value_first == e[2].value_last
    and duration(list[e[1].value_first].text) and duration(list[e[2].value_first].text)
end

---Every mutant of the text: { operator, first, last, with, plain = true where only a number or a word of the plan goes }.
function operators.of(text)
  local list = tokens.lua(text)
  local found = {}
  local function put(operator, first, last, with)
    if text:sub(list[first].first, list[last].last) == with then return end
    found[#found + 1] = { operator = operator, first = list[first].first, last = list[last].last, with = with }
  end
  local function replace(operator, i, with)
    if with and with ~= list[i].text then put(operator, i, i, with) end
  end
  -- With the comma behind it, or the one before it if it is the last.
  local function remove(operator, first, last)
    if list[last + 1].text == "," then
      put(operator, first, last + 1, "")
    elseif list[first - 1].text == "," then
      put(operator, first - 1, last, "")
    else
      put(operator, first, last, "")
    end
  end

  local function number(i, path)
    local key = path[#path]
    for k = #path, 1, -1 do
      if type(path[k]) == "string" then key = path[k] break end
    end
    local t = list[i]
    if t.kind == "number" and (CODES[key] or path[2] == "layout") then return replace("code changed", i, tostring(tonumber(t.text) + 1)) end
    if t.kind == "number" and key == "times" then
      replace("climb count changed", i, tostring(tonumber(t.text) + 1))
      if tonumber(t.text) > 1 then replace("climb count changed", i, tostring(tonumber(t.text) - 1)) end
      return
    end
    replace("number halved", i, scaled(t.text, 0.5))
    replace("number doubled", i, scaled(t.text, 2))
    if tonumber((duration(t.text) or t.text)) ~= 0 then replace("number zeroed", i, scaled(t.text, 0)) end
  end

  local function atom(i, path)
    local t, key = list[i], path[#path]
    local named = key
    for k = #path, 1, -1 do
      if type(path[k]) == "string" then named = path[k] break end
    end
    if t.kind == "number" or t.kind == "string" and duration(t.text) then return number(i, path) end
    if t.text == "true" then return replace("boolean flipped", i, "false") end
    if t.text == "false" then return replace("boolean flipped", i, "true") end
    if t.kind ~= "string" then return end
    local inner = t.text:sub(2, -2)
    if named == "verdict" or named == "to" then
      for _, other in ipairs(PACES[inner] or {}) do replace("verdict changed", i, '"' .. other .. '"') end
    elseif WORDS[named] then
      replace("word changed", i, WORDS[named][inner] and '"' .. WORDS[named][inner] .. '"')
    elseif named == "stage" then
      replace("matcher changed", i, STAGES[inner] and '"' .. STAGES[inner] .. '"')
    elseif inner:match "^%-?%d+%-%-?%d+$" then
      local a, b = inner:match "^(%-?%d+)%-(%-?%d+)$"
      replace("range changed", i, ('"%.0f-%s"'):format(tonumber(a) + 1, b))
      if tonumber(b) - 1 >= tonumber(a) then replace("range changed", i, ('"%s-%.0f"'):format(a, tonumber(b) - 1)) end
    elseif path[1] == "frames" or path[1] == "classify" or path[1] == "climb" then
      replace("matcher changed", i, '"' .. inner .. '_other"')
    end
  end

  -- Lines of functions, and of what stands outside the tables.
  local SWAPS = { ["=="] = "~=", ["~="] = "==", ["<"] = ">=", [">"] = "<=", ["<="] = ">", [">="] = "<", ["and"] = "or", ["or"] = "and" }
  local function code(first, last)
    local starts = tokens.lines_of(text)
    local line_of = {}
    for i = first, last do
      local t = list[i]
      local said = text:sub(starts[t.line], (starts[t.line + 1] or #text + 1) - 1)
      if not said:match "conn:log" and not said:match "^local holdfast = require" and not said:match "USER_AGENT =" then
        line_of[t.line] = line_of[t.line] or { first = i }
        line_of[t.line].last = i
        if t.kind == "symbol" or t.kind == "name" then
          replace("comparison negated", i, SWAPS[t.text])
          if t.text == "not" then put("negation removed", i, i, "") end
        end
        if t.text == "true" then replace("boolean flipped", i, "false") end
        if t.text == "false" then replace("boolean flipped", i, "true") end
        if t.kind == "number" then
          replace("number changed", i, tostring(tonumber(t.text) + 1))
          replace("number doubled", i, scaled(t.text, 2))
        elseif t.kind == "string" and duration(t.text) then
          replace("number halved", i, scaled(t.text, 0.5))
          replace("number doubled", i, scaled(t.text, 2))
        end
      end
    end
    for number_, span in pairs(line_of) do
      local said = text:sub(starts[number_], (starts[number_ + 1] or #text + 1) - 1):gsub("%s*%-%-.*$", ""):gsub("%s+$", "")
      local depth = 0
      for i = span.first, span.last do
        if list[i].kind ~= "string" then
          depth = depth + (OPEN[list[i].text] and 1 or 0) - (CLOSE[list[i].text] and 1 or 0)
        end
      end
      local statement = said:match "^%s*conn[:%.]" or said:match "^%s*if .* then .* end$" or said:match "^%s*[%w_%.]+ = "
        or said:match "^%s*[%w_%.]+, [%w_%.]+ = " or said:match "^%s*return .*conn:await"
      if depth == 0 and statement and list[span.first].line == list[span.last].line then
        found[#found + 1] = { operator = "line removed", first = list[span.first].first, last = list[span.last].last, with = "" }
      end
    end
  end

  local function walk(node, path)
    local here = path[#path]
    local atoms = 0
    for _, e in ipairs(node.entries) do
      if e.index and not e.table then atoms = atoms + 1 end
    end
    for _, e in ipairs(node.entries) do
      local inner = {}
      for k, v in ipairs(path) do inner[k] = v end
      inner[#inner + 1] = e.key
      local one = e.value_first == e.value_last
      if not SPOKEN[e.key] and not (path[1] == "options" and #path == 1 and e.key == "about") then
        local in_row = path[1] == "classify" or path[1] == "climb" or path[1] == "frames"
        if e.index and e.table and RULES[here] then remove("rule removed", e.first, e.last) end
        if not e.index and #path >= 1 and path[1] ~= "options" and path[1] ~= "fetch" and e.key ~= "verdict" and e.key ~= "to"
          and e.key ~= "codec" and e.key ~= "on" then
          remove(in_row and "matcher or field removed" or "entry removed", e.first, e.last)
          found[#found].plain = PLAIN[path[1]] or (SAID[here] or {})[e.key]
        end
        if e.index and not e.table and one and atoms >= 2 and not is_span(node, list) and path[1] ~= "options" and #path >= 1 then
          remove("element removed", e.first, e.last)
        end
        if e.table then
          if is_span(e.table, list) then
            local a, b = list[e.table.entries[1].value_first], list[e.table.entries[2].value_first]
            put("range collapsed", e.value_first, e.value_last, ("{ %s, %s }"):format(a.text, a.text))
            put("range collapsed", e.value_first, e.value_last, ("{ %s, %s }"):format(b.text, b.text))
            put("range swapped", e.value_first, e.value_last, ("{ %s, %s }"):format(b.text, a.text))
          end
          walk(e.table, inner)
        elseif list[e.value_first].text == "function" then
          code(e.value_first, e.value_last)
        elseif one and #inner >= 1 then
          atom(e.value_first, inner)
        end
      end
    end
  end

  local begins
  for i, t in ipairs(list) do
    if t.text == "return" and list[i + 1].text == "holdfast" and list[i + 4].text == "{" then begins = i end
  end
  assert(begins, "there is no `return holdfast.policy {`")
  if begins > 1 then code(1, begins - 1) end
  walk(parse_table(list, begins + 4), {})
  return found
end

return operators
