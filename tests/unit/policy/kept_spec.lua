local world = require "policy_world"

local function run(code, before)
  local w = world.load(("on_frame = function (conn, frame) %s end,"):format(code))
  for what, v in pairs(before or {}) do w:set(what, v) end
  local result, a = w:call("on_frame", { frame = "{}" })
  return w, result, a
end

describe("conn.session and conn.keep", function ()
  it("write through, and tell once after the hook", function ()
    local w, result, a = run "conn.session.id = 's' conn.session.seq = 7 conn.session.ok = true conn.keep.list = { 1, { a = 2 } }"
    assert.equal("ok", result, a.error)
    assert.same({ id = "s", seq = 7, ok = true }, w:get "session")
    assert.same({ list = { 1, { a = 2 } } }, w:get "keep")
    assert.same({ "session changed", "keep changed" }, w:events())
  end)

  it("say nothing when nothing changed", function ()
    local w = run("conn.session.id = 's' conn.session.none = nil conn.session = { id = 's' }", { session = { id = "s" } })
    assert.same({}, w:events())
  end)

  it("give copies of tables", function ()
    local w = run("local l = conn.session.list l[1] = 9 print(conn.session.list[1], l[1])", { session = { list = { 1 } } })
    assert.same({ "log 1 9" }, w:events())
    assert.same({ list = { 1 } }, w:get "session")
  end)

  it("are walked in order", function ()
    local w = run("for k, v in pairs(conn.session) do print(k, v) end", { session = { b = 1, a = 2, c = "x" } })
    assert.same({ "log a 2", "log b 1", "log c x" }, w:events())
  end)

  it("are emptied and replaced whole", function ()
    local w = run("conn.session = nil conn.keep = { new = 1 }", { session = { id = "s" }, keep = { old = 1 } })
    assert.same({}, w:get "session")
    assert.same({ new = 1 }, w:get "keep")
    assert.same({ "session changed", "keep changed" }, w:events())
  end)

  it("take nil and null for removal", function ()
    local w = run("conn.session.id = nil conn.session.seq = holdfast.null", { session = { id = "s", seq = 1, x = 1 } })
    assert.same({ x = 1 }, w:get "session")
  end)

  it("tell although the hook raised afterwards", function ()
    local w, result = run "conn.session.id = 's' error 'x'"
    assert.equal("raised", result)
    assert.same({ "session changed" }, w:events())
  end)

  for code, why in pairs {
    ["conn.session.t = conn.options.token"] = "conn.session.t: a secret is never stored",
    ["conn.keep.t = { deep = { conn.options.token } }"] = "conn.keep.t: a secret is never stored",
    ["conn.session.t = 'x' .. conn.options.token"] = "a secret is never stored",
    ["conn.session.f = print"] = "a function cannot be stored",
    ["conn.session.n = 0/0"] = "a number that is not finite",
    ["conn.session.n = { 1/0 }"] = "a number that is not finite",
    ["conn.session.c = conn"] = "a userdata cannot be kept",
    ["local t = {} t.t = t conn.session.t = t"] = "in a circle",
    ["conn.session[1] = 1"] = "keys are text of 1 to 64 bytes",
    ["conn.session[''] = 1"] = "keys are text of 1 to 64 bytes",
    ["conn.session[('k'):rep(65)] = 1"] = "keys are text of 1 to 64 bytes",
    ["conn.session['a\\0b'] = 1"] = "keys are text of 1 to 64 bytes",
    ["conn.session.big = ('x'):rep(8200)"] = "more than 8 KiB in all",
    ["for i = 1, 1000 do conn.session['k' .. i] = i end"] = "more than 8 KiB in all",
    ["conn.session = { big = ('x'):rep(8200) }"] = "more than 8 KiB in all",
    ["conn.session = { 1, 2 }"] = "keys are text",
    ["conn.session = 'x'"] = "table expected",
    ["conn.session = { t = conn.options.token }"] = "a secret is never stored",
    ["conn.session.list = { 1, holdfast.null }"] = "holdfast.null in a list",
  } do
    it("refuse " .. code, function ()
      local w, result, a = run(code, { session = { id = "s" } })
      assert.equal("raised", result)
      assert.match(why, a.error, 1, true)
      assert.equal("s", w:get "session".id)
      for k, v in pairs(w:get "session") do assert.is_true(k == "id" or type(v) == "number") end
    end)
  end

  it("make room when a large value is replaced", function ()
    local w, result, a = run("for i = 1, 20 do conn.session.big = ('x'):rep(7000 + i) end")
    assert.equal("ok", result, a.error)
    assert.equal(7020, #w:get "session".big)
  end)

  it("are gone with the connection", function ()
    local w = world.load "on_frame = function (conn) conn.session.x = 1 end,"
    w:set("gone", true)
    local result, a = w:call("on_frame", { frame = "{}" })
    assert.equal("raised", result)
    assert.match("gone", a.error)
  end)
end)
