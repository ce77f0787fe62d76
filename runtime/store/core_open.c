/* Store core, opening and closing: the folder and the file, whose database it is, its health, its schema,
 * and which epoch this start is in. Every refusal is one sentence with the way out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "store/core_internal.h"
#include "store/schema.h"

#define DAY_MS (24ull * 3600 * 1000)

struct refusal {
    char *why;
    size_t why_bytes;
    const char *path;
};

static enum store_open place_file(const struct store_core *c, struct refusal *r);
static enum store_open make_folder(const char *path, struct refusal *r);
static enum store_open refuse_errno(int error, struct refusal *r);
static enum store_open refuse_code(struct store_core *c, int rc, struct refusal *r);
static enum store_open open_file(struct store_core *c, struct refusal *r);
static int check(struct store_core *c, char text[200]);
static int start_log(struct store_core *c, bool fresh);
static int begin_run(struct store_core *c, uint32_t version);
static int read_run(struct store_core *c);
static int boot_is(struct store_core *c, bool *same);
static int boot_set(struct store_core *c);
static void destroy(struct store_core *c);

struct store_core *store_core_open(const struct store_core_options *options, enum store_open *result,
                                   char *why, size_t why_bytes)
{
    ASSERT(options->path != NULL);
    struct store_core *c = calloc(1, sizeof *c);
    /* A path is never one of SQLite's own words, such as ":memory:" or "file:...". */
    bool word = !options->vfs && (options->path[0] == ':' || strncmp(options->path, "file:", 5) == 0);
    *result = STORE_OPEN_FAILED;
    snprintf(why, why_bytes, "out of memory");
    if (!c) return NULL;
    if (asprintf(&c->path, "%s%s", word ? "./" : "", options->path) < 0) c->path = NULL;
    c->vfs = options->vfs ? strdup(options->vfs) : NULL;
    c->gather = wal_gather_create(c->vfs);
    if (!c->path || !c->gather || (options->vfs && !c->vfs)) {
        destroy(c);
        return NULL;
    }
    c->options = *options;
    c->options.path = c->path;
    c->options.vfs = c->vfs;
    c->read_only = options->read_only;
    snprintf(c->boot_id, sizeof c->boot_id, "%s", options->boot_id ? options->boot_id : "");
    c->options.boot_id = c->boot_id;
    c->boot_ms_most = options->boot_ms;
    if (!c->options.journal_age_ms) c->options.journal_age_ms = 30 * DAY_MS;
    if (!c->options.journal_entries) c->options.journal_entries = 100000;
    if (!c->options.event_age_ms) c->options.event_age_ms = 7 * DAY_MS;
    if (!c->options.permit_age_ms) c->options.permit_age_ms = 32 * DAY_MS;

    struct refusal r = { why, why_bytes, c->path };
    *result = STORE_OPENED;
    if (!c->vfs) *result = place_file(c, &r);
    if (*result == STORE_OPENED) *result = open_file(c, &r);
    if (*result == STORE_OPENED) {
        if (why_bytes) why[0] = 0;
        return c;
    }
    destroy(c);
    return NULL;
}

bool store_core_close(struct store_core *c, bool clean)
{
    bool noted = false;
    if (clean && !c->read_only && !c->options.offline) {
        FAILPOINT("closing");
        int rc = core__heal(c);
        if (rc == SQLITE_OK) rc = core__begin(c);
        if (rc == SQLITE_OK) rc = core__meta_set(c, "clean", 1);
        if (rc == SQLITE_OK) rc = core__commit(c);
        noted = rc == SQLITE_OK;
        if (!noted) {
            char why[8];
            core__fail(c, rc, why, sizeof why);
        }
        FAILPOINT("closed");
    }
    destroy(c);
    return noted;
}

/* --- the file ------------------------------------------------------------------------------------------- */

/* Creates it, so that its mode and its folder's are ours and every failure has its own words. */
static enum store_open place_file(const struct store_core *c, struct refusal *r)
{
    struct stat st;
    bool as_is = c->read_only || c->options.offline;
    int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | (as_is ? 0 : O_CREAT);
    int fd = open(r->path, flags, 0600);
    if (fd < 0 && errno == ENOENT && !as_is) {
        enum store_open made = make_folder(r->path, r);
        if (made != STORE_OPENED) return made;
        fd = open(r->path, flags, 0600);
    }
    if (fd < 0 && errno == ENOENT && as_is) {
        snprintf(r->why, r->why_bytes, "there is no store at %s", r->path);
        return STORE_OPEN_MISSING_FOLDER;
    }
    if (fd < 0) return refuse_errno(errno, r);
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    close(fd); /* before SQLite opens it: closing drops a process's locks on a file */
    if (regular) return STORE_OPENED;
    snprintf(r->why, r->why_bytes, "the store %s is no regular file", r->path);
    return STORE_OPEN_NOT_A_STORE;
}

