/* Orders: what consumers send towards the platform. Size and kind are checked before the engine is asked,
 * so that nothing forbidden comes near the wire; each send is answered exactly once. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "runtime_internal.h"

static void deliver_on_send(void *self, const char *connection, uint64_t send_id,
                            const void *frame, size_t len, bool text)
{
    struct runtime *rt = self;
    struct deliver *d = rt->options.deliver;
    struct rt_conn *c = rt_conn_get(rt, runtime_find(rt, connection));
    if (!c) {
        deliver_send_answer(d, send_id, "no such connection", false);
        return;
    }
    const struct frame_rules *rules = c->build->build->rules;
    if (len > rules->send_bytes_max) {
        MARK("consumer send over the limit");
        deliver_send_answer(d, send_id, "longer than the platform takes", false);
        return;
    }
    bool accepted = rules->accept_all;
    struct frame_path path = { .rules = rules };
    struct field_value fields[FIELDS_MAX];
    uint8_t *copy = malloc(len + 1);
    ASSERT(copy != NULL);
    if (len) memcpy(copy, frame, len);
    if (rules->codec != CODEC_BYTES) {
        if (!text || path_take(&path, copy, len, fields) != JSON_OK) {
            deliver_send_answer(d, send_id, "not valid JSON", false);
            free(copy);
            return;
        }
        if (!accepted) accepted = frame_match_any(&rules->accept, fields);
        if (frame_match_any(&rules->start, fields)) accepted = false;
        char why[160] = "";
        if (accepted && !path_encodable(rules, copy, len, why, sizeof why)) {
            deliver_send_answer(d, send_id, why, false);
            free(copy);
            return;
        }
        if (len) memcpy(copy, frame, len);
    }
    if (!accepted) {
        deliver_send_answer(d, send_id, "the policy does not accept this frame from consumers", false);
        free(copy);
        return;
    }
    struct handle h;
    struct rt_send *s = slots_alloc(&rt->sends, &h);
    if (!s) {
        deliver_send_answer(d, send_id, "too many sends are waiting", true);
        free(copy);
        return;
    }
    *s = (struct rt_send){ .self = h, .conn = c->self, .deliver_id = send_id, .text = text,
                           .len = len, .bytes = copy };
    c->send_count++;
    struct event ev = rt_event(EV_SEND_REQUESTED, c->self, 0);
    ev.send.send_id = handle_pack(h);
    ev.send.bytes = (uint32_t)len;
    ev.send.by = SEND_CONSUMER;
    rt_post(rt, &ev);
    rt_pump(rt);
    rt->options.host.ops->wake(rt->options.host.self); /* the engine's deadline may have moved */
}

static void deliver_on_send_dropped(void *self, uint64_t send_id)
{
    struct runtime *rt = self;
    uint32_t i = 0;
    struct handle h;
    struct rt_send *s;
    for (; (s = slots_next(&rt->sends, &i, &h)); i++) {
        if (s->deliver_id != send_id) continue;
        struct event ev = rt_event(EV_SEND_DROPPED, s->conn, 0);
        ev.send.send_id = handle_pack(h);
        rt_post(rt, &ev);
        rt_send_free(rt, s);
        rt->options.host.ops->wake(rt->options.host.self);
        return;
    }
}

/* The connection, if this consumer's acknowledgements count for its platform; else NULL. */
static struct rt_conn *owned_by(struct runtime *rt, const char *connection, const char *consumer)
{
    struct rt_conn *c = rt_conn_get(rt, runtime_find(rt, connection));
    return c && c->owner[0] && strcmp(c->owner, consumer) == 0 ? c : NULL;
}

static void deliver_on_reply(void *self, const char *connection, const char *consumer, uint64_t epoch,
                             uint64_t offset, const void *frame, size_t len, bool text)
{
    struct runtime *rt = self;
    struct rt_conn *c = owned_by(rt, connection, consumer);
    (void)epoch;
    if (c) rt_ack_reply(rt, c, offset, frame, len, text);
}

/* An acknowledgement may have made room for what is held. */
static void deliver_on_acked(void *self, const char *connection, const char *consumer,
                             uint64_t epoch, uint64_t offset)
{
    struct runtime *rt = self;
    struct rt_conn *c = owned_by(rt, connection, consumer);
    (void)epoch; /* offsets go on over epochs */
    if (c) rt_ack_owner(rt, c, offset);
    if (rt->held) rt->options.host.ops->wake(rt->options.host.self);
}

void rt_consumers_init(struct runtime *rt)
{
    rt->deliver_port = (struct deliver_port){ .self = rt,
                                              .send = deliver_on_send,
                                              .send_dropped = deliver_on_send_dropped,
                                              .acked = deliver_on_acked,
                                              .reply = deliver_on_reply };
    deliver_set_port(rt->options.deliver, &rt->deliver_port);
}
