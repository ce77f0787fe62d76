/* History: the states that a connection went through, for hours, in eight bytes each. It grows only with what happens
 * (an idle connection has four marks), and what is long ago becomes coarser instead of being forgotten. Pure: times
 * come in, marks go out; no clock.
 *
 * Glossary
 *   mark     a state and since when; it holds until the next mark.
 *   on its way  `preparing`, `linking` and `closing`: under two seconds of them count as the state before.
 *   folding  when there are too many: of each minute (then of each five, fifteen, sixty) of the older half remain its
 *            worst state and its last, so that no outage vanishes, only the number of them. */
#ifndef HOLDFAST_HISTORY_H
#define HOLDFAST_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define HISTORY_MARKS_MAX 512u
#define HISTORY_AGE_MS ((uint64_t)7 * 24 * 3600 * 1000)
#define HISTORY_BRIEF_MS 2000u

/* States are those of a connection (enum conn_state), and these. */
#define HISTORY_GIVEN_UP 0x40 /* stopped by a fatal cause */
#define HISTORY_UNKNOWN 0x41  /* no process was there that could know */

struct history_mark {
    uint32_t at_s; /* Unix */
    uint16_t at_ms;
    uint8_t state;
    uint8_t cause; /* enum cause_kind of what led there */
};

struct history {
    struct history_mark *marks; /* owned; oldest first */
    uint16_t count, capacity;
};

/* Since `wall_ms` it is in `state`. A clock that went back: then since the last mark. Without memory the mark is lost. */
void history_add(struct history *h, uint64_t wall_ms, uint8_t state, uint8_t cause);
void history_clear(struct history *h);
uint64_t history_at_ms(const struct history_mark *m);
/* "up", ..., "given_up", "unknown"; static. */
const char *history_state_name(uint8_t state);

#endif
