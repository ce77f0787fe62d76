#include "base/spare.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* SPARE_SIZES and more: not one of ours. */
static size_t class_of(size_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
    (void)bytes;
    return SPARE_SIZES; /* it would no longer see who uses what is free */
#else
    return (bytes - 1) / SPARE_STEP;
#endif
}

static void *take(struct spare *s, size_t bytes)
{
    const size_t i = class_of(bytes);
    if (i >= SPARE_SIZES) return malloc(bytes);
    struct spare_block *block = s->first[i];
    if (!block) return malloc((i + 1) * SPARE_STEP);
    s->first[i] = block->next;
    s->count[i]--;
    return block;
}

void *spare_resize(struct spare *s, void *memory, size_t old_bytes, size_t bytes)
{
    ASSERT(bytes > 0);
    if (!memory) return take(s, bytes);
    ASSERT(old_bytes > 0);
    const size_t from = class_of(old_bytes), to = class_of(bytes);
    if (from < SPARE_SIZES && to <= from) return memory; /* which is large enough */
    if (from >= SPARE_SIZES) {
        void *moved = realloc(memory, to < SPARE_SIZES ? (to + 1) * SPARE_STEP : bytes);
        return moved || bytes > old_bytes ? moved : memory;
    }
    void *moved = take(s, bytes);
    if (!moved) return NULL;
    memcpy(moved, memory, old_bytes);
    spare_give(s, memory, old_bytes);
    return moved;
}

void spare_give(struct spare *s, void *memory, size_t bytes)
{
    if (!memory) return;
    ASSERT(bytes > 0);
    const size_t i = class_of(bytes);
    if (i >= SPARE_SIZES || (s->count[i] + 1) * (i + 1) * SPARE_STEP > SPARE_BYTES) {
        free(memory);
        return;
    }
    struct spare_block *block = memory;
    block->next = s->first[i];
    s->first[i] = block;
    s->count[i]++;
}

void spare_deinit(struct spare *s)
{
    for (size_t i = 0; i < SPARE_SIZES; i++) {
        while (s->first[i]) {
            struct spare_block *next = s->first[i]->next;
            free(s->first[i]);
            s->first[i] = next;
        }
        s->count[i] = 0;
    }
}
