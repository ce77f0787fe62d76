/* Trials: see trials.h. One walk brings each connection of the policy to the version that it should have: at the begin, at
 * the end, and after somebody else swapped; in slices, between the steps of the loop. Counts come from where weather and
 * metrics have theirs. The verdict is engine/trial.c's. */
#include "trials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/rng.h"
#include "base/text.h"
#include "runtime_internal.h"

#define WALK_SLICE 64        /* connections swapped in one tick, */
#define WALK_MS_MAX 5        /* or for so long */
#define LOOK_AFTER_MS 2000   /* an event: what comes of it, and whether others have it too, is seen by then */
#define LOOK_WEATHER_MS 1000
#define LOOK_LATE_MS 5000    /* past the window */
#define PAST_MS ((uint64_t)3600 * 1000)
#define REHEARSE_MS 1000

enum side { SIDE_NONE, SIDE_TRIED, SIDE_OTHERS };
enum phase { PHASE_WATCHING, PHASE_ADOPTING, PHASE_TAKING_BACK };

#define SAMPLES_MAX 256

struct samples {
    uint32_t ms[SAMPLES_MAX]; /* a ring: the newest */
    uint32_t count;           /* that ever came */
};

struct rt_trial {
    struct rt_trial *next;
    char policy[64];
    struct trial_wish wish;   /* versions: references */
    enum phase phase;
    uint64_t began_ms, began_wall_ms;
    uint64_t looked_ms, fair_ms;
    uint64_t event_ms;        /* the first that was not looked at; 0 */
    bool weather;
    struct trial_side sides[3]; /* by enum side; `ms` up to counted_ms */
    uint32_t now[3];          /* members now */
    uint64_t counted_ms;
    struct trial_side past;
    struct samples ready[3];
    char error[200];
    char waits[TRIAL_WHY_MAX], why[TRIAL_WHY_MAX];
    bool walking, rehearsed;
    uint32_t walk;            /* index of the next connection */
};

static void finish(struct runtime *rt, struct rt_trial *t, enum trial_end end, enum trial_outcome outcome, bool asked,
                   const char *why);
static void look(struct runtime *rt, struct rt_trial *t);
static void walk(struct runtime *rt, struct rt_trial *t);

static struct rt_trial *find(const struct runtime *rt, const char *policy)
{
    struct rt_trial *t = rt->trials;
    while (t && strcmp(t->policy, policy) != 0) t = t->next;
    return t;
}

static uint64_t mono_ms(struct runtime *rt)
{
    return rt_clock(rt).mono_ms;
}

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

static void lately_add(struct rt_lately *p, uint64_t now_ms, struct trial_side *out)
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

static void time_counted(struct runtime *rt, struct rt_trial *t)
{
    const uint64_t now_ms = mono_ms(rt), spent_ms = now_ms - t->counted_ms;
    for (int s = SIDE_TRIED; s <= SIDE_OTHERS; s++) t->sides[s].ms += spent_ms * t->now[s];
    t->counted_ms = now_ms;
}

static bool is_up(const struct runtime *rt, const struct rt_conn *c)
{
    struct engine_view view;
    return engine_get(rt->engine, c->self, &view) && view.state == CONN_UP;
}

static void join(struct runtime *rt, struct rt_trial *t, struct rt_conn *c, enum side side)
{
    time_counted(rt, t);
    c->trial = t;
    c->trial_side = (uint8_t)side;
    c->trial_well = is_up(rt, c);
    c->trial_endings = 0;
    c->trial_errors = c->trial_stopped = false;
    c->trial_since_ms = mono_ms(rt);
    t->sides[side].connections++;
    t->now[side]++;
}

static void leave(struct runtime *rt, struct rt_conn *c)
{
    struct rt_trial *t = c->trial;
    if (!t) return;
    time_counted(rt, t);
    ASSERT(t->now[c->trial_side] > 0);
    t->now[c->trial_side]--;
    c->trial = NULL;
    c->trial_side = SIDE_NONE;
    /* Nobody is left to say anything of it. */
    if (t->phase == PHASE_WATCHING && t->now[SIDE_TRIED] == 0) t->event_ms = 1;
}

