/* Saved: what an account shares among its connections: ledgers, who waits, who has claimed. The others come back
 * as strangers, of whom only their places are known. */
#include "engine/saved.h"

#include "engine/engine_internal.h"

static void ledger_walk(struct walk *w, struct ledger *l)
{
    uint32_t capacity = l->capacity, count = l->count;
    walk_count(w, &capacity, 2 * LEDGER_COUNT_MAX);
    walk_count(w, &count, capacity);
    if (walk_reads(w)) {
        if (w->bad || !ledger_room(l, capacity)) {
            walk_fail(w, "no memory for a ledger");
            return;
        }
        l->head = l->count = 0;
        l->unsorted = false;
    }
    struct ledger_entry last = { 0, 0 };
    for (uint32_t i = 0; i < count && !w->bad; i++) {
        struct ledger_entry now = walk_reads(w) ? last : *ledger_at(l, i);
        int64_t later = now.at - last.at, lane = now.lane - last.lane;
        walk_i64(w, &later);
        walk_i64(w, &lane);
        last = (struct ledger_entry){ (int64_t)((uint64_t)last.at + (uint64_t)later),
                                      (int64_t)((uint64_t)last.lane + (uint64_t)lane) };
        if (!walk_reads(w)) continue;
        if (later < 0 && i) walk_fail(w, "a ledger that runs backwards");
        else l->entries[l->count++] = last;
    }
    walk_i64(w, &l->told_left);
    walk_i64(w, &l->told_until);
    walk_i64(w, &l->told_stored);
    walk_u32(w, &l->lanes);
    walk_i64(w, &l->reserved);
}

static void list_clear(struct budget_list *list)
{
    for (struct budget_node *n = list->head, *next; n; n = next) {
        next = n->next;
        n->prev = n->next = NULL;
        n->listed = false;
    }
    *list = (struct budget_list){ 0 };
}

static void list_put(struct budget_list *list, struct budget_node *n)
{
    n->prev = list->tail;
    n->next = NULL;
    if (list->tail) list->tail->next = n;
    else list->head = n;
    list->tail = n;
    list->count++;
    n->listed = true;
}

/* Somebody else of the account, of whom only a place in a queue is known. */
static struct conn *stranger(struct engine *e, const struct conn *c, uint32_t number)
{
    struct conn *other;
    struct handle h, taken;
    uint32_t seen = 0;
    for (uint32_t i = 0; (other = slots_next(&e->conns, &i, &h)); i++) {
        if (other != c && other->account == c->account && seen++ == number) return other;
    }
    char name[32] = "other";
    struct engine_add add = { .name = name,
                              .identity = rng_mix(c->identity + 1 + number),
                              .account = c->account->id,
                              .plan = c->plan };
    return engine_add(e, &add, &h, &taken) == ENGINE_ADDED ? slots_get(&e->conns, h) : NULL;
}

static void list_walk(struct walk *w, struct engine *e, struct conn *c, struct budget_list *list, bool claims)
{
    uint32_t count = list->count < SAVED_PLACES_MAX ? list->count : SAVED_PLACES_MAX, strangers = 0;
    struct budget_node *n = list->head, *mine = claims ? &c->claim : &c->wait;
    bool have = false;
    walk_count(w, &count, SAVED_PLACES_MAX);
    if (walk_reads(w)) list_clear(list);
    for (uint32_t i = 0; i < count && !w->bad; i++) {
        bool own = !walk_reads(w) && n == mine;
        walk_bool(w, &own);
        struct budget_node place = { .needs = 1 };
        if (!walk_reads(w)) {
            place = *n;
            n = n->next;
        }
        if (!own) saved__node(w, &place);
        if (!walk_reads(w) || w->bad) continue;
        if (own) {
            if (have || mine->needs == 0) walk_fail(w, "a place that is taken twice");
            else list_put(list, mine);
            have = true;
            continue;
        }
        struct conn *other = stranger(e, c, strangers++);
        if (!other || place.needs == 0) {
            walk_fail(w, "no room for those who wait");
            return;
        }
        struct budget_node *theirs = claims ? &other->claim : &other->wait;
        theirs->lane = place.lane;
        theirs->needs = place.needs;
        theirs->reserve = place.reserve;
        list_put(list, theirs);
    }
    if (walk_reads(w) && !claims && c->queued != have) walk_fail(w, "who waits has no place");
}

