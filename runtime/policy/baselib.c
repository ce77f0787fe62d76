/* The base functions that differ from LuaJIT's: defined order, no addresses, no way around a
 * metatable. Owns nothing. */
#include "policy/sandbox_internal.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define UNPACK_RESULTS_MAX 7000

void sandbox__push_shown(lua_State *L, int index)
{
    struct secret *secret = sandbox_get_secret(L, index);
    if (secret) {
        lua_pushfstring(L, "<secret %s>", secret_name(secret));
        return;
    }
    switch (lua_type(L, index)) {
    case LUA_TSTRING: lua_pushvalue(L, index); break;
    case LUA_TNUMBER:
        lua_pushvalue(L, index);
        lua_tostring(L, -1);
        break;
    case LUA_TBOOLEAN: lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false"); break;
    case LUA_TLIGHTUSERDATA: lua_pushliteral(L, "null"); break;
    default: lua_pushstring(L, luaL_typename(L, index)); break;
    }
}

int sandbox__l_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    sandbox_spend(L, 2 * COST_CALL);
    if (luaL_callmeta(L, 1, "__tostring")) {
        if (!lua_isstring(L, -1)) return luaL_error(L, "`__tostring` must return a string");
        return 1;
    }
    sandbox__push_shown(L, 1);
    return 1;
}