/* The last folder of the path alone: a mistyped path grows no tree. */
static enum store_open make_folder(const char *path, struct refusal *r)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash && slash != path ? strndup(path, (size_t)(slash - path)) : NULL;
    if (!folder) return refuse_errno(ENOENT, r);
    int error = mkdir(folder, 0700) == 0 ? 0 : errno;
    free(folder);
    return error == 0 || error == EEXIST ? STORE_OPENED : refuse_errno(error, r);
}

static enum store_open refuse_errno(int error, struct refusal *r)
{
    switch (error) {
    case ENOENT:
        snprintf(r->why, r->why_bytes, "the store %s cannot be made: the folder of its folder is"
                 " missing; create it, or correct `store.path`", r->path);
        return STORE_OPEN_MISSING_FOLDER;
    case ENOTDIR:
        snprintf(r->why, r->why_bytes, "the store %s cannot be: part of its path is no folder", r->path);
        return STORE_OPEN_MISSING_FOLDER;
    case ENOSPC:
    case EDQUOT:
        snprintf(r->why, r->why_bytes, "cannot create the store %s: the disk is full", r->path);
        return STORE_OPEN_FULL;
    case EACCES:
    case EPERM:
    case EROFS:
        snprintf(r->why, r->why_bytes,
                 "cannot open the store %s for writing: %s; its file and folder must be this user's",
                 r->path, strerror(error));
        return STORE_OPEN_DENIED;
    case EISDIR:
        snprintf(r->why, r->why_bytes, "the store %s is a folder: name a file", r->path);
        return STORE_OPEN_NOT_A_STORE;
    default:
        snprintf(r->why, r->why_bytes, "cannot open the store %s: %s", r->path, strerror(error));
        return STORE_OPEN_FAILED;
    }
}

/* --- the database ----------------------------------------------------------------------------------------- */

static enum store_open refuse_code(struct store_core *c, int rc, struct refusal *r)
{
    if ((rc & 0xff) == SQLITE_NOTADB) {
        snprintf(r->why, r->why_bytes, "%s is no database and so not a store of holdfast, or its first"
                 " page is damaged: move it aside or correct `store.path`", r->path);
        return STORE_OPEN_NOT_A_STORE;
    }
    switch (core__explain(c, rc, "open", r->why, r->why_bytes)) {
    case STORE_FAILED_FULL: return STORE_OPEN_FULL;
    case STORE_FAILED_CORRUPT: return STORE_OPEN_CORRUPT;
    default: break;
    }
    return (rc & 0xff) == SQLITE_READONLY ? STORE_OPEN_DENIED : STORE_OPEN_FAILED;
}

static enum store_open open_file(struct store_core *c, struct refusal *r)
{
    uint32_t version;
    char text[200];
    bool as_is = c->read_only || c->options.offline;
    int rc = core__connect(c, SQLITE_OPEN_READWRITE | (as_is ? 0 : SQLITE_OPEN_CREATE));
    if (rc != SQLITE_OK) return refuse_code(c, rc, r);
    enum schema_kind kind = schema_look(c->db, &version, &rc);
    if (kind == SCHEMA_UNREADABLE) return refuse_code(c, rc, r);
    if (kind == SCHEMA_FOREIGN || (kind == SCHEMA_EMPTY && as_is)) {
        snprintf(r->why, r->why_bytes, "%s is %s: not a store of holdfast; correct `store.path`", r->path,
                 kind == SCHEMA_EMPTY ? "empty" : "the database of another program");
        return STORE_OPEN_NOT_A_STORE;
    }
    if (version > STORE_SCHEMA_VERSION) {
        snprintf(r->why, r->why_bytes, "the store %s was written by a newer holdfast (schema %u, this one"
                 " knows %d): run that one, or name another file", r->path, version,
                 STORE_SCHEMA_VERSION);
        return STORE_OPEN_NEWER_SCHEMA;
    }
    if (as_is && version < STORE_SCHEMA_VERSION) {
        snprintf(r->why, r->why_bytes, "the store %s was written by an older holdfast (schema %u): "
                 "`holdfast run` brings it up to date", r->path, version);
        return STORE_OPEN_FAILED;
    }
    /* An export takes what it can get. */
    bool checks = kind == SCHEMA_OURS && !c->read_only;
    rc = checks ? check(c, text) : SQLITE_OK;
    if (rc == SQLITE_OK && checks && strcmp(text, "ok") != 0) rc = SQLITE_CORRUPT;
    if (rc != SQLITE_OK) return refuse_code(c, rc, r);
    if (as_is) rc = read_run(c);
    else {
        c->is_new = kind == SCHEMA_EMPTY;
        rc = start_log(c, c->is_new);
        if (rc == SQLITE_OK) rc = schema_migrate(c->db, version, schema_steps, STORE_SCHEMA_VERSION);
        if (rc == SQLITE_OK) rc = begin_run(c, version);
    }
    return rc == SQLITE_OK ? STORE_OPENED : refuse_code(c, rc, r);
}

