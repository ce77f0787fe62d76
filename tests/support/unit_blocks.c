/* modules: net engine base */
/* unit.blocks: OpenSSL's large pieces of memory and what of them goes back to the system (net/blocks.c). Of the whole
 * process: a spec of it has a process of its own. */
#include <lauxlib.h>
#include <lua.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "net/net.h"

#define MOST 1024

int luaopen_unit_blocks(lua_State *L);

static void *taken[MOST];  /* of those taken first to last; NULL: given back */
static size_t taken_count;
static void *known[MOST];  /* every block that there ever was */
static size_t known_count;

static void learn(void *block)
{
    for (size_t i = 0; i < known_count; i++)
        if (known[i] == block) return;
    if (known_count < MOST) known[known_count++] = block;
}

/* take(n, bytes): so many pieces, written to */
static int l_take(lua_State *L)
{
    const lua_Integer n = luaL_checkinteger(L, 1), bytes = luaL_checkinteger(L, 2);
    luaL_argcheck(L, n >= 0 && (size_t)n <= MOST - taken_count, 1, "at most 1024");
    for (lua_Integer i = 0; i < n; i++) {
        void *block = CRYPTO_malloc((size_t)bytes, __FILE__, __LINE__);
        if (!block) return luaL_error(L, "memory is out");
        memset(block, 1, (size_t)bytes);
        taken[taken_count++] = block;
        learn(block);
    }
    return 0;
}

/* give(n): the last n that were taken */
static int l_give(lua_State *L)
{
    const lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 0 && (size_t)n <= taken_count, 1, "no more than were taken");
    for (lua_Integer i = 0; i < n; i++) CRYPTO_free(taken[--taken_count], __FILE__, __LINE__);
    return 0;
}

/* in_memory(): how many of all blocks that ever were taken have a page */
static int l_in_memory(lua_State *L)
{
    lua_Integer count = 0;
    for (size_t i = 0; i < known_count; i++) {
        unsigned char there = 0;
        if (mincore((void *)((uintptr_t)known[i] & ~(uintptr_t)4095), 4096, &there) == 0 && (there & 1)) count++;
    }
    lua_pushinteger(L, count);
    return 1;
}

static int l_rest(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)net_memory_rest());
    return 1;
}

static int l_full(lua_State *L)
{
    lua_pushboolean(L, net_memory_is_full());
    return 1;
}

int luaopen_unit_blocks(lua_State *L)
{
    static const luaL_Reg functions[] = { { "take", l_take }, { "give", l_give }, { "in_memory", l_in_memory },
                                          { "rest", l_rest }, { "is_full", l_full }, { NULL, NULL } };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    /* Not with AddressSanitizer: malloc() has them then. */
    lua_pushboolean(L, net_memory_begin());
    lua_setfield(L, -2, "pooled");
    return 1;
}
