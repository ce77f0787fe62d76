-- The soak's verdict: samples of the daemon once a second, whether they are flat over the long life, and the table.
local process = require "unit.process"
local lfs = require "lfs"

local M = {}

-- What may differ between the medians of the second and of the last quarter of the long life.
local TOLERANCE = {
  rss_kb = { share = 0.06, more = 2048, say = "memory (RSS), KiB" },
  fds = { share = 0, more = 4, say = "descriptors" },
  threads = { share = 0, more = 0, say = "threads" },
  store_kb = { share = 0.25, more = 4096, say = "store file and WAL, KiB" },
  api_ms = { share = 1, more = 20, say = "answer of /healthz, ms" },
}
local ORDER = { "rss_kb", "fds", "threads", "store_kb", "api_ms" }

local function now_s() return process.now_ms() / 1000 end

function M.sample(s)
  if not s.daemon then return end
  local pid = s.daemon.process:pid()
  local f = io.open(("/proc/%d/status"):format(pid))
  if not f then return end
  local text = f:read "*a"
  f:close()
  local ok, fds = pcall(function ()
    local n = 0
    for name in lfs.dir(("/proc/%d/fd"):format(pid)) do
      if name:match "^%d" then n = n + 1 end
    end
    return n
  end)
  local file = lfs.attributes(s.world.folder .. "/var/holdfast.db", "size") or 0
  local wal = lfs.attributes(s.world.folder .. "/var/holdfast.db-wal", "size") or 0
  local status, _, ms = s:request("GET", "/healthz")
  if status ~= 200 then s:finding("/healthz answered %s", tostring(status)) end
  local x = { at = now_s() - s.daemon_began, life = s.lives, rss_kb = tonumber(text:match "VmRSS:%s*(%d+)"), threads = tonumber(text:match "Threads:%s*(%d+)"),
              fds = ok and fds or 0, store_kb = (file + wal) / 1024, api_ms = ms or 5000 }
  s.samples[#s.samples + 1] = x
  s.table:write(("%.1f\t%d\t%d\t%d\t%d\t%.0f\t%.0f\t%.1f\n"):format(now_s() - s.began, x.life, x.rss_kb or 0, x.fds, x.threads or 0,
    file / 1024, wal / 1024, x.api_ms))
  if #s.samples % 5 == 0 then
    for name, state in pairs(s:states()) do
      local up = s.up[name] or { 0, 0 }
      s.up[name] = up
      up[1], up[2] = up[1] + (state == "up" and 1 or 0), up[2] + 1
    end
  end
end

local function median(list)
  if #list == 0 then return 0 end
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

-- Least squares, per minute.
local function slope(points)
  local n, sx, sy, sxx, sxy = #points, 0, 0, 0, 0
  for _, p in ipairs(points) do
    sx, sy, sxx, sxy = sx + p[1], sy + p[2], sxx + p[1] * p[1], sxy + p[1] * p[2]
  end
  local d = n * sxx - sx * sx
  return d == 0 and 0 or (n * sxy - sx * sy) / d * 60
end

local function judge_flat(s, out)
  local life = s.long_life
  out(("long life: %.0f s, %d samples"):format(life, #s.samples))
  out(("%-26s %10s %10s %10s %10s %10s %12s"):format("", "least", "quarter 2", "quarter 4", "most", "allowed", "slope/min"))
  for _, key in ipairs(ORDER) do
    local t, second, last, points, least, most = TOLERANCE[key], {}, {}, {}, math.huge, 0
    for _, x in ipairs(s.samples) do
      if x.life == 1 and x[key] then
        least, most = math.min(least, x[key]), math.max(most, x[key])
        if x.at >= life / 4 and x.at < life / 2 then second[#second + 1] = x[key] end
        if x.at >= life * 3 / 4 and x.at <= life then last[#last + 1] = x[key] end
        if x.at >= life / 4 then points[#points + 1] = { x.at, x[key] } end
      end
    end
    -- On a slow machine a quarter of seconds may have no sample at all.
    if s.warming and #second == 0 then second[1] = least end
    local a, b = median(second), median(last)
    -- A life of seconds is all warming up, and a sanitizer keeps what was freed: they show that the soak works, and
    -- only what leaks fast.
    local allowed = a * (1 + t.share) + t.more
    if s.warming then allowed = a * 1.5 + (key == "fds" and 20 or key == "threads" and 8 or 16384) end
    if s.sanitized and key == "rss_kb" then allowed = math.huge end
    out(("%-26s %10.0f %10.0f %10.0f %10.0f %10.0f %+12.2f"):format(t.say, least, a, b, most, allowed, slope(points)))
    if b > allowed then s:finding("%s not flat: %.0f in the second quarter, %.0f in the last", t.say, a, b) end
  end
end

function M.report(s, out)
  local function sorted(map)
    local keys = {}
    for k in pairs(map) do keys[#keys + 1] = k end
    table.sort(keys)
    return keys
  end
  judge_flat(s, out)
  out ""
  out(("%d faults, %d commands, %d reloads, %d PUT and DELETE, %d lives of the daemon; log lines: %s"):format(s.faults, s.command_count,
    s.reloads, s.puts, s.lives, (function ()
      local parts = {}
      for _, k in ipairs(sorted(s.levels)) do parts[#parts + 1] = k .. " " .. s.levels[k] end
      return table.concat(parts, ", ")
    end)()))
  out(("%-10s %9s %12s %7s %14s %8s"):format("consumer", "events", "again", "gaps", "missing, told", "attached"))
  for _, c in ipairs(s.consumers) do
    out(("%-10s %9d %12d %7d %14s %8d"):format(c.name, c.events, c.again, c.gaps, c.named and tostring(c.told) or "-", c.life))
  end
  for _, k in ipairs(sorted(s.gap_causes)) do out(("  gap: %-50s %d"):format(k, s.gap_causes[k])) end
  for _, k in ipairs(sorted(s.up)) do out(("  up: %-10s %5.1f %% of %d looks"):format(k, 100 * s.up[k][1] / s.up[k][2], s.up[k][2])) end
  for _, k in ipairs(sorted(s.warnings)) do out(("  warning: %s: %d"):format(k, s.warnings[k])) end
  out ""
  for _, text in ipairs(s.findings) do out(("not well (%d times): %s"):format(s.finding_counts[text], text)) end
  out(#s.findings == 0 and "soak: passed" or "soak: failed")
end

return M
