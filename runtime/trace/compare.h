/* Compare: a trace played with its own policy and, side by side, with another one, until they part. */
#ifndef HOLDFAST_TRACE_COMPARE_H
#define HOLDFAST_TRACE_COMPARE_H

#include "trace/replay.h"

#define PARTED_TEXT_MAX 400

enum parted {
    PARTED_NEVER,
    PARTED_EFFECT,  /* a step has another effect, one more, or one less */
    PARTED_HOOK,    /* a hook does something else, or asks for what nobody recorded */
    PARTED_EARLIER, /* the other would have acted before anything came */
    PARTED_REFUSED, /* it cannot go on: it refuses the settings, or does not load; `is` says why */
};

struct comparison {
    enum parted parted;
    struct clock at;
    uint64_t number;             /* of the step; HOOK: of the one before */
    enum event_kind event;       /* EFFECT */
    bool has_was, has_is;        /* EFFECT */
    struct effect was_effect, is_effect;
    enum hook hook;              /* HOOK */
    char name[PLAN_NAME_MAX];    /* of it; "" */
    uint64_t earlier_ms;         /* EARLIER: so long before */
    char was[PARTED_TEXT_MAX], is[PARTED_TEXT_MAX]; /* HOOK, EARLIER: in words */
    char was_file[256], is_file[256];
    struct replay_totals totals; /* of the own policy */
};

/* What a policy decided; of the other one when there is one. Borrowed until return. */
typedef void compare_decided(void *self, const struct decision *d, const struct clock *at, const char *file);

/* One effect in words: "decides resume after 1200 ms (policies/discord.lua:72): closed 4000". `fx` NULL: nothing. */
const char *effect_words(const struct effect *fx, const char *file, char out[PARTED_TEXT_MAX]);
/* "resume", "fresh", "renew", "slow" or "stop": the stronger part. Static. */
const char *decision_verdict(const struct decision *d);

/* `other`: path of a policy; NULL: the trace's own alone. `decided` may be NULL. False with a sentence: the
 * trace is broken, or the other policy does not load. */
bool replay_compare(const struct trace_file *trace, const char *other, const char *lua_path,
                    compare_decided *decided, void *self, struct comparison *out, char *why, size_t why_bytes);

#endif
