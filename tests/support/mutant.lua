-- A shipped policy with one thing changed, in a file of its own: for specs that want to see it found out.
local scratch = require "scratch"

---`change`: function of the text. Raises when it changes nothing. The path.
return function (name, what, change)
  local f = assert(io.open("policies/" .. name .. ".lua"))
  local text = f:read "*a"
  f:close()
  local changed = change(text)
  assert(changed ~= text, "the policy has no such thing any more: " .. what)
  local path = ("%s/%s.lua"):format(scratch.folder(), what)
  f = assert(io.open(path, "w"))
  f:write(changed)
  f:close()
  assert(os.execute(("chmod 600 '%s'"):format(path)) == 0)
  return path
end
