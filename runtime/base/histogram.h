/* Histogram: how often something took how long, in thirteen fixed steps. Plain data: an instance that is all
 * zeros but for its scale is empty. Microseconds throughout. */
#ifndef HOLDFAST_BASE_HISTOGRAM_H
#define HOLDFAST_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 13

enum histogram_scale {
    HISTOGRAM_SHORT,  /* 10 us to 500 ms: work of our own */
    HISTOGRAM_MIDDLE, /* 1 ms to 10 s: disks and networks */
    HISTOGRAM_LONG,   /* 100 ms to an hour: coming up, waiting readers */
    HISTOGRAM_SCALES,
};

struct histogram {
    enum histogram_scale scale;
    uint64_t counts[HISTOGRAM_STEPS + 1]; /* not cumulative; the last: above all steps */
    uint64_t sum_us;
};

void histogram_note(struct histogram *h, uint64_t us);
/* Upper bound, included, of step `i` of HISTOGRAM_STEPS. */
uint64_t histogram_bound_us(enum histogram_scale scale, uint32_t i);
uint64_t histogram_count(const struct histogram *h);

#endif
