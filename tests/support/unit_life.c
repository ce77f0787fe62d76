/* modules: engine base */
/* engine/life as a Lua module: judge{ facts } -> verdict, evidence. */
#include <lauxlib.h>
#include <lua.h>

#include "engine/life.h"

static uint64_t number(lua_State *L, const char *key, uint64_t absent)
{
    lua_getfield(L, 1, key);
    uint64_t n = lua_isnil(L, -1) ? absent : (uint64_t)luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return n;
}

static bool flag(lua_State *L, const char *key)
{
    lua_getfield(L, 1, key);
    bool on = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return on;
}

static int l_judge(lua_State *L)
{
    struct life life;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "down");
    const char *down = lua_tostring(L, -1);
    struct life_facts f = {
        .now_ms = number(L, "now", 0),
        .up = !down,
        .down = down,
        .ready_ms = number(L, "ready", 0),
        .last_byte_ms = number(L, "byte", 0),
        .last_event_ms = number(L, "event", 0),
        .event_here = !flag(L, "elsewhere"),
        .last_pong_ms = number(L, "pong", 0),
        .last_answer_ms = number(L, "answer", 0),
        .ping_since_ms = number(L, "ping_since", 0),
        .beat_since_ms = number(L, "beat_since", 0),
        .beat_due_ms = number(L, "beat_due", 0),
        .beats_missed = (uint32_t)number(L, "missed", 0),
        .beats_dead = (uint32_t)number(L, "dead", 1),
        .silence_ms = number(L, "silence", 0),
        .silence_due_ms = number(L, "silence_due", UINT64_MAX),
        .promised = flag(L, "promised"),
        .round_trip_known = number(L, "round_trip", UINT64_MAX) != UINT64_MAX,
        .round_trip_ms = number(L, "round_trip", 0),
        .loop_delay_ms = number(L, "loop_delay", 0),
        .paused = flag(L, "paused"),
        .kernel = number(L, "repeats", UINT64_MAX) != UINT64_MAX,
        .kernel_repeats = (uint32_t)number(L, "repeats", 0),
        .kernel_unacked = (uint32_t)number(L, "unacked", 0),
    };
    life_judge(&f, &life);
    lua_pushstring(L, life_name(life.verdict));
    lua_pushstring(L, life.evidence);
    return 2;
}

static const luaL_Reg functions[] = { { "judge", l_judge }, { NULL, NULL } };

int luaopen_unit_life(lua_State *L);
int luaopen_unit_life(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
