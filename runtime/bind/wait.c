/* conn:get() and conn:await(): what a coroutine waits for. The wait is filled in here and handed to
 * the caller of policy_call() when the coroutine yields. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"
#include "policy/schema.h"

int bind__wait(lua_State *L, struct call_context *call, enum wait_kind kind, const char *name)
{
    if (!lua_isyieldable(L)) {
        call_wait_deinit(&call->wait);
        return luaL_error(
            L, "%s cannot wait inside a callback of gsub, sort, pairs or a metamethod", name);
    }
    call->wait.kind = kind;
    call->waiting = true;
    return lua_yield(L, 0);
}

int bind__l_get(lua_State *L)
{
    struct call_context *call = bind__check_conn(L, ALLOW_WAIT, "conn:get()");
    const char *name = luaL_checkstring(L, 2);
    struct conn_facts facts;
    bool known = false;
    if (!bind__facts(call, &facts)) return bind__push_stale(L);
    for (uint32_t i = 0; facts.build && i < facts.build->fetch_count; i++) {
        known = known || strcmp(facts.build->fetch[i].name, name) == 0;
    }
    if (facts.build && !known)
        return luaL_error(L, "conn:get(): the policy has no fetch `%s`", name);
    if (call->hook == HOOK_FETCH && strcmp(name, call->name) == 0) {
        return luaL_error(L, "conn:get(): fetch `%s` waits for itself", name);
    }
    call_wait_deinit(&call->wait);
    text_copy(call->wait.fetch, sizeof call->wait.fetch, name, strlen(name));
    return bind__wait(L, call, WAIT_FETCH, "conn:get()");
}

/* Compiles the matcher at index; raises with nothing held. */
static void read_matcher(lua_State *L, int index, struct call_context *call,
                         struct frame_matchers *out, const char *what)
{
    struct value table;
    struct conn_facts facts;
    char error[200];
    bool ok = sandbox_to_value(L, index, &table, error, sizeof error);
    if (ok && (!bind__facts(call, &facts) || !facts.build)) {
        snprintf(error, sizeof error, "the connection is gone");
        ok = false;
    }
    ok = ok && schema_frame_matchers(&table, facts.build->rules, out, error, sizeof error);
    value_clear(&table);
    if (ok) return;
    call_wait_deinit(&call->wait);
    luaL_error(L, "%s: %s", what, error);
}

int bind__l_await(lua_State *L)
{
    static const char *const known[] = { "within", "progress", NULL };
    struct call_context *call = bind__check_conn(L, ALLOW(HOOK_GREET), "conn:await()");
    uint64_t within_ms = 0;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    call_wait_deinit(&call->wait);
    if (!lua_isnil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        bind__check_keys(L, 3, known, "conn:await()");
        bind__get(L, 3, "within");
        if (!lua_isnil(L, -1)) {
            within_ms = bind__check_duration(L, -1, "conn:await{ within }");
            if (within_ms == 0) return luaL_error(L, "conn:await{ within }: must be above zero");
        }
        bind__get(L, 3, "progress");
        if (!lua_isnil(L, -1)) {
            read_matcher(L, -1, call, &call->wait.progress, "conn:await{ progress }");
        }
    }
    read_matcher(L, 2, call, &call->wait.frame, "conn:await()");
    call->wait.within_ms = within_ms;
    return bind__wait(L, call, WAIT_FRAME, "conn:await()");
}
