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

static void life_look(const struct runtime *rt, const struct rt_conn *c, struct connection_view *out)
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
    if (!facts.up) {
        const uint64_t ms = out->now.mono_ms > e->since_mono_ms ? out->now.mono_ms - e->since_mono_ms : 0;
        snprintf(down, sizeof down, "%s for %s%s", conn_state_name(e->state), duration_span(ms, span),
                 e->wanted ? "" : ", as an operator wanted");
        facts.down = down;
        life_judge(&facts, &out->life);
        return;
    }
    facts.ready_ms = e->ready_ms;
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
    life_judge(&facts, &out->life);
}

bool runtime_view(const struct runtime *rt, struct handle conn, struct connection_view *out)
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
    if (front) weather_text(front, out->weather);
    if (c->missed_ms && c->missed_ms < out->now.mono_ms) out->down_for_ms = out->now.mono_ms - c->missed_ms;
    out->last_event_ms = c->last_event_ms;
    life_look(rt, c, out);
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
    if (!c || !c->build->build->plan.budgets[budget].on) return false;
    rt->options.host.ops->clock(rt->options.host.self, &now);
    return engine_budget(rt->engine, conn, budget, now, out);
}

bool runtime_session_json(const struct runtime *rt, struct handle conn, struct buffer *out)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    return c && value_to_json(&c->session, out);
}

static struct value time_value(uint64_t wall_ms)
{
    char text[TIMESTAMP_TEXT_MAX];
    return value_string(timestamp_format(wall_ms, text));
}

/* Wall time of a mono instant, as far as the clocks agree now. */
static uint64_t wall_of(const struct connection_view *view, uint64_t mono_ms)
{
    return view->now.wall_ms - view->now.mono_ms + mono_ms;
}

static struct value cause_value(const struct cause *cause)
{
    struct value v = value_table();
    value_set(&v, "name", value_string(cause->name));
    value_set(&v, "kind", value_string(cause_kind_name(cause->kind)));
    value_set(&v, "stage", value_string(stage_name(cause->stage)));
    value_set(&v, "by", value_string(cause_by_name(cause->by)));
    if (cause->close_code != CLOSE_CODE_NONE) {
        value_set(&v, "close_code", value_number(cause->close_code));
    }
    if (cause->http_status) value_set(&v, "http_status", value_number(cause->http_status));
    if (cause->code) value_set(&v, "code", value_number((double)cause->code));
    if (cause->reason[0]) value_set(&v, "reason", value_string(cause->reason));
    return v;
}

static struct value link_value(const struct connection_view *view)
{
    const struct engine_view *e = &view->engine;
    struct value v = value_table();
    value_set(&v, "generation", value_number(e->link_generation[0]));
    value_set(&v, "state", value_string(link_state_name(e->link_state[0])));
    value_set(&v, "since", time_value(wall_of(view, e->link_since_ms[0])));
    value_set(&v, "address", value_string(view->address));
    value_set(&v, "settled", value_bool(e->settled));
    if (e->link_generation[1]) {
        value_set(&v, "older_generation", value_number(e->link_generation[1]));
        value_set(&v, "older_state", value_string(link_state_name(e->link_state[1])));
    }
    return v;
}

static void age_set(struct value *v, const char *key, const struct connection_view *view,
                    uint64_t mono_ms)
{
    if (!mono_ms || mono_ms > view->now.mono_ms) return;
    value_set(v, key, value_number((double)(view->now.mono_ms - mono_ms)));
}

static struct value pulse_value(const struct connection_view *view)
{
    const struct pulse *p = &view->pulse;
    struct value v = value_table();
    age_set(&v, "last_byte_age_ms", view, p->last_byte_ms);
    age_set(&v, "last_pong_age_ms", view, p->last_pong_ms);
    age_set(&v, "last_frame_age_ms", view, p->last_frame_ms);
    age_set(&v, "last_event_age_ms", view, view->last_event_ms);
    age_set(&v, "last_beat_answer_age_ms", view, view->engine.beat_answered_ms);
    value_set(&v, "bytes_in", value_number((double)p->bytes_in));
    value_set(&v, "bytes_out", value_number((double)p->bytes_out));
    value_set(&v, "frames_in", value_number((double)p->frames_in));
    value_set(&v, "frames_out", value_number((double)p->frames_out));
    value_set(&v, "beats_sent", value_number((double)view->engine.beats_sent));
    value_set(&v, "beats_answered", value_number((double)view->engine.beats_answered));
    if (view->round_trip_known) {
        value_set(&v, "round_trip_ms", value_number((double)view->round_trip_ms));
        value_set(&v, "round_trip_of", value_string(view->round_trip_of_ping ? "ping" : "beat"));
    }
    return v;
}

static struct value life_value(const struct connection_view *view)
{
    struct value v = value_table();
    value_set(&v, "verdict", value_string(life_name(view->life.verdict)));
    value_set(&v, "evidence", value_string(view->life.evidence));
    return v;
}

static struct value kernel_value(const struct connection_view *view)
{
    const struct host_link_info *k = &view->kernel;
    struct value v = value_table();
    value_set(&v, "round_trip_ms", value_number((double)k->round_trip_us / 1000));
    value_set(&v, "round_trip_varies_ms", value_number((double)k->round_trip_var_us / 1000));
    value_set(&v, "unacknowledged", value_number(k->unacked));
    value_set(&v, "repeats", value_number(k->repeats));
    value_set(&v, "repeats_total", value_number(k->repeats_total));
    value_set(&v, "last_data_age_ms", value_number(k->last_data_ms));
    value_set(&v, "last_sent_age_ms", value_number(k->last_sent_ms));
    value_set(&v, "last_ack_age_ms", value_number(k->last_ack_ms));
    return v;
}

