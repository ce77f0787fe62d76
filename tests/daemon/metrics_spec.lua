-- /metrics of the real daemon: what it says is what examples/monitoring/README.md says it does, and Prometheus'
-- own tool finds nothing wrong with it, the alerts and their tests.
local world = require "daemon_world"
local api = require "api_client"
local json = require "dkjson"
local control = world.control

local FOLDER = "examples/monitoring"

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

-- promtool from wherever it is, or nil.
local function promtool()
  for _, path in ipairs { "build/tools/promtool", "promtool" } do
    local p = io.popen(path .. " --version 2>&1")
    local text = p:read "*a"
    p:close()
    if text:match "promtool, version" then return path:match "/" and (os.getenv "PWD" or ".") .. "/" .. path or path end
  end
end

local function run(command)
  local p = io.popen(command .. " 2>&1; echo status=$?")
  local text = p:read "*a"
  p:close()
  return tonumber(text:match "status=(%d+)\n$"), text
end

-- The table of the README: name -> { type, labels = { name = true } }.
local function documented()
  local list = {}
  for name, kind, labels in read(FOLDER .. "/README.md"):gmatch "\n| `(holdfast_[%w_]+)` | (%l+) |([^|]*)| [^|\n]+ |" do
    assert.is_nil(list[name], name .. " is documented twice")
    list[name] = { type = kind, labels = {} }
    for label in labels:gmatch "`([%w_]+)`" do list[name].labels[label] = true end
  end
  return list
end

-- What a text of metrics says: name -> { type, help, labels, samples = { "labels" = number } }.
local function parsed(text)
  local list, last = {}, nil
  for line in text:gmatch "[^\n]+" do
    local help = line:match "^# HELP ([%w_]+) .+$"
    local name, kind = line:match "^# TYPE ([%w_]+) (%l+)$"
    if help then
      last = { labels = {}, samples = {} }
      assert.is_nil(list[help], help .. " comes twice")
      list[help] = last
    elseif name then
      assert.equal(last, list[name])
      last.type = kind
    else
      local metric, labels, value = line:match "^([%w_]+)(%b{}) (%S+)$"
      if not metric then
        metric, value = line:match "^([%w_]+) (%S+)$"
        labels = ""
      end
      local base = assert(metric, line)
      if last.type == "histogram" then base = metric:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "") end
      assert.equal(last, list[base], line)
      for label in labels:gmatch "[{,]([%w_]+)=" do
        if label ~= "le" then last.labels[label] = true end
      end
      last.samples[metric .. labels] = assert(tonumber(value), line)
    end
  end
  return list
end

