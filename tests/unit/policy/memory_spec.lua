local unit = require "unit.policy"
local world = require "policy_world"

-- A refusal of memory at any allocation must come out as a result, never as a crash or a leak (the
-- sanitizers watch).
describe("memory that runs out anywhere", function ()
  it("ends a chunk that uses everything as over budget, or lets it be", function ()
    local text = [[
      local h = require "holdfast"
      local t = h.json.decode '{"a":[1,2,{"b":"\\u00e9"}],"c":{"d":null},"e":"x"}'
      local s = h.json.encode(t) .. h.url.query { a = 1, b = { "x", "y" } } .. h.crypto.hex(h.crypto.sha256 "x")
      for k, v in pairs(t) do s = s .. k .. tostring(v) end
      s = s:gsub("%w+", function (w) return w:upper() end):rep(3, ",") .. ("%5d|%s|%q"):format(3, t, s)
      local ok, why = pcall(error, "x" .. tostring(token .. s))
      table.sort { 3, 2, 1 } table.concat { 1, token, "x" }
      return { s, why, token, h.bytes.pack("u32be", 7) }]]
    local seen = {}
    for memory = 45000, 160000, 331 do
      local fine, result, why = pcall(unit.run, text, { memory = memory, secret = "hush" })
      if fine then
        seen[result] = (seen[result] or 0) + 1
        assert.is_true(result == "ok" or result == "over budget", result .. " " .. tostring(why))
      else
        assert.match("no sandbox", result)
      end
    end
    assert.is_true(seen.ok > 20)
    assert.is_true(seen["over budget"] > 20)
  end)

  it("ends hooks and tasks as over budget, or lets them be", function ()
    local body = [[
      fetch = { it = { call = function (conn)
        local a = conn:http { url = conn.options.api .. "/x", json = { t = conn.options.token, list = { 1, 2, 3 } }, headers = { A = "Bot " .. conn.options.token } }
        conn.session.id = a.json.id:sub(1, 10)
        return { url = a.json.url, t = conn.options.token }, { keep = "1h" }
      end } },
      on_frame = function (conn, frame)
        conn.keep.count = #frame.list
        conn:send { op = 1, d = frame, token = conn.options.token }
        conn:log("seen " .. frame.op)
      end,]]
    local seen = {}
    local frame = '{"op":7,"list":[' .. ("[1,\"\\u00e9\"],"):rep(900) .. '1]}'
    for memory = 70000, 420000, 1301 do
      local ok, w = pcall(world.load, body, { memory = memory })
      if ok then
        local result, a = w:call("on_frame", { frame = frame })
        seen[result] = (seen[result] or 0) + 1
        assert.is_true(result == "ok" or result == "over budget", result .. " " .. a.error)
        result, a = w:call("fetch", { name = "it" })
        if result == "waiting" then
          result, a = w:resume(a.task, { status = 200, head = ("H: v\r\n"):rep(20), body = '{"id":"' .. ("i"):rep(30000) .. '","url":"u"}' })
        end
        seen[result] = (seen[result] or 0) + 1
        assert.is_true(result == "ok" or result == "over budget", result .. " " .. a.error)
        assert.equal(0, w:get "tasks")
      end
    end
    assert.is_true(seen.ok > 20)
    assert.is_true(seen["over budget"] > 20)
  end)
end)