static bool is_of(const struct rt_conn *c, const struct rt_trial *t)
{
    return strcmp(policy_name(c->build->build->version), t->policy) == 0;
}

static bool runs(const struct rt_conn *c, const struct policy_version *v)
{
    return c->build->build->version == v;
}

/* The side that an event of this connection counts for; NONE: none. */
static enum side counts_for(const struct rt_conn *c)
{
    const struct rt_trial *t = c->trial;
    if (!t || t->phase != PHASE_WATCHING) return SIDE_NONE;
    const struct policy_version *v = c->trial_side == SIDE_TRIED ? t->wish.after : t->wish.before;
    return runs(c, v) ? (enum side)c->trial_side : SIDE_NONE;
}

static void event_came(struct runtime *rt, struct rt_trial *t)
{
    if (!t->event_ms) t->event_ms = mono_ms(rt);
}

/* --- what happens, as dispatch, tasks and connections tell ------------------------------------------------------- */

void rt_trial_hook_failed(struct runtime *rt, struct rt_conn *c, const struct policy_version *ran, const char *error)
{
    const enum side side = counts_for(c);
    struct rt_trial *t = c->trial;
    if (side != SIDE_TRIED) {
        lately_turn(&c->lately, mono_ms(rt));
        lately_note(&c->lately.hook_errors[0]);
    }
    if (side == SIDE_NONE || !runs(c, ran)) return; /* what the other version began is its own */
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
        lately_turn(&c->lately, mono_ms(rt));
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
    const uint64_t now_ms = mono_ms(rt), ms = now_ms > c->attempt_ms ? now_ms - c->attempt_ms : 0;
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
static bool weather_is_shared(const struct runtime *rt, const struct rt_trial *t, const struct weather_front *f)
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

static void lost_count(const struct runtime *rt, struct rt_trial *t)
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

static void facts_of(const struct runtime *rt, const struct rt_trial *t, struct trial_facts *out)
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

/* --- begin ---------------------------------------------------------------------------------------------------------- */

struct candidate {
    struct rt_conn *c;
    int liking, order;
    uint64_t draw;
};

static int by_wish(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->liking != y->liking) return x->liking > y->liking ? -1 : 1;
    if (x->order != y->order) return x->order - y->order;
    if (x->draw != y->draw) return x->draw < y->draw ? -1 : 1;
    return strcmp(x->c->name, y->c->name);
}

/* All that run by this policy, those to be tried first in front. Owned. */
static struct candidate *candidates(const struct runtime *rt, const struct trial_wish *w, uint32_t *all, uint32_t *willing)
{
    struct candidate *list = calloc(rt->conn_count + 1, sizeof *list);
    struct handle conn;
    ASSERT(list != NULL);
    *all = *willing = 0;
    for (uint32_t i = 0; runtime_next(rt, &i, &conn); i++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        struct engine_view view;
        if (strcmp(policy_name(c->build->build->version), policy_name(w->before)) != 0) continue;
        if (!engine_get(rt->engine, conn, &view) || !view.wanted || view.state == CONN_STOPPED) continue;
        struct candidate *k = &list[(*all)++];
        k->c = c;
        k->liking = w->liking ? w->liking(w->self, c->name) : TRIAL_ANY;
        k->order = view.state != CONN_UP ? 2 : !view.settled;
        k->draw = rng_mix(c->name_hash ^ policy_text_hash(w->after));
        *willing += k->liking != TRIAL_NEVER;
    }
    qsort(list, *all, sizeof *list, by_wish);
    return list;
}

static void drop(struct runtime *rt, struct rt_trial *t)
{
    struct handle conn;
    struct rt_trial **at = &rt->trials;
    for (uint32_t i = 0; runtime_next(rt, &i, &conn); i++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        if (c->trial != t) continue;
        c->trial = NULL;
        c->trial_side = SIDE_NONE;
    }
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    policy_unref(t->wish.before);
    policy_unref(t->wish.after);
    free(t);
}

void rt_trials_free(struct runtime *rt)
{
    while (rt->trials) drop(rt, rt->trials);
}

