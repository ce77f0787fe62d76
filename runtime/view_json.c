/* Views as JSON: written straight into the buffer, key by key, because the list of all connections is asked for
 * often. Every text passes text_json_string(); keys are words of ours. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "runtime_internal.h"

struct writer {
    struct buffer *out;
    bool ok, comma;
};

static void put_key(struct writer *w, const char *key)
{
    if (w->comma) w->ok = w->ok && buffer_append_char(w->out, ',');
    w->comma = true;
    if (!key) return;
    w->ok = w->ok && buffer_append_char(w->out, '"') && buffer_append_text(w->out, key) && buffer_append(w->out, "\":", 2);
}

/* `key` NULL: an element of a list, or the whole. */
static void put_open(struct writer *w, const char *key)
{
    put_key(w, key);
    w->ok = w->ok && buffer_append_char(w->out, '{');
    w->comma = false;
}

static void put_close(struct writer *w)
{
    w->ok = w->ok && buffer_append_char(w->out, '}');
    w->comma = true;
}

static void put_text(struct writer *w, const char *key, const char *text)
{
    put_key(w, key);
    w->ok = w->ok && text_json_string(w->out, text, strlen(text));
}

static void put_count(struct writer *w, const char *key, uint64_t n)
{
    put_key(w, key);
    w->ok = w->ok && (n <= INT64_MAX ? buffer_append_decimal(w->out, (int64_t)n) : buffer_printf(w->out, "%" PRIu64, n));
}

static void put_signed(struct writer *w, const char *key, int64_t n)
{
    put_key(w, key);
    w->ok = w->ok && buffer_append_decimal(w->out, n);
}

/* Microseconds as milliseconds. */
static void put_ms(struct writer *w, const char *key, uint64_t us)
{
    put_key(w, key);
    const char rest[] = { '.', (char)('0' + us / 100 % 10), (char)('0' + us / 10 % 10), (char)('0' + us % 10) };
    w->ok = w->ok && buffer_append_decimal(w->out, (int64_t)(us / 1000)) && buffer_append(w->out, rest, sizeof rest);
}

static void put_flag(struct writer *w, const char *key, bool on)
{
    put_key(w, key);
    w->ok = w->ok && buffer_append_text(w->out, on ? "true" : "false");
}

static void put_time(struct writer *w, const char *key, uint64_t wall_ms)
{
    char text[TIMESTAMP_TEXT_MAX];
    put_text(w, key, timestamp_format(wall_ms, text));
}

/* Wall time of a mono instant, as far as the clocks agree now. */
static uint64_t wall_of(const struct connection_view *view, uint64_t mono_ms)
{
    return view->now.wall_ms - view->now.mono_ms + mono_ms;
}

static void write_cause(struct writer *w, const struct cause *cause)
{
    put_text(w, "name", cause->name);
    put_text(w, "kind", cause_kind_name(cause->kind));
    put_text(w, "stage", stage_name(cause->stage));
    put_text(w, "by", cause_by_name(cause->by));
    if (cause->close_code != CLOSE_CODE_NONE) {
        put_signed(w, "close_code", cause->close_code);
    }
    if (cause->http_status) put_signed(w, "http_status", cause->http_status);
    if (cause->code) put_signed(w, "code", cause->code);
    if (cause->reason[0]) put_text(w, "reason", cause->reason);
}

static void write_link(struct writer *w, const struct connection_view *view)
{
    const struct engine_view *e = &view->engine;
    put_count(w, "generation", e->link_generation[0]);
    put_text(w, "state", link_state_name(e->link_state[0]));
    put_time(w, "since", wall_of(view, e->link_since_ms[0]));
    put_text(w, "address", view->address);
    put_flag(w, "settled", e->settled);
    if (e->link_generation[1]) {
        put_count(w, "older_generation", e->link_generation[1]);
        put_text(w, "older_state", link_state_name(e->link_state[1]));
    }
}

static void put_age(struct writer *w, const char *key, const struct connection_view *view, uint64_t mono_ms)
{
    if (!mono_ms || mono_ms > view->now.mono_ms) return;
    put_count(w, key, view->now.mono_ms - mono_ms);
}

static void write_pulse(struct writer *w, const struct connection_view *view)
{
    const struct pulse *p = &view->pulse;
    put_age(w, "last_byte_age_ms", view, p->last_byte_ms);
    put_age(w, "last_pong_age_ms", view, p->last_pong_ms);
    put_age(w, "last_frame_age_ms", view, p->last_frame_ms);
    put_age(w, "last_event_age_ms", view, view->last_event_ms);
    put_age(w, "last_beat_answer_age_ms", view, view->engine.beat_answered_ms);
    put_count(w, "bytes_in", p->bytes_in);
    put_count(w, "bytes_out", p->bytes_out);
    put_count(w, "frames_in", p->frames_in);
    put_count(w, "frames_out", p->frames_out);
    put_count(w, "beats_sent", view->engine.beats_sent);
    put_count(w, "beats_answered", view->engine.beats_answered);
    if (view->round_trip_known) {
        put_count(w, "round_trip_ms", view->round_trip_ms);
        put_text(w, "round_trip_of", view->round_trip_of_ping ? "ping" : "beat");
    }
}

static void write_life(struct writer *w, const struct connection_view *view)
{
    put_text(w, "verdict", life_name(view->life.verdict));
    put_text(w, "evidence", view->life.evidence);
}

