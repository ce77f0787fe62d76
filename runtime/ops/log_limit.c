/* Log limit: see log_limit.h. */
#include "ops/log_limit.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

bool log_limit_allows(struct log_limit *l, enum cause_kind kind, enum stage stage, bool alarm)
{
    ASSERT(kind < CAUSE_KIND_COUNT);
    ASSERT(stage < STAGE_COUNT);
    if (l->written[kind][stage] < (alarm ? LOG_LIMIT_ALARMS : LOG_LIMIT_LINES)) {
        l->written[kind][stage]++;
        return true;
    }
    l->left_out[kind][stage]++;
    l->left_out_now++;
    l->left_out_total++;
    return false;
}

bool log_limit_is_due(const struct log_limit *l, uint64_t now_ms)
{
    return now_ms - l->window_ms >= LOG_LIMIT_WINDOW_MS;
}

void log_limit_turn(struct log_limit *l, uint64_t now_ms, void (*say)(void *to, const char *text), void *to)
{
    char text[160];
    for (int kind = 0; l->left_out_now && kind < CAUSE_KIND_COUNT; kind++) {
        for (int stage = 0; stage < STAGE_COUNT; stage++) {
            if (!l->left_out[kind][stage]) continue;
            snprintf(text, sizeof text, "%u more lines like these were left out: cause %s, stage %s", l->left_out[kind][stage],
                     cause_kind_name((enum cause_kind)kind), stage_name((enum stage)stage));
            say(to, text);
        }
    }
    memset(l->written, 0, sizeof l->written);
    memset(l->left_out, 0, sizeof l->left_out);
    l->left_out_now = 0;
    l->window_ms = now_ms;
}
