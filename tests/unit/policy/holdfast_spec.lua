local unit = require "unit.policy"

local function value(text)
  local result, v = unit.run("local h = require 'holdfast' return " .. text)
  assert.equal("ok", result, tostring(v))
  return v
end

describe("holdfast.url", function ()
  it("escapes all but the unreserved", function ()
    assert.equal("aZ09-._~%2F%3F%25%20%C3%BC%00", value [[h.url.escape "aZ09-._~/?% \195\188\0"]])
    assert.equal("12", value "h.url.escape(12)")
  end)

  it("writes queries in order, lists item by item", function ()
    assert.equal("compress=true&encoding=json&v=10", value "h.url.query { v = 10, encoding = 'json', compress = true }")
    assert.equal("a%5B%5D=1&a%5B%5D=2", value "h.url.query { ['a[]'] = { 1, 2 } }")
    assert.equal("", value "h.url.query {}")
  end)

  for _, case in ipairs {
    { "'wss://x'", "wss://x/" },
    { "'wss://x', nil, { v = 1 }", "wss://x/?v=1" },
    { "'wss://x/?a=1', nil, { v = 1 }", "wss://x/?a=1&v=1" },
    { "'wss://x/?a=1#frag', nil, { v = 1 }", "wss://x/?a=1&v=1" },
    { "'https://x/api/', '/v1/bot'", "https://x/api/v1/bot" },
    { "'https://x', 'v1', { a = 1 }", "https://x/v1?a=1" },
    { "'https://x?k=v', 'v1', { a = 1 }", "https://x/v1?k=v&a=1" },
    { "'https://x/p', nil, {}", "https://x/p" },
  } do
    it("joins " .. case[1], function () assert.equal(case[2], value(("h.url.join(%s)"):format(case[1]))) end)
  end

  it("adds fields to a secret address, and no path", function ()
    local result, v = unit.run("local h = require 'holdfast' return { h.url.join(token, nil, { a = 1 }) }", { secret = "wss://x/t" })
    assert.equal("ok", result, tostring(v))
    assert.equal("wss://x/t?a=1", v[1].__secret)
    result, v = unit.run("local h = require 'holdfast' return { h.url.join(token, 'p') }", { secret = "wss://x/t" })
    assert.equal("raised", result)
    assert.match("^policies/x.lua:1: ", v)
  end)
end)
