/* The simulated store's core and its disk: opening, dying in the middle, and what comes back compared
 * with what was written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/store_internal.h"

static void compare(struct world_store *s);

/* ---- faults ------------------------------------------------------------------------------------------------- */

static const struct fault *strikes(struct world *w, enum fault_kind kind)
{
    if (w->faults.on_count[kind] == 0) return NULL;
    struct fault_subject about = { .what = FAULT_ON_LINKS | FAULT_ON_CALLS };
    return faults_strike(&w->faults, kind, &about);
}

static enum store_disk_result on_call(void *self, enum disk_call call, const char *name)
{
    struct world_store *s = self;
    struct world *w = s->world;
    (void)name;
    if (call == DISK_READ) {
        return strikes(w, FAULT_DISK_READ_ERROR) ? STORE_DISK_FAILED : STORE_DISK_OK;
    }
    if (strikes(w, FAULT_DISK_READ_ONLY)) return STORE_DISK_READ_ONLY;
    if (call == DISK_SYNC) {
        return strikes(w, FAULT_DISK_SYNC_ERROR) ? STORE_DISK_FAILED : STORE_DISK_OK;
    }
    return strikes(w, FAULT_DISK_WRITE_ERROR) ? STORE_DISK_FAILED : STORE_DISK_OK;
}

void world__disk_prepare(struct world_store *s)
{
    struct fault_table *t = &s->world->faults;
    uint32_t full = 0;
    for (uint32_t i = 0; t->on_count[FAULT_DISK_FULL] && i < t->count && !full; i++) {
        if (t->items[i].on && t->items[i].kind == FAULT_DISK_FULL) full = t->items[i].id;
    }
    if (full != s->full_fault) disk_set_room(s->disk, full ? faults_get(t, full)->bytes : UINT64_MAX);
    s->full_fault = full;
    disk_set_wall_ms(s->disk, world_clock(s->world).wall_ms);
    store_vfs_reseed(s->vfs);
}

void world__store_corrupt(struct world *w, uint64_t bytes)
{
    struct world_store *s = w->store;
    struct disk_file_view v;
    for (uint32_t i = 0; s->disk && disk_file_get(s->disk, i, &v); i++) {
        if (strcmp(v.name, STORE_PATH) != 0 || v.bytes == 0) continue;
        uint8_t junk[4096];
        uint64_t at = rng_range(world_draw(w, "corrupt", v.bytes, w->now_ms), 0, v.bytes - 1);
        if (bytes > sizeof junk) bytes = sizeof junk;
        if (bytes > v.bytes - at) bytes = v.bytes - at;
        for (uint64_t j = 0; j < bytes; j++) junk[j] = (uint8_t)world_draw(w, "junk", at, j);
        disk_scribble(s->disk, STORE_PATH, at, junk, (size_t)bytes);
    }
}

/* ---- the core ------------------------------------------------------------------------------------------------ */

void world__disk_create(struct world_store *s)
{
    char name[64];
    struct disk_options options = { .seed = s->world->options.seed, .fails = on_call, .self = s };
    s->disk = disk_create(&options);
    struct store_disk table = disk_table(s->disk);
    snprintf(name, sizeof name, "holdfast-sim-%p", (void *)s);
    s->vfs = store_vfs_register(name, &table, options.seed);
    ASSERT(s->vfs != NULL);
}

void world__disk_destroy(struct world_store *s)
{
    if (!s->disk) return;
    if (s->core) {
        disk_die(s->disk); /* nothing of it is looked at any more */
        store_core_close(s->core, false);
    }
    store_vfs_unregister(s->vfs);
    disk_destroy(s->disk);
}

static struct store_core *open_core(struct world_store *s, enum store_open *result, char *why,
                                    size_t why_bytes)
{
    struct world *w = s->world;
    struct clock now = world_clock(w);
    char name[64], boot[STORE_BOOT_ID_BYTES];
    snprintf(name, sizeof name, "holdfast-sim-%p", (void *)s);
    snprintf(boot, sizeof boot, "boot-%llu", (unsigned long long)world_boot_number(w));
    struct store_core_options options = { .path = STORE_PATH,
                                          .vfs = name,
                                          .boot_id = boot,
                                          .wall_ms = now.wall_ms,
                                          .boot_ms = now.boot_ms,
                                          .seed = w->options.seed };
    world__disk_prepare(s);
    return store_core_open(&options, result, why, why_bytes);
}

void world_store_open_cut(struct world *w, bool power)
{
    struct world_store *s = w->store;
    enum store_open result;
    char why[300];
    ASSERT(!s->is_open);
    if (!s->disk) return;
    world__power_on(w);
    uint64_t at = rng_range(world_draw(w, "cut start", w->now_ms, disk_changes(s->disk)), 0, 40);
    disk_die_after(s->disk, at);
    struct store_core *c = open_core(s, &result, why, sizeof why);
    trace_line(&w->trace, w->now_ms, "%s while the store opens, after %llu calls",
               power ? "power is cut" : "process crashes", (unsigned long long)at);
    disk_die(s->disk);
    if (c) store_core_close(c, false);
    disk_revive(s->disk, power);
    if (power) w->power_off = true;
}

