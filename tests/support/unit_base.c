/* modules: base */
/* base/ as a Lua module: slots, buffers, draws, durations, texts, values. */
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "base/buffer.h"
#include "base/duration.h"
#include "base/rng.h"
#include "base/slots.h"
#include "base/spare.h"
#include "base/text.h"
#include "base/value.h"

#define SLOTS_MT "unit.base.slots"
#define BUFFER_MT "unit.base.buffer"
#define SPARE_MT "unit.base.spare"
#define SPARE_PLACES 256

int luaopen_unit_base(lua_State *L);

/* --- durations and texts --- */

static int l_duration(lua_State *L)
{
    size_t len;
    uint64_t ms;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!duration_parse(text, len, &ms)) return 0;
    lua_pushnumber(L, (double)ms);
    return 1;
}

static int l_size(lua_State *L)
{
    size_t len;
    uint64_t bytes;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!size_parse(text, len, &bytes)) return 0;
    lua_pushnumber(L, (double)bytes);
    return 1;
}

static int l_duration_format(lua_State *L)
{
    char out[DURATION_TEXT_MAX];
    lua_pushstring(L, duration_format((uint64_t)luaL_checknumber(L, 1), out));
    return 1;
}

static int l_timestamp(lua_State *L)
{
    char out[TIMESTAMP_TEXT_MAX];
    lua_pushstring(L, timestamp_format((uint64_t)luaL_checknumber(L, 1), out));
    return 1;
}

static int l_nearest(lua_State *L)
{
    const char *names[32];
    int count = (int)lua_objlen(L, 2);
    luaL_argcheck(L, count <= 32, 2, "at most 32 names");
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        names[i] = lua_tostring(L, -1); /* stays alive in the table */
        lua_pop(L, 1);
    }
    lua_pushstring(L, text_nearest(luaL_checkstring(L, 1), names, (size_t)count));
    return 1;
}

static int l_glob(lua_State *L)
{
    lua_pushboolean(L, text_glob(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
    return 1;
}

static int l_utf8(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, text_is_utf8(text, len));
    return 1;
}

static int l_cut(lua_State *L)
{
    size_t len;
    char out[256];
    const char *text = luaL_checklstring(L, 1, &len);
    size_t room = (size_t)luaL_checkinteger(L, 2);
    luaL_argcheck(L, room > 0 && room <= sizeof out, 2, "1 to 256");
    lua_pushlstring(L, out, text_copy(out, room, text, len));
    return 1;
}

static int push_filled(lua_State *L, bool (*fill)(struct buffer *, const void *, size_t))
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buffer b;
    buffer_init(&b, (size_t)luaL_optnumber(L, 2, 0));
    bool ok = fill(&b, text, len);
    if (ok) lua_pushlstring(L, (char *)b.data, b.len);
    if (!ok) lua_pushnil(L);
    buffer_deinit(&b);
    return 1;
}

static int l_json_string(lua_State *L)
{
    return push_filled(L, text_json_string);
}

static int l_printable(lua_State *L)
{
    return push_filled(L, text_printable);
}

/* --- draws --- */

static int l_draw(lua_State *L)
{
    uint64_t d = rng_draw((uint64_t)luaL_checknumber(L, 1), (uint64_t)luaL_checknumber(L, 2),
                          (uint64_t)luaL_checknumber(L, 3), (uint64_t)luaL_checknumber(L, 4));
    lua_pushnumber(L, rng_unit(d));
    lua_pushnumber(L, (double)rng_range(d, 10, 19));
    return 2;
}

/* --- slots: each item holds one number --- */

