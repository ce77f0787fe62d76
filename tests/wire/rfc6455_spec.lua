-- The table of what public suites try, over real sockets, with the whole runtime above the codec: what is
-- delivered, which pongs leave, which close frame leaves, and the cause that people are told. Each stream comes
-- whole, and again byte by byte.
local bit = require "bit"
local world = require "wire_world"
local cases = require "frame_ws_cases"
local rfc6455 = require "rfc6455_cases"

local POLICY = [[
local holdfast = require "holdfast"
return holdfast.policy {
  platform = "bare",
  about    = "frames as they come",
  options  = { url = { type = "url", required = true } },
  identity = { "url" },
  account  = { "url" },
  sizes    = { message = "1MiB", send = 4096 },
  frames   = { codec = "bytes", deliver = true },
  classify = { { any = true, verdict = "resume" } },
  prepare  = function (conn) return { url = conn.options.url } end,
  greet    = function () end,
}
]]

-- The frames that a raw server received after the upgrade, in the form of the table's items.
local function sent_frames(received)
  local _, at = received:find("\r\n\r\n", 1, true)
  local out = {}
  at = at + 1
  while at < #received do
    local first, second = received:byte(at, at + 1)
    assert(bit.band(second, 0x80) ~= 0, "a frame of ours is not masked")
    assert(bit.band(first, 0x70) == 0, "a frame of ours has reserved bits")
    local n, head = bit.band(second, 127), 2
    assert(n < 126, "a control frame of ours is too long")
    local mask, payload = { received:byte(at + head, at + head + 3) }, {}
    for i = 1, n do payload[i] = string.char(bit.bxor(received:byte(at + head + 3 + i), mask[(i - 1) % 4 + 1])) end
    payload = table.concat(payload)
    if first == 0x88 then
      out[#out + 1] = n == 0 and "close" or ("close %d"):format(payload:byte(1) * 256 + payload:byte(2))
    else
      assert(first == 0x8a, "a frame that nobody asked for")
      out[#out + 1] = "pong:" .. payload
    end
    at = at + head + 4 + n
  end
  return out
end

-- What must be seen of the items: what is delivered, what leaves, and the cause.
local function expected_of(case)
  local delivered, leaves, cause = {}, {}, nil
  for _, item in ipairs(case[3]) do
    local kind, rest = item:match "^(%a+):(.*)$"
    if kind == "text" or kind == "binary" then delivered[#delivered + 1] = rest
    elseif kind == "ping" then leaves[#leaves + 1] = "pong:" .. rest
    elseif kind == "error" then
      local text, code = rest:match "^ (.*) %((%d+)%)$"
      leaves[#leaves + 1] = "close " .. code
      cause = { kind = code == "1009" and "too_big" or "protocol", close = tonumber(code),
                reason = code == "1009" and "a message over sizes.message" or case.reason or text }
    end
  end
  local code, reason = case[3][#case[3]]:match "^close (%d+):(.*)$"
  if code == "0" then
    leaves[#leaves + 1] = "close"
    cause = { kind = "closed", close = 1005, reason = "the close frame had no code" }
  elseif code then
    leaves[#leaves + 1] = "close " .. code
    cause = { kind = "closed", close = tonumber(code), reason = reason }
  elseif not cause then -- then the server ends it
    leaves[#leaves + 1] = "close 1000"
    cause = { kind = "closed", close = 1000, reason = "over" }
  end
  return delivered, leaves, cause
end

for _, group in ipairs(rfc6455.groups) do
  describe(group.name, function ()
    local s
    -- One world for all of a group: what a case leaves behind, the next one would meet.
    local count = 0
    local function renew()
      if count % 30 == 0 then
        if s then world.teardown() end
        world.setup()
        s = world.new()
      end
      count = count + 1
      return "probe" .. count
    end
    teardown(world.teardown)

    local function plays(case, verb)
      local name = renew()
      local bytes = cases.stream("client", case[2]) .. cases.frame { 8, "\3\232over" }
      local raw = s:raw { { "upgrade" }, { verb, bytes }, { "end" } }
      s:connection(name, { policy = POLICY, url = raw.ws .. "/", tune = {
        sizes = { message = case.max and case.max .. "B" or "1MiB" }, limits = { close = "50ms" },
        backoff = { first = "1m", most = "1m" } } })
      local d = s:ending(name)
      s:run_until(function ()
        local saw = raw.saw()[1]
        return saw.notes:find "eof" or saw.notes:find "reset" or saw.notes:find "closed"
      end)
      local delivered, leaves, cause = expected_of(case)
      local got = {}
      for i, m in ipairs(s.w:messages(name, "in")) do got[i] = m.data end
      assert.same(delivered, got)
      assert.same(leaves, sent_frames(raw.saw()[1].received))
      assert.same(cause, { kind = d.cause.kind, close = d.cause.close, reason = d.cause.reason })
      assert.equal("peer", d.cause.by)
      assert.equal("ready", d.cause.stage)
      s:remove(name)
    end

    for _, case in ipairs(group.cases) do
      it(case[1], function ()
        plays(case, "write")
        local len = #cases.stream("client", case[2])
        if len <= 2500 then plays(case, "trickle") end
      end)
    end
  end)
end
