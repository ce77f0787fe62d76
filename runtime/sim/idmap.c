/* Idmap: linear probing with backward-shift removal, so that no tombstones pile up over a long run. */
#include "sim/idmap.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

static uint32_t place_of(const struct idmap *m, uint64_t id)
{
    return (uint32_t)rng_mix(id) & (m->capacity - 1);
}

static void grow(struct idmap *m)
{
    struct idmap old = *m;
    m->capacity = old.capacity ? old.capacity * 2 : 16;
    m->count = 0;
    m->entries = calloc(m->capacity, sizeof *m->entries);
    ASSERT(m->entries != NULL);
    for (uint32_t i = 0; i < old.capacity; i++) {
        if (old.entries[i].id) idmap_put(m, old.entries[i].id, old.entries[i].value);
    }
    free(old.entries);
}

void idmap_deinit(struct idmap *m)
{
    free(m->entries);
    memset(m, 0, sizeof *m);
}

void idmap_put(struct idmap *m, uint64_t id, uint64_t value)
{
    ASSERT(id != 0);
    if ((m->count + 1) * 4 > m->capacity * 3) grow(m);
    uint32_t i = place_of(m, id);
    while (m->entries[i].id && m->entries[i].id != id) i = (i + 1) & (m->capacity - 1);
    if (!m->entries[i].id) m->count++;
    m->entries[i].id = id;
    m->entries[i].value = value;
}

uint64_t idmap_find(const struct idmap *m, uint64_t id)
{
    if (!m->capacity || !id) return 0;
    for (uint32_t i = place_of(m, id); m->entries[i].id; i = (i + 1) & (m->capacity - 1)) {
        if (m->entries[i].id == id) return m->entries[i].value;
    }
    return 0;
}

void idmap_remove(struct idmap *m, uint64_t id)
{
    if (!m->capacity || !id) return;
    uint32_t mask = m->capacity - 1, i = place_of(m, id);
    while (m->entries[i].id && m->entries[i].id != id) i = (i + 1) & mask;
    if (!m->entries[i].id) return;
    m->count--;
    for (uint32_t j = i;;) {
        m->entries[i].id = 0;
        for (;;) {
            j = (j + 1) & mask;
            if (!m->entries[j].id) return;
            uint32_t home = place_of(m, m->entries[j].id);
            /* Does the entry at j have to stay behind the hole at i? */
            if (i <= j ? (home <= i || home > j) : (home <= i && home > j)) break;
        }
        m->entries[i] = m->entries[j];
        i = j;
    }
}
