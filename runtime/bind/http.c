/* conn:http{}: the request is built here, secrets included, and its answer becomes a table. Hosts
 * are checked and budgets asked by dispatch. Never sends anything. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

#define RESPONSE_MT      "holdfast.response"
#define URL_BYTES_MAX    8192
#define HEADER_BYTES_MAX 16384
#define BODY_BYTES_MAX   ((size_t)4 << 20)

/* Where a request is read, every fault is a sentence, raised once nothing is held. */
struct reading {
    lua_State *L;
    struct call_http *http;
    char error[200];
};

static bool fail(struct reading *r, const char *why)
{
    snprintf(r->error, sizeof r->error, "%s", why);
    return false;
}

bool bind_header_name_ok(const char *name, size_t len)
{
    if (len == 0 || len > 64) return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  (c && strchr("!#$%&'*+-.^_`|~", c));
        if (!ok) return false;
    }
    return true;
}

static bool one_line(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) return false;
    }
    return true;
}

static bool read_method(struct reading *r, bool has_body)
{
    static const char *const methods[] = { "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD" };
    bind__get(r->L, 2, "method");
    const char *given = lua_type(r->L, -1) == LUA_TSTRING ? lua_tostring(r->L, -1) : NULL;
    if (!given && !lua_isnil(r->L, -1)) return fail(r, "`method` that is no text");
    if (!given) given = has_body ? "POST" : "GET";
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(given, methods[i]) != 0) continue;
        snprintf(r->http->method, sizeof r->http->method, "%s", given);
        return true;
    }
    return fail(r, "`method` must be GET, POST, PUT, DELETE, PATCH or HEAD");
}

static bool read_url(struct reading *r)
{
    size_t len = 0;
    bool secret;
    bind__get(r->L, 2, "url");
    const char *url = bind__text(r->L, -1, &len, &secret);
    if (!url || len == 0 || len > URL_BYTES_MAX || !one_line(url, len) || memchr(url, ' ', len)) {
        return fail(r, "`url` must be an address without spaces, at most 8 KiB");
    }
    if (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0) {
        return fail(r, "`url` must begin with https:// or http://");
    }
    return buffer_append(&r->http->url, url, len) && buffer_append_char(&r->http->url, 0) &&
           (r->http->url.len--, true);
}

static bool add_header(struct reading *r, const char *name, size_t name_len, const char *value,
                       size_t value_len)
{
    struct buffer *out = &r->http->headers;
    if (!bind_header_name_ok(name, name_len)) return fail(r, "`headers`: a name that is none");
    if (!one_line(value, value_len)) return fail(r, "`headers`: a value of more than one line");
    if (out->len + name_len + value_len + 4 > HEADER_BYTES_MAX) {
        return fail(r, "`headers`: more than 16 KiB");
    }
    return buffer_append(out, name, name_len) && buffer_append_text(out, ": ") &&
           buffer_append(out, value, value_len) && buffer_append_text(out, "\r\n");
}

static bool is_content_type(const struct key *k)
{
    static const char name[] = "content-type";
    if (k->len != sizeof name - 1) return false;
    for (size_t i = 0; i < k->len; i++) {
        if ((k->text[i] | 0x20) != name[i] && k->text[i] != name[i]) return false;
    }
    return true;
}

#define HEADERS_MAX 32

static bool read_headers(struct reading *r, bool *typed)
{
    struct key order[HEADERS_MAX];
    bool sequence, odd, secret;
    size_t len;
    bind__get(r->L, 2, "headers");
    if (lua_isnil(r->L, -1)) return true;
    if (!lua_istable(r->L, -1)) return fail(r, "`headers` that is no table");
    int table = lua_gettop(r->L);
    uint32_t count = sandbox__keys_count(r->L, table, &sequence, &odd);
    if (odd || count > HEADERS_MAX) return fail(r, "`headers`: at most 32, by name");
    sandbox__keys(r->L, table, order, count);
    for (uint32_t i = 0; i < count; i++) {
        char number[32];
        if (order[i].type != LUA_TSTRING) return fail(r, "`headers`: a name that is none");
        sandbox__push_key(r->L, &order[i]);
        sandbox__rawget(r->L, table);
        const char *value = bind__text(r->L, -1, &len, &secret);
        if (!value && lua_type(r->L, -1) == LUA_TNUMBER) {
            len = (size_t)snprintf(number, sizeof number, "%.14g", lua_tonumber(r->L, -1));
            value = number;
        }
        if (!value) return fail(r, "`headers`: a value that is no text");
        if (!add_header(r, order[i].text, order[i].len, value, len)) return false;
        *typed = *typed || is_content_type(&order[i]);
        lua_pop(r->L, 1);
    }
    return true;
}

static bool read_body(struct reading *r, bool *has_body, bool *json)
{
    size_t len = 0;
    bool secret;
    bind__get(r->L, 2, "json");
    bind__get(r->L, 2, "body");
    *json = !lua_isnil(r->L, -2);
    *has_body = *json || !lua_isnil(r->L, -1);
    if (*json && !lua_isnil(r->L, -1)) return fail(r, "`json` and `body` at once");
    if (*json) {
        return sandbox_json_encode(r->L, -2, true, &r->http->body, r->error, sizeof r->error);
    }
    if (!*has_body) return true;
    const char *body = bind__text(r->L, -1, &len, &secret);
    if (!body) return fail(r, "`body` that is no text");
    if (len > BODY_BYTES_MAX) return fail(r, "`body` over 4 MiB");
    return buffer_append(&r->http->body, body, len);
}

