-- Whatever stands where in a policy or its settings, the answer is a list of problems or a build.
local schema = require "unit.policy_schema"
local text = require "policy_text"

local f = function() end
local keys = {}
for path in pairs(schema.keys()) do keys[#keys + 1] = path:match "[^.%[%]*]+$" end
table.sort(keys)

-- A small generator of its own, so that a failure repeats everywhere.
local state
local function draw(n)
  state = (state * 1103515245 + 12345) % 2147483648
  return math.floor(state / 65536) % n + 1
end

local scalars = {
  0, 1, -1, 2, 3, 60, 4004, 1.5, 0 / 0, math.huge, -math.huge, 2 ^ 60, true, false, "", "x", "op", "token", "shard", "30s", "0s", "1h", "999d", "64MiB",
  "10%", "4900-4913", "resume", "stop", "slow", "retry_after", "early", "json", "hold", "\0", "\255", ("x"):rep(500), "https://a.example/", "^x", f,
  schema.secret("S", "hunter2"),
}

local function value(depth)
  if depth == 0 or draw(3) == 1 then return scalars[draw(#scalars)] end
  local t = {}
  for i = 1, draw(4) - 1 do
    if draw(3) == 1 then t[i] = value(depth - 1) else t[keys[draw(#keys)]] = value(depth - 1) end
  end
  return t
end

local roots = { "limits", "sizes", "alive", "beat", "backoff", "slow", "budgets", "session", "overlap", "retire", "close_code", "frames", "backlog", "classify", "climb",
  "fetch", "every", "options", "identity", "account", "hosts" }

local function policy()
  local changes = { frames = { take = { op = "op", id = "d.id" } } }
  for _ = 1, draw(4) do changes[roots[draw(#roots)]] = value(4) end
  return text.plain(changes)
end

describe("a hostile policy", function()
  it("never crashes, leaks a secret, or counts its errors wrong", function()
    for seed = 1, 1000 do
      state = seed
      local input = { policy = policy() }
      if draw(2) == 1 then
        input.settings = { token = scalars[#scalars], tune = value(4), backlog = value(2), shard = value(1), plain = value(0) }
      end
      local b, problems = schema.build(input)
      local errors = 0
      for _, p in ipairs(problems) do
        if not p.warning then errors = errors + 1 end
        assert.is_nil(p.whole:find("hunter2", 1, true), p.whole)
        assert.is_nil(p.whole:find("%c"), p.whole)
      end
      assert.equal(b == nil, errors > 0, "seed " .. seed)
    end
  end)
end)
