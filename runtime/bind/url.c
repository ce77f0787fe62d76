/* `url.escape`: percent-encoding, in C because it also takes secrets. Owns nothing. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

/* Everything but RFC 3986's unreserved characters becomes %XX; a secret gives a secret. */
static int l_escape(lua_State *L)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;
    bool is_secret;
    if (lua_type(L, 1) == LUA_TNUMBER || lua_type(L, 1) == LUA_TBOOLEAN) {
        sandbox__push_shown(L, 1);
        lua_replace(L, 1);
    }
    const char *text = bind__text(L, 1, &len, &is_secret);
    if (!text) return luaL_typerror(L, 1, "string, number or secret");
    sandbox_spend(L, (uint32_t)(len / 2) + 10);
    sandbox__expect_bytes(L, 3 * len);
    struct buffer *out = &sandbox_of(L)->scratch;
    buffer_clear(out);
    if (!buffer_reserve(out, 3 * len + 1)) return luaL_error(L, "out of memory");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr("-._~", c));
        if (plain) {
            buffer_append_char(out, (char)c);
        } else {
            buffer_append_char(out, '%');
            buffer_append_char(out, digits[c >> 4]);
            buffer_append_char(out, digits[c & 15]);
        }
    }
    if (is_secret) {
        sandbox__push_derived(L, sandbox_get_secret(L, 1));
    } else {
        sandbox__push_scratch(L);
    }
    return 1;
}

void bind__open_url(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, l_escape);
    lua_setfield(L, -2, "escape");
    lua_setfield(L, -2, "url");
}
