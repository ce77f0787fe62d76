-- Files that change are read again by themselves, however they change; links stay open.
local world = require "daemon_world"
local control = world.control

local function shipped(settle)
  local f = assert(io.open "policies/discord.lua")
  local text = f:read "*a"
  f:close()
  return (text:gsub('settle = "60s"', 'settle = "' .. settle .. '"', 1))
end

describe("a file that changes", function ()
  local w, peer, daemon
  local function config(more, folder)
    w:write("holdfast.lua", ([[
listen { unix = "h.sock" }
policies { path = "%s", prove = false }
connection "bot" {
  policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
}
%s]]):format(folder or "policies", peer.port, more or ""))
  end
  local function sh(command)
    assert.equal(0, os.execute(("cd '%s' && %s"):format(w.folder, command)))
  end
  local function start(folder)
    config(nil, folder)
    daemon = w:daemon()
    w:up()
  end
  before_each(function ()
    w = world.new()
    peer = w:peer { "identify_gap=0" }
    w:write("policies/mine.lua", shipped "60s")
  end)
  after_each(function () w:close() end)

  local function runs_version(n)
    w:status(function (text) return text:match('"version":' .. n .. "[^0-9]") and text:match '"state":"up"' end)
    assert.truthy(control(peer, '{"verb":"stats"}'):find('"hellos":1,', 1, true))
  end
  local function count(pattern)
    local n = 0
    for _ in daemon.err:gmatch(pattern) do n = n + 1 end
    for _ in daemon.out:gmatch(pattern) do n = n + 1 end
    return n
  end

  it("by an editor's atomic replace is taken", function ()
    start()
    w:write("policies/mine.lua.new", shipped "30s")
    sh "mv policies/mine.lua.new policies/mine.lua"
    daemon:says "files changed: reading configuration and policies again"
    runs_version(2)
    -- And the next one: the file is another one by now.
    w:write("policies/mine.lua.new", shipped "31s")
    sh "mv policies/mine.lua.new policies/mine.lua"
    runs_version(3)
  end)

  -- Without a rename, as `cat >` and some editors do; whoever opens it reads what is there so far.
  local function open_in_place(name, text)
    local f = assert(io.open(w.folder .. "/" .. name, "w"))
    f:write(text)
    f:flush()
    return f
  end

  it("in place is taken", function ()
    start()
    open_in_place("policies/mine.lua", shipped "30s"):close()
    runs_version(2)
  end)

  it("in place is taken though something else in its folder is written without end", function ()
    start()
    -- Both end by themselves within half a minute, should nobody end them.
    for name, loop in pairs { often = { 600, "sleep 0.05" }, always = { 2000000, ":" } } do
      sh(("{ (i=0; while [ $i -lt %d ]; do i=$((i + 1)); echo x > policies/%s.log; %s; done) > /dev/null 2>&1 & echo $! > %s.pid; }")
        :format(loop[1], name, loop[2], name))
    end
    open_in_place("policies/mine.lua", shipped "30s"):close()
    runs_version(2)
    sh "kill $(cat often.pid always.pid)"
  end)

  it("in place by somebody who is still writing is not read before the end", function ()
    start()
    -- A half that would be good as it is: it names no connection any more.
    local whole = w:read "holdfast.lua"
    local half = whole:match "^.-\n.-\n"
    local f = open_in_place("holdfast.lua", half)
    local policy = open_in_place("policies/mine.lua", shipped "30s":sub(1, 700))
    assert.falsy(daemon:eventually(function () return count "files changed" > 0 end, 2000))
    f:write(whole:sub(#half + 1))
    f:close()
    policy:write(shipped "30s":sub(701))
    policy:close()
    runs_version(2)
    assert.equal(0, count "reload refused")
    assert.equal(0, count "no longer configured")
  end)

  it("in place in two halves, closed between them, leaves no alarm once the whole is there", function ()
    start()
    local text = shipped "30s"
    open_in_place("policies/mine.lua", text:sub(1, 700)):close()
    daemon:says "reload refused: everything goes on as it was"
    assert.truthy(select(2, w:run { "status", "--socket", "h.sock" }).out:find("files on disk are not what runs", 1, true))
    local f = assert(io.open(w.folder .. "/policies/mine.lua", "a"))
    f:write(text:sub(701))
    f:close()
    runs_version(2)
    assert.truthy(daemon:eventually(function ()
      return not select(2, w:run { "status", "--socket", "h.sock" }).out:find("files on disk", 1, true)
    end))
  end)

  it("by a checkout of another branch with many files is one reload", function ()
    w:write(".gitconfig", "[user]\nname = x\nemail = x@x\n")
    local git = ("HOME='%s' GIT_CONFIG_NOSYSTEM=1 git -C policies "):format(w.folder)
    sh(git .. "init -q . && for i in $(seq 100); do echo \"-- $i\" > policies/other$i.lua; done && " .. git .. "add -A && " .. git .. "commit -qm one && "
      .. git .. "checkout -qb two && for i in $(seq 100); do echo \"-- two $i\" > policies/other$i.lua; done")
    w:write("policies/mine.lua", shipped "30s")
    sh("rm -f policies/other7.lua && " .. git .. "add -A && " .. git .. "commit -qm two && " .. git .. "checkout -q -")
    sh(git .. "checkout -q master 2>/dev/null || " .. git .. "checkout -q main")
    start()
    sh(git .. "checkout -q two")
    runs_version(2)
    assert.truthy(count "files changed" <= 2)
    sh(git .. "checkout -q -")
    runs_version(3)
    assert.equal(0, count "reload refused")
  end)

  it("by a volume of Kubernetes that is swapped is taken, configuration and policy at once", function ()
    sh "mkdir -p vol/..one && mv policies/mine.lua vol/..one/ && rmdir policies && ln -s ..one vol/..data && ln -s ..data/mine.lua vol/mine.lua"
    config(nil, ".")
    sh "mv holdfast.lua vol/..one/ && ln -s ..data/holdfast.lua vol/holdfast.lua"
    -- Paths are relative to the file that is named.
    sh "ln -s ../ca.pem vol/ca.pem && cp ca.pem vol/..one/"
    daemon = w:start { "run", "-c", "vol/holdfast.lua" }
    daemon:says "holdfast %S+ runs 1 connection"
    local function swapped(n, settle, intents)
      sh(("cp -r vol/%s vol/..n%d"):format(n == 2 and "..one" or "..n" .. n - 1, n))
      w:write(("vol/..n%d/mine.lua"):format(n), shipped(settle))
      w:write(("vol/..n%d/holdfast.lua"):format(n), (w:read(("vol/..n%d/holdfast.lua"):format(n)):gsub("intents = %d+", "intents = " .. intents)))
      sh(("ln -s ..n%d vol/..data_tmp && mv -T vol/..data_tmp vol/..data && rm -r vol/%s"):format(n, n == 2 and "..one" or "..n" .. n - 1))
    end
    local function runs(n)
      assert.truthy(daemon:eventually(function ()
        local out = select(2, w:run { "status", "--json", "--socket", "vol/h.sock" }).out
        return out:match('"version":' .. n .. "[^0-9]") and out:match '"state":"up"'
      end), daemon.err)
    end
    runs(1)
    swapped(2, "30s", 512)
    runs(2)
    swapped(3, "31s", 513)
    runs(3)
    assert.equal(0, count "reload refused")
    assert.truthy(count "files changed" <= 4)
  end)

  it("to something that may not be read is taken once it may", function ()
    start()
    -- Root may read everything; what others may write is refused to everybody.
    w:write("next.lua", shipped "30s")
    sh "chmod 666 next.lua && mv next.lua policies/mine.lua"
    daemon:says "reload refused: everything goes on as it was"
    runs_version(1)
    sh "chmod 600 policies/mine.lua"
    runs_version(2)
    sh "rm policies/mine.lua && mkfifo policies/mine.lua"
    assert.truthy(daemon:eventually(function () return count "reload refused" == 2 end))
    sh "rm policies/mine.lua && ln -s mine.lua policies/mine.lua"
    assert.truthy(daemon:eventually(function () return count "reload refused" == 3 end))
    sh "rm policies/mine.lua"
    w:write("policies/mine.lua", shipped "31s")
    runs_version(3)
  end)

  it("of a module that the configuration requires is noticed", function ()
    config()
    w:write("few.lua", "return 513\n")
    w:write("holdfast.lua", (w:read "holdfast.lua":gsub("intents = 513", 'intents = require "few"')))
    daemon = w:daemon()
    w:up()
    w:write("few.lua", "return 512\n")
    daemon:says "reloaded: 1 connection changed"
  end)

  it("by a symlink that is swapped is taken, of the file and of its folder", function ()
    sh "mkdir v1 v2 && mv policies/mine.lua v1/ && rmdir policies && ln -s v1 policies"
    w:write("v2/mine.lua", shipped "30s")
    start()
    sh "ln -s v2 next && mv -T next policies"
    runs_version(2)
    w:write("elsewhere.lua", shipped "31s")
    sh "ln -s ../elsewhere.lua v2/next && mv -T v2/next v2/mine.lua"
    runs_version(3)
    w:write("elsewhere.lua", shipped "32s")
    runs_version(4)
  end)

  it("to something half-written keeps the old version, and the whole one is taken", function ()
    start()
    local text = shipped "30s"
    w:write("policies/mine.lua", text:sub(1, #text / 2))
    daemon:says "reload refused: everything goes on as it was"
    runs_version(1)
    w:write("policies/mine.lua", text)
    runs_version(2)
  end)

  it("to nothing keeps the old version, and is taken when it is there again", function ()
    start()
    sh "rm policies/mine.lua"
    daemon:says "reload refused: everything goes on as it was"
    runs_version(1)
    w:write("policies/mine.lua", shipped "30s")
    runs_version(2)
    -- The whole folder, as a checkout does.
    sh "rm -r policies"
    assert.truthy(daemon:eventually(function () return count "reload refused" == 2 end))
    w:write("policies/mine.lua", shipped "31s")
    runs_version(3)
  end)

  it("with many others at once is one reload", function ()
    start()
    sh "for i in $(seq 200); do echo '-- x' > policies/other$i.lua; done"
    w:write("policies/mine.lua", shipped "30s")
    runs_version(2)
    assert.truthy(count "files changed" <= 2, "it was read again for each of them")
  end)

  it("of a module beside the policy is noticed", function ()
    w:write("policies/numbers.lua", "return { settle = '60s' }\n")
    w:write("policies/mine.lua", (shipped "60s":gsub('settle = "60s"', 'settle = require "numbers".settle')))
    start()
    w:write("policies/numbers.lua", "return { settle = '30s' }\n")
    runs_version(2)
  end)

  it("and is the configuration touches the connections alone whose own settings changed", function ()
    start()
    config(([[
connection "other" {
  policy = "mine", token = secret { env = "DISCORD_TOKEN" }, intents = 513, shard_id = 1, shard_count = 2,
  api = "https://127.0.0.1:%s/api/v10", ca_file = "ca.pem",
  tune = { budgets = { start = { gap = "300ms" } } },
}
]]):format(peer.port))
    daemon:says "reloaded: 1 connection changed, 0 removed, 1 as before"
    w:status(function (text) return text:match '"state":"up"' end, { "other" })
    assert.equal(0, count "connection=bot msg=\"goes on with")
  end)

  it("is not read again by itself where the configuration says so", function ()
    config(nil)
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub("prove = false", "prove = false, watch = false")))
    daemon = w:daemon()
    w:up()
    w:write("policies/mine.lua", shipped "30s")
    local run = w:start { "reload", "--socket", "h.sock" }
    assert.equal(0, run:wait())
    runs_version(2)
    assert.equal(0, count "files changed")
  end)
end)
