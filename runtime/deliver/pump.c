/* Pump: moves lines from streams to the sinks of attached consumers. Owns the lists of who has
 * something to read, so that a turn costs what there is to do and not what is configured. A reader
 * that blocks keeps its place in the streams; only its own attachment ends when it falls too far
 * behind. */
#include <string.h>

#include "base/failpoint.h"
#include "deliver/deliver_internal.h"
#include "deliver/envelope.h"

static bool attachment_write(struct attachment *a, const void *lines, size_t len);
static bool attachment_pump(struct deliver *d, struct attachment *a);
static bool sub_pump(struct deliver *d, struct attachment *a, struct sub *sub);
static bool sub_tell_gap(struct deliver *d, struct attachment *a, struct sub *sub);
static bool sub_write_batch(struct deliver *d, struct attachment *a, struct sub *sub);
static void note_delay(struct deliver *d, const struct stream *s, uint64_t from, uint64_t to);
static bool record_is_wanted(const struct attachment *a, const struct sub *sub, uint64_t seq,
                             const struct record *r);

void deliver_pump(struct deliver *d)
{
    ASSERT(!d->pumping);
    d->pumping = true;
    d->woken_bytes = 0;
    while (d->ready_first) {
        struct attachment *a = d->ready_first;
        attachment__unlist(d, a);
        if (!a->flooded && attachment_pump(d, a)) continue;
        if (a->flooded) {
            attachment__end(d, a, "too many answers were not read");
            continue;
        }
        a->blocked = true;
        if (a->queued_bytes > d->options.consumer_bytes_max)
            attachment__end(d, a, "too slow: attach again to go on from the cursor");
    }
    /* Once per stream and turn, however many read it. */
    while (d->trim_first) {
        struct stream *s = d->trim_first;
        d->trim_first = s->trim_next;
        s->trim_due = false;
        stream__trim(d, s);
    }
    keep__flush(d, false, UINT32_MAX);
    d->pumping = false;
}

bool deliver_pump_is_due(const struct deliver *d)
{
    return d->woken_bytes >= BATCH_BYTES_MAX && d->ready_first;
}

bool deliver_wants_pump(const struct deliver *d)
{
    return d->ready_first || keep__wants_flush(d);
}

void deliver_resume(struct deliver *d, struct handle consumer)
{
    struct attachment *a = attachment__get(d, consumer);
    if (!a || !a->blocked) return;
    a->blocked = false;
    if (a->ready_first || a->answers.len) attachment__list(d, a);
}

void stream__wake(struct deliver *d, struct stream *s, uint64_t bytes)
{
    d->woken_bytes += bytes;
    for (struct sub *sub = s->subs; sub; sub = sub->stream_next) {
        if (!sub->reading) continue;
        struct attachment *a = sub->consumer->attachment;
        ASSERT(a != NULL);
        a->queued_bytes += bytes;
        sub__make_ready(d, sub);
        if (a->blocked && a->queued_bytes > d->options.consumer_bytes_max) attachment__list(d, a);
    }
}

void sub__make_ready(struct deliver *d, struct sub *sub)
{
    struct attachment *a = sub->consumer->attachment;
    ASSERT(a != NULL);
    if (!sub->ready) {
        sub->ready = true;
        sub->ready_next = NULL;
        if (a->ready_last) a->ready_last->ready_next = sub;
        else a->ready_first = sub;
        a->ready_last = sub;
    }
    if (!a->blocked) attachment__list(d, a);
}

void sub__unready(struct sub *sub)
{
    if (!sub->ready) return;
    struct attachment *a = sub->consumer->attachment;
    struct sub *before = NULL;
    for (struct sub *at = a->ready_first; at != sub; at = at->ready_next) before = at;
    if (before) before->ready_next = sub->ready_next;
    else a->ready_first = sub->ready_next;
    if (a->ready_last == sub) a->ready_last = before;
    sub->ready = false;
}

void attachment__list(struct deliver *d, struct attachment *a)
{
    if (a->listed) return;
    a->listed = true;
    a->ready_next = NULL;
    if (d->ready_last) d->ready_last->ready_next = a;
    else d->ready_first = a;
    d->ready_last = a;
}

void attachment__unlist(struct deliver *d, struct attachment *a)
{
    if (!a->listed) return;
    struct attachment *before = NULL;
    for (struct attachment *at = d->ready_first; at != a; at = at->ready_next) before = at;
    if (before) before->ready_next = a->ready_next;
    else d->ready_first = a->ready_next;
    if (d->ready_last == a) d->ready_last = before;
    a->listed = false;
}

void attachment__answer(struct deliver *d, struct attachment *a, const struct buffer *line)
{
    if (!buffer_append(&a->answers, line->data, line->len)) a->flooded = true;
    if (!a->blocked || a->flooded) attachment__list(d, a);
}

