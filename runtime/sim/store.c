/* The store of the simulated machine: the queue in front of the core, and its thread, which is none: a
 * transaction is applied inline when its virtual time is over. Owns what waits and what was answered; the
 * disk below is in store_disk.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "sim/store_internal.h"
#include "store/pending.h"

static void begin(struct world_store *s);
static void finish(struct world_store *s, enum store_applied result, const char *why);
static void settle(struct world_store *s, size_t from, bool unsure);
static void answer_all(struct world_store *s, const struct buffer *batch);
static const struct fault *strike(struct world *w, enum fault_kind kind, const struct buffer *batch);

struct world_store *world__store_create(struct world *w)
{
    struct world_store *s = world__alloc(sizeof *s);
    s->world = w;
    s->in_memory = w->options.memory_store;
    buffer_init(&s->open, STORE_WAITING_BYTES_MAX * 2);
    buffer_init(&s->waiting, STORE_WAITING_BYTES_MAX * 2);
    buffer_init(&s->taken, STORE_WAITING_BYTES_MAX * 4);
    s->written = model_create();
    s->doubtful = model_create();
    if (!s->in_memory) world__disk_create(s);
    return s;
}

void world__store_destroy(struct world_store *s)
{
    if (!s) return;
    world__disk_destroy(s);
    model_destroy(s->written);
    model_destroy(s->doubtful);
    model_destroy(s->scratch);
    buffer_deinit(&s->open);
    buffer_deinit(&s->waiting);
    buffer_deinit(&s->taken);
    free(s);
}

/* ---- the queue --------------------------------------------------------------------------------------------- */

static bool submit(void *self, const struct store_request *request)
{
    struct world_store *s = ((struct world *)self)->store;
    if (!s->is_open) return false; /* the process is gone: it cannot write */
    if (s->open.len + s->waiting.len + s->taken.len > STORE_WAITING_BYTES_MAX) return false;
    if (!store_batch_add(&s->open, request)) return false;
    s->open_count++;
    return true;
}

static const char *kind(void *self)
{
    return ((struct world *)self)->store->in_memory ? "memory" : "simulated";
}

static const struct store_ops ops = { .submit = submit, .kind = kind };

struct store world_store(struct world *w)
{
    return (struct store){ .ops = &ops, .self = w };
}

static void move(struct buffer *to, struct buffer *from)
{
    bool ok = buffer_append(to, from->data, from->len);
    ASSERT(ok); /* submit() kept to the limit */
    buffer_clear(from);
}

void world__store_flush(struct world *w)
{
    struct world_store *s = w->store;
    if (s->open.len == 0) return;
#ifdef HOLDFAST_TEST
    if (s->plant_early_answer) {
        struct store_request r;
        for (size_t at = 0; store_batch_next(&s->open, &at, &r);) {
            if (r.op != STORE_OP_FRAMES || !r.ticket) continue;
            w->machine.safe(w->machine.self, r.connection, 0, r.offset);
        }
    }
#endif
    move(&s->waiting, &s->open);
    s->waiting_count += s->open_count;
    s->open_count = 0;
    if (!s->busy) begin(s);
}

/* All that waits, behind what failed before. */
static void begin(struct world_store *s)
{
    struct world *w = s->world;
    ASSERT(!s->busy);
    s->from = s->taken.len;
    if (s->waiting.len) move(&s->taken, &s->waiting);
    if (s->taken.len == 0) return;
    s->taken_count += s->waiting_count;
    s->waiting_count = 0;
    s->busy = true;
    s->number++;
    const struct fault *late = strike(w, FAULT_STORE_DELAY, &s->taken);
    uint64_t delay = (late ? late->ms : 0) + rng_range(world_draw(w, "disk", s->number, 0), 1, 10);
    const struct fault *slow = strike(w, FAULT_DISK_SLOW, &s->taken); /* a transaction is a sync */
    delay += slow ? slow->ms : 0;
    trace_line(&w->trace, w->now_ms, "disk transaction %llu of %u requests begins",
               (unsigned long long)s->number, s->taken_count);
    world__put(w, w->now_ms + delay, HAPPENING_STORED, HANDLE_NONE, s->number, 0);
}

