-- Servers that repeat what they were sent: the token, in every word that a server can say and a policy can quote. It
-- stands in no log, journal, status or stream of the real binary. (What the world checks when it closes: none
-- of its processes ever said the marked secret, and no file holds it but the spec's own.)
local json = require "dkjson"
local api = require "api_client"
local ops = require "unit.ops"
local daemon_world = require "daemon_world"
local wire_world = require "wire_world"

local TOKEN, SECRET = daemon_world.token, daemon_world.secret

local POLICY = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "trusting",
  about    = "sends its token in every way, and quotes what it hears",
  options  = {
    url   = { type = "url", required = true },
    token = { type = "secret", required = true, public = "^[^.]+" },
    asks  = { type = "string", default = "" },
  },
  identity = { "url", "token" },
  account  = { "token" },
  frames   = { codec = "json", take = { op = "op" }, deliver = { op = 0 } },
  classify = { { any = true, verdict = "resume" } },
  prepare  = function (conn)
    local o = conn.options
    if o.asks ~= "" then
      local res, name, text = conn:http { url = o.url:gsub("^ws", "http") .. o.asks, headers = { Authorization = "Bearer " .. o.token } }
      if not res then conn:fail("unreachable", { reason = name .. ": " .. text }) end
      conn:warn("it said " .. res.body)
      conn:log("it said " .. res.body)
      conn:fail("refused", { reason = "it said " .. res.body })
    end
    return { url = o.url .. "?ticket=" .. o.token, headers = { Authorization = "Bearer " .. o.token } }
  end,
  greet    = function (conn)
    conn:send { token = conn.options.token }
    local m = conn:await({ op = 10 })
    if m and m.raise then error("it said " .. m.raise) end
    if m and m.close then conn:close("it said " .. m.close) end
    if m and m.fail then conn:fail("it_said", m.fail) end
  end,
}
]]

local UPGRADE = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

