/* Store core, writing: each request as the statements that carry it out, a batch as one transaction. Every
 * request may be applied again: rows are replaced by their keys, what is gone is gone twice. */
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "store/core_internal.h"

#define TRIM_ROWS_MAX 1000 /* a batch; the rest is marked as gone, and goes when it is quiet */

static int apply_request(struct store_core *c, const struct store_request *r);
static int apply_permit(struct store_core *c, const struct store_request *r);
static int apply_permit_return(struct store_core *c, const struct store_request *r);
static int apply_told(struct store_core *c, const struct store_request *r);
static int apply_session(struct store_core *c, const struct store_request *r);
static int apply_event(struct store_core *c, const struct store_request *r);
static int apply_trim(struct store_core *c, const struct store_request *r);
static int apply_seen(struct store_core *c, const struct store_request *r);
static int apply_consumer(struct store_core *c, const struct store_request *r);
static int apply_cursor(struct store_core *c, const struct store_request *r);
static int apply_connection_gone(struct store_core *c, const struct store_request *r);
static int apply_journal(struct store_core *c, const struct store_request *r);
static int json_by_name(struct store_core *c, const struct store_request *r, enum core_statement set,
                        enum core_statement gone);
static int by_name(struct store_core *c, enum core_statement which, const char *name);

enum store_applied store_core_apply(struct store_core *c, const struct buffer *batch, char *why,
                                    size_t why_bytes)
{
    struct store_request r;
    size_t at = 0;
    ASSERT(!c->read_only);
    if (why_bytes) why[0] = 0;
    if (batch->len == 0) return STORE_APPLIED;
    int rc = core__heal(c);
    /* The log would grow for ever under a load that leaves no quiet moment. What fails here will fail
     * again in a write, and be told then. */
    if (rc == SQLITE_OK) core__checkpoint(c, CORE_WAL_PAGES_MAX, SQLITE_CHECKPOINT_PASSIVE);
    if (rc == SQLITE_OK) rc = core__begin(c);
    c->rows_left = TRIM_ROWS_MAX;
    if (rc == SQLITE_OK) rc = core__streams_look(c, batch);
    for (; rc == SQLITE_OK && store_batch_next(batch, &at, &r); c->streams.index++) rc = apply_request(c, &r);
    if (rc == SQLITE_OK) rc = core__streams_flush(c);
    if (rc == SQLITE_OK) rc = core__commit(c);
    if (rc != SQLITE_OK) return core__fail(c, rc, why, why_bytes);
    c->failed = false;
    return STORE_APPLIED;
}

static int apply_request(struct store_core *c, const struct store_request *r)
{
    struct core_stream *touched;
    int rc = SQLITE_OK;
    /* A connection that says anything is there: its events are nobody's to expire. */
    if (r->connection) rc = core__stream_find(c, r->connection, false, &touched);
    if (rc != SQLITE_OK) return rc;
    switch (r->op) {
    case STORE_OP_PERMIT: return apply_permit(c, r);
    case STORE_OP_PERMIT_RETURN: return apply_permit_return(c, r);
    case STORE_OP_TOLD: return apply_told(c, r);
    case STORE_OP_SESSION: return apply_session(c, r);
    case STORE_OP_KEEP: return json_by_name(c, r, CORE_KEEP, CORE_KEEP_GONE);
    case STORE_OP_EVENT: return apply_event(c, r);
    case STORE_OP_FRAMES: return SQLITE_OK;
    case STORE_OP_TRIM: return apply_trim(c, r);
    case STORE_OP_SEEN: return apply_seen(c, r);
    case STORE_OP_CONSUMER: return apply_consumer(c, r);
    case STORE_OP_CURSOR: return apply_cursor(c, r);
    case STORE_OP_CONSUMER_GONE:
        rc = by_name(c, CORE_CONSUMER_GONE, r->consumer);
        return rc == SQLITE_OK ? by_name(c, CORE_CURSORS_GONE, r->consumer) : rc;
    case STORE_OP_WISH: {
        if (r->count == 0) return by_name(c, CORE_WISH_GONE, r->connection);
        sqlite3_stmt *s = core__statement(c, CORE_WISH, &rc);
        if (!s) return rc;
        sqlite3_bind_text(s, 1, r->connection, -1, SQLITE_STATIC);
        sqlite3_bind_int64(s, 2, r->count);
        return core__run(c, CORE_WISH, s);
    }
    case STORE_OP_CONNECTION: return json_by_name(c, r, CORE_CONNECTION, CORE_CONNECTION_GONE);
    case STORE_OP_CONNECTION_GONE: return apply_connection_gone(c, r);
    case STORE_OP_JOURNAL: return apply_journal(c, r);
    case STORE_OP_COUNT: break;
    }
    ASSERT(!"a request has an operation");
    return SQLITE_INTERNAL;
}

/* --- budgets -------------------------------------------------------------------------------------------------- */

