/* Reading: loads a roster in a thread of its own, because reading, checking and building thousands of connections
 * takes seconds, and the loop has milliseconds. The thread makes its own Lua states and its own values; what it made is
 * handed over whole, once it is done, and is only the loop's from then on. */
#ifndef HOLDFAST_OPS_READING_H
#define HOLDFAST_OPS_READING_H

#include <uv.h>

#include "ops/roster.h"

struct reading; /* opaque */

struct reading_wish {
    const char *path, *only;           /* copied; `only` NULL: all */
    bool now;                          /* no trials */
    uint64_t seed;
    const struct roster *before;       /* borrowed until done() or reading_destroy(): nobody changes it meanwhile */
    struct roster_running *running;    /* moved, also on failure */
    uint32_t running_count;
    struct roster_also *also;          /* moved, also on failure */
    uint32_t also_count;
    /* From the loop, once. `next` NULL: refused, with every error in `problems`; else it is moved to who is called.
     * `problems`: borrowed until return. reading_destroy() from inside is fine. */
    void (*done)(void *self, struct roster *next, const struct problems *problems);
    void *self;
};

/* NULL: no thread can be had. */
struct reading *reading_start(uv_loop_t *loop, const struct reading_wish *wish);
/* Its end is no longer of interest: done() comes soon, with NULL. Waits for nothing. */
void reading_call_off(struct reading *r);
/* Ends it, and waits for its thread, which is at most one connection or file away; then done() is not called any more.
 * The loop must go on until its handle is closed. */
void reading_destroy(struct reading *r); /* NULL is allowed */

#endif
