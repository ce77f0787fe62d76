/* Queue: what will happen in the world, by time and, at the same time, by the order in which it was
 * put there. That order makes a run repeatable. */
#ifndef HOLDFAST_SIM_QUEUE_H
#define HOLDFAST_SIM_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slots.h"

/* Those of the machine (the side holdfast runs on) wait while it sleeps or stalls. */
#define HAPPENING_MAP(X)                                                                           \
    X(DIAL, "dial", true)            /* the next stage of a dial */                                \
    X(READABLE, "readable", true)    /* bytes or an end wait in the client's socket */             \
    X(WRITABLE, "writable", true)                                                                  \
    X(DRAIN, "drain", true)                                                                        \
    X(CLOSED, "closed", true)        /* tell link_closed */                                        \
    X(CALL_DONE, "call done", true)                                                                \
    X(STORED, "stored", true)        /* the disk is done, or tries again */                                                             \
    X(ARRIVE_UP, "arrive up", false) /* a segment, towards the server */                           \
    X(ARRIVE_DOWN, "arrive down", false)                                                           \
    X(FIN_UP, "fin up", false)                                                                     \
    X(FIN_DOWN, "fin down", false)                                                                 \
    X(RESET_UP, "reset up", false)                                                                 \
    X(RESET_DOWN, "reset down", false)                                                             \
    X(SERVER_OVER, "server over", false)   /* tell the peer that a WebSocket ended */              \
    X(SERVER_LIMIT, "server limit", false) /* the peer's own close limit */                        \
    X(PEER_TIMER, "peer timer", false)                                                             \
    X(CALL, "call", false)           /* the next stage of an HTTP call */                          \
    X(USER, "user", false)           /* a timer of the test */                                     \
    X(CHECK, "check", false)         /* a checker wants to look */                                 \
    X(THAW, "thaw", false)           /* the machine runs again */

enum happening_kind {
#define X(name, text, machine) HAPPENING_##name,
    HAPPENING_MAP(X)
#undef X
};

struct happening {
    uint64_t at_ms;
    uint64_t order;
    enum happening_kind kind;
    struct handle who;
    uint64_t a, b;
};

struct queue {
    struct happening *heap; /* owned */
    uint32_t count, capacity;
    uint64_t next_order;
};

void queue_deinit(struct queue *q);
/* Its order number. */
uint64_t queue_put(struct queue *q, struct happening h);
/* NULL when empty. Borrowed until the queue changes. */
const struct happening *queue_first(const struct queue *q);
void queue_take(struct queue *q, struct happening *out);
bool happening_is_machine(enum happening_kind kind);

#endif
