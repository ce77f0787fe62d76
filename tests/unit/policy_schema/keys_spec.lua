-- Every key of a policy: values that are good, and values that are refused with a useful sentence.
local schema = require "unit.policy_schema"
local text = require "policy_text"

local NAN, HUGE = 0 / 0, math.huge
local f = function() end
local secret = schema.secret("S", "hunter2-bytes")

local take = { op = "op", kind = "t", id = "d.id" }

-- Frames of a binary message, for the keys that belong to them.
local binary = { frames = { codec = "protobuf", take = take, layout = { head = { 1, "map" }, body = { 2, "json" }, n = { 3, "int32" } } } }
local many_fields = {}
for i = 1, 33 do many_fields["f" .. i] = { i, "string" } end

local function set(policy, path, value)
  local at, last = policy, nil
  for part in path:gmatch "[^.]+" do
    if last then
      local copy = {}
      for k, v in pairs(at[last] or {}) do copy[k] = v end
      at[last] = copy
      at = copy
    end
    last = part
  end
  at[last] = value
end

local function problems_with(path, value, changes)
  local policy = text.plain { frames = { take = take } }
  for k, v in pairs(changes or {}) do policy[k] = v end
  set(policy, path, value)
  return text.problems { policy = policy }, policy
end

local bad_durations = { 30, 0, "30", "30 sec", "-1s", "", "s", "999d", "1e3s", "inf", NAN, -1, true, {}, f, secret }
local bad_whole = { "3", 1.5, NAN, HUGE, -HUGE, -1, true, {}, f, 2 ^ 60, secret }
local bad_texts = { 1, true, {}, f, "not\255utf8", "nul\0", secret }
local bad_functions = { 1, "f", true, {} }
local bad_matchers = { 1, "op", true, {}, { op = 1.5 }, { op = NAN }, { opp = 1 }, { op = {} }, { op = f }, { op = secret },
  { { op = 1 }, op = 2 }, { { op = 1 }, 3 }, { 1, 2 }, { op = { present = false } }, { op = { from = 9, to = 3 } },
  { op = { from = "a", to = "b" } }, { op = { 1, x = 2 } } }
local good_matchers = { { op = 0 }, { { op = 0 }, { kind = "X", op = { 1, 2 } } }, { id = { present = true } },
  { id = { null = true } }, { op = { from = 3, to = 9 } }, { kind = { "A", "B" } }, { op = true }, { op = -7 } }

local function limit() return { good = { "10ms", "1s", "30s", "1h" }, bad = { "0s", "9ms", "61m", unpack(bad_durations) } } end

local any = { any = true, verdict = "resume" }

