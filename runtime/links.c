/* Links: from the dial to the closed descriptor. Encodes what goes out, closes as the engine says. Never decides to
 * dial, never judges an ending. The upgrade in between: link_upgrade.c. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "runtime_internal.h"

/* Behind a message that is still being written, so much more may wait. */
#define OUT_BEHIND_MAX ((size_t)64 << 10)
/* Kept for encoding the next frame. */
#define SCRATCH_KEPT_BYTES ((size_t)64 << 10)
/* Of packets that share a message; one more may follow. */
#define JOINED_BYTES_MAX ((size_t)8 << 10)

static void sink_link_stage(struct runtime *rt, uint64_t id, enum stage stage);
static void sink_link_opened(struct runtime *rt, uint64_t id);
static size_t sink_link_bytes(struct runtime *rt, uint64_t id, uint8_t *bytes, size_t len);
static void sink_link_writable(struct runtime *rt, uint64_t id);
static void sink_link_drained(struct runtime *rt, uint64_t id);
static void sink_link_ended(struct runtime *rt, uint64_t id, const struct cause *cause);
static void sink_link_closed(struct runtime *rt, uint64_t id);
static void sink_http_done(struct runtime *rt, uint64_t id, const struct http_result *result);

const struct host_sink runtime_host_sink = {
    .link_stage = sink_link_stage,
    .link_opened = sink_link_opened,
    .link_bytes = sink_link_bytes,
    .link_writable = sink_link_writable,
    .link_drained = sink_link_drained,
    .link_ended = sink_link_ended,
    .link_closed = sink_link_closed,
    .http_done = sink_http_done,
};

uint64_t rt_link_id(const struct rt_link *l)
{
    return handle_pack(l->self);
}

struct rt_link *rt_link_find(const struct rt_conn *c, uint32_t generation)
{
    for (struct rt_link *l = c->links; l; l = l->next) {
        if (l->generation == generation) return l;
    }
    return NULL;
}

void rt_dial_failed(struct runtime *rt, struct rt_link *l, const struct cause *cause)
{
    struct event ev = rt_event(EV_DIAL_FAILED, l->conn, l->generation);
    ev.cause = *cause;
    l->phase = RT_LINK_OVER;
    rt_post(rt, &ev);
}

void rt_link_dial(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    ASSERT(c->address != NULL);
    ASSERT(c->address_generation == generation);
    rt_weather_dials(rt, c);
    struct handle h;
    struct rt_link *l = slots_alloc(&rt->links, &h);
    bool opened = false;
    if (l) {
        l->self = h;
        l->conn = c->self;
        l->generation = generation;
        l->build = rt_build_ref(c->build);
        l->session_epoch = c->session_epoch;
        buffer_init(&l->out, 0);
        l->shown = strdup(c->address->shown);
        ASSERT(l->shown != NULL);
        l->next = c->links;
        c->links = l;
        struct link_target target = { .host = c->address->host,
                                      .port = c->address->port,
                                      .tls = c->address->tls,
                                      .ca_file = c->ca_file,
                                      .proxy = rt_conn_proxy(rt, c, c->address->tls, c->address->host,
                                                             c->address->port) };
        opened = rt->options.host.ops->link_open(rt->options.host.self, handle_pack(h), &target);
    }
    if (opened) return;
    /* The engine waits for exactly one LINK_CLOSED per dial, also for one that never was. */
    struct event ev = rt_event(EV_DIAL_FAILED, c->self, generation);
    ev.cause = cause_make(STAGE_RESOLVING, CAUSE_IO, BY_US, "out of descriptors or memory");
    rt_post(rt, &ev);
    ev = rt_event(EV_LINK_CLOSED, c->self, generation);
    ev.cause = cause_make(STAGE_RESOLVING, CAUSE_IO, BY_US, "out of descriptors or memory");
    rt_post(rt, &ev);
    if (l) rt_link_free(rt, l);
}

void rt_link_free(struct runtime *rt, struct rt_link *l)
{
    struct rt_conn *c = rt_conn_get(rt, l->conn);
    ASSERT(c != NULL);
    struct rt_link **at = &c->links;
    while (*at != l) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = l->next;
    rt_turn_over(rt, c, l->generation);
    c->past.bytes_in += l->pulse.bytes_in;
    c->past.bytes_out += l->pulse.bytes_out;
    c->past.frames_in += l->pulse.frames_in;
    c->past.frames_out += l->pulse.frames_out;
    rt_held_free(rt, l);
    if (l->path_on) path_deinit(&l->path);
    buffer_deinit(&l->out);
    free(l->shown);
    if (l->upgrade) rt_upgrade_over(l);
    rt_build_unref(l->build);
    slots_free(&rt->links, l->self);
}

