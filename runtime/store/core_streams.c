/* Store core, streams: what is known of each connection's stream, so that a row costs no look-up, and what of a batch
 * is not worth writing because the same batch takes it away again. With acknowledgements that come at once that is
 * nearly every event. Forgotten whenever a transaction fails: the disk alone knows then. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "store/core_internal.h"

#define BUCKETS_MIN 64u
#define STREAMS_MAX 65536u /* then all are forgotten: names come and go */
#define FEW_ROWS    8

static struct core_stream *entry(struct store_core *c, const char *name);
static bool grow(struct core_streams *all);
static int load(struct store_core *c, bool create, struct core_stream *s);
static int flush(struct store_core *c, struct core_stream *s);

static bool is_upto(const struct core_place *a, const struct core_place *b)
{
    if (a->epoch != b->epoch) return a->epoch < b->epoch;
    return a->offset != b->offset ? a->offset < b->offset : a->kind <= b->kind;
}

struct core_place core__place(const struct store_request *r)
{
    return (struct core_place){ core__ordered(r->epoch), core__ordered(r->offset), r->kind };
}

void core__forget_streams(struct store_core *c)
{
    struct core_streams *all = &c->streams;
    for (uint32_t i = 0; i < all->bucket_count; i++) {
        for (struct core_stream *s = all->buckets[i], *next; s; s = next) {
            next = s->next;
            free(s);
        }
    }
    free(all->buckets);
    *all = (struct core_streams){ .batch = all->batch };
}

int core__stream_find(struct store_core *c, const char *name, bool create, struct core_stream **out)
{
    ASSERT(name != NULL);
    struct core_stream *s = entry(c, name);
    *out = s;
    if (!s) return SQLITE_NOMEM;
    return s->loaded && (s->id || !create) ? SQLITE_OK : load(c, create, s);
}

/* ---- a batch --------------------------------------------------------------------------------------------- */

int core__streams_look(struct store_core *c, const struct buffer *batch)
{
    struct core_streams *all = &c->streams;
    struct store_request r;
    if (all->count > STREAMS_MAX) core__forget_streams(c);
    ASSERT(all->dirty == NULL);
    all->batch++;
    uint32_t index = 0;
    for (size_t at = 0; store_batch_next(batch, &at, &r); index++) {
        if (r.op != STORE_OP_TRIM && r.op != STORE_OP_CURSOR) continue;
        struct core_stream *s = entry(c, r.connection);
        if (!s) return SQLITE_NOMEM;
        if (s->batch != all->batch) {
            s->batch = all->batch;
            s->trims = false;
            s->cursor_of = NULL;
        }
        const struct core_place place = core__place(&r);
        if (r.op == STORE_OP_CURSOR) {
            s->cursor_of = r.consumer;
            s->cursor_index = index;
        } else if (!s->trims || is_upto(&s->trim, &place)) {
            s->trims = true;
            s->trim = place;
            s->trim_index = index;
        }
    }
    all->index = 0;
    return SQLITE_OK;
}

bool core__trim_follows(const struct store_core *c, const struct core_stream *s, const struct core_place *place)
{
    return s->batch == c->streams.batch && s->trims && s->trim_index > c->streams.index && is_upto(place, &s->trim);
}

bool core__cursor_follows(const struct store_core *c, const struct core_stream *s, const char *consumer)
{
    return s->batch == c->streams.batch && s->cursor_of && s->cursor_index > c->streams.index &&
           strcmp(s->cursor_of, consumer) == 0;
}

void core__stream_written(struct core_stream *s, const struct core_place *place)
{
    if (!s->has_rows) {
        s->rows_known = true;
        s->rows = 0;
        s->first_epoch = place->epoch;
        s->top = *place;
    } else if (is_upto(&s->top, place)) {
        s->top = *place;
    } else if (place->epoch < s->first_epoch) {
        s->first_epoch = place->epoch;
    }
    s->has_rows = true;
    if (s->rows < INT_MAX) s->rows++;
}

static sqlite3_stmt *trim(struct store_core *c, enum core_statement which, int64_t stream, const struct core_place *upto, int *rc)
{
    sqlite3_stmt *q = core__statement(c, which, rc);
    if (!q) return NULL;
    sqlite3_bind_int64(q, 1, stream);
    sqlite3_bind_int64(q, 2, upto->epoch);
    if (which == CORE_TRIM_OLDER) return q;
    sqlite3_bind_int64(q, 3, upto->offset);
    sqlite3_bind_int64(q, 4, upto->kind);
    return q;
}

int core__trim(struct store_core *c, int64_t stream, const struct core_place *upto, int most, bool *more_out)
{
    int rc;
    sqlite3_stmt *q = trim(c, CORE_TRIM_OLDER, stream, upto, &rc);
    if (!q) return rc;
    rc = core__delete(c, CORE_TRIM_OLDER, q, 3, most, more_out);
    if (rc != SQLITE_OK || *more_out) return rc;
    q = trim(c, CORE_TRIM, stream, upto, &rc);
    return q ? core__delete(c, CORE_TRIM, q, 5, most, more_out) : rc;
}

