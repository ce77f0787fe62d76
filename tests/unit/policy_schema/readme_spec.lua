-- policies/README.md says what is so: what it quotes of examples/chirp are that example's files, whole and in order,
-- and its list of keys is the schema's. Run with HOLDFAST_WRITE=1 it writes that list anew.
local schema = require "unit.policy_schema"

local PATH = "policies/README.md"

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function cell(text) return (text:gsub("|", "\\|")) end

-- The reference: a row for each key, in the schema's order.
local function reference()
  local keys, list = schema.keys(), {}
  for path, key in pairs(keys) do list[#list + 1] = { path = path, about = key.about, standard = key.standard, order = key.order } end
  table.sort(list, function (a, b) return a.order < b.order end)
  local out = { "| key | what it says | default |", "|---|---|---|" }
  for _, key in ipairs(list) do
    out[#out + 1] = ("| `%s` | %s | %s |"):format(key.path, cell(key.about), key.standard and "`" .. cell(key.standard) .. "`" or "")
  end
  return table.concat(out, "\n") .. "\n", #list
end

local function lines_of(text)
  local out = {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    if line:find "%S" then out[#out + 1] = line end
  end
  return out
end

-- What it quotes, by file.
local function quoted(text)
  local files = {}
  for path, body in text:gmatch "<!%-%- (%S+) %-%->\n```lua\n(.-)\n```\n" do
    files[path] = (files[path] or "") .. body .. "\n"
  end
  return files
end

local MARK = "\n| key | what it says | default |\n"

if os.getenv "HOLDFAST_WRITE" then
  local text = read(PATH)
  local at = text:find(MARK, 1, true) or text:find("\nKEYS\n", 1, true)
  local f = assert(io.open(PATH, "w"))
  f:write(text:sub(1, at), (reference()))
  f:close()
end

describe("policies/README.md", function ()
  for _, path in ipairs { "examples/chirp/policies/chirp.lua", "examples/chirp/lua/peers/chirp.lua", "examples/chirp/chirp_spec.lua" } do
    it("quotes the whole of " .. path .. ", in order", function ()
      local shown, file = lines_of(quoted(read(PATH))[path] or ""), lines_of(read(path))
      for i = 1, math.max(#shown, #file) do
        if shown[i] ~= file[i] then
          error(("line %d of it is\n  %s\nwhere the page has\n  %s"):format(i, tostring(file[i]), tostring(shown[i])), 0)
        end
      end
      assert.is_true(#file > 50)
    end)
  end

  it("quotes no other file", function ()
    local count = 0
    for _ in pairs(quoted(read(PATH))) do count = count + 1 end
    assert.equal(3, count)
    local _, blocks = read(PATH):gsub("```lua\n", "")
    local _, marked = read(PATH):gsub("<!%-%- %S+ %-%->\n```lua\n", "")
    assert.equal(blocks, marked)
  end)

  it("lists every key that the schema knows, in its order, with its sentence and default, and no other", function ()
    local text = read(PATH)
    local at = assert(text:find(MARK, 1, true), "the list of keys is missing")
    local expected, count = reference()
    assert.is_true(count > 100)
    assert.equal(expected, text:sub(at + 1), "HOLDFAST_WRITE=1 HOLDFAST_BUILD=build/test build/test/runner " ..
      "tests/unit/policy_schema/readme_spec.lua writes it anew")
  end)

  it("names each policy of its folder", function ()
    local text = read(PATH)
    local p = assert(io.popen "ls policies")
    for name in p:read("*a"):gmatch "(%S+%.lua)" do
      assert.is_truthy(text:find("* `" .. name .. "`", 1, true), name .. " is not on the page")
    end
    p:close()
  end)
end)