static void walk_begin(struct runtime *rt, struct rt_trial *t)
{
    t->walking = true;
    t->walk = 0;
    rt->options.host.ops->wake(rt->options.host.self);
}

static void replace(struct runtime *rt, const char *policy)
{
    struct rt_trial *old = find(rt, policy);
    if (!old) return;
    if (old->phase == PHASE_WATCHING && old->now[SIDE_TRIED]) {
        rt_log(rt, LOG_INFO, NULL, "policy %s: the trial of v%u is over without a verdict: another version came", policy,
               policy_version_number(old->wish.after));
    }
    drop(rt, old);
}

bool runtime_trial_begin(struct runtime *rt, const struct trial_wish *wish)
{
    uint32_t all, willing;
    const char *policy = policy_name(wish->before);
    ASSERT(wish->before != wish->after && wish->share > 0 && wish->share <= 1 && wish->watch_ms > 0);
    rt_pump(rt);
    struct candidate *list = candidates(rt, wish, &all, &willing);
    struct rt_trial *t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    t->wish = *wish;
    policy_ref(t->wish.before);
    policy_ref(t->wish.after);
    replace(rt, policy); /* may let go of the wish's own versions */
    policy = t->policy;
    struct clock now = rt_clock(rt);
    text_copy(t->policy, sizeof t->policy, policy_name(t->wish.before), strlen(policy_name(t->wish.before)));
    t->began_ms = t->looked_ms = t->counted_ms = now.mono_ms;
    t->began_wall_ms = now.wall_ms;
    t->next = rt->trials;
    rt->trials = t;
    uint32_t tried = trial_count(all, wish->share);
    if (tried > willing) tried = willing;
    for (uint32_t i = 0; i < all && tried; i++) {
        struct rt_conn *c = list[i].c;
        join(rt, t, c, i < tried ? SIDE_TRIED : SIDE_OTHERS);
        if (i >= tried) continue;
        lately_add(&c->lately, now.mono_ms, &t->past);
        if (c->lately.ready_known && t->ready[SIDE_NONE].count < SAMPLES_MAX)
            t->ready[SIDE_NONE].ms[t->ready[SIDE_NONE].count++] = c->lately.ready_ms;
    }
    free(list);
    if (!tried) {
        finish(rt, t, TRIAL_ADOPTED, TRIAL_NO_VERDICT, false,
               all ? "untried, because no connection of it may be tried (trial = false)" : "untried, because no connection of it runs");
        return false;
    }
    char watch[DURATION_TEXT_MAX];
    rt_log(rt, LOG_INFO, NULL, "policy %s: v%u is on trial for %s on %u of %u connection%s; v%u serves the others", policy,
           policy_version_number(t->wish.after), duration_format(t->wish.watch_ms, watch), tried, all, all == 1 ? "" : "s",
           policy_version_number(t->wish.before));
    walk_begin(rt, t);
    return true;
}

/* --- end ------------------------------------------------------------------------------------------------------------- */

static void finish(struct runtime *rt, struct rt_trial *t, enum trial_end end, enum trial_outcome outcome, bool asked,
                   const char *why)
{
    const uint32_t before = policy_version_number(t->wish.before), after = policy_version_number(t->wish.after);
    ASSERT(t->phase == PHASE_WATCHING);
    text_copy(t->why, sizeof t->why, why, strlen(why));
    t->phase = end == TRIAL_ADOPTED ? PHASE_ADOPTING : PHASE_TAKING_BACK;
    if (end == TRIAL_ADOPTED) {
        rt_log(rt, LOG_INFO, NULL, "policy %s: v%u is adopted: %s", t->policy, after, t->why);
    } else {
        rt_log(rt, asked ? LOG_WARNING : LOG_ALARM, NULL, "policy %s: v%u is taken back, v%u goes on: %s", t->policy, after, before,
               t->why);
    }
    if (end == TRIAL_ADOPTED) rt->counts.trials_adopted++;
    else rt->counts.trials_taken_back++;
    struct trial_over over = { .policy = t->policy, .before = t->wish.before, .after = t->wish.after, .end = end,
                               .outcome = outcome, .asked = asked, .why = t->why };
    if (t->wish.over) t->wish.over(t->wish.self, &over);
    walk_begin(rt, t);
}

