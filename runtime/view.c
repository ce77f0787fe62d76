/* Views: what is true of a connection now, as a plain copy and as JSON. Read only. */
#include <stdio.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "runtime_internal.h"

static void copy_text(char *out, size_t out_bytes, const char *text)
{
    text_copy(out, out_bytes, text, strlen(text));
}

/* Whichever probe was answered last says how long the way is. */
static void round_trip_look(const struct rt_link *l, struct connection_view *out)
{
    const struct engine_view *e = &out->engine;
    const bool beat = e->beats_answered > 0, ping = l->ping_answered;
    if (!beat && !ping) return;
    out->round_trip_known = true;
    out->round_trip_of_ping = ping && (!beat || l->pulse.last_pong_ms > e->beat_answered_ms);
    out->round_trip_ms = out->round_trip_of_ping ? l->ping_round_trip_ms : e->last_round_trip_ms;
}

static void life_look(const struct runtime *rt, const struct rt_conn *c, bool words, struct connection_view *out)
{
    const struct host_ops *host = rt->options.host.ops;
    void *self = rt->options.host.self;
    const struct engine_view *e = &out->engine;
    struct life_facts facts = { .now_ms = out->now.mono_ms, .last_event_ms = c->last_event_ms };
    char down[96], span[DURATION_TEXT_MAX];
    const struct rt_link *l = c->links;
    facts.up = e->state == CONN_UP && l;
    if (host->loop_delay) {
        host->loop_delay(self, &out->loop);
        out->loop_known = true;
        facts.loop_delay_ms = out->loop.worst_us / 1000;
    }
    if (l) {
        round_trip_look(l, out);
        out->kernel_known = host->link_info && host->link_info(self, rt_link_id(l), &out->kernel);
    }
    if (!facts.up && words) {
        const uint64_t ms = out->now.mono_ms > e->since_mono_ms ? out->now.mono_ms - e->since_mono_ms : 0;
        snprintf(down, sizeof down, "%s for %s%s", conn_state_name(e->state), duration_span(ms, span),
                 e->wanted ? "" : ", as an operator wanted");
        facts.down = down;
        life_judge(&facts, &out->life);
        return;
    }
    if (!facts.up) {
        out->life.verdict = life_verdict(&facts);
        return;
    }
    facts.ready_ms = e->ready_ms;
    for (const struct rt_link *each = l; each; each = each->next) facts.event_here = facts.event_here || each->delivered;
    facts.last_byte_ms = l->pulse.last_byte_ms;
    facts.last_pong_ms = l->pulse.last_pong_ms;
    facts.last_answer_ms = e->beat_answered_ms;
    facts.ping_since_ms = e->ping_since_ms;
    facts.beat_since_ms = e->beat_pending ? e->beat_sent_ms : 0;
    facts.beat_due_ms = e->beat_pending ? e->beat_due_ms : 0;
    facts.beats_missed = e->beats_missed;
    facts.beats_dead = e->plan->beat.dead;
    facts.silence_ms = e->plan->silence_ms;
    facts.silence_due_ms = e->silence_due_ms;
    facts.promised = e->plan->promised;
    facts.round_trip_known = out->round_trip_known;
    facts.round_trip_ms = out->round_trip_ms;
    facts.paused = l->pauses != 0;
    facts.kernel = out->kernel_known;
    facts.kernel_repeats = out->kernel.repeats;
    facts.kernel_unacked = out->kernel.unacked;
    if (words) life_judge(&facts, &out->life);
    else out->life.verdict = life_verdict(&facts);
}

/* What fails alike for many tells more than one of them can. */
static enum blame whose(const struct engine_view *e, const struct weather_front *front)
{
    const bool same = e->decision.cause.kind == e->cause.kind;
    const enum blame b = blame_of(&e->cause, same && e->decision.planned, same ? e->decision.note : "");
    if (!front || (b != BLAME_WAY && b != BLAME_NETWORK)) return b;
    switch (front->scope) {
    case WEATHER_MACHINE: return BLAME_MACHINE;
    case WEATHER_NETWORK: return BLAME_NETWORK;
    case WEATHER_PLATFORM:
    case WEATHER_HOST: return BLAME_PLATFORM;
    default: return b;
    }
}

