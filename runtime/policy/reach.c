/* Reach: which lines of a policy file have run, for whoever explores it. Costs nothing where nobody asked:
 * the line hook is set for a version that was loaded with a map alone. */
#include <lauxlib.h>
#include <string.h>

#include "policy/call_internal.h"
#include "policy/sandbox_internal.h"

static void add(struct policy_reach *r, uint32_t line)
{
    if (line && line < POLICY_REACH_LINES) r->seen[line / 64] |= (uint64_t)1 << line % 64;
}

void policy_reach_add(struct policy_reach *r, uint32_t line)
{
    add(r, line);
}

bool policy_reach_has(const struct policy_reach *r, uint32_t line)
{
    return line < POLICY_REACH_LINES && (r->seen[line / 64] >> line % 64 & 1);
}

void sandbox__reach(struct sandbox *s, lua_State *L, lua_Debug *ar)
{
    if (ar->currentline <= 0 || !lua_getinfo(L, "S", ar)) return;
    if (ar->source[0] == '@' && strcmp(ar->source + 1, s->reach_path) == 0) {
        add(s->reach, (uint32_t)ar->currentline);
    }
}

/* Adds the active lines of the function on top, which is taken. */
static void add_lines(lua_State *L, struct policy_reach *out)
{
    lua_Debug ar;
    lua_getinfo(L, ">L", &ar);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TNUMBER) add(out, (uint32_t)lua_tonumber(L, -1));
    }
    lua_pop(L, 1);
}

static int l_lines(lua_State *L)
{
    const struct policy_version *v = lua_touserdata(L, 1);
    struct policy_reach *out = lua_touserdata(L, 2);
    for (int h = 0; h < HOOK_COUNT; h++) {
        if (v->hooks[h].ref == LUA_NOREF) continue;
        lua_rawgeti(L, LUA_REGISTRYINDEX, v->hooks[h].ref);
        add_lines(L, out);
    }
    for (uint32_t i = 0; i < v->fetch_count; i++) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, v->fetch[i].hook.ref);
        add_lines(L, out);
    }
    for (uint32_t i = 0; i < v->every_count; i++) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, v->every[i].hook.ref);
        add_lines(L, out);
    }
    return 0;
}

void policy_reach_all(struct policy_version *v, struct policy_reach *out)
{
    lua_State *L = sandbox_lua(v->sandbox);
    char error[256];
    lua_pushcfunction(L, l_lines);
    lua_pushlightuserdata(L, v);
    lua_pushlightuserdata(L, out);
    lua_enter(v->sandbox, L, 2, 0, false, error, sizeof error);
}
