-- Makes a schedule that breaks a promise as short as it can be: moves are left out, waits and lasting faults are
-- made shorter, as long as the same promise breaks.
local play = require "holdfast.prove.play"

local shrink = {}

local TRIES_MAX = 120

local function without(list, i)
  local out = {}
  for k, v in ipairs(list) do
    if k ~= i then out[#out + 1] = v end
  end
  return out
end

local function with(list, i, changes)
  local out = {}
  for k, v in ipairs(list) do out[k] = v end
  local m = {}
  for k, v in pairs(list[i]) do m[k] = v end
  for k, v in pairs(changes) do
    if v == shrink.NONE then m[k] = nil else m[k] = v end
  end
  out[i] = m
  return out
end
shrink.NONE = {}

---The shortest schedule found, and what it gives, played once more with its whole trace.
function shrink.shortest(setup, schedule, result)
  local tries = 0
  local function breaks(moves, changes)
    if tries >= TRIES_MAX then return false end
    tries = tries + 1
    local candidate = { seed = schedule.seed, moves = moves, hour = schedule.hour, probe = schedule.probe }
    for k, v in pairs(changes or {}) do candidate[k] = v or nil end
    local ok, answer = pcall(play.schedule, setup, candidate, { quiet = result.quiet })
    if not ok or answer.ok or answer.promise ~= result.promise then return false end
    schedule = candidate
    return true
  end
  if schedule.probe then breaks(schedule.moves, { probe = false }) end
  -- Moves behind the one whose stage never came say nothing.
  if result.unreached then
    local head = {}
    for i = 1, result.unreached - 1 do head[i] = schedule.moves[i] end
    breaks(head)
  end
  local again = true
  while again do
    again = false
    for i = #schedule.moves, 1, -1 do
      if breaks(without(schedule.moves, i)) then again = true end
    end
  end
  for i = 1, #schedule.moves do
    if schedule.moves[i].after then breaks(with(schedule.moves, i, { after = shrink.NONE })) end
    for _, lasts in ipairs { "10s", "1m", "6m" } do
      local m = schedule.moves[i]
      if m.lasts and not schedule.hour and m.lasts ~= lasts and breaks(with(schedule.moves, i, { lasts = lasts })) then break end
    end
  end
  local last = play.schedule(setup, schedule, { quiet = result.quiet, trace = true })
  return schedule, last.ok and result or last
end

return shrink
