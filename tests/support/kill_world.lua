-- A daemon that is killed and started again while a platform sends numbered messages, and a bot that reads and
-- acknowledges them; compares what was sent with what the bot got, as it gets it. What the platform counts:
--   discord   the shipped policy and peer: a session that is resumed, frames that are never acknowledged
--   ledger    policy `generic` towards a peer that sends each message until its acknowledgement came
-- Every wait pumps all pipes and the bot, and is bounded.
local world = require "daemon_world"
local socket = require "unit.ops"
local store = require "unit.store"

local M = {}

-- Numbers its messages, sends every one that was not acknowledged again after each upgrade, and counts what it
-- should never see.
local LEDGER = [[
local sent, acked, ws_now, next_number = {}, {}, nil, 1
local stats = { upgrades = 0, acks = 0, repeats = 0, strange = 0, last = 0 }
local function line(n, at) return { id = "m" .. n, number = n, op = 0, at = at } end
return {
  start = function (p, options)
    local function tick()
      sent[next_number] = true
      stats.last = next_number
      if ws_now and not ws_now.gone then ws_now:send(line(next_number, p:now())) end
      next_number = next_number + 1
      p:after(options.events_every, tick)
    end
    p:after(options.events_every, tick)
  end,
  upgrade = function () stats.upgrades = stats.upgrades + 1 return true end,
  opened = function (p, ws)
    ws_now = ws
    for n = 1, next_number - 1 do
      if not acked[n] then
        stats.repeats = stats.repeats + 1
        ws:send(line(n))
      end
    end
  end,
  message = function (p, ws, text)
    local n = tonumber((p:decode(text).ack or ""):match "^m(%d+)$")
    if not n or not sent[n] then stats.strange = stats.strange + 1 return end
    stats.acks = stats.acks + 1
    acked[n] = true
  end,
  closed = function (p, ws) ws.gone = true end,
  control = {
    -- As platforms do after their own time: what was not acknowledged comes once more.
    again = function ()
      for n = 1, next_number - 1 do
        if not acked[n] then ws_now:send(line(n)) end
      end
      return true
    end,
    unacked = function (p, a)
      local count = 0
      for n = 1, a.last do if not acked[n] then count = count + 1 end end
      return count
    end,
    stats = function ()
      stats.acked = 0
      for _ in pairs(acked) do stats.acked = stats.acked + 1 end
      return stats
    end,
  },
}
]]

-- ------------------------------------------------------------------------------------------------ the bot

local Bot = {}
Bot.__index = Bot

-- every: acknowledges each so many events, the newest of them.
function M.bot(path, name, every)
  return setmetatable({ path = path, name = name, every = every or 7, high = 0, acked = 0, since = 0, got = {},
    gaps = {}, again = 0, attached = 0, problems = {} }, Bot)
end

