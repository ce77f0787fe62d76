-- The rule of life.h as a table. All instants in seconds; `now` is 10000 s unless a row says otherwise.
local life = require "unit.life"

local NOW = 10000

local function judge(row)
  local facts = { now = (row.now or NOW) * 1000 }
  for _, key in ipairs { "ready", "byte", "event", "pong", "answer", "ping_since", "beat_since", "beat_due", "silence", "silence_due", "loop_delay" } do
    if row[key] then facts[key] = row[key] * 1000 end
  end
  for _, key in ipairs { "down", "elsewhere", "missed", "dead", "promised", "paused", "repeats", "unacked", "round_trip" } do facts[key] = row[key] end
  return life.judge(facts)
end

-- what it is, facts, verdict, a part of the evidence
local TABLE = {
  { "an event a moment ago", { ready = 1, byte = 9999, event = 9999 }, "alive", "an event 1.0s ago; last byte 1.0s ago" },
  { "fresh and without an event", { ready = 9990, byte = 9991 }, "alive", "no event yet, up for 10s" },
  { "an event of the link before does not count as this one's", { ready = 9990, byte = 9991, event = 9000, elsewhere = true }, "alive", "no event yet, up for 10s" },
  { "an event of the greeting, a millisecond before it was ready", { ready = 9990, byte = 9991, event = 9989.999 }, "alive", "an event 10s ago" },
  { "the greeting's event alone, long ago", { ready = 100, byte = 9999, event = 99 }, "quiet", "an event 2h 45m ago" },
  { "no event for a minute", { ready = 1, byte = 9999, event = 9940 }, "quiet", "an event 1m 0s ago" },
  { "no event for a millisecond less", { ready = 1, byte = 9999, event = 9940.001 }, "alive", "an event 59s ago" },
  { "never an event, beats answered", { ready = 1, byte = 9990, answer = 9990 }, "quiet", "no event yet, up for 2h 46m; a beat was answered 10s ago" },
  { "24 quiet hours, pings answered", { now = 90000, ready = 1, byte = 89990, pong = 89990 }, "quiet", "a ping was answered 10s ago" },
  { "24 quiet hours without any probe", { now = 90000, ready = 1, byte = 2 }, "quiet", "last byte 1d 0h ago" },
  { "quiet for hours with silence judged never", { ready = 1, byte = 2, silence = 45 }, "quiet", "" },
  { "a ping on its way", { ready = 1, byte = 9990, ping_since = 9998 }, "quiet", "" },
  { "a ping that is just as late as it may be", { ready = 1, byte = 9990, ping_since = 9995 }, "quiet", "" },
  { "a ping that is late", { ready = 1, byte = 9990, ping_since = 9994.999 }, "suspect", "a ping is unanswered for 5.0s" },
  { "a late ping, and a byte since", { ready = 1, byte = 9999, ping_since = 9990 }, "quiet", "last byte 1.0s ago" },
  { "a byte in the ping's own millisecond answers nothing", { ready = 1, byte = 9990, ping_since = 9990 }, "suspect", "a ping is unanswered for 10s" },
  { "a late ping on a way of seconds", { ready = 1, byte = 9980, ping_since = 9990, round_trip = 3000 }, "quiet", "" },
  { "a ping later than four such ways", { ready = 1, byte = 9980, ping_since = 9987, round_trip = 3000 }, "suspect", "usual is 3000 ms" },
  { "a late ping of a loop that was late itself", { ready = 1, byte = 9980, ping_since = 9992, loop_delay = 4 }, "quiet", "" },
  { "a late ping while we do not read", { ready = 1, byte = 9900, ping_since = 9910, paused = true }, "quiet", "we do not read now" },
  { "a ping on a fast way that is later than four such ways", { ready = 1, byte = 9990, ping_since = 9998, round_trip = 20 }, "quiet", "" },
  { "a ping that is late by less than four ways of a second and a half", { ready = 1, byte = 9980, ping_since = 9994.5, round_trip = 1500 }, "quiet", "" },
  { "a ping within five seconds on a way of one", { ready = 1, byte = 9980, ping_since = 9995.5, round_trip = 1000 }, "quiet", "" },
  { "a beat on its way", { ready = 1, byte = 9998, event = 9998, beat_since = 9999, beat_due = 10040 }, "alive", "" },
  { "a beat that is late, though other bytes come", { ready = 1, byte = 9999, event = 9999, beat_since = 9990, beat_due = 10031 }, "suspect", "a beat is unanswered for 10s" },
  { "a beat after one that was missed", { ready = 1, byte = 9999, beat_since = 9999, beat_due = 10040, missed = 1, dead = 2 }, "suspect", "1 before it too" },
  { "the last beat that may be missed is over", { ready = 1, byte = 9958, beat_since = 9958, beat_due = 9999 }, "dead", "1 beat unanswered, the last for 42s" },
  { "the same, of three that may be missed", { ready = 1, byte = 9958, beat_since = 9958, beat_due = 9999, dead = 3 }, "suspect", "a beat is unanswered for 42s" },
  { "the third of three", { ready = 1, byte = 9958, beat_since = 9958, beat_due = 9999, missed = 2, dead = 3 }, "dead", "3 beats unanswered" },
  { "over the beat's limit by no more than our own lateness", { ready = 1, byte = 9958, beat_since = 9958, beat_due = 9999, loop_delay = 1 }, "suspect", "" },
  { "silence over its limit", { ready = 1, byte = 9950, ping_since = 9970, silence = 45, silence_due = 9995 }, "dead", "not one byte for 50s: over the limit of 45s" },
  { "silence that is just as long as its limit", { ready = 1, byte = 9955, ping_since = 9975, silence = 45, silence_due = 9999 }, "dead", "not one byte for 45s" },
  { "silence over its limit, but a byte came since", { ready = 1, byte = 9999, event = 9999, silence = 45, silence_due = 9995 }, "alive", "" },
  { "silence while we do not read", { ready = 1, byte = 9950, silence = 45, silence_due = 9995, paused = true }, "quiet", "waits in the kernel" },
  { "a promised keep-alive well within its time", { ready = 1, byte = 9970, silence = 45, silence_due = 10015, promised = true }, "quiet", "" },
  { "a promised keep-alive in its last quarter", { ready = 1, byte = 9965, silence = 45, silence_due = 10010, promised = true }, "suspect", "the promised keep-alive is late: nothing for 35s of 45s" },
  { "a promised keep-alive that three quarters of its time went by without", { ready = 1, byte = 9966.25, silence = 45, silence_due = 10011, promised = true }, "quiet", "" },
  { "a promised keep-alive a millisecond later", { ready = 1, byte = 9966.249, silence = 45, silence_due = 10011, promised = true }, "suspect", "nothing for 33s of 45s" },
  { "a kernel that repeats itself a second time, of how much is not known", { ready = 1, byte = 9999, event = 9999, repeats = 2 }, "suspect", "the kernel sent 1 segment again, 2 times in a row" },
  { "a kernel that repeats itself once", { ready = 1, byte = 9999, event = 9999, repeats = 1, unacked = 1 }, "alive", "" },
  { "a kernel that repeats itself in vain", { ready = 1, byte = 9999, event = 9999, repeats = 3, unacked = 2 }, "suspect", "the kernel sent 2 segments again, 3 times in a row" },
  { "no link at all", { down = "waiting for 3s", byte = 9999, event = 9999 }, "dead", "no link serves: waiting for 3s" },
}

