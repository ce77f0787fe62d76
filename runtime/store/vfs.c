/* VFS: translates SQLite's calls into those of a struct store_disk. Owns the registration and what is open;
 * holds no byte of a file, keeps no clock, locks nothing. */
#include "store/vfs.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

#define PATH_BYTES_MAX 512
#define JULIAN_EPOCH_MS 210866760000000ull

struct store_vfs {
    sqlite3_vfs base; /* first: SQLite hands it back */
    struct store_disk disk;
    uint64_t seed, draws, reseeds, temps;
    uint32_t open_count;
    char name[];
};

struct file {
    sqlite3_file base; /* first, likewise */
    struct store_vfs *vfs;
    uint32_t number;
    bool folder_unsynced, temporary;
    char name[PATH_BYTES_MAX + 1]; /* of a temporary one */
};

static const sqlite3_io_methods methods;

static struct store_vfs *vfs_of(sqlite3_vfs *base)
{
    return (struct store_vfs *)(void *)base;
}

static struct file *file_of(sqlite3_file *base)
{
    return (struct file *)(void *)base;
}

static int code_of(enum store_disk_result result, int otherwise)
{
    switch (result) {
    case STORE_DISK_OK: return SQLITE_OK;
    case STORE_DISK_FULL: return SQLITE_FULL;
    case STORE_DISK_MISSING:
    case STORE_DISK_READ_ONLY:
    case STORE_DISK_FAILED: break;
    }
    return otherwise;
}

/* ---- files --------------------------------------------------------------------------------------------- */

static int on_close(sqlite3_file *base)
{
    struct file *f = file_of(base);
    const struct store_disk *disk = &f->vfs->disk;
    ASSERT(f->vfs->open_count > 0);
    f->vfs->open_count--;
    disk->close(disk->self, f->number);
    if (f->temporary) disk->remove(disk->self, f->name);
    return SQLITE_OK;
}

static int on_read(sqlite3_file *base, void *out, int len, sqlite3_int64 at)
{
    struct file *f = file_of(base);
    const struct store_disk *disk = &f->vfs->disk;
    size_t got = 0;
    enum store_disk_result r = disk->read(disk->self, f->number, (uint64_t)at, out, (size_t)len, &got);
    if (r != STORE_DISK_OK) return SQLITE_IOERR_READ;
    if (got == (size_t)len) return SQLITE_OK;
    memset((char *)out + got, 0, (size_t)len - got);
    return SQLITE_IOERR_SHORT_READ;
}

static int on_write(sqlite3_file *base, const void *bytes, int len, sqlite3_int64 at)
{
    struct file *f = file_of(base);
    const struct store_disk *disk = &f->vfs->disk;
    return code_of(disk->write(disk->self, f->number, (uint64_t)at, bytes, (size_t)len),
                   SQLITE_IOERR_WRITE);
}

static int on_truncate(sqlite3_file *base, sqlite3_int64 bytes)
{
    struct file *f = file_of(base);
    const struct store_disk *disk = &f->vfs->disk;
    return code_of(disk->truncate(disk->self, f->number, (uint64_t)bytes), SQLITE_IOERR_TRUNCATE);
}

static int on_sync(sqlite3_file *base, int flags)
{
    struct file *f = file_of(base);
    const struct store_disk *disk = &f->vfs->disk;
    (void)flags;
    enum store_disk_result r = disk->sync(disk->self, f->number);
    if (r == STORE_DISK_OK && f->folder_unsynced) {
        r = disk->sync_folder(disk->self);
        if (r != STORE_DISK_OK) return SQLITE_IOERR_DIR_FSYNC;
        f->folder_unsynced = false;
    }
    return code_of(r, SQLITE_IOERR_FSYNC);
}

static int on_size(sqlite3_file *base, sqlite3_int64 *bytes_out)
{
    struct file *f = file_of(base);
    const struct store_disk *disk = &f->vfs->disk;
    uint64_t bytes = 0;
    enum store_disk_result r = disk->size(disk->self, f->number, &bytes);
    *bytes_out = (sqlite3_int64)bytes;
    return code_of(r, SQLITE_IOERR_FSTAT);
}

static int on_lock(sqlite3_file *base, int level)
{
    (void)base, (void)level;
    return SQLITE_OK;
}

static int on_check_lock(sqlite3_file *base, int *locked_out)
{
    (void)base;
    *locked_out = 0;
    return SQLITE_OK;
}

