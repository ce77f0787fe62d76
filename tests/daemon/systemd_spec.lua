-- The example unit: what it claims of the binary is tried, and systemd reads it. The last test makes this
-- process, and so all that it starts, unable to have memory that is writable and executable.
local world = require "daemon_world"
local ffi = require "ffi"

local UNIT, CONFIG = "examples/systemd/holdfast.service", "examples/systemd/holdfast.lua"

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function output(command)
  local p = io.popen(command .. " 2>&1; echo $?")
  local text = p:read "*a"
  p:close()
  local said, status = text:match "^(.-)(%d+)\n$"
  return tonumber(status), said
end

describe("the systemd unit", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  it("is understood by systemd, without a warning", function ()
    if output "command -v systemd-analyze" ~= 0 then return pending "systemd-analyze is not installed" end
    -- With this tree's binary and without the manual page: verify looks whether they are installed.
    local unit = read(UNIT):gsub("ExecStart=%S+", "ExecStart=" .. world.binary):gsub("Documentation=[^\n]*\n", "")
    w:write("holdfast.service", unit)
    local status, said = output(("systemd-analyze verify --man=no --recursive-errors=no '%s/holdfast.service'"):format(w.folder))
    assert.equal(0, status, said)
    assert.is_nil(said:find("holdfast.service", 1, true), said)
  end)

  it("is one that systemd-analyze security calls OK", function ()
    if output "command -v systemd-analyze" ~= 0 then return pending "systemd-analyze is not installed" end
    w:write("holdfast.service", read(UNIT))
    local status, said = output(("systemd-analyze security --offline=yes --threshold=20 '%s/holdfast.service'"):format(w.folder))
    if said:find("unrecognized option", 1, true) then return pending "systemd-analyze knows no --offline" end
    assert.equal(0, status, said)
    assert.matches("Overall exposure level for holdfast.service: [01]%.%d OK", said)
  end)

  it("starts a command, and hands over a folder, that the example configuration uses", function ()
    local unit, config = read(UNIT), read(CONFIG)
    assert.matches("\nExecStart=/usr/local/bin/holdfast run %-c /etc/holdfast/holdfast.lua\n", unit)
    assert.matches("\nConfigurationDirectory=holdfast\n", unit)
    for directory, folder in pairs { RuntimeDirectory = "/run/", StateDirectory = "/var/lib/" } do
      local name = unit:match("\n" .. directory .. "=(%S+)\n")
      assert.is_truthy(config:find('"' .. folder .. name .. "/", 1, true), directory)
    end
    for name in config:gmatch 'credential = "([^"]+)"' do
      assert.is_truthy(unit:find("\nLoadCredential=" .. name .. ":/", 1, true), name)
    end
  end)

  it("has a configuration that holdfast finds no fault with", function ()
    w:write("credentials/discord-token", world.token .. "\n")
    w:write("holdfast.lua", 'policies { path = "../../policies" }\n' .. read(CONFIG))
    local code, run = w:run({ "check" }, { env = { CREDENTIALS_DIRECTORY = "credentials" } })
    assert.equal(0, code, run.out .. run.err)
  end)

  it("may deny memory that is writable and executable: holdfast runs without", function ()
    ffi.cdef "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);"
    local PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
    assert.matches("\nMemoryDenyWriteExecute=yes\n", read(UNIT))
    jit.off() -- this process's own compiler needs such memory: let nothing be left of it
    jit.flush()
    if ffi.C.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) ~= 0 then
      return pending "this kernel cannot deny it"
    end
    local peer = w:peer()
    w:config(peer.port)
    local daemon = w:daemon()
    w:up()
    daemon:kill(world.signals.hup)
    daemon:says "reload"
    assert.equal(0, daemon:stop(), daemon.err)
  end)
end)
