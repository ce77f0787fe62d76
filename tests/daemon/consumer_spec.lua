local world = require "daemon_world"

describe("consumer", function ()
  local w, peer, daemon
  before_each(function ()
    w = world.new()
    peer = w:peer()
    w:config(peer.port)
    daemon = w:daemon()
    w:up()
  end)
  after_each(function () w:close() end)

  local function dispatch(count) world.control(peer, ('{"verb":"dispatch","count":%d}'):format(count)) end

  it("list shows who reads, and forget lets one go with all that it holds", function ()
    local code, run = w:run { "consumer", "list" }
    assert.same({ 0, "no consumer is attached or registered\n" }, { code, run.out })
    local tail = w:start { "tail", "--consumer", "bot-a" }
    tail:says '"hello"'
    dispatch(3)
    tail:says '"number":3'
    tail:stop()
    dispatch(5)
    w:status(function (text) return text:match '"delivered":9' end)
    code, run = w:run { "consumer", "list" }
    assert.equal(0, code)
    assert.is_truthy(run.out:match "^NAME +STATE +FOR +CONNECTIONS +WAITING +OLDEST\nbot%-a +detached +[^ ]+s +1 +%d+ +[^ ]+s\n$", run.out)
    code, run = w:run { "consumer", "list", "bot-a" }
    assert.equal(0, code)
    assert.is_truthy(run.out:match "\nCONNECTION +CURSOR +LAST +WAITING +OLDEST\nbot +%d+%.%d+ +9 +%d+ +[^ ]+s\n$", run.out)
    code, run = w:run { "consumer", "list", "bot-a", "--json" }
    assert.equal(0, code)
    assert.is_truthy(run.out:match '^{"name":"bot%-a","attached":false,.*"positions":%[{"connection":"bot",.*}%]}\n$', run.out)
    code, run = w:run { "consumer", "forget", "bot-a" }
    assert.same({ 0, "forgotten: bot-a\n" }, { code, run.out })
    code, run = w:run { "consumer", "list", "--json" }
    assert.same({ 0, '{"consumers":[]}\n' }, { code, run.out })
  end)

  local function numbers(text)
    local list = {}
    for n in text:gmatch '"frame":[^\n]-"number":(%d+)' do list[#list + 1] = tonumber(n) end
    return list
  end

  it("goes on from its cursor in the next process, after a clean end and after a kill", function ()
    local tail = w:start { "tail", "--consumer", "bot-a" }
    tail:says '"hello"'
    assert.is_truthy(tail.out:find('"backlog":"sqlite"', 1, true))
    dispatch(3)
    tail:says '"number":3'
    tail:stop()
    dispatch(5)
    w:status(function (text) return text:match '"delivered":9' end)
    assert.equal(0, daemon:stop())
    daemon = w:daemon()
    local _, list = w:run { "consumer", "list" }
    assert.is_truthy(list.out:match "\nbot%-a +detached", list.out)
    local second = w:start { "tail", "--consumer", "bot-a" }
    second:says '"number":8'
    assert.same({ 4, 5, 6, 7, 8 }, { unpack(numbers(second.out), #numbers(second.out) - 4) })
    second:stop()
    w:up()
    dispatch(4)
    w:status(function (text) return text:match '"delivered":[4-9]' end)
    daemon:kill(world.signals.kill)
    daemon:wait()
    daemon = w:daemon()
    local third = w:start { "tail", "--consumer", "bot-a" }
    third:says '"number":12'
    local got, next_one = numbers(third.out), nil
    for i, n in ipairs(got) do
      assert.is_true(n <= (next_one or 9), "a hole before " .. n .. ": " .. table.concat(got, " "))
      next_one = math.max(next_one or 0, n + 1)
      assert.is_true(i < 20)
    end
  end)

  it("says with exit code 1 that there is none of that name", function ()
    for _, verb in ipairs { "list", "forget" } do
      local code, run = w:run { "consumer", verb, "bot-b" }
      assert.same({ 1, "holdfast: no consumer is called `bot-b` (`holdfast consumer list` shows all)\n" }, { code, run.err })
    end
  end)

  it("takes list or forget and a name that can be one, otherwise exit code 2", function ()
    for said, words in pairs {
      ["list or forget?"] = {},
      ["`drop` is neither list nor forget"] = { "drop", "bot-a" },
      ["forget needs a consumer's name"] = { "forget" },
      ["`../reload` cannot be a consumer's name"] = { "forget", "../reload" },
    } do
      local code, run = w:run { "consumer", unpack(words) }
      assert.equal(2, code)
      assert.is_truthy(run.err:find(said, 1, true), run.err)
      assert.is_truthy(run.err:find("usage: holdfast consumer", 1, true))
    end
  end)
end)
