/* Store thread: owns the core while it runs, and the three places a request passes: `front` (the loop's),
 * `handed` (under the mutex, never held while the disk is asked), `work` (the thread's). Answers come back
 * through a pair of arrays that are as long as tickets are out, so that an answer never lacks room.
 *
 * While the last write failed, tickets are answered at once and the rest stays in `work`, tried again at a
 * pace that new requests do not quicken. */
#include "store/thread.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "store/pending.h"

#define PENDING_DEFAULT   ((size_t)64 << 20)
#define BUFFER_KEPT       ((size_t)4 << 20)
#define TICKETS_MAX       ((size_t)1 << 20)
#define ANSWERS_AT_ONCE   256
#define RETRY_FIRST_MS    100
#define RETRY_MOST_MS     5000
#define TIDY_IDLE_MS      60000
#define TIDY_BUSY_MS      5000
#define TIDY_MORE_MS      20
#define HUNG_MS           10000 /* in the disk's hands for so long: whoever looks is told */

struct answer {
    uint64_t ticket;
    bool ok;
};

struct store_thread {
    struct store_core *core; /* the thread's, once it runs */
    void (*wake)(void *to);
    void *to;
    size_t pending_bytes_max;
    uint64_t epoch, seed;
    bool was_clean, is_new;
    pthread_t thread;
    bool started;

    /* the loop's */
    struct buffer front;
    struct answer *told;      /* owned */
    size_t tickets_out, answers_max;
    bool polling;

    pthread_mutex_t mutex;    /* of all below */
    pthread_cond_t work_there, finished_now;
    struct buffer handed;
    struct answer *answers;   /* owned; told and answers change places */
    size_t answer_count;
    size_t work_bytes;        /* in the thread's hands */
    bool woken, stop, abandoned, finished, clean;
    uint64_t stop_at_ms;
    uint64_t asked_ms;        /* the disk was asked then, and has not answered; 0: it has */
    struct store_health health;

    /* the thread's */
    struct buffer work;
    struct answer batch[ANSWERS_AT_ONCE];
    size_t batch_count;
    bool degraded;
    uint64_t retry_at_ms, retry_pause_ms, tidy_at_ms;
};

static bool thread_submit(void *self, const struct store_request *request);
static const char *thread_kind(void *self);
static bool reserve_answers(struct store_thread *t);
static void shrink_handed(struct store_thread *t);
static void refused(void *to, uint64_t ticket);
static void hung(struct store_health *h, uint64_t waits_ms);
static void destroy(struct store_thread *t);
static void *thread_main(void *self);
static bool thread_turn(struct store_thread *t);
static uint64_t next_turn_ms(const struct store_thread *t);
static void asks(struct store_thread *t, bool asks);
static size_t take_handed(struct store_thread *t);
static void write_work(struct store_thread *t);
static void tidy(struct store_thread *t);
static void settle(struct store_thread *t, size_t from, bool unsure);
static void note(struct store_thread *t, enum store_applied result, const char *why);
static void say(struct store_thread *t, uint64_t ticket, bool ok);
static void say_failed(void *to, uint64_t ticket);
static void hand_back(struct store_thread *t);
static void wake_locked(struct store_thread *t);
static uint64_t now_ms(void);
static void wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t at_ms);

static const struct store_ops thread_ops = { .submit = thread_submit, .kind = thread_kind };

struct store_thread *store_thread_open(const struct store_thread_options *options,
                                       enum store_open *result, char *why, size_t why_bytes)
{
    pthread_condattr_t monotonic;
    struct store_thread *t = calloc(1, sizeof *t);
    *result = STORE_OPEN_FAILED;
    snprintf(why, why_bytes, "out of memory");
    if (!t) return NULL;
    t->wake = options->wake;
    t->to = options->to;
    t->pending_bytes_max = options->pending_bytes_max ? options->pending_bytes_max : PENDING_DEFAULT;
    buffer_init(&t->front, 0);
    buffer_init(&t->handed, 0);
    buffer_init(&t->work, 0);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->work_there, &monotonic);
    pthread_cond_init(&t->finished_now, &monotonic);
    pthread_condattr_destroy(&monotonic);
    t->core = store_core_open(&options->core, result, why, why_bytes);
    if (!t->core) {
        destroy(t);
        return NULL;
    }
    t->epoch = store_core_epoch(t->core);
    t->seed = store_core_seed(t->core);
    t->was_clean = store_core_was_clean(t->core);
    t->is_new = store_core_is_new(t->core);
    store_core_sizes(t->core, &t->health.file_bytes, &t->health.wal_bytes);
    return t;
}

