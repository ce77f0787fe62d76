/* Trials: see trials.h. Chooses who is tried, looks at both sides when something happened, and ends it. The verdict is
 * engine/trial.c's. */
#include "trials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/rng.h"
#include "base/text.h"
#include "trials_internal.h"

#define LOOK_AFTER_MS 2000   /* an event: what comes of it, and whether others have it too, is seen by then */
#define LOOK_WEATHER_MS 1000
#define LOOK_LATE_MS 5000    /* past the window */

static void finish(struct runtime *rt, struct rt_trial *t, enum trial_end end, enum trial_outcome outcome, bool asked,
                   const char *why);

struct rt_trial *trials__find(const struct runtime *rt, const char *policy)
{
    struct rt_trial *t = rt->trials;
    while (t && strcmp(t->policy, policy) != 0) t = t->next;
    return t;
}

uint64_t trials__mono_ms(struct runtime *rt)
{
    return rt_clock(rt).mono_ms;
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
        struct engine_brief view;
        if (strcmp(policy_name(c->build->build->version), policy_name(w->before)) != 0) continue;
        if (!engine_get_brief(rt->engine, conn, &view) || !view.wanted || view.state == CONN_STOPPED) continue;
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

void trials__drop(struct runtime *rt, struct rt_trial *t)
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
    while (rt->trials) trials__drop(rt, rt->trials);
}

static void walk_begin(struct runtime *rt, struct rt_trial *t)
{
    t->walking = true;
    t->walk = 0;
    rt->options.host.ops->wake(rt->options.host.self);
}

static void replace(struct runtime *rt, const char *policy)
{
    struct rt_trial *old = trials__find(rt, policy);
    if (!old) return;
    if (old->phase == PHASE_WATCHING && old->now[SIDE_TRIED]) {
        rt_log(rt, LOG_INFO, NULL, "policy %s: the trial of v%u is over without a verdict: another version came", policy,
               policy_version_number(old->wish.after));
    }
    trials__drop(rt, old);
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
        trials__join(rt, t, c, i < tried ? SIDE_TRIED : SIDE_OTHERS);
        if (i >= tried) continue;
        trials__lately_add(&c->lately, now.mono_ms, &t->past);
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
    struct rt_trial *t = trials__find(rt, policy);
    rt_pump(rt);
    if (!t || t->phase != PHASE_WATCHING) return false;
    finish(rt, t, end, TRIAL_NO_VERDICT, true, why);
    return true;
}

void runtime_trial_forget(struct runtime *rt, const char *policy)
{
    struct rt_trial *t = trials__find(rt, policy);
    if (t) trials__drop(rt, t);
}

void runtime_trial_align(struct runtime *rt, const char *policy)
{
    struct rt_trial *t = trials__find(rt, policy);
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
    const uint64_t now_ms = trials__mono_ms(rt);
    if (t->now[SIDE_TRIED] == 0) {
        nobody_left(rt, t);
        return; /* `t` is gone */
    }
    if (!t->weather) t->fair_ms += now_ms - t->looked_ms;
    t->looked_ms = now_ms;
    t->event_ms = 0;
    t->weather = false;
    for (uint32_t i = 0; i < rt->weather.front_count && !t->weather; i++)
        t->weather = trials__weather_is_shared(rt, t, &rt->weather.fronts[i]);
    if (now_ms - t->began_ms >= t->wish.watch_ms) trials__lost_count(rt, t);
    trials__time_counted(rt, t);
    trials__facts(rt, t, &facts);
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
    const uint64_t now_ms = trials__mono_ms(rt);
    for (struct rt_trial *t = rt->trials, *next; t; t = next) {
        next = t->next;
        if (t->walking) trials__walk(rt, t);
        else if (due_ms(rt, t) <= now_ms) look(rt, t);
    }
}