describe("/metrics", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0", "heartbeat_interval=1000" }
    w:config(peer.port)
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub("tune = { ", 'tune = { beat = { every = { "1s", "1s", "120s" } }, ')))
    daemon = w:daemon()
    w:up()
  end)
  after_each(function () w:close() end)

  local function scrape()
    local status, text = api.request(daemon, w.folder .. "/h.sock", "GET", "/metrics")
    assert.equal(200, status)
    return parsed(text), text
  end
  local function value(list, metric)
    local name = metric:match "^[%w_]+"
    local family = list[name] or list[name:gsub("_count$", "")]
    return family and family.samples[metric]
  end
  local function eventually(check)
    local found
    assert(daemon:eventually(function ()
      found = check((scrape()))
      return found
    end), "never so")
    return found
  end

  it("says what its documentation says, with the same types and labels, and nothing else", function ()
    -- What is told only once it happened.
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    eventually(function (m) return value(m, "holdfast_ready_total") == 2 end)
    local reader = w:start { "tail", "--consumer", "reader" }
    reader:says "up"
    local table_of, real = documented(), eventually(function (m)
      return value(m, 'holdfast_consumer_lag_frames{consumer="reader"}') and m
    end)
    for name, m in pairs(real) do
      assert.is_truthy(table_of[name], name .. " is not documented")
      assert.equal(table_of[name].type, m.type, name)
      for label in pairs(m.labels) do assert.is_truthy(table_of[name].labels[label], name .. " has the label " .. label) end
      for label in pairs(table_of[name].labels) do assert.is_truthy(m.labels[label], name .. " lacks the label " .. label) end
    end
    for name in pairs(table_of) do assert.is_truthy(real[name], name .. " is documented and not there") end
    -- None is about one connection, and none has more than words of ours.
    local _, text = scrape()
    assert.is_nil(text:find('"bot"', 1, true))
    assert.is_nil(text:find("127.0.0.1", 1, true))
  end)

  it("passes promtool", function ()
    local tool = promtool()
    if not tool then return pending "promtool is not here: make deps-test" end
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    eventually(function (m) return value(m, "holdfast_ready_total") == 2 end)
    local _, text = scrape()
    w:write("metrics.txt", text)
    local status, said = run(("'%s' check metrics <'%s/metrics.txt'"):format(tool, w.folder))
    assert.equal(0, status, said)
    assert.equal("status=0\n", said)
  end)

  it("counts what happened", function ()
    local before = eventually(function (m)
      return value(m, "holdfast_commit_duration_seconds_count") > 0 and value(m, "holdfast_round_trip_seconds_count") > 0 and m
    end)
    assert.equal(1, value(before, 'holdfast_connections{policy="discord",state="up"}'))
    assert.equal(0, value(before, 'holdfast_connections{policy="discord",state="waiting"}'))
    assert.equal(1, value(before, 'holdfast_peers{policy="discord",verdict="alive"}'))
    assert.equal(0, value(before, 'holdfast_longest_outage_seconds{policy="discord"}'))
    assert.equal(1, value(before, "holdfast_time_to_ready_seconds_count"))
    assert.equal(0, value(before, "holdfast_outage_seconds_count"))
    assert.equal(1, value(before, "holdfast_store_durable"))
    assert.is_true(value(before, 'holdfast_hook_duration_seconds_count{hook="greet"}') > 0)
    assert.is_true(value(before, "holdfast_received_frames_total") >= 2)
    local left = value(before, 'holdfast_budget_left{policy="discord",budget="start"}')
    assert.is_true(left > 0)
    control(peer, '{"verb":"kick","code":4000,"reason":"again"}')
    local after = eventually(function (m) return value(m, "holdfast_ready_total") == 2 and m end)
    assert.equal(1, value(after, 'holdfast_endings_total{kind="closed",verdict="resume"}'))
    assert.equal(2, value(after, "holdfast_attempts_total"))
    assert.equal(1, value(after, "holdfast_outage_seconds_count"))
    assert.is_true(value(after, "holdfast_received_frames_total") > value(before, "holdfast_received_frames_total"))
    control(peer, '{"verb":"kick","code":4004,"reason":"Authentication failed."}')
    local stopped = eventually(function (m) return value(m, 'holdfast_connections_given_up{policy="discord"}') == 1 and m end)
    assert.equal(1, value(stopped, 'holdfast_endings_total{kind="closed",verdict="stop"}'))
    assert.equal(1, value(stopped, 'holdfast_connections{policy="discord",state="stopped"}'))
    assert.equal(0, value(stopped, 'holdfast_peers{policy="discord",verdict="alive"}'))
    eventually(function (m) return value(m, 'holdfast_longest_outage_seconds{policy="discord"}') > 0 end)
  end)

  it("has counters that do not go back when a connection is removed", function ()
    local before = scrape()
    w:write("holdfast.lua", 'listen { unix = "h.sock" }\n')
    assert.equal(0, (w:run { "reload" }))
    local after = eventually(function (m) return not value(m, 'holdfast_connections{policy="discord",state="up"}') and m end)
    for _, name in ipairs { "received_frames", "sent_frames", "received_bytes", "sent_bytes", "events" } do
      local metric = "holdfast_" .. name .. "_total"
      assert.is_true(value(after, metric) >= value(before, metric), metric)
    end
  end)

  it("asks for a token over TCP, and read is enough", function ()
    daemon:stop()
    w:write("read.txt", "read-token-0123456789\n")
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub('listen { unix = "h.sock" }',
      'listen { unix = "h.sock", http = "127.0.0.1:0", tokens = { { secret = secret { file = "read.txt" }, scope = "read" } } }')))
    daemon = w:daemon()
    local port = daemon:says "http (127%.0%.0%.1:%d+)"
    assert.equal(401, (api.request(daemon, port, "GET", "/metrics")))
    assert.equal(401, (api.request(daemon, port, "GET", "/metrics", { token = "another-token-012345" })))
    local status, text = api.request(daemon, port, "GET", "/metrics", { token = "read-token-0123456789" })
    assert.equal(200, status)
    assert.is_truthy(text:match "holdfast_build_info")
  end)
end)

describe("alerts and dashboard", function ()
  it("are sound by promtool, the alerts' own tests included", function ()
    local tool = promtool()
    if not tool then return pending "promtool is not here: make deps-test" end
    for _, words in ipairs { "check rules alerts.yml", "test rules alerts_test.yml", "check config --syntax-only prometheus.yml" } do
      local status, said = run(("cd %s && '%s' %s"):format(FOLDER, tool, words))
      assert.equal(0, status, said)
    end
  end)

  it("use metrics and labels that there are", function ()
    local known = documented()
    local names = {}
    for _, m in pairs(known) do
      for label in pairs(m.labels) do names[label] = true end
    end
    for _, label in ipairs { "instance", "le", "job", "severity" } do names[label] = true end
    for _, file in ipairs { "alerts.yml", "alerts_test.yml", "dashboard.json" } do
      local text, used = read(FOLDER .. "/" .. file), 0
      for name in text:gmatch "holdfast_[%w_]+" do
        local base = name:gsub("_bucket$", "")
        assert.is_truthy(known[base], file .. ": " .. name)
        used = used + 1
      end
      assert.is_true(used > 10)
      for braces in text:gsub("\\", ""):gmatch "holdfast_[%w_]+(%b{})" do
        for label in braces:gmatch "[{,]%s*([%a_]+)[=!~]+\"" do assert.is_truthy(names[label], file .. ": " .. label) end
      end
    end
    assert.is_table(json.decode(read(FOLDER .. "/dashboard.json")).panels)
  end)

  it("test every alert that there is", function ()
    local tests = read(FOLDER .. "/alerts_test.yml")
    for name in read(FOLDER .. "/alerts.yml"):gmatch "alert: (%w+)" do
      assert.is_truthy(tests:match("alertname: " .. name .. "\n%s+exp_alerts"), name .. " is not seen to fire")
    end
  end)
end)