bool store_thread_visit(struct store_thread *t, const struct store_visitor *visitor, char *why,
                        size_t why_bytes)
{
    ASSERT(!t->started);
    return store_core_visit(t->core, visitor, why, why_bytes);
}

bool store_thread_start(struct store_thread *t)
{
    sigset_t all, before;
    ASSERT(!t->started);
    t->tidy_at_ms = now_ms() + TIDY_BUSY_MS;
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    t->started = pthread_create(&t->thread, NULL, thread_main, t) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return t->started;
}

struct store store_thread_store(struct store_thread *t)
{
    return (struct store){ .ops = &thread_ops, .self = t };
}

uint64_t store_thread_epoch(const struct store_thread *t)
{
    return t->epoch;
}

uint64_t store_thread_seed(const struct store_thread *t)
{
    return t->seed;
}

bool store_thread_was_clean(const struct store_thread *t)
{
    return t->was_clean;
}

bool store_thread_is_new(const struct store_thread *t)
{
    return t->is_new;
}

void store_thread_flush(struct store_thread *t)
{
    if (t->front.len == 0) return;
    FAILPOINT("flush");
    pthread_mutex_lock(&t->mutex);
    if (t->handed.len == 0) {
        struct buffer empty = t->handed;
        t->handed = t->front;
        t->front = empty;
    } else if (buffer_append(&t->handed, t->front.data, t->front.len)) {
        buffer_clear(&t->front);
    } /* else it waits for the next turn */
    size_t handed = t->handed.len;
    bool over = handed > t->pending_bytes_max / 2 && handed + t->work_bytes > t->pending_bytes_max;
    pthread_cond_signal(&t->work_there);
    pthread_mutex_unlock(&t->mutex);
    if (over) shrink_handed(t);
    else if (t->front.len == 0) buffer_trim(&t->front, BUFFER_KEPT);
}

void store_thread_poll(struct store_thread *t, void (*answer)(void *to, uint64_t ticket, bool ok),
                       void *to)
{
    ASSERT(!t->polling);
    pthread_mutex_lock(&t->mutex);
    struct answer *there = t->answers;
    size_t count = t->answer_count;
    t->answers = t->told;
    t->told = there;
    t->answer_count = 0;
    t->woken = false;
    pthread_mutex_unlock(&t->mutex);
    t->polling = true;
    ASSERT(t->tickets_out >= count);
    for (size_t i = 0; i < count; i++) {
        /* By index: what an answer submits may move the array. */
        struct answer a = t->told[i];
        answer(to, a.ticket, a.ok);
    }
    t->tickets_out -= count;
    t->polling = false;
}

bool store_thread_is_idle(const struct store_thread *t)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&t->mutex;
    pthread_mutex_lock(mutex);
    bool idle = t->front.len == 0 && t->handed.len == 0 && t->work_bytes == 0 && t->answer_count == 0;
    pthread_mutex_unlock(mutex);
    return idle;
}

void store_thread_health(const struct store_thread *t, struct store_health *out)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&t->mutex;
    pthread_mutex_lock(mutex);
    *out = t->health;
    out->pending_bytes = t->front.len + t->handed.len + t->work_bytes;
    uint64_t waits_ms = t->asked_ms ? now_ms() - t->asked_ms : 0;
    if (waits_ms >= HUNG_MS && !out->degraded) hung(out, waits_ms);
    pthread_mutex_unlock(mutex);
}

