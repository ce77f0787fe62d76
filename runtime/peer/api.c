/* What a peer's script sees: `p` (the peer) and `ws` (one WebSocket).
 *
 *   p.base_url, p.options
 *   p:now() p:wall()                 milliseconds
 *   p:random()                       in [0, 1), from the seed
 *   p:respond(request, status, { headers = { Name = value }, body = text, json = table })
 *   p:after(ms, fn) -> id            p:cancel(id)
 *   p:log(text)
 *   p:encode(value) p:decode(text)   JSON; decode answers nil, text for what is none
 *   p:deflate("zlib-stream")         object with :message(text) -> bytes
 *   p:wkproto{ latest = 5 }          the server side of one WKProto link: see peer/wkproto.c
 *
 *   ws.id                            other fields are the script's own
 *   ws:send(text or table)           text message; a table as JSON
 *   ws:send_bytes(bytes)             binary message
 *   ws:ping() ws:close(code, reason) ws:abort() ws:deaf(bool)
 *
 * Functions raise for wrong arguments only; the host carries everything out later. */
#include <lauxlib.h>
#include <string.h>

#include "base/assert.h"
#include "frame/inflate.h"
#include "peer/peer_internal.h"

#define DEFLATE_MT "holdfast.peer.deflate"
#define ENCODE_BYTES_MAX ((size_t)64 << 20)

static struct peer *peer_of(lua_State *L)
{
    struct peer *p = lua_touserdata(L, lua_upvalueindex(1));
    ASSERT(p != NULL);
    return p;
}

static uint64_t check_id(lua_State *L, int index)
{
    if (lua_istable(L, index)) {
        lua_getfield(L, index, "id");
        double id = lua_tonumber(L, -1);
        lua_pop(L, 1);
        if (id >= 1) return (uint64_t)id;
    }
    luaL_argerror(L, index, "a request or WebSocket of this peer expected");
    return 0;
}

/* JSON of the value at index, on the stack as a string. */
static void push_encoded(lua_State *L, int index)
{
    char error[200];
    struct buffer out;
    buffer_init(&out, ENCODE_BYTES_MAX);
    if (!sandbox_json_encode(L, index, true, &out, error, sizeof error)) {
        buffer_deinit(&out);
        luaL_error(L, "%s", error);
        return;
    }
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
}

static int l_now(lua_State *L)
{
    struct peer *p = peer_of(L);
    lua_pushnumber(L, (double)p->port.now_ms(p->port.self));
    return 1;
}

static int l_wall(lua_State *L)
{
    struct peer *p = peer_of(L);
    lua_pushnumber(L, (double)p->port.wall_ms(p->port.self));
    return 1;
}

static int l_random(lua_State *L)
{
    lua_pushnumber(L, rng_unit(rng_next(&peer_of(L)->rng)));
    return 1;
}

static int l_log(lua_State *L)
{
    struct peer *p = peer_of(L);
    p->port.log(p->port.self, luaL_checkstring(L, 2));
    return 0;
}

static int l_encode(lua_State *L)
{
    luaL_checkany(L, 2);
    push_encoded(L, 2);
    return 1;
}

static int l_decode(lua_State *L)
{
    size_t len;
    char error[200];
    const char *text = luaL_checklstring(L, 2, &len);
    if (sandbox_json_decode(L, text, len, error, sizeof error)) return 1;
    lua_pushnil(L);
    lua_pushstring(L, error);
    return 2;
}

static int l_respond(lua_State *L)
{
    struct peer *p = peer_of(L);
    uint64_t id = check_id(L, 2);
    int status = (int)luaL_checkinteger(L, 3);
    if (lua_isnoneornil(L, 4)) {
        lua_settop(L, 3);
        lua_newtable(L);
    }
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    lua_getfield(L, 4, "json");
    bool json = !lua_isnil(L, 5);
    if (json) {
        push_encoded(L, 5);
    } else {
        lua_getfield(L, 4, "body");
    }
    size_t len = 0;
    const char *body = lua_tolstring(L, 6, &len);
    lua_pushliteral(L, ""); /* 7: header lines so far */
    if (json) {
        lua_pop(L, 1);
        lua_pushliteral(L, "Content-Type: application/json\r\n");
    }
    lua_getfield(L, 4, "headers"); /* 8 */
    if (lua_istable(L, 8)) {
        lua_pushnil(L);
        while (lua_next(L, 8)) {
            lua_pushfstring(L, "%s%s: %s\r\n", lua_tostring(L, 7), luaL_checkstring(L, 9),
                            luaL_checkstring(L, 10));
            lua_replace(L, 7);
            lua_pop(L, 1);
        }
    }
    p->port.respond(p->port.self, id, status, lua_tostring(L, 7), body ? body : "", len);
    return 0;
}

static int l_after(lua_State *L)
{
    struct peer *p = peer_of(L);
    double ms = luaL_checknumber(L, 2);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_argcheck(L, ms >= 0 && ms < 1e13, 2, "milliseconds expected");
    uint64_t id = ++p->next_timer;
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->timers_ref);
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, (int)id);
    p->port.timer(p->port.self, id, (uint64_t)ms);
    lua_pushnumber(L, (double)id);
    return 1;
}

