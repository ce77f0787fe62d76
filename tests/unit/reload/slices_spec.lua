-- A reload in slices of one connection, and everything that may be asked of the daemon between two of them. Whatever it is,
-- and whenever it comes, the same connections run at the end as if it had come before or after.
local reload = require "unit.reload"
local scratch = require "scratch"
local process = require "unit.process"

local function write(path, text)
  local f = assert(io.open(path .. ".new", "w"))
  f:write(text)
  f:close()
  assert(os.rename(path .. ".new", path))
end

local POLICY = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "chirp",
  options  = { url = { type = "url", required = true }, token = { type = "string", required = true } },
  identity = { "token" },
  account  = { "token" },
  alive    = { ping = "20s", silence = "%s" },
  classify = { { any = true, verdict = "resume" } },
  prepare  = function (conn) return { url = conn.options.url } end,
}
]]

local function settings(token, more)
  return ('{ policy = "p", url = "ws://127.0.0.1:9/", token = "%s"%s }'):format(token, more or "")
end

local function json(token, more)
  return ('{ "policy": "p", "url": "ws://127.0.0.1:9/", "token": "%s"%s }'):format(token, more or "")
end

local World = {}
World.__index = World

-- `names`: { name = its table as text }
function World:config(list, more)
  local text = { 'listen { unix = "h.sock" }\nstore { memory = true }\npolicies { path = "p", watch = false, prove = false }\n', more or "" }
  for _, c in ipairs(list) do text[#text + 1] = ('connection "%s" %s\n'):format(c[1], c[2]) end
  write(self.folder .. "/holdfast.lua", table.concat(text))
end

function World:policy(silence) write(self.folder .. "/p/p.lua", POLICY:format(silence)) end

local function new(list)
  local w = setmetatable({ folder = scratch.folder() }, World)
  assert(os.execute(("mkdir '%s/p' && chmod 700 '%s'"):format(w.folder, w.folder)) == 0)
  w:policy "60s"
  w:config(list)
  w.d = reload.start(w.folder .. "/holdfast.lua", w.folder .. "/log")
  return w
end

-- The log has a thread of its own: what was said a moment ago may be there in another one.
function World:says(text, times)
  local until_ms = process.now_ms() + 20000
  while true do
    local n, at = 0, 1
    local log = self:log()
    while true do
      local from, to = log:find(text, at, true)
      if not from then break end
      n, at = n + 1, to + 1
    end
    if n >= (times or 1) then return n end
    assert(process.now_ms() < until_ms, log)
    self.d:turn()
  end
end

function World:log()
  local f = assert(io.open(self.folder .. "/log"))
  local text = f:read "*a"
  f:close()
  return text
end

-- "a1 b1": every connection and the version of its policy; a name in brackets is stopped.
local function shown(d)
  local list = {}
  for name, c in pairs(d:all()) do list[#list + 1] = (c.wanted and "%s%d" or "(%s%d)"):format(name, c.version) end
  table.sort(list)
  return table.concat(list, " ")
end

local A, B, C, N = { "a", settings "ta" }, { "b", settings "tb" }, { "c", settings "tc" }, { "n", settings "tn" }
local A2 = { "a", settings("ta", ', tune = { alive = { ping = "15s" } }') }

describe("a reload in slices", function ()
  local w
  after_each(function ()
    if w then w.d:close() end
    w = nil
  end)

  -- a, b, c of the file and x, y over the API; then a changes, c goes, n comes, and the policy is another one.
  local function before()
    w = new { A, B, C }
    assert.equal(201, (w.d:put("x", json "tx")))
    assert.equal(201, (w.d:put("y", json "ty")))
    w.d:quiet()
    assert.equal("a1 b1 c1 x1 y1", shown(w.d))
    w:policy "61s"
    w:config { A2, B, N }
    assert(w.d:reload())
    w.d:await "building"
    return w.d
  end

  local function steps_of(d)
    local n = 0
    while d:phase() ~= "idle" do
      d:turn()
      n = n + 1
      assert(n < 1000)
    end
    return n
  end
  local STEPS
  before_each(function ()
    if STEPS then return end
    STEPS = steps_of(before())
    w.d:quiet()
    assert.equal("a2 b2 n2 x2 y2", shown(w.d))
    w.d:close()
    w = nil
  end)

  it("does one connection a turn, and one is on its old version or on its new one", function ()
    local d = before()
    local seen, old = {}, 5
    while d:phase() ~= "idle" do
      d:turn()
      local now = 0
      for _, c in pairs(d:all()) do now = now + (c.version == 1 and 1 or 0) end
      assert(now >= old - 1, "more than one in a turn")
      old = now
      seen[now] = true
    end
    assert(seen[4] and seen[3] and seen[2])
    w:says "reloaded: 3 connections changed, 1 removed, 0 as before"
  end)

  -- Asked for after each number of slices; `at_end`: what runs then, one text or several that are fine.
  local cases = {
    { "nothing", function () end, "a2 b2 n2 x2 y2" },
    { "a stop", function (d) d:order("a", "stop") end, "(a2) b2 n2 x2 y2" },
    { "a stop of one put over the API", function (d) d:order("x", "stop") end, "(x2) a2 b2 n2 y2" },
    { "a restart", function (d) d:order("b", "restart") end, "a2 b2 n2 x2 y2" },
    { "the same put again", function (d) assert.equal(200, (d:put("x", json "tx"))) end, "a2 b2 n2 x2 y2" },
    { "other settings put", function (d) assert.equal(200, (d:put("x", json("tx", ', "tune": { "alive": { "ping": "9s" } }')))) end, "a2 b2 n2 x2 y2" },
    { "another identity put", function (d) assert.equal(202, (d:put("x", json "tx2"))) end, "a2 b2 n2 x2 y2" },
    { "a new one put", function (d) assert.equal(201, (d:put("z", json "tz"))) end, "a2 b2 n2 x2 y2 z2" },
    { "one deleted", function (d) assert.equal(202, (d:remove "x")) end, "a2 b2 n2 y2" },
    { "both deleted", function (d) assert.equal(202, (d:remove "x")); assert.equal(202, (d:remove "y")) end, "a2 b2 n2" },
    { "one deleted and put again", function (d) assert.equal(202, (d:remove "x")); assert.equal(202, (d:put("x", json "tx3"))) end, "a2 b2 n2 x2 y2" },
    { "one put that the file has no longer", function (d)
      local status = d:put("c", json "tc9")
      assert(status == 409 or status == 202 or status == 201, status)
      return status < 300
    end, "a2 b2 n2 x2 y2", "a2 b2 c2 n2 x2 y2" },
    { "one put that the file will have", function (d)
      local status = d:put("n", json "tn9")
      assert(status == 409 or status == 201, status)
    end, "a2 b2 n2 x2 y2" },
    { "one deleted that the file has", function (d) assert.equal(409, (d:remove "b")) end, "a2 b2 n2 x2 y2" },
    { "another reload", function (d) assert(d:reload()) end, "a2 b2 n2 x2 y2" },
    { "another reload of another text", function (d, world)
      world:policy "62s"
      world:config { A2, B, C, N }
      assert(d:reload())
    end, "a3 b3 c3 n3 x3 y3" },
    { "links closed and opened again", function (d)
      local phase = d:phase()
      d:links(false)
      d:turn()
      d:links(true)
      return phase == "building" -- refused as a whole; what had begun to be swapped goes on
    end, "a2 b2 n2 x2 y2", "a1 b1 c1 x1 y1" },
  }
  for _, case in ipairs(cases) do
    it("holds when asked for " .. case[1] .. ", after any number of slices", function ()
      for k = 0, STEPS do
        local d = before()
        for _ = 1, k do d:turn() end
        local another = case[2](d, w)
        d:quiet()
        local text = shown(d)
        d:close()
        assert.equal(another and case[4] or case[3], text, ("after %d slices: %s"):format(k, w:log()))
        assert.falsy(w:log():find("level=alarm", 1, true), w:log())
        w = nil
      end
    end)
  end

  it("comes to its end with the daemon, after any number of slices", function ()
    for k = 0, STEPS do
      local d = before()
      for _ = 1, k do d:turn() end
      d:finish()
      d:turn()
      d:close()
      w = nil
    end
  end)

  it("is refused as a whole while anything is wrong, wherever that is found", function ()
    local d = before()
    d:quiet()
    w:policy "63s"
    w:config { A2, B, { "n", settings "tx" } } -- the identity of one that was put over the API
    assert(d:reload())
    d:quiet()
    assert.equal("a2 b2 n2 x2 y2", shown(d))
    w:says "x: was added over the API and has the same identity as n: delete it first"
    -- And taken once that is mended.
    assert.equal(202, (d:remove "x"))
    assert(d:reload())
    d:quiet()
    assert.equal("a3 b3 n3 y3", shown(d))
  end)

  it("gives a connection that was renamed its identity once the old one is gone", function ()
    w = new { A, B }
    w.d:quiet()
    w:config { { "a2", settings "ta" }, B }
    assert(w.d:reload())
    w.d:quiet()
    assert.equal("a21 b1", shown(w.d))
    w.d:close()
    assert.falsy(w:log():find("not added", 1, true))
  end)

  it("goes on waiting for a namesake's end through another reload", function ()
    w = new { A, B }
    w.d:quiet()
    w:config { { "a", settings "other" }, B }
    assert(w.d:reload())
    w.d:await "swapping"
    assert(w.d:reload()) -- again, before the old one is gone
    w.d:quiet()
    assert.equal("a1 b1", shown(w.d))
  end)

  it("makes one of equal wishes, and does the others one after the other", function ()
    w = new { A, B }
    w.d:quiet()
    w:policy "61s"
    local first = assert(w.d:reload())
    local second = assert(w.d:reload())
    assert.equal(second, (w.d:reload()))
    assert.equal(second, (w.d:reload "p"))
    local third = assert(w.d:reload(nil, true))
    assert.equal(third, (w.d:reload("p", true)))
    assert(first < second and second < third)
    w.d:quiet()
    assert.equal(3, w:says("reloaded: ", 3))
    assert.equal("a2 b2", shown(w.d))
  end)

  it("refuses a policy that nobody uses at once", function ()
    w = new { A }
    local ticket, why = w.d:reload "q"
    assert.is_nil(ticket)
    assert.truthy(why:find("no connection uses a policy `q`", 1, true), why)
    assert.equal("idle", w.d:phase())
  end)

  it("lets go of the old version when the last connection has the new one", function ()
    w = new { A, B, C }
    assert.equal(201, (w.d:put("x", json "tx")))
    w.d:quiet()
    local old = w.d:version "p"
    for i = 1, 3 do
      w:policy((61 + i) .. "s")
      assert(w.d:reload())
      w.d:quiet()
    end
    assert.equal(1, old:references())
    old:release()
  end)

  it("does not touch who has the same settings when another one's change", function ()
    w = new { A, B, C }
    w.d:quiet()
    w:config { A2, B, C }
    assert(w.d:reload())
    w.d:quiet()
    w:says "reloaded: 1 connection changed, 0 removed, 2 as before"
    assert.equal("a1 b1 c1", shown(w.d))
    -- And the Lua state is still the only one.
    local p = w.d:version "p"
    w:config { A, B, C }
    assert(w.d:reload())
    w.d:quiet()
    local same = w.d:version "p"
    assert.equal(p:references(), same:references())
  end)
end)
