/* Histogram: fixed steps, so that noting one is a short search and two of one scale can be added up. */
#include "base/histogram.h"

#include "base/assert.h"

#define MS 1000u
#define S  1000000u

static const uint64_t bounds_us[HISTOGRAM_SCALES][HISTOGRAM_STEPS] = {
    [HISTOGRAM_SHORT] = { 10, 25, 50, 100, 250, 500, 1 * MS, 5 * MS / 2, 5 * MS, 10 * MS, 50 * MS, 100 * MS, 500 * MS },
    [HISTOGRAM_MIDDLE] = { 1 * MS, 5 * MS / 2, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS,
                           1 * S, 5 * S / 2, 5 * S, 10 * S },
    [HISTOGRAM_LONG] = { 100 * MS, 250 * MS, 500 * MS, 1 * S, 5 * S / 2, 5 * S, 10 * S, 30 * S, 60 * S, 120 * S,
                         300 * S, 600 * S, 3600ull * S },
};

void histogram_note(struct histogram *h, uint64_t us)
{
    ASSERT(h->scale < HISTOGRAM_SCALES);
    uint32_t i = 0;
    while (i < HISTOGRAM_STEPS && us > bounds_us[h->scale][i]) i++;
    h->counts[i]++;
    h->sum_us += us;
}

uint64_t histogram_bound_us(enum histogram_scale scale, uint32_t i)
{
    ASSERT(scale < HISTOGRAM_SCALES);
    ASSERT(i < HISTOGRAM_STEPS);
    return bounds_us[scale][i];
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i <= HISTOGRAM_STEPS; i++) n += h->counts[i];
    return n;
}
