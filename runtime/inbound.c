/* Inbound: what comes out of a link's frame path, one item at a time: the barrier is that nothing more is
 * decoded until hooks and the events that they caused have taken effect. Inspect, remember, dedupe,
 * deliver, acknowledge, in this order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/text.h"
#include "runtime_internal.h"

#define HOLD_MS_DEFAULT 20000
#define REMEMBERED_BYTES_MAX 2048

static void on_message(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                       struct path_item *item);
static bool accept(struct runtime *rt, struct rt_conn *c, struct rt_link *l, struct rt_build *build,
                   const struct path_item *item);
static void on_close(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                     const struct path_item *item);
static void on_error(struct runtime *rt, struct rt_link *l, const struct path_item *item);
static void ponged(struct runtime *rt, struct rt_link *l);
static void pong(struct runtime *rt, struct rt_link *l, const struct path_item *item);

static bool may_decode(const struct rt_link *l)
{
    return l->phase == RT_LINK_OPEN && l->pauses == 0 && !l->deaf && !l->close_received;
}

size_t rt_inbound(struct runtime *rt, struct rt_link *l, uint8_t *bytes, size_t len)
{
    struct rt_conn *c = rt_conn_get(rt, l->conn);
    ASSERT(c != NULL);
    size_t consumed = 0;
    uint64_t parts_refused = l->path.parts_refused;
    l->path.now_ms = rt->read_at.mono_ms;
    while (may_decode(l)) {
        struct path_item item;
        size_t n = 0;
        enum path_kind kind = path_next(&l->path, bytes + consumed, len - consumed, &n, &item);
        consumed += n;
        ASSERT(consumed <= len);
        if (kind == PATH_MORE) {
            ASSERT(consumed == len);
            break;
        }
        switch (kind) {
        case PATH_MESSAGE: on_message(rt, c, l, &item); break;
        case PATH_PING: pong(rt, l, &item); break;
        case PATH_PONG: ponged(rt, l); break;
        case PATH_CLOSE: on_close(rt, c, l, &item); break;
        case PATH_ERROR: on_error(rt, l, &item); break;
        case PATH_MORE: break;
        }
        rt_pump(rt);
    }
    if (l->path.parts_refused != parts_refused) c->parts_refused += l->path.parts_refused - parts_refused;
    /* One durable write for all that this batch remembered or must acknowledge. */
    if (c->session_dirty || c->keep_dirty) rt_session_flush(rt, c);
    rt_acks_flush(rt, c);
    /* Only a pause keeps bytes for later; after an end they mean nothing. */
    return l->phase == RT_LINK_OPEN && l->pauses && !l->deaf && !l->close_received ? consumed : len;
}

static void ponged(struct runtime *rt, struct rt_link *l)
{
    l->pulse.last_pong_ms = l->pulse.last_byte_ms;
    if (!l->ping_sent_ms) return; /* nobody asked */
    l->ping_round_trip_ms = l->pulse.last_pong_ms - l->ping_sent_ms;
    l->ping_answered = true;
    rt_count_round_trip(rt, l->ping_round_trip_ms);
    l->ping_sent_ms = 0;
}

static void pong(struct runtime *rt, struct rt_link *l, const struct path_item *item)
{
    /* A close was sent: nothing but silence may follow it. */
    if (!l->close_sent) rt_link_frame(rt, l, WS_PONG, item->data, item->len);
}

static void on_close(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                     const struct path_item *item)
{
    l->close_received = true;
    struct event ev = rt_event(EV_PEER_CLOSED, l->conn, l->generation);
    ev.cause = cause_make(l->ready ? STAGE_READY : STAGE_GREETING, CAUSE_CLOSED, BY_PEER, NULL);
    ev.cause.close_code = item->close_code ? item->close_code : 1005;
    if (item->close_code) {
        rt_cause_said(rt, c, &ev.cause, item->data, item->len);
    } else {
        static const char nothing[] = "the close frame had no code";
        text_copy(ev.cause.reason, sizeof ev.cause.reason, nothing, sizeof nothing - 1);
    }
    /* The reply carries the peer's own code, as the RFC advises; FX_CLOSE then only ends the stream. */
    if (!l->close_sent) rt_link_close_frame(rt, l, item->close_code, NULL);
    rt_link_finish(rt, l);
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
                         : item->why                         ? item->why
                                                             : ws_error_text(item->ws_error);
    ev.cause = cause_make(l->ready ? STAGE_READY : STAGE_GREETING, kinds[item->error], BY_PEER,
                          reason);
    /* The code alone tells a 1015 that a proxy passed on from one that somebody made up. */
    if (item->ws_error == WS_ERROR_CLOSE_CODE) {
        snprintf(ev.cause.reason, sizeof ev.cause.reason, "%s: %u", reason, (unsigned)item->close_code);
    }
    /* An inflate fault is answered with the policy's `keep`, so that the session may be resumed. */
    if (item->error != PATH_ERROR_INFLATE) ev.cause.close_code = item->error_close_code;
    l->deaf = true;
    rt_post(rt, &ev);
}

