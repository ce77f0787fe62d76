/* SipHash-2-4 with 128 bits out, fed piece by piece: a hash that who does not know the key cannot
 * steer. The outcome depends on the bytes alone, not on how they were cut. */
#ifndef HOLDFAST_FRAME_SIPHASH_H
#define HOLDFAST_FRAME_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash {
    uint64_t v[4];
    uint64_t tail;  /* bytes that do not fill a word yet */
    uint64_t total; /* bytes fed */
};

void siphash_start(struct siphash *h, uint64_t key_0, uint64_t key_1);
/* `bytes`: borrowed until return. */
void siphash_feed(struct siphash *h, const void *bytes, size_t len);
/* The reference's 16 bytes are first_out, then second_out, both little endian. */
void siphash_end(struct siphash *h, uint64_t *first_out, uint64_t *second_out);

#endif
