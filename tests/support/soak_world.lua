-- The soak: one real daemon with its store on disk, three Discord peers on loopback TLS, consumers, operators and
-- faults, for as long as is asked. Four fifths of the time one process lives, so that what grows shows; then
-- it is ended and killed now and then. Owns the schedule and the daemon; waits are bounded by the time asked
-- for and never sleep. See soak_faults, soak_consumers and soak_judge beside it.
local world = require "daemon_world"
local process = require "unit.process"
local socket = require "unit.ops"
local json = require "dkjson"
local faults = require "soak_faults"
local consumers = require "soak_consumers"
local judge = require "soak_judge"

local M = {}

local CONNECTIONS = {
  -- name, peer, shard, compression
  { "a0", 1, 0 }, { "a1", 1, 1, "zlib-stream" }, { "b2", 2, 2 }, { "b3", 2, 3, "zstd-stream" }, { "c4", 3, 4 },
}
local EXTRA, EXTRA_SHARD = "extra", 5  -- comes and goes over the API; what it lost while it was gone is not judged
local EXTRA_SECONDS_MAX = 40     -- for the gate (10 s) of a loaded machine
local END_SECONDS_MAX = 90       -- for the consumers to reach the peers' last numbers

-- Alarms that the soak's own faults mean to raise.
local EXPECTED_ALARMS = {}

local Soak = {}
Soak.__index = Soak

local function now_s() return process.now_ms() / 1000 end

-- Something that is not well: the verdict is a failure.
function Soak:finding(text, ...)
  local s = self
  text = text:format(...)
  s.finding_counts[text] = (s.finding_counts[text] or 0) + 1
  if s.finding_counts[text] == 1 and #s.findings < 100 then s.findings[#s.findings + 1] = text end
  s:note("FINDING " .. text)
end

function Soak:note(text)
  self.trace:write(("%8.2f  %s\n"):format(now_s() - self.began, text))
end

-- --- chance: the same seed chooses the same ------------------------------------------------------------

function Soak:random(most)
  local s = self
  s.seed = (s.seed * 1103515245 + 12345) % 2147483648
  return math.floor(s.seed / 65536) % most + 1
end

-- --- the schedule ----------------------------------------------------------------------------------------

function Soak:later(seconds, fn) self.agenda[#self.agenda + 1] = { at = now_s() + seconds, fn = fn } end

function Soak:every(seconds, fn)
  local s = self
  local function again()
    if s.ending then return end
    fn()
    s:later(seconds, again)
  end
  s:later(seconds, again)
end

local function run_due(s)
  local now, due = now_s(), {}
  for i = #s.agenda, 1, -1 do
    if s.agenda[i].at <= now then table.insert(due, 1, table.remove(s.agenda, i)) end
  end
  table.sort(due, function (a, b) return a.at < b.at end)
  for _, item in ipairs(due) do item.fn() end
end

-- --- the daemon ------------------------------------------------------------------------------------------

local function config(s, variant)
  local out = { 'listen { unix = "h.sock" }' }
  for _, c in ipairs(CONNECTIONS) do
    out[#out + 1] = ([[
connection "%s" {
  policy = "discord", token = secret { credential = "account%d" }, intents = 513, shard_id = %d, shard_count = 8,%s
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca%d.pem",
  tune = { backoff = { first = "250ms", most = "%s" }, limits = { greeting = "20s", upgrade = "5s" },
           budgets = { start = { windows = { { 100000, "1h" } }, gap = "300ms" } } },
}]]):format(c[1], c[2], c[3], c[4] and (' compress = "%s",'):format(c[4]) or "", s.peers[c[2]].port, c[2], variant == 2 and "3s" or "2s")
  end
  s.world:write("holdfast.lua", table.concat(out, "\n") .. "\n")
end

local function daemon_line(s, line)
  s.log:write(line, "\n")
  local level = line:match "level=(%l+)" or "other"
  s.levels[level] = (s.levels[level] or 0) + 1
  local bad = line:find "Sanitizer" or line:find "runtime error:" or line:find "assertion"
  if level == "alarm" and not bad then
    bad = true
    for _, pattern in ipairs(EXPECTED_ALARMS) do bad = bad and not line:find(pattern) end
  end
  if level == "warning" then
    local what = (line:match "msg=(.*)" or line):gsub("%d+", "N"):sub(1, 90)
    s.warnings[what] = (s.warnings[what] or 0) + 1
  end
  if bad then s:finding("the daemon said: %s", line) end
