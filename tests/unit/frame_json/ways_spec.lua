-- The quick ways through a JSON text say what the careful one says, of whatever bytes. frame.scan() compares them
-- all: result, fields, bytes afterwards, place of the fault.
local frame = require "unit.frame_json"

local rules = frame.rules { fields = { { "op", "op" }, { "seq", "s" }, { "kind", "t" }, { "id", "d.id" }, { "d", "d" },
                                       { "deep", "d.a.b" } } }

-- A generator of its own, so that a run can be repeated.
local state = tonumber(os.getenv "HOLDFAST_SEED") or 20261122
local function draw(n)
  state = (state * 1103515245 + 12345) % 2147483648
  return math.floor(state / 65536) % n + 1
end
local function one_of(list) return list[draw(#list)] end

local SPACES = { "", "", "", "", "", "", " ", "  ", "\t", "\r\n", "\n    " }
local KEYS = { '"op"', '"s"', '"t"', '"d"', '"id"', '"a"', '"b"', '"x"', '"\\u006fp"', '""', '"d.id"', '"channel_id"' }
local PARTS = { "a", "words", " ", "{", "}", "[", "]", ",", ":", "\\\"", "\\\\", "\\n", "\\u00e9", "é", "你好", "😀", "\127", "/", "'",
                ("long "):rep(13), "0", "true" }
local SCALARS = { "0", "-1", "7", "12345678901234567890", "1.5", "-0.0e-3", "1E400", "true", "false", "null" }

local function text_of()
  local out = {}
  for i = 1, draw(6) - 1 do out[i] = one_of(PARTS) end
  return '"' .. table.concat(out) .. '"'
end

local function value_of(depth)
  local kind = draw(depth > 5 and 5 or 9)
  local s = function () return one_of(SPACES) end
  if kind <= 3 then return text_of() end
  if kind <= 5 then return one_of(SCALARS) end
  local out = {}
  for i = 1, draw(5) - 1 do
    local value = s() .. value_of(depth + 1) .. s()
    out[i] = kind <= 7 and s() .. one_of(KEYS) .. s() .. ":" .. value or value
  end
  local inner = table.concat(out, ",")
  if kind <= 7 then return "{" .. inner .. (inner == "" and s() or "") .. "}" end
  return "[" .. inner .. (inner == "" and s() or "") .. "]"
end

local HOSTILE = { '"', "\\", "{", "}", "[", "]", ":", ",", " ", "\0", "\12", "\26", "\31", "\127", "\128", "\192", "\237\160\128", "\255", "e", "-",
                  '""', "\\u", "//", "\n" }

local function mutated(text)
  for _ = 1, draw(3) do
    local at, kind = draw(#text + 1), draw(4)
    if kind == 1 then text = text:sub(1, at - 1) .. one_of(HOSTILE) .. text:sub(at)
    elseif kind == 2 then text = text:sub(1, at - 1) .. one_of(HOSTILE) .. text:sub(at + 1)
    elseif kind == 3 then text = text:sub(1, at - 1) .. text:sub(at + draw(3))
    else text = text:sub(1, at) end
  end
  return text
end

describe("the ways through a JSON text", function ()
  it("agree on texts of every shape", function ()
    for _ = 1, 4000 do
      local result = frame.scan(rules, one_of(SPACES) .. value_of(0) .. one_of(SPACES))
      assert.equal("ok", result)
    end
  end)

  it("agree on what is broken", function ()
    for _ = 1, 12000 do frame.scan(rules, mutated(value_of(0))) end
  end)

  it("agree on UTF-8, whole and cut, wherever it lies in a block of 64 bytes", function ()
    for before = 0, 130 do
      for after = 0, 130, 13 do
        local function text(bytes) return '["' .. ("x"):rep(before) .. bytes .. ("y"):rep(after) .. bytes .. '"]' end
        assert.equal("ok", frame.scan(rules, text "é"))
        assert.equal("ok", frame.scan(rules, text "😀"))
        for _, bytes in ipairs { "\195", "\240\159\152", "\169", "\237\160\128" } do assert.not_equal("ok", frame.scan(rules, text(bytes))) end
      end
    end
  end)

  it("agree wherever a text begins and ends in a block of 64 bytes", function ()
    local texts = { '{"op":1,"s":2,"t":"A\\"B","d":{"id":"7","a":{"b":[1,"x"]}}}', '["a","b" ,"c":1]', '["\\u00e9\\\\","é"]', '[1,22,"3"]x',
                    '{"a""b":1}', '["a"{}]', '{"a"}', '[1"a"]', '["a"1]', '{"op" :1 , "op":"x" }', '"\\', '["x\1"]', '{:1}', '{"a":1,}', '[,"a"]', '"a"[1]', '"a"{}', '""[]', '["" ,""]', '"a",', '"a":1',
                    '"a"1', '"a""b"', '[1]"a"' }
    for _, text in ipairs(texts) do
      for before = 0, 130 do
        frame.scan(rules, (" "):rep(before) .. text)
        frame.scan(rules, '["' .. ("x"):rep(before) .. '",' .. text .. "]")
        frame.scan(rules, '{"' .. ("\\\\"):rep(before) .. '":' .. text .. "}")
      end
    end
  end)

  it("agree on every beginning of a text, and with any one byte in each place", function ()
    local text = '{"t":"MESSAGE_CREATE","s":10,"op":0, "d":{"id":"1\\u00e9","a":{"b":[true,null,-1.5e3,{}]},"x":"é"}}' .. (" "):rep(40)
    for n = 0, #text do frame.scan(rules, text:sub(1, n)) end
    for n = 1, #text - 38 do
      for byte = 0, 255 do frame.scan(rules, text:sub(1, n - 1) .. string.char(byte) .. text:sub(n + 1)) end
    end
  end)

  it("agree where a text is longer than what is indexed at once", function ()
    for _ = 1, 60 do
      local parts = {}
      for i = 1, 150 do parts[i] = value_of(2) end
      local text = '{"d":[' .. table.concat(parts, ",") .. '],"op":3}'
      assert.equal("ok", (frame.scan(rules, text)))
      for _ = 1, 5 do frame.scan(rules, mutated(text)) end
    end
    for n = 1015, 1035 do frame.scan(rules, '["' .. ("x"):rep(n) .. '",1,"' .. ("y"):rep(n) .. '"]') end
  end)

  it("agree where a text is longer than what is looked at in one piece", function ()
    for size = 16380, 16388 do
      local text = '{"op":1,"d":{"id":"' .. ("x"):rep(7000) .. '","list":[' .. ("1,"):rep(4000) .. '"'
      text = text .. ("y"):rep(size - #text - 12) .. '"]},"s":123}'
      assert.equal(size + 0, #text)
      assert.equal("ok", (frame.scan(rules, text)))
      frame.scan(rules, text:sub(1, -2))
      frame.scan(rules, text .. "}")
    end
    for _, filler in ipairs { "1", '"x"', "[]", "{}", '{"a":[1]}' } do
      local list = "[" .. (filler .. ","):rep(16384 / (#filler + 1) - 1) .. filler
      assert.equal("ok", (frame.scan(rules, list .. "]")))
      for _, tail in ipairs { "", "}", "]]", ",]", ":1]" } do assert.not_equal("ok", (frame.scan(rules, list .. tail))) end
    end
  end)

  it("agree on depth", function ()
    for depth = 58, 68 do
      for _, inner in ipairs { "", "1", '{"op":2}', "]" } do
        frame.scan(rules, ("["):rep(depth) .. inner .. ("]"):rep(depth))
        frame.scan(rules, ('{"d":'):rep(depth) .. (inner == "" and "0" or inner) .. ("}"):rep(depth) .. " ")
        frame.scan(rules, ('{"x":['):rep(depth / 2) .. inner .. ("]}"):rep(depth / 2) .. " ")
        frame.scan(rules, ('{"x":['):rep(depth / 2) .. inner .. ("]}"):rep(depth / 2) .. "]")
      end
    end
    for depth = 505, 520 do
      frame.scan(rules, ("["):rep(depth) .. ("]"):rep(depth))
      frame.scan(rules, ('{"d":'):rep(depth) .. "1" .. ("}"):rep(depth))
    end
  end)

  it("are quick with what platforms send", function ()
    assert.equal(frame.ways() - 1, frame.quick('{"t":"MESSAGE_CREATE","s":10,"op":0,"d":{"id":"1\\u00e9","list":["a", "b"],"x" : 1,"y":{}}}'))
    assert.equal(frame.ways() - 1, frame.quick '"é"')
    assert.equal(0, frame.quick '{"a":"\\x"}')
  end)
end)
