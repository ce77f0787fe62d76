/* Model: tables as arrays, a record per connection. Owns copies of everything; clear rather than fast. */
#include "sim/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "sim/model_internal.h"

static struct model_stream *get(struct model *m, const char *name);

static void *grown(void *items, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity) return items;
    *capacity = *capacity ? *capacity * 2 : 8;
    items = realloc(items, *capacity * size);
    ASSERT(items != NULL);
    return items;
}

static char *copy(const void *bytes, size_t len)
{
    char *out = malloc(len + 1);
    ASSERT(out != NULL);
    if (len) memcpy(out, bytes, len);
    out[len] = 0;
    return out;
}

struct model *model_create(void)
{
    struct model *m = calloc(1, sizeof *m);
    ASSERT(m != NULL);
    return m;
}

static void stream_free(struct model_stream *s)
{
    free(s->name);
    free(s->session.bytes);
    free(s->keep.bytes);
    free(s->json.bytes);
    for (uint32_t i = 0; i < s->event_count; i++) free(s->events[s->event_first + i].line);
    for (uint32_t i = 0; i < s->journal_count; i++) free(s->journal[i].json);
    free(s->events);
    free(s->epochs);
    free(s->seen);
    free(s->journal);
    free(s);
}

void model_destroy(struct model *m)
{
    if (!m) return;
    for (uint32_t i = 0; i < m->stream_count; i++) stream_free(m->streams[i]);
    for (uint32_t i = 0; i < m->consumer_count; i++) {
        free(m->consumers[i].name);
        free(m->consumers[i].patterns);
    }
    for (uint32_t i = 0; i < m->cursor_count; i++) {
        free(m->cursors[i].consumer);
        free(m->cursors[i].connection);
    }
    free(m->streams);
    free(m->consumers);
    free(m->cursors);
    free(m->permits);
    free(m->tolds);
    free(m);
}

struct model *model_copy(const struct model *m)
{
    struct model *c = model_create();
    struct store_visitor to = model_visitor(c);
    model_visit(m, &to);
    for (uint32_t i = 0; i < c->permit_count; i++) c->permits[i] = m->permits[i];
    for (uint32_t i = 0; i < m->stream_count; i++) {
        const struct model_stream *from = m->streams[i];
        struct model_stream *s = get(c, from->name);
        s->last_epoch = from->last_epoch; /* no visitor tells these */
        s->last_offset = from->last_offset;
        for (uint32_t j = 0; j < s->seen_count; j++) s->seen[j] = from->seen[j];
    }
    return c;
}

struct model_stream *model__find(const struct model *m, const char *name)
{
    for (uint32_t i = 0; i < m->stream_count; i++) {
        if (strcmp(m->streams[i]->name, name) == 0) return m->streams[i];
    }
    return NULL;
}

static struct model_stream *get(struct model *m, const char *name)
{
    struct model_stream *s = model__find(m, name);
    if (s) return s;
    m->streams = grown(m->streams, m->stream_count, &m->stream_capacity, sizeof(struct model_stream *));
    s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    s->name = copy(name, strlen(name));
    m->streams[m->stream_count++] = s;
    return s;
}

static void blob_set(struct model_blob *b, const void *bytes, size_t len)
{
    char *next = bytes ? copy(bytes, len) : NULL;
    free(b->bytes);
    *b = (struct model_blob){ .bytes = next, .len = next ? len : 0 };
}

/* ---- permits --------------------------------------------------------------------------------------------- */

static void permit_add(struct model *m, const struct model_permit *p)
{
    for (uint32_t i = 0; i < m->permit_count; i++) {
        if (memcmp(&m->permits[i], p, sizeof *p) == 0) return;
    }
    m->permits = grown(m->permits, m->permit_count, &m->permit_capacity, sizeof *m->permits);
    m->permits[m->permit_count++] = *p;
}

static void permit_return(struct model *m, const struct store_request *r)
{
    for (uint32_t i = 0; i < m->permit_count; i++) {
        struct model_permit *p = &m->permits[i];
        if (p->budget != r->budget || p->account != r->account || p->wall_ms != r->wall_ms ||
            p->boot_ms != r->boot_ms || (r->connection && p->connection != hash_text(r->connection)))
            continue;
        memmove(p, p + 1, (m->permit_count - i - 1) * sizeof *p);
        m->permit_count--;
        return;
    }
}

static void told_set(struct model *m, const struct model_told *t)
{
    for (uint32_t i = 0; i < m->told_count; i++) {
        if (m->tolds[i].account != t->account || m->tolds[i].budget != t->budget) continue;
        m->tolds[i] = *t;
        return;
    }
    m->tolds = grown(m->tolds, m->told_count, &m->told_capacity, sizeof *m->tolds);
    m->tolds[m->told_count++] = *t;
}

