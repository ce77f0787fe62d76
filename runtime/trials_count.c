/* Trials, counted: what happens to each connection, for its side of a trial or for its own past; and the facts that a
 * verdict needs. Counts come from where weather and metrics have theirs. Decides nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "trials_internal.h"

#define PAST_MS ((uint64_t)3600 * 1000)

/* --- what each connection did lately --------------------------------------------------------------------------- */

static void lately_turn(struct rt_lately *p, uint64_t now_ms)
{
    if (!p->since_ms) p->since_ms = now_ms ? now_ms : 1;
    const uint64_t hours = now_ms > p->since_ms ? (now_ms - p->since_ms) / PAST_MS : 0;
    if (!hours) return;
    p->before_known = true;
    p->endings[1] = hours == 1 ? p->endings[0] : 0;
    p->hook_errors[1] = hours == 1 ? p->hook_errors[0] : 0;
    p->slows[1] = hours == 1 ? p->slows[0] : 0;
    p->endings[0] = p->hook_errors[0] = p->slows[0] = 0;
    p->since_ms += hours * PAST_MS;
}

void trials__lately_add(struct rt_lately *p, uint64_t now_ms, struct trial_side *out)
{
    lately_turn(p, now_ms);
    out->connections++;
    out->ms += now_ms - p->since_ms + (p->before_known ? PAST_MS : 0);
    const uint32_t endings = p->endings[0] + p->endings[1], errors = p->hook_errors[0] + p->hook_errors[1];
    out->endings += endings;
    out->endings_in += endings > 0;
    out->hook_errors += errors;
    out->hook_errors_in += errors > 0;
    out->slows += p->slows[0] + p->slows[1];
}

static void lately_note(uint16_t *n)
{
    if (*n < UINT16_MAX) ++*n;
}

/* --- sides ------------------------------------------------------------------------------------------------------ */

void trials__time_counted(struct runtime *rt, struct rt_trial *t)
{
    const uint64_t now_ms = trials__mono_ms(rt), spent_ms = now_ms - t->counted_ms;
    for (int s = SIDE_TRIED; s <= SIDE_OTHERS; s++) t->sides[s].ms += spent_ms * t->now[s];
    t->counted_ms = now_ms;
}

static bool is_up(const struct runtime *rt, const struct rt_conn *c)
{
    struct engine_brief view;
    return engine_get_brief(rt->engine, c->self, &view) && view.state == CONN_UP;
}

void trials__join(struct runtime *rt, struct rt_trial *t, struct rt_conn *c, enum side side)
{
    trials__time_counted(rt, t);
    c->trial = t;
    c->trial_side = (uint8_t)side;
    c->trial_well = is_up(rt, c);
    c->trial_endings = 0;
    c->trial_errors = c->trial_stopped = false;
    c->trial_since_ms = trials__mono_ms(rt);
    t->sides[side].connections++;
    t->now[side]++;
}

static void leave(struct runtime *rt, struct rt_conn *c)
{
    struct rt_trial *t = c->trial;
    if (!t) return;
    trials__time_counted(rt, t);
    ASSERT(t->now[c->trial_side] > 0);
    t->now[c->trial_side]--;
    c->trial = NULL;
    c->trial_side = SIDE_NONE;
    /* Nobody is left to say anything of it. */
    if (t->phase == PHASE_WATCHING && t->now[SIDE_TRIED] == 0) t->event_ms = 1;
}

bool trials__runs(const struct rt_conn *c, const struct policy_version *v)
{
    return c->build->build->version == v;
}

/* The side that an event of this connection counts for; NONE: none. */
static enum side counts_for(const struct rt_conn *c)
{
    const struct rt_trial *t = c->trial;
    if (!t || t->phase != PHASE_WATCHING) return SIDE_NONE;
    const struct policy_version *v = c->trial_side == SIDE_TRIED ? t->wish.after : t->wish.before;
    return trials__runs(c, v) ? (enum side)c->trial_side : SIDE_NONE;
}

static void event_came(struct runtime *rt, struct rt_trial *t)
{
    if (!t->event_ms) t->event_ms = trials__mono_ms(rt);
}

/* --- what happens, as dispatch, tasks and connections tell ------------------------------------------------------- */

void rt_trial_hook_failed(struct runtime *rt, struct rt_conn *c, const struct policy_version *ran, const char *error)
{
    const enum side side = counts_for(c);
    struct rt_trial *t = c->trial;
    if (side != SIDE_TRIED) {
        lately_turn(&c->lately, trials__mono_ms(rt));
        lately_note(&c->lately.hook_errors[0]);
    }
    if (side == SIDE_NONE || !trials__runs(c, ran)) return; /* what the other version began is its own */
    t->sides[side].hook_errors++;
    t->sides[side].hook_errors_in += !c->trial_errors;
    c->trial_errors = true;
    if (side != SIDE_TRIED) return;
    text_copy(t->error, sizeof t->error, error, strlen(error));
    event_came(rt, t);
}

static bool is_wish(enum cause_kind kind)
{
    return kind == CAUSE_STOPPED || kind == CAUSE_SHUTDOWN || kind == CAUSE_RESTARTED || kind == CAUSE_SUSPEND;
}

