-- Pictures of the dashboard, for people: `make screenshots` writes build/screenshots/*.png and, as text with its
-- colours, what `holdfast status` and `holdfast why` say in the same moments. Forty bots of five platforms, whose peers
-- run on real ports; the hours before this one are written into the store beforehand. Not a test: it fails when the page
-- does not come to the situation, and it judges nothing.
local world = require "daemon_world"
local browser = require "browser"
local process = require "unit.process"
local store = require "unit.store"
local json = require "dkjson"
local control = world.control

local OUT = os.getenv "HOLDFAST_SHOTS" or "build/screenshots"
local TOKEN = "operate-token-0123456789"
local NAMES = { "support", "music", "moderation", "welcome", "tickets", "stats", "polls", "translate", "games", "news", "archive", "billing", "search", "standup" }
local PLATFORMS = {
  { name = "discord", count = 14, options = { "identify_gap=0", "max_concurrency=16", "events_every=1500", "heartbeat_interval=3000" },
    keys = 'token = secret { file = "creds/NAME" }, intents = 513, api = "https://127.0.0.1:PORT/api/v10"', token = "bot%02d." .. world.secret },
  { name = "slack", count = 10, options = { "events_every=4000" },
    keys = 'app_token = secret { file = "creds/NAME" }, api = "https://127.0.0.1:PORT/api"', token = "xapp-1-A%02d-" .. world.secret },
  { name = "feishu", count = 6, options = { "events_every=3000" },
    keys = 'app_id = "cli_%016x", app_secret = secret { file = "creds/NAME" }, domain = "https://127.0.0.1:PORT"', token = "%02d" .. world.secret },
  { name = "qqbot", count = 4, options = { "events_every=2000", "identify_gap=0" },
    keys = 'app_id = "qq%d", client_secret = secret { file = "creds/NAME" }, token_url = "https://127.0.0.1:PORT/app/getAppAccessToken", api = "https://127.0.0.1:PORT"', token = "%02d" .. world.secret },
  { name = "wukongim", count = 6, options = { "events_every=2500" },
    keys = 'bot_token = secret { file = "creds/NAME" }, api = "https://127.0.0.1:PORT"', token = "bf_" .. world.secret .. "_%016d" },
}

local w = world.new()
local peers, daemon, page, connections = {}, nil, nil, {}
os.execute("mkdir -p '" .. OUT .. "'")

local function pass(ms)
  local until_ms = process.now_ms() + ms
  while process.now_ms() < until_ms do
    for _, p in pairs(peers) do p:pump(0) end
    daemon:pump(5)
    if page then page.run:pump(5) page:take() end
  end
end

-- The day so far, as the journal of an earlier process: short drops, one platform's outage, one night of storms.
local function hours()
  local now = os.time() * 1000
  local s = assert(store.open { path = w.folder .. "/h.db", wall = now, boot_ms = 1, seed = 1 })
  local seed, requests = 7, {}
  local function random(n)
    seed = (seed * 1103515245 + 12345) % 2147483648
    return math.floor(seed / 65536) % n
  end
  local function state(name, minutes, to, cause, given_up)
    requests[#requests + 1] = { "journal", connection = name, wall = math.floor(now - minutes * 60000),
      bytes = json.encode { kind = 0, link = 1, file = "", from = "linking", to = to, cause = cause or "none", given_up = given_up, text = "linking -> " .. to } }
  end
  for _, c in ipairs(connections) do
    local marks = { { 600 - random(5), "up" } }
    local function down(from, lasts, cause) marks[#marks + 1] = { from, "waiting", cause } marks[#marks + 1] = { from - lasts, "up" } end
    local at = 560 - random(200)
    if c.platform.name == "slack" then down(222 - random(3) / 3, 11, "upgrade_refused") at = 200 - random(60) end
    for _ = 1, random(3) do
      if at < 12 then break end
      down(at, 0.2 + random(30) / 10, "reset")
      at = at - 40 - random(120)
    end
    if c.name == "discord-music" then for i = 0, 14 do down(170 - i * 4, 0.4, "closed") end end
    table.sort(marks, function (a, b) return a[1] > b[1] end)
    for _, m in ipairs(marks) do state(c.name, m[1], m[2], m[3]) end
  end
  for _, c in ipairs(connections) do state(c.name, 6.2, "stopped", "shutdown") end
  table.sort(requests, function (a, b) return a.wall < b.wall end)
  for i = 1, #requests, 100 do
    local part = {}
    for k = i, math.min(i + 99, #requests) do part[#part + 1] = requests[k] end
    assert(s:apply(part) == "applied")
  end
  s:close(true)
end

local function start()
  local lines = { ('listen { unix = "h.sock", http = "127.0.0.1:0", tokens = { { secret = secret { file = "t" }, scope = "operate" } } }\nstore { path = "h.db" }') }
  w:write("t", TOKEN .. "\n")
  for _, p in ipairs(PLATFORMS) do
    local words = { "peer", p.name, "--port", "0", "--ca-out", p.name .. ".pem" }
    for _, o in ipairs(p.options) do words[#words + 1] = "--option" words[#words + 1] = o end
    local run = w:start(words)
    run.port = run:says "listening on https?://127%.0%.0%.1:(%d+)"
    peers[p.name] = run
    for i = 1, p.count do
      local name = p.name .. "-" .. NAMES[i]
      w:write("creds/" .. name, p.token:format(i) .. "\n")
      local keys = p.keys:gsub("PORT", run.port):gsub("NAME", name)
      if keys:find "%%" then keys = keys:format(i) end
      lines[#lines + 1] = ('connection "%s" { policy = "%s", ca_file = "%s.pem", %s }'):format(name, p.name, p.name, keys)
      connections[#connections + 1] = { name = name, platform = p }
    end
  end
  hours()
  w:write("holdfast.lua", table.concat(lines, "\n") .. "\n")
  daemon = w:daemon()
end

local function look(to)
  page = browser.new(w, { width = 1440, height = 860 })
  page:open("http://" .. to .. "/")
  page:until_true "document.getElementById('ask').open"
  page:type(TOKEN)
  page:key "Enter"
  page:until_true "document.body.dataset.live === 'yes'"
end

local function said(file, words, columns)
  -- A terminal of its own, so that there are colours.
  local command = ("HOLDFAST_LUA='%s' script -qec 'stty cols %d rows 60; %s %s' /dev/null"):format(os.getenv "HOLDFAST_LUA" or "", columns or 150, world.binary, words)
  local run = w:start({ "-c", command }, { program = "/bin/sh", env = { TERM = "xterm" } })
  run.process:close_input()
  run:wait()
  local f = assert(io.open(OUT .. "/" .. file .. ".ansi", "w"))
  f:write((run.out:gsub("\r\n", "\n")))
  f:close()
end

local function shot(name, how)
  page:dark(how and how.dark or false)
  pass(1300)
  page:shot(OUT .. "/" .. name .. ".png")
end

local function opened(name)
  page:eval(("(() => { pick(%q); open(%q) })()"):format(name, name))
  pass(2500)
end

local function situation(name, worst)
  shot(name .. "-light")
  shot(name .. "-dark", { dark = true })
  said(name .. "-status", "status")
  said(name .. "-why", "why " .. worst)
  opened(worst)
  shot(name .. "-detail-light")
  shot(name .. "-detail-dark", { dark = true })
  page:key "Escape"
  page:size(390, 800, true)
  shot(name .. "-phone")
  page:size(1440, 860)
  page:dark(false)
end

start()
local to = daemon:says "http (127%.0%.0%.1:%d+)"
look(to)
page:until_true("document.getElementById('verdict').textContent === 'all 40 up'", 120000)
pass(25000)
situation("1-well", "discord-music")

control(peers.slack, '{"verb":"fault","open":{"status":503},"upgrade":{"status":503}}')
control(peers.slack, '{"verb":"abort"}')
page:until_true("document.getElementById('verdict').textContent.startsWith('10 of 40')", 60000)
page:until_true("document.getElementById('weather').innerText.includes('slack')", 60000)
pass(20000)
situation("2-platform-down", "slack-welcome")

control(peers.slack, '{"verb":"heal"}')
page:until_true("document.getElementById('verdict').textContent === 'all 40 up'", 240000)
control(peers.wukongim, '{"verb":"rival","lasts":600000,"every":700}')
page:until_true("document.getElementById('verdict').textContent.startsWith('6 of 40')", 60000)
pass(50000)
situation("3-kick-storm", "wukongim-support")
assert(#page.complaints == 0, json.encode(page.complaints))
daemon:stop()

-- Five thousand, and how long the page takes with them.
local many = { 'listen { unix = "h.sock", http = "127.0.0.1:0", tokens = { { secret = secret { file = "t" }, scope = "operate" } } }',
  'for i = 1, 5000 do\n  connection(("far-%04d"):format(i)) { policy = "generic", url = ("ws://127.0.0.1:1/%04d"):format(i), tune = { backoff = { first = "5m", most = "5m" } } }\nend' }
w:write("holdfast.lua", table.concat(many, "\n") .. "\n")
daemon = w:daemon()
to = daemon:says "http (127%.0%.0%.1:%d+)"
page:open("http://" .. to .. "/")
page:until_true "document.readyState === 'complete' && document.getElementById('ask') !== null"
pass(300)
if page:eval "document.getElementById('ask').open" then
  page:type(TOKEN)
  page:key "Enter"
end
local begun = process.now_ms()
page:until_true("document.querySelectorAll('#rows .row').length > 10", 60000)
local first = process.now_ms() - begun
page:until_true("document.getElementById('count').textContent === '5000 connections'", 60000)
local all = process.now_ms() - begun
local redraw = page:eval "(() => { const t = performance.now(); fresh(); return performance.now() - t })()"
local one = page:eval "(() => { const c = conns.get('far-0001'), t = performance.now(); take(c.v); draw(false); return performance.now() - t })()"
print(("5,000 connections: first rows after %.0f ms, all after %.0f ms; a whole new order and redraw %.0f ms, one update %.1f ms"):format(first, all, redraw, one))
pass(3000)
shot "4-five-thousand-light"
daemon:stop()
w:close()
print("pictures and texts are in " .. OUT)