static bool attachment_write(struct attachment *a, const void *lines, size_t len)
{
    if (!a->sink.write(a->sink.self, lines, len)) return false;
    FAILPOINT("delivered");
    a->queued_bytes = a->queued_bytes > len ? a->queued_bytes - len : 0;
    return true;
}

/* False: the sink took no more. */
static bool attachment_pump(struct deliver *d, struct attachment *a)
{
    if (a->answers.len) {
        if (!attachment_write(a, a->answers.data, a->answers.len)) return false;
        buffer_clear(&a->answers);
        buffer_trim(&a->answers, 4096);
    }
    while (a->ready_first) {
        struct sub *sub = a->ready_first;
        if (!sub_pump(d, a, sub)) return false;
        a->ready_first = sub->ready_next;
        if (!a->ready_first) a->ready_last = NULL;
        sub->ready = false;
        if (sub->stream->trim_due) continue;
        sub->stream->trim_due = true;
        sub->stream->trim_next = d->trim_first;
        d->trim_first = sub->stream;
    }
    a->queued_bytes = 0;
    return true;
}

static bool sub_pump(struct deliver *d, struct attachment *a, struct sub *sub)
{
    struct stream *s = sub->stream;
    if (sub->state_due) {
        if (a->states && s->state_line.len &&
            !attachment_write(a, s->state_line.data, s->state_line.len))
            return false;
        sub->state_due = false;
        sub->states_from =
            s->end_seq; /* what was recorded since the attachment is older or the same */
    }
    if (sub->gap_due) {
        if (!sub_tell_gap(d, a, sub)) return false;
        sub->gap_due = false;
        if (sub->gap_then > sub->told) sub->told = sub->gap_then;
    }
    if (sub->next_seq < s->first_seq) {
        if (sub->next_seq < s->drop_seq) {
            sub->gap_cause = s->drop_cause;
            sub->gap_certain = true;
            sub->gap_to_ms = s->drop_wall_ms;
            if (!sub_tell_gap(d, a, sub)) return false;
        }
        sub->next_seq = s->first_seq;
    }
    while (sub->next_seq < s->end_seq) {
        if (!sub_write_batch(d, a, sub)) return false;
    }
    return true;
}

static bool sub_tell_gap(struct deliver *d, struct attachment *a, struct sub *sub)
{
    struct stream *s = sub->stream;
    struct position after = stream__position(d, s, sub->told);
    struct envelope_gap gap = { .connection = s->name, .epoch = after.epoch, .after = after.offset,
                                .from_wall_ms = sub->told_wall_ms, .to_wall_ms = sub->gap_to_ms,
                                .cause = sub->gap_cause, .certain = sub->gap_certain };
    buffer_clear(&d->scratch);
    if (!a->gaps || !envelope_gap(&d->scratch, &gap)) return true;
    if (!attachment_write(a, d->scratch.data, d->scratch.len)) return false;
    s->gaps_total++;
    return true;
}

/* Lines that lie side by side go out in one write, without a copy. */
static bool sub_write_batch(struct deliver *d, struct attachment *a, struct sub *sub)
{
    struct stream *s = sub->stream;
    const struct record *first = stream__record(s, sub->next_seq), *last_frame = NULL;
    uint64_t seq = sub->next_seq;
    if (!record_is_wanted(a, sub, seq, first)) {
        if (first->kind == RECORD_FRAME) sub->told = first->offset;
        sub->next_seq++;
        return true;
    }
    size_t len = 0;
    for (; seq < s->end_seq && len < BATCH_BYTES_MAX; seq++) {
        const struct record *r = stream__record(s, seq);
        if (r->segment != first->segment || r->at != first->at + len) break;
        if (!record_is_wanted(a, sub, seq, r)) break;
        if (len && len + r->len > BATCH_BYTES_MAX) break;
        if (r->kind == RECORD_FRAME) last_frame = r;
        len += r->len;
    }
    ASSERT(seq > sub->next_seq);
    if (!attachment_write(a, first->segment->bytes + first->at, len)) return false;
    if (d->clock_wall_ms) note_delay(d, s, sub->next_seq, seq);
    sub->next_seq = seq;
    if (!last_frame) return true;
    sub->told = last_frame->offset;
    sub->told_wall_ms = last_frame->wall_ms;
    if (sub->told > sub->told_max) sub->told_max = sub->told;
    return true;
}

static void note_delay(struct deliver *d, const struct stream *s, uint64_t from, uint64_t to)
{
    for (uint64_t seq = from; seq < to; seq++) {
        const struct record *r = stream__record(s, seq);
        if (r->kind != RECORD_FRAME) continue;
        histogram_note(&d->delay, d->clock_wall_ms > r->wall_ms ? (d->clock_wall_ms - r->wall_ms) * 1000 : 0);
    }
}

static bool record_is_wanted(const struct attachment *a, const struct sub *sub, uint64_t seq,
                             const struct record *r)
{
    if (r->kind == RECORD_STATE) return a->states && seq >= sub->states_from;
    return r->kind == RECORD_FRAME || a->gaps;
}
