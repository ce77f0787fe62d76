/* Peer: one script in a state of its own. Turns what its host saw into calls of the script's functions:
 *
 *   return {
 *     start   = function (p, options) end,
 *     http    = function (p, request) end,         -- p:respond(request, ...), now or later
 *     upgrade = function (p, request) end,         -- true accepts; p:respond refuses; nothing: silence
 *     opened  = function (p, ws, request) end,
 *     message = function (p, ws, data, text) end,
 *     closed  = function (p, ws, code) end,
 *     control = { verb = function (p, argument) return answer end },
 *   }
 *
 * request: id method target path query (table) host headers (lower-case names) body. An error of the
 * script is logged and kept for peer_error(); it never ends the host. */
#include "peer/peer.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "peer/peer_internal.h"

#define MEMORY_BYTES_MAX  ((size_t)512 << 20)
#define INSTRUCTIONS_MAX  ((uint64_t)500 * 1000 * 1000)

/* What is handed to the protected function: everything that pushes values may raise. */
struct invoke {
    struct peer *peer;
    const char *function;      /* key in the script's table; NULL: a timer */
    const char *verb;          /* control: key in script.control */
    const struct peer_request *request;
    uint64_t ws;               /* 0: none */
    bool has_data, text, has_code;
    const void *data;
    size_t len;
    uint16_t code;
    uint64_t timer;
    const struct value *argument;
    bool found;
};

static int l_invoke(lua_State *L);
static bool enter(struct peer *p, struct invoke *call, int results);
static void fail(struct peer *p, const char *text);

struct peer *peer_create(const struct peer_options *options, char *why, size_t why_bytes)
{
    struct peer *p = calloc(1, sizeof *p);
    if (!p) {
        snprintf(why, why_bytes, "out of memory");
        return NULL;
    }
    p->port = options->port;
    text_copy(p->name, sizeof p->name, options->name, strlen(options->name));
    text_copy(p->base_url, sizeof p->base_url, options->base_url, strlen(options->base_url));
    rng_init(&p->rng, options->seed, hash_text(options->name));
    for (const char *c = p->name; *c; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_' || *c == '-';
        if (!ok || c == p->name + 40) {
            snprintf(why, why_bytes, "a peer's name has lower-case letters, digits, - and _ only");
            free(p);
            return NULL;
        }
    }
    char sandbox_name[80];
    snprintf(sandbox_name, sizeof sandbox_name, "peer %s", p->name);
    struct sandbox_options so = { .name = sandbox_name,
                                  .lua_path = options->lua_path,
                                  .limits = { INSTRUCTIONS_MAX, MEMORY_BYTES_MAX },
                                  .seed = options->seed };
    p->sandbox = sandbox_create(&so);
    if (!p->sandbox) {
        snprintf(why, why_bytes, "out of memory");
        free(p);
        return NULL;
    }
    lua_State *L = sandbox_lua(p->sandbox);
    char code[128], error[400];
    snprintf(code, sizeof code, "return require 'peers.%s'", p->name);
    if (sandbox_run(p->sandbox, code, strlen(code), sandbox_name, error, sizeof error) != CALL_OK) {
        snprintf(why, why_bytes, "%s", error);
        goto fail_script;
    }
    if (!lua_istable(L, -1)) {
        snprintf(why, why_bytes, "peers/%s.lua must return a table of functions", p->name);
        goto fail_script;
    }
    p->script_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    p->sockets_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    p->timers_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    peer__open(p, L);
    lua_pushstring(L, p->base_url);
    lua_setfield(L, -2, "base_url");
    if (options->options) {
        sandbox_push_value(L, options->options, false);
    } else {
        lua_newtable(L);
    }
    lua_setfield(L, -2, "options");
    p->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);

    struct invoke call = { .peer = p, .function = "start" };
    enter(p, &call, 0);
    if (p->failed) {
        snprintf(why, why_bytes, "%s", p->error);
        goto fail_script;
    }
    return p;

fail_script:
    sandbox_destroy(p->sandbox);
    free(p);
    return NULL;
}

void peer_destroy(struct peer *p)
{
    if (!p) return;
    sandbox_destroy(p->sandbox);
    free(p);
}

void peer_http(struct peer *p, const struct peer_request *request)
{
    struct invoke call = { .peer = p, .function = "http", .request = request };
    enter(p, &call, 0);
    if (!call.found) p->port.respond(p->port.self, request->id, 404, "", "", 0);
}

enum peer_upgrade peer_upgrade(struct peer *p, const struct peer_request *request)
{
    lua_State *L = sandbox_lua(p->sandbox);
    struct invoke call = { .peer = p, .function = "upgrade", .request = request };
    if (!enter(p, &call, 1)) return PEER_SILENT;
    bool accept = lua_toboolean(L, -1);
    bool answered = lua_isboolean(L, -1) && !accept;
    lua_pop(L, 1);
    if (!call.found) return PEER_ACCEPT;
    return accept ? PEER_ACCEPT : answered ? PEER_ANSWERED : PEER_SILENT;
}

void peer_opened(struct peer *p, uint64_t ws)
{
    struct invoke call = { .peer = p, .function = "opened", .ws = ws };
    enter(p, &call, 0);
}

void peer_message(struct peer *p, uint64_t ws, bool text, const void *data, size_t len)
{
    struct invoke call = { .peer = p, .function = "message", .ws = ws, .has_data = true,
                           .text = text, .data = data, .len = len };
    enter(p, &call, 0);
}

