/* Runs lua/holdfast/prove.lua in a Lua state of its own. The state is a full one: that is our own program;
 * the policies and peers that it plays live in sandboxes. JIT off: a service may forbid code that is made at
 * run time, and one run must be like another. */
#include "sim/prove.h"

#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sim/module.h"

static const char boot[] =
    "local lua, core, progress, o = ...\n"
    "package.preload['holdfast.sim_core'] = core\n"
    "package.path = lua .. '/?.lua;' .. lua .. '/?/init.lua'\n"
    "package.cpath = ''\n"
    "o.lua, o.progress = lua, progress\n"
    "return require 'holdfast.prove.command' (o)\n";

/* progress(text): raises to end the run when that is wished. */
static int l_progress(lua_State *L)
{
    const struct prove_options *o = lua_touserdata(L, lua_upvalueindex(1));
    const char *text = luaL_optstring(L, 1, NULL);
    if (o->cancel && atomic_load(o->cancel)) return luaL_error(L, "cancelled");
    if (text && o->progress) o->progress(o->self, text);
    return 0;
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (!text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_number(lua_State *L, const char *key, double n)
{
    if (n == 0) return;
    lua_pushnumber(L, n);
    lua_setfield(L, -2, key);
}

static void push_options(lua_State *L, const struct prove_options *o)
{
    lua_newtable(L);
    set_text(L, "policy", o->policy);
    set_text(L, "command", o->command);
    set_text(L, "settings", o->settings);
    set_number(L, "seed", (double)o->seed);
    set_number(L, "depth", o->depth);
    set_number(L, "within_ms", (double)o->within_ms);
    lua_pushnumber(L, (double)o->for_ms);
    lua_setfield(L, -2, "for_ms");
    set_number(L, "schedules", o->schedules);
    set_number(L, "cap_ms", (double)o->cap_ms);
    lua_pushboolean(L, o->gate);
    lua_setfield(L, -2, "gate");
}

static const char *get_text(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    const char *text = lua_isnil(L, -1) ? "" : lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return text ? text : "";
}

static void take(lua_State *L, struct prove_outcome *out)
{
    static const char *const names[] = { "held", "broken", "unfit" };
    const char *text = get_text(L, "result");
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) out->result = (enum prove_result)i;
    }
    lua_getfield(L, -1, "capped");
    out->capped = lua_toboolean(L, -1);
    lua_pop(L, 1);
    lua_getfield(L, -1, "schedules");
    out->schedules = (uint32_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
    text = get_text(L, "hash");
    text_copy(out->hash, sizeof out->hash, text, strlen(text));
    text = get_text(L, "headline");
    text_copy(out->headline, sizeof out->headline, text, strlen(text));
    text = get_text(L, "spec");
    text_copy(out->spec, sizeof out->spec, text, strlen(text));
    buffer_append_text(&out->text, get_text(L, "text"));
    buffer_append_text(&out->json, get_text(L, "json"));
}

void prove_run(const struct prove_options *options, struct prove_outcome *out)
{
    memset(out, 0, sizeof *out);
    buffer_init(&out->text, 0);
    buffer_init(&out->json, 0);
    out->result = PROVE_FAILED;
    lua_State *L = luaL_newstate();
    if (!L) {
        buffer_append_text(&out->text, "no memory for a Lua state");
        return;
    }
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    luaL_openlibs(L);
    bool ok = luaL_loadbuffer(L, boot, sizeof boot - 1, "=prove") == 0;
    if (ok) {
        lua_pushstring(L, options->lua_path);
        lua_pushcfunction(L, luaopen_holdfast_sim_core);
        lua_pushlightuserdata(L, (void *)options);
        lua_pushcclosure(L, l_progress, 1);
        push_options(L, options);
        ok = lua_pcall(L, 4, 1, 0) == 0;
    }
    if (ok && lua_istable(L, -1)) {
        take(L, out);
    } else if (options->cancel && atomic_load(options->cancel)) {
        out->result = PROVE_CANCELLED;
    } else {
        const char *why = lua_tostring(L, -1);
        buffer_append_text(&out->text, why ? why : "the prover failed without a word");
    }
    lua_close(L);
}

void prove_outcome_deinit(struct prove_outcome *out)
{
    buffer_deinit(&out->text);
    buffer_deinit(&out->json);
}
