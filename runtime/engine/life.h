/* Life: is the peer of a serving link there? The one rule that status, metrics and alarms use; the stall
 * detector (stall.c) ends links by its own limits and does not ask here. Pure: facts in, verdict and its
 * evidence in words out.
 *
 * Glossary
 *   proof    whatever only a living peer sends: any byte, a pong, a beat's answer.
 *   alive    it proved itself, and events came lately.
 *   quiet    it proved itself, or nobody asked it to; no event came for a while. Never a reason to worry.
 *   suspect  it owes an answer for longer than it usually takes, or the kernel repeats itself in vain.
 *   dead     the limits for its answers have passed, or no link serves.
 *
 * To add a sign: a fact below, one branch in life.c, one line in tests/unit/life/life_spec.lua. */
#ifndef HOLDFAST_ENGINE_LIFE_H
#define HOLDFAST_ENGINE_LIFE_H

#include <stdbool.h>
#include <stdint.h>

#define LIFE_MAP(X) X(ALIVE, "alive") X(QUIET, "quiet") X(SUSPECT, "suspect") X(DEAD, "dead")

enum life_verdict {
#define X(name, text) LIFE_##name,
    LIFE_MAP(X)
#undef X
    LIFE_COUNT
};

#define LIFE_QUIET_MS 60000  /* without an event */
#define LIFE_OWES_MS 5000    /* an answer that takes longer is late, unless the usual one takes a quarter of it */
#define LIFE_REPEATS_MIN 2   /* of the kernel, for the same bytes: one is everyday loss */
#define LIFE_TEXT_MAX 200

/* Instants are of the monotonic clock, 0: never. */
struct life_facts {
    uint64_t now_ms;
    bool up;                    /* a link serves */
    const char *down;           /* otherwise: what it does instead, in words; borrowed until return */
    uint64_t ready_ms;          /* when the link became ready */
    uint64_t last_byte_ms;
    uint64_t last_event_ms;     /* of any link */
    bool event_here;            /* it, or one before it, came by this link: maybe within the greeting, before it was ready */
    uint64_t last_pong_ms, last_answer_ms; /* answer: of a beat */
    uint64_t ping_since_ms;     /* pings since then are unanswered, as far as the engine was told */
    uint64_t beat_since_ms;     /* a beat sent then is unanswered */
    uint64_t beat_due_ms;       /* and judged then */
    uint32_t beats_missed, beats_dead; /* in a row so far; so many prove death */
    uint64_t silence_ms;        /* the limit without a byte; 0: none */
    uint64_t silence_due_ms;    /* when the engine judges it; UINT64_MAX: never */
    bool promised;              /* the peer promised to send by itself */
    bool round_trip_known;
    uint64_t round_trip_ms;     /* of the last answered probe */
    uint64_t loop_delay_ms;     /* worst of late: our own lateness is nobody else's */
    bool paused;                /* we do not read: what it sent waits in the kernel */
    bool kernel;                /* the two below are known */
    uint32_t kernel_repeats;    /* of the oldest unacknowledged bytes, in a row */
    uint32_t kernel_unacked;    /* segments */
};

struct life {
    enum life_verdict verdict;
    char evidence[LIFE_TEXT_MAX]; /* one line, no end; never empty */
};

void life_judge(const struct life_facts *f, struct life *out);
/* The same without the evidence, at a fraction of the time. */
enum life_verdict life_verdict(const struct life_facts *f);
const char *life_name(enum life_verdict v);

#endif
