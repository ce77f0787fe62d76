local log = require "unit.ops_log"

local function written(form, level, colours, write)
  local l = log.open(form, level, colours)
  write(l)
  l:close()
  return l:read(0)
end

describe("the log", function ()
  it("writes logfmt: time, level, connection, message", function ()
    local text = written("logfmt", "info", false, function (l)
      l:line("info", "bot", "up")
      l:line("warning", nil, "the disk is slow")
    end)
    assert.is_truthy(text:match '^time=%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z level=info connection=bot msg=up\n' , text)
    assert.is_truthy(text:match 'level=warning msg="the disk is slow"\n$', text)
  end)

  it("quotes what is not one word, so that each line has the same fields however hostile the text", function ()
    local text = written("logfmt", "info", false, function (l)
      l:line("info", 'a b', 'x" level=alarm msg="forged')
      l:line("info", nil, "")
      l:line("info", nil, "a=b")
      l:line("info", nil, "back\\slash")
    end)
    assert.is_truthy(text:find('connection="a b" msg="x\\" level=alarm msg=\\"forged"\n', 1, true), text)
    assert.is_truthy(text:find('msg=""\n', 1, true), text)
    assert.is_truthy(text:find('msg="a=b"\n', 1, true), text)
    assert.is_truthy(text:find('msg="back\\\\slash"\n', 1, true), text)
  end)

  it("puts fields behind the text for machines, in logfmt and JSON, and leaves them out for people", function ()
    local function write(l)
      l:fields("info", "bot", 'up "now"', { { "kind", "state" }, { "generation", 7 }, { "next", "a b" } })
    end
    assert.is_truthy(written("logfmt", "info", false, write):find('connection=bot msg="up \\"now\\"" kind=state generation=7 next="a b"\n', 1, true))
    assert.is_nil(written("human", "info", false, write):find("generation", 1, true))
    local text = written("json", "info", false, write)
    local decoded = assert(require("dkjson").decode(text))
    assert.equal('up "now"', decoded.msg)
    assert.same({ "bot", "info", "state", 7, "a b" }, { decoded.connection, decoded.level, decoded.kind, decoded.generation, decoded.next })
    assert.is_truthy(decoded.time:match "^%d%d%d%d%-%d%d%-%d%dT")
  end)

  it("writes JSON that stays JSON, one object a line, whatever the text", function ()
    local text = written("json", "info", false, function (l)
      l:line("info", 'b"ot\n', 'first\nsecond"}{\27[2J\255\\')
      l:line("warning", nil, "")
    end)
    local count = 0
    for line in text:gmatch "[^\n]+" do
      assert.is_table((require("dkjson").decode(line)))
      count = count + 1
    end
    assert.equal(2, count)
    assert.is_nil(text:find("\27", 1, true))
  end)

  it("writes one line per message, whatever bytes are in it", function ()
    for _, form in ipairs { "logfmt", "human", "json" } do
      local text = written(form, "info", false, function (l)
        l:line("info", "bot\n\27[2J", "first\nsecond\r\27[31mred\27[0m \155 \194\155 \255")
      end)
      assert.equal(1, select(2, text:gsub("\n", "")))
      assert.is_nil(text:sub(1, -2):find "[%c\127]")
      assert.is_nil(text:find("\194\155", 1, true))
      assert.is_truthy(text:find("first\\x0asecond\\x0d", 1, true) or text:find("first\\\\x0asecond", 1, true) or text:find("first\\\\x0asecond\\\\x0d", 1, true), text)
    end
  end)

  it("leaves out what is below its level", function ()
    local text = written("logfmt", "warning", false, function (l)
      l:line("debug", nil, "d")
      l:line("info", nil, "i")
      l:line("warning", nil, "w")
      l:line("alarm", nil, "a")
    end)
    assert.is_nil(text:find("msg=d", 1, true) or text:find("msg=i", 1, true))
    assert.is_truthy(text:find("msg=w", 1, true) and text:find("msg=a", 1, true))
  end)

  it("is read by people on a terminal: time, level, connection, text; colours only when asked", function ()
    local function both(l)
      l:line("info", "bot", "up")
      l:line("alarm", "bot", "token revoked")
    end
    local plain = written("human", "info", false, both)
    assert.is_truthy(plain:match '^%d%d:%d%d:%d%d%.%d%d%d  info     bot             up\n%d%d:%d%d:%d%d%.%d%d%d  alarm    bot             token revoked\n$', plain)
    local coloured = written("human", "info", true, both)
    assert.equal(plain:gsub("[%d:.]+", ""), (coloured:gsub("\27%[[%d;]*m", ""):gsub("[%d:.]+", "")))
    assert.is_truthy(coloured:find("\27[1;31malarm", 1, true))
  end)

  it("cuts a text without end", function ()
    local text = written("logfmt", "info", false, function (l) l:line("info", nil, ("x"):rep(100000)) end)
    assert.is_true(#text < 8192)
    assert.equal("\n", text:sub(-1))
  end)

  it("never waits for who reads it, drops what does not fit, and says how much", function ()
    local l = log.open("logfmt", "info", false)
    local text = ("y"):rep(1000)
    for _ = 1, 4000 do l:line("info", nil, text) end -- 4 MB into a pipe of 64 KiB that nobody reads
    local got, told, dropped = "", 0, 0
    for _ = 1, 100 do -- it may say so more than once, as room comes
      got, told, dropped = got .. l:read(100), 0, 0
      for count in got:gmatch 'msg="log lines dropped" count=(%d+)' do told, dropped = told + 1, dropped + tonumber(count) end
      if dropped + select(2, got:gsub("msg=y", "")) >= 4000 then break end
    end
    assert.is_true(told > 0)
    local lines = select(2, got:gsub("msg=y", ""))
    assert.equal(4000, lines + dropped)
    l:line("info", nil, "after")
    l:close()
    assert.is_truthy(l:read(0):find("msg=after", 1, true))
  end)

  it("ends within its last second when nobody reads any more", function ()
    local l = log.open("logfmt", "info", false)
    for _ = 1, 400 do l:line("info", nil, ("z"):rep(1000)) end
    local before = os.time()
    l:close()
    assert.is_true(os.time() - before <= 3)
    l:read(200) -- its thread can go on, and frees what it held
  end)
end)