/* It was added, and the engine has not been told to start it: from outside, it waits for its turn as the others do. */
static void start_is_due(struct connection_view *out)
{
    out->engine.state = CONN_PREPARING;
    out->engine.wanted = out->engine.awaits_turn = true;
    out->engine.next = "turn";
    out->engine.deadline_ms = out->now.mono_ms + ENGINE_TURN_MS;
}

static bool view(const struct runtime *rt, struct handle conn, bool words, struct connection_view *out)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    memset(out, 0, sizeof *out);
    if (!c || !engine_get(rt->engine, conn, &out->engine)) return false;
    const struct policy_version *version = c->build->build->version;
    copy_text(out->name, sizeof out->name, c->name);
    copy_text(out->policy, sizeof out->policy, policy_name(version));
    copy_text(out->policy_path, sizeof out->policy_path, policy_path(version));
    out->policy_version = policy_version_number(version);
    rt->options.host.ops->clock(rt->options.host.self, &out->now);
    if (rt_start_is_due(rt, c)) start_is_due(out);
    if (c->links) {
        out->pulse = c->links->pulse;
        copy_text(out->address, sizeof out->address, c->links->shown);
    }
    out->total = c->past;
    for (const struct rt_link *l = c->links; l; l = l->next) {
        out->total.bytes_in += l->pulse.bytes_in;
        out->total.bytes_out += l->pulse.bytes_out;
        out->total.frames_in += l->pulse.frames_in;
        out->total.frames_out += l->pulse.frames_out;
    }
    const struct weather_front *front = rt_weather_front(rt, c);
    if (front && words) weather_text(front, out->weather);
    out->whose = whose(&out->engine, front);
    out->turn_ahead = rt_turn_ahead(rt, c);
    if (words) rt_trial_text(rt, c, out->trial, sizeof out->trial);
    if (c->missed_ms && c->missed_ms < out->now.mono_ms) out->down_for_ms = out->now.mono_ms - c->missed_ms;
    out->last_event_ms = c->last_event_ms;
    life_look(rt, c, words, out);
    out->frames_delivered = c->frames_delivered;
    out->frames_malformed = c->frames_malformed;
    out->frames_duplicate = c->frames_duplicate;
    out->parts_refused = c->parts_refused;
    out->frames_other = c->frames_other;
    out->kept_in = runtime_store_kind(rt);
    if (rt->options.deliver) deliver_stream_get(rt->options.deliver, c->stream, &out->backlog);
    copy_text(out->warning, sizeof out->warning, c->warning);
    return true;
}

bool runtime_view(const struct runtime *rt, struct handle conn, struct connection_view *out)
{
    return view(rt, conn, true, out);
}

bool runtime_view_facts(const struct runtime *rt, struct handle conn, struct connection_view *out)
{
    return view(rt, conn, false, out);
}

bool runtime_history(const struct runtime *rt, struct handle conn, const struct history_mark **marks, uint32_t *count)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c) return false;
    *marks = c->history.marks;
    *count = c->history.count;
    return true;
}

bool runtime_outlook(const struct runtime *rt, struct handle conn, struct connection_outlook *out)
{
    struct engine_view view;
    struct clock now;
    memset(out, 0, sizeof *out);
    if (!rt_conn_get(rt, conn) || !engine_get(rt->engine, conn, &view)) return false;
    rt->options.host.ops->clock(rt->options.host.self, &now);
    for (int b = 0; b < BUDGET_COUNT; b++) {
        out->budget_on[b] = view.plan->budgets[b].on &&
                            engine_budget(rt->engine, conn, (enum budget_kind)b, now, &out->budgets[b]);
    }
    out->recovery_bound_ms = engine_recovery_bound_ms(rt->engine, conn, now);
    return true;
}

bool runtime_budget(const struct runtime *rt, struct handle conn, enum budget_kind budget, struct budget_view *out)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    struct clock now;
    if (!c || !c->build->build->plan->budgets[budget].on) return false;
    rt->options.host.ops->clock(rt->options.host.self, &now);
    return engine_budget(rt->engine, conn, budget, now, out);
}

bool runtime_session_json(const struct runtime *rt, struct handle conn, struct buffer *out)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    return c && value_to_json(&c->session, out);
}

const char *runtime_store_kind(const struct runtime *rt)
{
    return rt->options.store.ops->kind(rt->options.store.self);
}

