/* Frames between policies and the wire: decoded for hooks, encoded from what hooks answer or send.
 * Owns nothing. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "bind/bind_internal.h"
#include "policy/sandbox_internal.h"

static void push_field(lua_State *L, const struct field_value *v)
{
    switch (v->kind) {
    case FIELD_BOOL: lua_pushboolean(L, v->boolean); break;
    case FIELD_INTEGER:
        if (v->integer > -(1ll << 53) && v->integer < (1ll << 53)) {
            lua_pushnumber(L, (double)v->integer);
        } else {
            lua_pushlstring(L, (const char *)v->text, v->len);
        }
        break;
    case FIELD_NUMBER:
    case FIELD_STRING:
    case FIELD_OTHER: lua_pushlstring(L, (const char *)v->text, v->len); break;
    case FIELD_ABSENT:
    case FIELD_NULL: lua_pushnil(L); break;
    }
}

static void push_take(lua_State *L, const struct call_context *call,
                      const struct field_value *fields)
{
    struct conn_facts facts;
    lua_newtable(L);
    if (!fields || !bind__facts(call, &facts) || !facts.build) return;
    const struct frame_rules *rules = facts.build->rules;
    for (uint32_t i = 0; i < rules->field_count; i++) {
        push_field(L, &fields[i]);
        lua_setfield(L, -2, rules->fields[i].name);
    }
}

void bind_push_frame(lua_State *L, const struct call_context *call, const uint8_t *frame,
                     size_t len, const struct field_value *fields)
{
    char error[128];
    bool json = bind__codec(call) != CODEC_BYTES;
    if (!frame) {
        lua_pushnil(L);
        return;
    }
    if (json && sandbox_json_decode(L, frame, len, error, sizeof error)) {
        if (lua_istable(L, -1)) return;
        lua_pop(L, 1); /* a bare value: hooks get a table whatever comes */
        json = false;
    }
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, (const char *)frame, len);
    if (text_is_utf8(frame, len)) {
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "text");
    }
    lua_setfield(L, -2, "bytes");
    push_take(L, call, fields);
    lua_setfield(L, -2, "take");
    if (json) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "malformed");
    }
}

/* The one member `key` of { text = } or { bytes = }; 0 when the table is something else. */
static const char *raw_member(lua_State *L, int index, const char *key, size_t *len)
{
    bool secret;
    bind__get(L, index, key);
    const char *text = bind__text(L, -1, len, &secret);
    lua_pop(L, 1); /* still anchored by the table */
    return text;
}

bool bind_encode_frame(lua_State *L, int index, const struct call_context *call, struct buffer *out,
                       bool *text_out, char *error, size_t error_bytes)
{
    bool json = bind__codec(call) != CODEC_BYTES, secret;
    size_t len;
    index = sandbox__absolute(L, index);
    *text_out = json;
    const char *text = bind__text(L, index, &len, &secret);
    if (!text && lua_istable(L, index)) {
        if (json) return sandbox_json_encode(L, index, true, out, error, error_bytes);
        text = raw_member(L, index, "text", &len);
        *text_out = text != NULL;
        if (!text) text = raw_member(L, index, "bytes", &len);
        if (!text) {
            snprintf(error, error_bytes, "a frame with neither `text` nor `bytes`");
            return false;
        }
    }
    if (!text) {
        snprintf(error, error_bytes, "a %s, not a frame", luaL_typename(L, index));
        return false;
    }
    if (*text_out && !text_is_utf8(text, len)) {
        snprintf(error, error_bytes, "a text frame that is not UTF-8");
        return false;
    }
    if (len == 0 || buffer_append(out, text, len)) return true;
    snprintf(error, error_bytes, "a frame too large");
    return false;
}