static void write_kernel(struct writer *w, const struct connection_view *view)
{
    const struct host_link_info *k = &view->kernel;
    put_ms(w, "round_trip_ms", k->round_trip_us);
    put_ms(w, "round_trip_varies_ms", k->round_trip_var_us);
    put_count(w, "unacknowledged", k->unacked);
    put_count(w, "repeats", k->repeats);
    put_count(w, "repeats_total", k->repeats_total);
    put_count(w, "last_data_age_ms", k->last_data_ms);
    put_count(w, "last_sent_age_ms", k->last_sent_ms);
    put_count(w, "last_ack_age_ms", k->last_ack_ms);
}

static void write_loop(struct writer *w, const struct connection_view *view)
{
    put_ms(w, "delay_ms", view->loop.last_us);
    put_ms(w, "worst_ms", view->loop.worst_us);
    put_ms(w, "worst_busy_ms", view->loop.worst_busy_us);
}

static void write_backlog(struct writer *w, const struct connection_view *view)
{
    put_text(w, "kept_in", view->kept_in);
    put_count(w, "frames", view->backlog.frames);
    put_count(w, "bytes", view->backlog.bytes);
    put_count(w, "first_offset", view->backlog.first_offset);
    put_count(w, "last_offset", view->backlog.last_offset);
    put_count(w, "dropped", view->backlog.dropped_total);
    put_count(w, "gaps", view->backlog.gaps_total);
    put_count(w, "consumers", view->backlog.consumers);
}

bool runtime_weather_json(const struct runtime *rt, struct buffer *out)
{
    struct weather_front fronts[WEATHER_FRONTS_MAX];
    char text[WEATHER_TEXT_MAX];
    const uint32_t count = runtime_weather(rt, fronts);
    struct writer writer = { .out = out, .ok = buffer_append_char(out, '[') }, *w = &writer;
    for (uint32_t i = 0; i < count; i++) {
        const struct weather_front *f = &fronts[i];
        put_open(w, NULL);
        put_text(w, "scope", weather_scope_name(f->scope));
        put_text(w, "name", f->name);
        put_count(w, "failing", f->failing);
        put_count(w, "total", f->total);
        put_time(w, "since", f->since_wall_ms);
        put_text(w, "stage", stage_name(f->stage));
        put_flag(w, "one_cause", f->one_cause);
        if (f->one_cause) put_text(w, "cause", cause_kind_name(f->kind));
        put_text(w, "text", weather_text(f, text));
        put_close(w);
    }
    return w->ok && buffer_append_char(out, ']');
}

bool runtime_view_json(const struct connection_view *view, struct buffer *out)
{
    const struct engine_view *e = &view->engine;
    struct writer writer = { .out = out, .ok = true }, *w = &writer;
    put_open(w, NULL);
    put_text(w, "name", view->name);
    put_text(w, "state", conn_state_name(e->state));
    put_time(w, "since", wall_of(view, e->since_mono_ms));
    put_count(w, "attempt", e->failed);
    if (e->cause.kind != CAUSE_NONE) {
        put_open(w, "cause");
        write_cause(w, &e->cause);
        put_close(w);
        put_text(w, "whose", blame_name(view->whose));
    }
    if (view->down_for_ms && (e->wanted || e->stop_is_fatal)) put_time(w, "down_since", view->now.wall_ms - view->down_for_ms);
    if (e->deadline_ms != ENGINE_NEVER) {
        put_open(w, "next");
        put_text(w, "what", e->next ? e->next : "");
        put_time(w, "at", wall_of(view, e->deadline_ms));
        if (e->held) put_flag(w, "held", true);
        if (e->awaits_turn) put_count(w, "ahead", view->turn_ahead);
        if (e->queued && e->queue.hold != BUDGET_HOLD_NONE) {
            put_text(w, "budget", budget_name(e->queued_for));
            put_text(w, "held_by", budget_hold_name(e->queue.hold));
            if (e->queue.left != UINT32_MAX) put_count(w, "left", e->queue.left);
        }
        put_close(w);
    }
    put_open(w, "policy");
    put_text(w, "name", view->policy);
    put_count(w, "version", view->policy_version);
    put_text(w, "path", view->policy_path);
    put_close(w);
    if (e->link_generation[0]) {
        put_open(w, "link");
        write_link(w, view);
        put_close(w);
    }
    put_open(w, "life");
    write_life(w, view);
    put_close(w);
    put_open(w, "pulse");
    write_pulse(w, view);
    put_close(w);
    if (view->kernel_known) {
        put_open(w, "kernel");
        write_kernel(w, view);
        put_close(w);
    }
    if (view->loop_known) {
        put_open(w, "loop");
        write_loop(w, view);
        put_close(w);
    }
    put_open(w, "backlog");
    write_backlog(w, view);
    put_close(w);
    put_open(w, "frames");
    put_count(w, "in", view->total.frames_in);
    put_count(w, "out", view->total.frames_out);
    put_count(w, "bytes_in", view->total.bytes_in);
    put_count(w, "bytes_out", view->total.bytes_out);
    put_count(w, "delivered", view->frames_delivered);
    put_count(w, "malformed", view->frames_malformed);
    put_count(w, "duplicate", view->frames_duplicate);
    if (view->parts_refused) {
        put_count(w, "parts_refused", view->parts_refused);
    }
    put_count(w, "other", view->frames_other);
    put_close(w);
    put_count(w, "generation", e->generation);
    put_count(w, "attempts_total", e->attempts_total);
    put_count(w, "ready_total", e->ready_total);
    put_count(w, "sends_queued", e->sends_queued);
    put_flag(w, "session", e->session_present);
    put_flag(w, "wanted", e->wanted);
    put_flag(w, "stop_is_fatal", e->stop_is_fatal);
    if (view->weather[0]) put_text(w, "weather", view->weather);
    if (view->trial[0]) put_text(w, "trial", view->trial);
    if (view->warning[0]) put_text(w, "warning", view->warning);
    put_close(w);
    return w->ok;
}
