/* Between Lua tables and value trees. To C: runs no Lua code and raises nothing. To Lua: pushes may
 * raise for memory, and hold nothing. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sandbox_internal.h"

struct copier {
    lua_State *L;
    char *error;
    size_t error_bytes;
};

static bool copy(struct copier *c, int index, int depth, struct value *out);

bool sandbox_to_value(lua_State *L, int index, struct value *out, char *error, size_t error_bytes)
{
    struct copier c = { L, error, error_bytes };
    index = sandbox__absolute(L, index);
    *out = value_nil();
    if (!lua_checkstack(L, 6 * SANDBOX_DEPTH_MAX + LUA_MINSTACK)) {
        snprintf(error, error_bytes, "out of memory");
        return false;
    }
    struct sandbox *s = sandbox_of(L);
    s->exempt = true;
    bool ok = copy(&c, index, 0, out);
    s->exempt = false;
    if (!ok) value_clear(out);
    return ok;
}

static bool fail(struct copier *c, const char *why)
{
    snprintf(c->error, c->error_bytes, "%s", why);
    return false;
}

static bool add(struct copier *c, struct value *table, const struct key *k, struct value v)
{
    struct value_table *t = table->table;
    if (t->count == t->capacity) {
        uint32_t capacity = t->capacity ? t->capacity * 2 : 4;
        struct value_pair *pairs = realloc(t->pairs, capacity * sizeof *pairs);
        if (!pairs) {
            value_clear(&v);
            return fail(c, "out of memory");
        }
        t->pairs = pairs;
        t->capacity = capacity;
    }
    struct value key =
        k->type == LUA_TNUMBER ? value_number(k->number) : value_bytes(k->text, k->len);
    t->pairs[t->count++] = (struct value_pair){ key, v };
    return true;
}

static bool copy_table(struct copier *c, int index, int depth, struct value *out)
{
    bool sequence, odd;
    if (depth >= SANDBOX_DEPTH_MAX) return fail(c, "nested too deeply, or in a circle");
    uint32_t count = sandbox__keys_count(c->L, index, &sequence, &odd);
    if (!sandbox__charge(sandbox_of(c->L), c->L, 2 * COST_CALL + (uint64_t)count * 16)) {
        return fail(c, "over its instruction budget");
    }
    if (odd) return fail(c, "a key that is no text and no number");
    struct key *order = malloc((count + 1) * sizeof *order);
    if (!order) return fail(c, "out of memory");
    sandbox__keys(c->L, index, order, count);
    *out = value_table();
    bool ok = true;
    for (uint32_t i = 0; ok && i < count; i++) {
        struct value v;
        if (order[i].type == LUA_TBOOLEAN || isnan(order[i].number)) {
            ok = fail(c, "a key that is no text and no number");
            break;
        }
        sandbox__push_key(c->L, &order[i]);
        sandbox__rawget(c->L, index);
        ok = copy(c, lua_gettop(c->L), depth + 1, &v);
        if (ok &&
            v.kind == VALUE_NIL) { /* holdfast.null: absent, but a list may not lose an item */
            if (order[i].type == LUA_TNUMBER) ok = fail(c, "holdfast.null in a list");
        } else if (ok) {
            ok = add(c, out, &order[i], v);
        }
        lua_pop(c->L, 1);
    }
    free(order);
    if (!ok) value_clear(out);
    return ok;
}

static uint32_t function_line(lua_State *L, int index)
{
    lua_Debug ar;
    lua_pushvalue(L, index);
    lua_getinfo(L, ">S", &ar);
    return ar.linedefined > 0 ? (uint32_t)ar.linedefined : 0;
}

static bool copy(struct copier *c, int index, int depth, struct value *out)
{
    size_t len;
    *out = value_nil();
    switch (lua_type(c->L, index)) {
    case LUA_TNIL: return true;
    case LUA_TBOOLEAN: *out = value_bool(lua_toboolean(c->L, index)); return true;
    case LUA_TNUMBER: *out = value_number(lua_tonumber(c->L, index)); return true;
    case LUA_TSTRING: {
        const char *text = lua_tolstring(c->L, index, &len);
        *out = value_bytes(text, len);
        return true;
    }
    case LUA_TTABLE: return copy_table(c, index, depth, out);
    case LUA_TFUNCTION:
        out->kind = VALUE_FUNCTION;
        out->line = function_line(c->L, index);
        return true;
    default: break;
    }
    if (sandbox__is_null(c->L, index)) return true;
    struct secret *secret = sandbox_get_secret(c->L, index);
    if (secret) {
        *out = value_secret(secret);
        return true;
    }
    snprintf(c->error, c->error_bytes, "a %s cannot be kept", luaL_typename(c->L, index));
    return false;
}

static void push(lua_State *L, const struct value *v, int depth)
{
    luaL_checkstack(L, 6, "value");
    switch (v->kind) {
    case VALUE_BOOL: lua_pushboolean(L, v->boolean); return;
    case VALUE_NUMBER: lua_pushnumber(L, v->number); return;
    case VALUE_STRING: lua_pushlstring(L, v->string.bytes, v->string.len); return;
    case VALUE_SECRET: sandbox_push_secret(L, v->secret); return;
    case VALUE_TABLE:
        lua_createtable(L, 0, 0);
        for (uint32_t i = 0; depth < SANDBOX_DEPTH_MAX && i < v->table->count; i++) {
            push(L, &v->table->pairs[i].key, depth + 1);
            push(L, &v->table->pairs[i].value, depth + 1);
            lua_rawset(L, -3);
        }
        return;
    case VALUE_NIL:
    case VALUE_FUNCTION: break;
    }
    lua_pushnil(L);
}

void sandbox_push_value(lua_State *L, const struct value *v, bool frozen)
{
    push(L, v, 0);
    if (frozen && v->kind == VALUE_TABLE) sandbox__freeze(L, -1, "this table");
}
