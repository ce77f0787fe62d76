/* Traces in tests: what a simulated connection recorded, as the bytes of a trace file; and replays of such
 * bytes, whoever recorded them. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sim/module_internal.h"
#include "trace/replay.h"

/* s:recorded(name[, last_ms]): the bytes, or nil and why */
static int l_recorded(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    const struct sim_conn *c = sim__check_conn(s, L, 2);
    uint64_t last_ms = (uint64_t)luaL_optnumber(L, 3, 0);
    char why[200] = "nothing runs";
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = s->runtime && runtime_trace(s->runtime, c->handle, last_ms, "the simulator", &out, why, sizeof why);
    if (ok) lua_pushlstring(L, (const char *)out.data, out.len);
    else lua_pushnil(L);
    buffer_deinit(&out);
    if (ok) return 1;
    lua_pushstring(L, why);
    return 2;
}

static void push_count(lua_State *L, const char *key, uint64_t n)
{
    lua_pushnumber(L, (double)n);
    lua_setfield(L, -2, key);
}

/* replay(bytes, { policy =, lua = }): totals, or nil and why */
static int l_replay(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len), *policy = NULL, *lua = NULL;
    char why[600];
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "policy");
        policy = luaL_optstring(L, -1, NULL);
        lua_getfield(L, 2, "lua");
        lua = luaL_optstring(L, -1, NULL);
    }
    struct trace_file t;
    struct replay_totals totals;
    bool ok = trace_file_open(&t, bytes, len, why, sizeof why);
    uint32_t segments = ok ? t.segment_count : 0;
    uint64_t dropped = ok ? t.dropped : 0;
    if (ok) {
        struct replay_options options = { .trace = &t, .policy_path = policy, .lua_path = lua };
        ok = replay_all(&options, &totals, why, sizeof why);
        trace_file_deinit(&t);
    }
    if (!ok) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)totals.hash);
    lua_newtable(L);
    push_count(L, "steps", totals.steps);
    push_count(L, "steps_equal", totals.steps_equal);
    push_count(L, "hooks", totals.hooks);
    push_count(L, "hooks_run", totals.hooks_run);
    push_count(L, "hooks_equal", totals.hooks_equal);
    push_count(L, "first_other_step", totals.first_other_step);
    push_count(L, "segments", segments);
    push_count(L, "dropped", dropped);
    lua_pushstring(L, hash);
    lua_setfield(L, -2, "hash");
    lua_pushstring(L, totals.was);
    lua_setfield(L, -2, "was");
    lua_pushstring(L, totals.is);
    lua_setfield(L, -2, "is");
    return 1;
}

/* unpacked(bytes): what stands in it, for tests that look for what must not. */
static int l_unpacked(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    char why[200];
    struct trace_file t;
    if (!trace_file_open(&t, bytes, len, why, sizeof why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushlstring(L, (const char *)t.bytes.data, t.bytes.len);
    trace_file_deinit(&t);
    return 1;
}

const luaL_Reg sim__trace_methods[] = { { "recorded", l_recorded }, { NULL, NULL } };
const luaL_Reg sim__trace_functions[] = { { "replay", l_replay }, { "unpacked", l_unpacked }, { NULL, NULL } };
