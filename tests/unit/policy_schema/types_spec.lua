-- The types that an editor reads are what is so: lua/holdfast/types/policy.lua is made of the schema's keys (run
-- with HOLDFAST_WRITE=1 it is written anew); the hand-written ones name what the code has.
local schema = require "unit.policy_schema"

local PATH = "lua/holdfast/types/policy.lua"

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

-- What a reader of its own takes; `[]` and `.*` rows are classes of their own.
local ROW = "holdfast.policy.%s|holdfast.policy.%s[]"
local CUSTOM = {
  account = "string[]", identity = "string[]", ["session.of"] = "string[]",
  hosts = "string|string[]",
  ["beat.every"] = "holdfast.duration|holdfast.duration[]",
  ["beat.answer"] = "holdfast.matcher|holdfast.matcher[]", ["beat.asked"] = "holdfast.matcher|holdfast.matcher[]",
  ["budgets.start.frame"] = "holdfast.matcher|holdfast.matcher[]", ["budgets.start.lane"] = "string",
  ["close_code.final"] = "integer", ["close_code.keep"] = "integer",
  every = "table<string, { [1]: holdfast.duration, [2]: fun(conn: holdfast.conn) }>",
  ["fetch.*.per"] = '"account"|"connection"', ["fetch.*.renew"] = "holdfast.span",
  ["frames.accept"] = "boolean|holdfast.matcher|holdfast.matcher[]", ["frames.deliver"] = "boolean|holdfast.matcher|holdfast.matcher[]",
  ["frames.inspect"] = "holdfast.matcher|holdfast.matcher[]",
  ["frames.ack[].on"] = "holdfast.matcher|holdfast.matcher[]", ["frames.follows.anew"] = "holdfast.matcher|holdfast.matcher[]",
  ["frames.ack[].echo"] = "table<string, any>", ["frames.ack[].frame"] = "string", ["frames.ack[].reply"] = "table",
  ["frames.codec"] = '"json"|"bytes"|"protobuf"|"wkproto"',
  ["frames.dedupe.by"] = "string|string[]", ["frames.follows.by"] = "string",
  ["frames.join.by"] = "string", ["frames.join.count"] = "string", ["frames.join.index"] = "string", ["frames.join.of"] = "string",
  ["frames.layout"] = "table<string, table>", ["frames.remember"] = "table<string, string>", ["frames.take"] = "table<string, string>",
  ["options.*.at"] = "string", ["options.*.default"] = "any", ["options.*.max"] = "number|holdfast.duration",
  ["options.*.min"] = "number|holdfast.duration", ["options.*.one_of"] = "string[]", ["options.*.public"] = "string",
  ["options.*.type"] = '"secret"|"string"|"url"|"integer"|"number"|"boolean"|"duration"|"table"|"tune"',
}
local CAUSE = {
  any = "true", by = "holdfast.by|holdfast.by[]", cause = "string|string[]", close = "holdfast.codes", code = "holdfast.codes",
  http = "holdfast.codes", header = "table<string, string>", reason = "string", session = "boolean",
  stage = "holdfast.stage|holdfast.stage[]",
  verdict = '"resume"|"fresh"|"renew"|"slow"|"stop"', pace = '"normal"|"slow"|"stop"|holdfast.duration[]',
  to = '"resume"|"fresh"|"renew"|"slow"|"stop"',
  delay = "holdfast.span", otherwise = "holdfast.span", delay_from = '"retry_after"', drop = "string",
}
local HOOKS = {
  prepare = "fun(conn: holdfast.conn): string|holdfast.secret|table", greet = "fun(conn: holdfast.conn): any",
  on_beat = "fun(conn: holdfast.conn): holdfast.frame?", on_frame = "fun(conn: holdfast.conn, message: table)",
  on_ended = "fun(conn: holdfast.conn, cause: holdfast.cause): table?",
  on_ack = "fun(conn: holdfast.conn, message: table, reply: any): holdfast.frame?",
  ["fetch.*.call"] = "fun(conn: holdfast.conn): any, table?",
}
local PLAIN = { duration = "holdfast.duration", ["duration|false"] = "holdfast.duration|false", span = "holdfast.span",
                size = "holdfast.size" }

local function class_of(path) return (path:gsub("%[%]", ""):gsub("%.%*", "")) end

