/* modules: store engine base */
/* The store's thread as a Lua module, with a descriptor to wait at as a loop would. */
#include <lauxlib.h>
#include <lua.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "store/pending.h"
#include "store/thread.h"
#include "store_request.h"
#include "store_shim.h"

#define MT "unit.store_thread"

int luaopen_unit_store_thread(lua_State *L);

struct box {
    struct store_thread *t; /* owned; NULL: closed */
    int wakes;              /* eventfd */
};

static struct box *check(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MT);
    if (!b->t) luaL_error(L, "the store is closed");
    return b;
}

static void on_wake(void *to)
{
    uint64_t one = 1;
    int fd = (int)(intptr_t)to;
    if (write(fd, &one, sizeof one) < 0) return;
}

/* open{ path, pending = bytes, gather = ms, ... } -> thread; or nil, number of the result, sentence */
static int l_open(lua_State *L)
{
    char why[600] = "?";
    enum store_open result;
    struct store_thread_options o = { .wake = on_wake };
    struct box *b = lua_newuserdata(L, sizeof *b);
    *b = (struct box){ .wakes = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    store_options_read(L, 1, &o.core);
    o.pending_bytes_max = store_field(L, 1, "pending");
    o.gather_ms = store_field(L, 1, "gather");
    o.to = (void *)(intptr_t)b->wakes;
    b->t = store_thread_open(&o, &result, why, sizeof why);
    if (b->t) return 1;
    lua_pushnil(L);
    lua_pushinteger(L, result);
    lua_pushstring(L, why);
    return 3;
}

static int l_visit(lua_State *L)
{
    char why[600] = "?";
    struct box *b = check(L);
    struct store_visitor v = store_visitor_to(L);
    if (!store_thread_visit(b->t, &v, why, sizeof why)) return luaL_error(L, "%s", why);
    return 1;
}

static int l_start(lua_State *L)
{
    lua_pushboolean(L, store_thread_start(check(L)->t));
    return 1;
}

/* -> taken? `times`: so often, with rising offsets; then how many were taken. */
static int l_submit(lua_State *L)
{
    struct box *b = check(L);
    struct store store = store_thread_store(b->t);
    struct store_request r;
    int times = luaL_optint(L, 3, 1), taken = 0;
    store_request_read(L, 2, &r);
    for (int i = 0; i < times; i++, r.offset++) {
        if (store.ops->submit(store.self, &r)) taken++;
        if (r.ticket) r.ticket++;
    }
    if (lua_isnoneornil(L, 3)) lua_pushboolean(L, taken);
    else lua_pushinteger(L, taken);
    return 1;
}

static int l_flush(lua_State *L)
{
    store_thread_flush(check(L)->t);
    return 0;
}

static void on_answer(void *to, uint64_t ticket, bool ok)
{
    lua_State *L = to;
    int n = (int)lua_objlen(L, -1);
    lua_pushnumber(L, ok ? (lua_Number)ticket : -(lua_Number)ticket);
    lua_rawseti(L, -2, n + 1);
}

/* -> { ticket, -ticket (refused), ... } */
static int l_poll(lua_State *L)
{
    struct box *b = check(L);
    uint64_t wakes;
    if (read(b->wakes, &wakes, sizeof wakes) < 0) wakes = 0;
    lua_newtable(L);
    store_thread_poll(b->t, on_answer, L);
    return 1;
}

/* Until it is woken, or the time is over. -> woken? */
static int l_wait(lua_State *L)
{
    struct pollfd p = { .fd = check(L)->wakes, .events = POLLIN };
    lua_pushboolean(L, poll(&p, 1, luaL_checkint(L, 2)) == 1);
    return 1;
}

static int l_is_idle(lua_State *L)
{
    lua_pushboolean(L, store_thread_is_idle(check(L)->t));
    return 1;
}

static int l_health(lua_State *L)
{
    struct store_health h;
    store_thread_health(check(L)->t, &h);
    lua_newtable(L);
    lua_pushboolean(L, h.degraded);
    lua_setfield(L, -2, "degraded");
    lua_pushstring(L, h.why);
    lua_setfield(L, -2, "why");
#define FIELD(name) store_push_number(L, h.name), lua_setfield(L, -2, #name)
    FIELD(since_wall_ms); FIELD(failures); FIELD(commits); FIELD(requests); FIELD(pending_bytes);
    FIELD(dropped); FIELD(commit_ms_last); FIELD(commit_ms_most); FIELD(file_bytes); FIELD(wal_bytes);
#undef FIELD
    return 1;
}

/* close(ms) -> clean?, milliseconds that it took */
static int l_close(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MT);
    double begun = store_now_ms();
    bool clean = b->t && store_thread_close(b->t, (uint64_t)luaL_optnumber(L, 2, 20000));
    b->t = NULL;
    lua_pushboolean(L, clean);
    lua_pushnumber(L, store_now_ms() - begun);
    return 2;
}

