/* Store thread: one thread that owns the core, and the queue in front of it. The loop submits and flushes,
 * never waits; the thread takes all that was flushed as one transaction, so that a slow disk makes larger
 * transactions and not a longer queue of syncs. Rows that nobody waits for and that do not hurry gather for up
 * to 10 ms after the last write, up to 40 where that one had hundreds: a process that is killed then has forgotten
 * them together. What cannot
 * be written stays in memory up to a bound and is written when the disk is well again; meanwhile whoever waits for an
 * answer gets `false`.
 */
#ifndef HOLDFAST_STORE_THREAD_H
#define HOLDFAST_STORE_THREAD_H

#include "base/histogram.h"
#include "store/core.h"

struct store_thread; /* opaque */

struct store_thread_options {
    struct store_core_options core;
    /* From the store's thread: something is to be polled. Must be safe there (an async handle). */
    void (*wake)(void *to);
    void *to;
    size_t pending_bytes_max; /* not yet on disk; over it events are dropped, oldest first, and the hole is
                               * told by health.dropped; 0: 64 MiB */
    uint64_t gather_ms;       /* at least between two writes for which nobody waits, and up to four times as long
                               * after a write of hundreds of rows; 0: 10 */
};

/* Three steps, because what is read goes to a runtime that needs the epoch and the store first. Open and visit
 * block: for the time before the loop runs. Requests may be submitted from the first step on.
 * 1. Opens the core. NULL with a sentence. */
struct store_thread *store_thread_open(const struct store_thread_options *options,
                                       enum store_open *result, char *why, size_t why_bytes);
/* 2. Reads it all, as store_core_visit(). May be repeated, and left out. */
bool store_thread_visit(struct store_thread *t, const struct store_visitor *visitor, char *why,
                        size_t why_bytes);
/* 3. The thread starts. False: it could not be made. */
bool store_thread_start(struct store_thread *t);
struct store store_thread_store(struct store_thread *t);
uint64_t store_thread_epoch(const struct store_thread *t);
uint64_t store_thread_seed(const struct store_thread *t);
bool store_thread_was_clean(const struct store_thread *t);
bool store_thread_is_new(const struct store_thread *t);

/* The end of a loop turn: all that was submitted since the last one is handed over, as one piece. */
void store_thread_flush(struct store_thread *t);
/* Tells the answers that are there. From the loop, after a wake. */
void store_thread_poll(struct store_thread *t, void (*answer)(void *to, uint64_t ticket, bool ok),
                       void *to);
/* All that was flushed is on disk and answered. */
bool store_thread_is_idle(const struct store_thread *t);

struct store_health {
    bool degraded;            /* the last write failed and is being tried again, or the disk is silent: 10 s */
    char why[200];            /* "" unless degraded */
    uint64_t since_wall_ms;   /* of the present state; 0: since the start */
    uint64_t failures, commits, requests; /* totals */
    uint64_t pending_bytes;   /* submitted and not on disk */
    uint64_t dropped;         /* events that will never be on disk: they did not fit */
    uint64_t commit_ms_last, commit_ms_most;
    struct histogram commit;
    uint64_t file_bytes, wal_bytes;
};
/* A copy, never waits for the disk. */
void store_thread_health(const struct store_thread *t, struct store_health *out);

/* Writes what is left if it can within `deadline_ms`, closes and joins. True: closed clean. After the
 * deadline it gives up waiting: a thread stuck in the kernel is left to the end of the process. */
bool store_thread_close(struct store_thread *t, uint64_t deadline_ms);

#endif
