/* Reading: one thread, one uv_async for its last word. */
#include "ops/reading.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct reading {
    struct reading_wish wish;
    char *path, *only; /* owned */
    uv_thread_t thread;
    uv_async_t over_wake;
    atomic_bool cancel, over;
    /* The thread's until `over`. */
    struct roster next;
    struct problems problems;
    bool good;
    bool joined, told;
};

static void work(void *arg);
static void on_over(uv_async_t *handle);
static void on_closed(uv_handle_t *handle);

struct reading *reading_start(uv_loop_t *loop, const struct reading_wish *wish)
{
    struct reading *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    r->wish = *wish;
    r->path = strdup(wish->path);
    r->only = wish->only ? strdup(wish->only) : NULL;
    ASSERT(r->path && (r->only || !wish->only));
    problems_init(&r->problems);
    uv_async_init(loop, &r->over_wake, on_over);
    r->over_wake.data = r;
    if (uv_thread_create(&r->thread, work, r) == 0) return r;
    r->joined = true;
    reading_destroy(r);
    return NULL;
}

void reading_call_off(struct reading *r)
{
    atomic_store(&r->cancel, true);
}

void reading_destroy(struct reading *r)
{
    if (!r) return;
    atomic_store(&r->cancel, true);
    if (!r->joined) uv_thread_join(&r->thread);
    r->joined = true;
    if (r->good) roster_deinit(&r->next);
    r->good = false;
    uv_close((uv_handle_t *)&r->over_wake, on_closed);
}

static void on_closed(uv_handle_t *handle)
{
    struct reading *r = handle->data;
    problems_deinit(&r->problems);
    free(r->wish.running);
    free(r->wish.also);
    free(r->path);
    free(r->only);
    free(r);
}

static void on_over(uv_async_t *handle)
{
    struct reading *r = handle->data;
    if (r->told || r->joined || !atomic_load(&r->over)) return;
    uv_thread_join(&r->thread);
    r->joined = r->told = true;
    struct roster next = r->next;
    bool good = r->good;
    r->good = false;
    r->wish.done(r->wish.self, good ? &next : NULL, &r->problems);
}

/* ---- the thread ---------------------------------------------------------------------------------------- */

static void work(void *arg)
{
    struct reading *r = arg;
    const struct reading_wish *w = &r->wish;
    struct roster_load load = { .path = r->path,
                                .seed = w->seed,
                                .cancel = &r->cancel,
                                .only = r->only,
                                .now = w->now,
                                .before = w->before,
                                .running = w->running,
                                .running_count = w->running_count,
                                .also = w->also,
                                .also_count = w->also_count };
    /* Not nicer than the loop: it shares malloc's locks with it, and whoever holds one must get on. */
    r->good = roster_load(&load, &r->next, &r->problems);
    if (r->good && atomic_load(&r->cancel)) { /* here, and not on the loop's time */
        roster_deinit(&r->next);
        r->good = false;
    }
    atomic_store(&r->over, true);
    uv_async_send(&r->over_wake);
}
