/* modules: base */
/* base/url as a Lua module. */
#include <lauxlib.h>
#include <lua.h>

#include "base/url.h"

static int l_parse(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *why = NULL;
    struct url u;
    if (!url_parse(text, len, &u, &why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_newtable(L);
    lua_pushstring(L, u.scheme), lua_setfield(L, -2, "scheme");
    lua_pushstring(L, u.host), lua_setfield(L, -2, "host");
    lua_pushinteger(L, u.port), lua_setfield(L, -2, "port");
    lua_pushboolean(L, u.v6), lua_setfield(L, -2, "v6");
    lua_pushboolean(L, u.tls), lua_setfield(L, -2, "tls");
    lua_pushboolean(L, u.websocket), lua_setfield(L, -2, "websocket");
    lua_pushboolean(L, u.port_written), lua_setfield(L, -2, "port_written");
    lua_pushlstring(L, u.target, u.target_len), lua_setfield(L, -2, "target");
    lua_pushboolean(L, url_is_loopback(&u)), lua_setfield(L, -2, "loopback");
    return 1;
}

static int l_pattern_is_valid(lua_State *L)
{
    lua_pushboolean(L, url_host_pattern_is_valid(luaL_checkstring(L, 1)));
    return 1;
}

static int l_matches(lua_State *L)
{
    lua_pushboolean(L, url_host_matches(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
    return 1;
}

static const luaL_Reg functions[] = {
    { "parse", l_parse },
    { "pattern_is_valid", l_pattern_is_valid },
    { "matches", l_matches },
    { NULL, NULL },
};

int luaopen_unit_base_url(lua_State *L);
int luaopen_unit_base_url(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