local keys = {
  ["platform"] = { good = { "chatter", "a-b_c.9" }, bad = { "", "a b", "a/b", ("x"):rep(40), unpack(bad_texts) } },
  ["about"] = { good = { "", "text" }, bad = { ("x"):rep(1001), unpack(bad_texts) } },
  ["hosts"] = { good = { "api.example.org", { "*.example.org", "a.example.org" } },
    bad = { "*", "*.org", "https://example.org", "Example.org", "example.org:443", "", 1, { 1 }, { "*" }, { x = "a.b" }, f } },
  ["limits.prepare"] = limit(), ["limits.call"] = limit(), ["limits.resolve"] = limit(),
  ["limits.connect"] = limit(), ["limits.secure"] = limit(), ["limits.upgrade"] = limit(),
  ["limits.greeting"] = limit(), ["limits.close"] = limit(), ["limits.drain"] = limit(),
  ["sizes.message"] = { good = { "64MiB", 4096, "1GiB", "16 KiB" }, bad = { 0, "0", -1, NAN, HUGE, 1.5, "1TiB", "2GiB", "x", true, {}, f, secret } },
  ["sizes.send"] = { good = { "4KiB", 16 }, bad = { 0, 15, -1, NAN, "65MiB", "x", true, {}, f } },
  ["alive.ping"] = { good = { "20s", "500ms", "44s" }, bad = { "0s", "499ms", "2h", "45s", false, unpack(bad_durations) } },
  ["alive.silence"] = { good = { "21s", "24h" }, bad = { "0s", "999ms", "20s", "25h", false, unpack(bad_durations) } },
  ["alive.promised"] = { good = { true, false }, bad = { 1, "true", {}, f } },
  ["beat.every"] = { good = { "30s", { "41s", "5s", "120s" }, { "5s", "5s", "5s" } },
    bad = { "0s", "999ms", "25h", {}, { "5s" }, { "5s", "1s" }, { "4s", "5s", "120s" }, { "121s", "5s", "120s" },
      { "41s", "0s", "120s" }, { 41, 5, 120 }, { "41s", "5s", "120s", x = 1 }, unpack(bad_durations) } },
  ["beat.first"] = { good = { "spread", "at_once", "after" }, bad = { "spred", "", 1, true, {}, f }, with = { beat = { every = "30s" }, on_beat = f } },
  ["beat.asked"] = { good = good_matchers, bad = bad_matchers, with = { beat = { every = "30s" }, on_beat = f } },
  ["beat.answer"] = { good = good_matchers, bad = bad_matchers, with = { beat = { every = "30s" }, on_beat = f } },
  ["beat.dead"] = { good = { 1, 10 }, bad = { 0, 11, unpack(bad_whole) }, with = { beat = { every = "30s", answer = { op = 1 } }, on_beat = f } },
  ["beat.within"] = { good = { "500ms", "30s", "1h" }, bad = { "0s", "499ms", "61m", unpack(bad_durations) }, with = { beat = { every = "30s", answer = { op = 1 } }, on_beat = f } },
  ["backoff.first"] = { good = { "1ms", "1s", "60s" }, bad = { "0s", "61s", "2h", unpack(bad_durations) } },
  ["backoff.factor"] = { good = { 1, 1.5, 10 }, bad = { 0, 0.99, 10.1, -1, NAN, HUGE, "2", true, {}, f } },
  ["backoff.most"] = { good = { "1s", "24h" }, bad = { "0s", "999ms", "25h", unpack(bad_durations) } },
  ["backoff.floor"] = { good = { "250ms", "60s" }, bad = { "0s", "249ms", "0.2s", "61s", unpack(bad_durations) } },
  ["backoff.jitter"] = { good = { "full", "equal" }, bad = { "ful", "", 1, true, false, {}, f } },
  ["backoff.settle"] = { good = { "1s", "60s" }, bad = { "0s", "999ms", "25h", unpack(bad_durations) } },
  ["slow.first"] = { good = { "1s", "10m" }, bad = { "0s", "999ms", "11m", unpack(bad_durations) } },
  ["slow.factor"] = { good = { 1, 2, 10 }, bad = { 0, -1, NAN, 11, "2", {} } },
  ["slow.most"] = { good = { "1m", "24h" }, bad = { "0s", "59s", "25h", unpack(bad_durations) } },
  ["budgets.start.windows"] = { good = { { 1, "100ms" }, { { 22, "1h" }, { 298, "24h" } }, { 1000000, "31d" } },
    bad = { {}, 1, "x", { 0, "1h" }, { -1, "1h" }, { 1.5, "1h" }, { NAN, "1h" }, { 1, "0s" }, { 1, "32d" }, { "1h", 1 },
      { { 1, "1s" }, { 2, "2s" }, { 3, "3s" }, { 4, "4s" }, { 5, "5s" } }, { { 1, "1h" }, { 2, "1h" } }, { 1 }, { 1, "1h", "2h" } } },
  ["budgets.start.gap"] = { good = { "5s" }, bad = { "0s", "61m", unpack(bad_durations) } },
  ["budgets.start.operators"] = { good = { "0%", "10%", "50%", 0.5, 0 }, bad = { "51%", "-1%", "10", "%", 0.51, -0.1, NAN, 1, true, {}, "10%%", " 10%" },
    with = { budgets = { start = { gap = "1s" } } } },
  ["budgets.start.lane"] = { good = { "shard" }, bad = { "token", "nothing", 1, {}, true }, with = { budgets = { start = { gap = "1s" } } } },
  ["budgets.start.frame"] = { good = good_matchers, bad = bad_matchers, with = { budgets = { start = { gap = "1s" } } } },
  ["budgets.dial.windows"] = { good = { { 1, "1s" } }, bad = { {}, { 0, "1s" } } },
  ["budgets.call.windows"] = { good = { { 1, "1s" } }, bad = { {}, { 0, "1s" } } },
  ["budgets.send.windows"] = { good = { { 1, "1s" } }, bad = { {}, { 0, "1s" } } },
  ["budgets.send.beats"] = { good = { 0, 5, 9 }, bad = { 10, 1001, unpack(bad_whole) },
    with = { budgets = { send = { windows = { 10, "60s" } } }, beat = { every = "30s" }, on_beat = f } },
  ["session.of"] = { good = { "token", { "token", "shard" } }, bad = { {}, "tokn", { "token", "token" }, { "nothing" }, 1, f, { 1 } } },
  ["session.age"] = { good = { "1s", "30d" }, bad = { "0s", "31d", unpack(bad_durations) } },
  ["session.life"] = { good = { "1m", "30d" }, bad = { "59s", "31d", unpack(bad_durations) } },
  ["session.replay"] = { good = { "session", "unacked", "none" }, bad = { "sesion", 1, true, {} } },
  ["session.replay_for"] = { good = { "1s", "5m", "30d" }, bad = { "0s", "31d", unpack(bad_durations) } },
  ["overlap"] = { good = { 0, 1 }, bad = { 2, unpack(bad_whole) } },
  ["retire.after"] = { good = { "61s", "6h", "30d" }, bad = { "0s", "59s", "60s", "31d", unpack(bad_durations) } },
  ["retire.jitter"] = { good = { 0, 0.2, 0.9 }, bad = { 1, 0.91, -0.1, NAN, "0.2", {} }, with = { retire = { after = "6h" } } },
  ["close_code.keep"] = { good = { 1000, 1001, 3000, 4000, 4999 }, bad = { 0, 999, 1002, 1005, 1006, 2999, 5000, 4000.5, NAN, "4000", {} } },
  ["close_code.final"] = { good = { 1000, 4999 }, bad = { 0, 1006, 5000, NAN, "1000" } },
  ["frames.codec"] = { good = { "json", "wkproto" }, bad = { "jsn", "protobuf", "bytes", 1, {}, true } },
  ["frames.layout"] = { with = binary, good = { { n = { 1, "uint64" } }, { a = { 536870911, "string", required = true }, h = { 1, "map", key = 3, value = 4 } },
      { a = { 9, "json" }, b = { 1, "bytes" }, c = { 2, "double" } } },
    bad = { {}, 1, { x = 1 }, { x = {} }, { x = { 1 } }, { x = { "json", 1 } }, { x = { 1, "jsn" } }, { x = { 1, "json", 3 } }, { x = { 0, "json" } },
      { x = { 536870912, "json" } }, { x = { 1.5, "json" } }, { x = { 1, "json" }, y = { 1, "json" } }, { x = { 1, "json", requird = true } },
      { x = { 1, "json", required = 1 } }, { x = { 1, "json", key = 1 } }, { x = { 1, "map", key = 2 } }, { x = { 1, "map", key = 0 } },
      { ["a.b"] = { 1, "json" } }, { ["a b"] = { 1, "json" } }, { x_base64 = { 1, "json" } }, { [("x"):rep(40)] = { 1, "json" } }, { { 1, "json" } }, many_fields } },
  ["frames.take"] = { good = { {}, { a = "x" }, { a = "x.y.z.w" } },
    bad = { 1, "x", { "x" }, { a = 1 }, { a = "" }, { a = "x..y" }, { a = "a.b.c.d.e" }, { cause = "x" }, { after = "x" }, { ["a b"] = "x" },
      { ["a.b"] = "x" }, { a = ("x"):rep(70) }, { a = f }, { a = secret } } },
  ["frames.deliver"] = { good = { true, false, unpack(good_matchers) }, bad = { 1, "op", {}, { opp = 1 } } },
  ["frames.inspect"] = { good = good_matchers, bad = bad_matchers, with = { frames = { take = take }, on_frame = f } },
  ["frames.accept"] = { good = { true, false, unpack(good_matchers) }, bad = { 1, "op", {}, { opp = 1 } } },
  ["frames.ends"] = { good = { {}, { { op = 7, cause = "reconnect" } }, { op = 7, cause = "x", after = "5s" } },
    bad = { 1, "x", { { op = 7 } }, { { cause = "x" } }, { { op = 7, cause = "" } }, { { op = 7, cause = "a b" } }, { { op = 7, cause = 1 } },
      { { op = 7, cause = "x", after = "61s" } }, { { op = 7, cause = "x", after = 5 } }, { { opp = 7, cause = "x" } }, { 7 } } },
  ["frames.remember"] = { good = { { x = "id" }, { id = "id", k = "kind" } }, bad = { 1, { "id" }, { x = "idd" }, { x = 1 }, { ["a b"] = "id" } } },
  ["frames.follows"] = { good = { { by = "id" }, { by = "id", anew = { op = 1 }, cause = "hole" }, { by = "id", anew = { { op = 1 }, { kind = "X" } } } },
    bad = { {}, 1, "id", { by = "idd" }, { by = 1 }, { by = { "id" } }, { by = "id", anew = 1 }, { by = "id", anew = { opp = 1 } }, { by = "id", cause = "a b" },
      { by = "op" }, { by = "id", x = 1 } }, with = { frames = { take = take, remember = { last = "id" } } } },
  ["frames.dedupe"] = { good = { { by = "id", over = "10m" }, { by = { "kind", "id" }, over = "1s", most = 1 } },
    bad = { {}, { by = "id" }, { over = "1s" }, { by = {}, over = "1s" }, { by = "idd", over = "1s" }, { by = { "id", "id" }, over = "1s" },
      { by = "id", over = "0s" }, { by = "id", over = "8d" }, { by = "id", over = "1s", most = 0 }, { by = "id", over = "1s", most = 1000001 },
      { by = "id", over = "1s", mst = 5 }, { by = 1, over = "1s" } } },
  ["frames.ack"] = { good = { { when = "early", frame = '{"ack":"@id"}' }, { when = "through", frame = "{}", within = "3s" },
      { when = "early", frame = "{}", at_risk = true }, { when = "early", frame = "{}", anywhere = true },
      { on = { op = 1 }, when = "early", frame = "{}" }, { { on = { { op = 1 }, { kind = "X" } }, when = "none" }, { when = "early", frame = "{}" } },
      { { on = { op = { 1, 2 } }, when = "through", frame = "{}", within = "3s" }, { on = { id = { present = true } }, when = "early", frame = "{}" } } },
    bad = { { on = { opp = 1 }, when = "early", frame = "{}" }, { on = {}, when = "early", frame = "{}" }, { on = 1, when = "early", frame = "{}" },
      { { when = "early", frame = "{}" }, { on = { op = 1 } } }, { { when = "early", frame = "{}" }, 3 }, { { when = "early", frame = "{}" }, x = 1 },
      { { on = { op = 1 }, when = "through", frame = "{}" }, { when = "early", frame = "{}" } }, { when = "early", frame = "{}", anywhere = 1 },
      { { on = { op = 1 }, when = "early" }, { when = "early", frame = "{}" } }, {}, { when = "early" }, { when = "erly", frame = "{}" }, { when = "early", frame = "{" }, { when = "early", frame = '{"a":"@idd"}' },
      { when = "through", frame = "{}" }, { when = "early", frame = "{}", within = "0s" }, { when = "early", frame = 1 },
      { when = "early", frame = "{}", at_risk = 1 }, { when = "through", frame = "{}", within = "3s", at_risk = true }, { when = "early", frame = '"' .. ("x"):rep(5000) .. '"' } } },
  ["frames.join"] = { with = binary, good = { { by = "id", index = "op", count = "kind", of = "body" },
      { by = "id", index = "op", count = "kind", of = "body", within = "1s", parts = 2, bytes = "1KiB" } },
    bad = { {}, 1, { by = "id", index = "op", count = "kind" }, { by = "id", index = "op", of = "body" }, { by = "idd", index = "op", count = "kind", of = "body" },
      { by = "id", index = "op", count = "kind", of = "bdy" }, { by = "id", index = "op", count = "kind", of = "head" }, { by = "id", index = "op", count = "kind", of = 1 },
      { by = "id", index = "op", count = "kind", of = "body", parts = 1 }, { by = "id", index = "op", count = "kind", of = "body", parts = 65537 },
      { by = "id", index = "op", count = "kind", of = "body", bytes = 1023 }, { by = "id", index = "op", count = "kind", of = "body", within = "0s" },
      { by = "id", index = "op", count = "kind", of = "body", within = "61m" }, { by = "id", index = "op", count = "kind", of = "body", x = 1 } } },
  ["backlog.most"] = { good = { "64MiB", 1024 }, bad = { 0, 1023, -1, NAN, "x", {}, "65GiB" } },
  ["backlog.age"] = { good = { "1s", "90d" }, bad = { "0s", "91d", unpack(bad_durations) } },
  ["backlog.full"] = { good = { "drop_oldest", "hold" }, bad = { "drop", 1, {}, true } },
  ["backlog.hold_for"] = { good = { "100ms", "44s" }, bad = { "0s", "45s", "2h", unpack(bad_durations) }, with = { backlog = { full = "hold" } } },
  ["fetch"] = { good = { {}, { a = { call = f } } }, bad = { 1, { a = f }, { a = {} }, { { call = f } }, { ["a b"] = { call = f } } } },
  ["fetch.a.call"] = { good = { f }, bad = bad_functions },
  ["fetch.a.keep"] = { good = { "0s", "24h", "30d" }, bad = { "31d", 30, "x", NAN, {} }, with = { fetch = { a = { call = f } } } },
  ["fetch.a.gap"] = { good = { "0s", "24h" }, bad = { "25h", 30, "x", {} }, with = { fetch = { a = { call = f } } } },
  ["fetch.a.pause"] = { good = { "0s", "24h" }, bad = { "25h", 30, "x", {} }, with = { fetch = { a = { call = f } } } },
  ["fetch.a.renew"] = { good = { "30s", { "30s", "50s" }, "24h" }, bad = { "0s", "999ms", "25h", 30, "x", {}, { "50s", "30s" }, { "1s" }, true },
    with = { fetch = { a = { call = f } } } },
  ["fetch.a.stale"] = { good = { true, false }, bad = { 1, "true", {} }, with = { fetch = { a = { call = f } } } },
  ["fetch.a.per"] = { good = { "account", "connection" }, bad = { "acount", 1, {}, true }, with = { fetch = { a = { call = f } } } },
  ["prepare"] = { good = { f }, bad = bad_functions },
  ["greet"] = { good = { f }, bad = bad_functions },
  ["on_beat"] = { good = { f }, bad = bad_functions, with = { beat = { every = "30s" } } },
  ["on_frame"] = { good = { f }, bad = bad_functions, with = { frames = { take = take, inspect = { op = 1 } } } },
  ["on_ended"] = { good = { f }, bad = bad_functions },
  ["on_ack"] = { good = { f }, bad = bad_functions, with = { frames = { ack = { when = "early" } } } },
  ["every"] = { good = { {}, { a = { "30s", f } }, { a = { { "30s", "60s" }, f } } },
    bad = { 1, { a = f }, { a = { "30s" } }, { a = { f, "30s" } }, { a = { "0s", f } }, { a = { { "60s", "30s" }, f } }, { { "30s", f } }, { a = { "30s", f, 1 } } } },
  ["identity"] = { good = { "token", { "token", "shard" } }, bad = { {}, "tokn", { "token", "token" }, 1, { x = "token" } } },
  ["account"] = { good = { "token" }, bad = { {}, "tokn", 1 } },
}