int core__stream_trim(struct store_core *c, struct core_stream *s, const struct core_place *upto, int most, bool *more_out)
{
    int rc;
    *more_out = false;
    if (!s->has_rows) return SQLITE_OK;
    /* So few cost no more than the note that they are to be taken away later. */
    const bool at_once = s->rows <= FEW_ROWS || (s->rows <= most && s->rows <= c->rows_left);
    if (s->rows_known && s->first_epoch >= upto->epoch && at_once) {
        sqlite3_stmt *q = trim(c, CORE_TRIM_FEW, s->id, upto, &rc);
        if (!q) return rc;
        rc = core__run(c, CORE_TRIM_FEW, q);
        if (rc != SQLITE_OK) return rc;
        const int rows = sqlite3_changes(c->db);
        c->rows_left -= rows;
        s->rows -= rows;
    } else {
        rc = core__trim(c, s->id, upto, most, more_out);
        if (rc != SQLITE_OK || *more_out) return rc;
    }
    if (s->rows_known) {
        if (is_upto(&s->top, upto)) s->has_rows = false;
        return SQLITE_OK;
    }
    sqlite3_stmt *q = core__statement(c, CORE_STREAM_HAS, &rc);
    if (!q) return rc;
    sqlite3_bind_int64(q, 1, s->id);
    rc = sqlite3_step(q);
    s->has_rows = rc == SQLITE_ROW;
    sqlite3_reset(q);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* What the transaction did to the stream's stretch is one row, written at its end. */
int core__stream_stretch(struct store_core *c, struct core_stream *s, int64_t epoch, int64_t after, int64_t last)
{
    ASSERT(s->id != 0);
    if (s->dirty && s->epoch != epoch) {
        const int rc = flush(c, s);
        if (rc != SQLITE_OK) return rc;
        s->epoch = epoch;
        s->after = after;
        s->last = last;
        return SQLITE_OK;
    }
    if (!s->dirty || s->after > after) s->after = after;
    if (!s->dirty || s->last < last) s->last = last;
    s->epoch = epoch;
    if (s->dirty) return SQLITE_OK;
    s->dirty = true;
    s->next_dirty = c->streams.dirty;
    c->streams.dirty = s;
    return SQLITE_OK;
}

int core__streams_flush(struct store_core *c)
{
    for (struct core_stream *s; (s = c->streams.dirty);) {
        const int rc = flush(c, s);
        if (rc != SQLITE_OK) return rc;
        s->dirty = false;
        c->streams.dirty = s->next_dirty;
    }
    return SQLITE_OK;
}

static int flush(struct store_core *c, struct core_stream *s)
{
    int rc;
    sqlite3_stmt *q = core__statement(c, CORE_EPOCH, &rc);
    if (!q) return rc;
    sqlite3_bind_int64(q, 1, s->id);
    sqlite3_bind_int64(q, 2, s->epoch);
    sqlite3_bind_int64(q, 3, s->after);
    sqlite3_bind_int64(q, 4, s->last);
    return core__run(c, CORE_EPOCH, q);
}

/* ---- the table ------------------------------------------------------------------------------------------- */

/* NULL: memory is out. */
static struct core_stream *entry(struct store_core *c, const char *name)
{
    struct core_streams *all = &c->streams;
    const uint64_t hash = hash_text(name);
    if (all->bucket_count) {
        for (struct core_stream *s = all->buckets[hash & (all->bucket_count - 1)]; s; s = s->next) {
            if (s->hash == hash && strcmp(s->name, name) == 0) return s;
        }
    }
    if (all->count >= all->bucket_count && !grow(all)) return NULL;
    const size_t len = strlen(name);
    struct core_stream *s = calloc(1, sizeof *s + len + 1);
    if (!s) return NULL;
    memcpy(s->name, name, len + 1);
    s->hash = hash;
    struct core_stream **bucket = &all->buckets[hash & (all->bucket_count - 1)];
    s->next = *bucket;
    *bucket = s;
    all->count++;
    return s;
}

static bool grow(struct core_streams *all)
{
    const uint32_t count = all->bucket_count ? all->bucket_count * 2 : BUCKETS_MIN;
    struct core_stream **buckets = calloc(count, sizeof(struct core_stream *));
    if (!buckets) return false;
    for (uint32_t i = 0; i < all->bucket_count; i++) {
        for (struct core_stream *s = all->buckets[i], *next; s; s = next) {
            next = s->next;
            s->next = buckets[s->hash & (count - 1)];
            buckets[s->hash & (count - 1)] = s;
        }
    }
    free(all->buckets);
    all->buckets = buckets;
    all->bucket_count = count;
    return true;
}

/* `id` stays 0: it has no row, and none was wanted. */
static int load(struct store_core *c, bool create, struct core_stream *s)
{
    int rc;
    sqlite3_stmt *q = core__statement(c, CORE_STREAM_GET, &rc);
    if (!q) return rc;
    sqlite3_bind_text(q, 1, s->name, -1, SQLITE_STATIC);
    rc = sqlite3_step(q);
    const bool found = rc == SQLITE_ROW;
    if (found) {
        s->id = sqlite3_column_int64(q, 0);
        s->has_rows = sqlite3_column_int(q, 2);
        s->rows_known = false;
    }
    const bool here = found && sqlite3_column_int64(q, 1) == c->run;
    sqlite3_reset(q);
    if (!found && rc != SQLITE_DONE) return rc;
    s->loaded = true;
    if (here || (!found && !create)) return SQLITE_OK;
    const enum core_statement which = found ? CORE_STREAM_RUN : CORE_STREAM_NEW;
    q = core__statement(c, which, &rc);
    if (!q) return rc;
    if (found) sqlite3_bind_int64(q, 1, s->id);
    else sqlite3_bind_text(q, 1, s->name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, c->run);
    rc = core__run(c, which, q);
    if (rc == SQLITE_OK && !found) s->id = sqlite3_last_insert_rowid(c->db);
    return rc;
}
