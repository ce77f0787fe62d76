-- What a policy does not say: the reference in policies/README.md names a default for each key, and that is what is taken.
local scratch = require "scratch"
local open = require("unit.policy_plan").open

local function documented()
  local out = {}
  for line in io.lines "policies/README.md" do
    local key, default = line:match "^| `([%w_.]+)` | .- | `([^`]+)` |$"
    if key then out[key] = default end
  end
  return out
end

-- "64MiB" in bytes; "60s" as the plan writes it, in the largest unit that holds it whole.
local function bytes(text)
  local n, unit = text:match "^(%d+)(%a+)$"
  return tonumber(n) * ({ KiB = 1024, MiB = 1024 ^ 2 })[unit]
end
local function span(text)
  local n, unit = text:match "^(%d+)(%a+)$"
  local ms = tonumber(n) * ({ ms = 1, s = 1000, m = 60000, h = 3600000 })[unit]
  for _, u in ipairs { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" }, { 1000, "s" } } do
    if ms % u[1] == 0 then return ("%d%s"):format(ms / u[1], u[2]) end
  end
  return ms .. "ms"
end

local function plan_of(more)
  local path = scratch.path "silent.lua"
  local f = assert(io.open(path, "w"))
  f:write([[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "silent", about = "says nothing", identity = { "id" },
  options = { id = { type = "string" } }, hosts = { "silent.example" },
  prepare = function () return { url = "wss://silent.example/" } end,
  ]] .. more .. "\n}\n")
  f:close()
  os.execute("chmod 600 " .. path)
  return open(path, 'return { id = "a" }')
end

describe("a policy that says nothing", function ()
  local says = documented()

  it("has the numbers that the reference promises", function ()
    local has = plan_of(""):numbers()
    for _, key in ipairs { "prepare", "call", "resolve", "connect", "secure", "upgrade", "greeting", "close", "drain" } do
      assert.equal(span(says["limits." .. key]), has[key], key)
    end
    assert.equal(span(says["alive.ping"]), has.ping)
    assert.equal(span(says["alive.silence"]), has.silence)
    assert.equal(says["alive.promised"], has.promised or "false")
    assert.equal(("%s * %s to %s"):format(span(says["backoff.first"]), says["backoff.factor"], span(says["backoff.most"])), has.backoff)
    assert.equal(("%s * %s to %s"):format(span(says["slow.first"]), says["slow.factor"], span(says["slow.most"])), has.slow)
    assert.equal(span(says["backoff.floor"]), has.floor)
    assert.equal(span(says["backoff.settle"]), has.settle)
    assert.equal(says["backoff.jitter"], has.jitter)
    assert.equal(says["session.replay"], has.replay)
    assert.equal(tonumber(says["overlap"]), has.overlap or 0)
    assert.equal(tonumber(says["close_code.keep"]), has.close_keep)
    assert.equal(tonumber(says["close_code.final"]), has.close_final)
    assert.equal(bytes(says["sizes.message"]), has.message_bytes)
    assert.equal(bytes(says["sizes.send"]), has.send_bytes)
    assert.is_nil(has.session_age or has.session_life or has.replay_for or has.retire)
  end)

  it("holds for consumers what the reference promises", function ()
    local has = plan_of(""):backlog()
    assert.same({ most = bytes(says["backlog.most"]), age = span(says["backlog.age"]), hold_for = span(says["backlog.hold_for"]),
                  full = says["backlog.full"] }, has)
  end)

  it("beats as the reference promises where it names the interval alone", function ()
    local has = plan_of [[
      frames = { codec = "json", take = { op = "op" } },
      beat = { every = "30s", answer = { op = 11 } }, on_beat = function () return { op = 1 } end,]]:numbers()
    assert.same({ "30s", says["beat.first"], tonumber(says["beat.dead"]) }, { has.beat, has.beat_first, has.beat_dead })
    assert.is_nil(has.beat_within)
  end)
end)