void rt_trial_decided(struct runtime *rt, struct rt_conn *c, const struct decision *d)
{
    const enum side side = counts_for(c);
    struct rt_trial *t = c->trial;
    if (d->by == DECIDED_BY_OPERATOR || d->planned || is_wish(d->cause.kind)) return;
    if (side != SIDE_TRIED) {
        lately_turn(&c->lately, trials__mono_ms(rt));
        lately_note(&c->lately.endings[0]);
        if (d->pace == PACE_SLOW) lately_note(&c->lately.slows[0]);
    }
    if (side == SIDE_NONE) return;
    /* An attempt that the other version began. */
    if (d->cause.stage < STAGE_READY && c->attempt_ms < c->trial_since_ms) return;
    struct trial_side *s = &t->sides[side];
    if (d->pace == PACE_STOP) {
        s->stops++;
        c->trial_stopped = true;
    } else if (d->pace == PACE_SLOW) {
        s->slows++;
    }
    if (!t->weather && c->trial_endings < TRIAL_ENDINGS_EACH) {
        s->endings_in += c->trial_endings == 0;
        s->endings++;
        c->trial_endings++;
    }
    if (side == SIDE_TRIED) event_came(rt, t);
}

void rt_trial_ready(struct runtime *rt, struct rt_conn *c)
{
    const enum side side = counts_for(c);
    struct rt_trial *t = c->trial;
    const uint64_t now_ms = trials__mono_ms(rt), ms = now_ms > c->attempt_ms ? now_ms - c->attempt_ms : 0;
    const uint32_t took_ms = ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
    if (side != SIDE_TRIED) {
        c->lately.ready_ms = took_ms;
        c->lately.ready_known = true;
    }
    if (side == SIDE_NONE || t->weather || c->attempt_ms < c->trial_since_ms) return;
    struct samples *r = &t->ready[side];
    r->ms[r->count++ % SAMPLES_MAX] = took_ms;
    if (side == SIDE_TRIED) event_came(rt, t);
}

void rt_trial_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    const enum cause_kind kind = fx->state.cause.kind;
    if (c->trial && fx->state.to == CONN_STOPPED && kind == CAUSE_STOPPED) leave(rt, c);
}

void rt_trial_gone(struct runtime *rt, struct rt_conn *c)
{
    leave(rt, c);
}

uint64_t rt_trial_salt(const struct runtime *rt, const struct policy_version *v)
{
    for (const struct rt_trial *t = rt->trials; t; t = t->next) {
        if (t->phase == PHASE_WATCHING && t->wish.after == v) return rng_mix(policy_text_hash(v)) | 1;
    }
    return 0;
}

/* --- the facts ---------------------------------------------------------------------------------------------------- */

static int by_ms(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void median(const struct samples *r, struct trial_side *out)
{
    uint32_t sorted[SAMPLES_MAX], n = r->count < SAMPLES_MAX ? r->count : SAMPLES_MAX;
    out->readies = r->count;
    if (!n) return;
    memcpy(sorted, r->ms, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_ms);
    out->ready_ms = n % 2 ? sorted[n / 2] : ((uint64_t)sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* A front that covers tried ones says something of the version only when the others do well under it. */
bool trials__weather_is_shared(const struct runtime *rt, const struct rt_trial *t, const struct weather_front *f)
{
    uint32_t covered[3] = { 0 }, failing[3] = { 0 };
    struct handle conn;
    for (uint32_t i = 0; runtime_next(rt, &i, &conn); i++) {
        const struct rt_conn *c = rt_conn_get(rt, conn);
        if (c->trial != t || !weather_covers(f, &c->point)) continue;
        covered[c->trial_side]++;
        failing[c->trial_side] += c->point.failing;
    }
    if (!covered[SIDE_TRIED]) return false;
    if (covered[SIDE_OTHERS]) return failing[SIDE_OTHERS] * 2 >= covered[SIDE_OTHERS];
    return f->failing > failing[SIDE_TRIED]; /* others fail there that are in no trial */
}

static bool is_in_doubt(const struct runtime *rt, const struct rt_conn *c)
{
    struct connection_view view;
    return !is_up(rt, c) || !runtime_view(rt, c->self, &view) || view.life.verdict == LIFE_DEAD ||
           view.life.verdict == LIFE_SUSPECT;
}

void trials__lost_count(const struct runtime *rt, struct rt_trial *t)
{
    struct handle conn;
    for (int side = SIDE_TRIED; side <= SIDE_OTHERS; side++) {
        t->sides[side].lost = 0;
        /* A view costs more than a count: the others are asked when it matters. */
        if (side == SIDE_OTHERS && !t->sides[SIDE_TRIED].lost) return;
        for (uint32_t i = 0; runtime_next(rt, &i, &conn); i++) {
            const struct rt_conn *c = rt_conn_get(rt, conn);
            if (c->trial == t && c->trial_side == side && c->trial_well) t->sides[side].lost += is_in_doubt(rt, c);
        }
    }
}

void trials__facts(const struct runtime *rt, const struct rt_trial *t, struct trial_facts *out)
{
    struct clock now;
    rt->options.host.ops->clock(rt->options.host.self, &now);
    memset(out, 0, sizeof *out);
    out->tried = t->sides[SIDE_TRIED];
    out->others = t->sides[SIDE_OTHERS];
    out->tried.ms += (now.mono_ms - t->counted_ms) * t->now[SIDE_TRIED];
    out->others.ms += (now.mono_ms - t->counted_ms) * t->now[SIDE_OTHERS];
    out->past = t->past;
    median(&t->ready[SIDE_TRIED], &out->tried);
    median(&t->ready[SIDE_OTHERS], &out->others);
    median(&t->ready[SIDE_NONE], &out->past);
    out->all_ms = now.mono_ms - t->began_ms;
    out->fair_ms = t->fair_ms + (t->weather ? 0 : now.mono_ms - t->looked_ms);
    out->watch_ms = t->wish.watch_ms;
    out->weather = t->weather;
}
