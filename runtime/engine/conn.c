/* Connections: what each event does. Which state follows is state.c's; how links and attempts end,
 * ending.c's; how attempts begin, attempt.c's. */
#include <string.h>

#include "engine/engine_internal.h"

static bool event_is_stale(struct step *s);
static void conn_on_start(struct step *s);
static void conn_on_stop(struct step *s, enum cause_kind kind, const char *why);
static void conn_on_restart(struct step *s);
static void conn_on_policy_swapped(struct step *s);
static void conn_on_session_changed(struct step *s);
static void conn_on_budget_told(struct step *s);
static void conn_on_clock_jumped(struct step *s);
static void conn_on_deadline(struct step *s);
static void conn_on_stage(struct step *s, struct link *l);
static void conn_on_upgraded(struct step *s, struct link *l);
static void conn_on_greeted(struct step *s, struct link *l);
static void conn_on_ending(struct step *s, struct link *l);
static void conn_on_peer_closed(struct step *s, struct link *l);
static void conn_on_link_closed(struct step *s, struct link *l);
static void gap_when_ready(struct step *s, const struct link *l, bool continuous);

void conn_step(struct step *s)
{
    struct conn *c = s->c;
    const struct event *ev = s->ev;
    if (event_is_stale(s)) {
        c->stale_events++;
        return;
    }
    struct link *l = ev->generation ? link_find(c, ev->generation) : NULL;

    switch (ev->kind) {
    case EV_START_REQUESTED: conn_on_start(s); break;
    case EV_STOP_REQUESTED: conn_on_stop(s, CAUSE_STOPPED, "stopped by an operator"); break;
    case EV_RESTART_REQUESTED: conn_on_restart(s); break;
    case EV_REMOVE_REQUESTED:
        c->removing = true;
        conn_on_stop(s, CAUSE_STOPPED, "removed");
        sends_doom(c, REFUSE_REMOVED);
        break;
    case EV_SHUTDOWN_REQUESTED: conn_on_stop(s, CAUSE_SHUTDOWN, "shutting down"); break;
    case EV_POLICY_SWAPPED: conn_on_policy_swapped(s); break;
    case EV_SESSION_CHANGED: conn_on_session_changed(s); break;
    case EV_BUDGET_TOLD: conn_on_budget_told(s); break;
    case EV_CLOCK_JUMPED: conn_on_clock_jumped(s); break;
    case EV_HELD_BACK: hold_back(s); break;
    case EV_LET_GO: hold_let_go(s); break;
    case EV_DEADLINE_PASSED: conn_on_deadline(s); break;
    case EV_SEND_REQUESTED: send_requested(s); break;
    case EV_SEND_DROPPED: send_dropped(s, ev->send.send_id); break;
    case EV_STORED: attempt_stored(s, true); break;
    case EV_STORE_FAILED: attempt_stored(s, false); break;
    case EV_PREPARED: attempt_prepared(s); break;
    case EV_ATTEMPT_FAILED: conn_attempt_fails(s, &ev->cause); break;
    case EV_STAGE_REACHED: conn_on_stage(s, l); break;
    case EV_DIAL_FAILED: conn_link_ends(s, l, &ev->cause, END_ABORT, 0); break;
    case EV_UPGRADED: conn_on_upgraded(s, l); break;
    case EV_GREETING_PROGRESSED:
        if (l->state == LINK_GREETING) l->since_ms = s->now;
        break;
    case EV_GREETED: conn_on_greeted(s, l); break;
    case EV_BEAT_SET:
        if (l->state >= LINK_GREETING) beat_begin(s, l, ev->beat_set.interval_ms);
        break;
    case EV_RETIRE_SET: l->retire_at_ms = s->now + ev->retire_set.after_ms; break;
    case EV_BEAT_ASKED:
        if (l->state >= LINK_GREETING) beat_asked(s, l);
        break;
    case EV_BEAT_ANSWERED: beat_answered(s, l); break;
    case EV_ENDING_ANNOUNCED: conn_on_ending(s, l); break;
    case EV_LIMIT_CROSSED: conn_link_ends(s, l, &ev->cause, END_CLOSE, 0); break;
    case EV_PEER_CLOSED: conn_on_peer_closed(s, l); break;
    case EV_DRAINED:
        stall_pulse(s, l, &ev->drained.pulse);
        stall_drained(s, l);
        break;
    case EV_VERDICT_GIVEN: judge_answer(s, true); break;
    case EV_LINK_CLOSED: conn_on_link_closed(s, l); break;
    case EV_TURN_AWAITED: attempt_turn_awaited(s); break;
    case EV_TURN_GIVEN: attempt_turn_given(s); break;
    case EVENT_KIND_COUNT: ASSERT(!"event kind"); break;
    }
}

