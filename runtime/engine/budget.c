/* Budgets: what was used in each sliding window, what is claimed, who waits. One account holds the
 * ledgers that its connections share. Owns no timer; its clock is boot time, so that neither a step
 * of wall time nor a suspend refills it wrongly.
 *
 * A claim counts as if it were used at this very moment, until it is used or given back: that is
 * what makes the promise hold for the instants of use, and not only for those of the grants. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"

static uint32_t plan_capacity(const struct budget_plan *b);
static uint32_t window_limit(const struct budget_plan *b, const struct window *w);
static const struct ledger_entry *entry_at(const struct ledger *l, uint32_t i);
static uint32_t first_in_window(const struct ledger *l, int64_t now, uint64_t window_ms);
static void entry_push(struct ledger *l, int64_t at, int64_t lane);
static int64_t lane_of(const struct ledger *l, int64_t value);
static int64_t kind_free_at(const struct account *a, const struct budget_plan *b,
                            enum budget_kind kind, const struct budget_node *node);
static int64_t lane_free_at(const struct account *a, const struct budget_plan *b,
                            const struct ledger *l, int64_t lane);
static void list_add(struct budget_list *list, struct budget_node *node);
static void list_remove(struct budget_list *list, struct budget_node *node);

struct account *account_create(uint64_t id)
{
    struct account *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->id = id;
    a->now = INT64_MIN;
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) a->ledgers[i].told_left = -1;
    return a;
}

void account_destroy(struct account *a)
{
    if (!a) return;
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) free(a->ledgers[i].entries);
    free(a);
}

bool account_forgotten(const struct account *a, uint64_t boot_ms)
{
    if (a->refs || a->claims.count || a->waiting.count) return false;
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) {
        const struct ledger *l = &a->ledgers[i];
        if (l->told_left >= 0 && l->told_until > (int64_t)boot_ms) return false;
        if (!l->count) continue;
        /* Restored entries wait for the plan that says how long they count. */
        if (!l->longest_ms) return false;
        const struct ledger_entry *newest = entry_at(l, l->count - 1);
        if (newest->at + (int64_t)l->longest_ms >= (int64_t)boot_ms) return false;
    }
    return true;
}

bool account_reserve(struct account *a, const struct plan *p)
{
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) {
        struct ledger *l = &a->ledgers[i];
        const struct budget_plan *b = &p->budgets[i];
        if (b->on && b->gap_ms > l->longest_ms) l->longest_ms = b->gap_ms;
        for (uint32_t j = 0; b->on && j < b->window_count; j++) {
            if (b->windows[j].ms > l->longest_ms) l->longest_ms = b->windows[j].ms;
        }
        uint32_t capacity = plan_capacity(&p->budgets[i]);
        if (capacity <= l->capacity) continue;
        struct ledger_entry *entries = malloc(capacity * sizeof *entries);
        if (!entries) return false;
        for (uint32_t j = 0; j < l->count; j++) entries[j] = *entry_at(l, j);
        free(l->entries);
        l->entries = entries;
        l->capacity = capacity;
        l->head = 0;
    }
    return true;
}

/* Here, with the other ledger's memory: nothing else in the engine allocates. */
bool send_ledger_reserve(struct send_ledger *l, const struct budget_plan *b)
{
    uint32_t most = 0;
    for (uint32_t i = 0; b->on && i < b->window_count; i++) {
        if (b->windows[i].count > most) most = b->windows[i].count;
    }
    if (most > LEDGER_COUNT_MAX) most = LEDGER_COUNT_MAX;
    if (most) most += 16; /* beats and greeting frames beyond the limit are noted too */
    if (most <= l->capacity) return true;
    uint64_t *at = malloc(most * sizeof *at);
    if (!at) return false;
    for (uint32_t i = 0; i < l->count; i++) at[i] = l->at[(l->head + i) % l->capacity];
    free(l->at);
    l->at = at;
    l->capacity = most;
    l->head = 0;
    return true;
}

void account_tick(struct account *a, struct clock at)
{
    if ((int64_t)at.boot_ms > a->now) a->now = (int64_t)at.boot_ms;
}

int64_t account_free_at(const struct account *a, const struct plan *p,
                        const struct budget_node *node)
{
    int64_t free_at = a->now;
    for (int kind = 0; kind < ACCOUNT_BUDGETS; kind++) {
        if (!(node->needs & 1u << kind)) continue;
        if (!p->budgets[kind].on) continue;
        int64_t at = kind_free_at(a, &p->budgets[kind], (enum budget_kind)kind, node);
        if (at > free_at) free_at = at;
    }
    return free_at;
}

void account_wait(struct account *a, struct budget_node *node)
{
    list_add(&a->waiting, node);
    a->dirty = true;
}

void account_unwait(struct account *a, struct budget_node *node)
{
    if (!node->listed) return;
    list_remove(&a->waiting, node);
    a->dirty = true;
}

