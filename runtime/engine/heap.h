/* A heap of deadlines. Deadlines and handles lie in it, and where each handle is lies side by side: of ten thousand
 * connections none but the one that moves is touched. Ties go to the lower place, so that a run repeats. */
#ifndef HOLDFAST_ENGINE_HEAP_H
#define HOLDFAST_ENGINE_HEAP_H

#include "base/slots.h"

#define HEAP_NONE UINT32_MAX

struct heap_item {
    uint64_t at_ms;
    struct handle who;
};

struct heap {
    struct heap_item *items; /* the caller's, as many as there can be */
    uint32_t *where;         /* the caller's: of each place of a pool, its item here, or HEAP_NONE; several heaps can share it */
    uint32_t count, most;
};

/* Must not be in another heap of the same `where`, nor in this one. */
void heap_add(struct heap *h, struct handle who, uint64_t at_ms);
/* Is in this heap. */
void heap_move(struct heap *h, struct handle who, uint64_t at_ms);
void heap_remove(struct heap *h, struct handle who);
/* The first up to `most` (HEAP_FIRST_MAX at most) whose deadline is at or before until_ms, in their order. How many. */
#define HEAP_FIRST_MAX 16
uint32_t heap_first(const struct heap *h, uint64_t until_ms, struct handle *out, uint32_t most);

#endif
