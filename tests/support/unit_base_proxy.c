/* modules: base */
/* base/proxy as a Lua module. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "base/proxy.h"

static const char *variable_get(void *self, const char *name)
{
    lua_State *L = self;
    lua_getfield(L, 1, name);
    const char *value = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return value;
}

/* choose({ VARIABLE = value, ... }, tls, host, port): false: none, or { host=, port=, authorization=,
 * variable= }; or nil and what is wrong */
static int l_choose(lua_State *L)
{
    struct proxy_env env;
    char why[512];
    luaL_checktype(L, 1, LUA_TTABLE);
    bool tls = lua_toboolean(L, 2);
    const char *host = luaL_checkstring(L, 3);
    uint16_t port = (uint16_t)luaL_checkinteger(L, 4);
    if (!proxy_env_read(&env, variable_get, L, why, sizeof why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    const struct proxy *p = proxy_choose(&env, tls, host, port);
    if (p) {
        lua_newtable(L);
        lua_pushstring(L, p->host), lua_setfield(L, -2, "host");
        lua_pushinteger(L, p->port), lua_setfield(L, -2, "port");
        lua_pushstring(L, p->authorization), lua_setfield(L, -2, "authorization");
        lua_pushstring(L, p->variable), lua_setfield(L, -2, "variable");
    } else {
        lua_pushboolean(L, false);
    }
    proxy_env_deinit(&env);
    return 1;
}

/* basic(user, password): the header's value, or nil and why */
static int l_basic(lua_State *L)
{
    size_t user_len, password_len;
    const char *user = luaL_checklstring(L, 1, &user_len), *password = luaL_checklstring(L, 2, &password_len);
    const char *why = NULL;
    char *text = proxy_basic(user, user_len, password, password_len, &why);
    lua_pushstring(L, text);
    lua_pushstring(L, text ? NULL : why);
    free(text);
    return 2;
}

int luaopen_unit_base_proxy(lua_State *L);
int luaopen_unit_base_proxy(lua_State *L)
{
    static const luaL_Reg functions[] = { { "choose", l_choose }, { "basic", l_basic }, { NULL, NULL } };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
