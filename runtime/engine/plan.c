/* Plans: the engine's own defaults, and the end of one. Compiling a policy into one is
 * policy/'s. */
#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static void matcher_deinit(struct cause_matcher *m);

void plan_defaults(struct plan *p)
{
    memset(p, 0, sizeof *p);
    p->limits_ms.prepare = 30000;
    p->limits_ms.call = 10000;
    p->limits_ms.resolve = 5000;
    p->limits_ms.connect = 10000;
    p->limits_ms.secure = 10000;
    p->limits_ms.upgrade = 10000;
    p->limits_ms.greeting = 20000;
    p->limits_ms.close = 1000;
    p->limits_ms.drain = 30000;
    p->ping_ms = 20000;
    p->silence_ms = 45000;
    p->beat.least_ms = 5000;
    p->beat.most_ms = 120000;
    p->beat.dead = 1;
    p->backoff.first_ms = 1000;
    p->backoff.factor = 2;
    p->backoff.most_ms = 60000;
    p->backoff.floor_ms = PLAN_FLOOR_MS_MIN;
    p->backoff.jitter = JITTER_FULL;
    p->backoff.settle_ms = 60000;
    p->slow.first_ms = 60000;
    p->slow.factor = 2;
    p->slow.most_ms = 600000;
    p->session.replay = REPLAY_NONE;
    p->close_keep = 4000;
    p->close_final = 1000;
    p->backlog.bytes_max = (uint64_t)64 << 20;
    p->backlog.age_ms = (uint64_t)24 * 3600 * 1000;
    p->backlog.hold_ms = 10000;
    p->backlog.full = BACKLOG_DROP_OLDEST;
}

void plan_deinit(struct plan *p)
{
    for (uint32_t i = 0; i < p->classify_count; i++) matcher_deinit(&p->classify[i].match);
    for (uint32_t i = 0; i < p->climb_count; i++) {
        for (uint32_t j = 0; j < p->climb[i].on_count; j++) matcher_deinit(&p->climb[i].on[j]);
        free(p->climb[i].on);
    }
    free(p->classify);
    free(p->climb);
    p->classify = NULL;
    p->climb = NULL;
    p->classify_count = p->climb_count = 0;
}

const char *drop_name(enum drop d)
{
    switch (d) {
    case DROP_RESUME: return "resume";
    case DROP_FRESH: return "fresh";
    case DROP_RENEW: return "renew";
    }
    ASSERT(!"drop");
    return "";
}

const char *pace_name(enum pace p)
{
    switch (p) {
    case PACE_NORMAL: return "normal";
    case PACE_SLOW: return "slow";
    case PACE_STOP: return "stop";
    }
    ASSERT(!"pace");
    return "";
}

const char *budget_name(enum budget_kind b)
{
    switch (b) {
    case BUDGET_START: return "start";
    case BUDGET_DIAL: return "dial";
    case BUDGET_CALL: return "call";
    case BUDGET_SEND: return "send";
    case BUDGET_COUNT: break;
    }
    ASSERT(!"budget_kind");
    return "";
}

static void matcher_deinit(struct cause_matcher *m)
{
    free(m->close);
    free(m->http);
    free(m->code);
    free(m->causes);
    free(m->reason);
    free(m->header_name);
    free(m->header_value);
    memset(m, 0, sizeof *m);
}
