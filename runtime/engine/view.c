/* Views: what is true of a connection now, for status, policies and checkers. Changes nothing. */
#include <string.h>

#include "engine/engine_internal.h"

static void budget_of(const struct conn *c, enum budget_kind budget, uint64_t now_ms,
                      struct budget_view *out);
static void queue_of(const struct engine *e, const struct conn *c, struct engine_view *out);
static uint64_t attempt_most_ms(const struct plan *p);
static uint64_t turn_most_ms(const struct engine *e);
static uint32_t tries_most(const struct plan *p);
static uint64_t detect_most_ms(const struct conn *c);
static bool has_start_permit(const struct conn *c);

bool engine_get_brief(const struct engine *e, struct handle conn, struct engine_brief *out)
{
    const struct conn *c = slots_get(&e->conns, conn);
    if (!c) return false;
    const struct link *main = link_of_role(c, ROLE_MAIN);
    *out = (struct engine_brief){ .state = c->state,
                                  .next = c->next,
                                  .generation = c->generation,
                                  .failed = c->failed,
                                  .settled = main && main->settled && main->state == LINK_READY,
                                  .wanted = c->wanted,
                                  .stop_is_fatal = c->fatal,
                                  .session_present = c->session_present,
                                  .start_permit = has_start_permit(c),
                                  .queued = c->queued };
    return true;
}

bool engine_get(const struct engine *e, struct handle conn, struct engine_view *out)
{
    const struct conn *c = slots_get(&e->conns, conn);
    if (!c) return false;
    memset(out, 0, sizeof *out);
    out->silence_due_ms = ENGINE_NEVER;
    out->state = c->state;
    out->since_mono_ms = c->since_mono_ms;
    out->since_wall_ms = c->since_wall_ms;
    out->deadline_ms = c->deadline_ms;
    out->next = c->next;
    out->cause = c->cause;
    out->decision = c->decision;
    out->generation = c->generation;
    int newest = c->links[1].state != LINK_NONE &&
                 (c->links[0].state == LINK_NONE ||
                  c->links[1].generation > c->links[0].generation);
    for (int i = 0; i < 2; i++) {
        const struct link *l = &c->links[i == 0 ? newest : !newest];
        if (l->state == LINK_NONE) continue;
        out->link_generation[i] = l->generation;
        out->link_state[i] = l->state;
        out->link_since_ms[i] = l->since_ms;
    }
    out->failed = c->failed;
    out->sends_queued = c->sends_count - c->sends_doomed;
    out->session_present = c->session_present;
    out->start_permit = has_start_permit(c);
    out->wanted = c->wanted;
    out->stop_is_fatal = c->fatal;
    const struct link *main = link_of_role(c, ROLE_MAIN);
    if (main) {
        out->settled = main->settled && main->state == LINK_READY;
        out->beats_sent = main->beat.sent;
        out->beats_answered = main->beat.answered;
        out->beat_interval_ms = main->beat.on ? beat_interval_ms(c->plan, main) : 0;
        out->beat_sent_ms = main->beat.sent_ms;
        out->last_round_trip_ms = main->beat.round_trip_ms;
        out->ready_ms = main->state == LINK_READY ? main->ready_ms : 0;
        out->beat_answered_ms = main->beat.answered_ms;
        out->beat_pending = main->beat.on && main->beat.pending;
        out->beat_due_ms = main->beat.on ? stall_beat_due_ms(c->plan, main) : 0;
        out->beats_missed = main->beat.missed;
        out->ping_since_ms = main->stall.first_ping_ms;
        out->silence_due_ms = stall_silence_due_ms(c->plan, main);
    }
    out->stale_events = c->stale_events;
    out->attempts_total = c->attempts_total;
    out->ready_total = c->ready_total;
    out->account = c->account->id;
    out->identity = c->identity;
    out->plan = c->plan;
    out->spend_reserve = c->spend_reserve;
    out->held = c->held && c->attempt_at_ms != ENGINE_NEVER;
    out->awaits_turn = c->attempt.phase == ATTEMPT_TURN;
    queue_of(e, c, out);
    return true;
}

