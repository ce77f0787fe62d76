/* Queue: a binary heap. Owns the happenings, nothing that they name. */
#include "sim/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static bool before(const struct happening *a, const struct happening *b)
{
    if (a->at_ms != b->at_ms) return a->at_ms < b->at_ms;
    return a->order < b->order;
}

void queue_deinit(struct queue *q)
{
    free(q->heap);
    memset(q, 0, sizeof *q);
}

uint64_t queue_put(struct queue *q, struct happening h)
{
    if (q->count == q->capacity) {
        q->capacity = q->capacity ? q->capacity * 2 : 64;
        q->heap = realloc(q->heap, q->capacity * sizeof *q->heap);
        ASSERT(q->heap != NULL);
    }
    h.order = ++q->next_order;
    uint32_t i = q->count++;
    while (i > 0 && before(&h, &q->heap[(i - 1) / 2])) {
        q->heap[i] = q->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    q->heap[i] = h;
    return h.order;
}

const struct happening *queue_first(const struct queue *q)
{
    return q->count ? &q->heap[0] : NULL;
}

void queue_take(struct queue *q, struct happening *out)
{
    ASSERT(q->count > 0);
    *out = q->heap[0];
    struct happening last = q->heap[--q->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= q->count) break;
        if (child + 1 < q->count && before(&q->heap[child + 1], &q->heap[child])) child++;
        if (!before(&q->heap[child], &last)) break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    if (q->count) q->heap[i] = last;
}

bool happening_is_machine(enum happening_kind kind)
{
    static const bool machine[] = {
#define X(name, text, is_machine) [HAPPENING_##name] = is_machine,
        HAPPENING_MAP(X)
#undef X
    };
    return machine[kind];
}