static int l_slots(lua_State *L)
{
    uint32_t count_max = (uint32_t)luaL_checkinteger(L, 1);
    struct slots *s = lua_newuserdata(L, sizeof *s);
    slots_init(s, sizeof(double), count_max);
    luaL_getmetatable(L, SLOTS_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_slots_alloc(lua_State *L)
{
    struct slots *s = luaL_checkudata(L, 1, SLOTS_MT);
    struct handle h;
    double *item = slots_alloc(s, &h);
    if (!item) return 0;
    *item = luaL_checknumber(L, 2);
    lua_pushnumber(L, (double)handle_pack(h));
    return 1;
}

static int l_slots_get(lua_State *L)
{
    struct slots *s = luaL_checkudata(L, 1, SLOTS_MT);
    double *item = slots_get(s, handle_unpack((uint64_t)luaL_checknumber(L, 2)));
    if (!item) return 0;
    lua_pushnumber(L, *item);
    return 1;
}

static int l_slots_free(lua_State *L)
{
    struct slots *s = luaL_checkudata(L, 1, SLOTS_MT);
    slots_free(s, handle_unpack((uint64_t)luaL_checknumber(L, 2)));
    return 0;
}

static int l_slots_list(lua_State *L)
{
    struct slots *s = luaL_checkudata(L, 1, SLOTS_MT);
    struct handle h;
    double *item;
    int n = 0;
    lua_newtable(L);
    for (uint32_t i = 0; (item = slots_next(s, &i, &h)); i++) {
        lua_pushnumber(L, *item);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int l_slots_gc(lua_State *L)
{
    slots_deinit(luaL_checkudata(L, 1, SLOTS_MT));
    return 0;
}

/* --- buffers --- */

static int l_buffer(lua_State *L)
{
    size_t bytes_max = (size_t)luaL_optnumber(L, 1, 0);
    struct buffer *b = lua_newuserdata(L, sizeof *b);
    buffer_init(b, bytes_max);
    luaL_getmetatable(L, BUFFER_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_buffer_append(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    lua_pushboolean(L, buffer_append(luaL_checkudata(L, 1, BUFFER_MT), text, len));
    return 1;
}

static int l_buffer_consume(lua_State *L)
{
    buffer_consume(luaL_checkudata(L, 1, BUFFER_MT), (size_t)luaL_checknumber(L, 2));
    return 0;
}

static int l_buffer_text(lua_State *L)
{
    struct buffer *b = luaL_checkudata(L, 1, BUFFER_MT);
    lua_pushlstring(L, b->data ? (char *)b->data : "", b->len);
    lua_pushnumber(L, (double)b->capacity);
    return 2;
}

static int l_buffer_trim(lua_State *L)
{
    buffer_trim(luaL_checkudata(L, 1, BUFFER_MT), (size_t)luaL_checknumber(L, 2));
    return 0;
}

static int l_buffer_gc(lua_State *L)
{
    buffer_deinit(luaL_checkudata(L, 1, BUFFER_MT));
    return 0;
}

/* --- values: built from Lua tables; ["secret:NAME"] = text makes a secret called NAME --- */

static struct value value_of(lua_State *L, int index)
{
    if (lua_isboolean(L, index)) return value_bool(lua_toboolean(L, index));
    if (lua_type(L, index) == LUA_TNUMBER) return value_number(lua_tonumber(L, index));
    if (lua_isstring(L, index)) {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        return value_bytes(text, len);
    }
    if (!lua_istable(L, index)) return value_nil();
    struct value v = value_table();
    int n = (int)lua_objlen(L, index);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, index, i);
        value_append(&v, value_of(L, lua_gettop(L)));
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            const char *key = lua_tostring(L, -2);
            if (strncmp(key, "secret:", 7) == 0) {
                struct secret *s = secret_create(key + 7, lua_tostring(L, -1), lua_objlen(L, -1));
                value_set(&v, key + 7, value_secret(s));
                secret_unref(s);
            } else {
                value_set(&v, key, value_of(L, lua_gettop(L)));
            }
        }
        lua_pop(L, 1);
    }
    return v;
}

static int l_value_json(lua_State *L)
{
    struct value v = value_of(L, 1), copy = value_copy(&v);
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = value_equal(&v, &copy);
    value_clear(&v);
    ok = ok && (lua_toboolean(L, 2) ? value_to_json_pretty(&copy, &out) : value_to_json(&copy, &out));
    value_clear(&copy);
    if (ok) lua_pushlstring(L, (char *)out.data, out.len);
    if (!ok) lua_pushnil(L);
    buffer_deinit(&out);
    return 1;
}

static int l_value_equal(lua_State *L)
{
    struct value a = value_of(L, 1), b = value_of(L, 2);
    lua_pushboolean(L, value_equal(&a, &b));
    value_clear(&a);
    value_clear(&b);
    return 1;
}

/* What it becomes when it is packed, the original gone; as JSON. */
static int l_value_packed(lua_State *L)
{
    struct value v = value_of(L, 1), packed = value_pack(&v), again = value_pack(&packed), loose = value_copy(&packed);
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = value_equal(&v, &packed) && value_equal(&packed, &v);
    value_clear(&v);
    ok = ok && value_equal(&packed, &again) && value_equal(&again, &loose);
    value_clear(&again);
    if (loose.kind == VALUE_TABLE) value_set(&loose, "more", value_bool(true)); /* a copy is like any other */
    value_clear(&loose);
    ok = ok && value_to_json(&packed, &out);
    value_clear(&packed);
    if (ok) lua_pushlstring(L, (char *)out.data, out.len);
    if (!ok) lua_pushnil(L);
    buffer_deinit(&out);
    return 1;
}

static int l_duration_span(lua_State *L)
{
    char text[DURATION_TEXT_MAX];
    lua_pushstring(L, duration_span(lua_isnil(L, 1) ? UINT64_MAX : (uint64_t)luaL_checknumber(L, 1), text));
    return 1;
}

static int l_value_set(lua_State *L)
{
    struct value v = value_of(L, 1);
    struct buffer out;
    buffer_init(&out, 0);
    value_set(&v, luaL_checkstring(L, 2), value_of(L, 3));
    value_to_json(&v, &out);
    lua_pushlstring(L, (char *)out.data, out.len);
    buffer_deinit(&out);
    value_clear(&v);
    return 1;
}

static int l_fingerprint(lua_State *L)
{
    struct secret *a = secret_create("a", lua_tostring(L, 1), lua_objlen(L, 1));
    struct secret *b = secret_create("b", lua_tostring(L, 2), lua_objlen(L, 2));
    lua_pushboolean(L, secret_fingerprint(a) == secret_fingerprint(b));
    secret_unref(a);
    secret_unref(b);
    return 1;
}

/* --- spare --- */

struct unit_spare {
    struct spare spare;
    unsigned char *at[SPARE_PLACES];
    size_t bytes[SPARE_PLACES];
};

static int l_spare(lua_State *L)
{
    struct unit_spare *u = lua_newuserdata(L, sizeof *u);
    memset(u, 0, sizeof *u);
    luaL_getmetatable(L, SPARE_MT);
    lua_setmetatable(L, -2);
    return 1;
}

/* put(place, bytes): the block of a place gets this size (0: it is given back); true when what was in it still is.
 * Each is filled with the number of its place. */
static int l_spare_put(lua_State *L)
{
    struct unit_spare *u = luaL_checkudata(L, 1, SPARE_MT);
    const lua_Integer place = luaL_checkinteger(L, 2), wanted = luaL_checkinteger(L, 3);
    luaL_argcheck(L, place >= 0 && place < SPARE_PLACES && wanted >= 0, 2, "a place, and a size");
    unsigned char **at = &u->at[place];
    const size_t old = u->bytes[place], bytes = (size_t)wanted;
    bool same = true;
    if (bytes) {
        unsigned char *moved = spare_resize(&u->spare, *at, old, bytes);
        if (!moved) return luaL_error(L, "memory is out");
        *at = moved;
    }
    for (size_t i = 0; i < (bytes && bytes < old ? bytes : old); i++) same = same && (*at)[i] == (unsigned char)place;
    if (bytes) memset(*at, (int)place, bytes);
    else spare_give(&u->spare, *at, old);
    if (!bytes) *at = NULL;
    u->bytes[place] = bytes;
    lua_pushboolean(L, same);
    return 1;
}

/* kept(bytes): how many of this size are kept */
static int l_spare_kept(lua_State *L)
{
    struct unit_spare *u = luaL_checkudata(L, 1, SPARE_MT);
    lua_pushinteger(L, u->spare.count[(luaL_checkinteger(L, 2) - 1) / SPARE_STEP % SPARE_SIZES]);
    return 1;
}

static int l_spare_gc(lua_State *L)
{
    struct unit_spare *u = luaL_checkudata(L, 1, SPARE_MT);
    for (size_t i = 0; i < SPARE_PLACES; i++)
        if (u->at[i]) spare_give(&u->spare, u->at[i], u->bytes[i]);
    spare_deinit(&u->spare);
    return 0;
}

static const luaL_Reg functions[] = {
    { "duration", l_duration },       { "size", l_size },
    { "duration_format", l_duration_format }, { "timestamp", l_timestamp },
    { "nearest", l_nearest },         { "glob", l_glob },
    { "is_utf8", l_utf8 },            { "cut", l_cut },
    { "json_string", l_json_string }, { "printable", l_printable },
    { "draw", l_draw },               { "slots", l_slots },
    { "buffer", l_buffer },           { "value_json", l_value_json },
    { "value_equal", l_value_equal }, { "value_set", l_value_set },
    { "same_fingerprint", l_fingerprint }, { "value_packed", l_value_packed },
    { "duration_span", l_duration_span }, { "spare", l_spare },
    { NULL, NULL },
};

static void class_make(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_unit_base(lua_State *L)
{
    static const luaL_Reg slots_methods[] = { { "alloc", l_slots_alloc }, { "get", l_slots_get },
                                              { "free", l_slots_free },   { "list", l_slots_list },
                                              { NULL, NULL } };
    static const luaL_Reg buffer_methods[] = { { "append", l_buffer_append },
                                               { "consume", l_buffer_consume },
                                               { "text", l_buffer_text },
                                               { "trim", l_buffer_trim },
                                               { NULL, NULL } };
    class_make(L, SLOTS_MT, slots_methods, l_slots_gc);
    static const luaL_Reg spare_methods[] = { { "put", l_spare_put }, { "kept", l_spare_kept }, { NULL, NULL } };
    class_make(L, BUFFER_MT, buffer_methods, l_buffer_gc);
    class_make(L, SPARE_MT, spare_methods, l_spare_gc);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
