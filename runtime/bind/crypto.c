/* `crypto`: digests, HMAC, base64, hex. Keys and texts may be secrets; what is only another writing
 * of a secret (base64, hex) stays one, a digest is text. Owns nothing. */
#include <lauxlib.h>

#include "bind/bind_internal.h"
#include "crypto/digest.h"
#include "crypto/hmac.h"
#include "policy/sandbox_internal.h"

static const char *check_text(lua_State *L, int index, size_t *len, bool *secret)
{
    const char *text = bind__text(L, index, len, secret);
    if (!text) luaL_typerror(L, index, "string or secret");
    sandbox_spend(L, (uint32_t)(*len / 4) + 150);
    return text;
}

/* Of a secret: whoever watches hooks may have another in its place. */
static int push_digest(lua_State *L, uint8_t *out, size_t bytes, bool secret)
{
    const struct call_context *call = sandbox_call(L);
    if (secret && call && call->port->digest_made) {
        call->port->digest_made(call->port->self, call->conn, out, bytes);
    }
    lua_pushlstring(L, (const char *)out, bytes);
    return 1;
}

static int digest(lua_State *L, enum digest_kind kind)
{
    size_t len = 0;
    bool secret;
    uint8_t out[DIGEST_BYTES_MAX];
    const char *text = check_text(L, 1, &len, &secret);
    size_t bytes = digest_bytes(kind, text, len, out);
    if (!bytes) return luaL_error(L, "crypto: this digest is not available here");
    return push_digest(L, out, bytes, secret);
}

static int l_sha1(lua_State *L)
{
    return digest(L, DIGEST_SHA1);
}

static int l_sha256(lua_State *L)
{
    return digest(L, DIGEST_SHA256);
}

static int l_md5(lua_State *L)
{
    return digest(L, DIGEST_MD5);
}

static int l_hmac(lua_State *L)
{
    static const char *const names[] = { "sha1", "sha256", "sha512", NULL };
    static const enum digest_kind kinds[] = { DIGEST_SHA1, DIGEST_SHA256, DIGEST_SHA512 };
    enum digest_kind kind = kinds[luaL_checkoption(L, 1, NULL, names)];
    size_t key_len = 0, len = 0;
    bool secret, secret_key;
    uint8_t out[DIGEST_BYTES_MAX];
    const char *key = check_text(L, 2, &key_len, &secret_key);
    const char *text = check_text(L, 3, &len, &secret);
    size_t bytes = hmac_bytes(kind, key, key_len, text, len, out);
    if (!bytes) return luaL_error(L, "crypto: this digest is not available here");
    return push_digest(L, out, bytes, secret || secret_key);
}

/* Pushes text written another way by `write`, in at most `factor` times its bytes (and a few), as a
 * secret when the original is one. */
static int rewrite(lua_State *L, size_t factor,
                   size_t (*write)(const char *text, size_t len, char *out))
{
    size_t len = 0;
    bool secret;
    const char *text = check_text(L, 1, &len, &secret);
    struct buffer *out = &sandbox_of(L)->scratch;
    sandbox__expect_bytes(L, factor * len);
    buffer_clear(out);
    if (!buffer_reserve(out, factor * len + 8)) return luaL_error(L, "out of memory");
    out->len = write(text, len, (char *)out->data);
    if (secret) {
        sandbox__push_derived(L, sandbox_get_secret(L, 1));
    } else {
        sandbox__push_scratch(L);
    }
    return 1;
}

static size_t write_base64(const char *text, size_t len, char *out)
{
    return base64_encode(text, len, out);
}

static size_t write_hex(const char *text, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[(uint8_t)text[i] >> 4];
        out[2 * i + 1] = digits[(uint8_t)text[i] & 15];
    }
    return 2 * len;
}

static int l_base64(lua_State *L)
{
    return rewrite(L, 2, write_base64);
}

static int l_hex(lua_State *L)
{
    return rewrite(L, 2, write_hex);
}

static int malformed(lua_State *L)
{
    lua_pushnil(L);
    lua_pushliteral(L, "malformed");
    return 2;
}

static int l_unbase64(lua_State *L)
{
    size_t len, n;
    const char *text = luaL_checklstring(L, 1, &len);
    sandbox_spend(L, (uint32_t)(len / 4));
    uint8_t *out = lua_newuserdata(L, len + 1);
    if (!base64_decode(text, len, out, len + 1, &n)) return malformed(L);
    lua_pushlstring(L, (const char *)out, n);
    return 1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int l_unhex(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    sandbox_spend(L, (uint32_t)(len / 4));
    if (len % 2) return malformed(L);
    char *out = lua_newuserdata(L, len / 2 + 1);
    for (size_t i = 0; i < len / 2; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return malformed(L);
        out[i] = (char)(high << 4 | low);
    }
    lua_pushlstring(L, out, len / 2);
    return 1;
}

static const luaL_Reg functions[] = {
    { "sha1", l_sha1 }, { "sha256", l_sha256 }, { "md5", l_md5 },
    { "hmac", l_hmac }, { "base64", l_base64 }, { "unbase64", l_unbase64 },
    { "hex", l_hex },   { "unhex", l_unhex },   { NULL, NULL },
};

void bind__open_crypto(lua_State *L)
{
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_setfield(L, -2, "crypto");
}
