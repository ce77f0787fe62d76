/* What the simulator sees of a run: every step into the trace and to the checkers, messages on the wire,
 * dials, closes, HTTP calls. Reads; changes nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/module_internal.h"

static void on_step(void *self, const struct event *ev, const struct effect_list *effects);
static void on_log(void *self, enum log_level level, const char *connection, const char *text);
static void on_message(void *self, struct handle conn, uint32_t generation, bool inbound, bool text,
                       const void *data, size_t len);
static void on_delivered(void *self, struct handle conn, uint64_t offset, const struct path_item *item);

struct runtime_observer sim__observer(struct sim *s)
{
    return (struct runtime_observer){ .self = s,
                                      .step = on_step,
                                      .log = on_log,
                                      .message = on_message,
                                      .delivered = on_delivered };
}

void sim__watch_build(struct sim_conn *c, struct policy_build *build)
{
    if (c->path_on) path_deinit(&c->path);
    policy_build_destroy(c->build);
    c->build = build;
    c->path_on = build && path_init(&c->path, build->rules, INFLATE_NONE);
}

/* ---- steps ------------------------------------------------------------------------------------------- */

static void describe_cause(const struct cause *c, char *out, size_t bytes)
{
    int n = snprintf(out, bytes, " %s at %s", c->name, stage_name(c->stage));
    if (c->close_code != CLOSE_CODE_NONE && n > 0 && (size_t)n < bytes) {
        n += snprintf(out + n, bytes - (size_t)n, " code=%d", c->close_code);
    }
    if (c->http_status && n > 0 && (size_t)n < bytes) {
        snprintf(out + n, bytes - (size_t)n, " http=%d", c->http_status);
    }
}

static void describe_event(const struct event *ev, char *out, size_t bytes)
{
    out[0] = 0;
    switch (ev->kind) {
    case EV_ATTEMPT_FAILED:
    case EV_DIAL_FAILED:
    case EV_LIMIT_CROSSED:
    case EV_PEER_CLOSED: describe_cause(&ev->cause, out, bytes); break;
    case EV_ENDING_ANNOUNCED: describe_cause(&ev->ending.cause, out, bytes); break;
    case EV_STAGE_REACHED: snprintf(out, bytes, " %s", stage_name(ev->stage.stage)); break;
    case EV_CLOCK_JUMPED:
        snprintf(out, bytes, " suspended=%llums wall=%lldms",
                 (unsigned long long)ev->clock_jumped.suspended_ms,
                 (long long)ev->clock_jumped.wall_step_ms);
        break;
    case EV_LET_GO: snprintf(out, bytes, " within %llums", (unsigned long long)ev->let_go.within_ms); break;
    default: break;
    }
}

static void describe_effect(const struct effect *fx, char *out, size_t bytes)
{
    out[0] = 0;
    switch (fx->kind) {
    case FX_STATE:
        snprintf(out, bytes, " %s -> %s", conn_state_name(fx->state.from),
                 conn_state_name(fx->state.to));
        break;
    case FX_JOURNAL:
        snprintf(out, bytes, " %s: drop=%s pace=%s attempt=%u delay=%llums line=%u%s",
                 fx->journal.cause.name, drop_name(fx->journal.drop), pace_name(fx->journal.pace),
                 fx->journal.attempt, (unsigned long long)fx->journal.delay_ms, fx->journal.line,
                 fx->journal.planned ? " planned" : "");
        break;
    case FX_CLOSE: snprintf(out, bytes, " code=%u", (unsigned)fx->close.code); break;
    case FX_STORE:
        snprintf(out, bytes, " %s of %s", fx->store.kind == STORE_PERMIT ? "permit" : "return",
                 budget_name(fx->store.budget));
        break;
    case FX_GAP: snprintf(out, bytes, " %s", fx->gap.cause); break;
    case FX_REFUSE: snprintf(out, bytes, " %s", refuse_text(fx->refuse.why)); break;
    case FX_ALARM: snprintf(out, bytes, " %s", fx->alarm.text); break;
    case FX_DROP_FETCHED: snprintf(out, bytes, " %s", fx->drop_fetched.name); break;
    default: break;
    }
}

