/* Gather: see gather.c. For the files of ops/ alone. */
#ifndef HOLDFAST_OPS_GATHER_H
#define HOLDFAST_OPS_GATHER_H

#include "ops/ops_internal.h"

struct gather;

struct gather_ops {
    const char *type;  /* of the answer */
    bool patterns;     /* ?connection=PATTERN selects */
    bool facts;        /* each() reads no sentences: runtime_view_facts() will do */
    bool (*begin)(struct client *c, struct gather *g); /* may be NULL; the request's head is still there */
    bool (*each)(struct client *c, struct gather *g, struct handle conn, const struct connection_view *view);
    bool (*end)(struct client *c, struct gather *g);
};

struct gather {
    const struct gather_ops *ops;
    uint32_t index, count; /* of the next connection; count: each()'s own */
    bool again;            /* set by end(): from the first connection once more */
    struct buffer out;     /* the answer, after LWS_PRE bytes of room */
    _Alignas(16) char state[]; /* zeroes at first */
};

/* `state_bytes` of state; NULL: memory is out. */
struct gather *gather_create(size_t state_bytes, const struct gather_ops *ops);
/* The first turn; `g`: moved, may be NULL. Returns what libwebsockets wants. A false of a function above ends the
 * client without an answer: memory is out. */
int gather_begin(struct client *c, struct gather *g);
/* The next: while c->gather is set. */
int gather_turn(struct client *c);
void gather_gone(struct client *c);

#endif
