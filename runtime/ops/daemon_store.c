/* The daemon's store: opened under its lock, read, polled from the loop, drained and closed before the end
 * or a handover. Everything else of ops/ knows only the functions here, so that another kind of store
 * changes this file alone. In memory when the configuration says so: then nothing survives. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/failpoint.h"

#define STORE_ROUNDS_MAX 16
#define STORE_CLOSE_MS 5000
#define STORE_WELL_MS 2000 /* without a failure: then it is told as well */

static bool disk_open(struct daemon *d, uint64_t back_in_epoch, char *why, size_t why_bytes);

/* --- the store as the runtime sees it ----------------------------------------------------------------------- */

static bool on_submit(void *self, const struct store_request *request)
{
    struct daemon *d = self;
    if (d->disk) {
        struct store s = store_thread_store(d->disk);
        return s.ops->submit(s.self, request);
    }
    if (!d->store) return false; /* closed for a handover: nothing happens any more that is to be kept */
    struct store s = store_memory_store(d->store);
    return s.ops->submit(s.self, request);
}

static const char *kind_of(void *self)
{
    const struct daemon *d = self;
    return d->roster.config.store_memory ? "memory" : "sqlite";
}

static const struct store_ops ops = { .submit = on_submit, .kind = kind_of };

struct store daemon__store(struct daemon *d)
{
    return (struct store){ .ops = &ops, .self = d };
}

bool daemon__store_is_durable(const struct daemon *d)
{
    return !d->roster.config.store_memory;
}

/* --- opening and reading -------------------------------------------------------------------------------------- */

/* `var/` beside the configuration, most often. One level: a longer path that is missing is a mistake, which
 * the lock's sentence names. */
static void folder_make(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash && slash > path ? strndup(path, (size_t)(slash - path)) : NULL;
    if (folder) mkdir(folder, 0700);
    free(folder);
}

bool daemon__store_open(struct daemon *d, int lock_fd, char *why, size_t why_bytes)
{
    const char *path = d->roster.config.store_path;
    enum store_lock_result locked = STORE_LOCK_TAKEN;
    ASSERT(d->store_lock.fd < 0);
    if (!daemon__store_is_durable(d)) {
        if (lock_fd >= 0) close(lock_fd);
        d->store = store_memory_create();
        if (!d->store) snprintf(why, why_bytes, "out of memory");
        return d->store != NULL;
    }
    folder_make(path);
    if (lock_fd >= 0) locked = store_lock_adopt(&d->store_lock, path, lock_fd, why, why_bytes);
    else locked = store_lock_try(&d->store_lock, path, why, why_bytes);
    return locked == STORE_LOCK_TAKEN && disk_open(d, 0, why, why_bytes);
}

static void on_wake(void *to)
{
    uv_async_send(&((struct daemon *)to)->store_wake);
}

/* Empty where there is none: then only wall time is known of what an earlier process left. */
static void boot_id_read(char out[STORE_BOOT_ID_BYTES])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    out[0] = 0;
    if (!f) return;
    if (fgets(out, STORE_BOOT_ID_BYTES, f)) out[strcspn(out, "\n")] = 0;
    fclose(f);
}

static bool disk_open(struct daemon *d, uint64_t back_in_epoch, char *why, size_t why_bytes)
{
    char boot_id[STORE_BOOT_ID_BYTES];
    struct clock now;
    struct host host = net_host(d->net);
    enum store_open result;
    boot_id_read(boot_id);
    host.ops->clock(host.self, &now);
    struct store_thread_options options = { .core = { .path = d->roster.config.store_path,
                                                      .boot_id = boot_id,
                                                      .wall_ms = now.wall_ms,
                                                      .boot_ms = now.boot_ms,
                                                      .seed = d->seed,
                                                      .back_in_epoch = back_in_epoch,
                                                      .journal_age_ms =
                                                          d->roster.config.store_journal_age_ms },
                                            .wake = on_wake,
                                            .to = d };
    d->disk = store_thread_open(&options, &result, why, why_bytes);
    FAILPOINT("opened");
    return d->disk != NULL;
}

uint64_t daemon__store_epoch(const struct daemon *d, uint64_t wall_ms)
{
    /* In memory a restart repeats no position, although nothing was stored. Seconds would do, were it not
     * for a kill and a start within one. */
    return d->disk ? store_thread_epoch(d->disk) : wall_ms;
}

uint64_t daemon__store_seed(const struct daemon *d)
{
    return d->disk ? store_thread_seed(d->disk) : d->seed;
}

/* The daemon's own entries. */
static void on_journal(void *self, const char *connection, uint64_t wall_ms, const void *json, size_t len)
{
    if (!connection) daemon__trial_stored(self, wall_ms, json, len);
}