static void note_close(struct sim *s, struct sim_conn *c, uint32_t generation, int code)
{
    if (c->close_count == SIM_NOTES_MAX) return;
    c->closes = sim__grow(c->closes, c->close_count, &c->close_capacity, sizeof *c->closes);
    c->closes[c->close_count++] =
        (struct sim_close){ .at_ms = world_now_ms(s->world), .generation = generation,
                            .code = code };
}

static const char *name_of(struct sim *s, struct handle conn, char out[64])
{
    struct sim_conn *c = sim__conn(s, conn);
    text_copy(out, 64, c ? c->name : "?", strlen(c ? c->name : "?"));
    return out;
}

static void on_step(void *self, const struct event *ev, const struct effect_list *effects)
{
    struct sim *s = self;
    char detail[160], name[64];
    uint64_t now = world_now_ms(s->world);
    struct trace *t = world_trace(s->world);
    name_of(s, ev->conn, name);
    describe_event(ev, detail, sizeof detail);
    trace_line(t, now, "%s#%u event %s%s", name, ev->generation, event_name(ev->kind), detail);
    s->pending_count = s->pending_next = 0;
    for (uint32_t i = 0; i < effects->count; i++) {
        const struct effect *fx = &effects->items[i];
        describe_effect(fx, detail, sizeof detail);
        name_of(s, fx->conn, name);
        trace_line(t, now, "%s#%u effect %s%s", name, fx->generation, effect_name(fx->kind),
                   detail);
        struct sim_conn *c = sim__conn(s, fx->conn);
        if (fx->kind == FX_DIAL) {
            s->dials[s->pending_count++] = (struct sim_pending_dial){ fx->conn, fx->generation };
        } else if (s->reach && fx->kind == FX_JOURNAL) {
            policy_reach_add(s->reach, fx->journal.line);
        } else if (c && fx->kind == FX_CLOSE) {
            note_close(s, c, fx->generation, fx->close.code);
        } else if (c && fx->kind == FX_ABORT) {
            note_close(s, c, fx->generation, -1);
        }
    }
    checkers_step(s->checkers, name_of(s, ev->conn, name), ev, effects);
    for (uint32_t i = 0; i < effects->count; i++) {
        struct sim_conn *c = sim__conn(s, effects->items[i].conn);
        if (!c || effects->items[i].kind != FX_REMOVED) continue;
        idmap_remove(&s->by_handle, handle_pack(c->handle));
        c->handle = HANDLE_NONE;
    }
}

static void on_log(void *self, enum log_level level, const char *connection, const char *text)
{
    static const char *const levels[] = { "alarm", "warning", "info", "debug" };
    struct sim *s = self;
    trace_line(world_trace(s->world), world_now_ms(s->world), "%s log %s: %s",
               connection ? connection : "-", levels[level], text);
}

/* ---- the network ---------------------------------------------------------------------------------------- */

void sim__owner(void *self, uint64_t link, const struct link_target *target,
                struct link_owner *out)
{
    struct sim *s = self;
    /* The dial that the runtime carries out now is one of the last step's. */
    if (s->pending_next >= s->pending_count) return;
    struct sim_pending_dial d = s->dials[s->pending_next++];
    struct sim_conn *c = sim__conn(s, d.conn);
    struct engine_view v;
    if (!c || !engine_get(runtime_engine(s->runtime), d.conn, &v)) return;
    text_copy(out->connection, sizeof out->connection, c->name, strlen(c->name));
    out->identity = v.identity;
    out->generation = d.generation;
    s->links_opened++;
    checkers_link_open(s->checkers, d.conn, d.generation, link, v.identity);
    if (c->dial_count == SIM_NOTES_MAX) return;
    c->dials = sim__grow(c->dials, c->dial_count, &c->dial_capacity, sizeof *c->dials);
    struct sim_dial *dial = &c->dials[c->dial_count++];
    memset(dial, 0, sizeof *dial);
    dial->at_ms = world_now_ms(s->world);
    dial->generation = d.generation;
    text_copy(dial->host, sizeof dial->host, target->host, strlen(target->host));
}

