/* Store thread, its own side: takes what was handed over, writes it in groups, answers. While the last write
 * failed, tickets are answered at once and the rest stays in `work`, tried again at a pace that new requests
 * do not quicken. */
#include "store/thread_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "store/pending.h"

#define RETRY_FIRST_MS 100
#define RETRY_MOST_MS  5000
#define TIDY_IDLE_MS   60000
#define TIDY_MORE_MS   20

static bool thread_turn(struct store_thread *t);
static uint64_t next_turn_ms(const struct store_thread *t);
static void asks(struct store_thread *t, bool asks);
static size_t take_handed(struct store_thread *t);
static uint64_t write_work(struct store_thread *t);
static void tidy(struct store_thread *t);
static void settle(struct store_thread *t, size_t from, bool unsure);
static void note(struct store_thread *t, enum store_applied result, const char *why);
static void say(struct store_thread *t, uint64_t ticket, bool ok);
static void say_failed(void *to, uint64_t ticket);
static void hand_back(struct store_thread *t);

void *thread__main(void *self)
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
    if (mine) thread__destroy(t);
    return NULL;
}

/* Waits for something to do and does it; false: it is time to close. */
static bool thread_turn(struct store_thread *t)
{
    pthread_mutex_lock(&t->mutex);
    uint64_t now = thread__now_ms();
    while (t->handed.len == 0 && now < next_turn_ms(t) && !(t->stop && t->work.len == 0)) {
        thread__wait(&t->work_there, &t->mutex, next_turn_ms(t));
        now = thread__now_ms();
    }
    t->gathers = true;
    while (t->handed.len && t->handed.len < THREAD_GATHER_BYTES && !t->hurries && !t->stop && !t->degraded &&
           now < t->gather_until_ms) {
        thread__wait(&t->work_there, &t->mutex, t->gather_until_ms);
        now = thread__now_ms();
    }
    t->gathers = false;
    bool over = t->stop && (now >= t->stop_at_ms || (t->work.len == 0 && t->handed.len == 0));
    size_t from = over ? 0 : take_handed(t);
    pthread_mutex_unlock(&t->mutex);
    if (over) return false;
    if (t->degraded && now < t->retry_at_ms) {
        settle(t, from, false); /* never tried: nothing of it can be on disk */
        return true;
    }
    asks(t, true);
    const uint64_t more_ms = t->work.len ? write_work(t) / THREAD_GATHER_ROWS : 0;
    t->gather_until_ms = now + t->gather_ms + (more_ms < 3 * t->gather_ms ? more_ms : 3 * t->gather_ms);
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
    t->asked_ms = asks ? thread__now_ms() : 0;
    pthread_mutex_unlock(&t->mutex);
}

/* Where it begins in `work`. */
static size_t take_handed(struct store_thread *t)
{
    size_t from = t->work.len;
    t->hurries = false;
    if (t->work.len == 0) {
        struct buffer empty = t->work;
        t->work = t->handed;
        t->handed = empty;
    } else if (buffer_append(&t->work, t->handed.data, t->handed.len)) {
        buffer_clear(&t->handed);
    } else {
        thread__wait(&t->work_there, &t->mutex, thread__now_ms() + RETRY_FIRST_MS); /* memory is out */
    }
    t->work_bytes = t->work.len;
    return from;
}

/* How many rows went in. */
static uint64_t write_work(struct store_thread *t)
{
    char why[sizeof t->health.why];
    struct store_request r;
    uint64_t begun = thread__now_ms(), requests = 0, file = 0, wal = 0;
    enum store_applied result = store_core_apply(t->core, &t->work, why, sizeof why);
    uint64_t took = thread__now_ms() - begun;
    if (result == STORE_APPLIED) {
        for (size_t at = 0; store_batch_next(&t->work, &at, &r); requests++)
            if (r.ticket) say(t, r.ticket, true);
        buffer_clear(&t->work);
        buffer_trim(&t->work, THREAD_BUFFER_KEPT);
        store_core_sizes(t->core, &file, &wal);
        uint64_t pause = store_core_wants_tidy(t->core) ? TIDY_MORE_MS : THREAD_TIDY_BUSY_MS;
        if (t->tidy_at_ms > begun + took + pause) t->tidy_at_ms = begun + took + pause;
    }
    pthread_mutex_lock(&t->mutex);
    if (result == STORE_APPLIED) {
        struct store_health *h = &t->health;
        h->commits++;
        h->requests += requests;
        h->commit_ms_last = took;
        h->commit.scale = HISTOGRAM_MIDDLE;
        histogram_note(&h->commit, took * 1000);
        if (took > h->commit_ms_most) h->commit_ms_most = took;
        h->file_bytes = file;
        h->wal_bytes = wal;
    }
    pthread_mutex_unlock(&t->mutex);
    note(t, result, why);
    if (result != STORE_APPLIED) settle(t, 0, result != STORE_FAILED_FULL);
    else hand_back(t);
    return result == STORE_APPLIED ? requests : 0;
}

static void tidy(struct store_thread *t)
{
    char why[sizeof t->health.why];
    struct timespec wall;
    uint64_t file = 0, wal = 0;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t wall_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    enum store_applied result = store_core_tidy(t->core, wall_ms, why, sizeof why);
    t->tidy_at_ms = thread__now_ms() + (store_core_wants_tidy(t->core) ? TIDY_MORE_MS : TIDY_IDLE_MS);
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
    static const char said[] = "cannot write the store "; /* whoever shows it says so already */
    bool failed = result != STORE_APPLIED;
    if (failed && strncmp(why, said, sizeof said - 1) == 0) why += sizeof said - 1;
    if (failed) {
        t->retry_pause_ms = t->degraded ? t->retry_pause_ms * 2 : RETRY_FIRST_MS;
        if (t->retry_pause_ms > RETRY_MOST_MS) t->retry_pause_ms = RETRY_MOST_MS;
        t->retry_at_ms = thread__now_ms() + t->retry_pause_ms;
    }
    pthread_mutex_lock(&t->mutex);
    if (failed) t->health.failures++;
    if (failed != t->health.degraded) {
        struct timespec wall;
        clock_gettime(CLOCK_REALTIME, &wall);
        t->health.since_wall_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
        thread__wake(t); /* whoever shows it looks again */
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
    if (t->batch_count < THREAD_ANSWERS_AT_ONCE) return;
    pthread_mutex_lock(&t->mutex);
    ASSERT(t->answer_count + t->batch_count <= THREAD_TICKETS_MAX);
    memcpy(t->answers + t->answer_count, t->batch, t->batch_count * sizeof *t->batch);
    t->answer_count += t->batch_count;
    t->batch_count = 0;
    thread__wake(t);
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
        thread__wake(t);
    }
    t->work_bytes = t->work.len;
    pthread_mutex_unlock(&t->mutex);
}

/* Under the mutex, so that nothing wakes a loop that has closed its store. */
void thread__wake(struct store_thread *t)
{
    if (t->woken || t->abandoned || !t->wake) return;
    t->woken = true;
    t->wake(t->to);
}

uint64_t thread__now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void thread__wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t at_ms)
{
    struct timespec at = { .tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000 };
    pthread_cond_timedwait(cond, mutex, &at);
}
