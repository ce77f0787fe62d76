/* The table library: refuses frozen tables, sorts in n log n whatever the comparison says, joins
 * secrets into secrets. Owns nothing. */
#include <lauxlib.h>
#include <string.h>

#include "policy/sandbox_internal.h"

static size_t writable(lua_State *L, int index)
{
    luaL_checktype(L, index, LUA_TTABLE);
    if (sandbox__is_frozen(L, index)) luaL_argerror(L, index, "this table is read only");
    return lua_objlen(L, index);
}

static int l_insert(lua_State *L)
{
    size_t n = writable(L, 1) + 1, at = n;
    int count = lua_gettop(L);
    sandbox_spend(L, 3 * COST_CALL);
    if (count == 3) {
        lua_Number wanted = luaL_checknumber(L, 2);
        if (!(wanted >= 1 && wanted <= (lua_Number)n))
            luaL_argerror(L, 2, "position out of bounds");
        at = (size_t)wanted;
        sandbox_spend(L, (uint32_t)(4 * (n - at)));
        for (size_t i = n; i > at; i--) {
            lua_rawgeti(L, 1, (int)i - 1);
            lua_rawseti(L, 1, (int)i);
        }
    } else if (count != 2) {
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_rawseti(L, 1, (int)at);
    return 0;
}

static int l_remove(lua_State *L)
{
    size_t n = writable(L, 1);
    lua_Number wanted = luaL_optnumber(L, 2, (lua_Number)n);
    sandbox_spend(L, 3 * COST_CALL);
    if (n == 0 || !(wanted >= 1 && wanted <= (lua_Number)n)) return 0;
    size_t at = (size_t)wanted;
    lua_rawgeti(L, 1, (int)at);
    sandbox_spend(L, (uint32_t)(4 * (n - at)));
    for (; at < n; at++) {
        lua_rawgeti(L, 1, (int)at + 1);
        lua_rawseti(L, 1, (int)at);
    }
    lua_pushnil(L);
    lua_rawseti(L, 1, (int)n);
    return 1;
}

/* One item of a list, as text that stays while the list keeps it. A number's text is put into
 * `number`. */
static const char *item(lua_State *L, int i, size_t *len, char number[40], struct secret **secret)
{
    lua_rawgeti(L, 1, i);
    sandbox_spend(L, COST_CALL);
    *secret = sandbox_get_secret(L, -1);
    const char *text = NULL;
    if (*secret) {
        text = secret_bytes(*secret, len);
    } else if (lua_type(L, -1) == LUA_TNUMBER) {
        sandbox_spend(L, 3 * COST_CALL);
        lua_tostring(L, -1);
        text = lua_tolstring(L, -1, len);
        if (*len < 40) text = memcpy(number, text, *len + 1);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        text = lua_tolstring(L, -1, len);
    } else {
        luaL_error(L, "invalid value (a %s) at index %d in table for 'concat'",
                   luaL_typename(L, -1), i);
    }
    lua_pop(L, 1);
    return text;
}

static int l_concat(lua_State *L)
{
    size_t gap_len, len, total = 0;
    char number[40];
    luaL_checktype(L, 1, LUA_TTABLE);
    sandbox_spend(L, 3 * COST_CALL);
    const char *gap = luaL_optlstring(L, 2, "", &gap_len);
    lua_Number first = luaL_optnumber(L, 3, 1);
    lua_Number last = luaL_optnumber(L, 4, (lua_Number)lua_objlen(L, 1));
    struct secret *secret, *found = NULL;
    struct buffer *joined = &sandbox_of(L)->scratch;
    if (!(first >= -0x1p31 && last < 0x1p31)) return luaL_error(L, "concat: range too large");
    for (lua_Number i = first; i <= last; i++) {
        item(L, (int)i, &len, number, &secret);
        total += len + (i > first ? gap_len : 0);
        if (secret && !found) found = secret;
    }
    if (found && total > SANDBOX_SECRET_BYTES_MAX) return luaL_error(L, "a secret over 64 KiB");
    sandbox__expect_bytes(L, total);
    buffer_clear(joined);
    for (lua_Number i = first; i <= last; i++) {
        const char *text = item(L, (int)i, &len, number, &secret);
        if ((i > first && !buffer_append(joined, gap, gap_len)) ||
            !buffer_append(joined, text, len)) {
            return luaL_error(L, "out of memory");
        }
    }
    if (found) {
        sandbox__push_derived(L, found);
        return 1;
    }
    sandbox__push_scratch(L);
    return 1;
}

/* Is item a before item b? Both on top of the stack, popped. */
static bool before(lua_State *L)
{
    bool yes;
    sandbox_spend(L, 2 * COST_CALL);
    if (lua_isnil(L, 2)) {
        if (lua_type(L, -1) == LUA_TSTRING && lua_type(L, -2) == LUA_TSTRING) {
            size_t a = lua_objlen(L, -1), b = lua_objlen(L, -2);
            sandbox_spend(L, (uint32_t)((a < b ? a : b) / COST_BYTES));
        }
        yes = lua_lessthan(L, -2, -1);
        lua_pop(L, 2);
        return yes;
    }
    lua_pushvalue(L, 2);
    lua_insert(L, -3);
    lua_call(L, 2, 1);
    yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return yes;
}

static bool before_at(lua_State *L, int a, int b)
{
    lua_rawgeti(L, 1, a);
    lua_rawgeti(L, 1, b);
    return before(L);
}

static void swap(lua_State *L, int a, int b)
{
    lua_rawgeti(L, 1, a);
    lua_rawgeti(L, 1, b);
    lua_rawseti(L, 1, a);
    lua_rawseti(L, 1, b);
}

static void sink(lua_State *L, int root, int n)
{
    for (;;) {
        int child = 2 * root;
        if (child > n) return;
        if (child < n && before_at(L, child, child + 1)) child++;
        if (!before_at(L, root, child)) return;
        swap(L, root, child);
        root = child;
    }
}

/* Heap sort: no comparison can make it quadratic or lead it out of the list. */
static int l_sort(lua_State *L)
{
    size_t items = writable(L, 1);
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
    if (items >= (1u << 30)) return luaL_error(L, "sort: too many items");
    lua_settop(L, 2);
    int n = (int)items;
    for (int root = n / 2; root >= 1; root--) sink(L, root, n);
    for (int last = n; last > 1; last--) {
        swap(L, 1, last);
        sink(L, 1, last - 1);
    }
    return 0;
}

static const luaL_Reg functions[] = {
    { "insert", l_insert }, { "remove", l_remove }, { "concat", l_concat },
    { "sort", l_sort },     { NULL, NULL },
};

void sandbox__open_table(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
