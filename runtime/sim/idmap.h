/* Idmap: 64-bit ids to 64-bit values, open addressing. Id 0 is nobody. Never iterated: its order is not
 * part of any run. */
#ifndef HOLDFAST_SIM_IDMAP_H
#define HOLDFAST_SIM_IDMAP_H

#include <stdbool.h>
#include <stdint.h>

struct idmap {
    struct idmap_entry {
        uint64_t id, value;
    } *entries; /* owned */
    uint32_t count, capacity;
};

void idmap_deinit(struct idmap *m);
/* Replaces the value of an id that is there. */
void idmap_put(struct idmap *m, uint64_t id, uint64_t value);
/* 0 when absent. */
uint64_t idmap_find(const struct idmap *m, uint64_t id);
void idmap_remove(struct idmap *m, uint64_t id);

#endif
