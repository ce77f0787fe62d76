-- `make reload-many`: many links against the load peer, numbered frames that flow to a consumer, and reloads one after the
-- other: by turns another number in the policy, another setting of one connection, and files that nobody touched. Fails when a
-- link was closed or a frame was lost; how long the loop was held up is measured from inside (the daemon's own figures: of
-- time, and of CPU time, which has no part in what else the machine ran) and from outside (the longest answer of /healthz),
-- and printed beside the same without any reload.
-- RELOAD_LINKS (10000), RELOAD_TIMES (100), RELOAD_RATE (2000 frames a second), RELOAD_PROVE (false: what the gate costs is
-- not what is measured here).
package.path = "tests/bench/?.lua;" .. package.path
local world = require "world"
local process = require "unit.process"

local LINKS = tonumber(os.getenv "RELOAD_LINKS") or 10000
local TIMES = tonumber(os.getenv "RELOAD_TIMES") or 100
local RATE = tonumber(os.getenv "RELOAD_RATE") or 2000
local PROVE = os.getenv "RELOAD_PROVE" or "false"
local QUIET_MS = tonumber(os.getenv "RELOAD_QUIET_MS") or 20000 -- without a reload, to compare with

local function say(format, ...)
  io.stdout:write(format:format(...), "\n")
  io.stdout:flush()
end

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function curl(s, method, target)
  local p = io.popen(("curl -s --max-time 300 -X %s --unix-socket %s 'http://localhost%s'"):format(method, s.socket, target))
  local body = p:read "*a"
  p:close()
  return body
end

-- Of the last minute, in ms; of one connection, because to ask for all of them is work of its own.
local function loop_worst(s)
  local body = curl(s, "GET", "/v1/connections/c1")
  local worst, busy = body:match '"worst_ms":([%d.]+)', body:match '"worst_busy_ms":([%d.]+)'
  return assert(tonumber(worst), body:sub(1, 400)), tonumber(busy)
end