void peer_closed(struct peer *p, uint64_t ws, uint16_t code)
{
    lua_State *L = sandbox_lua(p->sandbox);
    struct invoke call = { .peer = p, .function = "closed", .ws = ws, .has_code = true,
                           .code = code };
    enter(p, &call, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->sockets_ref);
    lua_pushnumber(L, (double)ws);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

void peer_timer(struct peer *p, uint64_t timer)
{
    struct invoke call = { .peer = p, .timer = timer };
    enter(p, &call, 0);
}

bool peer_control(struct peer *p, const char *verb, const struct value *argument,
                  struct value *answer, char *why, size_t why_bytes)
{
    lua_State *L = sandbox_lua(p->sandbox);
    struct invoke call = { .peer = p, .function = "control", .verb = verb, .argument = argument };
    *answer = value_nil();
    bool had = p->failed;
    if (!enter(p, &call, 1)) {
        /* The caller is told: it need not be told again by peer_error(). */
        snprintf(why, why_bytes, "%s", p->error);
        p->failed = had;
        return false;
    }
    bool ok = call.found;
    if (!ok) snprintf(why, why_bytes, "peer %s has no control \"%s\"", p->name, verb);
    if (ok) ok = sandbox_to_value(L, -1, answer, why, why_bytes);
    lua_pop(L, 1);
    return ok;
}

const char *peer_error(struct peer *p)
{
    if (!p->failed) return NULL;
    p->failed = false;
    return p->error;
}

/* --- entering Lua ------------------------------------------------------------------------------------ */

static void push_headers(lua_State *L, const char *lines)
{
    lua_newtable(L);
    while (lines && *lines) {
        const char *end = strstr(lines, "\r\n");
        size_t len = end ? (size_t)(end - lines) : strlen(lines);
        const char *colon = memchr(lines, ':', len);
        if (colon) {
            luaL_Buffer b;
            luaL_buffinit(L, &b);
            for (const char *c = lines; c < colon; c++) {
                luaL_addchar(&b, (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c));
            }
            luaL_pushresult(&b);
            const char *value = colon + 1;
            while (value < lines + len && *value == ' ') value++;
            lua_pushlstring(L, value, (size_t)(lines + len - value));
            lua_rawset(L, -3);
        }
        if (!end) break;
        lines = end + 2;
    }
}

/* Splits "/path?a=b&c=d"; values as they are, not decoded: peers compare what clients write. */
static void push_target(lua_State *L, const char *target)
{
    const char *q = strchr(target, '?');
    lua_pushlstring(L, target, q ? (size_t)(q - target) : strlen(target));
    lua_setfield(L, -2, "path");
    lua_newtable(L);
    while (q && *q) {
        const char *start = q + 1, *end = strchr(start, '&');
        size_t len = end ? (size_t)(end - start) : strlen(start);
        const char *equals = memchr(start, '=', len);
        if (len) {
            lua_pushlstring(L, start, equals ? (size_t)(equals - start) : len);
            if (equals) {
                lua_pushlstring(L, equals + 1, (size_t)(start + len - equals - 1));
            } else {
                lua_pushliteral(L, "");
            }
            lua_rawset(L, -3);
        }
        q = end;
    }
    lua_setfield(L, -2, "query");
}

static void push_request(lua_State *L, const struct peer_request *r)
{
    lua_newtable(L);
    lua_pushnumber(L, (double)r->id);
    lua_setfield(L, -2, "id");
    lua_pushstring(L, r->method);
    lua_setfield(L, -2, "method");
    lua_pushstring(L, r->target);
    lua_setfield(L, -2, "target");
    push_target(L, r->target);
    lua_pushstring(L, r->host ? r->host : "");
    lua_setfield(L, -2, "host");
    push_headers(L, r->headers);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, r->body ? r->body : "", r->body ? r->body_len : 0);
    lua_setfield(L, -2, "body");
}

/* Finds the function to call and pushes it; false when the script has none. */
static bool push_function(lua_State *L, struct invoke *call)
{
    struct peer *p = call->peer;
    if (!call->function) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, p->timers_ref);
        lua_rawgeti(L, -1, (int)call->timer);
        lua_pushnil(L);
        lua_rawseti(L, -3, (int)call->timer);
        return lua_isfunction(L, -1);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->script_ref);
    lua_getfield(L, -1, call->function);
    if (!call->verb) return lua_isfunction(L, -1);
    if (!lua_istable(L, -1)) return false;
    lua_getfield(L, -1, call->verb);
    return lua_isfunction(L, -1);
}

static int l_invoke(lua_State *L)
{
    struct invoke *call = lua_touserdata(L, 1);
    struct peer *p = call->peer;
    call->found = push_function(L, call);
    if (!call->found) return 0;
    int base = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->self_ref);
    if (call->request) push_request(L, call->request);
    if (call->ws) peer__push_socket(p, L, call->ws);
    if (call->has_data) {
        lua_pushlstring(L, call->data, call->len);
        lua_pushboolean(L, call->text);
    }
    if (call->has_code) lua_pushinteger(L, call->code);
    if (call->argument) sandbox_push_value(L, call->argument, false);
    if (call->function && strcmp(call->function, "start") == 0) {
        lua_getfield(L, base + 1, "options");
    }
    lua_call(L, lua_gettop(L) - base, LUA_MULTRET);
    return lua_gettop(L) - base + 1;
}

static bool enter(struct peer *p, struct invoke *call, int results)
{
    lua_State *L = sandbox_lua(p->sandbox);
    char error[512];
    lua_pushcfunction(L, l_invoke);
    lua_pushlightuserdata(L, call);
    if (lua_enter(p->sandbox, L, 1, results, false, error, sizeof error) == CALL_OK) return true;
    fail(p, error);
    return false;
}

static void fail(struct peer *p, const char *text)
{
    if (!p->failed) text_copy(p->error, sizeof p->error, text, strlen(text));
    p->failed = true;
    p->port.log(p->port.self, text);
}