void world__store_on_due(struct world *w, uint64_t number, bool again)
{
    struct world_store *s = w->store;
    char why[300] = "";
    if (!s->is_open || number != s->number) return; /* of a process that is gone, or others came first */
    if (again) {
        if (!s->busy) begin(s);
        return;
    }
    if (!s->busy) return;
    s->busy = false;
    if (s->degraded && w->now_ms < s->retry_at_ms) {
        settle(s, s->from, false); /* never tried: nothing of it can be on disk */
    } else {
        enum store_applied result = STORE_APPLIED;
        if (strike(w, FAULT_STORE_FAIL, &s->taken)) {
            result = STORE_FAILED_FULL;
            snprintf(why, sizeof why, "the store fails");
        } else if (s->core) {
            world__disk_prepare(s);
            uint64_t before = disk_changes(s->disk);
            result = store_core_apply(s->core, &s->taken, why, sizeof why);
            s->changes_last = disk_changes(s->disk) - before;
        }
        finish(s, result, why);
    }
    if (s->waiting.len) {
        begin(s);
    } else if (s->taken.len) {
        uint64_t at = s->retry_at_ms > w->now_ms ? s->retry_at_ms : w->now_ms;
        world__put(w, at, HAPPENING_STORED, HANDLE_NONE, s->number, 1);
    }
}

static void finish(struct world_store *s, enum store_applied result, const char *why)
{
    struct world *w = s->world;
    s->counts.transactions++;
    trace_line(&w->trace, w->now_ms, "disk transaction %llu %s%s%s", (unsigned long long)s->number,
               result == STORE_APPLIED ? "done" : "failed", why[0] ? ": " : "", why);
    if (result != STORE_APPLIED) {
        s->counts.failures++;
        s->retry_pause_ms = s->degraded ? s->retry_pause_ms * 2 : STORE_RETRY_FIRST_MS;
        if (s->retry_pause_ms > STORE_RETRY_MOST_MS) s->retry_pause_ms = STORE_RETRY_MOST_MS;
        s->retry_at_ms = w->now_ms + s->retry_pause_ms;
        s->degraded = true;
        settle(s, 0, result != STORE_FAILED_FULL);
        return;
    }
    s->degraded = false;
    s->try_count = 0;
    /* What the answers submit must not meet what they are the answers of. */
    struct buffer done = s->taken;
    buffer_init(&s->taken, STORE_WAITING_BYTES_MAX * 4);
    s->taken_count = 0;
    world__store_applied(s, &done);
    answer_all(s, &done);
    if (s->taken.len == 0) {
        buffer_deinit(&s->taken);
        s->taken = done;
        buffer_clear(&s->taken);
    } else {
        buffer_deinit(&done);
    }
    if (!s->core || w->now_ms < s->tidied_ms + STORE_TIDY_MS) return;
    char tidy_why[300];
    s->tidied_ms = w->now_ms;
    world__disk_prepare(s);
    store_core_tidy(s->core, world_clock(w).wall_ms, tidy_why, sizeof tidy_why);
}

static void say_failed(void *to, uint64_t ticket)
{
    struct world *w = ((struct world_store *)to)->world;
    if (!w->booted || !w->machine.stored) return;
    w->machine.stored(w->machine.self, ticket, false);
    w->wake = true;
}

/* What was not written: tickets are answered, the rest waits. With `unsure` all may be on disk. */
static void settle(struct world_store *s, size_t from, bool unsure)
{
    struct pending_answer answer = { say_failed, s };
    struct store_request r;
    for (size_t at = from; unsure && store_batch_next(&s->taken, &at, &r);) {
        if (r.op == STORE_OP_PERMIT) model_apply(s->doubtful, &r);
    }
    pending_settle(&s->taken, from, unsure, &answer);
    s->taken_count = 0;
    for (size_t at = 0; store_batch_next(&s->taken, &at, &r);) s->taken_count++;
    if (!unsure) return;
    if (s->try_count == STORE_TRIES_MAX) s->try_count--;
    s->tries[s->try_count++] = s->taken.len;
}

/* Each ticket once; what the runtime submits from inside goes with the next flush. */
static void answer_all(struct world_store *s, const struct buffer *batch)
{
    struct world *w = s->world;
    struct store_request r;
    for (size_t at = 0; store_batch_next(batch, &at, &r);) {
        if (!w->booted) return;
        if (w->machine.safe && r.op == STORE_OP_FRAMES && r.ticket) {
            w->machine.safe(w->machine.self, r.connection, 0, r.offset);
        }
        if (!r.ticket || !w->machine.stored) continue;
        w->machine.stored(w->machine.self, r.ticket, true);
        w->wake = true;
    }
}

