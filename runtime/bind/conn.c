/* `conn`: the connection as a policy sees it. A box with handle and call number; every access asks
 * the port again. Never waits itself: waiting functions live in wait.c and http.c. */
#include <lauxlib.h>
#include <string.h>

#include "base/assert.h"
#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

#define CONN_MT        "holdfast.conn"
#define LOG_TEXT_BYTES 512

struct conn_box {
    struct handle conn;
    uint64_t serial;
};

static int refused(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why ? why : "refused");
    return 2;
}

void bind_push_conn(lua_State *L, const struct call_context *call)
{
    struct conn_box *box = lua_newuserdata(L, sizeof *box);
    box->conn = call->conn;
    box->serial = call->serial;
    lua_newtable(L); /* what this call looked at: options */
    lua_setfenv(L, -2);
    luaL_setmetatable(L, CONN_MT);
}

struct call_context *bind__check_conn(lua_State *L, unsigned allowed, const char *name)
{
    struct conn_box *box = luaL_checkudata(L, 1, CONN_MT);
    struct call_context *call = bind__check_phase(L, allowed, name);
    if (box->serial != call->serial) {
        luaL_error(L, "%s: this conn belongs to a call that is over (stale_handle)", name);
    }
    return call;
}

static int l_send(lua_State *L)
{
    struct call_context *call = bind__check_conn(
        L, ALLOW(HOOK_GREET) | ALLOW(HOOK_ON_FRAME) | ALLOW(HOOK_EVERY) | ALLOW(HOOK_ON_ACK),
        "conn:send()");
    char error[160];
    const char *why = NULL;
    struct conn_facts facts;
    struct buffer out;
    bool text, sent = false;
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    if (!bind__facts(call, &facts)) return bind__push_stale(L);
    buffer_init(&out, 0);
    bool encoded = bind_encode_frame(L, 2, call, &out, &text, error, sizeof error);
    if (encoded) {
        sent = call->port->send(call->port->self, call->conn, call->generation, call->hook,
                                out.data, out.len, text, &why);
        if (out.data) explicit_bzero(out.data, out.len);
    }
    buffer_deinit(&out);
    sandbox_spend(L, 100);
    if (!encoded) return luaL_error(L, "conn:send(): %s", error);
    if (!sent) return refused(L, why);
    lua_pushboolean(L, 1);
    return 1;
}

static bool set_codec(lua_State *L, struct call_context *call, const char **why)
{
    struct value codec;
    char error[128];
    if (!sandbox_to_value(L, -1, &codec, error, sizeof error)) {
        luaL_error(L, "conn:set{ codec }: %s", error);
    }
    *why = "this runtime cannot set a codec";
    bool ok = call->port->set_codec &&
              call->port->set_codec(call->port->self, call->conn, call->generation, &codec, why);
    value_clear(&codec);
    return ok;
}

