/* Store core, reading: every row to a visitor, and what a file holds in numbers. Reads in order of indexes,
 * so that nothing is sorted and memory stays bounded whatever the size of the file. Rows that a hand wrote
 * and that mean nothing are passed over. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "store/core_internal.h"

struct walk {
    struct store_core *c;
    const struct store_visitor *v;
    sqlite3_stmt *row; /* borrowed: the row at hand */
    const char *stream; /* borrowed: of events */
    int rc; /* the first failure; the other tables are read all the same, for an export */
};

static void each(struct walk *w, const char *sql, void (*row)(struct walk *));
static void on_connection(struct walk *w);
static void on_wish(struct walk *w);
static void on_session(struct walk *w);
static void on_keep(struct walk *w);
static void on_permit(struct walk *w);
static void on_told(struct walk *w);
static void on_epoch(struct walk *w);
static void on_event(struct walk *w);
static void on_consumer(struct walk *w);
static void on_cursor(struct walk *w);
static void on_seen(struct walk *w);
static void on_journal(struct walk *w);
static void each_event(struct walk *w);
static int number(struct store_core *c, const char *sql, uint64_t *out);

#define NOT_TRIMMED                                                                                \
    " (s.trim_epoch IS NULL OR (e.epoch, e.offset, e.kind) > (s.trim_epoch, s.trim_offset, s.trim_kind))"

static const char *text_at(struct walk *w, int column)
{
    const char *text = (const char *)sqlite3_column_text(w->row, column);
    return text ? text : "";
}

static uint64_t ordered_at(struct walk *w, int column)
{
    return core__unordered(sqlite3_column_int64(w->row, column));
}

static const void *blob_at(struct walk *w, int column, size_t *len)
{
    const void *bytes = sqlite3_column_blob(w->row, column);
    *len = (size_t)sqlite3_column_bytes(w->row, column);
    return bytes ? bytes : "";
}

bool store_core_visit(struct store_core *c, const struct store_visitor *visitor, char *why,
                      size_t why_bytes)
{
    const struct store_visitor *v = visitor;
    struct walk w = { .c = c, .v = v };
    w.rc = core__heal(c);
    if (why_bytes) why[0] = 0;
    if (v->connection) each(&w, "SELECT name, json FROM connection ORDER BY name", on_connection);
    if (v->wish) each(&w, "SELECT connection, stopped FROM wish ORDER BY connection", on_wish);
    if (v->session)
        each(&w, "SELECT connection, session_of, wall_ms, json FROM session ORDER BY connection", on_session);
    if (v->keep) each(&w, "SELECT connection, json FROM keep ORDER BY connection", on_keep);
    if (v->permit)
        each(&w, "SELECT account, budget, lane, boot, wall_ms, boot_ms FROM permit ORDER BY wall_ms",
             on_permit);
    if (v->told)
        each(&w, "SELECT account, budget, left, lanes, boot, until_wall_ms, until_boot_ms FROM told"
             " ORDER BY account, budget", on_told);
    if (v->epoch)
        each(&w, "SELECT s.name, e.epoch, e.after, e.last FROM stream s CROSS JOIN epoch e"
             " ON e.stream = s.id ORDER BY s.name, e.epoch", on_epoch);
    if (v->event) each_event(&w);
    if (v->consumer)
        each(&w, "SELECT name, patterns, wall_ms FROM consumer ORDER BY name", on_consumer);
    if (v->cursor)
        each(&w, "SELECT k.consumer, s.name, k.epoch, k.offset, k.wall_ms FROM cursor k"
             " CROSS JOIN stream s ON s.id = k.stream ORDER BY k.consumer, k.stream", on_cursor);
    if (v->seen)
        each(&w, "SELECT s.name, e.key_high, e.key_low, e.offset, e.wall_ms FROM seen e"
             " CROSS JOIN stream s ON s.id = e.stream ORDER BY e.until_wall_ms", on_seen);
    if (v->journal) each(&w, "SELECT connection, wall_ms, json FROM journal ORDER BY id", on_journal);
    if (w.rc != SQLITE_OK) core__explain(c, w.rc, "read", why, why_bytes);
    return w.rc == SQLITE_OK;
}