end

-- Whole lines go to fn(); the rest waits in run[key].
local function lines_of(run, key, text, fn)
  text = (run[key] or "") .. text
  local from = 1
  while true do
    local stop = text:find("\n", from, true)
    if not stop then break end
    fn(text:sub(from, stop - 1))
    from = stop + 1
  end
  run[key] = text:sub(from)
end

local function take_daemon(s, ms)
  if not s.daemon then return s.peers[1].run.process:pump(ms) end
  local _, err = s.daemon.process:pump(ms)
  lines_of(s.daemon, "rest", err, function (line) daemon_line(s, line) end)
end

local function daemon_start(s)
  local run = s.world:start({ "run" }, { env = { CREDENTIALS_DIRECTORY = s.world.folder .. "/creds" } })
  run:says "holdfast %S+ runs %d+ connection"
  local said = run.err
  run.err = ""
  s.daemon, s.daemon_began = run, now_s()
  s.lives = s.lives + 1
  lines_of(run, "rest", said, function (line) daemon_line(s, line) end)
  s:note("daemon started, process " .. run.process:pid())
end

-- Takes what it still says; the exit code must be the one that its signal means.
local function daemon_end(s, signal)
  local run = s.daemon
  run:kill(signal)
  local until_s = now_s() + 30
  while run:ended() == nil and run.signal == nil do
    take_daemon(s, 20)
    if now_s() > until_s then
      s:finding("the daemon did not end within 30 s of signal %d", signal)
      run:kill(world.signals.kill)
    end
  end
  take_daemon(s, 0)
  s.daemon = nil
  if signal == world.signals.term and run.code ~= 0 then
    s:finding("the daemon's exit after SIGTERM: code %s, signal %s", tostring(run.code), tostring(run.signal))
  end
  s:note("daemon ended by signal " .. signal)
end

local function daemon_watch(s)
  if not s.daemon then return end
  if s.daemon:ended() ~= nil or s.daemon.signal ~= nil then
    take_daemon(s, 0)
    s:finding("the daemon ended by itself: code %s, signal %s", tostring(s.daemon.code), tostring(s.daemon.signal))
    s.daemon, s.ending = nil, true
  end
end

-- One request under way; nil when nobody takes it.
local function ask(s, method, target, body)
  if not s.daemon then return nil end
  local ok, fd = pcall(socket.connect, s.world.folder .. "/h.sock")
  if not ok or not fd then return nil end
  local head = ("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"):format(method, target)
  if body then head = head .. "Content-Length: " .. #body .. "\r\n" end
  return { fd = fd, began = process.now_ms(), out = head .. "\r\n" .. (body or ""), got = "" }
end

-- True once it is over: answered (status and text are set), closed, or `seconds` old. Second: nothing came.
local function asked(r, seconds)
  if #r.out > 0 then
    local n = socket.write(r.fd, r.out)
    if n > 0 then r.out = r.out:sub(n + 1) end
  end
  local piece = socket.read(r.fd)
  r.got = r.got .. (piece or "")
  local stop = select(2, r.got:find("\r\n\r\n", 1, true))
  local length = stop and (tonumber(r.got:lower():match "content%-length: (%d+)") or 0)
  if stop and #r.got >= stop + length then
    r.status, r.text = tonumber(r.got:match "^HTTP/1%.[01] (%d+)"), r.got:sub(stop + 1, stop + length)
  end
  local over = r.status ~= nil or piece == nil or process.now_ms() - r.began > seconds * 1000
  if over then socket.shut(r.fd) end
  return over, piece == ""
end

-- status, body, milliseconds; nil when there is no answer within 5 s.
function Soak:request(method, target, body)
  local s = self
  local r = ask(s, method, target, body)
  if not r then return nil end
  repeat
    local over, idle = asked(r, 5)
    if idle and not over then take_daemon(s, 1) end
  until over
  return r.status, r.text, process.now_ms() - r.began
end

-- State by name.
function Soak:states()
  local s = self
  local _, text = s:request("GET", "/v1/connections")
  local out, view = {}, text and json.decode(text)
  for _, c in ipairs(view and view.connections or {}) do out[c.name] = c.state end
  return out
end

function Soak:drop(run)
  local s = self
  for i = #s.world.runs, 1, -1 do
    if s.world.runs[i] == run then table.remove(s.world.runs, i) end
  end
  run.process:close()
end

Soak.lines_of = lines_of