-- Rows of classify: each is put before a line that matches everything.
local rows = {
  good = {
    { close = 4004, verdict = "stop", note = "x" }, { close = { 4007, "4900-4913", "4000 - 4001" }, verdict = "fresh" },
    { http = { 401, "500-599" }, verdict = "slow" }, { code = -5, verdict = "renew" }, { code = "-5--1", verdict = "renew" },
    { stage = { "greeting", "ready" }, verdict = "resume" }, { cause = { "timeout", "close_by_peer" }, verdict = "resume" },
    { close = 1000, reason = "x", verdict = "fresh" }, { header = { ["x-a"] = "1" }, verdict = "slow" },
    { session = true, verdict = "fresh" }, { under = "5s", verdict = "slow" }, { by = { "peer", "us" }, verdict = "resume" },
    { http = 429, delay_from = "retry_after", otherwise = { "1s", "5s" }, verdict = "resume" },
    { close = 1000, verdict = "resume", delay = "0s" },
    { close = 1000, pace = { "30s", "10m" } }, { close = 1000, verdict = "fresh", pace = "slow" },
    { close = 1000, verdict = "resume", planned = true, counts = false, as = "moved" },
  },
  bad = {
    {}, { verdict = "resume" }, { close = 4004 }, { close = 4004, verdict = "sotp" }, { close = 4004, verdict = 1 },
    { close = 999, verdict = "stop" }, { close = 5000, verdict = "stop" }, { close = 4004.5, verdict = "stop" },
    { close = NAN, verdict = "stop" }, { close = "4004", verdict = "stop" }, { close = "4913-4900", verdict = "stop" },
    { close = "4900-", verdict = "stop" }, { close = "4900-4913x", verdict = "stop" }, { close = "900-4913", verdict = "stop" },
    { close = {}, verdict = "stop" }, { close = { x = 1 }, verdict = "stop" }, { close = true, verdict = "stop" },
    { http = 99, verdict = "slow" }, { http = 1000, verdict = "slow" }, { code = "x", verdict = "slow" },
    { stage = "greetin", verdict = "slow" }, { stage = {}, verdict = "slow" }, { stage = 1, verdict = "slow" },
    { cause = "timeot", verdict = "slow" }, { cause = "reste", verdict = "slow" }, { cause = "a b", verdict = "slow" },
    { cause = {}, verdict = "slow" }, { reason = "x", verdict = "fresh" }, { reason = "x", stage = "ready", verdict = "fresh" },
    { close = 1000, reason = "", verdict = "fresh" }, { close = 1000, reason = ("x"):rep(200), verdict = "fresh" },
    { header = {}, verdict = "slow" }, { header = { a = "1", b = "2" }, verdict = "slow" }, { header = { a = 1 }, verdict = "slow" },
    { session = 1, verdict = "fresh" }, { under = "0s", verdict = "slow" }, { under = 5, verdict = "slow" },
    { by = "pear", verdict = "slow" }, { any = false, verdict = "slow" }, { any = true, close = 1000, verdict = "resume" },
    { any = true, verdict = "stop" }, { http = 429, delay_from = "retry", verdict = "resume" }, { http = 429, otherwise = "1s", verdict = "resume" },
    { http = 429, delay_from = "retry_after", delay = "1s", verdict = "resume" }, { close = 1000, verdict = "resume", delay = "25h" },
    { close = 1000, verdict = "resume", delay = { "5s", "1s" } }, { close = 1000, verdict = "resume", delay = { "5s" } },
    { close = 1000, pace = "30" }, { close = 1000, pace = { "0s", "1s" } }, { close = 4004, verdict = "stop", delay = "1s" },
    { close = 4004, verdict = "stop", planned = true }, { close = 4004, verdict = "stop", pace = { "1s", "2s" } },
    { close = 1000, verdict = "resume", counts = 1 }, { close = 1000, verdict = "resume", planned = "yes" },
    { close = 1000, verdict = "fresh", drop = "nothing" }, { close = 1000, verdict = "fresh", as = "a b" },
    { close = 1000, verdict = "fresh", note = ("x"):rep(160) }, { clos = 1000, verdict = "fresh" }, 1, "x", true,
  },
}

