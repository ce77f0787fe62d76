/* Bind: what a policy sees. Each l_* function may raise and holds no memory when it does; what the
 * world does comes back as `nil, name, text`, a mistake of the policy raises.
 *
 * Lua holds boxes with a handle and the number of the call, never a pointer: a conn that a policy
 * kept beyond its call finds nothing. Nothing here touches the engine: wishes go through the
 * policy_port. */
#ifndef HOLDFAST_BIND_BIND_H
#define HOLDFAST_BIND_BIND_H

#include <lua.h>

#include "policy/context.h"
#include "policy/sandbox.h"

/* Once per state, with the table of `holdfast.native` on top of the stack: fills it and makes the
 * metatables. May raise. */
void bind_open(lua_State *L);
/* Makes `call` the running one; NULL: none. Never raises. */
void bind_set_call(lua_State *L, struct call_context *call);

/* Arguments and results of hooks. May raise. */
void bind_push_conn(lua_State *L, const struct call_context *call);
void bind_push_cause(lua_State *L, const struct cause *cause);
/* JSON: the decoded message. Otherwise, and for a message that is no JSON: { bytes =, text = (when
 * it is UTF-8), take = (its taken fields), malformed = true (JSON only) }. */
void bind_push_frame(lua_State *L, const struct call_context *call, const uint8_t *frame,
                     size_t len, const struct field_value *fields);
/* { status, ok, headers, body, json, retry_after }, or nil, name, text. */
void bind_push_http_answer(lua_State *L, const struct resume_with *with);

/* A frame as policies write them: a table (JSON), text, a secret, { text = } or { bytes = }. Never
 * raises. False with a sentence. */
bool bind_encode_frame(lua_State *L, int index, const struct call_context *call, struct buffer *out,
                       bool *text_out, char *error, size_t error_bytes);
bool bind_header_name_ok(const char *name, size_t len);

#endif