/* ---- streams ---------------------------------------------------------------------------------------------- */

static void epoch_note(struct model_stream *s, uint64_t epoch, uint64_t after, uint64_t last)
{
    for (uint32_t i = 0; i < s->epoch_count; i++) {
        if (s->epochs[i].epoch != epoch) continue;
        if (last > s->epochs[i].last) s->epochs[i].last = last;
        return;
    }
    s->epochs = grown(s->epochs, s->epoch_count, &s->epoch_capacity, sizeof *s->epochs);
    s->epochs[s->epoch_count++] = (struct model_epoch){ epoch, after, last };
}

/* Order within a stream: a frame before the gaps that follow it, gaps by time. */
static int by_place(const struct model_event *a, const struct model_event *b)
{
    if (a->epoch != b->epoch) return a->epoch < b->epoch ? -1 : 1;
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    if (a->kind == STORE_EVENT_FRAME) return 0;
    if (a->wall_ms != b->wall_ms) return a->wall_ms < b->wall_ms ? -1 : 1;
    uint64_t x = hash_bytes(a->line, a->len) & 0xfffff, y = hash_bytes(b->line, b->len) & 0xfffff;
    return x < y ? -1 : x > y;
}

static void event_add(struct model_stream *s, struct model_event e, const void *line)
{
    e.line = copy(line, e.len);
    if (s->event_first > 64 && s->event_first > s->event_count) {
        memmove(s->events, s->events + s->event_first, s->event_count * sizeof *s->events);
        s->event_first = 0;
    }
    s->events = grown(s->events, s->event_first + s->event_count, &s->event_capacity,
                      sizeof *s->events);
    struct model_event *at = &s->events[s->event_first + s->event_count];
    for (; at > &s->events[s->event_first]; at--) {
        int order = by_place(&at[-1], &e);
        if (order < 0) break;
        if (order > 0) continue;
        free(at[-1].line); /* it was written before its answer was lost */
        at[-1] = e;
        return;
    }
    memmove(at + 1, at, (size_t)(&s->events[s->event_first + s->event_count] - at) * sizeof *at);
    *at = e;
    s->event_count++;
}

/* A gap right after the position stays, unless `kind` is GAP. */
static void trim(struct model_stream *s, uint64_t epoch, uint64_t offset, enum store_event_kind kind)
{
    uint32_t gone = 0;
    for (; gone < s->event_count; gone++) {
        const struct model_event *e = &s->events[s->event_first + gone];
        if (e->epoch < epoch || (e->epoch == epoch && e->offset < offset)) continue;
        if (e->epoch > epoch || e->offset > offset || e->kind > kind) break;
    }
    for (uint32_t i = 0; i < gone; i++) free(s->events[s->event_first + i].line);
    s->event_first += gone;
    s->event_count -= gone;
    if (s->event_count == 0) s->event_first = 0;
}

static void seen_add(struct model_stream *s, const struct model_seen *seen)
{
    for (uint32_t i = 0; i < s->seen_count; i++) {
        struct model_seen *o = &s->seen[i];
        if (o->key_high != seen->key_high || o->key_low != seen->key_low) continue;
        *o = *seen;
        return;
    }
    s->seen = grown(s->seen, s->seen_count, &s->seen_capacity, sizeof *s->seen);
    s->seen[s->seen_count++] = *seen;
}

static void journal_add(struct model_stream *s, uint64_t wall_ms, const void *json, size_t len)
{
    if (s->journal_count == MODEL_JOURNAL_MAX) {
        free(s->journal[0].json);
        memmove(s->journal, s->journal + 1, --s->journal_count * sizeof *s->journal);
    }
    s->journal = grown(s->journal, s->journal_count, &s->journal_capacity, sizeof *s->journal);
    s->journal[s->journal_count++] = (struct model_entry){ wall_ms, copy(json, len), len };
}

static void connection_gone(struct model_stream *s)
{
    blob_set(&s->session, NULL, 0);
    blob_set(&s->keep, NULL, 0);
    s->wished = s->stopped = false;
    s->seen_count = 0;
}

/* ---- consumers -------------------------------------------------------------------------------------------- */

static void consumer_set(struct model *m, const char *name, const void *patterns, size_t len,
                         uint64_t wall_ms)
{
    struct model_consumer *c = NULL;
    for (uint32_t i = 0; i < m->consumer_count && !c; i++) {
        if (strcmp(m->consumers[i].name, name) == 0) c = &m->consumers[i];
    }
    if (!c) {
        m->consumers = grown(m->consumers, m->consumer_count, &m->consumer_capacity,
                             sizeof *m->consumers);
        c = &m->consumers[m->consumer_count++];
        *c = (struct model_consumer){ .name = copy(name, strlen(name)) };
    }
    free(c->patterns);
    c->patterns = copy(patterns, len);
    c->len = len;
    c->wall_ms = wall_ms;
}