bool world_store_open(struct world *w, enum store_open *result, char *why, size_t why_bytes)
{
    struct world_store *s = w->store;
    ASSERT(!s->is_open);
    world__power_on(w);
    struct clock now = world_clock(w);
    s->lost[0] = 0;
    *result = STORE_OPENED;
    if (s->in_memory) {
        if (s->boot != world_boot_number(w)) model_reboot(s->written);
        s->boot = world_boot_number(w);
        s->was_clean = s->epoch == 0 || s->clean;
        if (!s->was_clean || s->epoch == 0) {
            s->epoch = now.wall_ms > s->epoch ? now.wall_ms : s->epoch + 1;
        }
        s->is_open = true;
        return true;
    }
    s->core = open_core(s, result, why, why_bytes);
    if (!s->core) {
        trace_line(&w->trace, w->now_ms, "store does not open: %s", why);
        return false;
    }
    s->is_open = true;
    s->epoch = store_core_epoch(s->core);
    s->was_clean = store_core_was_clean(s->core);
    s->tidied_ms = w->now_ms;
    trace_line(&w->trace, w->now_ms, "store opens%s: epoch %llu",
               s->was_clean ? "" : " after an unclean end", (unsigned long long)s->epoch);
    compare(s);
    return true;
}

bool world_store_visit(struct world *w, const struct store_visitor *v, char *why, size_t why_bytes)
{
    struct world_store *s = w->store;
    ASSERT(s->is_open);
    if (s->core) return store_core_visit(s->core, v, why, why_bytes);
    model_visit(s->written, v);
    return true;
}

uint64_t world_store_epoch(const struct world *w)
{
    return w->store->epoch;
}

uint64_t world_store_seed(const struct world *w)
{
    return w->store->core ? store_core_seed(w->store->core) : w->options.seed;
}

bool world_store_was_clean(const struct world *w)
{
    return w->store->was_clean;
}

void world__disk_kill(struct world_store *s, bool power)
{
    struct world *w = s->world;
    char why[300];
    if (s->busy) {
        /* Somewhere in the middle of what is being written, or right after it. */
        uint64_t most = s->changes_last + 4;
        uint64_t at = rng_range(world_draw(w, "cut", s->number, w->now_ms), 0, most);
        world__disk_prepare(s);
        disk_die_after(s->disk, at);
        enum store_applied result = store_core_apply(s->core, &s->taken, why, sizeof why);
        trace_line(&w->trace, w->now_ms, "disk transaction %llu is cut after %llu calls%s",
                   (unsigned long long)s->number, (unsigned long long)at,
                   result == STORE_APPLIED ? ", done" : "");
        s->counts.cuts++;
        if (result == STORE_APPLIED) {
            world__store_applied(s, &s->taken);
            buffer_clear(&s->taken);
            s->try_count = 0;
        } else {
            if (s->try_count == STORE_TRIES_MAX) s->try_count--;
            s->tries[s->try_count++] = s->taken.len;
        }
    }
    disk_die(s->disk);
    store_core_close(s->core, false);
    s->core = NULL;
    disk_revive(s->disk, power);
}

/* ---- what came back -------------------------------------------------------------------------------------------- */

/* What is on disk is what was applied, or that and all of a try that was not answered. */
static void compare(struct world_store *s)
{
    uint64_t wall_ms = world_clock(s->world).wall_ms;
    char why[300] = "", first[300] = "";
    struct model *found = model_create();
    struct store_visitor v = model_visitor(found);
    bool same = false;
    if (!store_core_visit(s->core, &v, why, sizeof why)) {
        snprintf(s->lost, sizeof s->lost, "what is on disk cannot be read: %s", why);
        model_destroy(found);
        return;
    }
    for (uint32_t i = 0; i <= s->try_count && !same; i++) {
        struct model *expected = model_copy(s->written);
        struct store_request r;
        size_t end = i == 0 ? 0 : s->tries[i - 1];
        for (size_t at = 0; at < end && store_batch_next(&s->taken, &at, &r);) model_apply(expected, &r);
        same = model_equal(found, expected, s->doubtful, wall_ms, why, sizeof why);
        if (!same && i == 0) text_copy(first, sizeof first, why, strlen(why));
        if (same) {
            model_destroy(s->written);
            s->written = expected;
        } else {
            model_destroy(expected);
        }
    }
    if (!same) {
        snprintf(s->lost, sizeof s->lost, "after a restart the store is not what was written: %s",
                 first);
        model_destroy(s->written);
        s->written = model_copy(found);
    }
    model_destroy(found);
    model_destroy(s->doubtful);
    s->doubtful = model_create();
    s->try_count = 0;
    buffer_clear(&s->taken);
}
