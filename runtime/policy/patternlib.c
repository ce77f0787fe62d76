/* string.find, match, gmatch and gsub on our own matcher. Owns nothing: results grow in Lua's own
 * buffers, under the memory cap. */
#include <lauxlib.h>
#include <string.h>

#include "policy/pattern.h"
#include "policy/sandbox_internal.h"

static size_t start_of(lua_Integer init, size_t len)
{
    if (init < 0) init += (lua_Integer)len + 1;
    if (init < 1) init = 1;
    return (size_t)init - 1;
}

static bool is_plain(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] && strchr("^$*+?.([%-", p[i])) return false;
    }
    return true;
}

/* Before a match of its own: the call, and whatever it answers. */
static void begin(struct pattern_match *m, lua_State *L, const char *s, size_t len, const char *p,
                  size_t p_len)
{
    sandbox_spend(L, 3 * COST_CALL);
    pattern_init(m, L, s, len, p, p_len);
}

static int find_plain(lua_State *L, const char *s, size_t len, const char *p, size_t p_len,
                      size_t init)
{
    sandbox_spend(L, 2 * COST_CALL + (uint32_t)((len - init + p_len) / 8));
    const char *at = p_len ? memmem(s + init, len - init, p, p_len) : s + init;
    if (!at) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, at - s + 1);
    lua_pushinteger(L, at - s + (lua_Integer)p_len);
    return 2;
}

static int find_or_match(lua_State *L, bool find)
{
    size_t len, p_len;
    const char *s = luaL_checklstring(L, 1, &len);
    const char *p = luaL_checklstring(L, 2, &p_len);
    size_t init = start_of(luaL_optinteger(L, 3, 1), len);
    struct pattern_match m;
    if (init > len) init = len;
    if (find && (lua_toboolean(L, 4) || is_plain(p, p_len))) {
        return find_plain(L, s, len, p, p_len, init);
    }
    bool anchored = p_len > 0 && *p == '^';
    begin(&m, L, s, len, p, p_len);
    for (const char *at = s + init;; at++) {
        m.captures = m.depth = 0;
        const char *end = pattern_match(&m, at, p + anchored);
        if (end) {
            pattern_settle(&m);
            if (!find) return pattern_push_all(&m, at, end);
            lua_pushinteger(L, at - s + 1);
            lua_pushinteger(L, end - s);
            return pattern_push_all(&m, NULL, NULL) + 2;
        }
        if (anchored || at >= m.source_end) break;
    }
    pattern_settle(&m);
    lua_pushnil(L);
    return 1;
}

static int l_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int l_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* Upvalues: source, pattern, place of the next match. */
static int l_gmatch_step(lua_State *L)
{
    size_t len, p_len;
    const char *s = lua_tolstring(L, lua_upvalueindex(1), &len);
    const char *p = lua_tolstring(L, lua_upvalueindex(2), &p_len);
    size_t from = (size_t)lua_tointeger(L, lua_upvalueindex(3));
    struct pattern_match m;
    begin(&m, L, s, len, p, p_len);
    for (; from <= len; from++) {
        m.captures = m.depth = 0;
        const char *end = pattern_match(&m, s + from, p);
        if (!end) continue;
        pattern_settle(&m);
        lua_pushinteger(L, end - s + (end == s + from)); /* an empty match moves on */
        lua_replace(L, lua_upvalueindex(3));
        return pattern_push_all(&m, s + from, end);
    }
    pattern_settle(&m);
    return 0;
}

static int l_gmatch(lua_State *L)
{
    luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, l_gmatch_step, 3);
    return 1;
}

static void add_text(struct pattern_match *m, luaL_Buffer *b, const char *start, const char *end)
{
    size_t len;
    const char *with = lua_tolstring(m->L, 3, &len);
    for (size_t i = 0; i < len; i++) {
        if (with[i] != '%') {
            luaL_addchar(b, with[i]);
        } else if (++i >= len || with[i] < '0' || with[i] > '9') {
            luaL_addchar(b, i < len ? with[i] : 0);
        } else if (with[i] == '0') {
            luaL_addlstring(b, start, (size_t)(end - start));
        } else {
            pattern_push(m, with[i] - '1', start, end);
            luaL_addvalue(b);
        }
        if (i % 64 == 0) sandbox_spend(m->L, 64);
    }
}

/* A replacement of false or nil keeps the match. */
static void add_value(struct pattern_match *m, luaL_Buffer *b, const char *start, const char *end)
{
    lua_State *L = m->L;
    if (lua_type(L, 3) == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, pattern_push_all(m, start, end), 1);
    } else if (lua_type(L, 3) == LUA_TTABLE) {
        pattern_push(m, 0, start, end);
        lua_gettable(L, 3);
    } else {
        add_text(m, b, start, end);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        lua_pushlstring(L, start, (size_t)(end - start));
    } else if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
    luaL_addvalue(b);
}

static int l_gsub(lua_State *L)
{
    size_t len, p_len;
    const char *s = luaL_checklstring(L, 1, &len);
    const char *p = luaL_checklstring(L, 2, &p_len);
    int type = lua_type(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)len + 1), count = 0;
    bool anchored = p_len > 0 && *p == '^';
    struct pattern_match m;
    luaL_Buffer b;
    if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TFUNCTION && type != LUA_TTABLE) {
        luaL_typerror(L, 3, "string/function/table");
    }
    if (type == LUA_TNUMBER) {
        lua_tostring(L, 3);
    }
    lua_settop(L, 4);
    sandbox_spend(L, (uint32_t)(len / 4));
    luaL_buffinit(L, &b);
    begin(&m, L, s, len, p, p_len);
    while (count < most) {
        m.captures = m.depth = 0;
        const char *end = pattern_match(&m, s, p + anchored);
        if (end) {
            count++;
            sandbox_spend(L, 3 * COST_CALL);
            add_value(&m, &b, s, end);
        }
        if (end && end > s) {
            s = end;
        } else if (s < m.source_end) {
            luaL_addchar(&b, *s++);
        } else {
            break;
        }
        if (anchored) break;
    }
    pattern_settle(&m);
    luaL_addlstring(&b, s, (size_t)(m.source_end - s));
    luaL_pushresult(&b);
    lua_pushinteger(L, count);
    return 2;
}

static const luaL_Reg functions[] = {
    { "find", l_find }, { "match", l_match }, { "gmatch", l_gmatch },
    { "gsub", l_gsub }, { NULL, NULL },
};

void sandbox__open_pattern(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
