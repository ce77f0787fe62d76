/* Budgets: who has claimed and who waits, and from when the next one may. One account holds the
 * ledgers that its connections share. Owns no timer; its clock is boot time, so that neither a step
 * of wall time nor a suspend refills it wrongly.
 *
 * A claim counts as if it were used at this very moment, until it is used or given back: that is
 * what makes the promise hold for the instants of use, and not only for those of the grants. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"

static uint32_t window_limit(const struct budget_plan *b, const struct window *w, bool reserve);
static struct budget_wait kind_wait(const struct account *a, const struct budget_plan *b,
                                    enum budget_kind kind, const struct budget_node *node);
static int64_t lane_free_at(const struct account *a, const struct budget_plan *b,
                            const struct ledger *l, int64_t lane);
static uint32_t kind_left(const struct account *a, const struct budget_plan *b,
                          enum budget_kind kind, bool reserve);
static void list_add(struct budget_list *list, struct budget_node *before,
                     struct budget_node *node);
static void list_remove(struct budget_list *list, struct budget_node *node);

struct account *account_create(uint64_t id)
{
    struct account *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->id = id;
    a->now = INT64_MIN;
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) ledger_init(account_ledger(a, i));
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
        if (!ledger_forgotten(account_ledger(a, i), (int64_t)boot_ms)) return false;
    }
    return true;
}

bool account_reserve(struct account *a, const struct plan *p)
{
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) {
        ledger_settle(account_ledger(a, i));
        if (!ledger_reserve(account_ledger(a, i), &p->budgets[i])) return false;
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
    for (int i = 0; a->unsettled && i < ACCOUNT_BUDGETS; i++) ledger_settle(account_ledger(a, i));
    a->unsettled = false;
}

int64_t account_free_at(const struct account *a, const struct plan *p,
                        const struct budget_node *node)
{
    int64_t free_at = a->now;
    for (int kind = 0; kind < ACCOUNT_BUDGETS; kind++) {
        if (!(node->needs & 1u << kind)) continue;
        if (!p->budgets[kind].on) continue;
        int64_t at = kind_wait(a, &p->budgets[kind], (enum budget_kind)kind, node).until;
        if (at > free_at) free_at = at;
    }
    return free_at;
}

void account_wait(struct account *a, struct budget_node *node)
{
    struct budget_node *before = NULL;
    if (node->reserve) {
        before = a->waiting.head;
        while (before && before->reserve) before = before->next;
    }
    list_add(&a->waiting, before, node);
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
    list_add(&a->claims, NULL, node);
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
    ledger_push(l, a->now, node->lane);
    if (l->told_left > 0) l->told_left--;
    account_release(a, node, 1u << kind);
}

bool account_call(struct account *a, const struct plan *p, struct conn *conn, uint64_t *wait_ms_out)
{
    const struct budget_plan *b = &p->budgets[BUDGET_CALL];
    struct ledger *l = &a->ledgers[BUDGET_CALL];
    const struct budget_node node = { .conn = conn };
    *wait_ms_out = 0;
    if (!b->on) return true;
    const int64_t until = kind_wait(a, b, BUDGET_CALL, &node).until;
    if (until > a->now) {
        *wait_ms_out = (uint64_t)(until - a->now);
        return false;
    }
    ledger_push(l, a->now, 0);
    if (l->told_left > 0) l->told_left--;
    return true;
}

void account_told(struct account *a, enum budget_kind kind, int64_t left, uint64_t reset_ms,
                  uint32_t lanes)
{
    ASSERT(kind < ACCOUNT_BUDGETS);
    struct ledger *l = &a->ledgers[kind];
    if (lanes && lanes != l->lanes) {
        l->lanes = lanes;
        l->told_stored = -2;
    }
    if (left >= 0) {
        l->told_stored = -2;
        if (reset_ms == 0) reset_ms = TOLD_MS_DEFAULT;
        if (reset_ms > TOLD_MS_MAX) reset_ms = TOLD_MS_MAX;
        l->told_left = left;
        l->told_until = a->now + (int64_t)reset_ms;
    }
    a->dirty = true;
}

bool account_claim_holds(const struct account *a, const struct budget_plan *b,
                         const struct budget_node *node, enum budget_kind kind)
{
    const struct ledger *l = &a->ledgers[kind];
    const int64_t lane = ledger_lane(l, node->lane);
    int64_t before = 0;
    for (const struct budget_node *n = a->claims.head; n && n != node; n = n->next) {
        if (!(n->needs & 1u << kind)) continue;
        before++;
        /* Lanes told since then may have put two claims into one. */
        if (b->gap_ms && ledger_lane(l, n->lane) == lane) return false;
    }
    if (lane_free_at(a, b, l, lane) > a->now) return false;
    return before < ledger_told(l, a->now);
}

uint32_t account_claimed(const struct account *a, enum budget_kind kind)
{
    uint32_t claimed = 0;
    for (const struct budget_node *n = a->claims.head; n; n = n->next) {
        if (n->needs & 1u << kind) claimed++;
    }
    return claimed;
}

