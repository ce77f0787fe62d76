/* Proof set: numbers that were seen, each with a few flags. A reload of thousands of connections asks it once for each,
 * on the loop's time: open addressing, one allocation in a while. */
#ifndef HOLDFAST_OPS_PROOF_SET_H
#define HOLDFAST_OPS_PROOF_SET_H

#include <stdbool.h>
#include <stdint.h>

struct proof_slot {
    uint64_t key;   /* 0: empty */
    uint8_t flags;
};

struct proof_set { /* all zero: empty */
    struct proof_slot *slots; /* owned */
    uint32_t count, room;     /* room: a power of two, or 0 */
};

/* Of a policy's name, its text (0: any) and what is laid over it (0: nothing). Never 0. */
uint64_t proof_key(const char *policy, uint64_t text, uint64_t overlay);
/* Adds it, or gives it other flags. */
void proof_set_put(struct proof_set *s, uint64_t key, uint8_t flags);
/* `flags`: may be NULL. */
bool proof_set_has(const struct proof_set *s, uint64_t key, uint8_t *flags);
void proof_set_clear(struct proof_set *s); /* frees */

#endif
