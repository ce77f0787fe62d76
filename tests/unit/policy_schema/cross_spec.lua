-- What must fit together across a policy's tables, and what is legal but unwise.
local text = require "policy_text"
local f = function() end

local take = { op = "op", id = "d.id" }
local answered = { every = "30s", answer = { op = 11 } }

local layout = { head = { 1, "map" }, body = { 2, "json" }, n = { 3, "int32" } }

local cases = {
  -- silence and pings
  { "silence as long as ping", { alive = { ping = "45s" } }, "alive.silence: silence (45s) must be longer than ping (45s), or a healthy link is killed" },
  { "silence that nothing may judge", { alive = { ping = false } }, "alive.silence: nothing may judge silence: we send no ping and the platform promised none" },
  { "silence that a promise lets judge", { alive = { ping = false, promised = true } } },
  { "a promise without silence", { alive = { silence = false, promised = true }, beat = answered, on_beat = f, frames = { take = take } },
    "alive.promised: needs alive.silence: how long may the promised keep-alives stay away?" },
  { "nothing that notices a dead peer", { alive = { ping = false, silence = false } }, "alive.silence: nothing would notice a dead peer: set silence, or beat with an answer" },
  { "beats alone that notice one", { alive = { ping = false, silence = false }, beat = answered, on_beat = f, frames = { take = take } } },
  -- beats
  { "beat without on_beat", { beat = { every = "30s" } }, "beat: needs on_beat, the function that yields the beat's frame" },
  { "on_beat without beat", { on_beat = f }, "warning: on_beat: is never called: there is no beat table" },
  { "dead without an answer to count", { beat = { every = "30s", dead = 2 }, on_beat = f }, "beat.dead: counts unanswered beats: name beat.answer" },
  { "settle under the beat", { beat = { every = "30s" }, on_beat = f, backoff = { settle = "29s" } },
    "warning: backoff.settle: a link settles before its first beat is answered; the interval is longer" },
  -- delays
  { "first above most", { backoff = { first = "2m" } }, "backoff.first: first is above most" },
  { "floor above most", { backoff = { floor = "2m" } }, "backoff.floor: floor is above most" },
  { "slow upside down", { slow = { first = "20m" } }, "slow.first: first is above most" },
  { "no jitter", { backoff = { jitter = "none" } }, "warning: backoff.jitter: without jitter all connections return at the same instant" },
  { "a delay that never grows", { backoff = { first = "500ms", factor = 1 } }, "warning: backoff.factor: the delay never grows and is under a second" },
  { "a call longer than prepare", { limits = { call = "31s" } }, "warning: limits.call: one call may take longer than limits.prepare allows" },
  { "retiring before settling", { retire = { after = "60s" } }, "retire.after: retires links before they settle, so that each counts as a failure" },
  -- budgets
  { "a budget of nothing", { budgets = { dial = {} } }, "budgets.dial: limits nothing: give it windows or gap" },
  { "beats that leave no sends", { budgets = { send = { windows = { { 100, "1m" }, { 5, "1s" } }, beats = 5 } }, beat = { every = "30s" }, on_beat = f },
    "budgets.send.beats: leaves no send for anything but beats" },
  { "sends kept for no beats", { budgets = { send = { windows = { 100, "1m" }, beats = 5 } } }, "warning: budgets.send.beats: keeps sends free for beats that nobody sends" },
  { "a longer window that is tighter", { budgets = { call = { windows = { { 5, "1s" }, { 4, "1m" } } } } }, "warning: budgets.call.windows: the longer window allows less than the shorter one" },
  { "beats in a budget that has none", { budgets = { dial = { gap = "1s", beats = 1 } } }, "budgets.dial.beats: unknown key; known here: windows, gap, operators" },
  -- frames
  { "on_frame that sees nothing", { on_frame = f }, "warning: on_frame: is never called: frames.inspect names no frame" },
  { "inspect that nobody reads", { frames = { take = take, inspect = { op = 7 } } }, "warning: frames.inspect: nobody looks: there is no on_frame" },
  { "remember without a session", { frames = { take = take, remember = { id = "id" } }, session = "NIL" }, "frames.remember: needs the session table: it fills conn.session" },
  { "an order that nobody remembers", { frames = { take = take, follows = { by = "id" } } },
    "frames.follows.by: needs frames.remember to keep it: it is compared with what was remembered" },
  { "an order over two links", { frames = { take = take, remember = { id = "id" }, follows = { by = "id" } }, overlap = 1 },
    "frames.follows: excludes overlap = 1: two links would count in one session" },
  { "an acknowledgement that nobody makes", { frames = { take = take, ack = { when = "early" } } }, "frames.ack: needs `frame`, `echo` or the function on_ack" },
  { "two that make it", { frames = { take = take, ack = { when = "early", frame = "{}" } }, on_ack = f }, "frames.ack.frame: excludes on_ack: one of them makes the frame" },
  { "a row that nobody makes", { frames = { take = take, ack = { { on = { op = 1 }, when = "early", frame = "{}" }, { when = "early" } } } },
    "frames.ack[2]: needs `frame`, `echo` or the function on_ack" },
  { "one row made by on_ack and one by its own frame", { frames = { take = take, ack = { { on = { op = 1 }, when = "early", frame = "{}" }, { when = "early" } } }, on_ack = f } },
  { "rows that all have a frame, and on_ack", { frames = { take = take, ack = { { on = { op = 1 }, when = "early", frame = "{}" } } }, on_ack = f },
    "frames.ack[1].frame: excludes on_ack: one of them makes the frame" },
  { "a row behind one for every frame", { frames = { take = take, ack = { { when = "early", frame = "{}" }, { on = { op = 1 }, when = "none" } } } },
    "warning: frames.ack[2]: is never reached: a row above has no `on`, so it is for every frame" },
  { "a row through nobody's deadline", { frames = { take = take, ack = { { on = { op = 1 }, when = "through", frame = "{}" } } } },
    "frames.ack[1].when: \"through\" needs `within`, the platform's deadline" },
  { "on_ack that nothing calls", { on_ack = f }, "warning: on_ack: is never called: frames.ack.when is not set" },
  { "bytes with fields", { frames = { codec = "bytes", take = take } }, "frames.codec: nothing can be taken out of bytes; remove frames.take" },
  { "bytes alone", { frames = { codec = "bytes" } } },
  -- binary messages
  { "protobuf without a layout", { frames = { codec = "protobuf", take = take } }, "frames.codec: \"protobuf\" needs frames.layout: which fields a message has" },
  { "a layout for JSON", { frames = { layout = layout } }, "frames.layout: belongs to codec = \"protobuf\"" },
  { "an echo", { frames = { codec = "protobuf", layout = layout, ack = { when = "early", echo = { body = "{}", head = { a = "1" } } } } } },
  { "an echo of JSON", { frames = { ack = { when = "early", echo = { body = "{}" } } } }, "frames.ack.echo.body: needs frames.layout" },
  { "an echo of a field that is not there", { frames = { codec = "protobuf", layout = layout, ack = { when = "early", echo = { bdy = "{}" } } } },
    "frames.ack.echo.bdy: no such field in frames.layout; did you mean \"body\"?" },
  { "an echo of a number", { frames = { codec = "protobuf", layout = layout, ack = { when = "early", echo = { n = "1" } } } },
    "frames.ack.echo.n: is of the kind int32; only text and maps can be changed" },
  { "an echo with what is no JSON", { frames = { codec = "protobuf", layout = layout, ack = { when = "early", echo = { body = "{" } } } }, "frames.ack.echo.body: is no valid JSON" },
  { "an echo that gives a map a text", { frames = { codec = "protobuf", layout = layout, ack = { when = "early", echo = { head = "x" } } } },
    "frames.ack.echo.head: expected { name = \"text\" }, got \"x\"" },
  { "an echo beside a frame", { frames = { codec = "protobuf", layout = layout, ack = { when = "early", frame = "{}", echo = { body = "{}" } } } },
    "frames.ack.frame: excludes `echo`" },
  { "a reply into an echo", { frames = { codec = "protobuf", layout = layout, ack = { when = "through", within = "3s", echo = { body = "{}" }, reply = { body = '["@reply_base64"]' } } } } },
  { "a reply that says nothing of the answer", { frames = { codec = "protobuf", layout = layout, ack = { when = "through", within = "3s", echo = { body = "{}" }, reply = { body = '["@rply"]' } } } },
    "frames.ack.reply: says nowhere \"@reply\" or \"@reply_base64\", for what the consumer answers" },
  { "a reply that nobody waits for", { frames = { codec = "protobuf", layout = layout, ack = { when = "early", echo = { body = "{}" }, reply = { body = '"@reply"' } } } },
    "frames.ack.reply: is for when = \"through\" with `echo`" },
  { "a reply into a map", { frames = { codec = "protobuf", layout = layout, ack = { when = "through", within = "3s", echo = { body = "{}" }, reply = { head = '"@reply"' } } } },
    "frames.ack.reply: is of the kind map; a reply goes into a field that is JSON" },
  { "parts of JSON", { frames = { take = take, join = { by = "id", index = "op", count = "kind", of = "body" } } }, "frames.join", somewhere = true },
  { "answers within a time that nobody gives", { beat = { every = "30s", within = "5s" }, on_beat = f }, "beat.within: waits for answers: name beat.answer" },
  -- backlog
  { "holding longer than silence", { backlog = { full = "hold", hold_for = "45s" } }, "backlog.hold_for: must be shorter than alive.silence, or holding looks like death" },
  { "holding longer than a beat", { backlog = { full = "hold", hold_for = "6s" }, beat = { every = { "30s", "5s", "60s" } }, on_beat = f },
    "backlog.hold_for: must be shorter than the least beat interval, or beats go unanswered" },
  { "dropping, whatever hold_for says", { backlog = { hold_for = "50m" } } },
  -- whole tables
  { "no hosts", { hosts = "NIL" }, "warning: hosts: is missing, and no option is a url: it may dial nowhere" },
  { "no hosts but an address to set", { hosts = "NIL", options = { token = { type = "secret" }, shard = { type = "integer" }, url = { type = "url" } } } },
  { "no identity", { identity = "NIL" }, "warning: identity: is missing: two connections with one token go unnoticed" },
  { "no classify", { classify = "NIL" }, "warning: classify: is missing: every ending is taken as \"resume\"" },
  { "no prepare", { prepare = "NIL" }, "prepare: is missing: a function that yields the address to dial" },
  { "no platform", { platform = "NIL" }, "platform: is missing: the platform's name" },
  { "a key that looks like a known one but for a NUL", { ["slow\0x"] = {} }, "slow: unknown key; did you mean `slow`?" },
  { "more than eight fetches", { fetch = { a = { call = f }, b = { call = f }, c = { call = f }, d = { call = f }, e = { call = f }, g = { call = f }, h = { call = f },
    i = { call = f }, j = { call = f } } }, "at most 8 fetches are possible", somewhere = true },
}

describe("a policy with", function()
  for _, case in ipairs(cases) do
    it(case[1] .. (case[3] and " is told so" or " is fine"), function()
      local problems = text.problems { policy = text.plain(case[2]) }
      if case.somewhere then -- which of the names came last is not defined
        assert.is_true(#problems >= 1)
        assert.truthy(problems[1]:find(case[3], 1, true), problems[1])
      else
        assert.same({ case[3] }, problems)
      end
    end)
  end
end)
