-- The end of a real daemon, as the platform, consumers and clients see it, and what the next one finds.
local ops = require "unit.ops"
local world = require "daemon_world"
local control, signals = world.control, world.signals

local function stats(peer) return control(peer, '{"verb":"stats"}') end

local function has(text, what)
  assert.is_truthy(text:find(what, 1, true), ("no %s in:\n%s"):format(what, text))
end

describe("SIGTERM", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    daemon = w:daemon()
    w:up()
  end)
  after_each(function () w:close() end)

  it("keeps sessions: the platform sees 4000, and from the next daemon a RESUME", function ()
    daemon:kill(signals.term)
    assert.equal(0, daemon:wait(), daemon.err)
    has(stats(peer), '"closes":{"4000":1}')
    w:daemon()
    w:up()
    local said = stats(peer)
    has(said, '"identifies":1')
    has(said, '"resumed":1')
  end)

  it("tells consumers why they are detached, after the last state of their connections", function ()
    local path = (w.folder:sub(1, 1) == "/" and "" or io.popen("pwd"):read "*l" .. "/") .. w.folder .. "/h.sock"
    local fd, got = assert(ops.connect(path)), ""
    ops.write(fd, '{"attach":{"consumer":"bot-a"}}\n')
    local function pull()
      local bytes = ops.read(fd)
      got = got .. (bytes or "")
      return bytes
    end
    daemon:eventually(function () pull() return got:find('"hello"', 1, true) end)
    daemon:kill(signals.term)
    local limit = world.now_ms() + world.wait_ms
    repeat
      local bytes = pull()
      daemon:pump(bytes == "" and 5 or 0)
    until not bytes or world.now_ms() > limit
    ops.shut(fd)
    assert.equal(0, daemon:wait())
    local last = got:match '([^\n]*)\n$'
    assert.equal('{"error":{"what":"shutting down","expected":"attach again"}}', last)
    local stopped = got:find('"state":"stopped"', 1, true)
    assert.is_truthy(stopped, got)
    assert.is_true(stopped < got:find('"shutting down","expected"', 1, true))
  end)

  it("ends soon for a consumer that does not read", function ()
    local path = (w.folder:sub(1, 1) == "/" and "" or io.popen("pwd"):read "*l" .. "/") .. w.folder .. "/h.sock"
    local fd = assert(ops.connect(path, 1))
    ops.write(fd, '{"attach":{"from":"start"}}\n')
    control(peer, ('{"verb":"dispatch","count":300,"d":{"text":"%s"}}'):format(("x"):rep(2000)))
    local before = world.now_ms()
    daemon:kill(signals.term)
    assert.equal(0, daemon:wait(), daemon.err)
    assert.is_true(world.now_ms() - before < 8000)
    ops.shut(fd)
  end)

  it("refuses orders and sends while links close, as something to try again", function ()
    control(peer, '{"verb":"deaf"}') -- the close takes its limit of a second
    daemon:kill(signals.term)
    daemon:says "SIGTERM: closing 1 connection"
    local path = (w.folder:sub(1, 1) == "/" and "" or io.popen("pwd"):read "*l" .. "/") .. w.folder .. "/h.sock"
    local api = require "api_client"
    local status, body = api.request(daemon, path, "POST", "/v1/connections/bot/send", { body = '{"op":3,"d":{}}' })
    assert.equal(503, status)
    assert.same({ refused = { why = "shutting down", retry = true } }, body)
    status, body = api.request(daemon, path, "GET", "/readyz")
    assert.equal(503, status)
    assert.is_false(body.ready)
    assert.equal(200, (api.request(daemon, path, "GET", "/v1/connections")))
    assert.equal(0, daemon:wait(), daemon.err)
  end)

  it("answers every send that waits, with the reason and that it may be tried again", function ()
    local path = (w.folder:sub(1, 1) == "/" and "" or io.popen("pwd"):read "*l" .. "/") .. w.folder .. "/h.sock"
    local fd, got = assert(ops.connect(path)), ""
    local function pull()
      local bytes = ops.read(fd)
      got = got .. (bytes or "")
      return bytes
    end
    local lines, count = { '{"attach":{"consumer":"bot-a"}}\n' }, 125 -- more than the platform takes in a minute
    for i = 1, count do lines[#lines + 1] = ('{"send":{"id":"x%d.","connection":"bot","frame":{"op":3,"d":{}}}}\n'):format(i) end
    ops.write(fd, table.concat(lines))
    daemon:eventually(function ()
      pull()
      return select(2, got:gsub('{"sent"', "")) >= 100
    end)
    daemon:kill(signals.term)
    local limit = world.now_ms() + world.wait_ms
    repeat
      local bytes = pull()
      daemon:pump(bytes == "" and 5 or 0)
    until not bytes or world.now_ms() > limit
    ops.shut(fd)
    assert.equal(0, daemon:wait())
    for i = 1, count do assert.equal(1, select(2, got:gsub(('"x%d%%."'):format(i), "")), "x" .. i) end
    has(got, '"why":"shutting down","retry":true}}')
    for why in got:gmatch '{"refused":[^\n]*"why":"([^"]*)"' do assert.equal("shutting down", why) end
  end)

  it("removes its socket, and leaves no lock that holds anybody up", function ()
    daemon:stop()
    assert.is_nil(io.open(w.folder .. "/h.sock"))
    w:daemon()
    w:up()
  end)

  it("lets no second daemon near the store meanwhile, whatever its socket", function ()
    w:write("other.lua", (w:read "holdfast.lua":gsub("h%.sock", "other.sock")))
    local code, second = w:run { "run", "-c", "other.lua" }
    assert.equal(1, code)
    has(second.err, "another holdfast (process " .. daemon.process:pid() .. ") has the store var/holdfast.db")
    has(stats(peer), '"identifies":1')
  end)
end)

