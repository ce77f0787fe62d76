-- Words of a source, for mutants: each token with its kind and place. Comments are left out. Two languages, each as far
-- as the sources here use it.
local tokens = {}

local function lines_of(text)
  local starts, at = { 1 }, 1
  while true do
    local nl = text:find("\n", at, true)
    if not nl then return starts end
    starts[#starts + 1] = nl + 1
    at = nl + 1
  end
end

---`rules`: { { kind, pattern } }, the first that matches at a place takes it; kind false: skipped.
local function split(text, rules)
  local list, at, line = {}, 1, 1
  local starts = lines_of(text)
  while at <= #text do
    local taken
    for _, rule in ipairs(rules) do
      local first, last = text:find("^" .. rule[2], at)
      if first and last >= first then
        while starts[line + 1] and starts[line + 1] <= first do line = line + 1 end
        if rule[1] then list[#list + 1] = { kind = rule[1], text = text:sub(first, last), first = first, last = last, line = line } end
        taken = last
        break
      end
    end
    if not taken then error(("no token at byte %d: %s"):format(at, text:sub(at, at + 20))) end
    at = taken + 1
  end
  return list
end

local LUA = {
  { false, "%s+" }, { false, "%-%-%[%[.-%]%]" }, { false, "%-%-[^\n]*" },
  { "string", '""' }, { "string", "''" }, { "string", '"[^"\n]-[^\\]"' }, { "string", "'[^'\n]-[^\\]'" },
  { "name", "[%a_][%w_]*" }, { "number", "0x%x+" }, { "number", "%d+%.?%d*" },
  { "symbol", "%.%.%.?" }, { "symbol", "[=~<>]=" }, { "symbol", "." },
}

local C = {
  { false, "%s+" }, { false, "/%*.-%*/" }, { false, "//[^\n]*" }, { false, "#[^\n]*" },
  { "string", '""' }, { "string", '"[^"\n]-[^\\]"' }, { "string", "'[^'\n]-[^\\]?'" },
  { "name", "[%a_][%w_]*" }, { "number", "0x%x+[uUlL]*" }, { "number", "%d+%.?%d*[uUlL]*" },
  { "symbol", "%->" }, { "symbol", "<<=" }, { "symbol", ">>=" }, { "symbol", "<<" }, { "symbol", ">>" },
  { "symbol", "%+%+" }, { "symbol", "%-%-" }, { "symbol", "&&" }, { "symbol", "||" },
  { "symbol", "[=!<>%+%-%*/|&^%%]=" }, { "symbol", "." },
}

function tokens.lua(text) return split(text, LUA) end
function tokens.c(text) return split(text, C) end

---Where a source's lines begin: the text of line N is text:sub(starts[N], starts[N + 1] - 1).
tokens.lines_of = lines_of

return tokens
