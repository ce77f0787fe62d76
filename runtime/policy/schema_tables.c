/* The keys of a policy file: names, types, bounds, defaults, and a sentence each. The one
 * description for check, build, `tune` and the reference. Order: that of reading; only `fetch` and
 * `frames` stand before what refers to them. */
#include "policy/schema_internal.h"

#define SECOND 1000.0
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB 1024.0
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* Where a value goes: a member of policy_shape, or of the row that is being filled. */
#define IN(type, member) offsetof(struct type, member), sizeof(((struct type *)0)->member)
#define PLAN(member) IN(policy_shape, plan.member)
#define BUDGET(member) IN(budget_plan, member)

#define END { .name = NULL }
#define TABLE(name, rows, text) { name, KEY_TABLE, .keys = rows, .about = text }
#define LIMIT(name, member, default_text, text)                                                   \
    { name, KEY_DURATION, 0, 10, HOUR, NULL, NULL, NULL, PLAN(limits_ms.member), default_text, text }
#define MS(name, least, most, place, default_text, text)                                          \
    { name, KEY_DURATION, 0, least, most, NULL, NULL, NULL, place, default_text, text }
#define NUMBER(name, least, most, place, default_text, text)                                      \
    { name, KEY_NUMBER, 0, least, most, NULL, NULL, NULL, place, default_text, text }
#define INTEGER(name, least, most, place, default_text, text)                                     \
    { name, KEY_INTEGER, 0, least, most, NULL, NULL, NULL, place, default_text, text }
#define WORD(name, list, place, default_text, text)                                               \
    { name, KEY_WORD, 0, 0, 0, list, NULL, NULL, place, default_text, text }
#define SIZE(name, least, most, place, default_text, text)                                        \
    { name, KEY_SIZE, 0, least, most, NULL, NULL, NULL, place, default_text, text }
#define BOOL(name, place, default_text, text)                                                     \
    { name, KEY_BOOL, 0, 0, 0, NULL, NULL, NULL, place, default_text, text }
#define CUSTOM(name, function, text) { name, KEY_CUSTOM, .custom = function, .about = text }
#define HOOK(name, place, text)                                                                   \
    { name, KEY_FUNCTION, KEY_FIXED, 0, 0, NULL, NULL, NULL, place, NULL, text }

static const char *const jitter_words[] = { "none", "full", "equal", NULL };
static const char *const first_words[] = { "spread", "at_once", "after", NULL };
static const char *const replay_words[] = { "session", "unacked", "none", NULL };
static const char *const full_words[] = { "drop_oldest", "hold", NULL };

_Static_assert(JITTER_EQUAL == 2 && BEAT_AFTER == 2 && REPLAY_NONE == 2 && BACKLOG_HOLD == 1,
               "the words stand in the order of their enumerators");

static const struct key limits[] = {
    LIMIT("prepare", prepare, "30s", "for everything that happens before a dial"),
    LIMIT("call", call, "10s", "for one HTTP call"),
    LIMIT("resolve", resolve, "5s", "for looking the host's name up"),
    LIMIT("connect", connect, "10s", "for the TCP connection, all addresses together"),
    LIMIT("secure", secure, "10s", "for the TLS handshake"),
    LIMIT("upgrade", upgrade, "10s", "for the answer to the WebSocket upgrade"),
    LIMIT("greeting", greeting, "20s", "for the platform's handshake after the upgrade"),
    LIMIT("close", close, "1s", "for the peer's close frame after ours"),
    LIMIT("drain", drain, "30s", "for the old link in a handover"),
    END,
};

static const struct key sizes[] = {
    SIZE("message", KIB, GIB, IN(policy_shape, rules.message_bytes_max), "64MiB",
         "largest message taken, decompressed"),
    SIZE("send", 16, 64 * MIB, IN(policy_shape, rules.send_bytes_max), "1MiB",
         "largest message sent"),
    END,
};

static const struct key alive[] = {
    { "ping", KEY_DURATION, KEY_OFF, 500, HOUR, NULL, NULL, NULL, PLAN(ping_ms), "20s",
      "send a ping when nothing came for so long; false: send none" },
    { "silence", KEY_DURATION, KEY_OFF, SECOND, DAY, NULL, NULL, NULL, PLAN(silence_ms), "45s",
      "not one byte for so long proves death, once a ping went unanswered or keep-alives are promised" },
    BOOL("promised", PLAN(promised), "false", "the platform promised to ping us"),
    END,
};