bool runtime_trial_end(struct runtime *rt, const char *policy, enum trial_end end, const char *why)
{
    struct rt_trial *t = find(rt, policy);
    rt_pump(rt);
    if (!t || t->phase != PHASE_WATCHING) return false;
    finish(rt, t, end, TRIAL_NO_VERDICT, true, why);
    return true;
}

void runtime_trial_forget(struct runtime *rt, const char *policy)
{
    struct rt_trial *t = find(rt, policy);
    if (t) drop(rt, t);
}

void runtime_trial_align(struct runtime *rt, const char *policy)
{
    struct rt_trial *t = find(rt, policy);
    if (t) walk_begin(rt, t);
}

/* All tried ones are gone: whoever is left is tried, and the window begins anew. */
static void nobody_left(struct runtime *rt, struct rt_trial *t)
{
    const struct trial_wish wish = t->wish;
    runtime_trial_begin(rt, &wish);
}

static void look(struct runtime *rt, struct rt_trial *t)
{
    struct trial_facts facts;
    char why[TRIAL_WHY_MAX];
    const uint64_t now_ms = mono_ms(rt);
    if (t->now[SIDE_TRIED] == 0) {
        nobody_left(rt, t);
        return; /* `t` is gone */
    }
    if (!t->weather) t->fair_ms += now_ms - t->looked_ms;
    t->looked_ms = now_ms;
    t->event_ms = 0;
    t->weather = false;
    for (uint32_t i = 0; i < rt->weather.front_count && !t->weather; i++)
        t->weather = weather_is_shared(rt, t, &rt->weather.fronts[i]);
    if (now_ms - t->began_ms >= t->wish.watch_ms) lost_count(rt, t);
    time_counted(rt, t);
    facts_of(rt, t, &facts);
    facts.error = t->error;
    const enum trial_outcome outcome = trial_judge(&facts, why);
    if (outcome == TRIAL_GOES_ON) {
        text_copy(t->waits, sizeof t->waits, why, strlen(why));
        return;
    }
    if (outcome == TRIAL_NO_VERDICT) {
        char whole[TRIAL_WHY_MAX + 64], span[DURATION_TEXT_MAX];
        snprintf(whole, sizeof whole, "no verdict after %s: %s", duration_span(facts.all_ms, span), why);
        finish(rt, t, TRIAL_TAKEN_BACK, outcome, false, whole);
        return;
    }
    finish(rt, t, outcome == TRIAL_GOOD ? TRIAL_ADOPTED : TRIAL_TAKEN_BACK, outcome, false, why);
}

/* --- the walk -------------------------------------------------------------------------------------------------------- */

static struct policy_version *version_for(const struct rt_trial *t, const struct rt_conn *c)
{
    switch (t->phase) {
    case PHASE_WATCHING: return c->trial == t && c->trial_side == SIDE_TRIED ? t->wish.after : t->wish.before;
    case PHASE_ADOPTING: return t->wish.after;
    case PHASE_TAKING_BACK: return t->wish.before;
    }
    return t->wish.before;
}

static void tell(struct runtime *rt, struct rt_trial *t, struct rt_conn *c, enum side was)
{
    const uint32_t before = policy_version_number(t->wish.before), after = policy_version_number(t->wish.after);
    char watch[DURATION_TEXT_MAX];
    if (t->phase == PHASE_WATCHING && was == SIDE_TRIED) {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "on trial: goes on with %s v%u for %s, as one of %u of %u connections", t->policy, after,
                        duration_format(t->wish.watch_ms, watch), t->sides[SIDE_TRIED].connections,
                        t->sides[SIDE_TRIED].connections + t->sides[SIDE_OTHERS].connections);
    } else if (t->phase == PHASE_WATCHING) {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "goes on with %s v%u: v%u is on trial on others", t->policy, before, after);
    } else if (t->phase == PHASE_ADOPTING && t->sides[SIDE_TRIED].connections == 0) {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "goes on with %s v%u, %s", t->policy, after, t->why);
    } else if (t->phase == PHASE_ADOPTING) {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "goes on with %s v%u, which was on trial and is adopted: %s", t->policy, after, t->why);
    } else {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "%s v%u is taken back, goes on with v%u: %s", t->policy, after, before, t->why);
    }
}