static int l_print(lua_State *L)
{
    luaL_Buffer b;
    int count = lua_gettop(L);
    luaL_buffinit(L, &b);
    for (int i = 1; i <= count; i++) {
        if (i > 1) luaL_addchar(&b, ' ');
        lua_pushcfunction(L, sandbox__l_tostring);
        lua_pushvalue(L, i);
        lua_call(L, 1, 1);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    sandbox_spend(L, 50);
    sandbox_print(L, lua_tostring(L, -1));
    return 0;
}

/* Upvalues: table, sorted keys (or nil for a list), position. */
static int l_step(lua_State *L)
{
    int keys = lua_upvalueindex(2);
    lua_Integer at = lua_tointeger(L, lua_upvalueindex(3));
    sandbox_spend(L, 2 * COST_CALL);
    for (;;) {
        at++;
        lua_pushinteger(L, at);
        lua_replace(L, lua_upvalueindex(3));
        if (lua_isnil(L, keys)) {
            lua_pushinteger(L, at);
        } else {
            lua_rawgeti(L, keys, (int)at);
            if (lua_isnil(L, -1)) return 1;
        }
        lua_pushvalue(L, -1);
        sandbox__rawget(L, lua_upvalueindex(1));
        if (!lua_isnil(L, -1)) return 2;
        /* Removed since the walk began. */
        if (lua_isnil(L, keys)) return 1;
        lua_pop(L, 2);
    }
}

int sandbox__l_pairs(lua_State *L)
{
    bool sequence, odd;
    if (luaL_getmetafield(L, 1, "__pairs")) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 3);
        return 3;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    uint32_t count = sandbox__keys_count(L, 1, &sequence, &odd);
    sandbox_spend(L, 4 * COST_CALL + 4 * count);
    if (odd) return luaL_error(L, "pairs: keys that are tables or functions have no order");
    lua_pushvalue(L, 1);
    if (sequence) {
        lua_pushnil(L);
    } else {
        sandbox_spend(L, count * COST_CALL);
        struct key *order = lua_newuserdata(L, (count + 1) * sizeof *order);
        sandbox__keys(L, 1, order, count);
        lua_createtable(L, (int)count, 0);
        for (uint32_t i = 0; i < count; i++) {
            sandbox__push_key(L, &order[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
        lua_remove(L, -2);
    }
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, l_step, 3);
    return 1;
}

/* The key after the given one, in the defined order: a scan, as there is no place to remember one.
 */
static int l_next(lua_State *L)
{
    bool sequence, odd;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    uint32_t count = sandbox__keys_count(L, 1, &sequence, &odd);
    sandbox_spend(L, 4 * COST_CALL + 4 * count);
    if (odd) return luaL_error(L, "next: keys that are tables or functions have no order");
    uint32_t at = 0;
    if (sequence) {
        if (!lua_isnil(L, 2)) at = (uint32_t)luaL_checkinteger(L, 2);
        if (at >= count) return 0;
        lua_pushinteger(L, (lua_Integer)at + 1);
    } else {
        sandbox_spend(L, count * COST_CALL);
        struct key *order = lua_newuserdata(L, (count + 1) * sizeof *order);
        sandbox__keys(L, 1, order, count);
        if (!lua_isnil(L, 2)) {
            for (at = 0; at < count; at++) {
                sandbox__push_key(L, &order[at]);
                bool same = lua_rawequal(L, -1, 2);
                lua_pop(L, 1);
                if (same) break;
            }
            if (at == count) return luaL_error(L, "next: no such key");
            at++;
        }
        if (at >= count) return 0;
        sandbox__push_key(L, &order[at]);
    }
    lua_pushvalue(L, -1);
    sandbox__rawget(L, 1);
    return 2;
}

static int l_setmetatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    sandbox_spend(L, 4 * COST_CALL);
    if (!lua_isnil(L, 2)) luaL_checktype(L, 2, LUA_TTABLE);
    if (luaL_getmetafield(L, 1, "__metatable")) {
        return luaL_error(L, "the metatable of this table is locked");
    }
    if (lua_istable(L, 2)) {
        static const char *const refused[] = { "__gc", "__mode" };
        for (int i = 0; i < 2; i++) {
            lua_pushstring(L, refused[i]);
            lua_rawget(L, 2);
            if (!lua_isnil(L, -1))
                return luaL_error(L, "a metatable may not have `%s`", refused[i]);
            lua_pop(L, 1);
        }
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int l_getmetatable(lua_State *L)
{
    luaL_checkany(L, 1);
    sandbox_spend(L, 2 * COST_CALL);
    if (!lua_istable(L, 1) || !lua_getmetatable(L, 1)) return 0;
    lua_getfield(L, -1, "__metatable");
    if (lua_isnil(L, -1)) lua_pop(L, 1);
    return 1;
}

static int l_rawget(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    sandbox_spend(L, 2 * COST_CALL);
    lua_settop(L, 2);
    sandbox__rawget(L, 1);
    return 1;
}

static int l_rawset(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 3);
    sandbox_spend(L, 2 * COST_CALL);
    if (sandbox__is_frozen(L, 1)) return luaL_error(L, "rawset: this table is read only");
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 1;
}

static int l_unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Number first = luaL_optnumber(L, 2, 1);
    lua_Number last = luaL_optnumber(L, 3, (lua_Number)lua_objlen(L, 1));
    if (!(first <= last)) return 0;
    double count = floor(last) - floor(first) + 1;
    if (count > UNPACK_RESULTS_MAX || !(first > -0x1p31 && last < 0x1p31)) {
        return luaL_error(L, "too many results to unpack");
    }
    luaL_checkstack(L, (int)count, "unpack");
    sandbox_spend(L, COST_CALL + 2 * (uint32_t)count);
    for (int i = 0; i < (int)count; i++) lua_rawgeti(L, 1, (int)floor(first) + i);
    return (int)count;
}

/* Upvalue 1: LuaJIT's own, which reads a megabyte of digits as one instruction. */
static int l_tonumber(lua_State *L)
{
    size_t len = 0;
    if (lua_type(L, 1) == LUA_TSTRING) lua_tolstring(L, 1, &len);
    sandbox_spend(L, COST_CALL + (uint32_t)(len / 2));
    int count = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, count, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    { "tostring", sandbox__l_tostring },
    { "print", l_print },
    { "pairs", sandbox__l_pairs },
    { "next", l_next },
    { "unpack", l_unpack },
    { "setmetatable", l_setmetatable },
    { "getmetatable", l_getmetatable },
    { "rawget", l_rawget },
    { "rawset", l_rawset },
    { "require", sandbox__l_require },
    { NULL, NULL },
};

void sandbox__open_base(lua_State *L)
{
    lua_pushcclosure(L, l_tonumber, 1);
    lua_setfield(L, -2, "tonumber");
    luaL_setfuncs(L, functions, 0);
}

/* math.random() as Lua 5.1 has it, drawn from the host. */
static int l_math_random(lua_State *L)
{
    int count = lua_gettop(L);
    double low = 1, high;
    sandbox_spend(L, COST_CALL);
    if (count == 0) {
        lua_pushnumber(L, rng_unit(sandbox_random(L)));
        return 1;
    }
    if (count == 1) {
        high = luaL_checknumber(L, 1);
    } else {
        low = luaL_checknumber(L, 1);
        high = luaL_checknumber(L, 2);
    }
    if (!(low <= high && high - low < 0x1p53)) return luaL_argerror(L, count, "interval is empty");
    lua_pushnumber(L, low + (double)rng_range(sandbox_random(L), 0, (uint64_t)(high - low)));
    return 1;
}

/* The C library's takes one step for each bit between the two. */
static int l_math_fmod(lua_State *L)
{
    double a = luaL_checknumber(L, 1), b = luaL_checknumber(L, 2);
    sandbox_spend(L, COST_CALL);
    if (isfinite(a) && isfinite(b) && b != 0 && fabs(a) > fabs(b)) {
        sandbox_spend(L, (uint32_t)(ilogb(a) - ilogb(b)) / 4);
    }
    lua_pushnumber(L, fmod(a, b));
    return 1;
}

/* Upvalue 1: the C library's. */
static int l_math_slow(lua_State *L)
{
    int count = lua_gettop(L);
    sandbox_spend(L, 2 * COST_CALL);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, count, 1);
    return 1;
}

void sandbox__open_math(lua_State *L)
{
    static const char *const slow[] = { "sin",  "cos",  "tan",  "asin", "acos", "atan",  "atan2",
                                        "sinh", "cosh", "tanh", "exp",  "log",  "log10", "pow" };
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++) {
        lua_getfield(L, -1, slow[i]);
        lua_pushcclosure(L, l_math_slow, 1);
        lua_setfield(L, -2, slow[i]);
    }
    lua_pushcfunction(L, l_math_fmod);
    lua_setfield(L, -2, "fmod");
    lua_pushcfunction(L, l_math_random);
    lua_setfield(L, -2, "random");
}
