-- Where tests write: a folder of this process alone, because specs run side by side. The suite makes it and
-- removes it afterwards, however the process ended; a spec run by hand leaves one under build/.
local M = {}

local function made()
  local pipe = assert(io.popen [[mkdir -p build && mktemp -d "$PWD/build/scratch.XXXXXX"]])
  local path = pipe:read "*l"
  pipe:close()
  return assert(path, "mktemp made no folder")
end

local root = os.getenv "HOLDFAST_SCRATCH" or made()
local count = 0

---A fresh empty folder.
function M.folder()
  count = count + 1
  local path = ("%s/%d"):format(root, count)
  assert(os.execute(("mkdir '%s'"):format(path)) == 0)
  return path
end

---A path that no other call and no other process gets; nothing is there yet.
function M.path(name)
  count = count + 1
  return ("%s/%d-%s"):format(root, count, name)
end

return M
