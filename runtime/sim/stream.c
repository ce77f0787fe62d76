/* A stream: two pipes of bytes with latency, windows and segments cut at arbitrary places, and what
 * faults do to them. Knows neither WebSocket nor HTTP. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/world_internal.h"

static uint64_t arrival_ms(struct world *w, struct stream *s, struct pipe *p, bool up)
{
    uint64_t at = w->now_ms + world__latency_ms(w, s->serial, up ? 4 : 5, p->segments) +
                  p->extra_ms;
    if (at < p->last_arrival_ms) at = p->last_arrival_ms;
    if (p->trickle_ms && at < p->last_arrival_ms + p->trickle_ms) {
        at = p->last_arrival_ms + p->trickle_ms;
    }
    p->last_arrival_ms = at + p->gap_ms;
    p->gap_ms = 0;
    p->segments++;
    return at;
}

static size_t segment(struct world *w, struct stream *s, struct pipe *p, bool up, size_t room)
{
    size_t len = p->out.len < room ? p->out.len : room;
    if (len > WORLD_SEGMENT_BYTES_MAX) len = WORLD_SEGMENT_BYTES_MAX;
    if (p->trickle_ms) len = 1;
    uint64_t draw = rng_draw(w->options.seed, 0x5e6, s->serial ^ ((uint64_t)up << 63), p->segments);
    /* Cut anywhere, and the rest a moment later, so that a reader meets the half. */
    if ((draw & 3) == 0 && len > 1) {
        len = (size_t)rng_range(rng_mix(draw), 1, len);
        p->gap_ms = 1 + (draw >> 8 & 3);
    }
    if (len > p->cut_left) len = (size_t)p->cut_left;
    return len;
}

/* The far machine, or something between, ended the stream after so many bytes. */
static void cut(struct world *w, struct stream *s, struct pipe *p)
{
    MARK("a stream is cut after its bytes");
    p->fin_sent = true;
    buffer_clear(&p->out);
    world__put(w, arrival_ms(w, s, p, false), p->cut_resets ? HAPPENING_RESET_DOWN
                                                            : HAPPENING_FIN_DOWN, s->self, 0, 0);
    world__server_over(w, s, 1006);
}

void world__stream_pump(struct world *w, struct stream *s, bool up)
{
    struct pipe *p = up ? &s->up : &s->down;
    if (p->hole || p->fin_sent) return;
    while (p->out.len && p->cut_left) {
        size_t held = p->wire.len + p->in.len;
        if (held >= WORLD_WINDOW_BYTES) break;
        if (p->trickle_ms && p->wire.len) break;
        size_t len = segment(w, s, p, up, WORLD_WINDOW_BYTES - held);
        ASSERT(len > 0);
        bool ok = buffer_append(&p->wire, p->out.data, len);
        ASSERT(ok);
        buffer_consume(&p->out, len);
        if (p->cut_left != WORLD_NEVER) p->cut_left -= len;
        world__put(w, arrival_ms(w, s, p, up), up ? HAPPENING_ARRIVE_UP : HAPPENING_ARRIVE_DOWN,
                   s->self, len, 0);
    }
    if (p->cut_left == 0) {
        cut(w, s, p);
        return;
    }
    if (up && s->over_high && p->out.len <= LINK_WRITE_QUEUE_LOW && s->descriptor) {
        world__put(w, w->now_ms, HAPPENING_WRITABLE, s->self, 0, 0);
    }
    if (p->out.len == 0 && p->fin_wanted) {
        p->fin_sent = true;
        world__put(w, arrival_ms(w, s, p, up), up ? HAPPENING_FIN_UP : HAPPENING_FIN_DOWN, s->self,
                   0, 0);
    }
}

