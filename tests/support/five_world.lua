-- Five platforms at once: a peer of each on a real TLS port, one daemon with stock policies that nobody tuned,
-- fifty connections and one consumer; each peer takes its turn at misbehaving, and in the middle the daemon is
-- killed. Owns the schedule and the judgement; every wait is bounded, and nothing sleeps.
local world = require "daemon_world"
local process = require "unit.process"
local socket = require "unit.ops"
local json = require "dkjson"
local platforms = require "five_platforms"

local M = {}

local EACH = 10           -- connections of each platform
local SETTLED_S = 90      -- for all of them to come up at the start
local CATCH_UP_S = 180    -- platforms say what nobody acknowledged again after their own time
local RECOVER_MOST_S = 600 -- whatever bound is printed, so long is waited at the end

local Five = {}
Five.__index = Five

local function now_s() return process.now_ms() / 1000 end

function Five:finding(text, ...)
  text = text:format(...)
  self.finding_counts[text] = (self.finding_counts[text] or 0) + 1
  if self.finding_counts[text] == 1 and #self.findings < 60 then self.findings[#self.findings + 1] = text end
  self:note("FINDING " .. text)
end

function Five:note(text)
  self.trace:write(("%8.2f  %s\n"):format(now_s() - self.began, text))
  self.trace:flush()
end

function Five:random(most)
  self.seed = (self.seed * 1103515245 + 12345) % 2147483648
  return math.floor(self.seed / 65536) % most + 1
end

-- --- the daemon ------------------------------------------------------------------------------------------

