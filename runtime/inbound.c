/* Inbound: what comes out of a link's frame path, one item at a time: the barrier is that nothing more is
 * decoded until hooks and the events that they caused have taken effect. Inspect, remember, dedupe,
 * deliver, acknowledge, in this order. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "runtime_internal.h"

#define HOLD_MS_DEFAULT 20000
#define ACK_BYTES_MAX 16384

static void on_message(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                       struct path_item *item);
static bool accept(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                   const struct path_item *item);
static void on_close(struct runtime *rt, struct rt_link *l, const struct path_item *item);
static void on_error(struct runtime *rt, struct rt_link *l, const struct path_item *item);

size_t rt_inbound(struct runtime *rt, struct rt_link *l, uint8_t *bytes, size_t len)
{
    struct rt_conn *c = rt_conn_get(rt, l->conn);
    ASSERT(c != NULL);
    size_t consumed = 0;
    while (consumed < len && l->phase == RT_LINK_OPEN && l->pauses == 0) {
        struct path_item item;
        size_t n = 0;
        if (l->deaf || l->close_received) return len;
        enum path_kind kind = path_next(&l->path, bytes + consumed, len - consumed, &n, &item);
        consumed += n;
        ASSERT(consumed <= len);
        switch (kind) {
        case PATH_MORE:
            ASSERT(consumed == len);
            break;
        case PATH_MESSAGE:
            on_message(rt, c, l, &item);
            break;
        case PATH_PING: {
            /* A close was sent: nothing but silence may follow it. */
            if (l->close_sent) break;
            uint8_t mask[4];
            rt->options.host.ops->random(rt->options.host.self, mask, sizeof mask);
            buffer_clear(&rt->scratch);
            if (ws_encode(&rt->scratch, WS_PONG, true, item.data, item.len, mask)) {
                rt->options.host.ops->link_write(rt->options.host.self, rt_link_id(l),
                                                 rt->scratch.data, rt->scratch.len);
                l->pulse.bytes_out += rt->scratch.len;
            }
            break;
        }
        case PATH_PONG:
            l->pulse.last_pong_ms = l->pulse.last_byte_ms;
            break;
        case PATH_CLOSE:
            on_close(rt, l, &item);
            break;
        case PATH_ERROR:
            on_error(rt, l, &item);
            break;
        }
        rt_pump(rt);
    }
    /* One durable write for all that this batch remembered or must acknowledge. */
    if (c->session_dirty || c->keep_dirty) rt_session_flush(rt, c);
    if (c->acks) rt_acks_flush(rt, c);
    if (l->phase == RT_LINK_OVER) return len;
    return consumed;
}

static void on_close(struct runtime *rt, struct rt_link *l, const struct path_item *item)
{
    l->close_received = true;
    struct event ev = rt_event(EV_PEER_CLOSED, l->conn, l->generation);
    ev.cause = cause_make(l->ready ? STAGE_READY : STAGE_GREETING, CAUSE_CLOSED, BY_PEER, NULL);
    ev.cause.close_code = item->close_code ? item->close_code : 1005;
    struct buffer shown;
    buffer_init(&shown, 1024);
    if (text_printable(&shown, item->data, item->len)) {
        text_copy(ev.cause.reason, sizeof ev.cause.reason, (const char *)shown.data, shown.len);
    }
    buffer_deinit(&shown);
    /* The reply carries the peer's own code, as the RFC advises; FX_CLOSE then only ends the stream. */
    if (!l->close_sent) {
        uint8_t mask[4];
        l->close_sent = true;
        rt->options.host.ops->random(rt->options.host.self, mask, sizeof mask);
        buffer_clear(&rt->scratch);
        if (ws_encode_close(&rt->scratch, item->close_code, NULL, mask)) {
            rt->options.host.ops->link_write(rt->options.host.self, rt_link_id(l), rt->scratch.data,
                                             rt->scratch.len);
        }
    }
    rt->options.host.ops->link_finish(rt->options.host.self, rt_link_id(l));
    rt_post(rt, &ev);
}

