/* modules: policy bind engine frame crypto base */
/* require "unit.policy": sandboxes and policies from Lua, with a port that records what hooks ask
 * for. Values cross as plain tables; { __secret = "bytes", name = "token" } is a secret. */
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "policy/sandbox.h"

#define WORLD_MT "unit.policy.world"
#define TASK_MT  "unit.policy.task"

struct world {
    struct policy_version *version;
    struct policy_build *build;
    struct value session, keep, no_options;
    struct buffer events; /* one line each */
    struct policy_port port;
    bool gone, refuse;
    uint64_t draws;
};

struct task_box {
    struct policy_task *task;
    enum wait_kind kind;
};

/* --- values -------------------------------------------------------------------------------------
 */

static struct value read_value(lua_State *L, int index)
{
    size_t len;
    index = index > 0 ? index : lua_gettop(L) + index + 1;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: return value_bool(lua_toboolean(L, index));
    case LUA_TNUMBER: return value_number(lua_tonumber(L, index));
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, index, &len);
        return value_bytes(text, len);
    }
    case LUA_TTABLE: break;
    default: return value_nil();
    }
    lua_getfield(L, index, "__secret");
    if (lua_isstring(L, -1)) {
        lua_getfield(L, index, "name");
        const char *bytes = lua_tolstring(L, -2, &len);
        struct secret *s =
            secret_create(lua_isstring(L, -1) ? lua_tostring(L, -1) : "secret", bytes, len);
        struct value v = value_secret(s);
        secret_unref(s);
        lua_pop(L, 2);
        return v;
    }
    lua_pop(L, 1);
    struct value t = value_table();
    for (int i = 1;; i++) {
        lua_rawgeti(L, index, i);
        if (lua_isnil(L, -1)) break;
        value_append(&t, read_value(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) == LUA_TSTRING) value_set(&t, lua_tostring(L, -2), read_value(L, -1));
        lua_pop(L, 1);
    }
    return t;
}

static void push_value(lua_State *L, const struct value *v)
{
    size_t len;
    luaL_checkstack(L, 8, "value");
    switch (v->kind) {
    case VALUE_NIL: lua_pushnil(L); break;
    case VALUE_BOOL: lua_pushboolean(L, v->boolean); break;
    case VALUE_NUMBER: lua_pushnumber(L, v->number); break;
    case VALUE_STRING: lua_pushlstring(L, v->string.bytes, v->string.len); break;
    case VALUE_FUNCTION: lua_pushliteral(L, "<function>"); break;
    case VALUE_SECRET:
        lua_createtable(L, 0, 2);
        const char *bytes = secret_bytes(v->secret, &len);
        lua_pushlstring(L, bytes, len);
        lua_setfield(L, -2, "__secret");
        lua_pushstring(L, secret_name(v->secret));
        lua_setfield(L, -2, "name");
        break;
    case VALUE_TABLE:
        lua_newtable(L);
        for (uint32_t i = 0; i < v->table->count; i++) {
            push_value(L, &v->table->pairs[i].key);
            push_value(L, &v->table->pairs[i].value);
            lua_rawset(L, -3);
        }
        break;
    }
}

static const char *result_name(enum call_result r)
{
    static const char *const names[] = { "ok", "waiting", "raised", "over budget", "bad answer" };
    return names[r];
}

/* --- plain sandboxes ----------------------------------------------------------------------------
 */

static double number_option(lua_State *L, int index, const char *key, double otherwise)
{
    if (!lua_istable(L, index)) return otherwise;
    lua_getfield(L, index, key);
    double n = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : otherwise;
    lua_pop(L, 1);
    return n;
}

static const char *text_option(lua_State *L, int index, const char *key)
{
    if (!lua_istable(L, index)) return NULL;
    lua_getfield(L, index, key);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return text;
}

static void on_print(void *self, const char *text)
{
    struct buffer *printed = self;
    buffer_printf(printed, "%s\n", text);
}