/* False: not a value that can be kept. */
static bool remembered(const struct field_value *v, char *text, size_t text_bytes,
                       struct value *out)
{
    if (v->kind == FIELD_INTEGER && v->integer < (1ll << 53) && v->integer > -(1ll << 53)) {
        *out = value_number((double)v->integer);
    } else if (v->kind == FIELD_INTEGER || v->kind == FIELD_NUMBER) {
        *out = value_bytes(v->text, v->len);
    } else if (v->kind == FIELD_STRING) {
        long n = json_string_decode(v, text, text_bytes);
        if (n < 0) return false;
        *out = value_bytes(text, (size_t)n);
    } else {
        return false;
    }
    return true;
}

static void remember(struct rt_conn *c, const struct rt_link *l, const struct rt_build *build,
                     const struct path_item *item)
{
    const struct frame_rules *rules = build->build->rules;
    if (item->malformed) return;
    /* A link that began before the session was dropped must not bring a piece of it back. */
    if (l->session_epoch != c->session_epoch) return;
    if (!l->ready && c->session.table->count == 0) return;
    for (uint32_t i = 0; i < rules->remember_count; i++) {
        char text[REMEMBERED_BYTES_MAX];
        struct value stored;
        if (!remembered(&item->fields[rules->remember[i].field], text, sizeof text, &stored)) continue;
        struct value *now = value_get(&c->session, rules->remember[i].key);
        if (now && value_equal(now, &stored)) {
            value_clear(&stored);
            continue;
        }
        /* A sequence, frame after frame: in its place, without a second search. */
        if (now && now->kind == VALUE_NUMBER && stored.kind == VALUE_NUMBER) now->number = stored.number;
        else value_set(&c->session, rules->remember[i].key, stored);
        c->session_dirty = true;
    }
}

/* --- messages ---------------------------------------------------------------------------------------- */

/* The frame that the backlog had no room for. It was not accepted: its sequence is not remembered and it
 * is not acknowledged before it is, so a link that ends meanwhile gets it again. */
static void hold(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                 const struct path_item *item)
{
    uint64_t hold_ms = l->build->build->plan->backlog.hold_ms;
    ASSERT(l->held == NULL);
    /* Where a codec made `data` of the message, its acknowledgement may be made of the message itself. */
    size_t raw_len = item->raw != item->data ? item->raw_len : 0;
    l->held = malloc(sizeof *l->held + item->len + raw_len);
    ASSERT(l->held != NULL);
    l->held->len = item->len;
    l->held->raw_len = raw_len;
    if (raw_len) memcpy(l->held->bytes + item->len, item->raw, raw_len);
    l->held->malformed = item->malformed;
    l->held->text = item->text;
    l->held->json = item->json;
    memcpy(l->held->bytes, item->data, item->len);
    l->held_next = rt->held;
    if (rt->held) rt->held->held_prev = l;
    rt->held = l;
    rt_link_pause(rt, l, RT_PAUSE_BACKLOG, true);
    l->hold_due_ms = rt_clock(rt).mono_ms + (hold_ms ? hold_ms : HOLD_MS_DEFAULT);
    timers_arm(&rt->timers, &l->hold_timer_ms, (struct timer){ .due_ms = l->hold_due_ms,
                                                               .kind = TIMER_BACKLOG_HOLD,
                                                               .object = c->self,
                                                               .generation = l->generation });
}

