local world = require "daemon_world"
local signals, control = world.signals, world.control

describe("run, before anything starts,", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("says what to do without a configuration", function ()
    local code, run = w:run { "run" }
    assert.equal(1, code)
    assert.equal("holdfast: there is no configuration at holdfast.lua: write one (examples/holdfast.lua is a " ..
      "start) or name one with -c FILE\n", run.err)
  end)

  it("tells every error and starts nothing", function ()
    w:write("holdfast.lua", [[
listen { unix = "h.sock" }
connection "a" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = "many" }
connection "b" { policy = "nope", token = secret { env = "DISCORD_TOKEN" } }
]])
    local code, run = w:run { "run" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("holdfast.lua:2: intents: ", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast.lua:3: connection b.policy: there is no policy `nope`", 1, true), run.err)
    assert.is_truthy(run.err:find("holdfast: not started: 2 errors", 1, true), run.err)
    assert.is_nil(io.open(w.folder .. "/h.sock"))
  end)

  it("names a secret that is missing, never one that is there", function ()
    w:config(9443)
    w:write("ca.pem", "")
    local code, run = w:run({ "run" }, { env = { DISCORD_TOKEN = false } })
    assert.equal(1, code)
    assert.is_truthy(run.err:find("holdfast.lua:3: secret: the environment variable DISCORD_TOKEN is not set", 1, true), run.err)
  end)

  it("refuses a HOLDFAST_LOG that names no level", function ()
    local code, run = w:run({ "run" }, { env = { HOLDFAST_LOG = "loud" } })
    assert.equal(2, code)
    assert.equal("holdfast: HOLDFAST_LOG is loud, and must be debug, info, warning or alarm\n", run.err)
  end)

  it("refuses a socket path at which something else lies, and leaves it there", function ()
    w:config(9443)
    w:write("ca.pem", "")
    w:write("h.sock", "a letter")
    local code, run = w:run { "run" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("h.sock is there and is no socket", 1, true), run.err)
    assert.equal("a letter", w:read "h.sock")
  end)
end)

describe("the daemon", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("closes its links with 4000 on SIGTERM and on SIGINT, and exits 0", function ()
    for _, signal in ipairs { signals.term, signals.int } do
      local peer = w:peer()
      w:config(peer.port, "store { memory = true }")
      local daemon = w:daemon()
      w:up()
      daemon:kill(signal)
      assert.equal(0, daemon:wait(), daemon.err)
      assert.is_truthy(daemon.err:find("msg=ended", 1, true), daemon.err)
      assert.is_truthy(peer:eventually(function ()
        return control(peer, '{"verb":"stats"}'):find('"closes":{"4000":1}', 1, true)
      end))
      peer:stop()
    end
  end)

  it("leaves no socket behind that answers, and says so to the next command", function ()
    local peer = w:peer()
    w:config(peer.port)
    w:daemon():stop()
    local code, run = w:run { "status" }
    assert.equal(1, code)
    assert.equal("holdfast: no holdfast is running at h.sock\n", run.err)
  end)

  it("ends at once on a second signal, even while the platform does not answer the close", function ()
    local peer = w:peer()
    w:config(peer.port, nil)
    local daemon = w:daemon()
    w:up()
    control(peer, '{"verb":"deaf"}')
    daemon:kill(signals.term)
    daemon:says "SIGTERM: closing 1 connection"
    daemon:kill(signals.term)
    local before = world.now_ms()
    daemon:wait()
    assert.is_true(world.now_ms() - before < 5000)
  end)

  it("ends within the close limit when the platform is deaf", function ()
    local peer = w:peer()
    w:config(peer.port)
    local daemon = w:daemon()
    w:up()
    control(peer, '{"verb":"deaf"}')
    daemon:kill(signals.term)
    assert.equal(0, daemon:wait(), daemon.err)
  end)

  it("refuses to run twice on one socket, and the first goes on", function ()
    local peer = w:peer()
    w:config(peer.port, "store { memory = true }")
    w:daemon()
    w:up()
    local code, second = w:run { "run" }
    assert.equal(1, code)
    assert.is_truthy(second.err:find("another holdfast is running at h.sock", 1, true), second.err)
    w:up()
    assert.is_truthy(control(peer, '{"verb":"stats"}'):find('"identifies":1', 1, true))
  end)

  it("starts again after kill -9 with a higher epoch", function ()
    local peer = w:peer { "events_every=50", "identify_gap=0" }
    w:config(peer.port)
    local first = w:daemon()
    w:up()
    local tail = w:start { "tail", "--from", "start" }
    local epoch = tonumber((tail:says '"epoch":(%d+)'))
    first:kill(signals.kill)
    local code, signal = first:wait()
    assert.is_nil(code)
    assert.equal(signals.kill, signal)
    tail:wait()
    w:daemon()
    w:up()
    local again = w:start { "tail", "--from", "start" }
    assert.is_truthy(again:eventually(function ()
      for later in again.out:gmatch '"epoch":(%d+)' do
        if tonumber(later) > epoch then return true end
      end
    end))
  end)

  it("writes logfmt when nobody looks, one line per message", function ()
    local peer = w:peer()
    w:config(peer.port)
    local daemon = w:daemon({ env = { HOLDFAST_LOG = "debug" } })
    w:up()
    daemon:stop()
    for line in daemon.err:gmatch "[^\n]+" do
      assert.is_truthy(line:match '^time=%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ level=%a+ ', line)
      assert.is_nil(line:find("\27", 1, true))
    end
    assert.is_truthy(daemon.err:find('connection=bot msg="link=1 linking -> up', 1, true), daemon.err)
    assert.is_nil(daemon.err:find("level=alarm", 1, true))
  end)

  it("keeps to alarms and warnings with HOLDFAST_LOG=warning", function ()
    local peer = w:peer()
    w:config(peer.port)
    local daemon = w:start({ "run" }, { env = { HOLDFAST_LOG = "warning" } })
    w:up()
    daemon:stop()
    assert.is_nil(daemon.err:find("level=info", 1, true))
  end)

  it("raises an alarm and stops when the platform refuses the token, without showing it", function ()
    local peer = w:peer { 'token="somebody-else"' }
    w:config(peer.port)
    local daemon = w:daemon({ env = { HOLDFAST_LOG = "debug" } })
    w:status(function (text) return text:match '"state":"stopped"' end)
    daemon:says "level=alarm connection=bot"
    local _, status = w:run { "status", "bot" }
    assert.is_truthy(status.out:find("HTTP 401", 1, true), status.out)
    assert.is_truthy(status.out:find("issue a new one", 1, true), status.out)
  end)
end)

describe("run, once it is up,", function ()
  -- An arena beside the main one is 64 MiB of addresses, aligned, its unused end out of reach.
  local function arenas(daemon)
    local f = assert(io.open(("/proc/%d/maps"):format(daemon.process:pid())))
    local text, count, from, to = f:read "*a", 0, nil, nil
    f:close()
    for first, last, mode in text:gmatch "(%x+)%-(%x+) (%S+)" do
      first, last = tonumber(first, 16), tonumber(last, 16)
      if mode == "---p" and to == first and from % 0x4000000 == 0 and last - from == 0x4000000 then count = count + 1 end
      from, to = first, last
    end
    return count
  end

  it("keeps its threads to one arena of memory beside the loop's", function ()
    local w = world.new()
    finally(function () w:close() end)
    local peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    local daemon = w:daemon()
    w:up()
    assert.is_true(arenas(daemon) <= 1, arenas(daemon) .. " arenas")
  end)
end)