/* True when it was swapped. */
static bool align(struct runtime *rt, struct rt_trial *t, struct rt_conn *c)
{
    struct policy_version *v = version_for(t, c);
    const struct handle self = c->self;
    const enum side was = (enum side)c->trial_side;
    const bool stopped = c->trial_stopped && was == SIDE_TRIED && t->phase == PHASE_TAKING_BACK;
    if (runs(c, v)) {
        /* Its values of the trial were its own; now it shares them with those that are swapped. */
        if (t->phase == PHASE_ADOPTING && was == SIDE_TRIED) {
            rt_fetch_drop(rt, c, "");
            rt_journal_note(rt, c, 0, JOURNAL_NOTE, "%s v%u, which was on trial, is adopted: %s", t->policy,
                            policy_version_number(v), t->why);
        }
        return false;
    }
    struct policy_build *build = t->wish.build(t->wish.self, self, c->name, v);
    if (!build) {
        rt_log(rt, LOG_WARNING, c, "cannot go on with %s v%u: its settings do not fit", t->policy, policy_version_number(v));
        return false;
    }
    runtime_swap(rt, self, build);
    if (!(c = rt_conn_get(rt, self))) return true;
    if (t->phase == PHASE_WATCHING && c->trial == t) c->trial_since_ms = mono_ms(rt);
    tell(rt, t, c, was);
    if (!stopped) return true;
    /* The version that gave it up for good is gone, and what it said with it. */
    struct engine_view view;
    if (!engine_get(rt->engine, self, &view) || !view.stop_is_fatal) return true;
    struct event ev = rt_event(EV_START_REQUESTED, self, 0);
    rt_post(rt, &ev);
    return true;
}

static void rehearse(struct runtime *rt, struct rt_trial *t)
{
    struct handle conn;
    if (!t->wish.rehearse || t->rehearsed || t->phase != PHASE_WATCHING) return;
    t->rehearsed = true;
    for (uint32_t i = 0; runtime_next(rt, &i, &conn); i++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        if (c->trial != t || c->trial_side != SIDE_TRIED || !c->links || !c->links->ready) continue;
        if (!c->build->build->plan->overlap) break;
        struct event ev = rt_event(EV_RETIRE_SET, conn, c->links->generation);
        ev.retire_set.after_ms = REHEARSE_MS;
        rt_post(rt, &ev);
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "its link is replaced by plan, so that %s v%u is put to the test", t->policy,
                        policy_version_number(t->wish.after));
        return;
    }
    rt_log(rt, LOG_INFO, NULL, "policy %s: no tried link is replaced: none is up, or the policy allows no overlap", t->policy);
}

static void walk(struct runtime *rt, struct rt_trial *t)
{
    const uint64_t until_ms = mono_ms(rt) + WALK_MS_MAX;
    struct handle conn;
    for (uint32_t n = 0; n < WALK_SLICE && mono_ms(rt) < until_ms && runtime_next(rt, &t->walk, &conn); t->walk++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        if (is_of(c, t)) n += align(rt, t, c);
    }
    if (t->walk < rt->conns_max) return;
    t->walking = false;
    if (t->phase == PHASE_WATCHING) rehearse(rt, t);
    else drop(rt, t);
}

/* --- time --------------------------------------------------------------------------------------------------------------- */

static uint64_t due_ms(const struct runtime *rt, const struct rt_trial *t)
{
    if (t->walking) return 0;
    uint64_t due = t->began_ms + t->wish.watch_ms;
    if (due <= t->looked_ms) due = t->looked_ms + LOOK_LATE_MS;
    if (t->event_ms && t->event_ms + LOOK_AFTER_MS < due) due = t->event_ms + LOOK_AFTER_MS;
    const bool weather = t->weather || rt->weather.front_count > 0;
    if (weather && t->looked_ms + LOOK_WEATHER_MS < due) due = t->looked_ms + LOOK_WEATHER_MS;
    return due;
}

