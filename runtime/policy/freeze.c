/* Frozen tables and the hidden table behind each; sandbox_internal.h tells how. Owns nothing in C.
 */
#include "policy/sandbox_internal.h"

#include <lauxlib.h>
#include <math.h>

static char hidden_key; /* its address is the key in the metatable */

static int l_refuse(lua_State *L);
static void freeze_one(lua_State *L, int table, const char *what);

void sandbox__freeze(lua_State *L, int index, const char *what)
{
    index = sandbox__absolute(L, index);
    luaL_checkstack(L, 12, "freeze");
    if (lua_getmetatable(L, index)) {
        lua_pop(L, 1);
        return;
    }
    freeze_one(L, index, what); /* first: a cycle ends at the metatable above */
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_istable(L, -1)) sandbox__freeze(L, -1, what);
        lua_pop(L, 1);
    }
    sandbox__push_hidden(L, index);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (lua_istable(L, -1)) sandbox__freeze(L, -1, what);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

bool sandbox__push_hidden(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index)) return false;
    lua_pushlightuserdata(L, &hidden_key);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1)) return true;
    lua_pop(L, 1);
    return false;
}

bool sandbox__is_frozen(lua_State *L, int index)
{
    if (!sandbox__push_hidden(L, index)) return false;
    lua_pop(L, 1);
    return true;
}

void sandbox__rawget(lua_State *L, int index)
{
    index = sandbox__absolute(L, index);
    lua_pushvalue(L, -1);
    lua_rawget(L, index);
    if (lua_isnil(L, -1) && sandbox__push_hidden(L, index)) {
        lua_pushvalue(L, -3);
        lua_rawget(L, -2);
        lua_remove(L, -2);
        lua_remove(L, -2);
    }
    lua_remove(L, -2);
}

static void freeze_one(lua_State *L, int table, const char *what)
{
    size_t items = lua_objlen(L, table);
    lua_newtable(L); /* hidden */
    int hidden = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        double n = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
        if (n >= 1 && n <= (double)items && n == floor(n)) {
            lua_pop(L, 1);
            continue;
        }
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, hidden);
        lua_pop(L, 1);
        /* Setting an existing key to nil is allowed while traversing. */
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, table);
    }
    lua_createtable(L, 0, 4);
    lua_pushlightuserdata(L, &hidden_key);
    lua_pushvalue(L, hidden);
    lua_rawset(L, -3);
    lua_pushvalue(L, hidden);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, what);
    lua_pushcclosure(L, l_refuse, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, table);
    lua_pop(L, 1);
}

static int l_refuse(lua_State *L)
{
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);
    return luaL_error(L, "%s is read only: cannot set `%s`", lua_tostring(L, lua_upvalueindex(1)),
                      key);
}

int sandbox__l_freeze_policy(lua_State *L)
{
    sandbox__freeze(L, 1, "a policy's table");
    return 0;
}
