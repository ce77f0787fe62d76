/* Tasks: hooks that wait. A task owns its coroutine, one reference to its version, and what it
 * waits for until the caller takes that over. */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/assert.h"
#include "bind/bind.h"
#include "policy/call_internal.h"
#include "policy/sandbox_internal.h"

static int l_push_results(lua_State *L);

enum call_result policy_resume(struct policy_task *task, const struct resume_with *with,
                               struct call_answer *answer)
{
    ASSERT(task->thread != NULL);
    ASSERT(lua_status(task->thread) == LUA_YIELD);
    call_answer_deinit(answer);
    answer->line = task->line;
    task->answer = answer;
    task->with = with;
    /* The most of all so far: a body may be decoded after another wait. */
    size_t fed = with->frame_len + with->body_len;
    if (fed > task->fed_bytes) task->fed_bytes = fed;
    enum call_result result = task__enter(task, l_push_results);
    task->with = NULL;
    if (result == CALL_OK) {
        task->version->sandbox->carry = true;
        result = task__resume(task, lua_gettop(task->thread));
    }
    result = task__after(task, result);
    if (result != CALL_WAITING) task__free(task);
    return result;
}

void policy_cancel(struct policy_task *task)
{
    if (task) task__free(task);
}

void task__free(struct policy_task *task)
{
    struct policy_version *v = task->version;
    luaL_unref(sandbox_lua(v->sandbox), LUA_REGISTRYINDEX, task->thread_ref);
    call_wait_deinit(&task->context.wait);
    ASSERT(v->tasks_alive > 0);
    v->tasks_alive--;
    free(task);
    policy_unref(v);
}

/* What the waiting function returns, onto the coroutine's stack. */
static int l_push_results(lua_State *L)
{
    struct policy_task *task = lua_touserdata(L, 1);
    const struct resume_with *with = task->with;
    lua_settop(L, 0);
    switch (with->kind) {
    case WAIT_HTTP: bind_push_http_answer(L, with); break;
    case WAIT_FETCH:
        if (with->failed) return luaL_error(L, "conn:get(): the fetch failed");
        if (with->value) {
            sandbox_push_value(L, with->value, true);
        } else {
            lua_pushnil(L);
        }
        break;
    case WAIT_FRAME:
        if (with->frame) {
            bind_push_frame(L, &task->context, with->frame, with->frame_len, with->fields);
        } else {
            lua_pushnil(L);
            lua_pushliteral(L, "timeout");
        }
        break;
    }
    lua_checkstack(task->thread, LUA_MINSTACK);
    lua_xmove(L, task->thread, lua_gettop(L));
    return 0;
}
