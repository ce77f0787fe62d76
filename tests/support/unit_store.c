/* modules: store engine base */
/* The store's core as a Lua module. Numbers that a Lua number cannot hold come and go as decimal text. */
#include <errno.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "store/core.h"
#include "store/schema.h"
#include "store_request.h"
#include "store_shim.h"

#define MT "unit.store"

int luaopen_unit_store(lua_State *L);

struct box {
    struct store_core *core; /* owned; NULL: closed */
};

static const char *const open_names[] = { "opened", "missing folder", "denied", "corrupt", "newer",
                                          "not a store", "full", "failed" };
static const char *const applied_names[] = { "applied", "full", "io", "corrupt" };

static struct store_core *check(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MT);
    if (!b->core) luaL_error(L, "the store is closed");
    return b->core;
}

/* open{ path, ... } -> core; or nil, result, sentence */
static int l_open(lua_State *L)
{
    char why[600] = "?";
    enum store_open result;
    struct store_core_options o;
    struct box *b = lua_newuserdata(L, sizeof *b);
    b->core = NULL;
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    store_options_read(L, 1, &o);
    b->core = store_core_open(&o, &result, why, sizeof why);
    if (b->core) {
        if (result != STORE_OPENED || why[0]) return luaL_error(L, "opened, and says: %s", why);
        return 1;
    }
    if (result == STORE_OPENED) return luaL_error(L, "no core, and no reason");
    lua_pushnil(L);
    lua_pushstring(L, open_names[result]);
    lua_pushstring(L, why);
    return 3;
}

static int l_close(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MT);
    bool ok = b->core && store_core_close(b->core, lua_toboolean(L, 2));
    b->core = NULL;
    lua_pushboolean(L, ok);
    return 1;
}

static int push_applied(lua_State *L, enum store_applied result, const char *why)
{
    if ((result == STORE_APPLIED) != (why[0] == 0)) return luaL_error(L, "a sentence that does not fit: %s", why);
    lua_pushstring(L, applied_names[result]);
    lua_pushstring(L, why);
    return 2;
}

