-- The faults that the prover plays, and the stages at which it plays them.
--
-- A stage is where the connection is when a fault comes:
--   down      no link, and the next attempt not yet dialled: waiting for its time, or preparing
--   greeting  upgraded, in the platform's handshake
--   ready     up, and not settled yet
--   settled   up for longer than `settle`
-- A fault of the way (a name that does not resolve, a refused connection, a refused upgrade ...) comes while the
-- connection is down and strikes the next attempt at its own place on the way.
--
-- A move is one fault at one stage, as plain data:
--   { at = STAGE, fault = NAME, with = { ... }, lasts = "6m" }    of the network or of this machine
--   { at = STAGE, peer = VERB, with = { ... }, held = true }      of the platform; `held`: until all is well again
--   also  fatal = true   the platform means it: stopping for good is right
--         dead = true    it stays so when all is well: what is lost is lost
--         say = TEXT     in words

local faults = {}

faults.STAGES = { "down", "greeting", "ready", "settled" }

-- Strikes the next attempt once.
local ONCE = {
  { "resolve_fail", "the name does not resolve" },
  { "refuse", "the connection is refused" },
  { "connect_timeout", "the connection is never answered" },
  { "tls_fail", "the TLS handshake fails" },
  { "cert_expired", "the certificate has expired" },
  { "http_status", "the upgrade is answered with 503", { status = 503 } },
  { "http_status", "the upgrade is answered with 429", { status = 429 } },
  { "reset", "the link is reset during the upgrade", { stage = "upgrading" } },
  { "reset", "the link is reset during the greeting", { stage = "greeting" } },
}

-- Strikes every attempt while it lasts.
local LASTING = {
  { "resolve_fail", "no name resolves", { what = "any" } },
  { "refuse", "every connection is refused", { what = "any" } },
  { "connect_timeout", "no connection is answered", { what = "any" } },
  { "http_status", "every upgrade is answered with 503", { what = "link", status = 503 } },
  { "reset", "every link is reset during the greeting", { what = "link", stage = "greeting" } },
  { "slow", "the network takes three seconds each way", { what = "any", ms = 3000 } },
}

-- HTTP calls of a policy that makes any.
local CALLS = {
  { "http_status", "an HTTP call is answered with 500", { what = "call", status = 500, times = 1 } },
  { "connect_timeout", "an HTTP call is never answered", { what = "call", times = 1 } },
  { "http_status", "every HTTP call is answered with 502", { what = "call", status = 502 }, "6m" },
}

-- Strikes the link that is there.
local LINK = {
  { "reset", "the link is reset", { times = 1 } },
  { "eof_without_close", "the stream ends without a close frame", { times = 1 } },
  { "half_open", "the far machine is gone without a word", { times = 1 } },
  { "black_hole", "packets are lost both ways for 90 seconds", { what = "any" }, "90s" },
  { "garbage", "64 bytes of garbage arrive", { bytes = 64, times = 1 } },
}

-- Of the machine that holdfast runs on.
local MACHINE = {
  { "crash", "the process crashes, and starts again a second later" },
  { "power_cut", "the power is cut, and holdfast starts again a second later" },
  { "reload", "the policy is reloaded" },
  { "suspend", "the machine sleeps for ten minutes", { lasts = "10m" } },
  { "loop_stall", "the process gets no time for 30 seconds", { lasts = "30s" } },
  { "clock_jump", "the clock is set one day back", { by = "-1d" } },
}

local function copy(t)
  local out = {}
  for k, v in pairs(t or {}) do out[k] = v end
  return out
end

local function add(list, at, row, lasts)
  list[#list + 1] = { at = at, fault = row[1], say = row[2], with = copy(row[3]), lasts = row[4] or lasts }
end

---Every move, in the order in which they are tried.
---@param options { calls: boolean, peer: table[] }  `calls`: the policy makes HTTP calls; `peer`: what its peer can do
function faults.moves(options)
  local list = {}
  for _, row in ipairs(options.peer or {}) do
    for _, at in ipairs(row.at) do
      list[#list + 1] = { at = at, peer = row.verb, with = copy(row.with), held = row.held or nil,
                          fatal = row.fatal or nil, dead = row.dead or nil, say = row.say }
    end
  end
  for _, row in ipairs(LINK) do
    add(list, "settled", row)
    if row[1] ~= "garbage" then add(list, "greeting", row) end
    if row[1] == "reset" or row[1] == "half_open" then add(list, "ready", row) end
  end
  for _, row in ipairs(ONCE) do
    local once = { row[1], row[2], copy(row[3]) }
    once[3].what, once[3].times = "link", 1
    add(list, "down", once)
  end
  if options.calls then
    for _, row in ipairs(CALLS) do add(list, "down", row) end
  end
  for _, row in ipairs(LASTING) do add(list, "down", row, "6m") end
  for _, row in ipairs(MACHINE) do
    add(list, "down", row)
    add(list, "greeting", row)
    add(list, "settled", row)
  end
  return list
end

---What goes on for more than an hour: { moves = ..., hour = true }. No storm may come of it.
function faults.hours(moves)
  local list = {}
  for _, m in ipairs(moves) do
    if (m.held or m.lasts == "6m") and not m.dead then
      local long = copy(m)
      if long.lasts then long.lasts = "75m" end
      list[#list + 1] = { long }
    end
  end
  list[#list + 1] = { { at = "settled", fault = "flap", lasts = "75m", say = "each link is reset a second after it came up" } }
  return list
end

---One line about a move.
function faults.describe(m)
  local text = m.say or m.fault or m.peer
  if m.lasts and m.fault ~= "black_hole" then text = text .. " (for " .. m.lasts .. ")" end
  if m.held then text = text .. ", until all is well again" end
  return text
end

return faults
