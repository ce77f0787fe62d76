/* Secrets in Lua: an opaque userdata that holds one reference. Its bytes never become a Lua string;
 * joining makes another secret, showing one shows its name. */
#include "policy/sandbox_internal.h"

#include <lauxlib.h>
#include <string.h>

struct secret_box {
    struct secret *secret; /* owned; NULL once collected */
};

static char metatable_key; /* its address is the key in the registry */

static void push_metatable(lua_State *L)
{
    lua_pushlightuserdata(L, &metatable_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

static struct secret_box *push_box(lua_State *L)
{
    struct secret_box *box = lua_newuserdata(L, sizeof *box);
    box->secret = NULL;
    push_metatable(L);
    lua_setmetatable(L, -2);
    return box;
}

void sandbox_push_secret(lua_State *L, struct secret *secret)
{
    struct secret_box *box = push_box(L);
    box->secret = secret_ref(secret);
}

void sandbox__push_derived(lua_State *L, const struct secret *named)
{
    struct buffer *scratch = &sandbox_of(L)->scratch;
    struct secret_box *box = push_box(L);
    box->secret = secret_create(secret_name(named), scratch->data, scratch->len);
    const struct call_context *call = sandbox_call(L);
    if (call && call->port->secret_made) call->port->secret_made(call->port->self, call->conn, box->secret);
    if (scratch->data) explicit_bzero(scratch->data, scratch->len);
    buffer_clear(scratch);
    buffer_trim(scratch, 0);
}

struct secret *sandbox_get_secret(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
    push_metatable(L);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? ((struct secret_box *)lua_touserdata(L, index))->secret : NULL;
}

static int l_gc(lua_State *L)
{
    struct secret_box *box = lua_touserdata(L, 1);
    secret_unref(box->secret);
    box->secret = NULL;
    return 0;
}

static int l_tostring(lua_State *L)
{
    sandbox__push_shown(L, 1);
    return 1;
}

static const char *part(lua_State *L, int index, size_t *len, struct secret **secret)
{
    *secret = sandbox_get_secret(L, index);
    if (*secret) return secret_bytes(*secret, len);
    if (lua_type(L, index) == LUA_TSTRING || lua_type(L, index) == LUA_TNUMBER) {
        return lua_tolstring(L, index, len);
    }
    luaL_error(L, "cannot join a secret with a %s value", luaL_typename(L, index));
    return NULL;
}

static int l_concat(lua_State *L)
{
    size_t left_len = 0, right_len = 0;
    struct secret *left_secret, *right_secret;
    const char *left = part(L, 1, &left_len, &left_secret);
    const char *right = part(L, 2, &right_len, &right_secret);
    if (left_len + right_len > SANDBOX_SECRET_BYTES_MAX)
        return luaL_error(L, "a secret over 64 KiB");
    sandbox_spend(L, (uint32_t)(left_len + right_len) / 16 + 20);
    struct buffer *joined = &sandbox_of(L)->scratch;
    buffer_clear(joined);
    if (!buffer_append(joined, left, left_len) || !buffer_append(joined, right, right_len)) {
        return luaL_error(L, "out of memory");
    }
    sandbox__push_derived(L, left_secret ? left_secret : right_secret);
    return 1;
}

static int l_index(lua_State *L)
{
    return luaL_error(L, "%s has no fields: a secret can be joined, sent and shown by name only",
                      (sandbox__push_shown(L, 1), lua_tostring(L, -1)));
}

static const luaL_Reg methods[] = {
    { "__gc", l_gc },       { "__tostring", l_tostring }, { "__concat", l_concat },
    { "__index", l_index }, { "__newindex", l_index },    { NULL, NULL },
};

void sandbox__open_secret(lua_State *L)
{
    lua_pushlightuserdata(L, &metatable_key);
    lua_createtable(L, 0, 8);
    luaL_setfuncs(L, methods, 0);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_rawset(L, LUA_REGISTRYINDEX);
}
