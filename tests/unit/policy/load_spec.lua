local world = require "policy_world"
local unit = require "unit.policy"

describe("loading a policy", function ()
  it("finds the hooks, by name", function ()
    local w = world.load [[
      fetch = { gateway = { call = function () return "wss://gw.chatter.example" end } },
      prepare = function () return { url = "wss://gw.chatter.example" } end,
      on_beat = function () return { op = 1 } end,
      beat = { every = "41s" },
      every = { presence = { "30s", function () end } },]]
    for hook, expected in pairs { fetch = true, prepare = true, on_beat = true, every = true, greet = false, on_frame = false,
                                  on_ended = false, on_ack = false } do
      assert.equal(expected, w:has_hook(hook), hook)
    end
    assert.equal("chatter", w:get "platform")
  end)

  it("refuses a file that returns no policy", function ()
    assert.match("return holdfast.policy", (world.refused "return {}"))
    assert.match("return holdfast.policy", (world.refused "return 1"))
    assert.match("return holdfast.policy", (world.refused "local h = require 'holdfast' h.policy {} return {}"))
    assert.match("one per file", (world.refused "local h = require 'holdfast' h.policy {} return h.policy {}"))
    assert.match("a table expected", (world.refused "return require 'holdfast'.policy()"))
  end)

  it("says file and line of what is wrong", function ()
    assert.match("^x.lua:2: ", (world.refused "local x = 1\nlocal = 2"))
    assert.match("^x.lua:3: unknown name `foo`", (world.refused "\n\nreturn foo.bar"))
    assert.match("^x.lua:1: over its instruction budget", (world.refused "while true do end"))
    assert.match("^x.lua:1: over its memory cap", (world.refused "local t = ('x'):rep(1e9)"))
    local text = world.refused(world.text("  bakoff = {},"))
    assert.match("^x.lua:%d+: .*bakoff.*backoff", text)
  end)

  it("refuses a file that is not there, or that others may write", function ()
    local folder = world.folder()
    local w, problems = unit.load(folder .. "/none.lua")
    assert.is_nil(w)
    assert.match("none.lua: No such file", problems[1])
    world.write(folder .. "/open.lua", "return 1", "646")
    w, problems = unit.load(folder .. "/open.lua")
    assert.is_nil(w)
    assert.match("writable by others", problems[1])
  end)

  it("hashes the text of the policy and of what it requires", function ()
    local folder = world.folder()
    local function hash(helper, body)
      world.write(folder .. "/helper.lua", helper)
      world.write(folder .. "/x.lua", world.text(body, "local helper = require 'helper'"))
      return assert(unit.load(folder .. "/x.lua", { settings = world.settings })):get "hash"
    end
    local first = hash("return { n = 1 }", "")
    assert.equal(first, hash("return { n = 1 }", ""))
    assert.not_equal(first, hash("return { n = 2 }", ""))
    assert.not_equal(first, hash("return { n = 1 }", "-- more"))
  end)

  it("refuses what needs a call, naming the phase", function ()
    assert.match("holdfast.random%(%) is not available while a policy is loading",
                 (world.refused "local x = require 'holdfast'.random()"))
    assert.match("holdfast.now_ms%(%) is not available while a policy is loading",
                 (world.refused "local x = require 'holdfast'.now_ms()"))
  end)

  it("freezes the tables that hooks can still reach", function ()
    local w = world.load([[ on_ended = function () names.x = 1 end, names_of = nil, about = names.about, greet = function () names.about = "y" end, ]],
                         { head = "local names = { about = 'x' }" })
    -- a table that is not part of the policy is the file's own affair
    assert.equal("ok", (w:call "greet" ))
    w = world.load([[ on_ended = function () limits.greeting = "1s" end, limits = limits, ]], { head = "local limits = { greeting = '9s' }" })
    local result, a = w:call "on_ended"
    assert.equal("raised", result)
    assert.match("a policy's table is read only", a.error)
  end)

  it("refuses require inside a hook", function ()
    local folder = world.folder()
    world.write(folder .. "/late.lua", "return {}")
    world.write(folder .. "/x.lua", world.text "on_ended = function () require 'late' end,")
    local w = assert(unit.load(folder .. "/x.lua", { settings = world.settings }))
    local result, a = w:call "on_ended"
    assert.equal("raised", result)
    assert.match("only while a file is loading", a.error)
  end)

  it("keeps versions apart", function ()
    local a = world.load "on_ended = function () return 'stop' end,"
    local b = world.load "on_ended = function () return 'fresh' end,"
    assert.equal("stop", select(2, a:call "on_ended").value.verdict)
    assert.equal("fresh", select(2, b:call "on_ended").value.verdict)
  end)
end)
