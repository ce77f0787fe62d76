/* Trials, shown: to status, why, the API and metrics. Changes nothing. */
#include <stdio.h>
#include <string.h>

#include "base/duration.h"
#include "trials_internal.h"

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
    trials__facts(rt, t, &out->facts);
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
    const struct rt_trial *t = trials__find(rt, policy);
    if (t) view_of(rt, t, out);
    return t != NULL;
}

struct policy_version *runtime_trial_after(const struct runtime *rt, const char *policy)
{
    const struct rt_trial *t = trials__find(rt, policy);
    return t && t->phase == PHASE_WATCHING ? t->wish.after : NULL;
}

bool runtime_trial_tries(const struct runtime *rt, struct handle conn)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    return c && c->trial && c->trial_side == SIDE_TRIED && c->trial->phase == PHASE_WATCHING;
}