/* run(text, { instructions, memory, beside, unlocked, secret, seed }): result, value or error,
 * printed, used bytes */
static int l_run(lua_State *L)
{
    size_t len;
    char error[512] = "";
    const char *text = luaL_checklstring(L, 1, &len);
    struct buffer printed;
    lua_settop(L, 2);
    struct sandbox_options options = {
        .name = "test",
        .lua_path = "lua",
        .beside = text_option(L, 2, "beside"),
        .seed = (uint64_t)number_option(L, 2, "seed", 1),
        .limits = { (uint64_t)number_option(L, 2, "instructions", 0),
                    (size_t)number_option(L, 2, "memory", 0) },
    };
    struct sandbox *s = sandbox_create(&options);
    if (!s) return luaL_error(L, "no sandbox");
    buffer_init(&printed, 0);
    sandbox_on_print(s, on_print, &printed);
    const char *secret_text = text_option(L, 2, "secret");
    if (secret_text) {
        struct secret *secret = secret_create("token", secret_text, strlen(secret_text));
        sandbox_push_secret(sandbox_lua(s), secret);
        secret_unref(secret);
        lua_setglobal(sandbox_lua(s), "token");
    }
    if (!number_option(L, 2, "unlocked", 0)) sandbox_lock(s);
    enum call_result result = sandbox_run(s, text, len, "policies/x.lua", error, sizeof error);
    struct value v = value_nil();
    if (result == CALL_OK && !sandbox_to_value(sandbox_lua(s), -1, &v, error, sizeof error)) {
        v = value_string(error);
    }
    sandbox_destroy(s);
    lua_pushstring(L, result_name(result));
    if (result == CALL_OK) {
        push_value(L, &v);
    } else {
        lua_pushstring(L, error);
    }
    lua_pushlstring(L, (const char *)printed.data, printed.len);
    value_clear(&v);
    buffer_deinit(&printed);
    return 3;
}

/* encode(text of an expression, allow secrets): the JSON, or nil and why */
static int l_json(lua_State *L)
{
    char error[512] = "", chunk[4096];
    struct sandbox_options options = { .name = "test", .lua_path = "lua" };
    snprintf(chunk, sizeof chunk, "local holdfast = require 'holdfast' return %s",
             luaL_checkstring(L, 1));
    struct sandbox *s = sandbox_create(&options);
    struct buffer out;
    buffer_init(&out, 0);
    struct secret *secret = secret_create("token", "hush\"\n", 6);
    sandbox_push_secret(sandbox_lua(s), secret);
    secret_unref(secret);
    lua_setglobal(sandbox_lua(s), "token");
    bool ok =
        sandbox_run(s, chunk, strlen(chunk), "x", error, sizeof error) == CALL_OK &&
        sandbox_json_encode(sandbox_lua(s), -1, lua_toboolean(L, 2), &out, error, sizeof error);
    sandbox_destroy(s);
    if (ok) {
        lua_pushlstring(L, (const char *)out.data, out.len);
        buffer_deinit(&out);
        return 1;
    }
    buffer_deinit(&out);
    lua_pushnil(L);
    lua_pushstring(L, error);
    return 2;
}

static int l_read_file(lua_State *L)
{
    char error[512] = "";
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = sandbox_read_file(luaL_checkstring(L, 1), &out, error, sizeof error);
    if (ok) {
        lua_pushlstring(L, (const char *)out.data, out.len);
    } else {
        lua_pushnil(L);
        lua_pushstring(L, error);
    }
    buffer_deinit(&out);
    return ok ? 1 : 2;
}

/* --- the port -----------------------------------------------------------------------------------
 */

static bool port_facts(void *self, struct handle conn, struct conn_facts *out)
{
    struct world *w = self;
    if (w->gone || conn.generation != 7) return false;
    *out = (struct conn_facts){
        .name = "bot",
        .options = w->build ? &w->build->options : &w->no_options,
        .session = &w->session,
        .keep = &w->keep,
        .generation = 3,
        .attempt = 2,
        .failed = 1,
        .links = 2,
        .resuming = w->session.kind == VALUE_TABLE && w->session.table->count > 0,
        .build = w->build,
        .now = { 1000, 1000, 1700000000123ull },
    };
    return true;
}

