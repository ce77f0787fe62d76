/* The string library but for patterns. Every function that walks its subject counts against the
 * budget, and no result is begun that the memory cap would refuse. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "policy/sandbox_internal.h"

#define BYTE_RESULTS_MAX 4000

/* A result of `len` bytes: counted, and refused as over the cap before it is begun. May raise. */
void sandbox__expect_bytes(lua_State *L, size_t len)
{
    struct sandbox *s = sandbox_of(L);
    if (len < 65536) {
        sandbox_spend(L, (uint32_t)(COST_CALL + len / COST_BYTES));
        return;
    }
    /* Two copies: the buffer and the string. Garbage goes first. */
    if (s->used_bytes + 2 * len > s->limits.memory_bytes_max) lua_gc(L, LUA_GCCOLLECT, 0);
    if (len > s->limits.memory_bytes_max || s->used_bytes + len > s->limits.memory_bytes_max) {
        sandbox__trip(s, L, TRIP_MEMORY, "over its memory cap");
        sandbox__raise_trip(L);
    }
    sandbox_spend(L, (uint32_t)(COST_CALL + len / COST_BYTES));
}

/* The scratch buffer as a string: one copy instead of the doublings of a luaL_Buffer. May raise. */
void sandbox__push_scratch(lua_State *L)
{
    struct buffer *scratch = &sandbox_of(L)->scratch;
    lua_pushlstring(L, (const char *)scratch->data, scratch->len);
    buffer_clear(scratch);
    buffer_trim(scratch, 4096);
}

static struct buffer *begin(lua_State *L, size_t len)
{
    struct buffer *scratch = &sandbox_of(L)->scratch;
    sandbox__expect_bytes(L, len);
    buffer_clear(scratch);
    if (!buffer_reserve(scratch, len + 1)) luaL_error(L, "out of memory");
    return scratch;
}

static int l_len(lua_State *L)
{
    size_t len;
    luaL_checklstring(L, 1, &len);
    sandbox_spend(L, COST_CALL);
    lua_pushnumber(L, (double)len);
    return 1;
}

static size_t place(lua_Number at, size_t len)
{
    if (at < 0) at += (lua_Number)len + 1;
    return at < 0 ? 0 : at > (lua_Number)len + 1 ? len + 1 : (size_t)at;
}

static int l_sub(lua_State *L)
{
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    size_t from = place((lua_Number)luaL_checkinteger(L, 2), len);
    size_t to = place((lua_Number)luaL_optinteger(L, 3, -1), len);
    if (from < 1) from = 1;
    if (to > len) to = len;
    sandbox_spend(L, COST_CALL);
    if (from > to) {
        lua_pushliteral(L, "");
    } else {
        sandbox__expect_bytes(L, to - from + 1);
        lua_pushlstring(L, s + from - 1, to - from + 1);
    }
    return 1;
}

static int l_byte(lua_State *L)
{
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    lua_Integer first = luaL_optinteger(L, 2, 1);
    size_t from = place((lua_Number)first, len);
    size_t to = place((lua_Number)luaL_optinteger(L, 3, (lua_Integer)from), len);
    if (from < 1) from = 1;
    if (to > len) to = len;
    sandbox_spend(L, COST_CALL);
    if (from > to) return 0;
    size_t count = to - from + 1;
    if (count > BYTE_RESULTS_MAX) return luaL_error(L, "string slice too long");
    luaL_checkstack(L, (int)count, "string slice too long");
    sandbox_spend(L, (uint32_t)count);
    for (size_t i = 0; i < count; i++) lua_pushinteger(L, (unsigned char)s[from - 1 + i]);
    return (int)count;
}

static int l_char(lua_State *L)
{
    int count = lua_gettop(L);
    luaL_Buffer b;
    sandbox_spend(L, COST_CALL + 2 * (uint32_t)count);
    luaL_buffinit(L, &b);
    for (int i = 1; i <= count; i++) {
        lua_Integer c = luaL_checkinteger(L, i);
        luaL_argcheck(L, c >= 0 && c <= 255, i, "invalid value");
        luaL_addchar(&b, (char)c);
    }
    luaL_pushresult(&b);
    return 1;
}

static int each_byte(lua_State *L, void (*change)(const char *s, size_t len, uint8_t *out))
{
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    sandbox_spend(L, (uint32_t)(len / 4));
    struct buffer *out = begin(L, len);
    change(s, len, out->data);
    out->len = len;
    sandbox__push_scratch(L);
    return 1;
}

static void lower(const char *s, size_t len, uint8_t *out)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 0x20 : s[i]);
    }
}

static void upper(const char *s, size_t len, uint8_t *out)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(s[i] >= 'a' && s[i] <= 'z' ? s[i] & ~0x20 : s[i]);
    }
}

static void backwards(const char *s, size_t len, uint8_t *out)
{
    for (size_t i = 0; i < len; i++) out[i] = (uint8_t)s[len - 1 - i];
}

static int l_lower(lua_State *L)
{
    return each_byte(L, lower);
}

static int l_upper(lua_State *L)
{
    return each_byte(L, upper);
}

static int l_reverse(lua_State *L)
{
    return each_byte(L, backwards);
}

