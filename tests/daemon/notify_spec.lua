local notify = require "unit.notify"
local world = require "daemon_world"

describe("the daemon under a service manager", function ()
  local w, manager, socket
  before_each(function ()
    w = world.new()
    socket = "@holdfast-" .. w.folder
    manager = notify.manager(socket)
  end)
  after_each(function ()
    w:close()
    manager:close()
  end)

  -- What the manager was told so far, all messages joined; `run` is pumped meanwhile.
  local told
  local function hears(run, text)
    told = told or ""
    local found = run:eventually(function ()
      for message in manager.got, manager do told = told .. message end
      return told:find(text, 1, true)
    end)
    assert.is_truthy(found, ("never told %q, but:\n%s%s"):format(text, told, run.err))
  end
  before_each(function () told = nil end)

  local function start(env)
    local peer = w:peer()
    w:config(peer.port)
    env.NOTIFY_SOCKET = socket
    return w:daemon { env = env }
  end

  it("is told READY, what is up, and STOPPING, in this order", function ()
    local daemon = start { WATCHDOG_USEC = "100000" }
    hears(daemon, "READY=1\n")
    hears(daemon, "STATUS=1 of 1 connections are up\n")
    assert.is_nil(told:find("STOPPING", 1, true))
    daemon:kill(world.signals.term)
    assert.equal(0, daemon:wait())
    for message in manager.got, manager do told = told .. message end
    assert.equal(1, select(2, told:gsub("READY=1\n", "")))
    assert.equal(1, select(2, told:gsub("STOPPING=1\n", "")))
    assert.is_true(told:find("READY=1", 1, true) < told:find("STOPPING=1", 1, true))
  end)

  it("hears the watchdog's beats from the loop, again and again", function ()
    local daemon = start { WATCHDOG_USEC = "100000" }
    hears(daemon, "READY=1\n")
    for _ = 1, 3 do
      told = ""
      hears(daemon, "WATCHDOG=1\n")
    end
    assert.equal(0, daemon:stop())
  end)

  it("hears no beat where it watches nobody, or another process", function ()
    local daemon = start { WATCHDOG_USEC = "10000", WATCHDOG_PID = "1" }
    hears(daemon, "READY=1\n")
    w:up()
    assert.equal(0, daemon:stop())
    for message in manager.got, manager do told = told .. message end
    assert.is_nil(told:find("WATCHDOG", 1, true))
  end)

  it("is told when a reload begins and when it is over, also one that is refused", function ()
    local daemon = start {}
    hears(daemon, "READY=1\n")
    for _, more in ipairs { "-- another line", "nonsense" } do
      told = ""
      w:write("holdfast.lua", w:read "holdfast.lua" .. "\n" .. more .. "\n")
      daemon:kill(world.signals.hup)
      hears(daemon, "READY=1\n")
      assert.is_truthy(told:match "RELOADING=1\nMONOTONIC_USEC=%d+\n.*READY=1\n", told)
    end
    assert.equal(0, daemon:stop())
  end)

  it("is told nothing by a daemon that could not start", function ()
    w:write("h.sock", "a letter") -- where the listener wants to be
    w:write("ca.pem", "")
    w:config(9443)
    local code = w:run({ "run" }, { env = { NOTIFY_SOCKET = socket } })
    assert.equal(1, code)
    assert.is_nil(manager:got())
  end)

  it("may be gone: the daemon logs it once and runs on", function ()
    manager:close()
    local daemon = start { WATCHDOG_USEC = "20000" }
    daemon:says "the service manager is not told"
    w:up()
    assert.equal(0, daemon:stop())
    assert.equal(1, select(2, daemon.err:gsub("the service manager is not told", "")))
  end)
end)
