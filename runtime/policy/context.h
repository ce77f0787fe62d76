/* Context: the hook that runs now, as bind/ sees it. It lives in the task, and is current only
 * between entering Lua and coming back. */
#ifndef HOLDFAST_POLICY_CONTEXT_H
#define HOLDFAST_POLICY_CONTEXT_H

#include <lua.h>

#include "policy/policy.h"

struct call_context {
    const struct policy_port *port; /* borrowed */
    struct policy_version *version; /* borrowed: the task holds a reference */
    enum hook hook;
    char name[PLAN_NAME_MAX]; /* FETCH, EVERY: which */
    struct handle conn;
    uint32_t generation;
    uint64_t serial; /* of the task: a conn of another task is stale */
    bool may_wait;
    bool waiting;          /* `wait` is filled in, the coroutine yielded */
    struct call_wait wait; /* owned */
    bool ended;            /* conn:fail or conn:close was called */
    bool session_dirty, keep_dirty;
};

/* NULL outside hooks: while a file is loading. Borrowed until the hook returns or waits. */
struct call_context *sandbox_call(lua_State *L);
/* Ends the running hook now: unwinds through every pcall. Raises. */
int sandbox_end_hook(lua_State *L);
/* One draw: from the connection's own stream inside a hook, otherwise from the sandbox's seed. */
uint64_t sandbox_random(lua_State *L);
/* One line for the log: the connection's, or what sandbox_on_print() named. */
void sandbox_print(lua_State *L, const char *text);

void call_wait_init(struct call_wait *w);
/* Wipes what may hold secrets. */
void call_wait_deinit(struct call_wait *w);

#endif
