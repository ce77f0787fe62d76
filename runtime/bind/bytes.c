/* `bytes`: integers and text to and from binary strings. u8 u16be u16le u32be u32le u64be u64le and
 * their signed forms i8 to i64le; u64 and i64 beyond 2^53 are decimal text. Owns nothing. */
#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

struct layout {
    bool is_signed, little;
    unsigned bytes;
};

/* One name such as "u16be" at text; its length, or 0. */
static size_t read_layout(const char *text, struct layout *out)
{
    char *end;
    if (*text != 'u' && *text != 'i') return 0;
    unsigned long bits = strtoul(text + 1, &end, 10);
    if (bits != 8 && bits != 16 && bits != 32 && bits != 64) return 0;
    out->is_signed = *text == 'i';
    out->bytes = (unsigned)bits / 8;
    out->little = false;
    if (bits > 8) {
        if (strncmp(end, "be", 2) != 0 && strncmp(end, "le", 2) != 0) return 0;
        out->little = end[0] == 'l';
        end += 2;
    }
    return *end == 0 || *end == ' ' ? (size_t)(end - text) : 0;
}

static const char *next_layout(lua_State *L, const char *format, struct layout *out)
{
    while (*format == ' ') format++;
    if (!*format) return NULL;
    size_t len = read_layout(format, out);
    if (!len) {
        luaL_error(L, "bytes: `%s`: u8, u16be, u16le, ... i64le with spaces between expected",
                   format);
    }
    return format + len;
}

static uint64_t check_integer(lua_State *L, int index, const struct layout *l)
{
    unsigned bits = l->bytes * 8;
    if (lua_type(L, index) == LUA_TSTRING && bits == 64) {
        char *end;
        const char *text = lua_tostring(L, index);
        errno = 0;
        uint64_t n = l->is_signed ? (uint64_t)strtoll(text, &end, 10) : strtoull(text, &end, 10);
        bool negative = strchr(text, '-') != NULL;
        if (end == text || *end || errno || (negative && !l->is_signed)) {
            luaL_argerror(L, index, "an integer in range expected");
        }
        return n;
    }
    double n = luaL_checknumber(L, index);
    double low = l->is_signed ? -ldexp(1, (int)bits - 1) : 0;
    double high = l->is_signed ? ldexp(1, (int)bits - 1) : ldexp(1, (int)bits);
    if (!(n == floor(n) && n >= low && n < high)) {
        luaL_argerror(L, index, "an integer in range expected");
    }
    return n < 0 ? (uint64_t)(int64_t)n : (uint64_t)n;
}

/* pack("u8 u16be", 1, 2) */
static int l_pack(lua_State *L)
{
    const char *format = luaL_checkstring(L, 1);
    struct layout l;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int index = 2; (format = next_layout(L, format, &l)); index++) {
        uint64_t n = check_integer(L, index, &l);
        for (unsigned i = 0; i < l.bytes; i++) {
            unsigned shift = 8 * (l.little ? i : l.bytes - 1 - i);
            luaL_addchar(&b, (char)(n >> shift & 0xff));
        }
        sandbox_spend(L, 4);
    }
    luaL_pushresult(&b);
    return 1;
}

static void push_integer(lua_State *L, const uint8_t *p, const struct layout *l)
{
    uint64_t n = 0;
    char text[24];
    for (unsigned i = 0; i < l->bytes; i++) n = n << 8 | p[l->little ? l->bytes - 1 - i : i];
    if (l->is_signed && l->bytes < 8 && n >> (l->bytes * 8 - 1)) n |= ~0ull << (l->bytes * 8);
    if (l->is_signed) {
        int64_t i = (int64_t)n;
        if (i >= -(1ll << 53) && i <= (1ll << 53)) {
            lua_pushnumber(L, (double)i);
            return;
        }
        snprintf(text, sizeof text, "%lld", (long long)i);
    } else if (n <= 1ull << 53) {
        lua_pushnumber(L, (double)n);
        return;
    } else {
        snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    }
    lua_pushstring(L, text);
}

/* unpack("u8 u16be", text, at): the integers, then the place after them; nil, "short" when the text
 * ends before. */
static int l_unpack(lua_State *L)
{
    size_t len;
    const char *format = luaL_checkstring(L, 1);
    const char *text = luaL_checklstring(L, 2, &len);
    lua_Integer at = luaL_optinteger(L, 3, 1);
    struct layout l;
    int count = 0;
    luaL_argcheck(L, at >= 1 && (size_t)at <= len + 1, 3, "outside of the text");
    size_t from = (size_t)at - 1;
    while ((format = next_layout(L, format, &l))) {
        if (len - from < l.bytes) {
            lua_pushnil(L);
            lua_pushliteral(L, "short");
            return 2;
        }
        luaL_checkstack(L, 3, "bytes");
        push_integer(L, (const uint8_t *)text + from, &l);
        from += l.bytes;
        count++;
        sandbox_spend(L, 4);
    }
    lua_pushnumber(L, (double)from + 1);
    return count + 1;
}

static const luaL_Reg functions[] = { { "pack", l_pack }, { "unpack", l_unpack }, { NULL, NULL } };

void bind__open_bytes(lua_State *L)
{
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_setfield(L, -2, "bytes");
}