/* The one place where events that came too late are recognised. */
static bool event_is_stale(struct step *s)
{
    struct conn *c = s->c;
    const uint32_t generation = s->ev->generation;
    const struct link *l = generation ? link_find(c, generation) : NULL;
    switch (s->ev->kind) {
    case EV_START_REQUESTED:
    case EV_STOP_REQUESTED:
    case EV_RESTART_REQUESTED:
    case EV_REMOVE_REQUESTED:
    case EV_SHUTDOWN_REQUESTED:
    case EV_POLICY_SWAPPED:
    case EV_SESSION_CHANGED:
    case EV_BUDGET_TOLD:
    case EV_CLOCK_JUMPED:
    case EV_HELD_BACK:
    case EV_LET_GO:
    case EV_DEADLINE_PASSED:
    case EV_SEND_REQUESTED: /* refused, not dropped: each has one answer */
    case EV_SEND_DROPPED:
    case EV_STORED: /* by ticket, in attempt_stored() */
    case EV_STORE_FAILED:
        return false;
    case EV_TURN_GIVEN:
        return c->attempt.phase != ATTEMPT_TURN || generation != c->generation;
    case EV_TURN_AWAITED:
    case EV_PREPARED:
    case EV_ATTEMPT_FAILED:
        return c->attempt.phase != ATTEMPT_PREPARING || generation != c->generation;
    case EV_ENDING_ANNOUNCED:
        if (c->attempt.phase == ATTEMPT_PREPARING && generation == c->generation) return false;
        return !l;
    case EV_VERDICT_GIVEN:
        return !c->judging.pending || generation != c->judging.generation;
    case EV_STAGE_REACHED:
    case EV_DIAL_FAILED:
    case EV_UPGRADED:
    case EV_GREETING_PROGRESSED:
    case EV_GREETED:
    case EV_BEAT_SET:
    case EV_RETIRE_SET:
    case EV_BEAT_ASKED:
    case EV_BEAT_ANSWERED:
    case EV_DRAINED:
        return !l || !link_alive(l);
    case EV_LIMIT_CROSSED:
    case EV_PEER_CLOSED:
    case EV_LINK_CLOSED:
        return !l;
    case EVENT_KIND_COUNT:
        break;
    }
    ASSERT(!"event kind");
    return true;
}

static void conn_on_start(struct step *s)
{
    struct conn *c = s->c;
    if (c->removing) return;
    if (s->ev->kind == EV_START_REQUESTED && s->ev->start.spend_reserve && c->state != CONN_UP) {
        c->spend_reserve = true;
    }
    switch (c->state) {
    case CONN_STOPPED:
        c->wanted = true;
        c->fatal = false;
        c->failed = c->slow_count = 0;
        climbs_settled(s->e, c);
        c->attempt_at_ms = s->now;
        attempt_begin(s);
        return;
    case CONN_WAITING:
        if (c->judging.pending) judge_answer(s, false);
        if (c->fatal) return;
        c->attempt_at_ms = s->now;
        attempt_begin(s);
        return;
    case CONN_CLOSING:
        /* A stop or a verdict is under way: its close is finished, then it comes back. */
        if (c->wanted && !c->fatal) {
            if (!c->judging.pending) c->attempt_at_ms = s->now;
            return;
        }
        c->wanted = true;
        c->fatal = false;
        c->failed = c->slow_count = 0;
        c->attempt_at_ms = s->now;
        return;
    case CONN_QUEUED:
        if (c->spend_reserve) attempt_begin(s);
        return;
    case CONN_PREPARING:
    case CONN_LINKING:
    case CONN_UP:
        return;
    case CONN_STATE_COUNT:
        break;
    }
    ASSERT(!"connection state");
}

