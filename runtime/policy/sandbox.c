/* The sandbox: owns one Lua state, its allocator with the memory cap, and what may be seen in it.
 * Never opens os, io, debug, ffi, jit, package or coroutine; compiled code stays off, because it
 * does not run count hooks. */
#include "policy/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"
#include "bind/bind.h"
#include "policy/sandbox_internal.h"

static void *allocate(void *self, void *memory, size_t old_bytes, size_t new_bytes);
static int l_open(lua_State *L);
static int l_lock(lua_State *L);

struct sandbox *sandbox_create(const struct sandbox_options *options)
{
    struct sandbox *s = calloc(1, sizeof *s);
    char error[256];
    if (!s) return NULL;
    text_copy(s->name, sizeof s->name, options->name, strlen(options->name));
    s->limits = options->limits;
    if (!s->limits.call_instructions) s->limits.call_instructions = SANDBOX_INSTRUCTIONS_DEFAULT;
    if (!s->limits.memory_bytes_max) s->limits.memory_bytes_max = SANDBOX_MEMORY_DEFAULT;
    if (options->lua_path) s->lua_path = strdup(options->lua_path);
    if (options->beside) s->beside = strdup(options->beside);
    rng_init(&s->rng, options->seed, hash_text(options->name));
    buffer_init(&s->scratch, 0);
    s->policy_ref = LUA_NOREF;
    s->L = lua_newstate(allocate, s);
    if (!s->L) goto fail_state;
    luaJIT_setmode(s->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_gc(s->L, LUA_GCSETPAUSE, 150);
    sandbox__watch(s);
    lua_pushcfunction(s->L, l_open);
    if (lua_enter(s, s->L, 0, 0, false, error, sizeof error) != CALL_OK) goto fail_open;
    return s;

fail_open:
    lua_close(s->L);
    spare_deinit(&s->spare);
fail_state:
    buffer_deinit(&s->scratch);
    free(s->lua_path);
    free(s->beside);
    free(s);
    return NULL;
}

void sandbox_destroy(struct sandbox *s)
{
    if (!s) return;
    ASSERT(!s->entered);
    /* Not checked against zero: a closure whose upvalues were refused is freed by LuaJIT under a
     * smaller size than it was made with. */
    lua_close(s->L);
    spare_deinit(&s->spare);
    while (s->sources) {
        struct source *next = s->sources->next;
        free(s->sources->name);
        free(s->sources->text);
        free(s->sources);
        s->sources = next;
    }
    buffer_deinit(&s->scratch);
    free(s->lua_path);
    free(s->beside);
    free(s);
}

void sandbox__keep_source(struct sandbox *s, const char *name, const void *text, size_t len)
{
    struct source *one = calloc(1, sizeof *one), **at = &s->sources;
    ASSERT(one != NULL);
    one->name = strdup(name);
    one->text = malloc(len + 1);
    ASSERT(one->name && one->text);
    if (len) memcpy(one->text, text, len);
    one->text[len] = 0;
    one->len = len;
    while (*at) at = &(*at)->next;
    *at = one;
}

const struct policy_source *sandbox__given(const struct sandbox *s, const char *name)
{
    for (uint32_t i = 0; s->given && i < s->given_count; i++) {
        if (strcmp(s->given[i].name, name) == 0) return &s->given[i];
    }
    return NULL;
}

lua_State *sandbox_lua(struct sandbox *s)
{
    return s->L;
}

struct sandbox *sandbox_of(lua_State *L)
{
    void *self;
    lua_getallocf(L, &self);
    return self;
}

struct call_context *sandbox_call(lua_State *L)
{
    return sandbox_of(L)->call;
}

uint64_t sandbox_random(lua_State *L)
{
    struct sandbox *s = sandbox_of(L);
    if (s->call && s->call->port->random)
        return s->call->port->random(s->call->port->self, s->call->conn);
    return rng_next(&s->rng);
}

void sandbox_print(lua_State *L, const char *text)
{
    struct sandbox *s = sandbox_of(L);
    if (s->call && s->call->port->log) {
        s->call->port->log(s->call->port->self, s->call->conn, text);
    } else if (s->print) {
        s->print(s->print_self, text);
    }
}

void sandbox_on_print(struct sandbox *s, void (*print)(void *self, const char *text), void *self)
{
    s->print = print;
    s->print_self = self;
}

void sandbox_lock(struct sandbox *s)
{
    char error[256];
    if (s->locked) return;
    lua_pushcfunction(s->L, l_lock);
    enum call_result result = lua_enter(s, s->L, 0, 0, false, error, sizeof error);
    ASSERT(result == CALL_OK);
    s->locked = true;
}

enum call_result sandbox_run(struct sandbox *s, const char *text, size_t len,
                             const char *chunk_name, char *error, size_t error_bytes)
{
    char chunk[512];
    snprintf(chunk, sizeof chunk, "@%s", chunk_name);
    lua_State *L = s->L;
    lua_checkstack(L, LUA_MINSTACK);
    s->text_hash = rng_mix(s->text_hash ^ hash_bytes(text, len));
    if (luaL_loadbufferx(L, text, len, chunk, "t") != 0) {
        const char *why = lua_tostring(L, -1);
        text_copy(error, error_bytes, why, strlen(why));
        lua_pop(L, 1);
        return CALL_RAISED;
    }
    return lua_enter(s, L, 0, 1, false, error, error_bytes);
}

bool sandbox_read_file(const char *path, struct buffer *out, char *error, size_t error_bytes)
{
    struct stat st;
    bool ok = false;
    /* O_NONBLOCK: a FIFO in place of a file must not hang us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
        return false;
    }
    if (fstat(fd, &st) != 0) {
        snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        snprintf(error, error_bytes, "%s: not a regular file", path);
    } else if (st.st_mode & S_IWOTH || (st.st_mode & S_IWGRP && st.st_gid != getegid())) {
        /* Our own group is who runs us: a checkout under umask 002 is fine. */
        snprintf(error, error_bytes, "%s: refused: writable by %s (chmod go-w)", path,
                 st.st_mode & S_IWOTH ? "others" : "its group, which is not ours");
    } else if ((uint64_t)st.st_size > SANDBOX_FILE_BYTES_MAX) {
        snprintf(error, error_bytes, "%s: larger than 1 MiB", path);
    } else {
        ok = true;
    }
    while (ok) {
        ssize_t n = 0;
        if (!buffer_reserve(out, 16384)) {
            ok = false;
        } else {
            n = read(fd, out->data + out->len, 16384);
            if (n < 0 && errno == EINTR) continue;
            ok = n >= 0;
        }
        if (!ok) snprintf(error, error_bytes, "%s: cannot be read", path);
        if (n <= 0) break;
        out->len += (size_t)n;
        if (out->len > SANDBOX_FILE_BYTES_MAX) {
            snprintf(error, error_bytes, "%s: larger than 1 MiB", path);
            ok = false;
        }
    }
    close(fd);
    return ok;
}

