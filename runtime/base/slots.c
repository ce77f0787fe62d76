/* Slots: owns its items and their generations. Places are reused, handles are not. */
#include "base/slots.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static bool slots_grow(struct slots *s);

void slots_init(struct slots *s, size_t item_bytes, uint32_t count_max)
{
    ASSERT(item_bytes > 0);
    ASSERT(count_max > 0);
    memset(s, 0, sizeof *s);
    s->item_bytes = item_bytes;
    s->count_max = count_max;
}

void slots_deinit(struct slots *s)
{
    for (uint32_t i = 0; i < s->capacity; i++) free(s->items[i]);
    free(s->items);
    free(s->generations);
    free(s->free_list);
    memset(s, 0, sizeof *s);
}

void *slots_alloc(struct slots *s, struct handle *handle_out)
{
    *handle_out = HANDLE_NONE;
    if (s->free_count == 0 && !slots_grow(s)) return NULL;
    uint32_t index = s->free_list[s->free_count - 1];
    if (!s->items[index]) {
        s->items[index] = malloc(s->item_bytes);
        if (!s->items[index]) return NULL;
    }
    s->free_count--;
    memset(s->items[index], 0, s->item_bytes);
    s->generations[index]++;
    ASSERT(s->generations[index] & 1);
    s->count++;
    *handle_out = (struct handle){ index, s->generations[index] };
    return s->items[index];
}

void *slots_get(const struct slots *s, struct handle h)
{
    if (h.index >= s->capacity) return NULL;
    if (s->generations[h.index] != h.generation) return NULL;
    if (!(h.generation & 1)) return NULL;
    return s->items[h.index];
}

void slots_free(struct slots *s, struct handle h)
{
    ASSERT(slots_get(s, h) != NULL);
    ASSERT(s->count > 0);
    s->generations[h.index]++;
    s->free_list[s->free_count++] = h.index;
    s->count--;
}

void *slots_next(const struct slots *s, uint32_t *index, struct handle *handle_out)
{
    for (; *index < s->capacity; (*index)++) {
        if (!(s->generations[*index] & 1)) continue;
        *handle_out = (struct handle){ *index, s->generations[*index] };
        return s->items[*index];
    }
    *handle_out = HANDLE_NONE;
    return NULL;
}

static bool slots_grow(struct slots *s)
{
    uint32_t capacity = s->capacity ? s->capacity * 2 : 8;
    if (capacity > s->count_max) capacity = s->count_max;
    if (capacity <= s->capacity) return false;

    void **items = realloc(s->items, capacity * sizeof *items);
    if (!items) return false;
    s->items = items;
    uint32_t *generations = realloc(s->generations, capacity * sizeof *generations);
    if (!generations) return false;
    s->generations = generations;
    uint32_t *free_list = realloc(s->free_list, capacity * sizeof *free_list);
    if (!free_list) return false;
    s->free_list = free_list;

    for (uint32_t i = capacity; i > s->capacity; i--) {
        items[i - 1] = NULL;
        generations[i - 1] = 0;
        free_list[s->free_count++] = i - 1;
    }
    s->capacity = capacity;
    return true;
}
