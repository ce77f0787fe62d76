/* conn.session and conn.keep: small plain tables that C holds and saves. Reading copies out,
 * writing checks and copies in; secrets, functions and more than 8 KiB are refused. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

#define KEPT_MT        "holdfast.kept"
#define KEPT_BYTES_MAX 8192
#define KEY_BYTES_MAX  64

struct kept_box {
    uint64_t serial;
    bool keep;
};

void bind__push_kept(lua_State *L, const struct call_context *call, bool keep)
{
    struct kept_box *box = lua_newuserdata(L, sizeof *box);
    box->serial = call->serial;
    box->keep = keep;
    luaL_setmetatable(L, KEPT_MT);
}

static const char *name_of(bool keep)
{
    return keep ? "conn.keep" : "conn.session";
}

/* The table in C, or NULL when the connection is gone. */
static struct value *held(const struct call_context *call, bool keep)
{
    struct conn_facts facts;
    if (!bind__facts(call, &facts)) return NULL;
    return keep ? facts.keep : facts.session;
}

static struct call_context *check(lua_State *L, struct kept_box **box_out)
{
    struct kept_box *box = luaL_checkudata(L, 1, KEPT_MT);
    struct call_context *call = bind__check_phase(L, ALLOW_ALL, name_of(box->keep));
    if (box->serial != call->serial) {
        luaL_error(L, "%s belongs to a call that is over (stale_handle)", name_of(box->keep));
    }
    *box_out = box;
    return call;
}

/* NULL when it may be kept, otherwise why not. */
static const char *why_not(const struct value *v)
{
    switch (v->kind) {
    case VALUE_SECRET: return "a secret is never stored";
    case VALUE_FUNCTION: return "a function cannot be stored";
    case VALUE_NUMBER: return isfinite(v->number) ? NULL : "a number that is not finite";
    case VALUE_TABLE:
        for (uint32_t i = 0; i < v->table->count; i++) {
            const char *why = why_not(&v->table->pairs[i].value);
            if (why) return why;
        }
        return NULL;
    default: return NULL;
    }
}

static void mark_dirty(struct call_context *call, bool keep)
{
    if (keep) {
        call->keep_dirty = true;
    } else {
        call->session_dirty = true;
    }
}

/* Reads the value at index 3 for keeping; raises when it may not be kept. */
static struct value check_value(lua_State *L, bool keep, const char *key)
{
    struct value v;
    char error[128];
    const char *why = error;
    if (sandbox_to_value(L, 3, &v, error, sizeof error)) why = why_not(&v);
    if (why) {
        if (why != error) snprintf(error, sizeof error, "%s", why);
        value_clear(&v);
        luaL_error(L, "%s%s%s: %s", name_of(keep), key[0] ? "." : "", key, error);
    }
    return v;
}

static int l_index(lua_State *L)
{
    struct kept_box *box;
    struct call_context *call = check(L, &box);
    const struct value *t = held(call, box->keep);
    const struct value *v = NULL;
    if (lua_type(L, 2) == LUA_TSTRING) v = value_get(t, lua_tostring(L, 2));
    if (v) {
        sandbox_push_value(L, v, false);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int l_newindex(lua_State *L)
{
    struct kept_box *box;
    struct call_context *call = check(L, &box);
    size_t len = 0;
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &len) : "";
    if (len == 0 || len > KEY_BYTES_MAX || strlen(key) != len) {
        return luaL_error(L, "%s: keys are text of 1 to %d bytes", name_of(box->keep),
                          KEY_BYTES_MAX);
    }
    struct value *t = held(call, box->keep);
    if (!t) return luaL_error(L, "%s: the connection is gone", name_of(box->keep));
    struct value v = check_value(L, box->keep, key);
    struct value *old = value_get(t, key);
    if (old ? value_equal(old, &v) : v.kind == VALUE_NIL) {
        value_clear(&v);
        return 0;
    }
    size_t weight = value_weight(t) + value_weight(&v) + sizeof v + len + 1;
    if (old) weight -= value_weight(old) + sizeof v + len + 1;
    if (v.kind != VALUE_NIL && weight > KEPT_BYTES_MAX) {
        value_clear(&v);
        return luaL_error(L, "%s.%s: more than 8 KiB in all", name_of(box->keep), key);
    }
    if (t->kind != VALUE_TABLE) {
        value_clear(t);
        *t = value_table();
    }
    value_set(t, key, v);
    mark_dirty(call, box->keep);
    return 0;
}

int bind__replace_kept(lua_State *L, struct call_context *call, bool keep)
{
    if (!lua_isnil(L, 3)) luaL_checktype(L, 3, LUA_TTABLE);
    struct value *t = held(call, keep);
    if (!t) return luaL_error(L, "%s: the connection is gone", name_of(keep));
    struct value v = check_value(L, keep, "");
    if (v.kind == VALUE_NIL) v = value_table();
    bool keys_ok = true;
    for (uint32_t i = 0; i < v.table->count; i++) {
        const struct value *k = &v.table->pairs[i].key;
        keys_ok = keys_ok && k->kind == VALUE_STRING && k->string.len <= KEY_BYTES_MAX;
    }
    if (!keys_ok || value_weight(&v) > KEPT_BYTES_MAX) {
        value_clear(&v);
        return luaL_error(
            L, keys_ok ? "%s: more than 8 KiB in all" : "%s: keys are text of 1 to 64 bytes",
            name_of(keep));
    }
    bool was_empty = t->kind != VALUE_TABLE || t->table->count == 0;
    if ((was_empty && v.table->count == 0) || value_equal(t, &v)) {
        value_clear(&v);
        return 0;
    }
    value_clear(t);
    *t = v;
    mark_dirty(call, keep);
    return 0;
}

static int l_pairs(lua_State *L)
{
    struct kept_box *box;
    struct call_context *call = check(L, &box);
    const struct value *t = held(call, box->keep);
    lua_pushcfunction(L, sandbox__l_pairs);
    if (t && t->kind == VALUE_TABLE) {
        sandbox_push_value(L, t, false);
    } else {
        lua_newtable(L);
    }
    lua_call(L, 1, 3);
    return 3;
}

static int l_tostring(lua_State *L)
{
    struct kept_box *box = luaL_checkudata(L, 1, KEPT_MT);
    lua_pushstring(L, name_of(box->keep));
    return 1;
}

static const luaL_Reg methods[] = {
    { "__index", l_index }, { "__newindex", l_newindex },
    { "__pairs", l_pairs }, { "__tostring", l_tostring },
    { NULL, NULL },
};

void bind__open_kept(lua_State *L)
{
    luaL_newmetatable(L, KEPT_MT);
    luaL_setfuncs(L, methods, 0);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
