local world = require "daemon_world"

-- What `make run` calls, shorter: the first three faults of its script.
describe("the demonstration", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local function start()
    return w:start({ world.binary:match "build/[^/]+/holdfast$" }, {
      program = "examples/demo/run.sh", cwd = ".",
      env = { DEMO_SECONDS = "15", DEMO_DIR = w.folder, HOLDFAST_LUA = false },
    })
  end

  local function nothing_runs()
    local _, run = w:run { "status", "--socket", "holdfast.sock" }
    assert.equal("holdfast: no holdfast is running at holdfast.sock\n", run.err)
  end

  it("shows broken links, proves that no message was lost, and leaves nothing running", function ()
    local run = start()
    assert.equal(0, run:wait(60000), run.out .. run.err)
    for _, words in ipairs { ">>> the platform closes with 4000", "closed with 4000: kicked", "HTTP 503",
        "missing   none", "twice     none", "disorder  none", "Nothing is running any more." } do
      assert.is_truthy(run.out:find(words, 1, true), words .. "\n" .. run.out .. run.err)
    end
    local made, got = run.out:match "(%d+) messages sent by the platform, (%d+) received"
    assert.equal(made, got)
    assert.is_true(tonumber(made) >= 15)
    nothing_runs()
  end)

  it("ends on Ctrl-C and leaves nothing running", function ()
    local run = start()
    run:says "message 2"
    run:kill(world.signals.int)
    assert.equal(130, run:wait())
    assert.is_truthy(run.out:find("Nothing is running any more.", 1, true))
    nothing_runs()
  end)
end)
