-- The real binary from the outside, for specs: a folder of its own, processes with pipes, waits
-- that are bounded and never sleep. After each test: nothing runs any more, no process raised a sanitizer,
-- and the marked secret stands in no output, no command line and no file but the spec's own.
local process = require "unit.process"
local scratch = require "scratch"

local build = os.getenv "HOLDFAST_BUILD" or "build/test"
local here = io.popen("pwd"):read "*l"

local M = {
  binary = os.getenv "HOLDFAST_BIN" or (here .. "/" .. build .. "/holdfast"),
  -- Discord's tokens name their application before the first dot; the rest is the secret.
  secret = "MARKEDsecretMARKED",
  wait_ms = 20000,
  build = build,
}
M.token = "app." .. M.secret

local PASSED_ON = { "PATH", "HOME", "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "LANG" }

local World = {}
World.__index = World

local Run = {} -- one process and all that it said
Run.__index = Run

-- Takes what is there, waiting at most `ms` for it.
function Run:pump(ms)
  local out, err = self.process:pump(ms or 0)
  self.out, self.err = self.out .. out, self.err .. err
end

-- True once check(self) is; false after the deadline or, unless `check` holds then, the process's end.
function Run:eventually(check, ms)
  local until_ms = process.now_ms() + (ms or M.wait_ms)
  while true do
    local code, signal = self:ended()
    self:pump(code == nil and signal == nil and 20 or 0)
    local found = check(self)
    if found then return found end
    if code ~= nil or signal ~= nil or process.now_ms() > until_ms then return false end
  end
end

function Run:says(pattern, ms)
  local found = self:eventually(function () return self.out:match(pattern) or self.err:match(pattern) end, ms)
  return assert(found, ("%s never said %q, but:\n%s%s"):format(self.name, pattern, self.out, self.err))
end

function Run:ended()
  if self.code == nil and self.signal == nil then self.code, self.signal = self.process:ended() end
  return self.code, self.signal
end

-- Exit code; nil and the signal's number.
function Run:wait(ms)
  local until_ms = process.now_ms() + (ms or M.wait_ms)
  while true do
    local code, signal = self:ended()
    self:pump(code == nil and signal == nil and 20 or 0)
    if code ~= nil or signal ~= nil then return code, signal end
    assert(process.now_ms() < until_ms, self.name .. " did not end; it said:\n" .. self.out .. self.err)
  end
end

function Run:kill(signal) return self.process:kill(signal) end
function Run:write(text) return self.process:write(text) end

local SIGNALS = { hup = 1, int = 2, kill = 9, term = 15 }
M.signals = SIGNALS

function Run:stop()
  if self:ended() == nil and self.signal == nil then self:kill(SIGNALS.term) end
  return self:wait()
end

function M.new()
  return setmetatable({ folder = scratch.folder(), runs = {}, files = {} }, World)
end

-- Files of a spec may hold the secret; nobody else's may.
function World:write(name, text)
  local path = self.folder .. "/" .. name
  os.execute(("mkdir -p '%s'"):format(path:match "^(.*)/"))
  -- In one step, as editors do: a command that reads it at this very moment sees the old or the new one.
  local new = path .. ".new"
  local f = assert(io.open(new, "w"))
  f:write(text)
  f:close()
  assert(os.execute(("chmod 600 '%s'"):format(new)) == 0)
  assert(os.rename(new, path))
  self.files[path] = true
  return path
end

function World:read(name)
  local f = assert(io.open(self.folder .. "/" .. name))
  local text = f:read "*a"
  f:close()
  return text
end

-- Starts `holdfast ARGS...` in the world's folder. options: env; program and cwd for another one elsewhere.
function World:start(args, options)
  options = options or {}
  local env = { "HOLDFAST_LUA=" .. here .. "/lua", "DISCORD_TOKEN=" .. M.token, "COLUMNS=200", "TZ=UTC" }
  for _, name in ipairs(PASSED_ON) do
    local value = os.getenv(name)
    if value then env[#env + 1] = name .. "=" .. value end
  end
  for name, value in pairs(options.env or {}) do
    for i = #env, 1, -1 do
      if env[i]:match "^[^=]*" == name then table.remove(env, i) end
    end
    if value then env[#env + 1] = name .. "=" .. value end
  end
  local argv = { options.program or M.binary }
  for _, a in ipairs(args) do argv[#argv + 1] = a end
  local run = setmetatable({ name = "holdfast " .. table.concat(args, " "), out = "", err = "" }, Run)
  run.process = process.spawn { args = argv, env = env, cwd = options.cwd or self.folder }
  self.runs[#self.runs + 1] = run
  return run
end

-- Runs it to its end: exit code, and the run with its out and err.
function World:run(args, options)
  local run = self:start(args, options)
  run.process:close_input()
  local code = run:wait()
  return code, run
end

-- A peer that plays Discord; options as words: "events_every=50". Answers its run, with `port`.
function World:peer(options, args)
  local words = { "peer", "discord", "--port", "0", "--ca-out", "ca.pem" }
  for _, o in ipairs(options or {}) do
    words[#words + 1] = "--option"
    words[#words + 1] = o
  end
  for _, a in ipairs(args or {}) do words[#words + 1] = a end
  local run = self:start(words)
  run.port = run:says "listening on https?://127%.0%.0%.1:(%d+)"
  return run
end

-- Asks a peer's control; answers the line of JSON.
function M.control(peer, json)
  local before = #peer.out
  assert(peer:write(json .. "\n"))
  local function answer() return peer.out:match('({"%l+":[^\n]*})\n', before + 1) end
  return assert(peer:eventually(answer), "the peer did not answer " .. json .. ", but said: " .. peer.out)
end

function World:config(port, more)
  return self:write("holdfast.lua", ([[
listen { unix = "h.sock" }
connection "bot" {
  policy = "discord", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { backoff = { first = "250ms", most = "1s" } },
}
%s]]):format(port, more or ""))
end

-- The daemon, once it is listening.
function World:daemon(options)
  local run = self:start({ "run" }, options)
  run:says "holdfast %S+ runs %d+ connection"
  return run
end

-- Until `holdfast status --json` shows what check(text) wants; answers the text.
function World:status(check, words)
  local until_ms = process.now_ms() + M.wait_ms
  while true do
    local args = { "status", "--json" }
    for _, word in ipairs(words or {}) do args[#args + 1] = word end
    local code, run = self:run(args)
    local found = code == 0 and check(run.out)
    if found then return found, run.out end
    assert(process.now_ms() < until_ms, "never in the state wanted, but:\n" .. run.out .. run.err)
  end
end

function World:up()
  return self:status(function (text) return text:match '"state":"up"' end)
end

-- A sanitizer's or an assertion's line. Plain words first: a line may be a megabyte of JSON.
local function complaint(text)
  for _, word in ipairs { "Sanitizer", "runtime error:", "assertion" } do
    local at = text:find(word, 1, true)
    while at do
      local line = text:match("^[^\n]*", at)
      if word ~= "assertion" or line:find("failed", 1, true) then return line end
      at = text:find(word, at + #line, true)
    end
  end
end

function World:close()
  local problems = {}
  for i = #self.runs, 1, -1 do
    local run = self.runs[i]
    if run:ended() == nil and run.signal == nil then
      if run.process:command_line():find(M.secret, 1, true) then
        problems[#problems + 1] = run.name .. " shows the secret in its command line"
      end
      run:stop()
    end
    for _, text in ipairs { run.out, run.err } do
      if text:find(M.secret, 1, true) then problems[#problems + 1] = run.name .. " said the secret:\n" .. text end
      local found = complaint(text)
      if found then problems[#problems + 1] = run.name .. ": " .. found .. "\n" .. text end
    end
    run.process:close()
  end
  local p = io.popen(("grep -rl '%s' '%s' 2>/dev/null"):format(M.secret, self.folder))
  for path in p:lines() do
    if not self.files[path] then problems[#problems + 1] = path .. " holds the secret" end
  end
  p:close()
  os.execute(("rm -rf '%s'"):format(self.folder))
  assert(#problems == 0, table.concat(problems, "\n"))
end

M.listen, M.listen_silent = process.listen, process.listen_silent
M.now_ms = process.now_ms

return M