bool engine_budget(const struct engine *e, struct handle conn, enum budget_kind budget,
                   struct clock now, struct budget_view *out)
{
    const struct conn *c = slots_get(&e->conns, conn);
    if (!c || (unsigned)budget >= BUDGET_COUNT) return false;
    memset(out, 0, sizeof *out);
    out->next_ms = now.mono_ms;
    out->left = UINT32_MAX;
    out->reserve_next_ms = now.mono_ms;
    out->reserve_left = UINT32_MAX;
    if (budget != BUDGET_SEND) {
        account_tick(c->account, now);
        budget_of(c, budget, now.mono_ms, out);
        return true;
    }
    const struct budget_plan *b = &c->plan->budgets[BUDGET_SEND];
    const struct link *l = link_of_role(c, ROLE_MAIN);
    if (!l || !b->on) return true;
    send_ledger_view(&l->sends, b, now.mono_ms, out);
    out->reserve_next_ms = out->next_ms;
    out->reserve_left = out->left;
    return true;
}

/* As it stands for this connection: from its place in the queue when it waits there. */
static void budget_of(const struct conn *c, enum budget_kind budget, uint64_t now_ms,
                      struct budget_view *out)
{
    const struct budget_node asking = {
        .conn = (struct conn *)c, .lane = c->lane, .needs = 1u << budget, .reserve = c->spend_reserve
    };
    const bool queued = c->wait.listed && c->wait.needs & 1u << budget;
    struct budget_wait wait, reserve_wait;
    account_view(c->account, c->plan, budget, queued ? &c->wait : &asking, &wait, &reserve_wait,
                 out);
    const struct clock at = { 0 };
    out->next_ms = account_deadline(c, wait.until, at, now_ms);
    out->reserve_next_ms = account_deadline(c, reserve_wait.until, at, now_ms);
}

static void queue_of(const struct engine *e, const struct conn *c, struct engine_view *out)
{
    out->queued = c->queued;
    for (int kind = 0; c->queued && kind < ACCOUNT_BUDGETS; kind++) {
        struct budget_view view = { 0 };
        if (!(c->wait.needs & 1u << kind) || !c->plan->budgets[kind].on) continue;
        budget_of(c, (enum budget_kind)kind, e->now_ms, &view);
        if (out->queue.hold != BUDGET_HOLD_NONE && view.next_ms <= out->queue.next_ms) continue;
        out->queue = view;
        out->queued_for = (enum budget_kind)kind;
    }
}

bool engine_call(struct engine *e, struct handle conn, struct clock now, uint64_t *wait_ms_out)
{
    struct conn *c = slots_get(&e->conns, conn);
    *wait_ms_out = 0;
    if (!c) return true;
    account_tick(c->account, now);
    return account_call(c->account, c->plan, c, wait_ms_out);
}

/* The worst case once the network is well: what we wait for now (or the time to notice that the
 * link is dead), then every further try that the climbs may need, each with its longest wait,
 * and the budget. */
