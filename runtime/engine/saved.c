/* Saved: the fields of a connection, one description for both directions. Decides nothing, draws nothing; what
 * it reads is bounded and checked before it is believed. What its account shares is saved_shared.c's. */
#include "engine/saved.h"

#include <string.h>

#include "engine/engine_internal.h"

/* --- parts ---------------------------------------------------------------------------------------- */

void cause_walk(struct walk *w, struct cause *c)
{
    WALK_ENUM(w, c->stage, STAGE_COUNT);
    WALK_ENUM(w, c->kind, CAUSE_KIND_COUNT);
    if (walk_reads(w) && c->kind == CAUSE_NONE) *c = (struct cause){ .stage = c->stage };
    if (c->kind == CAUSE_NONE) return;
    WALK_ENUM(w, c->by, BY_OPERATOR + 1);
    walk_text(w, c->name, sizeof c->name);
    walk_i32(w, &c->close_code);
    walk_i32(w, &c->http_status);
    walk_i64(w, &c->code);
    c->retry_after_ms++; /* NONE is the largest number: 0, the shortest */
    walk_u64(w, &c->retry_after_ms);
    c->retry_after_ms--;
    walk_u64(w, &c->age_ms);
    walk_bool(w, &c->session);
    walk_text(w, c->reason, sizeof c->reason);
    walk_u32(w, &c->line);
    if (!walk_reads(w)) return;
    c->head = c->body = NULL;
    c->head_len = c->body_len = 0;
}

void clock_walk(struct walk *w, struct clock *c, const struct clock *near)
{
    walk_near(w, &c->mono_ms, near->mono_ms);
    walk_near(w, &c->boot_ms, near->boot_ms + (c->mono_ms - near->mono_ms));
    walk_near(w, &c->wall_ms, near->wall_ms + (c->mono_ms - near->mono_ms));
}

/* An instant that may be 0: none. */
static void instant(struct walk *w, uint64_t *v, uint64_t near_ms)
{
    bool none = *v == 0;
    walk_bool(w, &none);
    if (!none) walk_near(w, v, near_ms);
    else *v = 0;
}

void pulse_walk(struct walk *w, struct pulse *p, uint64_t near_ms)
{
    instant(w, &p->last_byte_ms, near_ms);
    instant(w, &p->last_pong_ms, near_ms);
    instant(w, &p->last_frame_ms, near_ms);
    walk_u64(w, &p->bytes_in);
    walk_u64(w, &p->bytes_out);
    walk_u64(w, &p->frames_in);
    walk_u64(w, &p->frames_out);
}

void saved__never(struct walk *w, uint64_t *v)
{
    (*v)++; /* ENGINE_NEVER: 0, the shortest */
    walk_u64(w, v);
    (*v)--;
}

static void span_walk(struct walk *w, struct span_ms *s)
{
    walk_u64(w, &s->low);
    walk_u64(w, &s->high);
}

static void verdict_walk(struct walk *w, struct verdict *v)
{
    WALK_ENUM(w, v->drop, DROP_RENEW + 1);
    WALK_ENUM(w, v->pace, PACE_STOP + 1);
    walk_bool(w, &v->has_delay);
    walk_bool(w, &v->from_retry_after);
    walk_bool(w, &v->has_otherwise);
    walk_bool(w, &v->has_pace_span);
    span_walk(w, &v->delay);
    span_walk(w, &v->otherwise);
    span_walk(w, &v->pace_span);
    walk_u32(w, &v->pace_step);
    walk_bool(w, &v->counts);
    walk_bool(w, &v->planned);
    walk_text(w, v->drop_fetch, sizeof v->drop_fetch);
    walk_text(w, v->note, sizeof v->note);
    walk_u32(w, &v->line);
    WALK_ENUM(w, v->by, DECIDED_BY_OPERATOR + 1);
}

static void decision_walk(struct walk *w, struct decision *d)
{
    cause_walk(w, &d->cause);
    WALK_ENUM(w, d->drop, DROP_RENEW + 1);
    WALK_ENUM(w, d->pace, PACE_STOP + 1);
    walk_bool(w, &d->planned);
    walk_u32(w, &d->attempt);
    walk_u64(w, &d->wish_low_ms);
    walk_u64(w, &d->wish_high_ms);
    walk_u64(w, &d->backoff_ms);
    walk_u64(w, &d->delay_ms);
    walk_bool(w, &d->clamped);
    WALK_ENUM(w, d->by, DECIDED_BY_OPERATOR + 1);
    walk_u32(w, &d->line);
    walk_text(w, d->note, sizeof d->note);
}