/* apply{ request, ... } -> result, sentence */
static int l_apply(lua_State *L)
{
    char why[600] = "?";
    struct buffer batch;
    struct store_core *c = check(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    buffer_init(&batch, 0);
    for (int i = 1, n = (int)lua_objlen(L, 2); i <= n; i++) {
        struct store_request r;
        lua_rawgeti(L, 2, i);
        store_request_read(L, -1, &r);
        if (!store_batch_add(&batch, &r)) return luaL_error(L, "a request did not fit");
        lua_pop(L, 1);
    }
    enum store_applied result = store_core_apply(c, &batch, why, sizeof why);
    buffer_deinit(&batch);
    return push_applied(L, result, why);
}

/* fill{ op, ... }(request, count, per_batch [, line bytes]): the same request with rising offsets.
 * -> milliseconds, and the longest batch's */
static int l_fill(lua_State *L)
{
    char why[600] = "?";
    struct buffer batch;
    struct store_request r;
    struct store_core *c = check(L);
    double longest = 0, begun = store_now_ms(), last = begun;
    int count = luaL_checkint(L, 3), per_batch = luaL_checkint(L, 4);
    store_request_read(L, 2, &r);
    buffer_init(&batch, 0);
    for (int i = 0; i < count; i++) {
        if (!store_batch_add(&batch, &r)) return luaL_error(L, "a request did not fit");
        r.offset++;
        r.key_low = r.key_low * 6364136223846793005ull + 1442695040888963407ull;
        if ((i + 1) % per_batch && i + 1 < count) continue;
        if (store_core_apply(c, &batch, why, sizeof why) != STORE_APPLIED) {
            buffer_deinit(&batch);
            return luaL_error(L, "%s", why);
        }
        double now = store_now_ms();
        if (now - last > longest) longest = now - last;
        last = now;
        buffer_clear(&batch);
    }
    buffer_deinit(&batch);
    lua_pushnumber(L, last - begun);
    lua_pushnumber(L, longest);
    return 2;
}

static int l_tidy(lua_State *L)
{
    char why[600] = "?";
    struct store_core *c = check(L);
    return push_applied(L, store_core_tidy(c, store_number(L, 2), why, sizeof why), why);
}

static int l_wants_tidy(lua_State *L)
{
    lua_pushboolean(L, store_core_wants_tidy(check(L)));
    return 1;
}

static int l_compact(lua_State *L)
{
    char why[600] = "?";
    struct store_core *c = check(L);
    return push_applied(L, store_core_compact(c, why, sizeof why), why);
}

/* -> { connections = { ... }, ... }; or nil, sentence, what was read all the same */
static int l_visit(lua_State *L)
{
    char why[600] = "?";
    struct store_core *c = check(L);
    struct store_visitor v = store_visitor_to(L);
    if (store_core_visit(c, &v, why, sizeof why)) return 1;
    lua_pushnil(L);
    lua_pushstring(L, why);
    lua_pushvalue(L, -3);
    return 3;
}

static int l_info(lua_State *L)
{
    char why[600] = "?";
    struct store_core_info i;
    if (!store_core_info(check(L), &i, why, sizeof why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_newtable(L);
#define FIELD(name) store_push_number(L, i.name), lua_setfield(L, -2, #name)
    FIELD(file_bytes); FIELD(wal_bytes); FIELD(free_bytes); FIELD(epoch); FIELD(events);
    FIELD(event_bytes); FIELD(sessions); FIELD(permits); FIELD(consumers); FIELD(cursors);
    FIELD(seen); FIELD(journal_entries); FIELD(schema_version);
#undef FIELD
    return 1;
}

static void on_stream(void *self, const struct store_stream_info *i)
{
    lua_State *L = self;
    lua_newtable(L);
    lua_pushstring(L, i->name);
    lua_setfield(L, -2, "name");
#define FIELD(field) store_push_number(L, i->field), lua_setfield(L, -2, #field)
    FIELD(events); FIELD(event_bytes); FIELD(oldest_wall_ms); FIELD(newest_wall_ms);
    FIELD(last_epoch); FIELD(last_offset); FIELD(cursors);
#undef FIELD
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
}

static int l_streams(lua_State *L)
{
    char why[600] = "?";
    struct store_core *c = check(L);
    lua_newtable(L);
    if (!store_core_each_stream(c, on_stream, L, why, sizeof why)) return luaL_error(L, "%s", why);
    return 1;
}

static int l_start(lua_State *L)
{
    struct store_core *c = check(L);
    lua_newtable(L);
    store_push_number(L, store_core_epoch(c));
    lua_setfield(L, -2, "epoch");
    store_push_number(L, store_core_seed(c));
    lua_setfield(L, -2, "seed");
    lua_pushboolean(L, store_core_was_clean(c));
    lua_setfield(L, -2, "was_clean");
    lua_pushboolean(L, store_core_is_new(c));
    lua_setfield(L, -2, "is_new");
    return 1;
}

/* A request through the encoding and back. */
static int l_encoded(lua_State *L)
{
    struct buffer batch;
    struct store_request r, back;
    size_t at = 0;
    store_request_read(L, 1, &r);
    buffer_init(&batch, (size_t)luaL_optnumber(L, 2, 0));
    if (!store_batch_add(&batch, &r)) {
        lua_pushnil(L);
        lua_pushinteger(L, (lua_Integer)batch.len);
        buffer_deinit(&batch);
        return 2;
    }
    if (!store_batch_next(&batch, &at, &back)) return luaL_error(L, "nothing came back");
    store_request_push(L, &back);
    if (store_batch_next(&batch, &at, &back)) return luaL_error(L, "too much came back");
    buffer_deinit(&batch);
    return 1;
}

/* One batch of the killed writer: rows that carry its number, so that a part of it would be seen. */
static bool crash_batch(struct buffer *batch, uint64_t n, uint64_t *offset, char *line)
{
    bool ok = true;
    struct store_request r = { .connection = "a", .epoch = 1, .wall_ms = n };
    buffer_clear(batch);
    if (n % 16 == 0) {
        r.op = STORE_OP_TRIM;
        r.offset = *offset;
        ok = store_batch_add(batch, &r);
    }
    for (uint64_t i = 0; i < n % 7 + 1; i++) {
        r.op = STORE_OP_EVENT;
        r.offset = ++*offset;
        r.bytes = line;
        r.len = (size_t)(n * 977 % 9000);
        ok = ok && store_batch_add(batch, &r);
    }
    r = (struct store_request){ .op = STORE_OP_TOLD, .account = 1, .count = (int64_t)n };
    ok = ok && store_batch_add(batch, &r);
    r = (struct store_request){ .op = STORE_OP_PERMIT, .connection = "a", .account = 2, .wall_ms = n,
                                .boot_ms = n };
    return ok && store_batch_add(batch, &r);
}

/* crash(path, first number, first offset, answers, microseconds): a process that writes one batch after the
 * other until it is killed, so long after so many answers. -> the last number that was answered, or
 * first - 1 */
static int l_crash(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    uint64_t first = store_number(L, 2), offset = store_number(L, 3), last = first - 1, n;
    int out[2], status;
    if (pipe(out)) return luaL_error(L, "no pipe");
    pid_t pid = fork();
    if (pid < 0) return luaL_error(L, "cannot fork");
    if (pid == 0) {
        char why[600];
        struct buffer batch;
        enum store_open result;
        struct store_core_options o = { .path = path, .boot_id = "b", .wall_ms = 1000, .boot_ms = 1 };
        struct store_core *c = store_core_open(&o, &result, why, sizeof why);
        char *line = calloc(1, 9000);
        buffer_init(&batch, 0);
        n = first - 1; /* opened */
        if (!c || write(out[1], &n, sizeof n) != sizeof n) _exit(1);
        for (n = first;; n++) {
            if (!crash_batch(&batch, n, &offset, line)) _exit(2);
            if (store_core_apply(c, &batch, why, sizeof why) != STORE_APPLIED) _exit(3);
            if (write(out[1], &n, sizeof n) != sizeof n) _exit(4);
            if (n % 8 == 0 && store_core_tidy(c, 1000, why, sizeof why) != STORE_APPLIED) _exit(5);
        }
    }
    close(out[1]);
    for (int i = luaL_checkint(L, 4); i >= 0 && read(out[0], &n, sizeof n) == sizeof n; i--) last = n;
    for (double until = store_now_ms() + luaL_checknumber(L, 5) / 1000; store_now_ms() < until;) {}
    kill(pid, SIGKILL);
    while (read(out[0], &n, sizeof n) == sizeof n) last = n;
    close(out[0]);
    waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status)) return luaL_error(L, "the writer ended by itself, %d", WEXITSTATUS(status));
    store_push_number(L, last);
    return 1;
}

/* sql(path, text): another program's hands on a file. -> first value of the last row, or nil, error */
static int l_sql(lua_State *L)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    const char *text = luaL_checkstring(L, 2);
    int rc = sqlite3_open(luaL_checkstring(L, 1), &db);
    lua_pushnil(L);
    while (rc == SQLITE_OK && text[0]) {
        rc = sqlite3_prepare_v2(db, text, -1, &s, &text);
        if (rc != SQLITE_OK || !s) break;
        while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
            lua_pop(L, 1);
            lua_pushstring(L, (const char *)sqlite3_column_text(s, 0));
        }
        sqlite3_finalize(s);
        if (rc == SQLITE_DONE) rc = SQLITE_OK;
    }
    if (rc != SQLITE_OK) {
        lua_pushnil(L);
        lua_pushstring(L, sqlite3_errmsg(db));
    }
    sqlite3_close(db);
    return rc == SQLITE_OK ? 1 : 2;
}

