/* modules: frame crypto base */
/* unit.frame_path: the frame path of a link, fed with real frames, and acknowledgement templates. */
#include "frame_support.h"

#include "frame/path.h"

#define PATH_MT "unit.frame.path"
#define DEFLATE_MT "unit.frame.deflate"

int luaopen_unit_frame_path(lua_State *L);

static enum inflate_mode check_mode(lua_State *L, int index)
{
    enum inflate_mode mode = INFLATE_NONE;
    if (lua_isstring(L, index) && !inflate_mode_parse(lua_tostring(L, index), &mode)) {
        luaL_argerror(L, index, "no such mode");
    }
    return mode;
}

/* path(rules, mode) -> path, or nil when refused. Keeps the rules alive. */
static int l_path(lua_State *L)
{
    struct frame_rules *r = luaL_checkudata(L, 1, RULES_MT);
    enum inflate_mode mode = check_mode(L, 2);
    struct frame_path *p = lua_newuserdata(L, sizeof *p);
    if (!path_init(p, r, mode)) {
        lua_pushnil(L);
        return 1;
    }
    luaL_getmetatable(L, PATH_MT);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    return 1;
}

static int l_path_gc(lua_State *L)
{
    path_deinit(luaL_checkudata(L, 1, PATH_MT));
    return 0;
}

static int l_path_set_rules(lua_State *L)
{
    struct frame_path *p = luaL_checkudata(L, 1, PATH_MT);
    path_set_rules(p, luaL_checkudata(L, 2, RULES_MT));
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, 1);
    return 0;
}

static void push_item(lua_State *L, const struct frame_path *p, const struct path_item *item)
{
    static const char *const kinds[] = { "more", "message", "ping", "pong", "close", "error" };
    static const char *const errors[] = { "none", "protocol", "too big", "utf8", "inflate", "memory" };
    lua_newtable(L);
    lua_pushstring(L, kinds[item->kind]);
    lua_setfield(L, -2, "kind");
    if (item->kind == PATH_MORE) return;
    if (item->kind == PATH_ERROR) {
        lua_pushstring(L, errors[item->error]);
        lua_setfield(L, -2, "error");
        lua_pushstring(L, ws_error_text(item->ws_error));
        lua_setfield(L, -2, "ws_error");
        lua_pushinteger(L, item->error_close_code);
        lua_setfield(L, -2, "code");
        return;
    }
    lua_pushlstring(L, item->len ? (const char *)item->data : "", item->len);
    lua_setfield(L, -2, "data");
    if (item->kind == PATH_MESSAGE) {
        lua_pushlstring(L, item->raw_len ? (const char *)item->raw : "", item->raw_len);
        lua_setfield(L, -2, "raw");
    }
    if (item->kind == PATH_CLOSE) {
        lua_pushinteger(L, item->close_code);
        lua_setfield(L, -2, "code");
    }
    if (item->kind != PATH_MESSAGE) return;
    const struct { const char *name; bool set; } flags[] = {
        { "text", item->text },       { "malformed", item->malformed },
        { "deliver", item->deliver }, { "inspect", item->inspect },
        { "beat_asked", item->beat_asked }, { "beat_answer", item->beat_answer },
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        lua_pushboolean(L, flags[i].set);
        lua_setfield(L, -2, flags[i].name);
    }
    lua_pushinteger(L, item->ends);
    lua_setfield(L, -2, "ends");
    support_push_fields(L, p->rules, item->fields);
    lua_setfield(L, -2, "fields");
}

/* p:now(ms): for parts that grow old */
static int l_path_now(lua_State *L)
{
    ((struct frame_path *)luaL_checkudata(L, 1, PATH_MT))->now_ms = (uint64_t)luaL_checknumber(L, 2);
    return 0;
}

/* p:refused() -> parts that made no sense */
static int l_path_refused(lua_State *L)
{
    lua_pushnumber(L, (double)((struct frame_path *)luaL_checkudata(L, 1, PATH_MT))->parts_refused);
    return 1;
}

/* p:next(bytes) -> item, consumed */
static int l_path_next(lua_State *L)
{
    struct frame_path *p = luaL_checkudata(L, 1, PATH_MT);
    size_t len, consumed = 0;
    const char *bytes = luaL_checklstring(L, 2, &len);
    uint8_t *data = support_copy(bytes, len);
    struct path_item item;
    memset(&item, 0xa5, sizeof item); /* what path_next() leaves alone is garbage */
    enum path_kind kind = path_next(p, data, len, &consumed, &item);
    if (kind != item.kind) luaL_error(L, "the kind returned is not the item's");
    push_item(L, p, &item);
    free(data);
    lua_pushnumber(L, (double)consumed);
    return 2;
}

