local base = require "unit.base"

describe("spans", function ()
  it("are short, in the two largest units", function ()
    local shown = { [0] = "0.0s", [49] = "0.0s", [50] = "0.1s", [1234] = "1.2s", [9999] = "10.0s", [10000] = "10s", [59999] = "59s", [60000] = "1m 0s",
                    [3599999] = "59m 59s", [3600000] = "1h 0m", [86399999] = "23h 59m", [86400000] = "1d 0h", [1e12] = "11574d 1h" }
    for ms, text in pairs(shown) do assert.equal(text, base.duration_span(ms)) end
    assert.equal("213503982334d 14h", base.duration_span(nil))
  end)
end)

describe("durations", function ()
  it("take every unit, decimals and a blank before the unit", function ()
    local table_of = { ["250ms"] = 250, ["45s"] = 45000, ["1.5m"] = 90000, ["6h"] = 21600000, ["2d"] = 172800000,
                       ["0s"] = 0, ["5.5s"] = 5500, ["10 s"] = 10000, ["366d"] = 31622400000 }
    for text, ms in pairs(table_of) do assert.equal(ms, base.duration(text), text) end
  end)

  it("refuse what has no unit, another unit, a sign, or more than a year", function ()
    for _, text in ipairs { "", "5", "s", "5x", "-1s", "+1s", "1e3s", "1..2s", "5 s ", "5S", "367d", "nan", "0x10s",
                            "99999999999999999999s", "1s1s" } do
      assert.is_nil(base.duration(text), text)
    end
  end)

  it("are shown with at most one decimal", function ()
    local shown = { [0] = "0s", [250] = "250ms", [1000] = "1s", [1400] = "1.4s", [60000] = "1m", [90000] = "1.5m",
                    [21600000] = "6h", [86400000] = "1d" }
    for ms, text in pairs(shown) do assert.equal(text, base.duration_format(ms)) end
  end)
end)

describe("sizes", function ()
  it("take plain bytes and binary and decimal units", function ()
    for text, bytes in pairs { ["0"] = 0, ["4096"] = 4096, ["16 KiB"] = 16384, ["64MiB"] = 67108864, ["1kB"] = 1000 } do
      assert.equal(bytes, base.size(text), text)
    end
  end)

  it("refuse other units", function ()
    for _, text in ipairs { "", "MiB", "1KB", "1mb", "-1", "1TiB" } do assert.is_nil(base.size(text), text) end
  end)
end)

describe("time stamps", function ()
  it("are UTC with milliseconds", function ()
    assert.equal("1970-01-01T00:00:00.000Z", base.timestamp(0))
    assert.equal("2026-11-22T10:00:00.123Z", base.timestamp(1795341600123))
    assert.equal("9999-12-31T23:59:59.999Z", base.timestamp(253402300799999))
    assert.equal("10000-01-01T00:00:00.000Z", base.timestamp(253402300800000))
    -- Every 23rd day and some seconds of four centuries and more, each leap day's neighbours among them.
    for day = 0, 160000, 23 do
      local second = day * 86400 + day * 7919 % 86400
      assert.equal(os.date("!%Y-%m-%dT%H:%M:%S", second) .. ".007Z", base.timestamp(second * 1000 + 7))
    end
    for year = 1972, 2400, 4 do
      for hour = 0, 72, 6 do
        local second = os.time { year = year, month = 2, day = 28, hour = 0 } + hour * 3600
        assert.equal(os.date("!%Y-%m-%dT%H:%M:%S", second) .. ".999Z", base.timestamp(second * 1000 + 999))
      end
    end
  end)
end)

describe("the nearest name", function ()
  local names = { "backoff", "budgets", "classify", "climb", "settle" }

  it("is found for a slip of the fingers", function ()
    assert.equal("backoff", base.nearest("bakoff", names))
    assert.equal("classify", base.nearest("clasify", names))
    assert.equal("settle", base.nearest("setle", names))
  end)

  it("is not made up for another word", function ()
    assert.is_nil(base.nearest("heartbeat", names))
    assert.is_nil(base.nearest("x", names))
  end)

  it("survives names longer than it compares", function ()
    assert.is_nil(base.nearest(("a"):rep(500), names))
  end)
end)

describe("patterns", function ()
  it("match whole names with * and ?", function ()
    assert.is_true(base.glob("support-*", "support-bot"))
    assert.is_true(base.glob("*", ""))
    assert.is_true(base.glob("a?c*e", "abcde"))
    assert.is_false(base.glob("support-*", "my-support-bot"))
    assert.is_false(base.glob("a", "ab"))
    assert.is_false(base.glob("?", ""))
  end)

  it("do not take for ever on a hostile pattern", function ()
    assert.is_false(base.glob(("*a"):rep(200) .. "b", ("a"):rep(5000)))
  end)
end)

describe("UTF-8", function ()
  it("is told from what only looks like it", function ()
    for _, good in ipairs { "", "abc", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf",
                            "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf" } do
      assert.is_true(base.is_utf8(good))
    end
    for _, bad in ipairs { "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff" } do
      assert.is_false(base.is_utf8(bad))
    end
  end)

  it("is never cut in the middle", function ()
    assert.equal("a", base.cut("a\xe2\x82\xac", 3))
    assert.equal("a\xe2\x82\xac", base.cut("a\xe2\x82\xac", 5))
    assert.equal("", base.cut("\xf0\x9f\x98\x80", 4))
  end)
end)

describe("words of a peer", function ()
  it("cannot leave a JSON string", function ()
    assert.equal([["a\"b\\c\nd\u0000\u001b"]], base.json_string "a\"b\\c\nd\0\27")
    assert.equal("\"\xef\xbf\xbdx\"", base.json_string "\xffx")
  end)

  it("cannot move a cursor or forge a line", function ()
    assert.equal([[\x1b[31mred\x0aINFO all is well\x7f]], base.printable "\27[31mred\nINFO all is well\127")
    assert.equal([[\xc2\x9b]], base.printable "\xc2\x9b")   -- the one-byte CSI of old terminals
    assert.equal("gr\xc3\xbc\xc3\x9fe", base.printable "gr\xc3\xbc\xc3\x9fe")
  end)

  it("fail as a whole over the limit", function ()
    assert.is_nil(base.json_string(("x"):rep(100), 50))
  end)

  it("escape each byte wherever it stands among others", function ()
    for code = 0, 0x7f do
      local c = string.char(code)
      local json = c == '"' and '\\"' or c == "\\" and "\\\\" or c == "\n" and "\\n" or (code < 0x20 or code == 0x7f) and ("\\u%04x"):format(code) or c
      local shown = (code < 0x20 or code == 0x7f) and ("\\x%02x"):format(code) or c
      for before = 0, 17 do
        local text = ("~ "):rep(9):sub(1, before) .. c .. "~ ~ ~ ~ ~"
        assert.equal('"' .. ("~ "):rep(9):sub(1, before) .. json .. '~ ~ ~ ~ ~"', base.json_string(text))
        assert.equal(("~ "):rep(9):sub(1, before) .. shown .. "~ ~ ~ ~ ~", base.printable(text))
      end
    end
  end)
end)