-- What each part of a turn took at most, of CPU time, in the last minute.
local function parts_worst(s)
  local list = {}
  for part, seconds in curl(s, "GET", "/metrics"):gmatch 'holdfast_loop_part_busy_worst_seconds{[^}]*part="(%w+)"[^}]*} (%S+)' do
    list[#list + 1] = ("%s %.1f"):format(part, tonumber(seconds) * 1000)
  end
  return table.concat(list, ", ")
end

local shipped = read "tests/bench/policies/bench.lua"
local function replace(path, text) -- as editors do
  world.write(path .. ".new", text)
  assert(os.rename(path .. ".new", path))
end

it("reloads while frames flow", function ()
  local far = world.far_end()
  local folder, turn = nil, { policy = 0, one = 0 }
  local function policy() return (shipped:gsub('most = "60s", floor', ('most = "%ds", floor'):format(60 + turn.policy), 1)) end
  local function config()
    return ([[
listen { unix = "h.sock" }
store { memory = true }
policies { path = "policies", watch = false, prove = %s }
for i = 1, %d do
  connection("c" .. i) { policy = "bench", url = "wss://127.0.0.1:%s/", token = "t" .. i, ca_file = "%s",
                         tune = i == 7 and { slow = { most = "%ds" } } or nil }
end
]]):format(PROVE, LINKS, far.port, far.ca, 600 + turn.one)
  end
  local s = world.start(far, { name = "holdfast", holdfast = true }, LINKS, { within_s = 300, config = function (f)
    folder = f
    os.execute("mkdir -p " .. f .. "/policies")
    world.write(f .. "/policies/bench.lua", policy())
    return config()
  end })
  say("%d links are open after %d ms", s.opened.open, s.opened.ms)
  local closed_before = far:ask(10, "links").closed -- a link that was slow to open may have been dialled anew
  far:ask(10, "probe %s", s.socket)
  far:ask(10, "idle 2000")

  local function flow() far:begin("pace %d 300 %d", 3600000, RATE) end
  local function ebb()
    far:begin "stop"
    return far:answer(60)
  end
  local function probes(name, since_ms)
    local p, worst, busy = far:ask(10, "probed"), loop_worst(s)
    say("%-16s of CPU time at most %.1f ms in one turn; by part, ms: %s", name, busy, parts_worst(s))
    say("%-16s %6.1f s: loop held up for at most %.1f ms; /healthz answered within %.1f ms (%d asked, %d over 5 ms, %d over 20 ms, %d over 100 ms)",
        "", (process.now_ms() - since_ms) / 1000, worst, p.max / 1000, p.probes, p.over5, p.over20, p.over100)
    say("%-16s the machine: a piece of arithmetic of %.1f ms took anybody %.1f ms of CPU time at most (%d done)", "", p.piece / 1000,
        p.worst / 1000, p.pieces)
    return worst, busy
  end

  local _, start_busy = loop_worst(s)
  say("%-16s of CPU time at most %.1f ms in one turn; by part, ms: %s", "start", start_busy, parts_worst(s))
  far:ask(70, "idle 61000") -- the start is out of the last minute's figure
  far:ask(10, "probed")
  local began = process.now_ms()
  flow()
  local until_ms = process.now_ms() + QUIET_MS
  while process.now_ms() < until_ms do far.process:pump(100) end
  local quiet = ebb()
  probes("no reload", began)
  say("%-16s %d frames sent, %d received; delay p50 %.2f ms, p99 %.2f ms, worst %.1f ms", "", quiet.sent, quiet.received,
      quiet.p50 / 1e6, quiet.p99 / 1e6, quiet.max / 1e6)

  local kinds = { { "policy", {} }, { "one connection", {} }, { "untouched", {} } }
  began = process.now_ms()
  flow()
  local worst, busiest = 0, 0
  local function look(now, own) worst, busiest = math.max(worst, now), math.max(busiest, own) end
  for i = 1, TIMES do
    local kind = kinds[(i - 1) % 3 + 1]
    if kind[1] == "policy" then
      turn.policy = turn.policy % 50 + 1
      replace(folder .. "/policies/bench.lua", policy())
    elseif kind[1] == "one connection" then
      turn.one = turn.one + 1
      replace(folder .. "/holdfast.lua", config())
    end
    local asked = process.now_ms()
    local answer = curl(s, "POST", "/v1/reload")
    assert(answer:find('"reloaded":true', 1, true), answer)
    table.insert(kind[2], process.now_ms() - asked)
    if i % 10 == 0 then look(loop_worst(s)) end
  end
  local busy = ebb()
  look(probes(TIMES .. " reloads", began))
  say("%-16s the loop's worst of all: %.1f ms, of them CPU time of its own in one turn: %.1f ms at most", "", worst, busiest)
  say("%-16s %d frames sent, %d received; delay p50 %.2f ms, p99 %.2f ms, worst %.1f ms", "", busy.sent, busy.received,
      busy.p50 / 1e6, busy.p99 / 1e6, busy.max / 1e6)
  for _, kind in ipairs(kinds) do
    table.sort(kind[2])
    if #kind[2] > 0 then
      say("%-16s %d times: answered after %d ms (median), %d ms at most", kind[1], #kind[2],
          kind[2][math.ceil(#kind[2] / 2)], kind[2][#kind[2]])
    end
  end

  local links, tally = far:ask(10, "links"), far:ask(10, "tally")
  say("links: %d open, %d closed", links.open, links.closed - closed_before)
  say("frames: %d sent, %d received, sums of their numbers %s; %d holes, %d gaps", tally.sent, tally.received,
      tally.sum == tally.got and "equal" or "DIFFER", tally.holes, tally.gaps)
  local versions = tonumber(curl(s, "GET", "/v1/connections/c9"):match '"version":(%d+)')
  say("version of the policy that runs: %d", versions)
  assert(links.open == LINKS and links.closed == closed_before, "links were closed")
  assert(tally.sent == tally.received and tally.sum == tally.got and tally.holes == 0 and tally.gaps == 0, "frames were lost")
  assert(versions == 1 + math.ceil(TIMES / 3), "the new versions do not run")
  far:ask(10, "unprobe")
  s:stop()
  far:close()
end)
