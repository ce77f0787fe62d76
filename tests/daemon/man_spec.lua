-- The manual page's section COMMANDS is made from the binary's help. HOLDFAST_WRITE=1 writes it anew
-- instead of complaining; `make man` does that.
local world = require "daemon_world"

local PAGE = "examples/man/holdfast.1"
local BEGIN, END = '.\\" commands: begin\n', '.\\" commands: end\n'

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

-- Text as roff must see it: no line is a request, hyphens are those that one types.
local function roff(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("^([.'])", "\\&%1"))
end

local function option(left, about)
  local names, value = {}, nil
  for word in left:gmatch "%S+" do
    if word:sub(1, 1) == "-" then names[#names + 1] = "Fl " .. word:gsub(",$", ""):sub(2) else value = word end
  end
  local it = table.concat(names, " , ")
  return (".It %s%s\n%s.\n"):format(it, value and " Ar " .. value:gsub("|", "\\*(Ba") or "", roff(about))
end

-- One command's part, from its help: usage, what it does, options, then paragraphs and examples.
local function section(name, help)
  local usage, about, rest = help:match "^usage: (holdfast [^\n]+)\n\n([^\n]+)\n(.*)$"
  assert(usage, name .. "'s help has another form:\n" .. help)
  local out = { (".Ss %s\n.Dl %s\n.Pp\n%s\n"):format(name, roff(usage), roff(about)) }
  local options, literal, paragraph = false, false, false
  local function close()
    if options then out[#out + 1] = ".El\n" end
    if literal then out[#out + 1] = ".Ed\n" end
    options, literal, paragraph = false, false, false
  end
  for line in rest:gmatch "([^\n]*)\n" do
    local left, text = line:match "^  (%-.-)  +(.+)$"
    if line == "" then
      close()
    elseif left then
      if not options then out[#out + 1] = ".Bl -tag -width Ds\n" end
      options = true
      out[#out + 1] = option(left, text)
    elseif line:sub(1, 2) == "  " then
      if not literal then out[#out + 1] = ".Bd -literal -offset indent\n" end
      literal = true
      out[#out + 1] = roff(line:sub(3)) .. "\n"
    else
      if literal then close() end
      if not paragraph then out[#out + 1] = ".Pp\n" end
      paragraph = true
      out[#out + 1] = roff(line) .. "\n"
    end
  end
  close()
  return table.concat(out)
end

describe("the manual page", function ()
  local w
  before_each(function () w = world.new() end)
  after_each(function () w:close() end)

  local function help(...)
    local code, run = w:run { "help", ... }
    assert.equal(0, code)
    return run.out
  end

  it("has each command of --help, with its options and words, and no other", function ()
    local parts = {}
    for name in help():gmatch "\n  (%l+) " do parts[#parts + 1] = section(name, help(name)) end
    assert.is_true(#parts >= 6)
    local page, made = read(PAGE), table.concat(parts)
    local from, to = select(2, page:find(BEGIN, 1, true)), page:find(END, 1, true)
    assert.is_truthy(from and to)
    if os.getenv "HOLDFAST_WRITE" then
      local f = assert(io.open(PAGE, "w"))
      f:write(page:sub(1, from), made, page:sub(to))
      f:close()
    else
      assert.equal(made, page:sub(from + 1, to - 1), "`make man` writes it anew")
    end
  end)

  it("has each variable of the environment that the sources read, and no other", function ()
    local reads, told = {}, {}
    local p = io.popen [[grep -rhoE 'getenv\("[A-Z_]+"\)' runtime]]
    for name in p:read "*a":gmatch '"([A-Z_]+)"' do reads[name] = true end
    p:close()
    -- The one place where names and their reading are apart.
    for name in read "runtime/base/proxy.c":gmatch '"([A-Z_]+_PROXY)"' do reads[name] = true end
    local part = read(PAGE):match "%.Sh ENVIRONMENT\n(.-)\n%.Sh "
    for names in part:gmatch "%.It Ev ([^\n]+)" do
      for name in names:gmatch "[A-Z_]+" do told[name] = true end
    end
    assert.same(reads, told)
  end)

  it("is one that groff formats without a warning", function ()
    local p = io.popen "command -v groff >/dev/null || exit; groff -mdoc -ww -Tutf8 -P-cbou examples/man/holdfast.1 2>&1 >/dev/null; echo formatted"
    local said = p:read "*a"
    p:close()
    if said == "" then return pending "groff is not installed" end
    assert.equal("formatted\n", said)
  end)
end)
