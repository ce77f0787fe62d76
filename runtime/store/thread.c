/* Store thread, the loop's side: hands requests over and takes answers back, starts and ends the thread. Owns
 * the core while it does not run, and the three places a request passes: `front` (the loop's), `handed` (under
 * the mutex, never held while the disk is asked), `work` (the thread's). Answers come back through a pair of
 * arrays that are as long as tickets are out, so that an answer never lacks room. */
#include "store/thread_internal.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "store/pending.h"

#define PENDING_DEFAULT ((size_t)64 << 20)
#define HUNG_MS         10000 /* in the disk's hands for so long: whoever looks is told */

static bool thread_submit(void *self, const struct store_request *request);
static const char *thread_kind(void *self);
static bool may_wait(enum store_op op);
static bool reserve_answers(struct store_thread *t);
static void shrink_handed(struct store_thread *t);
static void refused(void *to, uint64_t ticket);
static void hung(struct store_health *h, uint64_t waits_ms);

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
    t->gather_ms = options->gather_ms ? options->gather_ms : THREAD_GATHER_MS;
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
        thread__destroy(t);
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
    t->tidy_at_ms = thread__now_ms() + THREAD_TIDY_BUSY_MS;
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    t->started = pthread_create(&t->thread, NULL, thread__main, t) == 0;
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
    t->hurries |= t->front_hurries;
    t->front_hurries = false;
    bool over = handed > t->pending_bytes_max / 2 && handed + t->work_bytes > t->pending_bytes_max;
    if (!t->gathers || t->hurries || handed >= THREAD_GATHER_BYTES) pthread_cond_signal(&t->work_there);
    pthread_mutex_unlock(&t->mutex);
    if (over) shrink_handed(t);
    else if (t->front.len == 0) buffer_trim(&t->front, THREAD_BUFFER_KEPT);
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
    uint64_t waits_ms = t->asked_ms ? thread__now_ms() - t->asked_ms : 0;
    if (waits_ms >= HUNG_MS && !out->degraded) hung(out, waits_ms);
    pthread_mutex_unlock(mutex);
}

bool store_thread_close(struct store_thread *t, uint64_t deadline_ms)
{
    uint64_t until = thread__now_ms() + deadline_ms;
    if (!t->started) {
        bool clean_unstarted = store_core_close(t->core, t->front.len == 0 && t->handed.len == 0);
        thread__destroy(t);
        return clean_unstarted;
    }
    store_thread_flush(t);
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    /* Trying ends a little before waiting does. */
    t->stop_at_ms = until - (deadline_ms / 10 < 100 ? deadline_ms / 10 : 100);
    pthread_cond_signal(&t->work_there);
    while (!t->finished && thread__now_ms() < until) thread__wait(&t->finished_now, &t->mutex, until);
    bool finished = t->finished, clean = t->clean && t->front.len == 0;
    t->abandoned = !finished;
    pthread_mutex_unlock(&t->mutex);
    if (!finished) {
        /* It has all now, and frees it should it ever come back. */
        pthread_detach(t->thread);
        return false;
    }
    pthread_join(t->thread, NULL);
    thread__destroy(t);
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
    t->front_hurries |= request->ticket || request->hurries || !may_wait(request->op);
    return true;
}

/* Of these there are thousands a second, and after a crash the platform or the other rows of the same write tell
 * what was missed. */
static bool may_wait(enum store_op op)
{
    return op == STORE_OP_EVENT || op == STORE_OP_TRIM || op == STORE_OP_CURSOR || op == STORE_OP_JOURNAL ||
           op == STORE_OP_SESSION;
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
    if (more > THREAD_TICKETS_MAX) return false;
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
    thread__wake(t);
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

void thread__destroy(struct store_thread *t)
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