void account_claim(struct account *a, struct budget_node *node)
{
    list_add(&a->claims, node);
    a->dirty = true;
}

void account_release(struct account *a, struct budget_node *node, uint32_t needs)
{
    if (!node->listed) return;
    node->needs &= ~needs;
    if (!node->needs) list_remove(&a->claims, node);
    a->dirty = true;
}

void account_spend(struct account *a, struct budget_node *node, enum budget_kind kind)
{
    ASSERT(node->listed);
    ASSERT(node->needs & 1u << kind);
    struct ledger *l = &a->ledgers[kind];
    entry_push(l, a->now, node->lane);
    if (l->told_left > 0) l->told_left--;
    account_release(a, node, 1u << kind);
}

void account_restore(struct account *a, enum budget_kind kind, int64_t at)
{
    ASSERT(kind < ACCOUNT_BUDGETS);
    struct ledger *l = &a->ledgers[kind];
    if (l->capacity == 0) {
        /* Restored before the first connection of the account came with its plan. */
        l->entries = malloc(LEDGER_COUNT_MAX / 8 * sizeof *l->entries);
        if (!l->entries) return;
        l->capacity = LEDGER_COUNT_MAX / 8;
    }
    /* Kept in order: the store may hand them over in any. */
    entry_push(l, at, LANE_ANY);
    for (uint32_t i = l->count - 1; i > 0; i--) {
        struct ledger_entry *later = &l->entries[(l->head + i) % l->capacity];
        struct ledger_entry *earlier = &l->entries[(l->head + i - 1) % l->capacity];
        if (earlier->at <= later->at) break;
        struct ledger_entry swapped = *later;
        *later = *earlier;
        *earlier = swapped;
    }
    a->dirty = true;
}

void account_told(struct account *a, enum budget_kind kind, int64_t left, uint64_t reset_ms,
                  uint32_t lanes)
{
    ASSERT(kind < ACCOUNT_BUDGETS);
    struct ledger *l = &a->ledgers[kind];
    if (lanes) l->lanes = lanes;
    if (left >= 0) {
        if (reset_ms == 0) reset_ms = TOLD_MS_DEFAULT;
        if (reset_ms > RETRY_AFTER_MS_MAX * 31) reset_ms = RETRY_AFTER_MS_MAX * 31;
        l->told_left = left;
        l->told_until = a->now + (int64_t)reset_ms;
    }
    a->dirty = true;
}

bool account_claim_holds(const struct account *a, const struct budget_plan *b,
                         const struct budget_node *node, enum budget_kind kind)
{
    const struct ledger *l = &a->ledgers[kind];
    const int64_t lane = lane_of(l, node->lane);
    int64_t before = 0;
    for (const struct budget_node *n = a->claims.head; n && n != node; n = n->next) {
        if (!(n->needs & 1u << kind)) continue;
        before++;
        /* Lanes told since then may have put two claims into one. */
        if (b->gap_ms && lane_of(l, n->lane) == lane) return false;
    }
    if (lane_free_at(a, b, l, lane) > a->now) return false;
    return l->told_left < 0 || l->told_until <= a->now || before < l->told_left;
}

void account_view(const struct account *a, const struct plan *p, enum budget_kind kind,
                  int64_t lane, int64_t *free_at_out, struct budget_view *out)
{
    const struct ledger *l = &a->ledgers[kind];
    const struct budget_plan *b = &p->budgets[kind];
    struct budget_node asking = { .lane = lane, .needs = 1u << kind };
    *free_at_out = b->on ? kind_free_at(a, b, kind, &asking) : a->now;
    out->left = UINT32_MAX;
    out->used = 0;
    uint32_t claimed = 0;
    uint64_t longest = 0;
    for (const struct budget_node *n = a->claims.head; n; n = n->next) {
        if (n->needs & 1u << kind) claimed++;
    }
    for (uint32_t i = 0; i < b->window_count; i++) {
        uint32_t used = l->count - first_in_window(l, a->now, b->windows[i].ms) + claimed;
        uint32_t limit = window_limit(b, &b->windows[i]);
        uint32_t left = used < limit ? limit - used : 0;
        if (left < out->left) out->left = left;
        if (b->windows[i].ms >= longest) {
            longest = b->windows[i].ms;
            out->used = used;
        }
    }
    if (l->told_left >= 0 && l->told_until > a->now) {
        uint32_t left = l->told_left > claimed ? (uint32_t)(l->told_left - claimed) : 0;
        if (left < out->left) out->left = left;
    }
}