static int l_set(lua_State *L)
{
    static const char *const known[] = { "beat", "codec", "retire", NULL };
    struct call_context *call = bind__check_conn(
        L, ALLOW(HOOK_GREET) | ALLOW(HOOK_ON_FRAME) | ALLOW(HOOK_EVERY), "conn:set()");
    const char *why = NULL;
    luaL_checktype(L, 2, LUA_TTABLE);
    bind__check_keys(L, 2, known, "conn:set()");
    bind__get(L, 2, "beat");
    if (!lua_isnil(L, -1)) {
        uint64_t ms = bind__check_duration(L, -1, "conn:set{ beat }");
        if (!call->port->set_beat(call->port->self, call->conn, call->generation, ms)) {
            return refused(L, NULL);
        }
    }
    bind__get(L, 2, "retire");
    if (!lua_isnil(L, -1)) {
        uint64_t ms = bind__check_duration(L, -1, "conn:set{ retire }");
        if (!call->port->set_retire(call->port->self, call->conn, call->generation, ms)) {
            return refused(L, NULL);
        }
    }
    bind__get(L, 2, "codec");
    if (!lua_isnil(L, -1) && !set_codec(L, call, &why)) return refused(L, why);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_gap(lua_State *L)
{
    char text[128];
    struct call_context *call = bind__check_conn(
        L, ALLOW(HOOK_PREPARE) | ALLOW(HOOK_GREET) | ALLOW(HOOK_ON_FRAME) | ALLOW(HOOK_EVERY),
        "conn:gap()");
    luaL_checkstring(L, 2);
    bind__shown(L, 2, text, sizeof text);
    call->port->gap(call->port->self, call->conn, text);
    return 0;
}

static void say(lua_State *L, const char *name, bool warn)
{
    char text[LOG_TEXT_BYTES];
    struct call_context *call = bind__check_conn(L, ALLOW_ALL, name);
    luaL_checkany(L, 2);
    sandbox_spend(L, 200);
    bind__shown(L, 2, text, sizeof text);
    (warn ? call->port->warn : call->port->log)(call->port->self, call->conn, text);
}

static int l_warn(lua_State *L)
{
    say(L, "conn:warn()", true);
    return 0;
}

static int l_log(lua_State *L)
{
    say(L, "conn:log()", false);
    return 0;
}

static int64_t count_field(lua_State *L, const char *key, int64_t otherwise, double most)
{
    bind__get(L, 3, key);
    if (lua_isnil(L, -1)) return otherwise;
    double n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
    if (!(n >= 0 && n <= most)) luaL_error(L, "conn:budget{ %s }: a count expected", key);
    return (int64_t)n;
}

static int l_budget(lua_State *L)
{
    static const char *const known[] = { "left", "reset", "lanes", NULL };
    static const char *const names[] = { "start", "dial", "call", "send", NULL };
    struct call_context *call =
        bind__check_conn(L, ALLOW_WAIT | ALLOW(HOOK_ON_FRAME), "conn:budget()");
    enum budget_kind kind = (enum budget_kind)luaL_checkoption(L, 2, NULL, names);
    luaL_checktype(L, 3, LUA_TTABLE);
    bind__check_keys(L, 3, known, "conn:budget()");
    int64_t left = count_field(L, "left", -1, 1e12);
    int64_t lanes = count_field(L, "lanes", 0, 1e6);
    bind__get(L, 3, "reset");
    uint64_t reset_ms = lua_isnil(L, -1) ? 0 : bind__check_duration(L, -1, "conn:budget{ reset }");
    call->port->budget(call->port->self, call->conn, kind, left, reset_ms, (uint32_t)lanes);
    return 0;
}

/* --- fields -------------------------------------------------------------------------------------
 */

static int push_options(lua_State *L, const struct conn_facts *facts)
{
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "options");
    if (lua_istable(L, -1)) return 1;
    lua_pop(L, 1);
    if (facts->options && facts->options->kind == VALUE_TABLE) {
        sandbox_push_value(L, facts->options, false);
    } else {
        lua_newtable(L);
    }
    sandbox__freeze(L, -1, "conn.options");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "options");
    return 1;
}

/* Upvalue 1: the methods. */
static int l_index(lua_State *L)
{
    struct conn_facts facts;
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1)) return 1;
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    struct call_context *call = bind__check_conn(L, ALLOW_ALL, "conn");
    if (!bind__facts(call, &facts)) return luaL_error(L, "conn.%s: the connection is gone", key);
    if (strcmp(key, "session") == 0 || strcmp(key, "keep") == 0) {
        bind__push_kept(L, call, key[0] == 'k');
        return 1;
    }
    if (strcmp(key, "options") == 0) return push_options(L, &facts);
    if (strcmp(key, "name") == 0) {
        lua_pushstring(L, facts.name);
    } else if (strcmp(key, "generation") == 0) {
        lua_pushnumber(L, facts.generation);
    } else if (strcmp(key, "attempt") == 0) {
        lua_pushnumber(L, facts.attempt);
    } else if (strcmp(key, "failed") == 0) {
        lua_pushnumber(L, facts.failed);
    } else if (strcmp(key, "links") == 0) {
        lua_pushnumber(L, facts.links);
    } else if (strcmp(key, "resuming") == 0) {
        lua_pushboolean(L, facts.resuming);
    } else {
        return luaL_error(L, "conn has no `%s`", key);
    }
    return 1;
}

static int l_newindex(lua_State *L)
{
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    struct call_context *call = bind__check_conn(L, ALLOW_ALL, "conn");
    if (strcmp(key, "session") == 0 || strcmp(key, "keep") == 0) {
        return bind__replace_kept(L, call, key[0] == 'k');
    }
    return luaL_error(L, "conn.%s cannot be set", key);
}

static int l_tostring(lua_State *L)
{
    lua_pushliteral(L, "conn");
    return 1;
}

static const luaL_Reg methods[] = {
    { "get", bind__l_get },     { "http", bind__l_http }, { "await", bind__l_await },
    { "send", l_send },         { "set", l_set },         { "fail", bind__l_fail },
    { "close", bind__l_close }, { "gap", l_gap },         { "warn", l_warn },
    { "budget", l_budget },     { "log", l_log },         { NULL, NULL },
};

void bind__open_conn(lua_State *L)
{
    luaL_newmetatable(L, CONN_MT);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
