/* Store: durable writes, asynchronous from the first day. A request is answered by exactly one
 * store_sink call, later, from the loop. This one keeps everything in memory and says so; the durable
 * one implements the same table. */
#ifndef HOLDFAST_STORE_STORE_H
#define HOLDFAST_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/effect.h"

struct runtime;

#define STORE_OP_MAP(X)                                                                           \
    X(PERMIT, "permit") X(PERMIT_RETURN, "permit return") X(SESSION, "session") X(KEEP, "keep")  \
    X(FRAMES, "frames") /* all frames of one connection up to `offset` */

enum store_op {
#define X(name, text) STORE_OP_##name,
    STORE_OP_MAP(X)
#undef X
    STORE_OP_COUNT
};

struct store_request {
    enum store_op op;
    uint64_t ticket;          /* 0: nobody waits for an answer */
    const char *connection;   /* borrowed until submit() returns, as all pointers here */
    enum budget_kind budget;  /* PERMIT */
    uint64_t account;
    uint64_t wall_ms;
    const void *bytes;        /* SESSION, KEEP: JSON; NULL deletes */
    size_t len;
    uint64_t offset;          /* FRAMES */
};

struct store_ops {
    /* False: refused at once (nothing will be answered). */
    bool (*submit)(void *self, const struct store_request *request);
    const char *(*kind)(void *self); /* "memory", "sqlite": for status */
};

struct store {
    const struct store_ops *ops;
    void *self;
};

/* In memory: answers everything with success at the next store_memory_poll(). */
struct store_memory;
struct store_memory *store_memory_create(void);
void store_memory_destroy(struct store_memory *m);
struct store store_memory_store(struct store_memory *m);
/* The driver calls it once per loop turn; `answer` is told (ticket, ok) for each finished request. */
void store_memory_poll(struct store_memory *m, void (*answer)(void *to, uint64_t ticket, bool ok),
                       void *to);
bool store_memory_is_idle(const struct store_memory *m);

#endif