local climbs = {
  good = {
    { on = { under = "5s" }, times = 3, to = "renew" }, { on = { { under = "5s" }, { cause = "conflict" } }, times = 16, within = "10m", to = "slow" },
    { on = { any = true }, times = 2, pace = { "30s", "10m" } },
  },
  bad = {
    {}, { on = { under = "5s" }, to = "renew" }, { times = 3, to = "renew" }, { on = {}, times = 3, to = "renew" },
    { on = { under = "5s" }, times = 0, to = "renew" }, { on = { under = "5s" }, times = 1, to = "renew" }, { on = { under = "5s" }, times = 17, to = "renew" },
    { on = { under = "5s" }, times = NAN, to = "renew" }, { on = { under = "5s" }, times = 3 }, { on = { under = "5s" }, times = 3, to = "renw" },
    { on = { under = "5s" }, times = 3, within = "0s", to = "renew" }, { on = { under = "5s" }, times = 3, within = "8d", to = "renew" },
    { on = { undr = "5s" }, times = 3, to = "renew" }, { on = { reason = "x" }, times = 3, to = "renew" }, { on = 1, times = 3, to = "renew" }, { on = { 1 }, times = 3, to = "renew" },
    { on = { under = "5s" }, times = 3, to = "stop", pace = { "1s", "2s" } }, 1,
  },
}