static bool port_send(void *self, struct handle conn, uint32_t generation, enum hook by,
                      const void *bytes, size_t len, bool text, const char **why)
{
    struct world *w = self;
    (void)conn;
    if (w->refuse) {
        *why = "not up";
        return false;
    }
    buffer_printf(&w->events, "send %u %s %s %.*s\n", generation, hook_name(by),
                  text ? "text" : "bytes", (int)len, (const char *)bytes);
    return true;
}

static bool port_set_beat(void *self, struct handle conn, uint32_t generation, uint64_t interval_ms)
{
    struct world *w = self;
    (void)conn;
    buffer_printf(&w->events, "beat %u %llu\n", generation, (unsigned long long)interval_ms);
    return !w->refuse;
}

static bool port_set_retire(void *self, struct handle conn, uint32_t generation, uint64_t after_ms)
{
    struct world *w = self;
    (void)conn;
    buffer_printf(&w->events, "retire %u %llu\n", generation, (unsigned long long)after_ms);
    return !w->refuse;
}

static void port_end(void *self, struct handle conn, uint32_t generation, const struct cause *c)
{
    struct world *w = self;
    (void)conn;
    buffer_printf(&w->events, "end %u %s %s %s by=%s http=%d code=%lld", generation,
                  stage_name(c->stage), cause_kind_name(c->kind), c->name, cause_by_name(c->by),
                  c->http_status, (long long)c->code);
    if (c->retry_after_ms != RETRY_AFTER_NONE) {
        buffer_printf(&w->events, " retry_after_ms=%llu", (unsigned long long)c->retry_after_ms);
    }
    buffer_printf(&w->events, " line=%u reason=%s", c->line, c->reason);
    if (c->head) buffer_printf(&w->events, " head=%zu", c->head_len);
    if (c->body) buffer_printf(&w->events, " body=%.*s", (int)c->body_len, c->body);
    buffer_append_char(&w->events, '\n');
}

static void port_gap(void *self, struct handle conn, const char *why)
{
    (void)conn;
    buffer_printf(&((struct world *)self)->events, "gap %s\n", why);
}

static void port_warn(void *self, struct handle conn, const char *text)
{
    (void)conn;
    buffer_printf(&((struct world *)self)->events, "warn %s\n", text);
}

static void port_log(void *self, struct handle conn, const char *text)
{
    (void)conn;
    buffer_printf(&((struct world *)self)->events, "log %s\n", text);
}

static void port_budget(void *self, struct handle conn, enum budget_kind budget, int64_t left,
                        uint64_t reset_ms, uint32_t lanes)
{
    (void)conn;
    buffer_printf(&((struct world *)self)->events, "budget %d left=%lld reset_ms=%llu lanes=%u\n",
                  budget, (long long)left, (unsigned long long)reset_ms, lanes);
}

static void port_session_changed(void *self, struct handle conn)
{
    (void)conn;
    buffer_printf(&((struct world *)self)->events, "session changed\n");
}

static void port_keep_changed(void *self, struct handle conn)
{
    (void)conn;
    buffer_printf(&((struct world *)self)->events, "keep changed\n");
}

static uint64_t port_random(void *self, struct handle conn)
{
    (void)conn;
    return ++((struct world *)self)->draws << 52;
}

static bool port_set_codec(void *self, struct handle conn, uint32_t generation,
                           const struct value *codec, const char **why)
{
    struct world *w = self;
    (void)conn;
    (void)why;
    buffer_printf(&w->events, "codec %u ", generation);
    value_to_json(codec, &w->events);
    buffer_append_char(&w->events, '\n');
    return true;
}

/* --- worlds -------------------------------------------------------------------------------------
 */