static void on_connection(void *self, const char *name, const void *json, size_t len)
{
    daemon__added_stored(self, name, json, len);
}

static void on_keep(void *self, const char *name, const void *json, size_t len)
{
    daemon__trial_stored_text(self, name, json, len);
}

bool daemon__store_read(struct daemon *d, char *why, size_t why_bytes)
{
    if (!d->disk) return true;
    struct store_visitor everything = runtime_restore(d->rt);
    struct store_visitor added = { .self = d, .connection = on_connection, .keep = on_keep, .journal = on_journal };
    if (!store_thread_visit(d->disk, &everything, why, why_bytes)) return false;
    if (!store_thread_visit(d->disk, &added, why, why_bytes)) return false;
    runtime_restored(d->rt, store_thread_was_clean(d->disk));
    FAILPOINT("restored");
    if (store_thread_start(d->disk)) return true;
    snprintf(why, why_bytes, "no thread for the store");
    return false;
}

/* --- each turn of the loop ------------------------------------------------------------------------------------ */

static void on_stored(void *to, uint64_t ticket, bool ok)
{
    struct daemon *d = to;
    runtime_stored(d->rt, ticket, ok);
}

/* Loud when it begins and when it has ended for a while: a disk with little room writes and fails in turns.
 * In between status and metrics tell. */
static void health_look(struct daemon *d)
{
    struct store_health now;
    store_thread_health(d->disk, &now);
    if (now.degraded == d->store_degraded) {
        d->store_well_ms = 0;
    } else if (now.degraded) {
        d->store_degraded = true;
        log_printf(d->options.log, LOG_ALARM, NULL,
                   "the store cannot write: %s. Frames are held in memory, early acknowledgements and new session "
                   "starts wait; it is tried again by itself", now.why);
    } else if (d->store_well_ms == 0) {
        d->store_well_ms = uv_now(&d->loop);
    } else if (uv_now(&d->loop) - d->store_well_ms >= STORE_WELL_MS) {
        d->store_degraded = false;
        d->store_well_ms = 0;
        log_printf(d->options.log, LOG_WARNING, NULL, "the store writes again%s",
                   now.dropped ? "; some frames did not fit and are in memory only" : "");
    }
}

bool daemon__store_poll(struct daemon *d)
{
    if (d->disk) {
        store_thread_poll(d->disk, on_stored, d);
        health_look(d);
        return false; /* it wakes the loop by itself */
    }
    if (!d->store) return false;
    /* An answer may cause another request; bounded, so that sockets get their turn. */
    for (int i = 0; i < STORE_ROUNDS_MAX && !store_memory_is_idle(d->store); i++) {
        store_memory_poll(d->store, on_stored, d);
    }
    return !store_memory_is_idle(d->store);
}

void daemon__store_flush(struct daemon *d)
{
    if (d->disk) store_thread_flush(d->disk);
}

bool daemon__store_health(const struct daemon *d, struct store_health *out)
{
    memset(out, 0, sizeof *out);
    if (d->disk) store_thread_health(d->disk, out);
    return d->disk != NULL;
}

/* --- the end -------------------------------------------------------------------------------------------------- */

bool daemon__store_is_safe(const struct daemon *d)
{
    if (d->disk) {
        store_thread_flush(d->disk);
        return store_thread_is_idle(d->disk);
    }
    return !d->store || store_memory_is_idle(d->store);
}

void daemon__store_close(struct daemon *d)
{
    if (!d->disk) return; /* in memory nothing is to be closed, and what it holds may be needed again */
    store_thread_flush(d->disk);
    if (!store_thread_close(d->disk, STORE_CLOSE_MS)) {
        log_line(d->options.log, LOG_WARNING, NULL,
                 "the store was not closed in order: the next start tells consumers of a new epoch");
    }
    d->disk = NULL;
}

bool daemon__store_reopen(struct daemon *d, char *why, size_t why_bytes)
{
    if (!daemon__store_is_durable(d)) return true;
    /* The next process may have opened it, and was killed since; it accepted nothing. */
    if (!disk_open(d, deliver_epoch(d->deliver), why, why_bytes)) return false;
    if (store_thread_epoch(d->disk) != deliver_epoch(d->deliver)) {
        snprintf(why, why_bytes, "the store began a new epoch meanwhile");
        return false;
    }
    if (store_thread_start(d->disk)) return true;
    snprintf(why, why_bytes, "no thread for the store");
    return false;
}

void daemon__store_end(struct daemon *d, bool handed_over)
{
    ASSERT(d->disk == NULL);
    if (d->store) store_memory_destroy(d->store);
    d->store = NULL;
    if (handed_over) store_lock_leave(&d->store_lock);
    else store_lock_release(&d->store_lock);
}
