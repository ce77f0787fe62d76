/* Our side of a stream: the host functions for links, and the stages of a dial. Reports to the sink
 * from the queue alone, never from inside a host function. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/world_internal.h"

enum { STEP_NEW, STEP_RESOLVE, STEP_CONNECT, STEP_SECURE, STEP_OPEN };

static void put(struct world *w, struct stream *s, uint64_t delay_ms, enum happening_kind kind)
{
    world__put(w, w->now_ms + delay_ms, kind, s->self, 0, 0);
}

struct stream *world__stream_get(const struct world *w, struct handle h)
{
    return handle_is_none(h) ? NULL : slots_get(&w->streams, h);
}

static struct stream *find(struct world *w, uint64_t link)
{
    return world__stream_get(w, handle_unpack(idmap_find(&w->links, link)));
}

/* ---- accounting ----------------------------------------------------------------------------------- */

static void count_descriptor(struct world *w, struct stream *s, bool open)
{
    uint64_t identity = s->owner.identity;
    s->descriptor = open;
    w->descriptors += open ? 1 : -1u;
    if (!identity) return;
    uint64_t at = idmap_find(&w->identities, identity);
    if (!at) {
        if (w->identity_count == w->identity_capacity) {
            w->identity_capacity = w->identity_capacity ? w->identity_capacity * 2 : 8;
            w->identity_counts = realloc(w->identity_counts,
                                         w->identity_capacity * sizeof *w->identity_counts);
            ASSERT(w->identity_counts != NULL);
        }
        w->identity_counts[w->identity_count] = (struct identity_count){ .identity = identity };
        at = ++w->identity_count;
        idmap_put(&w->identities, identity, at);
    }
    struct identity_count *c = &w->identity_counts[at - 1];
    ASSERT(open || c->open > 0);
    c->open += open ? 1 : -1u;
    if (c->open > c->most) c->most = c->open;
}

/* ---- host functions -------------------------------------------------------------------------------- */

static void host_clock(void *self, struct clock *out)
{
    *out = world_clock(self);
}

static void host_random(void *self, void *out, size_t len)
{
    struct world *w = self;
    uint8_t *bytes = out;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t draw = rng_draw(w->options.seed, 0x5a17, w->randoms++, 0);
        memcpy(bytes + i, &draw, len - i < 8 ? len - i : 8);
    }
}

static bool link_open(void *self, uint64_t link, const struct link_target *target)
{
    struct world *w = self;
    ASSERT(w->booted);
    ASSERT(idmap_find(&w->links, link) == 0);
    struct handle h;
    struct stream *s = slots_alloc(&w->streams, &h);
    if (!s) return false;
    s->self = h;
    s->link = link;
    s->serial = ++w->next_serial;
    s->host = world__copy(target->host, strlen(target->host));
    s->port = target->port;
    s->tls = target->tls;
    s->reading = true;
    s->opened_ms = w->now_ms;
    s->arrival_frozen_ms = world_frozen_ms(w);
    s->up.cut_left = s->down.cut_left = WORLD_NEVER;
    buffer_init(&s->up.out, LINK_WRITE_QUEUE_MAX);
    buffer_init(&s->up.wire, 0);
    buffer_init(&s->up.in, 0);
    buffer_init(&s->down.out, 0);
    buffer_init(&s->down.wire, 0);
    buffer_init(&s->down.in, 0);
    if (w->machine.owner) w->machine.owner(w->machine.self, link, target, &s->owner);
    idmap_put(&w->links, link, handle_pack(h));
    count_descriptor(w, s, true);
    trace_line(&w->trace, w->now_ms, "%s#%u link opens to %s://%s:%u", s->owner.connection,
               s->owner.generation, target->tls ? "wss" : "ws", target->host,
               (unsigned)target->port);
    put(w, s, 0, HAPPENING_DIAL);
    return true;
}

static bool link_write(void *self, uint64_t link, const void *bytes, size_t len)
{
    struct world *w = self;
    struct stream *s = find(w, link);
    if (!s || !s->descriptor || !s->opened || s->finishing) return false;
    if (s->up.out.len + len > LINK_WRITE_QUEUE_MAX) {
        s->over_high = true;
        return false;
    }
    if (!buffer_append(&s->up.out, bytes, len)) return false;
    world__stream_pump(w, s, true);
    if (s->up.out.len > LINK_WRITE_QUEUE_LOW) s->over_high = true;
    return true;
}

