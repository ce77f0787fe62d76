/* modules: frame crypto base */
/* unit.frame_wkproto: WKProto, either end, as the specs see it. Bytes are Lua strings. */
#include "frame_support.h"

#include "frame/wkproto.h"

#define END_MT "unit.frame.wkproto"

int luaopen_unit_frame_wkproto(lua_State *L);

static struct wkproto *check_end(lua_State *L)
{
    return luaL_checkudata(L, 1, END_MT);
}

/* open("client" | "server", { seed =, salt =, latest =, plain = }) */
static int l_open(lua_State *L)
{
    size_t len;
    bool server = strcmp(luaL_checkstring(L, 1), "server") == 0;
    luaL_checktype(L, 2, LUA_TTABLE);
    struct wkproto *w = lua_newuserdata(L, sizeof *w);
    wkproto_init(w, server ? WK_SERVER : WK_CLIENT);
    luaL_getmetatable(L, END_MT);
    lua_setmetatable(L, -2);
    lua_getfield(L, 2, "seed");
    const char *seed = lua_tolstring(L, -1, &len);
    if (seed && len == WK_SEED_BYTES) wkproto_seed(w, (const uint8_t *)seed);
    lua_getfield(L, 2, "salt");
    if (lua_isstring(L, -1)) snprintf(w->server.salt, sizeof w->server.salt, "%s", lua_tostring(L, -1));
    w->server.latest = (uint8_t)support_number(L, 2, "latest", 6);
    w->server.plain = support_flag(L, 2, "plain");
    lua_settop(L, 3);
    return 1;
}

static int l_gc(lua_State *L)
{
    wkproto_deinit(check_end(L));
    return 0;
}

/* end:feed(bytes, most) -> boolean. A copy without a byte to spare is what it sees. */
static int l_feed(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    uint8_t *copy = support_copy(bytes, len);
    lua_pushboolean(L, wkproto_feed(check_end(L), copy, len, (size_t)luaL_optnumber(L, 3, 1 << 26)));
    free(copy);
    return 1;
}

/* end:next() -> "packet", json, raw | "more" | "bad", why */
static int l_next(lua_State *L)
{
    struct codec_item item;
    switch (wkproto_next(check_end(L), &item)) {
    case CODEC_MORE: lua_pushliteral(L, "more"); return 1;
    case CODEC_BAD:
        lua_pushliteral(L, "bad");
        lua_pushstring(L, item.why);
        return 2;
    case CODEC_PACKET: break;
    }
    lua_pushliteral(L, "packet");
    lua_pushlstring(L, (const char *)item.json, item.json_len);
    lua_pushlstring(L, (const char *)item.raw, item.raw_len);
    return 3;
}

static int push_encoded(lua_State *L, struct wkproto *w, int index)
{
    size_t len;
    char why[160];
    struct buffer out;
    const char *json = luaL_checklstring(L, index, &len);
    uint8_t *copy = support_copy(json, len);
    buffer_init(&out, 0);
    buffer_append_text(&out, "before");
    bool ok = wkproto_encode(w, copy, len, &out, why, sizeof why);
    free(copy);
    if (ok) {
        lua_pushlstring(L, (const char *)out.data + 6, out.len - 6);
    } else {
        lua_pushnil(L);
        lua_pushstring(L, out.len == 6 ? why : "something was appended");
    }
    buffer_deinit(&out);
    return ok ? 1 : 2;
}

/* end:encode(json) -> bytes, or nil, why */
static int l_encode(lua_State *L)
{
    return push_encoded(L, check_end(L), 2);
}

/* check(json) -> bytes, or nil, why: without a link */
static int l_check(lua_State *L)
{
    return push_encoded(L, NULL, 1);
}

/* end:state() -> { stage =, version =, packets =, faults =, keys =, secret = "still there" or nil } */
static int l_state(lua_State *L)
{
    static const char *const stages[] = { "new", "connecting", "open", "over" };
    struct wkproto *w = check_end(L);
    bool secret = false;
    for (size_t i = 0; i < sizeof w->seed; i++) secret = secret || w->seed[i];
    lua_newtable(L);
    lua_pushstring(L, stages[w->stage]);
    lua_setfield(L, -2, "stage");
    lua_pushinteger(L, w->version);
    lua_setfield(L, -2, "version");
    lua_pushnumber(L, (double)w->packets);
    lua_setfield(L, -2, "packets");
    lua_pushnumber(L, (double)w->faults);
    lua_setfield(L, -2, "faults");
    lua_pushboolean(L, w->keys != NULL);
    lua_setfield(L, -2, "keys");
    lua_pushboolean(L, secret);
    lua_setfield(L, -2, "secret");
    lua_pushnumber(L, (double)(w->in.capacity + w->json.capacity + w->work.capacity));
    lua_setfield(L, -2, "bytes");
    return 1;
}

/* split(bytes) -> "whole", type, flags, size | "half" | "broken", why */
static int l_split(lua_State *L)
{
    size_t len;
    struct wk_head head;
    const char *why = "";
    const char *bytes = luaL_checklstring(L, 1, &len);
    uint8_t *copy = support_copy(bytes, len);
    enum wk_split split = wk_split(copy, len, &head, &why);
    free(copy);
    lua_pushstring(L, split == WK_SPLIT_WHOLE ? "whole" : split == WK_SPLIT_HALF ? "half" : "broken");
    if (split == WK_SPLIT_HALF) return 1;
    if (split == WK_SPLIT_BROKEN) {
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushinteger(L, head.type);
    lua_pushinteger(L, head.flags);
    lua_pushnumber(L, (double)head.size);
    return 4;
}

static int l_public_key(lua_State *L)
{
    size_t len;
    char text[WK_KEY_TEXT_BYTES + 1];
    const char *seed = luaL_checklstring(L, 1, &len);
    luaL_argcheck(L, len == WK_SEED_BYTES, 1, "32 bytes expected");
    if (!wk_public_key((const uint8_t *)seed, text)) return 0;
    lua_pushstring(L, text);
    return 1;
}

int luaopen_unit_frame_wkproto(lua_State *L)
{
    static const luaL_Reg functions[] = { { "open", l_open }, { "check", l_check }, { "split", l_split },
                                          { "public_key", l_public_key }, { NULL, NULL } };
    static const luaL_Reg methods[] = { { "feed", l_feed }, { "next", l_next }, { "encode", l_encode },
                                        { "state", l_state }, { NULL, NULL } };
    luaL_newmetatable(L, END_MT);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    for (const luaL_Reg *m = methods; m->name; m++) {
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
