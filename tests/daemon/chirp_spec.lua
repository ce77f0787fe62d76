-- The worked example of examples/chirp: its policy is valid, its own spec passes, and it runs as its text says.
local world = require "daemon_world"
local control = world.control

describe("the example chirp", function ()
  local w
  before_each(function ()
    w = world.new()
    -- A copy, as a reader would make one: the links to lua/ come along as the files that they lead to.
    assert(os.execute(("cp -RL examples/chirp/. '%s'"):format(w.folder)) == 0)
  end)
  after_each(function () w:close() end)

  local here = { env = { HOLDFAST_LUA = "lua", CHIRP_TOKEN = world.token } }

  it("has a policy and a configuration that are valid", function ()
    for _, words in ipairs { { "check", "policies/chirp.lua" }, { "check" } } do
      local code, run = w:run(words, here)
      assert.equal(0, code, run.out .. run.err)
    end
  end)

  it("has a spec that passes, and that fails when the policy forgets what a ban is", function ()
    local code, run = w:run({ "test", "chirp_spec.lua" }, here)
    assert.equal(0, code, run.out .. run.err)
    assert.is_truthy(run.out:find("4 successes / 0 failures / 0 errors", 1, true), run.out)
    local source = w:read "policies/chirp.lua"
    local without, times = source:gsub("[^\n]*close = 4403[^\n]*\n", "")
    assert.equal(1, times)
    w:write("policies/chirp.lua", without)
    code, run = w:run({ "test", "chirp_spec.lua" }, here)
    assert.is_true(code ~= nil and code ~= 0, run.out .. run.err)
  end)

  it("is proven, with what its peer says a platform can do", function ()
    local code, run = w:run({ "prove", "policies/chirp.lua", "--depth", "1", "--schedules", "5" }, here)
    assert.equal(0, code, run.out .. run.err)
    assert.is_truthy(run.out:find("proven: policies/chirp.lua (I1 I2 I3 I4 I5 I6 I7 I8)", 1, true), run.out)
    -- And not, when it takes a refused ticket for the end of everything.
    local naive, times = w:read("policies/chirp.lua"):gsub("close = 4401, verdict = \"fresh\"", "close = 4401, verdict = \"stop\"")
    assert.equal(1, times)
    w:write("policies/chirp.lua", naive)
    code, run = w:run({ "prove", "policies/chirp.lua", "--depth", "1", "--schedules", "5" }, here)
    assert.equal(1, code, run.out .. run.err)
    assert.is_truthy(run.out:find("I6 is broken", 1, true), run.out)
  end)

  it("is held through a kick on a real port, and stops for good when banned", function ()
    local peer = w:start({ "peer", "chirp", "--port", "0", "--ca-out", "ca.pem", "--option", "events_every=50",
                           "--option", "token=" .. world.token }, here)
    local port = peer:says "listening on https://127%.0%.0%.1:(%d+)"
    local configuration = w:read("holdfast.lua"):gsub(":9500\"", ":" .. port .. "\"")
    w:write("holdfast.lua", configuration)
    local daemon = w:start({ "run" }, here)
    daemon:says "linking %-> up"
    -- A POST without a body reaches the peer once.
    control(peer, '{"verb":"stats"}')
    peer:says '"tickets":1[,}]'
    local tail = w:start({ "tail", "--pretty" }, here)
    tail:says "#%d+ {\"n\""
    control(peer, '{"verb":"kick","code":1011}')
    tail:says "closed with 1011: kicked"
    daemon:says "link=2 linking %-> up"
    control(peer, '{"verb":"kick","code":4403}')
    tail:says "stopped"
    local code, why = w:run({ "why", "bird" }, here)
    assert.equal(0, code)
    assert.is_truthy(why.out:find("banned: ask the platform", 1, true), why.out)
    assert.equal(0, daemon:stop())
    assert.equal(0, peer:stop())
  end)
end)