static void on_error(struct runtime *rt, struct rt_link *l, const struct path_item *item)
{
    static const enum cause_kind kinds[] = {
        [PATH_ERROR_NONE] = CAUSE_INTERNAL, [PATH_ERROR_PROTOCOL] = CAUSE_PROTOCOL,
        [PATH_ERROR_TOO_BIG] = CAUSE_TOO_BIG, [PATH_ERROR_UTF8] = CAUSE_PROTOCOL,
        [PATH_ERROR_INFLATE] = CAUSE_INFLATE, [PATH_ERROR_MEMORY] = CAUSE_INTERNAL,
    };
    struct event ev = rt_event(EV_LIMIT_CROSSED, l->conn, l->generation);
    const char *reason = item->error == PATH_ERROR_INFLATE   ? "the compressed stream is corrupt"
                         : item->error == PATH_ERROR_TOO_BIG ? "a message over sizes.message"
                                                             : ws_error_text(item->ws_error);
    ev.cause = cause_make(l->ready ? STAGE_READY : STAGE_GREETING, kinds[item->error], BY_PEER,
                          reason);
    /* An inflate fault is answered with the policy's `keep`, so that the session may be resumed. */
    if (item->error != PATH_ERROR_INFLATE) ev.cause.close_code = item->error_close_code;
    l->deaf = true;
    rt_post(rt, &ev);
}

static void remember(struct rt_conn *c, const struct rt_link *l, const struct path_item *item)
{
    const struct frame_rules *rules = &l->build->build->rules;
    /* A link that began before the session was dropped must not bring a piece of it back. */
    if (l->session_epoch != c->session_epoch) return;
    if (!l->ready && c->session.table->count == 0) return;
    for (uint32_t i = 0; i < rules->remember_count; i++) {
        const struct field_value *v = &item->fields[rules->remember[i].field];
        struct value stored = value_nil();
        char text[512];
        if (v->kind == FIELD_INTEGER && v->integer < (1ll << 53) && v->integer > -(1ll << 53)) {
            stored = value_number((double)v->integer);
        } else if (v->kind == FIELD_INTEGER || v->kind == FIELD_NUMBER) {
            stored = value_bytes(v->text, v->len);
        } else if (v->kind == FIELD_STRING) {
            long n = json_string_decode(v, text, sizeof text);
            if (n >= 0) stored = value_bytes(text, (size_t)n);
        }
        if (stored.kind == VALUE_NIL) continue;
        value_set(&c->session, rules->remember[i].key, stored);
        c->session_dirty = true;
    }
}

/* --- acknowledgements to the platform ------------------------------------------------------------------ */

static void ack_send(struct runtime *rt, struct rt_conn *c, struct rt_ack *a)
{
    struct rt_link *l = rt_link_find(c, a->generation);
    if (l) rt_link_send(rt, l, a->bytes, a->len, a->text);
}

static void ack_queue(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                      const struct path_item *item, uint64_t offset)
{
    const struct frame_rules *rules = &l->build->build->rules;
    struct buffer out;
    bool text = true;
    buffer_init(&out, ACK_BYTES_MAX);
    bool have = false;
    if (rules->ack.frame) {
        have = path_ack_expand(rules, rules->ack.frame, item->fields, &out);
    } else if (policy_has_hook(l->build->build->version, HOOK_ON_ACK)) {
        struct policy_call call =
            rt_call_of(rt, c, l->build, l->generation, HOOK_ON_ACK, NULL);
        call.frame = item->data;
        call.frame_len = item->len;
        call.fields = item->fields;
        struct call_answer answer;
        call_answer_init(&answer);
        enum call_result result = rt_enter(rt, &call, &answer, NULL, NULL);
        if (result == CALL_OK) {
            have = answer.frame.len > 0 && buffer_append(&out, answer.frame.data, answer.frame.len);
            text = answer.frame_text;
        } else {
            rt_hook_failed(rt, c, l->generation, HOOK_ON_ACK, result, &answer);
        }
        call_answer_deinit(&answer);
    }
    if (have) {
        struct rt_ack *a = malloc(sizeof *a + out.len);
        ASSERT(a != NULL);
        *a = (struct rt_ack){ .offset = offset, .generation = l->generation, .len = out.len,
                              .text = text };
        memcpy(a->bytes, out.data, out.len);
#ifdef HOLDFAST_TEST
        if (engine_planted(rt->engine) == PLANT_I7_ACK_BEFORE_SAFE) ack_send(rt, c, a);
#endif
        if (c->acks_tail) c->acks_tail->next = a;
        if (!c->acks) c->acks = a;
        c->acks_tail = a;
    }
    buffer_deinit(&out);
}