static size_t link_queued(void *self, uint64_t link)
{
    struct stream *s = find(self, link);
    return s ? s->up.out.len : 0;
}

static void link_read(void *self, uint64_t link, bool on)
{
    struct world *w = self;
    struct stream *s = find(w, link);
    if (!s || s->reading == on) return;
    s->reading = on;
    if (on) world__link_stir(w, s);
}

static void link_drain(void *self, uint64_t link)
{
    struct world *w = self;
    struct stream *s = find(w, link);
    if (s && s->descriptor) put(w, s, 0, HAPPENING_DRAIN);
}

static void link_finish(void *self, uint64_t link)
{
    struct world *w = self;
    struct stream *s = find(w, link);
    if (!s || !s->descriptor || s->finishing) return;
    if (!s->opened) {
        world__link_let_go(w, s);
        return;
    }
    s->finishing = true;
    s->up.fin_wanted = true;
    world__stream_pump(w, s, true);
}

static void link_abort(void *self, uint64_t link)
{
    struct world *w = self;
    struct stream *s = find(w, link);
    if (!s || s->close_told_soon) return;
    s->ended = false; /* our own wish: nothing is told but closed */
    trace_line(&w->trace, w->now_ms, "%s#%u link aborted", s->owner.connection,
               s->owner.generation);
    world__link_let_go(w, s);
}

static void wake(void *self)
{
    struct world *w = self;
    w->wake = true;
}

const struct host_ops world__host_ops = {
    .clock = host_clock,
    .random = host_random,
    .link_open = link_open,
    .link_write = link_write,
    .link_queued = link_queued,
    .link_read = link_read,
    .link_drain = link_drain,
    .link_finish = link_finish,
    .link_abort = link_abort,
    .http_start = world__call_start,
    .http_cancel = world__call_cancel,
    .wake = wake,
};

/* ---- the dial ---------------------------------------------------------------------------------------- */

void world__link_let_go(struct world *w, struct stream *s)
{
    if (!s->descriptor) return;
    count_descriptor(w, s, false);
    s->finishing = true;
    if (s->server_state != SERVER_NONE && !s->up.fin_arrived) world__stream_reset(w, s, true);
    if (s->close_told_soon) return;
    s->close_told_soon = true;
    if (w->booted) put(w, s, 0, HAPPENING_CLOSED);
}

static void fail(struct world *w, struct stream *s, enum cause_kind kind, enum cause_by by,
                 int64_t code, const char *reason)
{
    if (!s->descriptor) return;
    s->cause = cause_make(s->stage, kind, by, reason);
    s->cause.code = code;
    s->ended = true;
    trace_line(&w->trace, w->now_ms, "%s#%u link ends: %s at %s", s->owner.connection,
               s->owner.generation, cause_kind_name(kind), stage_name(s->stage));
    world__link_let_go(w, s);
}

static void tell_stage(struct world *w, struct stream *s, enum stage stage)
{
    s->stage = stage;
    w->machine.sink->link_stage(w->machine.rt, s->link, stage);
    w->wake = true;
}

static const struct fault *strike(struct world *w, struct stream *s, enum fault_kind kind)
{
    struct fault_subject about = world__subject(w, s->host, s->server, s->owner.connection,
                                                FAULT_ON_LINKS, s->stage);
    return faults_strike(&w->faults, kind, &about);
}

/* Only a fault that names this stage. */
static const struct fault *strike_here(struct world *w, struct stream *s, enum fault_kind kind)
{
    struct fault_subject about = world__subject(w, s->host, s->server, s->owner.connection,
                                                FAULT_ON_LINKS, s->stage);
    about.staged = true;
    return faults_strike(&w->faults, kind, &about);
}

static uint64_t latency(struct world *w, struct stream *s, unsigned way)
{
    return world__latency_ms(w, s->serial, 1 + way, s->step);
}