static void stall_walk(struct walk *w, struct stall *s)
{
    walk_u64(w, &s->last_in_ms);
    walk_u64(w, &s->first_ping_ms);
    walk_u64(w, &s->last_ping_ms);
    walk_below(w, &s->draining, 8);
    walk_u64(w, &s->drain_since_ms);
}

static void beat_walk(struct walk *w, struct beat *b)
{
    walk_bool(w, &b->on);
    walk_u64(w, &b->wished_ms);
    walk_u64(w, &b->next_ms);
    walk_u64(w, &b->sent_ms);
    walk_bool(w, &b->pending);
    walk_u32(w, &b->missed);
    walk_u64(w, &b->sent);
    walk_u64(w, &b->answered);
    walk_u64(w, &b->answered_ms);
    walk_u64(w, &b->round_trip_ms);
}

/* What does not fit the plan's windows is older than they are. */
static void send_ledger_walk(struct walk *w, struct send_ledger *l)
{
    uint32_t count = l->count;
    walk_count(w, &count, LEDGER_COUNT_MAX + 16);
    if (walk_reads(w)) send_ledger_reset(l);
    uint64_t at = 0;
    for (uint32_t i = 0; i < count && !w->bad; i++) {
        uint64_t near = at;
        if (!walk_reads(w)) at = l->at[(l->head + i) % l->capacity];
        walk_near(w, &at, near);
        if (!walk_reads(w) || l->capacity == 0) continue;
        if (l->count == l->capacity) {
            l->head = (l->head + 1) % l->capacity;
            l->count--;
        }
        l->at[(l->head + l->count) % l->capacity] = at;
        l->count++;
    }
    walk_u64(w, &l->told_until);
}

static void link_walk(struct walk *w, struct link *l)
{
    WALK_ENUM(w, l->state, LINK_STATE_COUNT);
    send_ledger_walk(w, &l->sends);
    if (l->state == LINK_NONE) return;
    WALK_ENUM(w, l->role, ROLE_OLD + 1);
    walk_u32(w, &l->generation);
    walk_u64(w, &l->since_ms);
    walk_u64(w, &l->dialed_ms);
    walk_u64(w, &l->ready_ms);
    walk_bool(w, &l->settled);
    walk_bool(w, &l->session);
    walk_bool(w, &l->retiring);
    walk_bool(w, &l->alarmed);
    walk_double(w, &l->retire_draw);
    if (!(l->retire_draw >= 0 && l->retire_draw < 1)) walk_fail(w, "a draw that is none");
    walk_u64(w, &l->retire_at_ms);
    WALK_ENUM(w, l->closing, CLOSE_ABORTED + 1);
    walk_u64(w, &l->closing_since_ms);
    walk_u64(w, &l->peer_wait_ms);
    walk_u16(w, &l->close_code);
    stall_walk(w, &l->stall);
    beat_walk(w, &l->beat);
}

static void judging_walk(struct walk *w, struct judging *j)
{
    walk_bool(w, &j->pending);
    walk_u64(w, &j->since_ms);
    walk_u32(w, &j->generation);
    if (j->generation == 0) return;
    walk_bool(w, &j->settled);
    walk_bool(w, &j->successor);
    cause_walk(w, &j->cause);
    verdict_walk(w, &j->base);
    verdict_walk(w, &j->climb);
    walk_u32(w, &j->climbs_seen);
}

static void climb_walk(struct walk *w, struct climb_state *c)
{
    uint32_t used = 0;
    walk_u32(w, &c->count);
    walk_below(w, &c->next, CLIMB_TIMES_MAX);
    for (uint32_t i = 0; i < CLIMB_TIMES_MAX; i++) used |= (uint32_t)(c->at_ms[i] != 0) << i;
    walk_below(w, &used, 1u << CLIMB_TIMES_MAX);
    for (uint32_t i = 0; i < CLIMB_TIMES_MAX; i++) {
        if (used >> i & 1) walk_u64(w, &c->at_ms[i]);
    }
}

/* --- a connection ------------------------------------------------------------------------------------ */

void saved__node(struct walk *w, struct budget_node *n)
{
    walk_i64(w, &n->lane);
    walk_below(w, &n->needs, 1u << BUDGET_COUNT);
    walk_bool(w, &n->reserve);
}

static void sends_walk(struct walk *w, struct engine *e, struct conn *c)
{
    uint32_t count = c->sends_count, at = c->sends_head;
    walk_count(w, &count, e->options.sends_per_connection_max * 2);
    for (uint32_t i = 0; i < count && !w->bad; i++) {
        struct queued_send one = { 0 };
        if (!walk_reads(w)) {
            one = e->sends[at];
            at = one.next;
        }
        walk_u64(w, &one.send_id);
        WALK_ENUM(w, one.by, SEND_CONSUMER + 1);
        if (walk_reads(w) && !w->bad && !sends_restore(e, c, one.send_id, one.by)) {
            walk_fail(w, "more sends than there is room for");
        }
    }
    walk_below(w, &c->sends_doomed, count + 1);
    WALK_ENUM(w, c->sends_why, REFUSE_REMOVED + 1);
}

