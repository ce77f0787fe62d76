-- The benchmark's processes: the far end (load peer and consumer), and the one that is measured. Each is
-- ended by its id, each wait is bounded.
local process = require "unit.process"

local M = {}

local BUILD = os.getenv "HOLDFAST_BUILD" or "build/release"
local SIGTERM = 15

local function shell(command)
  local p = io.popen(command .. " 2>/dev/null")
  local text = p:read "*a"
  p:close()
  return (text:gsub("%s+$", ""))
end

local here = shell "pwd"
local function absolute(path) return path:sub(1, 1) == "/" and path or here .. "/" .. path end
M.build = absolute(BUILD)
M.folder = absolute(os.getenv "BENCH_DIR" or "build/bench")

local function exists(path)
  local f = io.open(path)
  if f then f:close() end
  return f ~= nil
end

-- How each rival is started, and what it is called in the table; `why` when it cannot be.
local function rivals()
  local list = { { name = "holdfast", holdfast = true } }
  local function add(name, program, missing, args)
    list[#list + 1] = { name = name, args = program and args, why = not program and missing or nil }
  end
  local bin = M.build .. "/bench/"
  add("raw epoll", exists(bin .. "raw"), "not built", { bin .. "raw" })
  add("libwebsockets", exists(bin .. "lws"), "not built", { bin .. "lws" })
  add("Go gorilla", exists(bin .. "gorilla"), "Go or golang-github-gorilla-websocket-dev is not installed (make deps-bench)",
      { bin .. "gorilla" })
  local node = shell "command -v node"
  add("Node ws", node ~= "" and exists "/usr/share/nodejs/ws/package.json", "node-ws is not installed (make deps-bench)",
      { node, here .. "/tests/bench/rivals/ws.js" })
  local python = "/usr/bin/python3"
  for _, module in ipairs { "websockets", "aiohttp" } do
    local there = shell(python .. " -c 'import " .. module .. ";print(1)'") == "1"
    add("Python " .. module, there, ("python3-%s is not installed (make deps-bench)"):format(module),
        { python, ("%s/tests/bench/rivals/%s_client.py"):format(here, module) })
  end
  return list
end
M.rivals = rivals

-- --- the far end ----------------------------------------------------------------------------------------

local Far = {}
Far.__index = Far

function M.far_end(name)
  os.execute("mkdir -p " .. M.folder)
  name = M.folder .. "/" .. (name or "")
  local far = setmetatable({ rest = "", ca = name .. "ca.pem", socket = name .. "c.sock" }, Far)
  far.process = process.spawn { args = { M.build .. "/bench/far_end", far.ca, far.socket }, env = {} }
  far.port = assert(far:line(10):match "^port (%d+)$", "the far end does not start")
  return far
end

function Far:line(seconds)
  local until_ms = process.now_ms() + seconds * 1000
  while true do
    local line, rest = self.rest:match "^([^\n]*)\n(.*)$"
    if line then
      self.rest = rest
      return line
    end
    assert(process.now_ms() < until_ms, "the far end does not answer")
    local out, err = self.process:pump(50)
    self.rest = self.rest .. out
    if err ~= "" then error("the far end: " .. err) end
  end
end

-- One command, its answer as a table: "sent 5 cpu 7" is { sent = 5, cpu = 7 }.
function Far:ask(seconds, format, ...)
  self:begin(format, ...)
  return self:answer(seconds)
end

-- The same in two halves, for what lasts.
function Far:begin(format, ...) self.process:write(format:format(...) .. "\n") end
function Far:answer(seconds)
  local line, answer = self:line(seconds), {}
  for key, value in line:gmatch "(%a%w*) (%d+)" do answer[key] = tonumber(value) end
  answer.line = line
  return answer
end

function Far:close()
  self.process:close_input()
  local until_ms = process.now_ms() + 3000
  while select("#", self.process:ended()) == 0 and process.now_ms() < until_ms do self.process:pump(20) end
  self.process:close()
end

-- --- what is measured -----------------------------------------------------------------------------------

local Subject = {}
Subject.__index = Subject

local function write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

local CONNECTIONS = [[
for i = %d, %d do
  connection("c" .. i) { policy = "%s", url = "wss://127.0.0.1:%s/", token = "t" .. i, ca_file = "%s"%s }
end
]]

-- options: store (on disk), policy, extra (more keys of each connection), also = { far =, links = } (another far
-- end's connections).
local function daemon(far, links, options)
  local folder = M.folder .. "/daemon"
  os.execute("rm -rf " .. folder .. " && mkdir -p " .. folder)
  os.execute("chmod 700 " .. folder)
  write(folder .. "/holdfast.lua", options.config and options.config(folder) or ([[
listen { unix = "h.sock" }
store { %s }
policies { path = "%s/tests/bench/policies" }
]]):format(options.store and 'path = "h.db"' or "memory = true", here) ..
    CONNECTIONS:format(1, links, options.policy or "bench", far.port, far.ca, options.extra or "") ..
    (options.also and CONNECTIONS:format(links + 1, links + options.also.links, options.policy or "bench", options.also.far.port,
                                         options.also.far.ca, options.extra or "") or ""))
  return { args = { os.getenv "BENCH_HOLDFAST" or M.build .. "/holdfast", "run", "-c", folder .. "/holdfast.lua" },
           socket = folder .. "/h.sock", store = folder .. "/h.db" }
end
M.daemon = daemon
M.lua_path = here .. "/lua"

-- What it says goes to a file: a pipe that nobody empties would stop it.
M.write = write

local function await_daemon(p, log)
  local until_ms = process.now_ms() + 60000
  while true do
    p:pump(10)
    local f = io.open(log)
    local said = f and f:read "*a" or ""
    if f then f:close() end
    if said:find "holdfast %S+ runs" then return end
    assert(select("#", p:ended()) == 0, "holdfast ended: " .. said)
    assert(process.now_ms() < until_ms, "holdfast does not start: " .. said:sub(-2000))
  end
end

-- Starts `rival` with `links` connections and waits until all are open.
function M.start(far, rival, links, options)
  options = options or {}
  local s = setmetatable({ far = far, rival = rival, links = links }, Subject)
  local env = { "PATH=" .. os.getenv "PATH", "HOME=" .. M.folder, "NODE_PATH=/usr/share/nodejs", "HOLDFAST_LUA=" .. here .. "/lua" }
  for _, more in ipairs(options.env or {}) do env[#env + 1] = more end
  s.began_ms = process.now_ms()
  if rival.holdfast then
    local d = daemon(far, links, options)
    s.log = M.folder .. "/daemon/log"
    s.process = process.spawn { args = { "/bin/sh", "-c", 'exec "$@" 2>' .. s.log, "sh", unpack(d.args) }, env = env }
    await_daemon(s.process, s.log)
    s.socket = d.socket
    far:ask(10, "watch %d", s.process:pid())
    far:ask(10, "attach %s", d.socket)
  else
    local args = {}
    for _, a in ipairs(rival.args) do args[#args + 1] = a end
    args[#args + 1], args[#args + 2] = far.port, far.ca
    args[#args + 1], args[#args + 2] = far.socket, tostring(links)
    args[#args + 1] = options.beat_ms and tostring(options.beat_ms)
    s.process = process.spawn { args = args, env = env }
    far:ask(10, "watch %d", s.process:pid())
  end
  local within_s = options.within_s or 120
  s.opened = far:ask(within_s + 10, "wait %d %d", links, within_s * 1000)
  if s.opened.open < links then
    local _, err = s.process:pump(100)
    error(("%s opened %d of %d links: %s"):format(rival.name, s.opened.open, links, err:sub(1, 2000)))
  end
  return s
end

local function over(p) return select("#", p:ended()) > 0 end

function Subject:stop()
  local until_ms = process.now_ms() + 10000
  if self.rival.holdfast then
    self.process:kill(SIGTERM)
    while not over(self.process) and process.now_ms() < until_ms do self.process:pump(20) end
  end
  self.process:close()  -- kills what is still there, and waits for it
  self.far:ask(20, "none 20000")
end

-- What the daemon answers at `path`, and how many ms that took.
function M.get(subject, path)
  local p = io.popen(("curl -s --max-time 20 -w '\n%%{time_total}' --unix-socket %s 'http://localhost%s'"):format(subject.socket, path))
  local body, seconds = p:read("*a"):match "^(.*)\n(%S+)$"
  p:close()
  return body, tonumber(seconds) * 1000
end

-- The loop's worst delay in ms and the most CPU time of its own in one turn, from the daemon's own metrics.
function M.metrics(subject)
  local text = M.get(subject, "/metrics")
  local delay = tonumber(text:match "\nholdfast_loop_delay_worst_seconds%S* (%S+)")
  local busy = tonumber(text:match "\nholdfast_loop_busy_worst_seconds%S* (%S+)")
  return delay and ("%.0f (%s of own work)"):format(delay * 1000, busy and ("%.1f"):format(busy * 1000) or "?") or "?"
end

-- The same of `holdfast status`, the process included.
function M.status(subject)
  local began = process.now_ms()
  local p = io.popen(("%s status --socket %s"):format(os.getenv "BENCH_HOLDFAST" or M.build .. "/holdfast", subject.socket))
  local text = p:read "*a"
  p:close()
  return text, process.now_ms() - began
end

-- One line about where this was measured.
function M.machine()
  local cpu = shell "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1"
  return ("%s, %s cores, %s MiB; Linux %s; %s; load before %s"):format(cpu, shell "nproc",
    shell "awk '/MemTotal/ { printf \"%d\", $2 / 1024 }' /proc/meminfo", shell "uname -r", shell "openssl version | cut -d' ' -f1-2",
    shell "cut -d' ' -f1-3 /proc/loadavg")
end

return M