static int apply_permit(struct store_core *c, const struct store_request *r)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_PERMIT, &rc);
    if (!s) return rc;
    if (r->boot_ms > c->boot_ms_most) c->boot_ms_most = r->boot_ms;
    sqlite3_bind_int64(s, 1, (int64_t)r->account);
    sqlite3_bind_int64(s, 2, r->budget);
    sqlite3_bind_text(s, 3, r->connection ? r->connection : "", -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 4, core__ordered(r->wall_ms));
    sqlite3_bind_int64(s, 5, core__ordered(r->boot_ms));
    sqlite3_bind_int64(s, 6, r->lane);
    sqlite3_bind_int64(s, 7, c->boot);
    return core__run(c, CORE_PERMIT, s);
}

static int apply_permit_return(struct store_core *c, const struct store_request *r)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_PERMIT_RETURN, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, (int64_t)r->account);
    sqlite3_bind_int64(s, 2, r->budget);
    sqlite3_bind_int64(s, 3, core__ordered(r->wall_ms));
    sqlite3_bind_int64(s, 4, core__ordered(r->boot_ms));
    if (r->connection) sqlite3_bind_text(s, 5, r->connection, -1, SQLITE_STATIC);
    return core__run(c, CORE_PERMIT_RETURN, s);
}

static int apply_told(struct store_core *c, const struct store_request *r)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_TOLD, &rc);
    if (!s) return rc;
    if (r->boot_ms > c->boot_ms_most) c->boot_ms_most = r->boot_ms;
    sqlite3_bind_int64(s, 1, (int64_t)r->account);
    sqlite3_bind_int64(s, 2, r->budget);
    sqlite3_bind_int64(s, 3, r->count);
    sqlite3_bind_int64(s, 4, r->lanes);
    sqlite3_bind_int64(s, 5, c->boot);
    sqlite3_bind_int64(s, 6, core__ordered(r->until_wall_ms));
    sqlite3_bind_int64(s, 7, core__ordered(r->until_boot_ms));
    sqlite3_bind_int64(s, 8, core__ordered(r->wall_ms));
    return core__run(c, CORE_TOLD, s);
}

/* --- connections ------------------------------------------------------------------------------------------------ */

static int apply_session(struct store_core *c, const struct store_request *r)
{
    int rc;
    if (!r->bytes) return by_name(c, CORE_SESSION_GONE, r->connection);
    sqlite3_stmt *s = core__statement(c, CORE_SESSION, &rc);
    if (!s) return rc;
    sqlite3_bind_text(s, 1, r->connection, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (int64_t)r->account);
    sqlite3_bind_int64(s, 3, core__ordered(r->wall_ms));
    sqlite3_bind_blob64(s, 4, r->bytes, r->len, SQLITE_STATIC);
    return core__run(c, CORE_SESSION, s);
}

static int apply_connection_gone(struct store_core *c, const struct store_request *r)
{
    struct core_stream *stream;
    int rc = by_name(c, CORE_SESSION_GONE, r->connection);
    if (rc == SQLITE_OK) rc = by_name(c, CORE_KEEP_GONE, r->connection);
    if (rc == SQLITE_OK) rc = by_name(c, CORE_WISH_GONE, r->connection);
    if (rc == SQLITE_OK) rc = core__stream_find(c, r->connection, false, &stream);
    if (rc != SQLITE_OK || stream->id == 0) return rc;
    sqlite3_stmt *s = core__statement(c, CORE_SEEN_GONE, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, stream->id);
    return core__run(c, CORE_SEEN_GONE, s);
}

static int apply_journal(struct store_core *c, const struct store_request *r)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_JOURNAL, &rc);
    if (!s) return rc;
    /* Applied again it is the same entry; the same words of two connections are two. */
    uint64_t tie = hash_bytes(r->bytes, r->len);
    if (r->connection) tie = rng_mix(tie ^ hash_text(r->connection));
    if (r->connection) sqlite3_bind_text(s, 1, r->connection, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, core__ordered(r->wall_ms));
    sqlite3_bind_int64(s, 3, (int64_t)tie);
    sqlite3_bind_blob64(s, 4, r->bytes ? r->bytes : "", r->len, SQLITE_STATIC);
    return core__run(c, CORE_JOURNAL, s);
}

static int json_by_name(struct store_core *c, const struct store_request *r, enum core_statement set,
                        enum core_statement gone)
{
    int rc;
    if (!r->bytes) return by_name(c, gone, r->connection);
    sqlite3_stmt *s = core__statement(c, set, &rc);
    if (!s) return rc;
    sqlite3_bind_text(s, 1, r->connection, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 2, r->bytes, r->len, SQLITE_STATIC);
    return core__run(c, set, s);
}

static int by_name(struct store_core *c, enum core_statement which, const char *name)
{
    int rc;
    ASSERT(name != NULL);
    sqlite3_stmt *s = core__statement(c, which, &rc);
    if (!s) return rc;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    return core__run(c, which, s);
}

