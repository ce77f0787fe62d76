/* modules: engine base */
/* engine/weather as a Lua module: judge(points, fronts of before) -> fronts, with the names of the points that each covers. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "engine/weather.h"

#define POINTS_MAX 20000

static double number(lua_State *L, int t, const char *key, double absent)
{
    lua_getfield(L, t, key);
    double n = lua_isnil(L, -1) ? absent : luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return n;
}

static const char *text(lua_State *L, int t, const char *key)
{
    lua_getfield(L, t, key);
    const char *s = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return s;
}

static int kind_of(const char *name)
{
    for (int i = 0; name && i < CAUSE_KIND_COUNT; i++)
        if (strcmp(cause_kind_name((enum cause_kind)i), name) == 0) return i;
    return CAUSE_REFUSED;
}

static uint64_t key_of(const char *name)
{
    uint64_t key = 0;
    for (; name && *name; name++) key = key * 131 + (uint8_t)*name;
    return key;
}

static struct weather_point point(lua_State *L, int t)
{
    struct weather_point p = { .platform_name = text(L, t, "platform"), .host_name = text(L, t, "host"),
                               .name = text(L, t, "name"), .close_code = (int32_t)number(L, t, "close", CLOSE_CODE_NONE),
                               .http_status = (int32_t)number(L, t, "http", 0), .since_wall_ms = (uint64_t)number(L, t, "since", 0) };
    p.platform = key_of(p.platform_name);
    p.host = key_of(p.host_name);
    p.account = key_of(text(L, t, "account"));
    p.kind = (enum cause_kind)kind_of(text(L, t, "kind"));
    p.stage = STAGE_CONNECTING;
    if (text(L, t, "stage")) stage_parse(text(L, t, "stage"), &p.stage);
    p.by = text(L, t, "by") ? BY_US : BY_NETWORK;
    lua_getfield(L, t, "failing");
    p.failing = lua_toboolean(L, -1) != 0;
    lua_getfield(L, t, "unwanted");
    p.wanted = !lua_toboolean(L, -1);
    lua_pop(L, 2);
    return p;
}

static int l_judge(lua_State *L)
{
    uint32_t n = (uint32_t)lua_objlen(L, 1), before_count = 0;
    struct weather_front before[WEATHER_FRONTS_MAX], out[WEATHER_FRONTS_MAX];
    char said[WEATHER_TEXT_MAX];
    luaL_argcheck(L, n <= POINTS_MAX, 1, "too many");
    struct weather_point *points = calloc(n + 1, sizeof *points);
    /* Behind the list: nobody is to look there. */
    points[n] = (struct weather_point){ .wanted = true, .failing = true, .platform = 1, .host = 2, .account = 3, .stage = STAGE_COUNT - 1 };
    points[n].platform_name = points[n].host_name = points[n].name = "behind";
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 1, (int)i + 1);
        points[i] = point(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    memset(before, 0, sizeof before);
    for (uint32_t i = 0; lua_istable(L, 2) && i < lua_objlen(L, 2) && i < WEATHER_FRONTS_MAX; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        before[i].scope = (enum weather_scope)number(L, lua_gettop(L), "scope_number", 0);
        const char *key = text(L, lua_gettop(L), "key");
        if (key) memcpy(&before[i].key, key, sizeof before[i].key);
        before_count++;
        lua_pop(L, 1);
    }
    void *scratch = malloc(weather_scratch_bytes(n));
    uint32_t count = weather_judge(points, n, before, before_count, out, scratch);
    lua_newtable(L);
    for (uint32_t i = 0; i < count; i++) {
        lua_newtable(L);
        lua_pushstring(L, weather_scope_name(out[i].scope)), lua_setfield(L, -2, "scope");
        lua_pushinteger(L, (int)out[i].scope), lua_setfield(L, -2, "scope_number");
        lua_pushstring(L, out[i].name), lua_setfield(L, -2, "name");
        lua_pushlstring(L, (const char *)&out[i].key, sizeof out[i].key), lua_setfield(L, -2, "key");
        lua_pushinteger(L, out[i].close_code), lua_setfield(L, -2, "close");
        lua_pushinteger(L, out[i].http_status), lua_setfield(L, -2, "http");
        lua_newtable(L);
        for (uint32_t k = 0; k < n; k++) {
            if (!weather_covers(&out[i], &points[k])) continue;
            lua_pushstring(L, points[k].name);
            lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
        }
        lua_setfield(L, -2, "covers");
        lua_pushinteger(L, out[i].failing), lua_setfield(L, -2, "failing");
        lua_pushinteger(L, out[i].total), lua_setfield(L, -2, "total");
        lua_pushboolean(L, out[i].one_cause), lua_setfield(L, -2, "one_cause");
        lua_pushstring(L, weather_text(&out[i], said)), lua_setfield(L, -2, "text");
        lua_rawseti(L, -2, (int)i + 1);
    }
    free(scratch);
    free(points);
    return 1;
}

static const luaL_Reg functions[] = { { "judge", l_judge }, { NULL, NULL } };

int luaopen_unit_weather(lua_State *L);
int luaopen_unit_weather(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
