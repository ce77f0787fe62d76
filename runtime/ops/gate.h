/* Gate: plays the fixed list of schedules against policy files, in a thread of its own with Lua states of its
 * own, and tells the loop what came of it. Knows no daemon; changes nothing. */
#ifndef HOLDFAST_OPS_GATE_H
#define HOLDFAST_OPS_GATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct gate; /* opaque */

struct gate_policy {
    char name[64];
    char path[1024];
    char settings[2048]; /* JSON of what is laid over its tables; "": nothing */
    bool too_long;       /* what is laid over does not fit: played without, and told as capped */
    uint64_t overlay;    /* the caller's own number for it; 0: nothing */
    char whose[64];      /* the connection that has it; "": nobody's in particular */
    char hash[24];       /* in: of the text to be played; another text on disk is told as `changed` */
    /* The answer. */
    bool refused;        /* a promise is broken, or it could not be played */
    bool capped;         /* not fully proven: the time was over */
    bool changed;
    uint32_t schedules;
    char text[1024];     /* refused: why, in one line */
};

#define GATE_POLICIES_MAX 32

struct gate_run {
    uint64_t cap_ms;     /* for all of them together */
    struct gate_policy policies[GATE_POLICIES_MAX];
    uint32_t count;
    /* From the loop, once. `run`: borrowed until return; the gate may be destroyed from inside. */
    void (*done)(void *self, const struct gate_run *run);
    void *self;
};

/* `run`: copied. NULL: no thread can be had. */
struct gate *gate_start(uv_loop_t *loop, const struct gate_run *run);
/* Ends it, and waits for its thread, which is at most one schedule away; then done() is not called any more. The
 * loop must go on until its handle is closed. */
void gate_destroy(struct gate *g); /* NULL is allowed */

#endif
