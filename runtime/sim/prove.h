/* Prove: plays schedules of faults against a policy file, in worlds of its own, and says whether I1 to I8
 * hold. Blocks for seconds: for a command, or a thread of its own. Owns everything that it uses, its Lua states
 * included; several may run at once. The explorer itself is lua/holdfast/prove.lua. */
#ifndef HOLDFAST_SIM_PROVE_H
#define HOLDFAST_SIM_PROVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

struct prove_options {
    const char *policy;    /* a path, or the name of a shipped one */
    const char *lua_path;  /* folder of lua/ */
    const char *command;   /* as typed, for the spec; NULL: no spec is written */
    const char *settings;  /* JSON of the connection's settings that are no secrets, or NULL */
    uint64_t seed;
    uint32_t depth;        /* of the exhaustive part */
    uint64_t within_ms;    /* what follows depth 1 ends then, unfinished; 0: it does not */
    uint64_t for_ms;       /* of the random part */
    uint32_t schedules;    /* of the random part, instead of a time; 0: by time */
    bool gate;             /* the fixed list alone */
    uint64_t cap_ms;       /* 0: none; over it the rest is left out, and the outcome is `capped` */
    const atomic_bool *cancel; /* borrowed; NULL: never. Then the outcome is CANCELLED */
    /* From time to time, from the calling thread; or NULL. `text`: borrowed until return. */
    void (*progress)(void *self, const char *text);
    void *self;
};

enum prove_result {
    PROVE_HELD,
    PROVE_BROKEN,    /* a promise is */
    PROVE_UNFIT,     /* the policy has errors: `text` has a line for each */
    PROVE_FAILED,    /* something else is wrong, in words in `text` */
    PROVE_CANCELLED,
};

struct prove_outcome {
    enum prove_result result;
    bool capped;             /* HELD: as far as it came */
    uint32_t schedules;
    char hash[24];           /* of the policy's text that was played */
    char headline[1024];     /* BROKEN: promise, schedule and policy line in one line */
    char spec[256];          /* BROKEN: the file that was written; "" none */
    struct buffer text, json; /* owned */
};

/* `out` is overwritten. */
void prove_run(const struct prove_options *options, struct prove_outcome *out);
void prove_outcome_deinit(struct prove_outcome *out);

#endif