static int on_control(sqlite3_file *base, int op, void *arg)
{
    (void)base, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int on_sector_size(sqlite3_file *base)
{
    (void)base;
    return 512;
}

/* As SQLite takes it for granted on Unix: what stands beside a write in its sector survives. */
static int on_traits(sqlite3_file *base)
{
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1, /* no shared memory */
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_lock,
    .xCheckReservedLock = on_check_lock,
    .xFileControl = on_control,
    .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_traits,
};

/* ---- the file system ------------------------------------------------------------------------------------ */

static int on_open(sqlite3_vfs *base, const char *name, sqlite3_file *out, int flags, int *flags_out)
{
    struct store_vfs *v = vfs_of(base);
    struct file *f = file_of(out);
    bool create = flags & SQLITE_OPEN_CREATE, writes = flags & SQLITE_OPEN_READWRITE;
    memset(f, 0, sizeof *f);
    f->vfs = v;
    if (!name) {
        snprintf(f->name, sizeof f->name, "/temporary-%llu", (unsigned long long)++v->temps);
        name = f->name;
    } else if (flags & SQLITE_OPEN_DELETEONCLOSE) {
        snprintf(f->name, sizeof f->name, "%s", name);
    }
    f->temporary = f->name[0] != 0;
    enum store_disk_result r =
        v->disk.open(v->disk.self, name, writes, create, &f->number);
    if (r == STORE_DISK_READ_ONLY && writes) {
        flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
        r = v->disk.open(v->disk.self, name, false, false, &f->number);
    }
    if (r != STORE_DISK_OK) return code_of(r, SQLITE_CANTOPEN);
    /* Also one that was there: whoever made it may not have lived to sync its folder. */
    f->folder_unsynced = create && (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL |
                                             SQLITE_OPEN_WAL));
    f->base.pMethods = &methods;
    v->open_count++;
    if (flags_out) *flags_out = flags;
    return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *base, const char *name, int sync_folder)
{
    const struct store_disk *disk = &vfs_of(base)->disk;
    enum store_disk_result r = disk->remove(disk->self, name);
    if (r == STORE_DISK_MISSING) return SQLITE_IOERR_DELETE_NOENT;
    if (r != STORE_DISK_OK) return SQLITE_IOERR_DELETE;
    if (sync_folder && disk->sync_folder(disk->self) != STORE_DISK_OK) return SQLITE_IOERR_DIR_FSYNC;
    return SQLITE_OK;
}

static int on_access(sqlite3_vfs *base, const char *name, int flags, int *yes_out)
{
    const struct store_disk *disk = &vfs_of(base)->disk;
    (void)flags;
    *yes_out = disk->exists(disk->self, name);
    return SQLITE_OK;
}

static int on_full_path(sqlite3_vfs *base, const char *name, int bytes, char *out)
{
    (void)base;
    size_t len = strlen(name);
    if (len >= (size_t)bytes) return SQLITE_CANTOPEN;
    memcpy(out, name, len + 1);
    return SQLITE_OK;
}

static int on_randomness(sqlite3_vfs *base, int bytes, char *out)
{
    struct store_vfs *v = vfs_of(base);
    for (int i = 0; i < bytes; i += 8) {
        uint64_t draw = rng_draw(v->seed, 0x5eed, v->draws++, 0);
        memcpy(out + i, &draw, bytes - i < 8 ? (size_t)(bytes - i) : 8);
    }
    return bytes;
}

/* Whoever waits here would wait for a lock, and there are none. */
static int on_sleep(sqlite3_vfs *base, int microseconds)
{
    (void)base;
    return microseconds;
}

static int on_time64(sqlite3_vfs *base, sqlite3_int64 *out)
{
    const struct store_disk *disk = &vfs_of(base)->disk;
    *out = (sqlite3_int64)(JULIAN_EPOCH_MS + disk->wall_ms(disk->self));
    return SQLITE_OK;
}

static int on_time(sqlite3_vfs *base, double *out)
{
    sqlite3_int64 ms;
    on_time64(base, &ms);
    *out = (double)ms / 86400000.0;
    return SQLITE_OK;
}

static int on_last_error(sqlite3_vfs *base, int bytes, char *out)
{
    (void)base;
    if (bytes > 0) out[0] = 0;
    return 0;
}

struct store_vfs *store_vfs_register(const char *name, const struct store_disk *disk, uint64_t seed)
{
    size_t len = strlen(name);
    if (sqlite3_initialize() != SQLITE_OK || sqlite3_vfs_find(name)) return NULL;
    struct store_vfs *v = calloc(1, sizeof *v + len + 1);
    if (!v) return NULL;
    memcpy(v->name, name, len + 1);
    v->disk = *disk;
    v->seed = seed;
    v->base = (sqlite3_vfs){ .iVersion = 2,
                             .szOsFile = (int)sizeof(struct file),
                             .mxPathname = PATH_BYTES_MAX,
                             .zName = v->name,
                             .xOpen = on_open,
                             .xDelete = on_delete,
                             .xAccess = on_access,
                             .xFullPathname = on_full_path,
                             .xRandomness = on_randomness,
                             .xSleep = on_sleep,
                             .xCurrentTime = on_time,
                             .xGetLastError = on_last_error,
                             .xCurrentTimeInt64 = on_time64 };
    if (sqlite3_vfs_register(&v->base, 0) == SQLITE_OK) return v;
    free(v);
    return NULL;
}

void store_vfs_unregister(struct store_vfs *v)
{
    if (!v) return;
    ASSERT(v->open_count == 0);
    sqlite3_vfs_unregister(&v->base);
    free(v);
}

void store_vfs_reseed(struct store_vfs *v)
{
    int seed = (int)(rng_draw(v->seed, 0x5a17, v->reseeds++, 0) & 0x7fffffff) | 1;
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, seed, (sqlite3 *)NULL);
}
