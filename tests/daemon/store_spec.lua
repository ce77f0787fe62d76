-- What survives the process: the real binary, its store on disk, a Discord peer on a real port.
local world = require "daemon_world"
local api = require "api_client"
local signals, control = world.signals, world.control

describe("a restart", function ()
  local w, peer
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
  end)
  after_each(function () w:close() end)

  local function made_up(count) control(peer, ('{"verb":"dispatch","count":%d}'):format(count)) end
  local function stat(name) return tonumber(control(peer, '{"verb":"stats"}'):match('"' .. name .. '":(%d+)')) end

  -- Numbers of the made-up messages in what a tail printed, and all other lines.
  local function seen(tail)
    local numbers, gaps, last = {}, {}, nil
    for line in tail.out:gmatch "[^\n]+" do
      local n = line:match '"content":"message (%d+)"'
      if n then numbers[#numbers + 1] = tonumber(n) end
      if line:find('"gap":', 1, true) then gaps[#gaps + 1] = line end
      last = line:match '"event".-"epoch":(%d+)' or last
    end
    return numbers, gaps, tonumber(last)
  end

  local function reads(tail, number)
    local function found() return tail.out:find(('"content":"message %d"'):format(number), 1, true) end
    assert(tail:eventually(found), ("message %d never came, but:\n%s"):format(number, tail.out))
  end

  it("in order resumes the session, tells no gap and goes on in the epoch", function ()
    local daemon = w:daemon()
    w:up()
    local bot = w:start { "tail", "--consumer", "bot", "--json" }
    bot:says "hello"
    made_up(5)
    reads(bot, 5)
    bot:stop()
    made_up(3)
    w:status(function (text) return tonumber(text:match '"delivered":(%d+)') >= 9 end)
    daemon:stop()
    made_up(2)
    w:daemon()
    w:up()
    assert.equal(1, stat "identifies")
    assert.equal(1, stat "resumes")
    bot = w:start { "tail", "--consumer", "bot", "--json" }
    reads(bot, 10)
    local numbers, gaps = seen(bot)
    assert.same({}, gaps)
    assert.equal(10, numbers[#numbers])
    for i = 2, #numbers do assert.equal(numbers[i - 1] + 1, numbers[i]) end
    assert.is_true(numbers[1] <= 6, "the first that was not acknowledged comes again")
  end)

  it("after kill -9 resumes too, in a new epoch, and nothing is missing", function ()
    local daemon = w:daemon()
    w:up()
    local bot = w:start { "tail", "--consumer", "bot", "--json" }
    bot:says "hello"
    made_up(20)
    reads(bot, 20)
    local _, _, epoch = seen(bot)
    daemon:kill(signals.kill)
    daemon:wait()
    bot:stop()
    made_up(5)
    w:daemon()
    w:up()
    assert.equal(1, stat "identifies")
    local again = w:start { "tail", "--consumer", "bot", "--json" }
    reads(again, 25)
    local numbers, gaps, later = seen(again)
    assert.is_true(later > epoch)
    assert.same({}, gaps)
    local have = {}
    for _, n in ipairs(numbers) do have[n] = true end
    for n = 21, 25 do assert.is_true(have[n], "message " .. n) end
  end)

  it("keeps an operator's stop", function ()
    local daemon = w:daemon()
    w:up()
    assert.equal(0, (w:run { "stop", "bot" }))
    w:status(function (text) return text:find('"state":"stopped"', 1, true) end)
    daemon:stop()
    w:daemon()
    local code, run = w:run { "status", "--json" }
    assert.equal(0, code)
    assert.is_truthy(run.out:find('"state":"stopped"', 1, true), run.out)
    assert.equal(0, (w:run { "start", "bot" }))
    w:up()
  end)

  it("keeps what was added over the API, and lets go of what was removed", function ()
    w:write("creds/other", "2222.other")
    w:write("holdfast.lua", [[listen { unix = "h.sock" }]])
    local options = { env = { CREDENTIALS_DIRECTORY = w.folder .. "/creds" } }
    local function put(daemon, name, credential)
      return (api.request(daemon, w.folder .. "/h.sock", "PUT", "/v1/connections/" .. name, { body = {
        policy = "discord", token = { credential = credential }, intents = 1, ca_file = w.folder .. "/ca.pem",
        api = ("https://127.0.0.1:%d/api/v10"):format(peer.port) } }))
    end
    local daemon = w:daemon(options)
    assert.equal(201, put(daemon, "late", "other"))
    w:up()
    daemon:stop()
    daemon = w:daemon(options)
    w:up()
    assert.equal(1, stat "identifies")
    assert.equal(202, (api.request(daemon, w.folder .. "/h.sock", "DELETE", "/v1/connections/late")))
    daemon:stop()
    w:daemon(options)
    local code, run = w:run { "status", "--json" }
    assert.equal(0, code)
    assert.is_nil(run.out:find("late", 1, true))
  end)

  it("keeps the journal", function ()
    w:daemon():stop()
    w:daemon()
    w:up()
    local code, run = w:run { "why", "bot" }
    assert.equal(0, code)
    assert.is_truthy(run.out:find("shutting down", 1, true), run.out)
  end)

  it("with a store in memory begins anew, and says so at the start", function ()
    w:config(peer.port, "store { memory = true }")
    local daemon = w:daemon()
    assert.is_truthy(daemon.err:find("kept in memory, and end with this process", 1, true), daemon.err)
    w:up()
    daemon:stop()
    w:daemon()
    w:up()
    assert.equal(2, stat "identifies")
    assert.is_nil(io.open(w.folder .. "/var"))
  end)

  it("is refused while another holdfast has the store, by its name", function ()
    w:daemon()
    w:up()
    local code, second = w:run { "run" }
    assert.equal(1, code)
    assert.is_truthy(second.err:find("another holdfast %(process %d+%) has the store var/holdfast.db"), second.err)
    w:up()
    assert.equal(1, stat "identifies")
  end)

  it("is refused with one sentence when the file is no store", function ()
    w:write("var/holdfast.db", ("no database "):rep(1000))
    local code, run = w:run { "run" }
    assert.equal(1, code)
    assert.is_truthy(run.err:find("var/holdfast.db", 1, true), run.err)
    local _, lines = run.err:gsub("\n", "")
    assert.equal(1, lines, run.err)
  end)
end)
