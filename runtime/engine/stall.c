/* Stall: is the peer alive? Any byte proves the transport; an unanswered beat or ping, or a
 * missing promised keep-alive, proves death. Before a judgement pending input is drained, so
 * that a late loop is never taken for a dead peer. Business frames are not looked at (I5). */
#include "engine/engine_internal.h"

#define TOGETHER_PART   128 /* of its interval a beat or ping may come early */
#define TOGETHER_MS_MAX 256

static uint64_t beat_due(const struct plan *p, const struct link *l);
static uint64_t ping_due(const struct plan *p, const struct link *l);
static uint64_t silence_due(const struct plan *p, const struct link *l);
static uint64_t answer_due(const struct plan *p, const struct link *l);
static void drain(struct step *s, struct link *l, enum drain_for why);
static void judge(struct step *s, struct link *l);
static void beat_tick(struct step *s, struct link *l);
static void beat_send(struct step *s, struct link *l);
static uint64_t together(uint64_t at_ms, uint64_t every_ms);

void stall_begin(struct step *s, struct link *l)
{
    ASSERT(l->state == LINK_READY);
    l->stall.last_in_ms = s->now;
    l->stall.first_ping_ms = l->stall.last_ping_ms = 0;
}

uint64_t stall_beat_due_ms(const struct plan *p, const struct link *l)
{
    const uint64_t answer = answer_due(p, l), beat = beat_due(p, l);
    return answer < beat ? answer : beat;
}

uint64_t stall_silence_due_ms(const struct plan *p, const struct link *l)
{
    return silence_due(p, l);
}

void stall_pulse(struct step *s, struct link *l, const struct pulse *pulse)
{
    uint64_t in = pulse->last_byte_ms;
    if (PLANTED(s->e, PLANT_I5_EVENTS_AS_PULSE)) in = pulse->last_frame_ms;
    if (in > s->now) in = s->now;
    if (in <= l->stall.last_in_ms) return;
    l->stall.last_in_ms = in;
    /* A byte that came in the same millisecond as the ping does not answer it. */
    if (l->stall.first_ping_ms < in) l->stall.first_ping_ms = 0;
}

void stall_tick(struct step *s, struct link *l)
{
    struct conn *c = s->c;
    ASSERT(l->state == LINK_GREETING || l->state == LINK_READY);
    if (l->stall.draining) {
        if (s->now < l->stall.drain_since_ms + DRAIN_LIMIT_MS) return;
        MARK("the drain before a judgement never ended");
        judge(s, l);
        if (!link_alive(l)) return;
    }
    if (PLANTED(s->e, PLANT_I4_DEAF_TO_SILENCE) && silence_due(c->plan, l) <= s->now)
        l->stall.last_in_ms = s->now;
    if (l->state == LINK_READY) {
        if (ping_due(c->plan, l) <= s->now) {
            if (!l->stall.first_ping_ms) l->stall.first_ping_ms = s->now;
            l->stall.last_ping_ms = s->now;
            fx(s, FX_PING, l->generation);
        }
        if (silence_due(c->plan, l) <= s->now) drain(s, l, DRAIN_FOR_SILENCE);
    }
    if (!(l->stall.draining & DRAIN_FOR_BEAT)) beat_tick(s, l);
}

void stall_drained(struct step *s, struct link *l)
{
    judge(s, l);
}

void stall_probe(struct step *s, struct link *l)
{
    if (l->state != LINK_READY) return;
    if (s->c->plan->ping_ms) {
        if (!l->stall.first_ping_ms) l->stall.first_ping_ms = s->now;
        l->stall.last_ping_ms = s->now;
        fx(s, FX_PING, l->generation);
    } else {
        drain(s, l, DRAIN_FOR_PROBE);
    }
}