void world__stream_on_arrive(struct world *w, struct stream *s, bool up, uint64_t len)
{
    struct pipe *p = up ? &s->up : &s->down;
    ASSERT(len <= p->wire.len);
    if (p->hole) {
        p->parked += len;
        return;
    }
    bool taken = up ? s->server_state != SERVER_NONE : s->descriptor;
    if (taken) {
        bool ok = buffer_append(&p->in, p->wire.data, (size_t)len);
        ASSERT(ok);
        p->bytes_total += len;
    }
    buffer_consume(&p->wire, (size_t)len);
    if (!taken) return;
    if (up) {
        world__server_on_bytes(w, s);
    } else {
        s->last_arrival_ms = w->now_ms;
        s->arrival_frozen_ms = world_frozen_ms(w);
        world__link_stir(w, s);
    }
    if (p->trickle_ms) world__stream_pump(w, s, up);
    if (p->fin_waits && p->wire.len == 0) {
        p->fin_waits = false;
        world__stream_on_fin(w, s, up);
    }
}

void world__stream_on_fin(struct world *w, struct stream *s, bool up)
{
    struct pipe *p = up ? &s->up : &s->down;
    if (p->hole) {
        p->parked_fin = true;
        return;
    }
    if (p->fin_arrived) return;
    if (p->wire.len) { /* bytes that a sleeping machine missed come again first */
        p->fin_waits = true;
        return;
    }
    p->fin_arrived = true;
    if (up) world__server_on_end(w, s);
    else world__link_stir(w, s);
}

void world__stream_on_reset(struct world *w, struct stream *s, bool up)
{
    struct pipe *p = up ? &s->up : &s->down;
    if (p->hole) return; /* nobody repeats a RST */
    p->reset_arrived = true;
    if (up) {
        world__server_on_end(w, s);
    } else if (!s->opened && s->descriptor) {
        world__put(w, w->now_ms, HAPPENING_DIAL, s->self, 0, 0);
    } else {
        world__link_stir(w, s);
    }
}

void world__stream_reset(struct world *w, struct stream *s, bool up)
{
    struct pipe *p = up ? &s->up : &s->down;
    buffer_clear(&p->out);
    p->fin_sent = true;
    world__put(w, arrival_ms(w, s, p, up), up ? HAPPENING_RESET_UP : HAPPENING_RESET_DOWN, s->self,
               0, 0);
}

void world__stream_free_if_over(struct world *w, struct stream *s)
{
    if (s->descriptor || !s->closed_told) return;
    if (s->server_state != SERVER_NONE || s->over_queued) return;
    struct pipe *pipes[] = { &s->up, &s->down };
    for (int i = 0; i < 2; i++) {
        buffer_deinit(&pipes[i]->out);
        buffer_deinit(&pipes[i]->wire);
        buffer_deinit(&pipes[i]->in);
    }
    if (s->request_ready) request_reader_deinit(&s->request);
    if (s->ws_ready) ws_decoder_deinit(&s->ws);
    free(s->host);
    slots_free(&w->streams, s->self);
}

void world__stream_view(const struct stream *s, struct stream_view *out)
{
    *out = (struct stream_view){ .link = s->link,
                                 .owner = s->owner,
                                 .tls = s->tls,
                                 .descriptor = s->descriptor,
                                 .server_open = s->server_state != SERVER_NONE,
                                 .stage = s->stage,
                                 .opened_ms = s->opened_ms,
                                 .last_arrival_ms = s->last_arrival_ms,
                                 .arrival_frozen_ms = s->arrival_frozen_ms,
                                 .dead_ms = s->dead_ms,
                                 .bytes_in = s->down.bytes_total,
                                 .bytes_out = s->up.bytes_total };
    text_copy(out->host, sizeof out->host, s->host, strlen(s->host));
}

/* ---- faults ------------------------------------------------------------------------------------------- */

void world__stream_set_dead(struct world *w, struct stream *s)
{
    if (s->dead_ms) return;
    s->dead_ms = w->now_ms ? w->now_ms : 1;
    if (!w->on_dead || !s->descriptor) return;
    struct stream_view view;
    world__stream_view(s, &view);
    w->on_dead(w->on_dead_self, &view);
}