static void conn_on_stop(struct step *s, enum cause_kind kind, const char *why)
{
    struct conn *c = s->c;
    const bool keep = kind == CAUSE_SHUTDOWN;
    const bool was_wanted = c->wanted;
    struct cause cause = cause_make(STAGE_NONE, kind, BY_OPERATOR, why);
    c->wanted = false;
    conn_end_all(s, &cause, keep ? c->plan->close_keep : c->plan->close_final);
    if (!keep && c->plan->session.on && c->session_present) {
        c->session_present = false;
        fx(s, FX_DROP_SESSION, 0);
    }
    if (!was_wanted) return;
    c->fatal = false;
    judge_directly(s, &cause, DECIDED_BY_OPERATOR, PACE_STOP, ENGINE_NEVER, why);
}

static void conn_on_restart(struct step *s)
{
    struct conn *c = s->c;
    switch (c->state) {
    case CONN_STOPPED:
    case CONN_WAITING:
        conn_on_start(s);
        return;
    case CONN_QUEUED:
    case CONN_PREPARING:
        return;
    case CONN_LINKING:
    case CONN_UP:
    case CONN_CLOSING: {
        if (c->removing || !c->wanted || c->fatal) {
            conn_on_start(s);
            return;
        }
        struct cause cause =
            cause_make(STAGE_NONE, CAUSE_RESTARTED, BY_OPERATOR, "restarted by an operator");
        conn_end_all(s, &cause, c->plan->close_keep);
        judge_directly(s, &cause, DECIDED_BY_OPERATOR, PACE_NORMAL, backoff_floor_ms(c->plan),
                       "restarted by an operator");
        return;
    }
    case CONN_STATE_COUNT:
        break;
    }
    ASSERT(!"connection state");
}

/* Deadlines are computed from the instant they began and the plan's numbers, so a new plan moves
 * them without starting them again. Only the drawn ones need a hand. */
static void conn_on_policy_swapped(struct step *s)
{
    struct conn *c = s->c;
    const struct plan *before = c->plan;
    const struct plan *p = s->ev->policy_swapped.plan;
    ASSERT(p != NULL);
    c->plan = p;
    ENSURE_CONN(s, account_reserve(c->account, p));
    ENSURE_CONN(s, send_ledger_reserve(&c->links[0].sends, &p->budgets[BUDGET_SEND]));
    ENSURE_CONN(s, send_ledger_reserve(&c->links[1].sends, &p->budgets[BUDGET_SEND]));
    if (before->climb_count != p->climb_count) climbs_drop(s->e, c);
    if (c->attempt_at_ms != ENGINE_NEVER && c->decision.pace == PACE_NORMAL &&
        c->decision.delay_ms == c->decision.backoff_ms) {
        uint64_t most = p->backoff.most_ms > p->backoff.first_ms ? p->backoff.most_ms
                                                                  : p->backoff.first_ms;
        if (most < backoff_floor_ms(p)) most = backoff_floor_ms(p);
        if (c->attempt_at_ms > c->decided_ms + most) {
            c->attempt_at_ms = c->decided_ms + most;
            c->decision.delay_ms = most;
        }
    }
    for (int i = 0; i < 2; i++) {
        struct link *l = conn_link(c, i);
        if (l->state != LINK_GREETING && l->state != LINK_READY) continue;
        if (!p->beat.on) l->beat.on = l->beat.pending = false;
        else if (l->beat.on) beat_begin(s, l, 0);
        else if (l->state == LINK_READY) beat_begin(s, l, 0);
    }
    if (c->queued) c->queue_at_ms = s->now;
}