static uint64_t round_trip(struct world *w, struct stream *s)
{
    uint64_t extra = 0;
    const struct fault *slow = strike(w, s, FAULT_SLOW);
    if (slow) extra = slow->ms;
    return latency(w, s, 0) + latency(w, s, 1) + 2 * extra;
}

static void dial_resolve(struct world *w, struct stream *s)
{
    s->server = world__resolve(w, s->host); /* faults may be by peer */
    tell_stage(w, s, STAGE_RESOLVING);
    if (!s->descriptor) return;
    uint64_t delay = latency(w, s, 0);
    const struct fault *slow = strike(w, s, FAULT_RESOLVE_SLOW);
    if (slow) delay += slow->ms;
    s->step = STEP_RESOLVE;
    put(w, s, delay, HAPPENING_DIAL);
}

static void dial_connect(struct world *w, struct stream *s)
{
    if (!s->server || strike(w, s, FAULT_RESOLVE_FAIL)) {
        char text[CAUSE_REASON_MAX];
        snprintf(text, sizeof text, "cannot resolve %.80s", s->host);
        fail(w, s, CAUSE_RESOLVE, BY_NETWORK, -3008, text);
        return;
    }
    tell_stage(w, s, STAGE_CONNECTING);
    if (!s->descriptor) return;
    s->step = STEP_CONNECT;
    if (strike(w, s, FAULT_CONNECT_TIMEOUT) || strike(w, s, FAULT_BLACK_HOLE)) {
        trace_line(&w->trace, w->now_ms, "%s#%u SYN lost", s->owner.connection,
                   s->owner.generation);
        world__stream_set_dead(w, s);
        return;
    }
    put(w, s, round_trip(w, s), HAPPENING_DIAL);
}

static void dial_secure(struct world *w, struct stream *s)
{
    if (strike(w, s, FAULT_REFUSE)) {
        fail(w, s, CAUSE_REFUSED, BY_NETWORK, 111, "connection refused");
        return;
    }
    if (strike(w, s, FAULT_UNREACHABLE)) {
        fail(w, s, CAUSE_UNREACHABLE, BY_NETWORK, 113, "no route to host");
        return;
    }
    if (strike_here(w, s, FAULT_RESET)) {
        fail(w, s, CAUSE_RESET, BY_NETWORK, 104, "connection reset by peer");
        return;
    }
    world__server_accept(w, s);
    world__stream_strike_new(w, s);
    s->step = STEP_SECURE;
    if (!s->tls) {
        s->step = STEP_OPEN;
        put(w, s, 0, HAPPENING_DIAL);
        return;
    }
    tell_stage(w, s, STAGE_SECURING);
    if (!s->descriptor) return;
    if (s->up.hole || s->down.hole) return;
    put(w, s, round_trip(w, s), HAPPENING_DIAL);
}

static void dial_open(struct world *w, struct stream *s)
{
    static const struct {
        enum fault_kind fault;
        enum cause_kind kind;
        int64_t code;
        const char *reason;
    } securing[] = {
        { FAULT_TLS_FAIL, CAUSE_TLS, 40, "TLS alert: handshake failure" },
        { FAULT_CERT_WRONG_NAME, CAUSE_CERTIFICATE, 62, "certificate is for another name" },
        { FAULT_CERT_EXPIRED, CAUSE_CERTIFICATE, 10, "certificate has expired" },
        { FAULT_CERT_UNKNOWN_CA, CAUSE_CERTIFICATE, 20, "unable to get local issuer certificate" },
        { FAULT_PLAIN_ON_TLS, CAUSE_TLS, 0, "the other side does not speak TLS" },
    };
    if (s->up.hole || s->down.hole) return; /* fell into a black hole meanwhile */
    if (s->down.reset_arrived) {
        fail(w, s, CAUSE_RESET, BY_NETWORK, 104, "connection reset by peer");
        return;
    }
    if (s->tls && strike_here(w, s, FAULT_RESET)) {
        fail(w, s, CAUSE_RESET, BY_NETWORK, 104, "connection reset by peer");
        return;
    }
    for (size_t i = 0; s->tls && i < sizeof securing / sizeof *securing; i++) {
        if (!strike(w, s, securing[i].fault)) continue;
        fail(w, s, securing[i].kind, BY_NETWORK, securing[i].code, securing[i].reason);
        return;
    }
    if (s->tls && !world__server(w, s->server)->tls) {
        fail(w, s, CAUSE_TLS, BY_NETWORK, 0, "the other side does not speak TLS");
        return;
    }
    s->step = STEP_OPEN;
    s->opened = true;
    s->stage = STAGE_UPGRADING;
    w->machine.sink->link_opened(w->machine.rt, s->link);
    w->wake = true;
    world__link_stir(w, s);
}

