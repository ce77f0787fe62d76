/* modules: frame crypto base */
/* require "unit.frame_ws": framing, upgrade and decompression for specs. Every run may cut its
 * input anywhere; each piece is a heap copy of its exact size, so that a sanitizer sees a byte too
 * many. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "crypto/digest.h"
#include "frame/inflate.h"
#include "frame/upgrade.h"
#include "frame/ws.h"

#define INFLATE_MT "unit.frame_ws.inflate"
#define DEFLATE_MT "unit.frame_ws.deflate"

int luaopen_unit_frame_ws(lua_State *L);

/* How the input is cut: pieces of `step` bytes, or two pieces at `cut`, or one. From a table
 * argument { step = n } or { cut = n }. */
struct cuts {
    size_t step, cut;
};

static size_t option(lua_State *L, int arg, const char *name, size_t otherwise)
{
    if (!lua_istable(L, arg)) return otherwise;
    lua_getfield(L, arg, name);
    size_t n = lua_isnumber(L, -1) ? (size_t)lua_tonumber(L, -1) : otherwise;
    lua_pop(L, 1);
    return n;
}

static struct cuts check_cuts(lua_State *L, int arg)
{
    return (struct cuts){ option(L, arg, "step", 0), option(L, arg, "cut", 0) };
}

static size_t piece_len(const struct cuts *c, size_t at, size_t len)
{
    if (c->step) return len - at < c->step ? len - at : c->step;
    return c->cut && at < c->cut && c->cut < len ? c->cut - at : len - at;
}

static uint8_t *piece_copy(const char *from, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    ASSERT(copy);
    memcpy(copy, from, len);
    return copy;
}

static void set_number(lua_State *L, const char *name, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, name);
}

static void set_bytes(lua_State *L, const char *name, const void *bytes, size_t len)
{
    lua_pushlstring(L, bytes ? bytes : "", len);
    lua_setfield(L, -2, name);
}

static void push_item(lua_State *L, const struct ws_item *item)
{
    switch (item->kind) {
    case WS_ITEM_MESSAGE: lua_pushstring(L, item->text ? "text:" : "binary:"); break;
    case WS_ITEM_PING: lua_pushstring(L, "ping:"); break;
    case WS_ITEM_PONG: lua_pushstring(L, "pong:"); break;
    case WS_ITEM_CLOSE: lua_pushfstring(L, "close %d:", item->close_code); break;
    default:
        lua_pushfstring(L, "error: %s (%d)", ws_error_text(item->error),
                        (int)ws_error_close_code(item->error));
        return;
    }
    lua_pushlstring(L, (const char *)item->data, item->len);
    lua_concat(L, 2);
}

/* decode(role, bytes, max, cuts): the items as strings, and how it went: `given` bytes at the last
 * item, `copied` messages, `idle`, `carry` bytes still allocated. */
static int l_decode(lua_State *L)
{
    size_t len, at = 0;
    const char *role = luaL_checkstring(L, 1);
    const char *bytes = luaL_checklstring(L, 2, &len);
    size_t bytes_max = (size_t)luaL_optnumber(L, 3, 1 << 20);
    struct cuts cuts = check_cuts(L, 4);
    struct ws_decoder d;
    ws_decoder_init(&d, strcmp(role, "server") == 0 ? WS_SERVER : WS_CLIENT, bytes_max);
    size_t given = 0, copied = 0, carry_most = 0;
    int count = 0;

    lua_newtable(L);
    while (at < len) {
        size_t n = piece_len(&cuts, at, len), used = 0;
        uint8_t *piece = piece_copy(bytes + at, n);
        for (;;) {
            struct ws_item item;
            size_t consumed;
            enum ws_item_kind kind = ws_decode(&d, piece + used, n - used, &consumed, &item);
            ASSERT(kind == item.kind);
            ASSERT(consumed <= n - used);
            used += consumed;
            if (d.carry.capacity > carry_most) carry_most = d.carry.capacity;
            if (kind == WS_ITEM_MORE) break;
            ASSERT(kind == WS_ITEM_CLOSE || kind == WS_ITEM_ERROR || item.data);
            push_item(L, &item);
            lua_rawseti(L, -2, ++count);
            given = at + n;
            if (kind == WS_ITEM_MESSAGE && (item.data < piece || item.data > piece + n)) copied++;
        }
        ASSERT(used == n);
        free(piece);
        at += n;
    }
    lua_newtable(L);
    set_number(L, "given", (double)given);
    set_number(L, "copied", (double)copied);
    set_number(L, "carry", (double)d.carry.capacity);
    set_number(L, "carry_most", (double)carry_most);
    lua_pushboolean(L, ws_decoder_is_idle(&d));
    lua_setfield(L, -2, "idle");
    ws_decoder_deinit(&d);
    return 2;
}