/* migrate(path, version, { step, ... }) -> "ok" or the error's name */
static int l_migrate(lua_State *L)
{
    sqlite3 *db = NULL;
    const char *steps[8] = { 0 };
    uint32_t count = (uint32_t)lua_objlen(L, 3);
    for (uint32_t i = 0; i < count && i < 8; i++) {
        lua_rawgeti(L, 3, (int)i + 1);
        steps[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    int rc = sqlite3_open(luaL_checkstring(L, 1), &db);
    if (rc == SQLITE_OK) rc = schema_migrate(db, (uint32_t)luaL_checkint(L, 2), steps, count);
    sqlite3_close(db);
    lua_pushstring(L, rc == SQLITE_OK ? "ok" : sqlite3_errstr(rc));
    return 1;
}

int luaopen_unit_store(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "apply", l_apply }, { "fill", l_fill }, { "tidy", l_tidy }, { "wants_tidy", l_wants_tidy },
        { "compact", l_compact }, { "visit", l_visit }, { "info", l_info }, { "streams", l_streams },
        { "start", l_start }, { "close", l_close }, { NULL, NULL }
    };
    static const luaL_Reg functions[] = {
        { "open", l_open }, { "encoded", l_encoded }, { "sql", l_sql }, { "migrate", l_migrate },
        { "crash", l_crash },
        { NULL, NULL }
    };
    luaL_newmetatable(L, MT);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    shim_push(L, "shim");
    lua_setfield(L, -2, "shim");
    return 1;
}
