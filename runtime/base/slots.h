/* Slots: a pool of equal-sized objects named by generation-checked handles. A handle to something
 * that is gone finds nothing, even after its place was used again. */
#ifndef HOLDFAST_BASE_SLOTS_H
#define HOLDFAST_BASE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct handle {
    uint32_t index;
    uint32_t generation; /* 0 names nothing */
};

#define HANDLE_NONE ((struct handle){ 0, 0 })

static inline bool handle_is_none(struct handle h)
{
    return h.generation == 0;
}

static inline bool handle_equal(struct handle a, struct handle b)
{
    return a.index == b.index && a.generation == b.generation;
}

/* One 64-bit number per handle, for libraries that carry a void pointer or an integer. */
static inline uint64_t handle_pack(struct handle h)
{
    return ((uint64_t)h.generation << 32) | h.index;
}

static inline struct handle handle_unpack(uint64_t packed)
{
    return (struct handle){ (uint32_t)packed, (uint32_t)(packed >> 32) };
}

struct slots {
    void **items;          /* owned; each item is allocated once and keeps its address */
    uint32_t *generations; /* owned; odd while in use */
    uint32_t *free_list;   /* owned */
    uint32_t count;        /* in use */
    uint32_t capacity;     /* places known */
    uint32_t free_count;
    uint32_t count_max;    /* hard limit */
    size_t item_bytes;
};

void slots_init(struct slots *s, size_t item_bytes, uint32_t count_max);
/* Frees all items, in use or not. */
void slots_deinit(struct slots *s);
/* A zeroed item, or NULL when count_max are in use or memory is out. The address stays valid until
 * slots_free() of its handle. */
void *slots_alloc(struct slots *s, struct handle *handle_out);
/* NULL when the handle is stale. */
void *slots_get(const struct slots *s, struct handle h);
/* The item must be in use. */
void slots_free(struct slots *s, struct handle h);
/* Iteration: the first used place at or after `index`; NULL at the end.
 * for (uint32_t i = 0; (item = slots_next(&s, &i, &h)); i++) */
void *slots_next(const struct slots *s, uint32_t *index, struct handle *handle_out);

#endif
