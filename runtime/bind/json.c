/* `json`: encode and decode for policies and peers. A text that is not JSON is an outcome, a value
 * that JSON cannot hold is a mistake. */
#include <lauxlib.h>

#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

#define ENCODED_BYTES_MAX ((size_t)8 << 20)

static int l_encode(lua_State *L)
{
    char error[200];
    struct buffer out;
    luaL_checkany(L, 1);
    buffer_init(&out, ENCODED_BYTES_MAX);
    bool ok = sandbox_json_encode(L, 1, false, &out, error, sizeof error);
    if (ok) {
        /* The push must not raise while the text is held. */
        struct sandbox *s = sandbox_of(L);
        s->exempt = true;
        lua_pushlstring(L, (const char *)out.data, out.len);
        s->exempt = false;
    }
    buffer_deinit(&out);
    sandbox_spend(L, 4 * COST_CALL);
    return ok ? 1 : luaL_error(L, "%s", error);
}

static int l_decode(lua_State *L)
{
    char error[128];
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (sandbox_json_decode(L, text, len, error, sizeof error)) return 1;
    lua_pushnil(L);
    lua_pushliteral(L, "malformed");
    lua_pushstring(L, error);
    return 3;
}

/* array(t): an empty one is written as [] too. */
static int l_array(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_getmetatable(L, 1)) {
        if (sandbox__is_array(L, 1)) {
            lua_settop(L, 1);
            return 1;
        }
        return luaL_error(L, "holdfast.array: this table has a metatable");
    }
    sandbox__mark_array(L, 1);
    return 1;
}

static const luaL_Reg functions[] = { { "encode", l_encode },
                                      { "decode", l_decode },
                                      { NULL, NULL } };

void bind__open_json(lua_State *L)
{
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_setfield(L, -2, "json");
    lua_pushcfunction(L, l_array);
    lua_setfield(L, -2, "array");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
}