static void push_problems(lua_State *L, struct problems *p)
{
    char text[1024];
    lua_newtable(L);
    for (uint32_t i = 0; i < p->count; i++) {
        lua_pushstring(L, problem_format(&p->items[i], text, sizeof text));
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static struct world *check_world(lua_State *L)
{
    return luaL_checkudata(L, 1, WORLD_MT);
}

/* load(path, { settings, instructions, memory, seed }): world, problems; or nil, problems */
static int l_load(lua_State *L)
{
    struct problems problems;
    const char *path = luaL_checkstring(L, 1);
    lua_settop(L, 2);
    struct world *w = lua_newuserdata(L, sizeof *w);
    memset(w, 0, sizeof *w);
    buffer_init(&w->events, 0);
    w->no_options = value_table();
    luaL_getmetatable(L, WORLD_MT);
    lua_setmetatable(L, -2);
    w->port = (struct policy_port){
        .self = w,
        .facts = port_facts,
        .send = port_send,
        .set_beat = port_set_beat,
        .set_retire = port_set_retire,
        .end = port_end,
        .gap = port_gap,
        .warn = port_warn,
        .log = port_log,
        .budget = port_budget,
        .session_changed = port_session_changed,
        .keep_changed = port_keep_changed,
        .random = port_random,
        .set_codec = port_set_codec,
    };
    problems_init(&problems);
    struct policy_load load = {
        .name = "x",
        .path = path,
        .lua_path = "lua",
        .version = 4,
        .seed = (uint64_t)number_option(L, 2, "seed", 1),
        .limits = { (uint64_t)number_option(L, 2, "instructions", 0),
                    (size_t)number_option(L, 2, "memory", 0) },
    };
    w->version = policy_load(&load, &problems);
    if (w->version) {
        struct value settings = value_table();
        if (lua_istable(L, 2)) {
            lua_getfield(L, 2, "settings");
            if (lua_istable(L, -1)) {
                value_clear(&settings);
                settings = read_value(L, -1);
            }
            lua_pop(L, 1);
        }
        w->build = policy_build_create(w->version, &settings, "holdfast.lua", &problems);
        value_clear(&settings);
    }
    if (!w->build) lua_pushnil(L);
    push_problems(L, &problems);
    problems_deinit(&problems);
    return 2;
}

static int l_world_gc(lua_State *L)
{
    struct world *w = check_world(L);
    policy_build_destroy(w->build);
    if (w->version) policy_unref(w->version);
    value_clear(&w->session);
    value_clear(&w->keep);
    value_clear(&w->no_options);
    buffer_deinit(&w->events);
    w->version = NULL;
    w->build = NULL;
    return 0;
}

static int push_answer(lua_State *L, struct world *w, enum call_result result,
                       struct call_answer *a, struct policy_task *task)
{
    lua_pushstring(L, result_name(result));
    lua_newtable(L);
    push_value(L, &a->value);
    lua_setfield(L, -2, "value");
    push_value(L, &a->info);
    lua_setfield(L, -2, "info");
    lua_pushlstring(L, (const char *)a->frame.data, a->frame.len);
    lua_setfield(L, -2, "frame");
    lua_pushboolean(L, a->frame_text);
    lua_setfield(L, -2, "text");
    lua_pushstring(L, a->error);
    lua_setfield(L, -2, "error");
    lua_pushboolean(L, a->ended);
    lua_setfield(L, -2, "ended");
    lua_pushinteger(L, (int)a->line);
    lua_setfield(L, -2, "line");
    if (result == CALL_WAITING) {
        static const char *const kinds[] = { "http", "frame", "fetch" };
        struct call_wait *wait = &a->wait;
        lua_pushstring(L, kinds[wait->kind]);
        lua_setfield(L, -2, "wait");
        lua_pushstring(L, wait->fetch);
        lua_setfield(L, -2, "fetch");
        lua_pushstring(L, wait->http.method);
        lua_setfield(L, -2, "method");
        lua_pushlstring(L, (const char *)wait->http.url.data, wait->http.url.len);
        lua_setfield(L, -2, "url");
        lua_pushlstring(L, (const char *)wait->http.headers.data, wait->http.headers.len);
        lua_setfield(L, -2, "headers");
        lua_pushlstring(L, (const char *)wait->http.body.data, wait->http.body.len);
        lua_setfield(L, -2, "body");
        lua_pushnumber(L, (double)wait->http.timeout_ms);
        lua_setfield(L, -2, "timeout_ms");
        lua_pushnumber(L, (double)wait->within_ms);
        lua_setfield(L, -2, "within_ms");
        lua_pushinteger(L, (int)wait->frame.count);
        lua_setfield(L, -2, "matchers");
        lua_pushinteger(L, (int)wait->progress.count);
        lua_setfield(L, -2, "progress");
        struct task_box *box = lua_newuserdata(L, sizeof *box);
        box->task = task;
        box->kind = wait->kind;
        luaL_getmetatable(L, TASK_MT);
        lua_setmetatable(L, -2);
        lua_setfield(L, -2, "task");
    }
    (void)w;
    call_answer_deinit(a);
    return 2;
}

/* world:call(hook, { name, frame, cause = {...}, stale }): result, answer */
static int l_call(lua_State *L)
{
    static const char *const hooks[] = { "fetch",    "prepare", "greet", "on_beat", "on_frame",
                                         "on_ended", "on_ack",  "every", NULL };
    struct world *w = check_world(L);
    struct policy_task *task = NULL;
    struct call_answer answer;
    size_t len = 0;
    lua_settop(L, 3);
    struct policy_call call = {
        .version = w->version,
        .port = &w->port,
        .generation = 3,
        .conn = { 1, 7 },
        .hook = (enum hook)luaL_checkoption(L, 2, NULL, hooks),
        .name = text_option(L, 3, "name"),
    };
    struct cause cause =
        cause_make(STAGE_READY, CAUSE_CLOSED, BY_PEER, text_option(L, 3, "reason"));
    cause.close_code = (int32_t)number_option(L, 3, "close", 4004);
    cause.retry_after_ms = 1500;
    cause.head = "X-A: 1\r\nx-a: 2\r\n";
    cause.head_len = strlen(cause.head);
    call.cause = &cause;
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "frame");
        call.frame = (const uint8_t *)lua_tolstring(L, -1, &len);
        call.frame_len = len;
    }
    call_answer_init(&answer);
    enum call_result result = policy_call(&call, &answer, &task);
    return push_answer(L, w, result, &answer, task);
}