static const uint8_t *opt_mask(lua_State *L, int arg)
{
    size_t len = 0;
    const char *mask = luaL_optlstring(L, arg, NULL, &len);
    luaL_argcheck(L, !mask || len == 4, arg, "a mask has four bytes");
    return (const uint8_t *)mask;
}

static int push_buffer(lua_State *L, struct buffer *b, bool ok)
{
    if (ok) lua_pushlstring(L, b->data ? (const char *)b->data : "", b->len);
    else lua_pushnil(L);
    ASSERT(ok || b->len == 0);
    buffer_deinit(b);
    return 1;
}

/* encode(opcode, payload, mask, fin, limit) */
static int l_encode(lua_State *L)
{
    size_t len;
    int opcode = luaL_checkint(L, 1);
    const char *payload = luaL_checklstring(L, 2, &len);
    const uint8_t *mask = opt_mask(L, 3);
    bool fin = lua_isnoneornil(L, 4) || lua_toboolean(L, 4);
    struct buffer b;
    buffer_init(&b, (size_t)luaL_optnumber(L, 5, 0));
    return push_buffer(L, &b, ws_encode(&b, (enum ws_opcode)opcode, fin, payload, len, mask));
}

static int l_encode_close(lua_State *L)
{
    struct buffer b;
    uint16_t code = (uint16_t)luaL_checkint(L, 1);
    const char *reason = luaL_optstring(L, 2, NULL);
    const uint8_t *mask = opt_mask(L, 3);
    buffer_init(&b, 0);
    return push_buffer(L, &b, ws_encode_close(&b, code, reason, mask));
}

static int l_close_code_is_valid(lua_State *L)
{
    lua_pushboolean(L, ws_close_code_is_valid((uint16_t)luaL_checkint(L, 1)));
    return 1;
}

/* utf8(bytes, cuts): "whole", "open", or the number of bytes given when it failed. */
static int l_utf8(lua_State *L)
{
    size_t len, at = 0;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct cuts cuts = check_cuts(L, 2);
    struct utf8_state s;
    utf8_start(&s);
    while (at < len) {
        size_t n = piece_len(&cuts, at, len);
        uint8_t *piece = piece_copy(bytes + at, n);
        bool ok = utf8_feed(&s, piece, n);
        free(piece);
        at += n;
        if (!ok) {
            ASSERT(!utf8_feed(&s, (const uint8_t *)"a", 1) && !utf8_end(&s));
            lua_pushnumber(L, (double)at);
            return 1;
        }
    }
    lua_pushstring(L, utf8_end(&s) ? "whole" : "open");
    return 1;
}

static const char *state_name(enum upgrade_state state)
{
    static const char *const names[] = { "more", "done", "refused", "bad" };
    return names[state];
}

/* read_answer(bytes, { step, cut, protocol, ended }); the nonce is that of RFC 6455, 1.3. */
static int l_read_answer(lua_State *L)
{
    size_t len, at = 0, used = 0;
    const char *bytes = luaL_checklstring(L, 1, &len), *protocol = NULL;
    struct cuts cuts = check_cuts(L, 2);
    bool ended = false;
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "ended");
        ended = lua_toboolean(L, -1);
        lua_getfield(L, 2, "protocol"); /* stays on the stack, so stays alive */
        protocol = lua_tostring(L, -1);
    }
    struct upgrade_reader r;
    enum upgrade_state state = UPGRADE_MORE;
    upgrade_reader_init(&r, (const uint8_t *)"the sample nonce", protocol);
    while (at < len && state == UPGRADE_MORE) {
        size_t n = piece_len(&cuts, at, len), consumed;
        uint8_t *piece = piece_copy(bytes + at, n);
        state = upgrade_read(&r, piece, n, &consumed);
        ASSERT(consumed <= n && state == r.state);
        ASSERT(state != UPGRADE_MORE || consumed == n);
        free(piece);
        used += consumed;
        at += n;
    }
    if (ended) state = upgrade_read_end(&r);
    lua_newtable(L);
    lua_pushstring(L, state_name(state));
    lua_setfield(L, -2, "state");
    set_number(L, "status", r.status);
    if (state == UPGRADE_DONE) set_number(L, "consumed", (double)used);
    set_bytes(L, "body", r.body.data, r.body.len);
    set_bytes(L, "head", r.head.data, r.head.len);
    if (r.head.len) ASSERT(strlen((char *)r.head.data) <= r.head.len);
    ASSERT((state == UPGRADE_BAD) == (r.why != NULL));
    lua_pushstring(L, r.why);
    lua_setfield(L, -2, "why");
    upgrade_reader_deinit(&r);
    return 1;
}