local options = {
  good = {
    { type = "string" }, { type = "secret", required = true, public = "^[^.]+" }, { type = "url", default = "https://a.example", many = true },
    { type = "integer", min = 0, max = 9, default = 3 }, { type = "number", default = 0.5 }, { type = "boolean", default = true },
    { type = "duration", min = "1s", default = "5s" }, { type = "table", default = {} }, { type = "string", one_of = { "a", "b" }, default = "a" },
    { type = "tune", at = "alive.ping" }, { type = "url", default = { "https://a.example", "https://b.example" }, many = true },
    { type = "url", default = "ws://127.0.0.1:1/" },
  },
  bad = {
    {}, 1, "string", { type = "strng" }, { type = 1 }, { type = "secret", default = "x" }, { type = "string", public = "^x" }, { type = "secret", public = "x" },
    { type = "secret", public = "^(x)" }, { type = "secret", public = "^x-" }, { type = "secret", public = "^" }, { type = "secret", public = 1 },
    { type = "string", required = true, default = "x" }, { type = "integer", default = 1.5 }, { type = "integer", default = 10, max = 9 },
    { type = "integer", min = "1" }, { type = "string", min = 1 }, { type = "duration", min = 1 }, { type = "duration", default = "5" },
    { type = "string", one_of = {} }, { type = "string", one_of = { 1 } }, { type = "string", one_of = { "a" }, default = "b" }, { type = "integer", one_of = { "a" } },
    { type = "url", default = "example.org" }, { type = "url", default = "http://example.org" }, { type = "url", default = { "https://a.example" } },
    { type = "tune", at = "prepare" }, { type = "tune", at = "alive.pong" }, { type = "tune", at = "alive.ping.x" }, { type = "tune" },
    { type = "string", at = "alive" }, { type = "string", requird = true }, { type = "table", many = true }, { type = "number", default = NAN },
    { type = "string", default = 1 }, { type = "boolean", default = "yes" }, { type = "string", about = 1 },
  },
}