-- --- operators -----------------------------------------------------------------------------------------

local function command(s, words, may_fail)
  if not s.daemon then return end
  local run = s.world:start(words)
  run.process:close_input()
  s.commands[#s.commands + 1] = { run = run, words = table.concat(words, " "), until_s = now_s() + 20, may_fail = may_fail, life = s.lives }
  s.command_count = s.command_count + 1
end

local function commands_turn(s)
  for i = #s.commands, 1, -1 do
    local c = s.commands[i]
    c.run:pump(0)
    local over = c.run:ended() ~= nil or c.run.signal ~= nil
    if not over and now_s() > c.until_s then
      s:finding("`holdfast %s` did not end within 20 s", c.words)
      c.run:kill(world.signals.kill)
      c.until_s = c.until_s + 20
    end
    if over then
      c.run:pump(0)
      -- An order that waits for a platform under a fault is told to go on by itself: no failure.
      local goes_on = c.run.err:find("not done after", 1, true)
      if c.run.code ~= 0 and not goes_on and not c.may_fail and c.life == s.lives and s.daemon then
        s:finding("`holdfast %s` failed: %s", c.words, c.run.err)
      end
      s:drop(c.run)
      table.remove(s.commands, i)
    end
  end
end

local function any_name(s) return CONNECTIONS[s:random(#CONNECTIONS)][1] end

-- A connection comes and goes over the API. What it runs is proven before it is answered, which under a sanitizer
-- takes as long as the gate has: everything else goes on meanwhile.
local function extra_turn(s)
  local x = s.put_extra
  if not s.daemon or x.request then return end
  x.words = x.there and "DELETE" or "PUT"
  x.life = s.lives
  x.request = ask(s, x.words, "/v1/connections/" .. EXTRA, not x.there and ([=[{"policy":"discord","token":{"credential":"account1"},
"intents":1,"shard_id":%d,"shard_count":8,"ca_file":"ca1.pem","api":"https://127.0.0.1:%s/api/v10",
"tune":{"budgets":{"start":{"windows":[[100000,"1h"]],"gap":"300ms"}}}}]=]):format(EXTRA_SHARD, s.peers[1].port) or nil)
  if not x.request then s:finding("%s of %s: nobody took it", x.words, EXTRA) end
end

local function extra_look(s)
  local x = s.put_extra
  local r = x.request
  if not r or not asked(r, EXTRA_SECONDS_MAX) then return end
  x.request = nil
  if r.status and r.status < 300 then
    x.there = not x.there
    s.puts = s.puts + 1
  elseif x.life == s.lives and s.daemon then
    s:finding("%s of %s: status %s %s", x.words, EXTRA, tostring(r.status), tostring(r.text))
  else
    x.there = false  -- the process that was asked is gone: a PUT says it anew, whether it was carried out or not
  end
end

local function operators(s)
  local quick = s.short and 0.2 or 1
  s:every(7 * quick, function () command(s, { "status" }) end)
  s:every(11 * quick, function () command(s, { "why", any_name(s) }) end)
  s:every(13 * quick, function () command(s, { "consumer", "list" }) end)
  s:every(23 * quick, function () command(s, { "restart", any_name(s) }) end)
  s:every(31 * quick, function ()
    local name = any_name(s)
    s:note("stop " .. name)
    command(s, { "stop", name })
    local function start()
      -- A stop outlives the daemon: a start that found nobody would leave the connection out for good.
      if not s.daemon then return s:later(1, start) end
      command(s, { "start", name })
    end
    s:later(4 * quick, start)
  end)
  local variant = 1
  s:every(29 * quick, function ()
    if not s.daemon then return end
    variant = 3 - variant
    config(s, variant)
    s.daemon:kill(world.signals.hup)
    s.reloads = s.reloads + 1
  end)
  s:every(9 * quick, function () extra_turn(s) end)
end

-- --- the whole -----------------------------------------------------------------------------------------

local function turn(s)
  take_daemon(s, 10)
  daemon_watch(s)
  for _, p in ipairs(s.peers) do
    if p.run then p.run.process:pump(0) end
  end
  for _, c in ipairs(s.consumers) do consumers.turn(s, c) end
  commands_turn(s)
  extra_look(s)
  run_due(s)
end

local function turns_until(s, seconds, check)
  local until_s = now_s() + seconds
  local turns_max = seconds * 2000 + 2000
  for _ = 1, turns_max do
    turn(s)
    if check and check() then return true end
    if now_s() >= until_s or (s.ending and not check) then break end
  end
  return not check
end

-- Whatever was going on ends, and every named consumer must reach what the peers had sent by now.
local function settle(s)
  s.ending = true
  s.agenda = {}
  faults.calm(s)
  if not s.daemon then daemon_start(s) end
  for _, c in ipairs(CONNECTIONS) do command(s, { "start", c[1] }, true) end
  for _, c in ipairs(s.consumers) do c.paused, c.wanted = false, true end
  local next_look = 0
  local function all_up()
    if not s.daemon then return true end
    if now_s() < next_look then return false end
    next_look = now_s() + 0.25
    local now, up = s:states(), 0
    for _, c in ipairs(CONNECTIONS) do up = up + (now[c[1]] == "up" and 1 or 0) end
    return up == #CONNECTIONS
  end
  if not turns_until(s, END_SECONDS_MAX, all_up) then s:finding("not all connections were up %d s after the last fault", END_SECONDS_MAX) end
  local sent = {}
  for _, c in ipairs(CONNECTIONS) do
    local run = s.peers[c[2]].run
    run.process:pump(0)
    run.out = ""
    local answer = world.control(run, '{"verb":"sent"}')
    sent[c[1]] = tonumber(answer:match('"numbers":{[^}]*"' .. c[3] .. '/8":(%d+)')) or 0
    run.out = ""
  end
  local function behind()
    for _, c in ipairs(s.consumers) do
      for name, number in pairs(sent) do
        local at = c.streams[name]
        if c.named and (not at or not at.most or at.most < number) then return c.name, name, number, at and at.most or 0 end
      end
    end
  end
  turns_until(s, END_SECONDS_MAX, function () return not behind() end)
  local who, name, number, have = behind()
  if who then s:finding("%s: %s has %d of %d, %d s after the last fault", who, name, have, number, END_SECONDS_MAX) end
  s.sent = sent
end

-- options: seconds, seed, life_share (of the seconds, of the one long life; 0.8), out (a function that prints a line), folder for the log, the trace and the samples.
-- Answers the list of what was not well: empty is passed.
function M.run(options)
  local seconds = options.seconds
  os.execute(("mkdir -p '%s'"):format(options.folder))
  local s = setmetatable({
    world = world.new(), connections = CONNECTIONS, extra = EXTRA, seed = options.seed or 1, events_every = 20, began = now_s(),
    -- Below a minute everything goes quicker and waits of many seconds are left out; below ten all is warming up.
    short = seconds < 60, warming = seconds < 600, sanitized = world.build:match "san$",
    peers = {}, consumers = {}, commands = {}, agenda = {}, samples = {}, findings = {}, finding_counts = {}, levels = {}, warnings = {},
    gap_causes = {}, up = {}, put_extra = { there = false }, lives = 0, faults = 0, command_count = 0, reloads = 0, puts = 0,
    trace = assert(io.open(options.folder .. "/trace.log", "w")), log = assert(io.open(options.folder .. "/daemon.log", "w")),
    table = assert(io.open(options.folder .. "/samples.tsv", "w")),
  }, Soak)
  s.table:write "seconds\tlife\trss_kb\tfds\tthreads\tfile_kb\twal_kb\tapi_ms\n"
  for i = 1, 3 do
    -- Of one account a gateway's address is asked for once, whoever asks: each peer has its own.
    s.world:write("creds/account" .. i, ("%d.%s"):format(i, world.secret))
    faults.start(s, i)
  end
  config(s, 1)
  daemon_start(s)
  consumers.make(s)
  s:every(s.short and 0.5 or 1, function () judge.sample(s) end)
  s:every(s.short and 0.25 or 1.5, function () faults.inject(s) end)
  operators(s)
  s.long_life = seconds * (options.life_share or 0.8)
  turns_until(s, s.long_life)
  if not s.ending then
    local count = 0
    s:every(s.short and 1 or 9, function ()
      if not s.daemon then return end
      count = count + 1
      daemon_end(s, count % 2 == 1 and world.signals.term or world.signals.kill)
      s:later(s.short and 0.2 or 2, function () if not s.daemon then daemon_start(s) end end)
    end)
    turns_until(s, seconds - s.long_life)
  end
  settle(s)
  if s.put_extra.request then socket.shut(s.put_extra.request.fd) end
  judge.report(s, options.out)
  s.trace:close()
  s.log:close()
  s.table:close()
  s.world:close()
  return s.findings
end

return M
