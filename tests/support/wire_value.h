/* Lua values, plain values and JSON, for the wire specs. */
#ifndef HOLDFAST_TESTS_WIRE_VALUE_H
#define HOLDFAST_TESTS_WIRE_VALUE_H

#include <cJSON.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "base/buffer.h"
#include "base/value.h"

#define WIRE_SECRET_MT "unit.wire.secret"
#define WIRE_DEPTH_MAX 32

/* What has no value (functions, too deep) becomes nil. Owned by the caller. */
static struct value wire_to_value(lua_State *L, int index, int depth)
{
    size_t len;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: return value_bool(lua_toboolean(L, index));
    case LUA_TNUMBER: return value_number(lua_tonumber(L, index));
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        return value_bytes(text, len);
    case LUA_TUSERDATA: {
        struct secret **box = luaL_checkudata(L, index, WIRE_SECRET_MT);
        return value_secret(*box);
    }
    case LUA_TTABLE: break;
    default: return value_nil();
    }
    struct value out = value_table();
    if (depth >= WIRE_DEPTH_MAX || !lua_checkstack(L, 8)) return out;
    int length = (int)lua_objlen(L, index);
    for (int i = 1; i <= length; i++) {
        lua_rawgeti(L, index, i);
        value_append(&out, wire_to_value(L, lua_gettop(L), depth + 1));
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            value_set(&out, lua_tostring(L, -2), wire_to_value(L, lua_gettop(L), depth + 1));
        }
        lua_pop(L, 1);
    }
    return out;
}

static void wire_push_value(lua_State *L, const struct value *v)
{
    luaL_checkstack(L, 8, "too deep");
    switch (v->kind) {
    case VALUE_BOOL: lua_pushboolean(L, v->boolean); break;
    case VALUE_NUMBER: lua_pushnumber(L, v->number); break;
    case VALUE_STRING: lua_pushlstring(L, v->string.bytes, v->string.len); break;
    case VALUE_TABLE:
        lua_createtable(L, 0, (int)v->table->count);
        for (uint32_t i = 0; i < v->table->count; i++) {
            wire_push_value(L, &v->table->pairs[i].key);
            wire_push_value(L, &v->table->pairs[i].value);
            if (lua_isnil(L, -1)) lua_pop(L, 2);
            else lua_rawset(L, -3);
        }
        break;
    default: lua_pushnil(L);
    }
}

static void wire_push_json(lua_State *L, const cJSON *j, int depth)
{
    int n = 0;
    if (depth > WIRE_DEPTH_MAX || !lua_checkstack(L, 8)) {
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
            wire_push_json(L, e, depth + 1);
            if (cJSON_IsArray(j)) lua_rawseti(L, -2, ++n);
            else lua_setfield(L, -2, e->string);
        }
    } else {
        lua_pushnil(L);
    }
}

static int l_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    cJSON *j = cJSON_ParseWithLength(text, len);
    if (!j) return luaL_error(L, "not JSON: %s", text);
    wire_push_json(L, j, 0);
    cJSON_Delete(j);
    return 1;
}

static int l_secret(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct secret **box = lua_newuserdata(L, sizeof *box);
    *box = secret_create(luaL_optstring(L, 2, "test"), bytes, len);
    luaL_getmetatable(L, WIRE_SECRET_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_secret_gc(lua_State *L)
{
    struct secret **box = luaL_checkudata(L, 1, WIRE_SECRET_MT);
    secret_unref(*box);
    *box = NULL;
    return 0;
}

#endif
