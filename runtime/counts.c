/* Counts: what the runtime counts and times on its way, for metrics. Owns numbers alone; nothing is decided by
 * them. */
#include "base/assert.h"
#include "runtime_internal.h"

void rt_counts_init(struct runtime *rt)
{
    struct runtime_counts *n = &rt->counts;
    for (uint32_t i = 0; i <= HOOK_EVERY; i++) n->hook[i].scale = HISTOGRAM_SHORT;
    n->time_to_ready.scale = n->outage.scale = HISTOGRAM_LONG;
    n->round_trip.scale = HISTOGRAM_MIDDLE;
}

const struct runtime_counts *runtime_counts(const struct runtime *rt)
{
    return &rt->counts;
}

const char *runtime_verdict_name(uint32_t index)
{
    static const char *const names[RUNTIME_VERDICTS_MAX] = { "resume", "fresh", "renew", "slow", "stop" };
    ASSERT(index < RUNTIME_VERDICTS_MAX);
    return names[index];
}

static uint32_t verdict_index(const struct decision *d)
{
    const uint32_t index = d->pace == PACE_STOP ? 4 : d->pace == PACE_SLOW ? 3 : (uint32_t)d->drop;
    ASSERT(index < RUNTIME_VERDICTS_MAX);
    return index;
}

const char *rt_verdict_of(const struct decision *d)
{
    return runtime_verdict_name(verdict_index(d));
}

void rt_count_ended(struct runtime *rt, const struct decision *d)
{
    const uint32_t verdict = verdict_index(d);
    ASSERT(d->cause.kind < CAUSE_KIND_COUNT);
    rt->counts.endings[d->cause.kind][verdict]++;
}

/* An outage lasts from the link that served to the next that does; one that somebody wished for is none. */
void rt_count_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    const uint64_t now_ms = rt_clock(rt).mono_ms;
    if (fx->state.to == CONN_UP) {
        if (c->down_ms) histogram_note(&rt->counts.outage, (now_ms - c->down_ms) * 1000);
        c->down_ms = 0;
    } else if (fx->state.from == CONN_UP) {
        const enum cause_kind kind = fx->state.cause.kind;
        if (kind != CAUSE_STOPPED && kind != CAUSE_SHUTDOWN) c->down_ms = now_ms ? now_ms : 1;
    }
    if (fx->state.to == CONN_UP) c->missed_ms = 0;
    else if (!c->missed_ms || fx->state.from == CONN_STOPPED) c->missed_ms = now_ms ? now_ms : 1;
    if (fx->state.to == CONN_STOPPED) c->down_ms = 0;
    const bool up = fx->state.to == CONN_UP;
    rt->conns_up += (uint32_t)up - (uint32_t)c->is_up;
    c->is_up = up;
}

void rt_count_ready(struct runtime *rt, const struct rt_conn *c)
{
    const uint64_t now_ms = rt_clock(rt).mono_ms;
    rt->counts.ready++;
    histogram_note(&rt->counts.time_to_ready, now_ms > c->attempt_ms ? (now_ms - c->attempt_ms) * 1000 : 0);
}

void rt_count_round_trip(struct runtime *rt, uint64_t ms)
{
    histogram_note(&rt->counts.round_trip, ms * 1000);
}

void rt_count_gone(struct runtime *rt, const struct rt_conn *c)
{
    struct runtime_counts *n = &rt->counts;
    n->gone.bytes_in += c->past.bytes_in;
    n->gone.bytes_out += c->past.bytes_out;
    n->gone.frames_in += c->past.frames_in;
    n->gone.frames_out += c->past.frames_out;
    n->events_gone += c->frames_delivered;
    n->malformed_gone += c->frames_malformed;
    n->duplicate_gone += c->frames_duplicate;
    rt->conns_up -= c->is_up;
    n->removed++;
}

uint64_t rt_ticks_us(const struct runtime *rt)
{
    const struct host *host = &rt->options.host;
    return host->ops->ticks_us ? host->ops->ticks_us(host->self) : 0;
}

void rt_count_hook(struct runtime *rt, enum hook hook, uint64_t since_us)
{
    const uint64_t now_us = rt_ticks_us(rt);
    ASSERT(hook <= HOOK_EVERY);
    if (since_us && now_us >= since_us) histogram_note(&rt->counts.hook[hook], now_us - since_us);
}

bool runtime_loop_delay(const struct runtime *rt, struct host_loop_delay *out)
{
    const struct host *host = &rt->options.host;
    if (host->ops->loop_delay) host->ops->loop_delay(host->self, out);
    return host->ops->loop_delay != NULL;
}

struct clock runtime_clock(const struct runtime *rt)
{
    struct clock now;
    rt->options.host.ops->clock(rt->options.host.self, &now);
    return now;
}

void runtime_clock_told(const struct runtime *rt)
{
    struct clock now;
    rt->options.host.ops->clock(rt->options.host.self, &now);
    if (rt->options.deliver) deliver_clock(rt->options.deliver, now.wall_ms);
}
