/* Attempts: begin, budgets and permits, prepare, dial. A place in the budgets is claimed before
 * the attempt begins; when the attempt will start a session the claim is made durable before the
 * dial, and given back when the start frame was never sent (I2). */
#include <string.h>

#include "engine/engine_internal.h"

static uint32_t attempt_needs(const struct conn *c, struct clock at);
static bool is_over(uint64_t since_wall_ms, uint64_t most_ms, struct clock at);
static void session_let_go(struct step *s);
static bool start_claim_holds(const struct step *s);
static void requeue(struct step *s, uint32_t needs);
static bool one_closes(const struct conn *c);
static void dial(struct step *s);
static void wait_in_queue(struct step *s, int64_t free_at);
static void reserve_permit(struct step *s);
static void release(struct step *s, uint32_t needs);
static struct effect *store(struct step *s, enum store_kind kind, enum budget_kind budget);

bool session_valid(const struct conn *c, struct clock at)
{
    const struct plan *p = c->plan;
    if (!p->session.on || !c->session_present) return false;
    if (is_over(c->session_saved_wall_ms, p->session.age_ms, at)) return false;
    return c->session_begun_wall_ms == 0 || !is_over(c->session_begun_wall_ms, p->session.life_ms, at);
}

/* Wall time that went backwards makes a session no older than now. */
static bool is_over(uint64_t since_wall_ms, uint64_t most_ms, struct clock at)
{
    if (most_ms == 0 || at.wall_ms <= since_wall_ms) return false;
    return at.wall_ms - since_wall_ms > most_ms;
}

/* What is too old must not be seen by the hooks of an attempt that starts a new one. */
static void session_let_go(struct step *s)
{
    struct conn *c = s->c;
    if (!c->plan->session.on || !c->session_present || session_valid(c, s->at)) return;
    MARK("a session that is too old is dropped before the attempt");
    c->session_present = false;
    fx(s, FX_DROP_SESSION, 0);
}

bool session_starts(const struct conn *c, struct clock at)
{
    return c->plan->budgets[BUDGET_START].on && (c->wants_start || !session_valid(c, at));
}

bool conn_may_begin(const struct engine *e, const struct conn *c)
{
    (void)e;
    if (!c->wanted || c->fatal || c->doomed) return false;
    if (c->attempt.phase != ATTEMPT_NONE || c->judging.pending) return false;
    const struct link *main = link_of_role(c, ROLE_MAIN);
    const uint32_t open = links_open(c);
    if (main && main->state == LINK_READY) return open == 1 && main->retiring;
    if (main && link_alive(main)) return false;
    if (PLANTED(e, PLANT_I1_DIAL_BEFORE_CLOSED)) return open < 2;
    return open == 0;
}

void attempt_begin(struct step *s)
{
    struct conn *c = s->c;
    if (!conn_may_begin(s->e, c)) return;
    const uint64_t earliest = c->last_attempt_ms + backoff_floor_ms(c->plan);
    if (c->attempted && !c->planned_next && s->now < earliest &&
        !PLANTED(s->e, PLANT_I3_NO_FLOOR)) {
        MARK("the floor holds whoever asks");
        if (c->queued) c->queue_at_ms = earliest;
        else c->attempt_at_ms = earliest;
        return;
    }
    const uint32_t needs = attempt_needs(c, s->at);
    if (needs) {
        if (c->queued && c->wait.reserve != c->spend_reserve) attempt_unqueue(s);
        c->wait.needs = needs;
        c->wait.reserve = c->spend_reserve;
        int64_t free_at = account_free_at(c->account, c->plan, &c->wait);
        if (free_at > c->account->now && !PLANTED(s->e, PLANT_I2_START_WITHOUT_PERMIT)) {
            wait_in_queue(s, free_at);
            return;
        }
    }
    attempt_unqueue(s);
    session_let_go(s);
    if (needs) {
        c->claim.needs = needs;
        c->claim.reserve = c->spend_reserve;
        account_claim(c->account, &c->claim);
    }
    const struct link *main = link_of_role(c, ROLE_MAIN);
    const bool starts = (needs & 1u << BUDGET_START) != 0;
    c->generation++;
    c->attempts_total++;
    c->attempt.phase = ATTEMPT_PREPARING;
    c->attempt.since_ms = s->now;
    c->attempt.handover = main && main->state == LINK_READY;
    c->permit.state = starts ? PERMIT_CLAIMED : PERMIT_NONE;
    c->permit.generation = c->generation;
    c->attempted = true;
    c->last_attempt_ms = s->now;
    c->attempt_at_ms = ENGINE_NEVER;
    c->planned_next = false;
    c->held = false;
    ASSERT(c->attempt.handover || links_open(c) == 0 ||
           PLANTED(s->e, PLANT_I1_DIAL_BEFORE_CLOSED));
    fx(s, FX_PREPARE, c->generation)->prepare.needs_start = starts;
}

