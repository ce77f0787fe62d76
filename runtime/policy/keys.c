/* The defined order of a table's keys: numbers ascending, strings in byte order, false, true. Keys
 * with an identity only (tables, functions, userdata) have no order and are reported as odd. */
#include "policy/sandbox_internal.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static void count_into(lua_State *L, int table, uint32_t *count, bool *sequence, bool *odd)
{
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        int type = lua_type(L, -1);
        ++*count;
        if (type != LUA_TNUMBER) *sequence = false;
        if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TBOOLEAN) *odd = true;
    }
}

uint32_t sandbox__keys_count(lua_State *L, int index, bool *sequence, bool *odd)
{
    uint32_t count = 0;
    index = sandbox__absolute(L, index);
    *sequence = true;
    *odd = false;
    count_into(L, index, &count, sequence, odd);
    if (count != lua_objlen(L, index)) *sequence = false;
    if (sandbox__push_hidden(L, index)) {
        count_into(L, lua_gettop(L), &count, sequence, odd);
        lua_pop(L, 1);
    }
    return count;
}

static uint32_t fill(lua_State *L, int table, struct key *out, uint32_t at, uint32_t count)
{
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        int type = lua_type(L, -1);
        if (at >= count) continue;
        struct key *k = &out[at++];
        memset(k, 0, sizeof *k);
        k->type = type;
        if (type == LUA_TNUMBER) k->number = lua_tonumber(L, -1);
        if (type == LUA_TBOOLEAN) k->number = lua_toboolean(L, -1);
        if (type == LUA_TSTRING) k->text = lua_tolstring(L, -1, &k->len);
    }
    return at;
}

static int rank(int type)
{
    return type == LUA_TNUMBER ? 0 : type == LUA_TSTRING ? 1 : 2;
}

static int compare(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->type != y->type) return rank(x->type) - rank(y->type);
    if (x->type != LUA_TSTRING) return (x->number > y->number) - (x->number < y->number);
    size_t shorter = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->text, y->text, shorter);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

void sandbox__keys(lua_State *L, int index, struct key *out, uint32_t count)
{
    index = sandbox__absolute(L, index);
    uint32_t n = fill(L, index, out, 0, count);
    if (sandbox__push_hidden(L, index)) {
        n = fill(L, lua_gettop(L), out, n, count);
        lua_pop(L, 1);
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) bytes += out[i].len;
    uint64_t rounds = 1;
    while (n >> rounds) rounds++;
    if (!sandbox__charge(sandbox_of(L), L, rounds * (4 * n + bytes / COST_BYTES))) return;
    qsort(out, n, sizeof *out, compare);
}

void sandbox__push_key(lua_State *L, const struct key *k)
{
    switch (k->type) {
    case LUA_TNUMBER: lua_pushnumber(L, k->number); break;
    case LUA_TBOOLEAN: lua_pushboolean(L, k->number != 0); break;
    default: lua_pushlstring(L, k->text, k->len); break;
    }
}
