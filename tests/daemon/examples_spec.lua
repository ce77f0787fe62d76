-- The bots of examples/consumers as child processes of a real daemon. What they print tells which frames they
-- handled; the daemon's backlog tells which they acknowledged: it holds what is not.
local world = require "daemon_world"
local scratch = require "scratch"
local api = require "api_client"
local control = world.control

local pipe = io.popen "pwd"
local here = pipe:read "*l"
pipe:close()

local function absolute(path) return path:sub(1, 1) == "/" and path or here .. "/" .. path end

local function found(program)
  return os.execute("command -v " .. program .. " >/dev/null 2>&1") == 0
end

-- One build for all tests; nothing is fetched.
local built
local function build_go()
  if built then return built end
  local folder = absolute(scratch.folder())
  local command = ("cd '%s' && GOCACHE='%s/cache' GOPATH='%s/path' GOPROXY=off GOFLAGS=-mod=mod GO111MODULE=off " ..
    "go build -o bot '%s/examples/consumers/bot.go' 2>&1"):format(folder, folder, folder, here)
  local p = io.popen(command .. " && echo built")
  local said = p:read "*a"
  p:close()
  assert.is_truthy(said:match "built\n$", said)
  built = folder .. "/bot"
  return built
end

local bots = {
  { file = "bot.py", needs = { "python3" }, command = { "python3", here .. "/examples/consumers/bot.py" } },
  { file = "bot.js", needs = { "node" }, command = { "node", here .. "/examples/consumers/bot.js" } },
  { file = "bot.go", needs = { "go" }, build = build_go, reads_only = true },
  { file = "bot.sh", needs = { "bash", "curl" }, command = { "bash", here .. "/examples/consumers/bot.sh" } },
}

for _, bot in ipairs(bots) do
  describe("examples/consumers/" .. bot.file, function ()
    local w, peer, daemon

    -- False when this machine cannot run it; the test is pending then.
    local function runs_here()
      for _, program in ipairs(bot.needs) do
        if not found(program) then
          pending(program .. " is not installed")
          return false
        end
      end
      return true
    end

    before_each(function ()
      w = world.new()
      peer = w:peer { "identify_gap=0" }
      w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
connection "bot" {
  policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } }, backoff = { first = "250ms", most = "1s" } },
}
]]):format(peer.port))
      daemon = w:daemon()
      w:up()
    end)
    after_each(function () w:close() end)

    local function start()
      local command = bot.build and { bot.build() } or bot.command
      local args = {}
      for i, word in ipairs(command) do args[i] = word end
      args[#args + 1] = "h.sock"
      args[#args + 1] = "reader"
      local run = w:start(args, { program = "/usr/bin/env" })
      run.name = bot.file
      return run
    end

    local function made_up(count) control(peer, ('{"verb":"dispatch","count":%d}'):format(count)) end
    local function message(text)
      control(peer, ('{"verb":"dispatch","kind":"MESSAGE_CREATE","d":{"content":"%s"}}'):format(text))
    end
    -- The numbers of the made-up messages that it handled, in order.
    local function handled(run)
      local list = {}
      for n in run.out:gmatch "MESSAGE_CREATE message (%d+)\n" do list[#list + 1] = tonumber(n) end
      return list
    end
    -- Until the connection's backlog is as wanted; what everybody acknowledged is not in it.
    local function backlog(key, count)
      local function is()
        daemon:pump(20)
        local _, view = api.request(daemon, absolute(w.folder .. "/h.sock"), "GET", "/v1/connections/bot")
        return view.backlog[key] == count
      end
      assert(daemon:eventually(is), ("backlog.%s was never %d"):format(key, count))
    end
    local function presences(count)
      assert.is_truthy(peer:eventually(function ()
        return control(peer, '{"verb":"stats"}'):find('"presences":' .. count, 1, true)
      end))
    end

    it("has at most 50 lines", function ()
      local count = 0
      for _ in io.lines(here .. "/examples/consumers/" .. bot.file) do count = count + 1 end
      assert.is_true(count <= 50, count .. " lines")
    end)

    it("goes on where its acknowledgements ended when it was killed, and no message is missed", function ()
      if not runs_here() then return end
      local first = start()
      made_up(120)
      first:says "message 120\n"
      backlog("frames", 0)
      made_up(400)
      first:says "message 1[3-9]%d\n"
      first:kill(world.signals.kill)
      first:wait()
      local before = handled(first)
      local second = start()
      second:says "message 520\n"
      local after = handled(second)
      assert.is_true(after[1] > 120, "the cursor did not move")
      assert.is_true(after[1] <= before[#before] + 1, "a message was acknowledged before it was handled")
      for i = 2, #before do assert.equal(before[i - 1] + 1, before[i]) end
      for i = 2, #after do assert.equal(after[i - 1] + 1, after[i]) end
      backlog("frames", 0)
      assert.equal(0, (second:stop()))
    end)

    if not bot.reads_only then it("acknowledges a message when its answer is sent, however often it must be tried again", function ()
      if not runs_here() then return end
      w:run { "stop", "bot" }
      local early = start()
      early:says "READY"
      backlog("frames", 0)
      early:stop()
      w:run { "start", "bot" }
      w:up()
      message "!status fishing"
      backlog("last_offset", 3)
      w:run { "stop", "bot" }
      local first = start()
      first:says "retry.-[Tt]rue.-\n.-retry.-[Tt]rue.-\n" -- by the second one all that is acknowledged has been
      first:kill(world.signals.kill)
      first:wait()
      local second = start()
      second:says "!status fishing\n"
      second:says "retry.-[Tt]rue[^\n]*\n"
      w:run { "start", "bot" }
      presences(1)
      backlog("frames", 0)
      message(("!status %s"):format(("x"):rep(5000)))
      second:says "longer than the platform takes"
      backlog("frames", 0)
      assert.equal(0, (second:stop()))
      presences(1)
    end) end

    it("tells of a gap, attaches again after holdfast was away, and acknowledges when it is told to end", function ()
      if not runs_here() then return end
      local run = start()
      made_up(3)
      run:says "message 3\n"
      backlog("frames", 0)
      control(peer, '{"verb":"kick","code":4009}')
      run:says "[Gg][Aa][Pp]"
      daemon:stop()
      run:says "holdfast is away"
      daemon = w:daemon()
      w:up()
      made_up(3)
      run:says "message 6\n"
      assert.equal(0, (run:stop()))
      backlog("frames", 0)
      assert.same({ 1, 2, 3, 4, 5, 6 }, handled(run))
    end)

    it("ends when it is told to while holdfast is away", function ()
      if not runs_here() then return end
      local run = start()
      run:says "READY"
      daemon:stop()
      run:says "holdfast is away"
      assert.equal(0, (run:stop()))
    end)

    it("gives its name up to another one that takes it", function ()
      if not runs_here() then return end
      local first = start()
      made_up(1)
      first:says "message 1\n"
      local second = start()
      assert.equal(1, (first:wait()))
      assert.is_truthy(first.err:find("replaced: attached again elsewhere", 1, true), first.err)
      made_up(1)
      second:says "message 2\n"
    end)
  end)
end
