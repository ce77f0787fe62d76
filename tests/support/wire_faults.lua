-- Every fault of the table: how it is provoked on real sockets, what it must be called, and how it is healed. All
-- connections go by way of one relay, `front`: healed means that it leads to a peer that is well again. A row is
--   { "the fault", stage, kind, provoke = function (c) ... return heal end,
--     name = "its own name", within = ms until it is noticed, stays = true when only an operator starts it again }
-- and c is { s, front, good, name, url, dial(options), up(options), begins() }, the last said when a fault of an up
-- link begins. A row of the table that people read is written
-- to the file HOLDFAST_WIRE_REPORT; tests/support/fault_table.sh makes Markdown of it.
local assert = require "luassert"
local world = require "wire_world"

local M = {}

local HELLO = "\129\9{\"op\":10}"
local UPGRADE = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
local NAME = "front.holdfast.test"

local function be(n, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

-- ---- ways to provoke ---------------------------------------------------------------------------------------

-- A raw server behind the front; TLS unless it says otherwise.
local function behind(c, steps)
  if steps.tls == nil then steps.tls = true end
  local full = { tls = steps.tls }
  if steps.tls then full[1] = { "tls" } end
  for _, step in ipairs(steps) do full[#full + 1] = step end
  local raw = c.s:raw(full)
  c.front:leads_to(raw)
  return raw
end

local function certificate(tls)
  return function (c)
    behind(c, { tls = tls, { "upgrade" }, { "write", HELLO }, { "quiet" } })
    c.dial()
  end
end

local function line(faults)
  return function (c)
    c.front:set(faults)
    c.dial()
  end
end

-- The upgrade is answered with these bytes, and then so.
local function answered(bytes, ending)
  return function (c)
    behind(c, { { "request" }, { "write", bytes }, ending or { "end" } })
    c.dial()
  end
end

local function refused(status, more)
  return answered(("HTTP/1.1 %s\r\nContent-Length: 0\r\n%s\r\n"):format(status, more or ""))
end

-- Discord's peer itself does it, to a connection of Discord's policy that is not up yet.
local function discord_answers(faults, options)
  return function (c)
    c.warm()
    c.good:fault(faults)
    c.discord(options)
    return function () c.good:heal() end
  end
end

local function via_proxy(answer, faults)
  return function (c)
    local proxy = c.s:proxy { answer = answer }
    proxy:set(faults or {})
    c.dial { proxy = proxy:named() }
    return function ()
      proxy:set {}
      c.s.w:relay_proxy(proxy.number, {})
    end
  end
end

-- An up link's server sends these bytes.
local function sends(bytes, ending)
  return function (c)
    local raw = behind(c, { { "upgrade" }, { "write", HELLO }, { "go" }, { "write", bytes }, ending or { "end" } })
    c.up { tune = { alive = { ping = "30s", silence = "60s" } } }
    c.begins()
    raw.go()
  end
end
local function ends(step) return sends("", step) end
local function closes(code, reason)
  local payload = code and be(code, 2) .. (reason or "") or ""
  return sends("\136" .. string.char(#payload) .. payload)
end

-- An up link of Discord's policy, and a control of its peer.
local function discord_told(verb, argument, options)
  return function (c)
    c.discord_up(options)
    c.begins()
    c.good:control(verb, argument)
  end
end
local function discord_line(faults)
  return function (c)
    c.discord_up()
    c.s:run_until(function () return c.s:view(c.name).beats_answered >= 1 end)
    c.begins()
    c.front:live(faults)
    c.front:set {}
  end
end

-- ---- faults while dialling ---------------------------------------------------------------------------------

local CONNECTING, LIMIT = { 400, 1500 }, { 400, 1500 }

M.dialling = {
  { "bootstrap call: 401", "preparing", "failed", name = "gateway_refused", stays = true,
    provoke = discord_answers { http = { status = 401 } } },
  { "bootstrap call: 404", "preparing", "failed", name = "gateway_refused", stays = true,
    provoke = discord_answers { http = { status = 404 } } },
  { "bootstrap call: 403", "preparing", "failed", name = "gateway_refused", slow = true,
    provoke = discord_answers { http = { status = 403 } } },
  { "bootstrap call: 429, Retry-After 1 s", "preparing", "failed", name = "gateway_refused",
    provoke = discord_answers { http = { status = 429, headers = { ["Retry-After"] = "1" } } } },
  { "bootstrap call: 503", "preparing", "failed", name = "gateway_refused",
    provoke = discord_answers { http = { status = 503, body = "upstream connect error" } } },
  { "bootstrap call: 200 with HTML", "preparing", "failed", name = "gateway_answer",
    provoke = discord_answers { http = { status = 200, body = "<html>Maintenance</html>" } } },
  { "bootstrap call: never answered (limit 2 s)", "preparing", "failed", name = "gateway_unreachable", within = { 1900, 3500 },
    provoke = discord_answers { silent_http = true } },
  { "bootstrap call: nobody listens", "preparing", "failed", name = "gateway_unreachable", provoke = function (c)
      c.front:set { refuse = true }
      c.discord { api = c.front_http }
    end },
  { "bootstrap call: reset", "preparing", "failed", name = "gateway_unreachable", provoke = function (c)
      c.front:set { reset = true }
      c.discord { api = c.front_http }
    end },
  { "bootstrap call: leads to a host that is not the platform's", "preparing", "address", provoke = function (c)
      world.lead(c.good, "wss://gateway.elsewhere.example")
      c.discord()
      return function () c.good:heal() end
    end },
  { "policy: prepare raises", "preparing", "hook", provoke = function (c)
      c.dial { policy = (world.PROBE:gsub("return { url = conn.options.url }", 'error "no idea"')) }
      return function () c.swap() end
    end },

  { "name does not resolve", "resolving", "resolve", within = { 0, 5000 }, provoke = function (c)
      c.dial { url = c.url:gsub("127%.0%.0%.1", "front.holdfast.invalid") }
      return function () c.s:pretend "front.holdfast.invalid" end
    end },
  { "name server answers after 3 s (limit 500 ms)", "resolving", "timeout", within = LIMIT, provoke = function (c)
      local name = "late-3000.holdfast.test"
      c.dial { url = c.url:gsub("127%.0%.0%.1", name), tune = { limits = { resolve = "500ms" } } }
      return function () c.s:pretend(name) end
    end },
  { "nobody listens", "connecting", "refused", provoke = line { refuse = true } },
  { "nobody answers the SYN (limit 500 ms)", "connecting", "timeout", within = CONNECTING, provoke = function (c)
      local port = c.s:silent_port()
      c.dial { url = c.url:gsub(":%d+/", (":%d/"):format(port)) }
      return function ()
        c.s.w:silent_end()
        c.s.w:relay(c.good.port, port)
      end
    end },
  { "proxy: 407", "connecting", "proxy", provoke = via_proxy "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n" },
  { "proxy: 502", "connecting", "proxy", provoke = via_proxy "HTTP/1.1 502 Bad Gateway\r\n\r\n" },
  { "proxy: speaks something else", "connecting", "proxy", provoke = via_proxy "SSH-2.0-OpenSSH_9.2\r\n\r\n" },
  { "proxy: nobody listens", "connecting", "proxy", provoke = via_proxy("", { refuse = true }) },
  { "proxy: silent (limit 500 ms)", "connecting", "timeout", within = LIMIT, provoke = via_proxy("", { mute = true }) },

  { "certificate: unknown CA", "securing", "certificate", provoke = function (c)
      local other = c.s:peer("discord", {})
      c.front:leads_to(other)
      c.dial { ca = c.good.ca }
    end },
  { "certificate: another name", "securing", "certificate", provoke = certificate { names = "DNS:elsewhere.example" } },
  { "certificate: expired", "securing", "certificate", provoke = certificate { starts = -7200, ends = -3600 } },
  { "certificate: not valid yet", "securing", "certificate", provoke = certificate { starts = 3600, ends = 7200 } },
  { "certificate: intermediates not sent", "securing", "certificate", provoke = certificate { chain = "missing" } },
  { "certificate: one intermediate missing", "securing", "certificate", provoke = certificate { chain = "gap" } },
  { "certificate: leaf not first", "securing", "certificate", provoke = certificate { chain = "leaf_last" } },
  { "plain text on a TLS port", "securing", "tls", provoke = function (c)
      behind(c, { tls = false, { "write", "HTTP/1.1 400 Bad Request\r\n\r\n" }, { "end" } })
      c.dial()
    end },
  { "TLS alert 40 by the server", "securing", "tls", provoke = function (c)
      behind(c, { tls = false, { "write", "\21\3\3\0\2\2\40" }, { "end" } })
      c.dial()
    end },
  { "TLS: a bit turned over in the handshake", "securing", "tls", provoke = line { corrupt_down = true } },
  { "reset in the TLS handshake", "securing", "reset", provoke = line { reset_down = 300 } },
  { "end of stream in the TLS handshake", "securing", "eof", provoke = line { fin_down = 300 } },
  { "silent after TCP (limit 500 ms)", "securing", "timeout", within = LIMIT, provoke = line { mute = true } },
  { "black hole in the TLS handshake (limit 500 ms)", "securing", "timeout", within = LIMIT, provoke = line { black_hole = true } },

  { "upgrade: 200", "upgrading", "upgrade_refused", provoke = refused "200 OK" },
  { "upgrade: 302", "upgrading", "upgrade_refused", provoke = refused("302 Found", "Location: https://elsewhere.example/\r\n") },
  { "upgrade: 401", "upgrading", "upgrade_refused", provoke = refused "401 Unauthorized" },
  { "upgrade: 404", "upgrading", "upgrade_refused", provoke = refused "404 Not Found" },
  { "upgrade: 429, Retry-After 1 s", "upgrading", "upgrade_refused", provoke = refused("429 Too Many Requests", "Retry-After: 1\r\n") },
  { "upgrade: 503", "upgrading", "upgrade_refused", provoke = refused "503 Service Unavailable" },
  { "upgrade: 503, its body never ends (limit 500 ms)", "upgrading", "timeout", within = LIMIT,
    provoke = answered "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5000\r\n\r\npart" },
  { "upgrade: no HTTP", "upgrading", "upgrade_bad", provoke = answered "SSH-2.0-OpenSSH_9.2\r\n\r\n" },
  { "upgrade: wrong Sec-WebSocket-Accept", "upgrading", "upgrade_bad",
    provoke = answered(UPGRADE .. "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n") },
  { "upgrade: no Sec-WebSocket-Accept", "upgrading", "upgrade_bad", provoke = answered(UPGRADE .. "\r\n") },
  { "upgrade: an extension that was not asked for", "upgrading", "upgrade_bad",
    provoke = answered(UPGRADE .. "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n") },
  { "upgrade: 200 KB of headers", "upgrading", "upgrade_bad",
    provoke = answered(UPGRADE .. ("X-Filler: " .. ("f"):rep(1000) .. "\r\n"):rep(200)) },
  { "upgrade: end of stream in the head", "upgrading", "eof", provoke = answered(UPGRADE, { "notify" }) },
  { "upgrade: reset", "upgrading", "reset", provoke = answered(UPGRADE, { "reset" }) },
  { "upgrade: never answered (limit 500 ms)", "upgrading", "timeout", within = LIMIT, provoke = answered "" },
  { "TLS alert 116: a client's certificate is wanted", "upgrading", "tls", provoke = function (c)
      behind(c, { tls = { asks_client = true }, { "upgrade" }, { "quiet" } })
      c.dial()
    end },

  { "greeting: HELLO never comes (limit 800 ms)", "greeting", "timeout", within = { 700, 1800 },
    provoke = discord_answers { silent_hello = true } },
  { "greeting: op 7 for HELLO", "greeting", "ended", name = "reconnect", provoke = discord_answers { op7_for_hello = 99 } },
  { "greeting: op 9 to IDENTIFY", "greeting", "ended", name = "session_invalid", provoke = discord_answers { invalid_identify = true } },
  { "greeting: IDENTIFY never answered (limit 800 ms)", "greeting", "timeout", within = { 700, 1800 },
    provoke = discord_answers { no_ready = true } },
  { "greeting: close 4004", "greeting", "closed", stays = true, provoke = discord_answers { close_after_identify = 4004 } },
  { "greeting: end of stream after IDENTIFY", "greeting", "eof", provoke = discord_answers { close_after_identify = -1 } },
  { "greeting: RESUME never answered (limit 800 ms)", "greeting", "timeout", within = { 700, 3000 }, provoke = function (c)
      c.discord_up()
      c.good:fault { no_resumed = 99 }
      c.good:control "abort"
      c.s:ending(c.name)
      return function () c.good:heal() end
    end },
  { "greeting: a bomb of 256 MiB, limit 1 MiB", "greeting", "too_big", within = { 0, 3000 }, provoke = function (c)
      local packed = world.wire.deflate("zstd-stream", { 256 * 1024 * 1024 })[1]
      local raw = behind(c, { { "upgrade" }, { "write", "\130" .. (#packed < 65536 and "\126" .. be(#packed, 2)
        or "\127" .. be(#packed, 8)) .. packed }, { "end" } })
      world.lead(c.good, c.front.ws)
      c.discord { compress = "zstd-stream", tune = { sizes = { message = "1MiB" } } }
      return function () return raw end
    end },
}

-- ---- faults while up ---------------------------------------------------------------------------------------

M.up = {
  { "close without a code", "ready", "closed", close = 1005, provoke = closes() },
  { "end of stream without a close frame", "ready", "eof", provoke = ends { "shutdown" } },
  { "close_notify without a close frame", "ready", "eof", provoke = ends { "notify" } },
  { "reset", "ready", "reset", provoke = ends { "reset" } },
  { "line cut in the middle of a frame", "ready", "eof", provoke = sends("\129\100half", { "shutdown" }) },
  { "TLS: a bit turned over downwards", "ready", "tls", provoke = function (c)
      local raw = behind(c, { { "upgrade" }, { "write", HELLO }, { "go" }, { "write", HELLO }, { "end" } })
      c.up()
      c.front:live { corrupt_down = true }
      c.front:set {}
      c.begins()
      raw.go()
    end },
  { "TLS: a bit turned over upwards, seen at our next ping (1 s)", "ready", "tls", within = { 0, 2500 }, provoke = function (c)
      behind(c, { { "upgrade" }, { "write", HELLO }, { "end" } })
      c.up { tune = { alive = { ping = "1s", silence = "5s" } } }
      c.begins()
      c.front:live { corrupt_up = true }
      c.front:set {}
    end },

  { "a heartbeat stays unanswered (every 500 ms)", "ready", "beat", within = { 0, 1500 }, provoke = function (c)
      c.discord_up()
      c.begins()
      c.good:fault { no_ack = true }
      return function () c.good:heal() end
    end },
  { "black hole, noticed by the heartbeat (every 500 ms)", "ready", "beat", within = { 0, 1700 }, provoke = discord_line { black_hole = true } },
  { "half-open: what we send is lost", "ready", "beat", within = { 0, 1700 }, provoke = discord_line { drop_up = true } },
  { "half-open: what comes is lost", "ready", "beat", within = { 0, 1700 }, provoke = discord_line { drop_down = true } },
  { "silence: pings unanswered (limit 2 s)", "ready", "silence", within = { 1400, 3500 }, provoke = function (c)
      behind(c, { { "upgrade" }, { "write", HELLO }, { "quiet" } })
      c.up { tune = { alive = { ping = "1s", silence = "2s" } } }
      c.begins()
    end },

  { "Discord: op 7", "ready", "ended", name = "reconnect", provoke = discord_told "op7" },
  { "Discord: op 9, session lost", "ready", "ended", name = "session_invalid", provoke = discord_told "op9" },
  { "Discord: op 9, session kept", "ready", "ended", name = "session_paused", provoke = discord_told("op9", { resumable = true }) },
  { "Discord: close 4000", "ready", "closed", close = 4000, provoke = discord_told("kick", { code = 4000, reason = "Unknown error" }) },
  { "Discord: close 4004", "ready", "closed", close = 4004, stays = true,
    provoke = discord_told("kick", { code = 4004, reason = "Authentication failed" }) },
  { "Discord: close 4009", "ready", "closed", close = 4009, provoke = discord_told("kick", { code = 4009, reason = "Session timed out" }) },
  { "Discord: close 4014", "ready", "closed", close = 4014, stays = true,
    provoke = discord_told("kick", { code = 4014, reason = "Disallowed intents" }) },
  { "compressed data is garbage (zlib-stream)", "ready", "inflate",
    provoke = discord_told("raw", { binary = true, text = "\255\254garbage\0\0\255\255" }, { compress = "zlib-stream" }) },
  { "compressed data is garbage (zstd-stream)", "ready", "inflate",
    provoke = discord_told("raw", { binary = true, text = "\255\254garbage\0\0\255\255" }, { compress = "zstd-stream" }) },

  { "message of a byte over the limit", "ready", "too_big", provoke = sends("\130\127" .. be(1024 * 1024 + 1, 8)) },
  { "text that is not UTF-8", "ready", "protocol", provoke = sends "\129\2\195\40" },
  { "reserved bit", "ready", "protocol", provoke = sends "\193\1x" },
  { "reserved opcode", "ready", "protocol", provoke = sends "\131\1x" },
  { "masked frame", "ready", "protocol", provoke = sends "\129\129abcd\0" },
  { "fragmented ping", "ready", "protocol", provoke = sends "\9\1x" },
  { "ping of 126 bytes", "ready", "protocol", provoke = sends("\137\126\0\126" .. ("x"):rep(126)) },
  { "continuation of nothing", "ready", "protocol", provoke = sends "\128\1x" },
  { "close frame of one byte", "ready", "protocol", provoke = sends "\136\1x" },

  { "backlog full, held longer than hold_for (300 ms)", "ready", "backlog_full", within = { 200, 2000 }, provoke = function (c)
      local bot = c.s:consumer { name = "a" }
      -- Beats so rare that none is due meanwhile.
      c.discord_up { backlog = { most = "64KiB", full = "hold", hold_for = "300ms" },
        tune = { beat = { every = { "5s", "5s", "10s" } } } }
      bot:pause(true)
      c.begins()
      c.good:control("dispatch", { count = 1000 })
      return function ()
        bot:pause(false)
        return nil, function () local e = bot:events() if #e > 0 then bot:ack(e[#e]) end end
      end
    end },
  { "an operator's restart", "none", "restarted", provoke = function (c)
      c.discord_up()
      c.begins()
      c.s:restart(c.name)
    end },
}

-- Each close code as it is sent, to a policy that resumes after all of them.
local codes = {}
for _, code in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999 } do
  codes[#codes + 1] = { "close " .. code, "ready", "closed", close = code, provoke = closes(code, "why " .. code) }
end
for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535 } do
  codes[#codes + 1] = { ("close %d, which may not be sent"):format(code), "ready", "protocol", close = 1002,
    reason = "close code that must not be sent: " .. code, provoke = closes(code) }
end
for i, row in ipairs(codes) do table.insert(M.up, i, row) end

-- ---- one row -----------------------------------------------------------------------------------------------

local report = os.getenv "HOLDFAST_WIRE_REPORT" ~= "" and os.getenv "HOLDFAST_WIRE_REPORT"

local function context(s)
  local c = { s = s, name = "bot" }
  c.good = s:peer("discord", { heartbeat_interval = 500, identify_gap = 0,
    names = "DNS:*.holdfast.test,DNS:*.holdfast.invalid,IP:127.0.0.1" })
  c.front = s:relay()
  c.front:leads_to(c.good)
  c.url = c.front.ws .. "/?v=10&encoding=json"
  c.front_http = ("https://127.0.0.1:%d/api/v10"):format(c.front.port)
  local options = {}
  -- CA files are read once, aside, when the first link needs them: that is no part of noticing a fault.
  local warmed = false
  local function warm(ca)
    if warmed then return end
    warmed = true
    s:connection("warm", { url = c.good.ws .. "/?v=10&encoding=json&warm", hello = true, ca = ca })
    s:up "warm"
    s:remove "warm"
    s:run_until(function () return s:state "warm" == nil end)
  end
  function c.dial(more)
    options = { url = c.url, hello = true }
    for k, v in pairs(more or {}) do options[k] = v end
    warm(options.ca)
    s:connection(c.name, options)
  end
  function c.begins() c.began = s:now() end
  function c.swap() s:swap(c.name, { url = c.url, hello = true }) end
  function c.up(more)
    c.dial(more)
    s:up(c.name)
  end
  function c.discord(more)
    warm()
    s:discord(c.name, c.good, more)
  end
  -- By way of the front, also when it resumes.
  function c.discord_up(more)
    world.lead(c.good, c.front.ws)
    c.discord(more)
    s:up(c.name)
  end
  c.warm = warm
  return c
end

-- Provokes, measures, heals, measures again. What it says is checked; so is that it recovers within the bound that
-- `holdfast why` shows.
function M.run(s, row)
  local c = context(s)
  local fault, stage, kind = row[1], row[2], row[3]
  local heal = row.provoke(c)
  local d, at
  s:run_until(function ()
    for _, n in ipairs(s:notes(c.name, "decision")) do
      local cause = n.decision.cause
      if not d and cause.stage == stage and cause.kind == kind then
        d, at = n.decision, n.at
      end
    end
    return d
  end, 8000, fault)
  -- Of an attempt: since its start, or its dial. Else since the fault began.
  local began = c.began
  for _, n in ipairs(s:notes(c.name)) do
    local starts = n.what == "dial" or stage == "preparing" and n.what == "state" and n.to == "preparing"
    if not c.began and n.at <= at and starts then began = n.at end
  end
  local noticed = at - began
  assert.are.equal(row.name or kind, d.cause.name)
  if row.close then assert.are.equal(row.close, d.cause.close) end
  if row.reason then assert.are.equal(row.reason, d.cause.reason) end
  assert.is_true(#d.why > 0)
  local within = row.within or { 0, 1000 }
  assert.is_true(noticed >= within[1] and noticed <= within[2], ("%s: noticed after %d ms"):format(fault, noticed))

  -- Well again.
  local _, meanwhile
  if heal then _, meanwhile = heal() end
  c.front:set {}
  c.front:leads_to(c.good)
  if kind == "too_big" and stage == "greeting" then c.good:heal() end
  local healed = s:now()
  local note = ""
  if row.stays or row.slow then
    if row.stays then
      s:run_until(function () return s:state(c.name) == "stopped" end)
      assert.is_true(s:view(c.name).fatal)
      assert.are.equal("stop", d.pace)
    else
      assert.are.equal("slow", d.pace)
      s:run_until(function () return s:state(c.name) == "waiting" end)
    end
    healed = s:now()
    s:start(c.name)
    s:turn(1)
    note = " after `start`"
  end
  local bound = s.w:bound(c.name)
  assert.is_truthy(bound, "it says no bound within which it recovers")
  local ready = c.began and 2 or 1
  s:run_until(function ()
    if meanwhile then meanwhile() end
    return s:state(c.name) == "up" and s:view(c.name).ready >= ready
  end, math.min(bound, 20000), "up again: " .. fault)
  local recovered = s:now() - healed
  assert.is_true(recovered <= bound, ("up after %d ms, the bound is %d"):format(recovered, bound))
  if report then
    local file = io.open(report, "a")
    file:write(table.concat({ stage, fault, (d.why:gsub("[%w/._-]+/%d+%-policy", "policy")), ("%d"):format(noticed), d.outcome, ("%d%s"):format(recovered, note) }, "\t"), "\n")
    file:close()
  end
end

return M