void world__link_on_dial(struct world *w, struct stream *s)
{
    if (!s->descriptor || s->opened) return;
    switch (s->step) {
    case STEP_NEW: dial_resolve(w, s); break;
    case STEP_RESOLVE: dial_connect(w, s); break;
    case STEP_CONNECT: dial_secure(w, s); break;
    default: dial_open(w, s); break;
    }
}

/* ---- reading ---------------------------------------------------------------------------------------- */

void world__link_stir(struct world *w, struct stream *s)
{
    if (!s->opened || !s->descriptor || !s->reading || s->readable_queued) return;
    if (!s->down.in.len && !s->down.fin_arrived && !s->down.reset_arrived) return;
    s->readable_queued = true;
    put(w, s, 0, HAPPENING_READABLE);
}

/* Up to `most` bytes to the sink; then, when nothing is left, the stream's end. */
static void deliver(struct world *w, struct stream *s, size_t most)
{
    while (s->descriptor && s->reading && s->down.in.len && most) {
        size_t len = s->down.in.len < WORLD_READ_BYTES_MAX ? s->down.in.len : WORLD_READ_BYTES_MAX;
        if (len > most) len = most;
        /* A read may end anywhere: one in four does. */
        uint64_t draw = rng_draw(w->options.seed, 0x4ead, s->serial, s->reads++);
        if ((draw & 3) == 0) len = (size_t)rng_range(rng_mix(draw), 1, len);
        most -= len;
        size_t used = w->machine.sink->link_bytes(w->machine.rt, s->link, s->down.in.data, len);
        w->wake = true;
        ASSERT(used <= len);
        ASSERT(used == len || !s->reading || !s->descriptor); /* host.h: only after link_read(off) */
        buffer_consume(&s->down.in, used);
        world__stream_pump(w, s, false); /* the window opened */
    }
    if (!s->descriptor || !s->reading) return;
    if (s->down.in.len) {
        world__link_stir(w, s);
    } else if (s->down.reset_arrived) {
        fail(w, s, CAUSE_RESET, BY_NETWORK, 104, "connection reset by peer");
    } else if (s->down.fin_arrived) {
        fail(w, s, CAUSE_EOF, BY_PEER, 0, "the stream ended");
    }
}

void world__link_on_readable(struct world *w, struct stream *s)
{
    s->readable_queued = false;
    if (s->descriptor) deliver(w, s, WORLD_READ_BYTES_MAX);
}

void world__link_on_drain(struct world *w, struct stream *s)
{
    if (!s->descriptor) return;
    deliver(w, s, WORLD_DRAIN_BYTES_MAX);
    if (!s->descriptor) return;
    w->machine.sink->link_drained(w->machine.rt, s->link);
    w->wake = true;
}

void world__link_on_writable(struct world *w, struct stream *s)
{
    if (!s->descriptor || !s->over_high || s->up.out.len > LINK_WRITE_QUEUE_LOW) return;
    s->over_high = false;
    w->machine.sink->link_writable(w->machine.rt, s->link);
    w->wake = true;
}

void world__link_on_closed(struct world *w, struct stream *s)
{
    ASSERT(!s->descriptor);
    if (s->closed_told) return; /* the machine it was to be told to is gone */
    uint64_t link = s->link;
    w->wake = true;
    if (s->ended) w->machine.sink->link_ended(w->machine.rt, link, &s->cause);
    s->closed_told = true;
    idmap_remove(&w->links, link);
    s->link = 0;
    trace_line(&w->trace, w->now_ms, "%s#%u link closed", s->owner.connection,
               s->owner.generation);
    world__stream_free_if_over(w, s);
    w->machine.sink->link_closed(w->machine.rt, link);
}
