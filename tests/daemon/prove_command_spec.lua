-- `holdfast prove`: words, files and exit codes.
local world = require "daemon_world"
local process = require "unit.process"

describe("holdfast prove", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local function shipped(name)
    local f = assert(io.open("policies/" .. name .. ".lua"))
    local text = f:read "*a"
    f:close()
    return text
  end

  it("exits 0 for a policy that keeps the promises, and says the seed and what was covered", function ()
    local code, run = w:run { "prove", "generic", "--depth", "1", "--schedules", "5", "--seed", "9" }
    assert.equal(0, code)
    assert.truthy(run.out:find("proving generic, seed 9\nproven: generic (", 1, true), run.out)
    assert.truthy(run.out:find("5 random", 1, true))
    assert.equal("", run.err)
  end)

  it("exits 1 for one that breaks one, and writes a spec that `holdfast test` repeats", function ()
    w:write("gives_up.lua", (shipped "generic":gsub("{ any = true,", "{ stage = \"connecting\", verdict = \"stop\" },\n    { any = true,")))
    local before = process.now_ms()
    local code, run = w:run { "prove", "gives_up.lua", "--depth", "1" }
    assert.equal(1, code)
    assert.truthy(process.now_ms() - before < 30000)
    assert.truthy(run.out:find("I6 is broken: stopped for good", 1, true), run.out)
    assert.truthy(run.out:find("the spec that repeats it: ./gives_up_I6_spec.lua", 1, true), run.out)
    assert.truthy(run.out:find("--seed 1", 1, true))
    local again = w:read "gives_up_I6_spec.lua"
    assert.truthy(again:find("prove.check {", 1, true))
    local failed, spec = w:run { "test", "gives_up_I6_spec.lua" }
    assert.not_equal(0, failed)
    assert.truthy((spec.out .. spec.err):find("I6 is broken", 1, true), spec.out .. spec.err)
    w:write("gives_up.lua", shipped "generic")
    assert.equal(0, (w:run { "test", "gives_up_I6_spec.lua" }))
  end)

  it("prints the same JSON in two processes", function ()
    local args = { "prove", "mattermost", "--depth", "1", "--schedules", "3", "--json" }
    local code, one = w:run(args)
    assert.equal(0, code)
    local _, two = w:run(args)
    assert.equal(one.out, two.out)
    assert.truthy(one.out:find('"ok":true', 1, true))
    assert.truthy(one.out:find('"proven":["I1","I2","I3","I4","I5","I6","I7","I8"]', 1, true), one.out)
  end)

  it("exits 3 for a policy with errors, each with its place, and 2 for wrong usage", function ()
    w:write("bad.lua", (shipped "generic":gsub("backoff  =", "backof   =")))
    local code, run = w:run { "prove", "bad.lua" }
    assert.equal(3, code)
    assert.truthy(run.err:find("bad.lua:%d+: backof: "), run.err)
    assert.equal(3, (w:run { "prove", "nobody_has_this" }))
    assert.equal(2, (w:run { "prove" }))
    assert.equal(2, (w:run { "prove", "generic", "--seed", "x" }))
    assert.equal(2, (w:run { "prove", "generic", "--depth", "9" }))
    assert.equal(2, (w:run { "prove", "generic", "--for", "10" }))
  end)
end)