void sim__called(void *self, const char *method, const char *host, const char *target, int status,
                 const struct cause *cause)
{
    struct sim *s = self;
    if (s->call_count == SIM_NOTES_MAX) return;
    s->calls = sim__grow(s->calls, s->call_count, &s->call_capacity, sizeof *s->calls);
    struct sim_call_note *n = &s->calls[s->call_count++];
    memset(n, 0, sizeof *n);
    n->at_ms = world_now_ms(s->world);
    text_copy(n->method, sizeof n->method, method, strlen(method));
    text_copy(n->host, sizeof n->host, host, strlen(host));
    n->target = sim__copy(target, strlen(target));
    n->status = status;
    if (cause) text_copy(n->cause, sizeof n->cause, cause->name, strlen(cause->name));
}

/* ---- messages ---------------------------------------------------------------------------------------------- */

static void keep_message(struct sim *s, struct sim_conn *c, uint32_t generation, bool inbound,
                         bool text, const void *data, size_t len)
{
    if (c->wire_count < SIM_WIRE_MAX) {
        c->wire = sim__grow(c->wire, c->wire_count, &c->wire_capacity, sizeof *c->wire);
        c->wire_count++;
    } else {
        free(c->wire[c->wire_next].data);
    }
    c->wire[c->wire_next] = (struct sim_message){ .at_ms = world_now_ms(s->world),
                                                  .generation = generation,
                                                  .inbound = inbound,
                                                  .text = text,
                                                  .data = sim__copy(data, len),
                                                  .len = len };
    c->wire_next = (c->wire_next + 1) % SIM_WIRE_MAX;
}

static void on_message(void *self, struct handle conn, uint32_t generation, bool inbound, bool text,
                       const void *data, size_t len)
{
    struct sim *s = self;
    struct sim_conn *c = sim__conn(s, conn);
    trace_line(world_trace(s->world), world_now_ms(s->world), "%s#%u %s %s of %zu bytes, %016llx",
               c ? c->name : "?", generation, inbound ? "in" : "out", text ? "text" : "binary", len,
               (unsigned long long)hash_bytes(data, len));
    if (!c) return;
    keep_message(s, c, generation, inbound, text, data, len);
    if (!c->path_on) return;
    const struct frame_rules *rules = c->build->rules;
    if (!inbound && c->ack_count) {
        uint64_t hash = hash_bytes(data, len);
        for (uint32_t i = 0; i < c->ack_count; i++) {
            if (c->acks[i].hash != hash) continue;
            checkers_acked(s->checkers, conn, c->acks[i].offset);
            memmove(&c->acks[i], &c->acks[i + 1], (c->ack_count - i - 1) * sizeof *c->acks);
            c->ack_count--;
            break;
        }
    }
    bool look = inbound ? rules->beat_answer.count > 0 : rules->start.count > 0;
    if (!look || rules->codec == CODEC_BYTES) return;
    struct field_value values[FIELDS_MAX];
    char *copy = sim__copy(data, len);
    if (path_take(&c->path, (uint8_t *)copy, len, values) == JSON_OK) {
        if (inbound && frame_match_any(&rules->beat_answer, values)) {
            checkers_beat_answer(s->checkers, conn, generation);
        } else if (!inbound && frame_match_any(&rules->start, values)) {
            checkers_start_sent(s->checkers, conn);
        }
    }
    free(copy);
}

static void on_delivered(void *self, struct handle conn, uint64_t offset, const struct path_item *item)
{
    struct sim *s = self;
    checkers_delivered(s->checkers, conn, offset);
    struct sim_conn *c = sim__conn(s, conn);
    if (!c || !c->path_on) return;
    const struct frame_rules *rules = c->build->rules;
    if (rules->ack_count == 0 || rules->codec == CODEC_BYTES) return;
    struct buffer ack;
    buffer_init(&ack, 0);
    /* An owner may reply with any text, or too late, so nothing can be expected of its rows. */
    bool owner = value_get_text(&c->own, "owner") != NULL;
    const struct ack_rule *rule = item->json ? frame_rules_ack(rules, item->fields) : NULL;
    if (rule && rule->when == ACK_THROUGH && owner) rule = NULL;
    if (rule && path_ack_make(rules, rule, item->fields, item->raw, item->raw_len, &ack)) {
        c->acks = sim__grow(c->acks, c->ack_count, &c->ack_capacity, sizeof *c->acks);
        c->acks[c->ack_count++] = (struct sim_ack){ hash_bytes(ack.data, ack.len), offset };
    }
    buffer_deinit(&ack);
}