void rt_acks_flush(struct runtime *rt, struct rt_conn *c)
{
    if (!c->acks_tail || c->acks_tail->offset <= c->acks_asked) return;
    struct store_request request = { .op = STORE_OP_FRAMES, .offset = c->acks_tail->offset };
    c->acks_asked = c->acks_tail->offset;
    if (!rt_store_submit(rt, c, 0, 0, c->acks_asked, &request)) {
        rt_acks_stored(rt, c, c->acks_asked, false);
    }
}

void rt_acks_stored(struct runtime *rt, struct rt_conn *c, uint64_t offset, bool ok)
{
    while (c->acks && c->acks->offset <= offset) {
        struct rt_ack *a = c->acks;
        c->acks = a->next;
        if (!c->acks) c->acks_tail = NULL;
        if (ok) ack_send(rt, c, a);
        free(a);
    }
    if (!ok) rt_log(rt, LOG_WARNING, c, "frames up to %llu are not safe: not acknowledged",
                    (unsigned long long)offset);
    rt_acks_flush(rt, c);
}

/* --- messages ---------------------------------------------------------------------------------------- */

/* The frame that the backlog had no room for. It was not accepted: its sequence is not remembered and it
 * is not acknowledged before it is, so a link that ends meanwhile gets it again. */
static void hold(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                 const struct path_item *item)
{
    uint64_t hold_ms = l->build->build->plan.backlog.hold_ms;
    ASSERT(l->held == NULL);
    l->held = malloc(sizeof *l->held + item->len);
    ASSERT(l->held != NULL);
    l->held->len = item->len;
    l->held->malformed = item->malformed;
    l->held->text = item->text;
    memcpy(l->held->bytes, item->data, item->len);
    rt_link_pause(rt, l, RT_PAUSE_BACKLOG, true);
    timers_add(&rt->timers, (struct timer){ .due_ms = rt_clock(rt).mono_ms +
                                                      (hold_ms ? hold_ms : HOLD_MS_DEFAULT),
                                            .kind = TIMER_BACKLOG_HOLD,
                                            .object = c->self,
                                            .generation = l->generation,
                                            .index = ++l->holds });
}

void rt_backlog_check(struct runtime *rt)
{
    uint32_t i = 0;
    struct handle h;
    struct rt_link *l;
    for (; (l = slots_next(&rt->links, &i, &h)); i++) {
        struct rt_conn *c = rt_conn_get(rt, l->conn);
        if (!l->held || !c) continue;
        if (!deliver_has_room(rt->options.deliver, c->stream, l->held->len)) continue;
        struct rt_held *held = l->held;
        struct path_item item;
        memset(&item, 0, sizeof item);
        l->held = NULL;
        item.data = held->bytes;
        item.len = held->len;
        item.malformed = held->malformed;
        item.text = held->text;
        const struct frame_rules *rules = &l->build->build->rules;
        if (rules->codec == CODEC_JSON && !held->malformed) {
            path_take(&l->path, held->bytes, held->len, item.fields);
        }
        if (accept(rt, c, l, &item)) rt_link_pause(rt, l, RT_PAUSE_BACKLOG, false);
        free(held);
        if (c->session_dirty) rt_session_flush(rt, c);
        if (c->acks) rt_acks_flush(rt, c);
    }
}