local function problem(bot, ...) bot.problems[#bot.problems + 1] = string.format(...) end

function Bot:attach()
  if self.fd then return true end
  local fd = socket.connect(self.path)
  if not fd then return false end
  self.fd, self.rest, self.last, self.first, self.gap_before = fd, "", nil, nil, false
  self.out = ('{"attach":{"consumer":"%s","connections":["bot"],"from":"cursor"}}\n'):format(self.name)
  self.attached = self.attached + 1
  return true
end

-- As a bot that is killed: what it did not acknowledge, it has not done.
function Bot:drop()
  if self.fd then socket.shut(self.fd) end
  self.fd, self.number = nil, nil
end

local function take_event(bot, line)
  local epoch, offset = line:match '^{"event":{"connection":"bot","epoch":(%d+),"offset":(%d+),'
  if not epoch then return end
  local here = { epoch = tonumber(epoch), offset = tonumber(offset) }
  local last, n = bot.last, tonumber(line:match '"number":(%d+)')
  if last and (here.epoch < last.epoch or here.offset <= last.offset) then
    problem(bot, "position %s.%s came after %.0f.%.0f", epoch, offset, last.epoch, last.offset)
  end
  if not bot.first then
    bot.first = here
    -- The cursor's frame is done; the very next one comes first, whatever the epoch.
    if bot.cursor and here.offset ~= bot.cursor + 1 and not bot.gap_before then
      problem(bot, "the cursor was at %.0f, and %.0f came first", bot.cursor, here.offset)
    end
    bot.cursor = nil
  elseif here.offset ~= last.offset + 1 and not bot.gap_before then
    problem(bot, "%.0f came after %.0f without a gap", here.offset, last.offset)
  end
  bot.last = here
  if n then
    local want = bot.number or bot.acked
    if not bot.gap_before and (bot.number and n ~= want + 1 or n > want + 1) then
      problem(bot, "message %d came after %d without a gap", n, want)
    end
    if bot.got[n] then bot.again = bot.again + 1 end
    bot.got[n] = true
    -- The ledger tells when it sent what it sends for the first time.
    local at = tonumber(line:match '"at":(%d+)[,}]')
    if at then bot.latest_ms = math.max(bot.latest_ms or 0, world.now_ms() - at) end
    bot.first_number = bot.number and bot.first_number or n
    bot.number, bot.high = n, math.max(bot.high, n)
    bot.gap_before = false
  end
  bot.since = bot.since + 1
  if bot.since >= bot.every then
    bot.since = 0
    bot.out = bot.out .. ('{"ack":{"connection":"bot","epoch":%s,"offset":%s}}\n'):format(epoch, offset)
    -- It counts as done once it was asked: whether that survives is the daemon's to know.
    if bot.number then bot.acked = bot.number end
  end
end

-- Reads what is there, and writes what is due.
function Bot:pump()
  if not self.fd then return end
  while true do
    local piece = socket.read(self.fd)
    if piece == nil then
      self:drop()
      return
    end
    if piece == "" then break end
    self.rest = self.rest .. piece
    local from = 1
    while true do
      local stop = self.rest:find("\n", from, true)
      if not stop then break end
      local line = self.rest:sub(from, stop - 1)
      from = stop + 1
      if line:find('{"gap":', 1, true) == 1 then
        self.gaps[#self.gaps + 1] = line
        self.gap_before = true
      elseif line:find('{"refused":{"id":"barrier"', 1, true) == 1 then
        self.answered = true
      elseif self.deaf then -- what it did not read, it has not got
      elseif line:find('{"error"', 1, true) == 1 and not line:find("shutting down", 1, true) then
        problem(self, "the daemon said %s", line)
      else
        take_event(self, line)
      end
    end
    self.rest = self.rest:sub(from)
  end
  if #self.out > 0 then
    local n = socket.write(self.fd, self.out)
    if n > 0 then self.out = self.out:sub(n + 1) end
  end
end

-- Reads no further; everything that it wrote so far has been taken when this returns true. False: the daemon went.
function Bot:barrier(whole)
  self.out = self.out .. '{"send":{"id":"barrier","connection":"none","frame":{}}}\n'
  self.answered, self.deaf = false, true
  whole:eventually(function () return self.answered or not self.fd end)
  self.deaf = false
  return self.answered
end

-- Numbers of 1 to `last` that it never got.
function Bot:missing(last)
  local out = {}
  for n = 1, last do if not self.got[n] then out[#out + 1] = n end end
  return out
end

-- ------------------------------------------------------------------------------------------------ the whole

local Kill = {}
Kill.__index = Kill

-- kind: "discord" or "ledger". events_every: ms.
function M.new(kind, options)
  options = options or {}
  local every = options.events_every or 5
  local w = world.new()
  local k = setmetatable({ w = w, kind = kind, kills = 0, starts = 0 }, Kill)
  if kind == "discord" then
    k.peer = w:peer({ "identify_gap=0", "events_every=" .. every })
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
connection "bot" {
  policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { backoff = { first = "250ms", most = "1s" }, budgets = { start = { gap = "500ms" } } },
}
%s]]):format(k.peer.port, options.more or ""))
  else
    w:write("lua/peers/ledger.lua", LEDGER)
    k.peer = w:start({ "peer", "ledger", "--port", "0", "--plain", "--option", "events_every=" .. every },
      { env = { HOLDFAST_LUA = w.folder .. "/lua" } })
    k.peer.port = k.peer:says "listening on https?://127%.0%.0%.1:(%d+)"
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
connection "bot" {
  policy = "generic", url = "ws://127.0.0.1:%s/",
  frames = { codec = "json", take = { id = "id", op = "op" }, deliver = { op = 0 }, accept = true,
             dedupe = { by = { "id" }, over = "1h", most = 100000 },
             ack = { when = "early", frame = '{"ack":"@id"}' } },
  backoff = { first = "250ms", most = "1s" },
}
%s]]):format(k.peer.port, options.more or ""))
  end
  k.bot = M.bot(w.folder .. "/h.sock", "reader", options.ack_every)
  return k
end