bool store_thread_close(struct store_thread *t, uint64_t deadline_ms)
{
    uint64_t until = now_ms() + deadline_ms;
    if (!t->started) {
        bool clean_unstarted = store_core_close(t->core, t->front.len == 0 && t->handed.len == 0);
        destroy(t);
        return clean_unstarted;
    }
    store_thread_flush(t);
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    /* Trying ends a little before waiting does. */
    t->stop_at_ms = until - (deadline_ms / 10 < 100 ? deadline_ms / 10 : 100);
    pthread_cond_signal(&t->work_there);
    while (!t->finished && now_ms() < until) wait_until(&t->finished_now, &t->mutex, until);
    bool finished = t->finished, clean = t->clean && t->front.len == 0;
    t->abandoned = !finished;
    pthread_mutex_unlock(&t->mutex);
    if (!finished) {
        /* It has all now, and frees it should it ever come back. */
        pthread_detach(t->thread);
        return false;
    }
    pthread_join(t->thread, NULL);
    destroy(t);
    return clean;
}

/* --- on the loop ------------------------------------------------------------------------------------------------ */

static bool thread_submit(void *self, const struct store_request *request)
{
    struct store_thread *t = self;
    /* Waiting bytes are bounded where they are handed over; one turn alone must not pass the bound. */
    if (t->front.len > t->pending_bytes_max) return false;
    if (request->ticket && !reserve_answers(t)) return false;
    if (!store_batch_add(&t->front, request)) return false;
    if (request->ticket) t->tickets_out++;
    return true;
}

static const char *thread_kind(void *self)
{
    (void)self;
    return "sqlite";
}

/* Room for one more ticket to be out. */
static bool reserve_answers(struct store_thread *t)
{
    if (t->tickets_out < t->answers_max) return true;
    size_t more = t->answers_max ? t->answers_max * 2 : 256;
    if (more > TICKETS_MAX) return false;
    struct answer *told = realloc(t->told, more * sizeof *told);
    if (told) t->told = told;
    pthread_mutex_lock(&t->mutex);
    struct answer *answers = told ? realloc(t->answers, more * sizeof *answers) : NULL;
    if (answers) t->answers = answers;
    pthread_mutex_unlock(&t->mutex);
    if (answers) t->answers_max = more;
    return answers != NULL;
}

/* The thread is stuck in a write and more piles up behind it. Done on the loop, outside the mutex, and
 * rarely: half of the bound is free afterwards. */
static void shrink_handed(struct store_thread *t)
{
    struct pending_answer answer = { refused, t };
    struct buffer mine;
    buffer_init(&mine, 0);
    pthread_mutex_lock(&t->mutex);
    mine = t->handed;
    buffer_init(&t->handed, 0);
    pthread_mutex_unlock(&t->mutex);
    uint64_t dropped = pending_shrink(&mine, t->pending_bytes_max / 4, &answer);
    pthread_mutex_lock(&t->mutex);
    ASSERT(t->handed.len == 0); /* the loop alone puts anything there */
    t->handed = mine;
    t->health.dropped += dropped;
    wake_locked(t);
    pthread_cond_signal(&t->work_there);
    pthread_mutex_unlock(&t->mutex);
}

static void refused(void *to, uint64_t ticket)
{
    struct store_thread *t = to;
    pthread_mutex_lock(&t->mutex);
    ASSERT(t->answer_count < t->answers_max);
    t->answers[t->answer_count++] = (struct answer){ ticket, false };
    pthread_mutex_unlock(&t->mutex);
}

/* Nothing has failed yet, and nothing is safe either. */
static void hung(struct store_health *h, uint64_t waits_ms)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    h->degraded = true;
    h->since_wall_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000 - waits_ms;
    snprintf(h->why, sizeof h->why, "the disk has not answered for %" PRIu64 " s", waits_ms / 1000);
}

