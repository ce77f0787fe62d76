/* WAL gather: owns the registration, and for each open log the bytes that are kept back. All other files are those of
 * the VFS behind it, untouched. An error of what was kept back is told by the call that needed it out; SQLite takes
 * a commit for done only after its sync. */
#include "store/wal_gather.h"

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define KEPT_BYTES 65536 /* 15 pages with their heads */

struct wal_gather {
    sqlite3_vfs base; /* first: SQLite hands it back */
    sqlite3_vfs *behind;
    uint32_t open_count;
    char name[32];
};

/* The file behind it follows in the same piece of memory, which is SQLite's. */
struct log {
    sqlite3_file base; /* first, likewise */
    struct wal_gather *gather;
    sqlite3_int64 at; /* where in the file the kept bytes begin */
    int len;
    uint8_t *kept; /* owned; NULL until the first write */
};
_Static_assert(sizeof(struct log) % 8 == 0, "the file behind it is aligned");

static struct log *log_of(sqlite3_file *base)
{
    return (struct log *)(void *)base;
}

static sqlite3_file *behind(struct log *l)
{
    return (sqlite3_file *)(void *)(l + 1);
}

/* Nothing is left after a failure: the transaction that wrote it is over. */
static int write_out(struct log *l)
{
    const int len = l->len;
    if (!len) return SQLITE_OK;
    l->len = 0;
    return behind(l)->pMethods->xWrite(behind(l), l->kept, len, l->at);
}

/* ---- a log --------------------------------------------------------------------------------------------- */

static int on_close(sqlite3_file *base)
{
    struct log *l = log_of(base);
    const int written = write_out(l);
    const int closed = behind(l)->pMethods->xClose(behind(l));
    ASSERT(l->gather->open_count > 0);
    l->gather->open_count--;
    free(l->kept);
    l->kept = NULL;
    return written == SQLITE_OK ? closed : written;
}

static int on_read(sqlite3_file *base, void *out, int len, sqlite3_int64 at)
{
    struct log *l = log_of(base);
    int rc = SQLITE_OK;
    if (at < l->at + l->len && l->at < at + len) rc = write_out(l);
    return rc == SQLITE_OK ? behind(l)->pMethods->xRead(behind(l), out, len, at) : rc;
}

static int on_write(sqlite3_file *base, const void *bytes, int len, sqlite3_int64 at)
{
    struct log *l = log_of(base);
    int rc = SQLITE_OK;
    if (l->len && (at != l->at + l->len || len > KEPT_BYTES - l->len)) rc = write_out(l);
    if (rc != SQLITE_OK) return rc;
    if (!l->kept) l->kept = malloc(KEPT_BYTES);
    if (!l->kept || len > KEPT_BYTES) return behind(l)->pMethods->xWrite(behind(l), bytes, len, at);
    if (!l->len) l->at = at;
    memcpy(l->kept + l->len, bytes, (size_t)len);
    l->len += len;
    return SQLITE_OK;
}

static int on_truncate(sqlite3_file *base, sqlite3_int64 bytes)
{
    struct log *l = log_of(base);
    const int rc = write_out(l);
    return rc == SQLITE_OK ? behind(l)->pMethods->xTruncate(behind(l), bytes) : rc;
}

static int on_sync(sqlite3_file *base, int flags)
{
    struct log *l = log_of(base);
    const int rc = write_out(l);
    return rc == SQLITE_OK ? behind(l)->pMethods->xSync(behind(l), flags) : rc;
}

static int on_size(sqlite3_file *base, sqlite3_int64 *bytes_out)
{
    struct log *l = log_of(base);
    const int rc = write_out(l);
    return rc == SQLITE_OK ? behind(l)->pMethods->xFileSize(behind(l), bytes_out) : rc;
}

static int on_lock(sqlite3_file *base, int level)
{
    return behind(log_of(base))->pMethods->xLock(behind(log_of(base)), level);
}

static int on_unlock(sqlite3_file *base, int level)
{
    return behind(log_of(base))->pMethods->xUnlock(behind(log_of(base)), level);
}

static int on_check_lock(sqlite3_file *base, int *locked_out)
{
    return behind(log_of(base))->pMethods->xCheckReservedLock(behind(log_of(base)), locked_out);
}

static int on_control(sqlite3_file *base, int op, void *arg)
{
    struct log *l = log_of(base);
    const int rc = write_out(l);
    return rc == SQLITE_OK ? behind(l)->pMethods->xFileControl(behind(l), op, arg) : rc;
}

