-- `make bench`: holdfast and what people would use instead, doing the same work side by side: see README.md beside.
-- BENCH names the parts (frames latency connects memory durable start scale herd; all), BENCH_REPEATS (7) and
-- BENCH_SECONDS (1) how often and how long, BENCH_LINKS (10000) how many idle links, BENCH_FRAME_LINKS ("1 64 1000")
-- how many busy ones, BENCH_RIVALS a pattern of names. Writes BENCH_DIR/report.md and bench.svg. Measures, and fails only
-- where something does not work; nothing here is a gate.
package.path = "tests/bench/?.lua;" .. package.path
local world = require "world"
local report = require "report"
local json = require "dkjson"

local REPEATS = tonumber(os.getenv "BENCH_REPEATS") or 7
local SECONDS = tonumber(os.getenv "BENCH_SECONDS") or 1
local LINKS = tonumber(os.getenv "BENCH_LINKS") or 10000
local PARTS = os.getenv "BENCH" or ""
local ONLY = os.getenv "BENCH_RIVALS" or ""
local RATE = 20000

local text, groups = {}, {}

local function say(line)
  io.stdout:write(line, "\n")
  io.stdout:flush()
end

local function put(part)
  text[#text + 1] = part
  say(part)
end

local function wanted(part) return PARTS == "" or PARTS:find(part, 1, true) ~= nil end

-- results[name][key] = { one number per repeat }
local function keep(results, name, key, value)
  results[name] = results[name] or {}
  results[name][key] = results[name][key] or {}
  table.insert(results[name][key], value)
end

local function group(title, unit, names, results, key)
  local bars = {}
  for _, name in ipairs(names) do
    local middle, low, high = report.median(results[name] and results[name][key] or {})
    if middle then bars[#bars + 1] = { name, middle, low, high } end
  end
  groups[#groups + 1] = { title = title, unit = unit, bars = bars }
end

local function ratios(names, results, key)
  local function of(name) return report.median(results[name] and results[name][key] or {}) end
  local ours, raw, node = of "holdfast", of "raw epoll", of "Node ws"
  if not ours then return "-" end
  return ("%s x raw, Node is %s x"):format(raw and ("%.2f"):format(ours / raw) or "?", node and ("%.1f"):format(node / ours) or "?")
end

-- Everything `fn(subject, keep)` measures of each rival, interleaved, REPEATS times.
local function rounds(far, rivals, links, repeats, options, fn)
  local results = {}
  for i = 1, repeats do
    for _, rival in ipairs(rivals) do
      local s = world.start(far, rival, links, options)
      fn(s, function (key, value) keep(results, rival.name, key, value) end)
      s:stop()
    end
    if repeats > 1 then say(("  round %d of %d with %d links"):format(i, repeats, links)) end
  end
  return results
end

local function checked(name, answer)
  assert(answer.sent and answer.sent > 0 and answer.received == answer.sent, ("%s lost frames: %s"):format(name, answer.line))
  return answer
end

local function frames(far, rivals, names)
  local columns, rows = { "CPU per frame, us" }, {}
  for _, name in ipairs(names) do rows[#rows + 1] = { name } end
  local last = { "holdfast" }
  for links in (os.getenv "BENCH_FRAME_LINKS" or "1 64 1000"):gmatch "%d+" do
    links = tonumber(links)
    local results = rounds(far, rivals, links, REPEATS, nil, function (s, add)
      for _, size in ipairs { 200, 2000 } do
        local burst = links >= 1000 and 8 or 32
        checked(s.rival.name, far:ask(60, "blast %d %d %d", 300, size, burst))
        local a = checked(s.rival.name, far:ask(SECONDS + 60, "blast %d %d %d", SECONDS * 1000, size, burst))
        add(size, a.cpu / a.sent / 1000)
      end
    end)
    for _, size in ipairs { 200, 2000 } do
      columns[#columns + 1] = ("%d B, %d link%s"):format(size, links, links == 1 and "" or "s")
      for _, row in ipairs(rows) do row[#row + 1] = report.cell(results[row[1]] and results[row[1]][size]) end
      last[#last + 1] = ratios(names, results, size)
      group(("%d-byte frames on %d link%s"):format(size, links, links == 1 and "" or "s"), "us of CPU per forwarded frame", names,
            results, size)
    end
  end
  rows[#rows + 1] = last
  put(report.table("Frames, flat out", columns, rows))
end

local function latency(far, rivals, names)
  local rows = {}
  local results = rounds(far, rivals, 64, REPEATS, nil, function (s, add)
    checked(s.rival.name, far:ask(60, "pace 300 200 %d", RATE))
    local a = checked(s.rival.name, far:ask(SECONDS + 60, "pace %d 200 %d", SECONDS * 1000, RATE))
    add("cpu", a.cpu / a.sent / 1000)
    add("p50", a.p50 / 1000)
    add("p99", a.p99 / 1000)
    add("rate", a.sent / SECONDS)
  end)
  for _, name in ipairs(names) do
    local r = results[name] or {}
    rows[#rows + 1] = { name, report.cell(r.cpu), report.cell(r.p50), report.cell(r.p99), report.cell(r.rate) }
  end
  rows[#rows + 1] = { "holdfast", ratios(names, results, "cpu"), ratios(names, results, "p50"), ratios(names, results, "p99") }
  put(report.table(("Paced: 200-byte frames one by one, %d a second, 64 links"):format(RATE),
                   { "", "CPU per frame, us", "p50, us", "p99, us", "frames/s" }, rows))
  group(("%d frames a second, one by one"):format(RATE), "us of CPU per forwarded frame", names, results, "cpu")
  group("Added delay, p50", "us", names, results, "p50")
end

-- All links cut; every client dials again, with tickets where it keeps them.
local function connects(far, rivals, names)
  local rows = {}
  local links = math.min(LINKS, 500)
  local results = rounds(far, rivals, links, REPEATS, nil, function (s, add)
    add("first", 1e9 * links / s.opened.cpu)
    local a = far:ask(70, "drop %d 60000", links)
    assert(a.open == links, s.rival.name .. " did not come back: " .. a.line)
    add("again", 1e9 * links / a.cpu)
    add("resumed", 100 * a.resumed / a.handshakes)
  end)
  for _, name in ipairs(names) do
    local r = results[name] or {}
    rows[#rows + 1] = { name, report.cell(r.first), report.cell(r.again), report.cell(r.resumed) }
  end
  put(report.table(("TLS connects per CPU second (%d links)"):format(links),
                   { "", "first, with the start of the process", "all cut and dialled again", "resumed, %" }, rows))
  group("TLS reconnects", "per CPU second; more is better", names, results, "again")
end

local function memory(far, rivals, names)
  local rows = {}
  local results = rounds(far, rivals, 0, 1, { store = true }, function (s, add) add("none", far:ask(10, "memory").pss) end)
  local loaded = rounds(far, rivals, LINKS, 1, { store = true }, function (s, add)
    add("idle", far:ask(10, "memory").pss)
    checked(s.rival.name, far:ask(120, "blast 3000 2000 4"))
    far:ask(10, "idle 2000")
    add("burst", far:ask(10, "memory").pss)
    local a = far:ask(60, "idle %d", SECONDS * 1000)
    add("cpu", 100 * a.cpu / a.ns)
  end)
  local final = {}
  for _, name in ipairs(names) do
    local none, r = results[name] and results[name].none[1], loaded[name]
    if none and r then
      keep(final, name, "idle", (r.idle[1] - none) / LINKS)
      keep(final, name, "burst", (r.burst[1] - none) / LINKS)
      rows[#rows + 1] = { name, report.digits(none / 1024), report.cell(final[name].idle), report.cell(final[name].burst), report.cell(r.cpu) }
    end
  end
  put(report.table(("Memory at %d idle TLS links (proportional set size)"):format(LINKS),
                   { "", "without links, MiB", "KiB per link", "after 2-KB frames on each", "idle CPU, %" }, rows))
  group(("Memory per idle link at %d"):format(LINKS), "KiB", names, final, "idle")
end

-- holdfast alone, in memory and with the store on; the platform is told of each frame, early: once it is safe.
local function durable(far)
  local kinds = { { name = "in memory" }, { name = "store on", store = true } }
  local results, rows = {}, {}
  local early = [[, tune = { frames = { ack = { when = "early", frame = '{"op":1,"d":"@seq"}' } } }]]
  for i = 1, REPEATS do
    for _, kind in ipairs(kinds) do
      local s = world.start(far, world.rivals()[1], 64, { store = kind.store, extra = early })
      for _, size in ipairs { 200, 2000 } do
        checked(kind.name, far:ask(60, "blast 300 %d 32", size))
        local a = checked(kind.name, far:ask(SECONDS + 60, "blast %d %d 32", SECONDS * 1000, size))
        keep(results, kind.name, "rate" .. size, 1e9 * a.received / a.ns)
        keep(results, kind.name, "cpu" .. size, a.cpu / a.sent / 1000)
      end
      s:stop()
    end
    say(("  round %d of %d with and without a store"):format(i, REPEATS))
  end
  for _, kind in ipairs(kinds) do
    local r = results[kind.name]
    rows[#rows + 1] = { kind.name, report.cell(r.rate200), report.cell(r.cpu200), report.cell(r.rate2000), report.cell(r.cpu2000) }
  end
  local function share(key) return ("%.2f"):format(report.median(results["store on"][key]) / report.median(results["in memory"][key])) end
  rows[#rows + 1] = { "ratio", share "rate200", share "cpu200", share "rate2000", share "cpu2000" }
  put(report.table("Durable delivery: 64 links, one consumer, each frame acknowledged to the platform",
                   { "", "200 B: frames/s", "CPU per frame, us", "2 KB: frames/s", "CPU per frame, us" }, rows))
  group("Durable delivery, 200-byte frames", "frames per second; more is better", { "in memory", "store on" }, results, "rate200")
end

-- holdfast alone: from exec() to the first frame at the consumer, a TLS handshake, an upgrade and a greeting on the way.
local function first(far)
  local rows, results = {}, {}
  far:ask(10, "manners 20000")
  for i = 0, math.max(REPEATS, 3) * 3 do
    for _, kind in ipairs { "new store", "store of before", "in memory" } do
      local d
      if kind == "store of before" then d = { args = results.args, socket = results.socket }
      else d = world.daemon(far, 1, { policy = "mannered", store = kind ~= "in memory" }) end
      results.args, results.socket = d.args, d.socket
      local a = far:ask(20, "launch %s HOLDFAST_LUA=%s %s", d.socket, world.lua_path, table.concat(d.args, " "))
      assert(a.first and a.first > 0, kind .. ": no first frame: " .. a.line)
      if i > 0 then
        keep(results, kind, "socket", a.attached / 1e6)
        keep(results, kind, "first", a.first / 1e6)
      end
    end
  end
  far:ask(10, "manners 0")
  for _, kind in ipairs { "new store", "store of before", "in memory" } do
    rows[#rows + 1] = { kind, report.cell(results[kind].socket), report.cell(results[kind].first) }
  end
  put(report.table("Start, ms", { "", "its socket is there", "first frame at the consumer" }, rows))
  results.args, results.socket = nil, nil
  group("Start to first frame", "ms", { "new store", "store of before", "in memory" }, results, "first")
end

local function late(far)
  local a = far:ask(10, "late")
  return ("%.1f / %.1f / %.1f"):format(a.p50 / 1000, a.p99 / 1000, a.max / 1000), a
end

-- The raw client, or nil when it is not built.
local function raw_client()
  for _, rival in ipairs(world.rivals()) do
    if rival.name == "raw epoll" and not rival.why then return rival end
  end
end

-- What it takes for the same beats and their answers.
local function raw_beats(far)
  local raw = raw_client()
  if not raw then return nil end
  local s = world.start(far, raw, LINKS, { beat_ms = 20000 })
  far:ask(30, "idle 22000")
  far:ask(10, "manners 20000")
  local idle = far:ask(90, "idle %d", 42000)
  local _, a = late(far)
  s:stop()
  return idle, a
end

-- holdfast alone: many quiet links with a greeting and beats.
local function scale(far)
  far:ask(10, "manners 20000")
  local raw_idle, raw = raw_beats(far)
  far:ask(10, "manners 20000")
  local s = world.start(far, world.rivals()[1], LINKS, { store = true, policy = "mannered" })
  far:ask(30, "idle 22000")
  far:ask(10, "manners 20000")
  local idle = far:ask(90, "idle %d", 42000)
  local beats, a = late(far)
  local answers = {}
  for _, path in ipairs { "/metrics", "/v1/connections", "/v1/connections/c1" } do
    local times, bytes = {}, 0
    for i = 1, 5 do
      local body, ms = world.get(s, path)
      times[i], bytes = ms, #body
    end
    answers[#answers + 1] = { path, report.cell(times), ("%.0f KiB"):format(bytes / 1024) }
  end
  local times, bytes = {}, 0
  for i = 1, 5 do
    local text, ms = world.status(s)
    times[i], bytes = ms, #text
  end
  answers[#answers + 1] = { "`holdfast status`", report.cell(times), ("%.0f KiB"):format(bytes / 1024) }
  local delay = world.metrics(s)
  local memory_kb = far:ask(10, "memory").pss
  s:stop()
  far:ask(10, "manners 0")
  local function of_raw(format, ...) return raw and format:format(...) or "-" end
  put(report.table(("%d links that beat every 20 s"):format(LINKS), { "", "holdfast", "raw epoll" }, {
    { "all up after, s", ("%.1f"):format(s.opened.ms / 1000) },
    { "CPU of that, s", ("%.1f"):format(s.opened.cpu / 1e9) },
    { "CPU while idle, % of a core", ("%.2f"):format(100 * idle.cpu / idle.ns),
      raw and of_raw("%.2f: holdfast takes %.2f times as much", 100 * raw_idle.cpu / raw_idle.ns, idle.cpu / idle.ns / (raw_idle.cpu / raw_idle.ns)) },
    { "beats", tostring(a.beats), raw and tostring(raw.beats) },
    { "CPU of a beat and its answer, us", ("%.0f"):format(idle.cpu / a.beats / 1000), raw and of_raw("%.0f", raw_idle.cpu / raw.beats / 1000) },
    { "late, p50 / p99 / most, ms", beats },
    { "memory, MiB", ("%.0f"):format(memory_kb / 1024) },
    { "loop's worst delay, ms", delay },
  }))
  put(report.table("What it answers meanwhile, ms", { "", "ms", "size" }, answers))
end

-- Attempts by connection, as holdfast counts them.
local function attempts_of(s)
  local out = {}
  for _, c in ipairs(json.decode((world.get(s, "/v1/connections"))).connections) do out[c.name] = c.attempts_total end
  return out
end

-- What the raw client takes for a herd of the same size that nobody greets: the handshake, the upgrade.
local function raw_herd(far, rows)
  local raw = raw_client()
  if not raw then return end
  far:ask(10, "manners 0")
  local s = world.start(far, raw, LINKS, {})
  far:ask(20, "idle 3000")
  local a = far:ask(190, "drop %d 180000", LINKS)
  s:stop()
  assert(a.open == LINKS, "not all came back: " .. a.line)
  rows[#rows + 1] = { "raw epoll, nobody greeted: cut", ("%.1f"):format(a.ms / 1000), ("%.0f"):format(1e9 * a.handshakes / a.cpu),
                      ("%.1f"):format(100 * a.resumed / a.handshakes), "-", "-", "-", "-", "-" }
end

-- All cut at once, and once more by a peer that refuses everybody for 2 s. Some are elsewhere and stay.
local function herd(far)
  local SURVIVORS = 100
  local rows = {}
  raw_herd(far, rows)
  local other = world.far_end "other-"
  far:ask(10, "manners 20000")
  other:ask(10, "manners 20000")
  local s = world.start(far, world.rivals()[1], LINKS, { store = true, policy = "mannered", also = { far = other, links = SURVIVORS } })
  other:ask(70, "wait %d 60000", SURVIVORS)
  far:ask(20, "idle 3000")
  for _, refuse_ms in ipairs { 0, 2000 } do
    far:ask(40, "idle 22000")
    far:ask(10, "manners 20000")
    other:ask(10, "manners 20000")
    if refuse_ms > 0 then far:ask(10, "refuse %d", refuse_ms) end
    local before = attempts_of(s)
    local a = far:ask(190, "drop %d 180000", LINKS)
    assert(a.open == LINKS, "not all came back: " .. a.line)
    local spread = far:ask(10, "attempts 250 24").line:match "attempts (.-)%s*$"
    far:ask(40, "idle 22000")
    local beats = late(other)
    local _, mine = late(far)
    local most = 0 -- of one identity; the last attempt came up
    for name, count in pairs(attempts_of(s)) do most = math.max(most, count - before[name] - 1) end
    rows[#rows + 1] = { refuse_ms == 0 and "cut" or ("cut, refused for %d ms"):format(refuse_ms), ("%.1f"):format(a.ms / 1000),
                        ("%.0f"):format(1e9 * a.handshakes / a.cpu), ("%.1f"):format(100 * a.resumed / a.handshakes),
                        ("%.2f, %d"):format(a.refused / LINKS, most), beats, tostring(mine.twice), world.metrics(s), spread }
  end
  put(report.table(("A herd of %d, and %d links elsewhere"):format(LINKS, SURVIVORS),
                   { "", "all back after, s", "connects per CPU second", "resumed, %", "refused per link, mean and most",
                     "survivors' beats late, p50 / p99 / most, ms", "there twice", "loop's worst delay, ms", "attempts in each 250 ms" }, rows))
  s:stop()
  far:ask(10, "manners 0")
  other:close()
end

it("measures", function ()
  local rivals, names = {}, {}
  for _, rival in ipairs(world.rivals()) do
    if ONLY ~= "" and not rival.name:find(ONLY) and not rival.holdfast then rival.why = "not asked for" end
    if rival.why then say(("%s is left out: %s"):format(rival.name, rival.why))
    else
      rivals[#rivals + 1] = rival
      names[#names + 1] = rival.name
    end
  end
  put(("Measured on %s.\n"):format(world.machine()))
  local far = world.far_end()
  if wanted "frames" then frames(far, rivals, names) end
  if wanted "latency" then latency(far, rivals, names) end
  if wanted "connects" then connects(far, rivals, names) end
  if wanted "memory" then memory(far, rivals, names) end
  if wanted "durable" then durable(far) end
  if wanted "start" then first(far) end
  if wanted "scale" then scale(far) end
  if wanted "herd" then herd(far) end
  far:close()
  local function write(name, what)
    local f = assert(io.open(world.folder .. "/" .. name, "w"))
    f:write(what)
    f:close()
  end
  write("report.md", table.concat(text))
  if #groups > 0 then write("bench.svg", report.svg(("holdfast beside others: medians of %d, and their spread"):format(REPEATS), groups)) end
  say(("written: %s/report.md and bench.svg"):format(world.folder))
end)