local function start_peers(s)
  for _, p in ipairs(platforms) do
    p.keys = {}
    for i = 0, p.each and EACH - 1 or 0 do
      local key = p.each and p.name .. "-" .. i or p.name
      local words = { "peer", p.name, "--port", "0", "--ca-out", key .. ".pem" }
      for _, o in ipairs(p.options) do
        words[#words + 1] = "--option"
        words[#words + 1] = o
      end
      local run = s.world:start(words)
      run.port = run:says "listening on https?://127%.0%.0%.1:(%d+)"
      s.peers[key] = run
      p.keys[#p.keys + 1] = key
    end
  end
end

local function config(s)
  local out = { 'listen { unix = "h.sock" }' }
  for _, p in ipairs(platforms) do
    for i = 0, EACH - 1 do
      local name = ("%s-%d"):format(p.name, i)
      local key = p.each and name or p.name
      s.world:write("creds/" .. name, p.token and p.token(i, world.secret) or ("%s%d.%s"):format(p.name, i, world.secret))
      out[#out + 1] = ('connection "%s" { policy = "%s", ca_file = "%s.pem", %s }'):format(name, p.name, key,
        p.connection(i, s.peers[key].port, name))
      s.connections[#s.connections + 1] = { name = name, platform = p, index = i, key = key }
    end
  end
  s.world:write("holdfast.lua", table.concat(out, "\n") .. "\n")
end

local function daemon_start(s)
  s.daemon = s.world:start({ "run" }, { env = { CREDENTIALS_DIRECTORY = s.world.folder .. "/creds" } })
  s.daemon:says "holdfast %S+ runs %d+ connection"
  s.lives = s.lives + 1
  s:note "the daemon runs"
end

local function daemon_pump(s, ms)
  local _, err = s.daemon.process:pump(ms)
  s.log:write(err)
  for line in err:gmatch "[^\n]+" do
    if line:find "Sanitizer" or line:find "runtime error:" or line:find "assertion" then s:finding("the daemon said: %s", line) end
  end
end

-- nil without an answer within 5 s.
local function ask(s, target)
  local ok, fd = pcall(socket.connect, s.world.folder .. "/h.sock")
  if not ok or not fd then return nil end
  socket.write(fd, ("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):format(target))
  local parts, until_s = {}, now_s() + 5
  while true do
    local piece = socket.read(fd)
    if piece == nil then break end
    if piece == "" then daemon_pump(s, 1) else parts[#parts + 1] = piece end
    if now_s() > until_s then break end
  end
  socket.shut(fd)
  return (json.decode(table.concat(parts):match "\r\n\r\n(.*)$" or ""))
end

-- Views by name, or nil.
local function views(s)
  local view = ask(s, "/v1/connections")
  if not view then return nil end
  local out = {}
  for _, c in ipairs(view.connections) do out[c.name] = c end
  return out
end

-- --- the consumer ----------------------------------------------------------------------------------------

local function attach(s)
  local fd = socket.connect(s.world.folder .. "/h.sock")
  if not fd then return end
  s.fd, s.rest, s.acks = fd, "", {}
  s.out = '{"attach":{"consumer":"five","connections":["*"],"from":"cursor","states":false}}\n'
  s.attached = s.attached + 1
end

local function take_line(s, line)
  local name, epoch, offset = line:match '^{"event":{"connection":"([^"]+)","epoch":(%d+),"offset":(%d+)'
  if not name then
    name = line:match '^{"gap":.-"connection":"([^"]+)"'
    if not name then return end
    local cause = line:match '"cause":"([^"]*)"' or "?"
    s.gaps[cause] = (s.gaps[cause] or 0) + 1
    s.streams[name] = s.streams[name] or {}
    s.streams[name].gap = true
    return
  end
  s.events = s.events + 1
  local at = s.streams[name] or {}
  s.streams[name] = at
  epoch, offset = tonumber(epoch), tonumber(offset)
  if at.attached == s.attached and (epoch < at.epoch or (epoch == at.epoch and offset <= at.offset)) then
    s:finding("%s went back from %.0f.%d to %.0f.%d", name, at.epoch, at.offset, epoch, offset)
  end
  if at.attached ~= s.attached then at.again = true end
  at.attached, at.epoch, at.offset = s.attached, epoch, offset
  s.acks[name] = ('{"ack":{"connection":"%s","epoch":%.0f,"offset":%.0f}}\n'):format(name, epoch, offset)
  local n = tonumber(line:match '"number":(%d+)')
  if not n then return end
  at.seen = at.seen or {}
  if at.seen[n] then
    -- The same event twice: after the consumer attached anew, or after a start that was not clean.
    if at.again then s.again = s.again + 1 else s:finding("%s: %d came twice in one attachment", name, n) end
  end
  at.seen[n] = true
  -- A hole is told of when a gap came between its two sides, or filled later where the platform says it again.
  at.holes = at.holes or {}
  at.holes[n] = nil
  for k = (at.most or n) + 1, n - 1 do at.holes[k] = at.gap and "told" or "open" end
  at.first = math.min(at.first or n, n)
  at.most = math.max(at.most or 0, n)
  at.gap = false
end

local function consumer_turn(s)
  if not s.fd then
    if now_s() >= (s.attach_at or 0) then
      s.attach_at = now_s() + 0.2
      pcall(attach, s)
    end
    return
  end
  for _ = 1, 50 do
    local piece = socket.read(s.fd)
    if piece == nil then
      socket.shut(s.fd)
      s.fd = nil
      return
    end
    if piece == "" then break end
    local text, from = s.rest .. piece, 1
    while true do
      local stop = text:find("\n", from, true)
      if not stop then break end
      take_line(s, text:sub(from, stop - 1))
      from = stop + 1
    end
    s.rest = text:sub(from)
  end
  for _, ack in pairs(s.acks) do s.out = s.out .. ack end
  s.acks = {}
  if #s.out > 0 then
    local n = socket.write(s.fd, s.out)
    if n > 0 then s.out = s.out:sub(n + 1) end
  end
end

local function turn(s)
  daemon_pump(s, 5)
  for _, run in pairs(s.peers) do
    local out = run.process:pump(0)
    run.out = run.out .. out
  end
  consumer_turn(s)
  if s.daemon:ended() ~= nil or s.daemon.signal ~= nil then error("the daemon ended: " .. tostring(s.daemon.code)) end
end

local function turns_until(s, seconds, check)
  local until_s = now_s() + seconds
  repeat
    turn(s)
    if check and check() then return true end
  until now_s() >= until_s
  return false
end

-- --- faults ------------------------------------------------------------------------------------------------

local function control(s, key, text)
  local run = s.peers[key]
  run.out = ""
  local answer = world.control(run, text)
  run.out = ""
  return select(2, next((json.decode(answer))))
end

local function misbehave(s, p)
  local f = p.faults[s:random(#p.faults)]
  s:note(p.name .. ": " .. table.concat(f.say, " "))
  for _, key in ipairs(p.keys) do
    for _, text in ipairs(f.say) do control(s, key, text) end
  end
  s.faults = s.faults + 1
  p.heals_at = now_s() + (f.lasts or 0)
end

local function heal(s, p)
  for _, key in ipairs(p.keys) do control(s, key, '{"verb":"heal"}') end
end

local function faults_turn(s)
  for _, p in ipairs(platforms) do
    if p.heals_at and now_s() >= p.heals_at then
      p.heals_at = nil
      heal(s, p)
      p.next_at = now_s() + 2 + s:random(6)
    elseif not p.heals_at and now_s() >= (p.next_at or 0) then
      misbehave(s, p)
    end
  end
end

-- --- the whole ---------------------------------------------------------------------------------------------

local function up_count(s)
  local all, n = views(s), 0
  for _, c in ipairs(s.connections) do
    if all and all[c.name] and all[c.name].state == "up" then n = n + 1 end
  end
  return n, all
end

local function all_up(s)
  local next_look = 0
  return function ()
    if now_s() < next_look then return false end
    next_look = now_s() + 0.5
    return up_count(s) == #s.connections
  end
end

-- Every connection is up again within the bound that it printed when the last fault ended.
local function recover(s)
  local began, bounds, left = now_s(), {}, #s.connections
  for _, c in ipairs(s.connections) do
    local v = ask(s, "/v1/connections/" .. c.name) or {}
    bounds[c.name] = v.recovers_within_ms
    if not v.recovers_within_ms then s:finding("%s prints no bound in state %s", c.name, tostring(v.state)) end
  end
  local slowest = { took = 0 }
  local done, next_look = {}, 0
  turns_until(s, RECOVER_MOST_S, function ()
    if now_s() < next_look then return false end
    next_look = now_s() + 0.25
    for name, v in pairs(views(s) or {}) do
      if v.state == "up" and not done[name] then
        local took = now_s() - began
        done[name], left = took, left - 1
        if bounds[name] and took * 1000 > bounds[name] then s:finding("%s took %.1f s, its bound was %.1f s", name, took, bounds[name] / 1000) end
        if took > slowest.took then slowest = { took = took, name = name, bound = bounds[name] } end
      end
    end
    return left == 0
  end)
  for _, c in ipairs(s.connections) do
    if not done[c.name] then s:finding("%s never came up again", c.name) end
  end
  return slowest
end

local function judge_numbers(s)
  local told, open = 0, 0
  for _, c in ipairs(s.connections) do
    local own, first = 0, nil
    for n, how in pairs((s.streams[c.name] or {}).holes or {}) do
      if how == "told" then told = told + 1 else own, first = own + 1, math.min(first or n, n) end
    end
    open = open + own
    if own > 0 then s:finding("%s: %d are missing, from %d on, and no gap tells of it", c.name, own, first) end
  end
  return told, open
end

-- Of several peers of one platform: sums, and the most of what is a most.
local function stats_of(s, p)
  local sum = {}
  for _, key in ipairs(p.keys) do
    for name, v in pairs(control(s, key, '{"verb":"stats"}')) do
      if type(v) == "number" then sum[name] = name:find "^most" and math.max(sum[name] or 0, v) or (sum[name] or 0) + v end
    end
  end
  return sum
end

-- options: seconds of faults, seed, folder, out (prints a line). Answers what was not well: empty is passed.
function M.run(options)
  os.execute(("mkdir -p '%s'"):format(options.folder))
  local s = setmetatable({
    world = world.new(), seed = options.seed or 1, began = now_s(), peers = {}, connections = {}, streams = {}, gaps = {},
    findings = {}, finding_counts = {}, attached = 0, events = 0, again = 0, faults = 0, lives = 0,
    trace = assert(io.open(options.folder .. "/trace.log", "w")), log = assert(io.open(options.folder .. "/daemon.log", "w")),
  }, Five)
  local out = options.out
  start_peers(s)
  config(s)
  daemon_start(s)
  if not turns_until(s, SETTLED_S, all_up(s)) then
    local n, all = up_count(s)
    for _, c in ipairs(s.connections) do
      local v = all and all[c.name]
      if v and v.state ~= "up" then s:note(c.name .. " is " .. v.state .. ": " .. json.encode(v.cause or {})) end
    end
    s:finding("%d of %d connections were up %d s after the start", n, #s.connections, SETTLED_S)
  end
  out(("%d connections of %d platforms up after %.1f s"):format(up_count(s), #platforms, now_s() - s.began))

  local until_s, killed = now_s() + options.seconds, false
  local half = now_s() + options.seconds / 2
  while now_s() < until_s do
    turn(s)
    faults_turn(s)
    if not killed and now_s() >= half then
      killed = true
      s:note "the daemon is killed"
      s.daemon:kill(world.signals.kill)
      s.daemon:wait()
      daemon_start(s)
    end
  end
  for _, p in ipairs(platforms) do
    p.heals_at = nil
    heal(s, p)
  end
  s:note "the last fault is over"
  local slowest = recover(s)

  -- What the platforms sent by now reaches the consumer.
  local want = {}
  for _, c in ipairs(s.connections) do
    local p = c.platform
    want[c.name] = p.sent(not p.each and control(s, c.key, '{"verb":"sent"}'), c.index, p.each and control(s, c.key, '{"verb":"stats"}'))
  end
  local function behind()
    for _, c in ipairs(s.connections) do
      local at = s.streams[c.name]
      if not want[c.name] or want[c.name] == 0 then return c.name, want[c.name], 0 end
      if not at or (at.most or 0) < want[c.name] then return c.name, want[c.name], at and at.most or 0 end
      for n, how in pairs(c.platform.disorder and at.holes or {}) do
        if how == "open" then return c.name, want[c.name], n - 1 end
      end
    end
  end
  turns_until(s, CATCH_UP_S, function () return not behind() end)
  local who, number, have = behind()
  if who then s:finding("%s has %s of %s numbers", who, tostring(have), tostring(number)) end
  local told, open = judge_numbers(s)

  out(("%d faults, %d lives of the daemon; %d events, %d again after an attachment; %d numbers missing and told by gaps, %d not told"):format(
    s.faults, s.lives, s.events, s.again, told, open))
  for cause, n in pairs(s.gaps) do out(("  gap: %-40s %d"):format(cause, n)) end
  if slowest.name then
    out(("the slowest, %s, was up %.1f s after the last fault; its printed bound was %.1f s"):format(slowest.name, slowest.took,
      (slowest.bound or 0) / 1000))
  end
  for _, p in ipairs(platforms) do
    local stats = stats_of(s, p)
    local problem = p.judge(stats)
    out(("  %-10s %s"):format(p.name, p.tell(stats)))
    if problem then s:finding("%s: %s", p.name, problem) end
  end
  if s.fd then socket.shut(s.fd) end
  if s.daemon:stop() ~= 0 then s:finding "the daemon did not end well" end
  for _, text in ipairs(s.findings) do out(("not well (%d times): %s"):format(s.finding_counts[text], text)) end
  out(#s.findings == 0 and "five: passed" or "five: failed")
  s.trace:close()
  s.log:close()
  s.world:close()
  return s.findings
end

return M
