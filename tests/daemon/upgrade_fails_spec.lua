-- Upgrades that do not happen, on real processes: whatever the next program does, the running one goes on.
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

  it("is refused by the first process of a container, which would end with it", function ()
    if os.execute "unshare --pid --fork --mount-proc true 2>/dev/null" ~= 0 then
      return pending "no process of a new namespace may be started here"
    end
    local peer = w:peer()
    w:config(peer.port)
    local daemon = w:start({ "--pid", "--fork", "--mount-proc", "--kill-child", world.binary, "run" }, { program = "/usr/bin/unshare" })
    daemon:says "holdfast %S+ runs %d+ connection"
    w:up()
    u:refused(u:upgrade(), "holdfast is process 1 here, and the container ends with it")
    u:unharmed(peer, daemon)
    daemon:kill(world.signals.kill) -- unshare passes no other signal on
    daemon:wait()
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
      local run = u:upgrade()
      u:refused(run, "the new holdfast cannot run: holdfast.lua:")
      has(run.err, "nothing was changed: what ran goes on as it was")
      u:unharmed(peer, daemon)
      daemon:says "upgrade failed: the new holdfast cannot run: holdfast.lua:"
    end)

    it("does so when a policy is broken", function ()
      w:write("policies/discord.lua", "return {")
      w:write("holdfast.lua", 'policies { path = "policies" }\n' .. w:read "holdfast.lua")
      u:refused(u:upgrade(), "the new holdfast cannot run: policies/discord.lua:1")
      u:unharmed(peer, daemon)
    end)

    it("does not change where it listens, nor the store", function ()
      local before = w:read "holdfast.lua"
      w:write("holdfast.lua", (before:gsub("h%.sock", "other.sock")))
      u:refused(u:upgrade("--socket", "h.sock"), "listen.unix changed in the configuration: that needs a restart")
      w:write("holdfast.lua", (before:gsub('"h.sock"', '"h.sock", http = "127.0.0.1:0"')))
      u:refused(u:upgrade(), "listen.http changed in the configuration")
      -- Nor what a reload accepted and did not carry out.
      daemon:kill(world.signals.hup)
      daemon:says "listen changed: that needs a restart"
      u:refused(u:upgrade(), "listen.http changed in the configuration")
      w:write("holdfast.lua", before .. '\nstore { path = "other.db" }\n')
      u:refused(u:upgrade(), "store changed in the configuration")
      w:write("holdfast.lua", before .. '\nstore { memory = true }\n')
      u:refused(u:upgrade(), "store changed in the configuration")
      w:write("holdfast.lua", before)
      u:unharmed(peer, daemon)
    end)

    it("names the program that is not there, is none, or may not be run", function ()
      u:refused(u:upgrade("--binary", "nowhere"), "cannot run ")
      local run = u:upgrade("--binary", "nowhere")
      run:wait()
      has(run.err, "nowhere: No such file or directory")
      u:refused(u:upgrade("--binary", "."), "cannot run ")
      w:write("text", "no program")
      u:refused(u:upgrade("--binary", "text"), "cannot run ")
      local anybody = u:script("anybody.sh", "exit 0")
      os.execute(("chmod 777 '%s'"):format(anybody))
      run = u:upgrade("--binary", "anybody.sh")
      assert.equal(1, run:wait())
      has(run.err, "anybody.sh can be written by anybody: it is not run")
      u:unharmed(peer, daemon)
    end)

    it("says how a program ended that did not take over", function ()
      u:script("quick.sh", "exit 3")
      u:refused(u:upgrade("--binary", "quick.sh"), "the new holdfast ended with exit status 3 before it took over")
      u:script("killed.sh", "kill -9 $$")
      u:refused(u:upgrade("--binary", "killed.sh"), "the new holdfast was ended by signal 9 before it took over")
      u:unharmed(peer, daemon)
    end)

    it("does not wait for ever, and leaves no process behind", function ()
      u:script("slow.sh", "echo $$ >slow.pid\nexec sleep 1000")
      u:refused(u:upgrade("--binary", "slow.sh", "--within", "300ms"), "the new holdfast did not get ready within 300 ms")
      assert.is_false(runs((w:read "slow.pid":match "%d+")))
      u:unharmed(peer, daemon)
    end)

    it("takes no word from what is no holdfast", function ()
      for _, said in ipairs { "hello", '{"handover":7,"is":"ready"}', '{"handover":1,"is":"taken"}', '{"handover":1,"is":"go"}' } do
        u:script("other.sh", ("printf '%%s' '%s' >&3\nexec sleep 1000"):format(said))
        local run = u:upgrade("--binary", "other.sh")
        assert.equal(1, run:wait())
        assert.is_truthy(run.err:find("is not understood: is it a holdfast", 1, true) or run.err:find("said something out of turn", 1, true), run.err)
      end
      u:unharmed(peer, daemon)
    end)

    for what, text in pairs { ["hangs"] = "exec sleep 1000", ["dies"] = "while [ -z \"$x\" ]; do read -r x <&3; done; exit 1", ["hangs up"] = "exec 3>&-; exec sleep 1000" } do
      it("after the links were closed, because the new one " .. what .. ", opens them again and resumes", function ()
        local tail = w:start { "tail", "--json" }
        tail:says '"state":"up"'
        u:ready_one(text)
        local run = u:upgrade("--binary", "ready.sh", "--within", "400ms")
        u:refused(run, "the new holdfast ")
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
        u:taken_over(u:upgrade(), daemon)
      end)
    end

    it("after the new one had opened the store, goes on in the same epoch and loses nothing", function ()
      local bot = w:start { "tail", "--consumer", "bot-a", "--from", "start", "--json" }
      control(peer, '{"verb":"dispatch","kind":"BEFORE_IT","d":{}}')
      bot:says '"kind":"BEFORE_IT"'
      local epoch = bot:says '"epoch":(%d+)'
      local here = io.popen("pwd"):read "*l"
      local folder = upgrades.absolute(w.folder)
      -- A process of the same code that opens it as a daemon does, and then hangs until it is killed.
      local opener = w:write("opener_spec.lua", ([[
local s = assert(require("unit.store").open { path = "%s/var/holdfast.db", boot = "b", wall = 1, boot_ms = 1, seed = 1 })
assert(s:start().was_clean)
io.open("%s/opened", "w"):close()
io.read "*a"
]]):format(folder, folder))
      u:ready_one(([[
while [ -z "$x" ]; do read -r x <&3; done
cd '%s' && HOLDFAST_BUILD=%s exec %s/runner '%s'
]]):format(here, world.build, world.build, upgrades.absolute(opener)))
      u:refused(u:upgrade("--binary", "ready.sh", "--within", "3s"), "the new holdfast did not take over within 3000 ms")
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
      u:ready_one "exit 1"
      u:refused(u:upgrade("--binary", "ready.sh"), "the new holdfast ended with exit status 1 before it took over")
      w:up()
      has(stats(peer), '"identifies":1')
      has(stats(peer), '"resumed":1')
    end)

    it("is alone: a second one meanwhile is refused", function ()
      u:script("slow.sh", "exec sleep 1000")
      local first = u:upgrade("--binary", "slow.sh", "--within", "1500ms")
      daemon:says "upgrade: process %d+ checks"
      u:refused(u:upgrade(), "an upgrade is under way already")
      u:refused(first, "the new holdfast did not get ready within 1500 ms")
      u:taken_over(u:upgrade(), daemon)
    end)

    it("because SIGTERM came meanwhile, ends both processes in order", function ()
      u:script("slow.sh", "echo $$ >slow.pid\nexec sleep 1000")
      local run = u:upgrade("--binary", "slow.sh")
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
      u:refused(run, "holdfast is shutting down")
      assert.is_false(runs(pid))
      has(stats(peer), '"closes":{"4000":1}')
    end)

    it("is not asked for over TCP, nor with a request that makes no sense", function ()
      local path = upgrades.absolute(w.folder .. "/h.sock")
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
      u:unharmed(peer, daemon)
    end)

    it("is refused for a time that is none", function ()
      for _, time in ipairs { "1", "1ms", "1h", "soon" } do
        local code, run = w:run { "upgrade", "--within", time }
        assert.equal(2, code)
        has(run.err, "--within " .. time .. " is no time from 100ms to 10m, such as 30s")
      end
    end)
  end)
end)
