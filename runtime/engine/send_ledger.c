/* The budget of one link's sends: every payload is noted, beats and greeting frames too; a few
 * places stay free for beats. Starts empty with each link; its memory comes from budget.c, once. */
#include "engine/engine_internal.h"

static uint32_t window_limit(const struct budget_plan *b, const struct window *w);
static uint64_t entry_at(const struct send_ledger *l, uint32_t i);

void send_ledger_reset(struct send_ledger *l)
{
    l->head = l->count = 0;
    l->told_until = 0;
}

void send_ledger_note(struct send_ledger *l, const struct budget_plan *b, uint64_t now)
{
    if (!b->on || l->capacity == 0) return;
    if (l->count == l->capacity) {
        l->head = (l->head + 1) % l->capacity;
        l->count--;
    }
    l->at[(l->head + l->count) % l->capacity] = now;
    l->count++;
}

uint64_t send_ledger_free_at(const struct send_ledger *l, const struct budget_plan *b, uint64_t now)
{
    uint64_t free_at = l->told_until > now ? l->told_until : now;
    for (uint32_t i = 0; b->on && i < b->window_count; i++) {
        const uint32_t limit = window_limit(b, &b->windows[i]);
        if (l->count < limit) continue;
        /* The send that must have left the window before one more fits. */
        uint64_t at = entry_at(l, l->count - limit) + b->windows[i].ms + 1;
        if (at > free_at) free_at = at;
    }
    return free_at;
}

void send_ledger_view(const struct send_ledger *l, const struct budget_plan *b, uint64_t now,
                      struct budget_view *out)
{
    uint64_t longest = 0;
    out->next_ms = send_ledger_free_at(l, b, now);
    for (uint32_t i = 0; i < b->window_count; i++) {
        uint32_t used = 0;
        const uint64_t ms = b->windows[i].ms;
        while (used < l->count && entry_at(l, l->count - used - 1) + ms >= now) used++;
        const uint32_t limit = window_limit(b, &b->windows[i]);
        uint32_t left = used < limit ? limit - used : 0;
        if (left < out->left) out->left = left;
        if (b->windows[i].ms < longest) continue;
        longest = b->windows[i].ms;
        out->used = used;
    }
}

/* What others than beats may use of it: one at least. */
static uint32_t window_limit(const struct budget_plan *b, const struct window *w)
{
    const uint32_t count = w->count < LEDGER_COUNT_MAX ? w->count : LEDGER_COUNT_MAX;
    return count > b->beats ? count - b->beats : 1;
}

static uint64_t entry_at(const struct send_ledger *l, uint32_t i)
{
    ASSERT(i < l->count);
    return l->at[(l->head + i) % l->capacity];
}