static bool read_request(struct reading *r)
{
    bool has_body = false, json = false, typed = false;
    return read_body(r, &has_body, &json) && read_method(r, has_body) && read_url(r) &&
           read_headers(r, &typed) &&
           (!json || typed ||
            buffer_append_text(&r->http->headers, "Content-Type: application/json\r\n"));
}

int bind__l_http(lua_State *L)
{
    static const char *const known[] = {
        "url", "method", "headers", "body", "json", "timeout", NULL
    };
    struct call_context *call = bind__check_conn(L, ALLOW_WAIT, "conn:http()");
    uint64_t timeout_ms = 0;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    bind__check_keys(L, 2, known, "conn:http()");
    bind__get(L, 2, "timeout");
    if (!lua_isnil(L, -1)) {
        timeout_ms = bind__check_duration(L, -1, "conn:http{ timeout }");
        if (timeout_ms == 0) return luaL_error(L, "conn:http{ timeout }: must be above zero");
    }
    call_wait_deinit(&call->wait);
    struct reading r = { .L = L, .http = &call->wait.http };
    luaL_checkstack(L, 3 * HEADERS_MAX, "conn:http()");
    struct sandbox *s = sandbox_of(L);
    s->exempt = true;
    bool ok = read_request(&r);
    s->exempt = false;
    if (!ok) {
        call_wait_deinit(&call->wait);
        sandbox_spend(L, 1); /* a used up budget comes first */
        return luaL_error(L, "conn:http(): %s", r.error[0] ? r.error : "too large");
    }
    call->wait.http.timeout_ms = timeout_ms;
    return bind__wait(L, call, WAIT_HTTP, "conn:http()");
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* "Name: value\r\n" lines to a table of lower-case names; the first of equal names wins. */
static void push_headers(lua_State *L, const char *head, size_t len)
{
    const char *end = head + len;
    lua_newtable(L);
    for (int lines = 0; head < end && lines < 256; lines++) {
        const char *eol = memchr(head, '\n', (size_t)(end - head));
        const char *next = eol ? eol + 1 : end;
        const char *stop = eol ? eol : end;
        if (stop > head && stop[-1] == '\r') stop--;
        const char *colon = memchr(head, ':', (size_t)(stop - head));
        if (colon && colon > head) {
            char name[128];
            size_t n =
                (size_t)(colon - head) < sizeof name ? (size_t)(colon - head) : sizeof name - 1;
            for (size_t i = 0; i < n; i++) {
                name[i] = head[i] >= 'A' && head[i] <= 'Z' ? (char)(head[i] | 0x20) : head[i];
            }
            for (colon++; colon < stop && (*colon == ' ' || *colon == '\t'); colon++) {
            }
            while (stop > colon && (stop[-1] == ' ' || stop[-1] == '\t')) stop--;
            lua_pushlstring(L, name, n);
            lua_pushvalue(L, -1);
            lua_rawget(L, -3);
            bool first = lua_isnil(L, -1);
            lua_pop(L, 1);
            if (first) {
                lua_pushlstring(L, colon, (size_t)(stop - colon));
                lua_rawset(L, -3);
            } else {
                lua_pop(L, 1);
            }
        }
        head = next;
    }
}

void bind_push_http_answer(lua_State *L, const struct resume_with *with)
{
    if (!with->answered) {
        const struct cause *c = with->cause;
        lua_pushnil(L);
        lua_pushstring(L, c && c->name[0] ? c->name : c ? cause_kind_name(c->kind) : "call");
        lua_pushstring(L, c ? c->reason : "");
        return;
    }
    lua_createtable(L, 0, 6);
    lua_pushinteger(L, with->status);
    lua_setfield(L, -2, "status");
    lua_pushboolean(L, with->status >= 200 && with->status < 300);
    lua_setfield(L, -2, "ok");
    push_headers(L, with->head, with->head_len);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, with->body ? with->body : "", with->body_len);
    lua_setfield(L, -2, "body");
    if (with->retry_after_ms != RETRY_AFTER_NONE && with->retry_after_ms > 0) {
        lua_pushnumber(L, (double)with->retry_after_ms / 1000);
        lua_setfield(L, -2, "retry_after");
    }
    luaL_setmetatable(L, RESPONSE_MT);
}

/* `json` is decoded when it is first asked for; nil when the body is none. */
static int l_response_index(lua_State *L)
{
    char error[128];
    size_t len;
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(key, "json") != 0) return 0;
    lua_pushliteral(L, "body");
    lua_rawget(L, 1);
    const char *body = lua_tolstring(L, -1, &len);
    if (!body || !sandbox_json_decode(L, body, len, error, sizeof error)) return 0;
    lua_pushliteral(L, "json");
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
    return 1;
}

void bind__open_http(lua_State *L)
{
    luaL_newmetatable(L, RESPONSE_MT);
    lua_pushcfunction(L, l_response_index);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
