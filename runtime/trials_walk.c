/* Trials, swapped: one walk brings each connection of the policy to the version that it should have: at the begin, at the
 * end, and after somebody else swapped; in slices, between the steps of the loop. */
#include <string.h>

#include "base/duration.h"
#include "trials_internal.h"

#define WALK_SLICE 64        /* connections swapped in one tick, */
#define WALK_MS_MAX 5        /* or for so long */
#define REHEARSE_MS 1000

static bool is_of(const struct rt_conn *c, const struct rt_trial *t)
{
    return strcmp(policy_name(c->build->build->version), t->policy) == 0;
}

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
    if (trials__runs(c, v)) {
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
    if (t->phase == PHASE_WATCHING && c->trial == t) c->trial_since_ms = trials__mono_ms(rt);
    tell(rt, t, c, was);
    if (!stopped) return true;
    /* The version that gave it up for good is gone, and what it said with it. */
    struct engine_brief view;
    if (!engine_get_brief(rt->engine, self, &view) || !view.stop_is_fatal) return true;
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

void trials__walk(struct runtime *rt, struct rt_trial *t)
{
    const uint64_t until_ms = trials__mono_ms(rt) + WALK_MS_MAX;
    struct handle conn;
    for (uint32_t n = 0; n < WALK_SLICE && trials__mono_ms(rt) < until_ms && runtime_next(rt, &t->walk, &conn); t->walk++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        if (is_of(c, t)) n += align(rt, t, c);
    }
    if (t->walk < rt->conns_max) return;
    t->walking = false;
    if (t->phase == PHASE_WATCHING) rehearse(rt, t);
    else trials__drop(rt, t);
}
