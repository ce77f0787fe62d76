/* modules: top trace cli ops net sim peer deliver bind config policy store frame crypto engine base */
/* A whole daemon inside the spec's process, whose loop turns when Lua says so and whose reloads do one connection a turn:
 * so that anything can be asked of it between any two. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "ops/daemon_internal.h"

#define MT "unit.reload"
#define MT_VERSION "unit.reload.version"
#define TURNS_MAX 200000 /* of one wait: it is a bug then */

struct box {
    struct log *log;
    struct daemon *d;
    int fd;
};

static struct box *check_box(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MT);
    if (!b->d) luaL_error(L, "it is closed");
    return b;
}

/* start(config, log): one that listens where the configuration says. */
static int l_start(lua_State *L)
{
    const char *config = luaL_checkstring(L, 1), *log = luaL_checkstring(L, 2);
    struct box *b = lua_newuserdata(L, sizeof *b);
    struct roster roster;
    struct problems problems;
    char why[512] = "";
    *b = (struct box){ .fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) };
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    ASSERT(b->fd >= 0);
    problems_init(&problems);
    struct roster_load load = { .path = config, .seed = 1 };
    bool ok = roster_load(&load, &roster, &problems);
    if (!ok) problem_format(&problems.items[0], why, sizeof why);
    problems_deinit(&problems);
    if (!ok) return luaL_error(L, "%s", why);
    struct log_options lo = { .fd = b->fd, .level = LOG_DEBUG };
    b->log = log_create(&lo);
    struct daemon_options with = { .log = b->log, .version = "test" };
    b->d = daemon_create(&roster, &with, why, sizeof why);
    if (!b->d) return luaL_error(L, "%s", why);
    b->d->reloading.slice_ns = 0;
    return 1;
}

static int l_turn(lua_State *L)
{
    struct box *b = check_box(L);
    uv_run(&b->d->loop, UV_RUN_NOWAIT);
    return 0;
}

static const char *phase_of(const struct daemon *d)
{
    static const char *const names[] = { "idle", "reading", "proving", "building", "swapping" };
    return names[d->reloading.phase];
}

static int l_phase(lua_State *L)
{
    lua_pushstring(L, phase_of(check_box(L)->d));
    return 1;
}