static struct value loop_value(const struct connection_view *view)
{
    struct value v = value_table();
    value_set(&v, "delay_ms", value_number((double)view->loop.last_us / 1000));
    value_set(&v, "worst_ms", value_number((double)view->loop.worst_us / 1000));
    return v;
}

const char *runtime_store_kind(const struct runtime *rt)
{
    return rt->options.store.ops->kind(rt->options.store.self);
}

static struct value backlog_value(const struct connection_view *view)
{
    struct value v = value_table();
    value_set(&v, "kept_in", value_string(view->kept_in));
    value_set(&v, "frames", value_number((double)view->backlog.frames));
    value_set(&v, "bytes", value_number((double)view->backlog.bytes));
    value_set(&v, "first_offset", value_number((double)view->backlog.first_offset));
    value_set(&v, "last_offset", value_number((double)view->backlog.last_offset));
    value_set(&v, "dropped", value_number((double)view->backlog.dropped_total));
    value_set(&v, "gaps", value_number((double)view->backlog.gaps_total));
    value_set(&v, "consumers", value_number(view->backlog.consumers));
    return v;
}

bool runtime_weather_json(const struct runtime *rt, struct buffer *out)
{
    struct weather_front fronts[WEATHER_FRONTS_MAX];
    char text[WEATHER_TEXT_MAX];
    const uint32_t count = runtime_weather(rt, fronts);
    bool ok = buffer_append_char(out, '[');
    for (uint32_t i = 0; ok && i < count; i++) {
        const struct weather_front *f = &fronts[i];
        struct value v = value_table();
        value_set(&v, "scope", value_string(weather_scope_name(f->scope)));
        value_set(&v, "name", value_string(f->name));
        value_set(&v, "failing", value_number(f->failing));
        value_set(&v, "total", value_number(f->total));
        value_set(&v, "since", time_value(f->since_wall_ms));
        value_set(&v, "stage", value_string(stage_name(f->stage)));
        value_set(&v, "one_cause", value_bool(f->one_cause));
        if (f->one_cause) value_set(&v, "cause", value_string(cause_kind_name(f->kind)));
        value_set(&v, "text", value_string(weather_text(f, text)));
        ok = (i == 0 || buffer_append_char(out, ',')) && value_to_json(&v, out);
        value_clear(&v);
    }
    return ok && buffer_append_char(out, ']');
}

bool runtime_view_json(const struct connection_view *view, struct buffer *out)
{
    const struct engine_view *e = &view->engine;
    struct value v = value_table();
    value_set(&v, "name", value_string(view->name));
    value_set(&v, "state", value_string(conn_state_name(e->state)));
    value_set(&v, "since", time_value(wall_of(view, e->since_mono_ms)));
    value_set(&v, "attempt", value_number(e->failed));
    if (e->cause.kind != CAUSE_NONE) value_set(&v, "cause", cause_value(&e->cause));
    if (e->deadline_ms != ENGINE_NEVER) {
        struct value next = value_table();
        value_set(&next, "what", value_string(e->next ? e->next : ""));
        value_set(&next, "at", time_value(wall_of(view, e->deadline_ms)));
        if (e->held) value_set(&next, "held", value_bool(true));
        if (e->queued && e->queue.hold != BUDGET_HOLD_NONE) {
            value_set(&next, "budget", value_string(budget_name(e->queued_for)));
            value_set(&next, "held_by", value_string(budget_hold_name(e->queue.hold)));
            if (e->queue.left != UINT32_MAX) value_set(&next, "left", value_number(e->queue.left));
        }
        value_set(&v, "next", next);
    }
    struct value policy = value_table();
    value_set(&policy, "name", value_string(view->policy));
    value_set(&policy, "version", value_number(view->policy_version));
    value_set(&policy, "path", value_string(view->policy_path));
    value_set(&v, "policy", policy);
    if (e->link_generation[0]) value_set(&v, "link", link_value(view));
    value_set(&v, "life", life_value(view));
    value_set(&v, "pulse", pulse_value(view));
    if (view->kernel_known) value_set(&v, "kernel", kernel_value(view));
    if (view->loop_known) value_set(&v, "loop", loop_value(view));
    value_set(&v, "backlog", backlog_value(view));
    struct value frames = value_table();
    value_set(&frames, "in", value_number((double)view->total.frames_in));
    value_set(&frames, "out", value_number((double)view->total.frames_out));
    value_set(&frames, "bytes_in", value_number((double)view->total.bytes_in));
    value_set(&frames, "bytes_out", value_number((double)view->total.bytes_out));
    value_set(&frames, "delivered", value_number((double)view->frames_delivered));
    value_set(&frames, "malformed", value_number((double)view->frames_malformed));
    value_set(&frames, "duplicate", value_number((double)view->frames_duplicate));
    if (view->parts_refused) {
        value_set(&frames, "parts_refused", value_number((double)view->parts_refused));
    }
    value_set(&frames, "other", value_number((double)view->frames_other));
    value_set(&v, "frames", frames);
    value_set(&v, "generation", value_number(e->generation));
    value_set(&v, "attempts_total", value_number((double)e->attempts_total));
    value_set(&v, "ready_total", value_number((double)e->ready_total));
    value_set(&v, "sends_queued", value_number(e->sends_queued));
    value_set(&v, "session", value_bool(e->session_present));
    value_set(&v, "wanted", value_bool(e->wanted));
    value_set(&v, "stop_is_fatal", value_bool(e->stop_is_fatal));
    if (view->weather[0]) value_set(&v, "weather", value_string(view->weather));
    if (view->warning[0]) value_set(&v, "warning", value_string(view->warning));
    bool ok = value_to_json(&v, out);
    value_clear(&v);
    return ok;
}