void rt_link_adopt_build(struct runtime *rt, struct rt_link *l)
{
    struct rt_conn *c = rt_conn_get(rt, l->conn);
    ASSERT(c != NULL);
    if (l->build == c->build) return;
    /* A greeting that waits holds matchers over the old build's fields: it finishes on them. */
    for (const struct rt_task *t = c->tasks; t; t = t->next) {
        if (t->generation == l->generation && t->hook == HOOK_GREET) return;
    }
    rt_build_unref(l->build);
    l->build = rt_build_ref(c->build);
    if (l->path_on) path_set_rules(&l->path, l->build->build->rules);
}

/* --- outbound -------------------------------------------------------------------------------------- */

/* Bytes in the order of their writing: first what the host's queue takes, the rest when it has room again. */
static void flush_out(struct runtime *rt, struct rt_link *l)
{
    const struct host_ops *host = rt->options.host.ops;
    void *self = rt->options.host.self;
    uint64_t id = rt_link_id(l);
    size_t at = 0;
    while (at < l->out.len) {
        size_t queued = host->link_queued(self, id), n = l->out.len - at;
        size_t room = queued < LINK_WRITE_QUEUE_MAX ? LINK_WRITE_QUEUE_MAX - queued : 0;
        if (n > room) n = room;
        if (n == 0 || !host->link_write(self, id, l->out.data + at, n)) break;
        at += n;
    }
    buffer_consume(&l->out, at);
    buffer_trim(&l->out, 0);
    if (l->out.len == 0 && l->finish_wanted) {
        l->finish_wanted = false;
        host->link_finish(self, id);
    }
}

static bool write_bytes(struct runtime *rt, struct rt_link *l, const void *bytes, size_t len)
{
    if (l->finish_wanted) return false;
    if (l->out.len == 0 && len <= LINK_WRITE_QUEUE_MAX) {
        return rt->options.host.ops->link_write(rt->options.host.self, rt_link_id(l), bytes, len);
    }
    /* Only a message over the host's queue is cut, and only one at a time waits here. */
    if (l->out.len && len > OUT_BEHIND_MAX) return false;
    if (!buffer_append(&l->out, bytes, len)) return false;
    MARK("a message longer than the host's queue");
    flush_out(rt, l);
    return true;
}

bool rt_link_frame(struct runtime *rt, struct rt_link *l, enum ws_opcode opcode, const void *bytes,
                   size_t len)
{
    uint8_t mask[4];
    if (l->phase != RT_LINK_OPEN) return false;
    rt->options.host.ops->random(rt->options.host.self, mask, sizeof mask);
    buffer_clear(&rt->scratch);
    bool ok = ws_encode(&rt->scratch, opcode, true, bytes, len, mask) &&
              write_bytes(rt, l, rt->scratch.data, rt->scratch.len);
    if (ok) l->pulse.bytes_out += rt->scratch.len;
    buffer_clear(&rt->scratch);
    buffer_trim(&rt->scratch, SCRATCH_KEPT_BYTES);
    return ok;
}

/* Empties a buffer that may hold a token. */
static void scratch_wipe(struct buffer *b)
{
    if (b->data) explicit_bzero(b->data, b->len);
    buffer_clear(b);
    buffer_trim(b, SCRATCH_KEPT_BYTES);
}

/* Appends what the link's codec makes of a JSON text. */
static bool encode_packet(struct runtime *rt, struct rt_link *l, const void *json, size_t len,
                          struct buffer *out)
{
    char why[160] = "";
    struct buffer *copy = &rt->scratch_json;
    buffer_clear(copy);
    /* The scanner may change what it reads, and a send is shown to observers as it was written. */
    bool ok = buffer_append(copy, json, len) &&
              path_encode(&l->path, copy->data, copy->len, out, why, sizeof why);
    if (!ok) {
        struct rt_conn *c = rt_conn_get(rt, l->conn);
        rt_journal_note(rt, c, l->generation, JOURNAL_NOTE, "a frame was not sent: %s", why);
    }
    scratch_wipe(copy);
    return ok;
}

/* JSON text that the link's codec makes a binary message of. */
static bool send_packet(struct runtime *rt, struct rt_link *l, const void *json, size_t len)
{
    struct buffer *packet = &rt->scratch_packet;
    buffer_clear(packet);
    bool ok = encode_packet(rt, l, json, len, packet) &&
              rt_link_frame(rt, l, WS_BINARY, packet->data, packet->len);
    scratch_wipe(packet);
    return ok;
}

