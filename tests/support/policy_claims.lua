-- Claims about a stock policy's plan, for tests/policy/*_plan_spec.lua: its numbers, each in the largest unit that holds it
-- whole, and what each ending means. The words of a decision: what is dropped (resume nothing, fresh the session, renew the
-- fetched values too) or the pace (slow, stop), then what else the row says, then the climbs that count such an ending.
local assert = require "luassert"
local plan = require "policy_plan"

local claims = {}

function claims.numbers(name, expected)
  assert.same(expected, plan(name):numbers())
end

---`rows`: { cause, words }; a list of words for several values of one key is written as { cause, key, values, words }.
function claims.decisions(name, rows)
  local p = plan(name)
  for _, row in ipairs(rows) do
    local cause, words = row[1], row[#row]
    for _, value in ipairs(#row == 4 and row[3] or { cause[row[2]] or false }) do
      local asked = {}
      for k, v in pairs(cause) do asked[k] = v end
      if #row == 4 then asked[row[2]] = value end
      local said = {}
      for k, v in pairs(asked) do said[#said + 1] = k .. "=" .. tostring(v) end
      table.sort(said)
      assert.equal(words, p:decide(asked), name .. ": " .. table.concat(said, " "))
    end
  end
end

---`of`: { option = another value }: which of them make another session, identity, account or lane.
---@param expected table<string, string> "session identity account lane" or fewer
function claims.keeps(name, of, expected)
  local p, out = plan(name), {}
  for option, value in pairs(of) do
    local words = {}
    local answers = { p:keeps(plan(name, { [option] = value })) }
    for i, word in ipairs { "session", "identity", "account", "lane" } do
      if not answers[i] then words[#words + 1] = word end
    end
    out[option] = table.concat(words, " ")
  end
  assert.same(expected, out)
end

---A connection that leaves one of these options out is refused, and told which.
function claims.requires(name, options)
  for _, option in ipairs(options) do
    local ok, text = pcall(plan, name, { [option] = false })
    assert.is_false(ok, name .. " does not ask for " .. option)
    assert.is_truthy(text:find(option, 1, true), text)
  end
end

return claims
