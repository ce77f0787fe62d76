/* Store core: owns the connection to the file, its prepared statements and transactions, and what happens
 * when the disk fails under it. Opening is in core_open.c, the requests in core_apply.c, reading in
 * core_visit.c, retention in core_tidy.c.
 *
 * After a failed sync nobody knows what is on disk: the kernel may forget what it could not write and say
 * success the next time. So the connection is closed, opened anew, and the log emptied into the file by a
 * checkpoint with syncs of its own before anything else is promised. */
#include "store/core_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "store/schema.h"

static const char *const statement_sql[] = {
#define X(name, sql) sql,
    CORE_STATEMENT_MAP(X)
#undef X
};

static int pragma(sqlite3 *db, const char *sql);
static int on_log(void *self, sqlite3 *db, const char *name, int pages);
static int has_moved(struct store_core *c);

sqlite3_stmt *core__statement(struct store_core *c, enum core_statement which, int *rc)
{
    ASSERT(which < CORE_STATEMENT_COUNT);
    *rc = SQLITE_OK;
    if (!c->statements[which]) {
        *rc = sqlite3_prepare_v3(c->db, statement_sql[which], -1, SQLITE_PREPARE_PERSISTENT,
                                 &c->statements[which], NULL);
        if (*rc != SQLITE_OK) return NULL;
    }
    sqlite3_clear_bindings(c->statements[which]);
    return c->statements[which];
}

int core__run(struct store_core *c, enum core_statement which, sqlite3_stmt *s)
{
    ASSERT(s == c->statements[which]);
    errno = 0;
    int rc = sqlite3_step(s);
    /* Of a COMMIT that fails SQLite itself does not keep it. */
    if (rc != SQLITE_DONE && rc != SQLITE_ROW) c->os_errno = errno;
    int reset = sqlite3_reset(s);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? reset : rc;
}

int core__delete(struct store_core *c, enum core_statement which, sqlite3_stmt *s, int limit_at, int most,
                 bool *full_out)
{
    if (most > c->rows_left) most = c->rows_left;
    *full_out = most <= 0;
    if (most <= 0) return SQLITE_OK;
    sqlite3_bind_int64(s, limit_at, most);
    int rc = core__run(c, which, s);
    if (rc != SQLITE_OK) return rc;
    int rows = sqlite3_changes(c->db);
    c->rows_left -= rows;
    *full_out = rows >= most;
    return rc;
}

int core__meta_set(struct store_core *c, const char *name, int64_t value)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_META_SET, &rc);
    if (!s) return rc;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, value);
    return core__run(c, CORE_META_SET, s);
}

int core__meta_get(struct store_core *c, const char *name, int64_t *value)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_META_GET, &rc);
    *value = 0;
    if (!s) return rc;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) *value = sqlite3_column_int64(s, 0);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) rc = SQLITE_OK;
    sqlite3_reset(s);
    return rc;
}

int64_t core__ordered(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

uint64_t core__unordered(int64_t value)
{
    if (value == INT64_MAX) return UINT64_MAX;
    return value < 0 ? 0 : (uint64_t)value;
}

int core__begin(struct store_core *c)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_BEGIN, &rc);
    return s ? core__run(c, CORE_BEGIN, s) : rc;
}

int core__commit(struct store_core *c)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_COMMIT, &rc);
    if (s) rc = has_moved(c);
    FAILPOINT("commit");
    if (rc == SQLITE_OK) rc = core__run(c, CORE_COMMIT, s);
    FAILPOINT("committed");
    return rc;
}

enum store_applied core__fail(struct store_core *c, int rc, char *why, size_t why_bytes)
{
    ASSERT(rc != SQLITE_OK);
    enum store_applied result = core__explain(c, rc, "write", why, why_bytes);
    c->os_errno = 0;
    for (int i = 0; i < CORE_STATEMENT_COUNT; i++) sqlite3_reset(c->statements[i]);
    if (c->db && !sqlite3_get_autocommit(c->db)) sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    core__forget_streams(c);
    c->failed = true;
    if (result != STORE_FAILED_FULL) c->broken = true;
    return result;
}

int core__heal(struct store_core *c)
{
    int64_t version, epoch, seed, run;
    if (!c->broken) return SQLITE_OK;
    core__disconnect(c);
    int rc = core__connect(c, SQLITE_OPEN_READWRITE);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "schema_version", &version);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "epoch", &epoch);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "seed", &seed);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "run", &run);
    /* Another file in its place is not ours to write. */
    if (rc == SQLITE_OK && (version != STORE_SCHEMA_VERSION || (uint64_t)seed != c->seed ||
                            epoch != core__ordered(c->epoch) || run != c->run))
        rc = SQLITE_READONLY_DBMOVED;
    if (rc == SQLITE_OK) rc = core__checkpoint(c, 0, SQLITE_CHECKPOINT_TRUNCATE);
    if (rc != SQLITE_OK && c->db) c->os_errno = sqlite3_system_errno(c->db);
    if (rc == SQLITE_OK) c->broken = false;
    else core__disconnect(c);
    return rc;
}

