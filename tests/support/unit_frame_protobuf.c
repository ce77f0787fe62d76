/* modules: frame crypto base */
/* unit.frame_protobuf: protobuf and joins, as the specs see them.
 *
 * A layout is a list of { number, name, kind, required = true, key = 1, value = 2 }. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "frame/join.h"
#include "frame/protobuf.h"

#define JOIN_MT "unit.frame.join"

int luaopen_unit_frame_protobuf(lua_State *L);

static void check_layout(lua_State *L, int index, struct protobuf_layout *out)
{
    static const char *const words[] = {
#define X(name, text) text,
        PROTOBUF_KIND_MAP(X)
#undef X
            NULL
    };
    memset(out, 0, sizeof *out);
    luaL_checktype(L, index, LUA_TTABLE);
    out->count = (uint32_t)lua_objlen(L, index);
    for (uint32_t i = 0; i < out->count; i++) {
        struct protobuf_field *f = &out->fields[i];
        lua_rawgeti(L, index, (int)i + 1);
        int row = lua_gettop(L);
        lua_rawgeti(L, row, 1);
        lua_rawgeti(L, row, 2);
        lua_rawgeti(L, row, 3);
        f->number = (uint32_t)luaL_checkinteger(L, row + 1);
        strncpy(f->name, luaL_checkstring(L, row + 2), sizeof f->name - 1);
        f->kind = (enum protobuf_kind)luaL_checkoption(L, row + 3, NULL, words);
        lua_getfield(L, row, "required");
        f->required = lua_toboolean(L, -1);
        f->key = 1;
        f->value = 2;
        lua_settop(L, row - 1);
    }
}

/* A copy without a byte to spare, so that AddressSanitizer sees the first byte read beyond it. */
static uint8_t *copy_of(const char *data, size_t len)
{
    uint8_t *p = malloc(len ? len : 1);
    if (!p) abort();
    if (len) memcpy(p, data, len);
    return p;
}

static int push_result(lua_State *L, enum protobuf_result result, struct buffer *out, const char *why)
{
    static const char *const results[] = { "ok", "malformed", "too big" };
    if (result == PROTOBUF_OK) lua_pushlstring(L, out->len ? (const char *)out->data : "", out->len);
    else lua_pushnil(L);
    lua_pushstring(L, results[result]);
    lua_pushstring(L, why);
    lua_pushinteger(L, (lua_Integer)out->len);
    buffer_deinit(out);
    return 4;
}

/* to_json(layout, bytes, room) -> text or nil, result, nil, bytes in `out` */
static int l_to_json(lua_State *L)
{
    struct protobuf_layout layout;
    struct buffer out;
    size_t len;
    check_layout(L, 1, &layout);
    const char *bytes = luaL_checklstring(L, 2, &len);
    uint8_t *data = copy_of(bytes, len);
    buffer_init(&out, (size_t)luaL_optinteger(L, 3, 0));
    enum protobuf_result result = protobuf_to_json(&layout, data, len, &out);
    free(data);
    return push_result(L, result, &out, NULL);
}

/* from_json(layout, text, room) -> bytes or nil, result, why, bytes in `out` */
static int l_from_json(lua_State *L)
{
    struct protobuf_layout layout;
    struct buffer out;
    const char *why = NULL;
    size_t len;
    check_layout(L, 1, &layout);
    const char *text = luaL_checklstring(L, 2, &len);
    uint8_t *data = copy_of(text, len);
    buffer_init(&out, (size_t)luaL_optinteger(L, 3, 0));
    enum protobuf_result result = protobuf_from_json(&layout, data, len, &out, &why);
    free(data);
    return push_result(L, result, &out, why);
}

/* echo(bytes, { { number, "replace" | "append", bytes }, ... }, room) */
static int l_echo(lua_State *L)
{
    static const char *const kinds[] = { "replace", "append", NULL };
    struct protobuf_change changes[PROTOBUF_FIELDS_MAX];
    struct buffer out;
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    uint32_t count = (uint32_t)lua_objlen(L, 2);
    for (uint32_t i = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        for (int k = 1; k <= 3; k++) lua_rawgeti(L, -k, k); /* each on top of the row */
        changes[i].number = (uint32_t)luaL_checkinteger(L, -3);
        changes[i].kind = (enum protobuf_change_kind)luaL_checkoption(L, -2, NULL, kinds);
        changes[i].bytes = (const uint8_t *)luaL_checklstring(L, -1, &changes[i].len);
        lua_pop(L, 4); /* the strings live in the argument */
    }
    uint8_t *data = copy_of(bytes, len);
    buffer_init(&out, (size_t)luaL_optinteger(L, 3, 0));
    enum protobuf_result result = protobuf_echo(data, len, changes, count, &out);
    free(data);
    return push_result(L, result, &out, NULL);
}