void attempt_turn_awaited(struct step *s)
{
    struct conn *c = s->c;
    ASSERT(c->attempt.phase == ATTEMPT_PREPARING);
    MARK("an attempt waits for its turn");
    c->attempt.phase = ATTEMPT_TURN;
    c->attempt.since_ms = s->now;
}

/* From here on its limits run, and the floor to the next attempt. */
void attempt_turn_given(struct step *s)
{
    struct conn *c = s->c;
    ASSERT(c->attempt.phase == ATTEMPT_TURN);
    c->attempt.phase = ATTEMPT_PREPARING;
    c->attempt.since_ms = c->last_attempt_ms = s->now;
}

void attempt_prepared(struct step *s)
{
    struct conn *c = s->c;
    ASSERT(c->attempt.phase == ATTEMPT_PREPARING);
    session_let_go(s);
    const bool starts = session_starts(c, s->at);
    const uint32_t start_bit = 1u << BUDGET_START;
    if (!starts) {
        if (c->permit.state == PERMIT_CLAIMED) {
            release(s, start_bit);
            c->permit.state = PERMIT_NONE;
        }
        dial(s);
        return;
    }
    if (c->permit.state == PERMIT_CLAIMED) {
        /* The call that prepared this attempt may have brought the platform's own figures. */
        if (!start_claim_holds(s)) {
            MARK("figures told while preparing took the permit back");
            requeue(s, attempt_needs(c, s->at));
            return;
        }
    } else {
        /* The session was lost while preparing: only now does the attempt need a permit. */
        struct budget_node asking = {
            .conn = c, .lane = c->lane, .needs = start_bit, .reserve = c->spend_reserve
        };
        if (account_free_at(c->account, c->plan, &asking) > c->account->now &&
            !PLANTED(s->e, PLANT_I2_START_WITHOUT_PERMIT)) {
            requeue(s, attempt_needs(c, s->at));
            return;
        }
        if (c->claim.listed) {
            c->claim.needs |= start_bit;
        } else {
            c->claim.needs = start_bit;
            account_claim(c->account, &c->claim);
        }
        c->claim.reserve = c->spend_reserve;
    }
    c->attempt.phase = ATTEMPT_STORING;
    c->attempt.since_ms = s->now;
    reserve_permit(s);
}

void attempt_stored(struct step *s, bool stored)
{
    struct conn *c = s->c;
    if (c->permit.state != PERMIT_STORING || c->permit.ticket != s->ev->store.ticket ||
        c->attempt.phase != ATTEMPT_STORING) {
        c->stale_events++;
        return;
    }
    if (stored) {
        c->permit.state = PERMIT_HELD;
        if (start_claim_holds(s)) dial(s);
        else requeue(s, attempt_needs(c, s->at));
        return;
    }
    /* It may be on the disk all the same: an answer can be lost. The attempt's end gives it back. */
    struct cause cause = cause_make(STAGE_PREPARING, CAUSE_STORE, BY_US,
                                    "the permit to start a session could not be stored");
    conn_attempt_fails(s, &cause);
}

void attempt_link_closed(struct step *s)
{
    if (s->c->attempt.phase == ATTEMPT_HELD) dial(s);
}