/* world:resume(task, { status, head, body, retry_after_ms, failure, frame, value }): as call */
static int l_resume(lua_State *L)
{
    struct world *w = check_world(L);
    struct task_box *box = luaL_checkudata(L, 2, TASK_MT);
    struct call_answer answer;
    lua_settop(L, 3);
    if (!box->task) return luaL_error(L, "this task is over");
    struct resume_with with = { .kind = box->kind, .retry_after_ms = RETRY_AFTER_NONE };
    struct cause cause = cause_make(STAGE_PREPARING, CAUSE_TIMEOUT, BY_NETWORK, "no answer in 10s");
    struct value v = value_nil();
    with.status = (int)number_option(L, 3, "status", 0);
    with.answered = with.status != 0;
    with.cause = &cause;
    with.head = text_option(L, 3, "head");
    if (with.head) with.head_len = strlen(with.head);
    with.body = text_option(L, 3, "body");
    if (with.body) with.body_len = strlen(with.body);
    with.retry_after_ms = (uint64_t)number_option(L, 3, "retry_after_ms", 0);
    with.frame = (const uint8_t *)text_option(L, 3, "frame");
    if (with.frame) with.frame_len = strlen((const char *)with.frame);
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "value");
        v = read_value(L, -1);
        lua_pop(L, 1);
        with.value = &v;
    }
    struct policy_task *task = box->task;
    call_answer_init(&answer);
    enum call_result result = policy_resume(task, &with, &answer);
    value_clear(&v);
    box->task = NULL;
    return push_answer(L, w, result, &answer, task);
}

