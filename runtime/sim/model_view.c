/* What is in a model: visited, counted, and compared with another one. Changes nothing. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/model_internal.h"

struct difference {
    char *why;
    size_t why_bytes;
};

static bool differs(const struct difference *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void model_visit(const struct model *m, const struct store_visitor *v)
{
    for (uint32_t i = 0; i < m->stream_count; i++) {
        const struct model_stream *s = m->streams[i];
        if (v->connection && s->json.bytes) v->connection(v->self, s->name, s->json.bytes, s->json.len);
        if (v->wish && s->wished) v->wish(v->self, s->name, s->stopped);
        if (v->session && s->session.bytes) {
            v->session(v->self, s->name, s->session_of, s->session_wall_ms, s->session.bytes,
                       s->session.len);
        }
        if (v->keep && s->keep.bytes) v->keep(v->self, s->name, s->keep.bytes, s->keep.len);
    }
    for (uint32_t i = 0; v->permit && i < m->permit_count; i++) {
        const struct model_permit *p = &m->permits[i];
        v->permit(v->self, p->account, p->budget, p->lane, !p->old_boot, p->wall_ms, p->boot_ms);
    }
    for (uint32_t i = 0; v->told && i < m->told_count; i++) {
        const struct model_told *t = &m->tolds[i];
        v->told(v->self, t->account, t->budget, t->left, t->lanes, !t->old_boot, t->until_wall_ms,
                t->until_boot_ms);
    }
    for (uint32_t i = 0; i < m->stream_count; i++) {
        const struct model_stream *s = m->streams[i];
        for (uint32_t j = 0; v->epoch && j < s->epoch_count; j++) {
            v->epoch(v->self, s->name, s->epochs[j].epoch, s->epochs[j].after, s->epochs[j].last);
        }
    }
    for (uint32_t i = 0; i < m->stream_count; i++) {
        const struct model_stream *s = m->streams[i];
        for (uint32_t j = 0; v->event && j < s->event_count; j++) {
            const struct model_event *e = &s->events[s->event_first + j];
            v->event(v->self, s->name, e->kind, e->epoch, e->offset, e->wall_ms, e->line, e->len);
        }
    }
    for (uint32_t i = 0; v->consumer && i < m->consumer_count; i++) {
        const struct model_consumer *c = &m->consumers[i];
        v->consumer(v->self, c->name, c->patterns, c->len, c->wall_ms);
    }
    for (uint32_t i = 0; v->cursor && i < m->cursor_count; i++) {
        const struct model_cursor *c = &m->cursors[i];
        v->cursor(v->self, c->consumer, c->connection, c->epoch, c->offset, c->wall_ms);
    }
    for (uint32_t i = 0; i < m->stream_count; i++) {
        const struct model_stream *s = m->streams[i];
        for (uint32_t j = 0; v->seen && j < s->seen_count; j++) {
            const struct model_seen *k = &s->seen[j];
            v->seen(v->self, s->name, k->key_high, k->key_low, k->offset, k->wall_ms);
        }
        for (uint32_t j = 0; v->journal && j < s->journal_count; j++) {
            const struct model_entry *e = &s->journal[j];
            v->journal(v->self, s->name[0] ? s->name : NULL, e->wall_ms, e->json, e->len);
        }
    }
}

bool model_record_get(const struct model *m, enum store_op op, const char *connection,
                      struct model_record *out)
{
    const struct model_stream *s = model__find(m, connection);
    const struct model_blob *b = NULL;
    if (s && op == STORE_OP_SESSION) b = &s->session;
    if (s && op == STORE_OP_KEEP) b = &s->keep;
    if (!b || !b->bytes) return false;
    *out = (struct model_record){ b->bytes, b->len,
                                  op == STORE_OP_SESSION ? s->session_wall_ms : s->keep_wall_ms,
                                  op == STORE_OP_SESSION ? s->session_of : 0 };
    return true;
}

void model_last_frame(const struct model *m, const char *connection, uint64_t *epoch_out,
                      uint64_t *offset_out)
{
    const struct model_stream *s = model__find(m, connection);
    *epoch_out = s ? s->last_epoch : 0;
    *offset_out = s ? s->last_offset : 0;
}

void model_counts(const struct model *m, struct model_counts *out)
{
    *out = (struct model_counts){ .permits = m->permit_count, .consumers = m->consumer_count,
                                  .cursors = m->cursor_count };
    for (uint32_t i = 0; i < m->stream_count; i++) {
        const struct model_stream *s = m->streams[i];
        out->events += s->event_count;
        out->seen += s->seen_count;
        if (s->session.bytes) out->sessions++;
    }
}

/* ---- compared ----------------------------------------------------------------------------------------------- */

