-- The example of a QQ bot: valid as it stands, and held against the platform's peer on a real port.
local world = require "daemon_world"
local control = world.control

describe("the example qqbot", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local secret = { env = { QQBOT_SECRET = world.secret } }

  local function example()
    local f = assert(io.open "examples/qqbot.lua")
    local text = f:read "*a"
    f:close()
    return text
  end

  it("is valid, and says which secret is missing where it is", function ()
    w:write("holdfast.lua", example())
    local code, run = w:run({ "check" }, secret)
    assert.equal(0, code, run.out .. run.err)
    code, run = w:run({ "check" }, { env = { QQBOT_SECRET = false } })
    assert.equal(1, code)
    assert.is_truthy(run.err:find("QQBOT_SECRET", 1, true), run.err)
  end)

  it("comes up against `holdfast peer qqbot`, is resumed after 4009, and stops when banned", function ()
    local peer = w:start { "peer", "qqbot", "--port", "0", "--ca-out", "ca.pem", "--option", "events_every=50",
                           "--option", "app_id=\"102000001\"" }
    local port = peer:says "listening on https://127%.0%.0%.1:(%d+)"
    -- Its paths and its commented lines for a peer of one's own, as a reader would change them.
    local text, lines = example():gsub("%-%- (api       = \"https://127[^\n]*)\n", "%1\n")
    assert.equal(1, lines)
    text = text:gsub(":9446", ":" .. port):gsub("%.%./run/", ""):gsub("%.%./var/", "")
    w:write("holdfast.lua", text)
    local daemon = w:start({ "run" }, secret)
    daemon:says "linking %-> up"
    local tail = w:start({ "tail", "--pretty" }, secret)
    tail:says "GROUP_AT_MESSAGE_CREATE"
    control(peer, '{"verb":"kick","code":4009}')
    daemon:says "link=2 linking %-> up"
    assert.is_truthy(control(peer, '{"verb":"stats"}'):find('"resumed":1', 1, true))
    control(peer, '{"verb":"kick","code":4915}')
    tail:says "stopped"
    local code, why = w:run({ "why", "qq-bot" }, secret)
    assert.equal(0, code)
    assert.is_truthy(why.out:find("the bot is banned", 1, true), why.out)
    assert.equal(0, daemon:stop())
    assert.equal(0, peer:stop())
  end)
end)
