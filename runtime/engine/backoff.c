/* Backoff: how long until the next attempt. Owns no timer and reads no clock; draws come in. */
#include "engine/engine_internal.h"

static uint64_t ladder_ms(uint64_t first_ms, double factor, uint64_t most_ms, uint32_t step);

uint64_t backoff_floor_ms(const struct plan *p)
{
    return p->backoff.floor_ms > PLAN_FLOOR_MS_MIN ? p->backoff.floor_ms : PLAN_FLOOR_MS_MIN;
}

uint64_t backoff_bound_ms(const struct plan *p, uint32_t failed)
{
    return ladder_ms(p->backoff.first_ms, p->backoff.factor, p->backoff.most_ms, failed);
}

uint64_t backoff_jittered_ms(const struct plan *p, uint32_t failed, uint64_t draw)
{
    uint64_t bound = backoff_bound_ms(p, failed);
    switch (p->backoff.jitter) {
    case JITTER_NONE: return bound;
    case JITTER_FULL: return rng_range(draw, 0, bound);
    case JITTER_EQUAL: return rng_range(draw, bound / 2, bound);
    }
    ASSERT(!"jitter");
    return bound;
}

uint64_t backoff_slow_ms(const struct plan *p, const struct span_ms *span, uint32_t count,
                         uint64_t draw)
{
    uint64_t first = span ? span->low : p->slow.first_ms;
    uint64_t most = span ? span->high : p->slow.most_ms;
    uint64_t bound = ladder_ms(first, p->slow.factor, most, count);
    uint64_t delay = rng_range(draw, bound / 2, bound);
    return span && delay < span->low ? span->low : delay;
}

/* The step-th rung, from 1: first, first * factor, ... most. A factor below 1 or not a number
 * climbs nowhere, which the floor and `first` make safe. */
static uint64_t ladder_ms(uint64_t first_ms, double factor, uint64_t most_ms, uint32_t step)
{
    if (most_ms < first_ms) most_ms = first_ms;
    if (step <= 1 || !(factor > 1)) return first_ms;
    double rung = (double)first_ms;
    for (uint32_t i = 1; i < step && i < 64; i++) {
        rung *= factor;
        if (!(rung < (double)most_ms)) return most_ms;
    }
    return (uint64_t)rung;
}
