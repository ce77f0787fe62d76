/* Shared by the unit modules of the frame path: rules from a Lua table, field values to Lua.
 *
 * rules { codec = "json", fields = { { "op", "op" }, { "id", "d.id" } }, deliver = MATCHERS, ... }
 * MATCHERS is a list of { op = WANTS }, WANTS a list of "text", true, { low, high }, "null" as { null =
 * true }, { present = true }. low and high are decimal strings or numbers. */
#ifndef HOLDFAST_TESTS_FRAME_SUPPORT_H
#define HOLDFAST_TESTS_FRAME_SUPPORT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame/json.h"
#include "frame/protobuf.h"
#include "frame/rules.h"

/* One per unit module: when a Lua state closes, each module's finalizers must be its own. */
#define RULES_MT "unit.frame.rules " __BASE_FILE__

static inline void *support_calloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) abort();
    return p;
}

/* A copy without a byte to spare, so that AddressSanitizer sees the first byte read beyond it. */
static inline uint8_t *support_copy(const void *data, size_t len)
{
    uint8_t *p = malloc(len ? len : 1);
    if (!p) abort();
    if (len) memcpy(p, data, len);
    return p;
}

static inline bool support_flag(lua_State *L, int table, const char *key)
{
    lua_getfield(L, table, key);
    bool set = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return set;
}

static inline int64_t support_integer(lua_State *L, int table, int index)
{
    lua_rawgeti(L, table, index);
    int64_t n = lua_type(L, -1) == LUA_TSTRING ? (int64_t)strtoll(lua_tostring(L, -1), NULL, 10)
                                               : (int64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
    return n;
}

static inline double support_number(lua_State *L, int table, const char *key, double otherwise)
{
    lua_getfield(L, table, key);
    double n = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : otherwise;
    lua_pop(L, 1);
    return n;
}

/* The value at the top. */
static inline void support_want(lua_State *L, struct field_want *w)
{
    int top = lua_gettop(L);
    switch (lua_type(L, top)) {
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, top, &len);
        w->kind = WANT_STRING;
        w->text = (char *)support_copy(text, len);
        w->len = len;
        break;
    }
    case LUA_TBOOLEAN:
        w->kind = WANT_BOOL;
        w->boolean = lua_toboolean(L, top);
        break;
    default:
        luaL_checktype(L, top, LUA_TTABLE);
        if (support_flag(L, top, "null")) {
            w->kind = WANT_NULL;
        } else if (support_flag(L, top, "present")) {
            w->kind = WANT_PRESENT;
        } else {
            w->kind = WANT_RANGE;
            w->low = support_integer(L, top, 1);
            w->high = support_integer(L, top, 2);
        }
    }
}

/* The list of matchers at `index`; none when it is nil. */
static inline void support_matchers(lua_State *L, int index, const struct frame_rules *r,
                                    struct frame_matchers *out)
{
    if (!lua_istable(L, index)) return;
    out->count = (uint32_t)lua_objlen(L, index);
    out->items = support_calloc(out->count, sizeof *out->items);
    for (uint32_t i = 0; i < out->count; i++) {
        struct frame_matcher *m = &out->items[i];
        m->fields = support_calloc(FIELDS_MAX, sizeof *m->fields);
        lua_rawgeti(L, index, (int)i + 1);
        int row = lua_gettop(L);
        for (lua_pushnil(L); lua_next(L, row); lua_pop(L, 1)) {
            struct field_match *f = &m->fields[m->field_count++];
            int field = frame_rules_field(r, lua_tostring(L, -2));
            if (field < 0) luaL_error(L, "no field %s", lua_tostring(L, -2));
            f->field = (uint8_t)field;
            f->want_count = (uint32_t)lua_objlen(L, -1);
            f->wants = support_calloc(f->want_count, sizeof *f->wants);
            for (uint32_t k = 0; k < f->want_count; k++) {
                lua_rawgeti(L, -1, (int)k + 1);
                support_want(L, &f->wants[k]);
                lua_pop(L, 1);
            }
        }
        lua_pop(L, 1);
    }
}

