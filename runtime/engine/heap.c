#include "engine/heap.h"

#include "base/assert.h"

static bool before(const struct heap_item *a, const struct heap_item *b)
{
    if (a->at_ms != b->at_ms) return a->at_ms < b->at_ms;
    return a->who.index < b->who.index;
}

static void put(struct heap *h, const struct heap_item *item, uint32_t at)
{
    h->items[at] = *item;
    h->where[item->who.index] = at;
}

/* Finds the place of what is to be at `at`, or above or below it. */
static void sift(struct heap *h, struct heap_item item, uint32_t at)
{
    while (at > 0 && before(&item, &h->items[(at - 1) / 2])) {
        put(h, &h->items[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && before(&h->items[child + 1], &h->items[child])) child++;
        if (!before(&h->items[child], &item)) break;
        put(h, &h->items[child], at);
        at = child;
    }
    put(h, &item, at);
}

static uint32_t place_of(const struct heap *h, struct handle who)
{
    uint32_t at = h->where[who.index];
    ASSERT(at < h->count);
    ASSERT(handle_equal(h->items[at].who, who));
    return at;
}

void heap_add(struct heap *h, struct handle who, uint64_t at_ms)
{
    ASSERT(h->count < h->most);
    ASSERT(h->where[who.index] == HEAP_NONE);
    h->count++;
    sift(h, (struct heap_item){ at_ms, who }, h->count - 1);
}

void heap_move(struct heap *h, struct handle who, uint64_t at_ms)
{
    uint32_t at = place_of(h, who);
    if (h->items[at].at_ms == at_ms) return;
    sift(h, (struct heap_item){ at_ms, who }, at);
}

void heap_remove(struct heap *h, struct handle who)
{
    uint32_t at = place_of(h, who);
    struct heap_item last = h->items[--h->count];
    if (at < h->count) sift(h, last, at);
    h->where[who.index] = HEAP_NONE;
}
