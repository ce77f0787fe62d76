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
        lua_pushnumber(L, (double)b->plan.ping_ms), lua_setfield(L, -2, "ping");
        lua_pushinteger(L, b->plan.version), lua_setfield(L, -2, "version");
        lua_pushstring(L, policy_platform(b->version)), lua_setfield(L, -2, "platform");
        lua_pushboolean(L, policy_host_allowed(b, "A.chatter.example")),
            lua_setfield(L, -2, "allowed");
        lua_pushboolean(L, policy_host_allowed(b, "evil.example")), lua_setfield(L, -2, "evil");
        lua_newtable(L);
        for (uint32_t i = 0; i < b->plan.classify_count; i++) {
            lua_pushinteger(L, (lua_Integer)b->plan.classify[i].line);
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

static const luaL_Reg functions[] = { { "build", l_build }, { NULL, NULL } };

int luaopen_unit_policy_build(lua_State *L);
int luaopen_unit_policy_build(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
