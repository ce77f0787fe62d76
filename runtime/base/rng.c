/* Random draws as pure functions (SplitMix64's finaliser over a keyed sum). */
#include "base/rng.h"

#include <string.h>

#include "base/assert.h"

uint64_t rng_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t rng_draw(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    return rng_mix(rng_mix(rng_mix(rng_mix(seed) ^ a) ^ b) ^ c);
}

double rng_unit(uint64_t draw)
{
    return (double)(draw >> 11) * 0x1.0p-53;
}

uint64_t rng_range(uint64_t draw, uint64_t low, uint64_t high)
{
    ASSERT(low <= high);
    uint64_t span = high - low;
    if (span == UINT64_MAX) return draw;
    return low + (uint64_t)(((unsigned __int128)draw * (span + 1)) >> 64);
}

void rng_init(struct rng *r, uint64_t seed, uint64_t stream)
{
    r->seed = seed;
    r->stream = stream;
    r->count = 0;
}

uint64_t rng_next(struct rng *r)
{
    return rng_draw(r->seed, r->stream, r->count++, 0);
}

uint64_t hash_bytes(const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

uint64_t hash_text(const char *text)
{
    return hash_bytes(text, strlen(text));
}
