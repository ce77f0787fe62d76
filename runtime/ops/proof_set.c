/* Proof set: linear probing, at most half full. Nothing is taken out but all at once. */
#include "ops/proof_set.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/rng.h"

#define ROOM_LEAST 64u

uint64_t proof_key(const char *policy, uint64_t text, uint64_t overlay)
{
    uint64_t key = rng_mix(hash_text(policy) ^ rng_mix(text ^ rng_mix(overlay)));
    return key ? key : 1;
}

static struct proof_slot *slot_of(const struct proof_set *s, uint64_t key)
{
    ASSERT(key != 0);
    ASSERT(s->count < s->room);
    uint32_t i = (uint32_t)key & (s->room - 1);
    while (s->slots[i].key && s->slots[i].key != key) i = (i + 1) & (s->room - 1);
    return &s->slots[i];
}

static void grow(struct proof_set *s)
{
    struct proof_set bigger = { .room = s->room ? s->room * 2 : ROOM_LEAST };
    bigger.slots = calloc(bigger.room, sizeof *bigger.slots);
    ASSERT(bigger.slots != NULL);
    for (uint32_t i = 0; i < s->room; i++) {
        if (!s->slots[i].key) continue;
        *slot_of(&bigger, s->slots[i].key) = s->slots[i];
        bigger.count++;
    }
    free(s->slots);
    *s = bigger;
}

void proof_set_put(struct proof_set *s, uint64_t key, uint8_t flags)
{
    if (2 * (s->count + 1) > s->room) grow(s);
    struct proof_slot *slot = slot_of(s, key);
    s->count += slot->key == 0;
    *slot = (struct proof_slot){ key, flags };
}

bool proof_set_has(const struct proof_set *s, uint64_t key, uint8_t *flags)
{
    if (!s->room) return false;
    const struct proof_slot *slot = slot_of(s, key);
    if (slot->key && flags) *flags = slot->flags;
    return slot->key != 0;
}

void proof_set_clear(struct proof_set *s)
{
    free(s->slots);
    *s = (struct proof_set){ 0 };
}