static int l_gc(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MT);
    if (b->t) store_thread_close(b->t, 20000);
    b->t = NULL;
    close(b->wakes); /* a thread that was given up wakes nobody any more */
    return 0;
}

/* For what no descriptor tells: milliseconds. */
static int l_nap(lua_State *L)
{
    poll(NULL, 0, luaL_checkint(L, 1));
    return 0;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, store_now_ms());
    return 1;
}

static void count_failed(void *to, uint64_t ticket)
{
    lua_State *L = to;
    int n = (int)lua_objlen(L, 3);
    lua_pushnumber(L, (lua_Number)ticket);
    lua_rawseti(L, 3, n + 1);
}

static void batch_read(lua_State *L, int at, struct buffer *batch)
{
    buffer_init(batch, 0);
    for (int i = 1, n = (int)lua_objlen(L, at); i <= n; i++) {
        struct store_request r;
        lua_rawgeti(L, at, i);
        store_request_read(L, -1, &r);
        if (!store_batch_add(batch, &r)) luaL_error(L, "a request did not fit");
        lua_pop(L, 1);
    }
}

/* -> the requests that are left, the tickets that failed, and `more` if not -1 */
static int batch_push(lua_State *L, struct buffer *batch, int64_t more)
{
    struct store_request r;
    lua_newtable(L);
    for (size_t at = 0, i = 1; store_batch_next(batch, &at, &r); i++) {
        store_request_push(L, &r);
        lua_rawseti(L, -2, (int)i);
    }
    buffer_deinit(batch);
    lua_pushvalue(L, 3);
    lua_pushinteger(L, (lua_Integer)more);
    return 3;
}

/* settle({ request, ... }, unsure) */
static int l_settle(lua_State *L)
{
    struct buffer batch;
    struct pending_answer answer = { count_failed, L };
    bool unsure = lua_toboolean(L, 2);
    lua_settop(L, 2);
    lua_newtable(L);
    batch_read(L, 1, &batch);
    pending_settle(&batch, 0, unsure, &answer);
    return batch_push(L, &batch, -1);
}

/* shrink({ request, ... }, bytes) */
static int l_shrink(lua_State *L)
{
    struct buffer batch;
    struct pending_answer answer = { count_failed, L };
    size_t most = (size_t)luaL_checknumber(L, 2);
    lua_settop(L, 2);
    lua_newtable(L);
    batch_read(L, 1, &batch);
    uint64_t dropped = pending_shrink(&batch, most, &answer);
    return batch_push(L, &batch, (int64_t)dropped);
}

int luaopen_unit_store_thread(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "visit", l_visit }, { "start", l_start }, { "submit", l_submit }, { "flush", l_flush },
        { "poll", l_poll }, { "wait", l_wait }, { "is_idle", l_is_idle }, { "health", l_health },
        { "close", l_close }, { NULL, NULL }
    };
    static const luaL_Reg functions[] = {
        { "open", l_open }, { "settle", l_settle }, { "shrink", l_shrink },
        { "nap", l_nap }, { "now", l_now }, { NULL, NULL }
    };
    luaL_newmetatable(L, MT);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    shim_push(L, "shim of the thread");
    lua_setfield(L, -2, "shim");
    return 1;
}
