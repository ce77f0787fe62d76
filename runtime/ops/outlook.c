/* Outlook: what is to be expected of a connection, as JSON: the decision in force, what its budgets
 * still allow, and how long it takes at most once the network is well. Pure: appends text. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/journal.h"
#include "ops/ops_internal.h"

static bool budgets_json(struct buffer *out, const struct connection_view *view,
                         const struct connection_outlook *outlook)
{
    bool ok = buffer_append_text(out, ",\"budgets\":{"), first = true;
    for (int b = 0; ok && b < BUDGET_COUNT; b++) {
        const struct budget_view *v = &outlook->budgets[b];
        char at[TIMESTAMP_TEXT_MAX], span[DURATION_TEXT_MAX];
        if (!outlook->budget_on[b]) continue;
        ok = buffer_printf(out, "%s\"%s\":{\"used\":%" PRIu32, first ? "" : ",",
                           budget_name((enum budget_kind)b), v->used);
        if (ok && v->left != UINT32_MAX) ok = buffer_printf(out, ",\"left\":%" PRIu32, v->left);
        if (ok && v->next_ms > view->now.mono_ms && v->next_ms != ENGINE_NEVER) {
            uint64_t wall_ms = view->now.wall_ms + (v->next_ms - view->now.mono_ms);
            ok = buffer_printf(out, ",\"next\":\"%s\"", timestamp_format(wall_ms, at));
        }
        if (ok && v->hold != BUDGET_HOLD_NONE)
            ok = buffer_printf(out, ",\"held_by\":\"%s\"", budget_hold_name(v->hold));
        if (ok && v->hold == BUDGET_HOLD_WINDOW)
            ok = buffer_printf(out, ",\"window\":\"%s\",\"window_count\":%" PRIu32,
                               duration_format(v->window_ms, span), v->window_count);
        if (ok && b == BUDGET_START && v->reserve_left != UINT32_MAX && v->reserve_left > v->left)
            ok = buffer_printf(out, ",\"left_for_people\":%" PRIu32, v->reserve_left - v->left);
        ok = ok && buffer_append_char(out, '}');
        first = false;
    }
    return ok && buffer_append_char(out, '}');
}

bool outlook__json(struct buffer *out, const struct connection_view *view,
                   const struct connection_outlook *outlook)
{
    bool ok = true;
    if (view->engine.decision.cause.kind != CAUSE_NONE) {
        ok = buffer_append_text(out, ",\"decision\":{\"kind\":\"decision\"") &&
             journal__decision_json(out, &view->engine.decision) &&
             buffer_append_text(out, ",\"file\":") &&
             text_json_string(out, view->engine.plan->file, strlen(view->engine.plan->file)) &&
             buffer_append_char(out, '}');
    }
    ok = ok && budgets_json(out, view, outlook);
    if (ok && outlook->recovery_bound_ms != ENGINE_NEVER) {
        ok = buffer_printf(out, ",\"recovers_within_ms\":%" PRIu64, outlook->recovery_bound_ms);
    }
    return ok;
}
