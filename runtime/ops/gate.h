/* Gate: plays the fixed list of schedules against policy files, in a thread of its own with Lua states of its
 * own, and tells the loop what came of it. Knows no daemon; changes nothing. */
#ifndef HOLDFAST_OPS_GATE_H
#define HOLDFAST_OPS_GATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct gate; /* opaque */

/* A file of what runs: the policy's own (name ""), or a module beside it ("a.b"). */
struct gate_text {
    char *name, *text;   /* owned */
    size_t len;
};

struct gate_policy {
    char name[64];
    char *path;          /* owned */
    char *settings;      /* owned: JSON of what is laid over its tables; NULL: nothing */
    uint64_t overlay;    /* the caller's own number for it; 0: nothing */
    char whose[64];      /* the connection that has it; "": nobody's in particular */
    struct gate_text *texts; /* owned: played where the files have another text by now; NULL: then it is told as `changed` */
    uint32_t text_count;
    char hash[24];       /* in: of the text to be played; another text on disk is told as `changed` */
    /* The answer. */
    bool refused;        /* a promise is broken, or it could not be played */
    bool capped;         /* not fully proven: the time was over */
    bool changed;
    uint32_t schedules;  /* 0: its turn never came */
    char *text;          /* owned; refused: why, in one line */
};

/* What is refused ends a run early: more than so many tell a person nothing new. */
#define GATE_REFUSED_MAX 8

struct gate_run {
    uint64_t cap_ms;     /* for all of them together */
    struct gate_policy *policies; /* owned; gate_run_add() */
    uint32_t count, room;
    /* From the loop, once. `run`: borrowed until return; the gate may be destroyed from inside. */
    void (*done)(void *self, const struct gate_run *run);
    void *self;
};

/* Copies. */
void gate_policy_text(struct gate_policy *p, const char *name, const void *text, size_t len);
/* A new one, empty. Borrowed until the next one is added. */
struct gate_policy *gate_run_add(struct gate_run *run);
void gate_run_deinit(struct gate_run *run);

/* `run`: moved, on failure too. NULL: no thread can be had. */
struct gate *gate_start(uv_loop_t *loop, struct gate_run *run);
/* Ends it, and waits for its thread, which is at most one schedule away; then done() is not called any more. The
 * loop must go on until its handle is closed. */
void gate_destroy(struct gate *g); /* NULL is allowed */

#endif