describe("the verdict about a peer", function ()
  for _, row in ipairs(TABLE) do
    it("is `" .. row[3] .. "` with " .. row[1], function ()
      local verdict, evidence = judge(row[2])
      assert.equal(row[3], verdict, evidence)
      assert.is_truthy(evidence:find(row[4], 1, true), evidence)
    end)
  end

  it("always has evidence of one line, as long as there is", function ()
    local _, evidence = judge { ready = 1, byte = 1, beat_since = 2, missed = 100000, dead = 4000000000, ping_since = 3, promised = true,
                                silence = 45, repeats = 4000000000, unacked = 4000000000, round_trip = 1e15 }
    assert.is_true(#evidence > 100 and #evidence < 200)
    assert.is_nil(evidence:match "[%c]")
  end)

  it("is cut at the end of its room, wherever that falls, and never written past it", function ()
    local longest = 0
    for digits = 0, 9 do
      for more = 0, 14 do
        local _, evidence = judge { ready = 1, byte = 1, beat_since = 2, missed = 1, dead = 4000000000, ping_since = 3, promised = true, silence = 45,
                                    repeats = 10 ^ digits + 1, unacked = 10 ^ digits, round_trip = 10 ^ more, answer = 5 }
        longest = math.max(longest, #evidence)
        assert.is_true(#evidence < 200)
      end
    end
    assert.equal(199, longest)
  end)

  -- Whatever else is true: without a probe that is late, a promise that is, or a kernel that says so, no
  -- length of silence is held against the peer.
  it("is never `suspect` or `dead` by quiet alone", function ()
    for quiet = 1, 100000, 997 do
      for _, limit in ipairs { 0, 45, 100 } do
        local verdict = judge { now = 200000, ready = 1, byte = 200000 - quiet, event = 200000 - quiet, silence = limit, round_trip = 20 }
        assert.is_true(verdict == "alive" or verdict == "quiet", verdict .. " after " .. quiet)
      end
    end
  end)
end)