uint64_t stall_deadline(const struct conn *c, const struct link *l, const char **next)
{
    uint64_t at = ENGINE_NEVER;
    /* Nothing else happens until then, see stall_tick(): what falls due meanwhile would only be a waking. */
    if (l->stall.draining)
        return earlier(at, l->stall.drain_since_ms + DRAIN_LIMIT_MS, next, "drain limit");
    if (l->state == LINK_READY) {
        at = earlier(at, ping_due(c->plan, l), next, "ping");
        at = earlier(at, silence_due(c->plan, l), next, "silence");
    }
    if (l->beat.on) {
        at = earlier(at, beat_due(c->plan, l), next, "beat");
        at = earlier(at, answer_due(c->plan, l), next, "beat answer");
    }
    return at;
}

uint64_t beat_interval_ms(const struct plan *p, const struct link *l)
{
    uint64_t ms = l->beat.wished_ms ? l->beat.wished_ms : p->beat.every_ms;
    if (p->beat.most_ms && ms > p->beat.most_ms) ms = p->beat.most_ms;
    if (ms < p->beat.least_ms) ms = p->beat.least_ms;
    return ms ? ms : 1000;
}

/* interval_ms: what the policy set, 0 for the plan's own. A change later on moves the next beat,
 * and the time that already passed counts. */
void beat_begin(struct step *s, struct link *l, uint64_t interval_ms)
{
    const struct plan *p = s->c->plan;
    if (!p->beat.on) return;
    ASSERT(l->state == LINK_GREETING || l->state == LINK_READY);
    const bool was_on = l->beat.on;
    const uint64_t before = was_on ? beat_interval_ms(p, l) : 0;
    if (interval_ms) l->beat.wished_ms = interval_ms;
    const uint64_t every = beat_interval_ms(p, l);
    const double draw = rng_unit(conn_draw(s, l->generation, DRAW_BEAT, 0));
    l->beat.on = true;
    if (was_on && l->beat.sent_ms) {
        l->beat.next_ms = l->beat.sent_ms + every;
        return;
    }
    if (was_on && before == every) return;
    switch (p->beat.first) {
    case BEAT_SPREAD:
        l->beat.next_ms = s->now + (uint64_t)((double)every * draw);
        break;
    case BEAT_AT_ONCE: l->beat.next_ms = s->now; break;
    case BEAT_AFTER: l->beat.next_ms = s->now + every; break;
    }
    if (l->beat.next_ms <= s->now) beat_send(s, l);
}

/* The platform wants one now: no check, no timer; its answer may clear a pending one, which is
 * true. */
void beat_asked(struct step *s, struct link *l)
{
    MARK("a beat was asked for");
    send_ledger_note(&l->sends, &s->c->plan->budgets[BUDGET_SEND], s->now);
    fx(s, FX_BEAT, l->generation)->beat.asked = true;
}

void beat_answered(struct step *s, struct link *l)
{
    l->beat.missed = 0;
    if (!l->beat.pending) return;
    l->beat.pending = false;
    l->beat.answered++;
    l->beat.answered_ms = s->now;
    l->beat.round_trip_ms = s->now - l->beat.sent_ms;
}

static void beat_tick(struct step *s, struct link *l)
{
    if (!l->beat.on) return;
    bool judged = s->c->plan->beat.answered && !PLANTED(s->e, PLANT_I4_DEAF_TO_SILENCE);
    if (judged && answer_due(s->c->plan, l) <= s->now) {
        drain(s, l, DRAIN_FOR_BEAT);
        return;
    }
    if (beat_due(s->c->plan, l) > s->now) return;
    if (judged && l->beat.pending) {
        drain(s, l, DRAIN_FOR_BEAT);
        return;
    }
    beat_send(s, l);
}

/* The next one is due an interval after the send, not after the moment it was due: a beat that went
 * out late has a whole interval for its answer. */
