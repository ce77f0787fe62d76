local unit = require "unit.policy"

local secret = "hush-7f3a"

-- `text` runs with a global `token`; nothing that comes out may hold its bytes.
local function shown(text)
  local result, v, printed = unit.run(text, { secret = secret })
  local all = ("%s %s %s"):format(result, type(v) == "table" and "(table)" or tostring(v), printed)
  assert.is_nil(all:find(secret, 1, true), all)
  assert.is_nil(all:find("hush", 1, true), all)
  return all, result, v
end

describe("a secret", function ()
  local ways = {
    "return tostring(token)",
    "print(token)",
    "print('x' .. tostring(token))",
    "error(token)",
    "error('Bot ' .. token)",
    "return select(2, pcall(error, token)) == nil",
    "return tostring(select(2, pcall(error, 'x' .. token)))",
    "return ('%s'):format(token)",
    "return ('%q'):format(token)",
    "return ('%d'):format(token)",
    "return tostring('Bearer ' .. token)",
    "return tostring(table.concat({ 'a', token, 'b' }))",
    "return require 'holdfast'.json.encode({ t = token })",
    "return require 'holdfast'.json.encode(token)",
    "return token.x",
    "token.x = 1",
    "return token:sub(1, 2)",
    "return #token",
    "return token:byte()",
    "return string.sub(token, 1, 2)",
    "return string.byte(token)",
    "return string.find(token, 'h')",
    "return string.rep(token, 2)",
    "return string.gsub('a', 'a', token)",
    "return ('a'):gsub('a', function () return token end)",
    "return tonumber(token)",
    "return token + 1",
    "return token < token",
    "return token < 'i'",
    "return tostring(getmetatable(token))",
    "for k, v in pairs(token) do print(k, v) end",
    "return next(token)",
    "return pairs({ [token] = 1 })",
    "return unpack(token)",
    "assert(false, token)",
    "assert(nil, 'x' .. token)",
    "return tostring(require 'holdfast'.url.escape(token))",
    "return tostring(require 'holdfast'.url.query { token = token })",
    "return tostring(require 'holdfast'.crypto.base64(token))",
    "return tostring(require 'holdfast'.crypto.hex(token))",
    "return require 'holdfast'.bytes.unpack('u8', token)",
    "return require(token)",
    "local t = setmetatable({}, { __index = function (_, k) error(k) end }) return t[token]",
    "setmetatable({}, token)",
    "return table.concat({ token }, token)",
    "return rawget(token, 1)",
    "local x = token() ",
    "return token .. {}",
    "return xpcall(function () error(token) end, tostring) and 1",
  }
  for _, way in ipairs(ways) do
    it("is not shown by: " .. way, function () shown(way) end)
  end

  it("shows its name", function ()
    assert.match("<secret token>", (shown "return tostring('Bot ' .. token)"))
    assert.match("<secret token>", (shown "error(token)"))
  end)

  it("stays one when it is joined, from either side", function ()
    local result, list = unit.run("return { 'Bot ' .. token, token .. ';', 1 .. token, token .. token, table.concat({ 'a', token, 2 }, '-') }", { secret = secret })
    assert.equal("ok", result)
    assert.same({ __secret = "Bot hush-7f3a", name = "token" }, list[1])
    assert.equal("hush-7f3a;", list[2].__secret)
    assert.equal("1hush-7f3a", list[3].__secret)
    assert.equal("hush-7f3ahush-7f3a", list[4].__secret)
    assert.equal("a-hush-7f3a-2", list[5].__secret)
  end)

  it("is rewritten into secrets, and digested into text", function ()
    local result, list = unit.run([[
      local h = require "holdfast"
      return { h.crypto.base64(token), h.crypto.hex(token), h.url.query { a = 1, t = token }, h.url.escape(token .. "/"),
               h.crypto.hex(h.crypto.hmac("sha256", token, "text")), h.crypto.hex(h.crypto.sha1(token)) }]], { secret = secret })
    assert.equal("ok", result, tostring(list))
    assert.equal("aHVzaC03ZjNh", list[1].__secret)
    assert.equal("687573682d37663361", list[2].__secret)
    assert.equal("a=1&t=hush-7f3a", list[3].__secret)
    assert.equal("hush-7f3a%2F", list[4].__secret)
    assert.equal("string", type(list[5]))
    assert.equal(64, #list[5])
    assert.equal(40, #list[6])
  end)

  it("goes into JSON escaped, and only where it may", function ()
    assert.equal([[{"a":["hush\"\n"],"b":"Bot hush\"\n"}]], unit.json("{ b = 'Bot ' .. token, a = { token } }", true))
    local text, why = unit.json("{ token }", false)
    assert.is_nil(text)
    assert.equal("JSON: a secret may not be shown here", why)
  end)

  it("does not grow without bound", function ()
    local _, result = shown "local t = token while true do t = t .. t end"
    assert.equal("raised", result)
  end)
end)
