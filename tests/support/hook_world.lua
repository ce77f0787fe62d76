-- A platform of one's own for tests/sim: a policy whose every hook is in use, and whose far end is the
-- simulator's mute peer that echoes. What a test replaces is the body of a hook, or a table.
local sim = require "holdfast.sim"

local M = {}

-- Each in the order of the policy's tables. `%s` style markers would fight with Lua patterns.
local BODIES = {
  fetch    = [[ return "wss://echo.test/ws" ]],
  prepare  = [[ return { url = conn:get "where" } ]],
  greet    = [[ local op = conn.session.id and 6 or 2
                conn:send { op = op, hello = true }
                conn:await({ op = op }, { within = "10s" })
                conn.session.id = "s" ]],
  on_beat  = [[ return { op = 1 } ]],
  on_frame = [[ ]],
  on_ended = [[ ]],
  every    = [[ conn:send { op = 9, tick = true } ]],
}
local TABLES = {
  limits   = [[{ prepare = "10s", call = "5s", resolve = "5s", connect = "5s", secure = "5s", upgrade = "5s",
                 greeting = "20s", close = "1s" }]],
  alive    = [[{ ping = "20s", silence = "45s" }]],
  beat     = [[{ every = { "10s", "5s", "20s" }, answer = { op = 1 }, dead = 1 }]],
  backoff  = [[{ first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "60s" }]],
  budgets  = [[{ start = { frame = { op = 2 }, windows = { { 1000, "1h" } } },
                 send = { windows = { { 120, "60s" } }, beats = 10 } }]],
  session  = [[{ of = { "token" }, age = "24h", replay = "session" }]],
  frames   = [[{ codec = "json", take = { op = "op", id = "id" }, deliver = { op = 0 }, inspect = { op = 9 },
                 accept = true }]],
  classify = [[{ { any = true, verdict = "resume" } }]],
  every    = [["30s"]],
}

---A copy of the bodies, to change.
function M.bodies()
  local copy = {}
  for name, text in pairs(BODIES) do copy[name] = text end
  return copy
end

---The text of a policy. `bodies` replaces hooks' bodies (false: none), `tables` tables by their text, or adds
---some; `above` is Lua above the table. The hook's body stands on line M.LINE of what `hook` names.
function M.policy(bodies, tables, above)
  bodies, tables = bodies or {}, tables or {}
  local function body(name)
    local text = bodies[name]
    if text == nil then text = BODIES[name] end
    return text
  end
  local function hook(name)
    return body(name) and ("  %s = function (conn, arg)\n%s\n  end,"):format(name, body(name)) or ""
  end
  local lines = { 'local holdfast = require "holdfast"', above or "", "return holdfast.policy {",
    '  platform = "echo", about = "made for a test",',
    '  options = { token = { type = "secret", required = true }, api = { type = "url", default = "https://echo.test" } },',
    '  identity = { "token" }, account = { "token" }, hosts = { "echo.test", "*.echo.test" },' }
  local names = {}
  for name in pairs(TABLES) do names[#names + 1] = name end
  for name in pairs(tables) do
    if not TABLES[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local text = tables[name]
    if text == nil then text = TABLES[name] end
    if name ~= "every" and text then lines[#lines + 1] = ("  %s = %s,"):format(name, text) end
  end
  if body "fetch" then
    lines[#lines + 1] = ("  fetch = { where = { keep = \"1h\", call = function (conn, arg)\n%s\n  end } },"):format(body "fetch")
  end
  for _, name in ipairs { "prepare", "greet", "on_beat", "on_frame", "on_ended" } do lines[#lines + 1] = hook(name) end
  if body "every" then
    lines[#lines + 1] = ("  every = { task = { %s, function (conn, arg)\n%s\n  end } },"):format(
      tables.every or TABLES.every, body "every")
  end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n") .. "\n"
end

---A world with the echoing peer under echo.test.
function M.new(options)
  options = options or {}
  local o = { seed = tonumber(os.getenv "HOLDFAST_SEED" or "1") }
  for k, v in pairs(options) do o[k] = v end
  local s = sim.new(o)
  local p = s:peer("mute", { host = "echo.test", names = { "gw.echo.test", "other.echo.test" }, options = { echo = true } })
  return s, p
end

---Adds a connection with a policy made by M.policy(bodies, tables, above).
function M.connect(s, name, bodies, tables, above)
  return s:connection(name, { policy = M.policy(bodies, tables, above), token = s:secret(name .. "-token", "token") })
end

---Instants of the frames of one op on the wire.
function M.instants(s, name, op, direction)
  local out = {}
  for _, m in ipairs(s:wire(name, direction or "out")) do
    local frame = m.text and sim.decode(m.data)
    if type(frame) == "table" and frame.op == op then out[#out + 1] = m.at end
  end
  return out
end

---Raises when beats of op 1 since `from` are not `every` ms apart, give or take a percent.
function M.assert_beats(s, name, every, from)
  local last, count = nil, 0
  for _, at in ipairs(M.instants(s, name, 1)) do
    if at >= (from or 0) then
      if last and math.abs(at - last - every) > every / 100 then
        error(("%s: beats at %d and %d ms, %d ms are due"):format(name, last, at, every), 2)
      end
      last, count = at, count + 1
    end
  end
  return count
end

---Texts of the journal's entries of one kind.
function M.journal(s, name, kind)
  local out = {}
  for _, e in ipairs(s:journal(name)) do
    if not kind or e.kind == kind then out[#out + 1] = e.text end
  end
  return out
end

return M
