/* Verdicts: what an ending means. Tables or hook choose, climbs may only raise, the engine
 * clamps the delay (I3); wish and outcome go to the journal. Ending links and starting attempts
 * is done elsewhere: the outcome here is what was dropped, and attempt_at_ms. */
#include <string.h>

#include "base/text.h"
#include "engine/engine_internal.h"

static void climbs_note(struct step *s, struct judging *j, const struct cause *cause);
static void climb_occurred(struct climb_state *st, const struct climb_rule *rule, uint64_t now);
static void decide(struct step *s, struct verdict *v);
static uint64_t decide_delay(struct step *s, const struct verdict *v, bool free, uint32_t count,
                             struct decision *d);
static void carry_out_drop(struct step *s, const struct verdict *v, enum drop before);
static void carry_out_stop(struct step *s, const struct verdict *v);
static void climb_alarm(struct step *s);
static void journal(struct step *s, const struct decision *d);
static struct cause stored_copy(const struct cause *cause);
static void copy_note(char *out, const char *note);

struct verdict verdict_classify(const struct plan *p, struct cause *cause)
{
    struct verdict v;
    memset(&v, 0, sizeof v);
    v.counts = true;
    v.by = DECIDED_BY_ENGINE;
    if (cause->kind == CAUSE_RETIRED) {
        v.planned = true;
        return v;
    }
    if (cause->kind == CAUSE_SUSPEND) {
        /* Nobody's failure: back within a second of waking up. */
        v.counts = false;
        v.has_delay = true;
        v.delay = (struct span_ms){ 0, SUSPEND_DELAY_MS_MAX };
        return v;
    }
    for (uint32_t i = 0; i < p->classify_count; i++) {
        const struct classify_rule *r = &p->classify[i];
        if (!cause_matches(&r->match, cause)) continue;
        v.drop = r->drop;
        v.pace = r->pace;
        v.has_delay = r->has_delay;
        v.delay = r->delay;
        v.from_retry_after = r->delay_from_retry_after;
        v.has_otherwise = r->has_otherwise;
        v.otherwise = r->otherwise;
        v.has_pace_span = r->has_pace_span;
        v.pace_span = r->pace_span;
        v.counts = r->counts;
        v.planned = r->planned;
        memcpy(v.drop_fetch, r->drop_fetch, sizeof v.drop_fetch);
        copy_note(v.note, r->note);
        v.line = r->line;
        v.by = DECIDED_BY_RULE;
        if (r->as[0]) cause_rename(cause, r->as);
        break;
    }
    return v;
}

uint64_t engine_pause_ms(const struct plan *p, const struct cause *cause, uint64_t draw)
{
    struct cause judged = *cause;
    const struct verdict v = verdict_classify(p, &judged);
    if (v.pace == PACE_STOP) return ENGINE_NEVER;
    uint64_t wait = 0;
    if (v.from_retry_after && judged.retry_after_ms != RETRY_AFTER_NONE) wait = judged.retry_after_ms;
    else if (v.from_retry_after && v.has_otherwise) wait = span_draw(v.otherwise, draw);
    else if (v.has_delay) wait = span_draw(v.delay, draw);
    if (v.pace == PACE_SLOW) {
        uint64_t slow = backoff_slow_ms(p, v.has_pace_span ? &v.pace_span : NULL, 1, draw);
        if (slow > wait) wait = slow;
    }
    return wait < RETRY_AFTER_MS_MAX ? wait : RETRY_AFTER_MS_MAX;
}

bool verdict_raise(struct verdict *v, const struct verdict *more)
{
    bool raised = false;
    if (more->drop > v->drop) {
        v->drop = more->drop;
        raised = true;
    }
    if (more->pace > v->pace) {
        v->pace = more->pace;
        raised = true;
    }
    if (more->has_pace_span && more->pace >= v->pace && more->pace == PACE_SLOW) {
        v->has_pace_span = true;
        v->pace_span = more->pace_span;
        v->pace_step = more->pace_step;
    }
    if (raised) {
        v->by = more->by;
        v->line = more->line;
        copy_note(v->note, more->note);
    }
    return raised;
}

