-- /v1/watch and /v1/summary of the real daemon, over real sockets.
local world = require "daemon_world"
local api = require "api_client"
local socket = require "unit.ops"
local json = require "dkjson"
local control = world.control

local Stream = {}
Stream.__index = Stream

-- A stream of server-sent events. options: token, head (further lines), reads = false to let it stand.
local function open(daemon, to, target, options)
  options = options or {}
  local self = setmetatable({ daemon = daemon, fd = assert(socket.connect(to)), raw = "", events = {}, at = 1 }, Stream)
  local out = "GET " .. target .. " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" .. (options.head or "")
  if options.token then out = out .. "Authorization: Bearer " .. options.token .. "\r\n" end
  socket.write(self.fd, out .. "\r\n")
  return self
end

-- Takes in what is there. libwebsockets frames an endless body of HTTP/1.1 in chunks only when asked to: here it
-- ends with the connection.
function Stream:pump()
  local piece = socket.read(self.fd)
  if piece == nil then self.ended = true return end
  self.raw = self.raw .. piece
  if not self.head then
    local stop = select(2, self.raw:find("\r\n\r\n", 1, true))
    if not stop then return end
    self.head, self.raw = self.raw:sub(1, stop), self.raw:sub(stop + 1)
  end
  while true do
    local stop = self.raw:find("\n\n", 1, true)
    if not stop then return end
    local text = self.raw:sub(1, stop)
    self.raw = self.raw:sub(stop + 2)
    local data = text:match "data: ([^\n]*)\n"
    self.events[#self.events + 1] = { id = text:match "id: ([^\n]*)\n", kind = text:match "event: ([^\n]*)\n" or "comment",
                                      text = text, data = data and assert(json.decode(data), data) }
  end
end

-- The next event of `kind` for which check(data) holds, looking past others.
function Stream:next(kind, check)
  local found
  assert(self.daemon:eventually(function ()
    self:pump()
    while not found and self.at <= #self.events do
      local e = self.events[self.at]
      self.at = self.at + 1
      if e.kind == kind and (not check or check(e.data)) then found = e end
    end
    return found or self.ended
  end), "no " .. kind)
  return assert(found, "the stream ended: " .. tostring(self.head))
end

function Stream:close() socket.shut(self.fd) end