static int on_sector_size(sqlite3_file *base)
{
    return behind(log_of(base))->pMethods->xSectorSize(behind(log_of(base)));
}

static int on_traits(sqlite3_file *base)
{
    return behind(log_of(base))->pMethods->xDeviceCharacteristics(behind(log_of(base)));
}

static const sqlite3_io_methods log_methods = {
    .iVersion = 1, /* no shared memory: that is the database's */
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_lock,
    .xFileControl = on_control,
    .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_traits,
};

/* ---- the file system ------------------------------------------------------------------------------------ */

static sqlite3_vfs *vfs_behind(sqlite3_vfs *base)
{
    return ((struct wal_gather *)(void *)base)->behind;
}

static int on_open(sqlite3_vfs *base, const char *name, sqlite3_file *out, int flags, int *flags_out)
{
    struct wal_gather *g = (struct wal_gather *)(void *)base;
    if (!(flags & SQLITE_OPEN_WAL)) return g->behind->xOpen(g->behind, name, out, flags, flags_out);
    struct log *l = log_of(out);
    memset(l, 0, sizeof *l);
    memset(behind(l), 0, (size_t)g->behind->szOsFile);
    const int rc = g->behind->xOpen(g->behind, name, behind(l), flags, flags_out);
    if (rc != SQLITE_OK) {
        /* One that sets its methods all the same wants to be closed; nobody else would. */
        if (behind(l)->pMethods) behind(l)->pMethods->xClose(behind(l));
        return rc;
    }
    l->gather = g;
    l->base.pMethods = &log_methods;
    g->open_count++;
    return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *base, const char *name, int sync_folder)
{
    return vfs_behind(base)->xDelete(vfs_behind(base), name, sync_folder);
}

static int on_access(sqlite3_vfs *base, const char *name, int flags, int *yes_out)
{
    return vfs_behind(base)->xAccess(vfs_behind(base), name, flags, yes_out);
}

static int on_full_path(sqlite3_vfs *base, const char *name, int bytes, char *out)
{
    return vfs_behind(base)->xFullPathname(vfs_behind(base), name, bytes, out);
}

static int on_randomness(sqlite3_vfs *base, int bytes, char *out)
{
    return vfs_behind(base)->xRandomness(vfs_behind(base), bytes, out);
}

static int on_sleep(sqlite3_vfs *base, int microseconds)
{
    return vfs_behind(base)->xSleep(vfs_behind(base), microseconds);
}

static int on_time(sqlite3_vfs *base, double *out)
{
    return vfs_behind(base)->xCurrentTime(vfs_behind(base), out);
}

static int on_time64(sqlite3_vfs *base, sqlite3_int64 *out)
{
    return vfs_behind(base)->xCurrentTimeInt64(vfs_behind(base), out);
}

static int on_last_error(sqlite3_vfs *base, int bytes, char *out)
{
    return vfs_behind(base)->xGetLastError(vfs_behind(base), bytes, out);
}

struct wal_gather *wal_gather_create(const char *before)
{
    if (sqlite3_initialize() != SQLITE_OK) return NULL;
    sqlite3_vfs *found = sqlite3_vfs_find(before);
    struct wal_gather *g = found ? calloc(1, sizeof *g) : NULL;
    if (!g) return NULL;
    ASSERT(found->iVersion >= 2);
    snprintf(g->name, sizeof g->name, "gather-%llx", (unsigned long long)(uintptr_t)g);
    g->behind = found;
    g->base = (sqlite3_vfs){ .iVersion = 2,
                             .szOsFile = (int)sizeof(struct log) + found->szOsFile,
                             .mxPathname = found->mxPathname,
                             .zName = g->name,
                             .xOpen = on_open,
                             .xDelete = on_delete,
                             .xAccess = on_access,
                             .xFullPathname = on_full_path,
                             .xRandomness = on_randomness,
                             .xSleep = on_sleep,
                             .xCurrentTime = on_time,
                             .xGetLastError = on_last_error,
                             .xCurrentTimeInt64 = on_time64 };
    if (sqlite3_vfs_register(&g->base, 0) == SQLITE_OK) return g;
    free(g);
    return NULL;
}

const char *wal_gather_name(const struct wal_gather *g)
{
    return g->name;
}

void wal_gather_destroy(struct wal_gather *g)
{
    if (!g) return;
    ASSERT(g->open_count == 0);
    sqlite3_vfs_unregister(&g->base);
    free(g);
}
