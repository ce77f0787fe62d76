/* The base of bind/: phases, arguments, and what `holdfast.native` holds. Owns nothing. */
#include "bind/bind.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

static int l_policy(lua_State *L);
static int l_random(lua_State *L);
static int l_now_ms(lua_State *L);

static const luaL_Reg functions[] = {
    { "policy", l_policy },
    { "random", l_random },
    { "now_ms", l_now_ms },
    { NULL, NULL },
};

void bind_open(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
    bind__open_json(L);
    bind__open_bytes(L);
    bind__open_crypto(L);
    bind__open_url(L);
    bind__open_conn(L);
    bind__open_http(L);
    bind__open_kept(L);
}

void bind_set_call(lua_State *L, struct call_context *call)
{
    struct sandbox *s = sandbox_of(L);
    ASSERT(!call || !s->call);
    s->call = call;
}

struct call_context *bind__check_phase(lua_State *L, unsigned allowed, const char *name)
{
    struct call_context *call = sandbox_call(L);
    if (!call) {
        luaL_error(L, "%s is not available while a policy is loading", name);
    }
    if (!(allowed & ALLOW(call->hook))) {
        luaL_error(L, "%s is not available in %s", name, hook_name(call->hook));
    }
    return call;
}

bool bind__facts(const struct call_context *call, struct conn_facts *out)
{
    memset(out, 0, sizeof *out);
    return call->port->facts(call->port->self, call->conn, out);
}

int bind__push_stale(lua_State *L)
{
    lua_pushnil(L);
    lua_pushliteral(L, "stale_handle");
    lua_pushliteral(L, "the connection is gone");
    return 3;
}

enum codec_kind bind__codec(const struct call_context *call)
{
    struct conn_facts facts;
    if (!bind__facts(call, &facts) || !facts.build) return CODEC_JSON;
    return facts.build->rules->codec;
}

uint64_t bind__check_duration(lua_State *L, int index, const char *what)
{
    uint64_t ms;
    size_t len;
    if (lua_type(L, index) == LUA_TNUMBER) {
        double n = lua_tonumber(L, index);
        if (n >= 0 && n <= (double)DURATION_MS_MAX) return (uint64_t)n;
        luaL_error(L, "%s: a number of milliseconds from 0 to a year expected", what);
    }
    if (lua_type(L, index) == LUA_TSTRING) {
        const char *text = lua_tolstring(L, index, &len);
        if (duration_parse(text, len, &ms)) return ms;
    }
    luaL_error(L, "%s: a duration such as \"5s\" expected", what);
    return 0;
}

void bind__get(lua_State *L, int index, const char *key)
{
    index = sandbox__absolute(L, index);
    lua_pushstring(L, key);
    sandbox__rawget(L, index);
}

void bind__check_keys(lua_State *L, int index, const char *const *known, const char *what)
{
    size_t count = 0;
    index = sandbox__absolute(L, index);
    while (known[count]) count++;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no name)";
        bool found = false;
        for (size_t i = 0; i < count; i++) found = found || strcmp(key, known[i]) == 0;
        if (found) continue;
        const char *nearest = text_nearest(key, known, count);
        if (nearest) luaL_error(L, "%s: unknown key `%s`; did you mean `%s`?", what, key, nearest);
        luaL_error(L, "%s: unknown key `%s`", what, key);
    }
}

const char *bind__text(lua_State *L, int index, size_t *len, bool *secret)
{
    struct secret *s = sandbox_get_secret(L, index);
    *secret = s != NULL;
    if (s) return secret_bytes(s, len);
    if (lua_type(L, index) != LUA_TSTRING) return NULL;
    return lua_tolstring(L, index, len);
}

void bind__shown(lua_State *L, int index, char *out, size_t out_bytes)
{
    struct buffer b;
    size_t len;
    sandbox__push_shown(L, index);
    const char *text = lua_tolstring(L, -1, &len);
    buffer_init(&b, 8192);
    text_printable(&b, text, len < 1024 ? len : 1024);
    text_copy(out, out_bytes, (const char *)b.data, b.len);
    buffer_deinit(&b);
    lua_pop(L, 1);
}

/* holdfast.policy{...}: the table that the file must return. */
static int l_policy(lua_State *L)
{
    struct sandbox *s = sandbox_of(L);
    if (s->call) return luaL_error(L, "holdfast.policy: only while a policy is loading");
    if (!lua_istable(L, 1)) return luaL_error(L, "holdfast.policy: a table expected");
    if (s->policy_ref != LUA_NOREF) return luaL_error(L, "holdfast.policy: one per file");
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    s->policy_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

static int l_random(lua_State *L)
{
    bind__check_phase(L, ALLOW_ALL, "holdfast.random()");
    lua_pushnumber(L, rng_unit(sandbox_random(L)));
    return 1;
}

/* Unix time of the event that the hook answers. */
static int l_now_ms(lua_State *L)
{
    struct conn_facts facts;
    struct call_context *call = bind__check_phase(L, ALLOW_ALL, "holdfast.now_ms()");
    if (!bind__facts(call, &facts)) return bind__push_stale(L);
    lua_pushnumber(L, (double)facts.now.wall_ms);
    return 1;
}
