-- One seed is one run: in this process, in another process, and with faults drawn at random.
local sim = require "holdfast.sim"

local SCRIPT = [==[
local sim = require "holdfast.sim"
it("runs", function ()
  local s = sim.new { seed = tonumber(os.getenv "SIM_SEED"), trace = true }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" },
                                options = { events_every = 700 } })
  for i = 1, 5 do
    s:connection("bot-" .. i, { policy = "discord", token = s:secret(i .. ".x"), intents = 513, api = p.url .. "/api/v10" })
  end
  local c = s:consumer { name = "reader" }
  s:fault("reset", { probability = 0.3, stage = "greeting", what = "link" })
  s:fault("resolve_fail", { probability = 0.2 })
  s:fault("slow", { ms = 300, connection = "bot-2" })
  s:at("20s", function () s:suspend "2m" end)
  s:at("5m", function () s:fault("half_open", { connection = "bot-3" }) end)
  s:at("3m", function () s:fault("disk_sync_error", { probability = 0.3, lasts = "1m" }) end)
  s:at("6m", function () s:crash_and_restart { after = "5s" } end)
  s:at("9m", function () s:power_cut "5s" end)
  s:advance "12m"
  s:heal()
  s:advance "30m"
  local out = assert(io.open(os.getenv "SIM_OUT", "w"))
  out:write(s:trace(), table.concat(c:lines(), "\n"), "\n", "the disk: ", s:store().hash, "\n")
  out:close()
  s:close()
end)
]==]

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function run_elsewhere(seed)
  local build = os.getenv "HOLDFAST_BUILD" or "build/test"
  local spec, result = os.tmpname() .. "_spec.lua", os.tmpname()
  local f = assert(io.open(spec, "w"))
  f:write(SCRIPT)
  f:close()
  local pipe = assert(io.popen(("SIM_SEED=%d SIM_OUT=%s HOLDFAST_BUILD=%s %s/runner %s 2>&1"):format(
    seed, result, build, build, spec)))
  local said = pipe:read "*a"
  pipe:close()
  local text = read(result)
  os.remove(spec)
  os.remove(result)
  return text, said
end

local function run_here(seed)
  local s = sim.new { seed = seed, trace = true }
  local p = s:peer("discord", { host = "discord.test", names = { "gateway.discord.gg" } })
  s:connection("a", { policy = "discord", token = s:secret "1.x", intents = 513, api = p.url .. "/api/v10" })
  s:fault("reset", { probability = 0.5, stage = "upgrading" })
  s:advance "20m"
  local text = s:trace()
  s:close()
  return text
end

describe("a seed", function ()
  it("gives the same trace twice in one process", function ()
    assert.equal(run_here(4), run_here(4))
  end)

  it("gives another trace than another seed", function ()
    assert.not_equal(run_here(4), run_here(5))
  end)

  it("gives the same bytes in two other processes, whatever their addresses are", function ()
    local one, said = run_elsewhere(11)
    local two = run_elsewhere(11)
    assert.truthy(#one > 20000, said)
    assert.truthy(one:find("process crashes", 1, true))
    assert.truthy(one:find("power is cut", 1, true))
    assert.truthy(one:find("disk I/O error", 1, true))
    assert.truthy(one:find "the disk: %x+")
    assert.is_true(one == two)
  end)

  it("leaves no address in a trace", function ()
    assert.is_nil(run_here(6):find "0x%x%x%x%x%x%x")
  end)
end)
