-- Seeded schedules of faults against whole policies, every promise checked after each step; then all is well
-- again, and everybody has to be up within the bound (I6). HOLDFAST_SEED repeats one schedule,
-- HOLDFAST_SEEDS=FIRST-LAST runs others than the fixed list.
local sim = require "holdfast.sim"

-- Draws of our own: the schedule must not depend on how often anybody else draws.
local function draws(seed)
  local state = seed * 2654435761 % 4294967296
  return function (n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return math.floor(state / 4294967296 * n) + 1
  end
end

-- Beside the gateway a plain one: pings prove life, and each frame is acknowledged once it is safe.
local PLAIN = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "test",
  about = "for schedules of faults",
  options = { token = { type = "secret", required = true } },
  identity = { "token" },
  account = { "token" },
  hosts = { "mute.test" },
  alive = { ping = "20s", silence = "45s" },
  overlap = 1,
  retire = { after = "20m", jitter = 0.2 },
  frames = { codec = "json", take = { id = "id" }, deliver = { id = { present = true } },
             ack = { when = "early", frame = '{"ack":"@id"}' }, accept = true },
  prepare = function (conn) return { url = "wss://mute.test/ws" } end,
}
]]

local STAGES = { "connecting", "securing", "upgrading", "greeting" }

local function network_fault(s, draw, name)
  local kinds = { "resolve_fail", "resolve_slow", "refuse", "connect_timeout", "unreachable", "reset", "black_hole",
                  "half_open", "truncate", "trickle", "slow", "tls_fail", "cert_expired", "plain_on_tls",
                  "eof_without_close", "no_close_answer", "http_status", "garbage", "store_delay" }
  local kind = kinds[draw(#kinds)]
  local o = { lasts = draw(600) * 1000, probability = ({ 1, 1, 0.5, 0.2 })[draw(4)] }
  if kind == "reset" and draw(2) == 1 then o.stage = STAGES[draw(4)] end
  if kind == "reset" or kind == "truncate" then o.bytes = draw(3) == 1 and draw(2000) or nil end
  if kind == "resolve_slow" or kind == "slow" or kind == "store_delay" then o.ms = draw(20) * 400 end
  if kind == "trickle" then o.ms = draw(500) end
  if kind == "http_status" then o.status = ({ 500, 502, 503, 429 })[draw(4)] end
  if kind == "garbage" then o.bytes = draw(300) end
  if draw(3) == 1 then o.connection = name end
  s:fault(kind, o)
end

local function machine_fault(s, draw, name)
  local what = draw(7)
  if what == 1 then s:fault("suspend", { lasts = draw(1800) * 1000 })
  elseif what == 2 then s:fault("loop_stall", { lasts = draw(60) * 1000 })
  elseif what == 3 then s:fault("clock_jump", { by = (draw(2) == 1 and -1 or 1) * draw(86400) * 1000 })
  elseif what == 4 then s:fault("crash", { after = draw(120) * 1000 })
  elseif what == 5 then s:fault("power_cut", { after = draw(120) * 1000 })
  elseif what == 6 then s:reload(name)
  else s:restart(name) end
end

local function peer_fault(p, draw)
  local what = draw(6)
  if what == 1 then p:control "op7"
  elseif what == 2 then p:control("op9", { resumable = draw(2) == 1 })
  elseif what == 3 then p:control("kick", { code = ({ 1000, 1001, 4000, 4001, 4008, 4009, 4007, 4003 })[draw(8)] })
  elseif what == 4 then p:control "abort"
  elseif what == 5 then p:control "deaf"
  else p:control "ask_beat" end
end

local function schedule(seed, steps)
  local draw = draws(seed)
  local s = sim.new { seed = seed }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" }, options = { events_every = 15000 } })
  local names = {}
  for i = 1, 3 do
    names[i] = "bot-" .. i
    s:connection(names[i], { policy = "discord", token = s:secret "1.x", intents = 513, shard_id = i - 1, shard_count = 3,
                             api = p.url .. "/api/v10" })
  end
  s:peer("mute", { host = "mute.test", options = { echo = true } })
  names[4] = "plain"
  s:connection("plain", { policy = PLAIN, token = s:secret "t" })
  local count = 0
  local function speak()
    count = count + 1
    if s.core:is_up() then s:send("plain", { id = "m" .. count }) end
    s:at("7s", speak)
  end
  speak()
  local c = s:consumer { name = "reader" }
  s:advance "1m"
  for _ = 1, steps do
    local what, name = draw(10), names[draw(4)]
    if what <= 5 then network_fault(s, draw, name)
    elseif what <= 7 then machine_fault(s, draw, name)
    else peer_fault(p, draw) end
    s:advance(draw(draw(3) == 1 and 1200 or 60) * 1000)
    c:clear()
  end
  local bound = s:heal()
  -- The checker holds each to its own bound; here nobody waits longer than it takes.
  local healed = s:now()
  local function all_up()
    for _, name in ipairs(names) do
      if s:state(name) ~= "up" then return false end
    end
    return true
  end
  repeat s:advance "1m" until all_up() and s:now() - healed > 600000 or s:now() - healed > bound + 60000
  assert.is_true(all_up(), s:describe())
  s:close()
end

local function seeds()
  local one = tonumber(os.getenv "HOLDFAST_SEED")
  if one then return one, one end
  local first, last = (os.getenv "HOLDFAST_SEEDS" or ""):match "^(%d+)%-(%d+)$"
  return tonumber(first) or 1, tonumber(last) or 12
end

describe("under any schedule of faults", function ()
  local first, last = seeds()
  for seed = first, last do
    it(("every promise holds, and all come back (seed %d)"):format(seed), function ()
      local ok, why = pcall(schedule, seed, 30)
      if ok then return end
      local build = os.getenv "HOLDFAST_BUILD" or "build/test"
      error(("%s\nrepeat: HOLDFAST_SEED=%d HOLDFAST_BUILD=%s %s/runner tests/sim/fuzz_spec.lua")
        :format(type(why) == "table" and tostring(why.message) or tostring(why), seed, build, build), 0)
    end)
  end
end)
