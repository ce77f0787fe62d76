/* Attempts: begin, budgets and permits, prepare, dial. A place in the budgets is claimed before
 * the attempt begins; when the attempt will start a session the claim is made durable before the
 * dial, and given back when the start frame was never sent (I2). */
#include "engine/engine_internal.h"

static uint32_t attempt_needs(const struct conn *c, struct clock at);
static bool start_claim_holds(const struct step *s);
static void requeue(struct step *s, uint32_t needs);
static void dial(struct step *s);
static void wait_in_queue(struct step *s, int64_t free_at);
static struct effect *store(struct step *s, enum store_kind kind, enum budget_kind budget);

bool session_valid(const struct conn *c, struct clock at)
{
    const struct plan *p = c->plan;
    if (!p->session.on || !c->session_present) return false;
    if (p->session.age_ms == 0) return true;
    /* Wall time that went backwards makes a session no older than now. */
    if (at.wall_ms <= c->session_saved_wall_ms) return true;
    return at.wall_ms - c->session_saved_wall_ms <= p->session.age_ms;
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
        c->wait.needs = needs;
        int64_t free_at = account_free_at(c->account, c->plan, &c->wait);
        if (free_at > c->account->now && !PLANTED(s->e, PLANT_I2_START_WITHOUT_PERMIT)) {
            wait_in_queue(s, free_at);
            return;
        }
    }
    attempt_unqueue(s);
    if (needs) {
        c->claim.needs = needs;
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
    ASSERT(c->attempt.handover || links_open(c) == 0 ||
           PLANTED(s->e, PLANT_I1_DIAL_BEFORE_CLOSED));
    fx(s, FX_PREPARE, c->generation)->prepare.needs_start = starts;
}

void attempt_prepared(struct step *s)
{
    struct conn *c = s->c;
    ASSERT(c->attempt.phase == ATTEMPT_PREPARING);
    const bool starts = session_starts(c, s->at);
    const uint32_t start_bit = 1u << BUDGET_START;
    if (!starts) {
        if (c->permit.state == PERMIT_CLAIMED) {
            account_release(c->account, &c->claim, start_bit);
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
        struct budget_node asking = { .conn = c, .lane = c->lane, .needs = start_bit };
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
    }
    c->permit.state = PERMIT_STORING;
    c->permit.ticket = ++s->e->next_ticket;
    c->permit.wall_ms = s->at.wall_ms;
    c->attempt.phase = ATTEMPT_STORING;
    c->attempt.since_ms = s->now;
    store(s, STORE_PERMIT, BUDGET_START);
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
    c->permit.state = PERMIT_CLAIMED; /* nothing durable to give back */
    struct cause cause = cause_make(STAGE_PREPARING, CAUSE_STORE, BY_US,
                                    "the permit to start a session could not be stored");
    conn_attempt_fails(s, &cause);
}

void attempt_unqueue(struct step *s)
{
    struct conn *c = s->c;
    if (!c->queued) return;
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
    account_release(c->account, &c->claim, c->claim.needs);
}

void permit_spend(struct step *s)
{
    struct conn *c = s->c;
    ASSERT(c->permit.state == PERMIT_HELD);
    c->permit.state = PERMIT_SPENT;
    c->wants_start = false;
    account_spend(c->account, &c->claim, BUDGET_START);
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
    wait_in_queue(s, account_free_at(c->account, c->plan, &c->wait));
}

static void dial(struct step *s)
{
    struct conn *c = s->c;
    c->attempt.phase = ATTEMPT_NONE;
    if (c->claim.listed && c->claim.needs & 1u << BUDGET_DIAL) {
        account_spend(c->account, &c->claim, BUDGET_DIAL);
        store(s, STORE_PERMIT, BUDGET_DIAL)->store.no_answer = true;
    }
    link_dial(s);
}

static struct effect *store(struct step *s, enum store_kind kind, enum budget_kind budget)
{
    struct conn *c = s->c;
    struct effect *f = fx(s, FX_STORE, c->generation);
    f->store.kind = kind;
    f->store.budget = budget;
    f->store.account = c->account->id;
    f->store.ticket = budget == BUDGET_START ? c->permit.ticket : ++s->e->next_ticket;
    f->store.wall_ms = budget == BUDGET_START ? c->permit.wall_ms : s->at.wall_ms;
    return f;
}
