-- The whole policy of the design, built for one connection: every number in its place.
local schema = require "unit.policy_schema"
local text = require "policy_text"

local source = [==[
local holdfast = require "holdfast"

return holdfast.policy {
  platform = "chatter",
  about    = "Chatter gateway v3",
  options  = {
    token    = { type = "secret", required = true, public = "^[^.]+" },
    api      = { type = "url", default = "https://api.chatter.example" },
    intents  = { type = "integer", required = true, min = 0 },
    shard_id = { type = "integer", default = 0 },
  },
  identity = { "token", "shard_id" },
  account  = { "token" },
  hosts    = { "*.chatter.example" },

  limits   = { prepare = "30s", call = "10s", resolve = "5s", connect = "10s", secure = "10s", upgrade = "10s", greeting = "20s", close = "1s", drain = "30s" },
  sizes    = { message = "64MiB", send = 4096 },
  alive    = { ping = "20s", silence = "45s" },
  beat     = { every = { "41s", "5s", "120s" }, first = "spread", asked = { op = 1 }, answer = { op = 11 }, dead = 1 },
  backoff  = { first = "1s", factor = 2, most = "60s", floor = "250ms", jitter = "full", settle = "60s" },
  slow     = { first = "60s", factor = 2, most = "10m" },
  budgets  = {
    start  = { frame = { op = 2 }, windows = { { 22, "1h" }, { 298, "24h" } }, gap = "5s", lane = "shard_id", operators = "10%" },
    send   = { windows = { { 120, "60s" } }, beats = 5 },
  },
  session  = { of = { "token", "shard_id", "intents" }, age = "24h", life = "72h", replay = "session" },
  overlap  = 1,
  retire   = { after = "6h", jitter = 0.2 },
  close_code = { keep = 4000, final = 1000 },

  frames = {
    codec   = "json",
    take    = { op = "op", seq = "s", kind = "t", id = "d.id" },
    deliver = { op = 0 },
    inspect = { op = { 7, 9 } },
    ends    = { { op = 7, cause = "reconnect" }, { op = 9, cause = "invalid", after = "5s" } },
    remember = { seq = "seq" },
    dedupe  = { by = { "kind", "id" }, over = "10m", most = 1000 },
    ack     = { when = "early", frame = '{"ack":"@id"}', within = "3s" },
    accept  = { op = { 3, 4, 8 } },
  },
  backlog  = { most = "64MiB", age = "24h", full = "drop_oldest" },

  classify = {
    { close = 4004, verdict = "stop", note = "token revoked: issue a new one" },
    { close = { 4007, "4900-4913" }, verdict = "fresh" },
    { stage = "preparing", http = 429, delay_from = "retry_after", otherwise = "30s", counts = false, verdict = "resume" },
    { cause = "reconnect", verdict = "resume", delay = { "0s", "1s" }, planned = true },
    { cause = "invalid", verdict = "fresh", delay = { "1s", "5s" } },
    { any = true, verdict = "resume" },
  },
  climb = {
    { on = { session = true, stage = "greeting" }, times = 3, to = "fresh" },
    { on = { under = "5s" }, times = 3, to = "renew" },
    { on = { cause = "conflict" }, times = 3, within = "10m", pace = { "30s", "10m" }, note = "another installation uses this token" },
  },

  fetch = {
    gateway = { call = function (conn)
      local answer = conn:http { url = conn.options.api }
      if answer then return answer.url end
    end, keep = "24h", gap = "60s", stale = true },
  },
  prepare = function (conn) return { url = conn:get "gateway", inflate = "zlib-stream" } end,
  greet   = function (conn)
    local hello = conn:await { op = 10 }
    conn:set { beat = hello.d.heartbeat_interval }
  end,
  on_beat  = function (conn) return { op = 1, d = conn.session.seq } end,
  on_frame = function (conn, frame) end,
  on_ended = function (conn, cause) end,
  every    = { presence = { "30s", function (conn) end } },
}
]==]

local function build(settings)
  return schema.build { policy = text.load(source), text = source, settings = settings }
end