static inline void support_list(lua_State *L, int table, const char *key,
                                const struct frame_rules *r, struct frame_matchers *out)
{
    lua_getfield(L, table, key);
    support_matchers(L, lua_gettop(L), r, out);
    lua_pop(L, 1);
}

/* layout = { { number, name, kind }, ... } with kind "uint64", "map", "json" or "string"; the first field is required. */
static inline void support_layout(lua_State *L, int table, struct frame_rules *r)
{
    static const char *const kinds[] = { "uint64", "map", "json", "string", NULL };
    static const enum protobuf_kind values[] = { PROTOBUF_UINT64, PROTOBUF_MAP, PROTOBUF_JSON, PROTOBUF_STRING };
    lua_getfield(L, table, "layout");
    if (lua_istable(L, -1)) {
        r->layout = support_calloc(1, sizeof *r->layout);
        r->layout->count = (uint32_t)lua_objlen(L, -1);
        for (uint32_t i = 0; i < r->layout->count; i++) {
            struct protobuf_field *f = &r->layout->fields[i];
            lua_rawgeti(L, -1, (int)i + 1);
            lua_rawgeti(L, -1, 1);
            lua_rawgeti(L, -2, 2);
            lua_rawgeti(L, -3, 3);
            f->number = (uint32_t)lua_tointeger(L, -3);
            snprintf(f->name, sizeof f->name, "%s", lua_tostring(L, -2));
            f->kind = values[luaL_checkoption(L, lua_gettop(L), NULL, kinds)];
            f->required = i == 0;
            f->key = 1;
            f->value = 2;
            lua_pop(L, 4);
        }
    }
    lua_pop(L, 1);
}

/* join = { by, index, count, number of the layout's field, within_ms, parts, bytes } */
static inline void support_join(lua_State *L, int table, struct frame_rules *r)
{
    lua_getfield(L, table, "join");
    if (lua_istable(L, -1)) {
        uint8_t *const fields[] = { &r->join.by, &r->join.index, &r->join.count };
        int join = lua_gettop(L);
        for (int i = 0; i < 3; i++) {
            lua_rawgeti(L, join, i + 1);
            *fields[i] = (uint8_t)frame_rules_field(r, lua_tostring(L, -1));
            lua_pop(L, 1);
        }
        r->join.of = (uint32_t)support_integer(L, join, 4);
        r->join.within_ms = (uint64_t)support_integer(L, join, 5);
        r->join.parts = (uint32_t)support_integer(L, join, 6);
        r->join.bytes = (uint64_t)support_integer(L, join, 7);
        r->join.on = true;
    }
    lua_pop(L, 1);
}

