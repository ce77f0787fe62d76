local world = require "daemon_world"
local control = world.control

describe("orders to a running holdfast:", function ()
  local w, peer

  -- Delays so short that the gate would refuse them as a storm; what is proven is another spec's.
  local function config(more)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" } policies { prove = false }
connection "support-bot" {
  policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } }, backoff = { first = "250ms", most = "1s" } },
}
%s]]):format(peer.port, more or ""))
  end

  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    config()
    w:daemon()
    w:up()
  end)
  after_each(function () w:close() end)

  local function is(pattern, run) assert.is_truthy(run.out:match(pattern), run.out .. run.err) end
  local function complains(text, run) assert.is_truthy(run.err:find(text, 1, true), run.out .. run.err) end

  describe("start --spend-reserve", function ()
    -- Two starts an hour, one of them for people.
    local function queued()
      w:write("holdfast.lua", (w:read "holdfast.lua"):gsub('start = { gap = "300ms" }',
        'start = { gap = "300ms", windows = { { 2, "1h" } } }'))
      local code, run = w:run { "reload" }
      assert.equal(0, code, run.out .. run.err)
      control(peer, '{"verb":"kick","code":4009,"reason":"Session timed out."}')
      return w:status(function (text) return text:match '"state":"queued"' and text end)
    end

    it("takes a session start of the share for people, once, and the journal says so", function ()
      local text = queued()
      assert.is_truthy(text:match '"budget":"start","held_by":"window","left":0', text)
      local _, why = w:run { "why", "support-bot" }
      assert.is_truthy(why.out:find("start: used up, 1 in its window; 1 in 1h are allowed; 1 kept for people", 1, true), why.out)
      assert.is_truthy(why.out:find("holdfast start support-bot --spend-reserve", 1, true), why.out)
      local code, run = w:run { "start", "support-bot", "--spend-reserve" }
      assert.equal(0, code, run.out .. run.err)
      is("^support%-bot is up, link 2, after ", run)
      _, run = w:run { "why", "support-bot", "--all" }
      is("an operator lets the next session start be of the share that is kept for people: 1 left with it, 0 without", run)
      is("takes a session start of the share that is kept for people", run)
      control(peer, '{"verb":"kick","code":4009,"reason":"Session timed out."}')
      w:status(function (now) return now:match '"state":"queued"' end)
      code, run = w:run { "start", "support-bot", "--spend-reserve" }
      assert.equal(1, code)
      assert.is_truthy(run.err:match "nothing is left of the session starts of support%-bot, nor of the share for people: "
        .. "the next one comes at 20[%d-]+T[%d:.]+Z, in 59m", run.err)
      w:status(function (now) return now:match '"state":"queued"' end)
    end)

    it("of one that is up orders nothing", function ()
      local code, run = w:run { "start", "support-bot", "--spend-reserve" }
      assert.equal(0, code)
      assert.equal("support-bot is up already\n", run.out)
    end)
  end)

  describe("stop and start", function ()
    it("wait for the new state, print it and exit 0", function ()
      local code, run = w:run { "stop", "support-bot" }
      assert.equal(0, code, run.err)
      assert.equal("support-bot is stopped: stopped by an operator\n", run.out)
      code, run = w:run { "start", "support-bot" }
      assert.equal(0, code, run.err)
      is("^support%-bot is up, link 2, after %d+%.%ds\n$", run)
    end)

    it("say that it is so already and order nothing", function ()
      local code, run = w:run { "start", "support-bot" }
      assert.equal(0, code)
      assert.equal("support-bot is up already\n", run.out)
      w:run { "stop", "support-bot" }
      code, run = w:run { "stop", "support-bot" }
      assert.equal(0, code)
      assert.equal("support-bot is stopped already\n", run.out)
    end)

    it("with --json print the connection as it is then", function ()
      local code, run = w:run { "stop", "support-bot", "--json" }
      assert.equal(0, code)
      is('^{.*"state":"stopped".*}\n$', run)
    end)

    it("without time to wait only say what was asked for", function ()
      local code, run = w:run { "stop", "support-bot", "--wait", "0" }
      assert.equal(0, code)
      assert.equal("support-bot: stop was asked for\n", run.out)
      w:status(function (text) return text:match '"state":"stopped"' end)
    end)

    it("exit 1 when it is not so in time, and say what it waits for", function ()
      w:run { "stop", "support-bot" }
      control(peer, '{"verb":"fault","silent_hello":true}')
      local code, run = w:run { "start", "support-bot", "--wait", "400ms" }
      assert.equal(1, code)
      is("^support%-bot is linking; next: greeting limit in %d", run)
      complains("not done after 0.4s, and it goes on: `holdfast why support-bot` tells more", run)
    end)

    it("exit 1 at once when the platform refuses for good", function ()
      w:run { "stop", "support-bot" }
      control(peer, '{"verb":"fault","close_after_identify":4004}')
      local code, run = w:run { "start", "support-bot" }
      assert.equal(1, code)
      is("^support%-bot is stopped: closed with 4004", run)
      complains("that did not help: `holdfast why support-bot` tells more", run)
    end)
  end)

  describe("restart", function ()
    it("waits for a new link, and resumes the session", function ()
      local code, run = w:run { "restart", "support-bot" }
      assert.equal(0, code, run.err)
      is("^support%-bot is up, link 2, after ", run)
      assert.is_truthy(control(peer, '{"verb":"stats"}'):find('"resumed":1', 1, true))
    end)

    it("starts what is stopped", function ()
      w:run { "stop", "support-bot" }
      local code, run = w:run { "restart", "support-bot" }
      assert.equal(0, code, run.err)
      is("^support%-bot is up, link 2, after ", run)
    end)
  end)

  describe("send", function ()
    local presence = '{"op":3,"d":{"status":"online"}}'

    it("puts a frame on the wire, from the command line and from standard input", function ()
      local code, run = w:run { "send", "support-bot", presence }
      assert.equal(0, code, run.err)
      assert.equal("sent\n", run.out)
      run = w:start { "send", "support-bot", "-" }
      run:write(presence)
      run.process:close_input()
      assert.equal(0, (run:wait()))
      assert.equal("sent\n", run.out)
      assert.is_truthy(control(peer, '{"verb":"stats"}'):find('"presences":2', 1, true))
    end)

    it("says why a frame was refused, and whether trying again makes sense, and exits 1", function ()
      local code, run = w:run { "send", "support-bot", '{"op":2,"d":{}}' }
      assert.equal(1, code)
      assert.equal("holdfast: refused: the policy does not accept this frame from consumers (trying again would not help)\n", run.err)
      code, run = w:run { "send", "support-bot", '{"op":3' }
      assert.equal(1, code)
      complains("the frame is not JSON", run)
      code, run = w:run { "send", "support-bot", "\1\2", "--bytes" }
      assert.equal(1, code)
      complains("refused: not valid JSON", run)
      code, run = w:run { "send", "support-bot", '{"op":3,"d":"' .. ("x"):rep(5000) .. '"}' }
      assert.equal(1, code)
      complains("refused: longer than the platform takes (trying again would not help)", run)
      code = w:run { "send", "support-bot", "-" }
      assert.equal(1, code)
      w:run { "stop", "support-bot" }
      code, run = w:run { "send", "support-bot", presence }
      assert.equal(1, code)
      assert.equal("holdfast: refused: not up (trying again later makes sense)\n", run.err)
    end)

    it("refuses a frame longer than 1 MiB before it is sent", function ()
      local path = w:write("big", '"' .. ("x"):rep(1048576) .. '"')
      local run = w:start { "send", "support-bot", "-" }
      local f = assert(io.open(path))
      for piece in function () return f:read(4096) end do
        if not run:write(piece) then break end
      end
      f:close()
      run.process:close_input()
      assert.equal(1, (run:wait()))
      complains("the frame is longer than 1 MiB", run)
    end)
  end)

  describe("reload", function ()
    it("says that it is done", function ()
      local code, run = w:run { "reload" }
      assert.equal(0, code, run.err)
      assert.equal("reloaded\n", run.out)
      code, run = w:run { "reload", "discord" }
      assert.equal(0, code, run.err)
      assert.equal("reloaded discord\n", run.out)
    end)

    it("prints each problem with file, line and key, changes nothing and exits 1", function ()
      config 'connection "b" { policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intnts = 1 }'
      local code, run = w:run { "reload" }
      assert.equal(1, code)
      complains("holdfast.lua:7: intnts: unknown key; did you mean `intents`?\n", run)
      complains("holdfast: nothing was changed: what ran goes on as it was\n", run)
      local _, json = w:run { "reload", "--json" }
      is('^{"reloaded":false,"problems":%["holdfast.lua:7: .*%]}\n$', json)
    end)

    it("finds the daemon although a slip keeps its configuration from running", function ()
      config 'x = "'
      local code, run = w:run { "reload" }
      assert.equal(1, code)
      complains("holdfast.lua:7: unfinished string", run)
    end)

    it("names the nearest policy for one that nobody uses", function ()
      local code, run = w:run { "reload", "discrod" }
      assert.equal(1, code)
      complains("no connection uses a policy `discrod`; did you mean `discord`?", run)
      code = w:run { "reload", "../discord" }
      assert.equal(2, code)
    end)

    it("starts a connection again that a verdict stopped, when its settings changed", function ()
      control(peer, '{"verb":"kick","code":4014,"reason":"Disallowed intents."}')
      w:status(function (text) return text:match '"state":"stopped"' end)
      w:run { "reload" }
      w:status(function (text) return text:match '"state":"stopped"' end)
      w:write("holdfast.lua", (w:read("holdfast.lua"):gsub("intents = 513", "intents = 1")))
      assert.equal(0, (w:run { "reload" }))
      w:up()
    end)
  end)

  it("all know the nearest name of a connection that is not there, and exit 1", function ()
    for _, words in ipairs { { "why", "suport-bot" }, { "send", "suport-bot", "{}" }, { "stop", "suport-bot" },
                             { "start", "suport-bot" }, { "restart", "suport-bot" } } do
      local code, run = w:run(words)
      assert.equal(1, code)
      assert.equal("holdfast: no connection is called `suport-bot`; did you mean `support-bot`?\n", run.err)
      assert.equal("", run.out)
    end
    local code, run = w:run { "why", "../x" }
    assert.equal(1, code)
    complains("`../x` cannot be a connection's name", run)
  end)

  it("exit 2 for wrong arguments, with the usage", function ()
    local cases = {
      { { "why" }, "why needs a connection's name" },
      { { "send" }, "send needs a connection's name and a frame" },
      { { "send", "support-bot" }, "send needs a frame, or - for standard input" },
      { { "stop" }, "stop needs a connection's name" },
      { { "start", "a", "b" }, "`b` is one argument too many" },
      { { "restart", "support-bot", "--wait", "soon" }, "--wait must be a time such as 30s or 2m, and is soon" },
      { { "stop", "support-bot", "--wait", "-1s" }, "--wait must be a time" },
      { { "reload", "a", "b" }, "`b` is one argument too many" },
      { { "why", "support-bot", "--jsn" }, "did you mean `--json`?" },
    }
    for _, case in ipairs(cases) do
      local code, run = w:run(case[1])
      assert.equal(2, code, table.concat(case[1], " "))
      complains(case[2], run)
      complains("usage: holdfast " .. case[1][1], run)
    end
  end)

  it("say when no daemon is running, and exit 1", function ()
    for _, words in ipairs { { "why", "support-bot" }, { "send", "support-bot", "{}" }, { "stop", "support-bot" },
                             { "start", "support-bot" }, { "restart", "support-bot" }, { "reload" } } do
      words[#words + 1] = "--socket"
      words[#words + 1] = "absent.sock"
      local code, run = w:run(words)
      assert.equal(1, code)
      assert.equal("holdfast: no holdfast is running at absent.sock\n", run.err)
    end
  end)

  it("are explained by --help with their options and an example", function ()
    for _, command in ipairs { "why", "send", "stop", "start", "restart", "reload" } do
      local code, run = w:run { command, "--help" }
      assert.equal(0, code)
      is("usage: holdfast " .. command, run)
      is("\n  [^\n]*holdfast [^\n]*" .. command, run)
      is("%-%-json ", run)
    end
  end)
end)