static void sent(struct runtime *rt, struct rt_link *l, const void *bytes, size_t len, bool text)
{
    if (rt->options.observer.message) {
        rt->options.observer.message(rt->options.observer.self, l->conn, l->generation, false, text,
                                     bytes, len);
    }
    l->pulse.frames_out++;
}

bool rt_link_send(struct runtime *rt, struct rt_link *l, const void *bytes, size_t len, bool text)
{
    if (l->phase != RT_LINK_OPEN || l->close_sent) return false;
    bool ok = text && path_encodes(&l->path) ? send_packet(rt, l, bytes, len)
                                             : rt_link_frame(rt, l, text ? WS_TEXT : WS_BINARY, bytes, len);
    if (ok) sent(rt, l, bytes, len, text);
    return ok;
}

bool rt_link_send_joined(struct runtime *rt, struct rt_link *l, const void *bytes, size_t len, bool text)
{
    struct buffer *packets = &rt->joined.packets;
    if (!text || !path_joins(&l->path)) return rt_link_send(rt, l, bytes, len, text);
    if (l->phase != RT_LINK_OPEN || l->close_sent) return false;
    bool same = handle_pack(rt->joined.conn) == handle_pack(l->conn) && rt->joined.generation == l->generation;
    if (packets->len && (!same || packets->len > JOINED_BYTES_MAX)) rt_joined_flush(rt);
    rt->joined.conn = l->conn;
    rt->joined.generation = l->generation;
    bool ok = encode_packet(rt, l, bytes, len, packets);
    if (ok) sent(rt, l, bytes, len, text);
    return ok;
}

void rt_joined_flush(struct runtime *rt)
{
    struct buffer *packets = &rt->joined.packets;
    if (packets->len == 0) return;
    struct rt_conn *c = rt_conn_get(rt, rt->joined.conn);
    struct rt_link *l = c ? rt_link_find(c, rt->joined.generation) : NULL;
    /* A link that ended meanwhile takes its packets along: what they acknowledged is sent again. */
    if (l && l->phase == RT_LINK_OPEN && !l->close_sent) {
        rt_link_frame(rt, l, WS_BINARY, packets->data, packets->len);
    }
    buffer_clear(packets);
    buffer_trim(packets, SCRATCH_KEPT_BYTES);
}

void rt_link_ping(struct runtime *rt, struct rt_link *l)
{
    if (l->phase != RT_LINK_OPEN || l->close_sent) return;
    if (rt_link_frame(rt, l, WS_PING, "hf", 2) && !l->ping_sent_ms) l->ping_sent_ms = rt_clock(rt).mono_ms;
}

void rt_link_close_frame(struct runtime *rt, struct rt_link *l, uint16_t code, const char *reason)
{
    uint8_t mask[4];
    ASSERT(!l->close_sent);
    l->close_sent = true;
    rt->options.host.ops->random(rt->options.host.self, mask, sizeof mask);
    buffer_clear(&rt->scratch);
    if (ws_encode_close(&rt->scratch, code, reason, mask) &&
        write_bytes(rt, l, rt->scratch.data, rt->scratch.len)) {
        l->pulse.bytes_out += rt->scratch.len;
    }
}

void rt_link_finish(struct runtime *rt, struct rt_link *l)
{
    if (l->out.len) {
        l->finish_wanted = true;
    } else {
        rt->options.host.ops->link_finish(rt->options.host.self, rt_link_id(l));
    }
}

void rt_link_close(struct runtime *rt, struct rt_link *l, uint16_t code, const char *reason)
{
    if (l->phase == RT_LINK_OVER) return;
    if (l->phase != RT_LINK_OPEN) {
        /* No close frame exists before the upgrade: the descriptor goes at once. */
        rt_link_abort(rt, l);
        return;
    }
    rt_link_pause(rt, l, RT_PAUSE_HOOK, false);
    if (!l->close_sent) rt_link_close_frame(rt, l, code, reason);
    if (l->close_received) rt_link_finish(rt, l);
}

void rt_link_abort(struct runtime *rt, struct rt_link *l)
{
    l->phase = RT_LINK_OVER;
    rt->options.host.ops->link_abort(rt->options.host.self, rt_link_id(l));
}

void rt_link_pause(struct runtime *rt, struct rt_link *l, enum rt_pause why, bool on)
{
    uint32_t pauses = on ? l->pauses | (uint32_t)why : l->pauses & ~(uint32_t)why;
    if (pauses == l->pauses) return;
    bool was = l->pauses != 0;
    l->pauses = pauses;
    if (was == (pauses != 0) || l->phase == RT_LINK_OVER) return;
    rt->options.host.ops->link_read(rt->options.host.self, rt_link_id(l), pauses == 0);
}