/* Counts bytes against the cap while Lua runs, and what allocation costs against the budget: a loop
 * of small tables is few instructions and much work. Outside lua_enter() nobody could catch a
 * refusal, so there is none. */
static void *allocate(void *self, void *memory, size_t old_bytes, size_t new_bytes)
{
    struct sandbox *s = self;
    if (!memory) old_bytes = 0;
    if (new_bytes == 0) {
        spare_give(&s->spare, memory, old_bytes);
        s->used_bytes -= old_bytes;
        s->big_blocks -= old_bytes >= SANDBOX_BIG_BYTES;
        return NULL;
    }
    if (s->entered && new_bytes > old_bytes) {
        size_t more = new_bytes - old_bytes;
        if (!s->exempt && s->used_bytes + more > s->limits.memory_bytes_max) {
            sandbox__trip(s, s->running, TRIP_MEMORY, "over its memory cap");
            return NULL;
        }
        uint64_t cost = COST_BLOCK + more / COST_BYTES;
        /* A table or a stack that grows is copied, and walked by the collector. */
        if (memory && new_bytes >= SANDBOX_BIG_BYTES) cost += new_bytes / 4;
        sandbox__charge(s, s->running, cost);
    }
    void *moved = spare_resize(&s->spare, memory, old_bytes, new_bytes);
    if (!moved) return NULL;
    s->used_bytes += new_bytes - old_bytes;
    s->big_blocks -= old_bytes >= SANDBOX_BIG_BYTES;
    s->big_blocks += new_bytes >= SANDBOX_BIG_BYTES;
    if (s->big_blocks && s->entered) sandbox__look_often(s);
    return moved;
}

/* pcall, where a failure costs what unwinding takes; and xpcall whose handler runs after that.
 * LuaJIT runs handlers where the error was raised; when that is the budget's own hook, hooks are
 * off meanwhile, and a handler could loop for ever. In Lua, so that the protected function may
 * wait. */
