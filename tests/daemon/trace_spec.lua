-- `holdfast trace` and `holdfast replay`, from the outside: an incident on a real daemon becomes a file, a file
-- becomes a test, and another policy is seen to decide otherwise.
local world = require "daemon_world"
local control = world.control
local here = io.popen("pwd"):read "*l"

describe("trace and replay", function ()
  local w, peer
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local function run(words, wanted)
    local code, r = w:run(words)
    assert.equal(wanted or 0, code, r.out .. r.err)
    return r.out, r.err
  end
  local function has(text, part) assert.is_truthy(text:find(part, 1, true), text) end

  -- A kick, and the daemon up again.
  local function incident()
    peer = w:peer { "identify_gap=0" }
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
connection "support-bot" {
  policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
}]]):format(peer.port))
    w:daemon()
    w:up()
    control(peer, '{"verb":"kick","code":4000}')
    w:status(function (text) return text:match '"state":"up"' and text:match '"generation":2' end)
    run { "trace", "support-bot", "-o", w.folder .. "/incident.trace" }
    return w.folder .. "/incident.trace"
  end

  it("tell what happened, and replay it to the same effects without a daemon", function ()
    local path = incident()
    local out = run { "replay", path }
    has(out, "support-bot, ")
    assert.is_truthy(out:match "4000", out)
    assert.is_truthy(out:match "policies/discord%.lua:%d+", out)
    local a, b, c, d = out:match "(%d+) of (%d+) steps have the effects that they had, (%d+) of (%d+) hooks do what they did"
    assert.equal(b, a)
    assert.equal(d, c)
    assert.is_true(tonumber(b) > 10 and tonumber(d) > 5, out)
    local json = run { "replay", path, "--json" }
    has(json, '"connection":"support-bot"')
  end)

  it("show where another policy decides otherwise, and what it would decide", function ()
    local path = incident()
    local f = assert(io.open "policies/discord.lua")
    local text = f:read "*a"
    f:close()
    local other, n = text:gsub("classify%s*=%s*{", 'classify = { { close = 4000, verdict = "stop", note = "no more" },', 1)
    assert.equal(1, n)
    w:write("policies/discord.lua", other)
    local out = run({ "replay", path, "--policy", w.folder .. "/policies/discord.lua" }, 1)
    has(out, "they part at ")
    assert.is_truthy(out:match "now [^\n]*4000[^\n]*no more", out)
    has(run { "replay", path, "--policy", here .. "/policies/discord.lua" }, "the other policy does the same")
    local _, err = run({ "replay", path, "--policy", here .. "/README.md" }, 1)
    has(err, "README.md")
  end)

  it("write a spec that holds for the policy of then, and fails for another", function ()
    local path = incident()
    local spec = w.folder .. "/incident_spec.lua"
    run { "replay", path, "--spec", spec }
    local text = w:read "incident_spec.lua"
    has(text, 'verdict = "resume"')
    has(text, "close = 4000")
    local out = run { "test", spec }
    assert.is_truthy(out:match "0 failures / 0 errors", out)
    w:write("incident_spec.lua", (text:gsub('verdict = "resume"', 'verdict = "fresh"', 1)))
    local failed = run({ "test", spec }, 1)
    has(failed, "verdict is resume, expected fresh")
  end)

  it("name every version of the policy that ran meanwhile, and no line where no line decided", function ()
    incident()
    w:write("policies/discord.lua", assert(io.open "policies/discord.lua"):read "*a" .. "\n-- another text\n")
    w:write("holdfast.lua", 'policies { path = "policies" }\n' .. w:read "holdfast.lua")
    run { "reload", "--unproven", "--socket", w.folder .. "/h.sock" }
    run { "restart", "support-bot", "--socket", w.folder .. "/h.sock" }
    local path = w.folder .. "/later.trace"
    run { "trace", "support-bot", "-o", path, "--socket", w.folder .. "/h.sock" }
    local out = run { "replay", path }
    has(out, " version 1, then 2, recorded by ")
    local spec = w.folder .. "/later_spec.lua"
    run { "replay", path, "--spec", spec }
    has(w:read "later_spec.lua", "restarted by an operator")
    assert.is_nil(w:read("later_spec.lua"):find(".lua:0", 1, true))
  end)

  it("hold no secret, and are for operators alone", function ()
    local path = incident()
    local f = assert(io.open(path, "rb"))
    local bytes = f:read "*a"
    f:close()
    local text = assert(require("holdfast.sim").core.unpacked(bytes))
    has(text, "policies/discord.lua")
    for n = 1, #world.secret - 7 do assert.is_nil(text:find(world.secret:sub(n, n + 7), 1, true)) end
    local function mode()
      local pipe = assert(io.popen("stat -c %a " .. path))
      local said = pipe:read "*l"
      pipe:close()
      return said
    end
    assert.equal("600", mode())
    -- A file that was there keeps its mode otherwise.
    assert(os.execute("chmod 644 '" .. path .. "'") == 0)
    run { "trace", "support-bot", "-o", path }
    assert.equal("600", mode())
  end)

  it("say in one sentence what is no trace, no connection, no time", function ()
    peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    w:daemon()
    w:write("none.trace", "no trace at all")
    local _, err = run({ "replay", w.folder .. "/none.trace" }, 1)
    has(err, "at byte 0: not a trace of holdfast")
    has(select(2, run({ "replay", w.folder .. "/gone.trace" }, 1)), "gone.trace")
    has(select(2, run({ "trace", "bott" }, 1)), "bot")
    run({ "trace" }, 2)
    run({ "trace", "bot", "--last", "soon" }, 2)
    run({ "replay" }, 2)
  end)
end)