/* --- from the host ----------------------------------------------------------------------------------- */

static struct rt_link *link_of(struct runtime *rt, uint64_t id)
{
    return slots_get(&rt->links, handle_unpack(id));
}

static void sink_link_stage(struct runtime *rt, uint64_t id, enum stage stage)
{
    struct rt_link *l = link_of(rt, id);
    if (!l || l->phase != RT_LINK_OPENING) return;
    struct event ev = rt_event(EV_STAGE_REACHED, l->conn, l->generation);
    ev.stage.stage = stage;
    rt_post(rt, &ev);
    rt_pump(rt);
}

static void sink_link_opened(struct runtime *rt, uint64_t id)
{
    struct rt_link *l = link_of(rt, id);
    if (!l || l->phase != RT_LINK_OPENING) return;
    struct rt_conn *c = rt_conn_get(rt, l->conn);
    ASSERT(c != NULL);
    struct event ev = rt_event(EV_STAGE_REACHED, l->conn, l->generation);
    ev.stage.stage = STAGE_UPGRADING;
    rt_post(rt, &ev);
    if (!c->address || c->address_generation != l->generation) {
        rt_pump(rt);
        return;
    }
    rt_upgrade_begin(rt, c, l);
    rt_pump(rt);
}

static size_t sink_link_bytes(struct runtime *rt, uint64_t id, uint8_t *bytes, size_t len)
{
    struct rt_link *l = link_of(rt, id);
    if (!l) return len;
    rt->read_at = rt_clock(rt);
    l->pulse.last_byte_ms = rt->read_at.mono_ms;
    l->pulse.bytes_in += len;
    size_t consumed = 0;
    if (l->phase == RT_LINK_UPGRADING) consumed = rt_upgrade_bytes(rt, l, bytes, len);
    if (l->phase != RT_LINK_OPEN) return len;
    if (consumed < len && l->pauses == 0) consumed += rt_inbound(rt, l, bytes + consumed, len - consumed);
    /* The rest comes again: it must not count twice. */
    if (consumed < len) l->pulse.bytes_in -= len - consumed;
    rt_pump(rt);
    if (rt->options.deliver && deliver_pump_is_due(rt->options.deliver)) {
        deliver_pump(rt->options.deliver);
        rt_pump(rt);
    }
    return consumed;
}

static void sink_link_writable(struct runtime *rt, uint64_t id)
{
    struct rt_link *l = link_of(rt, id);
    if (l && l->phase == RT_LINK_OPEN) flush_out(rt, l);
    rt_pump(rt);
}

static void sink_link_drained(struct runtime *rt, uint64_t id)
{
    struct rt_link *l = link_of(rt, id);
    if (!l) return;
    struct event ev = rt_event(EV_DRAINED, l->conn, l->generation);
    ev.drained.pulse = l->pulse;
    rt_post(rt, &ev);
    rt_pump(rt);
}

static void sink_link_ended(struct runtime *rt, uint64_t id, const struct cause *cause)
{
    struct rt_link *l = link_of(rt, id);
    if (!l || l->phase == RT_LINK_OVER) return;
    if (l->phase == RT_LINK_OPEN) {
        if (!l->close_received) {
            struct event ev = rt_event(EV_PEER_CLOSED, l->conn, l->generation);
            ev.cause = *cause;
            rt_post(rt, &ev);
        }
        l->phase = RT_LINK_OVER;
    } else if (l->phase == RT_LINK_UPGRADING && upgrade_read_end(l->upgrade) == UPGRADE_REFUSED) {
        /* Its body ended with the stream. Without a whole answer the host knows better why it ended. */
        struct cause refused = rt_upgrade_cause(rt, l);
        rt_dial_failed(rt, l, &refused);
    } else {
        struct cause failed = *cause;
        if (l->phase == RT_LINK_UPGRADING) failed.stage = STAGE_UPGRADING;
        rt_dial_failed(rt, l, &failed);
    }
    rt->options.host.ops->link_abort(rt->options.host.self, id);
    rt_pump(rt);
}

static void sink_link_closed(struct runtime *rt, uint64_t id)
{
    struct rt_link *l = link_of(rt, id);
    if (!l) return;
    struct event ev = rt_event(EV_LINK_CLOSED, l->conn, l->generation);
    ev.cause = cause_make(STAGE_CLOSING, CAUSE_EOF, BY_NETWORK, "the descriptor is closed");
    rt_post(rt, &ev);
    rt_link_free(rt, l);
    rt_pump(rt);
}

static void sink_http_done(struct runtime *rt, uint64_t id, const struct http_result *result)
{
    rt_http_done(rt, handle_unpack(id), result);
    rt_pump(rt);
}
