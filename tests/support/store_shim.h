/* A disk that fails on demand, between SQLite and the real one: a VFS, registered under a name of the module
 * that includes this. Everything is one set of switches, which any thread may read at any time. */
#ifndef TESTS_STORE_SHIM_H
#define TESTS_STORE_SHIM_H

#include <lauxlib.h>
#include <lua.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct shim_file {
    sqlite3_file base;
    sqlite3_file *real; /* behind it, in the same allocation */
};

static struct {
    atomic_int write, sync, read, open;  /* result code of each; 0: works */
    atomic_int skip;                     /* so many calls of those still work */
    atomic_int sync_after;               /* result of a sync that is carried out: its answer is lost */
    atomic_int sync_ms;                  /* how long a sync takes; -1: until it is switched off */
    atomic_llong room;                   /* bytes that may still be written; -1: any */
    atomic_int syncs, writes;
} switches;

static int fails(atomic_int *with)
{
    int rc = atomic_load(with);
    if (rc == SQLITE_OK) return rc;
    return atomic_fetch_sub(&switches.skip, 1) > 0 ? SQLITE_OK : rc;
}

static sqlite3_file *real(sqlite3_file *f)
{
    return ((struct shim_file *)f)->real;
}

static int f_close(sqlite3_file *f)
{
    return real(f)->pMethods->xClose(real(f));
}
static int f_read(sqlite3_file *f, void *out, int len, sqlite3_int64 at)
{
    int rc = fails(&switches.read);
    return rc ? rc : real(f)->pMethods->xRead(real(f), out, len, at);
}
static int f_write(sqlite3_file *f, const void *bytes, int len, sqlite3_int64 at)
{
    int rc = fails(&switches.write);
    long long room = atomic_load(&switches.room);
    atomic_fetch_add(&switches.writes, 1);
    if (rc) return rc;
    if (room >= 0 && room < len) return SQLITE_FULL;
    if (room >= 0) atomic_fetch_sub(&switches.room, len);
    return real(f)->pMethods->xWrite(real(f), bytes, len, at);
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return real(f)->pMethods->xTruncate(real(f), size);
}
static int f_sync(sqlite3_file *f, int flags)
{
    int rc = fails(&switches.sync), ms = atomic_load(&switches.sync_ms);
    struct timespec step = { 0, 1000000 };
    atomic_fetch_add(&switches.syncs, 1);
    for (int i = 0; i < ms; i++) nanosleep(&step, NULL);
    while (ms < 0 && atomic_load(&switches.sync_ms) < 0) nanosleep(&step, NULL);
    if (rc) return rc;
    rc = real(f)->pMethods->xSync(real(f), flags);
    return rc ? rc : fails(&switches.sync_after);
}
static int f_size(sqlite3_file *f, sqlite3_int64 *out)
{
    return real(f)->pMethods->xFileSize(real(f), out);
}
static int f_lock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xLock(real(f), level);
}
static int f_unlock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xUnlock(real(f), level);
}
static int f_reserved(sqlite3_file *f, int *out)
{
    return real(f)->pMethods->xCheckReservedLock(real(f), out);
}
static int f_control(sqlite3_file *f, int op, void *arg)
{
    return real(f)->pMethods->xFileControl(real(f), op, arg);
}
static int f_sector(sqlite3_file *f)
{
    return real(f)->pMethods->xSectorSize(real(f));
}
static int f_traits(sqlite3_file *f)
{
    return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

/* Version 1: no shared memory, no memory maps. */
static const sqlite3_io_methods shim_methods = {
    .iVersion = 1, .xClose = f_close, .xRead = f_read, .xWrite = f_write, .xTruncate = f_truncate,
    .xSync = f_sync, .xFileSize = f_size, .xLock = f_lock, .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved, .xFileControl = f_control, .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_traits,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    sqlite3_vfs *below = v->pAppData;
    struct shim_file *s = (struct shim_file *)f;
    int rc = fails(&switches.open);
    memset(s, 0, sizeof *s);
    if (rc) return rc;
    s->real = (sqlite3_file *)(s + 1);
    rc = below->xOpen(below, name, s->real, flags, out);
    if (rc == SQLITE_OK) s->base.pMethods = &shim_methods;
    return rc;
}

static int code(lua_State *L, const char *name)
{
    static const struct { const char *name; int code; } codes[] = {
        { "ok", SQLITE_OK }, { "io", SQLITE_IOERR }, { "fsync", SQLITE_IOERR_FSYNC },
        { "full", SQLITE_FULL }, { "read_only", SQLITE_READONLY }, { "cannot open", SQLITE_CANTOPEN },
        { "busy", SQLITE_BUSY }, { "corrupt", SQLITE_CORRUPT },
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].name, name) == 0) return codes[i].code;
    return luaL_error(L, "`%s` is no code", name);
}

static int field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    int rc = lua_isnil(L, -1) ? SQLITE_OK : code(L, lua_tostring(L, -1));
    lua_pop(L, 1);
    return rc;
}

/* set{ write = "full", sync = , sync_after = , read = , open = , skip = n, sync_ms = n, room = bytes };
 * what is not named works. */
static int l_set(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "skip");
    atomic_store(&switches.skip, (int)lua_tointeger(L, -1));
    lua_getfield(L, 1, "sync_ms");
    atomic_store(&switches.sync_ms, (int)lua_tointeger(L, -1));
    lua_getfield(L, 1, "room");
    atomic_store(&switches.room, lua_isnil(L, -1) ? -1 : (long long)lua_tonumber(L, -1));
    atomic_store(&switches.sync_after, field(L, "sync_after"));
    atomic_store(&switches.read, field(L, "read"));
    atomic_store(&switches.open, field(L, "open"));
    atomic_store(&switches.write, field(L, "write"));
    atomic_store(&switches.sync, field(L, "sync"));
    return 0;
}

/* -> syncs, writes so far */
static int l_counts(lua_State *L)
{
    lua_pushinteger(L, atomic_load(&switches.syncs));
    lua_pushinteger(L, atomic_load(&switches.writes));
    return 2;
}

/* Pushes the table of its functions. */
static void shim_push(lua_State *L, const char *name)
{
    static sqlite3_vfs shim;
    static const luaL_Reg functions[] = { { "set", l_set }, { "counts", l_counts }, { NULL, NULL } };
    if (!shim.zName) {
        sqlite3_vfs *below = sqlite3_vfs_find(NULL);
        shim = *below;
        shim.szOsFile = (int)sizeof(struct shim_file) + below->szOsFile;
        shim.zName = name;
        shim.pAppData = below;
        shim.xOpen = v_open;
        atomic_store(&switches.room, -1);
        sqlite3_vfs_register(&shim, 0);
    }
    lua_newtable(L);
    luaL_register(L, NULL, functions);
}

#endif