static void own_walk(struct walk *w, struct engine *e, struct conn *c)
{
    WALK_ENUM(w, c->state, CONN_STATE_COUNT);
    walk_u64(w, &c->since_mono_ms);
    walk_u64(w, &c->since_wall_ms);
    walk_bool(w, &c->wanted);
    walk_bool(w, &c->fatal);
    walk_bool(w, &c->doomed);
    walk_bool(w, &c->removing);
    walk_bool(w, &c->planned_next);
    cause_walk(w, &c->cause);
    decision_walk(w, &c->decision);
    walk_u64(w, &c->decided_ms);
    walk_u32(w, &c->generation);
    walk_u32(w, &c->failed);
    walk_u32(w, &c->slow_count);
    walk_bool(w, &c->attempted);
    walk_u64(w, &c->last_attempt_ms);
    saved__never(w, &c->attempt_at_ms);
    walk_bool(w, &c->held);
    walk_u64(w, &c->unheld_at_ms);
    walk_bool(w, &c->queued);
    WALK_ENUM(w, c->attempt.phase, ATTEMPT_TURN + 1);
    walk_u64(w, &c->attempt.since_ms);
    walk_bool(w, &c->attempt.handover);
    WALK_ENUM(w, c->permit.state, PERMIT_SPENT + 1);
    walk_u32(w, &c->permit.generation);
    walk_u64(w, &c->permit.wall_ms);
    walk_u64(w, &c->permit.boot_ms);
    saved__node(w, &c->wait);
    saved__node(w, &c->claim);
    link_walk(w, &c->links[0]);
    link_walk(w, &c->links[1]);
    judging_walk(w, &c->judging);
    bool climbs = c->climbs != NULL;
    walk_bool(w, &climbs);
    if (climbs && walk_reads(w) && !w->bad) c->climbs = climbs_take(e);
    for (uint32_t i = 0; climbs && c->climbs && i < CLIMB_RULES_MAX; i++) climb_walk(w, &c->climbs->rules[i]);
    walk_bool(w, &c->climb_alarmed);
    walk_bool(w, &c->session_present);
    walk_u64(w, &c->session_saved_wall_ms);
    walk_u64(w, &c->session_begun_wall_ms);
    walk_bool(w, &c->spend_reserve);
    walk_bool(w, &c->wants_start);
    walk_bool(w, &c->session_known);
    sends_walk(w, e, c);
    walk_u64(w, &c->heard_boot_ms);
    walk_u64(w, &c->attempts_total);
    walk_u64(w, &c->ready_total);
    walk_u64(w, &c->stale_events);
    saved__never(w, &c->deadline_ms);
}

/* What no run of the engine can bring about must not meet its assertions. */
static void own_check(struct walk *w, const struct conn *c)
{
    for (int i = 0; i < 2; i++) {
        const struct link *l = &c->links[i];
        if (l->state == LINK_NONE) continue;
        if (l->generation == 0 || l->generation > c->generation) walk_fail(w, "a link of no attempt");
    }
    const struct link *a = &c->links[0], *b = &c->links[1];
    bool both = a->state != LINK_NONE && b->state != LINK_NONE;
    if (both && (a->generation == b->generation || a->role == b->role)) walk_fail(w, "two links that are one");
    if (c->attempt.phase != ATTEMPT_NONE && c->generation == 0) walk_fail(w, "an attempt without a number");
}

bool engine_save(const struct engine *e, struct handle conn, struct buffer *out)
{
    struct conn *c = slots_get(&e->conns, conn);
    if (!c) return false;
    struct walk w = walk_write(out);
    own_walk(&w, (struct engine *)e, c);
    return !w.bad;
}

bool engine_load(struct engine *e, struct handle conn, const void *bytes, size_t len, const char **why)
{
    struct conn *c = slots_get(&e->conns, conn);
    ASSERT(c != NULL);
    struct walk w = walk_read(bytes, len);
    own_walk(&w, e, c);
    own_check(&w, c);
    c->permit.ticket = UINT64_MAX; /* an answer to it is told by engine_ticket() */
    c->queue_at_ms = ENGINE_NEVER;
    if (!w.bad && w.at != w.end) walk_fail(&w, "more than a connection's state");
    *why = w.why;
    return !w.bad;
}

uint64_t engine_ticket(const struct engine *e, struct handle conn)
{
    const struct conn *c = slots_get(&e->conns, conn);
    return c ? c->permit.ticket : 0;
}
