local notify = require "unit.notify"

describe("notify", function ()
  local managers, opened
  before_each(function () managers, opened = {}, {} end)
  after_each(function ()
    for _, n in ipairs(opened) do n:close() end
    for _, m in ipairs(managers) do m:close() end
  end)

  local function manager(name)
    local m = notify.manager(name)
    table.insert(managers, m)
    return m
  end

  local function open(environment)
    local n, told = notify.open(environment)
    table.insert(opened, n)
    return n, told
  end

  local function path()
    local name = os.tmpname()
    os.remove(name)
    return name
  end

  it("does nothing and says nothing where no manager asked for it", function ()
    for _, socket in ipairs { false, "" } do
      local n, told = open { socket = socket or nil, usec = "1000000" }
      assert.is_false(told)
      n:ready()
      n:status "x"
      n:watchdog()
      n:stopping()
      assert.equal(0, n:next_ms())
      assert.equal("", n:close())
    end
  end)

  for what, name in pairs { ["a path"] = path, ["an abstract name"] = function () return "@holdfast-" .. path() end } do
    it("tells ready, status and stopping at " .. what, function ()
      local socket = name()
      local m = manager(socket)
      local n, told = open { socket = socket }
      assert.is_true(told)
      n:ready()
      assert.equal("READY=1\n", m:got())
      n:status "3 of 3 up"
      assert.equal("STATUS=3 of 3 up\n", m:got())
      n:stopping()
      assert.equal("STOPPING=1\n", m:got())
      assert.is_nil(m:got())
      assert.equal("", n:close())
    end)
  end

  it("tells a reload with the clock, at once, and its end as READY", function ()
    local socket = path()
    local m = manager(socket)
    local n = open { socket = socket }
    n:reloading()
    n:ready()
    local usec = m:got():match "^RELOADING=1\nMONOTONIC_USEC=(%d+)\n$"
    assert.is_true(tonumber(usec) > 0)
    assert.equal("READY=1\n", m:got())
    assert.equal("", n:close())
  end)

  it("names another process as the service, before it is ready", function ()
    local socket = path()
    local m = manager(socket)
    local n = open { socket = socket }
    n:main_pid(1234)
    assert.equal("MAINPID=1234\n", m:got())
    n:ready()
    assert.equal("READY=1\n", m:got())
    open { socket = false }:main_pid(7)
    assert.is_nil(m:got())
  end)

  it("owes the new process's name too when the queue was full", function ()
    local socket = path()
    local m = manager(socket)
    local filler = open { socket = socket, usec = "1000000" }
    for _ = 1, 2000 do filler:watchdog() end
    local n = open { socket = socket }
    n:main_pid(2147483647)
    n:ready()
    assert.equal(200, n:next_ms())
    repeat until not m:got()
    n:watchdog()
    assert.equal("MAINPID=2147483647\nREADY=1\n", m:got())
    assert.equal(0, n:next_ms())
  end)

  it("beats the watchdog at half of its interval", function ()
    local socket = path()
    local m = manager(socket)
    local n = open { socket = socket, usec = "30000000" }
    assert.equal(15000, n:next_ms())
    n:watchdog()
    assert.equal("WATCHDOG=1\n", m:got())
  end)

  it("beats the watchdog of this process alone", function ()
    local socket = path()
    local m = manager(socket)
    assert.equal(15000, open { socket = socket, usec = "30000000", pid = tostring(notify.pid()) }:next_ms())
    for _, pid in ipairs { tostring(notify.pid() + 1), "x", "-1" } do
      local n = open { socket = socket, usec = "30000000", pid = pid }
      assert.equal(0, n:next_ms())
      n:watchdog()
      assert.is_nil(m:got())
    end
  end)

  it("never has an interval of nothing", function ()
    local socket = path()
    manager(socket)
    assert.equal(1, open { socket = socket, usec = "1" }:next_ms())
    assert.equal(1, open { socket = socket, usec = "3999" }:next_ms())
    assert.equal(2, open { socket = socket, usec = "4000" }:next_ms())
  end)

  it("refuses an interval that is no number, with a line in the log", function ()
    local socket = path()
    manager(socket)
    for _, usec in ipairs { "0", "-5", "1e6", "30s", "99999999999999999999" } do
      local n = open { socket = socket, usec = usec }
      assert.equal(0, n:next_ms())
      assert.matches("WATCHDOG_USEC is " .. usec:gsub("%p", "%%%0"), n:close())
    end
  end)

  it("refuses addresses that are none, with a line in the log", function ()
    for _, socket in ipairs { "relative/path", "/", "@", "vsock:2:1234", "/" .. ("x"):rep(200) } do
      local n, told = open { socket = socket }
      assert.is_false(told)
      n:ready()
      local log = n:close()
      assert.matches("NOTIFY_SOCKET must be an absolute path, or @name", log)
      assert.equal(1, select(2, log:gsub("\n", "")))
    end
  end)

  it("logs a manager that is not there once, and lives on", function ()
    local n = open { socket = path(), usec = "1000000" }
    n:ready()
    for _ = 1, 10 do n:watchdog() end
    n:stopping()
    local log = n:close()
    assert.matches("level=warning", log)
    assert.matches("No such file or directory", log)
    assert.equal(1, select(2, log:gsub("\n", "")))
  end)

  it("finds a manager that came back", function ()
    local socket = path()
    local m = manager(socket)
    local n = open { socket = socket, usec = "1000000" }
    n:ready()
    m:close()
    n:watchdog()
    m = manager(socket)
    n:watchdog()
    assert.equal("WATCHDOG=1\n", m:got())
  end)

  it("keeps what a full queue refused, and tells it with the next message", function ()
    local socket = path()
    local m = manager(socket)
    local filler = open { socket = socket, usec = "1000000" }
    for _ = 1, 2000 do filler:watchdog() end -- far beyond any queue of datagrams
    local n = open { socket = socket }
    n:ready()
    n:status "first"
    n:status "second"
    assert.equal(200, n:next_ms())
    local last
    repeat
      local got = m:got()
      last = got or last
    until not got
    assert.equal("WATCHDOG=1\n", last)
    n:watchdog()
    assert.equal("READY=1\nSTATUS=second\n", m:got())
    assert.equal(0, n:next_ms())
    n:watchdog()
    assert.is_nil(m:got())
    assert.equal("", n:close())
  end)

  it("lets no status forge another line", function ()
    local socket = path()
    local m = manager(socket)
    local n = open { socket = socket }
    n:status "bot\nSTOPPING=1\nMAINPID=1"
    local got = m:got()
    assert.equal(1, select(2, got:gsub("\n", "")))
    assert.matches("^STATUS=bot\\x0aSTOPPING=1", got)
  end)

  it("cuts a long status between characters", function ()
    local socket = path()
    local m = manager(socket)
    local n = open { socket = socket }
    n:status(("é"):rep(500))
    assert.equal("STATUS=" .. ("é"):rep(120) .. "\n", m:got())
    n:status("a" .. ("é"):rep(500))
    assert.equal("STATUS=a" .. ("é"):rep(119) .. "\n", m:got())
    n:status(("\1"):rep(500))
    assert.equal("STATUS=" .. ("\\x01"):rep(60) .. "\n", m:got())
  end)
end)