int core__connect(struct store_core *c, int flags)
{
    ASSERT(c->db == NULL);
    int rc = sqlite3_open_v2(c->path, &c->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                             wal_gather_name(c->gather));
    if (rc != SQLITE_OK) return rc;
    /* SQLite is content with less than it was asked for; then its locks fail, with words that mislead. */
    if (!c->read_only && sqlite3_db_readonly(c->db, "main") == 1) return SQLITE_READONLY;
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (c->read_only) sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    /* Exclusive before the first access: the log's index is in memory, no shared memory is needed. */
    rc = pragma(c->db, "PRAGMA locking_mode = EXCLUSIVE");
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA temp_store = MEMORY");
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA mmap_size = 0");
    /* What is written is seldom read again: a larger cache only fills up, for hours, and looks like a leak. */
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA cache_size = -2000");
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA cell_size_check = ON");
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA synchronous = FULL");
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA wal_autocheckpoint = 0");
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA journal_size_limit = " CORE_WAL_BYTES_KEPT);
    if (rc == SQLITE_OK) rc = pragma(c->db, "PRAGMA secure_delete = OFF");
    if (rc == SQLITE_OK) sqlite3_wal_hook(c->db, on_log, c);
    return rc;
}

void core__disconnect(struct store_core *c)
{
    core__forget_streams(c);
    for (int i = 0; i < CORE_STATEMENT_COUNT; i++) {
        sqlite3_finalize(c->statements[i]);
        c->statements[i] = NULL;
    }
    int rc = sqlite3_close(c->db);
    ASSERT(rc == SQLITE_OK); /* busy: a statement was left, which is a bug */
    c->db = NULL;
}

enum store_applied core__explain(struct store_core *c, int rc, const char *doing, char *why,
                                 size_t why_bytes)
{
    int os = c->db ? sqlite3_system_errno(c->db) : 0;
    if (os == 0) os = c->os_errno;
    bool gone = c->broken && (rc & 0xff) == SQLITE_CANTOPEN && os == ENOENT;
    const char *text = sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        snprintf(why, why_bytes, "cannot %s the store %s: the disk is full", doing, c->path);
        return STORE_FAILED_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        snprintf(why, why_bytes,
                 "the store %s is damaged (%s): save what `holdfast store export` still reads, then"
                 " move the file aside (with its -wal file); a new one begins a new epoch", c->path, text);
        return STORE_FAILED_CORRUPT;
    case SQLITE_BUSY:
        snprintf(why, why_bytes, "cannot %s the store %s: another program has it open", doing, c->path);
        return STORE_FAILED_IO;
    default:
        break;
    }
    if (rc == SQLITE_READONLY_DBMOVED || gone)
        snprintf(why, why_bytes, "cannot %s the store %s: the file was removed or replaced meanwhile;"
                 " put it back, or restart holdfast", doing, c->path);
    else if ((rc & 0xff) == SQLITE_READONLY || os == EROFS)
        snprintf(why, why_bytes, "cannot %s the store %s: the disk or the file is read-only", doing,
                 c->path);
    else if ((rc & 0xff) == SQLITE_IOERR && (os == ENOSPC || os == EDQUOT))
        /* Not STORE_FAILED_FULL: what of it is on disk is not known. */
        snprintf(why, why_bytes, "cannot %s the store %s: the disk is full", doing, c->path);
    else if (os && (rc & 0xff) != SQLITE_ERROR && (rc & 0xff) != SQLITE_NOMEM)
        snprintf(why, why_bytes, "cannot %s the store %s: %s (%s)", doing, c->path, text, strerror(os));
    else
        snprintf(why, why_bytes, "cannot %s the store %s: %s", doing, c->path, text);
    return STORE_FAILED_IO;
}

/* All of the log into the file, unless its pages are few. */
int core__checkpoint(struct store_core *c, int pages_min, int mode)
{
    if (c->log_pages < pages_min) return SQLITE_OK;
    FAILPOINT("checkpoint");
    int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, mode, NULL, NULL);
    FAILPOINT("checkpointed");
    if (rc == SQLITE_OK) c->log_pages = 0;
    return rc;
}

int64_t core__wal_bytes(struct store_core *c)
{
    sqlite3_file *f = NULL;
    sqlite3_int64 size = 0;
    if (!c->db) return 0;
    sqlite3_file_control(c->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f);
    if (!f || !f->pMethods || f->pMethods->xFileSize(f, &size) != SQLITE_OK) return 0;
    return size;
}

uint64_t store_core_epoch(const struct store_core *c)
{
    return c->epoch;
}

uint64_t store_core_seed(const struct store_core *c)
{
    return c->seed;
}

bool store_core_was_clean(const struct store_core *c)
{
    return c->was_clean;
}

bool store_core_is_new(const struct store_core *c)
{
    return c->is_new;
}

static int pragma(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int on_log(void *self, sqlite3 *db, const char *name, int pages)
{
    struct store_core *c = self;
    (void)db;
    (void)name;
    c->log_pages = pages;
    return SQLITE_OK;
}

/* A file that was removed under us takes writes for ever, and none of them is found again. */
static int has_moved(struct store_core *c)
{
    int moved = 0;
    int rc = sqlite3_file_control(c->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return rc == SQLITE_OK && moved ? SQLITE_READONLY_DBMOVED : SQLITE_OK;
}
