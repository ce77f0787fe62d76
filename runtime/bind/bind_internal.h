/* What the files of bind/ share. */
#ifndef HOLDFAST_BIND_INTERNAL_H
#define HOLDFAST_BIND_INTERNAL_H

#include "bind/bind.h"

#define ALLOW(hook) (1u << (hook))
#define ALLOW_WAIT  (ALLOW(HOOK_FETCH) | ALLOW(HOOK_PREPARE) | ALLOW(HOOK_GREET) | ALLOW(HOOK_EVERY))
#define ALLOW_ALL   ((1u << (HOOK_EVERY + 1)) - 1)

/* Returns the running call when `conn` at index 1 belongs to it and `name` ("conn:send()") may be
 * used in this hook. May raise. */
struct call_context *bind__check_conn(lua_State *L, unsigned allowed, const char *name);
/* Outside hooks and in others than `allowed` it raises, naming the phase. */
struct call_context *bind__check_phase(lua_State *L, unsigned allowed, const char *name);
/* False when the connection is gone. */
bool bind__facts(const struct call_context *call, struct conn_facts *out);
int bind__push_stale(lua_State *L); /* nil, "stale_handle", text */
enum codec_kind bind__codec(const struct call_context *call);

/* A duration: text with a unit, or a number of milliseconds. May raise, naming `what`. */
uint64_t bind__check_duration(lua_State *L, int index, const char *what);
/* The field `key` of the table at index, pushed past any metatable. */
void bind__get(lua_State *L, int index, const char *key);
/* Raises for any key of the table at index that is not listed (ends with NULL). */
void bind__check_keys(lua_State *L, int index, const char *const *known, const char *what);
/* Text or a secret at index, without control bytes when `line`; NULL for others. Borrowed. */
const char *bind__text(lua_State *L, int index, size_t *len, bool *secret);
/* Appends what a person may see: a secret's name, printable text. */
void bind__shown(lua_State *L, int index, char *out, size_t out_bytes);

/* Each adds its functions to the table on top of the stack, or makes its metatables. */
void bind__open_conn(lua_State *L);
void bind__open_http(lua_State *L);
void bind__open_kept(lua_State *L);
void bind__open_crypto(lua_State *L);
void bind__open_bytes(lua_State *L);
void bind__open_json(lua_State *L);
void bind__open_url(lua_State *L);

/* Methods of conn that live in files of their own. */
int bind__l_http(lua_State *L);
int bind__l_await(lua_State *L);
int bind__l_get(lua_State *L);
int bind__l_fail(lua_State *L);
int bind__l_close(lua_State *L);
/* conn.session or conn.keep: an object that reads and writes through. */
void bind__push_kept(lua_State *L, const struct call_context *call, bool keep);
/* conn.session = {...}: value at index 3. */
int bind__replace_kept(lua_State *L, struct call_context *call, bool keep);
/* Yields with call->wait filled in. */
int bind__wait(lua_State *L, struct call_context *call, enum wait_kind kind, const char *name);

#endif