static void destroy(struct store_thread *t)
{
    buffer_deinit(&t->front);
    buffer_deinit(&t->handed);
    buffer_deinit(&t->work);
    free(t->told);
    free(t->answers);
    pthread_cond_destroy(&t->work_there);
    pthread_cond_destroy(&t->finished_now);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

/* --- on the thread ------------------------------------------------------------------------------------------------ */

static void *thread_main(void *self)
{
    struct store_thread *t = self;
    pthread_setname_np(pthread_self(), "store");
    while (thread_turn(t)) {}
    pthread_mutex_lock(&t->mutex);
    bool clean = t->work.len == 0 && t->handed.len == 0 && t->health.dropped == 0;
    pthread_mutex_unlock(&t->mutex);
    clean = store_core_close(t->core, clean);
    pthread_mutex_lock(&t->mutex);
    t->clean = clean;
    t->finished = true;
    bool mine = t->abandoned;
    pthread_cond_signal(&t->finished_now);
    pthread_mutex_unlock(&t->mutex);
    if (mine) destroy(t);
    return NULL;
}

/* Waits for something to do and does it; false: it is time to close. */
static bool thread_turn(struct store_thread *t)
{
    pthread_mutex_lock(&t->mutex);
    uint64_t now = now_ms();
    while (t->handed.len == 0 && now < next_turn_ms(t) && !(t->stop && t->work.len == 0)) {
        wait_until(&t->work_there, &t->mutex, next_turn_ms(t));
        now = now_ms();
    }
    bool over = t->stop && (now >= t->stop_at_ms || (t->work.len == 0 && t->handed.len == 0));
    size_t from = over ? 0 : take_handed(t);
    pthread_mutex_unlock(&t->mutex);
    if (over) return false;
    if (t->degraded && now < t->retry_at_ms) {
        settle(t, from, false); /* never tried: nothing of it can be on disk */
        return true;
    }
    asks(t, true);
    if (t->work.len) write_work(t);
    if (now >= t->tidy_at_ms || (t->degraded && t->work.len == 0 && now >= t->retry_at_ms)) tidy(t);
    asks(t, false);
    return true;
}

static uint64_t next_turn_ms(const struct store_thread *t)
{
    uint64_t at = t->degraded ? t->retry_at_ms : t->tidy_at_ms;
    return t->stop && t->stop_at_ms < at ? t->stop_at_ms : at;
}

static void asks(struct store_thread *t, bool asks)
{
    pthread_mutex_lock(&t->mutex);
    t->asked_ms = asks ? now_ms() : 0;
    pthread_mutex_unlock(&t->mutex);
}

/* Where it begins in `work`. */
static size_t take_handed(struct store_thread *t)
{
    size_t from = t->work.len;
    if (t->work.len == 0) {
        struct buffer empty = t->work;
        t->work = t->handed;
        t->handed = empty;
    } else if (buffer_append(&t->work, t->handed.data, t->handed.len)) {
        buffer_clear(&t->handed);
    } else {
        wait_until(&t->work_there, &t->mutex, now_ms() + RETRY_FIRST_MS); /* memory is out */
    }
    t->work_bytes = t->work.len;
    return from;
}

static void write_work(struct store_thread *t)
{
    char why[sizeof t->health.why];
    struct store_request r;
    uint64_t begun = now_ms(), requests = 0, file = 0, wal = 0;
    enum store_applied result = store_core_apply(t->core, &t->work, why, sizeof why);
    uint64_t took = now_ms() - begun;
    if (result == STORE_APPLIED) {
        for (size_t at = 0; store_batch_next(&t->work, &at, &r); requests++)
            if (r.ticket) say(t, r.ticket, true);
        buffer_clear(&t->work);
        buffer_trim(&t->work, BUFFER_KEPT);
        store_core_sizes(t->core, &file, &wal);
        uint64_t pause = store_core_wants_tidy(t->core) ? TIDY_MORE_MS : TIDY_BUSY_MS;
        if (t->tidy_at_ms > begun + took + pause) t->tidy_at_ms = begun + took + pause;
    }
    pthread_mutex_lock(&t->mutex);
    if (result == STORE_APPLIED) {
        struct store_health *h = &t->health;
        h->commits++;
        h->requests += requests;
        h->commit_ms_last = took;
        if (took > h->commit_ms_most) h->commit_ms_most = took;
        h->file_bytes = file;
        h->wal_bytes = wal;
    }
    pthread_mutex_unlock(&t->mutex);
    note(t, result, why);
    if (result != STORE_APPLIED) settle(t, 0, result != STORE_FAILED_FULL);
    else hand_back(t);
}

static void tidy(struct store_thread *t)
{
    char why[sizeof t->health.why];
    struct timespec wall;
    uint64_t file = 0, wal = 0;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t wall_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    enum store_applied result = store_core_tidy(t->core, wall_ms, why, sizeof why);
    t->tidy_at_ms = now_ms() + (store_core_wants_tidy(t->core) ? TIDY_MORE_MS : TIDY_IDLE_MS);
    if (store_core_sizes(t->core, &file, &wal)) {
        pthread_mutex_lock(&t->mutex);
        t->health.file_bytes = file;
        t->health.wal_bytes = wal;
        pthread_mutex_unlock(&t->mutex);
    }
    note(t, result, why);
}

/* What was not written: tickets are answered, the rest waits within the bound. */
static void settle(struct store_thread *t, size_t from, bool unsure)
{
    struct pending_answer answer = { say_failed, t };
    uint64_t dropped = 0;
    pending_settle(&t->work, from, unsure, &answer);
    if (t->work.len > t->pending_bytes_max)
        dropped = pending_shrink(&t->work, t->pending_bytes_max / 2, &answer);
    pthread_mutex_lock(&t->mutex);
    t->health.dropped += dropped;
    pthread_mutex_unlock(&t->mutex);
    hand_back(t);
}

/* The state that a write or a tidying showed. */
static void note(struct store_thread *t, enum store_applied result, const char *why)
{
    bool failed = result != STORE_APPLIED;
    if (failed) {
        t->retry_pause_ms = t->degraded ? t->retry_pause_ms * 2 : RETRY_FIRST_MS;
        if (t->retry_pause_ms > RETRY_MOST_MS) t->retry_pause_ms = RETRY_MOST_MS;
        t->retry_at_ms = now_ms() + t->retry_pause_ms;
    }
    pthread_mutex_lock(&t->mutex);
    if (failed) t->health.failures++;
    if (failed != t->health.degraded) {
        struct timespec wall;
        clock_gettime(CLOCK_REALTIME, &wall);
        t->health.since_wall_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
        wake_locked(t); /* whoever shows it looks again */
    }
    t->health.degraded = failed;
    snprintf(t->health.why, sizeof t->health.why, "%s", failed ? why : "");
    pthread_mutex_unlock(&t->mutex);
    t->degraded = failed;
}

static void say_failed(void *to, uint64_t ticket)
{
    say(to, ticket, false);
}

/* In pieces, so that the loop never waits for long rows of them. */
static void say(struct store_thread *t, uint64_t ticket, bool ok)
{
    t->batch[t->batch_count++] = (struct answer){ ticket, ok };
    if (t->batch_count < ANSWERS_AT_ONCE) return;
    pthread_mutex_lock(&t->mutex);
    ASSERT(t->answer_count + t->batch_count <= TICKETS_MAX);
    memcpy(t->answers + t->answer_count, t->batch, t->batch_count * sizeof *t->batch);
    t->answer_count += t->batch_count;
    t->batch_count = 0;
    wake_locked(t);
    pthread_mutex_unlock(&t->mutex);
}

/* The rest of the answers, and what is still in hand. */
static void hand_back(struct store_thread *t)
{
    pthread_mutex_lock(&t->mutex);
    if (t->batch_count) {
        memcpy(t->answers + t->answer_count, t->batch, t->batch_count * sizeof *t->batch);
        t->answer_count += t->batch_count;
        t->batch_count = 0;
        wake_locked(t);
    }
    t->work_bytes = t->work.len;
    pthread_mutex_unlock(&t->mutex);
}

/* Under the mutex, so that nothing wakes a loop that has closed its store. */
static void wake_locked(struct store_thread *t)
{
    if (t->woken || t->abandoned || !t->wake) return;
    t->woken = true;
    t->wake(t->to);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t at_ms)
{
    struct timespec at = { .tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000 };
    pthread_cond_timedwait(cond, mutex, &at);
}