uint64_t engine_recovery_bound_ms(const struct engine *e, struct handle conn, struct clock now)
{
    const struct conn *c = slots_get(&e->conns, conn);
    if (!c || !c->wanted || c->fatal) return ENGINE_NEVER;
    const struct plan *p = c->plan;
    const uint64_t tries = tries_most(p);
    uint64_t bound = tries * (attempt_most_ms(p) + plan_wait_most_ms(p) + turn_most_ms(e));
    if (c->state == CONN_UP) bound += detect_most_ms(c);
    if (c->attempt_at_ms != ENGINE_NEVER && c->attempt_at_ms > now.mono_ms)
        bound += c->attempt_at_ms - now.mono_ms;
    account_tick(c->account, now);
    for (int kind = 0; kind < ACCOUNT_BUDGETS; kind++) {
        const struct budget_plan *b = &p->budgets[kind];
        if (!b->on) continue;
        uint64_t longest = b->gap_ms * (tries + c->account->waiting.count);
        for (uint32_t i = 0; i < b->window_count; i++) {
            /* A window that cannot run out within the tries costs nothing. */
            struct budget_view view = { 0 };
            budget_of(c, (enum budget_kind)kind, now.mono_ms, &view);
            if (view.left >= tries + c->account->waiting.count) continue;
            if (b->windows[i].ms > longest) longest = b->windows[i].ms;
        }
        const struct ledger *l = &c->account->ledgers[kind];
        if (l->told_left >= 0 && l->told_until > c->account->now &&
            (uint64_t)(l->told_until - c->account->now) > longest)
            longest = (uint64_t)(l->told_until - c->account->now);
        bound += longest;
    }
    return bound;
}

static uint64_t attempt_most_ms(const struct plan *p)
{
    return 2 * p->limits_ms.prepare + p->limits_ms.resolve + p->limits_ms.connect +
           p->limits_ms.secure + p->limits_ms.upgrade + p->limits_ms.greeting +
           p->limits_ms.close + ABORT_LIMIT_MS + PEER_CLOSE_MS_MAX +
           (p->has_on_ended ? ASK_LIMIT_MS : 0);
}

/* All others asked before. */
static uint64_t turn_most_ms(const struct engine *e)
{
    const uint64_t others = e->conns.count - 1;
    return others / ENGINE_TURN_PLACES * ENGINE_TURN_MS;
}

uint64_t plan_wait_most_ms(const struct plan *p)
{
    uint64_t most = p->backoff.most_ms > p->backoff.first_ms ? p->backoff.most_ms
                                                             : p->backoff.first_ms;
    bool slow = false;
    for (uint32_t i = 0; i < p->classify_count; i++) {
        const struct classify_rule *r = &p->classify[i];
        if (r->has_delay && r->delay.high > most) most = r->delay.high;
        if (r->has_otherwise && r->otherwise.high > most) most = r->otherwise.high;
        if (r->pace == PACE_SLOW && r->has_pace_span && r->pace_span.high > most)
            most = r->pace_span.high;
        else if (r->pace == PACE_SLOW)
            slow = true;
    }
    for (uint32_t i = 0; i < p->climb_count; i++) {
        const struct climb_rule *r = &p->climb[i];
        if (r->pace == PACE_SLOW && r->has_pace_span && r->pace_span.high > most)
            most = r->pace_span.high;
        else if (r->pace == PACE_SLOW)
            slow = true;
    }
    if (slow && p->slow.most_ms > most) most = p->slow.most_ms;
    return most + most / 20 + backoff_floor_ms(p);
}

/* One try, and what the climbs need before they drop what is stale. */
static uint32_t tries_most(const struct plan *p)
{
    uint32_t tries = 1 + (p->session.on ? 1 : 0);
    for (uint32_t i = 0; i < p->climb_count; i++) {
        if (p->climb[i].to > DROP_RESUME) tries += p->climb[i].times;
    }
    return tries;
}

static uint64_t detect_most_ms(const struct conn *c)
{
    const struct plan *p = c->plan;
    const struct link *l = link_of_role(c, ROLE_MAIN);
    uint64_t most = p->silence_ms + p->ping_ms;
    if (l && l->beat.on && p->beat.answered) {
        uint64_t beat = beat_interval_ms(p, l) * (p->beat.dead + 1);
        if (beat < most || most == 0) most = beat;
    }
    return most + DRAIN_LIMIT_MS + p->limits_ms.close + ABORT_LIMIT_MS;
}

static bool has_start_permit(const struct conn *c)
{
    return c->permit.generation == c->generation &&
           (c->permit.state == PERMIT_HELD || c->permit.state == PERMIT_SPENT);
}
