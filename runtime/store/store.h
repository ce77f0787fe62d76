/* Store: durable writes, asynchronous from the first day. Whoever writes submits requests; all that were
 * submitted between two flushes are one transaction, or part of a larger one, and transactions become
 * durable in the order of submission. A request with a ticket is answered by exactly one answer, later,
 * from the loop: true once it is on disk. Nothing is ever read on the loop thread: what an earlier process
 * left is read at the start, by a visitor (store/core.h). */
#ifndef HOLDFAST_STORE_STORE_H
#define HOLDFAST_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/effect.h"

struct runtime;

/* Which members of a request each operation reads, besides `ticket`:
 *   PERMIT            connection budget account lane wall_ms boot_ms
 *   PERMIT_RETURN     budget account wall_ms boot_ms: takes back one that was asked for with the same values; with
 *                     its connection (NULL: any), so that doing it twice takes no other's
 *   TOLD              budget account count (left; -1: only lanes) lanes wall_ms boot_ms until_wall_ms
 *                     until_boot_ms: what the platform said of a budget; replaces what it said before
 *   SESSION, KEEP     connection bytes (JSON; NULL deletes) wall_ms; SESSION also account (session_of). A KEEP of
 *                     "policy NAME", a name that no connection has, is the daemon's own: a trial's other text
 *   EVENT             connection kind epoch offset wall_ms bytes: one finished line of a stream
 *   FRAMES            connection: answered when all that was submitted before it is safe
 *   TRIM              connection epoch offset kind: frames up to it go, with the gaps between them; a gap right
 *                     after the position stays, since who acknowledged that frame was not told of it yet, unless
 *                     `kind` is GAP
 *   SEEN              connection key_high key_low offset wall_ms until_wall_ms
 *   CONSUMER          consumer bytes (its patterns, JSON list of strings) wall_ms (last attached or detached)
 *   CURSOR            consumer connection epoch offset wall_ms
 *   CONSUMER_GONE     consumer: with its cursors
 *   WISH              connection count (1: stopped by an operator; 0: forgotten)
 *   CONNECTION        connection bytes (as PUT over the API, JSON without secrets; NULL deletes)
 *   CONNECTION_GONE   connection: its session, keep, wish, seen keys; its events stay until trimmed
 *   JOURNAL           connection (NULL: the daemon's own) wall_ms bytes (JSON object) */
#define STORE_OP_MAP(X)                                                                           \
    X(PERMIT, "permit") X(PERMIT_RETURN, "permit return") X(TOLD, "told budget")                  \
    X(SESSION, "session") X(KEEP, "keep") X(EVENT, "event") X(FRAMES, "frames") X(TRIM, "trim")   \
    X(SEEN, "seen") X(CONSUMER, "consumer") X(CURSOR, "cursor") X(CONSUMER_GONE, "consumer gone") \
    X(WISH, "wish") X(CONNECTION, "connection") X(CONNECTION_GONE, "connection gone")             \
    X(JOURNAL, "journal")

enum store_op {
#define X(name, text) STORE_OP_##name,
    STORE_OP_MAP(X)
#undef X
    STORE_OP_COUNT
};

enum store_event_kind { STORE_EVENT_FRAME, STORE_EVENT_GAP };

struct store_request {
    enum store_op op;
    uint64_t ticket;          /* 0: nobody waits for an answer */
    bool hurries;             /* not to be gathered with later ones, though nobody waits; a ticket hurries too */
    const char *connection;   /* borrowed until submit() returns, as all pointers here */
    const char *consumer;
    enum budget_kind budget;
    uint64_t account;
    int64_t lane;
    int64_t count;
    uint32_t lanes;
    uint64_t wall_ms, boot_ms; /* now: boot time goes on in a suspend and ends with the boot */
    uint64_t until_wall_ms, until_boot_ms;
    enum store_event_kind kind;
    uint64_t epoch, offset;
    uint64_t key_high, key_low;
    const void *bytes;
    size_t len;
};

struct store_ops {
    /* Copies. False: refused at once (memory is out, or too much waits already), nothing will be
     * answered and nothing was taken. Allocates nothing in the steady state. */
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