describe("/v1/watch", function ()
  local w, peer, daemon, path, streams
  before_each(function ()
    w = world.new()
    streams = {}
    peer = w:peer { "identify_gap=0" }
    w:config(peer.port, 'connection "deaf" { policy = "generic", url = "ws://127.0.0.1:1/", tune = { backoff = { first = "5m", most = "5m", jitter = "none" } } }')
    daemon = w:daemon()
    path = w.folder .. "/h.sock"
    w:up()
  end)
  after_each(function ()
    for _, s in ipairs(streams) do s:close() end
    w:close()
  end)

  local function watch(target, options)
    streams[#streams + 1] = open(daemon, options and options.to or path, target or "/v1/watch", options)
    return streams[#streams]
  end
  -- All of a snapshot, by name.
  local function snapshot(s)
    local list, count = {}, 0
    repeat
      local e = s:next "snapshot"
      for _, c in ipairs(e.data.connections) do list[c.name], count = c, count + 1 end
    until not e.data.more
    return list, count
  end

  it("begins with all connections as the API has them, as an event stream that nobody may keep", function ()
    local s = watch()
    local list, count = snapshot(s)
    assert.equal(2, count)
    assert.equal("up", list.bot.state)
    assert.equal("alive", list.bot.life.verdict)
    assert.equal("waiting", list.deaf.state)
    assert.is_truthy(s.head:match "^HTTP/1.1 200")
    assert.is_truthy(s.head:lower():match "content%-type: text/event%-stream")
    assert.is_truthy(s.head:lower():match "cache%-control: no%-store")
    local summary = s:next "summary"
    assert.is_false(summary.data.well)
    assert.equal("deaf", summary.data.worst.name)
  end)

  it("tells each state change as it comes, and the journal's lines", function ()
    local s = watch()
    snapshot(s)
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    local decision = s:next("journal", function (j) return j.connection == "bot" and j.entry.kind == "decision" end)
    assert.equal(4000, decision.data.entry.cause.close_code)
    assert.equal("resume", decision.data.entry.drop)
    s:next("journal", function (j) return j.entry.kind == "state" and j.entry.to == "up" end)
    local up = s:next("state", function (c) return c.name == "bot" and c.state == "up" end)
    assert.equal(2, up.data.generation)
    assert.is_truthy(up.id:match "^%x+%-%d+$")
  end)

  it("pulses those whose numbers changed, and nobody else", function ()
    local s = watch()
    snapshot(s)
    assert.equal(0, (w:run { "status" })) -- meanwhile nothing changes
    control(peer, '{"verb":"dispatch","count":1}')
    local p = s:next("pulse", function (data) return data.connections.bot end).data
    assert.is_true(p.connections.bot.delivered >= 2)
    assert.equal("alive", p.connections.bot.life)
    assert.is_nil(p.connections.deaf)
    assert.is_truthy(p.at:match "^%d%d%d%d%-%d%d%-%d%dT")
  end)

  it("carries those alone that ?connection= names", function ()
    local s = watch "/v1/watch?connection=dea*&connection=none"
    local list, count = snapshot(s)
    assert.equal(1, count)
    assert.is_truthy(list.deaf)
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    w:up()
    assert.equal(202, (api.request(daemon, path, "POST", "/v1/connections/deaf/restart")))
    s:next("state", function (c) return c.name == "deaf" and c.state == "waiting" end)
    for _, e in ipairs(s.events) do assert.is_nil(e.text:find('"bot"', 1, true) and e.kind ~= "summary" or nil, e.text) end
  end)

  it("goes on after Last-Event-ID without a snapshot, and with one where it cannot", function ()
    local first = watch()
    snapshot(first)
    local last = first:next("summary").id
    first:close()
    streams = {}
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    w:status(function (text) return text:match '"ready_total":2' end)
    for _, options in ipairs { { head = "Last-Event-ID: " .. last .. "\r\n" }, { target = "/v1/watch?last_event_id=" .. last } } do
      local s = watch(options.target, options)
      s:next("journal", function (j) return j.entry.kind == "decision" end)
      for _, e in ipairs(s.events) do assert.are_not.equal("snapshot", e.kind) end
    end
    for _, id in ipairs { "0-1", "nonsense", last:match "^%x+" .. "-999999999" } do
      assert.equal(2, (select(2, snapshot(watch(nil, { head = "Last-Event-ID: " .. id .. "\r\n" })))), id)
    end
  end)

  it("tells of connections that come and go", function ()
    local s = watch()
    snapshot(s)
    s:next "summary"
    assert.equal(201, (api.request(daemon, path, "PUT", "/v1/connections/late", { body = { policy = "generic", url = "ws://127.0.0.1:1/late" } })))
    s:next("state", function (c) return c.name == "late" end)
    assert.equal(202, (api.request(daemon, path, "DELETE", "/v1/connections/late")))
    s:next("gone", function (g) return g.connection == "late" end)
  end)

  it("asks for a token over TCP; read is enough, and a bad query is refused", function ()
    daemon:stop()
    w:write("read.txt", "read-token-0123456789\n")
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub('listen { unix = "h.sock" }',
      'listen { unix = "h.sock", http = "127.0.0.1:0", tokens = { { secret = secret { file = "read.txt" }, scope = "read" } } }')))
    daemon = w:daemon()
    local port = daemon:says "http (127%.0%.0%.1:%d+)"
    assert.equal(401, (api.request(daemon, port, "GET", "/v1/watch")))
    assert.equal(401, (api.request(daemon, port, "GET", "/v1/summary")))
    assert.equal(400, (api.request(daemon, port, "GET", "/v1/watch?nonsense=1", { token = "read-token-0123456789" })))
    local s = watch(nil, { to = port, token = "read-token-0123456789" })
    assert.equal(2, (select(2, snapshot(s))))
    assert.equal(200, (api.request(daemon, port, "GET", "/v1/summary", { token = "read-token-0123456789" })))
  end)
end)

describe("/v1/summary", function ()
  local w, peer, daemon
  after_each(function () w:close() end)

  local function summary()
    local status, body = api.request(daemon, w.folder .. "/h.sock", "GET", "/v1/summary")
    assert.equal(200, status)
    return body
  end
  local function eventually(check)
    local found
    assert(daemon:eventually(function ()
      local body = summary()
      found = check(body) and body
      return found
    end), "never so: " .. json.encode(summary()))
    return found
  end

  it("is well while all that is wanted is up, says the worst when it is not, and when a person is needed", function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:config(peer.port)
    daemon = w:daemon()
    w:up()
    local body = eventually(function (s) return s.well end)
    assert.same({ all = 1, wanted = 1, given_up = 0, up = 1, stopped = 0, waiting = 0, queued = 0, preparing = 0, linking = 0, closing = 0 },
      body.connections)
    assert.same({ alive = 1, quiet = 0, suspect = 0, dead = 0 }, body.peers)
    assert.is_false(body.needs_person)
    assert.is_nil(body.worst)
    assert.same({}, body.weather)
    control(peer, '{"verb":"fault","upgrade":{"status":503}}')
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    body = eventually(function (s) return s.worst and s.worst.cause.kind == "upgrade_refused" end)
    assert.is_false(body.well)
    assert.is_false(body.needs_person)
    assert.equal("bot", body.worst.name)
    assert.is_true(body.worst.attempt >= 1)
    assert.equal(0, (w:run { "stop", "bot" }))
    body = eventually(function (s) return s.connections.stopped == 1 end)
    assert.is_true(body.well) -- somebody wanted that
    assert.equal(0, body.connections.wanted)
    control(peer, '{"verb":"fault","upgrade":null}')
    control(peer, '{"verb":"heal"}')
    assert.equal(0, (w:run { "start", "bot" }))
    eventually(function (s) return s.connections.up == 1 end)
    control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    body = eventually(function (s) return s.needs_person end)
    assert.is_false(body.well)
    assert.equal(1, body.connections.given_up)
    assert.equal("Authentication failed.", body.worst.cause.reason)
  end)
end)
