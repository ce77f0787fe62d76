/* Keep: what must outlive the process goes to the keeper. Owns the lists of what it has not
 * heard yet, so that a thousand acknowledgements cost one cursor and one trim. Never waits for
 * an answer. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "deliver/deliver_internal.h"

/* A trim is a search and a delete on disk: worth it for so much, or once a second. */
#define RELEASED_RECORDS_MIN 64u
#define RELEASED_BYTES_MIN ((uint64_t)256 << 10)

static bool is_ripe(const struct stream *s);
static void released_unlink(struct deliver *d, struct stream *s);
static void moved_unlink(struct deliver *d, struct sub *sub);
static uint64_t trim_offset(const struct stream *s);
static void tell_trim(struct deliver *d, struct stream *s, uint64_t offset);

void deliver_set_keeper(struct deliver *d, const struct deliver_keeper *keeper)
{
    while (d->released_first) released_unlink(d, d->released_first);
    while (d->moved_first) moved_unlink(d, d->moved_first);
    d->keeps = keeper && keeper->event;
    if (keeper) d->keeper = *keeper;
}

void keep__event(struct deliver *d, const struct stream *s, bool gap, uint64_t wall_ms,
                 const void *line, size_t len)
{
    if (!d->keeps) return;
    d->keeper.event(d->keeper.self, s->name, gap, d->epoch, s->last_offset, wall_ms, line, len);
}

void keep__released(struct deliver *d, struct stream *s, size_t bytes)
{
    if (!d->keeps) return;
    bool was_ripe = is_ripe(s);
    s->released_records++;
    s->released_bytes += bytes;
    if (s->released_listed && (was_ripe || !is_ripe(s))) return;
    if (s->released_listed) {
        /* Much by now: to the front, where deliver_pump() looks. */
        uint32_t records = s->released_records;
        uint64_t released_bytes = s->released_bytes;
        released_unlink(d, s);
        s->released_records = records;
        s->released_bytes = released_bytes;
    }
    s->released_listed = true;
    s->released_next = s->released_prev = NULL;
    if (!d->released_first) {
        d->released_first = d->released_last = s;
    } else if (is_ripe(s)) {
        s->released_next = d->released_first;
        d->released_first->released_prev = s;
        d->released_first = s;
    } else {
        s->released_prev = d->released_last;
        d->released_last->released_next = s;
        d->released_last = s;
    }
}

void keep__moved(struct deliver *d, struct sub *sub)
{
    if (!d->keeps || sub->moved || !sub->consumer->name[0]) return;
    sub->moved = true;
    sub->moved_prev = NULL;
    sub->moved_next = d->moved_first;
    if (d->moved_first) d->moved_first->moved_prev = sub;
    d->moved_first = sub;
}

void keep__cursor(struct deliver *d, struct sub *sub)
{
    moved_unlink(d, sub);
    if (!d->keeps || !sub->consumer->name[0]) return;
    struct position at = stream__position(d, sub->stream, sub->acked);
    d->keeper.cursor(d->keeper.self, sub->consumer->name, sub->stream->name, at.epoch, at.offset,
                     d->wall_ms);
}

void keep__consumer(struct deliver *d, struct consumer *c)
{
    if (!d->keeps || !c->name[0]) return;
    buffer_clear(&d->kept);
    bool ok = buffer_append_char(&d->kept, '[');
    for (uint32_t i = 0; ok && i < c->pattern_count; i++) {
        ok = (i == 0 || buffer_append_char(&d->kept, ',')) &&
             text_json_string(&d->kept, c->patterns[i], strlen(c->patterns[i]));
    }
    if (!ok || !buffer_append_char(&d->kept, ']')) return;
    c->kept = true;
    c->kept_wall_ms = d->wall_ms;
    d->keeper.consumer(d->keeper.self, c->name, d->kept.data, d->kept.len, d->wall_ms);
}

void keep__consumer_gone(struct deliver *d, struct consumer *c)
{
    if (!d->keeps || !c->kept) return;
    c->kept = false;
    d->keeper.consumer_gone(d->keeper.self, c->name);
}

bool keep__flush(struct deliver *d, bool all, uint32_t most)
{
    for (; most && d->moved_first; most--) keep__cursor(d, d->moved_first);
    for (; most && d->released_first && (all || is_ripe(d->released_first)); most--) {
        struct stream *s = d->released_first;
        released_unlink(d, s);
        tell_trim(d, s, trim_offset(s));
    }
    return most > 0;
}

bool keep__wants_flush(const struct deliver *d)
{
    return d->moved_first || (d->released_first && is_ripe(d->released_first));
}

void keep__stream_ends(struct deliver *d, struct stream *s)
{
    released_unlink(d, s);
    if (d->keeps) tell_trim(d, s, s->last_offset);
}

void keep__sub_ends(struct deliver *d, struct sub *sub)
{
    moved_unlink(d, sub);
}

static bool is_ripe(const struct stream *s)
{
    return s->released_records >= RELEASED_RECORDS_MIN || s->released_bytes >= RELEASED_BYTES_MIN;
}

static void released_unlink(struct deliver *d, struct stream *s)
{
    s->released_records = 0;
    s->released_bytes = 0;
    if (!s->released_listed) return;
    if (s->released_prev) s->released_prev->released_next = s->released_next;
    else d->released_first = s->released_next;
    if (s->released_next) s->released_next->released_prev = s->released_prev;
    else d->released_last = s->released_prev;
    s->released_listed = false;
}

static void moved_unlink(struct deliver *d, struct sub *sub)
{
    if (!sub->moved) return;
    if (sub->moved_prev) sub->moved_prev->moved_next = sub->moved_next;
    else d->moved_first = sub->moved_next;
    if (sub->moved_next) sub->moved_next->moved_prev = sub->moved_prev;
    sub->moved = false;
}

/* Up to here nothing is held. A gap that somebody still needs keeps the frame before it: a trim
 * up to that frame would take the gap along. */
static uint64_t trim_offset(const struct stream *s)
{
    for (uint64_t seq = s->first_seq; seq < s->end_seq; seq++) {
        const struct record *r = stream__record(s, seq);
        if (r->kind != RECORD_STATE) return r->offset ? r->offset - 1 : 0;
    }
    return s->last_offset;
}

static void tell_trim(struct deliver *d, struct stream *s, uint64_t offset)
{
    if (offset <= s->trimmed) return;
    s->trimmed = offset;
    struct position at = stream__position(d, s, offset);
    d->keeper.trim(d->keeper.self, s->name, at.epoch, at.offset);
}
