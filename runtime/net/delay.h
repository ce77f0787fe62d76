/* Delay: the loop's own lateness, the worst of the last second and of the last minute. All in microseconds
 * of one monotonic clock; an instance that is all zeros is empty. */
#ifndef HOLDFAST_NET_DELAY_H
#define HOLDFAST_NET_DELAY_H

#include <stdint.h>

#include "host.h"

#define DELAY_SLOTS 12u
#define DELAY_SLOT_US ((uint64_t)5 * 1000000)

struct delay_worst {
    uint64_t us, busy_us, part_us[HOST_LOOP_PARTS], part_busy_us[HOST_LOOP_PARTS];
};

struct delay {
    struct delay_worst worst[DELAY_SLOTS]; /* by five seconds */
    uint64_t slot, second;
    uint64_t this_us, last_us;      /* worst of this second and of the one before */
};

/* `busy_us`: of that, CPU time of this thread; 0 where it is not known, or too short to matter. */
void delay_note(struct delay *d, uint64_t now_us, uint64_t delay_us, uint64_t busy_us);
/* So much of one turn was this part's. */
void delay_note_part(struct delay *d, uint64_t now_us, enum host_loop_part part, uint64_t us, uint64_t busy_us);
void delay_get(const struct delay *d, uint64_t now_us, struct host_loop_delay *out);

#endif
