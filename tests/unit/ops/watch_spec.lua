-- What /v1/watch costs: a reader that does not read is ended, and nobody else notices.
local support = require "ops_support"

describe("a watcher", function ()
  local server
  after_each(function ()
    if server then server:close() end
    server = nil
    support.remove_paths()
  end)

  local function watch(small)
    local c = server:connect(nil, small)
    c:write("GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return c
  end

  it("that does not read is ended once it is further behind than what is kept; one that reads is not", function ()
    server = support.open { watch_events_max = 64 }
    server.box:add "bot"
    local reader, deaf = watch(), watch(4096)
    reader:wait(function () return reader.got:find("event: summary", 1, true) end, "the snapshot")
    server:eventually(function () return server.box:clients() == 2 end, "both")
    server:eventually(function ()
      server.box:journal(20)
      reader:pull()
      return server.box:clients() == 1
    end, "the end of the other")
    assert.is_false(reader.ended)
    local before = #reader.got
    server.box:journal(1)
    reader:wait(function () return #reader.got > before end, "an event")
    deaf:pull()
  end)

  it("leaves nothing behind when it goes, nor when the server ends first", function ()
    server = support.open()
    server.box:add "bot"
    local one, two = watch(), watch()
    one:wait(function () return one.got:find("event: snapshot", 1, true) end, "the snapshot")
    two:wait(function () return two.got:find("event: snapshot", 1, true) end, "the snapshot")
    one:close()
    server:eventually(function () return server.box:clients() == 1 end, "its end")
  end)
end)
