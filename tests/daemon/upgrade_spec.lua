-- `holdfast upgrade` on real processes: what a platform, a consumer, a service manager and whoever connects
-- see of it.
local notify = require "unit.notify"
local ops = require "unit.ops"
local upgrades = require "upgrade_world"
local world = require "daemon_world"
local control, has, stats, runs = world.control, upgrades.has, upgrades.stats, upgrades.runs

describe("an upgrade", function ()
  local u, w
  before_each(function ()
    u = upgrades.new()
    w = u.w
  end)
  after_each(function () u:close() end)

  describe("that succeeds", function ()
    local peer, daemon
    before_each(function ()
      peer = w:peer { "identify_gap=0" }
      w:config(peer.port, "")
      daemon = w:daemon()
      w:up()
    end)

    it("puts a new process in the old one's place, which ends with 0", function ()
      local pid = u:taken_over(u:upgrade(), daemon)
      assert.equal(0, daemon:wait(), daemon.err)
      assert.is_true(runs(pid))
      w:up()
      has(daemon.err, "took over from process " )
    end)

    it("closes links with 4000, so that their sessions live", function ()
      u:taken_over(u:upgrade(), daemon)
      w:up()
      has(stats(peer), '"closes":{"4000":1}')
    end)

    it("resumes the sessions that the old process had", function ()
      u:taken_over(u:upgrade(), daemon)
      w:up()
      has(stats(peer), '"resumed":1')
      has(stats(peer), '"identifies":1')
    end)

    it("can be followed by another one, with the same arguments and environment", function ()
      local first = u:taken_over(u:upgrade(), daemon)
      w:up()
      local second = u:taken_over(u:upgrade(), daemon)
      assert.are_not.equal(first, second)
      w:up()
      u:gone(first, daemon)
    end)

    it("leaves nobody behind: the new process ends on SIGTERM and takes the socket along", function ()
      local pid = u:taken_over(u:upgrade(), daemon)
      w:up()
      os.execute("kill " .. pid)
      u:gone(pid, daemon)
      assert.is_nil(io.open(w.folder .. "/h.sock"))
      assert.equal("holdfast: no holdfast is running at h.sock\n", select(2, w:run { "status" }).err)
    end)

    it("tells an attached consumer, which attaches again and hears the new process", function ()
      local tail = w:start { "tail", "--json" }
      tail:says '"state":"up"'
      u:taken_over(u:upgrade(), daemon)
      tail:says "is being upgraded: attaching again"
      w:up()
      control(peer, '{"verb":"dispatch","kind":"AFTER_IT","d":{}}')
      tail:says '"kind":"AFTER_IT"'
    end)
  end)

  -- A link to the current version, as many installations have it: what it points to by then is meant.
  it("without --binary runs what is on disk now under the name it was started by", function ()
    local peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    u:script("v2", "exit 42")
    local folder = upgrades.absolute(w.folder)
    assert(os.execute(("cp '%s' '%s/v1' && ln -s v1 '%s/current'"):format(world.binary, folder, folder)) == 0)
    local daemon = w:start({ "run" }, { program = folder .. "/current" })
    daemon:says "holdfast %S+ runs %d+ connection"
    w:up()
    assert(os.execute(("ln -sfn v2 '%s/current'"):format(folder)) == 0)
    u:refused(u:upgrade(), "the new holdfast ended with exit status 42 before it took over")
    -- The same for a file that was replaced.
    assert(os.execute(("ln -sfn v1 '%s/current' && cp '%s/v1' '%s/new' && mv '%s/new' '%s/v1'"):format(folder, folder, folder, folder, folder)) == 0)
    u:taken_over(u:upgrade(), daemon)
    w:up()
  end)

  it("to a program elsewhere uses the files beside that one", function ()
    local peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    local new = w.folder .. "/new"
    assert(os.execute(("mkdir -p '%s/bin' '%s/share/holdfast' && cp '%s' '%s/bin/' && cp -R lua policies '%s/share/holdfast/'")
      :format(new, new, world.binary, new, new)) == 0)
    local daemon = w:daemon { env = { HOLDFAST_LUA = false } }
    w:up()
    u:taken_over(u:upgrade("--binary", "new/bin/holdfast"), daemon)
    w:up()
    w:status(function (text) return text:find("new/share/holdfast/policies/discord.lua", 1, true) end)
  end)

  it("goes on while links are down, and the new process dials on", function ()
    local peer = w:peer({ "identify_gap=0" }, { "--faults", "refuse_upgrade=1" })
    peer:stop()
    w:config(peer.port)
    local daemon = w:daemon()
    local function waits() return w:status(function (text) return text:match '"state":"waiting"' end) end
    waits()
    u:taken_over(u:upgrade(), daemon)
    waits()
  end)

  it("keeps addresses and the generated token, and refuses nobody who connects meanwhile", function ()
    local peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    w:write("holdfast.lua", (w:read "holdfast.lua":gsub('"h.sock"', '"h.sock", http = "127.0.0.1:0"')))
    local daemon = w:daemon()
    w:up()
    local address = daemon.err:match "http (127%.0%.0%.1:%d+)"
    local token = w:read "h.sock.token"
    local run, path = u:upgrade(), upgrades.absolute(w.folder .. "/h.sock")
    local held, tried = {}, 0
    -- Both kinds of listener, without a pause, until it is over.
    while run:ended() == nil and run.signal == nil and tried < 20000 do
      for _, to in ipairs { path, address } do
        local fd, why = ops.connect(to)
        assert(fd, ("%s after %d: %s"):format(to, tried, tostring(why)))
        tried = tried + 1
        -- Some ask for something, and wait for their answer beyond the handover.
        if tried % 50 < 2 and #held < 200 then
          ops.write(fd, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
          held[#held + 1] = fd
        else
          ops.shut(fd)
        end
      end
      daemon:pump(0)
      run:pump(0)
    end
    u:taken_over(run, daemon)
    assert.is_true(tried > 50)
    local answered = 0
    for _, fd in ipairs(held) do
      local got, limit = "", world.now_ms() + world.wait_ms
      repeat
        local bytes = ops.read(fd)
        got = got .. (bytes or "")
        daemon:pump(bytes == "" and 5 or 0)
      until not bytes or world.now_ms() > limit
      if got:find("HTTP/1.1 200", 1, true) then answered = answered + 1 end
      ops.shut(fd)
    end
    assert.equal(#held, answered)
    w:up()
    assert.equal(address, daemon.err:match ".*http (127%.0%.0%.1:%d+)")
    assert.equal(token, w:read "h.sock.token")
  end)

  it("needs --cold where sessions are in memory, and then ends them", function ()
    local peer = w:peer { "identify_gap=0" }
    w:config(peer.port, "store { memory = true }")
    local daemon = w:daemon()
    w:up()
    u:refused(u:upgrade(), "sessions and frames that nobody acknowledged are kept in memory and would be lost")
    u:unharmed(peer, daemon)
    u:taken_over(u:upgrade "--cold", daemon)
    w:up()
    has(stats(peer), '"identifies":2')
  end)

  describe("under a service manager", function ()
    local manager, told, socket
    before_each(function ()
      socket = "@holdfast-" .. w.folder
      manager = notify.manager(socket)
      told = ""
    end)
    after_each(function () manager:close() end)

    local function hears(run, text)
      local found = run:eventually(function ()
        for message in manager.got, manager do told = told .. message end
        return told:find(text, 1, true)
      end)
      assert.is_truthy(found, ("never told %q, but:\n%s%s"):format(text, told, run.err))
    end

    it("names the new main process, whose watchdog beats from then on", function ()
      local peer = w:peer { "identify_gap=0" }
      w:config(peer.port)
      -- The manager's own way: the watchdog is one process's, until another is the service.
      local daemon = w:start({ "-c", "WATCHDOG_PID=$$ exec '" .. world.binary .. "' run" },
        { program = "/bin/sh", env = { NOTIFY_SOCKET = socket, WATCHDOG_USEC = "200000" } })
      daemon:says "holdfast %S+ runs %d+ connection"
      hears(daemon, "READY=1\n")
      hears(daemon, "WATCHDOG=1\n")
      local run = u:upgrade()
      -- Read all the while, as a manager does: a queue takes few messages.
      local function drain() for message in manager.got, manager do told = told .. message end end
      daemon:eventually(function () drain() end)
      local pid = u:taken_over(run, daemon)
      assert.equal(0, daemon:wait())
      drain()
      has(told, "STATUS=handing over to holdfast ")
      local limit = world.now_ms() + world.wait_ms
      repeat
        drain()
        daemon:pump(10)
      until told:find("MAINPID=" .. pid .. "\nREADY=1\n", 1, true) or world.now_ms() > limit
      has(told, "MAINPID=" .. pid .. "\n")
      has(told, "MAINPID=" .. pid .. "\nREADY=1\n")
      assert.is_nil(told:find("STOPPING", 1, true))
      told = ""
      repeat
        drain()
        daemon:pump(10)
      until told:find("WATCHDOG=1\n", 1, true) or world.now_ms() > limit
      has(told, "WATCHDOG=1\n")
    end)

    it("tells a manager that is busy too, before the old process ends", function ()
      local peer = w:peer { "identify_gap=0" }
      w:config(peer.port)
      local daemon = w:start({ "run" }, { env = { NOTIFY_SOCKET = socket, WATCHDOG_USEC = "20000" } })
      daemon:says "holdfast %S+ runs %d+ connection"
      w:up() -- long enough for beats to fill the queue, which nobody reads
      local run = u:upgrade()
      daemon:says "upgrade: process %d+ took over"
      daemon:eventually(function () for message in manager.got, manager do told = told .. message end end)
      local pid = u:taken_over(run, daemon)
      assert.equal(0, daemon:wait())
      for message in manager.got, manager do told = told .. message end
      has(told, "MAINPID=" .. pid .. "\n")
    end)

    it("is refused where systemd would take the end of one process for the end of all", function ()
      local peer = w:peer()
      w:config(peer.port)
      local daemon = w:start({ "-c", "SYSTEMD_EXEC_PID=$$ exec '" .. world.binary .. "' run" }, { program = "/bin/sh" })
      daemon:says "holdfast %S+ runs %d+ connection"
      u:refused(u:upgrade(), "systemd would take this process's end for the service's")
    end)
  end)
end)