/* Links that we close say nothing of a version. */
static bool is_held(const struct runtime *rt)
{
    return rt->trials_held || rt->shutting_down;
}

void runtime_trials_hold(struct runtime *rt, bool on)
{
    rt->trials_held = on;
    if (!on && rt->trials) rt->options.host.ops->wake(rt->options.host.self);
}

uint64_t rt_trials_due_ms(const struct runtime *rt)
{
    uint64_t due = ENGINE_NEVER;
    for (const struct rt_trial *t = is_held(rt) ? NULL : rt->trials; t; t = t->next) {
        const uint64_t one = due_ms(rt, t);
        if (one < due) due = one;
    }
    return due;
}

void rt_trials_tick(struct runtime *rt)
{
    if (!rt->trials || is_held(rt)) return;
    const uint64_t now_ms = mono_ms(rt);
    for (struct rt_trial *t = rt->trials, *next; t; t = next) {
        next = t->next;
        if (t->walking) walk(rt, t);
        else if (due_ms(rt, t) <= now_ms) look(rt, t);
    }
}

/* --- views ----------------------------------------------------------------------------------------------------------------- */

static uint64_t until_wall_ms(const struct rt_trial *t, uint64_t now_mono_ms)
{
    const uint64_t fair_ms = t->fair_ms + (t->weather ? 0 : now_mono_ms - t->looked_ms);
    const uint64_t left = t->wish.watch_ms > fair_ms ? t->wish.watch_ms - fair_ms : 0;
    return t->began_wall_ms + (now_mono_ms - t->began_ms) + left;
}

static void view_of(const struct runtime *rt, const struct rt_trial *t, struct runtime_trial *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->policy, t->policy, sizeof out->policy);
    out->before = policy_version_number(t->wish.before);
    out->after = policy_version_number(t->wish.after);
    out->watching = t->phase == PHASE_WATCHING;
    out->share = t->wish.share;
    out->watch_ms = t->wish.watch_ms;
    out->began_wall_ms = t->began_wall_ms;
    memcpy(out->waits, t->waits, sizeof out->waits);
    facts_of(rt, t, &out->facts);
    out->until_wall_ms = until_wall_ms(t, runtime_clock(rt).mono_ms);
}

void rt_trial_text(const struct runtime *rt, const struct rt_conn *c, char *out, size_t out_bytes)
{
    char until[TIMESTAMP_TEXT_MAX];
    out[0] = 0;
    if (!runtime_trial_tries(rt, c->self)) return;
    const struct rt_trial *t = c->trial;
    snprintf(out, out_bytes, "runs %s v%u, which is on trial on %u of %u until %s at least; v%u serves the others", t->policy,
             policy_version_number(t->wish.after), t->sides[SIDE_TRIED].connections,
             t->sides[SIDE_TRIED].connections + t->sides[SIDE_OTHERS].connections,
             timestamp_format(until_wall_ms(t, runtime_clock(rt).mono_ms), until), policy_version_number(t->wish.before));
}

bool runtime_trial_next(const struct runtime *rt, uint32_t *index, struct runtime_trial *out)
{
    uint32_t n = 0;
    for (const struct rt_trial *t = rt->trials; t; t = t->next) {
        if (n++ != *index) continue;
        view_of(rt, t, out);
        return true;
    }
    return false;
}

bool runtime_trial_find(const struct runtime *rt, const char *policy, struct runtime_trial *out)
{
    const struct rt_trial *t = find(rt, policy);
    if (t) view_of(rt, t, out);
    return t != NULL;
}

struct policy_version *runtime_trial_after(const struct runtime *rt, const char *policy)
{
    const struct rt_trial *t = find(rt, policy);
    return t && t->phase == PHASE_WATCHING ? t->wish.after : NULL;
}

bool runtime_trial_tries(const struct runtime *rt, struct handle conn)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    return c && c->trial && c->trial_side == SIDE_TRIED && c->trial->phase == PHASE_WATCHING;
}