static void cursor_set(struct model *m, const char *consumer, const char *connection,
                       uint64_t epoch, uint64_t offset, uint64_t wall_ms)
{
    struct model_cursor *c = NULL;
    for (uint32_t i = 0; i < m->cursor_count && !c; i++) {
        struct model_cursor *o = &m->cursors[i];
        if (strcmp(o->consumer, consumer) == 0 && strcmp(o->connection, connection) == 0) c = o;
    }
    if (!c) {
        m->cursors = grown(m->cursors, m->cursor_count, &m->cursor_capacity, sizeof *m->cursors);
        c = &m->cursors[m->cursor_count++];
        *c = (struct model_cursor){ .consumer = copy(consumer, strlen(consumer)),
                                    .connection = copy(connection, strlen(connection)) };
    }
    c->epoch = epoch;
    c->offset = offset;
    c->wall_ms = wall_ms;
}

static void consumer_gone(struct model *m, const char *name)
{
    for (uint32_t i = m->consumer_count; i > 0; i--) {
        struct model_consumer *c = &m->consumers[i - 1];
        if (strcmp(c->name, name) != 0) continue;
        free(c->name);
        free(c->patterns);
        memmove(c, c + 1, (m->consumer_count - i) * sizeof *c);
        m->consumer_count--;
    }
    for (uint32_t i = m->cursor_count; i > 0; i--) {
        struct model_cursor *c = &m->cursors[i - 1];
        if (strcmp(c->consumer, name) != 0) continue;
        free(c->consumer);
        free(c->connection);
        memmove(c, c + 1, (m->cursor_count - i) * sizeof *c);
        m->cursor_count--;
    }
}

void model_reboot(struct model *m)
{
    for (uint32_t i = 0; i < m->permit_count; i++) m->permits[i].old_boot = true;
    for (uint32_t i = 0; i < m->told_count; i++) m->tolds[i].old_boot = true;
}

/* ---- requests --------------------------------------------------------------------------------------------- */

static struct model_permit permit_of(const char *connection, uint64_t account,
                                     enum budget_kind budget, int64_t lane, uint64_t wall_ms,
                                     uint64_t boot_ms)
{
    struct model_permit p;
    memset(&p, 0, sizeof p); /* it is compared as bytes */
    p.connection = hash_text(connection);
    p.account = account;
    p.budget = budget;
    p.lane = lane;
    p.wall_ms = wall_ms;
    p.boot_ms = boot_ms;
    return p;
}

void model_apply(struct model *m, const struct store_request *r)
{
    const char *connection = r->connection ? r->connection : "";
    switch (r->op) {
    case STORE_OP_PERMIT: {
        struct model_permit p = permit_of(connection, r->account, r->budget, r->lane,
                                          r->wall_ms, r->boot_ms);
        permit_add(m, &p);
        break;
    }
    case STORE_OP_PERMIT_RETURN: permit_return(m, r); break;
    case STORE_OP_TOLD:
        told_set(m, &(struct model_told){ r->account, r->budget, r->count, r->lanes,
                                          r->until_wall_ms, r->until_boot_ms, false });
        break;
    case STORE_OP_SESSION: {
        struct model_stream *s = get(m, connection);
        blob_set(&s->session, r->bytes, r->len);
        s->session_wall_ms = r->wall_ms;
        s->session_of = r->account;
        break;
    }
    case STORE_OP_KEEP: {
        struct model_stream *s = get(m, connection);
        blob_set(&s->keep, r->bytes, r->len);
        s->keep_wall_ms = r->wall_ms;
        break;
    }
    case STORE_OP_EVENT: {
        struct model_stream *s = get(m, connection);
        bool frame = r->kind == STORE_EVENT_FRAME;
        epoch_note(s, r->epoch, frame ? r->offset - 1 : r->offset, r->offset);
        if (frame && (r->epoch > s->last_epoch ||
                      (r->epoch == s->last_epoch && r->offset > s->last_offset))) {
            s->last_epoch = r->epoch;
            s->last_offset = r->offset;
        }
        event_add(s, (struct model_event){ .kind = r->kind, .epoch = r->epoch, .offset = r->offset,
                                           .wall_ms = r->wall_ms, .len = r->len }, r->bytes);
        break;
    }
    case STORE_OP_TRIM: trim(get(m, connection), r->epoch, r->offset, r->kind); break;
    case STORE_OP_SEEN:
        seen_add(get(m, connection), &(struct model_seen){ r->key_high, r->key_low, r->offset,
                                                           r->wall_ms, r->until_wall_ms });
        break;
    case STORE_OP_CONSUMER: consumer_set(m, r->consumer, r->bytes, r->len, r->wall_ms); break;
    case STORE_OP_CURSOR:
        cursor_set(m, r->consumer, connection, r->epoch, r->offset, r->wall_ms);
        break;
    case STORE_OP_CONSUMER_GONE: consumer_gone(m, r->consumer); break;
    case STORE_OP_WISH: {
        struct model_stream *s = get(m, connection);
        s->stopped = s->wished = r->count != 0;
        break;
    }
    case STORE_OP_CONNECTION: blob_set(&get(m, connection)->json, r->bytes, r->len); break;
    case STORE_OP_CONNECTION_GONE: connection_gone(get(m, connection)); break;
    case STORE_OP_JOURNAL: journal_add(get(m, connection), r->wall_ms, r->bytes, r->len); break;
    case STORE_OP_FRAMES:
    case STORE_OP_COUNT: break;
    }
}