void account_view(const struct account *a, const struct plan *p, enum budget_kind kind,
                  const struct budget_node *node, struct budget_wait *wait_out,
                  struct budget_wait *reserve_wait_out, struct budget_view *out)
{
    const struct ledger *l = &a->ledgers[kind];
    const struct budget_plan *b = &p->budgets[kind];
    const struct budget_node person = { .conn = node->conn, .lane = node->lane, .reserve = true };
    *wait_out = *reserve_wait_out = (struct budget_wait){ .until = a->now };
    if (b->on) {
        *wait_out = kind_wait(a, b, kind, node);
        *reserve_wait_out = kind_wait(a, b, kind, &person);
    }
    out->hold = wait_out->hold;
    out->window_ms = wait_out->window_ms;
    out->window_count = wait_out->window_count;
    out->left = kind_left(a, b, kind, false);
    out->reserve_left = kind_left(a, b, kind, true);
    out->used = 0;
    uint64_t longest = 0;
    for (uint32_t i = 0; i < b->window_count; i++) {
        if (b->windows[i].ms < longest) continue;
        longest = b->windows[i].ms;
        out->used = l->count - ledger_first(l, a->now, longest) + account_claimed(a, kind);
    }
}

static uint32_t kind_left(const struct account *a, const struct budget_plan *b,
                          enum budget_kind kind, bool reserve)
{
    const struct ledger *l = &a->ledgers[kind];
    const uint32_t claimed = account_claimed(a, kind);
    int64_t left = UINT32_MAX;
    for (uint32_t i = 0; i < b->window_count; i++) {
        const uint32_t used = l->count - ledger_first(l, a->now, b->windows[i].ms) + claimed;
        const uint32_t limit = window_limit(b, &b->windows[i], reserve);
        const int64_t more = used < limit ? limit - used : 0;
        if (more < left) left = more;
    }
    const int64_t told = ledger_told(l, a->now);
    if (told != INT64_MAX) {
        const int64_t more = told > claimed ? told - claimed : 0;
        if (more < left) left = more;
    }
    return (uint32_t)left;
}

static struct budget_wait kind_wait(const struct account *a, const struct budget_plan *b,
                                    enum budget_kind kind, const struct budget_node *node)
{
    const struct ledger *l = &a->ledgers[kind];
    const int64_t lane = ledger_lane(l, node->lane);
    uint32_t ahead = 0, lane_ahead = 0, claimed = 0, lane_claimed = 0;
    for (const struct budget_node *n = a->claims.head; n; n = n->next) {
        if (!(n->needs & 1u << kind) || n->conn == node->conn) continue;
        claimed++;
        if (ledger_lane(l, n->lane) == lane) lane_claimed++;
    }
    for (const struct budget_node *n = a->waiting.head; n && n != node; n = n->next) {
        if (!(n->needs & 1u << kind)) continue;
        /* People do not wait behind those who may not have what is kept for people. */
        if (node->reserve && !n->reserve) break;
        ahead++;
        if (ledger_lane(l, n->lane) == lane) lane_ahead++;
    }
    struct budget_wait wait = { .until = a->now };

    for (uint32_t i = 0; i < b->window_count; i++) {
        uint32_t limit = window_limit(b, &b->windows[i], node->reserve);
        uint32_t first = ledger_first(l, a->now, b->windows[i].ms);
        uint64_t taken = (uint64_t)(l->count - first) + claimed + ahead;
        if (taken < limit) continue;
        uint64_t must_leave = taken - limit + 1;
        int64_t at = must_leave <= l->count - first
                         ? ledger_at(l, first + (uint32_t)must_leave - 1)->at
                         : a->now;
        at += (int64_t)b->windows[i].ms + 1;
        if (at <= wait.until) continue;
        wait = (struct budget_wait){ at, BUDGET_HOLD_WINDOW, b->windows[i].ms, limit };
    }
    if (b->gap_ms) {
        int64_t at = a->now;
        if (lane_claimed) {
            at += (int64_t)b->gap_ms;
        } else {
            at = lane_free_at(a, b, l, lane);
        }
        at += (int64_t)(lane_ahead * b->gap_ms);
        if (at > wait.until) wait = (struct budget_wait){ .until = at, .hold = BUDGET_HOLD_GAP };
    }
    if (l->told_until > wait.until && (int64_t)claimed + ahead >= ledger_told(l, a->now)) {
        wait = (struct budget_wait){ .until = l->told_until, .hold = BUDGET_HOLD_TOLD };
    }
    return wait;
}

/* When the gap after the lane's last entry is over; now or earlier: at once. */
static int64_t lane_free_at(const struct account *a, const struct budget_plan *b,
                            const struct ledger *l, int64_t lane)
{
    for (uint32_t i = l->count; b->gap_ms && i > 0; i--) {
        const struct ledger_entry *e = ledger_at(l, i - 1);
        if (e->at + (int64_t)b->gap_ms <= a->now) break;
        if (ledger_lane(l, e->lane) != lane) continue;
        return e->at + (int64_t)b->gap_ms;
    }
    return a->now;
}

/* What automatic attempts may use of a window: a share stays free for people. */
static uint32_t window_limit(const struct budget_plan *b, const struct window *w, bool reserve)
{
    uint32_t count = w->count < LEDGER_COUNT_MAX ? w->count : LEDGER_COUNT_MAX;
    if (reserve || !(b->operators > 0) || count <= 1) return count;
    uint32_t kept = (uint32_t)(count * (b->operators < 0.5 ? b->operators : 0.5));
    if (kept == 0) kept = 1;
    return count - kept;
}

/* In front of `before`; at the end without one. */
static void list_add(struct budget_list *list, struct budget_node *before,
                     struct budget_node *node)
{
    ASSERT(!node->listed);
    ASSERT(node->needs != 0);
    node->next = before;
    node->prev = before ? before->prev : list->tail;
    if (node->prev) node->prev->next = node;
    else list->head = node;
    if (before) before->prev = node;
    else list->tail = node;
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
