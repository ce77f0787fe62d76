-- The whole runtime on real sockets, for specs: peers, relays, raw servers, connections and consumers of
-- one test, closed after it, with the check that nothing is left. Waits are bounded and never sleep.
local wire = require "unit.wire"
local scratch = require "scratch"

local M = { wire = wire }

local WAIT_MS = 10000

local opened, fds_before

-- What the libraries open once per process is no leak of a test.
do
  local w = wire.new {}
  w:peer("discord", { tls = true }, {})
  w:close()
end

function M.setup()
  opened = {}
  collectgarbage()
  fds_before = wire.fd_count()
end

-- Every test ends with the same silent check.
function M.teardown()
  local list = opened
  opened = {}
  for _, s in ipairs(list) do s:close() end
  collectgarbage()
  local fds = wire.fd_count()
  assert(fds == fds_before, ("leaked: %d descriptors, %d before the test"):format(fds, fds_before))
end

local function ms(duration)
  if type(duration) == "number" then return duration end
  local n, unit = duration:match "^([%d.]+)(%a+)$"
  return n * ({ ms = 1, s = 1000, m = 60000 })[unit]
end

local function copy(t)
  local out = {}
  for k, v in pairs(t) do out[k] = type(v) == "table" and copy(v) or v end
  return out
end

local function merge(into, over)
  for k, v in pairs(over) do
    if type(v) == "table" and type(into[k]) == "table" and #v == 0 then merge(into[k], v) else into[k] = v end
  end
  return into
end

-- Everything a policy waits for, shortened: a test has seconds.
M.SHORT = {
  limits = { prepare = "3s", call = "2s", resolve = "2s", connect = "500ms", secure = "500ms",
             upgrade = "500ms", greeting = "800ms", close = "300ms" },
  backoff = { first = "250ms", factor = 2, most = "1s", floor = "250ms", jitter = "none", settle = "30s" },
}

-- A policy without a platform: dials `url`, greets with whatever frame comes first when `hello` is set.
M.PROBE = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "probe",
  about    = "for wire specs",
  options  = {
    url   = { type = "url", required = true },
    token = { type = "string", default = "t" },
    hello = { type = "boolean", default = false },
  },
  identity = { "url", "token" },
  account  = { "token" },
  sizes    = { message = "1MiB", send = 4096 },
  session  = { of = { "token" }, age = "1h", replay = "session" },
  frames   = { codec = "json", take = { op = "op", n = "n" }, deliver = { op = 0 } },
  classify = {
    { stage = "upgrading", http = 429, delay_from = "retry_after", otherwise = "1s", counts = false, verdict = "resume" },
    { any = true, verdict = "resume" },
  },
  prepare  = function (conn) return { url = conn.options.url } end,
  greet    = function (conn)
    if conn.options.hello then conn:await({ op = 10 }) end
  end,
}
]]

-- ---- peers ----------------------------------------------------------------------------------------------

local Peer = {}
Peer.__index = Peer

function Peer:control(verb, argument) return self.s.w:control(self.number, verb, argument) end
function Peer:fault(faults) return self:control("fault", faults) end
function Peer:heal() return self:control "heal" end
function Peer:stats() return self:control "stats" end
-- How many sockets ended with this close code, as the peer saw it.
function Peer:closed(code) return self:stats().closes[tostring(code)] or 0 end

-- ---- relays ---------------------------------------------------------------------------------------------

local Relay = {}
Relay.__index = Relay

-- Where connections go from now on, a peer or a raw server.
function Relay:leads_to(far_end)
  self.s.w:relay_target(self.number, far_end.port)
  self.ws = far_end.ws:gsub(":%d+$", ":" .. self.port)
end
function Relay:set(faults) self.s.w:relay_set(self.number, faults or {}) end
function Relay:live(faults)
  faults = copy(faults or {})
  faults.live = true
  self:set(faults)
end
function Relay:reset() self.s.w:relay_end(self.number, true) end
function Relay:fin() self.s.w:relay_end(self.number, false) end
function Relay:stats() return self.s.w:relay_stats(self.number) end

-- ---- consumers ------------------------------------------------------------------------------------------

local Consumer = {}
Consumer.__index = Consumer

function Consumer:collect()
  local text, attached, why = self.s.w:take(self.number)
  self.attached, self.why = attached, why
  for line in text:gmatch "[^\n]+" do
    local object = wire.decode(line)
    for kind, body in pairs(object) do
      self.kinds[kind] = self.kinds[kind] or {}
      table.insert(self.kinds[kind], body)
    end
  end
end

function Consumer:list(kind)
  self:collect()
  return self.kinds[kind] or {}
end
function Consumer:events() return self:list "event" end
function Consumer:states() return self:list "state" end
function Consumer:gaps() return self:list "gap" end
function Consumer:ack(event)
  self.s.w:input(self.number, ('{"ack":{"connection":"%s","epoch":%d,"offset":%d}}\n')
    :format(event.connection, event.epoch, event.offset))