void attempt_unqueue(struct step *s)
{
    struct conn *c = s->c;
    c->queued = false;
    c->queue_at_ms = ENGINE_NEVER;
    account_unwait(c->account, &c->wait);
}

void attempt_cancel(struct step *s)
{
    struct conn *c = s->c;
    if (c->attempt.phase == ATTEMPT_NONE) return;
    c->attempt.phase = ATTEMPT_NONE;
    fx(s, FX_CANCEL, c->generation);
    permit_give_back(s, c->generation);
}

void permit_give_back(struct step *s, uint32_t generation)
{
    struct conn *c = s->c;
    if (c->permit.generation != generation) return;
    if (c->permit.state == PERMIT_STORING || c->permit.state == PERMIT_HELD)
        store(s, STORE_PERMIT_RETURN, BUDGET_START)->store.no_answer = true;
    if (c->permit.state != PERMIT_SPENT) c->permit.state = PERMIT_NONE;
    release(s, c->claim.needs);
}

void permit_spend(struct step *s)
{
    struct conn *c = s->c;
    ASSERT(c->permit.state == PERMIT_HELD);
    if (c->account->now > (int64_t)c->permit.boot_ms) {
        /* The machine slept, or the platform took its time in the greeting. Not waited for: a kill within
         * this very write would leave a permit that looks older than its use. */
        MARK("a permit was used later than it was stored for");
        c->permit.wall_ms = s->at.wall_ms;
        c->permit.boot_ms = (uint64_t)c->account->now;
        store(s, STORE_PERMIT, BUDGET_START)->store.no_answer = true;
    }
    c->permit.state = PERMIT_SPENT;
    c->wants_start = false;
    c->spend_reserve = false;
    account_spend(c->account, &c->claim, BUDGET_START);
}

/* Less what is claimed: a claim that is given back says so anew, one that was used need not. What a
 * failing store loses of it, the platform tells again at the next prepare, and the windows are kept
 * by the permits. */
void told_store(struct step *s, enum budget_kind kind)
{
    struct account *a = s->c->account;
    struct ledger *l = &a->ledgers[kind];
    const int64_t told = ledger_told(l, a->now), claimed = account_claimed(a, kind);
    int64_t left = -1;
    if (told != INT64_MAX) left = told > claimed ? told - claimed : 0;
    if (left == l->told_stored) return;
    if (left < 0 && !l->lanes) return;
    l->told_stored = left;
    struct effect *f = store(s, STORE_TOLD, kind);
    f->store.ticket = 0;
    f->store.no_answer = true;
    f->store.wall_ms = s->at.wall_ms;
    f->store.boot_ms = s->at.boot_ms;
    f->store.left = left;
    f->store.lanes = l->lanes;
    if (left < 0) return;
    f->store.until_boot_ms = (uint64_t)l->told_until;
    f->store.until_wall_ms = s->at.wall_ms + (uint64_t)(l->told_until - a->now);
}

uint64_t account_deadline(const struct conn *c, int64_t free_at, struct clock at, uint64_t now)
{
    (void)at;
    return free_at <= c->account->now ? now : now + (uint64_t)(free_at - c->account->now);
}

static uint32_t attempt_needs(const struct conn *c, struct clock at)
{
    uint32_t needs = 0;
    if (session_starts(c, at)) needs |= 1u << BUDGET_START;
    if (c->plan->budgets[BUDGET_DIAL].on) needs |= 1u << BUDGET_DIAL;
    return needs;
}

static void wait_in_queue(struct step *s, int64_t free_at)
{
    struct conn *c = s->c;
    ASSERT(c->wait.needs != 0);
    if (!c->queued) {
        c->queued = true;
        account_wait(c->account, &c->wait);
    }
    c->attempt_at_ms = ENGINE_NEVER;
    c->queue_at_ms = account_deadline(c, free_at, s->at, s->now);
}

static bool start_claim_holds(const struct step *s)
{
    const struct conn *c = s->c;
    return account_claim_holds(c->account, &c->plan->budgets[BUDGET_START], &c->claim,
                               BUDGET_START) ||
           PLANTED(s->e, PLANT_I2_START_WITHOUT_PERMIT);
}