/* --- streams ---------------------------------------------------------------------------------------------------- */

static int apply_event(struct store_core *c, const struct store_request *r)
{
    struct core_stream *stream;
    const struct core_place place = core__place(r);
    const int64_t after = r->kind == STORE_EVENT_FRAME && place.offset > 0 ? place.offset - 1 : place.offset;
    int64_t tie = 0;
    int rc = core__stream_find(c, r->connection, true, &stream);
    if (rc == SQLITE_OK) rc = core__stream_stretch(c, stream, place.epoch, after, place.offset);
    if (rc != SQLITE_OK || core__trim_follows(c, stream, &place)) return rc;
    /* Gaps that follow one frame stay in their order, and one that is applied again is the same gap. */
    if (r->kind == STORE_EVENT_GAP)
        tie = (int64_t)((r->wall_ms & ((1ull << 42) - 1)) << 20 | (hash_bytes(r->bytes, r->len) & 0xfffff));
    sqlite3_stmt *s = core__statement(c, CORE_EVENT, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, stream->id);
    sqlite3_bind_int64(s, 2, place.epoch);
    sqlite3_bind_int64(s, 3, place.offset);
    sqlite3_bind_int64(s, 4, place.kind);
    sqlite3_bind_int64(s, 5, tie);
    sqlite3_bind_int64(s, 6, core__ordered(r->wall_ms));
    sqlite3_bind_blob64(s, 7, r->bytes ? r->bytes : "", r->len, SQLITE_STATIC);
    rc = core__run(c, CORE_EVENT, s);
    if (rc == SQLITE_OK) core__stream_written(stream, &place);
    return rc;
}

/* A gap right after the position stays with what follows it: a consumer that acknowledged the frame before
 * was not told of it yet. `kind` GAP takes it along. */
static int apply_trim(struct store_core *c, const struct store_request *r)
{
    struct core_stream *stream;
    const struct core_place upto = core__place(r);
    bool more;
    int rc = core__stream_find(c, r->connection, false, &stream);
    if (rc != SQLITE_OK || stream->id == 0 || core__trim_follows(c, stream, &upto)) return rc;
    rc = core__stream_trim(c, stream, &upto, TRIM_ROWS_MAX, &more);
    if (rc != SQLITE_OK || !more) return rc;
    sqlite3_stmt *s = core__statement(c, CORE_STREAM_TRIM, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, stream->id);
    sqlite3_bind_int64(s, 2, upto.epoch);
    sqlite3_bind_int64(s, 3, upto.offset);
    sqlite3_bind_int64(s, 4, upto.kind);
    c->tidy_more = true;
    return core__run(c, CORE_STREAM_TRIM, s);
}

static int apply_seen(struct store_core *c, const struct store_request *r)
{
    struct core_stream *stream;
    int rc = core__stream_find(c, r->connection, true, &stream);
    if (rc != SQLITE_OK) return rc;
    sqlite3_stmt *s = core__statement(c, CORE_SEEN, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, stream->id);
    sqlite3_bind_int64(s, 2, (int64_t)r->key_high);
    sqlite3_bind_int64(s, 3, (int64_t)r->key_low);
    sqlite3_bind_int64(s, 4, core__ordered(r->offset));
    sqlite3_bind_int64(s, 5, core__ordered(r->wall_ms));
    sqlite3_bind_int64(s, 6, core__ordered(r->until_wall_ms));
    return core__run(c, CORE_SEEN, s);
}

static int apply_consumer(struct store_core *c, const struct store_request *r)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_CONSUMER, &rc);
    if (!s) return rc;
    sqlite3_bind_text(s, 1, r->consumer, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 2, r->bytes ? r->bytes : "", r->len, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, core__ordered(r->wall_ms));
    return core__run(c, CORE_CONSUMER, s);
}

static int cursor_set(struct store_core *c, enum core_statement which, int64_t stream, const struct store_request *r)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, which, &rc);
    if (!s) return rc;
    sqlite3_bind_text(s, 1, r->consumer, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, stream);
    sqlite3_bind_int64(s, 3, core__ordered(r->epoch));
    sqlite3_bind_int64(s, 4, core__ordered(r->offset));
    sqlite3_bind_int64(s, 5, core__ordered(r->wall_ms));
    return core__run(c, which, s);
}

static int apply_cursor(struct store_core *c, const struct store_request *r)
{
    struct core_stream *stream;
    int rc = core__stream_find(c, r->connection, true, &stream);
    if (rc != SQLITE_OK || core__cursor_follows(c, stream, r->consumer)) return rc;
    rc = cursor_set(c, CORE_CURSOR_ON, stream->id, r);
    return rc == SQLITE_OK && sqlite3_changes(c->db) == 0 ? cursor_set(c, CORE_CURSOR, stream->id, r) : rc;
}
