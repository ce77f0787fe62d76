/* JSON from Lua values: keys sorted, integers without exponent, secrets' bytes only where allowed.
 * Runs no Lua code and allocates nothing in Lua, so that it never raises while it holds memory. */
#include <math.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "policy/sandbox_internal.h"

#define COST_WHOLE    20 /* a number written, read back and compared */
#define COST_FRACTION 200

struct encoder {
    lua_State *L;
    struct sandbox *s;
    struct buffer *out;
    bool allow_secrets;
    char *error;
    size_t error_bytes;
};

static bool encode(struct encoder *e, int index, int depth);

bool sandbox_json_encode(lua_State *L, int index, bool allow_secrets, struct buffer *out,
                         char *error, size_t error_bytes)
{
    struct encoder e = { L, sandbox_of(L), out, allow_secrets, error, error_bytes };
    index = sandbox__absolute(L, index);
    if (!lua_checkstack(L, 6 * SANDBOX_DEPTH_MAX + LUA_MINSTACK)) {
        snprintf(error, error_bytes, "out of memory");
        return false;
    }
    e.s->exempt = true;
    bool ok = encode(&e, index, 0);
    e.s->exempt = false;
    return ok;
}

static bool fail(struct encoder *e, const char *why)
{
    snprintf(e->error, e->error_bytes, "%s", why);
    return false;
}

static bool put(struct encoder *e, bool ok)
{
    return ok || fail(e, "JSON: too large");
}

static bool encode_string(struct encoder *e, const char *text, size_t len)
{
    if (!sandbox__charge(e->s, e->L, COST_CALL + len / 4))
        return fail(e, "over its instruction budget");
    if (!text_is_utf8(text, len)) return fail(e, "JSON: a string that is not UTF-8");
    size_t before = e->out->len;
    bool ok = put(e, text_json_string(e->out, text, len));
    sandbox__charge(e->s, e->L, (e->out->len - before) / 4); /* a control byte becomes six */
    return ok;
}

static bool encode_number(struct encoder *e, double n)
{
    char text[40];
    if (!isfinite(n)) return fail(e, "JSON: a number that is not finite");
    bool whole = n == floor(n) && fabs(n) < 1e21;
    if (!sandbox__charge(e->s, e->L, whole ? COST_WHOLE : COST_FRACTION)) {
        return fail(e, "over its instruction budget");
    }
    if (whole && fabs(n) <= 0x1p53) return put(e, buffer_append_decimal(e->out, (int64_t)n));
    if (whole) {
        snprintf(text, sizeof text, "%.0f", n == 0 ? 0.0 : n);
    } else {
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, n);
            if (strtod(text, NULL) == n) break;
        }
    }
    return put(e, buffer_append_text(e->out, text));
}

static bool encode_array(struct encoder *e, int index, size_t count, int depth)
{
    bool ok = put(e, buffer_append_char(e->out, '['));
    for (size_t i = 1; ok && i <= count; i++) {
        if (i > 1) ok = put(e, buffer_append_char(e->out, ','));
        lua_rawgeti(e->L, index, (int)i);
        ok = ok && encode(e, lua_gettop(e->L), depth + 1);
        lua_pop(e->L, 1);
    }
    return ok && put(e, buffer_append_char(e->out, ']'));
}

static bool encode_key(struct encoder *e, const struct key *k)
{
    if (k->type == LUA_TSTRING) return encode_string(e, k->text, k->len);
    return put(e, buffer_append_char(e->out, '"')) && encode_number(e, k->number) &&
           put(e, buffer_append_char(e->out, '"'));
}

static bool encode_object(struct encoder *e, int index, uint32_t count, int depth)
{
    struct key *order = malloc((count + 1) * sizeof *order);
    if (!order) return fail(e, "out of memory");
    sandbox__keys(e->L, index, order, count);
    bool ok = put(e, buffer_append_char(e->out, '{'));
    for (uint32_t i = 0; ok && i < count; i++) {
        if (order[i].type == LUA_TBOOLEAN) ok = fail(e, "JSON: a key that is true or false");
        if (ok && i) ok = put(e, buffer_append_char(e->out, ','));
        ok = ok && encode_key(e, &order[i]) && put(e, buffer_append_char(e->out, ':'));
        if (!ok) break;
        sandbox__push_key(e->L, &order[i]);
        sandbox__rawget(e->L, index);
        ok = encode(e, lua_gettop(e->L), depth + 1);
        lua_pop(e->L, 1);
    }
    free(order);
    return ok && put(e, buffer_append_char(e->out, '}'));
}

static bool encode_table(struct encoder *e, int index, int depth)
{
    bool sequence, odd;
    if (depth >= SANDBOX_DEPTH_MAX) return fail(e, "JSON: nested too deeply, or in a circle");
    uint32_t count = sandbox__keys_count(e->L, index, &sequence, &odd);
    if (!sandbox__charge(e->s, e->L, 2 * COST_CALL + (uint64_t)count * 16)) {
        return fail(e, "over its instruction budget");
    }
    if (odd) return fail(e, "JSON: a key that is no text and no number");
    if (sandbox__is_array(e->L, index)) {
        if (!sequence) return fail(e, "JSON: holdfast.array with other keys than 1..n");
        return encode_array(e, index, count, depth);
    }
    if (count > 0 && sequence) return encode_array(e, index, count, depth);
    return encode_object(e, index, count, depth);
}

static bool encode(struct encoder *e, int index, int depth)
{
    struct secret *secret;
    size_t len;
    switch (lua_type(e->L, index)) {
    case LUA_TNIL: return put(e, buffer_append_text(e->out, "null"));
    case LUA_TBOOLEAN:
        return put(e, buffer_append_text(e->out, lua_toboolean(e->L, index) ? "true" : "false"));
    case LUA_TNUMBER: return encode_number(e, lua_tonumber(e->L, index));
    case LUA_TSTRING: {
        const char *text = lua_tolstring(e->L, index, &len);
        return encode_string(e, text, len);
    }
    case LUA_TTABLE: return encode_table(e, index, depth);
    default: break;
    }
    if (sandbox__is_null(e->L, index)) return put(e, buffer_append_text(e->out, "null"));
    secret = sandbox_get_secret(e->L, index);
    if (secret && !e->allow_secrets) return fail(e, "JSON: a secret may not be shown here");
    if (secret) {
        const char *text = secret_bytes(secret, &len);
        return encode_string(e, text, len);
    }
    snprintf(e->error, e->error_bytes, "JSON: cannot hold a %s", luaL_typename(e->L, index));
    return false;
}
