/* What the two sides of the store's thread share: the loop's (thread.c) and its own (thread_work.c). */
#ifndef HOLDFAST_STORE_THREAD_INTERNAL_H
#define HOLDFAST_STORE_THREAD_INTERNAL_H

#include <pthread.h>

#include "base/buffer.h"
#include "store/thread.h"

#define THREAD_BUFFER_KEPT     ((size_t)4 << 20)
#define THREAD_TICKETS_MAX     ((size_t)1 << 20)
#define THREAD_ANSWERS_AT_ONCE 256
#define THREAD_TIDY_BUSY_MS    5000
/* Between two writes for which nobody waits: a sync costs more than its rows. Where many come, a herd's journal above
 * all, longer: a page that rows share is written once then. */
#define THREAD_GATHER_MS       10
#define THREAD_GATHER_ROWS     16 /* of the write before, a millisecond more for so many */
#define THREAD_GATHER_BYTES    ((size_t)1 << 20)

struct answer {
    uint64_t ticket;
    bool ok;
};

struct store_thread {
    struct store_core *core; /* the thread's, once it runs */
    void (*wake)(void *to);
    void *to;
    size_t pending_bytes_max;
    uint64_t gather_ms;
    uint64_t epoch, seed;
    bool was_clean, is_new;
    pthread_t thread;
    bool started;

    /* the loop's */
    struct buffer front;
    struct answer *told;      /* owned */
    size_t tickets_out, answers_max;
    bool polling;
    bool front_hurries;       /* somebody waits for what is in `front` */

    pthread_mutex_t mutex;    /* of all below */
    pthread_cond_t work_there, finished_now;
    struct buffer handed;
    struct answer *answers;   /* owned; told and answers change places */
    size_t answer_count;
    size_t work_bytes;        /* in the thread's hands */
    bool hurries;             /* somebody waits for what is in `handed` */
    bool gathers;             /* the thread waits for more, whatever is handed over */
    bool woken, stop, abandoned, finished, clean;
    uint64_t stop_at_ms;
    uint64_t asked_ms;        /* the disk was asked then, and has not answered; 0: it has */
    struct store_health health;

    /* the thread's */
    struct buffer work;
    struct answer batch[THREAD_ANSWERS_AT_ONCE];
    size_t batch_count;
    bool degraded;
    uint64_t retry_at_ms, retry_pause_ms, tidy_at_ms, gather_until_ms;
};

/* Of pthread_create(); `self` is the store_thread. */
void *thread__main(void *self);
/* Frees all; the core is closed by then. */
void thread__destroy(struct store_thread *t);
/* Tells the loop that there is something to fetch, once. The mutex is held. */
void thread__wake(struct store_thread *t);
uint64_t thread__now_ms(void);
void thread__wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t at_ms);

#endif