/* request { host, target, protocol, headers = { { name, value } }, limit } */
static int l_request(lua_State *L)
{
    struct upgrade_header headers[8];
    struct upgrade_request q = { .headers = headers };
    struct buffer b;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "host");
    lua_getfield(L, 1, "target");
    lua_getfield(L, 1, "protocol");
    q.host = luaL_checkstring(L, 2);
    q.target = luaL_checkstring(L, 3);
    q.protocol = lua_tostring(L, 4);
    memcpy(q.nonce, "the sample nonce", 16);
    lua_getfield(L, 1, "headers");
    int count = lua_istable(L, 5) ? (int)lua_objlen(L, 5) : 0;
    for (int i = 0; i < count && i < 8; i++) {
        lua_rawgeti(L, 5, i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        headers[q.header_count].name = luaL_checkstring(L, -2);
        headers[q.header_count++].value = luaL_checkstring(L, -1);
    }
    buffer_init(&b, option(L, 1, "limit", 0));
    return push_buffer(L, &b, upgrade_write_request(&b, &q));
}

static int l_header(lua_State *L)
{
    size_t len;
    const char *head = luaL_checklstring(L, 1, &len);
    char out[32];
    if (!upgrade_header_get(head, len, luaL_checkstring(L, 2), out, sizeof out)) return 0;
    lua_pushstring(L, out);
    return 1;
}

static int l_retry_after(lua_State *L)
{
    size_t len;
    const char *head = luaL_checklstring(L, 1, &len);
    uint64_t ms = upgrade_retry_after_ms(head, len, (uint64_t)luaL_optnumber(L, 2, 0));
    if (ms == UINT64_MAX) return 0;
    lua_pushnumber(L, (double)ms);
    return 1;
}

static int l_read_request(lua_State *L)
{
    size_t len, at = 0, used = 0;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct cuts cuts = check_cuts(L, 2);
    struct request_reader r;
    enum upgrade_state state = UPGRADE_MORE;
    request_reader_init(&r);
    while (at < len && state == UPGRADE_MORE) {
        size_t n = piece_len(&cuts, at, len), consumed;
        uint8_t *piece = piece_copy(bytes + at, n);
        state = request_read(&r, piece, n, &consumed);
        ASSERT(consumed <= n && (state != UPGRADE_MORE || consumed == n));
        free(piece);
        used += consumed;
        at += n;
    }
    lua_newtable(L);
    lua_pushstring(L, state_name(state));
    lua_setfield(L, -2, "state");
    lua_pushstring(L, r.why);
    lua_setfield(L, -2, "why");
    lua_pushstring(L, r.method);
    lua_setfield(L, -2, "method");
    lua_pushstring(L, r.target);
    lua_setfield(L, -2, "target");
    lua_pushstring(L, r.key);
    lua_setfield(L, -2, "key");
    lua_pushboolean(L, r.is_upgrade);
    lua_setfield(L, -2, "is_upgrade");
    set_bytes(L, "body", r.body.data, r.body.len);
    if (state == UPGRADE_DONE) set_number(L, "consumed", (double)used);
    request_reader_deinit(&r);
    return 1;
}

static int l_accept(lua_State *L)
{
    struct buffer b;
    const char *key = luaL_checkstring(L, 1), *protocol = luaL_optstring(L, 2, NULL);
    buffer_init(&b, 0);
    return push_buffer(L, &b, upgrade_write_accept(&b, key, protocol));
}

static int l_response(lua_State *L)
{
    size_t len;
    struct buffer b;
    int status = luaL_checkint(L, 1);
    const char *headers = luaL_checkstring(L, 2), *body = luaL_checklstring(L, 3, &len);
    buffer_init(&b, 0);
    return push_buffer(L, &b, upgrade_write_response(&b, status, headers, body, len));
}

static enum inflate_mode check_mode(lua_State *L, int arg)
{
    enum inflate_mode mode = INFLATE_NONE;
    luaL_argcheck(L, inflate_mode_parse(luaL_checkstring(L, arg), &mode), arg, "not a mode");
    return mode;
}

static int l_inflate(lua_State *L)
{
    enum inflate_mode mode = check_mode(L, 1);
    size_t bytes_max = (size_t)luaL_optnumber(L, 2, 1 << 20);
    struct inflate **box = lua_newuserdata(L, sizeof *box);
    *box = inflate_create(mode, bytes_max);
    ASSERT(*box);
    luaL_getmetatable(L, INFLATE_MT);
    lua_setmetatable(L, -2);
    return 1;
}

