/* The engine: the pool of connections, their accounts, the heaps of their deadlines, and the one
 * entry of all events. What an event does is conn.c's. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/fetch_ahead.h"
#include "base/text.h"
#include "engine/engine_internal.h"

static struct account **account_place(struct engine *e, uint64_t id);
static struct account *account_get(struct engine *e, uint64_t id);
static bool accounts_grow(struct engine *e);
static void deadline_add(struct engine *e, struct conn *c);
static void deadline_remove(struct engine *e, struct conn *c);
static void deadline_moved(struct engine *e, struct conn *c);
static void refresh_deadline(struct engine *e, struct conn *c, uint64_t now, bool after_deadline);
static void refresh_waiters(struct engine *e, struct account *a, struct clock at, uint64_t now);
static void finish_removal(struct step *s);

struct engine *engine_create(const struct engine_options *options)
{
    ASSERT(options->connections_max > 0);
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->options = *options;
    slots_init(&e->conns, sizeof(struct conn), options->connections_max);
    e->heap_at = malloc(options->connections_max * sizeof *e->heap_at);
    bool heaps = e->heap_at != NULL;
    for (uint32_t i = 0; heaps && i < options->connections_max; i++) e->heap_at[i] = HEAP_NONE;
    for (int i = 0; i < HEAP_KINDS; i++) {
        struct heap_item *items = calloc(options->connections_max, sizeof *items);
        e->heaps[i] = (struct heap){ .items = items, .where = e->heap_at, .most = options->connections_max };
        heaps = heaps && items;
    }
    e->identities = calloc(options->connections_max, sizeof *e->identities);
    e->sends = calloc(options->sends_max ? options->sends_max : 1, sizeof *e->sends);
    if (!heaps || !e->identities || !e->sends || !accounts_grow(e)) {
        engine_destroy(e);
        return NULL;
    }
    sends_init(e);
    return e;
}

void engine_destroy(struct engine *e)
{
    struct conn *c;
    struct handle h;
    if (!e) return;
    for (uint32_t i = 0; (c = slots_next(&e->conns, &i, &h)); i++) {
        free(c->links[0].sends.at);
        free(c->links[1].sends.at);
        climbs_drop(e, c);
    }
    while (e->climbs) {
        struct climb_block *gone = e->climbs;
        e->climbs = gone->next;
        free(gone);
    }
    for (uint32_t i = 0; i < e->account_capacity; i++) account_destroy(e->accounts[i]);
    slots_deinit(&e->conns);
    free(e->accounts);
    for (int i = 0; i < HEAP_KINDS; i++) free(e->heaps[i].items);
    free(e->heap_at);
    free(e->identities);
    free(e->sends);
    free(e);
}

struct handle engine_owner(const struct engine *e, uint64_t identity)
{
    for (uint32_t i = 0; i < e->conns.capacity; i++) {
        if (e->identities[i] != identity || !(e->conns.generations[i] & 1)) continue;
        return (struct handle){ i, e->conns.generations[i] };
    }
    return HANDLE_NONE;
}

struct climb_block *climbs_take(struct engine *e)
{
    struct climb_block *b = e->climbs;
    if (b) e->climbs = b->next;
    else b = malloc(sizeof *b);
    ASSERT(b != NULL);
    memset(b, 0, sizeof *b);
    return b;
}

void climbs_give(struct engine *e, struct climb_block *b)
{
    b->next = e->climbs;
    e->climbs = b;
}

enum engine_add_result engine_add(struct engine *e, const struct engine_add *add,
                                  struct handle *conn_out, struct handle *taken_by_out)
{
    struct conn *c;
    struct handle h;
    *conn_out = HANDLE_NONE;
    if (taken_by_out) *taken_by_out = HANDLE_NONE;
    ASSERT(add->plan != NULL);
    const struct handle owner = engine_owner(e, add->identity);
    if (!handle_is_none(owner)) {
        if (taken_by_out) *taken_by_out = owner;
        return ENGINE_IDENTITY_TAKEN;
    }
    struct account *a = account_get(e, add->account);
    if (!a || !account_reserve(a, add->plan)) return ENGINE_FULL;
    c = slots_alloc(&e->conns, &h);
    if (!c) return ENGINE_FULL;
    const struct budget_plan *sends = &add->plan->budgets[BUDGET_SEND];
    if (!send_ledger_reserve(&c->links[0].sends, sends) ||
        !send_ledger_reserve(&c->links[1].sends, sends)) {
        free(c->links[0].sends.at);
        slots_free(&e->conns, h);
        return ENGINE_FULL;
    }
    a->refs++;
    a->touched = ++e->touches;
    account_tick(a, add->at);
    c->self = h;
    text_copy(c->name, sizeof c->name, add->name, strlen(add->name));
    c->stream = hash_text(c->name);
    c->plan = add->plan;
    c->identity = e->identities[h.index] = add->identity;
    c->account = a;
    c->lane = add->lane;
    c->wait.conn = c->claim.conn = c;
    c->wait.lane = c->claim.lane = add->lane;
    c->state = CONN_STOPPED;
    c->since_mono_ms = add->at.mono_ms;
    c->since_wall_ms = add->at.wall_ms;
    c->attempt_at_ms = c->queue_at_ms = ENGINE_NEVER;
    c->session_present = c->session_known = add->session_present;
    c->session_saved_wall_ms = add->session_saved_wall_ms;
    c->session_begun_wall_ms = add->session_begun_wall_ms;
    c->sends_head = c->sends_tail = SEND_NONE;
    c->deadline_ms = ENGINE_NEVER;
    c->next = "nothing";
    deadline_add(e, c);
    *conn_out = h;
    return ENGINE_ADDED;
}

/* Of the same boot, boot time says exactly when the permit could be used at the latest, whatever the
 * wall clock did since. Across a boot (another one, or another machine that was given the file) only
 * wall time is left, and a step of it while nothing ran cannot be told from time that passed: a clock
 * set forward then frees permits too early, and nothing here can know. A time in the future counts
 * as now: a clock set back makes a permit count longer, never shorter. */
