/* Ledgers: what of one budget was used and when, oldest first, and what the platform told of it. Owns
 * the entries, restored ones among them; knows no connection, no queue and no claim (budget.c). */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"

#define RESTORE_CAPACITY_FIRST 64
#define RESTORE_CAPACITY_MAX (2 * LEDGER_COUNT_MAX) /* sorted and halved whenever it is full */

static bool grow(struct ledger *l, uint32_t capacity);
static int by_time(const void *a, const void *b);

void ledger_init(struct ledger *l)
{
    memset(l, 0, sizeof *l);
    l->told_left = -1;
    l->told_stored = -2;
    l->reserved = INT64_MIN;
}

bool ledger_reserve(struct ledger *l, const struct budget_plan *b)
{
    uint32_t most = 16;
    if (!b->on) return true;
    if (b->gap_ms > l->longest_ms) l->longest_ms = b->gap_ms;
    for (uint32_t i = 0; i < b->window_count; i++) {
        const uint32_t count = b->windows[i].count;
        if (b->windows[i].ms > l->longest_ms) l->longest_ms = b->windows[i].ms;
        if (count > most) most = count < LEDGER_COUNT_MAX ? count : LEDGER_COUNT_MAX;
    }
    return most <= l->capacity || grow(l, most);
}

bool ledger_room(struct ledger *l, uint32_t capacity)
{
    return capacity <= l->capacity || grow(l, capacity);
}

void ledger_push(struct ledger *l, int64_t at, int64_t lane)
{
    ASSERT(!l->unsorted);
    if (l->capacity == 0) return;
    if (l->count == l->capacity) {
        l->head = (l->head + 1) % l->capacity;
        l->count--;
    }
    l->entries[(l->head + l->count) % l->capacity] = (struct ledger_entry){ at, lane };
    l->count++;
}

/* Before any plan is known: the windows may be of any length, so all is kept up to a bound. What is
 * dropped beyond it is the oldest, which the largest window that we keep could not hold anyway. */
bool ledger_restore(struct ledger *l, int64_t at, int64_t lane)
{
    if (l->count == l->capacity) {
        if (l->capacity < RESTORE_CAPACITY_MAX) {
            uint32_t more = l->capacity ? l->capacity * 2 : RESTORE_CAPACITY_FIRST;
            if (!grow(l, more < RESTORE_CAPACITY_MAX ? more : RESTORE_CAPACITY_MAX)) return false;
        } else {
            ledger_settle(l);
            ASSERT(l->count <= LEDGER_COUNT_MAX);
        }
    }
    l->unsorted = true;
    l->entries[(l->head + l->count) % l->capacity] = (struct ledger_entry){ at, lane };
    l->count++;
    return true;
}

void ledger_settle(struct ledger *l)
{
    if (!l->unsorted) return;
    /* A ring begins elsewhere only while it is full: every place holds an entry. */
    ASSERT(l->head == 0 || l->count == l->capacity);
    l->head = 0;
    qsort(l->entries, l->count, sizeof *l->entries, by_time);
    l->unsorted = false;
    if (l->count <= LEDGER_COUNT_MAX) return;
    const uint32_t dropped = l->count - LEDGER_COUNT_MAX;
    l->count = LEDGER_COUNT_MAX;
    memmove(l->entries, l->entries + dropped, l->count * sizeof *l->entries);
}

const struct ledger_entry *ledger_at(const struct ledger *l, uint32_t i)
{
    ASSERT(i < l->count);
    return &l->entries[(l->head + i) % l->capacity];
}

uint32_t ledger_first(const struct ledger *l, int64_t now, uint64_t window_ms)
{
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ledger_at(l, middle)->at + (int64_t)window_ms >= now) high = middle;
        else low = middle + 1;
    }
    return low;
}

int64_t ledger_lane(const struct ledger *l, int64_t value)
{
    if (!l->lanes) return value;
    int64_t lane = value % (int64_t)l->lanes;
    return lane < 0 ? lane + l->lanes : lane;
}

int64_t ledger_told(const struct ledger *l, int64_t now)
{
    return l->told_left >= 0 && l->told_until > now ? l->told_left : INT64_MAX;
}

bool ledger_forgotten(const struct ledger *l, int64_t now)
{
    if (ledger_told(l, now) != INT64_MAX) return false;
    if (!l->count) return true;
    /* Restored entries wait for the plan that says how long they count. */
    if (!l->longest_ms || l->unsorted) return false;
    return ledger_at(l, l->count - 1)->at + (int64_t)l->longest_ms < now;
}

/* Also unrolls the ring. */
static bool grow(struct ledger *l, uint32_t capacity)
{
    ASSERT(capacity >= l->count);
    struct ledger_entry *entries = malloc(capacity * sizeof *entries);
    if (!entries) return false;
    for (uint32_t i = 0; i < l->count; i++) entries[i] = *ledger_at(l, i);
    free(l->entries);
    l->entries = entries;
    l->capacity = capacity;
    l->head = 0;
    return true;
}

/* By lane as well, so that a run repeats whatever order the store gave. */
static int by_time(const void *a, const void *b)
{
    const struct ledger_entry *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return (x->lane > y->lane) - (x->lane < y->lane);
}