void world__stream_strike(struct world *w, struct stream *s, struct fault *f)
{
    trace_line(&w->trace, w->now_ms, "fault %u %s strikes %s#%u", f->id, fault_name(f->kind),
               s->owner.connection, s->owner.generation);
    bool standing = s->server_state != SERVER_NONE;
    switch (f->kind) {
    case FAULT_BLACK_HOLE:
        s->struck[f->kind] = f->id;
        s->up.hole = s->down.hole = true;
        world__stream_set_dead(w, s);
        break;
    case FAULT_HALF_OPEN:
        s->up.hole = s->down.hole = true;
        s->far_gone = true;
        world__stream_set_dead(w, s);
        break;
    case FAULT_TRICKLE:
        s->struck[f->kind] = f->id;
        s->down.trickle_ms = f->ms ? f->ms : 1;
        break;
    case FAULT_SLOW:
        s->struck[f->kind] = f->id;
        s->up.extra_ms = s->down.extra_ms = f->ms;
        break;
    case FAULT_NO_CLOSE_ANSWER:
        s->struck[f->kind] = f->id;
        break;
    case FAULT_RESET:
    case FAULT_TRUNCATE:
        s->down.cut_resets = f->kind == FAULT_RESET;
        s->down.cut_left = f->bytes;
        if (f->bytes == 0 && standing && !s->down.hole && !s->down.fin_sent) {
            world__stream_pump(w, s, false);
        }
        break;
    case FAULT_EOF_WITHOUT_CLOSE:
        if (!standing) break;
        s->down.fin_wanted = true;
        world__stream_pump(w, s, false);
        world__server_over(w, s, 1006);
        break;
    case FAULT_GARBAGE:
        if (standing) world__server_garbage(w, s, f->bytes ? f->bytes : 16);
        break;
    default: ASSERT(!"not a fault of streams");
    }
}

static void refill(struct world *w, struct stream *s, bool up)
{
    struct pipe *p = up ? &s->up : &s->down;
    p->hole = false;
    uint64_t at = w->now_ms + WORLD_RETRANSMIT_MS;
    if (at < p->last_arrival_ms) at = p->last_arrival_ms;
    p->last_arrival_ms = at;
    if (p->parked) {
        world__put(w, at, up ? HAPPENING_ARRIVE_UP : HAPPENING_ARRIVE_DOWN, s->self, p->parked, 0);
        p->parked = 0;
    }
    if (p->parked_fin) {
        world__put(w, at, up ? HAPPENING_FIN_UP : HAPPENING_FIN_DOWN, s->self, 0, 0);
        p->parked_fin = false;
    }
    world__stream_pump(w, s, up);
}

void world__stream_release(struct world *w, struct stream *s, enum fault_kind kind)
{
    s->struck[kind] = 0;
    if (kind == FAULT_TRICKLE) {
        s->down.trickle_ms = 0;
        world__stream_pump(w, s, false);
    }
    if (kind == FAULT_SLOW) s->up.extra_ms = s->down.extra_ms = 0;
    if (kind != FAULT_BLACK_HOLE || s->far_gone) return;
    if (!s->deaf) s->dead_ms = 0;
    refill(w, s, true);
    if (!s->deaf) refill(w, s, false);
    /* A handshake that stood still goes on. */
    if (s->descriptor && !s->opened && s->server_state != SERVER_NONE) {
        world__put(w, w->now_ms + WORLD_RETRANSMIT_MS, HAPPENING_DIAL, s->self, 0, 0);
    }
}

void world__stream_strike_new(struct world *w, struct stream *s)
{
    static const enum fault_kind kinds[] = { FAULT_BLACK_HOLE, FAULT_HALF_OPEN, FAULT_TRICKLE,
                                             FAULT_SLOW, FAULT_NO_CLOSE_ANSWER, FAULT_RESET,
                                             FAULT_TRUNCATE };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct fault_subject about = world__subject(w, s->host, s->server, s->owner.connection,
                                                    FAULT_ON_LINKS, STAGE_NONE);
        const struct fault *f = faults_strike(&w->faults, kinds[i], &about);
        if (f) world__stream_strike(w, s, faults_get(&w->faults, f->id));
    }
}
