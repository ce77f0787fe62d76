/* Log limit: how many lines about one kind of cause at one stage are written in ten seconds; the others are
 * counted, and the count is told. A storm of five thousand connections then costs a few lines a second and not
 * the disk. Pure: `now_ms` comes in; an instance that is all zeros is empty. */
#ifndef HOLDFAST_OPS_LOG_LIMIT_H
#define HOLDFAST_OPS_LOG_LIMIT_H

#include "engine/cause.h"

#define LOG_LIMIT_WINDOW_MS 10000u
#define LOG_LIMIT_LINES 50u   /* of each kind and stage, in a window */
#define LOG_LIMIT_ALARMS 500u /* alarms are not held to less than this */

struct log_limit {
    uint64_t window_ms; /* when this window began */
    uint32_t written[CAUSE_KIND_COUNT][STAGE_COUNT];
    uint32_t left_out[CAUSE_KIND_COUNT][STAGE_COUNT];
    uint32_t left_out_now; /* of this window */
    uint64_t left_out_total;
};

/* False: the line is counted instead of written. */
bool log_limit_allows(struct log_limit *l, enum cause_kind kind, enum stage stage, bool alarm);
/* At the end of a window, or of everything: says what was left out, and begins the next. */
void log_limit_turn(struct log_limit *l, uint64_t now_ms, void (*say)(void *to, const char *text), void *to);
bool log_limit_is_due(const struct log_limit *l, uint64_t now_ms);

#endif