-- Asks the API again and again, and remembers the longest wait for an answer.
local function probe(k)
  local p = k.probe
  if not p.fd then
    p.fd, p.at, p.got = socket.connect(k.bot.path), world.now_ms(), ""
    if not p.fd then return end
    socket.write(p.fd, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
  end
  local piece = socket.read(p.fd)
  p.got = p.got .. (piece or "")
  local took = world.now_ms() - p.at
  if piece == nil or p.got:find "\r\n\r\n" then
    socket.shut(p.fd)
    p.fd = nil
    if p.got:find "^HTTP/1.1 200" then p.answers = p.answers + 1 end
  end
  p.most_ms = math.max(p.most_ms, took)
end

-- From here on; answers a table that goes on counting: most_ms, answers.
function Kill:probing()
  self:probing_ends()
  self.probe = { most_ms = 0, answers = 0 }
  self.bot.latest_ms = 0
  return self.probe
end

function Kill:probing_ends()
  if self.probe and self.probe.fd then socket.shut(self.probe.fd) end
  self.probe = nil
end

-- Everything once; true when the daemon has ended.
function Kill:pump(ms)
  self.daemon:pump(ms or 2)
  if self.probe then probe(self) end
  if not self.bot.fd and not self.bot.away then self.bot:attach() end
  self.bot:pump()
  return self.daemon:ended() ~= nil or self.daemon.signal ~= nil
end

function Kill:start(options)
  self.daemon = self.w:start({ "run" }, options)
  self.starts = self.starts + 1
  return self.daemon
end

-- Pumps until check() holds, at most `ms`; false then, or when the daemon ended.
function Kill:eventually(check, ms)
  local until_ms = world.now_ms() + (ms or world.wait_ms)
  while true do
    local found = check()
    if found then return found end
    if self:pump() or world.now_ms() > until_ms then return check() or false end
  end
end

function Kill:wait(ms)
  local until_ms = world.now_ms() + ms
  while world.now_ms() < until_ms do
    if self:pump() then return end
  end
end

-- One value of what is on disk, read from a copy: what the next start will know. nil: no row, or no file yet.
function Kill:stored(sql)
  for _, tail in ipairs { "", "-wal" } do
    local from = io.open(self.w.folder .. "/var/holdfast.db" .. tail, "rb")
    os.remove(self.w.folder .. "/copy.db" .. tail)
    if from then
      local to = assert(io.open(self.w.folder .. "/copy.db" .. tail, "wb"))
      to:write(from:read "*a")
      to:close()
      from:close()
    end
  end
  return tonumber((store.sql(self.w.folder .. "/copy.db", sql)))
end

-- What is left to read of a daemon that ended; how it ended.
function Kill:ended()
  local code = self.daemon:wait()
  self.bot:pump()
  self.bot:drop()
  self.bot.cursor = self:stored(("SELECT offset FROM cursor WHERE consumer = '%s'"):format(self.bot.name))
  if self.kind == "ledger" then
    local safe, acked = self:stored "SELECT count(*) FROM seen" or 0, self:stat "acked"
    if acked > safe then problem(self.bot, "%d are acknowledged to the platform, and %d are on disk", acked, safe) end
  end
  return code, self.daemon.signal
end

function Kill:kill()
  self.kills = self.kills + 1
  self.daemon:kill(world.signals.kill)
  return self:ended()
end

function Kill:control(json) return world.control(self.peer, json) end

-- How many of those up to `last` the ledger's platform has no acknowledgement for.
function Kill:unacked(last)
  local n = self:control(('{"verb":"unacked","last":%d}'):format(last)):match '"%l+":(%d+)}'
  return assert(tonumber(n), "the ledger did not count")
end

function Kill:stat(name) return tonumber(self:control '{"verb":"stats"}':match('"' .. name .. '":(%d+)')) end

-- The newest number that the platform made.
function Kill:last()
  if self.kind == "ledger" then return self:stat "last" end
  return tonumber(self:control '{"verb":"sent"}':match '"numbers":{"0/1":(%d+)') or 0
end

-- Lets the daemon live until the bot has all that was sent by now.
function Kill:catch_up(ms)
  local last = self:last()
  local ok = self:eventually(function () return self.bot.high >= last end, ms)
  assert(ok, ("message %d never came (the newest was %d):\n%s%s"):format(last, self.bot.high,
    table.concat(self.bot.problems, "\n"), self.daemon.err:sub(-2000)))
  return last
end

function Kill:verdict()
  return table.concat(self.bot.problems, "\n"), table.concat(self.bot.gaps, "\n")
end

-- What is wrong with the daemon's disk from now on (tests/support/disk_shim.c); nil: nothing. Only of daemons that
-- were started with disk_env().
function Kill:disk(weather)
  local f = assert(io.open(self.w.folder .. "/weather", "w"))
  f:write(weather or "")
  f:close()
end

function Kill:disk_env() return M.disk_env(self.w) end

function M.disk_env(w)
  local pipe = io.popen "pwd"
  local here = pipe:read "*l"
  pipe:close()
  return { env = { LD_PRELOAD = here .. "/" .. world.build .. "/disk_shim.so", HOLDFAST_DISK = w.folder .. "/weather" } }
end

function Kill:close()
  self:probing_ends()
  self.bot:drop()
  self.w:close()
end

return M