void rt_held_free(struct runtime *rt, struct rt_link *l)
{
    if (!l->held) return;
    if (l->held_prev) l->held_prev->held_next = l->held_next;
    else rt->held = l->held_next;
    if (l->held_next) l->held_next->held_prev = l->held_prev;
    l->held_next = l->held_prev = NULL;
    free(l->held);
    l->held = NULL;
}

void rt_hold_passed(struct runtime *rt, struct rt_link *l, uint64_t due_ms)
{
    if (l->hold_timer_ms != due_ms) return;
    l->hold_timer_ms = 0;
    if (!l->held) return;
    if (rt_clock(rt).mono_ms < l->hold_due_ms) {
        timers_arm(&rt->timers, &l->hold_timer_ms, (struct timer){ .due_ms = l->hold_due_ms,
                                                                   .kind = TIMER_BACKLOG_HOLD,
                                                                   .object = l->conn,
                                                                   .generation = l->generation });
        return;
    }
    struct event ev = rt_event(EV_LIMIT_CROSSED, l->conn, l->generation);
    ev.cause = cause_make(STAGE_READY, CAUSE_BACKLOG_FULL, BY_US,
                          "the backlog stayed full for hold_for");
    rt_post(rt, &ev);
}

static void held_try(struct runtime *rt, struct rt_link *l)
{
    struct rt_conn *c = rt_conn_get(rt, l->conn);
    ASSERT(c != NULL);
    if (!deliver_has_room(rt->options.deliver, c->stream, l->held->len)) return;
    rt->read_at = rt_clock(rt);
    struct path_item item;
    memset(&item, 0, sizeof item);
    item.data = l->held->bytes;
    item.len = l->held->len;
    item.raw = l->held->bytes + (l->held->raw_len ? l->held->len : 0);
    item.raw_len = l->held->raw_len ? l->held->raw_len : l->held->len;
    item.malformed = l->held->malformed;
    item.text = l->held->text;
    item.json = l->held->json;
    if (item.json) path_take(&l->path, item.data, item.len, item.fields);
    struct rt_build *build = rt_build_ref(l->build);
    if (accept(rt, c, l, build, &item)) {
        rt_held_free(rt, l);
        rt_link_pause(rt, l, RT_PAUSE_BACKLOG, false);
        if (c->session_dirty) rt_session_flush(rt, c);
        rt_acks_flush(rt, c);
    }
    rt_build_unref(build);
}

void rt_backlog_check(struct runtime *rt)
{
    for (struct rt_link *l = rt->held, *next; l; l = next) {
        next = l->held_next;
        if (l->phase == RT_LINK_OPEN) held_try(rt, l);
    }
}

/* Dedupe, backlog, sequence, acknowledgement: all of it or nothing. False: the frame is held. */
static bool accept(struct runtime *rt, struct rt_conn *c, struct rt_link *l, struct rt_build *build,
                   const struct path_item *item)
{
    const struct frame_rules *rules = build->build->rules;
    struct clock now = rt->read_at;
    struct dedupe_key key;
    bool keyed = c->dedupe && dedupe_key_of(c->dedupe, rules, item->fields, &key);
    uint64_t offset = 0;
    if (keyed && dedupe_seen(c->dedupe, key, now.mono_ms, &offset)) {
        c->frames_duplicate++;
        remember(c, l, build, item);
        if (rules->ack_count) rt_ack_queue(rt, c, l, build, item, &key, offset);
        return true;
    }
    struct deliver_frame frame = { .data = item->data,
                                   .len = item->len,
                                   .json = item->json,
                                   .malformed = item->malformed,
                                   .rules = rules,
                                   .fields = item->fields,
                                   .wall_ms = now.wall_ms };
    if (rt->options.deliver &&
        deliver_append(rt->options.deliver, c->stream, &frame, &offset) == DELIVER_FULL) {
        if (!l->held) hold(rt, c, l, item);
        return false;
    }
    FAILPOINT("accepted");
    c->frames_delivered++;
    c->last_event_ms = now.mono_ms;
    l->delivered = true;
    if (item->malformed || item->fault) c->frames_malformed++;
    remember(c, l, build, item);
    if (keyed) {
        dedupe_add(c->dedupe, key, now.mono_ms, offset);
        rt_keep_seen(rt, c, key, offset, now.wall_ms, rules->dedupe.over_ms);
    }
    if (rt->options.observer.delivered) {
        rt->options.observer.delivered(rt->options.observer.self, c->self, offset, item);
    }
    if (rules->ack_count) rt_ack_queue(rt, c, l, build, item, keyed ? &key : NULL, offset);
    return true;
}