/* inflate:feed(bytes): the result's name and the message. */
static int l_inflate_feed(lua_State *L)
{
    static const char *const names[] = { "more", "message", "bad", "too big" };
    struct inflate **box = luaL_checkudata(L, 1, INFLATE_MT);
    size_t len, out_len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    uint8_t *copy = piece_copy(bytes, len), *out;
    enum inflate_result result = inflate_feed(*box, copy, len, &out, &out_len);
    free(copy);
    ASSERT(result == INFLATE_MESSAGE || (!out && out_len == 0));
    lua_pushstring(L, names[result]);
    if (result != INFLATE_MESSAGE) return 1;
    lua_pushlstring(L, (const char *)out, out_len);
    return 2;
}

static int l_inflate_memory(lua_State *L)
{
    struct inflate **box = luaL_checkudata(L, 1, INFLATE_MT);
    lua_pushnumber(L, (double)inflate_memory(*box));
    return 1;
}

static int l_inflate_trim(lua_State *L)
{
    struct inflate **box = luaL_checkudata(L, 1, INFLATE_MT);
    inflate_trim(*box);
    return 0;
}

static int l_inflate_gc(lua_State *L)
{
    struct inflate **box = luaL_checkudata(L, 1, INFLATE_MT);
    inflate_destroy(*box);
    *box = NULL;
    return 0;
}

static int l_deflate(lua_State *L)
{
    enum inflate_mode mode = check_mode(L, 1);
    struct deflate **box = lua_newuserdata(L, sizeof *box);
    *box = deflate_create(mode);
    ASSERT(*box);
    luaL_getmetatable(L, DEFLATE_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_deflate_message(lua_State *L)
{
    struct deflate **box = luaL_checkudata(L, 1, DEFLATE_MT);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    struct buffer b;
    buffer_init(&b, (size_t)luaL_optnumber(L, 3, 0));
    return push_buffer(L, &b, deflate_message(*box, bytes, len, &b));
}

static int l_deflate_gc(lua_State *L)
{
    struct deflate **box = luaL_checkudata(L, 1, DEFLATE_MT);
    deflate_destroy(*box);
    *box = NULL;
    return 0;
}

static int l_is_mode(lua_State *L)
{
    enum inflate_mode mode;
    lua_pushboolean(L, inflate_mode_parse(luaL_checkstring(L, 1), &mode));
    return 1;
}

static int l_sha1(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    uint8_t out[SHA1_BYTES];
    ASSERT(digest_sha1(bytes, len, out));
    lua_pushlstring(L, (const char *)out, sizeof out);
    return 1;
}

static int l_base64(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    char *text = malloc(BASE64_TEXT_BYTES(len) + 1);
    ASSERT(text);
    size_t n = base64_encode(bytes, len, text);
    ASSERT(n == BASE64_TEXT_BYTES(len) && text[n] == 0);
    lua_pushlstring(L, text, n);
    free(text);
    return 1;
}

static int l_unbase64(lua_State *L)
{
    size_t len, out_len;
    const char *text = luaL_checklstring(L, 1, &len);
    size_t room = (size_t)luaL_optnumber(L, 2, (double)len);
    uint8_t *out = malloc(room ? room : 1);
    ASSERT(out);
    bool ok = base64_decode(text, len, out, room, &out_len);
    if (ok) lua_pushlstring(L, (const char *)out, out_len);
    else lua_pushnil(L);
    free(out);
    return 1;
}

static const luaL_Reg functions[] = {
    { "decode", l_decode },
    { "encode", l_encode },
    { "encode_close", l_encode_close },
    { "close_code_is_valid", l_close_code_is_valid },
    { "utf8", l_utf8 },
    { "read_answer", l_read_answer },
    { "request", l_request },
    { "header", l_header },
    { "retry_after", l_retry_after },
    { "read_request", l_read_request },
    { "accept", l_accept },
    { "response", l_response },
    { "inflate", l_inflate },
    { "deflate", l_deflate },
    { "is_mode", l_is_mode },
    { "sha1", l_sha1 },
    { "base64", l_base64 },
    { "unbase64", l_unbase64 },
    { NULL, NULL },
};

static const luaL_Reg inflate_methods[] = {
    { "feed", l_inflate_feed },
    { "memory", l_inflate_memory },
    { "trim", l_inflate_trim },
    { "__gc", l_inflate_gc },
    { NULL, NULL },
};

static const luaL_Reg deflate_methods[] = {
    { "message", l_deflate_message },
    { "__gc", l_deflate_gc },
    { NULL, NULL },
};

static void register_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_register(L, NULL, methods);
    lua_pop(L, 1);
}

int luaopen_unit_frame_ws(lua_State *L)
{
    register_type(L, INFLATE_MT, inflate_methods);
    register_type(L, DEFLATE_MT, deflate_methods);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