/* "ok", or the first thing that is wrong. */
static int check(struct store_core *c, char text[200])
{
    sqlite3_stmt *s = NULL;
    text[0] = 0;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        const char *said = (const char *)sqlite3_column_text(s, 0);
        snprintf(text, 200, "%s", said ? said : "");
        rc = SQLITE_OK;
    }
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

static int start_log(struct store_core *c, bool fresh)
{
    sqlite3_stmt *s = NULL;
    int rc = SQLITE_OK;
    /* Only an empty file can be told: pages that become free can go back to the disk in pieces. */
    if (fresh) rc = sqlite3_exec(c->db, "PRAGMA auto_vacuum = INCREMENTAL", NULL, NULL, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(c->db, "PRAGMA journal_mode = WAL", -1, &s, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        const char *mode = (const char *)sqlite3_column_text(s, 0);
        rc = mode && strcmp(mode, "wal") == 0 ? SQLITE_OK : SQLITE_CANTOPEN;
    }
    sqlite3_finalize(s);
    /* What the log holds may be in the kernel's memory alone, and for ever: a process before this one had a
     * sync that failed. Whatever is promised from here on would rest on it, so it goes into the file first,
     * by writes and syncs of our own. */
    if (rc == SQLITE_OK && !fresh)
        rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return rc;
}

/* --- the run ------------------------------------------------------------------------------------------------ */

/* One transaction: until it is on disk, nothing of this start was. */
static int begin_run(struct store_core *c, uint32_t version)
{
    int64_t epoch = 0, clean = 0, run = 0, seed = 0, boot = 0;
    bool same = false;
    int rc = core__begin(c);
    c->is_new = c->is_new || version == 0;
    if (rc == SQLITE_OK) rc = core__meta_get(c, "epoch", &epoch);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "clean", &clean);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "run", &run);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "seed", &seed);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "boot", &boot);
    if (rc == SQLITE_OK) rc = boot_is(c, &same);
    if (rc != SQLITE_OK) return rc;
    bool first = epoch <= 0;
    bool back = c->options.back_in_epoch && c->options.back_in_epoch == core__unordered(epoch);
    c->was_clean = first || clean == 1 || back;
    c->seed = first ? c->options.seed : (uint64_t)seed;
    c->epoch = core__unordered(epoch);
    if (first || !c->was_clean) {
        c->epoch++;
        if (c->options.wall_ms > c->epoch && c->options.wall_ms < INT64_MAX)
            c->epoch = c->options.wall_ms;
    }
    c->run = run + 1;
    c->boot = same ? boot : boot + 1;
    rc = core__meta_set(c, "epoch", core__ordered(c->epoch));
    if (rc == SQLITE_OK) rc = core__meta_set(c, "clean", 0);
    if (rc == SQLITE_OK) rc = core__meta_set(c, "run", c->run);
    if (rc == SQLITE_OK) rc = core__meta_set(c, "seed", (int64_t)c->seed);
    if (rc == SQLITE_OK) rc = core__meta_set(c, "boot", c->boot);
    if (rc == SQLITE_OK && !same) rc = boot_set(c);
    if (rc == SQLITE_OK) rc = core__commit(c);
    return rc;
}

static int read_run(struct store_core *c)
{
    int64_t epoch = 0, clean = 0, seed = 0, boot = 0;
    bool same = false;
    int rc = core__meta_get(c, "epoch", &epoch);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "run", &c->run);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "clean", &clean);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "seed", &seed);
    if (rc == SQLITE_OK) rc = core__meta_get(c, "boot", &boot);
    if (rc == SQLITE_OK) rc = boot_is(c, &same);
    c->epoch = core__unordered(epoch);
    c->was_clean = clean == 1;
    c->seed = (uint64_t)seed;
    c->boot = same ? boot : -1;
    return rc;
}

/* A boot without a name is no boot that could come again. */
static int boot_is(struct store_core *c, bool *same)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_META_GET, &rc);
    *same = false;
    if (!s) return rc;
    sqlite3_bind_text(s, 1, "boot_id", -1, SQLITE_STATIC);
    rc = sqlite3_step(s);
    const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
    if (text) *same = c->boot_id[0] && strcmp(text, c->boot_id) == 0;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int boot_set(struct store_core *c)
{
    int rc;
    sqlite3_stmt *s = core__statement(c, CORE_META_SET, &rc);
    if (!s) return rc;
    sqlite3_bind_text(s, 1, "boot_id", -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, c->boot_id, -1, SQLITE_STATIC);
    return core__run(c, CORE_META_SET, s);
}

static void destroy(struct store_core *c)
{
    core__disconnect(c);
    wal_gather_destroy(c->gather);
    free(c->path);
    free(c->vfs);
    free(c);
}