static void ending(struct runtime *rt, struct rt_link *l, const struct rt_build *build,
                   const struct path_item *item)
{
    const struct ends_rule *rule = &build->build->rules->ends[item->ends];
    struct event ev = rt_event(EV_ENDING_ANNOUNCED, l->conn, l->generation);
    ev.ending.cause = cause_make(l->ready ? STAGE_READY : STAGE_GREETING, CAUSE_ENDED, BY_PEER, NULL);
    cause_rename(&ev.ending.cause, rule->cause);
    ev.ending.cause.line = rule->line;
    ev.ending.wait_ms = rule->after_ms;
    rt_post(rt, &ev);
}

/* False: the frame came already, or one before it did not. Then the link ends, and nothing that follows is
 * taken, so that what is remembered is where the platform must go on. */
static bool in_order(struct runtime *rt, struct rt_conn *c, struct rt_link *l, const struct rt_build *build,
                     const struct path_item *item)
{
    const struct frame_rules *rules = build->build->rules;
    const struct field_value *v = &item->fields[rules->follows.field];
    if (l->out_of_order) return false;
    if (item->malformed || v->kind != FIELD_INTEGER || l->session_epoch != c->session_epoch) return true;
    if (frame_match_any(&rules->follows.anew, item->fields)) return true;
    const struct value *last = value_get(&c->session, rules->follows.key);
    if (!last || last->kind != VALUE_NUMBER) return true;
    if ((double)v->integer == last->number + 1) return true;
    if ((double)v->integer <= last->number) {
        MARK("a numbered frame came again");
        c->frames_duplicate++;
        return false;
    }
    l->out_of_order = true;
    struct event ev = rt_event(EV_ENDING_ANNOUNCED, l->conn, l->generation);
    ev.ending.cause = cause_make(l->ready ? STAGE_READY : STAGE_GREETING, CAUSE_ENDED, BY_PEER, NULL);
    snprintf(ev.ending.cause.reason, sizeof ev.ending.cause.reason, "%s is %lld, and %.0f was the last",
             rules->fields[rules->follows.field].name, (long long)v->integer, last->number);
    cause_rename(&ev.ending.cause, rules->follows.cause);
    ev.ending.cause.line = rules->follows.line;
    rt_post(rt, &ev);
    return false;
}

static void on_message(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                       struct path_item *item)
{
    /* A greeting that ends here lets a reloaded build in; this frame's fields are of the one that took
     * them. */
    struct rt_build *build = rt_build_ref(l->build);
    l->pulse.frames_in++;
    l->pulse.last_frame_ms = l->pulse.last_byte_ms;
    if (rt->options.observer.message) {
        rt->options.observer.message(rt->options.observer.self, l->conn, l->generation, true,
                                     item->text, item->data, item->len);
    }
    if (item->beat_answer) {
        if (l->beat_sent_ms) rt_count_round_trip(rt, l->pulse.last_byte_ms - l->beat_sent_ms);
        l->beat_sent_ms = 0;
        struct event ev = rt_event(EV_BEAT_ANSWERED, l->conn, l->generation);
        rt_post(rt, &ev);
    }
    if (item->beat_asked) {
        struct event ev = rt_event(EV_BEAT_ASKED, l->conn, l->generation);
        rt_post(rt, &ev);
    }
    if (item->ends >= 0) ending(rt, l, build, item);
    if (!l->ready) rt_greet_frame(rt, c, l, item);
    if (item->inspect) rt_on_frame(rt, c, l, build, item);
    /* Remembering, and the order of it, follow the hooks: a greeting that is accepted by this frame makes the
     * session that its sequence belongs to. */
    rt_pump(rt);
    if (build->build->rules->follows.on && !in_order(rt, c, l, build, item)) {
        c->frames_other++;
    } else if (item->deliver) {
        accept(rt, c, l, build, item);
    } else {
        c->frames_other++;
        remember(c, l, build, item);
    }
    rt_build_unref(build);
}
