#include "engine/heap.h"

#include "base/assert.h"

/* Four children lie in one or two lines of a cache; half as many levels as with two. */
#define WAYS 4u

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
    while (at > 0 && before(&item, &h->items[(at - 1) / WAYS])) {
        put(h, &h->items[(at - 1) / WAYS], at);
        at = (at - 1) / WAYS;
    }
    for (;;) {
        uint32_t child = at * WAYS + 1;
        if (child >= h->count) break;
        const uint32_t end = h->count - child < WAYS ? h->count : child + WAYS;
        for (uint32_t other = child + 1; other < end; other++)
            if (before(&h->items[other], &h->items[child])) child = other;
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

uint32_t heap_first(const struct heap *h, uint64_t until_ms, struct handle *out, uint32_t most)
{
    ASSERT(most <= HEAP_FIRST_MAX);
    uint32_t open[HEAP_FIRST_MAX * WAYS + 1], open_count = 0, found = 0;
    if (h->count) open[open_count++] = 0;
    while (found < most && open_count) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < open_count; i++)
            if (before(&h->items[open[i]], &h->items[open[best]])) best = i;
        const uint32_t at = open[best];
        if (h->items[at].at_ms > until_ms) break;
        out[found++] = h->items[at].who;
        open[best] = open[--open_count];
        for (uint32_t child = at * WAYS + 1; child <= at * WAYS + WAYS && child < h->count; child++)
            open[open_count++] = child;
    }
    return found;
}
