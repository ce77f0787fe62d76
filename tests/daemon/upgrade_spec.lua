-- `holdfast upgrade` on real processes: what a platform, a consumer and whoever connects see of it.
local notify = require "unit.notify"
local ops = require "unit.ops"
local world = require "daemon_world"
local control = world.control

local function stats(peer) return control(peer, '{"verb":"stats"}') end

local function has(text, what)
  assert.is_truthy(text:find(what, 1, true), ("no %s in:\n%s"):format(what, text))
end

-- A process that is no child of this one.
local function runs(pid)
  local f = io.open("/proc/" .. pid .. "/stat")
  local state = f and f:read "*a":match "%) (%a)"
  if f then f:close() end
  return state ~= nil and state ~= "Z"
end

describe("an upgrade", function ()
  local w, new_ones
  before_each(function () w, new_ones = world.new(), {} end)
  after_each(function ()
    for _, one in ipairs(new_ones) do
      os.execute("kill " .. one.pid .. " 2>/dev/null")
      local limit = world.now_ms() + world.wait_ms
      repeat one.run:pump(10) until not runs(one.pid) or world.now_ms() > limit
      assert.is_false(runs(one.pid))
      one.run:pump(0)
    end
    w:close()
  end)

  local function upgrade(...) return w:start { "upgrade", ... } end

  -- The pid of the process that took over; it is ended after the test.
  local function taken_over(run, daemon)
    assert.equal(0, run:wait(), run.err .. daemon.err)
    local pid = assert(run.out:match "^upgraded: process (%d+) runs holdfast %S+\n$", run.out)
    new_ones[#new_ones + 1] = { pid = pid, run = daemon }
    return pid
  end

  local function refused(run, why)
    assert.equal(1, run:wait())
    assert.equal("", run.out)
    has(run.err, "holdfast: " .. why)
  end

  -- Nothing happened to the platform, and the same process serves.
  local function unharmed(peer, daemon)
    w:up()
    has(stats(peer), '"identifies":1')
    has(stats(peer), '"closes":{}')
    assert.is_nil(daemon:ended())
  end

  local function script(name, text)
    local path = w:write(name, "#!/bin/sh\n" .. text)
    assert(os.execute(("chmod 700 '%s'"):format(path)) == 0)
    return path
  end

  -- A program that says of itself that it is ready, and then does what `text` says.
  local function ready_one(text)
    local ready = ('{"handover":1,"is":"ready","version":"9.9","unix":"h.sock","store":"var/holdfast.db","fds":[]}')
    return script("ready.sh", ("printf '%%s' '%s' >&3\n%s\n"):format(ready, text))
  end

  describe("that succeeds", function ()
    local peer, daemon
    before_each(function ()
      peer = w:peer { "identify_gap=0" }
      w:config(peer.port, "")
      daemon = w:daemon()
      w:up()
    end)

    it("puts a new process in the old one's place, which ends with 0", function ()
      local pid = taken_over(upgrade(), daemon)
      assert.equal(0, daemon:wait(), daemon.err)
      assert.is_true(runs(pid))
      w:up()
      has(daemon.err, "took over from process " )
    end)

    it("closes links with 4000, so that their sessions live", function ()
      taken_over(upgrade(), daemon)
      w:up()
      has(stats(peer), '"closes":{"4000":1}')
    end)

    it("resumes the sessions that the old process had", function ()
      taken_over(upgrade(), daemon)
      w:up()
      has(stats(peer), '"resumed":1')
      has(stats(peer), '"identifies":1')
    end)

    it("can be followed by another one, with the same arguments and environment", function ()
      local first = taken_over(upgrade(), daemon)
      w:up()
      local second = taken_over(upgrade(), daemon)
      assert.are_not.equal(first, second)
      w:up()
      local limit = world.now_ms() + world.wait_ms
      repeat daemon:pump(10) until not runs(first) or world.now_ms() > limit
      assert.is_false(runs(first))
    end)

    it("leaves nobody behind: the new process ends on SIGTERM and takes the socket along", function ()
      local pid = taken_over(upgrade(), daemon)
      w:up()
      os.execute("kill " .. pid)
      local limit = world.now_ms() + world.wait_ms
      repeat daemon:pump(10) until not runs(pid) or world.now_ms() > limit
      assert.is_nil(io.open(w.folder .. "/h.sock"))
      assert.equal("holdfast: no holdfast is running at h.sock\n", select(2, w:run { "status" }).err)
    end)

    it("tells an attached consumer, which attaches again and hears the new process", function ()
      local tail = w:start { "tail", "--json" }
      tail:says '"state":"up"'
      taken_over(upgrade(), daemon)
      tail:says "is being upgraded: attaching again"
      w:up()
      control(peer, '{"verb":"dispatch","kind":"AFTER_IT","d":{}}')
      tail:says '"kind":"AFTER_IT"'
    end)
  end)

  it("to a program elsewhere uses the files beside that one", function ()
    local peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    local new = w.folder .. "/new"
    assert(os.execute(("mkdir -p '%s/bin' '%s/share/holdfast' && cp '%s' '%s/bin/' && cp -R lua policies '%s/share/holdfast/'")
      :format(new, new, world.binary, new, new)) == 0)
    local daemon = w:daemon { env = { HOLDFAST_LUA = false } }
    w:up()
    taken_over(upgrade("--binary", "new/bin/holdfast"), daemon)
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
    taken_over(upgrade(), daemon)
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
    local run, path = upgrade(), w.folder .. "/h.sock"
    if path:sub(1, 1) ~= "/" then path = io.popen("pwd"):read "*l" .. "/" .. path end
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
    taken_over(run, daemon)
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
    refused(upgrade(), "sessions and frames that nobody acknowledged are kept in memory and would be lost")
    unharmed(peer, daemon)
    taken_over(upgrade "--cold", daemon)
    w:up()
    has(stats(peer), '"identifies":2')
  end)

  describe("that fails", function ()
    local peer, daemon
    before_each(function ()
      peer = w:peer { "identify_gap=0" }
      w:config(peer.port)
      daemon = w:daemon()
      w:up()
    end)

    it("says what is wrong with the configuration, and leaves everything as it was", function ()
      w:write("holdfast.lua", w:read "holdfast.lua" .. '\nconnection "x" { policy = "nope" }\nlisen {}\n')
      local run = upgrade()
      refused(run, "the new holdfast cannot run: holdfast.lua:")
      has(run.err, "nothing was changed: what ran goes on as it was")
      unharmed(peer, daemon)
      daemon:says "upgrade failed: the new holdfast cannot run: holdfast.lua:"
    end)

    it("does so when a policy is broken", function ()
      w:write("policies/discord.lua", "return {")
      w:write("holdfast.lua", 'policies { path = "policies" }\n' .. w:read "holdfast.lua")
      refused(upgrade(), "the new holdfast cannot run: policies/discord.lua:1")
      unharmed(peer, daemon)
    end)

    it("does not change where it listens, nor the store", function ()
      local before = w:read "holdfast.lua"
      w:write("holdfast.lua", (before:gsub("h%.sock", "other.sock")))
      refused(upgrade("--socket", "h.sock"), "listen.unix changed in the configuration: that needs a restart")
      w:write("holdfast.lua", (before:gsub('"h.sock"', '"h.sock", http = "127.0.0.1:0"')))
      refused(upgrade(), "listen.http changed in the configuration")
      -- Nor what a reload accepted and did not carry out.
      daemon:kill(world.signals.hup)
      daemon:says "listen changed: that needs a restart"
      refused(upgrade(), "listen.http changed in the configuration")
      w:write("holdfast.lua", before .. '\nstore { path = "other.db" }\n')
      refused(upgrade(), "store changed in the configuration")
      w:write("holdfast.lua", before .. '\nstore { memory = true }\n')
      refused(upgrade(), "store changed in the configuration")
      w:write("holdfast.lua", before)
      unharmed(peer, daemon)
    end)

    it("names the program that is not there, is none, or may not be run", function ()
      refused(upgrade("--binary", "nowhere"), "cannot run ")
      local run = upgrade("--binary", "nowhere")
      run:wait()
      has(run.err, "nowhere: No such file or directory")
      refused(upgrade("--binary", "."), "cannot run ")
      w:write("text", "no program")
      refused(upgrade("--binary", "text"), "cannot run ")
      local anybody = script("anybody.sh", "exit 0")
      os.execute(("chmod 777 '%s'"):format(anybody))
      run = upgrade("--binary", "anybody.sh")
      assert.equal(1, run:wait())
      has(run.err, "anybody.sh can be written by anybody: it is not run")
      unharmed(peer, daemon)
    end)

    it("says how a program ended that did not take over", function ()
      script("quick.sh", "exit 3")
      refused(upgrade("--binary", "quick.sh"), "the new holdfast ended with exit status 3 before it took over")
      script("killed.sh", "kill -9 $$")
      refused(upgrade("--binary", "killed.sh"), "the new holdfast was ended by signal 9 before it took over")
      unharmed(peer, daemon)
    end)

    it("does not wait for ever, and leaves no process behind", function ()
      script("slow.sh", "echo $$ >slow.pid\nexec sleep 1000")
      refused(upgrade("--binary", "slow.sh", "--within", "300ms"), "the new holdfast did not get ready within 300 ms")
      assert.is_false(runs((w:read "slow.pid":match "%d+")))
      unharmed(peer, daemon)
    end)

    it("takes no word from what is no holdfast", function ()
      for _, said in ipairs { "hello", '{"handover":7,"is":"ready"}', '{"handover":1,"is":"taken"}', '{"handover":1,"is":"go"}' } do
        script("other.sh", ("printf '%%s' '%s' >&3\nexec sleep 1000"):format(said))
        local run = upgrade("--binary", "other.sh")
        assert.equal(1, run:wait())
        assert.is_truthy(run.err:find("is not understood: is it a holdfast", 1, true) or run.err:find("said something out of turn", 1, true), run.err)
      end
      unharmed(peer, daemon)
    end)

    for what, text in pairs { ["hangs"] = "exec sleep 1000", ["dies"] = "while [ -z \"$x\" ]; do read -r x <&3; done; exit 1", ["hangs up"] = "exec 3>&-; exec sleep 1000" } do
      it("after the links were closed, because the new one " .. what .. ", opens them again and resumes", function ()
        local tail = w:start { "tail", "--json" }
        tail:says '"state":"up"'
        ready_one(text)
        local run = upgrade("--binary", "ready.sh", "--within", "400ms")
        refused(run, "the new holdfast ")
        daemon:says "this one goes on: opening its links again"
        w:up()
        local said = stats(peer)
        has(said, '"closes":{"4000":1}')
        has(said, '"identifies":1')
        has(said, '"resumed":1')
        -- Consumers too, and a later upgrade works.
        tail:says "attaching again"
        control(peer, '{"verb":"dispatch","kind":"AFTER_IT","d":{}}')
        tail:says '"kind":"AFTER_IT"'
        taken_over(upgrade(), daemon)
      end)
    end

    it("after the new one had opened the store, goes on in the same epoch and loses nothing", function ()
      local bot = w:start { "tail", "--consumer", "bot-a", "--from", "start", "--json" }
      control(peer, '{"verb":"dispatch","kind":"BEFORE_IT","d":{}}')
      bot:says '"kind":"BEFORE_IT"'
      local epoch = bot:says '"epoch":(%d+)'
      local here = io.popen("pwd"):read "*l"
      local folder = w.folder:sub(1, 1) == "/" and w.folder or here .. "/" .. w.folder
      -- A process of the same code that opens it as a daemon does, and then hangs until it is killed.
      local opener = w:write("opener_spec.lua", ([[
local s = assert(require("unit.store").open { path = "%s/var/holdfast.db", boot = "b", wall = 1, boot_ms = 1, seed = 1 })
assert(s:start().was_clean)
io.open("%s/opened", "w"):close()
io.read "*a"
]]):format(folder, folder))
      ready_one(([[
while [ -z "$x" ]; do read -r x <&3; done
cd '%s' && HOLDFAST_BUILD=%s exec %s/runner '%s'
]]):format(here, world.build, world.build, opener:sub(1, 1) == "/" and opener or here .. "/" .. opener))
      refused(upgrade("--binary", "ready.sh", "--within", "3s"), "the new holdfast did not take over within 3000 ms")
      w:read "opened"
      w:up()
      assert.is_nil(daemon:ended(), daemon.err)
      bot:says "attaching again"
      control(peer, '{"verb":"dispatch","kind":"AFTER_IT","d":{}}')
      has(bot:says '[^\n]*"kind":"AFTER_IT"[^\n]*', '"epoch":' .. epoch .. ",")
      assert.is_nil(bot.out:find('"gap"', 1, true), bot.out)
      has(stats(peer), '"identifies":1')
    end)

    it("while links are being closed, opens them again as well", function ()
      ready_one "exit 1"
      refused(upgrade("--binary", "ready.sh"), "the new holdfast ended with exit status 1 before it took over")
      w:up()
      has(stats(peer), '"identifies":1')
      has(stats(peer), '"resumed":1')
    end)

    it("is alone: a second one meanwhile is refused", function ()
      script("slow.sh", "exec sleep 1000")
      local first = upgrade("--binary", "slow.sh", "--within", "1500ms")
      daemon:says "upgrade: process %d+ checks"
      refused(upgrade(), "an upgrade is under way already")
      refused(first, "the new holdfast did not get ready within 1500 ms")
      taken_over(upgrade(), daemon)
    end)

    it("because SIGTERM came meanwhile, ends both processes in order", function ()
      script("slow.sh", "echo $$ >slow.pid\nexec sleep 1000")
      local run = upgrade("--binary", "slow.sh")
      daemon:says "upgrade: process %d+ checks"
      local pid
      assert.is_truthy(daemon:eventually(function ()
        local f = io.open(w.folder .. "/slow.pid")
        pid = f and f:read "*l"
        if f then f:close() end
        return pid
      end))
      daemon:kill(world.signals.term)
      assert.equal(0, daemon:wait(), daemon.err)
      refused(run, "holdfast is shutting down")
      assert.is_false(runs(pid))
      has(stats(peer), '"closes":{"4000":1}')
    end)

    it("is not asked for over TCP, nor with a request that makes no sense", function ()
      local path = io.popen("pwd"):read "*l" .. "/" .. w.folder .. "/h.sock"
      if w.folder:sub(1, 1) == "/" then path = w.folder .. "/h.sock" end
      for body, what in pairs { ['{"binary":"sh"}'] = "binary is not an absolute path", ['[1]'] = "the body is not understood",
        ['{"within_ms":-1}'] = "the body is not understood", ['{"bin":"/x"}'] = "the body is not understood" } do
        local fd = assert(ops.connect(path))
        ops.write(fd, ("POST /v1/upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
        local got, limit = "", world.now_ms() + world.wait_ms
        repeat
          local bytes = ops.read(fd)
          got = got .. (bytes or "")
          daemon:pump(bytes == "" and 5 or 0)
        until not bytes or world.now_ms() > limit
        ops.shut(fd)
        has(got, "HTTP/1.1 400")
        has(got, what)
      end
      unharmed(peer, daemon)
    end)

    it("is refused for a time that is none", function ()
      for _, time in ipairs { "1", "1ms", "1h", "soon" } do
        local code, run = w:run { "upgrade", "--within", time }
        assert.equal(2, code)
        has(run.err, "--within " .. time .. " is no time from 100ms to 10m, such as 30s")
      end
    end)
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
      local run = upgrade()
      local pid = taken_over(run, daemon)
      assert.equal(0, daemon:wait())
      hears(daemon, "STATUS=handing over to holdfast ")
      local function drain() for message in manager.got, manager do told = told .. message end end
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

    it("is refused where systemd would take the end of one process for the end of all", function ()
      local peer = w:peer()
      w:config(peer.port)
      local daemon = w:start({ "-c", "SYSTEMD_EXEC_PID=$$ exec '" .. world.binary .. "' run" }, { program = "/bin/sh" })
      daemon:says "holdfast %S+ runs %d+ connection"
      refused(upgrade(), "systemd would take this process's end for the service's")
    end)
  end)
end)