void judge_begin(struct step *s, const struct cause *cause, uint32_t generation, bool settled,
                 bool successor)
{
    struct conn *c = s->c;
    struct judging *j = &c->judging;
    ASSERT(cause->kind != CAUSE_NONE);
    ASSERT(generation != 0);
    /* A hook that still thinks about an earlier ending has thought long enough. */
    if (j->pending) judge_answer(s, false);

    memset(j, 0, sizeof *j);
    j->generation = generation;
    j->settled = settled;
    j->successor = successor;
    j->since_ms = s->now;
    struct cause judged = *cause;
    j->base = verdict_classify(c->plan, &judged);
    climbs_note(s, j, &judged);
    j->cause = stored_copy(&judged);
    c->cause = j->cause;
    if (c->plan->has_on_ended) {
        j->pending = true;
        /* Until the answer comes nothing is planned; the answer's limit is the deadline. */
        c->attempt_at_ms = ENGINE_NEVER;
        fx(s, FX_ASK_ENDED, generation)->ask_ended = judged;
        return;
    }
    decide(s, &j->base);
}

void judge_answer(struct step *s, bool answered)
{
    struct judging *j = &s->c->judging;
    ASSERT(j->pending);
    j->pending = false;
    struct verdict v = j->base;
    if (answered && s->ev->verdict.failed) {
        copy_note(v.note, "on_ended failed: the tables decided");
    } else if (answered && s->ev->verdict.given) {
        v.drop = s->ev->verdict.drop;
        v.pace = s->ev->verdict.pace;
        v.has_delay = s->ev->verdict.has_delay;
        v.delay = s->ev->verdict.delay;
        if (v.has_delay) v.from_retry_after = v.has_otherwise = false;
        copy_note(v.note, s->ev->verdict.note);
        v.line = s->ev->verdict.line;
        v.by = DECIDED_BY_HOOK;
    } else if (!answered) {
        MARK("on_ended took too long");
        copy_note(v.note, "on_ended did not answer in time: the tables decided");
    }
    decide(s, &v);
}

void judge_more(struct step *s, const struct cause *cause, uint32_t generation)
{
    struct conn *c = s->c;
    struct judging *j = &c->judging;
    if (j->generation != generation || !c->wanted) return;
    struct cause judged = *cause;
    struct verdict more = verdict_classify(c->plan, &judged);
    climbs_note(s, j, &judged);
    if (j->pending) {
        if (verdict_raise(&j->base, &more)) c->cause = j->cause = stored_copy(&judged);
        return;
    }
    struct verdict v = j->base;
    const enum drop drop_before = v.drop;
    bool raised = verdict_raise(&v, &more);
    raised |= verdict_raise(&v, &j->climb); /* what it held before is in `v` already */
    if (more.drop_fetch[0] && strcmp(more.drop_fetch, v.drop_fetch) != 0) {
        struct effect *f = fx(s, FX_DROP_FETCHED, 0);
        memcpy(f->drop_fetched.name, more.drop_fetch, sizeof f->drop_fetched.name);
    }
    if (!raised) return;

    MARK("the close code was stronger than the announced ending");
    j->base = v;
    c->cause = j->cause = stored_copy(&judged);
    struct decision *d = &c->decision;
    d->cause = c->cause;
    d->by = v.by;
    d->line = v.line;
    d->drop = v.drop;
    d->planned = false;
    copy_note(d->note, v.note);
    if (v.pace == PACE_SLOW && d->pace < PACE_SLOW) {
        c->slow_count++;
        uint64_t delay = decide_delay(s, &v, false, 1, d);
        if (delay > d->delay_ms) d->delay_ms = delay;
        c->attempt_at_ms = c->decided_ms + d->delay_ms;
        c->planned_next = false;
        /* A successor that waits for a budget would begin with the budget, not after the delay. */
        attempt_unqueue(s);
    }
    d->pace = v.pace;
    carry_out_drop(s, &v, drop_before);
    if (v.pace == PACE_STOP) carry_out_stop(s, &v);
    climb_alarm(s);
    journal(s, d);
}

void judge_directly(struct step *s, const struct cause *cause, int by, enum pace pace,
                    uint64_t delay_ms, const char *note)
{
    struct conn *c = s->c;
    memset(&c->judging, 0, sizeof c->judging);
    c->judging.cause = c->cause = stored_copy(cause);
    struct decision *d = &c->decision;
    memset(d, 0, sizeof *d);
    d->cause = c->cause;
    d->pace = pace;
    d->attempt = c->failed;
    d->delay_ms = delay_ms;
    d->by = by;
    copy_note(d->note, note);
    c->decided_ms = s->now;
    c->held = false;
    c->planned_next = false;
    if (pace != PACE_STOP) {
        c->attempt_at_ms = delay_ms == ENGINE_NEVER ? ENGINE_NEVER : s->now + delay_ms;
    }
    journal(s, d);
}

