/* Entering Lua: the only lua_pcall and lua_resume of the project, with instruction budget, memory
 * cap and short error texts. Never lets a budget be swallowed: once tripped, a hook on every
 * instruction raises again, so that pcall after pcall is left behind. */
#include "policy/sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/sandbox_internal.h"

#define FRAMES_MAX 24 /* levels looked at for an error's place */

static void on_count(lua_State *L, lua_Debug *ar);
static void watch(struct sandbox *s, lua_State *L, int every);
static int l_handler(lua_State *L);
static void describe(struct sandbox *s, lua_State *L, int index, char *out, size_t out_bytes);

void sandbox__watch(struct sandbox *s)
{
    lua_pushcfunction(s->L, l_handler);
    s->handler_ref = luaL_ref(s->L, LUA_REGISTRYINDEX);
}

enum call_result lua_enter(struct sandbox *s, lua_State *L, int nargs, int nresults, bool resume,
                           char *error, size_t error_bytes)
{
    ASSERT(!s->entered);
    ASSERT(error_bytes > 0);
    int status;
    /* A coroutine that ran into the cap held its garbage until it was freed, after its call. */
    if (s->used_bytes > s->limits.memory_bytes_max / 4 * 3) lua_gc(s->L, LUA_GCCOLLECT, 0);
    lua_checkstack(L, LUA_MINSTACK);
    int base = lua_gettop(L) - nargs - 1;
    s->entered = true;
    s->running = L;
    s->exempt = false;
    if (!s->carry) s->spent = s->start_ns = s->cpu_start_ns = 0;
    s->carry = false;
    size_t fed = s->fed_bytes < SANDBOX_FED_BYTES_MAX ? s->fed_bytes : SANDBOX_FED_BYTES_MAX;
    s->budget = s->limits.call_instructions + fed * SANDBOX_UNITS_PER_BYTE;
    s->trip = TRIP_NONE;
    s->trip_text[0] = s->error_text[0] = error[0] = 0;
    s->look_every = s->big_blocks ? SANDBOX_HOOK_EVERY_BIG : SANDBOX_HOOK_EVERY;
    watch(s, L, s->look_every);
    if (resume) {
        status = lua_resume(L, nargs);
    } else {
        ASSERT(base >= 0);
        lua_rawgeti(L, LUA_REGISTRYINDEX, s->handler_ref);
        lua_insert(L, base + 1);
        status = lua_pcall(L, nargs, nresults, base + 1);
        lua_remove(L, base + 1);
    }
    s->entered = false;
    s->running = NULL;
    /* The hook stays: on and off again LuaJIT writes its table of instructions anew, twice a call. */

    if (status != 0 && status != LUA_YIELD && s->trip == TRIP_NONE) {
        if (resume && status != LUA_ERRMEM) {
            describe(s, L, lua_gettop(L), s->error_text, sizeof s->error_text);
        } else if (!s->error_text[0]) {
            snprintf(s->error_text, sizeof s->error_text, "%s: %s", s->name,
                     status == LUA_ERRMEM ? "out of memory" : "error while an error was handled");
        }
    }
    /* A trip counts even when nothing was left to raise it: `return pcall(loop)`. */
    enum call_result result = CALL_OK;
    if (s->trip == TRIP_INSTRUCTIONS || s->trip == TRIP_MEMORY || status == LUA_ERRMEM) {
        result = CALL_OVER_BUDGET;
    } else if (s->trip == TRIP_ENDED || (status != 0 && status != LUA_YIELD)) {
        result = CALL_RAISED;
    } else if (status == LUA_YIELD) {
        result = CALL_WAITING;
    }
    if (result == CALL_OVER_BUDGET || result == CALL_RAISED) {
        const char *text = s->trip != TRIP_NONE && s->trip_text[0] ? s->trip_text : s->error_text;
        text_copy(error, error_bytes, text, strlen(text));
        if (!resume) lua_settop(L, base);
    }
    /* Garbage of a hook that came near the cap must not starve the next one. */
    if (s->used_bytes > s->limits.memory_bytes_max / 4 * 3) lua_gc(s->L, LUA_GCCOLLECT, 0);
    return result;
}

void sandbox__trip(struct sandbox *s, lua_State *L, enum trip why, const char *text)
{
    if (s->trip != TRIP_NONE || !s->entered) return;
    char where[160];
    s->trip = why;
    sandbox__where(L, where, sizeof where);
    snprintf(s->trip_text, sizeof s->trip_text, "%s%s%s", where[0] ? where : s->name,
             where[0] ? "" : ": ", text);
    lua_sethook(s->L, on_count, LUA_MASKCOUNT, 1);
}

static void watch(struct sandbox *s, lua_State *L, int every)
{
    lua_sethook(L, on_count, LUA_MASKCOUNT | (s->reach ? LUA_MASKLINE : 0), every);
}