local function close(code, reason)
  local payload = string.char(math.floor(code / 256), code % 256) .. reason
  return "\136" .. string.char(#payload) .. payload
end
local function text(t) return "\129" .. string.char(#t) .. t end
local function answers(bytes) return { { "request" }, { "write", bytes }, { "end" } } end
local function says(bytes) return { { "upgrade" }, { "write", bytes }, { "end" } } end

-- The server's steps, and a word of the cause that shows that it was understood.
local SERVERS = {
  { "in the status line of a refusal", answers("HTTP/1.1 401 no user " .. TOKEN .. "\r\nContent-Length: 0\r\n\r\n"), "no user <DISCORD_TOKEN>" },
  { "in a status line cut off in the token", answers("HTTP/1.1 401 " .. ("x"):rep(100) .. " " .. TOKEN:sub(1, 14) .. "\r\nContent-Length: 0\r\n\r\n"), "<DISCORD_TOKEN>" },
  { "in the body of a refusal", answers("HTTP/1.1 403 Forbidden\r\nContent-Length: " .. #TOKEN .. "\r\n\r\n" .. TOKEN), "Forbidden" },
  { "in a redirect", answers("HTTP/1.1 302 Found\r\nLocation: wss://elsewhere.example/?ticket=" .. TOKEN .. "\r\nContent-Length: 0\r\n\r\n"), "Found" },
  { "in a flood of headers", answers(UPGRADE .. ("X-Echo: " .. TOKEN .. "\r\n"):rep(2000)), "16 KiB" },
  { "in the name of a header", answers(UPGRADE .. TOKEN .. ": yes\r\n" .. TOKEN .. "\r\n\r\n"), "malformed" },
  { "as Sec-WebSocket-Accept", answers(UPGRADE .. "Sec-WebSocket-Accept: " .. TOKEN .. "\r\n\r\n"), "Sec-WebSocket-Accept is wrong" },
  { "in place of HTTP", answers(TOKEN .. "\r\n\r\n"), "not HTTP/1" },
  { "as a subprotocol", answers(UPGRADE .. "Sec-WebSocket-Protocol: x" .. TOKEN .. "\r\n\r\n"), "subprotocol" },
  { "in the reason of a close", says(close(4001, "bad token " .. TOKEN)), "bad token <DISCORD_TOKEN>" },
  { "twice in the reason of a close", says(close(4001, TOKEN .. "," .. TOKEN)), "<DISCORD_TOKEN>,<DISCORD_TOKEN>" },
  { "cut off in the reason of a close", says(close(4001, ("x"):rep(107) .. " " .. TOKEN:sub(1, 15))), "<DISCORD_TOKEN>" },
  { "in the reason of a close that may not be sent", says(close(1005, "bad token " .. TOKEN)), "close code that must not be sent: 1005" },
  { "in a reason that is not UTF-8", says(close(4001, TOKEN .. "\255")), "close reason is not UTF-8" },
  { "in a text that is not UTF-8", says(text(TOKEN .. "\255")), "text message is not UTF-8" },
  { "in a greeting whose hook raises it", says(text(('{"op":10,"raise":"%s"}'):format(TOKEN))), "it said <DISCORD_TOKEN>" },
  { "in a greeting whose hook closes with it", says(text(('{"op":10,"close":"%s"}'):format(TOKEN))), "it said <DISCORD_TOKEN>" },
  { "in a greeting whose hook fails with it", says(text(('{"op":10,"fail":"%s"}'):format(TOKEN))), "<DISCORD_TOKEN>" },
  { "in the body of a call", answers("HTTP/1.1 401 Unauthorized\r\nContent-Length: " .. #TOKEN .. "\r\n\r\n" .. TOKEN), "it said <DISCORD_TOKEN>", "/call" },
}

describe("a server that repeats the token", function ()
  local w, s, run
  setup(function ()
    wire_world.setup()
    w, s = daemon_world.new(), wire_world.new()
    w:write("policies/trusting.lua", POLICY)
    local lines = { 'listen { unix = "h.sock" }', 'policies { path = "policies" }' }
    for i, server in ipairs(SERVERS) do
      local raw = s:raw(server[2])
      lines[#lines + 1] = ([[connection "bot%d" { policy = "trusting", url = "%s/", asks = "%s",
  token = secret { env = "DISCORD_TOKEN" }, tune = { backoff = { first = "1m", most = "1m", jitter = "none" }, limits = { greeting = "3s" } } }]])
        :format(i, raw.ws, server[4] or "")
    end
    w:write("holdfast.lua", table.concat(lines, "\n"))
    run = w:daemon()
  end)
  teardown(function ()
    run:stop()
    w:close()
    wire_world.teardown()
  end)

  -- Cut off, it is still too much.
  local function shows_none(all)
    for length = #TOKEN, 12, -1 do
      local at = all:find(TOKEN:sub(1, length), 1, true)
      assert(not at, at and all:sub(math.max(1, at - 100), at + 60))
    end
    assert.is_nil(all:find(SECRET, 1, true))
  end

  for i, server in ipairs(SERVERS) do
    it(server[1] .. " is quoted without it, wherever an operator looks", function ()
      local name = "bot" .. i
      w:status(function (t) return t:match '"cause":%s*{' end, { name })
      local all = {}
      for _, args in ipairs { { "status" }, { "status", name }, { "status", "--json", name }, { "why", name }, { "why", "--all", name },
        { "why", "--json", name } } do
        local code, asked = w:run(args)
        assert.are.equal(0, code)
        all[#all + 1] = asked.out .. asked.err
      end
      local text_of_all = table.concat(all, "\n")
      assert(text_of_all:find(server[3], 1, true), ("%q is not in\n%s"):format(server[3], all[4]))
      shows_none(text_of_all)
    end)
  end

  it("is not in what the daemon logs and streams either", function ()
    local here = io.popen("pwd"):read "*l"
    local socket = (w.folder:match "^/" and "" or here .. "/") .. w.folder .. "/h.sock"
    local tail = w:start { "tail", "--json" }
    tail:says "hello"
    local watch, watched = assert(ops.connect(socket)), ""
    ops.write(watch, "GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    w:run { "restart", "bot10", "--wait", "500ms" } -- it never comes up
    tail:says "bad token <DISCORD_TOKEN>"
    tail:stop()
    assert(run:eventually(function ()
      watched = watched .. (ops.read(watch) or "")
      return watched:find '"entry"' and watched:find("bad token <DISCORD_TOKEN>", 1, true)
    end), "nothing of it was watched: " .. watched)
    ops.shut(watch)
    shows_none(watched)
    local all = {}
    for _, path in ipairs { "/v1/connections", "/v1/connections/bot10", "/v1/connections/bot10/journal", "/v1/connections/bot10/history", "/v1/history", "/v1/summary", "/metrics" } do
      local status, body = api.request(run, socket, "GET", path)
      assert.are.equal(200, status)
      all[#all + 1] = type(body) == "table" and json.encode(body) or body
    end
    all = table.concat(all)
    assert.is_truthy(all:find "bad token")
    run:pump(50)
    assert.is_true(#run.err + #run.out > 1000)
    shows_none(all .. tail.out .. tail.err .. run.out .. run.err)
  end)
end)
