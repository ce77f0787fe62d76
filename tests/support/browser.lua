-- A headless Chromium for specs of pages, spoken to by its DevTools protocol over two pipes: messages of JSON, each
-- ended by a NUL. Its profile lies in the world's folder. Waits are bounded and never sleep.
local json = require "dkjson"
local world = require "daemon_world"

local M = {}
local Browser = {}
Browser.__index = Browser

local function find()
  -- Debian's command is a shell script around this one, and would outlive its own end.
  for _, name in ipairs { "/usr/lib/chromium/chromium-headless-shell", "chromium-headless-shell", "chromium", "google-chrome" } do
    local p = io.popen("command -v " .. name .. " 2>/dev/null")
    local path = p:read "*l"
    p:close()
    if path and path ~= "" then return path end
  end
end
M.program = find()

local ARGS = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions " ..
  "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars --no-proxy-server " ..
  "--disable-features=Translate,OptimizationHints,MediaRouter --remote-debugging-pipe"

-- Starts it with one page. options: width, height.
function M.new(w, options)
  options = options or {}
  local command = ("exec '%s' %s --user-data-dir='%s/browser' about:blank 3<&0 4>&1 </dev/null >&2"):format(M.program, ARGS, w.folder)
  local self = setmetatable({ run = w:start({ "-c", command }, { program = "/bin/sh", env = { LANG = "C.UTF-8" } }),
                              next_id = 1, at = 1, answers = {}, complaints = {} }, Browser)
  self.run.name = "the browser"
  local target = self:call("Target.createTarget", { url = "about:blank" }).targetId
  self.session = self:call("Target.attachToTarget", { targetId = target, flatten = true }).sessionId
  for _, domain in ipairs { "Page", "Runtime", "Log", "Network" } do self:call(domain .. ".enable") end
  self:size(options.width or 1280, options.height or 800)
  return self
end

-- Takes in what is there: answers by id, and whatever the page's console complained of.
function Browser:take()
  while true do
    local stop = self.run.out:find("\0", self.at, true)
    if not stop then break end
    local message = assert(json.decode(self.run.out:sub(self.at, stop - 1)))
    self.at = stop + 1
    if message.id then self.answers[message.id] = message end
    local p = message.params
    if message.method == "Runtime.exceptionThrown" then
      local d = p.exceptionDetails
      self.complaints[#self.complaints + 1] = d.text .. " " .. (d.exception and d.exception.description or "")
    elseif message.method == "Log.entryAdded" and (p.entry.source == "security" or p.entry.source == "violation" or
           (p.entry.level == "error" and p.entry.source ~= "network")) then
      self.complaints[#self.complaints + 1] = p.entry.text
    elseif message.method == "Network.requestWillBeSent" then
      self.asked = self.asked or {}
      self.asked[#self.asked + 1] = p.request.url
    end
  end
  if self.at > 65536 then self.run.out, self.at = self.run.out:sub(self.at), 1 end
end

function Browser:call(method, params)
  local id = self.next_id
  self.next_id = id + 1
  local text = json.encode { id = id, method = method, params = params or setmetatable({}, { __jsontype = "object" }), sessionId = self.session }
  local out = text .. "\0"
  assert(self.run:write(out))
  assert(self.run:eventually(function ()
    self:take()
    return self.answers[id]
  end), method .. " had no answer: " .. self.run.err)
  local answer = self.answers[id]
  self.answers[id] = nil
  assert(not answer.error, method .. ": " .. json.encode(answer.error))
  return answer.result
end

function Browser:size(width, height, mobile)
  self:call("Emulation.setDeviceMetricsOverride", { width = width, height = height, deviceScaleFactor = 1, mobile = mobile or false })
end
function Browser:dark(on)
  self:call("Emulation.setEmulatedMedia", { features = { { name = "prefers-color-scheme", value = on and "dark" or "light" } } })
end
function Browser:open(url) self:call("Page.navigate", { url = url }) end

-- The value of an expression in the page.
function Browser:eval(expression)
  local r = self:call("Runtime.evaluate", { expression = expression, returnByValue = true, awaitPromise = true })
  assert(not r.exceptionDetails, expression .. ": " .. json.encode(r.exceptionDetails))
  return r.result.value
end

-- Until an expression in the page is truthy; answers its value.
function Browser:until_true(expression, ms)
  local found
  assert(self.run:eventually(function ()
    found = self:eval("(() => { try { return (" .. expression .. ") } catch (e) { return null } })()")
    return found
  end, ms or world.wait_ms), "never so in the page: " .. expression .. "\n" .. tostring(self:eval "document.body && document.body.innerText"))
  return found
end

local KEYS = { Enter = 13, Escape = 27, ArrowDown = 40, ArrowUp = 38 }
function Browser:key(key)
  local text = #key == 1 and key or (key == "Enter" and "\r" or nil)
  local code = KEYS[key] or key:upper():byte()
  self:call("Input.dispatchKeyEvent", { type = "keyDown", key = key, text = text, windowsVirtualKeyCode = code })
  self:call("Input.dispatchKeyEvent", { type = "keyUp", key = key, windowsVirtualKeyCode = code })
end
function Browser:type(text) self:call("Input.insertText", { text = text }) end

-- A picture of the page, as PNG.
function Browser:shot(path)
  local data = self:call("Page.captureScreenshot", { format = "png" }).data
  local p = assert(io.popen("base64 -d >'" .. path .. "'", "w"))
  p:write(data)
  p:close()
end

return M
