/* Store core, retention: takes away what nobody will ask for again, and gives room back to the disk, in
 * pieces small enough to stand between two batches. The piece that a call took tells whether there is more. */
#include "base/assert.h"
#include "store/core_internal.h"

#define ROWS_MAX    500 /* a piece, of all kinds */
#define STREAMS_MAX 64
#define TRIMMED_MAX 128 /* of a herd that got a frame each, thousands */
#define ROUND_EVERY 16  /* pieces: while trims fill them, the round over all streams waits */
#define PAGES_MAX   256
#define PAGES_FREE_KEPT 256 /* room that the next batches would ask for again */
#define COMING_BACK_MS (10ull * 60 * 1000) /* how long a start gives its connections to say something */

static int tidy_rows(struct store_core *c, uint64_t wall_ms);
static int tidy_old(struct store_core *c, enum core_statement which, uint64_t limit);
static int tidy_permits(struct store_core *c, uint64_t wall_ms);
static int tidy_trimmed(struct store_core *c, bool *more_out);
static int tidy_streams(struct store_core *c, uint64_t wall_ms);
static int tidy_stream(struct store_core *c, int64_t stream, bool here, uint64_t wall_ms);
static int delete_events(struct store_core *c, enum core_statement which, int64_t stream, int64_t a);
static int delete_few(struct store_core *c, enum core_statement which, int64_t stream, int64_t a, int64_t b,
                      int64_t d);
static int give_back(struct store_core *c);

static uint64_t before(uint64_t wall_ms, uint64_t age_ms)
{
    return wall_ms > age_ms ? wall_ms - age_ms : 0;
}

enum store_applied store_core_tidy(struct store_core *c, uint64_t wall_ms, char *why, size_t why_bytes)
{
    ASSERT(!c->read_only);
    if (why_bytes) why[0] = 0;
    c->tidy_more = false;
    int rc = core__heal(c);
    if (rc == SQLITE_OK) rc = core__begin(c);
    c->rows_left = ROWS_MAX;
    if (rc == SQLITE_OK && c->failed) {
        sqlite3_stmt *s = core__statement(c, CORE_PROBE, &rc);
        if (s) rc = core__run(c, CORE_PROBE, s);
    }
    if (rc == SQLITE_OK) rc = tidy_rows(c, wall_ms);
    if (rc == SQLITE_OK) rc = core__commit(c);
    if (rc == SQLITE_OK) rc = give_back(c);
    if (rc != SQLITE_OK) return core__fail(c, rc, why, why_bytes);
    c->failed = false;
    return STORE_APPLIED;
}

bool store_core_wants_tidy(const struct store_core *c)
{
    return c->tidy_more;
}

enum store_applied store_core_compact(struct store_core *c, char *why, size_t why_bytes)
{
    ASSERT(!c->read_only);
    if (why_bytes) why[0] = 0;
    int rc = core__heal(c);
    /* The copy may be larger than memory. */
    if (rc == SQLITE_OK) rc = sqlite3_exec(c->db, "PRAGMA temp_store = FILE; VACUUM", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = core__checkpoint(c, 0, SQLITE_CHECKPOINT_TRUNCATE);
    return rc == SQLITE_OK ? STORE_APPLIED : core__fail(c, rc, why, why_bytes);
}

static int tidy_rows(struct store_core *c, uint64_t wall_ms)
{
    int rc = tidy_old(c, CORE_OLD_JOURNAL, before(wall_ms, c->options.journal_age_ms));
    if (rc == SQLITE_OK) rc = tidy_old(c, CORE_MANY_JOURNAL, c->options.journal_entries);
    if (rc == SQLITE_OK) rc = tidy_permits(c, wall_ms);
    if (rc == SQLITE_OK) rc = tidy_old(c, CORE_OLD_SEEN, wall_ms);
    bool trims = false;
    /* First, because a long trim takes every row that is left. */
    if (rc == SQLITE_OK && c->rounds_put_off == 0) rc = tidy_streams(c, wall_ms);
    if (rc == SQLITE_OK) rc = tidy_trimmed(c, &trims);
    c->tidy_more |= trims;
    c->rounds_put_off = trims ? (c->rounds_put_off + 1) % ROUND_EVERY : 0;
    return rc;
}

static int tidy_old(struct store_core *c, enum core_statement which, uint64_t limit)
{
    int rc;
    bool full;
    sqlite3_stmt *s = core__statement(c, which, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, core__ordered(limit));
    rc = core__delete(c, which, s, 2, ROWS_MAX, &full);
    c->tidy_more |= full;
    return rc;
}

/* A step of the wall clock never refills a budget: permits of this boot are as old as its own clock says,
 * of which the newest request is the witness. */
static int tidy_permits(struct store_core *c, uint64_t wall_ms)
{
    int rc;
    bool full;
    sqlite3_stmt *s = core__statement(c, CORE_OLD_PERMITS, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, core__ordered(before(wall_ms, c->options.permit_age_ms)));
    sqlite3_bind_int64(s, 3, c->boot);
    sqlite3_bind_int64(s, 4, core__ordered(before(c->boot_ms_most, c->options.permit_age_ms)));
    rc = core__delete(c, CORE_OLD_PERMITS, s, 2, ROWS_MAX, &full);
    c->tidy_more |= full;
    return rc;
}

/* What a trim left behind its mark. */
static int tidy_trimmed(struct store_core *c, bool *more_out)
{
    struct { int64_t id; struct core_place upto; } found[TRIMMED_MAX];
    int count = 0, rc;
    bool full;
    sqlite3_stmt *s = core__statement(c, CORE_TRIMMED_STREAMS, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, TRIMMED_MAX);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        ASSERT(count < TRIMMED_MAX);
        found[count].id = sqlite3_column_int64(s, 0);
        found[count].upto.epoch = sqlite3_column_int64(s, 1);
        found[count].upto.offset = sqlite3_column_int64(s, 2);
        found[count++].upto.kind = sqlite3_column_int64(s, 3);
    }
    sqlite3_reset(s);
    if (rc == SQLITE_DONE) rc = SQLITE_OK;
    *more_out = count == TRIMMED_MAX;
    for (int i = 0; i < count && rc == SQLITE_OK; i++) {
        rc = core__trim(c, found[i].id, &found[i].upto, ROWS_MAX, &full);
        if (rc != SQLITE_OK) return rc;
        if (full) {
            *more_out = true;
            return rc;
        }
        s = core__statement(c, CORE_STREAM_TRIMMED, &rc);
        if (!s) return rc;
        sqlite3_bind_int64(s, 1, found[i].id);
        rc = core__run(c, CORE_STREAM_TRIMMED, s);
    }
    return rc;
}