bool store_core_info(struct store_core *c, struct store_core_info *out, char *why, size_t why_bytes)
{
    uint64_t page = 0, pages = 0, version = 0;
    int rc = core__heal(c);
    *out = (struct store_core_info){ .epoch = c->epoch };
    if (why_bytes) why[0] = 0;
    const struct { const char *sql; uint64_t *to; } all[] = {
        { "PRAGMA page_size", &page },
        { "PRAGMA page_count", &pages },
        { "PRAGMA freelist_count", &out->free_bytes },
        { "SELECT value FROM meta WHERE name = 'schema_version'", &version },
        { "SELECT count(*) FROM stream s CROSS JOIN event e ON e.stream = s.id WHERE" NOT_TRIMMED,
          &out->events },
        { "SELECT total(length(e.line)) FROM stream s CROSS JOIN event e ON e.stream = s.id WHERE"
          NOT_TRIMMED, &out->event_bytes },
        { "SELECT count(*) FROM session", &out->sessions },
        { "SELECT count(*) FROM permit", &out->permits },
        { "SELECT count(*) FROM consumer", &out->consumers },
        { "SELECT count(*) FROM cursor", &out->cursors },
        { "SELECT count(*) FROM seen", &out->seen },
        { "SELECT count(*) FROM journal", &out->journal_entries },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all && rc == SQLITE_OK; i++)
        rc = number(c, all[i].sql, all[i].to);
    if (rc != SQLITE_OK) {
        core__explain(c, rc, "read", why, why_bytes);
        return false;
    }
    out->schema_version = (uint32_t)version;
    out->file_bytes = page * pages;
    out->free_bytes *= page;
    out->wal_bytes = (uint64_t)core__wal_bytes(c);
    return true;
}

bool store_core_sizes(struct store_core *c, uint64_t *file_bytes, uint64_t *wal_bytes)
{
    sqlite3_file *f = NULL;
    sqlite3_int64 size = 0;
    *file_bytes = *wal_bytes = 0;
    if (!c->db) return false;
    sqlite3_file_control(c->db, "main", SQLITE_FCNTL_FILE_POINTER, &f);
    if (!f || !f->pMethods || f->pMethods->xFileSize(f, &size) != SQLITE_OK) return false;
    *file_bytes = (uint64_t)size;
    *wal_bytes = (uint64_t)core__wal_bytes(c);
    return true;
}

