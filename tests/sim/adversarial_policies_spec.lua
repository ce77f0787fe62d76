-- Policies that mean harm, or were written at three in the morning. In each world one hook of many connections
-- misbehaves, each in its own way, beside one connection that does not: the neighbour notices nothing, no
-- loop is tight (I3 is checked after each step, and attempts are counted here), and the journal names the line.
local world = require "hook_world"

local s
after_each(function ()
  if s then s:abandon() end
  s = nil
end)

-- { what, body, journaled: the hook's failure must stand in the journal with its line }
local ANSWERS = {
  { "answers 0", "do return 0 end" },
  { "answers NaN", "do return 0 / 0 end" },
  { "answers -1", "do return -1 end" },
  { "answers 1e300", "do return 1e300 end" },
  { "answers true", "do return true end" },
  { "answers an empty text", "do return '' end" },
  { "answers an empty table", "do return {} end" },
  { "answers a function", "do return function () end end" },
  { "answers a table within itself", "do local t = {} t.t = t return t end" },
  { "answers a huge text", "do return ('x'):rep(100000) end" },
  { "answers nothing", "do return end" },
  { "answers many values", "do return nil, 1, {}, 'x', false end" },
}
local CRIMES = {
  { "raises", "error 'on purpose'", true },
  { "raises a table", "error { 1 }", true },
  { "raises nothing", "error()", true },
  { "calls nil", "local x = nil x()", true },
  { "loops for ever", "while true do end", true },
  { "loops for ever inside pcall, for ever", "while true do pcall(function () while true do end end) end", true },
  { "recurses for ever", "local function f() return 1 + f() end return f()", true },
  { "calls itself at the tail for ever", "local function f() return f() end return f()", true },
  { "fills the memory with tables", "local t = {} while true do t[#t + 1] = { {}, {}, {} } end", true },
  { "fills the memory with one text", "local t = 'x' while true do t = t .. t end", true },
  { "runs a catastrophic pattern", "return (('a'):rep(300)):find(('a*'):rep(60) .. 'b')", true },
  { "sorts with a comparison that lies", "local t = {} for i = 1, 1000 do t[i] = i end table.sort(t, function () return true end) while true do end", true },
  { "formats a giant", "return ('%99999999d'):format(1)", true },
  { "repeats a giant", "return ('x'):rep(1e10)", true },
  { "fails with nothing", "conn:fail()", true },
  { "fails with a table for a name", "conn:fail({}, 1)", true },
  { "fails with nonsense", "conn:fail('x', { status = 'y', retry_after = -1, headers = 7, body = {} })" },
  { "fails with an endless name", "conn:fail(('n'):rep(100000))" },
  { "fails with control bytes", "conn:fail('a\\0b\\n\\27[2J', { reason = '\\0\\n\\27[2J' })" },
  { "fails for 0 seconds", "conn:fail('zero', { retry_after = 0 })" },
  { "fails for ever", "conn:fail('ever', { retry_after = 1e300 })" },
  { "closes itself", "conn:close('enough')" },
  { "writes itself into its session", "conn.session.me = conn", true },
  { "fills its session", "for i = 1, 100000 do conn.session['k' .. i] = 'v' end", true },
  { "fills its session with one text", "conn.session.big = ('x'):rep(1000000)", true },
  { "makes its session a number", "conn.session = 7", true },
  { "stores NaN and infinity", "conn.session.nan = 0 / 0 conn.keep.huge = 1 / 0" },
  { "forges the books", "for i = 1, 1000 do conn:budget('start', { left = 1000000, reset = 0, lanes = 4096 }) end" },
  { "waits for itself", "conn:get 'where' conn:get 'where'" },
  { "writes a global", "X = 1", true },
  { "reaches for what is not there", "os.exit(1)", true },
  { "writes a million lines", "for i = 1, 1000000 do conn:log('x' .. i) end" },
  { "warns a million times", "for i = 1, 1000000 do conn:warn('x' .. i) end" },
  { "sends 10000 frames", "for i = 1, 10000 do conn:send { op = 5, n = i } end" },
  { "sends what no frame is", "conn:send(function () end)", true },
  { "calls other hosts", "conn:http { url = 'https://elsewhere.test/' }" },
  { "sets a beat of nothing", "conn:set { beat = 0 } conn:set { beat = '0s' }" },
  { "sets a beat that is NaN", "conn:set { beat = 0 / 0 }", true },
}

-- Most attempts in an hour: full jitter up to a minute draws half a minute on average, and the first are short.
local ATTEMPTS_MAX = 260

local function run(hook, attacks)
  s = world.new { policy_instructions = 30000, memory = true }
  -- Each pair runs one version of a policy, in one Lua state: what the bad one does there, the good one sees.
  for i, attack in ipairs(attacks) do
    attack.bad, attack.good = ("bad-%02d"):format(i), ("good-%02d"):format(i)
    local bodies = world.bodies()
    bodies[hook] = ("if conn.name:sub(1, 3) == 'bad' then\n%s\nend\n%s"):format(attack[2], bodies[hook])
    world.connect(s, attack.good, bodies)
    world.connect(s, attack.bad, bodies)
  end
  s:advance "10s"
  local watched = {}
  for i, attack in ipairs(attacks) do watched[i] = attack end
  local function neighbours(time)
    local from = s:now()
    for _, attack in ipairs(watched) do attack.endings = s:view(attack.good).endings end
    s:advance(time)
    for _, attack in ipairs(watched) do
      assert.equal("up", s:state(attack.good), attack[1])
      assert.equal(attack.endings, s:view(attack.good).endings, attack[1] .. " ended its neighbour")
      assert.is_true(world.assert_beats(s, attack.good, 10000, from) >= (s:now() - from) / 10000 - 1)
    end
  end
  local function journals()
    for _, attack in ipairs(attacks) do
      if attack[3] then
        local said = table.concat(world.journal(s, attack.bad, "hook"), "\n")
        assert.truthy(said:find("%.lua:%d+:"), ("%s %s: the journal says %q"):format(hook, attack[1], said))
        assert.truthy(said:find(hook, 1, true), said)
      end
    end
  end
  neighbours "3m"
  if hook ~= "on_ended" then journals() end
  -- Now no dial succeeds for the bad: each attempt fails at once, and on_ended is asked again and again.
  -- A few neighbours see enough from here on.
  while #watched > 3 do s:remove(table.remove(watched).good) end
  local refused = s:fault("refuse", { connection = "bad-*", what = "link" })
  for _, attack in ipairs(attacks) do
    if s:state(attack.bad) == "up" then s:restart(attack.bad) end
    attack.attempts = s:view(attack.bad).attempts
  end
  neighbours "1h"
  if hook == "on_ended" then journals() end
  for _, attack in ipairs(attacks) do
    local view = s:view(attack.bad)
    local attempts = view.attempts - attack.attempts
    assert.is_true(attempts <= ATTEMPTS_MAX, ("%s: %d attempts in an hour"):format(attack[1], attempts))
    assert.is_true(attempts > 0, attack[1] .. ": it gave up, " .. view.state)
  end
  -- A good policy later, all of them are well.
  refused:off()
  for _, attack in ipairs(attacks) do s:reload(attack.bad, world.policy()) end
  local bound = s:heal()
  neighbours "3m"
  s:advance(math.max(0, bound - 180000))
  for _, attack in ipairs(attacks) do assert.equal("up", s:state(attack.bad), attack[1]) end
  s:close()
  s = nil
end

local function both(hook, more)
  local out = {}
  for _, list in ipairs { ANSWERS, CRIMES, more or {} } do
    for _, a in ipairs(list) do out[#out + 1] = { a[1], a[2], a[3] } end
  end
  return out
end

describe("a policy whose", function ()
  for _, hook in ipairs { "fetch", "prepare", "greet", "on_beat", "on_frame", "every" } do
    it(hook .. " misbehaves in any way hurts itself alone", function ()
      run(hook, both(hook, ({
        greet = {
          { "waits for what never comes", "conn:await { op = 12345 }" },
          { "waits for a time that is none", "conn:await({ op = 1 }, { within = -1 })", true },
          { "waits in a loop", "while true do conn:await({ op = 12345 }, { within = '1ms' }) end" },
          { "begins sessions without end", "for i = 1, 100 do conn:send { op = 2, n = i } end" },
        },
        prepare = {
          { "dials nowhere", "do return { url = 'wss://elsewhere.test/' } end" },
          { "dials itself plainly", "do return { url = 'ws://echo.test/' } end" },
          { "dials no address", "do return { url = 'x' } end" },
          { "dials with headers that split", "do return { url = 'wss://echo.test/', headers = { A = 'b\\r\\nHost: x' } } end" },
          { "dials another port", "do return { url = 'wss://echo.test:1/' } end" },
        },
        on_frame = {
          { "answers each frame with two", "conn:send { op = 9 } conn:send { op = 9 }" },
        },
      })[hook]))
    end)
  end

  it("on_ended misbehaves in any way hurts itself alone", function ()
    local crimes = {}
    for _, a in ipairs(both "on_ended") do
      -- What only other hooks may do raises here, and that is journaled as well.
      crimes[#crimes + 1] = a
    end
    run("on_ended", crimes)
  end)

  it("on_ended wishes for no delay at all gets the backoff", function ()
    local attacks = {}
    for _, delay in ipairs { "0", "0 / 0", "-1", "1e300", "'0s'", "{}", "{ 0, 0 }", "{ '0s', '0s' }", "{ 5, 1 }", "{ -1, 1 }",
                             "'soon'", "true", "{ 0 / 0, 0 / 0 }", "1 / 0", "{ '0s' }", "function () end", "'-1s'" } do
      attacks[#attacks + 1] = { "delay = " .. delay, "return { verdict = 'resume', delay = " .. delay .. " }" }
    end
    for _, answer in ipairs { "'resume'", "'fresh'", "'renew'", "'slow'", "'nonsense'", "{ verdict = 7 }", "{ verdict = 'x' }",
                              "{ delay = '0s' }", "{ verdict = 'renew', delay = '0s', note = {} }", "{ note = ('x'):rep(10000) }" } do
      attacks[#attacks + 1] = { answer, "return " .. answer }
    end
    run("on_ended", attacks)
  end)
end)

describe("a policy's classify", function ()
  it("with no delay for everything gets the backoff from the second failure on", function ()
    s = world.new()
    world.connect(s, "good")
    s:up("good", "10s")
    world.connect(s, "bad", {}, { classify = [[{ { any = true, verdict = "renew", delay = "0s", planned = true, counts = false } }]] })
    s:fault("refuse", { connection = "bad", what = "link" })
    s:quiet("1h", "good")
    assert.is_true(s:view("bad").attempts <= 3600 * 4, s:view("bad").attempts .. " attempts")
    s:close()
  end)
end)
