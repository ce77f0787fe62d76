/* Sandbox: a Lua state that policies, configuration files and peers run in. No os, io, ffi, debug,
 * newproxy, raw coroutine, bytecode; JIT off; locked globals; pairs in a defined order; tostring without
 * addresses; own string matching under the instruction budget; random numbers from the host.
 *
 * Secrets are userdata whose bytes never enter Lua: a secret joined with text is a secret, printing one
 * shows its name. */
#ifndef HOLDFAST_POLICY_SANDBOX_H
#define HOLDFAST_POLICY_SANDBOX_H

#include <lua.h>

#include "base/value.h"
#include "policy/policy.h"

struct sandbox; /* opaque; found from a lua_State by sandbox_of() */

struct sandbox_options {
    const char *name;            /* "policy discord", for messages */
    const char *lua_path;        /* folder that require() finds lua/ modules in; NULL: built-in search:
                                    HOLDFAST_LUA, then PREFIX/share/holdfast/lua, then ./lua */
    const char *beside;          /* folder of files beside the policy that require() finds too, or NULL */
    struct policy_limits limits; /* zeros: defaults */
    uint64_t seed;
};

struct sandbox *sandbox_create(const struct sandbox_options *options); /* owned; NULL: out of memory */
void sandbox_destroy(struct sandbox *s);
lua_State *sandbox_lua(struct sandbox *s);
struct sandbox *sandbox_of(lua_State *L);

/* The one protected call. Function and `nargs` arguments are on L's stack (L may be a coroutine's
 * thread: then it is resumed and CALL_WAITING means that it yielded). On success results are on the
 * stack; otherwise the stack is as before the function, and `error` holds "file:line: text". The
 * instruction budget is counted from here. */
enum call_result lua_enter(struct sandbox *s, lua_State *L, int nargs, int nresults, bool resume,
                           char *error, size_t error_bytes);

/* Compiles `text` under the chunk name (shown in errors) and runs it; its first result is left on the
 * stack. Bytecode is refused. */
enum call_result sandbox_run(struct sandbox *s, const char *text, size_t len, const char *chunk_name,
                             char *error, size_t error_bytes);
/* Whole file into memory; refuses files writable by group or others, non-files, over 1 MiB. */
bool sandbox_read_file(const char *path, struct buffer *out, char *error, size_t error_bytes);

/* Where print() goes outside hooks; NULL (the start): nowhere. `text`: borrowed until return. */
void sandbox_on_print(struct sandbox *s, void (*print)(void *self, const char *text), void *self);

/* Locks the globals: from here on assigning to an unknown global raises. */
void sandbox_lock(struct sandbox *s);

/* Deep copy to C. Functions become VALUE_FUNCTION with their line. False with a sentence for cycles,
 * depth over 64, userdata other than secrets, NaN keys. */
bool sandbox_to_value(lua_State *L, int index, struct value *out, char *error, size_t error_bytes);
/* Pushes a copy. `frozen`: the tables refuse writes. */
void sandbox_push_value(lua_State *L, const struct value *v, bool frozen);
void sandbox_push_secret(lua_State *L, struct secret *secret); /* takes its own reference */
struct secret *sandbox_get_secret(lua_State *L, int index);    /* borrowed; NULL when it is none */

/* JSON both ways, for bind/ and peer/. Encodes the value at index; tables inside may hold secrets, whose
 * bytes then are in the text (`allow_secrets`), otherwise that is an error. Integers above 2^53 arrive
 * as decimal strings. False with a sentence. */
bool sandbox_json_encode(lua_State *L, int index, bool allow_secrets, struct buffer *out, char *error,
                         size_t error_bytes);
bool sandbox_json_decode(lua_State *L, const void *text, size_t len, char *error, size_t error_bytes);

/* Loop work of C functions counts against the budget: raises when it is used up. May long-jump. */
void sandbox_spend(lua_State *L, uint32_t steps);

#endif