static int l_cancel(lua_State *L)
{
    struct task_box *box = luaL_checkudata(L, 2, TASK_MT);
    policy_cancel(box->task);
    box->task = NULL;
    return 0;
}

static int l_task_gc(lua_State *L)
{
    struct task_box *box = luaL_checkudata(L, 1, TASK_MT);
    policy_cancel(box->task);
    box->task = NULL;
    return 0;
}

/* world:events(): what the port heard since the last time, as a list */
static int l_events(lua_State *L)
{
    struct world *w = check_world(L);
    const char *at = (const char *)w->events.data, *end = at + w->events.len;
    lua_newtable(L);
    for (int i = 1; at < end; i++) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        lua_pushlstring(L, at, (size_t)(eol - at));
        lua_rawseti(L, -2, i);
        at = eol + 1;
    }
    buffer_clear(&w->events);
    return 1;
}

static int l_get(lua_State *L)
{
    struct world *w = check_world(L);
    const char *what = luaL_checkstring(L, 2);
    if (strcmp(what, "session") == 0) {
        push_value(L, &w->session);
    } else if (strcmp(what, "keep") == 0) {
        push_value(L, &w->keep);
    } else if (strcmp(what, "tasks") == 0) {
        lua_pushinteger(L, (int)policy_tasks_alive(w->version));
    } else if (strcmp(what, "hash") == 0) {
        char text[20];
        snprintf(text, sizeof text, "%016llx", (unsigned long long)policy_text_hash(w->version));
        lua_pushstring(L, text);
    } else if (strcmp(what, "platform") == 0) {
        lua_pushstring(L, policy_platform(w->version));
    } else {
        return luaL_error(L, "no %s", what);
    }
    return 1;
}

/* world:set("gone" | "refuse", bool), world:set("session" | "keep", table) */
static int l_set(lua_State *L)
{
    struct world *w = check_world(L);
    const char *what = luaL_checkstring(L, 2);
    if (strcmp(what, "gone") == 0) {
        w->gone = lua_toboolean(L, 3);
    } else if (strcmp(what, "refuse") == 0) {
        w->refuse = lua_toboolean(L, 3);
    } else {
        struct value *v = strcmp(what, "keep") == 0 ? &w->keep : &w->session;
        value_clear(v);
        *v = read_value(L, 3);
    }
    return 0;
}

static int l_has_hook(lua_State *L)
{
    struct world *w = check_world(L);
    for (int h = 0; h <= HOOK_EVERY; h++) {
        if (strcmp(hook_name((enum hook)h), luaL_checkstring(L, 2)) != 0) continue;
        lua_pushboolean(L, policy_has_hook(w->version, (enum hook)h));
        return 1;
    }
    return 0;
}

/* Drops the world's own references: what lives on is held by tasks. */
static int l_release(lua_State *L)
{
    struct world *w = check_world(L);
    policy_build_destroy(w->build);
    policy_unref(w->version);
    w->build = NULL;
    w->version = NULL;
    return 0;
}

static const luaL_Reg world_methods[] = {
    { "call", l_call },         { "resume", l_resume },
    { "cancel", l_cancel },     { "events", l_events },
    { "get", l_get },           { "set", l_set },
    { "has_hook", l_has_hook }, { "release", l_release },
    { "__gc", l_world_gc },     { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "run", l_run }, { "load", l_load }, { "json", l_json }, { "read_file", l_read_file },
    { NULL, NULL },
};

int luaopen_unit_policy(lua_State *L);

int luaopen_unit_policy(lua_State *L)
{
    luaL_newmetatable(L, WORLD_MT);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_register(L, NULL, world_methods);
    luaL_newmetatable(L, TASK_MT);
    lua_pushcfunction(L, l_task_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