static void conn_on_session_changed(struct step *s)
{
    struct conn *c = s->c;
    c->session_present = s->ev->session_changed.present;
    c->session_saved_wall_ms = s->ev->session_changed.saved_wall_ms;
    c->session_begun_wall_ms = s->ev->session_changed.begun_wall_ms;
    if (c->queued) c->queue_at_ms = s->now;
}

static void conn_on_budget_told(struct step *s)
{
    struct conn *c = s->c;
    const enum budget_kind kind = s->ev->budget_told.budget;
    if (kind >= BUDGET_COUNT) return;
    if (kind == BUDGET_SEND) {
        struct link *l = link_of_role(c, ROLE_MAIN);
        uint64_t reset_ms = s->ev->budget_told.reset_ms;
        if (!l || s->ev->budget_told.left != 0) return;
        if (reset_ms == 0) reset_ms = TOLD_MS_DEFAULT;
        if (reset_ms > RETRY_AFTER_MS_MAX) reset_ms = RETRY_AFTER_MS_MAX;
        l->sends.told_until = s->now + reset_ms;
        return;
    }
    account_told(c->account, kind, s->ev->budget_told.left, s->ev->budget_told.reset_ms,
                 s->ev->budget_told.lanes);
    told_store(s, kind);
}

/* A machine that slept longer than the peer's patience has dead links, whatever they look like. */
static void conn_on_clock_jumped(struct step *s)
{
    struct conn *c = s->c;
    const uint64_t slept_ms = s->ev->clock_jumped.suspended_ms;
    if (c->queued) c->queue_at_ms = s->now;
    for (int i = 0; i < 2; i++) {
        struct link *l = conn_link(c, i);
        if (l->state == LINK_NONE) continue;
        uint64_t limit = SUSPEND_MS_DEFAULT;
        if (c->plan->silence_ms) limit = c->plan->silence_ms;
        if (l->beat.on && beat_interval_ms(c->plan, l) < limit)
            limit = beat_interval_ms(c->plan, l);
        if (slept_ms >= limit) {
            struct cause cause =
                cause_make(STAGE_NONE, CAUSE_SUSPEND, BY_US, "the machine was suspended");
            conn_link_ends(s, l, &cause, END_ABORT, 0);
        } else {
            stall_probe(s, l);
        }
    }
}

static void conn_on_deadline(struct step *s)
{
    struct conn *c = s->c;
    for (int i = 0; i < 2; i++) {
        if (!s->ev->deadline.generation[i]) continue;
        struct link *l = link_find(c, s->ev->deadline.generation[i]);
        if (l) stall_pulse(s, l, &s->ev->deadline.pulse[i]);
    }
    if (c->judging.pending && s->now >= c->judging.since_ms + ASK_LIMIT_MS) judge_answer(s, false);
    if ((c->attempt.phase == ATTEMPT_PREPARING || c->attempt.phase == ATTEMPT_STORING) &&
        s->now >= c->attempt.since_ms + c->plan->limits_ms.prepare) {
        const bool storing = c->attempt.phase == ATTEMPT_STORING;
        struct cause cause =
            storing ? cause_make(STAGE_PREPARING, CAUSE_STORE, BY_US, "no answer from the store")
                    : cause_make(STAGE_PREPARING, CAUSE_TIMEOUT, BY_US, "prepare limit");
        conn_attempt_fails(s, &cause);
    }
    if (c->attempt.phase == ATTEMPT_TURN && s->now >= c->attempt.since_ms + TURN_LIMIT_MS) {
        /* The driver forgot it. */
        fx_alarm(s, "an attempt was not given its turn");
        struct cause cause = cause_make(STAGE_PREPARING, CAUSE_TIMEOUT, BY_US, "turn limit");
        conn_attempt_fails(s, &cause);
    }
    for (int i = 0; i < 2; i++) link_tick(s, conn_link(c, i));
    if (c->queued ? s->now >= c->queue_at_ms : s->now >= c->attempt_at_ms) attempt_begin(s);
}

