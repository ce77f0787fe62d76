-- Proxies of the environment and of the configuration, as an operator meets them. The secret in a proxy's
-- address is the marked one: the world looks for it in all that was said.
local world = require "daemon_world"
local wire = require "unit.wire"

describe("a proxy", function ()
  local w, peer
  before_each(function ()
    w = world.new()
    peer = w:peer()
    w:config(peer.port)
  end)
  after_each(function () w:close() end)

  local WITH_PASSWORD = ("http://bots:%s@proxy.example:3128"):format(world.secret)

  local function connection(more)
    w:write("holdfast.lua", (w:read("holdfast.lua"):gsub("intents = 513,", "intents = 513, " .. more .. ",")))
  end

  it("of the environment is told at the start without its password, and loopback is reached past it", function ()
    local daemon = w:daemon { env = { HTTPS_PROXY = WITH_PASSWORD, NO_PROXY = "a.example, b.example" } }
    w:up()
    assert.truthy(daemon.err:find("connections without `proxy` go to https and wss through the proxy at " ..
      "proxy.example:3128 (HTTPS_PROXY), except to loopback and what NO_PROXY names (2 entries)", 1, true), daemon.err)
    assert.is_nil(daemon.err:find("to http and ws", 1, true))
  end)

  it("of the environment counts for plain addresses in lower case alone", function ()
    local daemon = w:daemon { env = { HTTP_PROXY = "http://upper.example:1", http_proxy = "lower.example:1", all_proxy = "all.example:1" } }
    assert.truthy(daemon.err:find("http and ws through the proxy at lower.example:1 (http_proxy), except to loopback", 1, true), daemon.err)
    assert.truthy(daemon.err:find("https and wss through the proxy at all.example:1 (all_proxy), except to loopback", 1, true))
  end)

  it("of the environment that cannot be used is one error of run and check, by the variable's name", function ()
    local env = { HTTPS_PROXY = ("socks5://bots:%s@proxy.example:1080"):format(world.secret) }
    local said = "the environment variable HTTPS_PROXY names no http:// proxy; https:// and SOCKS proxies are not supported"
    for _, command in ipairs { "run", "check" } do
      local code, run = w:run({ command }, { env = env })
      assert.equal(1, code)
      local text = run.out .. run.err
      assert.truthy(text:find(said, 1, true), text)
      assert.is_nil(text:find(said, select(2, text:find(said, 1, true)), true), "told twice:\n" .. text)
    end
    local code, run = w:run({ "check" }, { env = { ALL_PROXY = "proxy.example:3128", NO_PROXY = "127.*" } })
    assert.equal(1, code)
    assert.truthy((run.out .. run.err):find("the environment variable NO_PROXY has `127.*`, which is no name", 1, true))
  end)

  it("of the environment is nobody's business where every connection says what it wants", function ()
    connection "proxy = false"
    local daemon = w:daemon { env = { HTTPS_PROXY = "socks5://proxy.example:1" } }
    w:up()
    assert.is_nil(daemon.err:find("roxy", 1, true))
  end)

  it("of the environment that cannot be used keeps a connection from being put over the API", function ()
    connection "proxy = false"
    w:write("creds/second", "other." .. world.secret)
    local daemon = w:daemon { env = { HTTPS_PROXY = "socks5://proxy.example:1", CREDENTIALS_DIRECTORY = "creds" } }
    local body = [[{"policy":"discord","token":{"credential":"second"},"intents":1%s}]]
    local function put(more)
      local p = io.popen(("curl -s -o - -w ' %%{http_code}' --unix-socket %s/h.sock -X PUT -d '%s' http://localhost/v1/connections/second")
        :format(w.folder, body:format(more)))
      local answer = p:read "*a"
      p:close()
      return answer
    end
    if os.execute "command -v curl >/dev/null" ~= 0 then return pending "curl is not installed" end
    local answer = put ""
    assert.truthy(answer:find("the environment variable HTTPS_PROXY names no http:// proxy", 1, true), answer)
    assert.matches(" 400$", answer)
    assert.matches(" 201$", put ',"proxy":false')
    daemon:stop()
  end)

  it("with a password is named in why, without it", function ()
    local free = wire.new {}
    local port = free:free_port()
    free:close()
    w:write("proxy-password", world.secret .. "\n")
    connection(('proxy = { url = "http://127.0.0.1:%d", user = "bots", password = secret { file = "proxy-password" } }'):format(port))
    w:daemon { env = { HTTPS_PROXY = "http://elsewhere.example:1" } }
    w:status(function (text) return text:find(("cannot reach the proxy: 127.0.0.1:%d: connection refused"):format(port), 1, true) end)
    local code, run = w:run { "why", "bot" }
    assert.equal(0, code)
    assert.truthy(run.out:find("cannot reach the proxy", 1, true), run.out)
    assert.truthy(run.out:find("does it let CONNECT pass", 1, true), run.out)
  end)

  it("whose password changes is used with the new one after a reload", function ()
    connection 'proxy = { url = "http://127.0.0.1:1", user = "bots", password = secret { file = "proxy-password" } }'
    w:write("proxy-password", world.secret)
    local daemon = w:daemon()
    w:write("proxy-password", world.secret .. "2")
    assert.equal(0, (w:run { "reload" }))
    daemon:says "is replaced: its identity or the way it dials changed"
    assert.equal(0, (w:run { "reload" }))
    daemon:says "reloaded: 0 connections changed"
  end)
end)
