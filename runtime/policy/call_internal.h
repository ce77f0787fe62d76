/* What version.c, call.c, task.c and answer.c share. */
#ifndef HOLDFAST_POLICY_CALL_INTERNAL_H
#define HOLDFAST_POLICY_CALL_INTERNAL_H

#include "policy/context.h"
#include "policy/sandbox.h"
#include "policy/version_internal.h"

#define HOOK_COUNT (HOOK_EVERY + 1)

struct hook_entry {
    int ref;       /* in the registry of the version's state; LUA_NOREF: absent */
    uint32_t line; /* of its definition */
};

struct named_hook {
    char name[PLAN_NAME_MAX];
    struct hook_entry hook;
};

struct policy_version {
    uint32_t references;
    uint32_t number;
    uint32_t tasks_alive;
    uint64_t serial;         /* of the last call */
    char *name, *path;       /* owned */
    struct sandbox *sandbox; /* owned */
    struct value tables;
    struct hook_entry hooks[HOOK_COUNT]; /* FETCH and EVERY: only whether there is any */
    struct named_hook fetch[POLICY_FETCH_MAX], every[POLICY_EVERY_MAX];
    uint32_t fetch_count, every_count;
    struct policy_shape *shapes; /* of its builds, the newest first */
};

/* NULL when the policy has no such hook. Borrowed while a reference is held. */
const struct hook_entry *policy__hook(const struct policy_version *v, enum hook h,
                                      const char *name);

struct policy_task {
    struct call_context context;
    struct policy_version *version; /* owned reference */
    uint32_t line;
    lua_State *thread; /* borrowed from thread_ref; NULL: the hook may not wait */
    int thread_ref;
    size_t fed_bytes; /* of the largest frame or HTTP body that it was handed */
    /* Borrowed while Lua runs: */
    const struct policy_call *call;
    const struct resume_with *with;
    struct call_answer *answer;
    bool bad_answer;
};

/* Enters Lua with a function of our own, which gets `task`. The context is current meanwhile. */
enum call_result task__enter(struct policy_task *task, lua_CFunction function);
enum call_result task__resume(struct policy_task *task, int nargs);
/* Tells the port what changed, and turns an ended hook into CALL_OK. */
enum call_result task__after(struct policy_task *task, enum call_result result);
void task__free(struct policy_task *task);

/* Reads the hook's results at index 1 and 2 into the answer; false: bad, with the error's text.
 * In answer.c; runs inside lua_enter(). */
bool answer__read(lua_State *L, struct policy_task *task);

#endif
