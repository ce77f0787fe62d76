/* Timers of the runtime itself: what waits inside a hook (`within`), `every` tasks, the backlog's hold, early
 * renewals of fetched values.
 * A heap by due time, then by order of adding, so that a run is the same each time. Entries are never
 * removed early: what they name is checked by generation when they are due, and a deadline that moves
 * again and again has one entry that follows it (timers_arm). */
#ifndef HOLDFAST_TIMERS_H
#define HOLDFAST_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slots.h"

enum timer_kind { TIMER_TASK_WITHIN, TIMER_EVERY, TIMER_BACKLOG_HOLD, TIMER_THROUGH, TIMER_RENEW };

struct timer {
    uint64_t due_ms;
    uint64_t order;
    enum timer_kind kind;
    struct handle object;  /* task, or connection */
    uint32_t generation;   /* of the link */
    uint32_t index;        /* which `every`; the number of a fetch */
};

struct timers {
    struct timer *heap; /* owned */
    uint32_t count, capacity;
    uint64_t next_order;
};

void timers_init(struct timers *t);
void timers_deinit(struct timers *t);
/* False when memory is out. */
bool timers_add(struct timers *t, struct timer timer);
uint64_t timers_next_ms(const struct timers *t); /* UINT64_MAX when there is none */
/* For a deadline that moves: `*armed_ms` (0 at first) is when its pending entry is due, and an entry is
 * added only when none is due by then. Who takes an entry that is not *armed_ms ignores it; otherwise sets
 * *armed_ms to 0, and arms again when the deadline lies later by now. */
void timers_arm(struct timers *t, uint64_t *armed_ms, struct timer timer);
/* Takes the earliest that is due. */
bool timers_take(struct timers *t, uint64_t now_ms, struct timer *out);

#endif
