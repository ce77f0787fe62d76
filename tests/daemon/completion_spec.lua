local world = require "daemon_world"

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

describe("completion in bash", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  -- What would be offered for the last of `words`, sorted.
  local function offered(words, cd)
    local list = { quoted(world.binary) }
    for _, word in ipairs(words) do list[#list + 1] = quoted(word) end
    local script = ("source examples/completion/holdfast.bash; %s COMP_WORDS=(%s); COMP_CWORD=%d; _holdfast; printf '%%s\\n' \"${COMPREPLY[@]}\"")
      :format(cd and ("cd %s;"):format(quoted(cd)) or "", table.concat(list, " "), #words)
    local p = io.popen(("HOLDFAST_LUA=\"$PWD/lua\" bash -c %s 2>&1"):format(quoted(script)))
    local found = {}
    for line in p:lines() do if line ~= "" then found[#found + 1] = line end end
    p:close()
    table.sort(found)
    return found
  end

  local function help(...)
    local code, run = w:run { "help", ... }
    assert.equal(0, code)
    return run.out
  end

  local function commands()
    local list = {}
    for name in help():gmatch "\n  (%l+) " do list[#list + 1] = name end
    assert.is_true(#list >= 6)
    return list
  end

  local function sorted(list)
    table.sort(list)
    return list
  end

  it("is registered for holdfast, and bash has no complaint about it", function ()
    local p = io.popen "bash -c 'set -u; source examples/completion/holdfast.bash; complete -p holdfast' 2>&1"
    assert.equal("complete -F _holdfast holdfast\n", p:read "*a")
    p:close()
  end)

  it("offers exactly the commands of --help", function ()
    local expected = commands()
    for _, word in ipairs { "help", "--help", "--version" } do expected[#expected + 1] = word end
    assert.same(sorted(expected), offered { "" })
    assert.same(sorted(commands()), offered { "help", "" })
    assert.same({ "status" }, offered { "statu" })
  end)

  it("offers exactly the options that each command's help lists", function ()
    for _, command in ipairs(commands()) do
      local expected, text = { "--help" }, help(command)
      for left in text:gmatch "\n  (%-[^\n]-)  " do
        for option in left:gmatch "%-[%w-]+" do expected[#expected + 1] = option end
      end
      assert.same(sorted(expected), offered { command, "-" }, command)
    end
  end)

  it("offers files where an option or a command wants one", function ()
    w:write("some.lua", "")
    for _, words in ipairs { { "run", "-c", "so" }, { "check", "--config", "so" }, { "check", "so" }, { "status", "--socket", "so" },
        { "check", "--config", "=", "so" } } do
      assert.same({ "some.lua" }, offered(words, w.folder), table.concat(words, " "))
    end
    assert.same({ "some.lua" }, offered({ "check", "--config", "=" }, w.folder))
    assert.same({}, offered({ "status", "so" }, w.folder))
  end)

  it("offers the peers that are there, and where to start a stream from", function ()
    assert.same({ "discord" }, offered { "peer", "disc" })
    assert.same({ "cursor", "now", "start" }, offered { "tail", "--from", "" })
    assert.same({}, offered { "peer", "discord", "--port", "" })
  end)

  it("offers the connections of the running holdfast, and nothing without one", function ()
    local peer = w:peer()
    w:config(peer.port)
    assert.same({}, offered({ "status", "" }, w.folder))
    local daemon = w:daemon()
    assert.same({ "bot" }, offered({ "status", "" }, w.folder))
    assert.same({ "bot" }, offered { "tail", "--socket", w.folder .. "/h.sock", "b" })
    assert.equal(0, daemon:stop())
  end)

  it("offers what consumer does, and then the consumers that the running holdfast knows", function ()
    assert.same({ "forget", "list" }, offered { "consumer", "" })
    local peer = w:peer()
    w:config(peer.port)
    assert.same({}, offered({ "consumer", "forget", "" }, w.folder))
    local daemon = w:daemon()
    local tail = w:start { "tail", "--consumer", "Reader-1" }
    tail:says '"hello"'
    assert.same({ "Reader-1" }, offered({ "consumer", "forget", "" }, w.folder))
    assert.same({}, offered({ "consumer", "forget", "Reader-1", "" }, w.folder))
    assert.equal(0, daemon:stop())
  end)

  it("offers what store does, and files for its options", function ()
    w:write("some.db", "")
    assert.same({ "compact", "export", "info" }, offered { "store", "" })
    assert.same({ "export" }, offered { "store", "e" })
    assert.same({}, offered { "store", "info", "" })
    assert.same({ "some.db" }, offered({ "store", "info", "--path", "so" }, w.folder))
  end)

  it("offers nothing for a command that is none", function ()
    assert.same({}, offered { "nonsense", "" })
    assert.same({ "--help" }, offered { "nonsense", "-" })
  end)
end)
