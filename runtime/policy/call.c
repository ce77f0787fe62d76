/* Calling hooks: arguments in, one entry into Lua, the answer out. Hooks that may wait get a
 * coroutine, which becomes a task when it does. Never keeps a pointer of the caller's beyond the
 * call. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "bind/bind.h"
#include "policy/call_internal.h"
#include "policy/sandbox_internal.h"
#include "policy/schema.h"

static int l_begin(lua_State *L);
static int l_finish(lua_State *L);

void call_wait_init(struct call_wait *w)
{
    memset(w, 0, sizeof *w);
    buffer_init(&w->http.url, 0);
    buffer_init(&w->http.headers, 0);
    buffer_init(&w->http.body, 0);
}

static void wipe(struct buffer *b)
{
    if (b->data) explicit_bzero(b->data, b->capacity);
    buffer_deinit(b);
}

void call_wait_deinit(struct call_wait *w)
{
    wipe(&w->http.url);
    wipe(&w->http.headers);
    wipe(&w->http.body);
    frame_matchers_deinit(&w->frame);
    frame_matchers_deinit(&w->progress);
    call_wait_init(w);
}

void call_answer_init(struct call_answer *a)
{
    memset(a, 0, sizeof *a);
    call_wait_init(&a->wait);
    buffer_init(&a->frame, 0);
}

void call_answer_deinit(struct call_answer *a)
{
    call_wait_deinit(&a->wait);
    value_clear(&a->value);
    value_clear(&a->info);
    wipe(&a->frame);
    call_answer_init(a);
}

static bool may_wait(enum hook h)
{
    return h == HOOK_FETCH || h == HOOK_PREPARE || h == HOOK_GREET || h == HOOK_EVERY;
}

static void begin(struct policy_task *task, const struct policy_call *call,
                  struct call_answer *answer)
{
    memset(task, 0, sizeof *task);
    task->version = policy_ref(call->version);
    task->thread_ref = LUA_NOREF;
    task->call = call;
    task->fed_bytes = call->frame_len;
    task->answer = answer;
    task->context = (struct call_context){
        .port = call->port,
        .version = call->version,
        .hook = call->hook,
        .conn = call->conn,
        .generation = call->generation,
        .serial = ++call->version->serial,
        .may_wait = may_wait(call->hook),
    };
    call_wait_init(&task->context.wait);
    if (call->name) {
        text_copy(task->context.name, sizeof task->context.name, call->name, strlen(call->name));
    }
    call->version->tasks_alive++;
}

enum call_result policy_call(const struct policy_call *call, struct call_answer *answer,
                             struct policy_task **task_out)
{
    const struct hook_entry *hook = policy__hook(call->version, call->hook, call->name);
    ASSERT(task_out != NULL || !may_wait(call->hook));
    call_answer_deinit(answer);
    if (task_out) *task_out = NULL;
    if (!hook) {
        snprintf(answer->error, sizeof answer->error, "%s: no such hook: %s%s%s",
                 call->version->path, hook_name(call->hook), call->name ? "." : "",
                 call->name ? call->name : "");
        return CALL_RAISED;
    }
    struct policy_task *task = malloc(sizeof *task);
    ASSERT(task != NULL);
    begin(task, call, answer);
    task->line = answer->line = hook->line;
    enum call_result result = task__enter(task, l_begin);
    if (result == CALL_OK && task->thread) {
        task->call = NULL;
        call->version->sandbox->carry = true;
        result = task__resume(task, lua_gettop(task->thread) - 1);
    }
    result = task__after(task, result);
    if (result == CALL_WAITING) {
        *task_out = task;
    } else {
        task__free(task);
    }
    return result;
}

enum call_result task__enter(struct policy_task *task, lua_CFunction function)
{
    struct sandbox *s = task->version->sandbox;
    lua_State *L = sandbox_lua(s);
    ASSERT(lua_gettop(L) == 0);
    bind_set_call(L, &task->context);
    s->fed_bytes = task->fed_bytes;
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, task);
    enum call_result result =
        lua_enter(s, L, 1, 0, false, task->answer->error, sizeof task->answer->error);
    bind_set_call(L, NULL);
    if (result == CALL_OK && task->bad_answer) result = CALL_BAD_ANSWER;
    return result;
}

enum call_result task__resume(struct policy_task *task, int nargs)
{
    struct sandbox *s = task->version->sandbox;
    bind_set_call(sandbox_lua(s), &task->context);
    s->fed_bytes = task->fed_bytes;
    enum call_result result = lua_enter(s, task->thread, nargs, LUA_MULTRET, true,
                                        task->answer->error, sizeof task->answer->error);
    bind_set_call(sandbox_lua(s), NULL);
    if (result == CALL_WAITING) {
        ASSERT(task->context.waiting);
        task->answer->wait = task->context.wait;
        call_wait_init(&task->context.wait);
        task->context.waiting = false;
    } else if (result == CALL_OK) {
        s->carry = true; /* one budget for all of a call */
        result = task__enter(task, l_finish);
    }
    return result;
}