local function generated()
  local keys, list, below = schema.keys(), {}, {}
  for path, key in pairs(keys) do
    list[#list + 1] = { path = path, about = key.about, standard = key.standard, order = key.order, type = key.type }
  end
  table.sort(list, function (a, b) return a.order < b.order end)
  local classes, order = {}, {}
  for _, key in ipairs(list) do
    local above, name = key.path:match "^(.-)%.?([%w_]+)$"
    if not classes[above] then
      classes[above] = {}
      order[#order + 1] = above
    end
    below[above] = true
    table.insert(classes[above], { name = name, key = key })
  end
  local function type_of(path, name, key)
    local own = "holdfast.policy." .. class_of(path)
    if below[path] then return own end
    if below[path .. "[]"] then return ROW:format(class_of(path), class_of(path)) end
    if below[path .. ".*"] then return "table<string, " .. own .. ">" end
    if HOOKS[path] then return HOOKS[path] end
    if key.type ~= "custom" then
      assert(key.type ~= "function", "which arguments has " .. path .. "?")
      return PLAIN[key.type] or key.type
    end
    if path:find "%.windows$" then return "table" end
    if path:find "%.operators$" then return "string" end
    local row = path:find "^classify" or path:find "^climb"
    return assert(row and CAUSE[name] or CUSTOM[path], "what is taken by " .. path .. "?")
  end
  local out = { "---@meta", "-- Made of the schema's keys by tests/unit/policy_schema/types_spec.lua; do not edit.", "" }
  for _, above in ipairs(order) do
    out[#out + 1] = "---@class holdfast.policy" .. (above ~= "" and "." .. class_of(above) or "_table")
    for _, field in ipairs(classes[above]) do
      local key = field.key
      local required = key.path == "platform" or key.path == "prepare"
      out[#out + 1] = ("---@field %s%s %s  %s%s"):format(field.name, required and "" or "?",
        type_of(key.path, field.name, key), key.about, key.standard and " [" .. key.standard .. "]" or "")
    end
    -- A row that is a matcher as well: names of `take`.
    if above == "frames.ends[]" then out[#out + 1] = "---@field [string] any" end
    out[#out + 1] = ""
  end
  out[#out] = nil
  return table.concat(out, "\n") .. "\n", #list
end

if os.getenv "HOLDFAST_WRITE" then
  local f = assert(io.open(PATH, "w"))
  f:write((generated()))
  f:close()
end

local function names_in(text, pattern)
  local out = {}
  for name in text:gmatch(pattern) do out[#out + 1] = name end
  table.sort(out)
  return out
end

describe("the types for editors", function ()
  it("of a policy are the schema's keys", function ()
    local expected, count = generated()
    assert.equal(expected, read(PATH))
    assert.is_true(count > 100)
  end)

  it("of conn are its methods and fields", function ()
    local text = read "lua/holdfast.lua"
    local class = assert(text:match "%-%-%-@class holdfast%.conn\n(.-)\n\n")
    local bound = assert(read "runtime/bind/conn.c":match "luaL_Reg methods%[%] = {(.-)};")
    assert.same(names_in(bound, '{ "([%w_]+)"'), names_in(class, "%-%-%-@field ([%w_]+) fun%(self"))
    local source = read "runtime/bind/conn.c"
    for _, name in ipairs(names_in(class, "%-%-%-@field ([%w_]+) [^f]")) do
      assert.is_truthy(source:find('"' .. name .. '"', 1, true), name)
    end
  end)

  it("of the configuration are its sections and their keys", function ()
    local text = read "lua/holdfast/types/config.lua"
    local sections = read "runtime/config/sections.c"
    for _, section in ipairs { "listen", "store", "policies" } do
      local body = assert(sections:match("void config__" .. section .. "%b()%s*(%b{})"), section)
      local keys = names_in(assert(body:match "names%[%] = (%b{})"), '"([%w_]+)"')
      local class = assert(text:match("%-%-%-@class holdfast%.config%." .. section .. "\n(.-)\n\n"), section)
      assert.same(keys, names_in(class, "%-%-%-@field ([%w_]+)%?? "))
    end
    local kinds = names_in(assert(read "runtime/config/secret.c":match "names%[%] = (%b{})"), '"([%w_]+)"')
    assert.same(kinds, names_in(assert(text:match "%-%-%-@class holdfast%.config%.secret\n(.-)\n\n"), "%-%-%-@field ([%w_]+)%?? "))
    local own = names_in(assert(read "runtime/config/connection.c":match "not_options%[%] = (%b{})"), '"([%w_]+)"')
    local class = assert(text:match "%-%-%-@class holdfast%.config%.connection\n(.-)\n\n")
    for _, key in ipairs(own) do assert.is_truthy(class:find("---@field " .. key .. "[? ]"), key) end
  end)

  it("of assert.connection() are its claims", function ()
    local claims = {}
    for name in pairs(require "holdfast.expect".claims) do claims[#claims + 1] = name end
    table.sort(claims)
    assert.same(claims, names_in(assert(read "lua/holdfast/expect.lua":match "@class ConnectionClaims\n(.-)\n\n"), "%-%-%-@field ([%w_]+) fun%([^\n]*ConnectionClaims"))
  end)

  it("of a peer are what its script gets and what may be called", function ()
    local text = read "lua/holdfast/types/peer.lua"
    local api = read "runtime/peer/api.c"
    for _, class in ipairs { "peer", "socket" } do
      local fields = assert(text:match("%-%-%-@class holdfast%." .. class .. "\n(.-)\n\n"), class)
      for _, name in ipairs(names_in(fields, "%-%-%-@field ([%w_]+) fun%(self")) do
        assert.is_truthy(api:find('{ "' .. name .. '"', 1, true), class .. ":" .. name)
      end
    end
    local count = 0
    for table_text in api:gmatch "luaL_Reg [%w_]+%[%] = (%b{})" do
      for name in table_text:gmatch '{ "([%w_]+)"' do
        count = count + 1
        assert.is_truthy(text:find("---@field " .. name .. " fun(self", 1, true), name)
      end
    end
    assert.is_true(count > 10)
    for _, name in ipairs { "start", "http", "upgrade", "opened", "message", "closed", "control" } do
      assert.is_truthy(text:find("---@field " .. name .. "?", 1, true), name)
    end
  end)
end)
