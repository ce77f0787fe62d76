/* JSON into Lua values, strictly as RFC 8259 has it but for bytes that are not UTF-8, which pass.
 * May raise for memory at any push: holds nothing but the sandbox's own scratch buffer. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sandbox_internal.h"

#define NUMBER_BYTES_MAX 64
#define COST_VALUE       10 /* beside its bytes and what it allocates */

static char array_key; /* its address is the key of the arrays' metatable in the registry */

struct decoder {
    lua_State *L;
    struct buffer *scratch; /* borrowed from the sandbox */
    const char *start, *at, *end;
    const char *why; /* static text of the fault */
};

static bool decode(struct decoder *d, int depth);

bool sandbox_json_decode(lua_State *L, const void *text, size_t len, char *error,
                         size_t error_bytes)
{
    struct sandbox *s = sandbox_of(L);
    struct decoder d = { L, &s->scratch, text, text, (const char *)text + len, NULL };
    int top = lua_gettop(L);
    luaL_checkstack(L, 4 * SANDBOX_DEPTH_MAX + LUA_MINSTACK, "JSON");
    sandbox_spend(L, (uint32_t)(2 * COST_CALL + len / 4));
    bool ok = decode(&d, 0);
    while (ok && d.at < d.end && strchr(" \t\r\n", *d.at) && *d.at) d.at++;
    if (ok && d.at < d.end) {
        d.why = "something follows the value";
        ok = false;
    }
    if (ok) return true;
    lua_settop(L, top);
    snprintf(error, error_bytes, "JSON: %s at byte %zu", d.why ? d.why : "malformed",
             (size_t)(d.at - d.start) + 1);
    return false;
}