end
function Consumer:pause(on) self.s.w:pause(self.number, on) end
-- The numbers that Discord's peer puts into its made-up messages, in the order of delivery.
function Consumer:numbers()
  local out = {}
  for _, e in ipairs(self:events()) do
    local d = e.frame and e.frame.d
    if type(d) == "table" and d.number then out[#out + 1] = d.number end
  end
  return out
end

-- ---- the world --------------------------------------------------------------------------------------------

local S = {}
S.__index = S

function M.new(options)
  local s = setmetatable({ w = wire.new(options or {}), peers = {}, cas = {} }, S)
  table.insert(opened, s)
  return s
end

function S:close()
  if not self.w then return end
  local w = self.w
  self.w = nil
  local left = w:close()
  assert(left.down, "leaked: a link did not end at shutdown")
  assert(left.tasks == 0, ("leaked: %d tasks of policies"):format(left.tasks))
  assert(left.links == 0, ("leaked: %d links"):format(left.links))
  assert(left.net_closed, "leaked: handles of the real host")
  assert(not left.relays, "leaked: handles of a relay")
  assert(left.loop_closed, "leaked: handles in the loop")
end

function S:now() return self.w:now() end
function S:turn(most_ms) self.w:turn(most_ms or 50) end

-- Turns the loop until fn() is true; fails the test with what happened when it does not come to hold.
function S:run_until(fn, within, what)
  local until_ms = self:now() + ms(within or WAIT_MS)
  while true do
    local answer = fn()
    if answer then return answer end
    if self:now() >= until_ms then
      error(("did not come to hold within %s%s\n%s"):format(tostring(within or WAIT_MS),
        what and ": " .. what or "", self:story()), 2)
    end
    self:turn(20)
  end
end

-- Turns the loop for a while; `always` must hold throughout.
function S:run_for(duration, always)
  local until_ms = self:now() + ms(duration)
  while self:now() < until_ms do
    self:turn(math.max(1, math.min(20, until_ms - self:now())))
    if always then assert(always(), "ceased to hold") end
  end
end

function S:story()
  local lines = {}
  for line in self.w:log():gmatch "[^\n]+" do lines[#lines + 1] = line end
  return table.concat(lines, "\n", math.max(1, #lines - 12))
end

local function port_of(url) return tonumber(url:match ":(%d+)") end

-- options: those of the peer, and tls (default true), names, starts, ends of its certificate.
function S:peer(name, options)
  options = copy(options or {})
  local listen = { tls = options.tls ~= false, names = options.names, starts = options.starts, ends = options.ends }
  options.tls, options.names, options.starts, options.ends = nil, nil, nil, nil
  local p = setmetatable({ s = self }, Peer)
  p.number, p.url, p.ca = self.w:peer(name, listen, options)
  p.port = port_of(p.url)
  p.ws = p.url:gsub("^http", "ws")
  table.insert(self.cas, p.ca)
  return p
end

-- A relay in front of a peer. What the peer's bootstrap answers leads through it from now on. Without a
-- peer: one that must be told with relay:to(peer), for peers that must know it before.
function S:relay(peer)
  local r = setmetatable({ s = self }, Relay)
  r.number, r.port = self.w:relay(peer and peer.port or 1)
  r.ws = ("wss://127.0.0.1:%d"):format(r.port)
  if peer then r:to(peer) end
  return r
end

function Relay:to(peer)
  self:leads_to(peer)
  M.lead(peer, self.ws)
end

-- An HTTP proxy on loopback. options: authorization (what it asks for), answer (instead of a tunnel), port. Its
-- faults are a relay's, stats() has asked, tunnels, targets, said.
function S:proxy(options)
  local r = setmetatable({ s = self, host = "127.0.0.1" }, Relay)
  r.number, r.port = self.w:relay(1, options and options.port)
  self.w:relay_proxy(r.number, options or {})
  return r
end

-- How a connection names it.
function Relay:named(authorization) return { host = self.host, port = self.port, authorization = authorization } end

-- The gateway address that Discord's peer hands out.
function M.lead(peer, ws)
  peer:fault { http = { status = 200, body = ('{"url":"%s","shards":1,"session_start_limit":' ..
    '{"total":1000,"remaining":1000,"reset_after":0,"max_concurrency":1}}'):format(ws) } }
end

-- A server of bytes: see net_far_end.h for the steps. Plain unless `tls`: true, or names, starts, ends, chain,
-- asks_client. On the IPv6 loopback with `v6`.
function S:raw(steps)
  local raw, options = { s = self }, { v6 = steps.v6 }
  if steps.tls then
    options.tls = true
    if type(steps.tls) == "table" then merge(options, steps.tls) end
  end
  raw.number, raw.port, raw.ca, raw.revoked = self.w:raw(options, steps)
  if steps.tls then table.insert(self.cas, raw.ca) end
  raw.ws = ("%s://%s:%d"):format(steps.tls and "wss" or "ws", steps.v6 and "[::1]" or "127.0.0.1", raw.port)
  function raw.go() self.w:raw_go(raw.number) end
  function raw.saw() return self.w:raw_saw(raw.number) end
  return raw
end

function S:pretend(name, address) self.w:pretend(name, address or "127.0.0.1") end
function S:silent_port() return self.w:silent_port() end
function S:free_port() return self.w:free_port() end
function S:watch_loop() self.w:watch_loop() end
function S:longest_gap() return self.w:longest_gap() end
function S:watch(port) self.w:watch(port) end
function S:sockets_most() return self.w:sockets_most() end
function S:counts() return self.w:counts() end
function S:secret(text, name) return wire.secret(text, name) end

local function write(name, text)
  local path = scratch.path(name)
  wire.write(path, text)
  return path
end

local texts, ca_files = {}, {}

-- The file of a policy: its name, or its text.
local function policy_path(policy)
  if not policy:find "\n" then return ("policies/%s.lua"):format(policy) end
  texts[policy] = texts[policy] or write("policy.lua", policy)
  return texts[policy]
end

-- options: `policy` (a name, or a policy's text), `tune`, `ca` (false: none; or PEM; default: of all far
-- ends so far), `stopped`, `proxy` (a proxy:named(), or "environment"); all others are the policy's.
function S:connection(name, options)
  options = copy(options)
  local policy, ca, stopped = options.policy or M.PROBE, options.ca, options.stopped
  local proxy = options.proxy
  if proxy == "environment" then proxy = true end
  options.policy, options.ca, options.stopped, options.proxy = nil, nil, nil, nil
  options.tune = merge(copy(M.SHORT), options.tune or {})
  local path = policy_path(policy)
  if ca == nil then ca = table.concat(self.cas) end
  if ca and #ca > 0 then ca_files[ca] = ca_files[ca] or write("ca.pem", ca) end
  local ca_file = ca and ca_files[ca] or nil
  local ok, why = self.w:add(name, path, options, ca_file, stopped, proxy)
  if not ok then error(why, 2) end
  return name
end

-- As a reload does: other options or tunes, or another text of the policy. `tune` is on top of the shortened numbers.
function S:swap(name, options)
  options = copy(options)
  local policy = options.policy or M.PROBE
  options.policy = nil
  options.tune = merge(copy(M.SHORT), options.tune or {})
  self.w:swap(name, policy_path(policy), options)
end

-- A connection with Discord's policy to Discord's peer, its numbers shortened.
function S:discord(name, peer, options)
  options = copy(options or {})
  options.policy = options.policy or "discord"
  options.token = options.token or wire.secret("MTIz." .. name, "token")
  options.intents = options.intents or 513
  options.api = options.api or peer.url .. "/api/v10"
  options.tune = merge({
    beat = { every = { "1s", "500ms", "10s" } },
    budgets = { start = { gap = "250ms" } },
  }, options.tune or {})
  return self:connection(name, options)
end

for _, verb in ipairs { "start", "stop", "restart", "remove" } do
  S[verb] = function (self, name) self.w:order(name, verb) end
end

function S:shutdown() return self.w:shutdown() end
function S:state(name) return self.w:state(name) end
function S:view(name) return self.w:view(name) end
function S:journal(name) return self.w:journal(name) end
function S:session(name) return wire.decode(self.w:session(name)) end
function S:notes(name, what)
  local out = {}
  for _, n in ipairs(self.w:notes(name)) do
    if not what or n.what == what then out[#out + 1] = n end
  end
  return out
end
-- Messages as they passed the link, decoded.
function S:messages(name, direction)
  local out = {}
  for _, m in ipairs(self.w:messages(name, direction)) do
    m.frame = wire.decode(m.data)
    out[#out + 1] = m
  end
  return out
end

function S:consumer(options)
  options = options or {}
  local parts = {}
  if options.name then parts[#parts + 1] = ('"consumer":"%s"'):format(options.name) end
  if options.from then parts[#parts + 1] = ('"from":"%s"'):format(options.from) end
  local c = setmetatable({ s = self, kinds = {} }, Consumer)
  c.number = self.w:attach(('{"attach":{%s}}'):format(table.concat(parts, ",")))
  return c
end

-- ---- what most specs ask -----------------------------------------------------------------------------------

function S:up(name, within)
  self:run_until(function () return self:state(name) == "up" end, within, name .. " up")
end

-- Runs until the connection's n-th decision from now on is made; returns the decision, and how many ms
-- after the call, or after the dial of the link that ended, it came.
function S:ending(name, within)
  local from, seen = self:now(), #self:notes(name, "decision")
  self:run_until(function () return #self:notes(name, "decision") > seen end, within, name .. " ended")
  local n = self:notes(name, "decision")[seen + 1]
  return n.decision, n.at - from, n
end

-- The next ending has exactly this cause; what it must say is in `expected`: fields of the cause, and
-- drop, pace of the verdict.
function S:fails(name, fault, expected, within)
  local d, took, n = self:ending(name, within)
  for k, v in pairs(expected) do
    local is = d.cause[k]
    if k == "drop" or k == "pace" then is = d[k] end
    if is ~= v then
      error(("%s: expected %s = %s, was %s\n  %s %s %s %s: %s\n%s"):format(fault, k, tostring(v), tostring(is),
        d.cause.stage, d.cause.kind, d.cause.name, d.cause.by, d.cause.reason, self:story()), 2)
    end
  end
  return d, took, n
end

return M
