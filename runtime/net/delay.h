/* Delay: the loop's own lateness, the worst of the last second and of the last minute. All in microseconds
 * of one monotonic clock; an instance that is all zeros is empty. */
#ifndef HOLDFAST_NET_DELAY_H
#define HOLDFAST_NET_DELAY_H

#include <stdint.h>

#include "host.h"

#define DELAY_SLOTS 12u
#define DELAY_SLOT_US ((uint64_t)5 * 1000000)

struct delay {
    uint64_t worst_us[DELAY_SLOTS]; /* by five seconds */
    uint64_t slot, second;
    uint64_t this_us, last_us;      /* worst of this second and of the one before */
};

void delay_note(struct delay *d, uint64_t now_us, uint64_t delay_us);
void delay_get(const struct delay *d, uint64_t now_us, struct host_loop_delay *out);

#endif
