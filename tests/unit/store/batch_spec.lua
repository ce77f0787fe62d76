local store = require "unit.store"

describe("a batch", function ()
  it("gives back every member of a request, at its widest", function ()
    local most = "18446744073709551615"
    local r = {
      "event", connection = "a'\"\\;--é漢\1", consumer = "bot b", bytes = "with\0zero", ticket = most, budget = 3,
      account = most, lane = "-9223372036854775808", count = "9223372036854775807", lanes = 4294967295, wall = most,
      boot_ms = most, until_wall = most, until_boot = most, kind = 1, epoch = most, offset = most, key_high = most,
      key_low = most,
    }
    assert.same(r, store.encoded(r))
  end)

  it("tells nothing from empty", function ()
    assert.same({ "session", connection = "" }, store.encoded { "session", connection = "" })
    assert.same({ "session", connection = "", bytes = "" }, store.encoded { "session", connection = "", bytes = "" })
    assert.same({ "frames" }, store.encoded { "frames" })
  end)

  it("takes a request whole or not at all", function ()
    local r, len = store.encoded({ "event", connection = "a", bytes = ("x"):rep(5000) }, 4096)
    assert.is_nil(r)
    assert.equal(0, len)
    assert.equal(4 * 1024 * 1024, #store.encoded({ "event", connection = "a", bytes = ("x"):rep(4 * 1024 * 1024) }).bytes)
  end)
end)
