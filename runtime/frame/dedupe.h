/* Seen keys: a bounded set with age, oldest out first. Keys are 128-bit hashes of the fields' decoded
 * values, so an entry is small and fixed, and nothing is allocated after the first fill. */
#ifndef HOLDFAST_FRAME_DEDUPE_H
#define HOLDFAST_FRAME_DEDUPE_H

#include <stdbool.h>
#include <stdint.h>

#include "frame/rules.h"

struct dedupe; /* opaque */

struct dedupe_key {
    uint64_t high, low;
};

/* `seed` keys the hash, so that a peer cannot choose collisions; keys that outlive the process need
 * the same seed again. `most` 0 remembers nothing. NULL when memory is out. */
struct dedupe *dedupe_create(uint32_t most, uint64_t over_ms, uint64_t seed);
void dedupe_destroy(struct dedupe *d);
/* False when any of the fields is absent or null: such a frame is never a duplicate. */
bool dedupe_key_of(const struct dedupe *d, const struct frame_rules *rules,
                   const struct field_value *values, struct dedupe_key *key_out);
/* True when seen within over_ms before now_ms; *offset_out then is the original's offset. */
bool dedupe_seen(struct dedupe *d, struct dedupe_key key, uint64_t now_ms, uint64_t *offset_out);
/* Remembers, as the newest; evicts what is older than over_ms, and the oldest beyond `most`. */
void dedupe_add(struct dedupe *d, struct dedupe_key key, uint64_t now_ms, uint64_t offset);
/* The next frame with this key is new. */
void dedupe_forget(struct dedupe *d, struct dedupe_key key);
uint32_t dedupe_count(const struct dedupe *d);

#endif
