/* modules: policy bind engine frame crypto base */
/* Loading and building as one: build(path, settings text) through the real sandbox. */
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "policy/policy.h"
#include "policy/sandbox.h"

static void push_problems(lua_State *L, const struct problems *p)
{
    char text[1024];
    lua_newtable(L);
    for (uint32_t i = 0; i < p->count; i++) {
        lua_pushstring(L, problem_format(&p->items[i], text, sizeof text));
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static bool settings_read(const char *text, struct value *out)
{
    char error[256];
    struct sandbox_options options = { .name = "settings", .lua_path = "lua" };
    struct sandbox *s = sandbox_create(&options);
    bool ok = sandbox_run(s, text, strlen(text), "settings", error, sizeof error) == CALL_OK &&
              sandbox_to_value(sandbox_lua(s), -1, out, error, sizeof error);
    sandbox_destroy(s);
    return ok;
}

/* build(path, "return { ... }") -> { hosts, lane, fetch, ping, file, line of each classify row } or
 * nil, problems */
static int l_build(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1), *text = luaL_checkstring(L, 2);
    struct policy_load load = { .name = "x", .path = path, .lua_path = "lua", .version = 3 };
    struct value settings = value_nil();
    struct problems problems;
    if (!settings_read(text, &settings)) return luaL_error(L, "settings");
    problems_init(&problems);
    struct policy_version *v = policy_load(&load, &problems);
    struct policy_build *b =
        v ? policy_build_create(v, &settings, "holdfast.lua", &problems) : NULL;
    policy_unref(v); /* the build holds its own */
    lua_pushnil(L);
    if (b) {
        lua_newtable(L);
        lua_pushnumber(L, (double)b->plan->ping_ms), lua_setfield(L, -2, "ping");
        lua_pushinteger(L, b->plan->version), lua_setfield(L, -2, "version");
        lua_pushstring(L, policy_platform(b->version)), lua_setfield(L, -2, "platform");
        lua_pushboolean(L, policy_host_allowed(b, "A.chatter.example")),
            lua_setfield(L, -2, "allowed");
        lua_pushboolean(L, policy_host_allowed(b, "evil.example")), lua_setfield(L, -2, "evil");
        lua_newtable(L);
        for (uint32_t i = 0; i < b->plan->classify_count; i++) {
            lua_pushinteger(L, (lua_Integer)b->plan->classify[i].line);
            lua_rawseti(L, -2, (int)i + 1);
        }
        lua_setfield(L, -2, "lines");
    }
    policy_build_destroy(b);
    value_clear(&settings);
    push_problems(L, &problems);
    problems_deinit(&problems);
    return 2;
}

#define SHARED_MAX 8

/* share(path, "return { ... }", ...) -> for each build the place of the first one that it shares its tables
 * with, its ping; then how many others have the tables of a build made after all were gone. */
static int l_share(lua_State *L)
{
    struct policy_load load = { .name = "x", .path = luaL_checkstring(L, 1), .lua_path = "lua", .version = 3 };
    struct problems problems;
    struct policy_build *b[SHARED_MAX] = { NULL };
    struct value settings[SHARED_MAX];
    int count = lua_gettop(L) - 1;
    luaL_argcheck(L, count <= SHARED_MAX, 2, "too many");
    problems_init(&problems);
    struct policy_version *v = policy_load(&load, &problems);
    luaL_argcheck(L, v != NULL, 1, "does not load");
    lua_newtable(L);
    for (int i = 0; i < count; i++) {
        if (!settings_read(luaL_checkstring(L, i + 2), &settings[i])) return luaL_error(L, "settings");
        b[i] = policy_build_create(v, &settings[i], "holdfast.lua", &problems);
        if (!b[i]) continue;
        int first = 0;
        while (!b[first] || b[first]->plan != b[i]->plan) first++;
        lua_newtable(L);
        lua_pushinteger(L, first + 1), lua_setfield(L, -2, "with");
        lua_pushnumber(L, (double)b[i]->plan->ping_ms), lua_setfield(L, -2, "ping");
        lua_pushnumber(L, (double)b[i]->lane), lua_setfield(L, -2, "lane");
        lua_rawseti(L, -2, i + 1);
    }
    for (int i = 0; i < count; i++) policy_build_destroy(b[i]);
    b[0] = policy_build_create(v, &settings[0], "holdfast.lua", &problems);
    lua_pushboolean(L, b[0] && b[0]->plan->ping_ms > 0);
    policy_build_destroy(b[0]);
    for (int i = 0; i < count; i++) value_clear(&settings[i]);
    policy_unref(v);
    problems_deinit(&problems);
    return 2;
}

static const luaL_Reg functions[] = { { "build", l_build }, { "share", l_share }, { NULL, NULL } };

int luaopen_unit_policy_build(lua_State *L);
int luaopen_unit_policy_build(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
