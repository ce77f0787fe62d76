/* modules: engine base */
/* engine/trial as a Lua module: judge(facts) -> outcome, why; chance(hits, all, part); count(eligible, share). */
#include <lauxlib.h>
#include <lua.h>

#include "engine/trial.h"

static double number(lua_State *L, int t, const char *key)
{
    lua_getfield(L, t, key);
    double n = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
    return n;
}

static struct trial_side side(lua_State *L, int t, const char *key)
{
    struct trial_side s = { 0 };
    lua_getfield(L, t, key);
    int at = lua_gettop(L);
    if (lua_istable(L, at)) {
        s.connections = (uint32_t)number(L, at, "connections");
        s.ms = (uint64_t)number(L, at, "ms");
        s.hook_errors = (uint32_t)number(L, at, "hook_errors");
        s.hook_errors_in = (uint32_t)number(L, at, "hook_errors_in");
        s.endings = (uint32_t)number(L, at, "endings");
        s.endings_in = (uint32_t)number(L, at, "endings_in");
        s.stops = (uint32_t)number(L, at, "stops");
        s.slows = (uint32_t)number(L, at, "slows");
        s.readies = (uint32_t)number(L, at, "readies");
        s.ready_ms = (uint64_t)number(L, at, "ready_ms");
        s.lost = (uint32_t)number(L, at, "lost");
    }
    lua_pop(L, 1);
    return s;
}

static int l_judge(lua_State *L)
{
    char why[TRIAL_WHY_MAX];
    struct trial_facts f = { .tried = side(L, 1, "tried"), .others = side(L, 1, "others"), .past = side(L, 1, "past"),
                             .fair_ms = (uint64_t)number(L, 1, "fair_ms"), .all_ms = (uint64_t)number(L, 1, "all_ms"),
                             .watch_ms = (uint64_t)number(L, 1, "watch_ms") };
    lua_getfield(L, 1, "weather");
    f.weather = lua_toboolean(L, -1) != 0;
    lua_getfield(L, 1, "error");
    f.error = lua_tostring(L, -1);
    lua_pushstring(L, trial_outcome_name(trial_judge(&f, why)));
    lua_pushstring(L, why);
    return 2;
}

static int l_chance(lua_State *L)
{
    lua_pushnumber(L, trial_chance((uint64_t)luaL_checknumber(L, 1), (uint64_t)luaL_checknumber(L, 2), luaL_checknumber(L, 3)));
    return 1;
}

static int l_count(lua_State *L)
{
    lua_pushnumber(L, trial_count((uint32_t)luaL_checknumber(L, 1), luaL_checknumber(L, 2)));
    return 1;
}

static const luaL_Reg functions[] = { { "judge", l_judge }, { "chance", l_chance }, { "count", l_count }, { NULL, NULL } };

int luaopen_unit_trial(lua_State *L);
int luaopen_unit_trial(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
