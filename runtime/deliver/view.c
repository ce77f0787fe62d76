/* View: what consumers look like from outside, and how far each has come. Reads only. */
#include <string.h>

#include "base/text.h"
#include "deliver/deliver_internal.h"

static uint64_t sub_lag(const struct sub *sub);
static uint64_t sub_oldest_wall_ms(const struct sub *sub);

bool deliver_consumer_next(const struct deliver *d, uint32_t *index,
                           struct deliver_consumer_view *out)
{
    struct handle h;
    const struct consumer *c = slots_next(&d->consumers, index, &h);
    if (!c) return false;
    memset(out, 0, sizeof *out);
    text_copy(out->name, sizeof out->name, c->name, strlen(c->name));
    out->attached = c->attachment != NULL;
    out->since_wall_ms = c->since_wall_ms;
    for (const struct sub *sub = c->subs; sub; sub = sub->consumer_next) {
        const uint64_t lag = sub_lag(sub), oldest = lag ? sub_oldest_wall_ms(sub) : 0;
        out->connections++;
        out->lag += lag;
        if (oldest && (!out->oldest_wall_ms || oldest < out->oldest_wall_ms))
            out->oldest_wall_ms = oldest;
    }
    return true;
}

bool deliver_position_next(const struct deliver *d, const char *consumer, const void **at,
                           struct deliver_position_view *out)
{
    const struct sub *sub = *at;
    if (sub) {
        sub = sub->consumer_next;
    } else {
        const struct consumer *c = consumer[0] ? consumer__find(d, consumer) : NULL;
        sub = c ? c->subs : NULL;
    }
    *at = sub;
    if (!sub) return false;
    const struct stream *s = sub->stream;
    struct position cursor = stream__position(d, s, sub->acked);
    *out = (struct deliver_position_view){
        .epoch = cursor.epoch,
        .offset = cursor.offset,
        .last_offset = s->last_offset,
        .lag = sub_lag(sub),
        .oldest_wall_ms = sub_oldest_wall_ms(sub),
        .configured = s->configured,
    };
    text_copy(out->connection, sizeof out->connection, s->name, strlen(s->name));
    return true;
}

bool deliver_cursor(const struct deliver *d, struct handle stream, const char *consumer,
                    uint64_t *epoch, uint64_t *offset)
{
    const struct stream *s = stream__get(d, stream);
    const struct sub *sub = s && consumer[0] ? s->subs : NULL;
    while (sub && strcmp(sub->consumer->name, consumer) != 0) sub = sub->stream_next;
    if (!sub) return false;
    struct position at = stream__position(d, s, sub->acked);
    *epoch = at.epoch;
    *offset = at.offset;
    return true;
}

/* Frames that wait for it: what fell out before it came for them waits no longer. */
static uint64_t sub_lag(const struct sub *sub)
{
    const struct stream *s = sub->stream;
    uint64_t done = sub->consumer->name[0] ? sub->acked : sub->told;
    uint64_t start = stream__start(s);
    if (done < start) done = start;
    return s->last_offset > done ? s->last_offset - done : 0;
}

/* When the oldest of them was accepted. */
static uint64_t sub_oldest_wall_ms(const struct sub *sub)
{
    const struct stream *s = sub->stream;
    uint64_t done = sub->consumer->name[0] ? sub->acked : sub->told;
    for (uint64_t seq = stream__seq_after(s, done); seq < s->end_seq; seq++) {
        const struct record *r = stream__record(s, seq);
        if (r->kind == RECORD_FRAME) return r->wall_ms;
    }
    return 0;
}