static int64_t kind_free_at(const struct account *a, const struct budget_plan *b,
                            enum budget_kind kind, const struct budget_node *node)
{
    const struct ledger *l = &a->ledgers[kind];
    const int64_t lane = lane_of(l, node->lane);
    uint32_t ahead = 0, lane_ahead = 0, claimed = 0, lane_claimed = 0;
    for (const struct budget_node *n = a->claims.head; n; n = n->next) {
        if (!(n->needs & 1u << kind) || n->conn == node->conn) continue;
        claimed++;
        if (lane_of(l, n->lane) == lane) lane_claimed++;
    }
    for (const struct budget_node *n = a->waiting.head; n && n != node; n = n->next) {
        if (!(n->needs & 1u << kind)) continue;
        ahead++;
        if (lane_of(l, n->lane) == lane) lane_ahead++;
    }
    int64_t free_at = a->now;

    for (uint32_t i = 0; i < b->window_count; i++) {
        uint32_t limit = window_limit(b, &b->windows[i]);
        uint32_t first = first_in_window(l, a->now, b->windows[i].ms);
        uint64_t taken = (uint64_t)(l->count - first) + claimed + ahead;
        if (taken < limit) continue;
        uint64_t must_leave = taken - limit + 1;
        int64_t at = must_leave <= l->count - first
                         ? entry_at(l, first + (uint32_t)must_leave - 1)->at
                         : a->now;
        at += (int64_t)b->windows[i].ms + 1;
        if (at > free_at) free_at = at;
    }
    if (b->gap_ms) {
        int64_t at = a->now;
        if (lane_claimed) {
            at += (int64_t)b->gap_ms;
        } else {
            at = lane_free_at(a, b, l, lane);
        }
        at += (int64_t)(lane_ahead * b->gap_ms);
        if (at > free_at) free_at = at;
    }
    if (l->told_left >= 0 && l->told_until > free_at &&
        (int64_t)claimed + ahead >= l->told_left) {
        free_at = l->told_until;
    }
    return free_at;
}

/* When the gap after the lane's last entry is over; now or earlier: at once. */
static int64_t lane_free_at(const struct account *a, const struct budget_plan *b,
                            const struct ledger *l, int64_t lane)
{
    for (uint32_t i = l->count; b->gap_ms && i > 0; i--) {
        const struct ledger_entry *e = entry_at(l, i - 1);
        if (e->at + (int64_t)b->gap_ms <= a->now) break;
        if (e->lane != LANE_ANY && lane_of(l, e->lane) != lane) continue;
        return e->at + (int64_t)b->gap_ms;
    }
    return a->now;
}

/* What automatic attempts may use of a window: a share stays free for people. */
static uint32_t window_limit(const struct budget_plan *b, const struct window *w)
{
    uint32_t count = w->count < LEDGER_COUNT_MAX ? w->count : LEDGER_COUNT_MAX;
    if (!(b->operators > 0) || count <= 1) return count;
    uint32_t kept = (uint32_t)(count * (b->operators < 0.5 ? b->operators : 0.5));
    if (kept == 0) kept = 1;
    return count - kept;
}

static uint32_t plan_capacity(const struct budget_plan *b)
{
    uint32_t most = b->on ? 16 : 0;
    for (uint32_t i = 0; b->on && i < b->window_count; i++) {
        uint32_t count = b->windows[i].count;
        if (count > LEDGER_COUNT_MAX) count = LEDGER_COUNT_MAX;
        if (count > most) most = count;
    }
    return most;
}

static const struct ledger_entry *entry_at(const struct ledger *l, uint32_t i)
{
    ASSERT(i < l->count);
    return &l->entries[(l->head + i) % l->capacity];
}

/* The first entry that a closed window [now - ms, now] still holds; count when none. */
static uint32_t first_in_window(const struct ledger *l, int64_t now, uint64_t window_ms)
{
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entry_at(l, middle)->at + (int64_t)window_ms >= now) high = middle;
        else low = middle + 1;
    }
    return low;
}

static void entry_push(struct ledger *l, int64_t at, int64_t lane)
{
    if (l->capacity == 0) return;
    if (l->count == l->capacity) {
        l->head = (l->head + 1) % l->capacity;
        l->count--;
    }
    l->entries[(l->head + l->count) % l->capacity] = (struct ledger_entry){ at, lane };
    l->count++;
}

static int64_t lane_of(const struct ledger *l, int64_t value)
{
    if (!l->lanes) return value;
    int64_t lane = value % (int64_t)l->lanes;
    return lane < 0 ? lane + l->lanes : lane;
}

static void list_add(struct budget_list *list, struct budget_node *node)
{
    ASSERT(!node->listed);
    ASSERT(node->needs != 0);
    node->prev = list->tail;
    node->next = NULL;
    if (list->tail) list->tail->next = node;
    else list->head = node;
    list->tail = node;
    list->count++;
    node->listed = true;
}

static void list_remove(struct budget_list *list, struct budget_node *node)
{
    ASSERT(node->listed);
    ASSERT(list->count > 0);
    if (node->prev) node->prev->next = node->next;
    else list->head = node->next;
    if (node->next) node->next->prev = node->prev;
    else list->tail = node->prev;
    node->prev = node->next = NULL;
    list->count--;
    node->listed = false;
}