static const struct key beat[] = {
    { "every", KEY_CUSTOM, KEY_REQUIRED, .custom = schema__beat_every,
      .about = "the interval, or { usual, least, most } where the platform says it; beats of many links go out "
               "together, for which one may come early by 1/128 of it, 256 ms at most" },
    WORD("first", first_words, PLAN(beat.first), "spread",
         "spread: a random part of the interval after ready; at_once; after: one interval"),
    CUSTOM("asked", schema__beat_asked, "frames by which the platform asks for a beat"),
    CUSTOM("answer", schema__beat_answer, "frames that answer a beat"),
    MS("within", 500, HOUR, PLAN(beat.within_ms), "until the next is due",
       "so long an answer may take; without one the link is judged then, not only at the next beat"),
    INTEGER("dead", 1, 10, PLAN(beat.dead), "1", "so many unanswered in a row prove death"),
    END,
};

static const struct key backoff[] = {
    MS("first", 1, HOUR, PLAN(backoff.first_ms), "1s", "the first delay after a failure"),
    NUMBER("factor", 1, 10, PLAN(backoff.factor), "2", "each delay is so many times the last"),
    MS("most", 1, DAY, PLAN(backoff.most_ms), "60s", "the longest delay"),
    MS("floor", PLAN_FLOOR_MS_MIN, HOUR, PLAN(backoff.floor_ms), "250ms",
       "the least time between two attempts"),
    WORD("jitter", jitter_words, PLAN(backoff.jitter), "full",
         "full: 0 to the delay; equal: its half to the whole; none"),
    MS("settle", SECOND, DAY, PLAN(backoff.settle_ms), "60s",
       "ready for so long without a break resets the counters"),
    END,
};

static const struct key slow[] = {
    MS("first", SECOND, DAY, PLAN(slow.first_ms), "60s", "the first slow delay"),
    NUMBER("factor", 1, 10, PLAN(slow.factor), "2", "each slow delay is so many times the last"),
    MS("most", SECOND, DAY, PLAN(slow.most_ms), "10m", "the longest slow delay"),
    END,
};

#define BUDGET_KEYS                                                                               \
    CUSTOM("windows", schema__budget_windows,                                                     \
           "{ count, duration }, or a list of at most four: no more than count in any such time"), \
    MS("gap", 0, HOUR, BUDGET(gap_ms), "0s", "least time between two"),                           \
    CUSTOM("operators", schema__budget_share, "the share kept for people, \"10%\"; at most 50%")

static const struct key budget_start[] = {
    BUDGET_KEYS,
    CUSTOM("frame", schema__start_frame, "outbound frames that start a session"),
    CUSTOM("lane", schema__lane, "name of an integer option: the gap holds within one lane"),
    END,
};
static const struct key budget_plain[] = { BUDGET_KEYS, END };
static const struct key budget_send[] = {
    BUDGET_KEYS,
    INTEGER("beats", 0, 1000, BUDGET(beats), "0", "sends kept free for on_beat"),
    END,
};

#define BUDGET_TABLE(name, kind, rows, text)                                                      \
    { name, KEY_TABLE, .keys = rows, .at = offsetof(struct policy_shape, plan.budgets[kind]),     \
      .width = sizeof(struct budget_plan), .about = text }
static const struct key budgets[] = {
    BUDGET_TABLE("start", BUDGET_START, budget_start, "session starts; a permit is kept on disk"),
    BUDGET_TABLE("dial", BUDGET_DIAL, budget_plain, "dials"),
    BUDGET_TABLE("call", BUDGET_CALL, budget_plain, "HTTP calls of an account; one over it fails with the name budget"),
    BUDGET_TABLE("send", BUDGET_SEND, budget_send, "frames sent on one link"),
    END,
};

static const struct key session[] = {
    CUSTOM("of", schema__option_names, "a stored session is valid for the same values of these only"),
    MS("age", SECOND, 30 * DAY, PLAN(session.age_ms), "no bound",
       "one that was last in use longer ago is not resumed"),
    MS("life", MINUTE, 30 * DAY, PLAN(session.life_ms), "no bound",
       "one that began longer ago is not resumed; kept as `begun` in conn.session"),
    WORD("replay", replay_words, PLAN(session.replay), "none",
         "what the platform sends again after a resume: session, unacked, none"),
    MS("replay_for", SECOND, 30 * DAY, PLAN(session.replay_for_ms), "no bound",
       "it sends again what is no older: a break that was longer is a gap"),
    END,
};