local function show(v)
  if type(v) ~= "table" then return tostring(v) end
  local parts = {}
  for k, x in pairs(v) do parts[#parts + 1] = tostring(k) .. "=" .. show(x) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function errors_of(list)
  local errors = {}
  for _, p in ipairs(list) do
    if not p:find("^warning: ") then errors[#errors + 1] = p end
  end
  return errors
end

-- Some bad value has an error at the key itself or at what is inside it, never only elsewhere.
local function assert_named(path, value, list)
  local errors = errors_of(list)
  assert.is_true(#errors > 0, path .. " took " .. show(value))
  for _, e in ipairs(errors) do
    if e:sub(1, #path) == path then return e end
  end
  error(path .. " = " .. show(value) .. " is blamed on " .. table.concat(errors, "; "))
end

describe("a policy key", function()
  for path, case in pairs(keys) do
    it(path .. " takes its good values and names itself for each bad one", function()
      local with = case.with or (path:find "^beat%." and { on_beat = f }) or nil
      if path:find "^fetch%.a%.call" then with = { fetch = {} } end
      for _, value in ipairs(case.good) do
        local errors = errors_of((problems_with(path, value, with)))
        assert.same({}, errors, path .. " = " .. show(value))
      end
      for _, value in ipairs(case.bad) do
        -- Two numbers that exclude each other are blamed on the first of them.
        local list = problems_with(path, value, with)
        local blamed = path
        for _, pair in ipairs { { "alive.ping", "alive.silence" }, { "backoff.most", "backoff." }, { "slow.most", "slow." } } do
          if path == pair[1] and not table.concat(list, "\n"):find(path, 1, true) then blamed = pair[2] end
        end
        if path == "frames.codec" then blamed = "frames" end
        if path == "budgets.start.gap" then blamed = "budgets.start" end
        assert_named(blamed, value, list)
      end
    end)
  end

  it("is among the tested ones whenever the schema knows it", function()
    local covered = { beat = 1, limits = 1, sizes = 1, alive = 1, backoff = 1, slow = 1, budgets = 1, session = 1, retire = 1, close_code = 1, frames = 1, backlog = 1,
      classify = 1, climb = 1, options = 1 }
    local missing = {}
    for path, about in pairs(schema.keys()) do
      assert.is_string(about.about, path)
      local shape = path:gsub("fetch%.%*", "fetch.a")
      local inside = path:find "^classify%[%]" or path:find "^climb%[%]" or path:find "^options%.%*" or path:find "^frames%.%a+[%[.]"
        or path:find "^budgets%.%a+%." or path:find "^budgets%.%a+$"
      if not keys[shape] and not covered[shape] and not inside then missing[#missing + 1] = path end
    end
    assert.same({}, missing)
  end)

  it("is refused with the nearest known name when it is unknown", function()
    for path, wanted in pairs {
      ["backof"] = "backoff", ["backoff.frist"] = "first", ["alive.silense"] = "silence", ["frames.delivr"] = "deliver",
      ["limits.greting"] = "greeting", ["budgets.strat"] = "start", ["session.repaly"] = "replay", ["prepair"] = "prepare",
      ["on_end"] = "on_ended",
    } do
      local found
      for _, p in ipairs((problems_with(path, "1s"))) do
        if p:find(path .. ": unknown key; did you mean `" .. wanted .. "`?", 1, true) then found = true end
      end
      assert.is_true(found, path)
    end
  end)

  it("is refused with the list of known names when none is near", function()
    assert.same({ "slow.xyzzy: unknown key; known here: first, factor, most" }, (problems_with("slow.xyzzy", 1)))
  end)

  it("is refused as a position in a table of names", function()
    assert.same({ "slow[1]: a value without a name; this table has named keys only" }, (problems_with("slow", { "1s" })))
  end)
end)

describe("a row of classify", function()
  for i, value in ipairs(rows.good) do
    it("is taken: " .. i .. " " .. show(value), function()
      assert.same({}, (problems_with("classify", { value, any })))
    end)
  end
  for i, value in ipairs(rows.bad) do
    it("is refused: " .. i .. " " .. show(value), function()
      assert_named("classify[1]", value, (problems_with("classify", { value, any })))
    end)
  end

  it("may name the cause of an ends row, a cause of `as`, and a fetched value to drop", function()
    assert.same({}, (problems_with("classify", {
      { cause = "reconnect", verdict = "resume" }, { close = 4001, as = "moved", verdict = "resume" },
      { cause = "moved", verdict = "fresh", drop = "gateway" }, any,
    }, { frames = { take = take, ends = { { op = 7, cause = "reconnect" } } }, fetch = { gateway = { call = f } } })))
    local list = problems_with("classify", { { cause = "reconect", verdict = "resume", drop = "gatewy" }, any },
      { frames = { take = take, ends = { { op = 7, cause = "reconnect" } } }, fetch = { gateway = { call = f } } })
    assert.same({
      'classify[1].cause: no cause is named "reconect"; did you mean "reconnect"?',
      'classify[1].drop: no such name in fetch; did you mean "gateway"?',
    }, list)
  end)

  it("behind one that matches everything is warned about", function()
    assert.same({ "warning: classify[2]: is never reached: a row above matches everything" },
      (problems_with("classify", { any, { close = 4004, verdict = "stop" } })))
  end)

  local shadowed = {
    { { close = "4000-4999" }, { close = { 4004, "4010-4014" } } },
    { { close = { "4000-4009", "4010-4999" } }, { close = "4005-4015" } },
    { { by = { "peer", "network" } }, { by = "network", close = 1006 } },
    { { stage = { "greeting", "ready" } }, { stage = "ready", under = "5s" } },
    { { cause = { "refused", "reset" } }, { cause = "reset", stage = "ready" } },
    { { http = 401 }, { http = 401, reason = "token" } },
    { { http = 401, reason = "token" }, { http = 401, reason = "bad token" } },
    { { http = 429, header = { ["Via"] = "x" } }, { http = 429, header = { ["via"] = "x" }, session = true } },
    { { close = 1000, under = "10s" }, { close = 1000, under = "5s" } },
    { { session = true }, { session = true, code = 7 } },
  }
  local reached = {
    { { close = { "4000-4003", "4005-4999" } }, { close = "4000-4999" } },
    { { close = 4004 }, { by = "peer" } },
    { { by = "peer" }, { by = { "peer", "network" } } },
    { { stage = "ready" }, { stage = { "ready", "greeting" } } },
    { { cause = "refused" }, { cause = { "refused", "reset" } } },
    { { http = 401, reason = "bad token" }, { http = 401, reason = "token" } },
    { { http = 429, header = { ["Via"] = "x" } }, { http = 429, header = { ["Via"] = "y" } } },
    { { http = 429, header = { ["Via"] = "x" } }, { http = 429 } },
    { { close = 1000, under = "5s" }, { close = 1000, under = "10s" } },
    { { session = true, code = 7 }, { session = false, code = 7 } },
    { { code = 7 }, { close = 4004 } },
  }
  local function two(pair)
    local list = {}
    for i, row in ipairs(pair) do
      list[i] = { verdict = i == 1 and "resume" or "fresh" }
      for k, v in pairs(row) do list[i][k] = v end
    end
    list[3] = any
    return (problems_with("classify", list))
  end
  for i, pair in ipairs(shadowed) do
    it("that an earlier one takes all of is warned about: " .. i, function()
      assert.same({ "warning: classify[2]: is never reached: row 1 matches all of it" }, two(pair))
    end)
  end
  for i, pair in ipairs(reached) do
    it("that an earlier one takes only some of is not: " .. i, function() assert.same({}, two(pair)) end)
  end

  it("that matches everything is missed", function()
    assert.same({ 'warning: classify: no row matches everything: end with { any = true, verdict = "resume" }' },
      (problems_with("classify", { { close = 4004, verdict = "stop" } })))
  end)

  it("may stand alone without a list around it", function()
    assert.same({}, (problems_with("classify", any)))
    assert.same({}, (problems_with("climb", climbs.good[1])))
  end)
end)

describe("a row of climb", function()
  it("takes the good and names itself for each bad one", function()
    for _, value in ipairs(climbs.good) do assert.same({}, (problems_with("climb", { value }))) end
    for _, value in ipairs(climbs.bad) do assert_named("climb[1]", value, (problems_with("climb", { value }))) end
  end)

  it("is one of at most eight, because the engine keeps a counter each", function()
    local list = {}
    for i = 1, 9 do list[i] = climbs.good[1] end
    assert.same({ "climb: has 9 items, at most 8 are possible" }, (problems_with("climb", list)))
  end)
end)

describe("a declared option", function()
  local function with(row)
    return (problems_with("options", { token = { type = "secret" }, shard = { type = "integer" }, x = row }))
  end
  for i, value in ipairs(options.good) do
    it("is taken: " .. i .. " " .. show(value), function() assert.same({}, with(value)) end)
  end
  for i, value in ipairs(options.bad) do
    it("is refused: " .. i .. " " .. show(value), function() assert_named("options.x", value, with(value)) end)
  end
  it("cannot take a name that is holdfast's own", function()
    local list = problems_with("options", { token = { type = "secret" }, shard = { type = "integer" }, proxy = { type = "string" } })
    assert.same({ "options.proxy: the name is taken: it is holdfast's own key of a connection" }, list)
  end)
end)

describe("a whole policy", function()
  it("that is no table is refused in one sentence", function()
    for _, value in ipairs { 1, "x", true, f } do
      assert.same({ ": a policy file returns holdfast.policy { ... }" }, text.problems { policy = value })
    end
  end)

  it("names every mistake at once", function()
    local list = text.problems { policy = text.plain {
      alive = { ping = "45s", silence = "20s" }, backoff = { floor = "10ms", settle = "0s" }, classify = { { close = 1, verdict = "x" }, any }, foo = 1,
      prepare = "NIL",
    } }
    assert.equal(7, #list, table.concat(list, "\n"))
  end)

  it("never shows a secret's bytes", function()
    for path in pairs(keys) do
      for _, p in ipairs((problems_with(path, secret))) do assert.is_nil(p:find("hunter2", 1, true), p) end
    end
  end)
end)