/* A budget that ran out in a C function called last, as in `return s:find(p)`, knows no line: then
 * the hook's own is shown. */
static void place_error(struct policy_task *task)
{
    char text[sizeof task->answer->error];
    const char *error = task->answer->error, *name = task->version->sandbox->name;
    size_t len = strlen(name);
    if (strncmp(error, name, len) != 0 || error[len] != ':') return;
    snprintf(text, sizeof text, "%s:%u%s", task->version->path, task->line, error + len);
    memcpy(task->answer->error, text, sizeof text);
}

enum call_result task__after(struct policy_task *task, enum call_result result)
{
    struct call_context *c = &task->context;
    if (c->session_dirty && c->port->session_changed)
        c->port->session_changed(c->port->self, c->conn);
    if (c->keep_dirty && c->port->keep_changed) c->port->keep_changed(c->port->self, c->conn);
    c->session_dirty = c->keep_dirty = false;
    if (c->ended && result != CALL_WAITING) {
        /* The hook ended itself: the port knows, whatever unwinding looked like. */
        if (result == CALL_RAISED) result = CALL_OK;
        if (result == CALL_OK) task->answer->error[0] = 0;
        task->answer->ended = true;
    }
    place_error(task);
    if (result != CALL_OK) {
        value_clear(&task->answer->value);
        value_clear(&task->answer->info);
        buffer_clear(&task->answer->frame);
    }
    return result;
}

/* Pushes hook and arguments on `to`; may raise: everything is in Lua. */
static int push_call(lua_State *to, const struct policy_task *task)
{
    const struct policy_call *call = task->call;
    const struct hook_entry *hook = policy__hook(call->version, call->hook, call->name);
    luaL_checkstack(to, LUA_MINSTACK, "call");
    lua_rawgeti(to, LUA_REGISTRYINDEX, hook->ref);
    bind_push_conn(to, &task->context);
    if (call->hook == HOOK_ON_ENDED && call->cause) {
        bind_push_cause(to, call->cause);
        return 2;
    }
    if (call->hook == HOOK_ON_FRAME || call->hook == HOOK_ON_ACK) {
        bind_push_frame(to, &task->context, call->frame, call->frame_len, call->fields);
        return 2;
    }
    return 1;
}

static int l_begin(lua_State *L)
{
    struct policy_task *task = lua_touserdata(L, 1);
    if (task->context.may_wait) {
        lua_State *thread = lua_newthread(L);
        task->thread_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        task->thread = thread;
        /* Errors raise in L: its stack is the protected one. */
        int nargs = push_call(L, task);
        lua_checkstack(thread, LUA_MINSTACK);
        lua_xmove(L, thread, nargs + 1);
        return 0;
    }
    lua_call(L, push_call(L, task), 2);
    lua_remove(L, 1); /* results at 1 and 2 */
    task->bad_answer = !answer__read(L, task);
    return 0;
}

static int l_finish(lua_State *L)
{
    struct policy_task *task = lua_touserdata(L, 1);
    lua_settop(L, 0);
    lua_settop(task->thread, 2);
    lua_xmove(task->thread, L, 2);
    task->bad_answer = !answer__read(L, task);
    return 0;
}