static const struct key retire[] = {
    { "after", KEY_DURATION, KEY_REQUIRED, MINUTE, 30 * DAY, NULL, NULL, NULL,
      PLAN(retire_after_ms), "never", "replace a healthy link of this age" },
    NUMBER("jitter", 0, 0.9, PLAN(retire_jitter), "0", "share of `after` that is drawn"),
    END,
};

static const struct key close_code[] = {
    { "keep", KEY_CUSTOM, .custom = schema__close_code, PLAN(close_keep), .standard = "4000",
      .about = "sent when the session shall stay alive" },
    { "final", KEY_CUSTOM, .custom = schema__close_code, PLAN(close_final), .standard = "1000",
      .about = "sent when it shall end" },
    END,
};

static const struct key backlog[] = {
    SIZE("most", KIB, 64 * GIB, PLAN(backlog.bytes_max), "64MiB", "bytes held for consumers"),
    MS("age", SECOND, 90 * DAY, PLAN(backlog.age_ms), "24h", "older frames are dropped"),
    WORD("full", full_words, PLAN(backlog.full), "drop_oldest",
         "drop_oldest, with a gap; hold: stop reading for hold_for"),
    MS("hold_for", 100, HOUR, PLAN(backlog.hold_ms), "10s", "how long `hold` may stop reading"),
    END,
};

const struct key schema__root[] = {
    { "platform", KEY_NAME, KEY_REQUIRED | KEY_FIXED, 0, 0, NULL, NULL, NULL, PLAN(platform), NULL,
      "the platform's name" },
    { "about", KEY_TEXT, KEY_FIXED, 0, 1000, NULL, NULL, NULL, 0, 0, NULL,
      "where the numbers come from" },
    { "options", KEY_CUSTOM, KEY_FIXED | KEY_NAMED, .custom = schema__options, .keys = schema__option_row,
      .about = "what a connection sets" },
    { "identity", KEY_CUSTOM, KEY_FIXED, .custom = schema__option_names,
      .about = "the options that say whom the platform sees" },
    { "account", KEY_CUSTOM, KEY_FIXED, .custom = schema__option_names,
      .about = "the options that say whose budgets these are" },
    CUSTOM("hosts", schema__hosts, "where it may call or dial"),
    TABLE("limits", limits, "a deadline for every stage"),
    TABLE("sizes", sizes, "sizes of messages"),
    TABLE("alive", alive, "proof of life of the transport"),
    TABLE("backoff", backoff, "the delays between attempts"),
    TABLE("slow", slow, "the delays of the slow pace"),
    TABLE("session", session, "sessions that can be resumed"),
    INTEGER("overlap", 0, 1, PLAN(overlap), "0", "1: a planned handover may hold two links"),
    TABLE("retire", retire, "planned replacement of a healthy link"),
    TABLE("close_code", close_code, "the codes that we close with"),
    TABLE("frames", schema__frames, "what messages are"),
    TABLE("beat", beat, "the platform's own heartbeat"),
    TABLE("budgets", budgets, "limits over sliding windows"),
    TABLE("backlog", backlog, "what is held for consumers"),
    { "fetch", KEY_CUSTOM, KEY_NAMED, .custom = schema__fetch, .keys = schema__fetch_row,
      .about = "cached values that HTTP yields, by name" },
    { "classify", KEY_CUSTOM, .custom = schema__classify, .keys = schema__classify_row,
      .about = "what an ending means; the first match wins" },
    { "climb", KEY_CUSTOM, .custom = schema__climb, .keys = schema__climb_row,
      .about = "what repeated endings mean" },
    { "prepare", KEY_FUNCTION, KEY_REQUIRED | KEY_FIXED,
      .about = "a function that yields the address to dial" },
    HOOK("greet", PLAN(has_greet), "the platform's handshake; its end means ready"),
    HOOK("on_beat", PLAN(has_on_beat), "yields the beat's frame"),
    HOOK("on_frame", PLAN(has_on_frame), "sees the frames of frames.inspect"),
    HOOK("on_ended", PLAN(has_on_ended), "a verdict, or nothing: then the tables decide"),
    { "on_ack", KEY_FUNCTION, KEY_FIXED, .about = "yields the acknowledgement of a frame" },
    { "every", KEY_CUSTOM, KEY_FIXED, .custom = schema__every, .about = "tasks while ready" },
    END,
};
