/* modules: frame crypto base */
/* unit.frame_json: the scanner, rules and seen keys, as the specs see them. */
#include "frame_support.h"

#include "frame/dedupe.h"
#include "frame/siphash.h"
#include "json_ways.h"

#define DEDUPE_MT "unit.frame.dedupe"

int luaopen_unit_frame_json(lua_State *L);

/* All specs of the scanner are specs of each way through a text. */
static void ways_must_agree(lua_State *L, const char *text, size_t len, const struct json_paths *paths)
{
    const char *wrong = json_ways_differ(text, len, paths);
    if (wrong) luaL_error(L, "two ways differ in %s: %s", wrong, text);
}

/* ways() -> how many there are here, the careful one included */
static int l_ways(lua_State *L)
{
    int count = 0;
    for (enum json_way way = 0; way < JSON_WAYS; way++) count += json__way_is_here(way);
    lua_pushinteger(L, count);
    return 1;
}

/* quick(text) -> how many of the others take it without the careful one's help */
static int l_quick(lua_State *L)
{
    int count = 0;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
#ifdef JSON_INDEX
    for (enum json_way way = 1; way < JSON_WAYS; way++) {
        bool controls;
        uint8_t *data = support_copy(text, len);
        if (json__way_is_here(way)) count += json__quick(way, data, len, false, NULL, NULL, &controls);
        free(data);
    }
#else
    (void)text;
#endif
    lua_pushinteger(L, count);
    return 1;
}

/* scan(rules, text) -> "ok" | "malformed" | "too deep", fields by name, text afterwards, fault */
static int l_scan(lua_State *L)
{
    static const char *const results[] = { "ok", "malformed", "too deep" };
    struct frame_rules *r = luaL_checkudata(L, 1, RULES_MT);
    size_t len, fault = 0;
    const char *text = luaL_checklstring(L, 2, &len);
    ways_must_agree(L, text, len, r->paths);
    uint8_t *data = support_copy(text, len);
    struct field_value values[FIELDS_MAX];
    enum json_result result = json_scan(data, len, r->paths, values, &fault);
    lua_pushstring(L, results[result]);
    support_push_fields(L, r, values);
    lua_pushlstring(L, (const char *)data, len);
    lua_pushnumber(L, (double)fault);
    free(data);
    return 4;
}

/* check(text) -> boolean: without any path */
static int l_check(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    ways_must_agree(L, text, len, NULL);
    uint8_t *data = support_copy(text, len);
    lua_pushboolean(L, json_scan(data, len, NULL, NULL, NULL) == JSON_OK);
    free(data);
    return 1;
}

static struct field_value string_value(const char *text, size_t len)
{
    return (struct field_value){ .kind = FIELD_STRING, .text = (const uint8_t *)text, .len = len,
                                 .escaped = len && memchr(text, '\\', len) };
}

/* equal(between the quotes, decoded) -> boolean */
static int l_equal(lua_State *L)
{
    size_t len, want_len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *want = luaL_checklstring(L, 2, &want_len);
    struct field_value v = string_value(text, len);
    lua_pushboolean(L, json_string_equal(&v, want, want_len));
    return 1;
}

/* decode(between the quotes, room) -> text, or nil when there is too little room */
static int l_decode(lua_State *L)
{
    size_t len, room = (size_t)luaL_checkinteger(L, 2);
    const char *text = luaL_checklstring(L, 1, &len);
    struct field_value v = string_value(text, len);
    char *out = malloc(room ? room : 1);
    if (!out) abort();
    long n = json_string_decode(&v, out, room);
    if (n < 0) lua_pushnil(L);
    else lua_pushlstring(L, out, (size_t)n);
    free(out);
    return 1;
}

/* match(rules, text) -> { deliver =, inspect =, beat_asked =, beat_answer =, accept =, start =, ends =, ack = } */
static int l_match(lua_State *L)
{
    struct frame_rules *r = luaL_checkudata(L, 1, RULES_MT);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    uint8_t *data = support_copy(text, len);
    struct field_value v[FIELDS_MAX];
    if (json_scan(data, len, r->paths, v, NULL) != JSON_OK) luaL_error(L, "not JSON: %s", text);
    const struct { const char *name; const struct frame_matchers *list; } lists[] = {
        { "deliver", &r->deliver },       { "inspect", &r->inspect }, { "beat_asked", &r->beat_asked },
        { "beat_answer", &r->beat_answer }, { "accept", &r->accept }, { "start", &r->start },
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        lua_pushboolean(L, frame_match_any(lists[i].list, v));
        lua_setfield(L, -2, lists[i].name);
    }
    lua_pushinteger(L, frame_rules_ends(r, v));
    lua_setfield(L, -2, "ends");
    const struct ack_rule *ack = frame_rules_ack(r, v);
    if (ack) lua_pushinteger(L, (int)(ack - r->acks)), lua_setfield(L, -2, "ack");
    free(data);
    return 1;
}

