/* modules: crypto base */
/* unit.crypto: X25519, AES-128-CBC and MD5, as the specs see them. Bytes are Lua strings. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/aes.h"
#include "crypto/md5.h"
#include "crypto/x25519.h"

int luaopen_unit_crypto(lua_State *L);

static const uint8_t *check_bytes(lua_State *L, int index, size_t want)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    luaL_argcheck(L, len == want, index, "wrong length");
    return (const uint8_t *)text;
}

/* x25519_public(private) -> public */
static int l_x25519_public(lua_State *L)
{
    uint8_t out[X25519_BYTES];
    if (!x25519_public(check_bytes(L, 1, X25519_BYTES), out)) return 0;
    lua_pushlstring(L, (const char *)out, sizeof out);
    return 1;
}

/* x25519_shared(private, public) -> secret, or nothing */
static int l_x25519_shared(lua_State *L)
{
    uint8_t out[X25519_BYTES];
    if (!x25519_shared(check_bytes(L, 1, X25519_BYTES), check_bytes(L, 2, X25519_BYTES), out)) return 0;
    lua_pushlstring(L, (const char *)out, sizeof out);
    return 1;
}

/* aes(key, iv, encrypt, text...) -> text... : one object for all of them; false for what is refused */
static int l_aes(lua_State *L)
{
    int top = lua_gettop(L);
    struct aes_cbc *a = aes_cbc_create(check_bytes(L, 1, 16), check_bytes(L, 2, 16));
    if (!a) return 0;
    for (int i = 4; i <= top; i++) {
        size_t len, out_len = 0;
        const char *text = luaL_checklstring(L, i, &len);
        bool encrypt = lua_toboolean(L, 3);
        uint8_t *data = malloc(encrypt ? AES_CBC_BYTES(len) : len ? len : 1); /* not a byte to spare */
        if (!data) abort();
        memcpy(data, text, len);
        if (encrypt) out_len = aes_cbc_encrypt(a, data, len, data);
        if (encrypt ? out_len > 0 : aes_cbc_decrypt(a, data, len, data, &out_len)) {
            lua_pushlstring(L, (const char *)data, out_len);
        } else {
            lua_pushboolean(L, false);
        }
        free(data);
    }
    aes_cbc_destroy(a);
    return lua_gettop(L) - top;
}

/* md5({ piece... }...) -> hex... : one object for all of them */
static int l_md5(lua_State *L)
{
    int top = lua_gettop(L);
    struct md5 *m = md5_create();
    if (!m) return 0;
    for (int i = 1; i <= top; i++) {
        char hex[MD5_HEX_BYTES];
        md5_start(m);
        for (int k = 1; k <= (int)lua_objlen(L, i); k++) {
            size_t len;
            lua_rawgeti(L, i, k);
            const char *text = lua_tolstring(L, -1, &len);
            md5_feed(m, text, len);
            lua_pop(L, 1);
        }
        if (!md5_hex(m, hex)) abort();
        lua_pushlstring(L, hex, sizeof hex);
    }
    md5_destroy(m);
    return lua_gettop(L) - top;
}

int luaopen_unit_crypto(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "x25519_public", l_x25519_public }, { "x25519_shared", l_x25519_shared },
        { "aes", l_aes },                     { "md5", l_md5 },
        { NULL, NULL },
    };
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    return 1;
}
