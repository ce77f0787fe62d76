-- A budget holds the loop for some milliseconds at most; a big frame or HTTP body takes longer to read,
-- and an honest one must get through. So the budget grows with what the hook is handed, and with nothing else.
local world = require "policy_world"
local unit = require "unit.policy"

-- What a platform sends when a bot is in many groups, of about `bytes`.
local function ready(bytes)
  local guilds, size = {}, 0
  while size < bytes do
    local i = #guilds + 1
    guilds[i] = ([[{"id":"1129384756%d","unavailable":false,"name":"guild number %d","joined_at":"2024-01-02T03:04:05.000000+00:00",]]
      .. [["roles":["112938475601","112938475602"],"features":["COMMUNITY","NEWS"],"owner":false,"member_count":1234,"icon":null}]]):format(i, i)
    size = size + #guilds[i] + 1
  end
  return ([[{"op":0,"t":"READY","s":1,"d":{"v":10,"session_id":"abc","resume_gateway_url":"wss://gateway-x.discord.gg","guilds":[%s]}}]])
    :format(table.concat(guilds, ",")), #guilds
end

local MIB = 1024 * 1024
local counts = [[ on_frame = function (conn, frame) conn:log(#frame.d.guilds .. frame.d.guilds[1].name) end, ]]
local loops = [[ on_frame = function (conn, frame) for i = 1, 400000 do end end, ]]

describe("the budget of a hook", function ()
  it("is enough for a frame of 4 MiB", function ()
    local w = world.load(counts)
    local text, count = ready(4 * MIB)
    local result, a = w:call("on_frame", { frame = text })
    assert.equal("ok", result, a.error)
    assert.same({ ("log %dguild number 1"):format(count) }, w:events())
  end)

  it("is enough for an HTTP body of 2 MiB, after another wait too", function ()
    local w = world.load [[ every = { poll = { "30s", function (conn)
      local big = conn:http { url = conn.options.api }
      conn:http { url = conn.options.api }
      conn:log("" .. #big.json.d.guilds)
    end } }, ]]
    local text, count = ready(2 * MIB) -- held beside what it decodes to, under the memory cap
    local _, a = w:call("every", { name = "poll" })
    _, a = w:resume(a.task, { status = 200, body = text })
    local result, b = w:resume(a.task, { status = 200, body = "x" })
    assert.equal("ok", result, b.error)
    assert.same({ ("log %d"):format(count) }, w:events())
  end)

  it("is enough for Discord's READY of 1 MiB", function ()
    local w, problems = unit.load("policies/discord.lua", { settings = { token = world.settings.token, intents = 513 } })
    assert.truthy(w, table.concat(problems, "\n"))
    local _, a = w:call "greet"
    _, a = w:resume(a.task, { frame = '{"op":10,"d":{"heartbeat_interval":41250}}' })
    assert.equal("frame", a.wait, a.error)
    local result, b = w:resume(a.task, { frame = (ready(MIB)) })
    assert.equal("ok", result, b.error)
    assert.equal("abc", w:get("session").id)
  end)

  it("grows with the frame, and not with what the hook makes itself", function ()
    local small, big = '{"op":7}', ('{"op":7,"d":"%s"}'):format(("x"):rep(MIB))
    local w = world.load(loops, { instructions = 200000 })
    assert.equal("over budget", (w:call("on_frame", { frame = small })))
    assert.equal("ok", (w:call("on_frame", { frame = big })))
    assert.equal("over budget", (w:call("on_frame", { frame = small })))
    w = world.load([[ on_frame = function (conn, frame)
      local own = ("x"):rep(1024 * 1024)
      for i = 1, 400000 do end
    end, ]], { instructions = 400000 })
    assert.equal("over budget", (w:call("on_frame", { frame = small })))
  end)

  it("has an end for the biggest of frames", function ()
    local w = world.load([[ on_frame = function () for i = 1, 3e7 do end end, ]], { instructions = 100000 })
    local result, a = w:call("on_frame", { frame = ('{"op":7,"d":"%s"}'):format(("x"):rep(7 * MIB)) })
    assert.equal("over budget", result)
    assert.match("over its instruction budget$", a.error)
  end)

  it("is one for a hook and the reading of its answer", function ()
    local answers = [[ fetch = { it = { call = function (conn)
      for i = 1, %d do end
      local t = {}
      for i = 1, 500 do t["k" .. i] = i end
      return %s
    end } }, ]]
    local function fetch(loops, answer)
      local w = world.load(answers:format(loops, answer), { instructions = 120000 })
      return (w:call("fetch", { name = "it" }))
    end
    assert.equal("ok", fetch(1, "t"))
    assert.equal("ok", fetch(80000, "{}"))
    assert.equal("over budget", fetch(80000, "t"))
  end)
end)