describe("an upgrade with a busy consumer", function ()
  local w, pids
  before_each(function () w, pids = world.new(), {} end)
  after_each(function ()
    for _, pid in ipairs(pids) do os.execute("kill " .. pid .. " 2>/dev/null") end
    w:close()
  end)

  it("loses no frame and tells of no gap", function ()
    local peer = w:peer { "identify_gap=0", "events_every=5" }
    w:config(peer.port)
    local daemon = w:daemon()
    w:up()
    local bot = w:start { "tail", "--consumer", "bot-a", "--from", "start", "--json" }
    bot:says '"offset":20,'
    for i = 1, 2 do
      local run = w:start { "upgrade" }
      assert.equal(0, run:wait(), run.err)
      pids[i] = run.out:match "process (%d+)"
      w:up()
      daemon:pump(0)
      bot:pump(0)
      local last = 0
      for offset in bot.out:gmatch '"offset":(%d+),' do last = math.max(last, tonumber(offset)) end
      bot:says(('"offset":%d,'):format(last + 20))
    end
    os.execute("kill " .. pids[2])
    assert.equal(0, bot:wait(), bot.err)
    local seen, most, epoch = {}, 0, bot.out:match '"epoch":(%d+)'
    for e, offset in bot.out:gmatch '"epoch":(%d+),"offset":(%d+),' do
      assert.equal(epoch, e)
      seen[tonumber(offset)] = true
      most = math.max(most, tonumber(offset))
    end
    for i = 1, most do assert.is_true(seen[i], "frame " .. i .. " of " .. most .. " is missing") end
    assert.is_nil(bot.out:find('"gap"', 1, true))
    has(stats(peer), '"identifies":1')
    has(stats(peer), '"resumed":2')
  end)
end)

-- It went with the context of libwebsockets, while the loop still owed it calls: a crash where the machine was slow.
describe("what binds libwebsockets to the loop", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local function loaded(name) return { LD_DEBUG = "files", LD_DEBUG_OUTPUT = name } end

  -- What the dynamic linker wrote of one run that has ended.
  local function stays(name)
    local files = io.popen(("cat '%s'/%s.* 2>/dev/null"):format(w.folder, name))
    local said = files:read "*a"
    files:close()
    if said == "" then return pending "this dynamic linker tells nothing" end
    if not said:find("evlib_uv", 1, true) then return pending "libwebsockets has libuv built in" end
    assert.is_nil(said:match "[^\n]*evlib_uv[^\n]*destroying link map[^\n]*")
  end

  it("stays until the daemon's process ends", function ()
    w:write("holdfast.lua", 'listen { unix = "h.sock" }\n')
    local daemon = w:daemon { env = loaded "ld" }
    daemon:kill(signals.term)
    assert.equal(0, daemon:wait(), daemon.err)
    stays "ld"
  end)

  it("stays until the peer's process ends", function ()
    local run = w:start({ "peer", "discord", "--port", "0", "--ca-out", "ca.pem" }, { env = loaded "ld" })
    run:says "listening on"
    run:kill(signals.term)
    run:wait()
    stays "ld"
  end)
end)
