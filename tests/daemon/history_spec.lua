-- The states of hours: GET /v1/connections/NAME/history and GET /v1/history of the real daemon, before and after it
-- ends, in order and killed.
local world = require "daemon_world"
local api = require "api_client"
local control = world.control

describe("the history of a connection", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:config(peer.port, 'connection "off" { policy = "generic", url = "ws://127.0.0.1:1/" }\nstore { path = "h.db" }')
  end)
  after_each(function () w:close() end)

  local function get(target)
    local status, body = api.request(daemon, w.folder .. "/h.sock", "GET", target)
    assert.equal(200, status, target)
    return body
  end
  local function states(marks)
    local out = {}
    for i, m in ipairs(marks) do out[i] = m[2] end
    return table.concat(out, " ")
  end
  local function stands(name, pattern)
    local said
    assert(daemon:eventually(function ()
      said = states(get("/v1/connections/" .. name .. "/history").history)
      return said:match(pattern)
    end), "never so: " .. tostring(said))
    return said
  end

  it("has each state with its cause, in order, newer than the journal's last entries reach", function ()
    daemon = w:daemon()
    w:up()
    for i = 1, 4 do
      control(peer, ('{"verb":"kick","code":4000,"reason":"round %d"}'):format(i))
      stands("bot", ("waiting[a-z ]*up"):rep(i, " ") .. "$")
    end
    assert.equal(0, (w:run { "stop", "bot" }))
    stands("bot", " stopped$")
    local marks = get "/v1/connections/bot/history".history
    for i, m in ipairs(marks) do
      if i > 1 then assert.is_true(m[1] >= marks[i - 1][1]) end
      if m[2] == "waiting" then assert.equal("closed", m[3]) end
      if m[2] == "up" then assert.is_nil(m[3]) end
    end
    assert.equal("stopped", marks[#marks][3])
    local all = get "/v1/history"
    assert.same(marks, all.connections.bot)
    assert.is_truthy(states(all.connections.off):find "waiting")
    assert.is_true(all.now >= marks[#marks][1])
    local late = get("/v1/connections/bot/history?from=" .. marks[#marks][1]).history
    assert.same({ marks[#marks] }, late)
  end)

  it("says given up where a fatal cause stopped it", function ()
    daemon = w:daemon()
    w:up()
    control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    local marks
    stands("bot", "given_up$")
    marks = get "/v1/connections/bot/history".history
    assert.equal("closed", marks[#marks][3])
    daemon:stop()
    daemon = w:daemon() -- it stays known, and the new try is seen
    stands("bot", "up given_up.*up")
  end)

  it("outlives an end in order: what was before, then stopped, then what is now", function ()
    daemon = w:daemon()
    w:up()
    daemon:stop()
    daemon = w:daemon()
    w:up()
    stands("bot", "^[a-z ]*up stopped [a-z ]*up$")
    assert.is_nil(states(get "/v1/connections/bot/history".history):find "unknown")
  end)

  it("outlives a kill: what nobody could know stands there as unknown", function ()
    daemon = w:daemon()
    w:up()
    assert(daemon:eventually(function () return get "/v1/store".requests > 0 and get "/v1/store".pending_bytes == 0 end))
    daemon:kill(9)
    daemon:wait()
    daemon = w:daemon()
    w:up()
    stands("bot", "up unknown [a-z ]*up$")
  end)
end)
