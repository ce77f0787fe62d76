/* Lua values, plain values and JSON, for tests. Tables are walked in sorted order: nothing of a run may
 * depend on a hash. */
#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "sim/module_internal.h"

#define DEPTH_MAX 32

static struct value convert(lua_State *L, int index, int depth);

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Owned array of the string keys, sorted. The keys stay in the table. */
static const char **string_keys(lua_State *L, int index, uint32_t *count_out)
{
    const char **keys = NULL;
    uint32_t count = 0, capacity = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING) continue;
        keys = sim__grow(keys, count, &capacity, sizeof *keys);
        keys[count++] = lua_tostring(L, -1);
    }
    if (count) qsort(keys, count, sizeof *keys, by_name);
    *count_out = count;
    return keys;
}

static struct value table_of(lua_State *L, int index, int depth)
{
    struct value out = value_table();
    uint32_t count = 0;
    int length = (int)lua_objlen(L, index);
    for (int i = 1; i <= length; i++) {
        lua_rawgeti(L, index, i);
        value_append(&out, convert(L, lua_gettop(L), depth + 1));
        lua_pop(L, 1);
    }
    const char **keys = string_keys(L, index, &count);
    for (uint32_t i = 0; i < count; i++) {
        lua_getfield(L, index, keys[i]);
        value_set(&out, keys[i], convert(L, lua_gettop(L), depth + 1));
        lua_pop(L, 1);
    }
    free(keys);
    return out;
}

/* Never raises: what has no value becomes nil. */
static struct value convert(lua_State *L, int index, int depth)
{
    size_t len;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: return value_bool(lua_toboolean(L, index));
    case LUA_TNUMBER: return value_number(lua_tonumber(L, index));
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        return value_bytes(text, len);
    case LUA_TTABLE:
        if (depth >= DEPTH_MAX || !lua_checkstack(L, 8)) return value_nil();
        return table_of(L, index, depth);
    case LUA_TUSERDATA: {
        if (!lua_getmetatable(L, index)) return value_nil();
        luaL_getmetatable(L, SIM_SECRET_MT);
        bool is_secret = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
        return is_secret ? value_secret(*(struct secret **)lua_touserdata(L, index)) : value_nil();
    }
    default: return value_nil();
    }
}

struct value sim__to_value(lua_State *L, int index)
{
    if (index < 0) index = lua_gettop(L) + 1 + index;
    return convert(L, index, 0);
}

void sim__push_value(lua_State *L, const struct value *v)
{
    luaL_checkstack(L, 8, "too deep");
    switch (v->kind) {
    case VALUE_BOOL: lua_pushboolean(L, v->boolean); break;
    case VALUE_NUMBER: lua_pushnumber(L, v->number); break;
    case VALUE_STRING: lua_pushlstring(L, v->string.bytes, v->string.len); break;
    case VALUE_SECRET: lua_pushfstring(L, "<secret %s>", secret_name(v->secret)); break;
    case VALUE_TABLE:
        lua_createtable(L, 0, (int)v->table->count);
        for (uint32_t i = 0; i < v->table->count; i++) {
            sim__push_value(L, &v->table->pairs[i].key);
            sim__push_value(L, &v->table->pairs[i].value);
            if (lua_isnil(L, -1)) lua_pop(L, 2);
            else lua_rawset(L, -3);
        }
        break;
    default: lua_pushnil(L);
    }
}

/* ---- JSON ----------------------------------------------------------------------------------------- */

static void push_json(lua_State *L, const cJSON *j, int depth)
{
    int n = 0;
    if (depth > 128 || !lua_checkstack(L, 8)) {
        lua_pushnil(L);
    } else if (cJSON_IsBool(j)) {
        lua_pushboolean(L, cJSON_IsTrue(j));
    } else if (cJSON_IsNumber(j)) {
        lua_pushnumber(L, j->valuedouble);
    } else if (cJSON_IsString(j)) {
        lua_pushstring(L, j->valuestring);
    } else if (cJSON_IsArray(j) || cJSON_IsObject(j)) {
        lua_newtable(L);
        for (const cJSON *e = j->child; e; e = e->next) {
            push_json(L, e, depth + 1);
            if (cJSON_IsArray(j)) lua_rawseti(L, -2, ++n);
            else lua_setfield(L, -2, e->string);
        }
    } else {
        lua_pushnil(L);
    }
}

static struct value json_value(const cJSON *j)
{
    if (cJSON_IsBool(j)) return value_bool(cJSON_IsTrue(j));
    if (cJSON_IsNumber(j)) return value_number(j->valuedouble);
    if (cJSON_IsString(j)) return value_string(j->valuestring);
    if (!cJSON_IsArray(j) && !cJSON_IsObject(j)) return value_nil();
    struct value out = value_table();
    for (const cJSON *e = j->child; e; e = e->next) {
        if (cJSON_IsArray(j)) value_append(&out, json_value(e));
        else value_set(&out, e->string, json_value(e));
    }
    return out;
}

bool sim__json_to_value(const char *text, size_t len, struct value *out)
{
    cJSON *j = cJSON_ParseWithLength(text, len);
    if (!j) return false;
    *out = json_value(j);
    cJSON_Delete(j);
    return true;
}

static int l_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    cJSON *j = cJSON_ParseWithLength(text, len);
    if (!j) {
        lua_pushnil(L);
        lua_pushliteral(L, "not JSON");
        return 2;
    }
    push_json(L, j, 0);
    cJSON_Delete(j);
    return 1;
}

static int l_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    struct value v = sim__to_value(L, 1);
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = value_to_json(&v, &out);
    value_clear(&v);
    if (ok) lua_pushlstring(L, (const char *)out.data, out.len);
    else lua_pushnil(L);
    buffer_deinit(&out);
    return 1;
}

/* ---- secrets ------------------------------------------------------------------------------------------ */

static int l_secret(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    const char *name = luaL_optstring(L, 2, "test");
    struct secret **box = lua_newuserdata(L, sizeof *box);
    *box = secret_create(name, bytes, len);
    luaL_getmetatable(L, SIM_SECRET_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_secret_gc(lua_State *L)
{
    struct secret **box = luaL_checkudata(L, 1, SIM_SECRET_MT);
    secret_unref(*box);
    *box = NULL;
    return 0;
}

const luaL_Reg sim__value_functions[] = {
    { "decode", l_decode }, { "encode", l_encode }, { "secret", l_secret }, { NULL, NULL }
};

void sim__secret_open(lua_State *L)
{
    luaL_newmetatable(L, SIM_SECRET_MT);
    lua_pushcfunction(L, l_secret_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
