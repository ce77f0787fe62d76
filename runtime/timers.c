/* A binary heap of timers. Owns nothing that they name. */
#include "timers.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static bool before(const struct timer *a, const struct timer *b)
{
    if (a->due_ms != b->due_ms) return a->due_ms < b->due_ms;
    return a->order < b->order;
}

void timers_init(struct timers *t)
{
    memset(t, 0, sizeof *t);
}

void timers_deinit(struct timers *t)
{
    free(t->heap);
    memset(t, 0, sizeof *t);
}

bool timers_add(struct timers *t, struct timer timer)
{
    if (t->count == t->capacity) {
        uint32_t capacity = t->capacity ? t->capacity * 2 : 16;
        struct timer *heap = realloc(t->heap, capacity * sizeof *heap);
        if (!heap) return false;
        t->heap = heap;
        t->capacity = capacity;
    }
    timer.order = t->next_order++;
    uint32_t i = t->count++;
    while (i > 0 && before(&timer, &t->heap[(i - 1) / 2])) {
        t->heap[i] = t->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    t->heap[i] = timer;
    return true;
}

void timers_arm(struct timers *t, uint64_t *armed_ms, struct timer timer)
{
    ASSERT(timer.due_ms > 0);
    if (*armed_ms && *armed_ms <= timer.due_ms) return;
    *armed_ms = timer.due_ms;
    ASSERT(timers_add(t, timer));
}

uint64_t timers_next_ms(const struct timers *t)
{
    return t->count ? t->heap[0].due_ms : UINT64_MAX;
}

bool timers_take(struct timers *t, uint64_t now_ms, struct timer *out)
{
    if (t->count == 0 || t->heap[0].due_ms > now_ms) return false;
    *out = t->heap[0];
    struct timer last = t->heap[--t->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= t->count) break;
        if (child + 1 < t->count && before(&t->heap[child + 1], &t->heap[child])) child++;
        if (!before(&t->heap[child], &last)) break;
        t->heap[i] = t->heap[child];
        i = child;
    }
    if (t->count) t->heap[i] = last;
    ASSERT(out->due_ms <= now_ms);
    return true;
}