static const char pcall_source[] =
    "local pcall, failed = pcall, ...\n"
    "local function finish(ok, ...)\n"
    "  if not ok then failed() end\n"
    "  return ok, ...\n"
    "end\n"
    "local function handle(handler, ok, ...)\n"
    "  if ok then return ok, ... end\n"
    "  local _, shown = finish(pcall(handler, ...))\n"
    "  return false, shown\n"
    "end\n"
    "return function (f, ...) return finish(pcall(f, ...)) end,\n"
    "  function (f, handler, ...) return handle(handler, finish(pcall(f, ...))) end";

static int l_failed(lua_State *L)
{
    sandbox_spend(L, COST_FAILURE);
    return 0;
}

/* What stays of LuaJIT's own base library; the rest is ours or gone. */
static const char *const base_kept[] = { "assert", "error", "ipairs",  "rawequal",
                                         "select", "type",  "_VERSION" };
static const char *const math_gone[] = { "random", "randomseed", "mod" };

static void open_library(lua_State *L, lua_CFunction open, const char *name)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

static int l_open(lua_State *L)
{
    struct sandbox *s = sandbox_of(L);
    lua_newtable(L); /* the globals to be: 1 */
    open_library(L, luaopen_base, "");
    open_library(L, luaopen_math, LUA_MATHLIBNAME);
    open_library(L, luaopen_bit, LUA_BITLIBNAME);
    for (size_t i = 0; i < sizeof base_kept / sizeof *base_kept; i++) {
        lua_getglobal(L, base_kept[i]);
        lua_setfield(L, 1, base_kept[i]);
    }
    if (luaL_loadbufferx(L, pcall_source, sizeof pcall_source - 1, "=pcall", "t")) lua_error(L);
    lua_pushcfunction(L, l_failed);
    lua_call(L, 1, 2);
    lua_setfield(L, 1, "xpcall");
    lua_setfield(L, 1, "pcall");
    lua_getglobal(L, "tonumber"); /* 2 */
    lua_getglobal(L, "math");
    for (size_t i = 0; i < sizeof math_gone / sizeof *math_gone; i++) {
        lua_pushnil(L);
        lua_setfield(L, -2, math_gone[i]);
    }
    sandbox__open_math(L);
    lua_setfield(L, 1, "math");
    lua_getglobal(L, "bit");
    lua_setfield(L, 1, "bit");

    /* LUA_GLOBALSINDEX keeps its identity: functions already made point at it. */
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, -4);
    }
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    lua_pushvalue(L, 2);
    sandbox__open_base(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");
    sandbox__open_secret(L);
    sandbox__open_json(L);

    lua_newtable(L);
    sandbox__open_table(L);
    lua_setfield(L, -2, "table");
    lua_newtable(L);
    sandbox__open_string(L);
    sandbox__open_pattern(L);
    sandbox__freeze(L, -1, "string");
    /* Methods of strings: ("x"):rep(3). */
    lua_pushliteral(L, "");
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    lua_setfield(L, -2, "string");

    /* LuaJIT keeps its own modules in the registry; nothing reaches it, but nothing needs it. */
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
    lua_newtable(L);
    bind_open(L); /* holdfast.native */
    lua_newtable(L);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "holdfast.native");
    s->loaded_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static int l_unknown(lua_State *L)
{
    const char *names[96];
    size_t count = 0;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);
    const char *nearest = NULL;
    if (sandbox__push_hidden(L, LUA_GLOBALSINDEX)) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            lua_pop(L, 1);
            if (lua_type(L, -1) == LUA_TSTRING && count < 96) names[count++] = lua_tostring(L, -1);
        }
        nearest = text_nearest(name, names, count);
    }
    if (nearest) return luaL_error(L, "unknown name `%s`; did you mean `%s`?", name, nearest);
    return luaL_error(L, "unknown name `%s`", name);
}

static int l_refuse_global(lua_State *L)
{
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);
    return luaL_error(L, "globals are locked: write `local %s`", name);
}

static int l_lock(lua_State *L)
{
    static const char *const libraries[] = { "math", "table", "bit" };
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        lua_getglobal(L, libraries[i]);
        sandbox__freeze(L, -1, libraries[i]);
    }
    lua_settop(L, 0);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    /* _G.x must be refused like x: the circle is closed by hand, freeze goes into every table. */
    sandbox__freeze(L, 1, "the globals");
    lua_getmetatable(L, 1);
    lua_pushcfunction(L, l_refuse_global);
    lua_setfield(L, -2, "__newindex");
    sandbox__push_hidden(L, 1);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, l_unknown);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    return 0;
}