void world__store_applied(struct world_store *s, const struct buffer *batch)
{
    struct world *w = s->world;
    struct store_request r;
    for (size_t at = 0; store_batch_next(batch, &at, &r);) {
        model_apply(s->written, &r);
        if (r.op != STORE_OP_EVENT || r.kind != STORE_EVENT_FRAME) continue;
        if (w->booted && w->machine.safe) {
            w->machine.safe(w->machine.self, r.connection, r.epoch, r.offset);
        }
    }
}

/* One strike for a whole transaction, if the fault is about anything in it. */
static const struct fault *strike(struct world *w, enum fault_kind kind, const struct buffer *batch)
{
    struct fault_table *t = &w->faults;
    if (t->on_count[kind] == 0) return NULL;
    for (uint32_t i = 0; i < t->count; i++) {
        struct fault *f = &t->items[i];
        struct store_request r;
        bool about = false;
        if (!f->on || f->kind != kind) continue;
        for (size_t at = 0; !about && store_batch_next(batch, &at, &r);) {
            struct fault_subject subject = { .connection = r.connection,
                                             .what = FAULT_ON_LINKS | FAULT_ON_CALLS };
            about = fault_matches(f, &subject);
        }
        if (about && fault_hits(t, f)) return f;
    }
    return NULL;
}

void world__store_gone(struct world *w, bool power)
{
    struct world_store *s = w->store;
    if (!s->is_open) return;
    if (s->in_memory) {
        /* In the middle of a write: all of it, or nothing. */
        uint64_t draw = world_draw(w, "crash", w->now_ms, s->number);
        if (s->busy && draw & 1) world__store_applied(s, &s->taken);
    } else {
        world__disk_kill(s, power);
    }
    s->is_open = s->busy = s->degraded = false;
    buffer_clear(&s->open);
    buffer_clear(&s->waiting);
    if (s->in_memory) buffer_clear(&s->taken);
    s->open_count = s->waiting_count = s->taken_count = 0;
    s->number++;
    s->clean = false;
}

bool world_store_close(struct world *w)
{
    struct world_store *s = w->store;
    if (!s->is_open) return true;
    world__store_flush(w);
    for (int tries = 0; tries < 4 && s->taken.len + s->waiting.len + s->open.len; tries++) {
        s->retry_at_ms = w->now_ms;
        if (!s->busy) begin(s);
        world__store_on_due(w, s->number, false);
        world__store_flush(w);
    }
    bool clean = s->taken.len + s->waiting.len + s->open.len == 0;
    if (s->core) {
        world__disk_prepare(s);
        clean = store_core_close(s->core, clean) && clean;
        s->core = NULL;
    }
    trace_line(&w->trace, w->now_ms, "store closes%s", clean ? "" : " with something left");
    buffer_clear(&s->open);
    buffer_clear(&s->waiting);
    if (clean || s->in_memory) buffer_clear(&s->taken);
    s->open_count = s->waiting_count = s->taken_count = 0;
    s->is_open = s->busy = s->degraded = false;
    s->number++;
    s->clean = clean;
    return clean;
}

/* ---- looking -------------------------------------------------------------------------------------------------- */

bool world_disk_get(const struct world *w, enum store_op op, const char *connection,
                    struct disk_record *out)
{
    struct model_record r;
    if (!model_record_get(w->store->written, op, connection, &r)) return false;
    *out = (struct disk_record){ r.bytes, r.len, r.wall_ms, r.account };
    return true;
}

void world_disk_visit(const struct world *w, const struct store_visitor *v)
{
    model_visit(w->store->written, v);
}

uint64_t world_disk_safe(const struct world *w, const char *connection)
{
    uint64_t epoch, offset;
    model_last_frame(w->store->written, connection, &epoch, &offset);
    return offset;
}

uint32_t world_disk_pending(const struct world *w)
{
    return w->store->open_count + w->store->waiting_count + w->store->taken_count;
}

const struct disk *world_disk(const struct world *w)
{
    return w->store->disk;
}

const char *world_store_lost(const struct world *w)
{
    return w->store->lost[0] ? w->store->lost : NULL;
}

void world_store_counts(const struct world *w, struct world_store_counts *out)
{
    struct model_counts c;
    model_counts(w->store->written, &c);
    *out = w->store->counts;
    out->events = c.events;
    out->permits = c.permits;
    out->consumers = c.consumers;
    out->cursors = c.cursors;
    out->seen = c.seen;
    out->sessions = c.sessions;
}

#ifdef HOLDFAST_TEST
void world_plant_early_answer(struct world *w)
{
    w->store->plant_early_answer = true;
}
#endif
