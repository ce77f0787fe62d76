-- What failing connections have in common, from lists of points.
local weather = require "unit.weather"

local AT = 1795341720000 -- 10:02 UTC

-- `count` points that share `fields`; names are counted on.
local function add(list, count, fields)
  for _ = 1, count do
    local p = { name = "c" .. #list + 1, since = AT }
    for k, v in pairs(fields) do p[k] = v end
    list[#list + 1] = p
  end
  return list
end

local function discord(failing, count, more)
  local fields = { platform = "discord", host = "gateway.discord.gg", account = "a", failing = failing }
  for k, v in pairs(more or {}) do fields[k] = v end
  return add({}, count, fields)
end

local function join(...)
  local all = {}
  for _, list in ipairs { ... } do
    for _, p in ipairs(list) do all[#all + 1] = p end
  end
  return all
end

local function texts(points, before)
  local list = {}
  for _, f in ipairs(weather.judge(points, before)) do list[#list + 1] = f.text end
  return list
end

describe("the weather", function ()
  it("is fair while nothing fails, or no more than two do", function ()
    assert.same({}, texts {})
    assert.same({}, texts(discord(false, 41)))
    assert.same({}, texts(join(discord(true, 2), discord(false, 0))))
  end)

  it("tells a platform that is down, with one cause", function ()
    assert.same({ "discord: 41 of 41 connections failing at connecting since 10:02 UTC, one cause: refused" }, texts(discord(true, 41)))
  end)

  it("counts those that still serve, and begins at four fifths", function ()
    assert.same({}, texts(join(discord(true, 79), discord(false, 21))))
    assert.same({ "discord: 80 of 100 connections failing at connecting since 10:02 UTC, one cause: refused" },
      texts(join(discord(true, 80), discord(false, 20))))
  end)

  it("goes on until fewer than half fail", function ()
    local before = weather.judge(discord(true, 10))
    assert.equal(1, #weather.judge(join(discord(true, 5), discord(false, 5)), before))
    assert.equal(0, #weather.judge(join(discord(true, 4), discord(false, 6)), before))
    assert.equal(0, #weather.judge(join(discord(true, 5), discord(false, 5))))
  end)

  it("counts nobody that an operator stopped", function ()
    assert.equal("discord: 3 of 3 connections failing at connecting since 10:02 UTC, one cause: refused",
      texts(join(discord(true, 3), discord(false, 30, { unwanted = true })))[1])
  end)

  it("says since the first failure that goes on, and when causes and stages differ", function ()
    local points = join(discord(true, 3, { since = AT + 60000 }), discord(true, 1, { since = AT - 60000, kind = "timeout", stage = "upgrading" }))
    assert.same({ "discord: 4 of 4 connections failing mostly at connecting since 10:01 UTC, several causes" }, texts(points))
    local codes = join(discord(true, 2, { kind = "closed", close = 4000, stage = "ready" }), discord(true, 2, { kind = "closed", close = 4009, stage = "ready" }))
    assert.same({ "discord: 4 of 4 connections failing at ready since 10:02 UTC, several causes" }, texts(codes))
  end)

  it("tells one host of a platform when the others serve", function ()
    local points = join(discord(true, 10, { host = "sick.discord.gg" }), discord(false, 10))
    assert.same({ "host sick.discord.gg: 10 of 10 connections failing at connecting since 10:02 UTC, one cause: refused" }, texts(points))
  end)

  it("tells the platform and not its hosts when all of them fail", function ()
    local points = join(discord(true, 10, { host = "one" }), discord(true, 10, { host = "two" }))
    assert.same({ "discord: 20 of 20 connections failing at connecting since 10:02 UTC, one cause: refused" }, texts(points))
  end)

  it("tells one account of a platform when the others serve", function ()
    local points = join(discord(false, 20), discord(true, 4, { account = "b", kind = "closed", close = 4004, stage = "greeting" }))
    assert.same({ "the account of c1: 4 of 4 connections failing at greeting since 10:02 UTC, one cause: closed with 4004" }, texts(points))
  end)

  it("tells this network when several hosts cannot be reached, whatever the platforms", function ()
    local slack = add({}, 5, { platform = "slack", host = "wss.slack.com", account = "s", failing = true, kind = "resolve", stage = "resolving" })
    local points = join(discord(true, 10, { kind = "resolve", stage = "resolving" }), slack)
    assert.same({ "this network: 15 of 15 connections failing at resolving since 10:02 UTC, one cause: resolve" }, texts(points))
  end)

  it("does not blame the network for what one platform's servers refuse, nor for one host", function ()
    local slack = add({}, 2, { platform = "slack", host = "wss.slack.com", failing = false })
    local refused = join(discord(true, 10), slack)
    assert.equal("discord", weather.judge(refused)[1].name)
    assert.equal("discord", weather.judge(discord(true, 10, { kind = "unreachable" }))[1].name)
  end)

  it("tells this machine when it is its own doing", function ()
    local points = discord(true, 10, { kind = "io", by = "us", stage = "resolving" })
    assert.same({ "this machine: 10 of 10 connections failing at resolving since 10:02 UTC, one cause: io" }, texts(points))
    local store = discord(true, 10, { kind = "store", by = "us", stage = "preparing" })
    assert.equal("machine", weather.judge(store)[1].scope)
  end)

  it("tells two platforms apart that fail each in its own way, the larger first", function ()
    local slack = add({}, 5, { platform = "slack", host = "wss.slack.com", failing = true, kind = "upgrade_refused", http = 503, stage = "upgrading" })
    local generic = add({}, 5, { platform = "generic", host = "h", failing = false })
    local list = texts(join(slack, discord(true, 10), generic))
    assert.same({ "discord: 10 of 10 connections failing at connecting since 10:02 UTC, one cause: refused",
                  "slack: 5 of 5 connections failing at upgrading since 10:02 UTC, one cause: upgrade_refused, HTTP 503" }, list)
  end)

  it("shows the eight with the most failing when there are more, the worst first, wherever they stand", function ()
    local sizes, lists = { 5, 31, 7, 12, 3, 40, 9, 22, 6, 18, 4, 27 }, {}
    for i, size in ipairs(sizes) do
      lists[i] = add({}, size, { platform = "p" .. i, host = "h" .. i, account = "a" .. i, failing = true, kind = "refused", stage = "connecting", since = AT })
    end
    lists[#lists + 1] = add({}, 5, { platform = "well", host = "w", failing = false })
    local failing = {}
    for i, f in ipairs(weather.judge(join(unpack(lists)))) do failing[i] = f.failing end
    assert.same({ 40, 31, 27, 22, 18, 12, 9, 7 }, failing)
  end)

  it("has at most eight fronts, and takes 10,000 connections of as many hosts and accounts", function ()
    local points = {}
    for i = 1, 10000 do
      add(points, 1, { platform = "p" .. i % 30, host = "h" .. i, account = "a" .. i, failing = i % 30 < 12 })
    end
    local fronts = weather.judge(points)
    assert.equal(8, #fronts)
    for _, f in ipairs(fronts) do
      assert.equal("platform", f.scope)
      assert.equal(f.failing, f.total)
    end
  end)

  it("asks for four fifths, and not for a little less", function ()
    assert.same({}, texts(join(discord(true, 799), discord(false, 201))))
    assert.equal(1, #texts(join(discord(true, 800), discord(false, 200))))
  end)

  it("goes on for those alone that it was about", function ()
    local before = weather.judge(discord(true, 10))
    local slack = add({}, 6, { platform = "slack", host = "s", account = "b", failing = true })
    add(slack, 4, { platform = "slack", host = "s", account = "b", failing = false })
    assert.same({}, weather.judge(slack, before))
    local host = add({}, 6, { platform = "p", host = "discord", failing = true })
    add(host, 4, { platform = "p", host = "discord", failing = false })
    add(host, 40, { platform = "p", host = "other", failing = false })
    assert.same({}, weather.judge(host, before))
    local fronts = weather.judge(join(discord(true, 6), discord(false, 4)), before)
    assert.same({ 1, "platform" }, { #fronts, fronts[1].scope })
  end)

  it("covers what fails its way, and nobody who serves, is stopped, or fails another way", function ()
    local points = join(discord(true, 4, { host = "sick" }), discord(false, 8, { host = "well" }))
    points[#points + 1] = { name = "stopped", host = "sick", platform = "discord", failing = true, unwanted = true, since = AT }
    points[#points + 1] = { name = "serves", host = "sick", platform = "discord", since = AT }
    local fronts = weather.judge(points)
    assert.same({ 1, "host", { "c1", "c2", "c3", "c4" } }, { #fronts, fronts[1].scope, fronts[1].covers })
    local account = weather.judge(join(discord(false, 9), discord(true, 3, { account = "b" })))
    assert.same({ "account", { "c1", "c2", "c3" } }, { account[1].scope, account[1].covers })
    local network = weather.judge(join(discord(true, 5, { kind = "resolve", stage = "resolving" }),
      add({}, 5, { name = "s", platform = "slack", host = "s", failing = true, kind = "timeout", stage = "securing" })))
    assert.same({ "network", 10 }, { network[1].scope, #network[1].covers })
  end)

  it("tells a host and not the accounts that hang on it, but an account that fails elsewhere too", function ()
    local points = join(discord(false, 30, { host = "well", account = "x" }), discord(true, 6, { host = "sick", account = "b" }))
    assert.same({ "host" }, { weather.judge(points)[1].scope, weather.judge(points)[2] and "more" })
    points = join(points, discord(true, 4, { host = "well", account = "c", kind = "closed", stage = "ready" }))
    local fronts = weather.judge(points)
    assert.same({ "host", "account" }, { fronts[1].scope, fronts[2].scope })
  end)

  it("has no name and no key for this machine and this network", function ()
    local machine = weather.judge(discord(true, 10, { kind = "store", by = "us", stage = "preparing" }))[1]
    assert.same({ "", ("\0"):rep(8) }, { machine.name, machine.key })
    local network = weather.judge(join(discord(true, 5, { kind = "resolve", stage = "resolving" }),
      add({}, 5, { platform = "slack", host = "s", failing = true, kind = "resolve", stage = "resolving" })))[1]
    assert.same({ "network", "", ("\0"):rep(8) }, { network.scope, network.name, network.key })
  end)

  it("takes for the network's what ends before a host said a word, or in silence", function ()
    local function scope_of(kind, stage)
      local two = join(discord(true, 5, { kind = kind, stage = stage }), add({}, 5, { platform = "slack", host = "s", failing = true, kind = kind, stage = stage }))
      return weather.judge(two)[1].scope
    end
    for _, kind in ipairs { "resolve", "unreachable", "connect", "timeout", "proxy", "call" } do assert.equal("network", scope_of(kind, "securing"), kind) end
    assert.equal("network", scope_of("silence", "ready"))
    assert.equal("platform", scope_of("timeout", "upgrading"))
    assert.equal("platform", scope_of("timeout", "greeting"))
    assert.equal("platform", scope_of("refused", "connecting"))
    assert.equal("platform", scope_of("silence", "connecting"))
  end)

  it("says which status a call got, and neither code nor status when causes differ", function ()
    local points = discord(true, 3, { kind = "failed", http = 503, stage = "preparing" })
    assert.same({ "discord: 3 of 3 connections failing at preparing since 10:02 UTC, one cause: HTTP 503" }, texts(points))
    points = join(discord(true, 3, { kind = "closed", close = 4000, http = 101 }), discord(true, 1, { kind = "closed", close = 4001, http = 200 }))
    local front = weather.judge(points)[1]
    assert.same({ false, -1, 0 }, { front.one_cause, front.close, front.http })
    front = weather.judge(discord(true, 3, { kind = "closed", close = 4000, http = 101 }))[1]
    assert.same({ true, 4000, 101 }, { front.one_cause, front.close, front.http })
    for _, more in ipairs { { kind = "reset" }, { close = 4001 }, { http = 200 } } do
      local other = { kind = "closed", close = 4000, http = 101 }
      for k, v in pairs(more) do other[k] = v end
      assert.is_false(weather.judge(join(discord(true, 3, { kind = "closed", close = 4000, http = 101 }), discord(true, 1, other)))[1].one_cause)
    end
  end)

  it("shows the wider of two that are as large where there is room for one", function ()
    local lists = {}
    for i = 1, 8 do lists[i] = add({}, 5, { platform = "p" .. i, host = "h" .. i, failing = true }) end
    lists[9] = add({}, 5, { platform = "well", host = "sick", failing = true })
    lists[10] = add({}, 20, { platform = "well", host = "w" })
    local fronts = weather.judge(join(unpack(lists)))
    assert.equal(8, #fronts)
    for _, f in ipairs(fronts) do assert.equal("platform", f.scope) end
  end)
end)
