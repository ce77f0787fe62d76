/* Budgets from outside the engine: what an earlier process stored of them, and a person's wish to spend the
 * share that is kept for people. Counts nothing itself: that is the engine's. */
#include <stdio.h>

#include "base/duration.h"
#include "runtime_internal.h"

void runtime_restore_permit(struct runtime *rt, uint64_t account, enum budget_kind budget, int64_t lane,
                            bool same_boot, uint64_t wall_ms, uint64_t boot_ms)
{
    engine_restore_permit(rt->engine, account, budget, lane, same_boot, wall_ms, boot_ms, rt_clock(rt));
}

void runtime_restore_told(struct runtime *rt, uint64_t account, enum budget_kind budget, int64_t left,
                          uint32_t lanes, bool same_boot, uint64_t until_wall_ms, uint64_t until_boot_ms)
{
    engine_restore_told(rt->engine, account, budget, left, lanes, same_boot, until_wall_ms, until_boot_ms,
                        rt_clock(rt));
}

bool runtime_start_reserve(struct runtime *rt, struct handle conn, char *why, size_t why_bytes)
{
    struct rt_conn *c = rt_conn_get(rt, conn);
    struct engine_view view;
    struct budget_view budget;
    struct clock now = rt_clock(rt);
    if (!c || !engine_get(rt->engine, conn, &view)) {
        snprintf(why, why_bytes, "there is no such connection");
        return false;
    }
    if (view.state == CONN_UP) {
        snprintf(why, why_bytes, "%s is up: there is nothing to start", c->name);
        return false;
    }
    if (!view.plan->budgets[BUDGET_START].on ||
        !engine_budget(rt->engine, conn, BUDGET_START, now, &budget)) {
        snprintf(why, why_bytes, "the policy of %s has no budget of session starts: start it without",
                 c->name);
        return false;
    }
    if (budget.reserve_left == 0) {
        char at[TIMESTAMP_TEXT_MAX], in[DURATION_TEXT_MAX];
        uint64_t ms = budget.reserve_next_ms > now.mono_ms ? budget.reserve_next_ms - now.mono_ms : 0;
        snprintf(why, why_bytes, "nothing is left of the session starts of %s, nor of the share for people: "
                 "the next one comes at %s, in %s", c->name, timestamp_format(now.wall_ms + ms, at),
                 duration_format((ms + 999) / 1000 * 1000, in));
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "an operator asked for the share that is kept for people: %s",
                        why);
        return false;
    }
    rt_journal_note(rt, c, 0, JOURNAL_NOTE, "an operator lets the next session start be of the share that is "
                    "kept for people: %u left with it, %u without", budget.reserve_left, budget.left);
    struct event ev = rt_event(EV_START_REQUESTED, conn, 0);
    ev.start.spend_reserve = true;
    rt_post(rt, &ev);
    rt->options.host.ops->wake(rt->options.host.self);
    return true;
}