void sandbox__open_json(lua_State *L)
{
    lua_pushlightuserdata(L, &array_key);
    lua_createtable(L, 0, 1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void sandbox__mark_array(lua_State *L, int index)
{
    index = sandbox__absolute(L, index);
    lua_pushlightuserdata(L, &array_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_setmetatable(L, index);
}

bool sandbox__is_array(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index)) return false;
    lua_pushlightuserdata(L, &array_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static bool fault(struct decoder *d, const char *why)
{
    if (!d->why) d->why = why;
    return false;
}

static void skip_space(struct decoder *d)
{
    while (d->at < d->end &&
           (*d->at == ' ' || *d->at == '\t' || *d->at == '\r' || *d->at == '\n')) {
        d->at++;
    }
}

static bool hex4(struct decoder *d, unsigned *out)
{
    unsigned n = 0;
    if (d->end - d->at < 4) return fault(d, "a broken escape");
    for (int i = 0; i < 4; i++) {
        char c = *d->at++;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 99;
        if (digit == 99) return fault(d, "a broken escape");
        n = n * 16 + digit;
    }
    *out = n;
    return true;
}

static bool add_code(struct decoder *d, unsigned c)
{
    char utf8[4];
    size_t n;
    if (c < 0x80) {
        utf8[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        utf8[0] = (char)(0xc0 | c >> 6);
        utf8[1] = (char)(0x80 | (c & 0x3f));
        n = 2;
    } else if (c < 0x10000) {
        utf8[0] = (char)(0xe0 | c >> 12);
        utf8[1] = (char)(0x80 | ((c >> 6) & 0x3f));
        utf8[2] = (char)(0x80 | (c & 0x3f));
        n = 3;
    } else {
        utf8[0] = (char)(0xf0 | c >> 18);
        utf8[1] = (char)(0x80 | ((c >> 12) & 0x3f));
        utf8[2] = (char)(0x80 | ((c >> 6) & 0x3f));
        utf8[3] = (char)(0x80 | (c & 0x3f));
        n = 4;
    }
    return buffer_append(d->scratch, utf8, n) || fault(d, "too large");
}

static bool decode_unicode(struct decoder *d)
{
    unsigned c, low;
    if (!hex4(d, &c)) return false;
    if (c >= 0xdc00 && c <= 0xdfff) c = 0xfffd;
    if (c >= 0xd800 && c <= 0xdbff) {
        const char *after = d->at;
        if (d->end - d->at >= 6 && d->at[0] == '\\' && d->at[1] == 'u') {
            d->at += 2;
            if (!hex4(d, &low)) return false;
            if (low >= 0xdc00 && low <= 0xdfff) {
                return add_code(d, 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00));
            }
            d->at = after;
        }
        c = 0xfffd;
    }
    return add_code(d, c);
}

/* After the opening quote. Pushes the string. */
static bool decode_string(struct decoder *d)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *run = d->at;
    bool escaped = false;
    for (;;) {
        while (d->at < d->end && *d->at != '"' && *d->at != '\\' && (unsigned char)*d->at >= 0x20) {
            d->at++;
        }
        if (d->at >= d->end) return fault(d, "a string without end");
        if ((unsigned char)*d->at < 0x20) return fault(d, "a control byte in a string");
        if (*d->at == '"' && !escaped) break;
        if (!escaped) buffer_clear(d->scratch);
        escaped = true;
        if (!buffer_append(d->scratch, run, (size_t)(d->at - run))) return fault(d, "too large");
        if (*d->at++ == '"') {
            lua_pushlstring(d->L, (const char *)d->scratch->data, d->scratch->len);
            buffer_trim(d->scratch, 0);
            return true;
        }
        if (d->at >= d->end) return fault(d, "a string without end");
        char c = *d->at++;
        const char *found = c ? strchr(from, c) : NULL;
        if (c == 'u') {
            if (!decode_unicode(d)) return false;
        } else if (!found) {
            return fault(d, "an unknown escape");
        } else if (!buffer_append_char(d->scratch, to[found - from])) {
            return fault(d, "too large");
        }
        run = d->at;
    }
    lua_pushlstring(d->L, run, (size_t)(d->at - run));
    d->at++;
    return true;
}

static size_t digits(struct decoder *d)
{
    const char *from = d->at;
    while (d->at < d->end && *d->at >= '0' && *d->at <= '9') d->at++;
    return (size_t)(d->at - from);
}

/* Integers beyond 2^53 stay text: no digit of an id may be lost. */
static bool decode_number(struct decoder *d)
{
    const char *from = d->at;
    char text[NUMBER_BYTES_MAX];
    bool whole = true;
    if (*d->at == '-') d->at++;
    const char *first = d->at;
    size_t count = digits(d);
    if (count == 0) return fault(d, "not a value");
    if (*first == '0' && count > 1) return fault(d, "a number with a leading zero");
    if (d->at < d->end && *d->at == '.') {
        d->at++;
        whole = false;
        if (digits(d) == 0) return fault(d, "a number without digits after the point");
    }
    if (d->at < d->end && (*d->at == 'e' || *d->at == 'E')) {
        d->at++;
        whole = false;
        if (d->at < d->end && (*d->at == '+' || *d->at == '-')) d->at++;
        if (digits(d) == 0) return fault(d, "a number without an exponent");
    }
    size_t len = (size_t)(d->at - from);
    if (whole && count > 15) {
        bool fits = false;
        if (count <= 16) {
            memcpy(text, from, len);
            text[len] = 0;
            long long n = strtoll(text, NULL, 10);
            fits = n >= -(1ll << 53) && n <= (1ll << 53);
        }
        if (!fits) {
            lua_pushlstring(d->L, from, len);
            return true;
        }
    }
    if (len >= sizeof text) return fault(d, "a number too long");
    memcpy(text, from, len);
    text[len] = 0;
    if (!whole) sandbox_spend(d->L, 2 * (uint32_t)len);
    double n = strtod(text, NULL);
    if (!isfinite(n)) return fault(d, "a number too large");
    lua_pushnumber(d->L, n);
    return true;
}

static bool decode_array(struct decoder *d, int depth)
{
    lua_newtable(d->L);
    skip_space(d);
    if (d->at < d->end && *d->at == ']') {
        d->at++;
        sandbox_spend(d->L, 2 * COST_CALL);
        sandbox__mark_array(d->L, -1); /* or it would come back as {} */
        return true;
    }
    for (int i = 1;; i++) {
        if (!decode(d, depth + 1)) return false;
        if (lua_isnil(d->L, -1)) { /* a hole would end the list */
            lua_pop(d->L, 1);
            lua_pushlightuserdata(d->L, NULL);
        }
        lua_rawseti(d->L, -2, i);
        skip_space(d);
        if (d->at >= d->end) return fault(d, "an array without end");
        char c = *d->at++;
        if (c == ']') return true;
        if (c != ',') return fault(d, "no comma between items");
    }
}

static bool decode_object(struct decoder *d, int depth)
{
    lua_newtable(d->L);
    skip_space(d);
    if (d->at < d->end && *d->at == '}') {
        d->at++;
        return true;
    }
    for (;;) {
        skip_space(d);
        if (d->at >= d->end || *d->at != '"') return fault(d, "no key");
        d->at++;
        sandbox_spend(d->L, COST_VALUE);
        if (!decode_string(d)) return false;
        skip_space(d);
        if (d->at >= d->end || *d->at != ':') return fault(d, "no colon after a key");
        d->at++;
        if (!decode(d, depth + 1)) return false;
        lua_rawset(d->L, -3);
        skip_space(d);
        if (d->at >= d->end) return fault(d, "an object without end");
        char c = *d->at++;
        if (c == '}') return true;
        if (c != ',') return fault(d, "no comma between members");
    }
}

static bool word(struct decoder *d, const char *text)
{
    size_t len = strlen(text);
    if ((size_t)(d->end - d->at) < len || memcmp(d->at, text, len) != 0) {
        return fault(d, "not a value");
    }
    d->at += len;
    return true;
}

static bool decode(struct decoder *d, int depth)
{
    if (depth >= SANDBOX_DEPTH_MAX) return fault(d, "nested too deeply");
    skip_space(d);
    if (d->at >= d->end) return fault(d, "the end");
    sandbox_spend(d->L, COST_VALUE);
    switch (*d->at) {
    case '{': d->at++; return decode_object(d, depth);
    case '[': d->at++; return decode_array(d, depth);
    case '"': d->at++; return decode_string(d);
    case 't': lua_pushboolean(d->L, 1); return word(d, "true");
    case 'f': lua_pushboolean(d->L, 0); return word(d, "false");
    case 'n': lua_pushnil(d->L); return word(d, "null");
    default: return decode_number(d);
    }
}