/* Dedupe, backlog, sequence, acknowledgement: all of it or nothing. False: the frame is held. */
static bool accept(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                   const struct path_item *item)
{
    const struct frame_rules *rules = &l->build->build->rules;
    struct clock now = rt_clock(rt);
    struct dedupe_key key;
    bool keyed = c->dedupe && dedupe_key_of(c->dedupe, rules, item->fields, &key);
    uint64_t offset = 0;
    if (keyed && dedupe_seen(c->dedupe, key, now.mono_ms, &offset)) {
        c->frames_duplicate++;
        if (!item->malformed) remember(c, l, item);
        if (rules->ack.when == ACK_EARLY) ack_queue(rt, c, l, item, offset);
        /* Its original may be safe already: then a write that covers it answers at once. */
        if (c->acks_tail && c->acks_tail->offset <= c->acks_asked) {
            struct store_request request = { .op = STORE_OP_FRAMES, .offset = c->acks_asked };
            if (!rt_store_submit(rt, c, 0, 0, c->acks_asked, &request)) {
                rt_acks_stored(rt, c, c->acks_asked, false);
            }
        }
        return true;
    }
    struct deliver_frame frame = { .data = item->data,
                                   .len = item->len,
                                   .json = rules->codec == CODEC_JSON && !item->malformed,
                                   .malformed = item->malformed,
                                   .rules = rules,
                                   .fields = item->fields,
                                   .wall_ms = now.wall_ms };
    if (rt->options.deliver &&
        deliver_append(rt->options.deliver, c->stream, &frame, &offset) == DELIVER_FULL) {
        hold(rt, c, l, item);
        return false;
    }
    c->frames_delivered++;
    if (item->malformed) c->frames_malformed++;
    if (!item->malformed) remember(c, l, item);
    if (keyed) dedupe_add(c->dedupe, key, now.mono_ms, offset);
    if (rt->options.observer.delivered) {
        rt->options.observer.delivered(rt->options.observer.self, c->self, offset, item->data,
                                       item->len);
    }
    if (rules->ack.when == ACK_EARLY) ack_queue(rt, c, l, item, offset);
    return true;
}

static void ending(struct runtime *rt, struct rt_link *l, const struct path_item *item)
{
    const struct ends_rule *rule = &l->build->build->rules.ends[item->ends];
    struct event ev = rt_event(EV_ENDING_ANNOUNCED, l->conn, l->generation);
    ev.ending.cause = cause_make(l->ready ? STAGE_READY : STAGE_GREETING, CAUSE_ENDED, BY_PEER, NULL);
    cause_rename(&ev.ending.cause, rule->cause);
    ev.ending.cause.line = rule->line;
    ev.ending.wait_ms = rule->after_ms;
    rt_post(rt, &ev);
}

static void on_message(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                       struct path_item *item)
{
    l->pulse.frames_in++;
    l->pulse.last_frame_ms = l->pulse.last_byte_ms;
    if (rt->options.observer.message) {
        rt->options.observer.message(rt->options.observer.self, l->conn, l->generation, true,
                                     item->text, item->data, item->len);
    }
    if (item->beat_answer) {
        struct event ev = rt_event(EV_BEAT_ANSWERED, l->conn, l->generation);
        rt_post(rt, &ev);
    }
    if (item->beat_asked) {
        struct event ev = rt_event(EV_BEAT_ASKED, l->conn, l->generation);
        rt_post(rt, &ev);
    }
    if (item->ends >= 0) ending(rt, l, item);
    if (!l->ready) rt_greet_frame(rt, c, l, item);
    if (item->inspect) rt_on_frame(rt, c, l, item);
    /* Remembering follows the hooks: a greeting that is accepted by this frame makes the session that its
     * sequence belongs to. */
    rt_pump(rt);
    if (item->deliver) {
        accept(rt, c, l, item);
        return;
    }
    c->frames_other++;
    if (!item->malformed) remember(c, l, item);
}
