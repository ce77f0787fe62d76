/* Causes both ways: the table that on_ended gets, and conn:fail() and conn:close(), which end the
 * hook. What a policy says about an ending is shown to people, so nothing secret passes: the text
 * of a secret is its name. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

#define HEAD_BYTES_MAX 4096
#define ENDS_LINK                                                                                  \
    (ALLOW(HOOK_GREET) | ALLOW(HOOK_ON_FRAME) | ALLOW(HOOK_ON_BEAT) | ALLOW(HOOK_ON_ACK) |         \
     ALLOW(HOOK_EVERY))

static void set_number(lua_State *L, const char *key, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, key);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void push_head(lua_State *L, const char *head, size_t len)
{
    struct resume_with with = { .answered = true, .head = head, .head_len = len };
    bind_push_http_answer(L, &with);
    bind__get(L, -1, "headers");
    lua_remove(L, -2);
}

/* The keys are those of a rule's matcher; times are seconds. */
void bind_push_cause(lua_State *L, const struct cause *c)
{
    lua_newtable(L);
    set_text(L, "stage", stage_name(c->stage));
    set_text(L, "kind", cause_kind_name(c->kind));
    set_text(L, "cause", c->name);
    set_text(L, "by", cause_by_name(c->by));
    set_text(L, "reason", c->reason);
    set_number(L, "age", (double)c->age_ms / 1000);
    lua_pushboolean(L, c->session);
    lua_setfield(L, -2, "session");
    if (c->close_code != CLOSE_CODE_NONE) set_number(L, "close", c->close_code);
    if (c->http_status) set_number(L, "http", c->http_status);
    if (c->code) set_number(L, "code", (double)c->code);
    if (c->retry_after_ms != RETRY_AFTER_NONE) {
        set_number(L, "retry_after", (double)c->retry_after_ms / 1000);
    }
    if (c->head) {
        push_head(L, c->head, c->head_len);
        lua_setfield(L, -2, "headers");
    }
    if (c->body) {
        lua_pushlstring(L, c->body, c->body_len);
        lua_setfield(L, -2, "body");
    }
}

static enum stage stage_of(enum hook h)
{
    if (h == HOOK_FETCH || h == HOOK_PREPARE) return STAGE_PREPARING;
    return h == HOOK_GREET ? STAGE_GREETING : STAGE_READY;
}

static uint32_t line_of(lua_State *L)
{
    lua_Debug ar;
    for (int level = 1; level < 8 && lua_getstack(L, level, &ar); level++) {
        if (lua_getinfo(L, "Sl", &ar) && ar.currentline > 0 &&
            strncmp(ar.short_src, "lua/", 4) != 0) {
            return (uint32_t)ar.currentline;
        }
    }
    return 0;
}

/* A number at `key` of the table at index 3, or `otherwise`. */
static double number_at(lua_State *L, const char *key, double otherwise)
{
    bind__get(L, 3, key);
    double n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : otherwise;
    if (lua_type(L, -1) == LUA_TSTRING && lua_isnumber(L, -1)) n = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return isfinite(n) && fabs(n) < 0x1p53 ? n : otherwise;
}

static void read_retry_after(lua_State *L, struct cause *c)
{
    bind__get(L, 3, "retry_after");
    if (lua_type(L, -1) == LUA_TNUMBER) {
        double seconds = lua_tonumber(L, -1);
        if (seconds >= 0 && seconds < 1e9) c->retry_after_ms = (uint64_t)(seconds * 1000);
    } else if (!lua_isnil(L, -1)) {
        c->retry_after_ms = bind__check_duration(L, -1, "conn:fail{ retry_after }");
    }
}

/* `headers` of an answer, as lines; a Lua string left on the stack keeps them. */
static void read_headers(lua_State *L, struct cause *c)
{
    luaL_Buffer b;
    size_t total = 0;
    bind__get(L, 3, "headers");
    if (!lua_istable(L, -1)) return;
    int table = lua_gettop(L);
    lua_newtable(L);
    int lines = lua_gettop(L), count = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
            total += lua_objlen(L, -2) + lua_objlen(L, -1) + 4;
            if (total > HEAD_BYTES_MAX) luaL_error(L, "conn:fail{ headers }: more than 4 KiB");
            lua_pushfstring(L, "%s: %s\r\n", lua_tostring(L, -2), lua_tostring(L, -1));
            lua_rawseti(L, lines, ++count);
        }
        lua_pop(L, 1);
    }
    luaL_buffinit(L, &b);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, lines, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    c->head = lua_tolstring(L, -1, &c->head_len);
}

static void read_details(lua_State *L, struct cause *c)
{
    static const char *const known[] = { "status", "http",   "headers", "body", "retry_after",
                                         "code",   "reason", "ok",      "json", NULL };
    if (lua_isnil(L, 3)) return;
    if (!lua_istable(L, 3)) {
        bind__shown(L, 3, c->reason, sizeof c->reason);
        return;
    }
    bind__check_keys(L, 3, known, "conn:fail()");
    c->http_status = (int32_t)number_at(L, "http", number_at(L, "status", 0));
    c->code = (int64_t)number_at(L, "code", 0);
    read_retry_after(L, c);
    bind__get(L, 3, "reason");
    if (!lua_isnil(L, -1)) bind__shown(L, -1, c->reason, sizeof c->reason);
    read_headers(L, c);
    bind__get(L, 3, "body");
    if (lua_type(L, -1) == LUA_TSTRING) c->body = lua_tolstring(L, -1, &c->body_len);
}

static int end_hook(lua_State *L, struct call_context *call, const struct cause *c)
{
    if (!call->ended) {
        call->ended = true;
        call->port->end(call->port->self, call->conn, call->generation, c);
    }
    return sandbox_end_hook(L);
}

/* conn:fail(name, details): details are an answer of conn:http(), a table like it, or text. */
int bind__l_fail(lua_State *L)
{
    struct call_context *call =
        bind__check_conn(L, ENDS_LINK | ALLOW(HOOK_FETCH) | ALLOW(HOOK_PREPARE), "conn:fail()");
    const char *name = luaL_checkstring(L, 2);
    if (!name[0]) return luaL_argerror(L, 2, "a name for the cause expected");
    lua_settop(L, 3);
    struct cause c = cause_make(stage_of(call->hook), CAUSE_FAILED, BY_POLICY, NULL);
    cause_rename(&c, name);
    c.line = line_of(L);
    read_details(L, &c);
    return end_hook(L, call, &c);
}

int bind__l_close(lua_State *L)
{
    struct call_context *call = bind__check_conn(L, ENDS_LINK, "conn:close()");
    char reason[CAUSE_REASON_MAX] = "";
    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) bind__shown(L, 2, reason, sizeof reason);
    struct cause c = cause_make(stage_of(call->hook), CAUSE_WISHED, BY_POLICY, reason);
    c.line = line_of(L);
    return end_hook(L, call, &c);
}
