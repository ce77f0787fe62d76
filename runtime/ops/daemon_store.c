/* The daemon's store: opened under its lock, polled from the loop, drained and closed before the end or a
 * handover. Everything else of ops/ knows only the functions here, so that another kind of store changes
 * this file alone. Today it is in memory; the path's lock is taken all the same, because two processes that
 * name one store name the same bots. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

#define STORE_ROUNDS_MAX 16

bool daemon__store_open(struct daemon *d, int lock_fd, char *why, size_t why_bytes)
{
    const char *path = d->roster.config.store_path;
    enum store_lock_result locked = STORE_LOCK_TAKEN;
    ASSERT(d->store_lock.fd < 0);
    if (path && lock_fd >= 0) {
        locked = store_lock_adopt(&d->store_lock, path, lock_fd, why, why_bytes);
    } else if (path) {
        locked = store_lock_try(&d->store_lock, path, why, why_bytes);
    } else if (lock_fd >= 0) {
        close(lock_fd);
    }
    /* In memory nothing goes wrong where the folder is missing or read-only. */
    if (locked == STORE_LOCK_HELD) return false;
    d->store = store_memory_create();
    if (!d->store) snprintf(why, why_bytes, "out of memory");
    return d->store != NULL;
}

struct store daemon__store(struct daemon *d)
{
    return store_memory_store(d->store);
}

bool daemon__store_is_durable(const struct daemon *d)
{
    struct store s = store_memory_store(d->store);
    return strcmp(s.ops->kind(s.self), "memory") != 0;
}

static void on_stored(void *to, uint64_t ticket, bool ok)
{
    struct daemon *d = to;
    runtime_stored(d->rt, ticket, ok);
}

bool daemon__store_poll(struct daemon *d)
{
    /* An answer may cause another request; bounded, so that sockets get their turn. */
    for (int i = 0; i < STORE_ROUNDS_MAX && !store_memory_is_idle(d->store); i++) {
        store_memory_poll(d->store, on_stored, d);
    }
    return !store_memory_is_idle(d->store);
}

bool daemon__store_is_safe(const struct daemon *d)
{
    return store_memory_is_idle(d->store);
}

void daemon__store_close(struct daemon *d)
{
    ASSERT(daemon__store_is_safe(d)); /* in memory nothing is to be closed, and what it holds may be needed again */
}

bool daemon__store_reopen(struct daemon *d, char *why, size_t why_bytes)
{
    (void)d, (void)why, (void)why_bytes;
    return true;
}

void daemon__store_end(struct daemon *d, bool handed_over)
{
    if (d->store) store_memory_destroy(d->store);
    d->store = NULL;
    if (handed_over) store_lock_leave(&d->store_lock);
    else store_lock_release(&d->store_lock);
}
