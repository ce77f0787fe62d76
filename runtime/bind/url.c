/* `url.escape`: percent-encoding, in C because it also takes secrets. Owns nothing. */
#include <lauxlib.h>
#include <string.h>

#include "base/value.h"
#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

/* Everything but RFC 3986's unreserved characters becomes %XX; a secret gives a secret. */
static int l_escape(lua_State *L)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0, n = 0;
    bool is_secret;
    if (lua_type(L, 1) == LUA_TNUMBER || lua_type(L, 1) == LUA_TBOOLEAN) {
        sandbox__push_shown(L, 1);
        lua_replace(L, 1);
    }
    const char *text = bind__text(L, 1, &len, &is_secret);
    if (!text) return luaL_typerror(L, 1, "string, number or secret");
    sandbox_spend(L, (uint32_t)(len / 2) + 10);
    char *out = lua_newuserdata(L, 3 * len + 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr("-._~", c));
        if (plain) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = digits[c >> 4];
            out[n++] = digits[c & 15];
        }
    }
    struct secret *original = sandbox_get_secret(L, 1);
    if (!original) {
        lua_pushlstring(L, out, n);
        return 1;
    }
    struct sandbox *s = sandbox_of(L);
    struct secret *made = secret_create(secret_name(original), out, n);
    explicit_bzero(out, 3 * len + 1);
    s->exempt = true; /* `made` is held over a push */
    sandbox_push_secret(L, made);
    s->exempt = false;
    secret_unref(made);
    return 1;
}

void bind__open_url(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, l_escape);
    lua_setfield(L, -2, "escape");
    lua_setfield(L, -2, "url");
}