static void beat_send(struct step *s, struct link *l)
{
    ASSERT(l->beat.on);
    l->beat.sent_ms = s->now;
    l->beat.next_ms = s->now + beat_interval_ms(s->c->plan, l);
    l->beat.pending = s->c->plan->beat.answered;
    l->beat.sent++;
    send_ledger_note(&l->sends, &s->c->plan->budgets[BUDGET_SEND], s->now);
    fx(s, FX_BEAT, l->generation)->beat.asked = false;
}

static void drain(struct step *s, struct link *l, enum drain_for why)
{
    if (!l->stall.draining) {
        l->stall.drain_since_ms = s->now;
        fx(s, FX_DRAIN, l->generation);
    }
    l->stall.draining |= why;
}

/* Input was drained: what is still missing now is missing. */
static void judge(struct step *s, struct link *l)
{
    const struct plan *p = s->c->plan;
    const uint32_t why = l->stall.draining;
    l->stall.draining = 0;
    if (why & DRAIN_FOR_BEAT) {
        if (!l->beat.pending) {
            MARK("the beat's answer was waiting in the kernel");
            if (beat_due(p, l) <= s->now) beat_send(s, l);
        } else if (++l->beat.missed >= p->beat.dead) {
            struct cause cause = cause_make(link_stage_of(l), CAUSE_BEAT, BY_US,
                                            p->beat.within_ms
                                                ? "a beat was not answered in time"
                                                : "a beat was not answered until the next was due");
            conn_link_ends(s, l, &cause, END_CLOSE, 0);
            return;
        } else {
            beat_send(s, l);
        }
    }
    if (why & DRAIN_FOR_SILENCE && silence_due(p, l) <= s->now) {
        struct cause cause = cause_make(link_stage_of(l), CAUSE_SILENCE, BY_US,
                                        p->promised ? "the promised keep-alive did not come"
                                                    : "no byte came, and a ping was not answered");
        conn_link_ends(s, l, &cause, END_CLOSE, 0);
    }
}

static uint64_t answer_due(const struct plan *p, const struct link *l)
{
    bool owed = p->beat.within_ms && p->beat.answered && l->beat.pending;
    return owed ? l->beat.sent_ms + p->beat.within_ms : ENGINE_NEVER;
}

/* One that is still owed its answer is given the whole interval. */
static uint64_t beat_due(const struct plan *p, const struct link *l)
{
    return l->beat.pending ? l->beat.next_ms : together(l->beat.next_ms, beat_interval_ms(p, l));
}

static uint64_t ping_due(const struct plan *p, const struct link *l)
{
    if (!p->ping_ms) return ENGINE_NEVER;
    uint64_t from = l->stall.last_in_ms;
    if (l->stall.last_ping_ms > from) from = l->stall.last_ping_ms;
    return together(from + p->ping_ms, p->ping_ms);
}

/* Silence needs an unanswered ping, unless the platform promised to keep the link alive itself.
 * A ping that went out late gets its whole time. */
static uint64_t silence_due(const struct plan *p, const struct link *l)
{
    if (!p->silence_ms) return ENGINE_NEVER;
    uint64_t at = l->stall.last_in_ms + p->silence_ms;
    if (p->promised) return at;
    if (!p->ping_ms || !l->stall.first_ping_ms) return ENGINE_NEVER;
    uint64_t answer_ms = p->silence_ms > p->ping_ms ? p->silence_ms - p->ping_ms : p->silence_ms;
    uint64_t ping_at = l->stall.first_ping_ms + answer_ms;
    return ping_at > at ? ping_at : at;
}

/* Waking for one link costs several times what the beat itself costs: with ten thousand of them those that are due
 * within the same moment go out in one waking. Earlier, never later, and on instants that are the same for all
 * intervals: powers of two. */
static uint64_t together(uint64_t at_ms, uint64_t every_ms)
{
    uint64_t grid_ms = 1;
    while (grid_ms * 2 * TOGETHER_PART <= every_ms && grid_ms < TOGETHER_MS_MAX) grid_ms *= 2;
    return at_ms - at_ms % grid_ms;
}