bool engine_restore_permit(struct engine *e, uint64_t account, enum budget_kind budget, int64_t lane,
                           bool same_boot, uint64_t wall_ms, uint64_t boot_ms, struct clock now)
{
    if ((unsigned)budget >= ACCOUNT_BUDGETS) return false;
    struct account *a = account_get(e, account);
    if (!a) return false;
    if ((int64_t)now.boot_ms > a->now) a->now = (int64_t)now.boot_ms; /* sorted later, at once */
    struct ledger *l = &a->ledgers[budget];
    const uint64_t wall_age_ms = now.wall_ms > wall_ms ? now.wall_ms - wall_ms : 0;
    const uint64_t boot_age_ms = now.boot_ms > boot_ms ? now.boot_ms - boot_ms : 0;
    const uint64_t age_ms = same_boot ? boot_age_ms : wall_age_ms;
    const int64_t longest = (int64_t)(RESTORE_AGE_MS_MAX);
    if (same_boot && (int64_t)boot_ms > l->reserved) l->reserved = (int64_t)boot_ms;
    if (age_ms > (uint64_t)longest) return true; /* no window is that long */
    if (!ledger_restore(l, a->now - (int64_t)age_ms, lane)) return false;
    a->dirty = a->unsettled = true;
    a->touched = ++e->touches;
    return true;
}