void sandbox__look_often(struct sandbox *s)
{
    if (s->trip != TRIP_NONE || s->look_every == SANDBOX_HOOK_EVERY_BIG) return;
    s->look_every = SANDBOX_HOOK_EVERY_BIG;
    watch(s, s->L, s->look_every);
}

bool sandbox__charge(struct sandbox *s, lua_State *L, uint64_t steps)
{
    s->spent += steps;
    if (s->entered && s->spent > s->budget) {
        sandbox__trip(s, L, TRIP_INSTRUCTIONS, "over its instruction budget");
    }
    return s->trip == TRIP_NONE;
}

int sandbox__raise_trip(lua_State *L)
{
    lua_pushstring(L, sandbox_of(L)->trip_text);
    return lua_error(L);
}

void sandbox_spend(lua_State *L, uint32_t steps)
{
    if (!sandbox__charge(sandbox_of(L), L, steps)) sandbox__raise_trip(L);
}

int sandbox_end_hook(lua_State *L)
{
    sandbox__trip(sandbox_of(L), L, TRIP_ENDED, "the hook ended itself");
    return sandbox__raise_trip(L);
}

size_t sandbox__where(lua_State *L, char *out, size_t out_bytes)
{
    lua_Debug ar;
    out[0] = 0;
    for (int level = 0; level < FRAMES_MAX && lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0 || ar.source[0] != '@') continue;
        int n = snprintf(out, out_bytes, "%s:%d: ", ar.short_src, ar.currentline);
        return n < (int)out_bytes ? (size_t)n : out_bytes - 1;
    }
    return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* The thread's own time counts, as the machine may be busy; it costs a system call, and is asked
 * only when more than that has passed for everybody. */
static bool over_time(struct sandbox *s)
{
    uint64_t most_ns = SANDBOX_CPU_NS_BASE + s->budget * SANDBOX_CPU_NS_PER_UNIT;
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    if (s->start_ns == 0) {
        s->start_ns = now_ns;
        s->cpu_start_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    }
    return now_ns - s->start_ns > most_ns &&
           clock_ns(CLOCK_THREAD_CPUTIME_ID) - s->cpu_start_ns > most_ns;
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    struct sandbox *s = sandbox_of(L);
    if (!s->entered) return;
    if (ar->event == LUA_HOOKLINE && s->trip == TRIP_NONE) {
        sandbox__reach(s, L, ar);
        return;
    }
    if (s->trip != TRIP_NONE) sandbox__raise_trip(L);
    if (over_time(s)) sandbox__trip(s, L, TRIP_INSTRUCTIONS, "over its time budget");
    if (!sandbox__charge(s, L, (uint64_t)s->look_every)) sandbox__raise_trip(L);
}

/* Runs where the error was raised, with the stack still there. Allocates nothing in Lua. */
static int l_handler(lua_State *L)
{
    struct sandbox *s = sandbox_of(L);
    describe(s, L, 1, s->error_text, sizeof s->error_text);
    return 1;
}

static void error_text(lua_State *L, int index, char *out, size_t out_bytes)
{
    struct buffer shown;
    struct secret *secret = sandbox_get_secret(L, index);
    buffer_init(&shown, 4096);
    if (secret) {
        buffer_printf(&shown, "<secret %s>", secret_name(secret));
    } else if (lua_type(L, index) == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        text_printable(&shown, text, len < 400 ? len : 400);
    } else if (lua_type(L, index) == LUA_TNUMBER) {
        buffer_printf(&shown, "%.14g", lua_tonumber(L, index));
    } else {
        buffer_printf(&shown, "raised a value that is no text (%s)", luaL_typename(L, index));
    }
    text_copy(out, out_bytes, (const char *)shown.data, shown.len);
    buffer_deinit(&shown);
}

/* "file:line: text", and the policy's own line too when a library raised it. */
static void describe(struct sandbox *s, lua_State *L, int index, char *out, size_t out_bytes)
{
    char text[420], place[LUA_IDSIZE + 16], first[LUA_IDSIZE + 16] = "", from[LUA_IDSIZE + 16] = "";
    bool placed = false;
    lua_Debug ar;
    error_text(L, index, text, sizeof text);
    for (int level = 0; level < FRAMES_MAX && lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0 || ar.source[0] != '@') continue;
        size_t len = strlen(ar.short_src);
        bool here = strncmp(text, ar.short_src, len) == 0 && text[len] == ':';
        snprintf(place, sizeof place, "%s:%d", ar.short_src, ar.currentline);
        if (!first[0]) memcpy(first, place, sizeof first);
        if (here) {
            placed = true;
        } else if (!from[0] && strncmp(ar.short_src, "lua/", 4) != 0) {
            memcpy(from, place, sizeof from);
        }
    }
    bool library = strncmp(placed ? text : first, "lua/", 4) == 0;
    bool print_from = library && from[0];
    const char *before = placed ? "" : first[0] ? first : s->name;
    snprintf(out, out_bytes, "%s%s%s%s%s%s", before, placed ? "" : ": ", text,
             print_from ? " (called from " : "", print_from ? from : "", print_from ? ")" : "");
}