static int l_path_is_valid(lua_State *L)
{
    lua_pushboolean(L, json_path_is_valid(luaL_checkstring(L, 1)));
    return 1;
}

/* dedupe(most, over_ms, seed) */
static int l_dedupe(lua_State *L)
{
    uint32_t most = (uint32_t)luaL_checknumber(L, 1);
    uint64_t over_ms = (uint64_t)luaL_checknumber(L, 2), seed = (uint64_t)luaL_checknumber(L, 3);
    struct dedupe **box = lua_newuserdata(L, sizeof *box);
    *box = dedupe_create(most, over_ms, seed);
    luaL_getmetatable(L, DEDUPE_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static struct dedupe *check_dedupe(lua_State *L)
{
    return *(struct dedupe **)luaL_checkudata(L, 1, DEDUPE_MT);
}

static int l_dedupe_gc(lua_State *L)
{
    dedupe_destroy(check_dedupe(L));
    return 0;
}

/* d:key(rules, text) -> 16 bytes, or nil */
static int l_dedupe_key(lua_State *L)
{
    struct dedupe *d = check_dedupe(L);
    struct frame_rules *r = luaL_checkudata(L, 2, RULES_MT);
    size_t len;
    const char *text = luaL_checklstring(L, 3, &len);
    uint8_t *data = support_copy(text, len);
    struct field_value v[FIELDS_MAX];
    struct dedupe_key key;
    json_scan(data, len, r->paths, v, NULL);
    if (dedupe_key_of(d, r, v, &key)) lua_pushlstring(L, (const char *)&key, sizeof key);
    else lua_pushnil(L);
    free(data);
    return 1;
}

static struct dedupe_key check_key(lua_State *L, int index)
{
    struct dedupe_key key = { 0, 0 };
    size_t len;
    const char *text;
    if (lua_type(L, index) == LUA_TNUMBER) { /* a made-up key: equal low halves collide in the table */
        key.high = (uint64_t)lua_tonumber(L, index);
        key.low = key.high % 7;
        return key;
    }
    text = luaL_checklstring(L, index, &len);
    luaL_argcheck(L, len == sizeof key, index, "a key has 16 bytes");
    memcpy(&key, text, sizeof key);
    return key;
}

/* d:seen(key, now_ms) -> offset or nil */
static int l_dedupe_seen(lua_State *L)
{
    uint64_t offset;
    if (dedupe_seen(check_dedupe(L), check_key(L, 2), (uint64_t)luaL_checknumber(L, 3), &offset)) {
        lua_pushnumber(L, (double)offset);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

/* d:add(key, now_ms, offset) */
static int l_dedupe_add(lua_State *L)
{
    dedupe_add(check_dedupe(L), check_key(L, 2), (uint64_t)luaL_checknumber(L, 3),
               (uint64_t)luaL_checknumber(L, 4));
    return 0;
}

static int l_dedupe_count(lua_State *L)
{
    lua_pushnumber(L, dedupe_count(check_dedupe(L)));
    return 1;
}

/* siphash(piece...) -> hex of the reference's order of bytes, under the key 00 01 .. 0f */
static int l_siphash(lua_State *L)
{
    struct siphash h;
    uint64_t out[2];
    char hex[33];
    siphash_start(&h, 0x0706050403020100u, 0x0f0e0d0c0b0a0908u);
    for (int i = 1; i <= lua_gettop(L); i++) {
        size_t len;
        const char *piece = luaL_checklstring(L, i, &len);
        siphash_feed(&h, piece, len);
    }
    siphash_end(&h, &out[0], &out[1]);
    for (int i = 0; i < 16; i++) {
        snprintf(hex + 2 * i, 3, "%02x", (unsigned)(out[i / 8] >> (8 * (i % 8)) & 0xff));
    }
    lua_pushstring(L, hex);
    return 1;
}

int luaopen_unit_frame_json(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "rules", l_rules },     { "scan", l_scan },       { "check", l_check }, { "ways", l_ways }, { "quick", l_quick },
        { "equal", l_equal },     { "decode", l_decode },   { "match", l_match },
        { "dedupe", l_dedupe },   { "siphash", l_siphash }, { "path_is_valid", l_path_is_valid },
        { NULL, NULL },
    };
    static const luaL_Reg dedupe_methods[] = {
        { "key", l_dedupe_key },     { "seen", l_dedupe_seen }, { "add", l_dedupe_add },
        { "count", l_dedupe_count }, { NULL, NULL },
    };
    support_rules_metatable(L);
    luaL_newmetatable(L, DEDUPE_MT);
    lua_pushcfunction(L, l_dedupe_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    for (const luaL_Reg *m = dedupe_methods; m->name; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    return 1;
}
