/* Views: what is true of a connection now, as a plain copy and as JSON. Read only. */
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "runtime_internal.h"

static void copy_text(char *out, size_t out_bytes, const char *text)
{
    text_copy(out, out_bytes, text, strlen(text));
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
    out->frames_delivered = c->frames_delivered;
    out->frames_malformed = c->frames_malformed;
    out->frames_duplicate = c->frames_duplicate;
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
    value_set(&v, "bytes_in", value_number((double)p->bytes_in));
    value_set(&v, "bytes_out", value_number((double)p->bytes_out));
    value_set(&v, "frames_in", value_number((double)p->frames_in));
    value_set(&v, "frames_out", value_number((double)p->frames_out));
    value_set(&v, "beats_sent", value_number((double)view->engine.beats_sent));
    value_set(&v, "beats_answered", value_number((double)view->engine.beats_answered));
    if (view->engine.last_round_trip_ms) {
        value_set(&v, "round_trip_ms", value_number((double)view->engine.last_round_trip_ms));
    }
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
    value_set(&v, "pulse", pulse_value(view));
    value_set(&v, "backlog", backlog_value(view));
    struct value frames = value_table();
    value_set(&frames, "delivered", value_number((double)view->frames_delivered));
    value_set(&frames, "malformed", value_number((double)view->frames_malformed));
    value_set(&frames, "duplicate", value_number((double)view->frames_duplicate));
    value_set(&frames, "other", value_number((double)view->frames_other));
    value_set(&v, "frames", frames);
    value_set(&v, "generation", value_number(e->generation));
    value_set(&v, "attempts_total", value_number((double)e->attempts_total));
    value_set(&v, "ready_total", value_number((double)e->ready_total));
    value_set(&v, "sends_queued", value_number(e->sends_queued));
    value_set(&v, "session", value_bool(e->session_present));
    value_set(&v, "wanted", value_bool(e->wanted));
    value_set(&v, "stop_is_fatal", value_bool(e->stop_is_fatal));
    if (view->warning[0]) value_set(&v, "warning", value_string(view->warning));
    bool ok = value_to_json(&v, out);
    value_clear(&v);
    return ok;
}