static void conn_on_stage(struct step *s, struct link *l)
{
    enum link_state to;
    switch (s->ev->stage.stage) {
    case STAGE_CONNECTING: to = LINK_CONNECTING; break;
    case STAGE_SECURING: to = LINK_SECURING; break;
    case STAGE_UPGRADING: to = LINK_UPGRADING; break;
    default: return;
    }
    if (l->state < to) link_stage(s, l, to);
}

static void conn_on_upgraded(struct step *s, struct link *l)
{
    ENSURE_CONN(s, l->state <= LINK_UPGRADING);
    link_stage(s, l, LINK_GREETING);
    if (PLANTED(s->e, PLANT_I3_NO_FLOOR)) s->c->failed = 0;
    fx(s, FX_GREET, l->generation);
}

static void conn_on_greeted(struct step *s, struct link *l)
{
    struct conn *c = s->c;
    ENSURE_CONN(s, l->state == LINK_GREETING);
    link_enter(s, l, LINK_READY);
    l->ready_ms = s->now;
    c->attempt_at_ms = ENGINE_NEVER;
    c->wants_start = c->spend_reserve = false;
    l->retire_draw = rng_unit(conn_draw(s, l->generation, DRAW_RETIRE, 0));
    bool continuous = false;
    if (l->role == ROLE_NEXT) {
        struct link *old = link_of_role(c, ROLE_MAIN);
        ASSERT(old != NULL);
        continuous = old->state == LINK_READY;
        old->role = ROLE_OLD;
        if (continuous) link_enter(s, old, LINK_DRAINING);
        l->role = ROLE_MAIN;
    }
    /* A session that began without a start frame of its own began all the same. */
    if (c->permit.generation == l->generation && c->permit.state == PERMIT_HELD) permit_spend(s);
    stall_begin(s, l);
    if (!l->beat.on) beat_begin(s, l, 0);
    gap_when_ready(s, l, continuous);
    c->ready_total++;
    c->session_known = true;
    fx(s, FX_READY, l->generation);
}

static void conn_on_ending(struct step *s, struct link *l)
{
    const struct event *ev = s->ev;
    if (!l) {
        conn_attempt_fails(s, &ev->ending.cause);
        return;
    }
    conn_link_ends(s, l, &ev->ending.cause, END_ANNOUNCED, ev->ending.wait_ms);
}

/* A close frame is answered with one; a stream that just ended has nobody left to answer. */
static void conn_on_peer_closed(struct step *s, struct link *l)
{
    const bool frame = s->ev->cause.kind == CAUSE_CLOSED;
    conn_link_ends(s, l, &s->ev->cause, frame ? END_CLOSE : END_ABORT, 0);
}

static void conn_on_link_closed(struct step *s, struct link *l)
{
    if (l->state != LINK_CLOSING) {
        struct cause cause = s->ev->cause;
        if (cause.kind == CAUSE_NONE)
            cause = cause_make(STAGE_NONE, CAUSE_EOF, BY_NETWORK, "the link was gone");
        conn_link_ends(s, l, &cause, END_GONE, 0);
        conn_update(s); /* through CLOSING, so that every ending looks the same */
    }
    link_free(s, l);
    attempt_link_closed(s);
}

static void gap_when_ready(struct step *s, const struct link *l, bool continuous)
{
    struct conn *c = s->c;
    if (continuous) return;
    const char *why = NULL;
    switch (c->plan->session.replay) {
    case REPLAY_SESSION:
        if (!l->session && c->session_known) why = "session lost";
        break;
    case REPLAY_NONE:
        if (c->ready_total) why = "not replayed";
        break;
    case REPLAY_UNACKED:
        break;
    }
    /* Nothing was heard since then. */
    const uint64_t reach_ms = c->plan->session.replay_for_ms;
    if (!why && reach_ms && c->ready_total && s->at.boot_ms - c->heard_boot_ms > reach_ms) why = "longer than the replay";
    if (!why) return;
    struct effect *f = fx(s, FX_GAP, l->generation);
    memcpy(f->gap.cause, why, strlen(why) + 1);
    f->gap.certain = false;
}