/* Not a failure: the attempt steps back until the budget has a place, and prepares again then. */
static void requeue(struct step *s, uint32_t needs)
{
    struct conn *c = s->c;
    attempt_cancel(s);
    if (c->attempt_at_ms != ENGINE_NEVER && c->attempt_at_ms > s->now) {
        MARK("the old link's ending asked for a delay while its successor prepared");
        return;
    }
    c->wait.needs = needs;
    c->wait.reserve = c->spend_reserve;
    wait_in_queue(s, account_free_at(c->account, c->plan, &c->wait));
}

/* Two sockets are for a link that serves until its successor does, not for one that ends. */
static bool one_closes(const struct conn *c)
{
    return c->links[0].state == LINK_CLOSING || c->links[1].state == LINK_CLOSING;
}

/* Waits for that close, which has a limit of its own; attempt_link_closed() goes on. */
static void dial(struct step *s)
{
    struct conn *c = s->c;
    if (one_closes(c) && !PLANTED(s->e, PLANT_I1_DIAL_BEFORE_CLOSED)) {
        MARK("the old link died while its successor was prepared, and is closed first");
        c->attempt.phase = ATTEMPT_HELD;
        return;
    }
    c->attempt.phase = ATTEMPT_NONE;
    if (c->claim.listed && c->claim.needs & 1u << BUDGET_DIAL) {
        account_spend(c->account, &c->claim, BUDGET_DIAL);
        /* Not waited for: a budget of dials must not keep a resume from a disk that is slow. */
        store(s, STORE_PERMIT, BUDGET_DIAL)->store.no_answer = true;
    }
    link_dial(s);
}

/* Stored under the latest moment at which its start frame may leave, so that a process that is killed
 * in between leaves nothing that looks older than its use. No two of a ledger are stored under the
 * same moment: what is given back names exactly one. */
static void reserve_permit(struct step *s)
{
    struct conn *c = s->c;
    const struct plan *p = c->plan;
    struct ledger *l = &c->account->ledgers[BUDGET_START];
    const uint64_t way_ms = p->limits_ms.prepare + p->limits_ms.resolve + p->limits_ms.connect +
                            p->limits_ms.secure + p->limits_ms.upgrade + p->limits_ms.greeting;
    int64_t latest = c->account->now + (int64_t)way_ms;
    if (latest <= l->reserved) latest = l->reserved + 1;
    l->reserved = latest;
    c->permit.state = PERMIT_STORING;
    c->permit.ticket = ++s->e->next_ticket;
    c->permit.boot_ms = (uint64_t)latest;
    c->permit.wall_ms = s->at.wall_ms + (uint64_t)(latest - c->account->now);
    told_store(s, BUDGET_START); /* first: what the disk has of the two is never one too many */
    store(s, STORE_PERMIT, BUDGET_START)->store.reserve = c->claim.reserve;
}

static void release(struct step *s, uint32_t needs)
{
    struct conn *c = s->c;
    if (!c->claim.listed) return;
    const bool start = (needs & c->claim.needs & 1u << BUDGET_START) != 0;
    account_release(c->account, &c->claim, needs);
    if (start && ledger_told(&c->account->ledgers[BUDGET_START], c->account->now) != INT64_MAX) {
        told_store(s, BUDGET_START);
    }
}

static struct effect *store(struct step *s, enum store_kind kind, enum budget_kind budget)
{
    struct conn *c = s->c;
    const bool start = budget == BUDGET_START;
    struct effect *f = fx(s, FX_STORE, c->generation);
    memset(&f->store, 0, sizeof f->store);
    f->store.kind = kind;
    f->store.budget = budget;
    f->store.account = c->account->id;
    f->store.lane = c->lane;
    f->store.ticket = start ? c->permit.ticket : ++s->e->next_ticket;
    f->store.wall_ms = start ? c->permit.wall_ms : s->at.wall_ms;
    f->store.boot_ms = start ? c->permit.boot_ms : (uint64_t)c->account->now;
    return f;
}
