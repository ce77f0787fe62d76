local world = require "daemon_world"
local control = world.control

describe("status and tail", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer()
    w:config(peer.port)
    daemon = w:daemon()
    w:up()
  end)
  after_each(function () w:close() end)

  local function made_up(count) return control(peer, ('{"verb":"dispatch","count":%d}'):format(count)) end
  local function numbers(text)
    local list = {}
    for n in text:gmatch '"frame":[^\n]-"number":(%d+)' do list[#list + 1] = tonumber(n) end
    return list
  end
  local function counted(from, to)
    local list = {}
    for n = from, to do list[#list + 1] = n end
    return list
  end

  it("status shows each connection in one line, without colours when it is no terminal", function ()
    local code, run = w:run { "status" }
    assert.equal(0, code)
    local head, line = run.out:match "^([^\n]+)\n([^\n]+)\n$"
    assert.is_truthy(head, run.out)
    assert.is_truthy(head:match "^NAME +STATE +LIFE +FOR ")
    assert.is_truthy(line:match "^bot +up +alive +%d")
    assert.is_truthy(line:match "discord v1$")
    assert.is_nil(run.out:find("\27", 1, true))
  end)

  it("status names the file with the token that nobody configured, which only its owner can read", function ()
    daemon:stop()
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub('unix = "h.sock"', 'unix = "h.sock", http = "127.0.0.1:0"')))
    local again = w:daemon()
    again:says "http 127%.0%.0%.1:%d+"
    local _, run = w:run { "status" }
    assert.is_truthy(run.out:find("the token for http is in h.sock.token\n", 1, true), run.out)
    local token = w:read "h.sock.token"
    assert.is_truthy(token:match "^%x+\n$")
    local p = io.popen("stat -c %a '" .. w.folder .. "/h.sock.token'")
    assert.equal("600", p:read "*l")
    p:close()
    -- A second daemon that has to go again leaves the file alone; the first takes it along.
    assert.equal(1, (w:run { "run" }))
    assert.equal(token, w:read "h.sock.token")
    again:stop()
    assert.is_nil(io.open(w.folder .. "/h.sock.token"))
    assert.is_nil((again.out .. again.err):find(token:sub(1, -2), 1, true))
  end)

  it("status fits the width that COLUMNS tells, whatever a server said", function ()
    control(peer, '{"verb":"fault","upgrade":{"status":503}}')
    control(peer, '{"verb":"kick","code":4000,"reason":"a long reason that goes on and on, for a hundred bytes and more, to see what happens"}')
    w:status(function (text) return text:match '"http_status":503' end)
    local _, run = w:run({ "status" }, { env = { COLUMNS = "90" } })
    for line in run.out:gmatch "[^\n]+" do
      assert.is_true(#line:gsub("[\128-\191]", "") <= 90, line)
    end
  end)

  it("status NAME tells link, pulse, backlog and the journal's last lines", function ()
    made_up(3)
    w:status(function (text) return text:match '"delivered":4' end)
    local code, run = w:run { "status", "bot" }
    assert.equal(0, code)
    for _, words in ipairs { "bot  up for ", "policy      discord v1", "link        1, ready", "attempts    1 so far, 1 came up",
        "frames      4 delivered", "in sqlite", "journal", "linking -> up" } do
      assert.is_truthy(run.out:find(words, 1, true), words .. "\n" .. run.out)
    end
  end)

  it("status of an unknown name suggests the nearest and exits 1", function ()
    local code, run = w:run { "status", "bit" }
    assert.equal(1, code)
    assert.equal("holdfast: no connection is called `bit`; did you mean `bot`?\n", run.err)
    local worse, bad = w:run { "status", "../reload" }
    assert.equal(1, worse)
    assert.is_truthy(bad.err:find("cannot be a connection's name", 1, true))
  end)

  it("status --json is the API's own answer, of all and of one", function ()
    local _, all = w:run { "status", "--json" }
    assert.is_truthy(all.out:match '^{"connections":%[{.*"name":"bot".*}%],"store":{.*},"weather":%[%],"trials":%[%],"taken_back":%[%]}\n$')
    local _, one = w:run { "status", "bot", "--json" }
    assert.is_truthy(one.out:match '^{.*"name":"bot".*}\n$')
  end)

  it("status finds the daemon by --socket, by HOLDFAST_SOCKET and by -c, without the daemon's secrets", function ()
    local none = { DISCORD_TOKEN = false }
    assert.equal(0, (w:run({ "status" }, { env = none })))
    assert.equal(0, (w:run({ "status", "-c", "holdfast.lua" }, { env = none })))
    assert.equal(0, (w:run { "status", "--socket", "h.sock", "-c", "absent.lua" }))
    assert.equal(0, (w:run({ "status", "-c", "absent.lua" }, { env = { HOLDFAST_SOCKET = "h.sock" } })))
    local code, run = w:run { "status", "-c", "absent.lua" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("cannot tell which holdfast is meant: there is no absent.lua here", 1, true))
  end)

  it("say that nobody runs at a socket where nobody does", function ()
    for _, command in ipairs { "status", "tail" } do
      local code, run = w:run { command, "--socket", "nowhere.sock" }
      assert.equal(1, code)
      assert.equal("holdfast: no holdfast is running at nowhere.sock\n", run.err)
    end
  end)

  it("status gives up on a socket where somebody listens and hangs up", function ()
    local tail = w:start { "tail" }
    tail:says '"hello"'
    local other = world.listen(w.folder .. "/mute.sock")
    local run = w:start { "status", "--socket", "mute.sock" }
    assert.is_nil((run:ended()))
    other:close()
    assert.equal(1, run:wait())
    assert.is_truthy(run.err:match "^holdfast: [^\n]+\n$", run.err)
  end)

  it("tail prints NDJSON: the state, then each event once and in order", function ()
    local tail = w:start { "tail", "bot" }
    tail:says '"state":"up"'
    made_up(200)
    tail:says '"number":200'
    assert.same(counted(1, 200), numbers(tail.out))
    for line in tail.out:gmatch "([^\n]*)\n" do assert.is_truthy(line:match '^{"%l+":{.*}}$', line) end
  end)

  it("tail --from start begins with the oldest frame held, --from now after the newest", function ()
    made_up(5)
    w:status(function (text) return text:match '"delivered":6' end)
    local start = w:start { "tail", "--from", "start" }
    local now = w:start { "tail", "--from", "now" }
    now:says '"hello"'
    now:says '"state":"up"'
    made_up(1)
    start:says '"number":6'
    now:says '"number":6'
    assert.same(counted(1, 6), numbers(start.out))
    assert.same({ 6 }, numbers(now.out))
  end)

  it("tail --consumer goes on after the last line that it printed", function ()
    local first = w:start { "tail", "--consumer", "reader" }
    first:says '"state":"up"'
    made_up(10)
    first:says '"number":10'
    assert.equal(0, first:stop())
    made_up(10)
    w:status(function (text) return text:match '"delivered":21' end)
    local second = w:start { "tail", "--consumer", "reader" }
    second:says '"number":20'
    local all = numbers(first.out)
    for _, n in ipairs(numbers(second.out)) do
      if n > all[#all] then all[#all + 1] = n end
    end
    assert.same(counted(1, 20), all)
  end)

  it("tail --pretty tells a broken link and its return in words", function ()
    local tail = w:start { "tail", "--pretty" }
    tail:says "bot  up"
    control(peer, '{"verb":"kick","code":4000}')
    tail:says "bot  closing  closed with 4000: kicked"
    tail:says "bot  waiting  dial in "
    tail:says "RESUMED"
    assert.is_nil(tail.out:find("\27", 1, true))
  end)

  it("tail --pretty keeps a server's control bytes off the terminal", function ()
    local tail = w:start { "tail", "--pretty" }
    tail:says "bot  up"
    control(peer, '{"verb":"dispatch","kind":"X","d":{"text":"\\u001b[2Jgone\\u009b"}}')
    control(peer, '{"verb":"kick","code":4000,"reason":"\\u001b[31mred"}')
    tail:says "closed with 4000"
    assert.is_nil(tail.out:find("\27", 1, true))
    assert.is_nil(tail.out:find("\194\155", 1, true))
  end)

  it("tail refuses a name that nobody has, and takes a pattern that nobody has yet", function ()
    local code, run = w:run { "tail", "bott" }
    assert.equal(1, code)
    assert.equal("holdfast: no connection is called `bott`; did you mean `bot`?\n", run.err)
    local tail = w:start { "tail", "shard-*" }
    tail:says '"hello"'
  end)

  it("tail refuses a place to begin that is none", function ()
    local code, run = w:run { "tail", "--from", "yesterday" }
    assert.equal(1, code)
    assert.is_truthy(run.err:match "^holdfast: [^\n]+expected", run.err)
  end)

  it("tail ends with the daemon, exit 0, and with Ctrl-C, exit 0", function ()
    local one, two = w:start { "tail" }, w:start { "tail" }
    one:says '"state":"up"'
    two:says '"state":"up"'
    one:kill(world.signals.int)
    assert.equal(0, one:wait())
    daemon:stop()
    assert.equal(0, two:wait())
    assert.is_truthy(two.err:find("the holdfast at h.sock ended", 1, true))
  end)
end)