/* await(phase): turns until it is in this one. */
static int l_await(lua_State *L)
{
    struct box *b = check_box(L);
    const char *phase = luaL_checkstring(L, 2);
    for (int i = 0; i < TURNS_MAX && strcmp(phase_of(b->d), phase) != 0; i++) {
        uv_run(&b->d->loop, b->d->reloading.phase == RELOAD_READING ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    }
    if (strcmp(phase_of(b->d), phase) != 0) return luaL_error(L, "never %s, but %s", phase, phase_of(b->d));
    return 0;
}

/* quiet(): turns until nothing waits to be added, removed or freed. */
static int l_quiet(lua_State *L)
{
    struct daemon *d = check_box(L)->d;
    struct reloading *r = &d->reloading;
    for (int i = 0; i < TURNS_MAX; i++) {
        bool asked = runtime_deadline_ms(d->rt) == 0; /* something was asked for and not yet carried out */
        if (r->phase == RELOAD_IDLE && !d->to_add_count && !d->added_waiting && !r->trash_count && !r->sweep && !asked) {
            return 0;
        }
        uv_run(&d->loop, r->phase == RELOAD_READING ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    }
    return luaL_error(L, "never quiet: %s, %d to add, %d wait", phase_of(d), (int)d->to_add_count, (int)d->added_waiting);
}

/* reload([policy], [unproven]): its ticket, or nil and why. */
static int l_reload(lua_State *L)
{
    struct box *b = check_box(L);
    struct ops_reload wish = { .policy = luaL_optstring(L, 2, NULL), .unproven = lua_toboolean(L, 3) };
    struct buffer out;
    buffer_init(&out, 1 << 20);
    enum ops_reloaded result = daemon__reload(b->d, &wish, &out);
    if (result == OPS_RELOAD_LATER) {
        lua_pushnumber(L, (double)wish.ticket);
        lua_pushnil(L);
    } else {
        lua_pushnil(L);
        lua_pushlstring(L, (const char *)out.data, out.len);
    }
    buffer_deinit(&out);
    return 2;
}

static int push_status(lua_State *L, int status, const struct ops_problems *problems)
{
    lua_pushinteger(L, status);
    lua_pushstring(L, problems->count ? problems->items[0].what : "");
    return 2;
}

static int l_put(lua_State *L)
{
    struct box *b = check_box(L);
    struct ops_problems problems = { .count = 0 };
    size_t len;
    const char *name = luaL_checkstring(L, 2), *json = luaL_checklstring(L, 3, &len);
    struct ops_put how = { .proof = "" };
    return push_status(L, daemon__put(b->d, name, json, len, &how, &problems), &problems);
}

static int l_remove(lua_State *L)
{
    struct box *b = check_box(L);
    struct ops_problems problems = { .count = 0 };
    return push_status(L, daemon__remove(b->d, luaL_checkstring(L, 2), &problems), &problems);
}

static int l_order(lua_State *L)
{
    struct box *b = check_box(L);
    struct handle h = runtime_find(b->d->rt, luaL_checkstring(L, 2));
    const char *order = luaL_checkstring(L, 3);
    if (strcmp(order, "stop") == 0) runtime_stop(b->d->rt, h);
    else if (strcmp(order, "start") == 0) runtime_start(b->d->rt, h);
    else runtime_restart(b->d->rt, h);
    return 0;
}

/* The upgrade that does not happen: links are closed and opened again. */
static int l_links(lua_State *L)
{
    struct box *b = check_box(L);
    if (lua_toboolean(L, 2)) daemon__links_open(b->d);
    else daemon__links_close(b->d, OPS_BEING_UPGRADED, true);
    return 0;
}

static int l_end(lua_State *L)
{
    daemon__end(check_box(L)->d, SIGTERM);
    return 0;
}

/* { NAME = { version =, wanted =, silence = ms } } */
static int l_all(lua_State *L)
{
    struct box *b = check_box(L);
    struct handle h;
    lua_newtable(L);
    for (uint32_t i = 0; runtime_next(b->d->rt, &i, &h); i++) {
        struct connection_view view;
        if (!runtime_view(b->d->rt, h, &view)) continue;
        lua_createtable(L, 0, 3);
        lua_pushinteger(L, view.policy_version);
        lua_setfield(L, -2, "version");
        lua_pushboolean(L, view.engine.wanted);
        lua_setfield(L, -2, "wanted");
        lua_setfield(L, -2, view.name);
    }
    return 1;
}

/* version(policy): the one that the configuration's connections go on with; holds a reference. */
static int l_version(lua_State *L)
{
    struct box *b = check_box(L);
    struct policy_version *v = roster_policy(&b->d->roster, luaL_checkstring(L, 2));
    if (!v) return 0;
    struct policy_version **held = lua_newuserdata(L, sizeof *held);
    *held = policy_ref(v);
    luaL_getmetatable(L, MT_VERSION);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_references(lua_State *L)
{
    struct policy_version **held = luaL_checkudata(L, 1, MT_VERSION);
    lua_pushinteger(L, *held ? (int)policy_references(*held) : 0);
    return 1;
}

static int l_version_gc(lua_State *L)
{
    struct policy_version **held = luaL_checkudata(L, 1, MT_VERSION);
    policy_unref(*held);
    *held = NULL;
    return 0;
}

static int l_close(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, MT);
    if (b->d) daemon_destroy(b->d);
    if (b->log) log_destroy(b->log);
    if (b->fd >= 0) close(b->fd);
    *b = (struct box){ .fd = -1 };
    return 0;
}

static const luaL_Reg methods[] = {
    { "turn", l_turn },     { "phase", l_phase }, { "await", l_await }, { "quiet", l_quiet }, { "reload", l_reload },
    { "put", l_put },       { "remove", l_remove }, { "order", l_order }, { "links", l_links }, { "finish", l_end },
    { "all", l_all },       { "version", l_version }, { "close", l_close }, { NULL, NULL },
};

int luaopen_unit_reload(lua_State *L);

int luaopen_unit_reload(lua_State *L)
{
    signal(SIGPIPE, SIG_IGN);
    luaL_newmetatable(L, MT);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, MT_VERSION);
    lua_newtable(L);
    lua_pushcfunction(L, l_references);
    lua_setfield(L, -2, "references");
    lua_pushcfunction(L, l_version_gc);
    lua_setfield(L, -2, "release");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_version_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    lua_pushcfunction(L, l_start);
    lua_setfield(L, -2, "start");
    return 1;
}
