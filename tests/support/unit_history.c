/* modules: top engine base */
/* The history of one connection as a Lua module: new() -> h; h:add(ms, state, cause), h:marks() -> { { ms, state, cause }... },
 * h:bytes(). States and causes by their numbers' names. */
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "engine/engine.h"
#include "history.h"

#define HISTORY_MT "unit.history"

static struct history *check(lua_State *L)
{
    return luaL_checkudata(L, 1, HISTORY_MT);
}

static int l_new(lua_State *L)
{
    struct history *h = lua_newuserdata(L, sizeof *h);
    *h = (struct history){ 0 };
    luaL_getmetatable(L, HISTORY_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static uint8_t state_of(lua_State *L, const char *name)
{
    if (strcmp(name, "given_up") == 0) return HISTORY_GIVEN_UP;
    if (strcmp(name, "unknown") == 0) return HISTORY_UNKNOWN;
    for (int i = 0; i < CONN_STATE_COUNT; i++)
        if (strcmp(conn_state_name((enum conn_state)i), name) == 0) return (uint8_t)i;
    return (uint8_t)luaL_error(L, "no state %s", name);
}

static int l_add(lua_State *L)
{
    struct history *h = check(L);
    history_add(h, (uint64_t)luaL_checknumber(L, 2), state_of(L, luaL_checkstring(L, 3)), (uint8_t)luaL_optint(L, 4, 0));
    return 0;
}

static int l_marks(lua_State *L)
{
    const struct history *h = check(L);
    lua_createtable(L, h->count, 0);
    for (int i = 0; i < h->count; i++) {
        lua_createtable(L, 3, 0);
        lua_pushnumber(L, (double)history_at_ms(&h->marks[i]));
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, history_state_name(h->marks[i].state));
        lua_rawseti(L, -2, 2);
        lua_pushinteger(L, h->marks[i].cause);
        lua_rawseti(L, -2, 3);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_bytes(lua_State *L)
{
    const struct history *h = check(L);
    lua_pushnumber(L, (double)(sizeof *h + h->capacity * sizeof *h->marks));
    return 1;
}

static int l_gc(lua_State *L)
{
    history_clear(check(L));
    return 0;
}

int luaopen_unit_history(lua_State *L);
int luaopen_unit_history(lua_State *L)
{
    static const luaL_Reg methods[] = { { "add", l_add }, { "marks", l_marks }, { "bytes", l_bytes }, { NULL, NULL } };
    static const luaL_Reg module[] = { { "new", l_new }, { NULL, NULL } };
    luaL_newmetatable(L, HISTORY_MT);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, module);
    return 1;
}