describe("the example policy of the design", function()
  local settings, b

  before_each(function()
    settings = { token = schema.secret("TOKEN", "id77.rotating.part"), intents = 513, shard_id = 3 }
    local problems
    b, problems = build(settings)
    assert.same({}, problems)
  end)

  it("loads without a complaint", function()
    assert.same({}, text.problems { policy = text.load(source), text = source })
  end)

  it("becomes the plan it describes", function()
    local plan = b.plan
    local classify, climb = plan.classify, plan.climb
    plan.classify, plan.climb = nil, nil
    assert.same({
      platform = "chatter", file = "policies/x.lua", version = 7,
      limits = { prepare = 30000, call = 10000, resolve = 5000, connect = 10000, secure = 10000,
        upgrade = 10000, greeting = 20000, close = 1000, drain = 30000 },
      ping = 20000, silence = 45000,
      beat = { on = true, answered = true, every = 41000, least = 5000, most = 120000, first = 0, dead = 1 },
      backoff = { first = 1000, factor = 2, most = 60000, floor = 250, jitter = 1, settle = 60000 },
      slow = { first = 60000, factor = 2, most = 600000 },
      budgets = {
        start = { ["1"] = { 22, 3600000 }, ["2"] = { 298, 86400000 }, gap = 5000, operators = 0.1, beats = 0 },
        send = { ["1"] = { 120, 60000 }, gap = 0, operators = 0, beats = 5 },
      },
      session = { on = true, age = 86400000, life = 259200000, replay = 0 },
      overlap = 1, retire_after = 6 * 3600000, retire_jitter = 0.2, close_keep = 4000, close_final = 1000,
      has_greet = true, has_on_ended = true, has_on_beat = true, has_on_frame = true,
      backlog = { most = 64 * 1024 * 1024, age = 86400000, hold = 10000, full = 0 },
    }, plan)
    assert.same({
      { match = { close = { "4004-4004" }, session = -1 }, drop = "resume", pace = "stop", counts = true,
        note = "token revoked: issue a new one", line = 45 },
      { match = { close = { "4007-4007", "4900-4913" }, session = -1 }, drop = "fresh", pace = "normal",
        counts = true, line = 46 },
      { match = { stages = 2, http = { "429-429" }, session = -1 }, drop = "resume", pace = "normal",
        retry_after = true, otherwise = { 30000, 30000 }, line = 47 },
      { match = { causes = { "reconnect" }, session = -1 }, drop = "resume", pace = "normal",
        delay = { 0, 1000 }, planned = true, counts = true, line = 48 },
      { match = { causes = { "invalid" }, session = -1 }, drop = "fresh", pace = "normal",
        delay = { 1000, 5000 }, counts = true, line = 49 },
      { match = { any = true, session = -1 }, drop = "resume", pace = "normal", counts = true, line = 50 },
    }, classify)
    assert.same({
      { on = { { session = 1, stages = 64 } }, times = 3, within = 0, to = "fresh", pace = "normal", line = 53 },
      { on = { { under = 5000, session = -1 } }, times = 3, within = 0, to = "renew", pace = "normal", line = 54 },
      { on = { { causes = { "conflict" }, session = -1 } }, times = 3, within = 600000, to = "resume",
        pace = "slow", pace_span = { 30000, 600000 }, note = "another installation uses this token", line = 55 },
    }, climb)
  end)

  it("becomes the frame rules it describes", function()
    assert.same({
      codec = 0,
      take = { op = "op", seq = "s", kind = "t", id = "d.id" },
      deliver = { { op = { 0 } } },
      inspect = { { op = { 7, 9 } } },
      ends = {
        { match = { { op = { 7 } } }, cause = "reconnect", after = 0, line = 36 },
        { match = { { op = { 9 } } }, cause = "invalid", after = 5000, line = 36 },
      },
      beat_asked = { { op = { 1 } } }, beat_answer = { { op = { 11 } } },
      remember = { seq = "seq" },
      dedupe = { "kind", "id", over = 600000, most = 1000 },
      ack = { { when = 1, frame = '{"ack":"@id"}', within = 3000 } },
      accept = { { op = { 3, 4, 8 } } },
      start = { { op = { 2 } } },
      message = 64 * 1024 * 1024, send = 4096,
    }, b.rules)
  end)

  it("carries options with their defaults, hosts, lane, tasks and fetches", function()
    assert.same({ token = "<secret TOKEN>", intents = 513, shard_id = 3, api = "https://api.chatter.example" },
      b.options)
    table.sort(b.hosts)
    assert.same({ "*.chatter.example", "api.chatter.example" }, b.hosts)
    assert.equal(3, b.lane)
    assert.same({ presence = { 30000, 30000 } }, b.every)
    assert.same({ gateway = { keep = 86400000, gap = 60000, stale = true, by_account = true } }, b.fetch)
  end)

  it("tells identity, account and session apart by what each names, and survives a rotation", function()
    local function with(changes)
      local s = { token = schema.secret("TOKEN", "id77.rotating.part"), intents = 513, shard_id = 3 }
      for k, v in pairs(changes) do s[k] = v end
      return (build(s))
    end
    local rotated = with { token = schema.secret("OTHER", "id77.new") }
    assert.same({ b.identity, b.account, b.session_of }, { rotated.identity, rotated.account, rotated.session_of })
    local other = with { token = schema.secret("TOKEN", "id78.rotating.part") }
    assert.not_equal(b.identity, other.identity)
    assert.not_equal(b.account, other.account)
    local shard = with { shard_id = 4 }
    assert.not_equal(b.identity, shard.identity)
    assert.equal(b.account, shard.account)
    local intents = with { intents = 1 }
    assert.equal(b.identity, intents.identity)
    assert.not_equal(b.session_of, intents.session_of)
  end)
end)
