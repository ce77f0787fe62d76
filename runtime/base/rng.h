/* Counter-based random numbers: a draw is a pure function of (seed, connection, link, purpose,
 * count). No hidden state, so an extra draw in one place moves nothing anywhere else, and a seed
 * replays a run. Not for keys or masks on a real socket. */
#ifndef HOLDFAST_BASE_RNG_H
#define HOLDFAST_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t seed;
    uint64_t stream; /* whose draws: hash of a connection's name, say */
    uint64_t count;  /* draws so far */
};

uint64_t rng_mix(uint64_t x);
/* The draw for exactly these four numbers. */
uint64_t rng_draw(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);
/* In [0, 1). */
double rng_unit(uint64_t draw);
/* In [low, high], both included; low <= high. */
uint64_t rng_range(uint64_t draw, uint64_t low, uint64_t high);

void rng_init(struct rng *r, uint64_t seed, uint64_t stream);
uint64_t rng_next(struct rng *r);

/* FNV-1a, 64 bits: for stream names and table keys, not against an adversary. */
uint64_t hash_bytes(const void *data, size_t len);
uint64_t hash_text(const char *text);

#endif
