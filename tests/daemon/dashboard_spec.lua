-- The page at /: its bytes and headers over a real socket, then the page itself in a real browser, looking at a
-- running daemon.
local world = require "daemon_world"
local api = require "api_client"
local browser = require "browser"
local store = require "unit.store"
local json = require "dkjson"
local control = world.control

local READ, OPERATE = "read-token-0123456789", "operate-token-0123456789"
local LISTEN = [[listen { unix = "h.sock", http = "127.0.0.1:%s", tokens = {
  { secret = secret { file = "read.txt" }, scope = "read" }, { secret = secret { file = "operate.txt" }, scope = "operate" } } }]]

local function listening(w)
  w:write("read.txt", READ .. "\n")
  w:write("operate.txt", OPERATE .. "\n")
  local text = w:read "holdfast.lua"
  w:write("holdfast.lua", (text:gsub('listen { unix = "h.sock" }', function () return LISTEN:format(0) end)))
end

local VOID = { meta = true, link = true, input = true, br = true }

describe("the dashboard's bytes", function ()
  local w, daemon, to
  setup(function ()
    w = world.new()
    w:write("holdfast.lua", 'listen { unix = "h.sock" }\nconnection "deaf" { policy = "generic", url = "ws://127.0.0.1:1/" }\n')
    listening(w)
    daemon = w:daemon()
    to = daemon:says "http (127%.0%.0%.1:%d+)"
  end)
  teardown(function () w:close() end)

  local FILES = { ["/"] = "text/html", ["/dashboard/style.css"] = "text/css", ["/dashboard/words.js"] = "text/javascript",
                  ["/dashboard/data.js"] = "text/javascript", ["/dashboard/view.js"] = "text/javascript" }

  it("come without a token, with a strict policy for the browser, and may not be kept", function ()
    for path, kind in pairs(FILES) do
      local status, body, head = api.request(daemon, to, "GET", path)
      head = head:lower()
      assert.equal(200, status, path)
      assert.is_true(#body > 1000)
      assert.is_truthy(head:find("content-type: " .. kind .. "; charset=utf-8", 1, true), head)
      assert.is_truthy(head:find("cache-control: no-store", 1, true))
      assert.is_truthy(head:find("x-content-type-options: nosniff", 1, true))
      assert.is_truthy(head:find("x-frame-options: deny", 1, true))
      local policy = head:match "content%-security%-policy: ([^\r]*)"
      assert.is_truthy(policy:find("default-src 'none'", 1, true))
      for _, part in ipairs { "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'" } do
        assert.is_truthy(policy:find(part, 1, true), part)
      end
      assert.is_nil(policy:find("unsafe", 1, true))
    end
    local _, _, head = api.request(daemon, to, "GET", "/healthz")
    assert.is_nil(head:lower():find("content-security-policy", 1, true))
  end)

  it("answer HEAD with the same head and no body, and refuse other methods", function ()
    for path in pairs(FILES) do
      local _, body = api.request(daemon, to, "GET", path)
      local fd = assert(require "unit.ops".connect(to))
      local socket, got = require "unit.ops", ""
      socket.write(fd, "HEAD " .. path .. " HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert(daemon:eventually(function ()
        local piece = socket.read(fd)
        got = got .. (piece or "")
        return piece == nil
      end))
      socket.shut(fd)
      assert.is_truthy(got:match "^HTTP/1.1 200", got)
      assert.equal(#body, tonumber(got:lower():match "content%-length: (%d+)"))
      assert.is_truthy(got:find "\r\n\r\n$", got)
    end
    assert.equal(401, (api.request(daemon, to, "POST", "/")))
    assert.equal(405, (api.request(daemon, to, "POST", "/", { token = READ })))
  end)

  it("hold no data, no secret and no address of elsewhere, and no markup is made from text", function ()
    for path in pairs(FILES) do
      local _, body = api.request(daemon, to, "GET", path)
      assert.is_nil(body:find("deaf", 1, true))
      assert.is_nil(body:find(READ, 1, true))
      for url in body:gmatch "https?://[%w.]*" do assert.equal("http://www.w3.org", url) end
      assert.is_nil(body:find "[\"'(]//%w")
      for _, word in ipairs { "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage", "document.cookie" } do
        assert.is_nil(body:find(word, 1, true), path .. " has " .. word)
      end
    end
    local _, page = api.request(daemon, to, "GET", "/")
    assert.is_nil(page:find "<script>")
    assert.is_nil(page:find "<style")
    assert.is_nil(page:find "%sstyle=")
    assert.is_nil(page:find "%son%l+=")
  end)

  it("are a page whose tags close and whose names are unique", function ()
    local _, page = api.request(daemon, to, "GET", "/")
    local open, ids = {}, {}
    assert.is_truthy(page:match "^<!DOCTYPE html>\n<html lang=\"en\">")
    for slash, name, rest in page:gmatch "<(/?)(%l%w*)([^>]*)>" do
      local id = rest:match '%sid="([^"]*)"'
      if id then
        assert.is_nil(ids[id], id .. " stands twice")
        ids[id] = true
      end
      if slash == "/" then assert.equal(table.remove(open), name)
      elseif not VOID[name] then open[#open + 1] = name end
    end
    assert.equal(0, #open)
    for path, kind in pairs(FILES) do
      local _, script = api.request(daemon, to, "GET", path)
      if kind == "text/javascript" then assert.is_truthy(page:find('<script src="' .. path .. '" defer></script>', 1, true)) end
      for id in script:gmatch "%$%('([^']+)'%)" do assert.is_true(ids[id], "the page has no #" .. id) end
    end
  end)

  it("are all that answers without a token, and /v1/token says what one is good for", function ()
    for _, path in ipairs { "/v1/token", "/v1/connections", "/v1/connections/deaf", "/v1/connections/deaf/journal", "/v1/history", "/v1/connections/deaf/history", "/v1/summary", "/v1/watch", "/metrics",
                            "/dashboard", "/dashboard/", "/index.html", "/dashboard/view.js/", "/dashboard/other.js" } do
      assert.equal(401, (api.request(daemon, to, "GET", path)), path)
    end
    assert.equal(403, (api.request(daemon, to, "GET", "/", { head = "Origin: http://elsewhere.example\r\n" })))
    for token, scope in pairs { [READ] = "read", [OPERATE] = "operate" } do
      local status, body = api.request(daemon, to, "GET", "/v1/token", { token = token })
      assert.equal(200, status)
      assert.equal(scope, body.scope)
      assert.is_truthy(body.version:match "%d")
    end
  end)
end)

local in_a_browser = browser.program and describe or pending

in_a_browser("the dashboard in a browser", function ()
  local w, peer, daemon, page, to
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0", "max_concurrency=16" }
    w:config(peer.port, 'connection "deaf" { policy = "generic", url = "ws://127.0.0.1:1/", tune = { backoff = { first = "5m", most = "5m", jitter = "none" } } }')
  end)
  after_each(function () w:close() end)

  local function start(token, options)
    listening(w)
    daemon = w:daemon()
    to = daemon:says "http (127%.0%.0%.1:%d+)"
    page = browser.new(w, options)
    page:open("http://" .. to .. "/")
    page:until_true "document.getElementById('ask').open"
    page:type(token)
    page:key "Enter"
    page:until_true "document.body.dataset.live === 'yes'"
  end
  -- The text of a row, as seen.
  local function row(name)
    return ("[...document.querySelectorAll('#rows .row')].filter(r => !r.hidden && r.querySelector('.name').textContent === %q).map(r => r.innerText).join()"):format(name)
  end
  local function fine()
    assert.same({}, page.complaints)
    for _, url in ipairs(page.asked) do assert.is_truthy(url:find("http://" .. to .. "/", 1, true) == 1 or url:match "^data:", url) end
  end

  it("shows the rows, the worst first, and a change as it happens", function ()
    start(READ)
    page:until_true(row "bot" .. ".includes('up')")
    page:until_true(row "deaf" .. ".includes('connection refused')")
    page:until_true "document.getElementById('verdict').textContent === '1 of 2 not up'"
    page:until_true "[...document.querySelectorAll('#rows .row')].find(r => r.style.transform === 'translateY(0px)').querySelector('.name').textContent === 'deaf'"
    control(peer, '{"verb":"fault","upgrade":{"status":503}}')
    control(peer, '{"verb":"kick","code":4000,"reason":"<img src=x onerror=alert(1)>"}')
    page:until_true(row "bot" .. ".includes('HTTP 503')")
    page:until_true "document.getElementById('verdict').textContent === '2 of 2 not up'"
    control(peer, '{"verb":"heal"}')
    page:until_true(row "bot" .. ".includes('up')")
    -- What the peer said stands in the journal as it was said, and is no markup.
    page:eval "document.querySelector('#rows').focus()"
    page:key "/"
    page:type "bot"
    page:key "Enter"
    page:until_true "document.querySelectorAll('#rows .row:not([hidden])').length === 1"
    page:key "Enter"
    page:until_true "document.getElementById('detail').innerText.includes('<img src=x onerror=alert(1)>')"
    assert.equal(0, page:eval "document.querySelectorAll('img').length")
    page:until_true "document.querySelector('#detail polyline') && document.getElementById('detail').innerText.includes('discord, version 1')"
    assert.is_true(page:eval "[...document.querySelectorAll('button[data-verb], #reload')].every(b => b.disabled)")
    page:key "Escape"
    page:until_true "document.getElementById('detail').hidden"
    -- Pixels of more than one colour: it was up, and it was not.
    page:eval "(() => { const s = document.getElementById('span'); s.value = '900000'; s.dispatchEvent(new Event('change')) })()"
    page:until_true [[(() => { const c = document.querySelector('#rows .row:not([hidden]) canvas'), d = c.getContext('2d').getImageData(0, 9, c.width, 1).data, s = new Set();
      for (let i = 0; i < d.length; i += 4) s.add(d[i] + ',' + d[i + 1] + ',' + d[i + 2]); return s.size >= 3 })()]]
    local everything = page:eval "document.documentElement.outerHTML + JSON.stringify({ ...sessionStorage }) + JSON.stringify({ ...localStorage }) + document.cookie"
    assert.is_nil(everything:find(world.secret, 1, true))
    assert.is_nil(everything:find(OPERATE, 1, true))
    fine()
  end)

  it("gives orders with a token that may, and asks once more before it cuts", function ()
    start(OPERATE)
    page:until_true(row "bot" .. ".includes('up')")
    page:eval "[...document.querySelectorAll('#rows .row')].find(r => r.querySelector('.name').textContent === 'bot').click()"
    local function press(verb) page:eval(("document.querySelector('button[data-verb=%s]').click()"):format(verb)) end
    press "stop"
    page:until_true "document.querySelector('button[data-verb=stop]').textContent.includes('sure')"
    assert.is_truthy(page:eval(row "bot"):find("up", 1, true))
    press "stop"
    page:until_true(row "bot" .. ".includes('stopped')")
    page:until_true "!document.querySelector('button[data-verb=start]').disabled"
    press "start"
    page:until_true(row "bot" .. ".includes('up')")
    local function readies() return page:eval "Number(conns.get('bot').v.ready_total)" end
    local before = readies()
    press "restart"
    page:until_true "document.querySelector('button[data-verb=restart]').textContent.includes('sure')"
    press "restart"
    page:until_true(("conns.get('bot').v.ready_total > %d && conns.get('bot').state === 'up'"):format(before))
    page:eval "document.getElementById('reload').click()"
    page:until_true "document.getElementById('told').textContent.startsWith('reload: done')"
    fine()
  end)

  it("shows the hours before it was opened, those of an earlier process too", function ()
    local now = os.time() * 1000
    local s, journal = assert(store.open { path = w.folder .. "/h.db", wall = now, boot_ms = 1, seed = 1 }), {}
    for _, m in ipairs { { 5, "up" }, { 3, "waiting" }, { 2, "up" }, { 1, "stopped", true } } do
      journal[#journal + 1] = { "journal", connection = "bot", wall = now - m[1] * 3600000,
        bytes = json.encode { kind = 0, link = 1, file = "", text = "", from = "linking", to = m[2], cause = "closed", given_up = m[3] } }
    end
    assert.equal("applied", (s:apply(journal)))
    s:close(true)
    w:write("holdfast.lua", w:read "holdfast.lua" .. '\nstore { path = "h.db" }\n')
    start(READ)
    page:until_true(row "bot" .. ".includes('up')")
    local function seen(hours_ago, colour)
      return ([[(() => {
        const c = [...document.querySelectorAll('#rows .row')].find(r => !r.hidden && r.querySelector('.name').textContent === 'bot').querySelector('canvas');
        const d = c.getContext('2d').getImageData(Math.round(c.width * (6 - %f) / 6), 9, 1, 1).data, e = document.createElement('canvas').getContext('2d');
        e.fillStyle = colours.%s; e.fillRect(0, 0, 1, 1);
        const w = e.getImageData(0, 0, 1, 1).data;
        return d[0] === w[0] && d[1] === w[1] && d[2] === w[2];
      })()]]):format(hours_ago, colour)
    end
    page:until_true(seen(2.5, "waiting"))
    for at, colour in pairs { [5.5] = "track", [4] = "up", [1.5] = "up", [0.5] = "fatal" } do assert.is_true(page:eval(seen(at, colour)), at .. " h ago is not " .. colour) end
    page:until_true(row "bot" .. ".includes('dropped 3 h ago: closed') || " .. row "bot" .. ".includes('drops, the last 1 h ago: closed')")
    fine()
  end)

  it("is used by keyboard alone", function ()
    start(READ)
    page:until_true(row "bot" .. ".includes('up')")
    page:until_true(row "deaf" .. ".includes('connection refused')")
    local function picked() return page:eval "selected" end
    page:key "g"
    assert.equal("deaf", picked())
    page:key "j"
    assert.equal("bot", picked())
    page:key "ArrowUp"
    assert.equal("deaf", picked())
    page:key "ArrowDown"
    assert.equal("bot", picked())
    page:key "Enter"
    page:until_true "!document.getElementById('detail').hidden && document.querySelector('#detail h2').textContent.includes('bot')"
    page:key "k"
    page:until_true "document.querySelector('#detail h2').textContent.includes('deaf') && document.getElementById('detail').innerText.includes('the platform’s')"
    page:key "Escape"
    page:until_true "document.getElementById('detail').hidden"
    page:key "u"
    page:until_true "document.querySelectorAll('#rows .row:not([hidden])').length === 1"
    page:key "u"
    page:key "/"
    assert.equal("filter", page:eval "document.activeElement.id")
    page:type "bot"
    page:until_true "document.getElementById('count').textContent === '1 of 2 connections'"
    page:key "Escape"
    page:until_true "document.getElementById('count').textContent === '2 connections' && document.activeElement.id === 'rows'"
    fine()
  end)

  it("survives the daemon's restart, and a token that is no longer known", function ()
    start(READ)
    page:until_true(row "bot" .. ".includes('up')")
    w:write("holdfast.lua", (w:read "holdfast.lua":gsub("127%.0%.0%.1:0", to))) -- where a page finds it again
    daemon:stop()
    page:until_true "document.body.dataset.live === 'no'"
    daemon = w:daemon()
    page:until_true "document.body.dataset.live === 'yes'"
    page:until_true(row "bot" .. ".includes('up')")
    control(peer, '{"verb":"fault","upgrade":{"status":503}}')
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    page:until_true(row "bot" .. ".includes('HTTP 503')")
    daemon:stop()
    w:write("read.txt", "another-token-0123456789\n")
    daemon = w:daemon()
    page:until_true "document.getElementById('ask').open && document.getElementById('refused').textContent.includes('not known')"
    page:type "another-token-0123456789"
    page:key "Enter"
    page:until_true(row "deaf" .. ".includes('connection refused')")
    assert.same({}, page.complaints)
  end)

  it("has rows for what is visible alone, however many connections there are", function ()
    -- A configuration may take only so much CPU time, and under a sanitizer each connection takes more.
    local many, more = world.build:find "san$" and 1200 or 5000, {}
    for i = 1, many do
      more[i] = ('connection "far-%04d" { policy = "generic", url = "ws://127.0.0.1:1/%04d", tune = { backoff = { first = "5m", most = "5m" } } }'):format(i, i)
    end
    w:write("holdfast.lua", w:read "holdfast.lua" .. table.concat(more, "\n"))
    start(READ)
    page:until_true(("document.getElementById('count').textContent === '%d connections'"):format(many + 2))
    page:until_true "document.querySelectorAll('#rows .row').length > 10"
    page:eval "document.getElementById('rows').scrollTop = 1e9"
    page:until_true "[...document.querySelectorAll('#rows .row:not([hidden]) .name')].some(e => e.textContent === 'bot')"
    assert.is_true(page:eval "document.querySelectorAll('#rows .row').length < 80")
    page:eval "document.getElementById('filter').focus()"
    page:type "far-1147"
    page:until_true(("document.getElementById('count').textContent === '1 of %d connections'"):format(many + 2))
    -- A whole redraw and a whole new order, on a machine that has other work.
    local took = page:eval "(() => { document.getElementById('filter').value = ''; const t = performance.now(); document.getElementById('filter').dispatchEvent(new Event('input')); return performance.now() - t })()"
    assert.is_true(took < 500, took .. " ms")
    fine()
  end)
end)
