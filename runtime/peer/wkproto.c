/* The server side of WKProto for peers: p:wkproto{ ... } is one link's. Keys stay in here; the script sees JSON
 * tables, as a policy does on the other side. The packet functions are the client's own: the vectors keep both
 * honest. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "frame/wkproto.h"
#include "peer/peer_internal.h"

#define WKPROTO_MT "holdfast.peer.wkproto"
#define ENCODE_BYTES_MAX ((size_t)4 << 20)
#define FEED_BYTES_MAX   ((size_t)64 << 20)

static struct wkproto *check(lua_State *L)
{
    return luaL_checkudata(L, 1, WKPROTO_MT);
}

static uint64_t draw(struct peer *p)
{
    return rng_next(&p->rng);
}

/* p:wkproto{ latest = 5, plain = false } */
int peer__l_wkproto(lua_State *L)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    struct peer *p = lua_touserdata(L, lua_upvalueindex(1));
    uint8_t seed[WK_SEED_BYTES];
    ASSERT(p != NULL);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_newtable(L);
        lua_replace(L, 2);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "latest");
    int latest = (int)luaL_optinteger(L, -1, 5);
    luaL_argcheck(L, latest >= 1 && latest <= WK_VERSION_MAX, 2, "latest: 1 to 6 expected");
    lua_getfield(L, 2, "plain");
    bool plain = lua_toboolean(L, -1);
    struct wkproto *w = lua_newuserdata(L, sizeof *w);
    wkproto_init(w, WK_SERVER);
    luaL_getmetatable(L, WKPROTO_MT);
    lua_setmetatable(L, -2);
    for (size_t i = 0; i < sizeof seed; i++) seed[i] = (uint8_t)draw(p);
    wkproto_seed(w, seed);
    w->server.latest = (uint8_t)latest;
    w->server.plain = plain;
    for (size_t i = 0; i < WK_SALT_BYTES; i++) w->server.salt[i] = alphabet[draw(p) % (sizeof alphabet - 1)];
    return 1;
}

/* w:decode(message) -> { packet... }, why: all whole packets of it and what was left of those before; `why` when
 * the stream means nothing from there on. */
static int l_decode(lua_State *L)
{
    struct wkproto *w = check(L);
    struct codec_item item;
    char error[200];
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    lua_settop(L, 2);
    lua_newtable(L);
    if (!wkproto_feed(w, (const uint8_t *)bytes, len, FEED_BYTES_MAX)) return luaL_error(L, "out of memory");
    for (int n = 1;; n++) {
        switch (wkproto_next(w, &item)) {
        case CODEC_MORE: return 1;
        case CODEC_BAD: lua_pushstring(L, item.why); return 2;
        case CODEC_PACKET: break;
        }
        if (!sandbox_json_decode(L, (const char *)item.json, item.json_len, error, sizeof error)) {
            return luaL_error(L, "wkproto: %s", error);
        }
        lua_rawseti(L, 3, n);
    }
}

/* w:encode(packet) -> bytes, or nil and why it cannot be sent now */
static int l_encode(lua_State *L)
{
    struct wkproto *w = check(L);
    char why[200];
    struct buffer json, out;
    luaL_checktype(L, 2, LUA_TTABLE);
    buffer_init(&json, ENCODE_BYTES_MAX);
    buffer_init(&out, ENCODE_BYTES_MAX);
    bool ok = sandbox_json_encode(L, 2, true, &json, why, sizeof why) &&
              wkproto_encode(w, json.data, json.len, &out, why, sizeof why);
    if (ok) {
        lua_pushlstring(L, (const char *)out.data, out.len);
    } else {
        lua_pushnil(L);
        lua_pushstring(L, why);
    }
    buffer_deinit(&json);
    buffer_deinit(&out);
    return ok ? 1 : 2;
}

/* w:version() -> the version in force */
static int l_version(lua_State *L)
{
    lua_pushinteger(L, check(L)->version);
    return 1;
}

/* w:faults() -> messages that could not be decrypted, or whose signature was wrong */
static int l_faults(lua_State *L)
{
    lua_pushnumber(L, (double)check(L)->faults);
    return 1;
}

static int l_gc(lua_State *L)
{
    wkproto_deinit(check(L));
    return 0;
}

void peer__open_wkproto(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "decode", l_decode },   { "encode", l_encode }, { "version", l_version },
        { "faults", l_faults }, { NULL, NULL },
    };
    luaL_newmetatable(L, WKPROTO_MT);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    for (const luaL_Reg *m = methods; m->name; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