/* The next few streams, round and round. */
static int tidy_streams(struct store_core *c, uint64_t wall_ms)
{
    struct { int64_t id; bool here; } found[STREAMS_MAX];
    uint32_t count = 0;
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_SOME_STREAMS, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, c->tidied_stream);
    sqlite3_bind_int64(s, 2, STREAMS_MAX);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        ASSERT(count < STREAMS_MAX);
        found[count].id = sqlite3_column_int64(s, 0);
        found[count++].here = sqlite3_column_int64(s, 1) >= c->run;
    }
    sqlite3_reset(s);
    if (rc == SQLITE_DONE) rc = SQLITE_OK;
    bool more = c->tidy_more, full;
    c->tidy_more = false;
    for (uint32_t i = 0; i < count && rc == SQLITE_OK; i++)
        rc = tidy_stream(c, found[i].id, found[i].here, wall_ms);
    full = c->tidy_more;
    c->tidy_more = more || full;
    /* Where there is more to take, the same ones come again. */
    if (!full) c->tidied_stream = count == STREAMS_MAX ? found[count - 1].id : 0;
    return rc;
}

static int tidy_stream(struct store_core *c, int64_t stream, bool here, uint64_t wall_ms)
{
    uint64_t old = before(wall_ms, c->options.event_age_ms);
    /* A connection that this start does not know yet may only be late. */
    bool late = before(wall_ms, COMING_BACK_MS) < c->options.wall_ms;
    bool gone = !here && !late;
    int rc = SQLITE_OK;
    if (gone) rc = delete_events(c, CORE_OLD_EVENTS, stream, core__ordered(old));
    if (rc == SQLITE_OK) rc = delete_events(c, CORE_MANY_EPOCHS, stream, CORE_EPOCHS_MAX);
    if (rc == SQLITE_OK) rc = delete_few(c, CORE_OLD_CURSORS, stream, core__ordered(old), 0, 0);
    /* An epoch is a time, so that old ones are told from the number alone. */
    if (rc == SQLITE_OK)
        rc = delete_few(c, CORE_OLD_EPOCHS, stream, core__ordered(c->epoch),
                        gone ? core__ordered(old) : 0, CORE_EPOCHS_MAX);
    if (rc == SQLITE_OK && gone) {
        rc = delete_few(c, CORE_OLD_STREAM, stream, 0, 0, 0);
        if (rc == SQLITE_OK && sqlite3_changes(c->db)) core__forget_streams(c);
    }
    return rc;
}

static int delete_events(struct store_core *c, enum core_statement which, int64_t stream, int64_t a)
{
    int rc;
    bool full;
    sqlite3_stmt *s = core__statement(c, which, &rc);
    if (!s) return rc;
    sqlite3_bind_int64(s, 1, stream);
    sqlite3_bind_int64(s, 2, a);
    rc = core__delete(c, which, s, 3, ROWS_MAX, &full);
    c->tidy_more |= full;
    return rc;
}

/* Rows that a stream has few of. */
static int delete_few(struct store_core *c, enum core_statement which, int64_t stream, int64_t a, int64_t b,
                      int64_t d)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, which, &rc);
    if (!s) return rc;
    int parameters = sqlite3_bind_parameter_count(s);
    sqlite3_bind_int64(s, 1, stream);
    if (parameters >= 2) sqlite3_bind_int64(s, 2, a);
    if (parameters >= 3) sqlite3_bind_int64(s, 3, b);
    if (parameters >= 4) sqlite3_bind_int64(s, 4, d);
    return core__run(c, which, s);
}

/* Free pages at the end of the file, then the log into the file. Both are outside a transaction: what was
 * written stays true whether they are through or not. */
static int give_back(struct store_core *c)
{
    sqlite3_stmt *s = NULL;
    int64_t pages = 0;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA freelist_count", -1, &s, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) pages = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) rc = SQLITE_OK;
    if (rc == SQLITE_OK && pages > PAGES_FREE_KEPT) {
        char sql[64];
        int64_t take = pages - PAGES_FREE_KEPT < PAGES_MAX ? pages - PAGES_FREE_KEPT : PAGES_MAX;
        sqlite3_snprintf(sizeof sql, sql, "PRAGMA incremental_vacuum(%lld)", (long long)take);
        rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
        if (pages - take > PAGES_FREE_KEPT) c->tidy_more = true;
    }
    if (rc != SQLITE_OK || c->tidy_more) return rc;
    /* The log's file shrinks only when it is told so, or begins anew. */
    bool large = core__wal_bytes(c) > (int64_t)CORE_WAL_PAGES_MAX * 2 * 4096;
    if (large) return core__checkpoint(c, 0, SQLITE_CHECKPOINT_TRUNCATE);
    return core__checkpoint(c, CORE_WAL_PAGES_IDLE, SQLITE_CHECKPOINT_PASSIVE);
}