bool store_core_each_stream(struct store_core *c, void (*stream)(void *self,
                            const struct store_stream_info *info), void *self, char *why, size_t why_bytes)
{
    sqlite3_stmt *s = NULL;
    int rc = core__heal(c);
    if (why_bytes) why[0] = 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(c->db,
            "SELECT s.name, count(e.id), total(length(e.line)), min(e.wall_ms), max(e.wall_ms),"
            " (SELECT max(last) FROM epoch p WHERE p.stream = s.id AND p.epoch ="
            "  (SELECT max(epoch) FROM epoch WHERE stream = s.id)),"
            " (SELECT max(epoch) FROM epoch WHERE stream = s.id),"
            " (SELECT count(*) FROM cursor k WHERE k.stream = s.id)"
            " FROM stream s LEFT JOIN event e ON e.stream = s.id AND" NOT_TRIMMED
            " GROUP BY s.name ORDER BY s.name", -1, &s, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct store_stream_info info = {
            .name = (const char *)sqlite3_column_text(s, 0),
            .events = core__unordered(sqlite3_column_int64(s, 1)),
            .event_bytes = core__unordered(sqlite3_column_int64(s, 2)),
            .oldest_wall_ms = core__unordered(sqlite3_column_int64(s, 3)),
            .newest_wall_ms = core__unordered(sqlite3_column_int64(s, 4)),
            .last_offset = core__unordered(sqlite3_column_int64(s, 5)),
            .last_epoch = core__unordered(sqlite3_column_int64(s, 6)),
            .cursors = core__unordered(sqlite3_column_int64(s, 7)),
        };
        if (info.name) stream(self, &info);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(s);
    if (rc == SQLITE_DONE) return true;
    core__explain(c, rc, "read", why, why_bytes);
    return false;
}

static void each(struct walk *w, const char *sql, void (*row)(struct walk *))
{
    sqlite3_stmt *s = NULL;
    if (!w->c->db) return;
    int rc = sqlite3_prepare_v2(w->c->db, sql, -1, &s, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        w->row = s;
        row(w);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(s);
    if (rc != SQLITE_DONE && w->rc == SQLITE_OK) w->rc = rc;
}

static void on_connection(struct walk *w)
{
    size_t len;
    const void *json = blob_at(w, 1, &len);
    w->v->connection(w->v->self, text_at(w, 0), json, len);
}

static void on_wish(struct walk *w)
{
    w->v->wish(w->v->self, text_at(w, 0), sqlite3_column_int64(w->row, 1) != 0);
}

static void on_session(struct walk *w)
{
    size_t len;
    const void *json = blob_at(w, 3, &len);
    w->v->session(w->v->self, text_at(w, 0), (uint64_t)sqlite3_column_int64(w->row, 1), ordered_at(w, 2),
                  json, len);
}

static void on_keep(struct walk *w)
{
    size_t len;
    const void *json = blob_at(w, 1, &len);
    w->v->keep(w->v->self, text_at(w, 0), json, len);
}

static void on_permit(struct walk *w)
{
    int64_t budget = sqlite3_column_int64(w->row, 1);
    if (budget < 0 || budget >= BUDGET_COUNT) return;
    w->v->permit(w->v->self, (uint64_t)sqlite3_column_int64(w->row, 0), (enum budget_kind)budget,
                 sqlite3_column_int64(w->row, 2), sqlite3_column_int64(w->row, 3) == w->c->boot,
                 ordered_at(w, 4), ordered_at(w, 5));
}

static void on_told(struct walk *w)
{
    int64_t budget = sqlite3_column_int64(w->row, 1);
    if (budget < 0 || budget >= BUDGET_COUNT) return;
    w->v->told(w->v->self, (uint64_t)sqlite3_column_int64(w->row, 0), (enum budget_kind)budget,
               sqlite3_column_int64(w->row, 2), (uint32_t)sqlite3_column_int64(w->row, 3),
               sqlite3_column_int64(w->row, 4) == w->c->boot, ordered_at(w, 5), ordered_at(w, 6));
}

static void on_epoch(struct walk *w)
{
    w->v->epoch(w->v->self, text_at(w, 0), ordered_at(w, 1), ordered_at(w, 2), ordered_at(w, 3));
}

/* Two levels instead of a join: the lines are large, and no plan may come to sort them. */
static void each_event(struct walk *w)
{
    sqlite3_stmt *s = NULL, *e = NULL;
    if (!w->c->db) return;
    int rc = sqlite3_prepare_v2(w->c->db, "SELECT id, name FROM stream ORDER BY name", -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(w->c->db,
            "SELECT e.kind, e.epoch, e.offset, e.wall_ms, e.line FROM stream s CROSS JOIN event e"
            " ON e.stream = s.id WHERE s.id = ?1 AND" NOT_TRIMMED
            " ORDER BY e.epoch, e.offset, e.kind, e.tie", -1, &e, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        sqlite3_bind_int64(e, 1, sqlite3_column_int64(s, 0));
        w->stream = (const char *)sqlite3_column_text(s, 1);
        while ((rc = sqlite3_step(e)) == SQLITE_ROW) {
            w->row = e;
            if (w->stream) on_event(w);
        }
        /* A page that cannot be read ends its stream and no other. */
        if (rc != SQLITE_DONE && w->rc == SQLITE_OK) w->rc = rc;
        sqlite3_reset(e);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(e);
    sqlite3_finalize(s);
    if (rc != SQLITE_DONE && w->rc == SQLITE_OK) w->rc = rc;
}

static void on_event(struct walk *w)
{
    size_t len;
    int64_t kind = sqlite3_column_int64(w->row, 0);
    const void *line = blob_at(w, 4, &len);
    if (kind != STORE_EVENT_FRAME && kind != STORE_EVENT_GAP) return;
    w->v->event(w->v->self, w->stream, (enum store_event_kind)kind, ordered_at(w, 1), ordered_at(w, 2),
                ordered_at(w, 3), line, len);
}

static void on_consumer(struct walk *w)
{
    size_t len;
    const void *patterns = blob_at(w, 1, &len);
    w->v->consumer(w->v->self, text_at(w, 0), patterns, len, ordered_at(w, 2));
}

static void on_cursor(struct walk *w)
{
    w->v->cursor(w->v->self, text_at(w, 0), text_at(w, 1), ordered_at(w, 2), ordered_at(w, 3),
                 ordered_at(w, 4));
}

static void on_seen(struct walk *w)
{
    w->v->seen(w->v->self, text_at(w, 0), (uint64_t)sqlite3_column_int64(w->row, 1),
               (uint64_t)sqlite3_column_int64(w->row, 2), ordered_at(w, 3), ordered_at(w, 4));
}

static void on_journal(struct walk *w)
{
    size_t len;
    const void *json = blob_at(w, 2, &len);
    const char *connection = (const char *)sqlite3_column_text(w->row, 0);
    w->v->journal(w->v->self, connection, ordered_at(w, 1), json, len);
}

static int number(struct store_core *c, const char *sql, uint64_t *out)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) *out = core__unordered(sqlite3_column_int64(s, 0));
    sqlite3_finalize(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}