void climbs_settled(struct engine *e, struct conn *c)
{
    bool windows = false;
    c->climb_alarmed = false;
    if (!c->climbs) return;
    for (uint32_t i = 0; i < c->plan->climb_count && i < CLIMB_RULES_MAX; i++) {
        if (c->plan->climb[i].within_ms == 0) c->climbs->rules[i].count = 0;
        else windows |= c->climbs->rules[i].count > 0;
    }
    if (!windows) climbs_drop(e, c);
}

void climbs_drop(struct engine *e, struct conn *c)
{
    if (c->climbs) climbs_give(e, c->climbs);
    c->climbs = NULL;
}

static struct climb_state *climb_of(struct step *s, uint32_t rule)
{
    if (!s->c->climbs) s->c->climbs = climbs_take(s->e);
    return &s->c->climbs->rules[rule];
}

/* Counts this ending where it was not counted yet, and collects what the rules that fire raise. */
static void climbs_note(struct step *s, struct judging *j, const struct cause *cause)
{
    struct conn *c = s->c;
    if (j->base.planned && j->settled) return;
    for (uint32_t i = 0; i < c->plan->climb_count && i < CLIMB_RULES_MAX; i++) {
        const struct climb_rule *rule = &c->plan->climb[i];
        if (j->climbs_seen & 1u << i) continue;
        bool matched = false;
        for (uint32_t k = 0; k < rule->on_count && !matched; k++) {
            matched = cause_matches(&rule->on[k], cause);
        }
        if (!matched) continue;
        j->climbs_seen |= 1u << i;
        struct climb_state *st = climb_of(s, i);
        climb_occurred(st, rule, s->now);
        const uint32_t count = st->count;
        if (count < rule->times) continue;
        if (rule->within_ms == 0) st->count = 0;
        struct verdict up;
        memset(&up, 0, sizeof up);
        up.drop = rule->to;
        up.pace = rule->pace;
        up.has_pace_span = rule->has_pace_span;
        up.pace_span = rule->pace_span;
        /* A window slides on through settled links, and so does its ladder: whoever is kicked once in a
         * while must not begin anew each time. */
        if (rule->within_ms) up.pace_step = count - rule->times + 1;
        up.line = rule->line;
        up.by = DECIDED_BY_CLIMB;
        copy_note(up.note, rule->note);
        verdict_raise(&j->climb, &up);
    }
}

/* Leaves in `count` how many occurrences stand now: in a row, or within the window. */
static void climb_occurred(struct climb_state *st, const struct climb_rule *rule, uint64_t now)
{
    if (rule->within_ms == 0) {
        st->count++;
        return;
    }
    st->at_ms[st->next] = now + 1; /* 0 means none */
    st->next = (st->next + 1) % CLIMB_TIMES_MAX;
    st->count = 0;
    for (uint32_t i = 0; i < CLIMB_TIMES_MAX; i++) {
        if (st->at_ms[i] && st->at_ms[i] + rule->within_ms > now) st->count++;
    }
}

/* The verdict's outcome: counters, delay, drops, journal. */
static void decide(struct step *s, struct verdict *v)
{
    struct conn *c = s->c;
    struct judging *j = &c->judging;
    verdict_raise(v, &j->climb);
    j->base = *v;

    bool free = v->planned && j->settled && v->pace == PACE_NORMAL;
    if (free) MARK("a planned ending of a settled link is free");
    else if (v->counts || v->planned) c->failed++;
    if (v->pace == PACE_SLOW) c->slow_count++;
    if (PLANTED(s->e, PLANT_I6_GIVES_UP) && c->failed >= 6) v->pace = PACE_STOP;

    struct decision *d = &c->decision;
    memset(d, 0, sizeof *d);
    d->cause = j->cause;
    d->drop = v->drop;
    d->pace = v->pace;
    d->planned = v->planned;
    d->attempt = c->failed;
    d->by = v->by;
    d->line = v->line;
    copy_note(d->note, v->note);
    d->delay_ms = decide_delay(s, v, free, 0, d);
    c->decided_ms = s->now;
    c->attempt_at_ms = s->now + d->delay_ms;
    c->held = false;
    c->planned_next = free;

    carry_out_drop(s, v, DROP_RESUME);
    if (v->drop_fetch[0]) {
        struct effect *f = fx(s, FX_DROP_FETCHED, 0);
        memcpy(f->drop_fetched.name, v->drop_fetch, sizeof f->drop_fetched.name);
    }
    if (v->pace == PACE_STOP) carry_out_stop(s, v);
    climb_alarm(s);
    journal(s, d);
}

/* Between two attempts lies the floor, and after failures the backoff: a rule's delay replaces the
 * backoff only for the first attempt after a settled link (I3). A free planned one is exempt. */
