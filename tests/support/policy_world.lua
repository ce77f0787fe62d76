-- Policies written by tests: each goes to a file of its own in a fresh folder, and is loaded from there.
local unit = require "unit.policy"
local scratch = require "scratch"

local M = { modes = {} }

M.folder = scratch.folder

function M.write(path, text, mode)
  local known = M.modes[path] == (mode or "644")
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  if not known then os.execute(("chmod %s '%s'"):format(mode or "644", path)) end
  M.modes[path] = mode or "644"
end

M.settings = { token = { __secret = "ab.cdef", name = "token" } }

-- The least that a policy must say; `%s` is what the test adds.
local frame = [[
local holdfast = require "holdfast"
%s
return holdfast.policy {
  platform = "chatter",
  options = {
    token = { type = "secret", required = true, public = "^[^.]+" },
    api = { type = "url", default = "https://api.chatter.example" },
  },
  identity = { "token" },
  hosts = { "*.chatter.example" },
  frames = { codec = "%s", take = { op = "op", seq = "s" }, deliver = { op = 0 }, inspect = { op = { 7, 9 } } },
  session = { of = { "token" }, age = "24h", replay = "session" },
  classify = { { any = true, verdict = "resume" } },
%s
}
]]

--- The text of a policy: `head` goes above the table, `body` into it.
function M.text(body, head, codec)
  if not body:find "%f[%w]prepare%s*=" then
    body = body .. "\n  prepare = function () return { url = 'wss://gw.chatter.example' } end,"
  end
  return frame:format(head or "", codec or "json", body)
end

--- A loaded policy; fails the test when it does not load. `options`: as unit.load, plus head, codec.
--- One file serves all loads: a version keeps nothing of it once it is loaded.
function M.load(body, options)
  options = type(options) == "table" and options or {} -- gsub hands on its count
  M.shared = M.shared or M.folder() .. "/x.lua"
  local path = M.shared
  local text = M.text(body, options.head, options.codec)
  if options.codec == "bytes" then
    text = text:gsub("take = .-inspect = { op = { 7, 9 } }", "deliver = true")
  end
  M.write(path, text)
  options.settings = options.settings or M.settings
  local world, problems = unit.load(path, options)
  if not world then error("does not load: " .. table.concat(problems, "\n"), 2) end
  return world, path
end

--- The problems of a text that must not load.
function M.refused(text)
  local path = M.folder() .. "/x.lua"
  M.write(path, text)
  local world, problems = unit.load(path, { settings = M.settings })
  assert(not world, "it loaded")
  return table.concat(problems, "\n"):gsub(path:gsub("%p", "%%%0"), "x.lua"), problems
end

return M