/* bytes(message, number) -> content or nil */
static int l_bytes(lua_State *L)
{
    size_t len, n = 0;
    const uint8_t *found = NULL;
    const char *bytes = luaL_checklstring(L, 1, &len);
    uint8_t *data = copy_of(bytes, len);
    if (protobuf_bytes(data, len, (uint32_t)luaL_checkinteger(L, 2), &found, &n)) {
        lua_pushlstring(L, n ? (const char *)found : "", n);
    } else {
        lua_pushnil(L);
    }
    free(data);
    return 1;
}

/* field(number, content) and pair(number, key, value) -> bytes */
static int l_field(lua_State *L)
{
    struct buffer out;
    size_t len, value_len;
    buffer_init(&out, 0);
    const char *text = luaL_checklstring(L, 2, &len);
    struct protobuf_field map = { .number = (uint32_t)luaL_checkinteger(L, 1),
                                  .kind = PROTOBUF_MAP, .key = 1, .value = 2 };
    if (lua_isnoneornil(L, 3)) {
        protobuf_put_bytes(&out, map.number, text, len);
    } else {
        const char *value = luaL_checklstring(L, 3, &value_len);
        protobuf_put_pair(&out, &map, text, len, value, value_len);
    }
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

struct join_box {
    struct join *join;
    struct join_limits limits;
};

/* join(within_ms, parts, bytes) */
static int l_join(lua_State *L)
{
    struct join_box *box = lua_newuserdata(L, sizeof *box);
    box->limits = (struct join_limits){ (uint64_t)luaL_checknumber(L, 1),
                                        (uint32_t)luaL_checknumber(L, 2),
                                        (uint64_t)luaL_checknumber(L, 3) };
    box->join = join_create();
    luaL_getmetatable(L, JOIN_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_join_gc(lua_State *L)
{
    join_destroy(((struct join_box *)luaL_checkudata(L, 1, JOIN_MT))->join);
    return 0;
}

/* j:add(key, index, count, part, now_ms) -> "held" | "refused", or "complete" and the whole */
static int l_join_add(lua_State *L)
{
    static const char *const results[] = { "held", "complete", "refused" };
    struct join_box *box = luaL_checkudata(L, 1, JOIN_MT);
    struct join_part part;
    const uint8_t *whole = NULL;
    size_t whole_len = 0;
    part.key = luaL_checklstring(L, 2, &part.key_len);
    part.index = (int64_t)luaL_checknumber(L, 3);
    part.count = (int64_t)luaL_checknumber(L, 4);
    uint8_t *bytes = copy_of(luaL_checklstring(L, 5, &part.len), lua_objlen(L, 5));
    part.bytes = bytes;
    enum join_result result = join_add(box->join, &box->limits, &part, (uint64_t)luaL_checknumber(L, 6),
                                       &whole, &whole_len);
    free(bytes);
    lua_pushstring(L, results[result]);
    if (result != JOIN_COMPLETE) return 1;
    lua_pushlstring(L, whole_len ? (const char *)whole : "", whole_len);
    return 2;
}

static int l_join_expire(lua_State *L)
{
    struct join_box *box = luaL_checkudata(L, 1, JOIN_MT);
    join_expire(box->join, &box->limits, (uint64_t)luaL_checknumber(L, 2));
    return 0;
}

static int l_join_counts(lua_State *L)
{
    struct join_box *box = luaL_checkudata(L, 1, JOIN_MT);
    struct join_counts c = join_counts(box->join);
    const struct { const char *name; double n; } numbers[] = {
        { "messages", c.messages },       { "bytes", (double)c.bytes },
        { "refused", (double)c.refused }, { "expired", (double)c.expired },
        { "displaced", (double)c.displaced },
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        lua_pushnumber(L, numbers[i].n);
        lua_setfield(L, -2, numbers[i].name);
    }
    return 1;
}

int luaopen_unit_frame_protobuf(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "to_json", l_to_json }, { "from_json", l_from_json }, { "echo", l_echo }, { "bytes", l_bytes },
        { "field", l_field },     { "pair", l_field },          { "join", l_join }, { NULL, NULL },
    };
    static const luaL_Reg join_methods[] = {
        { "add", l_join_add }, { "expire", l_join_expire }, { "counts", l_join_counts }, { NULL, NULL },
    };
    luaL_newmetatable(L, JOIN_MT);
    lua_pushcfunction(L, l_join_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, join_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
