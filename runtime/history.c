/* History: see history.h. Owns its marks and nothing else. */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "engine/engine.h"

#define CAPACITY_FIRST 4u

_Static_assert(sizeof(struct history_mark) == 8, "an idle connection's history is small");

static void fold(struct history *h, uint64_t width_ms, uint16_t until);
static void drop_first(struct history *h, uint16_t count);

uint64_t history_at_ms(const struct history_mark *m)
{
    return (uint64_t)m->at_s * 1000 + m->at_ms;
}

const char *history_state_name(uint8_t state)
{
    if (state == HISTORY_GIVEN_UP) return "given_up";
    if (state == HISTORY_UNKNOWN) return "unknown";
    return conn_state_name((enum conn_state)state);
}

static bool on_its_way(uint8_t state)
{
    return state == CONN_PREPARING || state == CONN_LINKING || state == CONN_CLOSING;
}

/* Higher is worse, for what remains of a time with many. */
static int weight(uint8_t state)
{
    switch (state) {
    case HISTORY_GIVEN_UP: return 6;
    case CONN_WAITING: return 5;
    case CONN_QUEUED: return 4;
    case CONN_UP: return 0;
    case HISTORY_UNKNOWN: return 1;
    case CONN_STOPPED: return 2;
    default: return 3;
    }
}

static bool room(struct history *h, uint64_t wall_ms)
{
    static const uint64_t widths_ms[] = { 60000, 300000, 900000, 3600000 };
    uint16_t old = 0;
    while (old + 1 < h->count && history_at_ms(&h->marks[old + 1]) + HISTORY_AGE_MS < wall_ms) old++;
    drop_first(h, old);
    if (h->count < h->capacity) return true;
    if (h->capacity < HISTORY_MARKS_MAX) {
        const uint16_t more = h->capacity ? (uint16_t)(h->capacity * 2) : CAPACITY_FIRST;
        struct history_mark *marks = realloc(h->marks, more * sizeof *marks);
        if (!marks) return false;
        h->marks = marks;
        h->capacity = more;
        return true;
    }
    const uint16_t enough = HISTORY_MARKS_MAX * 3 / 4;
    for (size_t i = 0; i < sizeof widths_ms / sizeof *widths_ms && h->count > enough; i++) fold(h, widths_ms[i], h->count / 2);
    if (h->count > enough) drop_first(h, (uint16_t)(h->count - enough));
    return true;
}

void history_add(struct history *h, uint64_t wall_ms, uint8_t state, uint8_t cause)
{
    if (h->count) {
        const struct history_mark *last = &h->marks[h->count - 1];
        const uint64_t last_ms = history_at_ms(last);
        if (wall_ms < last_ms) wall_ms = last_ms;
        /* A drop between two times of being up stays to be seen, however brief. */
        if (h->count > 1 && on_its_way(last->state) && wall_ms - last_ms < HISTORY_BRIEF_MS &&
            h->marks[h->count - 2].state != state)
            h->count--;
        if (h->marks[h->count - 1].state == state) return;
    }
    if (!room(h, wall_ms)) return;
    ASSERT(h->count < h->capacity);
    h->marks[h->count++] = (struct history_mark){ .at_s = (uint32_t)(wall_ms / 1000),
                                                  .at_ms = (uint16_t)(wall_ms % 1000),
                                                  .state = state,
                                                  .cause = cause };
}

void history_clear(struct history *h)
{
    free(h->marks);
    *h = (struct history){ 0 };
}

/* Of the marks before `until`: each stretch of `width_ms` keeps its worst and its last. */
static void fold(struct history *h, uint64_t width_ms, uint16_t until)
{
    uint16_t to = 0;
    for (uint16_t i = 0, end; i < until; i = end) {
        const uint64_t stretch = history_at_ms(&h->marks[i]) / width_ms;
        uint16_t worst = i;
        for (end = i; end < until && history_at_ms(&h->marks[end]) / width_ms == stretch; end++)
            if (weight(h->marks[end].state) > weight(h->marks[worst].state)) worst = end;
        ASSERT(end > i);
        if (to == 0 || h->marks[to - 1].state != h->marks[worst].state) h->marks[to++] = h->marks[worst];
        if (h->marks[to - 1].state != h->marks[end - 1].state) h->marks[to++] = h->marks[end - 1];
        ASSERT(to <= end);
    }
    /* The first of the rest may say again what the last of the folded ones says. */
    uint16_t from = until;
    while (from < h->count && to > 0 && h->marks[from].state == h->marks[to - 1].state) from++;
    memmove(h->marks + to, h->marks + from, (h->count - from) * sizeof *h->marks);
    h->count = (uint16_t)(to + h->count - from);
}

static void drop_first(struct history *h, uint16_t count)
{
    if (!count) return;
    ASSERT(count <= h->count);
    memmove(h->marks, h->marks + count, (h->count - count) * sizeof *h->marks);
    h->count -= count;
}
