-- The Containerfile cannot be built here; what it names is compared with the binary and the tree.
local world = require "daemon_world"

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function output(command)
  local p = io.popen(command)
  local text = p:read "*a"
  p:close()
  return text
end

describe("the Containerfile", function ()
  local text = read "examples/Containerfile"

  it("installs the package of every library that the binary is linked with", function ()
    if output "command -v dpkg-query && command -v readelf" == "" then return pending "no dpkg-query or no readelf" end
    local installed, missing = " " .. text:match "install %-y %-%-no%-install%-recommends (ca%-certificates.-) && rm", {}
    -- What they depend on comes along.
    local come_along = output("dpkg-query -W -f='${Depends}, ' " .. installed:gsub("[%s\\]+", " ")):gsub("%b()", ""):gsub(",", " ")
    installed = (" " .. installed .. " " .. come_along .. " "):gsub("[%s\\]+", " ")
    for library in output("readelf -d " .. world.binary):gmatch "%(NEEDED%)[^%[]*%[([^%]]+)%]" do
      local of_test = library:match "^lib[a-z]+san%." or library:match "^libc%." or library:match "^libm%." or library:match "^ld%-"
      local package = output(("dpkg-query -S '*/%s' 2>/dev/null"):format(library)):match "^([%w.+-]+)"
      assert.is_truthy(package, "no package has " .. library)
      if not of_test and not package:match "^libgcc" and not installed:find(" " .. package .. " ", 1, true) then
        missing[#missing + 1] = package
      end
    end
    assert.same({}, missing)
  end)

  it("copies what a build needs, all of it there, and nothing that an earlier build left", function ()
    local copied = {}
    for paths in text:gmatch "\nCOPY ([^\n]+)" do
      if not paths:find("--from", 1, true) then
        local source = paths:match "^(%S+)"
        assert.equal(0, os.execute(("test -e '%s'"):format(source)), source)
        copied[source] = true
      end
    end
    for _, wanted in ipairs { "Makefile", "runtime", "lua", "policies", "examples" } do assert.is_true(copied[wanted], wanted) end
    assert.is_nil(copied.build)
    assert.is_nil(copied["."])
  end)

  it("runs it as a user of its own, at the paths that the manual's variables name", function ()
    assert.matches("\nUSER holdfast\n", text)
    assert.matches("\nENV HOLDFAST_SOCKET=/run/holdfast/holdfast.sock\n", text)
    assert.matches('\nENTRYPOINT %["holdfast"%]\nCMD %["run", "%-c", "/etc/holdfast/holdfast.lua"%]\n', text)
  end)
end)