static int l_cancel(lua_State *L)
{
    struct peer *p = peer_of(L);
    if (lua_isnoneornil(L, 2)) return 0;
    int id = (int)luaL_checkinteger(L, 2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->timers_ref);
    lua_pushnil(L);
    lua_rawseti(L, -2, id);
    p->port.timer_stop(p->port.self, (uint64_t)id);
    return 0;
}

/* --- compression ----------------------------------------------------------------------------------- */

static int l_deflate(lua_State *L)
{
    enum inflate_mode mode;
    const char *name = luaL_checkstring(L, 2);
    luaL_argcheck(L, inflate_mode_parse(name, &mode), 2, "zlib-stream or zstd-stream expected");
    struct deflate **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, DEFLATE_MT);
    lua_setmetatable(L, -2);
    *box = deflate_create(mode);
    if (!*box) return luaL_error(L, "out of memory");
    return 1;
}

static int l_deflate_message(lua_State *L)
{
    struct deflate **box = luaL_checkudata(L, 1, DEFLATE_MT);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct buffer out;
    buffer_init(&out, 0);
    if (!deflate_message(*box, text, len, &out)) {
        buffer_deinit(&out);
        return luaL_error(L, "cannot compress");
    }
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

static int l_deflate_gc(lua_State *L)
{
    struct deflate **box = lua_touserdata(L, 1);
    if (*box) deflate_destroy(*box);
    *box = NULL;
    return 0;
}

/* --- sockets --------------------------------------------------------------------------------------- */

static int l_ws_send(lua_State *L)
{
    struct peer *p = peer_of(L);
    uint64_t id = check_id(L, 1);
    size_t len;
    if (lua_istable(L, 2)) push_encoded(L, 2);
    const char *text = luaL_checklstring(L, -1, &len);
    p->port.ws_send(p->port.self, id, true, text, len);
    return 0;
}

static int l_ws_send_bytes(lua_State *L)
{
    struct peer *p = peer_of(L);
    size_t len;
    uint64_t id = check_id(L, 1);
    const char *bytes = luaL_checklstring(L, 2, &len);
    p->port.ws_send(p->port.self, id, false, bytes, len);
    return 0;
}

static int l_ws_ping(lua_State *L)
{
    struct peer *p = peer_of(L);
    p->port.ws_ping(p->port.self, check_id(L, 1));
    return 0;
}

static int l_ws_close(lua_State *L)
{
    struct peer *p = peer_of(L);
    uint64_t id = check_id(L, 1);
    p->port.ws_close(p->port.self, id, (uint16_t)luaL_optinteger(L, 2, 0), luaL_optstring(L, 3, ""));
    return 0;
}

static int l_ws_abort(lua_State *L)
{
    struct peer *p = peer_of(L);
    p->port.ws_abort(p->port.self, check_id(L, 1));
    return 0;
}

static int l_ws_deaf(lua_State *L)
{
    struct peer *p = peer_of(L);
    p->port.ws_deaf(p->port.self, check_id(L, 1), lua_toboolean(L, 2));
    return 0;
}

static const luaL_Reg peer_methods[] = {
    { "now", l_now },         { "wall", l_wall },     { "random", l_random },
    { "log", l_log },         { "encode", l_encode }, { "decode", l_decode },
    { "respond", l_respond }, { "after", l_after },   { "cancel", l_cancel },
    { "deflate", l_deflate }, { "wkproto", peer__l_wkproto }, { NULL, NULL },
};

static const luaL_Reg ws_methods[] = {
    { "send", l_ws_send },   { "send_bytes", l_ws_send_bytes }, { "ping", l_ws_ping },
    { "close", l_ws_close }, { "abort", l_ws_abort },           { "deaf", l_ws_deaf },
    { NULL, NULL },
};

static void set_methods(struct peer *p, lua_State *L, const luaL_Reg *methods)
{
    for (; methods->name; methods++) {
        lua_pushlightuserdata(L, p);
        lua_pushcclosure(L, methods->func, 1);
        lua_setfield(L, -2, methods->name);
    }
}

void peer__open(struct peer *p, lua_State *L)
{
    luaL_newmetatable(L, DEFLATE_MT);
    lua_pushcfunction(L, l_deflate_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    lua_pushcfunction(L, l_deflate_message);
    lua_setfield(L, -2, "message");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);

    peer__open_wkproto(L);
    luaL_newmetatable(L, "holdfast.peer.ws");
    lua_newtable(L);
    set_methods(p, L, ws_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);

    lua_newtable(L);
    set_methods(p, L, peer_methods);
}

void peer__push_socket(struct peer *p, lua_State *L, uint64_t ws)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->sockets_ref);
    lua_pushnumber(L, (double)ws);
    lua_rawget(L, -2);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushnumber(L, (double)ws);
        lua_setfield(L, -2, "id");
        luaL_getmetatable(L, "holdfast.peer.ws");
        lua_setmetatable(L, -2);
        lua_pushnumber(L, (double)ws);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);
    }
    lua_remove(L, -2);
}