static uint64_t decide_delay(struct step *s, const struct verdict *v, bool free, uint32_t count,
                             struct decision *d)
{
    struct conn *c = s->c;
    struct judging *j = &c->judging;
    const struct plan *p = c->plan;
    const uint32_t generation = j->generation;
    bool wished = false;
    uint64_t wish = 0;

    if (v->from_retry_after && j->cause.retry_after_ms != RETRY_AFTER_NONE) {
        MARK("retry_after beats backoff");
        wish = j->cause.retry_after_ms;
        if (wish > RETRY_AFTER_MS_MAX) wish = RETRY_AFTER_MS_MAX;
        d->wish_low_ms = d->wish_high_ms = wish;
        wish += rng_range(conn_draw(s, generation, DRAW_RETRY_AFTER, count), 0, wish / 20);
        wished = true;
    } else if (v->from_retry_after && v->has_otherwise) {
        d->wish_low_ms = v->otherwise.low;
        d->wish_high_ms = v->otherwise.high;
        wish = span_draw(v->otherwise, conn_draw(s, generation, DRAW_DELAY, count));
        wished = true;
    } else if (v->has_delay) {
        d->wish_low_ms = v->delay.low;
        d->wish_high_ms = v->delay.high;
        wish = span_draw(v->delay, conn_draw(s, generation, DRAW_DELAY, count));
        wished = true;
    }
    if (wish > RETRY_AFTER_MS_MAX * 2) wish = RETRY_AFTER_MS_MAX * 2;
    if (PLANTED(s->e, PLANT_I3_NO_FLOOR)) return wish;
    if (free) return wish;

    uint32_t failed = c->failed ? c->failed : 1;
    d->backoff_ms = backoff_jittered_ms(p, failed, conn_draw(s, generation, DRAW_BACKOFF, count));
    bool wish_suffices = wished && (j->settled || c->failed == 0);
    uint64_t delay = wish_suffices || d->backoff_ms < wish ? wish : d->backoff_ms;
    if (v->pace == PACE_SLOW) {
        uint32_t step = v->pace_step > c->slow_count ? v->pace_step : c->slow_count;
        uint64_t slow = backoff_slow_ms(p, v->has_pace_span ? &v->pace_span : NULL, step,
                                        conn_draw(s, generation, DRAW_SLOW, count));
        if (slow > delay) delay = slow;
    }
    uint64_t floor = backoff_floor_ms(p);
    if (delay < floor) delay = floor;
    d->clamped = wished && delay != wish;
    ASSERT(delay >= PLAN_FLOOR_MS_MIN);
    return delay;
}

static void carry_out_drop(struct step *s, const struct verdict *v, enum drop before)
{
    struct conn *c = s->c;
    if (v->drop >= DROP_FRESH && before < DROP_FRESH && c->plan->session.on) {
        c->session_present = false;
        fx(s, FX_DROP_SESSION, 0);
    }
    if (v->drop >= DROP_RENEW && before < DROP_RENEW) fx(s, FX_DROP_FETCHED, 0);
}

static void carry_out_stop(struct step *s, const struct verdict *v)
{
    struct conn *c = s->c;
    char text[PLAN_NOTE_MAX];
    const char *why = v->note[0] ? v->note : c->cause.reason[0] ? c->cause.reason : c->cause.name;
    text_copy(text, sizeof text, why, strlen(why));
    if (c->judging.successor) {
        /* The old link serves on as long as it lives; there will be no other. */
        MARK("a successor met a fatal cause");
        c->doomed = true;
    } else {
        c->fatal = true;
    }
    c->attempt_at_ms = ENGINE_NEVER;
    c->decision.delay_ms = ENGINE_NEVER;
    fx_alarm(s, text);
}

/* A climb to the slow pace that says why means something that no waiting mends, also where the row was slow
 * already: somebody has to know, once until the connection has served again. */
static void climb_alarm(struct step *s)
{
    const struct verdict *up = &s->c->judging.climb;
    if (up->pace != PACE_SLOW || !up->note[0] || s->c->climb_alarmed) return;
    MARK("a climb to the slow pace is an alarm");
    s->c->climb_alarmed = true;
    fx_alarm(s, up->note);
}

static void journal(struct step *s, const struct decision *d)
{
    fx(s, FX_JOURNAL, s->c->judging.generation)->journal = *d;
}

static struct cause stored_copy(const struct cause *cause)
{
    struct cause copy = *cause;
    copy.head = copy.body = NULL;
    copy.head_len = copy.body_len = 0;
    return copy;
}

static void copy_note(char *out, const char *note)
{
    text_copy(out, PLAN_NOTE_MAX, note, strlen(note));
}