/* p:take(text) -> "ok" | "malformed" | "too deep", fields */
static int l_path_take(lua_State *L)
{
    static const char *const results[] = { "ok", "malformed", "too deep" };
    struct frame_path *p = luaL_checkudata(L, 1, PATH_MT);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    uint8_t *data = support_copy(text, len);
    struct field_value values[FIELDS_MAX];
    memset(values, 0xa5, sizeof values);
    lua_pushstring(L, results[path_take(p, data, len, values)]);
    support_push_fields(L, p->rules, values);
    free(data);
    return 2;
}

static int l_path_bytes(lua_State *L)
{
    struct frame_path *p = luaL_checkudata(L, 1, PATH_MT);
    size_t bytes = sizeof *p + p->ws.carry.capacity;
    if (p->inflate) bytes += inflate_memory(p->inflate); /* without the library's context */
    lua_pushinteger(L, (lua_Integer)bytes);
    return 1;
}

static int push_buffer(lua_State *L, struct buffer *b, bool ok)
{
    if (ok) lua_pushlstring(L, b->len ? (const char *)b->data : "", b->len);
    else lua_pushnil(L);
    buffer_deinit(b);
    return 1;
}

/* frame(opcode, payload, fin) -> bytes, as a server sends them */
static int l_frame(lua_State *L)
{
    struct buffer out;
    size_t len;
    const char *payload = luaL_checklstring(L, 2, &len);
    buffer_init(&out, 0);
    bool fin = lua_isnoneornil(L, 3) || lua_toboolean(L, 3);
    bool ok = ws_encode(&out, (enum ws_opcode)luaL_checkinteger(L, 1), fin, payload, len, NULL);
    return push_buffer(L, &out, ok);
}

/* close_frame(code, reason) -> bytes */
static int l_close_frame(lua_State *L)
{
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = ws_encode_close(&out, (uint16_t)luaL_checkinteger(L, 1), luaL_checkstring(L, 2), NULL);
    return push_buffer(L, &out, ok);
}

static int l_deflate(lua_State *L)
{
    struct deflate **box = lua_newuserdata(L, sizeof *box);
    *box = deflate_create(check_mode(L, 1));
    luaL_getmetatable(L, DEFLATE_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_deflate_gc(lua_State *L)
{
    deflate_destroy(*(struct deflate **)luaL_checkudata(L, 1, DEFLATE_MT));
    return 0;
}

/* d:message(text) -> bytes */
static int l_deflate_message(lua_State *L)
{
    struct deflate *d = *(struct deflate **)luaL_checkudata(L, 1, DEFLATE_MT);
    struct buffer out;
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    buffer_init(&out, 0);
    return push_buffer(L, &out, deflate_message(d, text, len, &out));
}

/* ack(rules, template, message, room, before) -> before .. expansion, or nil and what `out` holds then */
static int l_ack(lua_State *L)
{
    struct frame_rules *r = luaL_checkudata(L, 1, RULES_MT);
    const char *template_text = luaL_checkstring(L, 2);
    size_t len;
    const char *text = luaL_checklstring(L, 3, &len);
    uint8_t *data = support_copy(text, len);
    struct field_value values[FIELDS_MAX];
    struct buffer out;
    json_scan(data, len, r->paths, values, NULL);
    buffer_init(&out, (size_t)luaL_optnumber(L, 4, 0));
    buffer_append_text(&out, luaL_optstring(L, 5, ""));
    bool ok = path_ack_expand(r, template_text, values, &out);
    free(data);
    if (!ok) lua_pushnil(L);
    lua_pushlstring(L, out.len ? (const char *)out.data : "", out.len);
    buffer_deinit(&out);
    return ok ? 1 : 2;
}

/* ack_check(rules, template) -> true, or false and the unknown name */
static int l_ack_check(lua_State *L)
{
    char bad[RULE_NAME_MAX];
    bool ok = path_ack_check(luaL_checkudata(L, 1, RULES_MT), luaL_checkstring(L, 2), bad);
    lua_pushboolean(L, ok);
    lua_pushstring(L, bad);
    return 2;
}

static void metatable(lua_State *L, const char *name, lua_CFunction gc, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    for (; methods->name; methods++) {
        lua_pushcfunction(L, methods->func);
        lua_setfield(L, -2, methods->name);
    }
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_unit_frame_path(lua_State *L)
{
    static const luaL_Reg path_methods[] = {
        { "now", l_path_now },     { "refused", l_path_refused },
        { "next", l_path_next },   { "set_rules", l_path_set_rules }, { "take", l_path_take },
        { "bytes", l_path_bytes }, { NULL, NULL },
    };
    static const luaL_Reg deflate_methods[] = { { "message", l_deflate_message }, { NULL, NULL } };
    static const luaL_Reg functions[] = {
        { "rules", l_rules },     { "path", l_path }, { "frame", l_frame },
        { "close_frame", l_close_frame }, { "deflate", l_deflate },
        { "ack", l_ack },         { "ack_check", l_ack_check }, { NULL, NULL },
    };
    support_rules_metatable(L);
    metatable(L, PATH_MT, l_path_gc, path_methods);
    metatable(L, DEFLATE_MT, l_deflate_gc, deflate_methods);
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    return 1;
}