static void shared_walk(struct walk *w, struct engine *e, struct conn *c)
{
    struct account *a = c->account;
    walk_i64(w, &a->now);
    walk_bool(w, &a->dirty);
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) {
        if (i != BUDGET_CALL) ledger_walk(w, &a->ledgers[i]); /* no step of the engine asks for calls */
    }
    list_walk(w, e, c, &a->waiting, false);
    list_walk(w, e, c, &a->claims, true);
    saved__never(w, &c->queue_at_ms);
}

bool engine_save_shared(const struct engine *e, struct handle conn, struct buffer *out)
{
    struct conn *c = slots_get(&e->conns, conn);
    if (!c) return false;
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) ledger_settle(&c->account->ledgers[i]);
    struct walk w = walk_write(out);
    shared_walk(&w, (struct engine *)e, c);
    return !w.bad;
}

bool engine_load_shared(struct engine *e, struct handle conn, const void *bytes, size_t len,
                        const char **why)
{
    struct conn *c = slots_get(&e->conns, conn);
    ASSERT(c != NULL);
    struct walk w = walk_read(bytes, len);
    shared_walk(&w, e, c);
    if (!w.bad && w.at != w.end) walk_fail(&w, "more than an account's state");
    *why = w.why;
    return !w.bad;
}

uint64_t engine_shared_print(const struct engine *e, struct handle conn)
{
    const struct conn *c = slots_get(&e->conns, conn);
    if (!c) return 0;
    const struct account *a = c->account;
    uint64_t h = rng_mix(c->queue_at_ms + a->dirty);
    for (int i = 0; i < ACCOUNT_BUDGETS; i++) {
        if (i == BUDGET_CALL) continue;
        /* Entries come at the end and go at the front; the numbers beside them tell the rest. */
        const struct ledger *l = &a->ledgers[i];
        h = rng_mix(h ^ ((uint64_t)l->count << 32 | l->capacity << 1 | l->unsorted));
        if (l->count) {
            const struct ledger_entry *first = ledger_at(l, 0), *last = ledger_at(l, l->count - 1);
            h = rng_mix(rng_mix(rng_mix(h ^ (uint64_t)first->at) ^ (uint64_t)last->at) ^ (uint64_t)last->lane);
        }
        h = rng_mix(rng_mix(rng_mix(h ^ (uint64_t)l->told_left) ^ (uint64_t)l->told_until) ^ (uint64_t)l->told_stored);
        h = rng_mix(rng_mix(h ^ l->lanes) ^ (uint64_t)l->reserved);
    }
    const struct budget_list *lists[] = { &a->waiting, &a->claims };
    for (int i = 0; i < 2; i++) {
        for (const struct budget_node *n = lists[i]->head; n; n = n->next) {
            h = rng_mix(rng_mix(h ^ (uint64_t)n->lane) ^
                        (n->needs << 2 | (unsigned)n->reserve << 1 | (unsigned)(n->conn == c)));
        }
        h = rng_mix(h ^ lists[i]->count);
    }
    return h;
}

uint64_t engine_shared_touched(const struct engine *e, struct handle conn)
{
    const struct conn *c = slots_get(&e->conns, conn);
    return c ? c->account->touched : 0;
}

bool engine_shares(const struct engine *e, struct handle conn)
{
    const struct conn *c = slots_get(&e->conns, conn);
    return c && c->account->refs > 1;
}