static bool differs(const struct difference *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(d->why, d->why_bytes, format, args);
    va_end(args);
    return false;
}

static bool blob_equal(const struct model_blob *a, const struct model_blob *b)
{
    if (!a->bytes || !b->bytes) return a->bytes == b->bytes;
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static int by_permit(const struct model_permit *x, const struct model_permit *y)
{
    if (x->wall_ms != y->wall_ms) return x->wall_ms < y->wall_ms ? -1 : 1;
    if (x->account != y->account) return x->account < y->account ? -1 : 1;
    if (x->budget != y->budget) return x->budget < y->budget ? -1 : 1;
    return x->lane < y->lane ? -1 : x->lane > y->lane;
}

/* A permit of a year ago is kept by nobody. */
#define PERMIT_AGE_MS ((uint64_t)31 * 24 * 3600 * 1000)

static uint32_t permit_times(const struct model *m, const struct model_permit *p)
{
    uint32_t times = 0;
    for (uint32_t i = 0; m && i < m->permit_count; i++) times += by_permit(&m->permits[i], p) == 0;
    return times;
}

static bool permits_equal(const struct model *a, const struct model *b, const struct model *doubtful,
                          uint64_t wall_ms, const struct difference *d)
{
    for (uint32_t i = 0; i < b->permit_count; i++) {
        const struct model_permit *p = &b->permits[i];
        if (p->wall_ms + PERMIT_AGE_MS < wall_ms) continue;
        if (permit_times(a, p) >= permit_times(b, p)) continue;
        return differs(d, "the permit of %llu is gone", (unsigned long long)p->wall_ms);
    }
    for (uint32_t i = 0; i < a->permit_count; i++) {
        const struct model_permit *p = &a->permits[i];
        if (permit_times(a, p) <= permit_times(b, p) + permit_times(doubtful, p)) continue;
        return differs(d, "there is a permit of %llu that was not granted",
                       (unsigned long long)p->wall_ms);
    }
    return true;
}

static bool tolds_equal(const struct model *a, const struct model *b, const struct difference *d)
{
    if (a->told_count != b->told_count) return differs(d, "another number of told budgets");
    for (uint32_t i = 0; i < a->told_count; i++) {
        bool same = false;
        for (uint32_t j = 0; j < b->told_count; j++) {
            const struct model_told *x = &a->tolds[i], *y = &b->tolds[j];
            same = same || (x->account == y->account && x->budget == y->budget &&
                            x->left == y->left && x->lanes == y->lanes &&
                            x->until_wall_ms == y->until_wall_ms);
        }
        if (!same) return differs(d, "another told budget");
    }
    return true;
}

static bool consumers_equal(const struct model *a, const struct model *b, const struct difference *d)
{
    if (a->consumer_count != b->consumer_count) {
        return differs(d, "%u consumers, not %u", a->consumer_count, b->consumer_count);
    }
    if (a->cursor_count != b->cursor_count) {
        return differs(d, "%u cursors, not %u", a->cursor_count, b->cursor_count);
    }
    for (uint32_t i = 0; i < a->consumer_count; i++) {
        const struct model_consumer *x = &a->consumers[i];
        bool same = false;
        for (uint32_t j = 0; j < b->consumer_count; j++) {
            const struct model_consumer *y = &b->consumers[j];
            same = same || (strcmp(x->name, y->name) == 0 && x->wall_ms == y->wall_ms &&
                            x->len == y->len && memcmp(x->patterns, y->patterns, x->len) == 0);
        }
        if (!same) return differs(d, "consumer %s is another one", x->name);
    }
    for (uint32_t i = 0; i < a->cursor_count; i++) {
        const struct model_cursor *x = &a->cursors[i];
        bool same = false;
        for (uint32_t j = 0; j < b->cursor_count; j++) {
            const struct model_cursor *y = &b->cursors[j];
            same = same || (strcmp(x->consumer, y->consumer) == 0 &&
                            strcmp(x->connection, y->connection) == 0 && x->epoch == y->epoch &&
                            x->offset == y->offset);
        }
        if (!same) return differs(d, "the cursor of %s in %s is elsewhere", x->consumer, x->connection);
    }
    return true;
}

static bool events_equal(const struct model_stream *a, const struct model_stream *b,
                         const struct difference *d)
{
    for (uint32_t i = 0; i < a->event_count || i < b->event_count; i++) {
        const struct model_event *x = &a->events[a->event_first + i];
        const struct model_event *y = &b->events[b->event_first + i];
        if (i >= a->event_count) {
            return differs(d, "%s lacks event %llu.%llu", a->name, (unsigned long long)y->epoch,
                           (unsigned long long)y->offset);
        }
        if (i >= b->event_count) {
            return differs(d, "%s has event %llu.%llu, which was not written", a->name,
                           (unsigned long long)x->epoch, (unsigned long long)x->offset);
        }
        if (x->kind == y->kind && x->epoch == y->epoch && x->offset == y->offset &&
            x->wall_ms == y->wall_ms && x->len == y->len && memcmp(x->line, y->line, x->len) == 0)
            continue;
        return differs(d, "%s has event %llu.%llu (%s) where %llu.%llu (%s) was written", a->name,
                       (unsigned long long)x->epoch, (unsigned long long)x->offset,
                       x->kind == STORE_EVENT_GAP ? "gap" : "frame", (unsigned long long)y->epoch,
                       (unsigned long long)y->offset, y->kind == STORE_EVENT_GAP ? "gap" : "frame");
    }
    return true;
}

/* Every key of `b` that is not over is in `a`. */
static bool seen_in(const struct model_stream *a, const struct model_stream *b, uint64_t wall_ms)
{
    for (uint32_t i = 0; i < b->seen_count; i++) {
        const struct model_seen *x = &b->seen[i];
        bool there = x->until_wall_ms && x->until_wall_ms <= wall_ms;
        for (uint32_t j = 0; !there && j < a->seen_count; j++) {
            const struct model_seen *y = &a->seen[j];
            there = x->key_high == y->key_high && x->key_low == y->key_low && x->offset == y->offset;
        }
        if (!there) return false;
    }
    return true;
}

static bool stream_equal(const struct model_stream *a, const struct model_stream *b, uint64_t wall_ms,
                         const struct difference *d)
{
    if (!blob_equal(&a->session, &b->session) ||
        (a->session.bytes &&
         (a->session_of != b->session_of || a->session_wall_ms != b->session_wall_ms)))
        return differs(d, "%s has another session: %s, not %s", a->name,
                       a->session.bytes ? a->session.bytes : "none",
                       b->session.bytes ? b->session.bytes : "none");
    if (!blob_equal(&a->keep, &b->keep)) return differs(d, "%s has another keep", a->name);
    if (!blob_equal(&a->json, &b->json)) return differs(d, "%s is another connection", a->name);
    if (a->stopped != b->stopped) return differs(d, "%s has another wish", a->name);
    if (!seen_in(a, b, wall_ms)) return differs(d, "%s lacks a seen key", a->name);
    return events_equal(a, b, d);
}

bool model_equal(const struct model *a, const struct model *b, const struct model *doubtful,
                 uint64_t wall_ms, char *why, size_t why_bytes)
{
    const struct model_stream none = { .name = NULL };
    struct difference d = { why, why_bytes };
    for (uint32_t i = 0; i < b->stream_count; i++) {
        struct model_stream empty = none;
        empty.name = b->streams[i]->name;
        const struct model_stream *s = model__find(a, b->streams[i]->name);
        if (!stream_equal(s ? s : &empty, b->streams[i], wall_ms, &d)) return false;
    }
    for (uint32_t i = 0; i < a->stream_count; i++) {
        struct model_stream empty = none;
        empty.name = a->streams[i]->name;
        if (model__find(b, a->streams[i]->name)) continue;
        if (!stream_equal(a->streams[i], &empty, wall_ms, &d)) return false;
    }
    return permits_equal(a, b, doubtful, wall_ms, &d) && tolds_equal(a, b, &d) && consumers_equal(a, b, &d);
}
