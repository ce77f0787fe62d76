/* Append: a frame becomes a line of its stream, built where it stays whenever it fits there. Owns nothing; where
 * lines lie and what must go for a new one is in stream.c. */
#include "deliver/deliver_internal.h"
#include "deliver/envelope.h"

#define SCRATCH_BYTES_MAX ((size_t)4 << 20)

static bool append_in_place(struct deliver *d, struct stream *s, const struct deliver_frame *frame);
static void accepted(struct deliver *d, struct stream *s, const struct deliver_frame *frame, const void *line,
                     size_t len);

enum deliver_result deliver_append(struct deliver *d, struct handle stream,
                                   const struct deliver_frame *frame, uint64_t *offset_out)
{
    struct stream *s = stream__get(d, stream);
    ASSERT(s != NULL);
    d->wall_ms = frame->wall_ms;
    if (append_in_place(d, s, frame)) {
        if (offset_out) *offset_out = s->last_offset;
        return DELIVER_OK;
    }
    buffer_clear(&d->scratch);
    if (!envelope_event(&d->scratch, &d->clock, s->event_head, s->event_head_len,
                        s->last_offset + 1, frame))
        return DELIVER_FULL;
    if (!stream__make_room(d, s, record__bytes(d->scratch.len))) return DELIVER_FULL;
    s->last_offset++;
    if (!stream__store(d, s, RECORD_FRAME, frame->wall_ms, d->scratch.data, d->scratch.len)) {
        s->last_offset--;
        return DELIVER_FULL;
    }
    accepted(d, s, frame, d->scratch.data, d->scratch.len);
    if (d->scratch.capacity > SCRATCH_BYTES_MAX) {
        buffer_clear(&d->scratch);
        buffer_trim(&d->scratch, BATCH_BYTES_MAX);
    }
    if (offset_out) *offset_out = s->last_offset;
    return DELIVER_OK;
}

static void accepted(struct deliver *d, struct stream *s, const struct deliver_frame *frame, const void *line,
                     size_t len)
{
    keep__event(d, s, false, frame->wall_ms, line, len);
    s->last_wall_ms = frame->wall_ms;
    s->appended_total++;
}

/* The line is built where it stays. False: nothing happened; it may not fit there, or something must go first. */
static bool append_in_place(struct deliver *d, struct stream *s, const struct deliver_frame *frame)
{
    struct segment *tail = s->tail;
    size_t room = tail ? tail->capacity - tail->used : 0;
    if (room < s->event_head_len + frame->len + ENVELOPE_BYTES_MIN) return false;
    /* Whom nobody reads or waits for may be let go of at once, and the line with it. */
    if (!s->reading && s->named == 0) return false;
    if (s->bytes + record__bytes(room) > s->limits.bytes_max) return false;
    if (s->end_seq - s->first_seq == s->capacity && !stream__records_grow(s)) return false;
    /* Full at its limit, so that it never grows into memory of its own. */
    struct buffer line = { .data = tail->bytes + tail->used, .capacity = room, .bytes_max = room };
    if (!envelope_event(&line, &d->clock, s->event_head, s->event_head_len, s->last_offset + 1, frame)) return false;
    ASSERT(line.data == tail->bytes + tail->used);
    s->last_offset++;
    stream__commit(d, s, RECORD_FRAME, frame->wall_ms, line.len);
    accepted(d, s, frame, line.data, line.len);
    return true;
}
