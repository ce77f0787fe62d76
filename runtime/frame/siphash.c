/* SipHash-2-4-128, after the reference by Aumasson and Bernstein. Owns nothing. */
#include "frame/siphash.h"

#include <endian.h>
#include <string.h>

static inline uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void rounds(uint64_t v[4], int count)
{
    while (count--) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static inline void word_take(struct siphash *h, uint64_t word)
{
    h->v[3] ^= word;
    rounds(h->v, 2);
    h->v[0] ^= word;
}

void siphash_start(struct siphash *h, uint64_t key_0, uint64_t key_1)
{
    h->v[0] = key_0 ^ 0x736f6d6570736575u;
    h->v[1] = key_1 ^ 0x646f72616e646f6du ^ 0xee; /* 0xee: the variant with 128 bits */
    h->v[2] = key_0 ^ 0x6c7967656e657261u;
    h->v[3] = key_1 ^ 0x7465646279746573u;
    h->tail = 0;
    h->total = 0;
}

void siphash_feed(struct siphash *h, const void *bytes, size_t len)
{
    const uint8_t *p = bytes, *end = p + len;
    while (p < end) {
        uint32_t held = h->total % 8;
        if (held == 0 && end - p >= 8) {
            uint64_t word;
            memcpy(&word, p, 8);
            word_take(h, le64toh(word));
            h->total += 8;
            p += 8;
            continue;
        }
        h->tail |= (uint64_t)*p++ << (8 * held);
        h->total++;
        if (held == 7) {
            word_take(h, h->tail);
            h->tail = 0;
        }
    }
}

void siphash_end(struct siphash *h, uint64_t *first_out, uint64_t *second_out)
{
    word_take(h, h->tail | h->total << 56);
    h->v[2] ^= 0xee;
    rounds(h->v, 4);
    *first_out = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
    h->v[1] ^= 0xdd;
    rounds(h->v, 4);
    *second_out = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
}
