-- Which mutants are judged: drawn by seed from all that can be made, so many of each of the five policies and of the
-- engine. One that cannot be loaded or compiled is no mutant, and neither is one that is the same code.
local policy_operators = require "policy_operators"
local engine_operators = require "engine_operators"
local tokens = require "tokens"
local plan = require "policy_plan"

local sample = {}

sample.POLICIES = { "discord", "slack", "feishu", "qqbot", "wukongim" }
-- The rules of the engine. Left out: what only names (names), shows (view; shape, which is the explorer's), hands on (effects)
-- or writes down and reads again what others decided (saved, saved_shared).
sample.ENGINE = { "attempt", "backoff", "blame", "budget", "cause", "conn", "ending", "engine", "hold", "ledger", "life", "link", "match", "plan",
                  "send_ledger", "sends", "stall", "state", "trial", "verdict", "weather" }
local ENGINE_SHARE = 0.4

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

local function sh(command) return os.execute(command) == 0 end

local function one_line(text) return (text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")) end

-- The lines that a mutant touches, before and after.
local function described(path, text, m)
  local starts = tokens.lines_of(text)
  local from, to, line = 1, #text, 1
  for n, at in ipairs(starts) do
    if at <= m.first then from, line = at, n end
    if at <= m.last then to = (starts[n + 1] or #text + 1) - 1 end
  end
  m.file, m.line = path, line
  m.before = one_line(text:sub(from, to))
  m.after = one_line(text:sub(from, m.first - 1) .. m.with .. text:sub(m.last + 1, to))
  m.text = text:sub(1, m.first - 1) .. m.with .. text:sub(m.last + 1)
  return m
end

-- Draws that depend on the seed alone.
local function shuffled(list, seed)
  local state = seed % 4294967296
  for i = #list, 2, -1 do
    for _ = 1, 3 do state = (state * 1664525 + 1013904223) % 4294967296 end
    local k = math.floor(state / 4294967296 * i) + 1
    list[i], list[k] = list[k], list[i]
  end
  return list
end

local function all_of_policy(name)
  local path = ("policies/%s.lua"):format(name)
  local text, list = read(path), {}
  for _, m in ipairs(policy_operators.of(text)) do
    m.subject = name
    list[#list + 1] = described(path, text, m)
  end
  return list
end

local function all_of_engine(only)
  local list = {}
  for _, stem in ipairs(only and { only } or sample.ENGINE) do
    local path = ("runtime/engine/%s.c"):format(stem)
    local text = read(path)
    for _, m in ipairs(engine_operators.of(text)) do
      m.subject, m.stem = "engine", stem
      list[#list + 1] = described(path, text, m)
    end
  end
  return list
end

local function same(a, b)
  for k, v in pairs(a) do
    if b[k] ~= v then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

-- Is it one? Leaves in its folder what the judge needs.
local function made(m, o)
  if m.subject ~= "engine" then
    write(m.folder .. "/policy.lua", m.text)
    local loads = sh(("chmod 600 '%s/policy.lua' && HOLDFAST_LUA=lua %s/holdfast check '%s/policy.lua' >'%s/check.log' 2>&1"):format(m.folder, o.build, m.folder, m.folder))
    if not loads or not m.plain then return loads end
    -- A key that only says what is taken without it.
    return not same(plan(m.subject):numbers(), plan(m.subject, nil, m.folder .. "/policy.lua"):numbers())
  end
  write(m.folder .. "/" .. m.stem .. ".c", m.text)
  local object = ("%s/%s.o"):format(m.folder, m.stem)
  local function compiled(source, out) return sh(("%s -w -g0 -c '%s' -o '%s' 2>/dev/null"):format(o.cc, source, out)) end
  local whole = ("%s/whole_%s.o"):format(o.folder, m.stem)
  if not io.open(whole) then assert(compiled(m.file, whole), "the engine itself does not compile") end
  if not compiled(("%s/%s.c"):format(m.folder, m.stem), object) then return false end
  -- The name of the source is in it as an assertion's place: both are compiled under the same one.
  local other = not sh(("for s in .text .rodata .data; do objcopy -O binary -j $s '%s' '%s.a' 2>/dev/null; objcopy -O binary -j $s '%s' '%s.b' 2>/dev/null; "
    .. "cmp -s '%s.a' '%s.b' || exit 1; done"):format(whole, object, object, object, object, object))
  -- It is judged as `make ubsan` would: an index behind an array, or a shift too far, ends the process; and what was never
  -- set is no zero.
  return other and sh(("%s -w -g0 -fsanitize=undefined,bounds-strict -fsanitize-undefined-trap-on-error -ftrivial-auto-var-init=pattern -c '%s/%s.c' -o '%s'"):format(o.cc, m.folder, m.stem, object))
end

---@param o { count: number, seed: number, folder: string, build: string, cc: string, only?: string, out: fun(text: string) }
---@return table[] mutants, table counts  how many there could be, how many were drawn and were none
function sample.draw(o)
  local chosen, counts = {}, { all = 0, none = 0 }
  local engine = math.floor(o.count * ENGINE_SHARE + 0.5)
  local function take(list, want, salt)
    counts.all = counts.all + #list
    shuffled(list, o.seed * 7919 + salt)
    local got = 0
    for _, m in ipairs(list) do
      if got >= want then break end
      m.id = ("m%03d"):format(#chosen + 1)
      m.folder = o.folder .. "/" .. m.id
      assert(sh(("rm -rf '%s' && mkdir -p '%s'"):format(m.folder, m.folder)))
      if made(m, o) then
        chosen[#chosen + 1] = m
        got = got + 1
      else
        counts.none = counts.none + 1
      end
    end
  end
  for i, name in ipairs(sample.POLICIES) do
    if not o.only or o.only == name or o.only == "policies" then
      local all = o.only == "policies" and o.count or o.count - engine
      local share = math.floor(all * i / #sample.POLICIES) - math.floor(all * (i - 1) / #sample.POLICIES)
      take(all_of_policy(name), o.only == name and o.count or share, i)
    end
  end
  local stem = nil
  for _, name in ipairs(sample.ENGINE) do
    if o.only == name and name ~= "engine" then stem = name end -- `engine` is all of them
  end
  if not o.only or o.only == "engine" or stem then take(all_of_engine(stem), o.only and o.count or engine, 99) end
  return chosen, counts
end

return sample
