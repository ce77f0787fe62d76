-- The soak's peers and what they do wrong: three processes that play Discord on loopback TLS, and a fault at a time
-- for each. The black hole is a stopped process; refused is one that is gone and comes back with another certificate.
local process = require "unit.process"

local M = {
  numbers_of_a_peer = 1000000, -- of one process: the next one's messages begin at the next million
}

local STOP, CONT = 19, 18 -- signals

local function now_s() return process.now_ms() / 1000 end

-- Peer `i` for the first time, or anew on the port that it had.
function M.start(s, i)
  local old = s.peers[i]
  local life = old and old.life + 1 or 0
  local peer = { index = i, life = life, port = old and old.port or "0", free_at = old and old.free_at or 0 }
  peer.run = s.world:start { "peer", "discord", "--port", peer.port, "--ca-out", ("ca%d.pem"):format(i), "--quiet",
    "--option", "identify_gap=0", "--option", "heartbeat_interval=5000", "--option", "events_every=" .. s.events_every,
    "--option", 'limit={"total":1000000,"remaining":1000000}', "--option", "max_concurrency=8",
    "--option", "first_number=" .. (life * M.numbers_of_a_peer + 1) }
  peer.port = peer.run:says "listening on https?://127%.0%.0%.1:(%d+)"
  peer.run.out = ""
  s.peers[i] = peer
end

function M.tell(peer, json)
  if peer.run and not peer.silent then assert(peer.run:write(json .. "\n")) end
end

local function shard_of(s, peer)
  local own = {}
  for _, c in ipairs(s.connections) do
    if c[2] == peer.index then own[#own + 1] = c[3] .. "/8" end
  end
  return own[s:random(#own)]
end

function M.heal(peer) M.tell(peer, '{"verb":"heal"}') end

local function verb(json, seconds)
  return { name = json, seconds = seconds or 3, run = function (s, p) M.tell(p, (json:gsub("SHARD", shard_of(s, p)))) end }
end

-- A fault of the peer's script, and what makes the links meet it; healed after so many seconds.
local function fault(json, then_verb, seconds, long)
  return { name = json, seconds = seconds + 2, long = long, run = function (s, p)
    M.tell(p, ('{"verb":"fault",%s}'):format(json))
    if then_verb then M.tell(p, then_verb) end
    s:later(seconds, function () M.heal(p) end)
  end }
end

local ABORT = '{"verb":"abort"}'
local FAULTS = {
  verb '{"verb":"kick","shard":"SHARD","code":4000}', verb '{"verb":"kick","shard":"SHARD","code":1001}',
  verb '{"verb":"kick","shard":"SHARD","code":4009}', verb '{"verb":"kick","code":1012,"reason":"restart"}',
  verb '{"verb":"abort","shard":"SHARD"}', verb(ABORT), verb('{"verb":"op7","shard":"SHARD"}', 6),
  verb('{"verb":"op9","shard":"SHARD","resumable":true}', 6), verb('{"verb":"op9","shard":"SHARD"}', 6),
  verb '{"verb":"ask_beat"}', verb '{"verb":"raw","shard":"SHARD","text":"{\\"op\\":0,\\"t\\":"}',
  verb('{"verb":"raw","shard":"SHARD","text":"abc","binary":true}', 4),
  fault('"upgrade":{"status":503,"times":3}', ABORT, 4), fault('"http":{"status":500,"times":2}', '{"verb":"op9"}', 5),
  fault('"upgrade":{"status":429,"times":1,"headers":{"Retry-After":"1"}}', ABORT, 4),
  fault('"noise":true', nil, 4), fault('"ack_delay":700', nil, 6), fault('"corrupt":1', nil, 3),
  fault('"pieces":3', nil, 4), fault('"replay_delay":2', ABORT, 4), fault('"invalid_identify":1', '{"verb":"op9"}', 8),
  fault('"close_after_resume":4000,"close_delay":5', ABORT, 3), fault('"op7_for_hello":1', ABORT, 4),
  fault('"silent_upgrade":1', ABORT, 8, true), fault('"silent_hello":1', ABORT, 24, true),
  fault('"no_resumed":1', ABORT, 24, true), fault('"no_ack":true', nil, 14, true),
  { name = "expire", seconds = 8, run = function (_, p) M.tell(p, '{"verb":"expire"}') M.tell(p, ABORT) end },
  { name = "deaf", seconds = 16, long = true, run = function (s, p)
      M.tell(p, '{"verb":"deaf"}')
      s:later(12, function () M.tell(p, '{"verb":"deaf","off":true}') end)
    end },
  { name = "black hole", seconds = 20, long = true, run = function (s, p)
      p.silent = true
      p.run:kill(STOP)
      s:later(14, function () p.run:kill(CONT) p.silent = false end)
    end },
  { name = "refused", seconds = 8, peer = 3, run = function (s, p)
      p.run:stop()
      p.run.process:close()
      p.run = nil
      s:later(s.short and 1 or 4, function () M.start(s, p.index) end)
    end },
}

function M.inject(s)
  local peer = s.peers[s:random(#s.peers)]
  if peer.free_at > now_s() or not peer.run then return end
  local f = FAULTS[s:random(#FAULTS)]
  if (f.long and s.short) or (f.peer and f.peer ~= peer.index) then return end
  peer.free_at = now_s() + f.seconds
  s.faults = s.faults + 1
  s:note(("peer %d: %s"):format(peer.index, f.name))
  f.run(s, peer)
end
-- Ends whatever was going on: all run, take what comes, and do right from now on.
function M.calm(s)
  for i, p in ipairs(s.peers) do
    if p.silent then p.run:kill(CONT) end
    p.silent = false
    if not p.run then M.start(s, i) end
    M.heal(s.peers[i])
    M.tell(s.peers[i], '{"verb":"deaf","off":true}')
  end
end

return M
