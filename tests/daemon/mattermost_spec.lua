-- A Mattermost bot as its operator meets it: the example, the real binary, its peer on a real port.
local world = require "daemon_world"
local control = world.control

local pipe = io.popen "pwd"
local here = pipe:read "*l"
pipe:close()

describe("a Mattermost bot behind holdfast", function ()
  local w
  local ENV = { env = { MATTERMOST_TOKEN = "tok" .. world.secret } }
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("comes up from the example, and goes on where it was after a kill", function ()
    local peer = w:start { "peer", "mattermost", "--port", "0", "--ca-out", "ca.pem" }
    local port = peer:says "listening on https?://127%.0%.0%.1:(%d+)"
    local f = assert(io.open "examples/mattermost.lua")
    local text = f:read "*a"
    f:close()
    text = text:gsub("https://chat%.example%.com", "https://127.0.0.1:" .. port):gsub("%-%- (ca_file = \"ca%.pem\")", "%1")
      :gsub('"%.%./run/holdfast%.sock"', '"h.sock"'):gsub('"%.%./var/holdfast%.db"', '"h.db"')
      :gsub('"%.%./policies"', ("%q"):format(here .. "/policies"))
    w:write("holdfast.lua", text)
    assert.equal(0, (w:run({ "check" }, ENV)))
    local daemon = w:daemon(ENV)
    w:up()
    local tail = w:start { "tail", "--consumer", "bot" }
    tail:says '"hello"'
    control(peer, '{"verb":"post","count":5}')
    tail:says '"number":5'
    daemon:kill(world.signals.kill)
    daemon:wait()
    control(peer, '{"verb":"post","count":5}')
    w:daemon(ENV)
    w:up()
    local again = w:start { "tail", "--consumer", "bot" }
    again:says '"number":10'
    for n = 6, 10 do assert.equal(1, select(2, again.out:gsub('"number":' .. n .. "[^%d]", ""))) end
    assert.truthy(control(peer, '{"verb":"stats"}'):find('"resumed":1', 1, true))
  end)
end)