/* Of another boot: told then for no longer than until_boot_ms, because that boot began at 0. */
bool engine_restore_told(struct engine *e, uint64_t account, enum budget_kind budget, int64_t left,
                         uint32_t lanes, bool same_boot, uint64_t until_wall_ms,
                         uint64_t until_boot_ms, struct clock now)
{
    if ((unsigned)budget >= ACCOUNT_BUDGETS) return false;
    struct account *a = account_get(e, account);
    if (!a) return false;
    account_tick(a, now);
    a->touched = ++e->touches;
    uint64_t ms = until_boot_ms > now.boot_ms ? until_boot_ms - now.boot_ms : 0;
    if (!same_boot) {
        ms = until_wall_ms > now.wall_ms ? until_wall_ms - now.wall_ms : 0;
        if (ms > until_boot_ms) ms = until_boot_ms;
    }
    /* Over: only the lanes are still of use. */
    account_told(a, budget, ms ? left : -1, ms, lanes);
    return true;
}

void engine_step(struct engine *e, const struct event *ev, struct effect_list *out)
{
    ASSERT((unsigned)ev->kind < EVENT_KIND_COUNT);
    out->count = 0;
    struct step s = { .e = e, .ev = ev, .at = ev->at, .out = out };
    if (ev->at.mono_ms > e->now_ms) e->now_ms = ev->at.mono_ms;
    if (ev->at.boot_ms > e->boot_ms) e->boot_ms = ev->at.boot_ms;
    s.now = e->now_ms;
    s.c = slots_get(&e->conns, ev->conn);
    if (!s.c) {
        /* Removed: after FX_REMOVED no effect ever names the handle again. */
        e->stale_events++;
        return;
    }
    struct account *a = s.c->account;
    a->touched = ++e->touches;
    account_tick(a, ev->at);
    conn_step(&s);
    conn_update(&s);
    sends_tick(&s);
    refresh_deadline(e, s.c, s.now, ev->kind == EV_DEADLINE_PASSED);
    for (uint32_t i = 0; i < out->count; i++) {
        struct effect *f = &out->items[i];
        if (f->kind == FX_STATE && f->state.to == s.c->state) f->state.next_ms = s.c->deadline_ms;
    }
    if (s.c->removing) finish_removal(&s);
    if (a->dirty) refresh_waiters(e, a, ev->at, s.now);
}

uint64_t engine_deadline_ms(const struct engine *e)
{
    uint64_t at = ENGINE_NEVER;
    for (int i = 0; i < HEAP_KINDS; i++)
        if (e->heaps[i].count && e->heaps[i].items[0].at_ms < at) at = e->heaps[i].items[0].at_ms;
    return at;
}

struct handle engine_due(const struct engine *e, uint64_t mono_ms)
{
    for (int i = 0; i < HEAP_KINDS; i++) {
        const struct heap *h = &e->heaps[i];
        if (h->count && h->items[0].at_ms <= mono_ms && h->items[0].at_ms != ENGINE_NEVER) return h->items[0].who;
    }
    return HANDLE_NONE;
}

