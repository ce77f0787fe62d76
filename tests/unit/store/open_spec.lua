local store = require "unit.store"
local scratch = require "scratch"

describe("opening a store", function ()
  local path, open
  before_each(function ()
    path = scratch.path "holdfast.db"
    open = function (more)
      local options = { path = path, boot = "b", wall = 5000, boot_ms = 5, seed = 7 }
      for k, v in pairs(more or {}) do options[k] = v end
      return store.open(options)
    end
  end)

  local function write(name, bytes)
    local f = assert(io.open(name, "wb"))
    f:write(bytes)
    f:close()
  end
  local function read(name)
    local f = io.open(name, "rb")
    if not f then return nil end
    local bytes = f:read "*a"
    f:close()
    return bytes
  end
  local function mode(name)
    local p = io.popen(("stat -c %%a '%s' 2>/dev/null"):format(name))
    local text = p:read "*l"
    p:close()
    return text
  end
  local function refused(as, words, more)
    local s, result, why = open(more)
    assert.is_nil(s)
    assert.equal(as, result, why)
    assert.is_truthy(why:find(words, 1, true), why)
    assert.is_truthy(why:find((more or {}).path or path, 1, true), why)
    assert.is_nil(why:find "\n")
    return why
  end
  local function filled()
    local s = assert(open())
    s:fill({ "event", connection = "a", epoch = 1, offset = 1, bytes = ("x"):rep(1000) }, 1000, 100)
    assert.equal("applied", (s:apply { { "session", connection = "a", bytes = '{"id":7}' } }))
    s:close(true)
  end

  it("makes a file of its own user alone, and its folder, but no tree of folders", function ()
    local folder = scratch.path "var"
    local s = assert(open { path = folder .. "/holdfast.db" })
    assert.equal("600", mode(folder .. "/holdfast.db"))
    assert.equal("600", mode(folder .. "/holdfast.db-wal"))
    assert.equal("700", mode(folder))
    assert.is_nil(read(folder .. "/holdfast.db-shm"))
    s:close(true)
    refused("missing folder", "create it", { path = folder .. "/no/where/holdfast.db" })
    assert.is_nil(mode(folder .. "/no"))
  end)

  it("says what is in the way", function ()
    write(path, "")
    refused("missing folder", "part of its path is no folder", { path = path .. "/holdfast.db" })
    refused("not a store", "is a folder", { path = scratch.folder() })
    local pipe = scratch.path "pipe"
    assert(os.execute(("mkfifo '%s'"):format(pipe)) == 0)
    refused("not a store", "is no regular file", { path = pipe })
    refused("failed", "File name too long", { path = path .. ("x"):rep(300) })
    local s, result = open { path = "/proc/self/holdfast.db" }
    assert.is_nil(s)
    assert.equal("missing folder", result)
  end)

  it("is refused where the user may not write", function ()
    local folder = scratch.folder()
    write(folder .. "/holdfast.db", "")
    assert(os.execute(("chmod 400 '%s/holdfast.db' && chmod 500 '%s'"):format(folder, folder)) == 0)
    local denied = not io.open(folder .. "/holdfast.db", "r+")
    if denied then
      refused("denied", "Permission denied", { path = folder .. "/holdfast.db" })
      refused("denied", "Permission denied", { path = folder .. "/other.db" })
    end
    assert(os.execute(("chmod -R u+w '%s'"):format(folder)) == 0)
    -- The superuser is denied nothing but by a file system.
    refused("denied", "must be this user's", { path = "/sys/kernel/holdfast.db" })
  end)

  it("is never misled by words that SQLite reads in a path", function ()
    local here = scratch.folder()
    for _, name in ipairs { ":memory:", "file:x.db?mode=memory" } do
      assert(os.execute(("cd '%s' && true"):format(here)) == 0)
      local s = assert(open { path = here .. "/" .. name })
      s:close(true)
      assert.is_truthy(read(here .. "/" .. name))
      s = assert(open { path = name }) -- relative to where this runs
      s:close(true)
      assert.is_truthy(read("./" .. name), name)
      os.remove("./" .. name)
    end
  end)

  it("refuses what is no database, and what is another program's, and leaves both as they are", function ()
    local text = ("This is my diary, not a database.\n"):rep(200)
    write(path, text)
    refused("not a store", "no database")
    assert.equal(text, read(path))
    write(path, "short")
    refused("not a store", "no database")
    os.remove(path)
    store.sql(path, "CREATE TABLE mine (a); INSERT INTO mine VALUES (1)")
    local before = read(path)
    refused("not a store", "another program")
    assert.equal(before, read(path))
    store.sql(path, "DROP TABLE mine; PRAGMA application_id = 5")
    refused("not a store", "another program")
  end)

  it("takes a file that another start left empty", function ()
    write(path, "")
    assert(open()):close(true)
    os.remove(path)
    store.sql(path, "PRAGMA journal_mode = WAL; VACUUM")
    local s = assert(open())
    assert.is_true(s:start().is_new)
    s:close(true)
  end)

  it("refuses a newer schema, and changes nothing", function ()
    filled()
    store.sql(path, "UPDATE meta SET value = 2 WHERE name = 'schema_version'")
    local before = read(path)
    refused("newer", "newer holdfast (schema 2, this one knows 1)")
    refused("newer", "newer holdfast", { read_only = true })
    assert.equal(before, read(path))
    store.sql(path, "UPDATE meta SET value = -9 WHERE name = 'schema_version'")
    refused("newer", "newer holdfast")
  end)

  it("refuses a file with a broken page, and names the way out", function ()
    filled()
    local bytes = read(path)
    local page = math.floor(#bytes / 4096 / 2) * 4096
    write(path, bytes:sub(1, page) .. ("\170"):rep(4096) .. bytes:sub(page + 4097))
    local why = refused("corrupt", "is damaged")
    assert.is_truthy(why:find("holdfast store export", 1, true))
    assert.is_truthy(why:find("move the file aside", 1, true))
    -- What can be read is read: other tables, and events up to the page.
    s = assert(open { read_only = true })
    local seen
    assert.is_nil((s:visit()))
    s:close(false)
  end)

  it("refuses a file that was cut short", function ()
    filled()
    local bytes = read(path)
    for _, keep in ipairs { #bytes - 4096, math.floor(#bytes / 2 / 4096) * 4096, math.floor(#bytes / 2) + 7, 4096, 1000 } do
      write(path, bytes:sub(1, keep))
      local s, result, why = open()
      assert.is_nil(s, keep)
      assert.is_truthy(result == "corrupt" or result == "not a store", why)
      os.remove(path .. "-wal")
    end
  end)

  it("refuses or survives any byte of the header being wrong", function ()
    filled()
    local bytes = read(path)
    for at = 1, 100 do
      write(path, bytes:sub(1, at - 1) .. string.char(255 - bytes:byte(at)) .. bytes:sub(at + 1))
      local s, _, why = open()
      if s then s:close(false)
      else assert.is_true(#why > 20, why) end
      os.remove(path .. "-wal")
      os.remove(path .. "-journal")
    end
  end)

  it("survives a log that belongs to nothing", function ()
    filled()
    write(path .. "-wal", ("\1\2\3\4"):rep(5000))
    local s = assert(open())
    assert.equal(1000, #s:visit().events)
    s:close(true)
  end)

  it("takes nothing from the log of a file that was moved away without it", function ()
    local s = assert(open())
    assert.equal("applied", (s:apply { { "session", connection = "a", bytes = "old" } }))
    assert(os.execute(("cp '%s-wal' '%s.kept'"):format(path, path)) == 0)
    s:close(true)
    os.remove(path)
    assert(os.rename(path .. ".kept", path .. "-wal"))
    s = assert(open { wall = 6000 })
    assert.same({ epoch = 6000, seed = 7, was_clean = true, is_new = true }, s:start())
    assert.same({}, s:visit())
    s:close(true)
  end)

  it("is refused while another process has the file", function ()
    local s = assert(open())
    refused("failed", "another program has it open")
    refused("failed", "another program has it open", { read_only = true })
    s:close(true)
    assert(open()):close(true)
  end)

  it("changes nothing when it only reads, not even the log", function ()
    local s = assert(open())
    assert.equal("applied", (s:apply { { "session", connection = "a", bytes = "{}" } }))
    assert(os.execute(("cp '%s' '%s.copy' && cp '%s-wal' '%s.copy-wal'"):format(path, path, path, path)) == 0)
    s:close(true)
    local db, log = read(path .. ".copy"), read(path .. ".copy-wal")
    assert.is_true(#log > 0)
    s = assert(open { path = path .. ".copy", read_only = true })
    assert.equal("{}", s:visit().sessions[1].json)
    assert.is_false(s:close(true))
    assert.equal(db, read(path .. ".copy"))
    assert.equal(log, read(path .. ".copy-wal"))
    -- And it is still the unclean end that it was.
    s = assert(open { path = path .. ".copy" })
    assert.is_false(s:start().was_clean)
    s:close(true)
    refused("missing folder", "there is no store at", { path = scratch.path "none.db", read_only = true })
    write(path, "")
    refused("not a store", "is empty", { read_only = true })
  end)
end)

describe("a schema", function ()
  local path
  before_each(function () path = scratch.path "old.db" end)
  local first = "CREATE TABLE meta (name TEXT PRIMARY KEY, value); CREATE TABLE thing (a); INSERT INTO thing VALUES (1);"
  local second = "ALTER TABLE thing ADD COLUMN b; UPDATE thing SET b = a + 1;"

  local function version()
    return store.sql(path, "SELECT value FROM meta WHERE name = 'schema_version'")
  end

  it("is reached step by step, each once", function ()
    assert.equal("ok", store.migrate(path, 0, { first }))
    assert.equal("1", version())
    assert.equal("ok", store.migrate(path, 1, { "not for this file", second }))
    assert.equal("2", version())
    assert.equal("2", store.sql(path, "SELECT b FROM thing"))
    assert.equal("ok", store.migrate(path, 2, { "never", "again" }))
    os.remove(path)
    assert.equal("ok", store.migrate(path, 0, { first, second }))
    assert.equal("2", version())
    assert.equal("1", store.sql(path, "SELECT count(*) FROM thing"))
  end)

  it("stays whole when a later step fails", function ()
    assert.equal("ok", store.migrate(path, 0, { first }))
    assert.equal("SQL logic error", store.migrate(path, 1, { first, second, "CREATE TABLE broken (" }))
    assert.equal("1", version())
    assert.is_nil((store.sql(path, "SELECT b FROM thing")))
    assert.equal("constraint failed", store.migrate(path, 1, { first, second, "INSERT INTO meta VALUES ('schema_version', 1)" }):lower())
    assert.equal("1", version())
    assert.equal("ok", store.migrate(path, 1, { first, second }))
    assert.equal("2", store.sql(path, "SELECT b FROM thing"))
  end)

  it("of a file from before versions is brought up to date when a store opens", function ()
    store.sql(path, "PRAGMA application_id = 1214663473; CREATE TABLE older (a)")
    local s, result = store.open { path = path, wall = 9, read_only = true }
    assert.is_nil(s)
    assert.equal("failed", result)
    s = assert(store.open { path = path, wall = 9, seed = 4 })
    assert.same({ epoch = 9, seed = 4, was_clean = true, is_new = true }, s:start())
    s:close(true)
    assert.equal("1", version())
  end)

  it("that cannot be brought up to date leaves the file as it was", function ()
    store.sql(path, "PRAGMA application_id = 1214663473; CREATE TABLE event (mine); INSERT INTO event VALUES (3)")
    local s, result, why = store.open { path = path, wall = 9 }
    assert.is_nil(s)
    assert.equal("failed", result, why)
    assert.equal("3", store.sql(path, "SELECT mine FROM event"))
    assert.equal("1", store.sql(path, "SELECT count(*) FROM sqlite_schema"))
  end)
end)
