-- The walls: who may include whom, and calls that have one home. Read from the sources, so that nobody has
-- to remember them.

-- module -> what its files may include besides themselves and the C library.
local MAY = {
  base    = {},
  engine  = { "base" },
  crypto  = { "base" },
  frame   = { "base", "crypto" },
  net     = { "base", "engine", "frame", "crypto", "host.h" },
  sim     = { "base", "engine", "frame", "crypto", "host.h", "peer/peer.h", "store" },
  policy  = { "base", "engine", "frame", "crypto", "bind" },
  bind    = { "base", "engine", "frame", "crypto", "policy" },
  config  = { "base", "engine", "frame", "policy" },
  trace   = { "base", "engine", "frame", "crypto", "policy" },
  peer    = { "base", "frame", "policy" },
  store   = { "base", "engine" },
  deliver = { "base", "engine", "frame", "crypto" },
  ops     = { "base", "engine", "frame", "crypto", "config", "deliver", "store", "peer", "policy/policy.h", "runtime.h", "host.h", "net/net.h", "sim/prove.h" },
  cli     = { "base", "config", "ops", "policy/policy.h", "peer/peer.h", "sim/module.h", "sim/prove.h", "runtime.h", "crypto", "deliver", "engine", "net/net.h", "store", "frame", "trace" },
  ["."]   = { "base", "engine", "frame", "policy/policy.h", "deliver/deliver.h", "store/store.h", "store/core.h", "cli", "trace", "." },
}

-- Third-party headers and the modules that may see them.
local THIRD = {
  ["uv.h"] = { net = true, ops = true, cli = true },
  ["libwebsockets.h"] = { ops = true },
  ["curl/curl.h"] = { net = true },
  ["openssl/"] = { net = true, crypto = true },
  ["lua.h"] = { policy = true, bind = true, config = true, peer = true, cli = true, ["sim/module"] = true },
  ["lauxlib.h"] = { policy = true, bind = true, config = true, peer = true, cli = true, ["sim/module"] = true },
  ["sqlite3.h"] = { store = true },
  ["zlib.h"] = { frame = true },
  ["zstd.h"] = { frame = true },
}

local function files()
  local list = {}
  local p = io.popen "find runtime -name '*.[ch]' | LC_ALL=C sort"
  for path in p:lines() do list[#list + 1] = path end
  p:close()
  return list
end

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function module_of(path)
  return path:match "^runtime/([^/]+)/" or "."
end

-- The files that make the simulator a Lua module see everything.
local function is_sim_module(path)
  return path:match "^runtime/sim/module" ~= nil
end

local function allowed(module, include)
  local target = include:match "^([^/]+)/" or "."
  if target == module then return true end
  for _, may in ipairs(MAY[module] or {}) do
    if may == target or may == include then return true end
  end
  return false
end

local function code_of(text)
  return (text:gsub("/%*.-%*/", ""):gsub("//[^\n]*", ""):gsub('"[^"\n]*"', '""'))
end

describe("the walls between modules", function ()
  it("know every folder of runtime/", function ()
    for _, path in ipairs(files()) do
      assert.is_truthy(MAY[module_of(path)], path .. " is in a folder that has no walls")
    end
  end)

  it("hold for every include", function ()
    local broken = {}
    for _, path in ipairs(files()) do
      local n = 0
      for line in read(path):gmatch "[^\n]*" do
        n = n + 1
        local include = line:match '^%s*#%s*include%s+"([^"]+)"'
        if include and not is_sim_module(path) and not allowed(module_of(path), include) then
          broken[#broken + 1] = string.format("%s:%d: includes %s", path, n, include)
        end
      end
    end
    assert.equal("", table.concat(broken, "\n"))
  end)

  it("hold for third-party headers", function ()
    local broken = {}
    for _, path in ipairs(files()) do
      for include in read(path):gmatch "#%s*include%s+<([^>]+)>" do
        for header, who in pairs(THIRD) do
          if include == header or (header:sub(-1) == "/" and include:sub(1, #header) == header) then
            local ok = who[module_of(path)] or (is_sim_module(path) and who["sim/module"])
            if not ok then broken[#broken + 1] = path .. ": includes <" .. include .. ">" end
          end
        end
      end
    end
    assert.equal("", table.concat(broken, "\n"))
  end)

  it("keep lua_pcall and lua_resume in lua_enter()", function ()
    for _, path in ipairs(files()) do
      local code = code_of(read(path))
      if path ~= "runtime/policy/enter.c" and not path:match "^runtime/cli/test" and not is_sim_module(path) then
        assert.is_nil(code:match "[^%w_]lua_pcall%s*%(", path)
        assert.is_nil(code:match "[^%w_]lua_cpcall%s*%(", path)
        assert.is_nil(code:match "[^%w_]lua_resume%s*%(", path)
      end
    end
  end)

  it("keep clocks, randomness, allocation and I/O out of the engine", function ()
    for _, path in ipairs(files()) do
      if path:match "^runtime/engine/" then
        local code = code_of(read(path))
        for _, call in ipairs { "time", "rand", "random", "clock_gettime", "printf", "fopen", "read", "write", "getenv" } do
          assert.is_nil(code:match("[^%w_>.]" .. call .. "%s*%("), path .. " calls " .. call)
        end
        -- Only where the engine is created, and where engine_add() makes an account's ledger.
        local home = { ["engine.c"] = true, ["plan.c"] = true, ["budget.c"] = true, ["ledger.c"] = true }
        if not home[path:match "[^/]+$"] then
          assert.is_nil(code:match "[^%w_][mc]alloc%s*%(", path .. " allocates")
        end
      end
    end
  end)

  it("keep wall-clock sleeps out of the sources", function ()
    for _, path in ipairs(files()) do
      local code = code_of(read(path))
      assert.is_nil(code:match "[^%w_]u?sleep%s*%(", path)
      assert.is_nil(code:match "[^%w_]nanosleep%s*%(", path)
    end
  end)

  it("keep getaddrinfo off the loop", function ()
    for _, path in ipairs(files()) do
      assert.is_nil(code_of(read(path)):match "[^%w_]getaddrinfo%s*%(", path)
    end
  end)
end)

describe("the tests", function ()
  it("never sleep", function ()
    local broken = {}
    local p = io.popen "find tests -name '*.lua' -o -name '*.c' | grep -v tests/bench | LC_ALL=C sort"
    for path in p:lines() do
      -- A name server and a disk that are slow on demand sleep in threads that nobody's test waits in.
      local slow = path == "tests/support/runner.c" or path == "tests/support/unit_store.c" or path == "tests/support/disk_shim.c"
      if path ~= "tests/walls_spec.lua" and not slow then
        local text = code_of(read(path)):gsub("%-%-[^\n]*", "")
        if text:match "[^%w_]u?sleep%s*%(" or text:match "[^%w_]nanosleep%s*%(" then broken[#broken + 1] = path end
      end
    end
    p:close()
    assert.equal("", table.concat(broken, "\n"))
  end)
end)