/* rules(table) -> userdata, or nil when a path is not valid. */
static inline int l_rules(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct frame_rules *r = lua_newuserdata(L, sizeof *r);
    int self = lua_gettop(L);
    memset(r, 0, sizeof *r);
    luaL_getmetatable(L, RULES_MT);
    lua_setmetatable(L, self);

    lua_getfield(L, 1, "codec");
    const char *codec = lua_isstring(L, -1) ? lua_tostring(L, -1) : "json";
    r->codec = strcmp(codec, "json") == 0 ? CODEC_JSON
               : strcmp(codec, "bytes") == 0 ? CODEC_BYTES
               : strcmp(codec, "protobuf") == 0 ? CODEC_PROTOBUF : CODEC_WKPROTO;
    lua_pop(L, 1);
    lua_getfield(L, 1, "fields");
    for (uint32_t i = 0; lua_istable(L, -1) && i < lua_objlen(L, -1); i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        snprintf(r->fields[i].name, RULE_NAME_MAX, "%s", lua_tostring(L, -2));
        snprintf(r->fields[i].path, FIELD_PATH_MAX, "%s", lua_tostring(L, -1));
        r->field_count++;
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
    if (!frame_rules_prepare(r)) {
        lua_pushnil(L);
        return 1;
    }
    support_layout(L, 1, r);
    support_join(L, 1, r);
    r->deliver_all = support_flag(L, 1, "deliver_all");
    support_list(L, 1, "deliver", r, &r->deliver);
    support_list(L, 1, "inspect", r, &r->inspect);
    support_list(L, 1, "beat_asked", r, &r->beat_asked);
    support_list(L, 1, "beat_answer", r, &r->beat_answer);
    support_list(L, 1, "accept", r, &r->accept);
    support_list(L, 1, "start", r, &r->start);
    lua_getfield(L, 1, "ends");
    if (lua_istable(L, -1)) {
        r->ends_count = (uint32_t)lua_objlen(L, -1);
        r->ends = support_calloc(r->ends_count, sizeof *r->ends);
        for (uint32_t i = 0; i < r->ends_count; i++) {
            lua_rawgeti(L, -1, (int)i + 1);
            support_matchers(L, lua_gettop(L), r, &r->ends[i].match);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    /* acks = { { on = matchers or nil, when = 0 | 1 | 2 }, ... } */
    lua_getfield(L, 1, "acks");
    if (lua_istable(L, -1)) {
        r->ack_count = (uint32_t)lua_objlen(L, -1);
        r->acks = support_calloc(r->ack_count, sizeof *r->acks);
        for (uint32_t i = 0; i < r->ack_count; i++) {
            lua_rawgeti(L, -1, (int)i + 1);
            r->acks[i].when = (enum ack_when)support_number(L, lua_gettop(L), "when", ACK_EARLY);
            support_list(L, lua_gettop(L), "on", r, &r->acks[i].match);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    lua_getfield(L, 1, "by");
    for (uint32_t i = 0; lua_istable(L, -1) && i < lua_objlen(L, -1); i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        r->dedupe.by[r->dedupe.by_count++] = (uint8_t)frame_rules_field(r, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    r->message_bytes_max = (uint64_t)support_number(L, 1, "message_max", 1 << 20);
    r->send_bytes_max = (uint64_t)support_number(L, 1, "send_max", 4096);
    lua_settop(L, self);
    return 1;
}

static inline int l_rules_gc(lua_State *L)
{
    frame_rules_deinit(luaL_checkudata(L, 1, RULES_MT));
    return 0;
}

static inline void support_rules_metatable(lua_State *L)
{
    luaL_newmetatable(L, RULES_MT);
    lua_pushcfunction(L, l_rules_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

/* { kind, text, decoded, integer (decimal string), boolean } */
static inline void support_push_value(lua_State *L, const struct field_value *v)
{
    static const char *const kinds[] = { "absent", "null",   "bool", "integer",
                                         "number", "string", "other" };
    lua_createtable(L, 0, 4);
    lua_pushstring(L, kinds[v->kind]);
    lua_setfield(L, -2, "kind");
    if (v->kind == FIELD_ABSENT) return;
    lua_pushlstring(L, (const char *)v->text, v->len);
    lua_setfield(L, -2, "text");
    if (v->kind == FIELD_BOOL) {
        lua_pushboolean(L, v->boolean);
        lua_setfield(L, -2, "boolean");
    }
    if (v->kind == FIELD_INTEGER) {
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)v->integer);
        lua_pushstring(L, text);
        lua_setfield(L, -2, "integer");
    }
    if (v->kind == FIELD_STRING) {
        char *out = malloc(v->len + 1);
        if (!out) abort();
        long len = json_string_decode(v, out, v->len);
        lua_pushlstring(L, out, len < 0 ? 0 : (size_t)len);
        lua_setfield(L, -2, "decoded");
        free(out);
    }
}

/* By name; absent ones are left out. */
static inline void support_push_fields(lua_State *L, const struct frame_rules *r,
                                       const struct field_value *values)
{
    lua_createtable(L, 0, (int)r->field_count);
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (values[i].kind == FIELD_ABSENT) continue;
        support_push_value(L, &values[i]);
        lua_setfield(L, -2, r->fields[i].name);
    }
}

#endif