void model_apply_batch(struct model *m, const struct buffer *batch)
{
    struct store_request r;
    for (size_t at = 0; store_batch_next(batch, &at, &r);) model_apply(m, &r);
}

/* ---- visited ----------------------------------------------------------------------------------------------- */

static void on_connection(void *m, const char *name, const void *json, size_t len)
{
    blob_set(&get(m, name)->json, json, len);
}

static void on_wish(void *m, const char *connection, bool stopped)
{
    struct model_stream *s = get(m, connection);
    s->wished = s->stopped = stopped;
}

static void on_session(void *m, const char *connection, uint64_t session_of, uint64_t saved_wall_ms,
                       const void *json, size_t len)
{
    struct model_stream *s = get(m, connection);
    blob_set(&s->session, json, len);
    s->session_of = session_of;
    s->session_wall_ms = saved_wall_ms;
}

static void on_keep(void *m, const char *connection, const void *json, size_t len)
{
    blob_set(&get(m, connection)->keep, json, len);
}

static void on_permit(void *m, uint64_t account, enum budget_kind budget, int64_t lane,
                      bool same_boot, uint64_t wall_ms, uint64_t boot_ms)
{
    /* Whose it was is not told: each is one. */
    char number[24];
    snprintf(number, sizeof number, "%u", ((struct model *)m)->permit_count);
    struct model_permit p = permit_of(number, account, budget, lane, wall_ms, same_boot ? boot_ms : 0);
    permit_add(m, &p);
}

static void on_told(void *m, uint64_t account, enum budget_kind budget, int64_t left, uint32_t lanes,
                    bool same_boot, uint64_t until_wall_ms, uint64_t until_boot_ms)
{
    told_set(m, &(struct model_told){ account, budget, left, lanes, until_wall_ms,
                                      same_boot ? until_boot_ms : 0, !same_boot });
}

static void on_epoch(void *m, const char *connection, uint64_t epoch, uint64_t after, uint64_t last)
{
    epoch_note(get(m, connection), epoch, after, last);
}

static void on_event(void *m, const char *connection, enum store_event_kind kind, uint64_t epoch,
                     uint64_t offset, uint64_t wall_ms, const void *line, size_t len)
{
    event_add(get(m, connection), (struct model_event){ .kind = kind, .epoch = epoch,
                                                        .offset = offset, .wall_ms = wall_ms,
                                                        .len = len }, line);
}

static void on_consumer(void *m, const char *name, const void *patterns, size_t len,
                        uint64_t wall_ms)
{
    consumer_set(m, name, patterns, len, wall_ms);
}

static void on_cursor(void *m, const char *consumer, const char *connection, uint64_t epoch,
                      uint64_t offset, uint64_t wall_ms)
{
    cursor_set(m, consumer, connection, epoch, offset, wall_ms);
}

static void on_seen(void *m, const char *connection, uint64_t key_high, uint64_t key_low,
                    uint64_t offset, uint64_t wall_ms)
{
    seen_add(get(m, connection), &(struct model_seen){ key_high, key_low, offset, wall_ms, 0 });
}

static void on_journal(void *m, const char *connection, uint64_t wall_ms, const void *json,
                       size_t len)
{
    journal_add(get(m, connection ? connection : ""), wall_ms, json, len);
}

struct store_visitor model_visitor(struct model *m)
{
    return (struct store_visitor){ .self = m,
                                   .connection = on_connection,
                                   .wish = on_wish,
                                   .session = on_session,
                                   .keep = on_keep,
                                   .permit = on_permit,
                                   .told = on_told,
                                   .epoch = on_epoch,
                                   .event = on_event,
                                   .consumer = on_consumer,
                                   .cursor = on_cursor,
                                   .seen = on_seen,
                                   .journal = on_journal };
}