static int l_rep(lua_State *L)
{
    size_t len, gap_len = 0;
    const char *s = luaL_checklstring(L, 1, &len);
    lua_Number count = luaL_checknumber(L, 2);
    const char *gap = luaL_optlstring(L, 3, "", &gap_len);
    sandbox_spend(L, COST_CALL);
    if (!(count >= 1) || len + gap_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    double bytes = floor(count) * (double)(len + gap_len);
    struct buffer *out = begin(L, bytes > 0x1p40 ? (size_t)1 << 40 : (size_t)bytes);
    size_t total = (size_t)count * (len + gap_len) - gap_len;
    if (len) memcpy(out->data, s, len);
    if (count >= 2 && gap_len) memcpy(out->data + len, gap, gap_len);
    /* What is there doubles: one piece at a time, a megabyte of single bytes held the loop for 10 ms. */
    for (out->len = total < len + gap_len ? total : len + gap_len; out->len < total;) {
        size_t more = out->len < total - out->len ? out->len : total - out->len;
        memcpy(out->data + out->len, out->data, more);
        out->len += more;
    }
    sandbox__push_scratch(L);
    return 1;
}

static void add_quoted(lua_State *L, luaL_Buffer *b, int index)
{
    size_t len;
    const char *s = luaL_checklstring(L, index, &len);
    sandbox_spend(L, (uint32_t)len);
    luaL_addchar(b, '"');
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"' || s[i] == '\\' || s[i] == '\n') {
            luaL_addchar(b, '\\');
            luaL_addchar(b, s[i]);
        } else if (s[i] == '\r') {
            luaL_addstring(b, "\\r");
        } else if (s[i] == 0) {
            luaL_addstring(b, i + 1 < len && s[i + 1] >= '0' && s[i + 1] <= '9' ? "\\000" : "\\0");
        } else {
            luaL_addchar(b, s[i]);
        }
    }
    luaL_addchar(b, '"');
}

/* One directive without its '%': flags, width and precision of two digits at most, as Lua has it.
 */
static const char *read_spec(lua_State *L, const char *p, const char *end, char spec[24])
{
    size_t n = 0;
    spec[n++] = '%';
    while (p < end && *p && strchr("-+ #0", *p) && n < 6) spec[n++] = *p++;
    for (int digits = 0; p < end && *p >= '0' && *p <= '9' && digits < 2; digits++)
        spec[n++] = *p++;
    if (p < end && *p == '.') {
        spec[n++] = *p++;
        for (int d = 0; p < end && *p >= '0' && *p <= '9' && d < 2; d++) spec[n++] = *p++;
    }
    if (p >= end || (*p >= '0' && *p <= '9') || strchr("-+ #", *p)) {
        luaL_error(L, "invalid format (width or precision too long, or nothing after '%%')");
    }
    spec[n] = 0;
    return p;
}

static void add_text(lua_State *L, luaL_Buffer *b, int index, const char *spec)
{
    char out[512];
    size_t len;
    luaL_checkany(L, index);
    lua_pushcfunction(L, sandbox__l_tostring);
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    const char *s = lua_tolstring(L, -1, &len);
    sandbox_spend(L, COST_CALL);
    if (!spec[1] || (!strchr(spec, '.') && len >= 100)) {
        sandbox__expect_bytes(L, len);
        luaL_addvalue(b);
        return;
    }
    char whole[28];
    snprintf(whole, sizeof whole, "%ss", spec);
    sandbox_spend(L, 4 * COST_CALL);
    int n = snprintf(out, sizeof out, whole, s);
    lua_pop(L, 1);
    luaL_addlstring(b, out, (size_t)n < sizeof out ? (size_t)n : sizeof out - 1);
}

static void add_number(lua_State *L, luaL_Buffer *b, int index, const char *spec, char kind)
{
    char out[512], whole[32];
    double n = luaL_checknumber(L, index);
    int len;
    if (strchr("diouxX", kind)) {
        if (isnan(n) || n < -0x1p63 || n >= 0x1p64) luaL_argerror(L, index, "not an integer");
        snprintf(whole, sizeof whole, "%sll%c", spec, kind);
        long long i = n >= 0x1p63 ? (long long)(unsigned long long)n : (long long)n;
        len = snprintf(out, sizeof out, whole, i);
    } else {
        snprintf(whole, sizeof whole, "%s%c", spec, kind);
        len = snprintf(out, sizeof out, whole, n);
    }
    /* Hundreds of digits are a long division each. */
    sandbox_spend(L, len > 24 ? 4 * (uint32_t)len : strchr("diouxX", kind) ? 24 : 40);
    luaL_addlstring(b, out, (size_t)len < sizeof out ? (size_t)len : sizeof out - 1);
}

static int l_format(lua_State *L)
{
    size_t len;
    const char *p = luaL_checklstring(L, 1, &len), *end = p + len;
    char spec[24];
    int index = 1;
    luaL_Buffer b;
    sandbox_spend(L, (uint32_t)(2 * COST_CALL + len / 4));
    luaL_buffinit(L, &b);
    while (p < end) {
        if (*p != '%') {
            luaL_addchar(&b, *p++);
            continue;
        }
        if (++p < end && *p == '%') {
            luaL_addchar(&b, *p++);
            continue;
        }
        p = read_spec(L, p, end, spec);
        sandbox_spend(L, 2 * COST_CALL);
        char kind = *p++;
        index++;
        if (kind == 'c') {
            luaL_addchar(&b, (char)luaL_checkinteger(L, index));
        } else if (kind == 'q') {
            add_quoted(L, &b, index);
        } else if (kind == 's') {
            add_text(L, &b, index, spec);
        } else if (kind && strchr("diouxXeEfgGaA", kind)) {
            add_number(L, &b, index, spec, kind);
        } else {
            return luaL_error(L, "invalid option '%%%c' to 'format'", kind ? kind : ' ');
        }
    }
    luaL_pushresult(&b);
    return 1;
}

static const luaL_Reg functions[] = {
    { "len", l_len },       { "sub", l_sub },     { "byte", l_byte }, { "char", l_char },
    { "lower", l_lower },   { "upper", l_upper }, { "rep", l_rep },   { "reverse", l_reverse },
    { "format", l_format }, { NULL, NULL },
};

void sandbox__open_string(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