uint32_t engine_warm(const struct engine *e, uint64_t mono_ms, struct handle out[ENGINE_WARM_MAX])
{
    uint32_t count = 0;
    for (int i = 0; i < HEAP_KINDS && count < ENGINE_WARM_MAX; i++)
        count += heap_first(&e->heaps[i], mono_ms, out + count, ENGINE_WARM_MAX - count);
    for (uint32_t i = 0; i < count; i++) {
        const struct conn *c = slots_get(&e->conns, out[i]);
        fetch_ahead(c, offsetof(struct conn, links) + sizeof c->links[0]);
        fetch_ahead(&c->judging, 1);
        fetch_ahead(&e->heap_at[out[i].index], 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct conn *c = slots_get(&e->conns, out[i]);
        fetch_ahead(c->account, sizeof *c->account);
    }
    return count;
}

#ifdef HOLDFAST_TEST
void engine_plant(struct engine *e, enum engine_plant plant)
{
    e->plant = plant;
}

enum engine_plant engine_planted(const struct engine *e)
{
    return e->plant;
}
#endif

static void finish_removal(struct step *s)
{
    struct conn *c = s->c;
    if (c->state != CONN_STOPPED || c->sends_count) return;
    fx(s, FX_REMOVED, 0);
    ASSERT(!c->wait.listed);
    ASSERT(!c->claim.listed);
    deadline_remove(s->e, c);
    climbs_drop(s->e, c);
    free(c->links[0].sends.at);
    free(c->links[1].sends.at);
    ASSERT(c->account->refs > 0);
    c->account->refs--; /* the ledger stays: a budget survives who used it */
    slots_free(&s->e->conns, c->self);
}

static void refresh_deadline(struct engine *e, struct conn *c, uint64_t now, bool after_deadline)
{
    c->deadline_ms = conn_deadline(e, c, now, &c->next);
    /* What this event could not move must not be asked for again within the same instant. */
    if (after_deadline && c->deadline_ms <= now) c->deadline_ms = now + 1;
    /* I8, and no deadline in the past but one that is due. */
    if (c->state != CONN_STOPPED && c->state != CONN_UP) {
        ASSERT(c->deadline_ms != ENGINE_NEVER || PLANTED(e, PLANT_I8_NO_DEADLINE));
    }
    if (c->deadline_ms < now) c->deadline_ms = now;
    deadline_moved(e, c);
}

static void refresh_waiters(struct engine *e, struct account *a, struct clock at, uint64_t now)
{
    uint32_t seen = 0;
    a->dirty = false;
    for (struct budget_node *n = a->waiting.head; n && seen < REFRESH_MAX; n = n->next, seen++) {
        struct conn *c = n->conn;
        c->queue_at_ms = account_deadline(c, account_free_at(a, c->plan, n), at, now);
        refresh_deadline(e, c, now, false);
    }
}

/* --- accounts: open addressing; never removed while anything of theirs can still count */

static struct account **account_place(struct engine *e, uint64_t id)
{
    ASSERT(e->account_count < e->account_capacity);
    uint32_t i = (uint32_t)rng_mix(id) & (e->account_capacity - 1);
    while (e->accounts[i] && e->accounts[i]->id != id) i = (i + 1) & (e->account_capacity - 1);
    return &e->accounts[i];
}

static struct account *account_get(struct engine *e, uint64_t id)
{
    struct account **place = account_place(e, id);
    if (*place) return *place;
    if (e->account_count * 2 >= e->account_capacity) {
        if (!accounts_grow(e)) return NULL;
        place = account_place(e, id);
    }
    *place = account_create(id);
    if (*place) e->account_count++;
    return *place;
}

static bool accounts_grow(struct engine *e)
{
    uint32_t capacity = e->account_capacity ? e->account_capacity * 2 : 16;
    struct account **before = e->accounts;
    uint32_t before_capacity = e->account_capacity;
    struct account **accounts = calloc(capacity, sizeof *accounts);
    if (!accounts) return false;
    e->accounts = accounts;
    e->account_capacity = capacity;
    for (uint32_t i = 0; i < before_capacity; i++) {
        if (!before[i]) continue;
        if (account_forgotten(before[i], e->boot_ms)) {
            account_destroy(before[i]);
            e->account_count--;
        } else {
            *account_place(e, before[i]->id) = before[i];
        }
    }
    free(before);
    return true;
}

/* --- the heaps of deadlines */

static enum heap_kind heap_kind_of(const struct conn *c)
{
    return c->state == CONN_UP ? HEAP_SERVES : HEAP_OTHERS;
}

static void deadline_add(struct engine *e, struct conn *c)
{
    c->heap = (uint8_t)heap_kind_of(c);
    heap_add(&e->heaps[c->heap], c->self, c->deadline_ms);
}

static void deadline_remove(struct engine *e, struct conn *c)
{
    heap_remove(&e->heaps[c->heap], c->self);
}

/* Its deadline is another one, or its state. */
static void deadline_moved(struct engine *e, struct conn *c)
{
    if (heap_kind_of(c) == c->heap) {
        heap_move(&e->heaps[c->heap], c->self, c->deadline_ms);
        return;
    }
    deadline_remove(e, c);
    deadline_add(e, c);
}
